"""How usage events become a quantity, and what a meter may be called."""

from __future__ import annotations

from decimal import Decimal

import pytest

from common.errors import InvalidArgument
from metering.domain.meter import Aggregation, check_code


def test_a_sum_may_be_negative() -> None:
    """A correction may arrive in a later period than what it corrects."""
    assert Aggregation.SUM.quantity(event_count=2, value_sum=Decimal("-1.5")) == Decimal("-1.5")


def test_a_count_does_not_look_at_values() -> None:
    """A sender that measures as well as counts must not be billed twice for it."""
    assert Aggregation.COUNT.quantity(event_count=2, value_sum=Decimal("99")) == 2


@pytest.mark.parametrize("code", ["", "kWh", "a b", "x" * 65, "é", "kwh\n"])
def test_a_code_is_short_and_plain(code: str) -> None:
    """It is typed by hand, into programs, price lists and files."""
    with pytest.raises(InvalidArgument) as refusal:
        check_code(code, field="meter")
    assert refusal.value.field == "meter"


def test_a_plain_code_is_taken_as_it_is() -> None:
    """Anything else would make two names of one."""
    assert check_code("api_calls-2") == "api_calls-2"
