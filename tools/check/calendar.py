"""Knows the civil calendar of billing: boundaries counted from an anchor, and days, by `zoneinfo` and nothing else."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

BOUNDARIES_MAX: Final = 200_000
BOUNDARIES_KEPT: Final = 100_000
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Instants from `start` on and before `end`."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start.isoformat()}..{self.end.isoformat()}"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The periods that an anchor makes in a time zone."""

    anchor: datetime
    zone: str
    unit: str
    count: int

    def boundary(self, n: int) -> datetime:
        """Where period `n` begins. A civil time that is skipped becomes the one after; of two, the first."""
        return _boundary(self, n)

    def span_at(self, instant: datetime) -> Span:
        """The period that an instant lies in."""
        return next(self.spans(instant, instant + MICROSECOND))

    def spans(self, start: datetime, end: datetime) -> Iterator[Span]:
        """The whole periods that have an instant in common with `[start, end)`."""
        n = 0
        while self.boundary(n) > start:
            n -= 1
            _check_bound(n)
        while self.boundary(n + 1) <= start:
            n += 1
            _check_bound(n)
        while (opening := self.boundary(n)) < end:
            closing = self.boundary(n + 1)
            if opening < closing:
                yield Span(opening, closing)
            n += 1
            _check_bound(n)


@lru_cache(maxsize=BOUNDARIES_KEPT)
def _boundary(rhythm: Rhythm, n: int) -> datetime:
    if n == 0:
        return rhythm.anchor
    zone = ZoneInfo(rhythm.zone)
    civil = rhythm.anchor.astimezone(zone).replace(tzinfo=None, fold=0)
    steps = n * rhythm.count
    if rhythm.unit in ("DAY", "WEEK"):
        moved = civil + timedelta(days=steps * (7 if rhythm.unit == "WEEK" else 1))
    else:
        moved = _add_months(civil, steps * (12 if rhythm.unit == "YEAR" else 1))
    return moved.replace(tzinfo=zone, fold=0).astimezone(UTC)


def days_later(instant: datetime, days: int, zone: str) -> datetime:
    """The same time of day, so many civil days on."""
    return Rhythm(instant, zone, "DAY", days).boundary(1)


def share(part: Span, whole: Span, zone: str) -> Fraction:
    """Civil days of the part over civil days of the whole; by duration when the whole lies in one day."""
    days = _days(whole, zone)
    return exact_share(part, whole) if days == 0 else Fraction(_days(part, zone), days)


def exact_share(part: Span, whole: Span) -> Fraction:
    """Time over time, to the microsecond."""
    return Fraction((part.end - part.start) // MICROSECOND, (whole.end - whole.start) // MICROSECOND)


def _days(span: Span, zone: str) -> int:
    place = ZoneInfo(zone)
    return (span.end.astimezone(place).date() - span.start.astimezone(place).date()).days


def _add_months(civil: datetime, months: int) -> datetime:
    """The same day of a later month, or its last day where there is no such day."""
    year, month = divmod(civil.year * 12 + civil.month - 1 + months, 12)
    day = min(civil.day, calendar.monthrange(year, month + 1)[1])
    return civil.replace(year=year, month=month + 1, day=day)


def _check_bound(n: int) -> None:
    if abs(n) > BOUNDARIES_MAX:
        raise ValueError(f"more than {BOUNDARIES_MAX} periods from the anchor")
