"""How an expression is read, and what is none."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from metering.domain.expression import (
    DEPTH_MAX,
    LENGTH_MAX,
    OPERATIONS_MAX,
    Dimension,
    Negative,
    Number,
    Operation,
    Value,
    dimensions,
    parse,
)

A, B, C = Dimension("a"), Dimension("b"), Dimension("c")


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("value", Value()),
        ('"value"', Dimension("value")),
        (' "9-x" ', Dimension("9-x")),
        ("0.50", Number(Decimal("0.50"))),
        ("a-b-c", Operation("-", Operation("-", A, B), C)),
        ("a-(b-c)", Operation("-", A, Operation("-", B, C))),
        ("a/b*c", Operation("*", Operation("/", A, B), C)),
        ("a+b*c", Operation("+", A, Operation("*", B, C))),
        ("-a*b", Operation("*", Negative(A), B)),
        ("a--b", Operation("-", A, Negative(B))),
    ],
)
def test_an_expression_is_read_as_everybody_reads_it(text: str, due: object) -> None:
    """Products before sums, and from left to right: a bill depends on it."""
    assert parse(text) == due


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a +",
        "* a",
        "a b",
        "(a",
        "a)",
        "()",
        "a ** b",
        "1.",
        ".5",
        "1e3",
        "1.2.3",
        "A",
        "é",
        '"a',
        '""',
        '"A"',
        "a;b",
        "a\nb",
        "f(a)",
        "0." + "0" * 13,
        "9" * 27,
        "+".join(f"d{n}" for n in range(17)),
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    """Nobody finds out from a bill that half of an expression was not read."""
    with pytest.raises(InvalidArgument) as refusal:
        parse(text)
    assert refusal.value.field == "value_expression"


def test_the_limits_are_inclusive() -> None:
    """As the contract writes them."""
    assert (LENGTH_MAX, DEPTH_MAX, OPERATIONS_MAX) == (200, 8, 32)
    parse("(" * 8 + "a" + ")" * 8)
    parse("a" + "+a" * 32)
    parse("a" + " " * 199)
    for text in ("(" * 9 + "a" + ")" * 9, "-" * 9 + "a", "a" + "+a" * 33, "a" + " " * 200):
        with pytest.raises(InvalidArgument):
            parse(text)


def test_an_expression_tells_its_dimensions() -> None:
    """Of an event that does not name them all there is no result."""
    assert dimensions(parse('-(a + "b-c") / value * a')) == {"a", "b-c"}


@given(st.text(alphabet='ab1. +-*/()"v', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever somebody writes: it never fails in another way."""
    try:
        found = dimensions(parse(text))
    except InvalidArgument:
        found = frozenset()
    assert found <= {text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1)}
