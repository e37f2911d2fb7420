"""What a usage event may name, and what a usage may be told apart by."""

from __future__ import annotations

import pytest

from common.errors import InvalidArgument
from metering.domain.dimension import DIMENSIONS_MAX, GROUP_BY_MAX, check_dimensions, check_group_by


def test_the_limits_are_inclusive() -> None:
    """As the contract writes them: a sender builds on exactly these."""
    assert (DIMENSIONS_MAX, GROUP_BY_MAX) == (16, 2)
    check_dimensions([f"d{n}" for n in range(16)], field="dimensions")
    check_dimensions(["x" * 64, "a-b_c9"], field="dimensions")
    check_group_by(["a", "b"], field="group_by")


@pytest.mark.parametrize(
    "names", [[f"d{n}" for n in range(17)], [""], ["Region"], ["x" * 65], ["re gion"], ["é"], ["region\n"]]
)
def test_a_usage_event_names_few_and_plain_dimensions(names: list[str]) -> None:
    """They are stored with every event for ever, and prices must be able to name them."""
    with pytest.raises(InvalidArgument) as refusal:
        check_dimensions(names, field="dimensions")
    assert refusal.value.field == "dimensions"


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "a"], [""], ["a", "B"]])
def test_usage_is_told_apart_by_few_dimensions(names: list[str]) -> None:
    """The same one twice would only repeat itself, and more than two nobody could price."""
    with pytest.raises(InvalidArgument) as refusal:
        check_group_by(names, field="group_by")
    assert refusal.value.field == "group_by"
