"""Knows when a part of the log may leave it, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from common.errors import InvalidArgument
from metering.domain.errors import ArchiveMismatch, LeafStillNeeded
from metering.domain.usage_event import UsageEvent


class LeafState(Enum):
    SEALED = "SEALED"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """So many usage events of all sellers, in the order in which they were stored."""

    number: int
    state: LeafState
    event_count: int
    start_time: datetime
    end_time: datetime
    """Of the latest of them."""
    is_summed: bool
    digest: str
    """Of all that was in it when it was archived; empty before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """As it stands in the log."""

    seller_id: str
    position: int
    event: UsageEvent
    key: bytes


@dataclass(slots=True)
class Content:
    """How many events there are, and a digest of their lines."""

    event_count: int = 0
    _sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, lines: Iterable[str]) -> None:
        found = list(lines)
        self.event_count += len(found)
        self._sha256.update("".join(f"{line}\n" for line in found).encode())

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def check(self, event_count: int, digest: str) -> None:
        """That it is what somebody says it is."""
        if (event_count, digest) != (self.event_count, self.digest):
            raise ArchiveMismatch(
                f"there are {self.event_count} events with digest {self.digest}, not {event_count} with {digest[:64]}",
                event_count=self.event_count,
                digest=self.digest,
            )


def check_before(before: datetime, *, at: datetime, kept: timedelta) -> datetime:
    """What was used in the last months is still billed, corrected and proven."""
    if before > at - kept:
        raise InvalidArgument(f"must lie at least {kept.days} days back", field="before_time")
    return before


def check_archivable(leaf: Leaf, *, at: datetime, kept: timedelta) -> None:
    if leaf.end_time >= at - kept:
        message = f"leaf {leaf.number} has usage of {leaf.end_time.isoformat()}: less than {kept.days} days ago"
        raise LeafStillNeeded(message, leaf=leaf.number)
