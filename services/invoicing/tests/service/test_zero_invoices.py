"""Invoices of nothing, where the seller wants no document of them."""

from __future__ import annotations

import asyncpg
import grpc
import pytest

from common.testing import Suite, refused
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import credit_notes_service_pb2 as credit_notes
from saldo.invoicing.v1 import events_pb2, invoice_pb2, manual_invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1.manual_invoices_service_pb2_grpc import ManualInvoicesServiceStub
from saldo.subscriptions.v1 import customer_pb2

from .conftest import Business, flat, pence, per_unit, replayed, told, utc
from .test_credit_notes import stub
from .test_holding import declare
from .test_invoices import DAY, FEBRUARY, drafted

DRAFT, OPEN, PAID = invoice_pb2.Invoice.DRAFT, invoice_pb2.Invoice.OPEN, invoice_pb2.Invoice.PAID
WITHOUT_NUMBER = pb.IssuingPolicy.WITHOUT_NUMBER
Numbering = pb.ListInvoicesRequest


async def free(business: Business) -> customer_pb2.Customer:
    """Who has a plan that costs nothing from today on."""
    customer = await business.customer()
    await business.subscribe(customer, await business.plan(await business.price("Free", **flat("0"))))
    return customer


async def listed(business: Business, numbering: Numbering.Numbering.ValueType) -> list[str]:
    """The ids, over as many pages as there are."""
    found: list[str] = []
    request = pb.ListInvoicesRequest(numbering=numbering, page_size=1)
    for _ in range(20):
        page = await business.invoicing.ListInvoices(request)
        found += [each.id for each in page.invoices]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
    raise AssertionError("the list has no end")


async def test_a_free_plan_takes_no_numbers(suite: Suite, business: Business) -> None:
    """It is billed once all the same, paid and announced; the numbers of what costs something have no gap."""
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    paying = await business.customer()
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    await free(business)
    await business.subscribe(paying, seats)
    await suite.travel(FEBRUARY + DAY)
    found = await business.invoices()
    assert [(each.state, each.number) for each in found if pence(each)] == [(OPEN, "NL-000001"), (OPEN, "NL-000002")]
    nothing = [each for each in found if not pence(each)]
    assert [(each.state, each.number, told(each)) for each in nothing] == [(PAID, "", [("Free", 0)])] * 2
    assert all(each.HasField("paid_time") and each.customer.display_name == "Ada Byron" for each in nothing)
    told_of = {each.invoice.id for each in suite.announced(events_pb2.InvoiceFinalized)}
    assert told_of == {each.id for each in found}
    assert {each.invoice.id for each in suite.announced(events_pb2.InvoicePaid)} == {each.id for each in nothing}
    verified = await business.invoicing.VerifySeries(pb.VerifySeriesRequest(series="NL"))
    assert (verified.last_number, len(verified.faults)) == ("NL-000002", 0)
    await replayed(business)


async def test_lists_tell_documents_from_the_rest(business: Business) -> None:
    """A bookkeeper wants the documents, somebody who looks for a mistake the others."""
    await free(business)
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    await free(business)
    [numbered] = [each.id for each in await business.invoices() if each.number]
    [without] = [each.id for each in await business.invoices() if not each.number]
    assert await listed(business, Numbering.NUMBERED) == [numbered]
    assert await listed(business, Numbering.WITHOUT_NUMBER) == [without]
    assert sorted(await listed(business, Numbering.NUMBERING_UNSPECIFIED)) == sorted([numbered, without])
    with refused("INVALID_ARGUMENT") as refusal:
        await listed(business, 9)  # type: ignore[arg-type] # what is no member
    assert refusal.field == "numbering"


async def test_a_draft_is_not_among_those_without_a_number(business: Business, suite: Suite) -> None:
    """It may still get one. By the policy of the moment at which it is finalized it does not."""
    await business.meter("kwh")
    plan = await business.plan(await business.price("Electricity", meter="kwh", **per_unit("0.10")))
    unused, used = await business.customer(), await business.customer()
    for customer in (unused, used):
        await business.subscribe(customer, plan)
    await suite.travel(FEBRUARY)
    assert {each.state for each in await business.invoices()} == {DRAFT}
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    assert await listed(business, Numbering.WITHOUT_NUMBER) == []
    await business.use(used, "kwh", "20", utc(2026, 1, 31))
    await suite.travel(FEBRUARY + DAY)
    [of_nothing], [of_use] = await business.invoices(unused), await business.invoices(used)
    assert (of_nothing.state, of_nothing.number, pence(of_nothing)) == (PAID, "", 0)
    assert (of_use.state, of_use.number, pence(of_use)) == (OPEN, "NL-000001", 2_00)
    assert await listed(business, Numbering.WITHOUT_NUMBER) == [of_nothing.id]
    await replayed(business)


async def test_usage_that_comes_late_for_it_is_billed_on_a_document(suite: Suite, business: Business) -> None:
    """What came to nothing was billed all the same: the difference is the whole."""
    await declare(business, grace_seconds=0, zero_invoices=WITHOUT_NUMBER)
    await business.meter("kwh")
    plan = await business.plan(await business.price("Electricity", meter="kwh", **per_unit("0.10")))
    customer = await business.customer()
    await business.subscribe(customer, plan)
    await suite.travel(FEBRUARY + DAY)
    await business.use(customer, "kwh", "50", utc(2026, 1, 20))
    await suite.travel(utc(2026, 3, 2))
    first, second = await business.invoices(customer)
    assert (first.number, told(first)) == ("", [("Electricity", 0)])
    assert (second.number, pence(second)) == ("NL-000001", 5_00)


async def test_there_is_no_document_to_print_or_to_correct(business: Business) -> None:
    """Who asks is told why."""
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    [invoice] = await business.invoices(await free(business))
    for call in (
        business.invoicing.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=invoice.id)),
        business.invoicing.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=invoice.id, as_it_stands=True)),
        stub(business).CreateCreditNote(
            credit_notes.CreateCreditNoteRequest(invoice_id=invoice.id, reason=notes.CreditNote.BILLING_ERROR)
        ),
    ):
        with refused("INVOICE_WITHOUT_NUMBER", grpc.StatusCode.FAILED_PRECONDITION):
            await call


@pytest.mark.parametrize("verb", ["void", "reissue"])
async def test_it_is_annulled_without_a_credit_note(suite: Suite, business: Business, verb: str) -> None:
    """What it billed is billed anew, by the policy of that moment."""
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    customer = await free(business)
    [invoice] = await business.invoices(customer)
    await declare(business)
    reason = notes.CreditNote.BILLING_ERROR
    if verb == "void":
        void = await business.invoicing.VoidInvoice(pb.VoidInvoiceRequest(id=invoice.id, reason=reason))
    else:
        void = await business.invoicing.ReissueInvoice(pb.ReissueInvoiceRequest(id=invoice.id, reason=reason))
    await suite.quiet()
    assert (void.state, void.number) == (invoice_pb2.Invoice.VOID, "")
    assert [each.invoice.id for each in suite.announced(events_pb2.InvoiceVoided)] == [invoice.id]
    found = await stub(business).ListCreditNotes(credit_notes.ListCreditNotesRequest(invoice_id=invoice.id))
    assert not found.credit_notes
    assert await listed(business, Numbering.WITHOUT_NUMBER) == [invoice.id]
    if verb == "void":
        assert [each.id for each in await business.invoices(customer)] == [invoice.id]
        await suite.travel(FEBRUARY + DAY)
    [again] = [each for each in await business.invoices(customer) if each.id != invoice.id]
    assert (again.state, again.number, told(again)[0]) == (PAID, "NL-000001", ("Free", 0))
    assert again.line_items[0].period == invoice.line_items[0].period


async def test_what_a_discount_makes_free_is_a_document(business: Business) -> None:
    """As is what somebody wrote by hand, of nothing or not: something was sold, or is to be seen on paper."""
    await declare(business, zero_invoices=WITHOUT_NUMBER)
    written = business.suite.stub(ManualInvoicesServiceStub, "invoicing")
    everything = invoice_pb2.GivenDiscount(description="A gift", percent={"value": "100"})  # type: ignore[arg-type] # as a mapping
    for unit_price, discounts in (("0", []), ("5", [everything])):
        line = manual_invoice_pb2.ManualLine(description="Work", unit_price={"value": unit_price}, discounts=discounts)  # type: ignore[arg-type] # as above
        customer = await business.customer()
        draft = await written.CreateInvoice(manual.CreateInvoiceRequest(customer_id=customer.id, lines=[line]))
        await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    found = await business.invoices()
    assert [(each.state, each.number, pence(each)) for each in found] == [
        (PAID, "NL-000001", 0),
        (PAID, "NL-000002", 0),
    ]


async def test_a_policy_that_nobody_knows_is_refused(business: Business) -> None:
    """By its field."""
    with refused("INVALID_ARGUMENT") as refusal:
        await declare(business, zero_invoices=9)
    assert refusal.field == "policy.zero_invoices"
    declared = await declare(business, zero_invoices=pb.IssuingPolicy.ISSUE)
    assert declared.zero_invoices == pb.IssuingPolicy.ISSUE
    assert declared == await business.invoicing.GetIssuingPolicy(pb.GetIssuingPolicyRequest())


async def test_the_table_refuses_to_take_a_number_away(suite: Suite, business: Business) -> None:
    """Of a document that was issued, of nothing or not; and to have something owed that never had one."""
    [draft] = await drafted(business)
    await free(business)
    async with suite.own_rows("invoicing") as connection:
        with pytest.raises(asyncpg.RaiseError, match="stays what it is"):
            await connection.execute("UPDATE invoices SET number = NULL WHERE number <> ''")
        with pytest.raises(asyncpg.CheckViolationError) as refusal:
            await connection.execute(
                "UPDATE invoices SET state = 'OPEN', seller_party = '{}', customer_party = '{}', due_time = bill_time"
                " WHERE id = $1",
                draft.id,
            )
        assert refusal.value.constraint_name == "invoices_numbered"
