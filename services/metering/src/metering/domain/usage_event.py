"""Knows what becomes of the usage events of a batch: each is judged on its own, and none harms another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from common.errors import InvalidArgument
from metering.domain.errors import EventInFuture, UnknownMeter


class Identity(NamedTuple):
    """What makes a usage event the same one for ever, within a seller."""

    source: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    identity: Identity
    customer: str
    meter: str
    time: datetime
    value: Decimal
    """May be negative: what was sent is never changed, so a sender corrects itself by sending the opposite."""
    dimensions: Mapping[str, str]
    """What usage can be told apart by, name to value; mostly nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlace:
    """A place in the list of usage events, which is in order of time, then of source and id."""

    time: datetime
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One event of a batch as it came: the usage event, or what is wrong with it."""

    sent_id: str
    identity: Identity | None
    """None when what was sent cannot identify anything."""
    event: UsageEvent | None = None
    fault: InvalidArgument | None = None

    def judged(self, *, meters: Collection[str], latest: datetime) -> Report:
        """The report, at fault if it names none of the meters or happens after `latest`."""
        if self.event is None:
            return self
        if self.event.meter not in meters:
            fault: InvalidArgument = UnknownMeter(f"there is no meter {self.event.meter}", field="meter")
        elif self.event.time > latest:
            fault = EventInFuture(f"must not be after {latest.isoformat()}", field="time")
        else:
            return self
        return replace(self, event=None, fault=fault)


class Outcome(Enum):
    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    id: str
    outcome: Outcome
    fault: InvalidArgument | None = None
    """Only of a rejected one."""


def first_of_each(reports: Iterable[Report]) -> list[UsageEvent]:
    """The usage events that can be stored; of several with one identity the first."""
    firsts: dict[Identity, UsageEvent] = {}
    for report in reports:
        if report.event is not None:
            firsts.setdefault(report.event.identity, report.event)
    return list(firsts.values())


def settle(
    reports: Sequence[Report], *, accepted: Collection[Identity], known: Collection[Identity]
) -> list[EventResult]:
    """What to answer, in order: `accepted` were stored now, `known` had been before.

    A repeat is a duplicate whatever else it says: its sender only needs to know that the first one counts.
    """
    results = []
    seen = set(known)
    for report in reports:
        event, identity = report.event, report.identity
        if event is not None and event.identity in accepted and event.identity not in seen:
            seen.add(event.identity)
            results.append(EventResult(id=report.sent_id, outcome=Outcome.ACCEPTED))
        elif event is not None or identity in seen:
            results.append(EventResult(id=report.sent_id, outcome=Outcome.DUPLICATE))
        else:
            results.append(EventResult(id=report.sent_id, outcome=Outcome.REJECTED, fault=report.fault))
    return results
