"""Knows what is asked about use, and what is answered: a quantity with the proof of what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from common.period import Period


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
class Usage:
    query: UsageQuery
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    """How many usage events of the seller had been accepted, in all, when these were counted."""
    traceparents: tuple[str, ...]
    groups: tuple[UsageGroup, ...]
    """In order of their values; only if asked for."""
    values: tuple[Decimal, ...]
    """Of every event, in order of time, source and id; only if asked for."""
