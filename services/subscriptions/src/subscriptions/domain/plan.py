"""Knows a plan as far as a subscriber must: which prices can be taken, and in what quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from common.errors import InvalidArgument
from common.period import Interval
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import PlanEntitlement
from subscriptions.domain.errors import CurrencyNotOffered, PlanNotSubscribable, PriceNotInPlan
from subscriptions.domain.terms import (
    ITEMS_MAX,
    QUANTITY_MAX,
    BillingTiming,
    Item,
    ItemId,
    PlanId,
    PriceId,
    ProductId,
    Terms,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a subscription keeps of a price. `meter` is empty when the price is licensed."""

    id: PriceId
    product_id: ProductId
    currency: str
    interval: Interval | None
    """None for what is billed once."""
    timing: BillingTiming
    meter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractPrice:
    """A price negotiated with one customer, which takes the place of a price of the list for them."""

    price: Price
    customer_id: CustomerId
    list_price_id: PriceId


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSpec:
    """A price that somebody wants, and how many."""

    price_id: PriceId
    quantity: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A version of a plan: the prices of its list, and negotiated ones, oldest first, that may take their places."""

    id: PlanId
    code: str
    """What the versions of a plan share."""
    is_active: bool
    is_add_on: bool
    effective_time: datetime | None
    trial_days: int
    """How long a subscription to it is free at its start, unless it says so itself."""
    prices: tuple[Price, ...]
    contract_prices: tuple[ContractPrice, ...] = ()
    entitlements: tuple[PlanEntitlement, ...] = ()

    def check_open(self, *, start: datetime, at: datetime, as_add_on: bool = False) -> None:
        """Whether one can subscribe now, with service from `start` on.

        What is subscribed to now may begin before the plan was there; what is not in effect yet can begin when it is.
        """
        early = self.effective_time is not None and self.effective_time > max(start, at)
        if not self.is_active or early:
            raise PlanNotSubscribable(f"plan {self.id} is not open to subscriptions", plan=self.id)
        if as_add_on is not self.is_add_on:
            raise PlanNotSubscribable(f"plan {self.id} is {'an' if self.is_add_on else 'no'} add-on", plan=self.id)

    def items(
        self,
        specs: Sequence[ItemSpec],
        *,
        customer_id: CustomerId,
        currency: str,
        new_id: Callable[[], ItemId],
    ) -> tuple[Item, ...]:
        """The items of a new subscription: those that are wanted, or one of every price when nothing is said."""
        return tuple(
            Item(id=new_id(), terms=terms) for _, terms in self.take(specs, customer_id=customer_id, currency=currency)
        )

    def take(
        self, specs: Sequence[ItemSpec], *, customer_id: CustomerId, currency: str, field: str = "items"
    ) -> list[tuple[ItemSpec, Terms]]:
        """What is wanted, with the terms it is had by; `field` is where the caller said so."""
        if not any(price.currency == currency for price in self.prices):
            raise CurrencyNotOffered(f"plan {self.id} has no price in {currency}", plan=self.id, currency=currency)
        if len(specs) > ITEMS_MAX:
            raise InvalidArgument(f"must have at most {ITEMS_MAX} items", field=field)
        negotiated = [each for each in self.contract_prices if each.customer_id == customer_id]
        wanted = specs or self._everything(negotiated, currency)
        found = [
            self._price(spec.price_id, negotiated, currency, field=f"{field}[{n}].price_id")
            for n, spec in enumerate(wanted)
        ]
        _check_once_each([list_price_id for _, list_price_id in found], field=field)
        return [
            (spec, self._terms(price, spec.quantity, field=f"{field}[{n}].quantity"))
            for n, ((price, _), spec) in enumerate(zip(found, wanted, strict=True))
        ]

    def list_price_of(self, price_id: PriceId) -> PriceId:
        """The price of any list in whose place a negotiated one stands; any other stands in its own."""
        return next((each.list_price_id for each in self.contract_prices if each.price.id == price_id), price_id)

    def terms(self, spec: ItemSpec, *, customer_id: CustomerId, currency: str, field: str) -> Terms:
        """One price of the plan, as an item that is added or changed later takes it."""
        negotiated = [each for each in self.contract_prices if each.customer_id == customer_id]
        price, _ = self._price(spec.price_id, negotiated, currency, field=f"{field}.price_id")
        return self._terms(price, spec.quantity, field=f"{field}.quantity")

    def _terms(self, price: Price, quantity: Decimal | None, *, field: str) -> Terms:
        if price.meter and quantity is not None:
            raise InvalidArgument("must be absent: the quantity of a metered price is its usage", field=field)
        if quantity is not None and quantity > QUANTITY_MAX:
            raise InvalidArgument(f"must be at most {QUANTITY_MAX}", field=field)
        if quantity is None and not price.meter:
            quantity = Decimal(1)
        return Terms(
            plan_id=self.id,
            price_id=price.id,
            product_id=price.product_id,
            interval=price.interval,
            timing=price.timing,
            meter=price.meter,
            quantity=quantity,
        )

    def _everything(self, negotiated: Sequence[ContractPrice], currency: str) -> list[ItemSpec]:
        """One of every price; what was negotiated takes the place of the list's, what was negotiated last first."""
        places = {each.list_price_id: each.price.id for each in negotiated}
        return [
            ItemSpec(price_id=places.get(price.id, price.id), quantity=None)
            for price in self.prices
            if price.currency == currency
        ]

    def _price(
        self, price_id: PriceId, negotiated: Sequence[ContractPrice], currency: str, *, field: str
    ) -> tuple[Price, PriceId]:
        """The price, and the price of the list in whose place it stands, which may be itself."""
        listed = {price.id: price for price in self.prices}
        found = {each.price.id: each for each in negotiated if each.list_price_id in listed}.get(price_id)
        price = found.price if found else listed.get(price_id)
        if price is None:
            message = f"must be a price of plan {self.id}, or one negotiated with the customer in its place"
            raise PriceNotInPlan(message, field=field, plan=self.id, price=price_id)
        if price.currency != currency:
            raise InvalidArgument(f"must be a price in {currency}, which the subscription is billed in", field=field)
        return price, found.list_price_id if found else price_id


def _check_once_each(list_price_ids: Sequence[PriceId], *, field: str) -> None:
    seen: set[PriceId] = set()
    for n, list_price_id in enumerate(list_price_ids):
        if list_price_id in seen:
            message = "must not be a price that another item has, nor one in the place of it"
            raise InvalidArgument(message, field=f"{field}[{n}].price_id")
        seen.add(list_price_id)
