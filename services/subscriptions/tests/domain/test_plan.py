"""Which prices of a plan can be taken, and how many of each."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from common.errors import InvalidArgument
from common.period import Interval, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import CurrencyNotOffered, PlanNotSubscribable, PriceNotInPlan
from subscriptions.domain.plan import ContractPrice, ItemSpec, Plan, Price
from subscriptions.domain.terms import (
    ITEMS_MAX,
    QUANTITY_MAX,
    BillingTiming,
    Item,
    ItemId,
    PlanId,
    PriceId,
    ProductId,
    Terms,
)

MONTHLY = Interval(Unit.MONTH, 1)
SEATS = Price(
    id=PriceId("seats"),
    product_id=ProductId("seat"),
    currency="EUR",
    interval=MONTHLY,
    timing=BillingTiming.IN_ADVANCE,
    meter="",
)
CALLS = replace(
    SEATS, id=PriceId("calls"), product_id=ProductId("api"), timing=BillingTiming.IN_ARREARS, meter="api_calls"
)
DOLLARS = replace(SEATS, id=PriceId("seats-usd"), currency="USD")
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
TEAM = Plan(
    id=PlanId("team"),
    code="team",
    is_active=True,
    is_add_on=False,
    effective_time=JAN_1,
    trial_days=0,
    prices=(SEATS, CALLS, DOLLARS),
)
ADA = CustomerId("ada")


def negotiated(price_id: str, *, of: Price, customer_id: str = "ada") -> ContractPrice:
    price = replace(of, id=PriceId(price_id))
    return ContractPrice(price=price, customer_id=CustomerId(customer_id), list_price_id=of.id)


def team_with(*contract_prices: ContractPrice) -> Plan:
    return replace(TEAM, contract_prices=contract_prices)


def take(*wanted: tuple[str, str | None], plan: Plan = TEAM, currency: str = "EUR") -> tuple[Item, ...]:
    specs = [
        ItemSpec(price_id=PriceId(price_id), quantity=None if quantity is None else Decimal(quantity))
        for price_id, quantity in wanted
    ]
    numbers = itertools.count()
    return plan.items(specs, customer_id=ADA, currency=currency, new_id=lambda: ItemId(f"item-{next(numbers)}"))


def test_an_item_keeps_all_that_was_agreed() -> None:
    """The catalog is never asked about it again."""
    assert take(("calls", None), ("seats", "2.5")) == (
        Item(
            id=ItemId("item-0"),
            terms=Terms(
                plan_id=PlanId("team"),
                price_id=CALLS.id,
                product_id=ProductId("api"),
                interval=MONTHLY,
                timing=BillingTiming.IN_ARREARS,
                meter="api_calls",
                quantity=None,
            ),
        ),
        Item(
            id=ItemId("item-1"),
            terms=Terms(
                plan_id=PlanId("team"),
                price_id=SEATS.id,
                product_id=ProductId("seat"),
                interval=MONTHLY,
                timing=BillingTiming.IN_ADVANCE,
                meter="",
                quantity=Decimal("2.5"),
            ),
        ),
    )


def test_nothing_said_is_one_of_everything_in_the_customers_currency() -> None:
    """The common case needs no list; metered prices have no quantity to default."""
    assert [(item.terms.price_id, item.terms.quantity) for item in take()] == [("seats", Decimal(1)), ("calls", None)]
    assert [item.terms.price_id for item in take(currency="USD")] == ["seats-usd"]


def test_none_of_something_can_be_wanted() -> None:
    """No seats for now is not the same as no item."""
    assert take(("seats", "0"))[0].terms.quantity == 0


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


def test_a_negotiated_price_can_be_taken_in_the_place_of_the_lists() -> None:
    """That is what it was negotiated for; it may be billed otherwise than the list's."""
    yearly = negotiated("ada-seats", of=replace(SEATS, interval=Interval(Unit.YEAR, 1)))
    (item,) = take(("ada-seats", "3"), plan=team_with(yearly))
    assert item.terms.price_id == "ada-seats"
    assert (item.terms.interval, item.terms.quantity) == (Interval(Unit.YEAR, 1), Decimal(3))


@pytest.mark.parametrize(
    "stranger",
    [
        negotiated("special", of=SEATS, customer_id="bob"),
        negotiated("special", of=replace(SEATS, id=PriceId("seats-of-another-plan"))),
    ],
)
def test_what_was_not_negotiated_with_this_customer_for_this_plan_is_refused(stranger: ContractPrice) -> None:
    """Bob's discount is not Ada's, and that of one plan is not another's; nothing said does not take it either."""
    plan = team_with(stranger)
    with pytest.raises(PriceNotInPlan) as refusal:
        take(("seats", None), ("special", None), plan=plan)
    assert refusal.value.field == "items[1].price_id"
    assert [item.terms.price_id for item in take(plan=plan)] == ["seats", "calls"]


def test_nothing_said_takes_what_was_negotiated_last() -> None:
    """Who has a contract is billed by it without asking; one that was negotiated again replaces the one before."""
    plan = team_with(negotiated("calls-1", of=CALLS), negotiated("dear", of=DOLLARS), negotiated("calls-2", of=CALLS))
    assert [item.terms.price_id for item in take(plan=plan)] == ["seats", "calls-2"]
    assert [item.terms.price_id for item in take(plan=plan, currency="USD")] == ["dear"]
    assert [item.terms.price_id for item in take(("calls", None), plan=plan)] == ["calls"]


@pytest.mark.parametrize("pair", [("seats", "one"), ("one", "seats"), ("one", "two")])
def test_a_place_in_the_list_is_taken_once(pair: tuple[str, str]) -> None:
    """The same seats would be billed twice."""
    plan = team_with(negotiated("one", of=SEATS), negotiated("two", of=SEATS))
    with pytest.raises(InvalidArgument) as refusal:
        take(*((price_id, None) for price_id in pair), plan=plan)
    assert refusal.value.field == "items[1].price_id"


def test_a_negotiated_price_in_another_currency_is_refused() -> None:
    """An invoice has one currency."""
    with pytest.raises(InvalidArgument) as refusal:
        take(("dear", None), plan=team_with(negotiated("dear", of=DOLLARS)))
    assert refusal.value.field == "items[0].price_id"


@pytest.mark.parametrize(
    ("start_days", "at_days", "is_open"), [(0, 0, True), (1, -1, True), (0, -1, True), (-9, 0, True), (-1, -1, False)]
)
def test_a_plan_is_open_from_the_instant_on_at_which_it_takes_effect(
    start_days: int, at_days: int, is_open: bool
) -> None:
    """Nobody is served by what is not there yet; who subscribes when it is may still be served from earlier on."""
    start, at = JAN_1 + timedelta(days=start_days), JAN_1 + timedelta(days=at_days)
    try:
        TEAM.check_open(start=start, at=at)
        opened = True
    except PlanNotSubscribable:
        opened = False
    assert opened is is_open


@pytest.mark.parametrize("effective_time", [None, JAN_1])
def test_a_plan_that_is_not_open_is_refused(effective_time: datetime | None) -> None:
    """A draft may still change, an archived plan is closed."""
    with pytest.raises(PlanNotSubscribable):
        replace(TEAM, is_active=False, effective_time=effective_time).check_open(start=JAN_1, at=JAN_1)


def test_an_add_on_is_taken_to_something_and_nothing_else_is() -> None:
    """Alone it would be an add-on to nothing; and a plan is not added to a plan."""
    add_on = replace(TEAM, is_add_on=True)
    add_on.check_open(start=JAN_1, at=JAN_1, as_add_on=True)
    for plan, as_add_on in ((add_on, False), (TEAM, True)):
        with pytest.raises(PlanNotSubscribable):
            plan.check_open(start=JAN_1, at=JAN_1, as_add_on=as_add_on)


def test_one_price_of_a_plan_is_taken_like_several() -> None:
    """By the same rules; what is wrong is said of the field that it came in."""
    spec = ItemSpec(price_id=SEATS.id, quantity=Decimal(2))
    (item,) = take(("seats", "2"))
    assert TEAM.terms(spec, customer_id=ADA, currency="EUR", field="add_item") == item.terms
    with pytest.raises(PriceNotInPlan) as refusal:
        TEAM.terms(ItemSpec(price_id=PriceId("x"), quantity=None), customer_id=ADA, currency="EUR", field="add_item")
    assert refusal.value.field == "add_item.price_id"
