"""Invoices that are issued some days before the period they bill begins."""

from __future__ import annotations

from datetime import timedelta

from common import wire
from common.period import civil_date
from common.testing import Suite
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.check import billing, documents, ledger
from tools.check.report import Tally

from .conftest import NEIGHBOURS, Business, civil, dead_letters, decimal, flat, pence, per_unit, replayed, told, utc

JANUARY_25, FEBRUARY, MARCH = utc(2026, 1, 25), utc(2026, 2, 1), utc(2026, 3, 1)
HOUR = timedelta(hours=1)
LONDON = "Europe/London"


async def all_holds(business: Business) -> None:
    """By the checker, which computes everything apart from the services: periods, documents, and the books."""
    records = await business.records()
    for each in (*billing.INVARIANTS, *documents.INVARIANTS, *ledger.INVARIANTS):
        if {*each.needs} <= {*NEIGHBOURS, "invoicing"}:
            tally = Tally()
            each.verify(records, tally)
            assert not tally.offending, (each.name, tally.offenders)


async def test_an_invoice_is_issued_days_before_its_period_begins(suite: Suite, business: Business) -> None:
    """Dated, due and announced by that day, once; usage is billed when it is over, as ever; from month to month, also
    where months are short.
    """
    await business.meter("kwh", "kWh")
    seats = await business.price("Seats", **per_unit("10"))
    power = await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10"))
    ada = await business.customer(net_terms_days=7)
    await business.subscribe(ada, await business.plan(seats, power), bill_ahead_days=7)
    await business.use(ada, "kwh", "30", utc(2026, 1, 10))
    await suite.travel(JANUARY_25 - timedelta(seconds=1))
    assert len(await business.invoices()) == 1
    await suite.travel(JANUARY_25)
    first, ahead = await business.invoices()
    assert (civil(first), civil(ahead), ahead.state) == ("2026-01-01", "2026-01-25", invoice_pb2.Invoice.OPEN)
    assert told(ahead) == [("Seats", 10_00)]
    [line] = ahead.line_items
    period = wire.parse_interval(line.period, field="period")
    assert (period.start, period.end) == (FEBRUARY, MARCH)
    assert wire.parse_timestamp(ahead.due_time, field="due_time") == FEBRUARY
    await suite.travel(FEBRUARY + HOUR)
    assert [(civil(each), told(each)) for each in (await business.invoices())[2:]] == [
        ("2026-02-01", [("Electricity", 3_00)])
    ]
    await suite.travel(utc(2026, 6, 1) + HOUR)
    seats_billed = [
        (civil(each), civil_date(wire.parse_timestamp(line.period.start_time, field="start"), LONDON).isoformat())
        for each in await business.invoices()
        for line in each.line_items
        if line.description == "Seats"
    ]
    assert seats_billed == [
        ("2026-01-01", "2026-01-01"),
        ("2026-01-25", "2026-02-01"),
        ("2026-02-22", "2026-03-01"),
        ("2026-03-25", "2026-04-01"),
        ("2026-04-24", "2026-05-01"),
        ("2026-05-25", "2026-06-01"),
    ]
    await replayed(business)
    await all_holds(business)
    assert not await dead_letters(suite)


async def test_what_does_not_begin_is_taken_off_the_next_bill(suite: Suite, business: Business) -> None:
    """Whole: nobody has had anything of it. The invoice stays as it was issued."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    contract = await business.plan(await business.price("Contract", **flat("25")))
    ada = await business.customer()
    gone = await business.subscribe(ada, seats, bill_ahead_days=7)
    await business.subscribe(ada, contract)
    await suite.travel(utc(2026, 1, 28))
    [_, _, ahead] = await business.invoices()
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=gone.id,
            timing=subscriptions.CancelSubscriptionRequest.PERIOD_END,
            unused=subscription_pb2.SubscriptionChange.KEEP,
        )
    )
    await suite.travel(MARCH)
    as_it_is = await business.invoicing.GetInvoice(pb.GetInvoiceRequest(id=ahead.id))
    assert (as_it_is.line_items, as_it_is.total) == (ahead.line_items, ahead.total)
    after = (await business.invoices())[3:]
    assert [(civil(each), told(each)) for each in after] == [
        ("2026-02-01", [("Seats – unused", -10_00), ("Contract", 25_00)]),
        ("2026-03-01", [("Contract", 25_00)]),
    ]
    await replayed(business)
    await all_holds(business)


async def test_another_quantity_before_it_begins_makes_the_difference(suite: Suite, business: Business) -> None:
    """What has not begun is billed anew by what was agreed last, less what was billed, to the cent."""
    price = await business.price("Seats", **per_unit("10"))
    ada = await business.customer()
    subscription = await business.subscribe(ada, await business.plan(price), quantities=["5"], bill_ahead_days=7)
    await suite.travel(utc(2026, 1, 28))
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=subscription.id,
            actions=[
                subscription_pb2.SubscriptionAction(
                    set_quantity=subscription_pb2.SubscriptionAction.SetQuantity(
                        item_id=subscription.items[0].id, quantity=decimal("8")
                    )
                )
            ],
            timing=subscription_pb2.SubscriptionChange.NOW,
            unused=subscription_pb2.SubscriptionChange.CREDIT,
        )
    )
    await suite.quiet()
    [_, ahead, more] = await business.invoices()
    assert (pence(ahead), civil(more)) == (50_00, "2026-01-28")
    # Four of January's 31 days, and all of February.
    assert pence(more) == (10_32 - 6_45) + (80_00 - 50_00)
    await suite.travel(FEBRUARY + HOUR)
    assert len(await business.invoices()) == 3
    await replayed(business)
    await all_holds(business)


async def test_what_will_be_billed_ahead_is_foreseen(suite: Suite, business: Business) -> None:
    """The upcoming invoice is that of the day on which it will be issued."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    ada = await business.customer()
    made = await business.subscribe(ada, seats, bill_ahead_days=7)
    assert made.bill_ahead_days == 7
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert (civil(upcoming), told(upcoming)) == ("2026-01-25", [("Seats", 10_00)])
