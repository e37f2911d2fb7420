"""Knows what becomes of a tax id: asked about, answered or not, and when to ask again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NewType

from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TaxIdNotVerifiable

TaxIdId = NewType("TaxIdId", str)

TAX_IDS_MAX: Final = 10
VERIFIABLE: Final = frozenset({"EU_VAT"})
"""The kinds that there is an authority for."""
WAITS: Final = (
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=8),
    timedelta(days=1),
    timedelta(days=1),
    timedelta(days=2),
)
"""After each try without an answer. The one after the last wait is the last."""


class State(Enum):
    UNVERIFIED = "UNVERIFIED"
    PENDING = "PENDING"
    VALID = "VALID"
    INVALID = "INVALID"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxNumber:
    """A number whose checksum holds, as its authority writes it. `kind` is named as in the contract."""

    kind: str
    country: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxId:
    """`tries` counts those by schedule that had no answer; `check_time` is when there last was one."""

    id: TaxIdId
    customer_id: CustomerId
    number: TaxNumber
    state: State
    tries: int
    next_try_time: datetime | None
    check_time: datetime | None
    revision: int
    create_time: datetime

    @classmethod
    def added(cls, tax_id_id: TaxIdId, customer_id: CustomerId, number: TaxNumber, *, at: datetime) -> TaxId:
        verifiable = number.kind in VERIFIABLE
        return cls(
            id=tax_id_id,
            customer_id=customer_id,
            number=number,
            state=State.PENDING if verifiable else State.UNVERIFIED,
            tries=0,
            next_try_time=at if verifiable else None,
            check_time=None,
            revision=1,
            create_time=at,
        )

    def check_verifiable(self) -> None:
        if self.state is State.UNVERIFIED:
            raise TaxIdNotVerifiable(f"nobody is asked about {self.number.kind}", tax_id=self.id, kind=self.number.kind)

    def answered(self, *, is_valid: bool, at: datetime) -> TaxId:
        """The authority has spoken."""
        return replace(
            self,
            state=State.VALID if is_valid else State.INVALID,
            tries=0,
            next_try_time=None,
            check_time=at,
            revision=self.revision + 1,
        )

    def unanswered(self, *, by_schedule: bool, at: datetime) -> TaxId:
        """The authority was silent: what is known stays known. Asking by hand does not use up the schedule's tries."""
        if self.state in (State.VALID, State.INVALID):
            return self
        revision = self.revision + (self.state is not State.UNAVAILABLE)
        silent = replace(self, state=State.UNAVAILABLE, revision=revision)
        if not by_schedule:
            return silent
        wait = WAITS[self.tries] if self.tries < len(WAITS) else None
        return replace(silent, tries=self.tries + 1, next_try_time=None if wait is None else at + wait)
