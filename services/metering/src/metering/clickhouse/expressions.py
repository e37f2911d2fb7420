"""Knows expressions in ClickHouse's SQL: exact fractions of whole numbers of 256 bits, if these hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from metering.domain.expression import Dimension, Expression, Negative, Number, Operation, Value
from metering.domain.usage_event import VALUE_DIGITS_MAX

PLACES: Final = 12
"""Of what an event counts for: as many as its value has at most."""
UNITS_END: Final = 10 ** (VALUE_DIGITS_MAX + PLACES)
"""No value of a usage event, and no result, is as large as this in units of its last place, whichever its sign."""

_INTEGER_MAX: Final = 2**255 - 1
_NUMBER: Final = f"^-?[0-9]{{1,{VALUE_DIGITS_MAX}}}([.][0-9]{{1,{PLACES}}})?$"


class TooWide(Exception):
    """On the way there may be a number that has no room."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The SQL of a whole number, and how large that may be, whichever its sign."""

    sql: str
    largest: int

    @classmethod
    def of(cls, number: int) -> Self:
        return cls(f"toInt256('{number}')", abs(number))

    def times(self, other: Whole) -> Whole:
        if ONE in (self, other):
            return self if other == ONE else other
        return _fitting(Whole(f"({self.sql} * {other.sql})", self.largest * other.largest))

    def combined(self, sign: str, other: Whole) -> Whole:
        return _fitting(Whole(f"({self.sql} {sign} {other.sql})", self.largest + other.largest))


ONE: Final = Whole.of(1)


@dataclass(frozen=True, slots=True)
class Fraction:
    """`numerator / denominator / 10**places`."""

    numerator: Whole
    denominator: Whole = ONE
    places: int = 0


@dataclass(frozen=True, slots=True)
class Expressed:
    """What an event counts for, in units of the last place; and when it does."""

    units: str
    condition: str


def expressed(expression: Expression) -> Expressed:
    """Of an event with `units` and `dimensions`. Fails with TooWide."""
    conditions: dict[str, None] = {}
    found = _fraction(expression, conditions)
    numerator, denominator = found.numerator, found.denominator
    if found.places <= PLACES:
        numerator = numerator.times(_power(PLACES - found.places))
    else:
        denominator = denominator.times(_power(found.places - PLACES))
    units = numerator if denominator == ONE else _rounded(numerator, denominator)
    conditions[f"({units.sql}) BETWEEN -{Whole.of(UNITS_END - 1).sql} AND {Whole.of(UNITS_END - 1).sql}"] = None
    return Expressed(units=units.sql, condition=" AND ".join(conditions))


def _fraction(expression: Expression, conditions: dict[str, None]) -> Fraction:
    match expression:
        case Number(value):
            whole, _, decimals = f"{value:f}".partition(".")
            return Fraction(Whole.of(int(whole + decimals)), places=len(decimals))
        case Value():
            return Fraction(Whole("units", UNITS_END), places=PLACES)
        case Dimension(name):
            # Names of dimensions are plain: there is nothing in them to escape.
            told = f"dimensions['{name}']"
            conditions[f"match({told}, '{_NUMBER}')"] = None
            return Fraction(Whole(units_of(f"toDecimal256OrZero({told}, {PLACES})"), UNITS_END), places=PLACES)
        case Negative(operand):
            found = _fraction(operand, conditions)
            return replace(found, numerator=Whole(f"(-{found.numerator.sql})", found.numerator.largest))
        case Operation(sign, left, right):
            return _operation(sign, _fraction(left, conditions), _fraction(right, conditions), conditions)


def _operation(sign: str, left: Fraction, right: Fraction, conditions: dict[str, None]) -> Fraction:
    if sign == "*":
        numerator = left.numerator.times(right.numerator)
        return Fraction(numerator, left.denominator.times(right.denominator), left.places + right.places)
    if sign == "/":
        conditions[f"{right.numerator.sql} != 0"] = None
        numerator = left.numerator.times(right.denominator)
        denominator = left.denominator.times(right.numerator)
        places = left.places - right.places
        if places < 0:
            return Fraction(numerator.times(_power(-places)), denominator)
        return Fraction(numerator, denominator, places)
    places = max(left.places, right.places)
    first = left.numerator.times(_power(places - left.places)).times(right.denominator)
    second = right.numerator.times(_power(places - right.places)).times(left.denominator)
    return Fraction(first.combined(sign, second), left.denominator.times(right.denominator), places)


def _rounded(numerator: Whole, denominator: Whole) -> Whole:
    """The nearest whole number, halves away from zero. A division by zero is none: its event is not counted."""
    _fitting(Whole("", 2 * numerator.largest + denominator.largest))
    _fitting(Whole("", 2 * denominator.largest))
    upper, lower = f"toInt256(abs({numerator.sql}))", f"toInt256(abs({denominator.sql}))"
    size = f"intDiv(2 * {upper} + {lower}, if({lower} = 0, {ONE.sql}, 2 * {lower}))"
    return Whole(f"(sign({numerator.sql}) * sign({denominator.sql}) * {size})", numerator.largest)


def units_of(decimal: str) -> str:
    """A decimal of 12 places as a whole number of its last place."""
    return f"toInt256({decimal} * toDecimal256({10**PLACES}, 0))"


def _power(places: int) -> Whole:
    return Whole.of(10**places)


def _fitting(number: Whole) -> Whole:
    if number.largest > _INTEGER_MAX:
        raise TooWide
    return number
