"""What gets onto which invoice, and when: invoicing with its real neighbours, through time."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from common import ids
from common.ids import SellerId
from common.testing import Suite
from invoicing.usecases.sweep import sweep_every
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import events_pb2, invoice_pb2
from saldo.subscriptions.v1 import events_pb2 as subscription_events
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions

from .conftest import Business, civil, dead_letters, decimal, flat, pence, per_unit, told, utc

pytestmark = pytest.mark.patched_when_used

HOUR = timedelta(hours=1)
FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
APRIL = utc(2026, 3, 31, 23)  # midnight in London, where the clocks went forward on 29 March
MAY = utc(2026, 4, 30, 23)


async def test_seats_and_usage_share_the_invoice_of_the_first(suite: Suite, business: Business) -> None:
    """The main job. Two subscriptions of a customer: what was used last month and the seats of the new one, on one
    invoice, dated the first in the customer's zone, once the usage of the last hours is in."""
    await business.meter("kwh", "kWh")
    seats = await business.plan(await business.price("Seats", "seat", **per_unit("9.50")))
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.14228")))
    ada = await business.customer(net_terms_days=14)
    await business.subscribe(ada, seats, quantities=["12"])
    await business.subscribe(ada, power)
    [first] = await business.invoices()
    assert told(first) == [("Seats", 114_00)]
    assert first.state == invoice_pb2.Invoice.OPEN  # no usage on it: nothing to wait for

    await business.use(ada, "kwh", "400", utc(2026, 3, 5))
    await business.use(ada, "kwh", "12.537", utc(2026, 3, 31, 22, 30))  # the last half hour of March in London
    await business.use(ada, "kwh", "7", utc(2026, 3, 31, 23, 30))  # the first of April
    await suite.travel(APRIL)
    draft = (await business.invoices())[-1]
    assert draft.state == invoice_pb2.Invoice.DRAFT
    assert not draft.number
    assert not draft.HasField("seller")
    await suite.travel(APRIL + HOUR)
    invoices = await business.invoices()
    assert [civil(invoice) for invoice in invoices] == ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]
    invoice = invoices[-1]
    assert told(invoice) == [("Seats", 114_00), ("Electricity", 58_70)]  # in the order subscribed
    assert invoice.state == invoice_pb2.Invoice.OPEN
    assert invoice.id == draft.id
    assert [each.number for each in invoices] == ["NL-000001", "NL-000002", "NL-000003", "NL-000004"]
    assert (invoice.seller.display_name, invoice.customer.display_name) == ("Northern Light Ltd", "Ada Byron")
    assert invoice.due_time.ToDatetime(APRIL.tzinfo) == APRIL + HOUR + timedelta(days=14)
    power_line = invoice.line_items[1]
    assert power_line.quantity == power_line.usage.quantity == decimal("412.537")
    assert power_line.usage.event_count == 2
    assert power_line.period.end_time.ToDatetime(APRIL.tzinfo) == APRIL

    await suite.quiet()
    announced = [event.invoice for event in suite.announced(events_pb2.InvoiceFinalized)]
    assert [each.id for each in announced] == [each.id for each in invoices]
    for event in announced:
        assert not event.HasField("seller")
        assert not event.HasField("customer")


async def test_a_contract_from_mid_month_is_billed_by_its_days(business: Business) -> None:
    """The month has 31 days in London although it lacks an hour; 17 of them are billed, at once, and told."""
    contract = await business.plan(await business.price("Service contract", **flat("24.90")))
    ada = await business.customer()
    await business.subscribe(ada, contract, start=utc(2026, 3, 15))
    await business.suite.travel(utc(2026, 3, 15))
    [invoice] = await business.invoices()
    [line] = invoice.line_items
    assert told(invoice) == [("Service contract", 13_65)]
    assert (line.proration.numerator, line.proration.denominator) == (17, 31)
    assert line.full_period.start_time.ToDatetime(MARCH.tzinfo) == MARCH
    assert civil(invoice) == "2026-03-15"
    await business.suite.travel(APRIL)
    assert [pence(each) for each in await business.invoices()] == [13_65, 24_90]


async def test_usage_within_the_grace_period_still_counts(suite: Suite, business: Business) -> None:
    """Half an hour late: the draft is recomputed before it is final, and nothing is corrected."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY)
    [draft] = await business.invoices()
    assert pence(draft) == 10_00
    await suite.travel(FEBRUARY + HOUR / 2)
    await business.use(ada, "kwh", "50", utc(2026, 1, 31, 23))
    await suite.travel(FEBRUARY + HOUR)
    [invoice] = await business.invoices()
    assert told(invoice) == [("Electricity", 15_00)]
    assert invoice.line_items[0].id == draft.line_items[0].id
    assert invoice.line_items[0].usage.event_count == 2


async def test_later_usage_is_corrected_with_the_next_bill(suite: Suite, business: Business) -> None:
    """Too late for January's invoice: the difference is on February's, with the reason, and only once. Sent twice, it
    counts once."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    for _ in range(2):
        await business.use(ada, "kwh", "30", utc(2026, 1, 20), id="late")
    await suite.travel(utc(2026, 2, 20))
    assert len(await business.invoices()) == 1
    await suite.travel(MARCH + HOUR)
    january, february = await business.invoices()
    assert told(january) == [("Electricity", 10_00)]
    assert told(february) == [("Electricity – late usage", 3_00), ("Electricity", 0)]
    correction = february.line_items[0]
    assert correction.correction == 1
    assert correction.quantity == decimal("30")
    assert correction.usage.quantity == decimal("130")
    assert correction.rating_steps[-1].amount == decimal("-10")
    await suite.travel(APRIL + HOUR)
    assert told((await business.invoices())[-1]) == [("Electricity", 0)]


async def test_late_usage_of_a_correction_in_its_grace_period_counts_once(suite: Suite, business: Business) -> None:
    """A draft holds a correction, and more usage of the same old month comes in: the correction grows."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await suite.travel(FEBRUARY + HOUR)
    await business.use(ada, "kwh", "30", utc(2026, 1, 20))
    await suite.travel(MARCH)
    await business.use(ada, "kwh", "5", utc(2026, 1, 21))
    await suite.travel(MARCH + HOUR)
    february = (await business.invoices())[-1]
    assert told(february) == [("Electricity – late usage", 3_50), ("Electricity", 0)]
    await suite.travel(APRIL + HOUR)
    assert told((await business.invoices())[-1]) == [("Electricity", 0)]


async def test_the_usage_after_the_last_invoice_is_not_forgotten(suite: Suite, business: Business) -> None:
    """The subscription has ended and no bill comes by any more: late usage is billed by itself within its window."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    subscription = await business.subscribe(ada, power)
    await suite.travel(utc(2026, 1, 20))
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.NOW)
    )
    await suite.travel(utc(2026, 2, 1))
    await business.use(ada, "kwh", "30", utc(2026, 1, 19))
    await suite.travel(utc(2026, 6, 1))
    last, late = await business.invoices()
    assert told(last) == [("Electricity", 0)]
    assert last.state == invoice_pb2.Invoice.PAID
    assert told(late) == [("Electricity – late usage", 3_00)]
    assert civil(late) == "2026-03-22"  # 61 days after the end


async def test_a_subscription_made_for_the_past_is_billed_for_all_of_it(suite: Suite, business: Business) -> None:
    """Also when the customer has been billed since: the bill run looks back as far as the new subscription begins."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    contract = await business.plan(await business.price("Service contract", **flat("24.90")))
    ada = await business.customer()
    await business.subscribe(ada, seats)
    await suite.travel(utc(2026, 4, 10))
    before = await business.invoices()
    await business.subscribe(ada, contract, start=utc(2026, 1, 1))
    new = (await business.invoices())[len(before) :]
    assert [told(invoice) for invoice in new] == [[("Service contract", 24_90)] * 4]
    assert civil(new[0]) == "2026-04-01"


async def test_more_than_one_answer_holds_is_billed_in_slices(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract for the past may have more periods than subscriptions tells at once. That must not stop the customer's
    billing for ever: it is asked for in slices, each period is billed once, and later bills come as usual."""
    monkeypatch.setattr("subscriptions.domain.billable_periods.PERIODS_MAX", 10)
    await business.meter("kwh")
    prices = [await business.price(f"Part {n}", **flat("1")) for n in range(2)]
    plan = await business.plan(*prices, await business.price("Electricity", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, plan, start=utc(2024, 1, 1))
    await suite.travel(utc(2026, 1, 2))
    invoices = await business.invoices()
    lines = [line for invoice in invoices for line in invoice.line_items]
    keys = {(line.item_id, line.period.start_time.seconds) for line in lines}
    assert len(lines) == len(keys) == 25 + 25 + 24
    assert sum(pence(invoice) for invoice in invoices) == 50_00
    assert all(len(invoice.line_items) <= 10 for invoice in invoices)
    assert not await dead_letters(suite)
    await suite.travel(utc(2026, 2, 2))
    assert sum(pence(invoice) for invoice in await business.invoices()) == 52_00


async def test_less_than_nothing_is_charged_as_nothing(suite: Suite, business: Business) -> None:
    """A report that was taken back twice keeps nobody from being billed for the rest, nor for that meter later on."""
    await business.meter("kwh", "kWh")
    seats = await business.price("Seats", **per_unit("10"))
    plan = await business.plan(seats, await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, plan)
    await business.use(ada, "kwh", "-50", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    invoice = (await business.invoices())[-1]
    assert sorted(told(invoice)) == [("Electricity", 0), ("Seats", 10_00)]
    [line] = [line for line in invoice.line_items if line.usage.meter]
    assert line.quantity == line.usage.quantity == decimal("-50")
    assert line.rating_steps[0].description == "-50 kWh counted, charged as nothing"
    await business.use(ada, "kwh", "80", utc(2026, 1, 6))
    await suite.travel(MARCH + HOUR)
    assert ("Electricity – late usage", 3_00) in told((await business.invoices())[-1])
    assert not await dead_letters(suite)


async def test_a_correction_that_no_longer_fits_leaves_its_draft(suite: Suite, business: Business) -> None:
    """January's correction fits February's draft until the usage of both turns out smaller. The draft is finalized all
    the same, and what was too much is taken off the next bill."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    await business.use(ada, "kwh", "-40", utc(2026, 1, 6))
    await business.use(ada, "kwh", "50", utc(2026, 2, 5))
    await suite.travel(MARCH)
    draft = (await business.invoices())[-1]
    assert sorted(told(draft)) == [("Electricity", 5_00), ("Electricity – late usage", -4_00)]
    await business.use(ada, "kwh", "-20", utc(2026, 2, 6))
    await suite.travel(MARCH + HOUR)
    assert told((await business.invoices())[-1]) == [("Electricity", 3_00)]
    await business.use(ada, "kwh", "100", utc(2026, 3, 20))
    await suite.travel(APRIL + HOUR)
    assert sorted(told((await business.invoices())[-1])) == [
        ("Electricity", 10_00),
        ("Electricity – late usage", -4_00),
    ]
    assert not await dead_letters(suite)


@pytest.mark.own_services
async def test_a_bill_run_whose_time_has_come_begins_its_own_trace(suite: Suite, business: Business) -> None:
    """Otherwise the trace of the first call would have every bill of the years to come in it."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    await business.subscribe(await business.customer(), seats)
    connection = await asyncpg.connect(suite.urls["invoicing"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', $1, false)", suite.seller)
        row = await connection.fetchrow("SELECT due_time, traceparent FROM billing")
    finally:
        await connection.close()
    assert row is not None
    assert (row["due_time"], row["traceparent"]) == (FEBRUARY, "")


async def test_two_subscriptions_in_one_moment_are_billed_once_each(suite: Suite, business: Business) -> None:
    """In a sandbox time stands still: a second mark for the same instant is neither lost nor a fault of the job."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    ada = await business.customer()
    for _ in range(5):
        await business.subscribe(ada, seats)
    invoices = await business.invoices()
    assert sum(len(invoice.line_items) for invoice in invoices) == 5
    assert [invoice.number for invoice in invoices] == [f"NL-{n:06d}" for n in range(1, len(invoices) + 1)]


async def test_facts_that_come_twice_or_late_bill_nothing_twice(suite: Suite, business: Business) -> None:
    """Whatever the events say: what is billed is what is due and not billed."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    ada = await business.customer()
    subscription = await business.subscribe(ada, seats)
    await suite.travel(MARCH)
    before = await business.invoices()
    for event in (
        subscription_events.SubscriptionCreated(subscription=subscription),
        subscription_events.BillingPeriodEnded(subscription=subscription),
        subscription_events.SubscriptionActivated(subscription=subscription),
    ):
        await suite.announce(event, source="subscriptions")
    await suite.quiet()
    assert await business.invoices() == before


async def test_every_currency_has_its_own_invoice(suite: Suite, business: Business) -> None:
    """A customer whose currency changed keeps the subscriptions agreed in the old one."""
    pounds = await business.price("Seats", **per_unit("10"))
    euros = price_pb2.Price(currency="EUR", code="eur")
    plan = await business.plan(pounds, _with(pounds, euros))
    ada = await business.customer()
    await business.subscribe(ada, plan)
    profile = ada.billing_profile
    profile.currency = "EUR"
    await business.subscriptions.UpdateCustomer(subscriptions.UpdateCustomerRequest(id=ada.id, billing_profile=profile))
    await business.subscribe(ada, plan)
    await suite.travel(FEBRUARY)
    of_february = [invoice for invoice in await business.invoices() if civil(invoice) == "2026-02-01"]
    assert sorted(invoice.total.currency_code for invoice in of_february) == ["EUR", "GBP"]


@pytest.mark.own_services
async def test_customers_that_no_event_told_of_are_found(suite: Suite, business: Business) -> None:
    """A lost event only costs time: the look over the seller, in a sandbox every four weeks, bills what was missed."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    await business.subscribe(await business.customer(), seats)
    await suite.stop("invoicing")
    missed = await business.customer()
    await business.subscribe(missed, seats)
    suite.bus = type(suite.bus)()  # whatever was announced is gone
    for name in ("catalog", "subscriptions", "metering"):
        await suite.stop(name)
        await suite.start(name)
    await suite.start("invoicing")
    assert await business.invoices(missed) == []
    await suite.travel(utc(2026, 1, 29) - HOUR)
    assert await business.invoices(missed) == []
    await suite.travel(utc(2026, 1, 29))
    [invoice] = await business.invoices(missed)
    assert told(invoice) == [("Seats", 10_00)]
    assert civil(invoice) == "2026-01-01"


def test_live_sellers_are_looked_over_every_week() -> None:
    """There it is for real: what was missed is found long before anybody asks for the invoice."""
    assert sweep_every(SellerId(ids.mint(ids.SELLER, FEBRUARY))) == timedelta(days=7)


def _with(price: price_pb2.Price, changes: price_pb2.Price) -> price_pb2.Price:
    changed = price_pb2.Price()
    changed.CopyFrom(price)
    changed.MergeFrom(changes)
    return changed
