"""Knows what is asked about use, and what is answered: a quantity with the proof of what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from common.period import Period
from metering.domain.filter import EVERYTHING, EventFilter
from metering.domain.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    customer_id: str
    external_id: str
    """Empty when the customer has none."""
    meter: str
    period: Period
    names: tuple[str, ...] = ()
    """What else the customer is called."""
    group_by: tuple[str, ...] = ()
    with_values: bool = False
    without_proof: bool = False
    filter: EventFilter = EVERYTHING
    """Beside that of the meter."""
    window: Window | None = None
    time_zone: str = ""
    """Whose calendar the windows are of."""
    through_position: int | None = None
    """What was ingested later is not considered; None for considering all."""
    fresh_after: int | None = None
    """Also told is how many of the events counted were ingested after this position."""
    meter_version: int | None = None
    """None for the one in effect when the period begins."""

    @property
    def is_short(self) -> bool:
        """Whether nothing is asked for but the quantity."""
        more = self.group_by or self.with_values or self.window or self.through_position is not None
        return self.without_proof and not more and self.filter == EVERYTHING

    @property
    def customers(self) -> list[str]:
        """All that senders may name the customer by."""
        return sorted({self.customer_id, self.external_id, *self.names} - {""})


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageGroup:
    """The usage of one combination of values of the dimensions asked for."""

    values: tuple[str, ...]
    """In the order of the dimensions; empty where usage events do not name one."""
    quantity: Decimal
    event_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageWindow:
    """The usage of one window."""

    window: Period
    """Whole, though only what lies in the period asked for is counted."""
    quantity: Decimal
    event_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    query: UsageQuery
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    """How many usage events of the seller had been accepted, in all, when these were counted; or were to be counted."""
    traceparents: tuple[str, ...]
    groups: tuple[UsageGroup, ...]
    """In order of their values; only if asked for."""
    values: tuple[Decimal, ...]
    """Of every event, in order of time, source and id; only if asked for."""
    windows: tuple[UsageWindow, ...]
    """Without gaps, in order of time; only if asked for."""
    meter_version: int
    """By which it was counted."""
    fresh_count: int = 0
    """How many of the events were ingested after the position asked about; 0 if none was."""

    @property
    def kept_count(self) -> int:
        """How many of the events had been ingested by that position."""
        return self.event_count - self.fresh_count
