"""Knows when a customer is to be billed next, also where only late usage may make something to bill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from invoicing.domain.issuing_policy import NOTHING_DECLARED, IssuingPolicy
from invoicing.domain.late_usage import LOOK_EVERY
from invoicing.domain.lines_due import CORRECTION_WINDOW, BillablePeriod, is_open_to_correction

LAST_LOOK: Final = CORRECTION_WINDOW - timedelta(days=1)
"""How long after its end a metered period is asked about that no bill run comes by in time; a run may be late."""


def next_look(
    periods: Sequence[BillablePeriod],
    *,
    as_of: datetime,
    next_bill_time: datetime | None,
    policy: IssuingPolicy = NOTHING_DECLARED,
) -> datetime | None:
    """When the customer is to be billed next: at the next bill time, or before, when late usage needs it.

    Every metered period is asked about once more after it was billed. Usually the bill run after it does that; for the
    last period of a subscription, or one longer than the window, there is none in time, so there is a last look. Where
    late usage is not to wait for a bill, there is a look every day.
    """
    bill_times = sorted({each.bill_time for each in periods})
    looks = [] if next_bill_time is None else [next_bill_time]
    soon = as_of + LOOK_EVERY
    for each in periods:
        if each.meter and policy.late_usage_of(each.meter).is_prompt and is_open_to_correction(each, soon):
            looks.append(soon)
        last_look = each.period.end + LAST_LOOK
        if not each.meter or last_look <= as_of or (looks and last_look >= min(looks)):
            continue
        if not any(each.period.end < time <= last_look for time in bill_times):
            looks.append(last_look)
    return min(looks, default=None)
