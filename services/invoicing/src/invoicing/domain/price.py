"""Knows how a product is charged for: the catalog's prices as values, with what an invoice prints about them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """One amount whatever the quantity."""

    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """Every unit at the same price."""

    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step: the units up to and including `up_to`, or without end when that is None.

    `flat_amount` is added once when the quantity reaches into the tier.
    """

    up_to: Decimal | None
    unit_price: Decimal
    flat_amount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated:
    """Each unit at the price of the tier it falls in."""

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        # The catalog refuses such a price. Here it would leave units unbilled, so it is not computed with either.
        bounds = [tier.up_to for tier in self.tiers]
        closed = [Decimal(0), *(bound for bound in bounds[:-1] if bound is not None)]
        if not bounds or bounds[-1] is not None or len(closed) != len(bounds):
            raise ValueError("the last tier is open, and only the last")
        if any(lower >= upper for lower, upper in pairwise(closed)):
            raise ValueError("tiers ascend")


Model = Flat | PerUnit | Graduated


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    id: str
    currency: str
    model: Model
    product: str
    """The name of what is sold, as printed."""
    unit_label: str
    """What one of it is called; may be empty."""
