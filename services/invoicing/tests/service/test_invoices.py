"""Invoices through their door: finalized, paid, overdue, looked ahead to, printed, and kept from others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from common import consumer, ids, wire
from common.caller import Role, current_caller, service_caller
from common.ids import SellerId
from common.migrate import differences
from common.testing import SANDBOX_START, Suite, refused
from invoicing.domain.invoice import InvoiceId
from invoicing.store import metadata, paging
from invoicing.usecases import bill_run, drafts
from invoicing.usecases.taxing import RatesByHand
from saldo.invoicing.v1 import events_pb2, invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions

from .conftest import Business, civil, dead_letters, decimal, flat, pence, per_unit, told, utc

pytestmark = pytest.mark.patched_when_used

FEBRUARY = utc(2026, 2, 1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def billed_for_seats(business: Business, **profile: Any) -> invoice_pb2.Invoice:  # Any: fields of the message
    """An open invoice of 10.00 GBP."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    customer = await business.customer(**profile)
    await business.subscribe(customer, plan)
    [invoice] = await business.invoices(customer)
    return invoice


async def drafted(business: Business, *, customers: int = 1) -> list[invoice_pb2.Invoice]:
    """Drafts in their grace period, one for each customer, of 10.00 GBP."""
    await business.meter("kwh")
    plan = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    those = [await business.customer() for _ in range(customers)]
    await asyncio.gather(*(business.subscribe(each, plan) for each in those))
    for each in those:
        await business.use(each, "kwh", "100", SANDBOX_START)
    await business.suite.travel(FEBRUARY)
    drafts = await business.invoices()
    assert [draft.state for draft in drafts] == [invoice_pb2.Invoice.DRAFT] * customers
    return drafts


# Finalizing


async def test_a_draft_is_finalized_by_hand_with_the_usage_of_the_moment(suite: Suite, business: Business) -> None:
    """The operator need not wait for the grace period; a repeated request finalizes once and answers the same."""
    [draft] = await drafted(business)
    customer = customer_pb2.Customer(external_id=draft.customer_id)  # usage may name it by its id, too
    await business.use(customer, "kwh", "1", FEBRUARY - HOUR)
    request = pb.FinalizeInvoiceRequest(id=draft.id, request_id="finalize-1")
    first = await business.invoicing.FinalizeInvoice(request)
    assert told(first) == [("Electricity", 10_10)]
    assert first.state == invoice_pb2.Invoice.OPEN
    assert await business.invoicing.FinalizeInvoice(request) == first
    with refused("INVOICE_NOT_DRAFT", grpc.StatusCode.FAILED_PRECONDITION):
        await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    with refused("REQUEST_ID_REUSED"):
        other = pb.FinalizeInvoiceRequest(id=(await another_draft(business)).id, request_id="finalize-1")
        await business.invoicing.FinalizeInvoice(other)
    await suite.travel(FEBRUARY + HOUR)
    assert len([each for each in suite.announced(events_pb2.InvoiceFinalized) if each.invoice.id == first.id]) == 1


async def another_draft(business: Business) -> invoice_pb2.Invoice:
    plan = await business.plan(await business.price("Water", "kWh", meter="kwh", **per_unit("0.10")))
    customer = await business.customer()
    await business.subscribe(customer, plan, start=SANDBOX_START)
    return (await business.invoices(customer))[0]


async def test_numbers_have_no_gap_whoever_finalizes_when(suite: Suite, business: Business) -> None:
    """Twelve drafts, all finalized at once, each twice: twelve numbers in a row, each twin refused."""
    drafts = await drafted(business, customers=12)
    answers = await asyncio.gather(
        *(
            business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
            for draft in drafts
            for _ in range(2)
        ),
        return_exceptions=True,
    )
    finalized = [answer for answer in answers if isinstance(answer, invoice_pb2.Invoice)]
    assert sorted(invoice.number for invoice in finalized) == [f"NL-{n:06d}" for n in range(1, 13)]
    assert len(answers) - len(finalized) == 12
    await suite.quiet()
    assert len(suite.announced(events_pb2.InvoiceFinalized)) == 12


@pytest.mark.own_services
async def test_what_joins_a_draft_while_it_is_finalized_stays_on_it(suite: Suite, business: Business) -> None:
    """Between asking and writing a bill run may add a line, even one of the same meter and period at another price."""
    [draft] = await drafted(business)
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    facts = await drafts.pull(desk, [InvoiceId(draft.id)], taxes=RatesByHand())
    dearer = await business.plan(await business.price("Heating", "kWh", meter="kwh", **per_unit("0.50")))
    customer = await business.subscriptions.GetCustomer(subscriptions.GetCustomerRequest(id=draft.customer_id))
    await business.subscribe(customer, dearer, start=SANDBOX_START)
    async with desk.transaction() as tx:
        await drafts.finalize_draft(tx, InvoiceId(draft.id), facts)
    [invoice] = await business.invoices()
    assert told(invoice) == [("Electricity", 10_00), ("Heating", 50_00)]
    assert invoice.state == invoice_pb2.Invoice.OPEN


@pytest.mark.own_services
async def test_a_customer_is_billed_once_by_several_replicas(suite: Suite, business: Business) -> None:
    """Both find the customer due and ask; whoever comes second finds everything billed."""
    [draft] = await drafted(business)
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(customer_id=draft.customer_id, plan_id=plan.id)
    )
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    async with desk.transaction() as tx:
        await bill_run.mark_customer_due(tx, draft.customer_id)
    by_hand = RatesByHand()
    runs = (bill_run.bill_customers(desk, [draft.customer_id], grace=HOUR, taxes=by_hand) for _ in range(4))
    await asyncio.gather(*runs)
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.travel(FEBRUARY + HOUR)
    lines = [line for invoice in await business.invoices() for line in told(invoice)]
    assert sorted(lines) == [("Electricity", 10_00), ("Seats", 10_00)]
    assert not await dead_letters(suite)


async def test_an_invoice_of_nothing_is_paid_at_once(suite: Suite, business: Business) -> None:
    """Both facts are told: nobody collects, and nobody waits."""
    plan = await business.plan(await business.price("Free", **flat("0")))
    await business.subscribe(await business.customer(), plan)
    [invoice] = await business.invoices()
    assert invoice.state == invoice_pb2.Invoice.PAID
    await suite.quiet()
    assert [event.invoice.id for event in suite.announced(events_pb2.InvoiceFinalized)] == [invoice.id]
    assert [event.invoice.id for event in suite.announced(events_pb2.InvoicePaid)] == [invoice.id]


# Paying


async def test_a_payment_settles_its_invoice_once(suite: Suite, business: Business) -> None:
    """In parts, and each told twice: what remains goes down once per payment, and PAID is said once."""
    invoice = await billed_for_seats(business)
    await business.pay(invoice, payment_id="pay_1", pence=4_00)
    await business.pay(invoice, payment_id="pay_1", pence=4_00)
    once = await business.invoicing.GetInvoice(pb.GetInvoiceRequest(id=invoice.id))
    assert once.state == invoice_pb2.Invoice.OPEN
    assert once.amount_remaining.units == 6
    await business.pay(once, payment_id="pay_2")
    paid = await business.invoicing.GetInvoice(pb.GetInvoiceRequest(id=invoice.id))
    assert paid.state == invoice_pb2.Invoice.PAID
    assert paid.amount_paid == paid.total
    assert paid.paid_time.ToDatetime(SANDBOX_START.tzinfo) == SANDBOX_START
    [event] = suite.announced(events_pb2.InvoicePaid)
    assert event.invoice.id == invoice.id
    assert event.invoice.revision == paid.revision
    await suite.travel(SANDBOX_START + 30 * DAY)
    assert suite.announced(events_pb2.InvoiceOverdue) == []


async def test_money_that_belongs_to_nothing_is_kept_for_somebody_to_look_at(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an invoice that does not exist: a dead letter, and nothing changes. What is too much becomes credit."""
    monkeypatch.setattr(consumer, "FAILURES_MAX", 2)
    invoice = await billed_for_seats(business)
    unknown = invoice_pb2.Invoice()
    unknown.CopyFrom(invoice)
    unknown.id = ids.mint("inv", SANDBOX_START)
    await business.pay(unknown, payment_id="pay_2")
    [letter] = await dead_letters(suite)
    assert letter.error.startswith("InvoiceNotFound(")
    assert await business.invoicing.GetInvoice(pb.GetInvoiceRequest(id=invoice.id)) == invoice


async def test_an_invoice_is_overdue_once_a_day_after_it_was_due(suite: Suite, business: Business) -> None:
    """Dunning begins with it: not before money on its way had a day, and not twice."""
    invoice = await billed_for_seats(business, net_terms_days=14)
    late = SANDBOX_START + 15 * DAY
    await suite.travel(late - timedelta(seconds=1))
    assert suite.announced(events_pb2.InvoiceOverdue) == []
    await suite.travel(SANDBOX_START + 20 * DAY)
    [event] = suite.announced(events_pb2.InvoiceOverdue)
    assert event.invoice.id == invoice.id
    assert event.invoice.overdue_time.ToDatetime(late.tzinfo) == late
    assert event.invoice.state == invoice_pb2.Invoice.OPEN


# Looking ahead


async def test_the_upcoming_invoice_shows_usage_so_far_and_what_comes_with_it(suite: Suite, business: Business) -> None:
    """Mid-month: the usage until now, and the seats of the month that will begin; and nothing is stored by asking."""
    await business.meter("kwh")
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, seats)
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "25", utc(2026, 1, 10))
    await suite.travel(utc(2026, 1, 11))
    before = await business.invoices()
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Seats", 10_00), ("Electricity", 2_50)]
    assert civil(upcoming) == "2026-02-01"
    assert (upcoming.id, upcoming.number, upcoming.line_items[0].id) == ("", "", "")
    # What is only shown is counted without proof.
    assert [each.usage.digest for each in upcoming.line_items if each.HasField("usage")] == [""]
    assert await business.invoices() == before
    nobody = await business.customer()
    nothing = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=nobody.id))
    assert (pence(nothing), list(nothing.line_items)) == (0, [])


# Documents


async def test_the_document_is_a_pdf_and_the_same_every_time(suite: Suite, business: Business) -> None:
    """Paid or not, before a restart or after it: what was sent can be sent again."""
    invoice = await billed_for_seats(business)
    request = pb.GetInvoiceDocumentRequest(id=invoice.id)
    document = await business.invoicing.GetInvoiceDocument(request)
    assert (document.file_name, document.content_type) == ("NL-000001.pdf", "application/pdf")
    assert document.content.startswith(b"%PDF-")
    await business.pay(invoice, payment_id="pay_1")
    await suite.stop("invoicing")
    await suite.start("invoicing")
    assert await business.invoicing.GetInvoiceDocument(request) == document


async def test_a_draft_is_not_sent_to_anyone(business: Business) -> None:
    """Its lines may still change, and it has no number."""
    [draft] = await drafted(business)
    with refused("INVOICE_NOT_FINALIZED", grpc.StatusCode.FAILED_PRECONDITION):
        await business.invoicing.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=draft.id))


# Lists


async def test_invoices_come_in_pages_by_their_ids(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a page of long invoices ends early rather than outgrow a message."""
    billed = [await billed_for_seats(business), await billed_for_seats(business)]
    first, second = sorted(billed, key=lambda each: each.id)
    page = await business.invoicing.ListInvoices(pb.ListInvoicesRequest(page_size=1))
    assert list(page.invoices) == [first]
    rest = await business.invoicing.ListInvoices(pb.ListInvoicesRequest(page_size=1, page_token=page.next_page_token))
    assert list(rest.invoices) == [second]
    assert not rest.next_page_token
    of_second = await business.invoicing.ListInvoices(pb.ListInvoicesRequest(customer_id=second.customer_id))
    assert list(of_second.invoices) == [second]
    monkeypatch.setattr(paging, "LINES_PER_PAGE_MAX", 1)
    short = await business.invoicing.ListInvoices(pb.ListInvoicesRequest())
    assert list(short.invoices) == [first]
    assert short.next_page_token == page.next_page_token


# The door


async def test_nobody_gets_in_without_a_token(suite: Suite) -> None:
    """Invoices are personal data, every one of the methods included."""
    await suite.start("invoicing")
    stranger: Any = suite.raw_stub(InvoicingServiceStub, "invoicing", token="")  # Any: grpc stubs are generated
    invoice_id = ids.mint("inv", SANDBOX_START)
    for call in (
        stranger.GetInvoice(pb.GetInvoiceRequest(id=invoice_id)),
        stranger.ListInvoices(pb.ListInvoicesRequest()),
        stranger.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest()),
        stranger.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=invoice_id)),
        stranger.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=invoice_id)),
    ):
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await call


async def test_another_seller_sees_nothing(suite: Suite, business: Business) -> None:
    """Ids of another tenant are ids of nothing: not even their existence is told."""
    invoice = await billed_for_seats(business)
    other: Any = suite.stub(  # Any: as above
        InvoicingServiceStub, "invoicing", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    assert not (await other.ListInvoices(pb.ListInvoicesRequest())).invoices
    for call in (
        other.GetInvoice(pb.GetInvoiceRequest(id=invoice.id)),
        other.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=invoice.id)),
        other.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=invoice.id)),
    ):
        with refused("INVOICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=invoice.customer_id))


@pytest.mark.parametrize("garbage", ["", "x", "inv_", "INV_01H455VB4PEX5VSKNK084SN02Q", "cus_' OR 1=1", "\x00" * 300])
async def test_garbage_is_refused_by_field(suite: Suite, garbage: str) -> None:
    """A caller learns which field is wrong, and nothing reaches the database."""
    await suite.start("invoicing")
    invoicing: Any = suite.stub(InvoicingServiceStub, "invoicing")  # Any: as above
    for call in (
        invoicing.GetInvoice(pb.GetInvoiceRequest(id=garbage)),
        invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=garbage)),
        invoicing.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=garbage)),
    ):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await call
        assert refusal.field == "id"
    with refused("INVALID_ARGUMENT") as refusal:
        await invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=garbage))
    assert refusal.field == "customer_id"
    if garbage:
        for request, field in (
            (pb.ListInvoicesRequest(customer_id=garbage), "customer_id"),
            (pb.ListInvoicesRequest(page_token=garbage), "page_token"),
        ):
            with refused("INVALID_ARGUMENT") as refusal:
                await invoicing.ListInvoices(request)
            assert refusal.field == field


async def test_a_viewer_may_look_and_not_touch(suite: Suite, business: Business) -> None:
    """Accountants read; they do not finalize."""
    [draft] = await drafted(business)
    viewer: Any = suite.stub(InvoicingServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    assert await viewer.GetInvoice(pb.GetInvoiceRequest(id=draft.id)) == draft
    assert list((await viewer.ListInvoices(pb.ListInvoicesRequest())).invoices) == [draft]
    await viewer.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=draft.customer_id))
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))


async def test_a_neighbour_that_is_away_is_waited_for(suite: Suite, business: Business) -> None:
    """Usage that cannot be asked for is not usage of nothing: the invoice comes when metering is back."""
    [draft] = await drafted(business)
    await suite.stop("metering")
    with refused("NEIGHBOUR_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE):
        await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY + HOUR)))
    await asyncio.sleep(0.3)  # the errand tries, and must not give up
    assert (await business.invoices())[0].state == invoice_pb2.Invoice.DRAFT
    await suite.start("metering")
    await suite.travel(FEBRUARY + HOUR)
    [finalized] = await business.invoices()
    assert finalized.state == invoice_pb2.Invoice.OPEN
    assert told(finalized) == [("Electricity", 10_00)]


# The tables themselves


@pytest.mark.own_services
async def test_migrating_leaves_no_difference(suite: Suite) -> None:
    """The tables in the code are the tables that the migrations make."""
    await suite.start("invoicing")
    assert await differences(suite.urls["invoicing"], metadata) == []


@pytest.mark.own_services
async def test_a_missing_column_would_be_a_difference(suite: Suite) -> None:
    """The comparison sees something."""
    await suite.start("invoicing")
    async with suite.own_rows("invoicing") as connection:
        await connection.execute("ALTER TABLE invoices DROP COLUMN revision")
    assert await differences(suite.urls["invoicing"], metadata) != []


@pytest.mark.own_services
async def test_the_tables_refuse_what_must_never_be(suite: Suite, business: Business) -> None:
    """Whatever code runs: a period billed twice, a number given twice, a line changed after it was sent."""
    invoice = await billed_for_seats(business)
    assert invoice.line_items[0].quantity == decimal("1")
    async with suite.own_rows("invoicing") as connection:
        columns = "seller_id, invoice_id, position + 1, description, subscription_id, item_id, price_id, period_start,"
        columns += " period_end, full_period_start, full_period_end, quantity, unit_label, currency, amount_minor,"
        columns += " rating_steps, exact_amount, proration_numerator, proration_denominator, meter, correction"
        into = columns.replace("position + 1", "position")
        with pytest.raises(asyncpg.UniqueViolationError, match="invoice_lines_billed_once"):
            await connection.execute(
                f"INSERT INTO invoice_lines (id, {into}) SELECT 'line_2', {columns} FROM invoice_lines"
            )
        with pytest.raises(asyncpg.RaiseError, match="finalized"):
            await connection.execute("UPDATE invoice_lines SET amount_minor = 1")
        with pytest.raises(asyncpg.RaiseError, match="finalized"):
            await connection.execute("DELETE FROM invoice_lines")
        with pytest.raises(asyncpg.UniqueViolationError, match="invoices_number"):
            await connection.execute(
                "INSERT INTO invoices SELECT again.*"
                """ FROM invoices i, jsonb_populate_record(i, '{"id": "inv_again"}') AS again WHERE i.id = $1""",
                invoice.id,
            )
