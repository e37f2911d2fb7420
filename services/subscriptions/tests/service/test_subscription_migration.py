"""Subscriptions that older releases wrote, as this one goes on with them: billed as before, and told no tale twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import pytest

from common import ids, wire
from common.migrate import migrate
from common.testing import Suite
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service import conftest

pytestmark = pytest.mark.own_services

STATE = subscription_pb2.Subscription.State
SEATS: Final = ("MONTH", "IN_ADVANCE", "", 2)
CALLS: Final = ("MONTH", "IN_ARREARS", "api_calls", None)
SETUP: Final = ("ONCE", "IN_ADVANCE", "", 1)


def day(month: int, number: int = 1, *, hour: int = 0, year: int = 2025) -> datetime:
    """The sandbox begins with 2026: what is there was written in the year before."""
    return datetime(year, month, number, hour, tzinfo=UTC)


def told(suite: Suite, kind: type[Any]) -> list[tuple[str, int]]:  # Any: one of the events
    return [(each.subscription.id, each.subscription.state) for each in suite.announced(kind)]


class OlderRelease:
    """A database as the release before the log of decisions left it."""

    def __init__(self, connection: asyncpg.Connection, seller: str, plan_id: str) -> None:
        self._connection = connection
        self._seller = seller
        self._plan_id = plan_id

    async def subscription(
        self,
        state: str,
        start: datetime,
        *items: tuple[str, str, str, int | None],
        anchor: datetime | None = None,
        pauses: Sequence[tuple[datetime, datetime | None]] = (),
        followed_up: bool = False,
        **columns: datetime | str | None,
    ) -> subscription_pb2.Subscription:
        """What it wrote, and of whom."""
        create = columns.pop("create_time", start)
        row: dict[str, Any] = {  # Any: columns of many types
            "id": ids.mint("sub", day(1)),
            "customer_id": ids.mint("cus", day(1)),
            "plan_id": self._plan_id,
            "state": state,
            "currency": "EUR",
            "time_zone": "UTC",
            "start_time": start,
            "billing_anchor": anchor or columns.get("trial_end_time") or start,
            "periods_ended_through": start,
            "revision": 4,
            "create_time": create,
            "update_time": create,
            **columns,
        }
        await self._insert(
            "customers",
            id=row["customer_id"],
            display_name="Ada",
            email="",
            address=b"",
            currency="EUR",
            time_zone=row["time_zone"],
            language_code="en",
            net_terms_days=0,
            collection_method="SEND_INVOICE",
            revision=1,
            create_time=create,
            update_time=create,
        )
        await self._insert("subscriptions", **row)
        item_ids = [ids.mint("subi", day(1)) for _ in items]
        for n, (item_id, (unit, timing, meter, quantity)) in enumerate(zip(item_ids, items, strict=True)):
            await self._insert(
                "subscription_items",
                id=item_id,
                subscription_id=row["id"],
                position=n,
                price_id=ids.mint("price", day(1)),
                interval_unit=unit,
                interval_count=1,
                billing_timing=timing,
                meter=meter,
                quantity=quantity,
            )
        for start_time, end_time in pauses:
            await self._insert("pauses", subscription_id=row["id"], start_time=start_time, end_time=end_time)
        if followed_up:
            await self._insert("dunning_campaigns", subscription_id=row["id"], id="dcam_1", revision=1, is_open=True)
        return subscription_pb2.Subscription(
            id=row["id"],
            customer_id=row["customer_id"],
            items=[subscription_pb2.SubscriptionItem(id=item_id) for item_id in item_ids],
        )

    async def _insert(self, table: str, **columns: object) -> None:
        columns["seller_id"] = self._seller
        places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        await self._connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", *columns.values()
        )


async def test_what_was_agreed_before_is_billed_as_before(suite: Suite) -> None:
    """Whatever state it was in; each happening is told once, by the old release or by this one."""
    await suite.start("catalog")
    shop = conftest.Shop(suite)
    plan = await shop.plan(shop.price("seats"))
    url = await suite.databases.create("subscriptions_before_the_log")
    suite.urls["subscriptions"] = url
    await migrate(url, "subscriptions", revision="0004")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        old = OlderRelease(connection, suite.seller, plan.id)
        pending = await old.subscription(
            *("PENDING", day(2, year=2026), SEATS),
            create_time=day(12, 20),
            next_period_end_time=day(3, year=2026),
        )
        trialing = await old.subscription(
            *("TRIALING", day(12, 25, hour=9), SEATS, CALLS),
            time_zone="Europe/London",
            trial_end_time=day(1, 8, hour=9, year=2026),
            next_period_end_time=day(2, 8, hour=9, year=2026),
        )
        tried = await old.subscription(
            *("ACTIVE", day(10), SEATS),
            trial_end_time=day(10, 15),
            periods_ended_through=day(12, 15),
            next_period_end_time=day(1, 15, year=2026),
        )
        just_tried = await old.subscription(
            *("ACTIVE", day(12), SEATS), trial_end_time=day(12, 20), next_period_end_time=day(1, 20, year=2026)
        )
        paused = await old.subscription(
            *("PAUSED", day(9), SEATS, CALLS),
            pauses=[(day(10, 11), day(11, 6)), (day(12, 11), None)],
            periods_ended_through=day(12),
            next_period_end_time=day(1, year=2026),
        )
        left = await old.subscription(
            *("CANCELLED", day(11), SEATS, CALLS),
            notice_time=day(11, 20),
            cancel_time=day(12),
            end_time=day(12),
            periods_ended_through=day(12),
        )
        leaving = await old.subscription(
            *("ACTIVE", day(12, 10), SEATS),
            notice_time=day(12, 20),
            cancel_time=day(1, 10, year=2026),
            next_period_end_time=day(1, 10, year=2026),
        )
        gone = await old.subscription(
            *("CANCELLED", day(11), SEATS, CALLS), end_time=day(12, 11), periods_ended_through=day(12)
        )
        gone_sooner = await old.subscription(
            *("CANCELLED", day(12, 10), SEATS),
            notice_time=day(12, 20),
            cancel_time=day(1, 10, year=2026),
            end_time=day(12, 25),
        )
        never_begun = await old.subscription(
            *("CANCELLED", day(2, year=2026), SEATS), create_time=day(12, 20), end_time=day(12, 22)
        )
        on_the_31st = await old.subscription(
            *("ACTIVE", day(11, 10), SEATS),
            anchor=day(12, 31),
            periods_ended_through=day(12, 31),
            next_period_end_time=day(1, 31, year=2026),
        )
        overdue = await old.subscription(
            *("PAST_DUE", day(12, 2), SETUP, SEATS), next_period_end_time=day(1, 2, year=2026), followed_up=True
        )
    finally:
        await connection.close()
    await migrate(url, "subscriptions")
    await suite.start("subscriptions")

    async def bills(subscription: Any, item: int | None = None) -> list[str]:  # Any: a Subscription
        due = await shop.due(customer_pb2.Customer(id=subscription.customer_id), through=day(3, year=2026))
        return shop.billed(due.periods, None if item is None else subscription.items[item])

    assert await bills(pending) == [
        "OWED 2 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        "OWED 2 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
    ]
    assert await bills(trialing) == [
        "OWED 2 × 2026-01-08T09:00:00..2026-02-08T09:00:00 1/1 on 2026-01-08T09:00:00",
        "OWED 2 × 2026-02-08T09:00:00..2026-03-08T09:00:00 1/1 on 2026-02-08T09:00:00",
        "OWED 2026-01-08T09:00:00..2026-02-08T09:00:00 1/1 on 2026-02-08T09:00:00",
    ]
    assert await bills(tried) == [
        f"OWED 2 × {start}..{end} 1/1 on {start}"
        for start, end in (
            ("2025-10-15", "2025-11-15"),
            ("2025-11-15", "2025-12-15"),
            ("2025-12-15", "2026-01-15"),
            ("2026-01-15", "2026-02-15"),
            ("2026-02-15", "2026-03-15"),
        )
    ]
    assert (await bills(just_tried))[0] == "OWED 2 × 2025-12-20..2026-01-20 1/1 on 2025-12-20"
    assert await bills(paused, 0) == [
        "OWED 2 × 2025-09-01..2025-10-01 1/1 on 2025-09-01",
        "OWED 2 × 2025-10-01..2025-11-01 1/1 on 2025-10-01",
        "OWED 2 × 2025-11-06..2025-12-01 5/6 on 2025-11-06",
        "OWED 2 × 2025-12-01..2026-01-01 1/1 on 2025-12-01",
    ]
    assert await bills(paused, 1) == [
        "OWED 2025-09-01..2025-10-01 1/1 on 2025-10-01",
        "OWED 2025-10-01..2025-10-11 10/31 on 2025-11-01",
        "OWED 2025-11-06..2025-12-01 5/6 on 2025-12-01",
        "OWED 2025-12-01..2025-12-11 10/31 on 2026-01-01",
    ]
    assert await bills(left) == [
        "OWED 2 × 2025-11-01..2025-12-01 1/1 on 2025-11-01",
        "OWED 2025-11-01..2025-12-01 1/1 on 2025-12-01",
    ]
    assert await bills(leaving) == ["OWED 2 × 2025-12-10..2026-01-10 1/1 on 2025-12-10"]
    assert await bills(gone) == [
        "OWED 2 × 2025-11-01..2025-12-01 1/1 on 2025-11-01",
        "OWED 2 × 2025-12-01..2026-01-01 1/1 on 2025-12-01",
        "OWED 2025-11-01..2025-12-01 1/1 on 2025-12-01",
        "OWED 2025-12-01..2025-12-11 10/31 on 2025-12-11",
    ]
    assert await bills(gone_sooner) == ["OWED 2 × 2025-12-10..2026-01-10 1/1 on 2025-12-10"]
    assert await bills(never_begun) == []
    assert await bills(on_the_31st) == [
        "OWED 2 × 2025-11-10..2025-11-30 2/3 on 2025-11-10",
        "OWED 2 × 2025-11-30..2025-12-31 1/1 on 2025-11-30",
        "OWED 2 × 2025-12-31..2026-01-31 1/1 on 2025-12-31",
        "OWED 2 × 2026-01-31..2026-02-28 1/1 on 2026-01-31",
        "OWED 2 × 2026-02-28..2026-03-31 1/1 on 2026-02-28",
    ]
    assert await bills(overdue) == [
        "OWED 1 × 2025-12-02..2025-12-03 1/1 on 2025-12-02",
        "OWED 2 × 2025-12-02..2026-01-02 1/1 on 2025-12-02",
        "OWED 2 × 2026-01-02..2026-02-02 1/1 on 2026-01-02",
        "OWED 2 × 2026-02-02..2026-03-02 1/1 on 2026-02-02",
    ]

    states = {
        "PENDING": [pending],
        "TRIALING": [trialing],
        "ACTIVE": [tried, just_tried, leaving, on_the_31st],
        "PAST_DUE": [overdue],
        "PAUSED": [paused],
        "CANCELLED": [left, gone, gone_sooner, never_begun],
    }
    for state, subscriptions in states.items():
        for each in subscriptions:
            found = await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=each.id))
            assert (found.state, found.plan_id) == (STATE.Value(state), plan.id)
    leaves = await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=leaving.id))
    assert leaves.cancel_time == wire.timestamp(day(1, 10, year=2026))

    await suite.travel(day(2, year=2026))
    assert told(suite, events_pb2.SubscriptionActivated) == [(trialing.id, STATE.ACTIVE), (pending.id, STATE.ACTIVE)]
    assert told(suite, events_pb2.SubscriptionCancelled) == [(leaving.id, STATE.CANCELLED)]
    for kind in (
        events_pb2.SubscriptionTrialStarted,
        events_pb2.SubscriptionPaused,
        events_pb2.SubscriptionResumed,
        events_pb2.SubscriptionPastDue,
    ):
        assert told(suite, kind) == []
    ended = {
        (each.subscription.id, each.period.end_time.ToDatetime(UTC))
        for each in suite.announced(events_pb2.BillingPeriodEnded)
    }
    assert ended == {
        (paused.id, day(1, year=2026)),
        (overdue.id, day(1, 2, year=2026)),
        (leaving.id, day(1, 10, year=2026)),
        (tried.id, day(1, 15, year=2026)),
        (just_tried.id, day(1, 20, year=2026)),
        (on_the_31st.id, day(1, 31, year=2026)),
    }
    # Life goes on: what was paused is resumed, and a part is billed.
    await suite.travel(day(2, 15, year=2026))
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=paused.id))
    assert (await bills(paused, 0))[4:] == [
        "OWED 2 × 2026-02-15..2026-03-01 1/2 on 2026-02-15",
        "OWED 2 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
    ]
