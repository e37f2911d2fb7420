"""Knows a dunning policy: how long to wait before each retry, and what to do when none has helped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument

PolicyId = NewType("PolicyId", str)

RETRIES_MAX: Final = 20
WAIT_DAYS_MAX: Final = 365


class FinalAction(Enum):
    NONE = "NONE"
    PAUSE_SUBSCRIPTION = "PAUSE_SUBSCRIPTION"
    CANCEL_SUBSCRIPTION = "CANCEL_SUBSCRIPTION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a policy says."""

    display_name: str
    retry_wait_days: tuple[int, ...]
    final_wait_days: int
    final_action: FinalAction

    def __post_init__(self) -> None:
        if len(self.retry_wait_days) > RETRIES_MAX:
            raise InvalidArgument(f"must have at most {RETRIES_MAX} waits", field="retry_wait_days")
        for n, days in enumerate(self.retry_wait_days):
            if not 0 <= days <= WAIT_DAYS_MAX:
                raise InvalidArgument(f"must be 0 to {WAIT_DAYS_MAX} days", field=f"retry_wait_days[{n}]")
        if not 1 <= self.final_wait_days <= WAIT_DAYS_MAX:
            raise InvalidArgument(f"must be 1 to {WAIT_DAYS_MAX} days", field="final_wait_days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Never changes: a seller who wants another creates another."""

    id: PolicyId
    terms: Terms
    revision: int
    create_time: datetime


DEFAULT_TERMS: Final = Terms(
    display_name="Default", retry_wait_days=(1, 3, 5, 7), final_wait_days=1, final_action=FinalAction.NONE
)


def default_policy(*, at: datetime) -> Policy:
    """What a seller without any policy has; it is nobody's resource, so it has no id."""
    return Policy(id=PolicyId(""), terms=DEFAULT_TERMS, revision=1, create_time=at)
