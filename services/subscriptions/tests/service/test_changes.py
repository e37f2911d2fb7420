"""Changes of subscriptions: when they take effect, at whose expense, and what is billed for it.

January has 31 days: what changes on the 11th concerns 21 of them.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2

from common import wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2
from saldo.subscriptions.v1 import events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Change = subscription_pb2.SubscriptionChange
Item = subscription_pb2.SubscriptionItem
STATE = subscription_pb2.Subscription.State
EARLIER = "OWED 5 × 2026-01-01..2026-02-01 1/1 on 2026-01-01"


def day(month: int, number: int = 1, *, hour: int = 0, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, hour, tzinfo=UTC)


def decimal(quantity: int | str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=str(quantity))


def set_quantity(item: Item, quantity: int | str) -> Action:
    return Action(set_quantity=Action.SetQuantity(item_id=item.id, quantity=decimal(quantity)))


def add_item(price_id: str, quantity: int | None = None) -> Action:
    return Action(add_item=Action.AddItem(price_id=price_id, quantity=None if quantity is None else decimal(quantity)))


def remove_item(item: Item) -> Action:
    return Action(remove_item=Action.RemoveItem(item_id=item.id))


async def five_seats(shop: Any, **changes: Any) -> tuple[Any, Any, Item]:  # Any: customer and subscription
    """A subscription to 5 seats a month from the first of January, in advance, and who has it."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"), shop.price("disk"))
    items = [subscription_pb2.ItemSpec(price_id=plan.prices[0].id, quantity=decimal(5))]
    subscription = await shop.subscribe(ada, plan, items=items, **changes)
    return ada, subscription, subscription.items[0]


async def plan_of(shop: Any, subscription: subscription_pb2.Subscription) -> plan_pb2.Plan:
    plan: plan_pb2.Plan = await shop.catalog.GetPlan(catalog_service_pb2.GetPlanRequest(id=subscription.plan_id))
    return plan


async def bills(shop: Any, customer: Any, through: datetime, item: Item | None = None) -> list[str]:
    lines: list[str] = shop.billed((await shop.due(customer, through=through)).periods, item)
    return lines


async def test_more_seats_now(suite: Suite, shop: Any) -> None:
    """The rest of the month is credited for five and billed for eight; the next month is billed for eight."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, set_quantity(seats, 8))
    assert [(item.id, item.quantity.value) for item in changed.items] == [(seats.id, "8")]
    assert (changed.revision, changed.update_time) == (2, wire.timestamp(day(1, 11)))
    assert await bills(shop, ada, day(2)) == [
        EARLIER,
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]
    [change] = await shop.log(subscription)
    schedule = await shop.due(ada, through=day(2))
    assert [period.change_id for period in schedule.periods] == ["", change.id, change.id, ""]


@pytest.mark.parametrize(
    ("quantity", "how", "expected"),
    [
        (
            3,
            {"unused": Change.CREDIT},
            [
                "CREDIT 5 × 2026-01-11T12:00:00..2026-02-01 21/31 on 2026-01-11T12:00:00",
                "OWED 3 × 2026-01-11T12:00:00..2026-02-01 21/31 on 2026-01-11T12:00:00",
                "OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
            ],
        ),
        (3, {"unused": Change.KEEP}, ["OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]),
        (
            8,
            {"unused": Change.KEEP},
            [
                "CREDIT 5 × 2026-01-11T12:00:00..2026-02-01 21/31 on 2026-01-11T12:00:00",
                "OWED 8 × 2026-01-11T12:00:00..2026-02-01 21/31 on 2026-01-11T12:00:00",
                "OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
            ],
        ),
        (8, {"proration": Change.NONE}, ["OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]),
        (3, {"proration": Change.NONE}, ["OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]),
        (
            8,
            {"proration": Change.BY_SECOND},
            [
                "CREDIT 5 × 2026-01-11T12:00:00..2026-02-01 41/62 on 2026-01-11T12:00:00",
                "OWED 8 × 2026-01-11T12:00:00..2026-02-01 41/62 on 2026-01-11T12:00:00",
                "OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
            ],
        ),
    ],
)
async def test_at_whose_expense_a_change_is(
    suite: Suite, shop: Any, quantity: int, how: dict[str, Any], expected: list[str]
) -> None:
    """As the caller says: by days, by time or not at all; credited, or kept as far as it covers what is wanted."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11, hour=12))
    changed = await shop.change(subscription, set_quantity(seats, quantity), **how)
    assert changed.items[0].quantity.value == str(quantity)
    assert await bills(shop, ada, day(2)) == [EARLIER, *expected]


async def test_a_subscription_says_how_its_parts_are_measured(suite: Suite, shop: Any) -> None:
    """Unless a change says otherwise."""
    ada, subscription, seats = await five_seats(shop, proration=Change.BY_SECOND)
    assert subscription.proration == Change.BY_SECOND
    await suite.travel(day(1, 11, hour=12))
    await shop.change(subscription, set_quantity(seats, 8))
    await suite.travel(day(1, 21, hour=12))
    await shop.change(subscription, set_quantity(seats, 9), proration=Change.BY_DAY)
    assert [line.split()[-3] for line in await bills(shop, ada, day(1, 31))] == [
        "1/1",
        *["41/62"] * 2,
        *["21/62", "11/31"],
    ]
    assert [change.proration for change in await shop.log(subscription)] == [Change.BY_SECOND, Change.BY_DAY]


async def test_a_change_in_the_past_of_the_period_under_way(suite: Suite, shop: Any) -> None:
    """Billed when it was decided, for the time since it was true. What is before that is closed, and the refusal says
    from when on a change is possible.
    """
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    await shop.change(subscription, set_quantity(seats, 8), at=day(1, 6))
    assert await bills(shop, ada, day(1, 31)) == [
        EARLIER,
        "CREDIT 5 × 2026-01-06..2026-02-01 26/31 on 2026-01-11",
        "OWED 8 × 2026-01-06..2026-02-01 26/31 on 2026-01-11",
    ]
    before = await shop.stored()
    with refused("CHANGE_TOO_EARLY", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.change(subscription, set_quantity(seats, 9), at=day(1, 6) - timedelta(microseconds=1))
    assert refusal.metadata["earliest_time"] == day(1, 6).isoformat()
    assert await shop.stored() == before
    await shop.change(subscription, set_quantity(seats, 9), at=day(1, 6))

    await suite.travel(day(2, 11))
    with refused("CHANGE_TOO_EARLY", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.change(subscription, set_quantity(seats, 10), at=day(2) - timedelta(microseconds=1))
    assert refusal.metadata == {"subscription": subscription.id, "earliest_time": day(2).isoformat()}
    changed = await shop.change(subscription, set_quantity(seats, 10), at=day(2))
    assert changed.items[0].quantity.value == "10"


async def test_two_changes_on_one_day(suite: Suite, shop: Any) -> None:
    """Only the later one is left of that day: it belongs to what begins on it. By the second both are there."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11, hour=9))
    await shop.change(subscription, set_quantity(seats, 8))
    await suite.travel(day(1, 11, hour=17))
    await shop.change(subscription, set_quantity(seats, 6))
    assert await bills(shop, ada, day(1, 31)) == [
        EARLIER,
        "CREDIT 5 × 2026-01-11T09:00:00..2026-02-01 21/31 on 2026-01-11T09:00:00",
        "OWED 8 × 2026-01-11T09:00:00..2026-02-01 21/31 on 2026-01-11T09:00:00",
        "CREDIT 8 × 2026-01-11T17:00:00..2026-02-01 21/31 on 2026-01-11T17:00:00",
        "OWED 6 × 2026-01-11T17:00:00..2026-02-01 21/31 on 2026-01-11T17:00:00",
    ]


async def test_nothing_changes_after_the_end(suite: Suite, shop: Any) -> None:
    """Neither an end that is decided nor one that has come; what was scheduled for later is revoked with the end."""
    _, subscription, seats = await five_seats(shop)
    await shop.change(subscription, set_quantity(seats, 2), at=day(3))
    await shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(id=subscription.id, timing=pb.CancelSubscriptionRequest.PERIOD_END)
    )
    [late, _] = await shop.log(subscription)
    assert late.state == Change.REVOKED
    with refused("CHANGE_AFTER_END", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.change(subscription, set_quantity(seats, 2), at=day(2))
    await shop.change(subscription, set_quantity(seats, 7), at=day(1, 31))
    await suite.travel(day(2))
    for timing in (Change.NOW, Change.PERIOD_END):
        with refused("SUBSCRIPTION_NOT_CHANGEABLE", grpc.StatusCode.FAILED_PRECONDITION):
            await shop.change(subscription, set_quantity(seats, 2), timing=timing)


async def test_a_repeated_request_changes_once(suite: Suite, shop: Any) -> None:
    """Ten at once make one change; with other actions the key is refused."""
    _, subscription, seats = await five_seats(shop)
    answers = await asyncio.gather(
        *(shop.change(subscription, set_quantity(seats, 8), request_id="r1") for _ in range(10))
    )
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    with refused("REQUEST_ID_REUSED"):
        await shop.change(subscription, set_quantity(seats, 9), request_id="r1")
    assert len(await shop.log(subscription)) == 1
    await suite.quiet()
    assert len(suite.announced(events_pb2.SubscriptionChanged)) == 1


async def test_the_log_has_every_quantity(suite: Suite, shop: Any) -> None:
    """In the order decided, in pages, each once, whoever changed at the same time."""
    _, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    await asyncio.gather(*(shop.change(subscription, set_quantity(seats, 10 + n)) for n in range(5)))
    seen, token = [], ""
    for _ in range(5):
        page = await shop.api.ListSubscriptionChanges(
            pb.ListSubscriptionChangesRequest(subscription_id=subscription.id, page_size=2, page_token=token)
        )
        seen += [change.actions[0].set_quantity.quantity.value for change in page.changes]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == [str(10 + n) for n in range(5)]
    found = await shop.find(subscription)
    assert (found.items[0].quantity.value, found.revision) == (seen[-1], 6)


async def test_a_change_before_the_start(suite: Suite, shop: Any) -> None:
    """What begins later begins as it is agreed by then: nothing of what was agreed before is ever billed."""
    ada, subscription, seats = await five_seats(shop, start_time=wire.timestamp(day(2)))
    changed = await shop.change(subscription, set_quantity(seats, 8))
    assert (changed.state, changed.items[0].quantity.value) == (STATE.PENDING, "8")
    assert await bills(shop, ada, day(2)) == ["OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]
    await suite.travel(day(2))
    assert await bills(shop, ada, day(2)) == ["OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]
