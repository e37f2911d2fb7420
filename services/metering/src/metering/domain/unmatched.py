"""Knows what is said of usage that nobody counts yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedUsage:
    """All usage events of one pair of meter and customer as their senders wrote them, of which one is not there."""

    meter: str
    customer: str
    meter_is_known: bool
    event_count: int
    first_time: datetime
    last_time: datetime
    first_position: int
    last_position: int
