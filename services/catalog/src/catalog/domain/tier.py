"""Knows the tier, one step of a graduated or volume price, and how tiers stand one upon another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from catalog.domain.bounds import check_number, check_percent, check_size, check_unit_price
from common.errors import InvalidArgument

TIERS_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step: every unit up to and including `up_to`, or without end when that is None.

    A unit price is for a package where there is a `package_size`. What is None costs nothing.
    """

    up_to: Decimal | None = None
    unit_price: Decimal | None = None
    flat_amount: Decimal | None = None
    percent: Decimal | None = None
    package_size: Decimal | None = None


def check_tiers(tiers: Sequence[Tier], *, field: str) -> None:
    """Tiers ascend without overlap, and the last one, and only the last one, has no end.

    A last tier with an end would leave quantities beyond it without a price: peers bill them at nothing or fail when
    the invoice is due; here such a price cannot be created.
    """
    check_tier_count(tiers, field=field)
    reached = Decimal(0)
    for position, tier in enumerate(tiers):
        where = f"{field}[{position}]"
        last = position == len(tiers) - 1
        if tier.up_to is None and not last:
            raise InvalidArgument("must have an end: only the last tier is open", field=f"{where}.up_to")
        if tier.up_to is not None:
            if last:
                raise InvalidArgument("must be absent: the last tier has no end", field=f"{where}.up_to")
            check_number(tier.up_to, field=f"{where}.up_to")
            if tier.up_to <= reached:
                raise InvalidArgument(
                    f"must be more than {reached:f}, where the tier before it ends", field=f"{where}.up_to"
                )
            reached = tier.up_to
        _check_cost(tier, field=where)
    _check_one_kind(tiers, field=field)


def check_tier_count(tiers: Sequence[object], *, field: str) -> None:
    if not 1 <= len(tiers) <= TIERS_MAX:
        raise InvalidArgument(f"must have 1 to {TIERS_MAX} tiers", field=field)


def _check_cost(tier: Tier, *, field: str) -> None:
    """A tier that says nothing was not finished; one that is free says 0."""
    if tier.unit_price is None and tier.percent is None and tier.flat_amount is None:
        raise InvalidArgument("must say a unit_price, a percent or a flat_amount", field=field)
    if tier.unit_price is not None:
        check_unit_price(tier.unit_price, field=f"{field}.unit_price")
    if tier.flat_amount is not None:
        check_number(tier.flat_amount, field=f"{field}.flat_amount")
    if tier.package_size is not None:
        check_size(tier.package_size, field=f"{field}.package_size")
    if tier.percent is not None:
        if tier.unit_price is not None or tier.package_size is not None:
            raise InvalidArgument("must be absent beside a unit_price or a package_size", field=f"{field}.percent")
        check_percent(tier.percent, field=f"{field}.percent")


def _check_one_kind(tiers: Sequence[Tier], *, field: str) -> None:
    """A quantity is money in all tiers or in none."""
    counted = any(tier.unit_price is not None or tier.package_size is not None for tier in tiers)
    for position, tier in enumerate(tiers):
        if counted and tier.percent is not None:
            raise InvalidArgument(
                "must be absent: other tiers have a unit_price or a package_size", field=f"{field}[{position}].percent"
            )
