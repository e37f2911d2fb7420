"""What a meter may be called, and what it must be told to count by."""

from __future__ import annotations

import pytest

from common.errors import InvalidArgument
from metering.domain.meter import Aggregation, check_code, check_unique_dimension


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
