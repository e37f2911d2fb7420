"""Credit notes through their door: what they take back, what becomes of it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.type import money_pb2

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.testing import SANDBOX_START, Suite, refused
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import credit_notes_service_pb2 as pb
from saldo.invoicing.v1 import events_pb2, invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.credit_notes_service_pb2_grpc import CreditNotesServiceStub
from tests.support.tables import each_refused

from .conftest import Business, decimal, per_unit
from .test_invoices import DAY, FEBRUARY, billed_for_seats, drafted
from .test_series import forge

WRONG = notes.CreditNote.BILLING_ERROR
Line = pb.LineItemToCredit


def gbp(pence: int) -> money_pb2.Money:
    return wire.money(Money(pence, "GBP"))


def minor(money: money_pb2.Money) -> int:
    return wire.parse_money(money, field="amount").minor


def settled(note: notes.CreditNote) -> tuple[int, int, int]:
    """Debt, credit of the customer, refund."""
    parts = note.settlement
    return minor(parts.debt_amount), minor(parts.customer_credit_amount), minor(parts.refund_amount)


def stub(business: Business) -> Any:  # Any: grpc stubs are generated
    return business.suite.stub(CreditNotesServiceStub, "invoicing")


async def credit(
    business: Business, invoice: invoice_pb2.Invoice, *lines: Line, **changes: Any
) -> notes.CreditNote:  # Any: fields of the request
    """All that is left of it, unless lines are named."""
    request = pb.CreateCreditNoteRequest(invoice_id=invoice.id, line_items=lines, reason=WRONG)
    request.MergeFrom(pb.CreateCreditNoteRequest(**changes))
    note: notes.CreditNote = await stub(business).CreateCreditNote(request)
    await business.suite.quiet()
    return note


async def found(business: Business, invoice: invoice_pb2.Invoice) -> invoice_pb2.Invoice:
    again: invoice_pb2.Invoice = await business.invoicing.GetInvoice(invoicing.GetInvoiceRequest(id=invoice.id))
    return again


def part(invoice: invoice_pb2.Invoice, pence: int) -> Line:
    return Line(line_item_id=invoice.line_items[0].id, amount=gbp(pence))


REFUND_ALL = notes.CreditNoteSettlement(refund_amount=gbp(10_00))


# What it takes back


async def test_a_part_is_credited_and_less_is_owed(business: Business) -> None:
    """It is numbered in a series of its own, says what it corrects, and everybody hears of it."""
    owed = await billed_for_seats(business)
    note = await credit(business, owed, part(owed, 4_00), memo="One seat was broken.")
    assert (note.number, note.invoice_number, note.kind) == ("NL-CN-000001", owed.number, notes.CreditNote.CREDIT)
    assert (note.customer_id, note.seller, note.customer) == (owed.customer_id, owed.seller, owed.customer)
    assert (note.reason, note.memo) == (WRONG, "One seat was broken.")
    assert [(line.description, minor(line.amount)) for line in note.lines] == [("Seats", 4_00)]
    assert (minor(note.total), settled(note)) == (4_00, (4_00, 0, 0))
    less = await found(business, owed)
    assert (less.state, minor(less.amount_credited), minor(less.amount_remaining)) == (less.OPEN, 4_00, 6_00)
    assert (less.total, less.line_items) == (owed.total, owed.line_items)
    [told] = business.suite.announced(events_pb2.CreditNoteIssued)
    assert told.credit_note.id == note.id
    personal = {"memo", "seller", "customer"}
    assert not personal & {field.name for field, _ in told.credit_note.ListFields()}
    [credited] = business.suite.announced(events_pb2.InvoiceCredited)
    assert (credited.invoice.id, minor(credited.invoice.amount_remaining)) == (owed.id, 6_00)
    assert not business.suite.announced(events_pb2.InvoicePaid)
    assert await stub(business).GetCreditNote(pb.GetCreditNoteRequest(id=note.id)) == note


async def test_what_is_credited_in_full_is_settled(business: Business) -> None:
    """In two notes: then nothing remains, nobody is dunned, and nothing more can be taken back."""
    owed = await billed_for_seats(business)
    await credit(business, owed, part(owed, 3_33))
    rest = await credit(business, owed)
    assert (rest.number, minor(rest.total)) == ("NL-CN-000002", 6_67)
    paid = await found(business, owed)
    assert (paid.state, minor(paid.amount_credited), minor(paid.amount_paid)) == (paid.PAID, 10_00, 0)
    assert len(business.suite.announced(events_pb2.InvoicePaid)) == 1
    assert len(business.suite.announced(events_pb2.InvoiceCredited)) == 2
    with refused("NOTHING_LEFT_TO_CREDIT", grpc.StatusCode.FAILED_PRECONDITION):
        await credit(business, owed)
    await business.suite.travel(FEBRUARY - DAY)
    assert not [each for each in business.suite.announced(events_pb2.InvoiceOverdue) if each.invoice.id == owed.id]


async def test_quantities_and_shares_of_a_line(business: Business) -> None:
    """Two of three seats, or 6 of 31 days: the same share of what was billed."""
    plan = await business.plan(await business.price("Seats", "seat", **per_unit("3.33")))
    customer = await business.customer()
    await business.subscribe(customer, plan, quantities=["3"])
    [owed] = await business.invoices(customer)
    line_id = owed.line_items[0].id
    two = await credit(business, owed, Line(line_item_id=line_id, quantity=decimal("2")))
    assert (minor(two.total), two.lines[0].quantity.value, two.lines[0].unit_label) == (6_66, "2", "seat")
    days = invoice_pb2.Fraction(numerator=6, denominator=31)
    six = await credit(business, owed, Line(line_item_id=line_id, share=days))
    assert (minor(six.total), six.lines[0].HasField("quantity")) == (1_93, False)
    assert minor((await credit(business, owed)).total) == 9_99 - 6_66 - 1_93


async def test_a_preview_stores_nothing_and_is_what_follows(business: Business) -> None:
    """And says how much could be paid back: two of the seven that were paid are not kept."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1", pence=7_00)
    request = pb.PreviewCreditNoteRequest(invoice_id=owed.id, line_items=[part(owed, 5_00)])
    seen = await stub(business).PreviewCreditNote(request)
    assert (seen.id, seen.number, seen.reason) == ("", "", notes.CreditNote.OTHER)
    assert minor(seen.refundable_amount) == 2_00
    listed = await stub(business).ListCreditNotes(pb.ListCreditNotesRequest())
    assert not listed.credit_notes
    made = await credit(
        business,
        owed,
        part(owed, 5_00),
        preference=pb.CreateCreditNoteRequest.REFUND_FIRST,
        reason=notes.CreditNote.OTHER,
        memo="Good will",
    )
    assert settled(made) == (3_00, 0, 2_00)
    assert (made.lines, made.total, made.taxes) == (seen.lines, seen.total, seen.taxes)


# What becomes of it


async def test_a_refund_is_pending_until_somebody_tells_of_it(business: Business) -> None:
    """In two goes, each once, however often it is told; the invoice stays paid."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1")
    note = await credit(business, owed, settlement=REFUND_ALL)
    assert (settled(note), minor(note.refund_pending_amount)) == ((0, 0, 10_00), 10_00)
    first = pb.RecordRefundRequest(id=note.id, amount=gbp(4_00), reference="re_1")
    for _ in range(2):
        half = await stub(business).RecordRefund(first)
        assert (minor(half.refunded_amount), minor(half.refund_pending_amount), half.revision) == (4_00, 6_00, 2)
    with refused("REFUND_ALREADY_RECORDED"):
        await stub(business).RecordRefund(pb.RecordRefundRequest(id=note.id, amount=gbp(5_00), reference="re_1"))
    with refused("REFUND_EXCEEDS_PENDING"):
        await stub(business).RecordRefund(pb.RecordRefundRequest(id=note.id, amount=gbp(6_01), reference="re_2"))
    whole = await stub(business).RecordRefund(pb.RecordRefundRequest(id=note.id, reference="re_2"))
    assert (minor(whole.refund_pending_amount), whole.revision) == (0, 3)
    await business.suite.quiet()
    told = business.suite.announced(events_pb2.CreditNoteRefunded)
    assert [minor(each.credit_note.refunded_amount) for each in told] == [4_00, 10_00]
    paid = await found(business, owed)
    assert (paid.state, minor(paid.amount_paid), minor(paid.amount_credited)) == (paid.PAID, 10_00, 0)


async def test_notes_at_once_take_back_no_more_than_there_is(business: Business) -> None:
    """Ten people press the button; four quarters are all there is."""
    owed = await billed_for_seats(business)
    answers = await asyncio.gather(
        *(credit(business, owed, part(owed, 2_50)) for _ in range(10)), return_exceptions=True
    )
    made = [answer for answer in answers if isinstance(answer, notes.CreditNote)]
    assert sorted(note.number for note in made) == [f"NL-CN-{n:06d}" for n in range(1, 5)]
    assert (await found(business, owed)).state == invoice_pb2.Invoice.PAID


async def test_a_repeated_request_credits_once(business: Business) -> None:
    """Whoever lost the answer asks again."""
    owed = await billed_for_seats(business)
    first = await credit(business, owed, part(owed, 1_00), request_id="credit-1")
    assert await credit(business, owed, part(owed, 1_00), request_id="credit-1") == first
    assert minor((await found(business, owed)).amount_credited) == 1_00


async def test_what_is_left_to_the_credit_of_a_customer_pays_the_next_invoice(business: Business) -> None:
    """The default of a note for what was paid: nobody has to send money."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1")
    note = await credit(business, owed, part(owed, 4_00))
    assert settled(note) == (0, 4_00, 0)
    await business.suite.travel(FEBRUARY)
    [_, following] = await business.invoices()
    assert (minor(following.credit_applied), minor(following.amount_due)) == (4_00, 6_00)


# What is refused


async def test_a_draft_has_nothing_to_credit(business: Business) -> None:
    """It can still be changed."""
    [draft] = await drafted(business)
    with refused("INVOICE_NOT_FINALIZED", grpc.StatusCode.FAILED_PRECONDITION):
        await credit(business, draft)


@pytest.mark.parametrize(
    ("settlement", "reason"),
    [
        (notes.CreditNoteSettlement(debt_amount=gbp(4_00), refund_amount=gbp(5_00)), "SETTLEMENT_DIFFERS_FROM_TOTAL"),
        (notes.CreditNoteSettlement(debt_amount=gbp(10_00)), "SETTLEMENT_EXCEEDS_DEBT"),
        (notes.CreditNoteSettlement(debt_amount=gbp(1_00), refund_amount=gbp(9_00)), "REFUND_EXCEEDS_PAYMENTS"),
    ],
)
async def test_money_that_is_not_there_goes_nowhere(
    business: Business, settlement: notes.CreditNoteSettlement, reason: str
) -> None:
    """And nothing is stored: the next note has the first number."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1", pence=6_00)
    with refused(reason, grpc.StatusCode.FAILED_PRECONDITION):
        await credit(business, owed, settlement=settlement)
    assert (await credit(business, owed, part(owed, 1_00))).number == "NL-CN-000001"


async def test_what_makes_no_sense_is_refused_with_its_field(business: Business) -> None:
    """Whatever it is, it is named, and nothing is stored."""
    owed = await billed_for_seats(business)
    line_id = owed.line_items[0].id
    wrong: list[tuple[str, dict[str, Any]]] = [  # Any: fields of the request
        ("invoice_id", {"invoice_id": "inv_x"}),
        ("reason", {"reason": notes.CreditNote.REASON_UNSPECIFIED}),
        ("reason", {"reason": 99}),
        ("memo", {"reason": notes.CreditNote.OTHER}),
        ("memo", {"memo": "x" * 1_001}),
        ("memo", {"memo": "\x07"}),
        ("preference", {"preference": 99}),
        ("settlement", {"settlement": notes.CreditNoteSettlement()}),
        ("settlement.refund_amount", {"settlement": notes.CreditNoteSettlement(refund_amount=gbp(-1))}),
        ("line_items[0].line_item_id", {"line_items": [Line(line_item_id="x")]}),
        ("line_items[1].line_item_id", {"line_items": [Line(line_item_id=line_id)] * 2}),
        ("line_items[0].amount", {"line_items": [Line(line_item_id=line_id, amount=gbp(0))]}),
        ("line_items[0].quantity", {"line_items": [Line(line_item_id=line_id, quantity=decimal("0"))]}),
        ("line_items[0].share.denominator", {"line_items": [Line(line_item_id=line_id, share=fraction(1, 0))]}),
        ("line_items[0].share.numerator", {"line_items": [Line(line_item_id=line_id, share=fraction(2, 1))]}),
    ]
    for field, changes in wrong:
        fields = {"invoice_id": owed.id, "reason": WRONG, **changes}
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await stub(business).CreateCreditNote(pb.CreateCreditNoteRequest(**fields))
        assert refusal.field == field
    for reason, line in [
        ("LINE_NOT_FOUND", Line(line_item_id=ids.mint("line", SANDBOX_START))),
        ("CREDIT_EXCEEDS_LINE", part(owed, 10_01)),
        ("CURRENCY_MISMATCH", Line(line_item_id=line_id, amount=wire.money(Money(1, "EUR")))),
    ]:
        with refused(reason):
            await credit(business, owed, line)
    with refused("CREDIT_NOTE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stub(business).GetCreditNote(pb.GetCreditNoteRequest(id=ids.mint("cn", SANDBOX_START)))
    with refused("INVOICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        request = pb.CreateCreditNoteRequest(invoice_id=ids.mint("inv", SANDBOX_START), reason=WRONG)
        await stub(business).CreateCreditNote(request)
    note = await credit(business, owed, part(owed, 1_00))
    for field, refund in [
        ("reference", pb.RecordRefundRequest(id=note.id)),
        ("reference", pb.RecordRefundRequest(id=note.id, reference="x" * 201)),
        ("amount", pb.RecordRefundRequest(id=note.id, reference="x", amount=gbp(0))),
    ]:
        with refused("INVALID_ARGUMENT") as refusal:
            await stub(business).RecordRefund(refund)
        assert refusal.field == field


def fraction(numerator: int, denominator: int) -> invoice_pb2.Fraction:
    return invoice_pb2.Fraction(numerator=numerator, denominator=denominator)


# How they are found, kept and printed


async def test_notes_are_listed_page_by_page(business: Business) -> None:
    """Of the seller, of a customer, of an invoice."""
    one, two = await billed_for_seats(business), await billed_for_seats(business)
    made = [await credit(business, owed, part(owed, 1_00)) for owed in (one, two, one)]
    api = stub(business)

    async def listed(**asked: Any) -> list[str]:  # Any: fields of the request
        found_ids: list[str] = []
        token = ""
        while not found_ids or token:
            page = await api.ListCreditNotes(pb.ListCreditNotesRequest(page_size=2, page_token=token, **asked))
            found_ids += [note.id for note in page.credit_notes]
            token = page.next_page_token
        return found_ids

    assert await listed() == [note.id for note in made]
    assert await listed(invoice_id=one.id) == [made[0].id, made[2].id]
    assert await listed(customer_id=two.customer_id) == [made[1].id]
    other: Any = business.suite.stub(  # Any: grpc stubs are generated
        CreditNotesServiceStub, "invoicing", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    assert not (await other.ListCreditNotes(pb.ListCreditNotesRequest())).credit_notes
    with refused("CREDIT_NOTE_NOT_FOUND"):
        await other.GetCreditNote(pb.GetCreditNoteRequest(id=made[0].id))
    viewer: Any = business.suite.stub(CreditNotesServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    assert (await viewer.GetCreditNote(pb.GetCreditNoteRequest(id=made[0].id))).id == made[0].id
    with refused("ROLE_NOT_ALLOWED"):
        await viewer.CreateCreditNote(pb.CreateCreditNoteRequest(invoice_id=one.id, reason=WRONG))


async def test_their_series_is_verified_like_that_of_the_invoices(business: Business) -> None:
    """Gapless, and each linked to the one before; whether a refund was paid changes nothing of what it says."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1")
    refund = notes.CreditNoteSettlement(refund_amount=gbp(5_00))
    made = [await credit(business, owed, part(owed, 5_00), settlement=refund) for _ in range(2)]
    await stub(business).RecordRefund(pb.RecordRefundRequest(id=made[0].id, reference="re_1"))
    listed = await business.invoicing.ListNumberSeries(invoicing.ListNumberSeriesRequest())
    series = {each.name: each for each in listed.series}
    assert {name: each.count for name, each in series.items()} == {"NL": 1, "NL-CN": 2}
    page = await business.invoicing.VerifySeries(invoicing.VerifySeriesRequest(series="NL-CN"))
    assert (page.count, page.link, list(page.faults)) == (2, series["NL-CN"].link, [])
    await forge(business, f"UPDATE credit_notes SET memo = 'No' WHERE id = '{made[0].id}'")
    page = await business.invoicing.VerifySeries(invoicing.VerifySeriesRequest(series="NL-CN"))
    [fault] = page.faults
    assert (fault.kind, fault.number, fault.credit_note_id, fault.invoice_id) == (
        invoicing.SeriesFault.ALTERED,
        made[0].number,
        made[0].id,
        "",
    )


async def test_the_database_refuses_to_change_a_credit_note(business: Business) -> None:
    """Also to the service itself."""
    owed = await billed_for_seats(business)
    await business.pay(owed, payment_id="pay_1")
    note = await credit(business, owed, settlement=REFUND_ALL)
    await stub(business).RecordRefund(pb.RecordRefundRequest(id=note.id, amount=gbp(4_00), reference="re_1"))
    async with business.suite.own_rows("invoicing") as connection:
        await each_refused(
            connection,
            "UPDATE credit_notes SET memo = 'No'",
            "UPDATE credit_notes SET total_minor = total_minor + 1",
            "DELETE FROM credit_notes",
            "UPDATE credit_note_lines SET amount_minor = amount_minor - 1",
            "DELETE FROM credit_note_lines",
            "UPDATE credit_note_refunds SET amount_minor = 1",
            "DELETE FROM credit_note_refunds",
            because="what was issued stays what it is",
        )


async def test_its_document_is_the_same_every_time(suite: Suite, business: Business) -> None:
    """Also when its refund has been paid; and that of the invoice is untouched by it."""
    owed = await billed_for_seats(business)
    of_invoice = invoicing.GetInvoiceDocumentRequest(id=owed.id)
    before = await business.invoicing.GetInvoiceDocument(of_invoice)
    await business.pay(owed, payment_id="pay_1")
    note = await credit(business, owed, settlement=REFUND_ALL)
    document = await stub(business).GetCreditNoteDocument(pb.GetCreditNoteDocumentRequest(id=note.id))
    assert (document.file_name, document.content_type) == ("NL-CN-000001.pdf", "application/pdf")
    assert document.content.startswith(b"%PDF-")
    await stub(business).RecordRefund(pb.RecordRefundRequest(id=note.id, reference="re_1"))
    assert await stub(business).GetCreditNoteDocument(pb.GetCreditNoteDocumentRequest(id=note.id)) == document
    assert await business.invoicing.GetInvoiceDocument(of_invoice) == before
