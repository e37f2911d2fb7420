"""Knows expressions: what a usage event counts for, by its value and its dimensions.

expression = term   {("+" | "-") term}
term       = factor {("*" | "/") factor}
factor     = "-" factor | "(" expression ")" | number | name | '"' name '"'
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from common.errors import InvalidArgument
from metering.domain.dimension import DIMENSIONS_MAX, check_dimension

LENGTH_MAX: Final = 200
DEPTH_MAX: Final = 8
OPERATIONS_MAX: Final = 32
FIELD: Final = "value_expression"

_TOKEN: Final = re.compile(r'[0-9]{1,26}(?:\.[0-9]{1,12})?(?![0-9.])|[a-z][a-z0-9_]*|"[^"]*"|[-+*/()]')
_SIGNS: Final = frozenset("+-*/")
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
