"""Changes of subscriptions: what each action does, when, and what is billed for it.

January has 31 days: what changes on the 11th concerns 21 of them.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2, money_pb2

from common import ids, wire
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
COUPON = "coup_" + "0" * 26


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


def set_price(item: Item, price_id: str) -> Action:
    return Action(set_price=Action.SetPrice(item_id=item.id, price_id=price_id))


def change_plan(plan: plan_pb2.Plan, *items: subscription_pb2.ItemSpec) -> Action:
    return Action(change_plan=Action.ChangePlan(plan_id=plan.id, items=items))


def add_add_on(plan: plan_pb2.Plan, *items: subscription_pb2.ItemSpec) -> Action:
    return Action(add_add_on=Action.AddAddOn(plan_id=plan.id, items=items))


def remove_add_on(plan: plan_pb2.Plan) -> Action:
    return Action(remove_add_on=Action.RemoveAddOn(plan_id=plan.id))


def money(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="EUR", units=units)


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


async def test_a_change_at_the_periods_end(suite: Suite, shop: Any) -> None:
    """Announced when it is decided and, by itself, when it comes; until then everything is as it was."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, set_quantity(seats, 3), timing=Change.PERIOD_END)
    assert changed.items == subscription.items
    [change] = await shop.log(subscription)
    assert (change.state, change.effective_time) == (Change.SCHEDULED, wire.timestamp(day(2)))
    assert change.create_time == wire.timestamp(day(1, 11))
    assert await shop.log(subscription, "SCHEDULED") == [change]
    assert await shop.log(subscription, "IN_EFFECT") == []
    await suite.quiet()
    [told] = suite.announced(events_pb2.SubscriptionChanged)
    assert (told.subscription, told.change) == (changed, change)

    await suite.travel(day(2))
    [in_effect] = await shop.log(subscription)
    assert in_effect.state == Change.IN_EFFECT
    later = await shop.find(subscription)
    assert (later.items[0].quantity.value, later.revision) == ("3", 3)
    _, told = suite.announced(events_pb2.SubscriptionChanged)
    assert (told.subscription, told.change) == (later, in_effect)
    assert await bills(shop, ada, day(2)) == [EARLIER, "OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]


async def test_a_change_at_a_time_to_come(suite: Suite, shop: Any) -> None:
    """It is in the schedule as soon as it is decided, with the bill time at which it comes."""
    ada, subscription, seats = await five_seats(shop)
    await shop.change(subscription, set_quantity(seats, 6), at=day(1, 20))
    expected = [
        EARLIER,
        "CREDIT 5 × 2026-01-20..2026-02-01 12/31 on 2026-01-20",
        "OWED 6 × 2026-01-20..2026-02-01 12/31 on 2026-01-20",
    ]
    assert await bills(shop, ada, day(1, 31)) == expected
    assert (await shop.due(ada, through=day(1, 2))).next_bill_time == wire.timestamp(day(1, 20))
    await suite.travel(day(1, 31))
    assert await bills(shop, ada, day(1, 31)) == expected


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


async def test_an_item_more_and_an_item_less(suite: Suite, shop: Any) -> None:
    """A part for the first period; what was billed for the rest of the last one is credited."""
    ada, subscription, seats = await five_seats(shop)
    plan = await plan_of(shop, subscription)
    disk_price = plan.prices[1].id
    await suite.travel(day(1, 11))
    more = await shop.change(subscription, add_item(disk_price, 2))
    disk = more.items[1]
    assert (disk.price_id, disk.quantity.value, disk.plan_id) == (disk_price, "2", subscription.plan_id)
    assert ids.prefix_of(disk.id) == "subi"
    [change] = await shop.log(subscription)
    assert change.actions == [
        Action(
            add_item=Action.AddItem(
                price_id=disk_price, quantity=decimal(2), item_id=disk.id, plan_id=subscription.plan_id
            )
        )
    ]
    await suite.travel(day(2, 15))
    less = await shop.change(subscription, remove_item(disk))
    assert less.items == subscription.items
    assert await bills(shop, ada, day(3), disk) == [
        "OWED 2 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 2 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        "CREDIT 2 × 2026-02-15..2026-03-01 1/2 on 2026-02-15",
    ]
    before = await shop.stored()
    with refused("ITEM_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.change(subscription, remove_item(disk))
    with refused("NO_ITEMS_LEFT", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.change(subscription, remove_item(seats))
    assert await shop.stored() == before


async def test_another_price_for_an_item(suite: Suite, shop: Any) -> None:
    """It stays the same item with its quantity. A price by the year begins its first year with the change."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("monthly"), shop.price("better"), shop.price("yearly", unit="YEAR"))
    monthly, better, yearly = (price.id for price in plan.prices)
    items = [subscription_pb2.ItemSpec(price_id=monthly, quantity=decimal(5))]
    subscription = await shop.subscribe(ada, plan, items=items)
    seats = subscription.items[0]
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, set_price(seats, better))
    assert [(item.id, item.price_id, item.quantity.value) for item in changed.items] == [(seats.id, better, "5")]
    await suite.travel(day(1, 21))
    await shop.change(subscription, set_price(seats, yearly))
    schedule = await shop.due(ada, through=day(12))
    assert shop.billed(schedule.periods) == [
        EARLIER,
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "CREDIT 5 × 2026-01-21..2026-02-01 11/31 on 2026-01-21",
        "OWED 5 × 2026-01-21..2027-01-21 1/1 on 2026-01-21",
    ]
    assert [period.price_id for period in schedule.periods] == [monthly, monthly, better, better, yearly]
    assert schedule.next_bill_time == wire.timestamp(day(1, 21, year=2027))


async def test_another_plan(suite: Suite, shop: Any) -> None:
    """What is for the same product stays the same item, as many as before; the rest comes and goes."""
    ada = await shop.customer()
    users = await shop.product()
    small, large = shop.price("seats"), shop.price("seats")
    small.product_id = large.product_id = users
    basic = await shop.plan(small, shop.metered("calls"))
    pro = await shop.plan(large, shop.price("support"))
    items = [
        subscription_pb2.ItemSpec(price_id=basic.prices[0].id, quantity=decimal(7)),
        subscription_pb2.ItemSpec(price_id=basic.prices[1].id),
    ]
    subscription = await shop.subscribe(ada, basic, items=items)
    seats, calls = subscription.items
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, change_plan(pro))
    support = changed.items[1]
    assert changed.plan_id == pro.id
    assert [(item.id, item.price_id, item.quantity.value, item.plan_id) for item in changed.items] == [
        (seats.id, pro.prices[0].id, "7", pro.id),
        (support.id, pro.prices[1].id, "1", pro.id),
    ]
    [change] = await shop.log(subscription)
    assert [action.WhichOneof("action") for action in change.actions] == [
        *("change_plan", "set_price", "add_item", "remove_item")
    ]
    assert change.actions[3].remove_item.item_id == calls.id
    assert await bills(shop, ada, day(1, 31), seats) == [
        "OWED 7 × 2026-01-01..2026-02-01 1/1 on 2026-01-01",
        "CREDIT 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
    ]
    assert await bills(shop, ada, day(2), calls) == ["OWED 2026-01-01..2026-01-11 10/31 on 2026-02-01"]
    assert await bills(shop, ada, day(1, 31), support) == ["OWED 1 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"]

    # What is said of an item is what it becomes.
    spec = subscription_pb2.ItemSpec(price_id=basic.prices[0].id, quantity=decimal(3))
    back = await shop.change(subscription, change_plan(basic, spec), timing=Change.PERIOD_END)
    assert back.plan_id == pro.id
    await suite.travel(day(2))
    back = await shop.find(subscription)
    assert [(item.id, item.price_id, item.quantity.value) for item in back.items] == [
        (seats.id, basic.prices[0].id, "3")
    ]
    assert await bills(shop, ada, day(2), seats) == [
        "OWED 7 × 2026-01-01..2026-02-01 1/1 on 2026-01-01",
        "CREDIT 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]


async def test_a_change_to_come_is_made_of_the_plan_of_that_time(shop: Any) -> None:
    """The plan changes with February; what is added to February is a price of the plan that there is then."""
    _, subscription, _ = await five_seats(shop)
    pro = await shop.plan(shop.price("seats"), shop.price("support"))
    await shop.change(subscription, change_plan(pro), timing=Change.PERIOD_END)
    support = add_item(pro.prices[1].id, 2)
    await shop.change(subscription, support, timing=Change.PERIOD_END)
    with refused("PRICE_NOT_IN_PLAN"):
        await shop.change(subscription, support)


async def test_what_was_negotiated_is_taken_when_the_plan_is_taken_whole(shop: Any) -> None:
    """Also when one of its prices is named beside it; and a price is replaced by a negotiated one by name."""
    ada, subscription, seats = await five_seats(shop)
    pro = await shop.plan(shop.price("seats"), shop.price("support"))
    contracts = []
    for listed in (pro.prices[0], (await plan_of(shop, subscription)).prices[0]):
        request = catalog_service_pb2.CreateContractPriceRequest(
            list_price_id=listed.id, customer_id=ada.id, price=shop.price("negotiated")
        )
        contracts.append((await shop.catalog.CreateContractPrice(request)).id)
    changed = await shop.change(subscription, set_price(seats, contracts[1]))
    assert [item.price_id for item in changed.items] == [contracts[1]]
    changed = await shop.change(subscription, change_plan(pro), add_item(pro.prices[1].id, 3))
    assert [(item.price_id, item.quantity.value) for item in changed.items] == [
        (contracts[0], "1"),
        (pro.prices[1].id, "1"),
        (pro.prices[1].id, "3"),
    ]


async def test_a_plan_must_be_open_to_be_changed_to(shop: Any) -> None:
    """A draft, an add-on or a plan without a price in the currency is no plan to change to."""
    _, subscription, _ = await five_seats(shop)
    draft = await shop.plan(shop.price("seats"), published=False)
    dollars = await shop.plan(shop.price("seats", currency="USD"))
    unknown = plan_pb2.Plan(id=ids.mint("plan", day(1)))
    before = await shop.stored()
    for reason, plan in (
        ("PLAN_NOT_SUBSCRIBABLE", draft),
        ("PLAN_NOT_SUBSCRIBABLE", await shop.plan(shop.price("extra"), add_on=True)),
        ("CURRENCY_NOT_OFFERED", dollars),
        ("PLAN_NOT_FOUND", unknown),
    ):
        with refused(reason):
            await shop.change(subscription, change_plan(plan))
    with refused("PLAN_NOT_SUBSCRIBABLE"):
        await shop.change(subscription, add_add_on(await shop.plan(shop.price("seats"))))
    assert await shop.stored() == before


async def test_add_ons_come_and_go_with_their_items(suite: Suite, shop: Any) -> None:
    """Each once at a time; its prices can be taken like the plan's for as long as it is there."""
    ada, subscription, seats = await five_seats(shop)
    backup = await shop.plan(shop.price("storage"), shop.price("restore"), add_on=True)
    await suite.travel(day(1, 11))
    spec = subscription_pb2.ItemSpec(price_id=backup.prices[0].id, quantity=decimal(4))
    taken = await shop.change(subscription, add_add_on(backup, spec))
    assert [(each.plan_id, each.start_time) for each in taken.add_ons] == [(backup.id, wire.timestamp(day(1, 11)))]
    storage = taken.items[1]
    assert (storage.price_id, storage.quantity.value, storage.plan_id) == (backup.prices[0].id, "4", backup.id)
    with refused("ADD_ON_TAKEN", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.change(subscription, add_add_on(backup))
    more = await shop.change(subscription, add_item(backup.prices[1].id))
    assert [item.plan_id for item in more.items] == [subscription.plan_id, backup.id, backup.id]
    left = await shop.change(subscription, remove_add_on(backup))
    assert (left.items, list(left.add_ons)) == (subscription.items, [])
    with refused("ADD_ON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.change(subscription, remove_add_on(backup))
    with refused("PRICE_NOT_IN_PLAN", grpc.StatusCode.INVALID_ARGUMENT):
        await shop.change(subscription, add_item(backup.prices[1].id))
    # Taken again it is another item of the same price.
    again = await shop.change(subscription, add_add_on(backup, spec))
    assert again.items[1].id not in {item.id for item in more.items}
    periods = (await shop.due(ada, through=day(1, 31))).periods
    assert {period.plan_id for period in periods if period.item_id != seats.id} == {backup.id}


async def test_periods_that_begin_on_another_day(suite: Suite, shop: Any) -> None:
    """What is billed stays; what follows it up to the new boundary is a part."""
    ada, subscription, _ = await five_seats(shop)
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, Action(set_billing_day=Action.SetBillingDay(billing_day=20)))
    assert (changed.billing_day, changed.billing_anchor) == (20, wire.timestamp(day(1, 20)))
    assert await bills(shop, ada, day(3)) == [
        EARLIER,
        "OWED 5 × 2026-02-01..2026-02-20 19/31 on 2026-02-01",
        "OWED 5 × 2026-02-20..2026-03-20 1/1 on 2026-02-20",
    ]
    back = await shop.change(subscription, Action(set_billing_day=Action.SetBillingDay()))
    assert (back.billing_day, back.billing_anchor) == (0, wire.timestamp(day(1, 11)))


async def test_coupons_are_applied_and_taken_off(suite: Suite, shop: Any) -> None:
    """To the periods that begin after it, as many as were given; what is billed already stays as it is."""
    ada, subscription, _ = await five_seats(shop)
    coupon = await shop.coupon()
    await suite.travel(day(1, 11))
    apply = Action(apply_discount=Action.ApplyDiscount(coupon_id=coupon, periods=2))
    changed = await shop.change(subscription, apply)
    [discount] = changed.discounts
    assert (discount.coupon_id, discount.periods, discount.periods_left) == (coupon, 2, 2)
    assert (discount.start_time, discount.end_time) == (wire.timestamp(day(1, 11)), wire.timestamp(day(4)))
    schedule = await shop.due(ada, through=day(5))
    assert [list(period.coupon_ids) for period in schedule.periods] == [[], [coupon], [coupon], [], []]
    await suite.travel(day(2, 10))
    [discount] = (await shop.find(subscription)).discounts
    assert (discount.periods, discount.periods_left) == (2, 1)
    off = await shop.change(subscription, Action(remove_discount=Action.RemoveDiscount(coupon_id=coupon)))
    assert not off.discounts
    schedule = await shop.due(ada, through=day(5))
    assert [list(period.coupon_ids) for period in schedule.periods] == [[], [coupon], [], [], []]
    with refused("DISCOUNT_NOT_APPLIED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.change(subscription, Action(remove_discount=Action.RemoveDiscount(coupon_id=coupon)))


async def test_terms_that_are_no_prices(suite: Suite, shop: Any) -> None:
    """A commitment, a term and a payer are agreed later, and ended again."""
    ada, subscription, _ = await five_seats(shop)
    payer = await shop.customer()
    await suite.travel(day(1, 20))
    commitment = subscription_pb2.Commitment(minimum=money(100), months=3)
    term = subscription_pb2.Term(months=12, notice_days=30)
    changed = await shop.change(
        subscription,
        Action(set_commitment=Action.SetCommitment(commitment=commitment)),
        Action(set_term=Action.SetTerm(term=term)),
        Action(set_payer=Action.SetPayer(payer_id=payer.id)),
    )
    assert (changed.commitment.minimum, changed.commitment.months) == (money(100), 3)
    assert changed.commitment.start_time == wire.timestamp(day(1, 20))
    assert (changed.term.months, changed.term.renewal, changed.term.notice_days) == (
        *(12, subscription_pb2.Term.RENEW, 30),
    )
    assert changed.term.period.end_time == wire.timestamp(day(1, year=2027))
    assert changed.payer_id == payer.id
    schedule = await shop.due(ada, through=day(3))
    assert [period.payer_id for period in schedule.periods] == ["", payer.id, payer.id]
    ended = await shop.change(
        subscription,
        Action(set_commitment=Action.SetCommitment()),
        Action(set_term=Action.SetTerm()),
        Action(set_payer=Action.SetPayer()),
    )
    assert (ended.HasField("commitment"), ended.HasField("term"), ended.payer_id) == (False, False, "")


async def test_a_payer_is_a_customer(shop: Any) -> None:
    """Or the invoices would go to nobody."""
    _, subscription, _ = await five_seats(shop)
    before = await shop.stored()
    stranger = Action(set_payer=Action.SetPayer(payer_id=ids.mint("cus", day(1))))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.change(subscription, stranger)
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.preview(subscription, stranger)
    assert await shop.stored() == before


async def test_an_amendment_is_whole_or_not_at_all(suite: Suite, shop: Any) -> None:
    """Several actions are one change, each seeing what those before it did; one that is bad spoils all."""
    _, subscription, seats = await five_seats(shop)
    plan = await plan_of(shop, subscription)
    extra = await shop.plan(shop.price("extra"), add_on=True)
    good = [set_quantity(seats, 6), add_item(plan.prices[1].id, 2), add_add_on(extra), add_item(extra.prices[0].id)]
    before = await shop.stored()
    for bad, reason in (
        (remove_item(Item(id=ids.mint("subi", day(1)))), "ITEM_NOT_FOUND"),
        (remove_add_on(plan), "ADD_ON_NOT_FOUND"),
        (add_item(ids.mint("price", day(1))), "PRICE_NOT_IN_PLAN"),
        (Action(remove_discount=Action.RemoveDiscount(coupon_id=COUPON)), "DISCOUNT_NOT_APPLIED"),
        (Action(apply_discount=Action.ApplyDiscount(coupon_id=COUPON)), "COUPON_NOT_FOUND"),
        (Action(), "INVALID_ARGUMENT"),
    ):
        with refused(reason):
            await shop.change(subscription, *good, bad)
    assert await shop.stored() == before
    changed = await shop.change(subscription, *good)
    assert [item.quantity.value for item in changed.items] == ["6", "2", "1", "1"]
    assert changed.revision == 2
    [change] = await shop.log(subscription)
    assert len(change.actions) == 5  # the add-on brings an item
    await suite.quiet()
    assert len(suite.announced(events_pb2.SubscriptionChanged)) == 1


async def test_a_preview_shows_what_is_to_be_spent(suite: Suite, shop: Any) -> None:
    """A commitment is no billed item: without a list of its own nobody would see what a change of it does."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))

    def to_spend(minimum: int) -> Action:
        commitment = subscription_pb2.Commitment(minimum=money_pb2.Money(currency_code="EUR", units=minimum), months=3)
        return Action(set_commitment=Action.SetCommitment(commitment=commitment))

    first = await shop.preview(subscription, to_spend(900))
    assert (list(first.added), list(first.removed), list(first.removed_commitments)) == ([], [], [])
    assert first.subscription.commitment.minimum.units == 900
    [expected] = first.added_commitments
    assert (expected.subscription_id, expected.customer_id, expected.minimum.units) == (subscription.id, ada.id, 900)
    assert expected.full_period.start_time == wire.timestamp(day(1))
    assert (expected.period.start_time, expected.period.end_time) == (
        wire.timestamp(day(1, 11)),
        wire.timestamp(day(4)),
    )
    assert (expected.proration.numerator, expected.proration.denominator) == (8, 9)
    assert expected.bill_time == wire.timestamp(day(4))
    await shop.change(subscription, to_spend(900), preview_token=first.token)
    assert list((await shop.due(ada, through=day(4))).commitments) == [expected]

    # Less from March on divides the quarter; what is no commitment leaves all as it is.
    second = await shop.preview(subscription, to_spend(300), at=day(3))
    assert [each.minimum.units for each in second.added_commitments] == [900, 300]
    assert list(second.removed_commitments) == [expected]
    assert not (await shop.preview(subscription, set_quantity(seats, 6))).added_commitments
    none = await shop.preview(subscription, Action(set_commitment=Action.SetCommitment()))
    assert list(none.removed_commitments) == [expected]
    assert not none.added_commitments


async def test_a_preview_is_what_is_then_applied(suite: Suite, shop: Any) -> None:
    """Nothing is stored by it; with its token exactly that is done, also a moment later, and never something else."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    without, before = await shop.due(ada, through=day(2)), await shop.stored()
    preview = await shop.preview(subscription, set_quantity(seats, 8))
    assert await shop.stored() == before
    assert (preview.subscription.items[0].quantity.value, preview.change.id) == ("8", "")
    assert (preview.change.state, preview.change.effective_time) == (Change.IN_EFFECT, wire.timestamp(day(1, 11)))
    assert shop.billed(preview.added) == [
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]
    assert shop.billed(preview.removed) == ["OWED 5 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]
    with refused("PREVIEW_OUTDATED", grpc.StatusCode.FAILED_PRECONDITION) as other:
        await shop.change(subscription, set_quantity(seats, 9), preview_token=preview.token)
    assert "another change was previewed" in other.message
    for no_token in ("%", wire.encode_page_token(seats.id), wire.encode_page_token("2026-01-01", "1", "x")):
        with refused("INVALID_ARGUMENT") as refusal:
            await shop.change(subscription, set_quantity(seats, 8), preview_token=no_token)
        assert refusal.field == "preview_token"
        assert "as PreviewChange answered it" in refusal.message
    assert await shop.stored() == before

    changed = await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token, request_id="r1")
    assert changed == preview.subscription
    with_it = await shop.due(ada, through=day(2))
    assert sorted(shop.billed(with_it.periods)) == sorted(
        {*shop.billed(without.periods), *shop.billed(preview.added)} - set(shop.billed(preview.removed))
    )
    # What was applied cannot be applied again, but the same request has the same answer.
    with refused("PREVIEW_OUTDATED") as outdated:
        await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token)
    assert "has changed since the preview: preview the change again" in outdated.message
    again = await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token, request_id="r1")
    assert again == changed

    later = await shop.preview(subscription, set_quantity(seats, 4))
    await suite.travel(day(1, 12))
    applied = await shop.change(subscription, set_quantity(seats, 4), preview_token=later.token)
    assert (await shop.log(subscription))[-1].effective_time == wire.timestamp(day(1, 11))
    assert applied.items[0].quantity.value == "4"


async def test_a_preview_of_what_is_to_come(suite: Suite, shop: Any) -> None:
    """The subscription as it will be then, and what is billed up to when the caller says."""
    _, subscription, seats = await five_seats(shop)
    request = pb.PreviewChangeRequest(
        change=shop.change_request(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END),
        through_time=wire.timestamp(day(4)),
    )
    preview = await shop.api.PreviewChange(request)
    assert preview.change.state == Change.SCHEDULED
    assert preview.subscription.items[0].quantity.value == "2"
    assert len(shop.billed(preview.added)) == len(shop.billed(preview.removed)) == 3
    assert {line.split()[1] for line in shop.billed(preview.added)} == {"2"}
    await suite.quiet()
    assert not suite.announced(events_pb2.SubscriptionChanged)


async def test_a_scheduled_change_is_taken_back(suite: Suite, shop: Any) -> None:
    """As long as it has not taken effect; it stays in the log, and is announced as revoked."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    without = await bills(shop, ada, day(3))
    await shop.change(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END)
    await shop.change(subscription, set_quantity(seats, 6))
    later, now = await shop.log(subscription)
    revoke = pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=later.id, request_id="r1")
    await suite.travel(day(1, 15))
    revoked = await shop.api.RevokeSubscriptionChange(revoke)
    assert await shop.api.RevokeSubscriptionChange(revoke) == revoked
    [taken_back] = await shop.log(subscription, "REVOKED")
    assert (taken_back.id, taken_back.revoke_time) == (later.id, wire.timestamp(day(1, 15)))
    before = await shop.stored()
    for change_id, reason in (
        (later.id, "CHANGE_NOT_SCHEDULED"),
        (now.id, "CHANGE_NOT_SCHEDULED"),
        (ids.mint("chg", day(1)), "CHANGE_NOT_FOUND"),
    ):
        with refused(reason):
            await shop.api.RevokeSubscriptionChange(
                pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=change_id)
            )
    assert await shop.stored() == before
    await suite.travel(day(2, 2))
    told = [each.change.state for each in suite.announced(events_pb2.SubscriptionChanged)]
    assert told == [Change.SCHEDULED, Change.IN_EFFECT, Change.REVOKED]
    assert [line for line in await bills(shop, ada, day(3)) if line not in without] == [
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 6 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 6 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        "OWED 6 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
    ]


async def test_what_a_scheduled_change_needs_cannot_be_taken_away(shop: Any) -> None:
    """The refusal names the change that stands in the way; once that is revoked, nothing does."""
    _, subscription, seats = await five_seats(shop)
    plan = await plan_of(shop, subscription)
    await shop.change(subscription, add_item(plan.prices[1].id), at=day(1, 20))
    disk = (await shop.find(subscription, effective_time=day(1, 20))).items[1]
    await shop.change(subscription, set_quantity(disk, 9), at=day(1, 25))
    await shop.change(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END)
    added, set_disk, set_seats = await shop.log(subscription, "SCHEDULED")
    before = await shop.stored()
    revoke = pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id)
    revoke.change_id = added.id
    with refused("CHANGE_CONFLICTS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.api.RevokeSubscriptionChange(revoke)
    assert refusal.metadata["change"] == set_disk.id
    with refused("CHANGE_CONFLICTS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.change(subscription, add_item(plan.prices[1].id), remove_item(seats))
    assert refusal.metadata["change"] == set_seats.id
    assert await shop.stored() == before
    for change_id in (set_disk.id, added.id, set_seats.id):
        revoke.change_id = change_id
        await shop.api.RevokeSubscriptionChange(revoke)
    await shop.change(subscription, add_item(plan.prices[1].id), remove_item(seats))
    assert not await shop.log(subscription, "SCHEDULED")


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
