"""Knows where the periods of a subscription are anchored: where billing begins, or at a day of the month."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from common.errors import InvalidArgument
from common.period import Interval, Unit

BILLING_DAY_MAX: Final = 31
MONTHS_AHEAD_MAX: Final = 14


def billing_anchor(start: datetime, zone: str, *, billing_day: int, intervals: Iterable[Interval]) -> datetime:
    """The start of billing itself, or the first midnight, not before it, of a day of the month that has this number.

    Shorter months are not looked at: the 31st as an anchor still makes periods begin on 28 February, also before the
    anchor, and lets the 31st return afterwards; the 28th would stay the 28th for ever.
    """
    if not 0 <= billing_day <= BILLING_DAY_MAX:
        raise InvalidArgument(f"must be 1 to {BILLING_DAY_MAX}, or 0 for the day of the start", field="billing_day")
    if billing_day == 0:
        return start
    if any(interval.unit in (Unit.DAY, Unit.WEEK) for interval in intervals):
        raise InvalidArgument("must be 0: not every price of the plan is for months or years", field="billing_day")
    return _first_midnight(start, ZoneInfo(zone), billing_day)


def _first_midnight(start: datetime, zone: ZoneInfo, day: int) -> datetime:
    first = start.astimezone(zone)
    for months in range(MONTHS_AHEAD_MAX):
        year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
        if day > calendar.monthrange(year, month + 1)[1]:
            continue
        wall = datetime(year, month + 1, day, tzinfo=zone)
        midnight = wall.astimezone(UTC)
        # Where the clocks skip midnight the day begins later, and so would every period ever after.
        exists = midnight.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None)
        if midnight >= start and exists:
            return midnight
    raise AssertionError(f"no day {day} begins at midnight in {zone} in the year after {start}")
