"""Knows what a usage threshold is about, which periods of it are looked at, and how usage stands to it.

period           [ January            )[ February           )[ March ...
usage of January   counts              │ counts, if it goes  │ is not looked at
state of January   by the quantity     │ beyond the state at │ OK
                                       │ the end; otherwise OK
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Final, NewType
from zoneinfo import ZoneInfo

from common.errors import InvalidArgument
from common.period import Interval, Period, Unit, period_at, periods_between
from metering.domain.errors import AggregationHasNoThreshold, PeriodEnded
from metering.domain.filter import EVERYTHING, EventFilter
from metering.domain.meter import Aggregation, Definition

ThresholdId = NewType("ThresholdId", str)

THRESHOLDS_MAX: Final = 10_000
"""Of one seller, active."""
INTERVAL_MAX: Final = timedelta(days=3_660)
PERIODS_WATCHED_MAX: Final = 400
"""A year of days, and some: a usage event lies no further ahead of its time."""

_RHYTHMS_MAX: Final = 1_024


class ThresholdState(Enum):
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


class AlertState(IntEnum):
    """Each is more than the one before."""

    OK = 0
    WARNING = 1
    REACHED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """The days, weeks, months or years of a calendar."""

    unit: Unit
    time_zone: str

    def period_at(self, instant: datetime) -> Period:
        return period_at(_anchor(self.time_zone), self.time_zone, Interval(self.unit, 1), instant)

    def watched(self, at: datetime, *, ahead: timedelta) -> list[Period]:
        """The period that is under way, the one before, and those of usage that may lie ahead."""
        first = self.period_at(self.period_at(at).start - _MICROSECOND).start
        end = at + ahead + _MICROSECOND
        return periods_between(
            _anchor(self.time_zone),
            self.time_zone,
            Interval(self.unit, 1),
            first,
            end,
            limit=PERIODS_WATCHED_MAX,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageThreshold:
    """Never changes but to be archived."""

    id: ThresholdId
    meter: str
    customer_id: str
    """Empty for every customer."""
    rhythm: Rhythm | None
    interval: Period | None
    """Either this one period, or those of the rhythm."""
    value: Decimal
    warning_value: Decimal | None
    filter: EventFilter = EVERYTHING
    """Beside that of the meter."""
    state: ThresholdState = ThresholdState.ACTIVE
    revision: int = 1
    create_time: datetime
    archive_time: datetime | None = None

    def check(self, definition: Definition, *, at: datetime) -> None:
        if definition.aggregation is Aggregation.MIN:
            raise AggregationHasNoThreshold(f"{self.meter} takes the smallest value", meter=self.meter)
        if self.value <= 0:
            raise InvalidArgument("must be greater than 0, where every period begins", field="value")
        if self.warning_value is not None and not 0 < self.warning_value < self.value:
            raise InvalidArgument("must be greater than 0 and less than value", field="warning_value")
        self.filter.check(field="filter")
        if self.interval is None:
            return
        if self.interval.end - self.interval.start > INTERVAL_MAX:
            raise InvalidArgument(f"must be of at most {INTERVAL_MAX.days} days", field="interval.end_time")
        if self.interval.end <= at:
            end = self.interval.end.isoformat()
            raise PeriodEnded(f"the interval ended at {end}", end_time=end)

    def archived(self, *, at: datetime) -> UsageThreshold:
        return replace(self, state=ThresholdState.ARCHIVED, archive_time=at, revision=self.revision + 1)

    def level(self, quantity: Decimal) -> AlertState:
        """By the quantity alone."""
        if quantity >= self.value:
            return AlertState.REACHED
        if self.warning_value is not None and quantity >= self.warning_value:
            return AlertState.WARNING
        return AlertState.OK

    def closes(self, period: Period) -> datetime:
        """Until when late usage of a period is looked at: for one period more."""
        if self.rhythm is None:
            return period.end + (period.end - period.start)
        return self.rhythm.period_at(period.end).end

    def next_start(self, at: datetime) -> datetime | None:
        """When the next of its periods begins."""
        if self.rhythm is not None:
            return self.rhythm.period_at(at).end
        assert self.interval is not None, "without a rhythm it has an interval"
        return self.interval.start if self.interval.start > at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAlert:
    """How the usage of one customer in one period stands to a threshold."""

    number: int
    """By which it is known to the job that settles it."""
    threshold_id: ThresholdId
    meter: str
    customer_id: str
    period: Period
    state: AlertState = AlertState.OK
    previous_state: AlertState = AlertState.OK
    ended_state: AlertState | None = None
    """How it stood when its period ended; None until it has."""
    quantity: Decimal = Decimal(0)
    through_position: int = 0
    meter_version: int = 0
    """By which it was counted; 0 if that was never noted."""
    change_time: datetime | None = None
    mark: int = 1
    """How often it was noted that there may be something new."""
    settled_mark: int = 0

    @property
    def is_marked(self) -> bool:
        return self.mark > self.settled_mark

    @property
    def period_ended(self) -> bool:
        return self.ended_state is not None

    def counted(self, quantity: Decimal, *, through_position: int, meter_version: int) -> UsageAlert:
        return replace(
            self,
            quantity=quantity,
            through_position=through_position,
            meter_version=meter_version,
            settled_mark=self.mark,
        )

    def settled(self, threshold: UsageThreshold, *, at: datetime) -> UsageAlert:
        """As it follows from its quantity and the time."""
        ended_state = self.ended_state
        if ended_state is None and at >= self.period.end:
            ended_state = self.state
        level = threshold.level(self.quantity)
        if ended_state is not None and (level <= ended_state or at >= threshold.closes(self.period)):
            level = AlertState.OK
        if level is self.state:
            return replace(self, ended_state=ended_state)
        return replace(self, state=level, previous_state=self.state, ended_state=ended_state, change_time=at)

    def next_moment(self, threshold: UsageThreshold) -> datetime:
        """When it is to be settled by the time alone."""
        return threshold.closes(self.period) if self.period_ended else self.period.end


@functools.lru_cache(maxsize=_RHYTHMS_MAX)
def _anchor(zone: str) -> datetime:
    """A Monday and the first of a year, so that weeks, months and years can be counted from it."""
    return datetime(2001, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


_MICROSECOND: Final = timedelta(microseconds=1)
