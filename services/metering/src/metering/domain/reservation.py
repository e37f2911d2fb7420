"""Knows the life of a reservation of quota: open, then committed, released or expired, and never anything again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.period import Period
from metering.domain.errors import (
    QuotaNotReservable,
    QuotaReservationEnded,
    QuotaReservationExpired,
    TooManyQuotaReservations,
)
from metering.domain.filter import EVERYTHING
from metering.domain.meter import Aggregation, Definition

ReservationId = NewType("ReservationId", str)

TIME_TO_LIVE_MAX: Final = timedelta(days=1)
UNDER_WAY_MAX: Final = 1_000
"""Of one customer and meter."""
COMMIT_PATIENCE: Final = timedelta(seconds=30)
"""How long whoever began to commit may take, before that is finished without them."""


KEPT: Final = timedelta(days=35)
"""After it ended: longer than answers to a `request_id`, whose repeat may ask how it stands."""


class State(Enum):
    OPEN = "OPEN"
    COMMITTING = "COMMITTING"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


UNDER_WAY: Final = frozenset({State.OPEN, State.COMMITTING})
"""The states in which something is set aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What is set aside for a customer of a meter."""

    quantity: Decimal
    number: int
    """Of the reservations that set it aside."""
    expired: tuple[str, ...]
    """Those that do no more, and of which nobody has written that down."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Whoever has it acquires for a customer and a meter; nobody else does before the commit."""

    number: int
    """How many acquired until then, by whom it is taken included."""
    time: datetime
    """That of the seller, and never before that of an earlier turn: clocks of replicas differ."""

    def seen(self, at: datetime) -> Turn:
        """As it is for whoever takes none themselves."""
        return replace(self, time=max(self.time, at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was decided by when it was acquired."""

    granted: Decimal | None
    """The quota that had room; None when it was unlimited."""
    period: Period | None
    through_position: int
    """How far was counted."""
    names: tuple[str, ...]
    """Of the customer, by which was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    id: ReservationId
    customer_id: str
    feature: str
    meter: str
    quantity: Decimal
    found: Found
    number: int
    """Of the turn in which it was acquired."""
    state: State
    create_time: datetime
    expire_time: datetime
    committed_quantity: Decimal | None = None
    commit_time: datetime | None = None
    dimensions: Mapping[str, str]
    end_time: datetime | None = None
    end_number: int | None = None
    """Of the last turn in which it was set aside; None unless it was committed or released."""

    def as_of(self, at: datetime) -> Reservation:
        """Time ends it, whether or not anybody has written that down."""
        if self.state is State.OPEN and at >= self.expire_time:
            return replace(self, state=State.EXPIRED, end_time=self.expire_time)
        return self

    def commit(
        self, quantity: Decimal | None, dimensions: Mapping[str, str], *, at: datetime, turn: Turn
    ) -> Reservation:
        """Begin to. From here on it does not expire."""
        used = self.quantity if quantity is None else quantity
        if used > self.quantity:
            raise InvalidArgument(f"must be at most {self.quantity:f}", field="quantity")
        now = self.as_of(turn.time)
        if now.state is State.EXPIRED:
            raise QuotaReservationExpired(
                f"reservation {self.id} expired at {self.expire_time.isoformat()}", quota_reservation=self.id
            )
        is_repeat = (self.committed_quantity, self.dimensions) == (used, dimensions)
        if now.state is State.RELEASED or (now.state is not State.OPEN and not is_repeat):
            raise self._ended()
        if now.state is not State.OPEN:
            return self
        return replace(
            self, state=State.COMMITTING, committed_quantity=used, commit_time=at, dimensions=dict(dimensions)
        )

    def committed(self, *, at: datetime, turn: Turn) -> Reservation:
        """Its usage event is stored."""
        if self.state is not State.COMMITTING:
            return self
        return replace(self, state=State.COMMITTED, end_time=at, end_number=turn.number)

    def release(self, *, at: datetime, turn: Turn) -> Reservation:
        now = self.as_of(turn.time)
        if now.state in (State.COMMITTING, State.COMMITTED):
            raise self._ended()
        if now.state is not State.OPEN:
            return now
        return replace(self, state=State.RELEASED, end_time=at, end_number=turn.number)

    def _ended(self) -> QuotaReservationEnded:
        return QuotaReservationEnded(
            f"reservation {self.id} is {self.state.name}", quota_reservation=self.id, state=self.state
        )


def check_reservable(meter: str, definition: Definition, quantity: Decimal) -> None:
    """One usage event more must make the quantity more by its value, and nothing else."""
    counts_itself = definition.aggregation is Aggregation.SUM or (
        definition.aggregation is Aggregation.COUNT and quantity == 1
    )
    if not counts_itself or definition.filter != EVERYTHING or definition.value_expression:
        raise QuotaNotReservable(f"a usage event of {quantity:f} does not make meter {meter} more by that", meter=meter)


def check_number_under_way(number: int) -> None:
    if number >= UNDER_WAY_MAX:
        raise TooManyQuotaReservations(
            f"{number} reservations of the customer and meter are under way", maximum=UNDER_WAY_MAX
        )
