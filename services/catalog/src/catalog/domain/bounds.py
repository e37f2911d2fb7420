"""Knows how large, how fine and of which sign the numbers of a price may be."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from common.errors import InvalidArgument

NUMBER_MAX: Final = Decimal(10) ** 15
PLACES_MAX: Final = 12
UNIT_PRICE_PLACES_MAX: Final = 18
PERCENT_MAX: Final = Decimal(100)


def check_number(number: Decimal, *, field: str, places_max: int = PLACES_MAX) -> None:
    """Any number of a price: nothing costs less than nothing, and none is too long to be multiplied exactly."""
    if number < 0:
        raise InvalidArgument("must not be negative", field=field)
    if number > NUMBER_MAX:
        raise InvalidArgument(f"must be at most {NUMBER_MAX}", field=field)
    if _places(number) > places_max:
        raise InvalidArgument(f"must have at most {places_max} decimals", field=field)


def check_unit_price(unit_price: Decimal, *, field: str) -> None:
    """What is multiplied by a large quantity may be very fine."""
    check_number(unit_price, field=field, places_max=UNIT_PRICE_PLACES_MAX)


def check_size(size: Decimal, *, field: str) -> None:
    """What something is divided or multiplied by: nothing fits into a package of nothing."""
    check_number(size, field=field)
    if not size:
        raise InvalidArgument("must be more than 0", field=field)


def check_percent(percent: Decimal, *, field: str) -> None:
    check_number(percent, field=field)
    if percent > PERCENT_MAX:
        raise InvalidArgument(f"must be at most {PERCENT_MAX}", field=field)


def check_order(low: Decimal | None, high: Decimal | None, *, low_name: str, field: str) -> None:
    """A maximum, by its field, is not below its minimum; the minimum could never be reached."""
    if low is not None and high is not None and high < low:
        raise InvalidArgument(f"must be at least the {low_name}, {low:f}", field=field)


def _places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is not a number")
    return -exponent
