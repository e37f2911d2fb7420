"""Knows what is asked of the copy, and what is found for it before anything is divided or rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from common.period import EARLIEST, Period
from metering.domain.meter import Definition
from metering.domain.usage import UsageQuery
from metering.domain.window import WINDOWS_MAX, Grid, Place, grid, too_many_windows

MICROSECOND: Final = timedelta(microseconds=1)
BEFORE: Final = -1
"""The window of what is carried over: it happened before all windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    query: UsageQuery
    definition: Definition
    streams: tuple[int, ...]
    """The numbers of the pairs of the meter and each name of the customer, of those that there are."""
    through: int
    """What has a later position is not considered."""
    buckets: Grid | None
    windows: Sequence[tuple[Place, Period]]
    is_proven: bool
    """Whether the digest is told, and what brought the events."""

    @property
    def counted(self) -> Period:
        return self.definition.counted(self.query.period)

    @property
    def cut(self) -> Grid | None:
        """Where the windows begin."""
        query = self.query
        return grid(query.period, query.window, query.time_zone) if query.window else None

    @property
    def shape(self) -> object:
        """Questions that are alike in this are asked together: they mostly differ in whose usage."""
        query = self.query
        is_cut = self.buckets is not None or query.window is not None
        return (
            self.definition,
            self.through,
            query.filter,
            query.group_by,
            query.with_values,
            query.window,
            query.time_zone,
            query.period if is_cut else None,
            self.is_proven,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What was added up of some events. In units of the twelfth decimal, unless it is a count of something."""

    measure: int
    """For AVERAGE the sum of the values; for WEIGHTED_SUM that of value times time, in microseconds."""
    value_sum: int
    event_count: int


NOTHING: Final = Cell(measure=0, value_sum=0, event_count=0)


@dataclass(slots=True, kw_only=True)
class Found:
    total: Cell = NOTHING
    digest: str = ""
    fresh_count: int = 0
    positions: Sequence[int] = ()
    """Of the newest ones."""
    values: Sequence[int] = ()
    groups: list[tuple[tuple[str, str], Cell]] = field(default_factory=list)
    """In order."""
    windows: dict[int, Cell] = field(default_factory=dict)
    """By when they begin, in microseconds since 1970; or BEFORE."""


def micros(instant: datetime) -> int:
    return (instant - EARLIEST) // MICROSECOND


def windows_of(queries: Sequence[UsageQuery]) -> list[Sequence[tuple[Place, Period]]]:
    """Those of each, before anybody looks for their events."""
    found: list[Sequence[tuple[Place, Period]]] = []
    left = WINDOWS_MAX
    for query in queries:
        cut = grid(query.period, query.window, query.time_zone) if query.window else None
        found.append(tuple(islice(cut.windows(query.period) if cut else (), left + 1)))
        left -= len(found[-1])
        if left < 0:
            raise too_many_windows()
    return found
