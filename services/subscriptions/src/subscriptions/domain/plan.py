"""Knows a plan as far as a subscriber must: which prices can be taken, and in what quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from common.errors import InvalidArgument
from common.period import Interval
from subscriptions.domain.errors import CurrencyNotOffered, PlanNotSubscribable, PriceNotInPlan
from subscriptions.domain.subscription import BillingTiming, Item, ItemId, PlanId, PriceId

ITEMS_MAX: Final = 100
QUANTITY_MAX: Final = Decimal(10**12)
QUANTITY_PLACES_MAX: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a subscription keeps of a price. `meter` is empty when the price is licensed."""

    id: PriceId
    currency: str
    interval: Interval
    timing: BillingTiming
    meter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSpec:
    """A price that somebody wants, and how many."""

    price_id: PriceId
    quantity: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    id: PlanId
    is_active: bool
    prices: tuple[Price, ...]

    def items(self, specs: Sequence[ItemSpec], *, currency: str, new_id: Callable[[], ItemId]) -> tuple[Item, ...]:
        """The items of a new subscription: those that are wanted, or one of every price when nothing is said."""
        if not self.is_active:
            raise PlanNotSubscribable(f"plan {self.id} is not open to subscriptions", plan=self.id)
        offered = [price for price in self.prices if price.currency == currency]
        if not offered:
            raise CurrencyNotOffered(f"plan {self.id} has no price in {currency}", plan=self.id, currency=currency)
        wanted = specs or [ItemSpec(price_id=price.id, quantity=None) for price in offered]
        _check_once_each(wanted)
        return tuple(
            _item(self._price(spec.price_id, currency, field=f"items[{n}].price_id"), spec, n, new_id())
            for n, spec in enumerate(wanted)
        )

    def _price(self, price_id: PriceId, currency: str, *, field: str) -> Price:
        price = next((price for price in self.prices if price.id == price_id), None)
        if price is None:
            raise PriceNotInPlan(f"must be a price of plan {self.id}", field=field, plan=self.id, price=price_id)
        if price.currency != currency:
            raise InvalidArgument(f"must be a price in {currency}, which the customer is billed in", field=field)
        return price


def _check_once_each(specs: Sequence[ItemSpec]) -> None:
    if len(specs) > ITEMS_MAX:
        raise InvalidArgument(f"must have at most {ITEMS_MAX} items", field="items")
    seen: set[PriceId] = set()
    for n, spec in enumerate(specs):
        if spec.price_id in seen:
            raise InvalidArgument("must not be a price that another item has", field=f"items[{n}].price_id")
        seen.add(spec.price_id)


def _item(price: Price, spec: ItemSpec, n: int, item_id: ItemId) -> Item:
    quantity = spec.quantity
    if price.meter and quantity is not None:
        raise InvalidArgument(
            "must be absent: the quantity of a metered price is its usage", field=f"items[{n}].quantity"
        )
    if quantity is not None and quantity > QUANTITY_MAX:
        raise InvalidArgument(f"must be at most {QUANTITY_MAX}", field=f"items[{n}].quantity")
    if quantity is None and not price.meter:
        quantity = Decimal(1)
    return Item(
        id=item_id,
        price_id=price.id,
        interval=price.interval,
        timing=price.timing,
        meter=price.meter,
        quantity=quantity,
    )
