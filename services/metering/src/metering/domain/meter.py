"""Knows what is measured, and how its usage events become one quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.period import EARLIEST, Period
from metering.domain.dimension import check_dimension
from metering.domain.errors import MeterVersionNotFound
from metering.domain.expression import Expression, parse
from metering.domain.filter import EVERYTHING, EventFilter
from metering.domain.window import Window

MeterId = NewType("MeterId", str)

PERCENTILE_MAX: Final = 100
ACCEPTS_DAYS_MAX: Final = 36_500
UTC: Final = "UTC"
"""Whose civil days buckets and windows are of unless it is told."""

_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Aggregation(Enum):
    """How the values of a period are made one quantity; `store.usages` computes it, where the usage events are."""

    SUM = "SUM"
    COUNT = "COUNT"
    MAX = "MAX"
    LATEST = "LATEST"
    UNIQUE_COUNT = "UNIQUE_COUNT"
    MIN = "MIN"
    AVERAGE = "AVERAGE"
    WEIGHTED_SUM = "WEIGHTED_SUM"
    PERCENTILE = "PERCENTILE"
    SUM_OF_MAX = "SUM_OF_MAX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Of which SUM_OF_MAX takes the largest value."""

    length: Window
    time_zone: str


SUMMED: Final = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.MIN, Aggregation.MAX})
"""What is kept of whole days."""
CARRYING: Final = frozenset({Aggregation.SUM, Aggregation.LATEST, Aggregation.WEIGHTED_SUM})
NOT_LOOKING_AT_VALUES: Final = frozenset({Aggregation.COUNT, Aggregation.UNIQUE_COUNT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """How a meter counts, in full. What an aggregation would ignore is refused: somebody relied on it."""

    aggregation: Aggregation
    unique_dimension: str = ""
    """Whose different values UNIQUE_COUNT counts; empty for any other aggregation."""
    percentile: Decimal | None = None
    carries_over: bool = False
    """Counts the usage events before the period too."""
    bucket: Bucket | None = None
    filter: EventFilter = EVERYTHING
    value_expression: str = ""
    """What a usage event counts for; empty for its value."""

    def check(self) -> None:
        check_unique_dimension(self.unique_dimension, self.aggregation)
        self._check_percentile()
        if self.carries_over and self.aggregation not in CARRYING:
            raise InvalidArgument("must be false: only SUM, LATEST and WEIGHTED_SUM carry over", field="carries_over")
        if (self.bucket is None) == (self.aggregation is Aggregation.SUM_OF_MAX):
            needed = "HOUR or DAY" if self.bucket is None else "absent unless the aggregation is SUM_OF_MAX"
            raise InvalidArgument(f"must be {needed}", field="bucket")
        self.filter.check(field="filter")
        if self.value_expression and self.aggregation in NOT_LOOKING_AT_VALUES:
            raise InvalidArgument(f"must be empty: {self.aggregation.name} looks at no value", field="value_expression")
        if self.value_expression:
            parse(self.value_expression)

    @property
    def is_summed(self) -> bool:
        """Whether a quantity can be put together of those of days."""
        more = self.carries_over or self.bucket or self.value_expression
        return self.aggregation in SUMMED and not more and self.filter == EVERYTHING

    @property
    def expression(self) -> Expression | None:
        return parse(self.value_expression) if self.value_expression else None

    def counted(self, period: Period) -> Period:
        """When the usage events happened that are counted in a period."""
        return Period(EARLIEST, period.end) if self.carries_over else period

    def _check_percentile(self) -> None:
        if self.aggregation is not Aggregation.PERCENTILE:
            if self.percentile is not None:
                raise InvalidArgument("must be absent unless the aggregation is PERCENTILE", field="percentile")
        elif self.percentile is None or not 0 < self.percentile <= PERCENTILE_MAX:
            raise InvalidArgument(f"must be greater than 0 and at most {PERCENTILE_MAX}", field="percentile")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterVersion:
    """How a meter counts from an instant on. Never changes: a quantity that was billed must mean the same for ever."""

    number: int
    definition: Definition
    accepts_days: int
    """How far back usage events may lie when they come; 0 for any time."""
    effective_time: datetime
    """EARLIEST for the first one."""
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    id: MeterId
    code: str
    display_name: str
    unit_label: str
    revision: int
    create_time: datetime
    versions: tuple[MeterVersion, ...]
    """From the first on, without gaps."""

    def in_effect(self, at: datetime) -> MeterVersion:
        """The newest of those whose time has come; there always is one."""
        return next(each for each in reversed(self.versions) if each.effective_time <= at)

    def in_effect_from(self, at: datetime) -> tuple[MeterVersion, ...]:
        """All that are in effect at an instant, or at a later one."""
        first = self.in_effect(at)
        later = [each for each in self.versions[first.number :] if self.in_effect(each.effective_time) is each]
        return (first, *later)

    def version(self, number: int) -> MeterVersion:
        if not 1 <= number <= len(self.versions):
            raise MeterVersionNotFound(
                f"meter {self.code} has {len(self.versions)} versions", code=self.code, version=number
            )
        return self.versions[number - 1]

    def end_time(self, version: MeterVersion) -> datetime | None:
        """When a newer version takes its place; not after it begins if it never is in effect."""
        newer = self.versions[version.number :]
        return min((each.effective_time for each in newer), default=None)

    def counting(self, period: Period, number: int | None) -> MeterVersion:
        """Of a period the one in effect when it begins, unless another one is asked for."""
        if number is not None:
            return self.version(number)
        return self.versions[0] if len(self.versions) == 1 else self.in_effect(period.start)

    @property
    def carries_over(self) -> bool:
        """In all of its versions, or in none."""
        return self.versions[0].definition.carries_over

    @property
    def last(self) -> MeterVersion:
        return self.versions[-1]


def check_code(code: str, *, field: str = "code") -> str:
    if not _CODE.fullmatch(code):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=field)
    return code


def check_accepts_days(days: int) -> int:
    if not 0 <= days <= ACCEPTS_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {ACCEPTS_DAYS_MAX}", field="accepts_days")
    return days


def earliest_accepted(accepts_days: int, *, at: datetime) -> datetime:
    """When a usage event may have happened that comes now."""
    return max(EARLIEST, at - timedelta(days=accepts_days))


def check_unique_dimension(name: str, aggregation: Aggregation) -> str:
    """UNIQUE_COUNT means nothing without a dimension; for any other aggregation one would be ignored without a word."""
    if aggregation is Aggregation.UNIQUE_COUNT:
        check_dimension(name, field="unique_dimension")
    elif name:
        raise InvalidArgument("must be empty unless the aggregation is UNIQUE_COUNT", field="unique_dimension")
    return name
