"""Knows what a backfill is: usage that is loaded while it counts for nobody, and then counts as a whole or never."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NewType

from metering.domain.errors import BackfillIncomplete, BackfillNotOpen, TooManyBackfills

BackfillId = NewType("BackfillId", str)

EVENTS_MAX: Final = 1_000_000
"""Of one backfill: it is closed while its seller waits."""
OPEN_MAX: Final = 10
"""Of one seller: what is loaded into them is known by heart."""
BACKFILLS_MAX: Final = 10_000
"""Of one seller that are open or closed: whoever counts looks at each."""
OPEN_TIME: Final = timedelta(days=30)
"""What somebody has forgotten is reverted then, and its ids are free."""
EXPIRED: Final = "expired"
"""Why it was."""


class BackfillState(Enum):
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    REVERTED = "REVERTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    id: BackfillId
    number: int
    """What the log calls it."""
    state: BackfillState
    reason: str
    event_count: int
    first_position: int | None
    last_position: int | None
    """None until it is closed, and if it is empty."""
    revert_position: int | None
    """From here on it does not count any more; None if it never did, or does."""
    opened_by: str
    create_time: datetime
    expire_time: datetime
    closed_by: str
    close_time: datetime | None
    reverted_by: str
    revert_time: datetime | None
    revert_reason: str

    def check_open(self) -> None:
        if self.state is not BackfillState.OPEN:
            raise BackfillNotOpen(f"{self.id} is {self.state.name}", id=self.id, state=self.state.name)


def check_number(*, open_count: int, kept_count: int) -> None:
    """Whether a seller may have another one; `kept_count` are those that are open or closed."""
    if open_count >= OPEN_MAX:
        raise TooManyBackfills(f"{open_count} backfills are open", open=open_count, limit=OPEN_MAX)
    if kept_count >= BACKFILLS_MAX:
        raise TooManyBackfills(f"there are {kept_count} backfills", limit=BACKFILLS_MAX)


def check_complete(event_count: int, expected: int | None) -> None:
    if expected is not None and event_count != expected:
        message = f"it has {event_count} usage events, not {expected}"
        raise BackfillIncomplete(message, event_count=event_count, expected=expected)
