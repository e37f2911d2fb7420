"""What a policy may say."""

from __future__ import annotations

import pytest

from common.errors import InvalidArgument
from dunning.domain.policy import FinalAction, Terms


def terms(*waits: int, final: int = 1) -> Terms:
    return Terms(display_name="Firm", retry_wait_days=waits, final_wait_days=final, final_action=FinalAction.NONE)


@pytest.mark.parametrize(
    ("waits", "final", "field"),
    [
        ((-1,), 1, "retry_wait_days[0]"),
        ((1, 366), 1, "retry_wait_days[1]"),
        ((1,) * 21, 1, "retry_wait_days"),
        ((1,), 0, "final_wait_days"),
        ((1,), -5, "final_wait_days"),
        ((1,), 366, "final_wait_days"),
    ],
)
def test_waits_are_bounded(waits: tuple[int, ...], final: int, field: str) -> None:
    """A campaign must end, within the time in which anyone still cares."""
    with pytest.raises(InvalidArgument) as refusal:
        terms(*waits, final=final)
    assert refusal.value.field == field


def test_the_widest_and_the_narrowest_policy_stand() -> None:
    """The limits themselves are allowed."""
    assert terms(*(365,) * 20, final=365).retry_wait_days == (365,) * 20
    assert terms().retry_wait_days == ()
    assert terms(0).retry_wait_days == (0,)
