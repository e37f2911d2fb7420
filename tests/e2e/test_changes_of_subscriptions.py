"""A contract is rarely what it was in the beginning: every change is on the invoice, to the day and to the cent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from common import wire
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import Subscription, SubscriptionChange
from tests.support.changes import Billed, all_billed, billed, change, change_plan, set_quantity
from tests.support.sandbox import Sandbox, flat, per_unit, text, usage


def day(month: int, of_month: int, *, year: int = 2026, hour: int = 0) -> datetime:
    return datetime(year, month, of_month, hour, tzinfo=UTC)


async def test_an_upgrade_in_the_middle_of_a_period(sandbox: Sandbox) -> None:
    """From 100 to 300 on 16 June: 15 of 30 days of the old are credited, 15 of 30 of the new are billed, at once."""
    product = await sandbox.product("suite")
    basic = await sandbox.plan("basic", flat("fee", "100"))
    basic_price = basic.prices[0]
    pro_price = flat("fee", "300")
    pro_price.product_id = basic_price.product_id
    pro = await sandbox.plan("pro", pro_price)
    assert product
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, basic)
    await sandbox.travel(day(6, 16))
    changed = await change(sandbox, agreed, change_plan(pro.id))
    assert changed.plan_id == pro.id
    assert changed.items[0].id == agreed.items[0].id
    await sandbox.travel(day(7, 2))

    first, upgrade, second = await sandbox.invoices(ada)
    assert billed(first) == [Billed("2026-06-01", "2026-07-01", "1", "1/1", "100.00 EUR")]
    assert billed(upgrade) == [
        Billed("2026-06-16", "2026-07-01", "1", "1/2", "-50.00 EUR", "CREDIT"),
        Billed("2026-06-16", "2026-07-01", "1", "1/2", "150.00 EUR"),
    ]
    assert text(upgrade.total) == "100.00 EUR"
    assert billed(second) == [Billed("2026-07-01", "2026-08-01", "1", "1/1", "300.00 EUR")]


async def test_a_downgrade_at_the_end_of_the_period(sandbox: Sandbox) -> None:
    """Nothing happens until then, nothing is credited, and the decision can be seen and taken back meanwhile."""
    pro = await sandbox.plan("pro", flat("fee", "300"))
    basic_price = flat("fee", "100")
    basic_price.product_id = pro.prices[0].product_id
    basic = await sandbox.plan("basic", basic_price)
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, pro)
    await sandbox.travel(day(6, 10))
    await change(sandbox, agreed, change_plan(basic.id), timing=SubscriptionChange.PERIOD_END)
    waiting = await sandbox.client.subscriptions.ListSubscriptionChanges(
        subscriptions.ListSubscriptionChangesRequest(subscription_id=agreed.id, state=SubscriptionChange.SCHEDULED)
    )
    (scheduled,) = waiting.changes
    assert scheduled.effective_time.ToDatetime(UTC) == day(7, 1)
    (still,) = await sandbox.subscriptions(ada)
    assert still.plan_id == pro.id
    await sandbox.travel(day(7, 2))

    (after,) = await sandbox.subscriptions(ada)
    assert after.plan_id == basic.id
    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-01", "2026-07-01", "1", "1/1", "300.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "1", "1/1", "100.00 EUR"),
    ]


async def test_a_downgrade_at_once_is_taken_off_what_comes(sandbox: Sandbox) -> None:
    """From 300 to 30 on 16 June: 150 less, 15 more. The invoice of the day cannot be negative: it is nothing, and the
    135 that are left make the four invoices of 30 after it free and the fifth 15.
    """
    pro = await sandbox.plan("pro", flat("fee", "300"))
    basic_price = flat("fee", "30")
    basic_price.product_id = pro.prices[0].product_id
    basic = await sandbox.plan("basic", basic_price)
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, pro)
    await sandbox.travel(day(6, 16))
    await change(sandbox, agreed, change_plan(basic.id))
    await sandbox.travel(day(12, 2))

    totals = [text(invoice.total) for invoice in await sandbox.invoices(ada)]
    free = ["0.00 EUR"] * 4
    assert totals == ["300.00 EUR", "0.00 EUR", *free, "15.00 EUR", "30.00 EUR"]


@pytest.mark.thorough  # conformance tells it as own-two-changes-one-day
async def test_two_changes_on_one_day(sandbox: Sandbox) -> None:
    """The day belongs to what it ends with: by days the change in between takes no time, and costs nothing."""
    seats = await sandbox.plan("seats", per_unit("seat", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, seats, quantities={"seat": "2"})
    await sandbox.travel(day(6, 16, hour=9))
    await change(sandbox, agreed, set_quantity(agreed, "6"))
    await sandbox.travel(day(6, 16, hour=17))
    await change(sandbox, agreed, set_quantity(agreed, "4"))
    await sandbox.travel(day(7, 2))

    invoices = await sandbox.invoices(ada)
    total = sum((invoice.total.units * 100 + invoice.total.nanos // 10**7 for invoice in invoices), 0)
    # June 20, half of two seats more, July four seats: what was billed for the six is taken off again.
    assert total == 2000 + 1000 + 4000
    log = await sandbox.client.subscriptions.ListSubscriptionChanges(
        subscriptions.ListSubscriptionChangesRequest(subscription_id=agreed.id)
    )
    assert [each.actions[0].set_quantity.quantity.value for each in log.changes] == ["6", "4"]


@pytest.mark.thorough  # conformance tells it as own-down-keep-then-up-keep, and what is billed at once as own-up-keep
async def test_quantity_up_and_down(sandbox: Sandbox) -> None:
    """Up is billed at once for the rest of the month; down with KEEP is free to go up again, to what was paid."""
    seats = await sandbox.plan("seats", per_unit("seat", "30"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, seats, quantities={"seat": "5"})
    await sandbox.travel(day(6, 11))
    await change(sandbox, agreed, set_quantity(agreed, "8"))
    await sandbox.travel(day(6, 16))
    await change(sandbox, agreed, set_quantity(agreed, "3"), unused=SubscriptionChange.KEEP)
    await sandbox.travel(day(6, 21))
    await change(sandbox, agreed, set_quantity(agreed, "7"), unused=SubscriptionChange.KEEP)
    await sandbox.travel(day(7, 2))

    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-01", "2026-07-01", "5", "1/1", "150.00 EUR"),
        Billed("2026-06-11", "2026-07-01", "5", "2/3", "-100.00 EUR", "CREDIT"),
        Billed("2026-06-11", "2026-07-01", "8", "2/3", "160.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "7", "1/1", "210.00 EUR"),
    ]


async def test_a_trial_is_extended_across_a_month_end(sandbox: Sandbox) -> None:
    """Billing begins once, when the trial really ends, and is anchored there: not before, not twice."""
    plan = await sandbox.plan("suite", flat("fee", "30"), per_unit("calls", "0.5", meter="calls"))
    await sandbox.meter("calls")
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(1, 20))
    agreed = await sandbox.subscribe(ada, plan, trial_days=10)
    await sandbox.travel(day(1, 29))
    extended = await sandbox.client.subscriptions.ExtendTrial(
        subscriptions.ExtendTrialRequest(id=agreed.id, trial_end_time=_stamp(day(2, 5)))
    )
    assert extended.state == Subscription.TRIALING
    await sandbox.travel(day(2, 1))
    assert await sandbox.invoices(ada) == []
    await sandbox.travel(day(2, 6))
    await sandbox.use(usage(ada, "calls", day(2, 4), "100", event_id="free"))
    await sandbox.use(usage(ada, "calls", day(2, 5), "10", event_id="billed"))
    await sandbox.travel(day(3, 6))

    assert sorted(all_billed(await sandbox.invoices(ada))) == [
        Billed("2026-02-05", "2026-03-05", "1", "1/1", "30.00 EUR"),
        Billed("2026-02-05", "2026-03-05", "10", "1/1", "5.00 EUR"),
        Billed("2026-03-05", "2026-04-05", "1", "1/1", "30.00 EUR"),
    ]


@pytest.mark.thorough  # conformance tells it as own-pause-credit-over-the-end
async def test_a_pause_across_a_boundary(sandbox: Sandbox) -> None:
    """Paused from 16 June to 11 July with the unused time credited: June is half, July begins on the 11th."""
    plan = await sandbox.plan("suite", flat("fee", "31"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan)
    await sandbox.travel(day(6, 16))
    paused = await sandbox.client.subscriptions.PauseSubscription(
        subscriptions.PauseSubscriptionRequest(
            id=agreed.id, unused=SubscriptionChange.CREDIT, resume_time=_stamp(day(7, 11))
        )
    )
    assert paused.state == Subscription.PAUSED
    await sandbox.travel(day(8, 2))

    (resumed,) = await sandbox.subscriptions(ada)
    assert resumed.state == Subscription.ACTIVE
    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-01", "2026-07-01", "1", "1/1", "31.00 EUR"),
        # 31 x 15/30 are owed back: with the first invoice that there is something to take them off.
        Billed("2026-06-16", "2026-07-01", "1", "1/2", "-15.50 EUR", "CREDIT"),
        Billed("2026-07-11", "2026-08-01", "1", "21/31", "21.00 EUR"),
        Billed("2026-08-01", "2026-09-01", "1", "1/1", "31.00 EUR"),
    ]


async def test_a_start_that_lies_three_periods_back(sandbox: Sandbox) -> None:
    """All of it is billed at once, period by period, and the usage of then with it."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("suite", flat("fee", "30"), per_unit("calls", "1", meter="calls"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(4, 20))
    await sandbox.use(usage(ada, "calls", day(2, 14), "7", event_id="february"))
    await sandbox.subscribe(ada, plan, start=day(1, 10))
    await sandbox.travel(day(4, 21))

    assert sorted(all_billed(await sandbox.invoices(ada))) == sorted(
        [
            Billed("2026-01-10", "2026-02-10", "1", "1/1", "30.00 EUR"),
            Billed("2026-02-10", "2026-03-10", "1", "1/1", "30.00 EUR"),
            Billed("2026-03-10", "2026-04-10", "1", "1/1", "30.00 EUR"),
            Billed("2026-04-10", "2026-05-10", "1", "1/1", "30.00 EUR"),
            Billed("2026-01-10", "2026-02-10", "0", "1/1", "0.00 EUR"),
            Billed("2026-02-10", "2026-03-10", "7", "1/1", "7.00 EUR"),
            Billed("2026-03-10", "2026-04-10", "0", "1/1", "0.00 EUR"),
        ]
    )


@pytest.mark.thorough  # conformance tells it as own-none-up
async def test_a_change_without_proration_waits_for_the_next_period(sandbox: Sandbox) -> None:
    """The seats are there at once, and are paid for from the next month on."""
    seats = await sandbox.plan("seats", per_unit("seat", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, seats, quantities={"seat": "2"})
    await sandbox.travel(day(6, 16))
    changed = await change(sandbox, agreed, set_quantity(agreed, "9"), proration=SubscriptionChange.NONE)
    assert changed.items[0].quantity.value == "9"
    await sandbox.travel(day(7, 1) + timedelta(hours=1))

    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-01", "2026-07-01", "2", "1/1", "20.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "9", "1/1", "90.00 EUR"),
    ]


def _stamp(time: datetime) -> Timestamp:
    return wire.timestamp(time)
