"""Knows seats: the places that the quantity of an item has, and to whom they are assigned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR
from enum import Enum
from typing import Final, NewType

from subscriptions.domain.errors import ItemNotFound, ItemWithoutSeats, SeatNotAssigned, SeatNotInvited
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId, SubscriptionId, Terms

SeatId = NewType("SeatId", str)

SEATS_MAX: Final = 10_000
"""Of one item."""
EXPIRE_DAYS_DEFAULT: Final = 7
EXPIRE_DAYS_MAX: Final = 90


class State(Enum):
    INVITED = "INVITED"
    CLAIMED = "CLAIMED"
    REVOKED = "REVOKED"


class RevokeReason(Enum):
    REQUESTED = "REQUESTED"
    EXPIRED = "EXPIRED"
    QUANTITY_REDUCED = "QUANTITY_REDUCED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """`email` is there as long as somebody is invited and where it goes is known."""

    id: SeatId
    subscription_id: SubscriptionId
    item_id: ItemId
    holder: str
    email: str
    state: State
    invite_time: datetime
    expire_time: datetime | None
    claim_time: datetime | None = None
    revoke_time: datetime | None = None
    revoke_reason: RevokeReason | None = None
    revision: int = 1

    @classmethod
    def invited(
        cls,
        seat_id: SeatId,
        subscription_id: SubscriptionId,
        item_id: ItemId,
        *,
        holder: str,
        email: str,
        expire_days: int,
        at: datetime,
    ) -> Seat:
        return cls(
            id=seat_id,
            subscription_id=subscription_id,
            item_id=item_id,
            holder=holder,
            email=email,
            state=State.INVITED,
            invite_time=at,
            expire_time=at + timedelta(days=expire_days or EXPIRE_DAYS_DEFAULT),
        )

    def is_expired(self, at: datetime) -> bool:
        return self.expire_time is not None and self.expire_time <= at

    def claim(self, *, at: datetime) -> Seat:
        if self.state is not State.INVITED or self.is_expired(at):
            # Whether the job has come by yet makes no difference to whoever comes too late.
            state = State.REVOKED if self.is_expired(at) else self.state
            raise SeatNotInvited(f"seat {self.id} is {state.name}", seat=self.id, state=state.name)
        return replace(self, state=State.CLAIMED, email="", expire_time=None, claim_time=at, revision=self.revision + 1)

    def revoke(self, reason: RevokeReason, *, at: datetime) -> Seat:
        if self.state is State.REVOKED:
            raise SeatNotAssigned(f"seat {self.id} is {self.state.name}", seat=self.id)
        return replace(
            self,
            state=State.REVOKED,
            email="",
            expire_time=None,
            revoke_time=at,
            revoke_reason=reason,
            revision=self.revision + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """How many seats of an item are."""

    invited: int = 0
    claimed: int = 0

    @property
    def count(self) -> int:
        return self.invited + self.claimed


def terms_with_seats(subscription: Subscription, item_id: ItemId, *, at: datetime) -> Terms:
    """The terms of an item now, if it has seats."""
    terms = subscription.as_of(at).items.get(item_id)
    if terms is None:
        raise ItemNotFound(f"the subscription has no item {item_id}", item=item_id)
    if terms.quantity is None:
        raise ItemWithoutSeats(f"item {item_id} is metered", item=item_id)
    return terms


def seat_count(terms: Terms | None) -> int:
    """How many seats an item has: as many as its quantity has whole units."""
    if terms is None or terms.quantity is None:
        return 0
    return min(int(terms.quantity.to_integral_value(ROUND_FLOOR)), SEATS_MAX)


def seat_counts(subscription: Subscription, *, at: datetime) -> dict[ItemId, int]:
    return {item_id: seat_count(terms) for item_id, terms in subscription.as_of(at).items.items()}
