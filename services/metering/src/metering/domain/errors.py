"""Knows why the metering service refuses; the class name is the reason that a caller sees."""

from __future__ import annotations

from common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class MeterCodeTaken(AlreadyExists):
    """The seller has a meter with this code, and what it counts never changes."""


class MeterNotFound(NotFound):
    """The seller has no such meter."""


class UnknownMeter(InvalidArgument):
    """A usage event names a meter that the seller does not have. Create it, then send the event again."""


class EventInFuture(InvalidArgument):
    """A usage event says that it happens later than any difference between clocks explains."""


class TooManyGroups(FailedPrecondition):
    """There are more combinations of values than one usage can tell: ask by fewer dimensions, or for less time."""


class TooManyValues(FailedPrecondition):
    """There are more usage events than one usage can tell the values of: ask for less time."""
