"""Knows how a period is cut into windows: by the calendar of a time zone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from common.period import Interval, Period, Unit, periods_between
from metering.domain.errors import TooManyWindows

WINDOWS_MAX: Final = 10_000
"""Of all usages that are asked for at once; and so many civil days at most are cut into shorter ones."""

_GRIDS_MAX: Final = 64


class Window(Enum):
    """How long a window is. Those shorter than a day are counted from its beginning, by the time that has passed."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class Place(NamedTuple):
    """Which window of a grid: after which mark, from 1, and after how many whole steps."""

    mark: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where windows begin: at marks, and after every step from the one mark to the next."""

    marks: tuple[datetime, ...]
    """In order; at the last one the last window ends."""
    step: timedelta | None

    def windows(self, period: Period) -> Iterator[tuple[Place, Period]]:
        """Those that have an instant in the period, whole."""
        for mark, (opening, closing) in enumerate(pairwise(self.marks), start=1):
            length = self.step or closing - opening
            first = max(0, (period.start - opening) // length)
            for step in range(first, -((opening - min(closing, period.end)) // length)):
                start = opening + step * length
                yield Place(mark, step), Period(start, min(start + length, closing))


@functools.lru_cache(maxsize=_GRIDS_MAX)
def grid(period: Period, window: Window, zone: str) -> Grid:
    """That of the windows that have an instant in the period."""
    interval, step = _LENGTHS[window]
    # A Monday and the first of a month, so that weeks and months can be counted from it.
    anchor = datetime(2001, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    periods = periods_between(anchor, zone, interval, period.start, period.end, limit=WINDOWS_MAX + 1)
    if len(periods) > WINDOWS_MAX:
        raise too_many_windows()
    return Grid(marks=(*(each.start for each in periods), periods[-1].end), step=step)


def too_many_windows() -> TooManyWindows:
    return TooManyWindows(f"the usage has more than {WINDOWS_MAX} windows", limit=WINDOWS_MAX)


_DAY: Final = Interval(Unit.DAY, 1)
_LENGTHS: Final = {
    Window.MINUTE: (_DAY, timedelta(minutes=1)),
    Window.HOUR: (_DAY, timedelta(hours=1)),
    Window.DAY: (_DAY, None),
    Window.WEEK: (Interval(Unit.WEEK, 1), None),
    Window.MONTH: (Interval(Unit.MONTH, 1), None),
}
