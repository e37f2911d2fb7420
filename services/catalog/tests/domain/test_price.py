"""What a sound price is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.price import BillingTiming, Tier, check_tiers, check_timing
from common.errors import InvalidArgument

ends = st.lists(st.decimals(min_value=0, max_value=10**6, places=3), min_size=0, max_size=8)


def tiers(*ups: Decimal | None) -> tuple[Tier, ...]:
    return tuple(Tier(up_to=up, unit_price=Decimal(1), flat_amount=Decimal(0)) for up in ups)


@given(ends)
def test_tiers_are_sound_exactly_when_their_ends_strictly_ascend_from_zero(found: list[Decimal]) -> None:
    """Every quantity must have one price: no gap, no overlap, no end."""
    sound = all(low < high for low, high in zip([Decimal(0), *found], found, strict=False))
    if sound:
        assert check_tiers(tiers(*found, None), field="tiers") == tiers(*found, None)
    else:
        with pytest.raises(InvalidArgument):
            check_tiers(tiers(*found, None), field="tiers")


@pytest.mark.parametrize("bad", [(), (Decimal(5),), (None, None), (None, Decimal(5))])
def test_only_the_last_tier_is_open(bad: tuple[Decimal | None, ...]) -> None:
    """A closed end would leave quantities without a price; an open one in the middle would give them two."""
    with pytest.raises(InvalidArgument):
        check_tiers(tiers(*bad), field="tiers")


def test_usage_is_never_billed_in_advance() -> None:
    """Nobody knows yet how much it will be."""
    check_timing(BillingTiming.IN_ARREARS, meter="kwh", field="t")
    check_timing(BillingTiming.IN_ADVANCE, meter="", field="t")
    with pytest.raises(InvalidArgument):
        check_timing(BillingTiming.IN_ADVANCE, meter="kwh", field="t")
