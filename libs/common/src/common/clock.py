"""Knows what time it is: wall time for a live seller, its own simulated time for a sandbox.

This is the only module that reads a clock. Everything else is told the time: by `tx.now`, or by an argument called
`at` or `as_of`. A sandbox's time stands still until somebody advances it (`OperationsService.AdvanceClock`); it begins
at the instant embedded in the sandbox's id, so that six services agree on it without asking one another.
"""

from __future__ import annotations

from datetime import UTC, datetime

from common.errors import FailedPrecondition


class NotASandbox(FailedPrecondition):
    """A live seller has no clock of its own to read or to move."""


class ClockBackwards(FailedPrecondition):
    """Simulated time only moves forward: what was done at a later instant cannot be undone."""


def wall() -> datetime:
    """Wall time, in UTC."""
    return datetime.now(UTC)
