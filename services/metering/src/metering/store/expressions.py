"""Knows expressions in SQL: exact fractions of numerics, rounded once."""

from __future__ import annotations

from typing import Final, NamedTuple

from metering.domain.expression import Dimension, Expression, Negative, Number, Operation, Value, dimensions
from metering.domain.usage_event import VALUE_DIGITS_MAX

VALUE_END: Final = f"1{'0' * VALUE_DIGITS_MAX}"
"""No value of a usage event, and no result, is as large as this, whichever its sign."""

_NUMBER: Final = f"^-?[0-9]{{1,{VALUE_DIGITS_MAX}}}([.][0-9]{{1,12}})?$"


class Fraction(NamedTuple):
    numerator: str
    denominator: str
    """Empty for 1."""


def expression_sql(expression: Expression, *, event: str) -> str:
    """What a usage event counts for, by the alias of its row; NULL if there is no result."""
    divisors: list[str] = []
    result = _rounded(_fraction(expression, event, divisors))
    if divisors:
        result = f"CASE WHEN {' AND '.join(f'{divisor} <> 0' for divisor in divisors)} THEN {result} END"
    # Names of dimensions are plain: there is nothing in them to escape.
    numbers = [f"({event}.dimensions ->> '{name}') ~ '{_NUMBER}'" for name in sorted(dimensions(expression))]
    return f"CASE WHEN {' AND '.join(numbers)} THEN {result} END" if numbers else result


def _fraction(expression: Expression, event: str, divisors: list[str]) -> Fraction:
    match expression:
        case Number(value):
            return Fraction(f"CAST({value:f} AS numeric)", "")
        case Value():
            return Fraction(f"{event}.value", "")
        case Dimension(name):
            return Fraction(f"CAST({event}.dimensions ->> '{name}' AS numeric)", "")
        case Negative(operand):
            numerator, denominator = _fraction(operand, event, divisors)
            return Fraction(f"(-{numerator})", denominator)
        case Operation(sign, left, right):
            return _operation(sign, _fraction(left, event, divisors), _fraction(right, event, divisors), divisors)


def _operation(sign: str, left: Fraction, right: Fraction, divisors: list[str]) -> Fraction:
    if sign == "*":
        return Fraction(_product(left.numerator, right.numerator), _product(left.denominator, right.denominator))
    if sign == "/":
        divisors.append(right.numerator)
        return Fraction(_product(left.numerator, right.denominator), _product(left.denominator, right.numerator))
    first, second = _product(left.numerator, right.denominator), _product(right.numerator, left.denominator)
    return Fraction(f"({first} {sign} {second})", _product(left.denominator, right.denominator))


def _product(first: str, second: str) -> str:
    return f"({first} * {second})" if first and second else first or second


def _rounded(result: Fraction) -> str:
    """At 12 decimals, halves away from zero: `round` does that for what is exact, and a division in SQL is not."""
    numerator, denominator = result
    if not denominator:
        return f"round({numerator}, 12)"
    size = f"div(2000000000000 * abs({numerator}) + abs({denominator}), 2 * abs({denominator}))"
    return f"(sign({numerator}) * sign({denominator}) * {size} * 0.000000000001)"
