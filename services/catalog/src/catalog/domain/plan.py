"""Knows the life of a plan's versions: written as a draft, published for ever, archived when the next takes effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from catalog.domain.errors import (
    PlanEffectiveTooEarly,
    PlanEmpty,
    PlanHasDraft,
    PlanNotActive,
    PlanNotDraft,
    PriceCodeTaken,
    TooManyPrices,
)
from catalog.domain.feature import Entitlement
from catalog.domain.price import Price, PriceId
from common.errors import InvalidArgument

PlanId = NewType("PlanId", str)

PRICES_MAX: Final = 100
TRIAL_DAYS_MAX: Final = 730


class Kind(Enum):
    BASE = "BASE"
    ADD_ON = "ADD_ON"


class State(Enum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a plan says to those who may subscribe: all that can be edited in a draft."""

    display_name: str
    kind: Kind = Kind.BASE
    prices: tuple[Price, ...]
    entitlements: tuple[Entitlement, ...] = ()
    trial_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One version. It can be subscribed to from `effective_time` on and, when known, before `superseded_time`."""

    id: PlanId
    code: str
    version: int
    terms: Terms
    state: State
    revision: int
    create_time: datetime
    publish_time: datetime | None = None
    effective_time: datetime | None = None
    superseded_time: datetime | None = None

    @property
    def prices(self) -> tuple[Price, ...]:
        return self.terms.prices

    def add(self, price: Price) -> Plan:
        """Terms one price more. A published plan never changes: subscribers rely on it."""
        return self.rewrite(replace(self.terms, prices=(*self.prices, price)))

    def rewrite(self, terms: Terms) -> Plan:
        """Say something else, as long as nobody can have subscribed."""
        self._must_be_draft()
        return replace(self, terms=self._checked(terms), revision=self.revision + 1)

    def next_version(self, plan_id: PlanId, price_ids: Sequence[PriceId], *, at: datetime) -> Plan:
        """A draft that says the same, with prices of its own: a price belongs to one version."""
        if self.state is State.DRAFT:
            raise PlanHasDraft(f"version {self.version} of plan {self.code} is not published", plan=self.id)
        prices = tuple(
            replace(price, id=price_id, create_time=at) for price, price_id in zip(self.prices, price_ids, strict=True)
        )
        terms = replace(self.terms, prices=prices)
        return draft(plan_id, self.code, terms, version=self.version + 1, at=at)

    def publish(self, *, at: datetime, effective_time: datetime | None, before: Plan | None) -> Plan:
        """Make the promise. `before` is the version that this one takes the place of.

        At once means after all that has taken effect by then, also when time stands still as in a sandbox.
        """
        self._must_be_draft()
        if not self.prices:
            raise PlanEmpty(f"plan {self.code} has no price", plan=self.id)
        if effective_time is not None and effective_time < at:
            raise InvalidArgument("must not be in the past", field="effective_time")
        effective = effective_time or at
        if before is not None and before.effective_time is not None:
            earliest = before.effective_time
            if effective < earliest or effective == effective_time == earliest:
                raise PlanEffectiveTooEarly(
                    f"version {before.version} of plan {self.code} takes effect at {earliest.isoformat()}",
                    plan=self.id,
                    before=before.id,
                )
        return replace(self, state=State.ACTIVE, publish_time=at, effective_time=effective, revision=self.revision + 1)

    def supersede(self, *, from_time: datetime | None, at: datetime) -> Plan:
        """Make way for the next version from an instant on, at once if it has come; None when none comes any more.

        Once it has come, the version stays closed whatever happens to its successor.
        """
        if self.is_superseded(at):
            from_time = self.superseded_time
        plan = replace(self, superseded_time=from_time)
        return plan.archive() if from_time is not None and from_time <= at else plan

    def archive(self) -> Plan:
        """Take no more subscriptions; those that exist go on."""
        self.must_be_active()
        return replace(self, state=State.ARCHIVED, revision=self.revision + 1)

    def takes_effect_after(self, at: datetime) -> bool:
        return self.effective_time is not None and self.effective_time > at

    def is_superseded(self, at: datetime) -> bool:
        return self.superseded_time is not None and self.superseded_time <= at

    def must_be_active(self) -> None:
        if self.state is not State.ACTIVE:
            raise PlanNotActive(f"plan {self.code} is {self.state.name}", plan=self.id, state=self.state)

    def _must_be_draft(self) -> None:
        if self.state is not State.DRAFT:
            raise PlanNotDraft(f"plan {self.code} is {self.state.name}", plan=self.id, state=self.state)

    def _checked(self, terms: Terms) -> Terms:
        if len(terms.prices) > PRICES_MAX:
            raise TooManyPrices(f"plan {self.code} would have more than {PRICES_MAX} prices", plan=self.id)
        codes: set[str] = set()
        for price in terms.prices:
            if price.code in codes:
                raise PriceCodeTaken(
                    f"plan {self.code} has a price {price.code} already", plan=self.id, code=price.code
                )
            codes.add(price.code)
        return terms


def draft(plan_id: PlanId, code: str, terms: Terms, *, version: int = 1, at: datetime) -> Plan:
    blank = Plan(
        id=plan_id,
        code=code,
        version=version,
        terms=replace(terms, prices=()),
        state=State.DRAFT,
        revision=0,
        create_time=at,
    )
    return blank.rewrite(terms)


def check_trial_days(days: int, *, field: str = "trial_days") -> int:
    if not 0 <= days <= TRIAL_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {TRIAL_DAYS_MAX}", field=field)
    return days
