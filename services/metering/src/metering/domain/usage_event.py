"""Knows what a usage event says, and what one must not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from common.errors import InvalidArgument
from metering.domain.errors import EventInFuture, EventTooOld, SourceReserved

KEY_LENGTH_MAX: Final = 128
VALUE_DIGITS_MAX: Final = 26
"""Before the decimal point; 12 decimals more make the 38 digits that every database can hold."""
QUOTA_SOURCE: Final = "saldo.quota"
"""Of the usage events of commits of quota, and of no others."""


class Identity(NamedTuple):
    """What makes a usage event the same one for ever, within a seller."""

    source: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    identity: Identity
    customer: str
    meter: str
    time: datetime
    value: Decimal
    """May be negative: a sender may correct itself by sending the opposite."""
    dimensions: Mapping[str, str]
    """What usage can be told apart by, name to value; mostly nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlace:
    """A place in the list of usage events, which is in order of time, then of source and id."""

    time: datetime
    identity: Identity


def check_value(value: Decimal) -> Decimal:
    # Compared as it is: abs() would round it to 28 digits.
    if not -_VALUE_END < value < _VALUE_END:
        raise InvalidArgument(f"must have at most {VALUE_DIGITS_MAX} digits before the decimals", field="value")
    return value


def check_source(source: str) -> None:
    if source == QUOTA_SOURCE:
        raise SourceReserved("is reserved for commits of quota", field="source")


def in_future(latest: datetime) -> EventInFuture:
    return EventInFuture(f"must not be after {latest.isoformat()}", field="time")


def too_old(meter: str, accepts_days: int, earliest: datetime) -> EventTooOld:
    message = f"must not be before {earliest.isoformat()}: {meter} accepts usage of the last {accepts_days} days"
    return EventTooOld(message, field="time")


_VALUE_END: Final = Decimal(10) ** VALUE_DIGITS_MAX
