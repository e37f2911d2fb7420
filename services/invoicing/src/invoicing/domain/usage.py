"""Knows what there is to rate in one period, and what was billed for the same period before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from common.money import Money, exact_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityChange:
    """By how much a quantity that persists changed, and the same in proportion to what was left of the period."""

    quantity: Decimal
    prorated_quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageGroup:
    """The usage of one combination of values; a dimension that is missing or empty is the value that is not named."""

    dimensions: Mapping[str, str]
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterQuantity:
    meter: str
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageToRate:
    """What was used; a price looks at as much of it as its model needs."""

    quantity: Decimal | None = None
    tier_quantity: Decimal | None = None
    """By which VOLUME chooses the tier, when that is not the quantity that is priced."""
    amounts: tuple[Decimal, ...] = ()
    """Of every transaction, in order of time."""
    changes: tuple[QuantityChange, ...] = ()
    """Within the period, in order of time; instead of a quantity."""
    groups: tuple[UsageGroup, ...] = ()
    meter_quantities: tuple[MeterQuantity, ...] = ()

    @classmethod
    def of(cls, quantity: Decimal) -> Self:
        return cls(quantity=quantity)

    @property
    def size(self) -> int:
        """How many quantities there are to look at beside the one."""
        return len(self.amounts) + len(self.changes) + len(self.groups)

    @property
    def total(self) -> Decimal:
        """The quantity, or the sum of what else is told. Different meters do not add up to anything."""
        if self.changes:
            return exact_sum(change.prorated_quantity for change in self.changes)
        if self.quantity is not None:
            return self.quantity
        if self.groups:
            return exact_sum(group.quantity for group in self.groups)
        return exact_sum(self.amounts)

    @property
    def tier_total(self) -> Decimal | None:
        """By which a tier is chosen; None when it is the total."""
        if self.tier_quantity is None and self.changes:
            return exact_sum(change.quantity for change in self.changes)
        return self.tier_quantity

    @property
    def is_of_whole_period(self) -> bool:
        """Whether it is told in a form to which no quantity of before can be added."""
        return bool(self.changes or self.groups or self.meter_quantities)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyBilled:
    """What was billed for the same period before.

    With a quantity, the quantity to rate is what came after it. Without an amount, it is what the quantity costs.
    """

    quantity: Decimal | None = None
    amount: Money | None = None
