"""What an amendment does to the items, plans and prices being known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

import pytest

from common.errors import InvalidArgument, SaldoError
from services.subscriptions.tests.agreed import ADVANCE, ARREARS, MONTHLY, YEARLY, agree, at, change, scheduled
from subscriptions.domain import errors
from subscriptions.domain.amendment import (
    Amendment,
    LeaveAddOn,
    SwitchPlan,
    SwitchPrice,
    TakeAddOn,
    TakePrice,
    Wish,
    plans_asked,
)
from subscriptions.domain.change import (
    Action,
    AddItem,
    ApplyDiscount,
    RemoveItem,
    SetAddOn,
    SetPlan,
    SetPrice,
    SetQuantity,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import ContractPrice, ItemSpec, Plan, Price
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import QUANTITY_MAX, CouponId, Item, ItemId, PlanId, PriceId, ProductId, Terms

JAN_1 = at("01-01")
NOW: Final = at("01-10")


def price(name: str, product: str, *, meter: str = "", yearly: bool = False, currency: str = "EUR") -> Price:
    return Price(
        id=PriceId(name),
        product_id=ProductId(product),
        currency=currency,
        interval=YEARLY if yearly else MONTHLY,
        timing=ARREARS if meter else ADVANCE,
        meter=meter,
    )


def plan(name: str, *prices: Price, is_add_on: bool = False) -> Plan:
    return Plan(
        id=PlanId(name),
        code=name,
        is_active=True,
        is_add_on=is_add_on,
        effective_time=JAN_1,
        trial_days=0,
        prices=prices,
    )


SILVER = plan("silver", price("seats", "seat"), price("calls", "api", meter="calls"))
GOLD = plan(
    "gold",
    price("gold-seats", "seat"),
    price("gold-calls", "api", meter="calls"),
    price("gold-care", "care"),
    price("gold-yearly", "seat", yearly=True),
)
SUPPORT = plan("support", price("hotline", "hotline"), price("on-site", "visit"), is_add_on=True)
PLANS = {each.id: each for each in (SILVER, GOLD, SUPPORT)}
SEATS, CALLS = ItemId("item-0"), ItemId("item-1")


def terms_of(offered: Plan, name: str, number: int | None) -> Terms:
    spec = ItemSpec(price_id=PriceId(name), quantity=None if number is None else Decimal(number))
    return offered.terms(spec, customer_id=CustomerId("ada"), currency="EUR", field="item")


def subscribed() -> Subscription:
    """Five seats and calls, by the silver plan."""
    agreed = agree(terms_of(SILVER, "seats", 5), terms_of(SILVER, "calls", None))
    return replace(agreed, opening=replace(agreed.opening, plan_id=SILVER.id))


def fulfil(
    *wishes: Wish,
    subscription: Subscription | None = None,
    plans: Mapping[PlanId, Plan] = PLANS,
    effective: datetime = NOW,
) -> list[Action]:
    numbers = itertools.count(1)
    amendment = Amendment(
        subscription or subscribed(), plans, effective=effective, at=NOW, new_id=lambda: ItemId(f"new-{next(numbers)}")
    )
    return amendment.actions(wishes)


def spec(name: str, number: int | None = None) -> ItemSpec:
    return ItemSpec(price_id=PriceId(name), quantity=None if number is None else Decimal(number))


def to_gold(*specs: ItemSpec) -> SwitchPlan:
    return SwitchPlan(GOLD.id, specs)


def done(subscription: Subscription, actions: Sequence[Action]) -> dict[str, tuple[str, int | None]]:
    """What is agreed when the actions are carried out."""
    after = change(subscription, *actions, on=NOW)
    return {
        item_id: (each.price_id, None if each.quantity is None else int(each.quantity))
        for item_id, each in after.as_of(NOW).items.items()
    }


def test_an_item_stays_the_same_when_the_new_plan_has_its_product() -> None:
    """It keeps its quantity, its history and its id; what the new plan does not have goes, what is new comes."""
    actions = fulfil(to_gold(spec("gold-seats"), spec("gold-care")))
    assert actions == [
        SetPlan(GOLD.id),
        SetPrice(SEATS, terms_of(GOLD, "gold-seats", 5)),
        AddItem(Item(id=ItemId("new-1"), terms=terms_of(GOLD, "gold-care", 1))),
        RemoveItem(CALLS),
    ]
    assert done(subscribed(), actions) == {SEATS: ("gold-seats", 5), "new-1": ("gold-care", 1)}


def test_a_quantity_that_is_said_is_the_quantity() -> None:
    """Also of an item that stays."""
    assert fulfil(to_gold(spec("gold-seats", 9), spec("gold-calls")))[1:] == [
        SetPrice(SEATS, terms_of(GOLD, "gold-seats", 9)),
        SetPrice(CALLS, terms_of(GOLD, "gold-calls", None)),
    ]


def test_nothing_said_takes_every_price_of_the_new_plan() -> None:
    """Two prices of one product have one predecessor between them: the first of them."""
    assert done(subscribed(), fulfil(to_gold())) == {
        SEATS: ("gold-seats", 5),
        CALLS: ("gold-calls", None),
        "new-1": ("gold-care", 1),
        "new-2": ("gold-yearly", 1),
    }


def test_a_successor_that_is_named_comes_before_the_product() -> None:
    """A migration says which price takes the place of which."""
    named = SwitchPlan(GOLD.id, [spec("gold-care"), spec("gold-calls")], {PriceId("seats"): PriceId("gold-care")})
    assert done(subscribed(), fulfil(named)) == {SEATS: ("gold-care", 5), CALLS: ("gold-calls", None)}


def test_an_add_on_is_not_touched_by_a_change_of_plan() -> None:
    """It belongs to another plan."""
    with_support = change(subscribed(), *fulfil(TakeAddOn(SUPPORT.id, [spec("hotline")])), on=NOW)
    actions = fulfil(to_gold(spec("gold-seats")), subscription=with_support)
    assert RemoveItem(ItemId("new-1")) not in actions
    after = change(with_support, *actions, on="01-11").as_of(at("01-11"))
    assert {each.plan_id for each in after.items.values()} == {GOLD.id, SUPPORT.id}


def test_an_add_on_comes_with_its_items_and_goes_with_them() -> None:
    """Also with one that was taken of it later, and with those of the same amendment."""
    actions = fulfil(TakeAddOn(SUPPORT.id, [spec("hotline", 2)]), TakePrice(spec("on-site", 3)), LeaveAddOn(SUPPORT.id))
    assert actions == [
        SetAddOn(SUPPORT.id, is_taken=True),
        AddItem(Item(id=ItemId("new-1"), terms=terms_of(SUPPORT, "hotline", 2))),
        AddItem(Item(id=ItemId("new-2"), terms=terms_of(SUPPORT, "on-site", 3))),
        SetAddOn(SUPPORT.id, is_taken=False),
        RemoveItem(ItemId("new-1")),
        RemoveItem(ItemId("new-2")),
    ]
    assert done(subscribed(), actions) == {SEATS: ("seats", 5), CALLS: ("calls", None)}


def test_a_price_is_switched_within_the_plan_the_item_came_with() -> None:
    """The quantity stays; wishes that follow see it."""
    golden = change(subscribed(), *fulfil(to_gold(spec("gold-seats"))), on=NOW)
    actions = fulfil(SetQuantity(SEATS, Decimal(7)), SwitchPrice(SEATS, PriceId("gold-yearly")), subscription=golden)
    assert actions == [SetQuantity(SEATS, Decimal(7)), SetPrice(SEATS, terms_of(GOLD, "gold-yearly", 7))]


def test_what_was_negotiated_is_offered_to_whom_it_was_negotiated_with() -> None:
    """Of the customer that the subscription belongs to by then."""
    special = ContractPrice(
        price=price("special", "seat"), customer_id=CustomerId("ada"), list_price_id=PriceId("seats")
    )
    plans = {**PLANS, SILVER.id: replace(SILVER, contract_prices=(special,))}
    [action] = fulfil(SwitchPrice(SEATS, PriceId("special")), plans=plans)
    assert action == SetPrice(SEATS, replace(terms_of(SILVER, "seats", 5), price_id=PriceId("special")))
    others = replace(special, customer_id=CustomerId("bob"))
    with pytest.raises(errors.PriceNotInPlan):
        fulfil(
            SwitchPrice(SEATS, PriceId("special")),
            plans={**PLANS, SILVER.id: replace(SILVER, contract_prices=(others,))},
        )


def test_what_is_agreed_by_then_counts() -> None:
    """Not what is agreed now: a change for later sees those that come before it."""
    planned = change(subscribed(), RemoveItem(CALLS), on=NOW, decision=scheduled("02-01"))
    assert fulfil(RemoveItem(CALLS), subscription=planned) == [RemoveItem(CALLS)]
    with pytest.raises(errors.ItemNotFound):
        fulfil(RemoveItem(CALLS), subscription=planned, effective=at("02-02"))


def test_what_has_nothing_to_do_with_plans_is_done_as_it_is() -> None:
    """In the order in which it was wished."""
    coupon = ApplyDiscount(CouponId("x"), 3)
    assert fulfil(coupon, RemoveItem(CALLS)) == [coupon, RemoveItem(CALLS)]


@pytest.mark.parametrize(
    ("wishes", "reason", "field"),
    [
        ([SetQuantity(CALLS, Decimal(2))], InvalidArgument, "actions[0].set_quantity"),
        ([SetQuantity(SEATS, QUANTITY_MAX + 1)], InvalidArgument, "actions[0].set_quantity.quantity"),
        ([RemoveItem(CALLS), RemoveItem(CALLS)], errors.ItemNotFound, None),
        ([RemoveItem(CALLS), SetQuantity(CALLS, Decimal(1))], errors.ItemNotFound, None),
        ([SwitchPrice(ItemId("stranger"), PriceId("seats"))], errors.ItemNotFound, None),
        ([RemoveItem(CALLS), TakePrice(spec("hotline"))], errors.PriceNotInPlan, "actions[1].add_item.price_id"),
        ([SwitchPrice(SEATS, PriceId("hotline"))], errors.PriceNotInPlan, "actions[0].set_price.price_id"),
        ([TakePrice(spec("calls", 1))], InvalidArgument, "actions[0].add_item.quantity"),
        ([TakeAddOn(SUPPORT.id, []), TakeAddOn(SUPPORT.id, [])], errors.AddOnTaken, None),
        ([LeaveAddOn(SUPPORT.id)], errors.AddOnNotFound, None),
        ([TakeAddOn(GOLD.id, [])], errors.PlanNotSubscribable, None),
        ([SwitchPlan(SUPPORT.id, [])], errors.PlanNotSubscribable, None),
        ([SwitchPlan(PlanId("stranger"), [])], errors.SubscriptionMoved, None),
        (
            [to_gold(spec("gold-seats"), spec("gold-seats"))],
            InvalidArgument,
            "actions[0].change_plan.items[1].price_id",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(wishes: list[Wish], reason: type[SaldoError], field: str | None) -> None:
    """And by field, where a request has one."""
    with pytest.raises(reason) as refusal:
        fulfil(*wishes)
    assert type(refusal.value) is reason
    assert getattr(refusal.value, "field", None) == field


def test_a_plan_in_another_currency_is_refused() -> None:
    """A subscription has one currency."""
    dollars = plan("dollars", price("usd-seats", "seat", currency="USD"))
    with pytest.raises(errors.CurrencyNotOffered):
        fulfil(SwitchPlan(dollars.id, []), plans={**PLANS, dollars.id: dollars})


def test_the_plans_that_must_be_known_are_asked_for_at_once() -> None:
    """With the prices that are named: a price may be of any plan that the subscription has by then."""
    with_support = change(subscribed(), *fulfil(TakeAddOn(SUPPORT.id, [spec("hotline")])), on=NOW)
    wishes: list[Wish] = [
        TakePrice(spec("on-site")),
        SwitchPrice(SEATS, PriceId("special")),
        SwitchPrice(ItemId("stranger"), PriceId("x")),
        to_gold(spec("gold-seats")),
        TakePrice(spec("gold-care")),
        RemoveItem(CALLS),
    ]
    assert plans_asked(wishes, with_support, at=NOW) == {
        SILVER.id: ["on-site", "special", "gold-care"],
        SUPPORT.id: ["on-site", "gold-care"],
        GOLD.id: ["gold-seats", "gold-care"],
    }
