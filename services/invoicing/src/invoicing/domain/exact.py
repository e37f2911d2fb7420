"""Knows arithmetic that loses no digit: of decimals, and of the fractions that have no last one.

The functions of `common.money` take any number of factors and terms; these take two, where very many are rated.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.money import round_half_up

NOTHING: Final = Decimal(0)
WRITTEN_PLACES: Final = 36
"""How many decimals of a share are written down, such as of 17/31 of a price, which has no last one. The amount itself
is rounded from the exact fraction."""

PLACES_MAX: Final = 100
"""More than any product of a quantity, a unit price and shares of it has, or a quotient that is not rounded."""

_DIGITS_MAX: Final = 1_000
"""Far more than a product of all that a price and a usage are made of can have. What needs more is refused."""

_CONTEXT: Final = decimal.Context(
    prec=_DIGITS_MAX,
    traps=[
        decimal.InvalidOperation,
        decimal.DivisionByZero,
        decimal.Overflow,
        decimal.Underflow,
        decimal.Inexact,
    ],
)
product: Final = _CONTEXT.multiply
added: Final = _CONTEXT.add
less: Final = _CONTEXT.subtract
shifted: Final = _CONTEXT.scaleb


def percent_of(percent: Decimal, amount: Decimal) -> Decimal:
    return shifted(product(amount, percent), -2)


def started(quantity: Decimal, size: Decimal) -> Decimal:
    """How many of that size have at least been begun; a quantity below zero has begun none."""
    over, under = quantity.as_integer_ratio()
    size_over, size_under = size.as_integer_ratio()
    return Decimal(max(-(-(over * size_under) // (under * size_over)), 0))


def places_of(number: Fraction) -> int | None:
    """How many decimals a number has; None if there is no last one."""
    rest = number.denominator
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    fives = 0
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    return max(twos, fives) if rest == 1 else None


def places_written(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "a number is finite"
    return max(-exponent, 0)


def as_decimal(number: Fraction) -> Decimal:
    """Every digit, or as many as are written of a number that has no last one, or none that anybody would read to."""
    places = places_of(number)
    if places is None or places > PLACES_MAX:
        return round_half_up(number, WRITTEN_PLACES)
    return shifted(Decimal((number * 10**places).numerator), -places)
