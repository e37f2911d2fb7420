"""Knows the states of a subscription, and which verb is legal in which of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from common.errors import FailedPrecondition
from subscriptions.domain import errors


class State(Enum):
    PENDING = "PENDING"
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    PAUSED = "PAUSED"
    CANCELLED = "CANCELLED"


class Verb(Enum):
    """What callers can do to a subscription."""

    ACTIVATE = "ACTIVATE"
    CHANGE = "CHANGE"
    EXTEND_TRIAL = "EXTEND_TRIAL"
    END_TRIAL = "END_TRIAL"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    TRANSFER = "TRANSFER"
    CANCEL = "CANCEL"
    REVOKE_CANCELLATION = "REVOKE_CANCELLATION"
    REACTIVATE = "REACTIVATE"


_LIVING: Final = frozenset(State) - {State.CANCELLED}
_SERVED: Final = frozenset({State.ACTIVE, State.PAST_DUE})

LEGAL: Final[Mapping[Verb, frozenset[State]]] = {
    Verb.ACTIVATE: frozenset({State.PENDING}),
    Verb.CHANGE: _LIVING,
    Verb.EXTEND_TRIAL: frozenset({State.TRIALING}),
    Verb.END_TRIAL: frozenset({State.TRIALING}),
    # Where only service is paused, billing can be.
    Verb.PAUSE: _SERVED | {State.PAUSED},
    # Billing alone can be paused, while service goes on.
    Verb.RESUME: _SERVED | {State.PAUSED},
    Verb.TRANSFER: _LIVING,
    Verb.CANCEL: _LIVING,
    Verb.REVOKE_CANCELLATION: _LIVING,
    Verb.REACTIVATE: frozenset({State.CANCELLED}),
}
"""In which states a verb may be legal; what else it needs, it says itself, with the same error."""

REFUSALS: Final[Mapping[Verb, type[FailedPrecondition]]] = {
    Verb.ACTIVATE: errors.SubscriptionNotPending,
    Verb.CHANGE: errors.SubscriptionNotChangeable,
    Verb.EXTEND_TRIAL: errors.SubscriptionNotTrialing,
    Verb.END_TRIAL: errors.SubscriptionNotTrialing,
    Verb.PAUSE: errors.SubscriptionNotActive,
    Verb.RESUME: errors.SubscriptionNotPaused,
    Verb.TRANSFER: errors.SubscriptionNotChangeable,
    Verb.CANCEL: errors.SubscriptionCancelled,
    Verb.REVOKE_CANCELLATION: errors.CancellationNotScheduled,
    Verb.REACTIVATE: errors.SubscriptionNotCancelled,
}
