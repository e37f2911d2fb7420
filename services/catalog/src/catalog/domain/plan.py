"""Knows the life of a plan: written as a draft, published for ever, archived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from catalog.domain.errors import PlanEmpty, PlanNotActive, PlanNotDraft, PriceCodeTaken, TooManyPrices
from catalog.domain.price import Price

PlanId = NewType("PlanId", str)

PRICES_MAX: Final = 100


class State(Enum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    id: PlanId
    code: str
    display_name: str
    state: State
    prices: tuple[Price, ...]
    revision: int
    create_time: datetime
    publish_time: datetime | None

    def add(self, price: Price) -> Plan:
        """Offer one price more. A published plan never changes: subscribers rely on it."""
        self._must_be_draft()
        if len(self.prices) >= PRICES_MAX:
            raise TooManyPrices(f"plan {self.code} has {PRICES_MAX} prices already", plan=self.id)
        if any(each.code == price.code for each in self.prices):
            raise PriceCodeTaken(f"plan {self.code} has a price {price.code} already", plan=self.id, code=price.code)
        return replace(self, prices=(*self.prices, price), revision=self.revision + 1)

    def publish(self, *, at: datetime) -> Plan:
        self._must_be_draft()
        if not self.prices:
            raise PlanEmpty(f"plan {self.code} has no price", plan=self.id)
        return replace(self, state=State.ACTIVE, publish_time=at, revision=self.revision + 1)

    def archive(self) -> Plan:
        """Take no more subscriptions; those that exist go on."""
        if self.state is not State.ACTIVE:
            raise PlanNotActive(f"plan {self.code} is {self.state.name}", plan=self.id, state=self.state)
        return replace(self, state=State.ARCHIVED, revision=self.revision + 1)

    def _must_be_draft(self) -> None:
        if self.state is not State.DRAFT:
            raise PlanNotDraft(f"plan {self.code} is {self.state.name}", plan=self.id, state=self.state)
