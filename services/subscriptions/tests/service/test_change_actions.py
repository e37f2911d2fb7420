"""What a change can do to a subscription: its items, its plan, its add-ons and its terms; all of it or nothing."""

from __future__ import annotations

from typing import Any

import grpc
from google.type import money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2
from saldo.subscriptions.v1 import events_pb2, subscription_pb2
from services.subscriptions.tests.service.test_changes import (
    EARLIER,
    Action,
    Change,
    Item,
    add_item,
    bills,
    day,
    decimal,
    five_seats,
    plan_of,
    remove_item,
    set_quantity,
)

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
COUPON = "coup_" + "0" * 26


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
