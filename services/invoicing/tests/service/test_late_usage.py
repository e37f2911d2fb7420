"""Usage that changes after it was billed: billed with the next invoice, by itself, on one made anew, or never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common import ids, wire
from common.caller import current_caller, service_caller
from common.testing import Suite, refused
from invoicing.usecases import bill_run
from invoicing.usecases.taxing import RatesByHand
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1 import proof_service_pb2 as proof
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.invoicing.v1.rating_service_pb2 import SimulatePricesRequest
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from tests.support.tables import each_refused

from .conftest import Business, civil, dead_letters, decimal, per_unit, replayed, told, utc
from .test_credit_notes import credit, part
from .test_holding import declare
from .test_invoices import DAY, HOUR
from .test_voiding import notes_of, void

NEXT_INVOICE, CORRECT = pb.IssuingPolicy.NEXT_INVOICE, pb.IssuingPolicy.CORRECT
REISSUE, REFUSE = pb.IssuingPolicy.REISSUE, pb.IssuingPolicy.REFUSE
BILLED, REFUSED, REISSUED = proof.LateUsageRecord.BILLED, proof.LateUsageRecord.REFUSED, proof.LateUsageRecord.REISSUED
OPEN, PAID, VOID = invoice_pb2.Invoice.OPEN, invoice_pb2.Invoice.PAID, invoice_pb2.Invoice.VOID
# Periods of a week: those who want a word at once are looked at every day, until the next bill as ever.
FIRST_END, SECOND_END, THIRD_END = utc(2026, 1, 8), utc(2026, 1, 15), utc(2026, 1, 22)
WEEK = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.WEEK, count=1)


async def powered(business: Business, *, policy: pb.IssuingPolicy.LateUsage.ValueType) -> customer_pb2.Customer:
    """A customer who has been billed 10.00 for a week, and whose meter has a policy."""
    await declare(business, meter_late_usage={"kwh": policy})
    await business.meter("kwh")
    plan = await business.plan(
        await business.price("Electricity", "kWh", meter="kwh", billing_interval=WEEK, **per_unit("0.10"))
    )
    ada = await business.customer()
    await business.subscribe(ada, plan, billing_day=0)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5), id="in-time")
    await business.suite.travel(FIRST_END + HOUR)
    [first] = await business.invoices()
    assert told(first) == [("Electricity", 10_00)]
    return ada


async def voided(business: Business, event_id: str) -> None:
    api: Any = business.suite.stub(CorrectionServiceStub, "metering")  # Any: grpc stubs are generated
    await api.VoidEvent(corrections.VoidEventRequest(source="test", id=event_id, reason="read wrongly"))


async def statement(business: Business, **request: Any) -> list[proof.LateUsageRecord]:  # Any: fields of the request
    api: Any = business.suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    return list((await api.ListLateUsage(proof.ListLateUsageRequest(**request))).late_usages)


async def waiting(business: Business, customer: customer_pb2.Customer) -> list[proof.LateUsageRecord]:
    api: Any = business.suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    return list((await api.PreviewLateUsage(proof.PreviewLateUsageRequest(customer_id=customer.id))).late_usages)


def minor(record: proof.LateUsageRecord) -> int:
    return wire.parse_money(record.amount, field="amount").minor


async def test_by_default_it_waits_for_the_next_invoice(suite: Suite, business: Business) -> None:
    """And the record says which line is for it, and for which events."""
    ada = await powered(business, policy=NEXT_INVOICE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END - HOUR)
    assert len(await business.invoices()) == 1
    assert await statement(business) == []
    await suite.travel(SECOND_END + HOUR)
    _, second = await business.invoices()
    assert told(second) == [("Electricity – late usage", 3_00), ("Electricity", 0)]
    [record] = await statement(business, customer_id=ada.id, meter="kwh")
    assert (record.outcome, record.reason) == (BILLED, proof.LateUsageRecord.LATE)
    assert (minor(record), record.quantity, record.event_count) == (3_00, decimal("30"), 1)
    assert (record.invoice_id, record.line_id) == (second.id, second.line_items[0].id)
    assert record.period == second.line_items[0].period
    assert record.after_position < record.usage.through_position
    await replayed(business)


async def test_it_is_corrected_at_once_on_an_invoice_of_its_own(suite: Suite, business: Business) -> None:
    """Within a day, and what comes later again with another: nothing twice."""
    ada = await powered(business, policy=CORRECT)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 2 * DAY)
    _, late = await business.invoices()
    assert (late.state, told(late), civil(late)) == (OPEN, [("Electricity – late usage", 3_00)], "2026-01-09")
    await business.use(ada, "kwh", "5", utc(2026, 1, 7))
    await suite.travel(FIRST_END + 4 * DAY)
    assert [told(each) for each in (await business.invoices())[2:]] == [[("Electricity – late usage", 50)]]
    await suite.travel(SECOND_END + HOUR)
    assert told((await business.invoices())[-1]) == [("Electricity", 0)]
    assert [(each.outcome, minor(each)) for each in await statement(business)] == [(BILLED, 3_00), (BILLED, 50)]
    await replayed(business)


async def test_what_comes_back_waits_for_an_invoice_with_room(suite: Suite, business: Business) -> None:
    """Whatever the policy says of what is owed: nobody is owed by an invoice, and nobody loses what is his."""
    ada = await powered(business, policy=CORRECT)
    await voided(business, "in-time")
    await suite.travel(FIRST_END + 3 * DAY)
    assert len(await business.invoices()) == 1
    await business.use(ada, "kwh", "500", utc(2026, 1, 11))
    await suite.travel(SECOND_END + HOUR)
    _, second = await business.invoices()
    assert told(second) == [("Electricity – late usage", -10_00), ("Electricity", 50_00)]
    await replayed(business)


async def test_what_a_credit_note_gave_back_does_not_come_back_once_more(suite: Suite, business: Business) -> None:
    """Somebody was quicker than the next invoice: only the rest is taken off it, and then nothing is left to credit."""
    ada = await powered(business, policy=NEXT_INVOICE)
    [first] = await business.invoices()
    await credit(business, first, part(first, 4_00))
    await voided(business, "in-time")
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Electricity", 0)]
    await business.use(ada, "kwh", "500", utc(2026, 1, 11))
    await suite.travel(utc(2026, 1, 12))
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    both = [("Electricity – late usage", -6_00), ("Electricity", 50_00)]
    assert told(upcoming) == both
    await suite.travel(SECOND_END + HOUR)
    _, second = await business.invoices()
    assert told(second) == both
    api: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    trace = await api.TraceLine(proof.TraceLineRequest(invoice_id=second.id, line_id=second.line_items[0].id))
    assert list(trace.sentences[-2:]) == [
        "Less what was billed before: 0.00 GBP − 10.00 GBP = -10.00 GBP.",
        "Given back before by credit notes: -10.00 GBP + 4.00 GBP = -6.00 GBP.",
    ]
    await replayed(business)
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(business, first, part(first, 1))
    assert (refusal.metadata["line"], refusal.metadata["left"]) == (first.line_items[0].id, "0.00 GBP")


async def test_what_was_given_back_in_full_is_on_no_later_invoice(suite: Suite, business: Business) -> None:
    """The customer has it already; usage that is more than what was billed is owed all the same."""
    ada = await powered(business, policy=CORRECT)
    [first] = await business.invoices()
    await credit(business, first)
    await voided(business, "in-time")
    await business.use(ada, "kwh", "500", utc(2026, 1, 11))
    await suite.travel(SECOND_END + HOUR)
    assert [told(each) for each in (await business.invoices())[1:]] == [[("Electricity", 50_00)]]
    await business.use(ada, "kwh", "130", utc(2026, 1, 6))
    await suite.travel(SECOND_END + 3 * DAY)
    assert told((await business.invoices())[-1]) == [("Electricity – late usage", 3_00)]
    await replayed(business)


async def test_a_draft_takes_off_no_more_than_credit_notes_have_left(suite: Suite, business: Business) -> None:
    """Both are made at the same time: what the draft takes off is not credited, and what is credited meanwhile is not
    taken off when more of the usage turns out not to have been.
    """
    await business.meter("kwh")
    plan = await business.plan(
        await business.price("Electricity", meter="kwh", billing_interval=WEEK, **per_unit("0.10"))
    )
    ada = await business.customer()
    await business.subscribe(ada, plan, billing_day=0)
    for event_id, value in (("first", "70"), ("second", "30")):
        await business.use(ada, "kwh", value, utc(2026, 1, 5), id=event_id)
    await suite.travel(FIRST_END + HOUR)
    [first] = await business.invoices()
    await voided(business, "second")
    await business.use(ada, "kwh", "500", utc(2026, 1, 11))
    await suite.travel(SECOND_END)
    _, draft = await business.invoices()
    assert told(draft) == [("Electricity – late usage", -3_00), ("Electricity", 50_00)]
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(business, first)
    assert refusal.metadata["left"] == "7.00 GBP"
    await credit(business, first, part(first, 7_00))
    await voided(business, "first")
    await suite.travel(SECOND_END + HOUR)
    _, second = await business.invoices()
    assert (second.state, told(second)) == (OPEN, told(draft))
    await replayed(business)


async def test_the_invoice_is_made_anew(suite: Suite, business: Business) -> None:
    """A credit note annuls it, with the reason, and the whole is billed on another, more or less."""
    ada = await powered(business, policy=REISSUE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 2 * DAY)
    first, anew = await business.invoices()
    assert (first.state, anew.state) == (VOID, OPEN)
    assert (told(anew), civil(anew)) == ([("Electricity", 13_00)], "2026-01-08")
    [note] = await notes_of(business, first)
    assert (note.kind, note.reason) == (notes.CreditNote.VOID, notes.CreditNote.LATE_USAGE)
    [record] = await statement(business)
    assert (record.outcome, minor(record), record.event_count) == (REISSUED, 3_00, 1)
    assert (record.invoice_id, record.line_id) == (first.id, "")
    assert (record.credit_note_id, record.new_invoice_id) == (note.id, anew.id)

    await voided(business, "in-time")
    await suite.travel(FIRST_END + 4 * DAY)
    *_, last = await business.invoices()
    assert (told(last), last.state) == ([("Electricity", 3_00)], OPEN)
    assert [minor(each) for each in await statement(business)] == [3_00, -10_00]
    await suite.travel(THIRD_END + HOUR)
    assert [told(each) for each in (await business.invoices())[3:]] == [[("Electricity", 0)]] * 2
    await replayed(business)


@pytest.mark.parametrize(
    ("paid", "due"),
    [
        pytest.param(10_00, 3_00, id="in full", marks=pytest.mark.thorough),  # shown by test_given_back, too
        pytest.param(4_00, 9_00, id="in part"),
    ],
)
async def test_what_was_paid_is_credited_and_made_anew(suite: Suite, business: Business, paid: int, due: int) -> None:
    """Money came in for it, so it is not void: what was paid is the customer's credit, and the new one takes it up."""
    ada = await powered(business, policy=REISSUE)
    [first] = await business.invoices()
    await business.pay(first, payment_id="pay_1", pence=paid)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 2 * DAY)
    settled, anew = await business.invoices()
    assert (settled.state, told(anew), civil(anew)) == (PAID, [("Electricity", 13_00)], "2026-01-08")
    assert wire.parse_money(anew.amount_due, field="amount_due").minor == due
    [note] = await notes_of(business, settled)
    assert (note.kind, note.reason) == (notes.CreditNote.CREDIT, notes.CreditNote.LATE_USAGE)
    [record] = await statement(business)
    assert (record.outcome, record.invoice_id, record.credit_note_id) == (REISSUED, settled.id, note.id)
    assert record.new_invoice_id == anew.id
    await suite.travel(THIRD_END + HOUR)
    assert [told(each) for each in (await business.invoices())[2:]] == [[("Electricity", 0)]] * 2
    await replayed(business)


async def test_what_was_credited_is_not_made_anew_but_corrected(suite: Suite, business: Business) -> None:
    """Somebody decided about a part of it already: that stays, and the difference has an invoice of its own."""
    ada = await powered(business, policy=REISSUE)
    [first] = await business.invoices()
    await credit(business, first, part(first, 1_00))
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 2 * DAY)
    credited, late = await business.invoices()
    assert (credited.state, told(late)) == (OPEN, [("Electricity – late usage", 3_00)])
    assert [each.outcome for each in await statement(business)] == [BILLED]
    await replayed(business)


async def test_an_invoice_for_several_is_made_anew_for_all_of_them(suite: Suite, business: Business) -> None:
    """Somebody pays for another: what both used is on the new one, and nothing on any other."""
    await declare(business, late_usage=REISSUE)
    await business.meter("kwh")
    plan = await business.plan(
        await business.price("Electricity", "kWh", meter="kwh", billing_interval=WEEK, **per_unit("0.10"))
    )
    parent = await business.customer()
    child = await business.customer()
    api: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await api.SetCustomerPayer(customers.SetCustomerPayerRequest(id=child.id, payer_id=parent.id))
    for each in (parent, child):
        await business.subscribe(each, plan, billing_day=0)
    for each in (parent, child):
        await business.use(each, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FIRST_END + HOUR)
    assert [told(each) for each in await business.invoices()] == [[("Electricity", 10_00)] * 2]
    await business.use(child, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 3 * DAY)
    first, anew = await business.invoices()
    assert (first.state, told(anew)) == (VOID, [("Electricity", 10_00), ("Electricity", 13_00)])
    [record] = await statement(business)
    assert (record.customer_id, record.payer_id, record.new_invoice_id) == (child.id, parent.id, anew.id)


async def test_what_is_refused_is_never_billed(suite: Suite, business: Business) -> None:
    """It is on record, once; also later, by another policy, only what came after it is billed."""
    ada = await powered(business, policy=REFUSE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END + HOUR)
    assert [told(each) for each in await business.invoices()] == [[("Electricity", 10_00)], [("Electricity", 0)]]
    [record] = await statement(business)
    assert (record.outcome, minor(record), record.quantity, record.event_count) == (REFUSED, 3_00, decimal("30"), 1)
    assert (record.invoice_id, record.line_id) == ("", "")
    assert record.usage.quantity == decimal("130")

    await declare(business, late_usage=NEXT_INVOICE)
    await business.use(ada, "kwh", "7", utc(2026, 1, 7))
    await suite.travel(THIRD_END + HOUR)
    *_, third = await business.invoices()
    assert told(third) == [("Electricity – late usage", 70), ("Electricity", 0)]
    api: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    trace = await api.TraceLine(proof.TraceLineRequest(invoice_id=third.id, line_id=third.line_items[0].id))
    assert list(trace.sentences[-2:]) == [
        "Less what was billed before: 13.70 GBP − 10.00 GBP = 3.70 GBP.",
        "Less late usage that was refused: 3.70 GBP − 3.00 GBP = 0.70 GBP.",
    ]
    assert [minor(each) for each in await statement(business)] == [3_00, 70]
    await replayed(business)


async def test_at_the_same_price_what_was_refused_changes_nothing(suite: Suite, business: Business) -> None:
    """What was not billed because it came late would not have been billed then either: refused after the last line that
    was billed, and before it.
    """
    ada = await powered(business, policy=REFUSE)
    plans = await business.catalog.ListPlans(catalog.ListPlansRequest())
    [plan] = plans.plans
    rating: Any = suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated

    async def change() -> tuple[int, int]:
        """Of all bills until now, at the price that they have: billed, and by how much the other is more."""
        simulated = await rating.SimulatePrices(SimulatePricesRequest(plan_id=plan.id, months=12))
        [pounds] = simulated.currencies
        billed = wire.parse_money(pounds.billed_amount, field="amount").minor
        return billed, wire.parse_money(pounds.simulated_amount, field="amount").minor - billed

    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END + HOUR)
    assert await change() == (10_00, 0)
    await declare(business, late_usage=NEXT_INVOICE)
    await business.use(ada, "kwh", "7", utc(2026, 1, 7))
    await suite.travel(THIRD_END + HOUR)
    assert await change() == (10_70, 0)


async def test_each_refusal_adds_to_the_one_before(suite: Suite, business: Business) -> None:
    """The record tells what changed since the last, not since the bill."""
    ada = await powered(business, policy=REFUSE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END + HOUR)
    await business.use(ada, "kwh", "7", utc(2026, 1, 7))
    await suite.travel(THIRD_END + HOUR)
    records = await statement(business)
    assert [(each.quantity, each.event_count, minor(each)) for each in records] == [
        (decimal("30"), 1, 3_00),
        (decimal("7"), 1, 70),
    ]
    assert records[1].after_position == records[0].usage.through_position


async def test_what_comes_back_is_never_refused(suite: Suite, business: Business) -> None:
    """A seller may forgo what it is owed, not what it owes."""
    ada = await powered(business, policy=REFUSE)
    await voided(business, "in-time")
    await business.use(ada, "kwh", "500", utc(2026, 1, 11))
    await suite.travel(SECOND_END + HOUR)
    _, second = await business.invoices()
    assert told(second) == [("Electricity – late usage", -10_00), ("Electricity", 50_00)]
    assert [(each.outcome, minor(each)) for each in await statement(business)] == [(BILLED, -10_00)]


async def test_what_was_refused_stays_so_when_the_invoice_is_made_anew(suite: Suite, business: Business) -> None:
    """Whoever annuls the invoice for another reason does not bill by the way what was given up."""
    ada = await powered(business, policy=REFUSE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END + HOUR)
    first, _ = await business.invoices()
    await void(business, first)
    await suite.travel(THIRD_END + HOUR)
    again = [told(each) for each in (await business.invoices())[2:]]
    assert ("Electricity", 10_00) in again[0]
    await replayed(business)


async def test_what_is_refused_is_not_what_is_to_come(suite: Suite, business: Business) -> None:
    """The look ahead shows what will be billed."""
    ada = await powered(business, policy=REFUSE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(FIRST_END + 5 * DAY)
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Electricity", 0)]
    await declare(business, late_usage=NEXT_INVOICE)
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Electricity – late usage", 3_00), ("Electricity", 0)]


async def test_what_is_not_settled_is_shown_before_it_is(suite: Suite, business: Business) -> None:
    """As it stands: how much, since when, and what will become of it; nothing once it is settled."""
    ada = await powered(business, policy=NEXT_INVOICE)
    assert await waiting(business, ada) == []
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    for policy in (NEXT_INVOICE, CORRECT, REISSUE, REFUSE):
        await declare(business, late_usage=policy)
        [found] = await waiting(business, ada)
        assert (found.id, found.outcome, found.policy) == ("", proof.LateUsageRecord.WAITING, policy)
        assert (minor(found), found.quantity, found.event_count) == (3_00, decimal("30"), 1)
    await suite.travel(SECOND_END + HOUR)
    assert await waiting(business, ada) == []
    assert [each.outcome for each in await statement(business)] == [REFUSED]
    with refused("CUSTOMER_NOT_FOUND"):
        await waiting(business, customer_pb2.Customer(id=ids.mint("cus", FIRST_END)))


async def test_the_statement_comes_in_pages(suite: Suite, business: Business) -> None:
    """And only of whom, and of what, was asked for."""
    ada = await powered(business, policy=CORRECT)
    for day in range(3):
        await business.use(ada, "kwh", "10", utc(2026, 1, 6))
        await suite.travel(FIRST_END + (day + 2) * DAY - HOUR)
    api: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    found: list[proof.LateUsageRecord] = []
    token = ""
    for expected in (2, 1):
        page = await api.ListLateUsage(proof.ListLateUsageRequest(page_size=2, page_token=token))
        assert len(page.late_usages) == expected
        found += page.late_usages
        token = page.next_page_token
    assert token == ""
    assert [minor(each) for each in found] == [1_00] * 3
    assert await statement(business, meter="water") == []
    other = await business.customer()
    assert await statement(business, customer_id=other.id) == []
    with refused("INVALID_ARGUMENT") as refusal:
        await statement(business, customer_id="nobody")
    assert refusal.field == "customer_id"


async def test_the_policy_is_told_as_it_was_declared(business: Business) -> None:
    """Both, the default and that of a meter; what is no policy is refused by its field."""
    declared = await declare(business, late_usage=CORRECT, meter_late_usage={"kwh": REFUSE})
    assert (declared.late_usage, dict(declared.meter_late_usage)) == (CORRECT, {"kwh": REFUSE})
    for policy, field in (
        ({"late_usage": 9}, "policy.late_usage"),
        ({"meter_late_usage": {"kwh": 0}}, "policy.meter_late_usage"),
        ({"meter_late_usage": {"no meter": REFUSE}}, "policy.meter_late_usage"),
        ({"meter_late_usage": {f"m{n}": REFUSE for n in range(101)}}, "policy.meter_late_usage"),
    ):
        with refused("INVALID_ARGUMENT") as refusal:
            await declare(business, **policy)
        assert refusal.field == field


async def test_a_record_stays_what_it_is(suite: Suite, business: Business) -> None:
    """Whoever could change what was refused could bill it after all."""
    ada = await powered(business, policy=REFUSE)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    await suite.travel(SECOND_END + HOUR)
    async with suite.own_rows("invoicing") as connection:
        await each_refused(
            connection,
            "UPDATE late_usages SET amount_minor = 1",
            "DELETE FROM late_usages",
            because="stays what it is",
        )


@pytest.mark.own_services
@pytest.mark.parametrize(("policy", "outcome"), [(CORRECT, BILLED), (REISSUE, REISSUED), (REFUSE, REFUSED)])
async def test_two_bill_runs_at_once_settle_it_once(
    suite: Suite,
    business: Business,
    policy: pb.IssuingPolicy.LateUsage.ValueType,
    outcome: proof.LateUsageRecord.Outcome.ValueType,
) -> None:
    """Whoever comes second finds it done: nothing is billed, taken back or refused twice."""
    ada = await powered(business, policy=policy)
    await business.use(ada, "kwh", "30", utc(2026, 1, 6))
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(SECOND_END), hold=True))
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    runs = (bill_run.bill_customers(desk, [ada.id], grace=HOUR, taxes=RatesByHand()) for _ in range(3))
    await asyncio.gather(*runs)
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(SECOND_END)))
    await suite.travel(SECOND_END + HOUR)
    assert [(each.outcome, minor(each)) for each in await statement(business)] == [(outcome, 3_00)]
    standing = [each for each in await business.invoices() if each.state != VOID]
    billed = sum(amount for invoice in standing for _, amount in told(invoice))
    assert billed == (10_00 if policy == REFUSE else 13_00)
    assert not await dead_letters(suite)
    await replayed(business)
