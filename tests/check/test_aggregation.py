"""The second opinion on quantities is worth something only if it is right where the first one could be wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from tools.check.aggregation import counted_span, counts_for, quantity
from tools.check.calendar import Span

SPAN = Span(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 11, tzinfo=UTC))
DAY = timedelta(days=1)


def event(value: str, days: float = 0) -> Any:  # Any: what is counted is read, and nothing else of it
    return SimpleNamespace(counts=Fraction(value), time=SPAN.start + days * DAY, dimensions={})


@pytest.mark.parametrize(
    ("meter", "due"),
    [
        ({"aggregation": "SUM"}, "6"),
        ({"aggregation": "COUNT"}, "3"),
        ({"aggregation": "MIN"}, "-1"),
        ({"aggregation": "MAX"}, "4"),
        ({"aggregation": "LATEST"}, "4"),
        ({"aggregation": "AVERAGE"}, "2"),
        ({"aggregation": "WEIGHTED_SUM"}, "4.075"),
        ({"aggregation": "PERCENTILE", "percentile": "66.6667"}, "4"),
        ({"aggregation": "PERCENTILE", "percentile": "66.6666"}, "3"),
        ({"aggregation": "SUM_OF_MAX", "bucket": "DAY", "time_zone": "UTC"}, "7"),
        ({"aggregation": "SUM_OF_MAX", "bucket": "HOUR", "time_zone": "Asia/Kolkata"}, "6"),
    ],
)
def test_a_quantity_by_hand(meter: dict[str, Any], due: str) -> None:
    """Three on the first day, one less at its evening, four more in the middle."""
    assert quantity(meter, [event("3"), event("-1", 0.75), event("4", 5)], SPAN) == Fraction(due)


def test_a_level_that_is_carried_over_begins_high() -> None:
    """What was reached before the period holds in it from the first instant."""
    assert counted_span({"carries_over": True}, SPAN).start < SPAN.start
    assert counted_span({"carries_over": False}, SPAN) == SPAN
    assert quantity({"aggregation": "WEIGHTED_SUM"}, [event("10", -100), event("-5", 5)], SPAN) == Fraction("7.5")


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("value * 2 - in / 03", Fraction("5.5")),
        ('-"a-b" / 3', Fraction("-0.666666666667")),
        ("value / (in - in)", None),
        ("value + nowhere", None),
        ("value + word", None),
    ],
)
def test_an_expression_by_hand(expression: str, due: Fraction | None) -> None:
    """Also where a name is a word of the language in which the checker is written."""
    dimensions = {"in": "1.5", "a-b": "2", "word": "many"}
    assert counts_for({"value_expression": expression}, Fraction(3), dimensions) == due


def test_a_filter_by_hand() -> None:
    """What is not named is neither matched nor excluded."""
    told = json.dumps(
        {"match": [{"dimension": "a", "values": ["1"]}], "exclude": [[{"dimension": "b", "values": ["2"]}]]}
    )
    found = [
        counts_for({"filter": told}, Fraction(1), dimensions)
        for dimensions in ({"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2"}, {"b": "3"})
    ]
    assert found == [1, 1, None, None]
