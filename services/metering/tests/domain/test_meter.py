"""What a meter may be called, and what it must be told to count by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from common.errors import InvalidArgument
from metering.domain.meter import Aggregation, Bucket, Definition, check_code, check_unique_dimension
from metering.domain.window import Window


@pytest.mark.parametrize("code", ["", "kWh", "a b", "x" * 65, "é", "kwh\n"])
def test_a_code_is_short_and_plain(code: str) -> None:
    """It is typed by hand, into programs, price lists and files."""
    with pytest.raises(InvalidArgument) as refusal:
        check_code(code, field="meter")
    assert refusal.value.field == "meter"


def test_a_plain_code_is_taken_as_it_is() -> None:
    """Anything else would make two names of one."""
    assert check_code("api_calls-2") == "api_calls-2"


def test_unique_values_are_those_of_a_dimension() -> None:
    """Without one there is nothing to count, and a quantity of zero would be billed for ever."""
    assert check_unique_dimension("device", Aggregation.UNIQUE_COUNT) == "device"
    for wrong in ("", "Device", "x" * 65, "de vice"):
        with pytest.raises(InvalidArgument) as refusal:
            check_unique_dimension(wrong, Aggregation.UNIQUE_COUNT)
        assert refusal.value.field == "unique_dimension"


@pytest.mark.parametrize("aggregation", [each for each in Aggregation if each is not Aggregation.UNIQUE_COUNT])
def test_no_other_aggregation_takes_a_dimension(aggregation: Aggregation) -> None:
    """Whoever names one expects it to matter, and it would not."""
    assert check_unique_dimension("", aggregation) == ""
    with pytest.raises(InvalidArgument) as refusal:
        check_unique_dimension("device", aggregation)
    assert refusal.value.field == "unique_dimension"


HOURLY = Bucket(length=Window.HOUR, time_zone="UTC")


@pytest.mark.parametrize(
    ("aggregation", "more", "field"),
    [
        (Aggregation.PERCENTILE, {}, "percentile"),
        (Aggregation.PERCENTILE, {"percentile": Decimal(0)}, "percentile"),
        (Aggregation.PERCENTILE, {"percentile": Decimal("100.0001")}, "percentile"),
        (Aggregation.MAX, {"percentile": Decimal(50)}, "percentile"),
        (Aggregation.SUM_OF_MAX, {}, "bucket"),
        (Aggregation.MAX, {"bucket": HOURLY}, "bucket"),
        (Aggregation.MAX, {"carries_over": True}, "carries_over"),
        (Aggregation.SUM_OF_MAX, {"carries_over": True, "bucket": HOURLY}, "carries_over"),
        (Aggregation.COUNT, {"value_expression": "value"}, "value_expression"),
        (Aggregation.UNIQUE_COUNT, {"unique_dimension": "a", "value_expression": "value"}, "value_expression"),
        (Aggregation.SUM, {"value_expression": "value +"}, "value_expression"),
    ],
)
def test_what_an_aggregation_would_ignore_is_refused(
    aggregation: Aggregation,
    more: dict[str, Any],  # Any: fields of a definition
    field: str,
) -> None:
    """Who asked for it relies on it; and what an aggregation needs cannot be guessed."""
    with pytest.raises(InvalidArgument) as refusal:
        Definition(aggregation=aggregation, **more).check()
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("aggregation", "more"),
    [
        (Aggregation.PERCENTILE, {"percentile": Decimal(100)}),
        (Aggregation.SUM_OF_MAX, {"bucket": HOURLY, "value_expression": "value / 2"}),
        (Aggregation.WEIGHTED_SUM, {"carries_over": True}),
        (Aggregation.LATEST, {"carries_over": True}),
        (Aggregation.SUM, {"carries_over": True}),
    ],
)
def test_what_an_aggregation_needs_is_taken(aggregation: Aggregation, more: dict[str, Any]) -> None:  # Any: as above
    """Otherwise nothing would pass, and every refusal above mean nothing."""
    definition = Definition(aggregation=aggregation, **more)
    definition.check()
    assert definition.aggregation is aggregation
