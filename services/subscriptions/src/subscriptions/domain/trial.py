"""Knows how long a subscription is free at its start."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from common.errors import InvalidArgument
from common.period import LATEST, Interval, TimeOutOfRange, Unit, boundary

TRIAL_DAYS_MAX: Final = 730


def trial_end(start: datetime, zone: str, *, days: int) -> datetime | None:
    """The same time of day, so many civil days later; None without a trial."""
    if not 0 <= days <= TRIAL_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {TRIAL_DAYS_MAX}", field="trial_days")
    if days == 0:
        return None
    try:
        return boundary(start, zone, Interval(Unit.DAY, days), 1)
    except TimeOutOfRange:
        raise InvalidArgument(f"must leave room for the trial before {LATEST.year}", field="start_time") from None
