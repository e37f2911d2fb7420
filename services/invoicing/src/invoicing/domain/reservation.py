"""Knows credit that is set aside before something is done that uses it.

OPEN ──commit──► COMMITTED      what was not used is free again
  ├────release─► RELEASED
  └────expire──► EXPIRED        nobody said in time what was used
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import NewType

from common.money import Money
from invoicing.domain.credit import HoldingKey
from invoicing.domain.errors import CreditReservationEnded, CreditReservationExceeded, CreditReservationExpired

ReservationId = NewType("ReservationId", str)


class ReservationState(Enum):
    OPEN = "OPEN"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An amount of a customer's credit that nobody else can use until it ends."""

    id: ReservationId
    customer_id: str
    amount: Money
    committed: Money
    state: ReservationState
    expire_time: datetime
    end_time: datetime | None
    reference: str
    revision: int
    create_time: datetime

    @property
    def key(self) -> HoldingKey:
        return HoldingKey(self.customer_id, self.amount.currency)

    def is_committed_with(self, amount: Money | None) -> bool:
        """Whether that was said before."""
        return self.state is ReservationState.COMMITTED and self.committed == (amount or self.amount)

    def commit(self, amount: Money | None, *, at: datetime) -> Reservation:
        """So much was used, or all of it. Fails with CREDIT_RESERVATION_EXPIRED when nobody said so in time."""
        used = amount or self.amount
        if self.state is ReservationState.EXPIRED or (self.state is ReservationState.OPEN and at >= self.expire_time):
            raise CreditReservationExpired(f"reservation {self.id} has expired", reservation=self.id)
        self._must_be_open()
        if used > self.amount:
            raise CreditReservationExceeded(
                f"{used} are more than the {self.amount} of reservation {self.id}",
                reservation=self.id,
                reserved=self.amount.amount,
            )
        return self._ended(ReservationState.COMMITTED, committed=used, at=at)

    def release(self, *, at: datetime) -> Reservation:
        """Nothing was used; of one that is free already nothing changes."""
        if self.state in (ReservationState.RELEASED, ReservationState.EXPIRED):
            return self
        self._must_be_open()
        return self._ended(ReservationState.RELEASED, committed=self.committed, at=at)

    def expire(self, *, at: datetime) -> Reservation:
        """Its time is over; before that, or when it has ended, nothing changes."""
        if self.state is not ReservationState.OPEN or at < self.expire_time:
            return self
        return self._ended(ReservationState.EXPIRED, committed=self.committed, at=at)

    def _must_be_open(self) -> None:
        if self.state is not ReservationState.OPEN:
            raise CreditReservationEnded(
                f"reservation {self.id} is {self.state.name}", reservation=self.id, state=self.state
            )

    def _ended(self, state: ReservationState, *, committed: Money, at: datetime) -> Reservation:
        return replace(self, state=state, committed=committed, end_time=at, revision=self.revision + 1)
