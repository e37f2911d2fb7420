"""Knows expressions: what a usage event counts for, by its value and its dimensions.

expression = term   {("+" | "-") term}
term       = factor {("*" | "/") factor}
factor     = "-" factor | "(" expression ")" | number | name | '"' name '"'
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.errors import InvalidArgument
from metering.domain.dimension import DIMENSIONS_MAX, check_dimension

LENGTH_MAX: Final = 200
DEPTH_MAX: Final = 8
OPERATIONS_MAX: Final = 32
FIELD: Final = "value_expression"

_TOKEN: Final = re.compile(r'[0-9]{1,26}(?:\.[0-9]{1,12})?(?![0-9.])|[a-z][a-z0-9_]*|"[^"]*"|[-+*/()]')
_NUMBER: Final = re.compile(r"-?[0-9]{1,26}(?:[.][0-9]{1,12})?")
_OPERATIONS: Final[Mapping[str, Callable[[Fraction, Fraction], Fraction]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_SIGNS: Final = frozenset(_OPERATIONS)
_PARSED_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Number:
    value: Decimal


@dataclass(frozen=True, slots=True)
class Value:
    """That of the usage event."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a usage event says of a dimension, as a number."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    sign: str
    left: Expression
    right: Expression


Expression = Number | Value | Dimension | Negative | Operation
Reading = Callable[[], Expression]


@functools.lru_cache(maxsize=_PARSED_MAX)
def parse(text: str) -> Expression:
    if len(text) > LENGTH_MAX:
        raise InvalidArgument(f"must have at most {LENGTH_MAX} characters", field=FIELD)
    reader = _Reader(list(_tokens(text)))
    expression = reader.expression()
    if reader.token:
        raise InvalidArgument(f"must end before {reader.token}", field=FIELD)
    if len(dimensions(expression)) > DIMENSIONS_MAX:
        raise InvalidArgument(f"must name at most {DIMENSIONS_MAX} dimensions, as usage events do", field=FIELD)
    return expression


def dimensions(expression: Expression) -> frozenset[str]:
    """Those that a usage event must name."""
    match expression:
        case Dimension(name):
            return frozenset([name])
        case Negative(operand):
            return dimensions(operand)
        case Operation(_, left, right):
            return dimensions(left) | dimensions(right)
    return frozenset()


def result(expression: Expression, value: Decimal, told: Mapping[str, str]) -> Fraction | None:
    """What an event counts for, exactly, by its value and its dimensions; None if there is no result."""
    match expression:
        case Number(number):
            return Fraction(number)
        case Value():
            return Fraction(value)
        case Dimension(name):
            text = told.get(name, "")
            return Fraction(text) if _NUMBER.fullmatch(text) else None
        case Negative(operand):
            found = result(operand, value, told)
            return None if found is None else -found
        case Operation(sign, left, right):
            first, second = result(left, value, told), result(right, value, told)
            if first is None or second is None or (sign == "/" and not second):
                return None
            return _OPERATIONS[sign](first, second)


class _Reader:
    """Reads from left to right, no deeper than is said."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._operations = 0

    @property
    def token(self) -> str:
        """Empty at the end."""
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def expression(self) -> Expression:
        return self._chain("+-", self._term)

    def _term(self) -> Expression:
        return self._chain("*/", self._factor)

    def _chain(self, signs: str, operand: Reading) -> Expression:
        found = operand()
        while self.token and self.token in signs:
            sign = self._take()
            found = Operation(sign, found, operand())
        return found

    def _factor(self) -> Expression:
        token = self._take()
        if token == "-":
            return Negative(self._nested(self._factor))
        if token == "(":
            inner = self._nested(self.expression)
            if self._take() != ")":
                raise InvalidArgument("must close every parenthesis", field=FIELD)
            return inner
        if token[:1].isdigit():
            return Number(Decimal(token))
        if token == "value":
            return Value()
        if not token or token in "+*/)":
            raise InvalidArgument(f"must have a value before {token or 'its end'}", field=FIELD)
        name = token.strip('"')
        check_dimension(name, field=FIELD)
        return Dimension(name)

    def _nested(self, reading: Reading) -> Expression:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise InvalidArgument(f"must be nested at most {DEPTH_MAX} deep", field=FIELD)
        found = reading()
        self._depth -= 1
        return found

    def _take(self) -> str:
        token = self.token
        self._next += 1
        self._operations += token in _SIGNS
        if self._operations > OPERATIONS_MAX:
            raise InvalidArgument(f"must have at most {OPERATIONS_MAX} operations", field=FIELD)
        return token


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        if text[place] == " ":
            place += 1
            continue
        found = _TOKEN.match(text, place)
        if found is None:
            raise InvalidArgument(
                "must consist of value, names of dimensions, decimal numbers, + - * / and parentheses", field=FIELD
            )
        yield found.group()
        place = found.end()
