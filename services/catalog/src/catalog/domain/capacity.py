"""Knows capacity: one amount for the smallest size that holds the usage of several meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Final

from catalog.domain.bounds import check_number
from catalog.domain.product import check_code
from catalog.domain.tier import check_tier_count
from common.errors import InvalidArgument

LIMITS_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimit:
    meter: str
    up_to: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityTier:
    """One size: it holds the usage that is within every limit. The last one, without limits, holds any."""

    limits: tuple[CapacityLimit, ...]
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    name: ClassVar = "CAPACITY"

    tiers: tuple[CapacityTier, ...]

    def check(self, *, field: str) -> None:
        """The sizes limit the same meters, and each holds more than the one before it."""
        check_tier_count(self.tiers, field=f"{field}.tiers")
        below: Mapping[str, Decimal] | None = None
        for n, tier in enumerate(self.tiers):
            where = f"{field}.tiers[{n}]"
            check_number(tier.amount, field=f"{where}.amount")
            if n == len(self.tiers) - 1:
                if tier.limits:
                    raise InvalidArgument("must be absent: the last tier has no limits", field=f"{where}.limits")
                continue
            limits = _limits(tier, field=f"{where}.limits")
            if below is not None:
                _check_higher(tier, below, field=f"{where}.limits")
            below = limits

    def check_meter(self, meter: str, *, field: str) -> None:
        """A price with a meter of its own limits that meter too, unless its only size has no limits."""
        bounded = self.tiers[0].limits
        if bounded and meter not in {limit.meter for limit in bounded}:
            raise InvalidArgument("must be among the meters of capacity.tiers[0].limits", field=field)


def _limits(tier: CapacityTier, *, field: str) -> Mapping[str, Decimal]:
    if not 1 <= len(tier.limits) <= LIMITS_MAX:
        raise InvalidArgument(f"must have 1 to {LIMITS_MAX} limits: only the last tier has none", field=field)
    limits: dict[str, Decimal] = {}
    for n, limit in enumerate(tier.limits):
        check_code(limit.meter, field=f"{field}[{n}].meter")
        if limit.meter in limits:
            raise InvalidArgument("must not be limited twice", field=f"{field}[{n}].meter")
        check_number(limit.up_to, field=f"{field}[{n}].up_to")
        limits[limit.meter] = limit.up_to
    return limits


def _check_higher(tier: CapacityTier, below: Mapping[str, Decimal], *, field: str) -> None:
    if {limit.meter for limit in tier.limits} != set(below):
        raise InvalidArgument(f"must limit the same meters in every tier: {', '.join(sorted(below))}", field=field)
    for n, limit in enumerate(tier.limits):
        least = below[limit.meter]
        if limit.up_to < least:
            raise InvalidArgument(f"must be at least {least:f}, as in the tier before it", field=f"{field}[{n}].up_to")
    if all(limit.up_to == below[limit.meter] for limit in tier.limits):
        raise InvalidArgument("must have a limit that is higher than in the tier before it", field=field)
