"""Knows what is said of usage that nobody counts yet, and of what it names that is not there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

OPEN_MAX: Final = 1_000
"""Names of one seller that are unmatched and told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedUsage:
    """All usage events of one pair of meter and customer as their senders wrote them, of which one is not there."""

    meter: str
    customer: str
    meter_is_known: bool
    name_id: str
    """Empty until it was told of."""
    event_count: int
    first_time: datetime
    last_time: datetime
    first_position: int
    last_position: int


class Missing(Enum):
    """Of what kind it is; the value is the reason that senders are told."""

    METER = "UNKNOWN_METER"
    CUSTOMER = "UNKNOWN_CUSTOMER"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedName:
    """What usage events name and there is not, or was not."""

    id: str
    missing: Missing
    name: str
    found_time: datetime
    matched_time: datetime | None = None
    revision: int = 1

    def matched(self, *, at: datetime) -> UnmatchedName:
        return replace(self, matched_time=at, revision=self.revision + 1)

    def found_again(self, *, at: datetime) -> UnmatchedName:
        return replace(self, found_time=at, matched_time=None, revision=self.revision + 1)
