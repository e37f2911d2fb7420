"""Knows what a sound price is. The catalog only validates prices; invoicing computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NewType

from catalog.domain.capacity import Capacity
from catalog.domain.model import Model, check_model, is_of_usage
from catalog.domain.operators import NO_OPERATORS, Operators, check_operators
from catalog.domain.product import ProductId
from common.errors import InvalidArgument
from common.period import Interval

PriceId = NewType("PriceId", str)


class BillingTiming(Enum):
    IN_ADVANCE = "IN_ADVANCE"
    IN_ARREARS = "IN_ARREARS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    id: PriceId
    code: str
    product_id: ProductId
    currency: str
    interval: Interval | None
    """None for what is billed once."""
    timing: BillingTiming
    meter: str
    model: Model
    operators: Operators = NO_OPERATORS
    customer_id: str = ""
    list_price_id: str = ""
    create_time: datetime | None = None
    """Prices written before it was noted have none."""

    def check(self, *, field: str) -> None:
        """Whether it can be rated, be it billed or not."""
        metered = bool(self.meter) or is_of_usage(self.model)
        if self.interval is None and metered:
            raise InvalidArgument("must not be ONCE for a metered price", field=f"{field}.billing_interval.unit")
        check_timing(self.timing, metered=metered, once=self.interval is None, field=f"{field}.billing_timing")
        check_model(self.model, field=field)
        if self.meter and isinstance(self.model, Capacity):
            self.model.check_meter(self.meter, field=f"{field}.meter")
        check_operators(self.operators, model=self.model, field=field)

    def check_meter(self, *, field: str) -> None:
        """Whether it says which usage it is that it prices."""
        if not self.meter and is_of_usage(self.model):
            raise InvalidArgument(f"is required: {self.model.name} prices usage", field=f"{field}.meter")


def check_timing(timing: BillingTiming, *, metered: bool, once: bool, field: str) -> None:
    """Nobody knows in advance how much will be used; and what is billed once has no end to wait for."""
    if metered and timing is not BillingTiming.IN_ARREARS:
        raise InvalidArgument("must be IN_ARREARS for a metered price", field=field)
    if once and timing is not BillingTiming.IN_ADVANCE:
        raise InvalidArgument("must be IN_ADVANCE for a price that is billed once", field=field)
