"""Knows what is asked about use, and what is answered: a quantity with the proof of what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from common.period import Period


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    customer_id: str
    external_id: str
    """Empty when the customer has none; senders may name a customer by either."""
    meter: str
    period: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    query: UsageQuery
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    """How many usage events of the seller had been accepted, in all, when these were counted."""
    traceparents: tuple[str, ...]
