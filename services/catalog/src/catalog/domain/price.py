"""Knows what a sound price is. The catalog only validates prices; invoicing computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from catalog.domain.product import ProductId
from common.errors import InvalidArgument
from common.period import Interval

PriceId = NewType("PriceId", str)

TIERS_MAX: Final = 100
UNIT_PRICE_MAX: Final = Decimal(10) ** 15


class BillingTiming(Enum):
    IN_ADVANCE = "IN_ADVANCE"
    IN_ARREARS = "IN_ARREARS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step: every unit up to and including `up_to`, or without end when that is None."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated:
    tiers: tuple[Tier, ...]


Model = Flat | PerUnit | Graduated


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    id: PriceId
    code: str
    product_id: ProductId
    currency: str
    interval: Interval
    timing: BillingTiming
    meter: str
    model: Model


def check_timing(timing: BillingTiming, *, meter: str, field: str) -> None:
    """Nobody knows in advance how much will be used."""
    if meter and timing is not BillingTiming.IN_ARREARS:
        raise InvalidArgument("must be IN_ARREARS for a metered price", field=field)


def check_amount(amount: Decimal, *, field: str) -> Decimal:
    if amount > UNIT_PRICE_MAX:
        raise InvalidArgument(f"must be at most {UNIT_PRICE_MAX}", field=field)
    return amount


def check_tiers(tiers: tuple[Tier, ...], *, field: str) -> tuple[Tier, ...]:
    """Tiers ascend without overlap, and the last one, and only the last one, has no end.

    A last tier with an end would leave quantities beyond it without a price: peers bill them at nothing or fail when
    the invoice is due; here such a price cannot be created.
    """
    if not 1 <= len(tiers) <= TIERS_MAX:
        raise InvalidArgument(f"must have 1 to {TIERS_MAX} tiers", field=field)
    reached = Decimal(0)
    for position, tier in enumerate(tiers):
        where = f"{field}[{position}].up_to"
        last = position == len(tiers) - 1
        if tier.up_to is None:
            if not last:
                raise InvalidArgument("must have an end: only the last tier is open", field=where)
            continue
        if last:
            raise InvalidArgument("must be absent: the last tier has no end", field=where)
        if tier.up_to <= reached:
            raise InvalidArgument(f"must be more than {reached}, where the tier before it ends", field=where)
        reached = tier.up_to
    return tiers
