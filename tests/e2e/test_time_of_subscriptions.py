"""Calendars, clocks and anchors: where every peer has billed something twice, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tests.support.changes import Billed, all_billed, change, set_billing_day
from tests.support.sandbox import Sandbox, flat, per_unit, text, usage

YEARLY = BillingInterval(unit=BillingInterval.YEAR, count=1)


@pytest.mark.thorough  # conformance tells it as own-anchor-31-leap-cancel
async def test_the_31st_through_february_of_a_leap_year(sandbox: Sandbox) -> None:
    """31 January, 29 February, 31 March: clamped where it must be, and back again."""
    plan = await sandbox.plan("suite", flat("fee", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(datetime(2028, 1, 31, tzinfo=UTC))
    await sandbox.subscribe(ada, plan)
    await sandbox.travel(datetime(2028, 5, 1, tzinfo=UTC))

    assert [(line.start, line.end) for line in all_billed(await sandbox.invoices(ada))] == [
        ("2028-01-31", "2028-02-29"),
        ("2028-02-29", "2028-03-31"),
        ("2028-03-31", "2028-04-30"),
        ("2028-04-30", "2028-05-31"),
    ]


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", pytest.param("Pacific/Chatham", marks=pytest.mark.thorough)])
async def test_months_in_zones_of_half_and_three_quarter_hours(sandbox: Sandbox, zone: str) -> None:
    """Civil midnight of the first, before and after the clocks change: each reading is in exactly one month."""
    place = ZoneInfo(zone)
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("litre", "1", meter="water"))
    ada = await sandbox.customer("ada", time_zone=zone, token="sim:ok")
    midnights = [datetime(2026, month, 1, tzinfo=place).astimezone(UTC) for month in (3, 4, 5, 6)]
    await sandbox.travel(midnights[0])
    await sandbox.subscribe(ada, plan, billing_day=1)
    instant = timedelta(microseconds=1)
    for n, midnight in enumerate(midnights[1:]):
        await sandbox.travel(midnight)
        await sandbox.use(
            usage(ada, "water", midnight - instant, "1", event_id=f"before {n}"),
            usage(ada, "water", midnight, "10", event_id=f"after {n}"),
        )
    await sandbox.travel(midnights[3] + timedelta(days=1))

    invoices = await sandbox.invoices(ada)
    counted: dict[datetime, str] = {}
    for invoice in invoices:
        for line in invoice.line_items:
            counted[line.period.start_time.ToDatetime(UTC)] = line.usage.quantity.value
    assert counted == dict(zip(midnights[:3], ["1", "11", "11"], strict=True))


async def test_yearly_and_monthly_in_one_subscription(sandbox: Sandbox) -> None:
    """The licence once a year, the support every month, each with its own periods, from one anchor."""
    plan = await sandbox.plan("suite", flat("licence", "1200", interval=YEARLY), flat("support", "50"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(datetime(2026, 3, 15, tzinfo=UTC))
    await sandbox.subscribe(ada, plan)
    await sandbox.travel(datetime(2027, 4, 16, tzinfo=UTC))

    lines = all_billed(await sandbox.invoices(ada))
    assert [line for line in lines if line.amount == "1200.00 EUR"] == [
        Billed("2026-03-15", "2027-03-15", "1", "1/1", "1200.00 EUR"),
        Billed("2027-03-15", "2028-03-15", "1", "1/1", "1200.00 EUR"),
    ]
    months = [line for line in lines if line.amount == "50.00 EUR"]
    assert len(months) == 14
    assert all(before.end == after.start for before, after in pairwise(months))


async def test_five_subscriptions_are_aligned_to_the_first(sandbox: Sandbox) -> None:
    """Begun on five days, from then on billed together: each pays a part up to the first, and nothing twice."""
    plan = await sandbox.plan("suite", flat("fee", "30"))
    ada = await sandbox.customer("ada", token="sim:ok")
    days = (3, 9, 14, 21, 28)
    for day in days:
        await sandbox.travel(datetime(2026, 6, day, tzinfo=UTC))
        await sandbox.subscribe(ada, plan)
    await sandbox.travel(datetime(2026, 6, 29, tzinfo=UTC))
    aligned = await sandbox.client.subscriptions.AlignSubscriptions(
        subscriptions.AlignSubscriptionsRequest(customer_id=ada.id, billing_day=1)
    )
    assert len(aligned.subscriptions) == len(days)
    await sandbox.travel(datetime(2026, 9, 2, tzinfo=UTC))

    invoices = await sandbox.invoices(ada)
    parts = [line for line in all_billed(invoices) if line.start[8:] != "01" and line.end == "2026-08-01"]
    # What was paid in June lasts to the day in July; from there to 1 August is a part of July's 31 days.
    assert [(line.start, line.share) for line in parts] == [(f"2026-07-{day:02}", f"{32 - day}/31") for day in days]
    september = invoices[-1]
    assert [line.start for line in all_billed([september])] == ["2026-09-01"] * len(days)
    assert text(september.total) == "150.00 EUR"


@pytest.mark.thorough  # conformance tells it as own-billing-day-moves
async def test_a_billing_day_that_moves_bills_nothing_twice(sandbox: Sandbox) -> None:
    """From the 20th to the 17th: paid until 20 July, 28 of the 31 days up to 17 August, then whole months."""
    plan = await sandbox.plan("suite", flat("fee", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(datetime(2026, 6, 20, tzinfo=UTC))
    agreed = await sandbox.subscribe(ada, plan)
    await sandbox.travel(datetime(2026, 7, 4, tzinfo=UTC))
    await change(sandbox, agreed, set_billing_day(17))
    await sandbox.travel(datetime(2026, 8, 18, tzinfo=UTC))

    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-20", "2026-07-20", "1", "1/1", "10.00 EUR"),
        Billed("2026-07-20", "2026-08-17", "1", "28/31", "9.03 EUR"),
        Billed("2026-08-17", "2026-09-17", "1", "1/1", "10.00 EUR"),
    ]
