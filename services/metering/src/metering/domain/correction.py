"""Knows what became of a usage event after it was accepted: its versions, and the corrections between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from metering.domain.errors import TooManyAmendments, UsageEventVoided
from metering.domain.usage_event import Identity, UsageEvent

AMENDMENTS_MAX: Final = 100
"""Of one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventVersion:
    """What an event said, from a position on."""

    event: UsageEvent
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Never changes, and is never taken back: an event that was amended can be amended again."""

    identity: Identity
    number: int
    """The first of the event is 1."""
    corrects: int
    """The position of the version that it takes away."""
    position: int
    amended_position: int | None
    """Of the version that it puts in its place; None if it voids the event."""
    reason: str
    actor: str
    request_id: str
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHistory:
    """One event, with all that it ever said."""

    versions: tuple[EventVersion, ...]
    """As it was ingested, then as it was amended, in order."""
    corrections: tuple[Correction, ...]
    """In order: each takes a version away."""

    @property
    def newest(self) -> EventVersion:
        return self.versions[-1]

    @property
    def is_voided(self) -> bool:
        return bool(self.corrections) and self.corrections[-1].amended_position is None

    def is_amended_already(self, event: UsageEvent, *, request_id: str) -> bool:
        """Whether it says so by now, or the same request made it say so, whatever came after."""
        said = {version.position: version.event for version in self.versions}
        return (not self.is_voided and self.newest.event == event) or any(
            request_id == each.request_id and said.get(each.amended_position or 0) == event
            for each in self.corrections
            if request_id
        )

    def check_amendable(self) -> None:
        if self.is_voided:
            identity = self.newest.event.identity
            raise UsageEventVoided(f"{identity.id} of {identity.source} has been voided", **identity._asdict())
        if len(self.corrections) >= AMENDMENTS_MAX:
            raise TooManyAmendments(f"it has been amended {AMENDMENTS_MAX} times", limit=AMENDMENTS_MAX)
