"""Knows billing time: intervals, the boundaries an anchor puts into a time zone, the periods between them.

    anchor = 31 January 10:00 in Paris, every month
    n          0              1              2              3
    boundary   31 Jan 10:00   28 Feb 10:00   31 Mar 10:00   30 Apr 10:00
               09:00 UTC      09:00 UTC      08:00 UTC      08:00 UTC
    period     [──────────────)[─────────────)[─────────────)

The n-th boundary is the anchor's civil date and time plus n intervals, always counted from the anchor. So
the 31st returns after February, and a clock change neither doubles nor loses a period. A civil time that a
clock change skips becomes the time after it; one that happens twice is the first. A civil day that a zone
skipped altogether (Samoa, 30 December 2011) has no period: its two boundaries are one instant.

The instants are datetimes in UTC; `whenever` does the calendar and does not leave this module.
"""

from __future__ import annotations

import functools
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from fractions import Fraction
from typing import Final

from whenever import Instant, PlainDateTime

from common.errors import InvalidArgument

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2300, 1, 1, tzinfo=UTC)
"""Boundaries lie in `[EARLIEST, LATEST)`: the calendar of any later time is not ours to promise."""

_PERIODS_MAX: Final = 256
_RULERS_MAX: Final = 256
_MARKS_MAX: Final = 64
"""What is kept for the next question: all items of a subscription ask for the same periods."""


class UnknownTimeZone(InvalidArgument):
    """Not the name of a time zone in the IANA database."""


class TimeOutOfRange(InvalidArgument):
    """Before 1970 or after 2299."""


class Unit(Enum):
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


@dataclass(frozen=True, slots=True)
class Interval:
    """How often. A quarter is three months. Ten years is the longest."""

    unit: Unit
    count: int

    def __post_init__(self) -> None:
        longest = _COUNT_MAX[self.unit]
        if not 1 <= self.count <= longest:
            raise InvalidArgument(f"must be 1 to {longest} {self.unit.name.lower()}s", field="interval.count")

    def __str__(self) -> str:
        return f"{self.count} {self.unit.name.lower()}{'s' if self.count > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Period:
    """The instants from `start` on and before `end`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _utc(self.start))
        object.__setattr__(self, "end", _utc(self.end))
        if self.start >= self.end:
            raise ValueError(f"a period ends after it starts: {self}")

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlap(self, other: Period) -> Period | None:
        """What both have in common."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Period(start, end) if start < end else None

    def abuts(self, other: Period) -> bool:
        """Whether one ends at the very instant at which the other starts."""
        return self.end == other.start or other.end == self.start

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"


def boundary(anchor: datetime, zone: str, interval: Interval, n: int) -> datetime:
    """The instant at which period `n` starts and period `n - 1` ends; `n` may be negative."""
    return _in_range(_ruler(anchor, zone, interval).mark(n))


@functools.lru_cache(maxsize=_PERIODS_MAX)
def period_at(anchor: datetime, zone: str, interval: Interval, instant: datetime) -> Period:
    """The one period that contains the instant."""
    ruler = _ruler(anchor, zone, interval)
    n = ruler.index(instant)
    return Period(_in_range(ruler.mark(n)), _in_range(ruler.mark(n + 1)))


def index_at(anchor: datetime, zone: str, interval: Interval, instant: datetime) -> int:
    """The largest `n` whose boundary is not after the instant."""
    return _ruler(anchor, zone, interval).index(instant)


def periods_between(
    anchor: datetime, zone: str, interval: Interval, start: datetime, end: datetime, *, limit: int
) -> list[Period]:
    """The whole periods that have an instant in `[start, end)`, in order; the first `limit` of them."""
    start, end = _utc(start), _utc(end)
    if start >= end or limit <= 0:
        return []
    ruler = _ruler(anchor, zone, interval)
    n = ruler.index(start)
    periods: list[Period] = []
    opening = _in_range(ruler.mark(n))
    while opening < end and len(periods) < limit:
        n += 1
        closing = _in_range(ruler.mark(n))
        if opening < closing:
            periods.append(Period(opening, closing))
        opening = closing
    return periods


def civil_date(instant: datetime, zone: str) -> date:
    """The date on the wall of somebody in that zone."""
    return _civil(instant, zone).date().to_stdlib()


def civil_day(instant: datetime, zone: str) -> Period:
    """The day on the wall of somebody in that zone, from its midnight to the next: 23 to 25 hours of it."""
    first = _civil(instant, zone).date()
    start, end = (
        PlainDateTime(day.year, day.month, day.day)
        .assume_tz(zone, disambiguation="compatible")
        .to_instant()
        .to_stdlib()
        for day in (first, first.add(days=1))
    )
    return Period(_in_range(start), _in_range(end))


def civil_days(period: Period, zone: str) -> int:
    """From the date of the start to the date of the end, half-open: a clock change makes no day longer."""
    return (civil_date(period.end, zone) - civil_date(period.start, zone)).days


def day_fraction(part: Period, whole: Period, zone: str) -> Fraction:
    """The share of `whole` that `part` is, in civil days of the zone; the parts of a whole add up to 1.

    The day of a change belongs to what begins on it. A whole inside a single day has no days to count and
    is measured by duration.
    """
    if part.start < whole.start or part.end > whole.end:
        raise ValueError(f"{part} is not a part of {whole}")
    days = civil_days(whole, zone)
    if days == 0:
        return Fraction((part.end - part.start) // _MICROSECOND, (whole.end - whole.start) // _MICROSECOND)
    return Fraction(civil_days(part, zone), days)


def check_time_zone(zone: str, *, field: str = "time_zone") -> str:
    """`zone` itself if the IANA database has it, spelled exactly so."""
    if zone not in _zones():
        raise UnknownTimeZone("must be the name of an IANA time zone, such as Europe/Paris", field=field)
    return zone


class _Ruler:
    """Where the boundaries of one anchor lie, not limited to the range; those that were asked for last are kept."""

    __slots__ = ("_anchor", "_days", "_marks", "_months", "_origin", "_zone")

    def __init__(self, anchor: datetime, zone: str, interval: Interval) -> None:
        self._anchor = _in_range(_utc(anchor))
        self._zone = zone
        self._origin = _civil(self._anchor, zone)
        self._months = _MONTHS.get(interval.unit, 0) * interval.count
        self._days = _DAYS.get(interval.unit, 0) * interval.count
        self._marks = {0: self._anchor}  # which may be the second of a civil time that happens twice

    def mark(self, n: int) -> datetime:
        """The boundary at which period `n` starts."""
        found = self._marks.get(n)
        if found is None:
            found = self._measured(n)
            if len(self._marks) >= _MARKS_MAX:
                self._marks = {0: self._anchor}
            self._marks[n] = found
        return found

    def index(self, instant: datetime) -> int:
        """The largest `n` whose boundary is not after the instant."""
        instant = _utc(instant)
        n = self._estimate(instant)
        for _ in range(_CORRECTIONS_MAX):
            if self.mark(n) > instant:
                n -= 1
            elif self.mark(n + 1) <= instant:
                n += 1
            else:
                return n
        raise AssertionError(f"no period from {self._anchor} in {self._zone} near {n} contains {instant}")

    def _measured(self, n: int) -> datetime:
        try:
            civil = self._origin.add(months=n * self._months, days=n * self._days)
            return civil.assume_tz(self._zone, disambiguation="compatible").to_instant().to_stdlib()
        except (ValueError, OverflowError):
            raise _out_of_range() from None

    def _estimate(self, instant: datetime) -> int:
        """The index by the calendar alone, which the day, the time and clock changes move by one or two."""
        then, now = self._origin.date(), _civil(_in_range(instant), self._zone).date()
        if self._months:
            return ((now.year - then.year) * 12 + now.month - then.month) // self._months
        return (now.to_stdlib() - then.to_stdlib()).days // self._days


@functools.lru_cache(maxsize=_RULERS_MAX)
def _ruler(anchor: datetime, zone: str, interval: Interval) -> _Ruler:
    return _Ruler(anchor, zone, interval)


def _civil(instant: datetime, zone: str) -> PlainDateTime:
    return Instant(_utc(instant)).to_tz(check_time_zone(zone)).to_plain()


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is UTC:
        return instant
    if instant.tzinfo is None:
        raise ValueError("an instant has a time zone")
    return instant.astimezone(UTC)


def _in_range(instant: datetime) -> datetime:
    if not EARLIEST <= instant < LATEST:
        raise _out_of_range()
    return instant


def _out_of_range() -> TimeOutOfRange:
    return TimeOutOfRange(f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}", field="time")


@functools.cache
def _zones() -> frozenset[str]:
    # Some systems list the machine's own settings next to the zones; a period must not depend on the machine.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


_MONTHS: Final = {Unit.MONTH: 1, Unit.YEAR: 12}
_DAYS: Final = {Unit.DAY: 1, Unit.WEEK: 7}
_COUNT_MAX: Final = {Unit.DAY: 3_660, Unit.WEEK: 520, Unit.MONTH: 120, Unit.YEAR: 10}
_CORRECTIONS_MAX: Final = 4
_MICROSECOND: Final = timedelta(microseconds=1)
