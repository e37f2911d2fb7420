"""Knows what becomes of the usage events of a batch: each is judged on its own, and none harms another."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    """May be negative: a sender corrects itself by the opposite, since what it has sent is never changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One event of a batch as it came: either the event or what is wrong with it."""

    sent_id: str
    identity: Identity | None
    """None when what was sent cannot identify anything."""
    event: UsageEvent | None = None
    fault: InvalidArgument | None = None

    def judge(self, *, meters: Collection[str], latest: datetime) -> Report:
        """The report, at fault if it names no meter of ours or happens after `latest`."""
        if self.event is None:
            return self
        fault: InvalidArgument | None = None
        if self.event.meter not in meters:
            fault = UnknownMeter(f"there is no meter {self.event.meter}", field="meter")
        elif self.event.time > latest:
            fault = EventInFuture(f"must not be after {latest.isoformat()}", field="time")
        return self if fault is None else replace(self, event=None, fault=fault)


class Outcome(Enum):
    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    id: str
    outcome: Outcome
    fault: InvalidArgument | None = None


def first_of_each(reports: Iterable[Report]) -> list[UsageEvent]:
    """The events that can be stored; of several with one identity the first."""
    firsts: dict[Identity, UsageEvent] = {}
    for report in reports:
        if report.event is not None:
            firsts.setdefault(report.event.identity, report.event)
    return list(firsts.values())


def settle(
    reports: Iterable[Report], *, accepted: Collection[Identity], known: Collection[Identity]
) -> list[EventResult]:
    """What to answer, in order: `accepted` were stored now, `known` had been before.

    A repeat is a duplicate whatever else it says: a sender that repeats itself is told that it need not.
    """
    results = []
    seen = set(known)
    for report in reports:
        identity = report.identity
        if report.event is not None and identity in accepted and identity not in seen:
            outcome = Outcome.ACCEPTED
        elif report.event is not None or identity in seen:
            outcome = Outcome.DUPLICATE
        else:
            outcome = Outcome.REJECTED
        if outcome is Outcome.ACCEPTED and identity is not None:
            seen.add(identity)
        fault = report.fault if outcome is Outcome.REJECTED else None
        results.append(EventResult(id=report.sent_id, outcome=outcome, fault=fault))
    return results
