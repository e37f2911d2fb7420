"""Remembers what parts of days came to, of customers who use much: who asks about a month asks the same again, and the
events of its first and its last day may be tens of thousands.

    a period   ·[ part of a day )[ day │ day │ day )[ hours of today )[ this hour )·
                  settled           sums of days       settled           events

What is settled is counted from its events once an hour, and kept as long as the same leaves are summed, through the
same positions: nothing is added to those. What comes late is beyond them, and counted each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import asyncpg

from common.period import Period

EVENTS_MIN: Final = 1_000
"""What is less is counted as fast as it is remembered."""
REMEMBERED_MAX: Final = 2_000
"""By each connection: 1 MB."""


class Sums(NamedTuple):
    """What some events come to; of none nothing but zeros."""

    event_count: int
    value_sum: Decimal
    value_min: Decimal
    value_max: Decimal

    @classmethod
    def of(cls, row: asyncpg.Record, part: str) -> Sums:
        event_count, *values = (row[f"{part}_{name}"] for name in cls._fields)
        return cls(event_count or 0, *(value or Decimal(0) for value in values))

    def with_(self, other: Sums) -> Sums:
        if not (self.event_count and other.event_count):
            return self if self.event_count else other
        return Sums(
            self.event_count + other.event_count,
            self.value_sum + other.value_sum,
            min(self.value_min, other.value_min),
            max(self.value_max, other.value_max),
        )


class Bounds(NamedTuple):
    """Where the parts of a period end that are found in different ways."""

    start: datetime
    head_end: datetime
    """Of the part of its first day."""
    first_day: datetime
    last_day: datetime
    """After the whole days."""
    settled: datetime
    """After the whole hours."""
    end: datetime

    @classmethod
    def of(cls, period: Period, whole: tuple[datetime, datetime]) -> Bounds:
        first_day, last_day = whole
        hour = period.end.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        settled = max(period.start, hour)
        head_end = first_day if first_day < last_day else settled
        return cls(period.start, head_end, first_day, last_day, settled, period.end)


class Asked(NamedTuple):
    """What is settled of some streams, by which leaves, through which positions: by others it is to be counted anew."""

    streams: tuple[int, ...]
    bounds: tuple[datetime, ...]
    summed: Hashable

    @classmethod
    def of(cls, streams: Sequence[int], bounds: Bounds, summed: Hashable) -> Asked:
        return cls(tuple(streams), bounds[:-1], summed)


# Whoever puts back a backup of the database ends its connections.
_remembered: Final[WeakKeyDictionary[asyncpg.Connection, OrderedDict[Asked, Sums]]] = WeakKeyDictionary()


def known(connection: asyncpg.Connection, asked: Mapping[int, Asked]) -> dict[int, Sums]:
    """What is known of what is asked, under the same numbers."""
    remembered = _remembered.get(connection)
    return {} if remembered is None else {nth: remembered[each] for nth, each in asked.items() if each in remembered}


def remember(connection: asyncpg.Connection, found: Mapping[Asked, Sums]) -> None:
    """What is too little is not kept."""
    remembered = _remembered.setdefault(connection, OrderedDict())
    for asked, sums in found.items():
        if sums.event_count >= EVENTS_MIN:
            remembered[asked] = sums
            remembered.move_to_end(asked)
    while len(remembered) > REMEMBERED_MAX:
        remembered.popitem(last=False)
