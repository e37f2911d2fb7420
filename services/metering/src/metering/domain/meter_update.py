"""Knows what may change of how a meter counts, and from when on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from common.errors import InvalidArgument
from common.period import EARLIEST
from metering.domain.errors import (
    MeterChanged,
    MeterEffectiveInPast,
    MeterVersionFollows,
    TooManyMeterVersions,
)
from metering.domain.filter import EventFilter
from metering.domain.meter import (
    CARRYING,
    NOT_LOOKING_AT_VALUES,
    UTC,
    Aggregation,
    Bucket,
    Definition,
    Meter,
    MeterVersion,
)
from metering.domain.window import Window

VERSIONS_MAX: Final = 100
AHEAD_MAX: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionUpdate:
    """What is told of how a meter counts; None leaves it as it is."""

    aggregation: Aggregation | None = None
    unique_dimension: str | None = None
    percentile: Decimal | None = None
    bucket: Window | None = None
    time_zone: str | None = None
    filter: EventFilter | None = None
    value_expression: str | None = None

    def of(self, before: Definition) -> Definition:
        """What only the aggregation of before knew is dropped with it, unless it is told anew."""
        aggregation = before.aggregation if self.aggregation is None else self.aggregation
        if before.carries_over and aggregation not in CARRYING:
            # Then what happened before a period would be billed no more, and with the opposite once again.
            raise InvalidArgument("must be SUM, LATEST or WEIGHTED_SUM: the meter carries over", field="aggregation")
        kept = before
        if aggregation is not before.aggregation:
            expression = "" if aggregation in NOT_LOOKING_AT_VALUES else before.value_expression
            kept = Definition(
                aggregation=aggregation,
                carries_over=before.carries_over,
                filter=before.filter,
                value_expression=expression,
            )
        found = replace(
            kept,
            unique_dimension=kept.unique_dimension if self.unique_dimension is None else self.unique_dimension,
            percentile=kept.percentile if self.percentile is None else self.percentile,
            bucket=self._bucket(kept.bucket),
            filter=kept.filter if self.filter is None else self.filter,
            value_expression=kept.value_expression if self.value_expression is None else self.value_expression,
        )
        found.check()
        return found

    def _bucket(self, before: Bucket | None) -> Bucket | None:
        length = self.bucket or (before.length if before else None)
        if length is None:
            if self.time_zone:
                raise InvalidArgument("must be empty without a bucket", field="time_zone")
            return None
        return Bucket(length=length, time_zone=self.time_zone or (before.time_zone if before else UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterUpdate:
    """What is told of a meter; None leaves it as it is."""

    display_name: str | None = None
    unit_label: str | None = None
    definition: DefinitionUpdate = DefinitionUpdate()
    accepts_days: int | None = None
    effective_time: datetime | None = None
    """None for now."""
    recount: bool = False
    supersede: bool = False
    expected_revision: int = 0
    """0 for whichever it is."""
    validate_only: bool = False

    def of(self, meter: Meter, *, at: datetime) -> Meter:
        """The meter with another version if anything is to be counted otherwise; the same if nothing changes."""
        if self.expected_revision not in (0, meter.revision):
            raise MeterChanged(f"meter {meter.code} is at revision {meter.revision}", revision=meter.revision)
        effective = at if self.effective_time is None else self.effective_time
        if not EARLIEST <= effective <= at + AHEAD_MAX:
            message = f"must be in {EARLIEST.year} or later, and at most {AHEAD_MAX.days} days ahead"
            raise InvalidArgument(message, field="effective_time")
        before = meter.in_effect(effective)
        definition = self.definition.of(before.definition)
        accepts_days = before.accepts_days if self.accepts_days is None else self.accepts_days
        versions = meter.versions
        if self._is_news(meter, effective, definition, accepts_days):
            self._check_times(meter, effective, at=at)
            version = MeterVersion(
                number=meter.last.number + 1,
                definition=definition,
                accepts_days=accepts_days,
                effective_time=effective,
                create_time=at,
            )
            versions = (*meter.versions, version)
        changed = replace(
            meter,
            display_name=meter.display_name if self.display_name is None else self.display_name,
            unit_label=meter.unit_label if self.unit_label is None else self.unit_label,
            versions=versions,
        )
        return meter if changed == meter else replace(changed, revision=meter.revision + 1)

    def _is_news(self, meter: Meter, effective: datetime, definition: Definition, accepts_days: int) -> bool:
        """Not if it says what the version in effect says; unless it is told to take the place of those that follow."""
        first, *others = meter.in_effect_from(effective)
        same = (first.definition, first.accepts_days) == (definition, accepts_days)
        return not same or (bool(others) and self.supersede)

    def _check_times(self, meter: Meter, effective: datetime, *, at: datetime) -> None:
        if effective < at and not self.recount:
            message = f"periods that began since {effective.isoformat()} would be counted anew"
            raise MeterEffectiveInPast(message, effective_time=effective.isoformat())
        following = meter.in_effect_from(effective)[1:]
        if following and not self.supersede:
            later = following[0].effective_time.isoformat()
            message = f"version {following[0].number} of meter {meter.code} takes effect at {later}"
            raise MeterVersionFollows(message, version=following[0].number, effective_time=later)
        if len(meter.versions) >= VERSIONS_MAX:
            raise TooManyMeterVersions(f"meter {meter.code} has {VERSIONS_MAX} versions", maximum=VERSIONS_MAX)


def is_counted_anew(before: Meter, after: Meter) -> bool:
    """Whether any period is counted otherwise after an update than it was before."""
    if after.last is before.last:
        return False
    definition = after.last.definition
    return any(each.definition != definition for each in before.in_effect_from(after.last.effective_time))
