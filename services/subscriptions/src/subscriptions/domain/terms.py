"""Knows what is agreed about an item: its price, how that is billed, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.period import Interval, Unit

SubscriptionId = NewType("SubscriptionId", str)
ItemId = NewType("ItemId", str)
PlanId = NewType("PlanId", str)
PriceId = NewType("PriceId", str)
ProductId = NewType("ProductId", str)
CouponId = NewType("CouponId", str)
ChangeId = NewType("ChangeId", str)

NO_CHANGE: Final = ChangeId("")
"""What was agreed at first came of no change."""
QUANTITY_MAX: Final = Decimal(10**12)
QUANTITY_PLACES_MAX: Final = 12
ITEMS_MAX: Final = 100
ONE_OFF: Final = Interval(Unit.DAY, 1)
"""How long the period of an item is that is billed once: the civil day that begins with it."""


class BillingTiming(Enum):
    IN_ADVANCE = "IN_ADVANCE"
    IN_ARREARS = "IN_ARREARS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One price, with all that was agreed about it: prices never change once they are published.

    A licensed item has a quantity and no meter, a metered one a meter and no quantity. One without an interval is
    licensed and billed once, in advance, when it begins.
    """

    plan_id: PlanId
    price_id: PriceId
    product_id: ProductId
    """Empty for what was agreed before products were kept: such an item never stays the same when the plan changes."""
    interval: Interval | None
    timing: BillingTiming
    meter: str
    quantity: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One price of a subscription. It keeps its id when price or quantity change."""

    id: ItemId
    terms: Terms
