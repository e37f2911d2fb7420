"""Which prices of a plan can be taken, and how many of each."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest

from common.errors import InvalidArgument
from common.period import Interval, Unit
from subscriptions.domain.errors import CurrencyNotOffered, PlanNotSubscribable, PriceNotInPlan
from subscriptions.domain.plan import ITEMS_MAX, QUANTITY_MAX, ItemSpec, Plan, Price
from subscriptions.domain.subscription import BillingTiming, Item, ItemId, PlanId, PriceId

MONTHLY = Interval(Unit.MONTH, 1)
SEATS = Price(id=PriceId("seats"), currency="EUR", interval=MONTHLY, timing=BillingTiming.IN_ADVANCE, meter="")
CALLS = Price(id=PriceId("calls"), currency="EUR", interval=MONTHLY, timing=BillingTiming.IN_ARREARS, meter="api_calls")
DOLLARS = replace(SEATS, id=PriceId("seats-usd"), currency="USD")
TEAM = Plan(id=PlanId("team"), is_active=True, prices=(SEATS, CALLS, DOLLARS))


def take(*wanted: tuple[str, str | None], plan: Plan = TEAM, currency: str = "EUR") -> tuple[Item, ...]:
    specs = [
        ItemSpec(price_id=PriceId(price_id), quantity=None if quantity is None else Decimal(quantity))
        for price_id, quantity in wanted
    ]
    numbers = itertools.count()
    return plan.items(specs, currency=currency, new_id=lambda: ItemId(f"item-{next(numbers)}"))


def test_an_item_keeps_all_that_was_agreed() -> None:
    """The catalog is never asked about it again."""
    assert take(("calls", None), ("seats", "2.5")) == (
        Item(
            id=ItemId("item-0"),
            price_id=CALLS.id,
            interval=MONTHLY,
            timing=BillingTiming.IN_ARREARS,
            meter="api_calls",
            quantity=None,
        ),
        Item(
            id=ItemId("item-1"),
            price_id=SEATS.id,
            interval=MONTHLY,
            timing=BillingTiming.IN_ADVANCE,
            meter="",
            quantity=Decimal("2.5"),
        ),
    )


def test_nothing_said_is_one_of_everything_in_the_customers_currency() -> None:
    """The common case needs no list; metered prices have no quantity to default."""
    assert [(item.price_id, item.quantity) for item in take()] == [("seats", Decimal(1)), ("calls", None)]
    assert [item.price_id for item in take(currency="USD")] == ["seats-usd"]


def test_none_of_something_can_be_wanted() -> None:
    """No seats for now is not the same as no item."""
    assert take(("seats", "0"))[0].quantity == 0


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ([("calls", "1")], "items[0].quantity"),
        ([("seats", str(QUANTITY_MAX + 1))], "items[0].quantity"),
        ([("seats", "1"), ("seats", "2")], "items[1].price_id"),
        ([("seats", "1"), ("seats-usd", "2")], "items[1].price_id"),
        ([(f"price-{n}", None) for n in range(ITEMS_MAX + 1)], "items"),
    ],
)
def test_items_that_cannot_be_billed_are_refused_by_field(wanted: list[tuple[str, str | None]], field: str) -> None:
    """Usage cannot be agreed beforehand, a price is taken once, and an invoice has one currency."""
    with pytest.raises(InvalidArgument) as refusal:
        take(*wanted)
    assert refusal.value.field == field


def test_a_price_of_another_plan_is_refused() -> None:
    """Plans are what is offered; prices are not sold one by one."""
    with pytest.raises(PriceNotInPlan) as refusal:
        take(("seats", None), ("stranger", None))
    assert (refusal.value.field, refusal.value.metadata) == ("items[1].price_id", {"plan": "team", "price": "stranger"})


def test_a_plan_in_another_currency_is_refused() -> None:
    """Also when nothing particular is wanted: an empty subscription helps nobody."""
    with pytest.raises(CurrencyNotOffered):
        take(currency="JPY")


def test_a_plan_that_is_not_open_is_refused() -> None:
    """A draft may still change, an archived plan is closed."""
    with pytest.raises(PlanNotSubscribable):
        take(plan=replace(TEAM, is_active=False))
