"""What a sound price is."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.model import Flat
from catalog.domain.operators import Operators, Rounding, UnitConversion, check_operators
from catalog.domain.price import BillingTiming, check_timing
from catalog.domain.tariff import PerUnit
from catalog.domain.tier import Tier, check_tiers
from common.errors import InvalidArgument

ends = st.lists(st.decimals(min_value=0, max_value=10**6, places=3), min_size=0, max_size=8)
divisors = st.builds(lambda whole, places: Decimal(f"{whole}e-{places}"), st.integers(1, 10**9), st.integers(0, 12))


def tiers(*ups: Decimal | None) -> tuple[Tier, ...]:
    return tuple(Tier(up_to=up, unit_price=Decimal(1)) for up in ups)


@given(ends)
def test_tiers_are_sound_exactly_when_their_ends_strictly_ascend_from_zero(found: list[Decimal]) -> None:
    """Every quantity must have one price: no gap, no overlap, no end."""
    sound = all(low < high for low, high in zip([Decimal(0), *found], found, strict=False))
    if sound:
        check_tiers(tiers(*found, None), field="tiers")
    else:
        with pytest.raises(InvalidArgument):
            check_tiers(tiers(*found, None), field="tiers")


@pytest.mark.parametrize("bad", [(), (Decimal(5),), (None, None), (None, Decimal(5))])
def test_only_the_last_tier_is_open(bad: tuple[Decimal | None, ...]) -> None:
    """A closed end would leave quantities without a price; an open one in the middle would give them two."""
    with pytest.raises(InvalidArgument):
        check_tiers(tiers(*bad), field="tiers")


@given(divisors)
def test_a_division_without_rounding_is_sound_exactly_when_every_quotient_has_a_last_decimal(divisor: Decimal) -> None:
    """Nothing is rounded but where a price says so, and a third cannot be written down."""
    ends_somewhere = (10**100 / Fraction(divisor)).denominator == 1
    if ends_somewhere:
        convert(UnitConversion(divide_by=divisor))
    else:
        with pytest.raises(InvalidArgument, match="2 and 5"):
            convert(UnitConversion(divide_by=divisor))
    convert(UnitConversion(divide_by=divisor, rounding=Rounding.DOWN))


def convert(conversion: UnitConversion) -> None:
    check_operators(Operators(unit_conversion=conversion), model=PerUnit(unit_price=Decimal(1)), field="price")


def test_what_has_no_quantity_has_none_to_convert() -> None:
    """Whoever says so expects an effect that there would not be."""
    operators = Operators(unit_conversion=UnitConversion(multiply_by=Decimal(2)))
    with pytest.raises(InvalidArgument, match="FLAT does not price one quantity"):
        check_operators(operators, model=Flat(amount=Decimal(1)), field="price")


def test_usage_is_never_billed_in_advance() -> None:
    """Nobody knows yet how much it will be."""
    check_timing(BillingTiming.IN_ARREARS, metered=True, once=False, field="t")
    check_timing(BillingTiming.IN_ADVANCE, metered=False, once=False, field="t")
    with pytest.raises(InvalidArgument):
        check_timing(BillingTiming.IN_ADVANCE, metered=True, once=False, field="t")


def test_what_is_billed_once_is_billed_in_advance() -> None:
    """It has no period at whose end it could be."""
    check_timing(BillingTiming.IN_ADVANCE, metered=False, once=True, field="t")
    with pytest.raises(InvalidArgument):
        check_timing(BillingTiming.IN_ARREARS, metered=False, once=True, field="t")
