"""Knows what is kept of a usage for ever, when it may be, and what came too late for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NewType, Self

from common.errors import InvalidArgument
from common.money import exact_sum
from metering.domain.errors import PeriodNotEnded
from metering.domain.meter import Meter
from metering.domain.usage import Usage, UsageQuery

FrozenUsageId = NewType("FrozenUsageId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenUsage:
    """Never changes."""

    id: FrozenUsageId
    query: UsageQuery
    """Through the position that was counted to, by the version of the meter that counted."""
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    replaces: FrozenUsageId | None
    create_time: datetime

    def usage_now(self, *, fresh_after: int) -> UsageQuery:
        """The same question, of all that there is by now; and how many of the events came after a position."""
        return replace(self.query, through_position=None, fresh_after=fresh_after)

    def is_counted_anew(self, meter: Meter) -> bool:
        """Whether another version of the meter has taken the place of the one that counted it."""
        return meter.in_effect(self.query.period.start).number != self.query.meter_version

    @property
    def usage_in_effect(self) -> UsageQuery:
        """The same question, as it would be answered if it had never been frozen."""
        return replace(self.query, through_position=None, meter_version=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LateUsage:
    """A frozen usage, and the same usage counted later."""

    frozen: FrozenUsage
    now: Usage
    """By the version of the meter that is in effect by now."""
    event_count: int
    """How many of the events that are counted now were not there then."""
    corrected_count: int
    """How many of the events that were counted then have been taken away by corrections."""

    @classmethod
    def of(cls, frozen: FrozenUsage, counted: Usage, now: Usage) -> Self:
        """`counted` is the answer to `usage_now`, `now` the same by the version of the meter in effect."""
        return cls(
            frozen=frozen,
            now=now,
            event_count=counted.fresh_count,
            corrected_count=frozen.event_count - counted.kept_count,
        )

    @property
    def difference(self) -> Decimal:
        return exact_sum([self.now.quantity, self.frozen.quantity.copy_negate()])

    def is_news(self, since: Usage, *, counted_before: int) -> bool:
        """Whether anything became of it since it was told last, through the position of `since`, of so many events."""
        return since.fresh_count > 0 or since.kept_count < counted_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was told of a usage, and what was found when it was counted anew."""

    digest: str
    frozen: FrozenUsage | None
    """None when only a digest was told."""
    counted: Usage

    @property
    def is_valid(self) -> bool:
        counted, frozen = self.counted, self.frozen
        if frozen is not None and (frozen.quantity, frozen.event_count) != (counted.quantity, counted.event_count):
            return False
        return self.digest == counted.digest


def check_freezable(query: UsageQuery, *, at: datetime) -> UsageQuery:
    """Until its period is over, every usage event would be a late one."""
    plain = UsageQuery(
        customer_id=query.customer_id,
        external_id=query.external_id,
        meter=query.meter,
        period=query.period,
        names=query.names,
    )
    if query != plain:
        raise InvalidArgument("must ask for a customer, a meter and a period, and for nothing else", field="query")
    if query.period.end > at:
        raise PeriodNotEnded(
            f"the period ends at {query.period.end.isoformat()}", end_time=query.period.end.isoformat()
        )
    return query


def check_replaces(query: UsageQuery, replaced: FrozenUsage) -> None:
    """Otherwise nobody would be told any more of what comes too late for the one."""
    before = replaced.query
    if (query.customer_id, query.meter, query.period) != (before.customer_id, before.meter, before.period):
        raise InvalidArgument("must be of the same customer, meter and period", field="replaces")


def freeze(usage: Usage, *, frozen_id: FrozenUsageId, replaces: FrozenUsageId | None, at: datetime) -> FrozenUsage:
    return FrozenUsage(
        id=frozen_id,
        query=replace(usage.query, through_position=usage.through_position, meter_version=usage.meter_version),
        quantity=usage.quantity,
        event_count=usage.event_count,
        digest=usage.digest,
        through_position=usage.through_position,
        replaces=replaces,
        create_time=at,
    )
