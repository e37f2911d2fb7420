"""Knows what a correction adds to the log: a row that takes an event away, and perhaps one that says it anew.

    position   event                                   corrects  version
    7          the event as it was ingested
    12         the same again: takes it away           7
    13         the event as it was amended                       1
    20         the same again: takes that away         13

Which of two corrections came first is decided as with repeats: the n-th of an event has keys that nothing else has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SEPARATOR: Final = b"\x1f"
"""No id contains it: control characters are refused. So no event can have the key of a correction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Why a batch was written that takes its first event away, and puts its second one, if any, in that one's place."""

    source: str
    event_id: str
    number: int
    """The first of the event is 1."""
    corrects: int
    """The position of what is taken away."""
    reason: str
    actor: str
    request_id: str

    @property
    def identities(self) -> list[bytes]:
        """Of the rows that it may have."""
        event_id = self.event_id.encode()
        return [_SEPARATOR.join((event_id, b"%d" % self.number)), version_identity(event_id, self.number)]


def version_identity(event_id: bytes, version: int) -> bytes:
    """What stands for an event as it was ingested, version 0, or as it was amended."""
    return _SEPARATOR.join((event_id, b"%d" % version, b"")) if version else event_id
