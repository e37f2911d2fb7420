"""Knows what is measured, and how its usage events become one quantity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import NewType

MeterId = NewType("MeterId", str)


class Aggregation(Enum):
    SUM = "SUM"
    COUNT = "COUNT"

    def quantity(self, *, event_count: int, value_sum: Decimal) -> Decimal:
        """What the events of a period come to. COUNT does not look at values, not even at negative ones."""
        return value_sum if self is Aggregation.SUM else Decimal(event_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMeter:
    """What a seller says about a meter it wants."""

    code: str
    display_name: str
    aggregation: Aggregation
    unit_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Immutable: a quantity that was billed must mean the same for ever."""

    id: MeterId
    code: str
    display_name: str
    aggregation: Aggregation
    unit_label: str
    revision: int
    create_time: datetime

    @classmethod
    def of(cls, new: NewMeter, *, id: MeterId, at: datetime) -> Meter:
        return cls(
            id=id,
            code=new.code,
            display_name=new.display_name,
            aggregation=new.aggregation,
            unit_label=new.unit_label,
            revision=1,
            create_time=at,
        )
