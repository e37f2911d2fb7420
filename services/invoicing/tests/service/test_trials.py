"""What is billed of a subscription that is free at its start, and what is billed once."""

from __future__ import annotations

from datetime import timedelta

from common import wire
from common.period import Period
from saldo.catalog.v1 import price_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions

from .conftest import Business, civil, flat, per_unit, told, utc

HOUR = timedelta(hours=1)
ONCE = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.ONCE, count=1)


async def test_the_first_invoice_is_of_the_end_of_the_trial(business: Business) -> None:
    """Nothing of the trial is on it or on a later one; the setup is on it alone, whatever comes after."""
    await business.meter("kwh", "kWh")
    plan = await business.plan(
        await business.price("Setup", billing_interval=ONCE, **flat("50.00")),
        await business.price("Seats", "seat", **per_unit("9.50")),
        await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")),
    )
    ada = await business.customer()
    subscription = await business.subscribe(ada, plan, billing_day=0, trial_days=14)
    await business.use(ada, "kwh", "1000", utc(2026, 1, 14, 23))
    assert await business.invoices() == []
    await business.suite.travel(utc(2026, 1, 15))
    [first] = await business.invoices()
    assert (civil(first), told(first)) == ("2026-01-15", [("Setup", 50_00), ("Seats", 9_50)])
    setup = first.line_items[0]
    assert setup.period == setup.full_period == wire.interval(Period(utc(2026, 1, 15), utc(2026, 1, 16)))
    assert (setup.proration.numerator, setup.proration.denominator) == (1, 1)

    await business.use(ada, "kwh", "30", utc(2026, 1, 20))
    await business.suite.travel(utc(2026, 2, 15) + HOUR)
    assert told((await business.invoices())[-1]) == [("Seats", 9_50), ("Electricity", 3_00)]
    await business.subscriptions.PauseSubscription(subscriptions.PauseSubscriptionRequest(id=subscription.id))
    await business.suite.travel(utc(2026, 4, 20))
    await business.subscriptions.ResumeSubscription(subscriptions.ResumeSubscriptionRequest(id=subscription.id))
    await business.suite.travel(utc(2026, 6, 20))
    lines = [line for invoice in await business.invoices() for line in told(invoice)]
    assert [line for line in lines if line[0] == "Setup"] == [("Setup", 50_00)]
    assert sum(amount for name, amount in lines if name == "Electricity") == 3_00


async def test_cancelled_in_the_trial_there_is_no_invoice(business: Business) -> None:
    """Neither for the setup nor for what was used."""
    await business.meter("kwh", "kWh")
    plan = await business.plan(
        await business.price("Setup", billing_interval=ONCE, **flat("50.00")),
        await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")),
    )
    ada = await business.customer()
    subscription = await business.subscribe(ada, plan, trial_days=14)
    await business.use(ada, "kwh", "1000", utc(2026, 1, 10))
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.PERIOD_END
        )
    )
    await business.suite.travel(utc(2026, 4, 1))
    assert await business.invoices() == []
