"""Knows the conventions of others that Saldo does not follow. A case is set aside by them and by nothing else.

Where a case lists the figure of the convention that Saldo does follow, nothing is set aside: the figure is compared.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date
from typing import Final

from tests.conformance.case import Case

ANCHOR: Final = "anchor:day_of_start_month_then_whole_periods"


@dataclass(frozen=True, slots=True)
class Other:
    """A convention that is not followed."""

    why: str
    ours: str
    """The code of the one that is."""


NOT_FOLLOWED: Final = {
    "round:up": Other("money is rounded to the nearest, halves away from zero; never always up", "round:half_up"),
    "round:down": Other("nor always down", "round:half_up"),
    "round:half_even": Other("nor halves to the even neighbour, which no invoice expects", "round:half_up"),
    "round:half_down": Other("nor halves towards zero", "round:half_up"),
    "percentile:rank_p_times_n_plus_1": Other(
        "a percentile is one of the values; between two of them none is made up", "percentile:nearest_rank"
    ),
    "window:query_bounds_widen_to_whole_windows": Other(
        "what lies outside of the period that was asked for is in no answer; the windows at its ends may be parts",
        "window:strict_query_bounds",
    ),
    ANCHOR: Other(
        "a billing day begins periods of several months when it comes for the first time, not up to a period later",
        "anchor:first_day_on_or_after_start",
    ),
}
"""By the convention's code, what is done instead. docs/pricing.md and docs/subscriptions.md define it."""


def others(case: Case) -> list[str]:
    """Those that the figures of a case depend on."""
    return [code for code in case.conventions if code in NOT_FOLLOWED and (code != ANCHOR or _anchor_matters(case))]


def _anchor_matters(case: Case) -> bool:
    """Both agree on where periods begin if the month of the start still has the day to come, or a period is a month."""
    if case.given["period"] == "P1M":
        return False
    start, day = date.fromisoformat(case.given["start"]), int(case.given["billing_day"])
    return not start.day <= day <= calendar.monthrange(start.year, start.month)[1]
