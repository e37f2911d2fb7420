"""How a quantity becomes an amount: examples, and what always holds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import exact_product, exact_sum
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.price import Flat, Graduated, Model, PerUnit, Price, Tier
from invoicing.domain.rating import rate

TIERS = Graduated(
    tiers=(
        Tier(up_to=Decimal(1_000), unit_price=Decimal("0.05")),
        Tier(up_to=Decimal(5_000), unit_price=Decimal("0.04"), flat_amount=Decimal(10)),
        Tier(up_to=None, unit_price=Decimal("0.03")),
    )
)


def price(model: Model, *, unit_label: str = "call") -> Price:
    return Price(id="price_1", currency="EUR", model=model, product="API calls", unit_label=unit_label)


unit_prices = st.decimals(min_value=0, max_value=10_000, places=12, allow_nan=False, allow_infinity=False)
quantities = st.decimals(min_value=0, max_value=10**9, places=6, allow_nan=False, allow_infinity=False)


@st.composite
def graduated(draw: st.DrawFn, *, with_flat_amounts: bool = True) -> Graduated:
    bounds = draw(st.lists(st.decimals(min_value="0.001", max_value=10**6, places=3), unique=True, max_size=6))
    return Graduated(
        tiers=tuple(
            Tier(
                up_to=bound,
                unit_price=draw(unit_prices),
                flat_amount=draw(unit_prices) if with_flat_amounts else Decimal(0),
            )
            for bound in [*sorted(bounds), None]
        )
    )


models = st.one_of(
    unit_prices.map(lambda amount: Flat(amount=amount)),
    unit_prices.map(lambda amount: PerUnit(unit_price=amount)),
    graduated(),
)


def test_a_flat_price_does_not_look_at_the_quantity() -> None:
    """A service contract costs the same for one boiler as for two."""
    assert rate(price(Flat(amount=Decimal("24.90"))), Decimal(7)).amount == Decimal("24.90")


def test_a_reading_is_rated_with_all_its_digits() -> None:
    """Half-hourly readings at 14.228 pence: nothing is rounded before the line is."""
    rating = rate(price(PerUnit(unit_price=Decimal("0.14228")), unit_label="kWh"), Decimal("412.537"))
    assert rating.amount == Decimal("58.69576436")
    assert [step.description for step in rating.steps] == ["412.537 kWh at 0.14228 EUR each"]


def test_the_last_quantity_of_a_tier_belongs_to_it() -> None:
    """`up_to` is inclusive, the convention of every peer."""
    assert rate(price(TIERS), Decimal(1_000)).amount == Decimal(50)
    assert rate(price(TIERS), Decimal("1000.5")).amount == Decimal("60.02")


def test_every_tier_tells_what_it_adds() -> None:
    """A customer who asks why gets an answer line by line."""
    told = [(step.description, step.amount) for step in rate(price(TIERS), Decimal(5_250)).steps]
    assert told == [
        ("The first 1,000 call: 1,000 at 0.05 EUR each", Decimal("50.00")),
        ("Over 1,000 up to 5,000 call: 4,000 at 0.04 EUR each", Decimal("160.00")),
        ("Over 1,000 up to 5,000 call, once", Decimal(10)),
        ("Over 5,000 call: 250 at 0.03 EUR each", Decimal("7.50")),
    ]


def test_a_tier_without_quantity_adds_nothing() -> None:
    """The flat amount of a tier is for reaching into it; nobody pays for a tier not reached."""
    with_entry_fee = Graduated(tiers=(Tier(up_to=None, unit_price=Decimal(1), flat_amount=Decimal(100)),))
    rating = rate(price(with_entry_fee), Decimal(0))
    assert rating.amount == 0
    assert [step.description for step in rating.steps] == ["All: 0 at 1.00 EUR each"]


def test_less_than_nothing_is_not_rated() -> None:
    """A negative quantity is somebody's mistake upstream: billed as a credit it would hide."""
    with pytest.raises(NegativeQuantity):
        rate(price(TIERS), Decimal(-1))


@pytest.mark.parametrize(
    "bounds", [(None, "10"), ("10", "5", None), ("5", "5", None), ("10",), ()], ids=lambda bounds: str(bounds)
)
def test_tiers_that_would_leave_units_unbilled_do_not_exist(bounds: tuple[str | None, ...]) -> None:
    """The catalog refuses them; if one came through all the same, nothing is computed with it."""
    tiers = tuple(Tier(up_to=None if to is None else Decimal(to), unit_price=Decimal(1)) for to in bounds)
    with pytest.raises(ValueError, match="tier"):
        Graduated(tiers=tiers)


@given(models, quantities)
def test_the_steps_add_up_to_the_amount(model: Model, quantity: Decimal) -> None:
    """An explanation that does not add up explains nothing."""
    rating = rate(price(model), quantity)
    assert rating.steps
    assert exact_sum(step.amount for step in rating.steps) == rating.amount
    for step in rating.steps:
        if step.unit_price is not None:
            assert step.amount == exact_product(step.quantity, step.unit_price)


@given(models, quantities, quantities)
def test_more_never_costs_less(model: Model, first: Decimal, more: Decimal) -> None:
    """Or a customer would do well to waste."""
    assert rate(price(model), exact_sum((first, more))).amount >= rate(price(model), first).amount


@given(graduated(with_flat_amounts=False), quantities, quantities)
def test_a_quantity_costs_the_same_in_two_parts(model: Graduated, first: Decimal, more: Decimal) -> None:
    """graduated(a) + graduated(b from a) = graduated(a + b): the second part begins in the tier the first ended in."""
    whole = rate(price(model), exact_sum((first, more))).amount
    assert exact_sum((rate(price(model), first).amount, _from(model, first, more))) == whole


@given(graduated(), quantities)
def test_the_tiers_share_out_the_whole_quantity(model: Graduated, quantity: Decimal) -> None:
    """Nothing is billed twice at a border, and nothing falls between two tiers."""
    units = [step.quantity for step in rate(price(model), quantity).steps if step.unit_price is not None]
    assert exact_sum(units) == quantity


def _from(model: Graduated, start: Decimal, quantity: Decimal) -> Decimal:
    """What a quantity costs that comes on top of `start`: by the tiers that are left, each made shorter."""
    left = [
        Tier(up_to=None if tier.up_to is None else exact_sum((tier.up_to, -start)), unit_price=tier.unit_price)
        for tier in model.tiers
        if tier.up_to is None or tier.up_to > start
    ]
    return rate(price(Graduated(tiers=tuple(left))), quantity).amount
