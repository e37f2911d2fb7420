"""Expressions go to ClickHouse as long as its numbers can hold them, and are exact beside it when they cannot."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from metering.clickhouse.expressions import TooWide, expressed
from metering.domain.expression import parse, result


@pytest.mark.parametrize(
    "text",
    ["-value + 0.5", "(input + 3 * output) / 1000", "value * price", "value / price", "1 / (value / input)"],
)
def test_what_is_usual_has_room(text: str) -> None:
    """A price times a quantity, each of all the digits there may be, is what people write."""
    assert "toInt256" in expressed(parse(text)).units


@pytest.mark.parametrize("text", ["value * value * value", "a * b / c / d", "value * value * 1000"])
def test_what_may_have_no_room_is_not_tried(text: str) -> None:
    """A whole number that is too large would come out as another one, without a word."""
    with pytest.raises(TooWide):
        expressed(parse(text))


@pytest.mark.parametrize(
    ("text", "told", "due"),
    [
        ("value / 3 * 3", {}, Fraction(5)),
        ("value - a", {"a": "0.5"}, Fraction(9, 2)),
        ("value - a", {}, None),
        ("value - a", {"a": "1e3"}, None),
        ("1 / (value / a)", {"a": "0"}, None),
        ("1 / (a / value)", {"a": "0"}, None),
        ("-(a * a)", {"a": "9" * 26}, -(Fraction(10**26 - 1) ** 2)),
    ],
)
def test_an_event_has_one_exact_result_or_none(text: str, told: dict[str, str], due: Fraction | None) -> None:
    """Never a rounded one on the way, and none as soon as anything is missing or divided by zero."""
    assert result(parse(text), Decimal(5), told) == due
