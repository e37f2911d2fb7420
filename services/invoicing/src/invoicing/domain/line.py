"""Knows a line item: one billed thing, with everything its amount was derived from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from common.money import Money
from common.period import Period
from invoicing.domain.rating import RatingStep


class LineKey(NamedTuple):
    """What is billed only once: one price of one subscription item for the period that starts then."""

    item_id: str
    price_id: str
    period_start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What metering counted for a period, with the proof of what was counted."""

    meter: str
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    traceparents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One billed thing. Its id is empty as long as it is only proposed."""

    id: str
    description: str
    subscription_id: str
    item_id: str
    price_id: str
    period: Period
    full_period: Period
    quantity: Decimal
    unit_label: str
    amount: Money
    steps: tuple[RatingStep, ...]
    exact_amount: Decimal
    """What the steps add up to, before it was rounded."""
    proration: Fraction
    usage: Usage | None
    """What was rated, of the whole period also in a correction; None for a licensed price."""
    correction: int
    """0 for the first billing of a period, n for its n-th correction, whose quantity and amount are differences."""

    @property
    def key(self) -> LineKey:
        return LineKey(self.item_id, self.price_id, self.period.start)
