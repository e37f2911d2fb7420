"""Negotiates prices with customers, and answers what a price charges for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from catalog import store
from catalog.convert import announceable, price_to_proto
from catalog.domain.errors import ProductNotFound
from catalog.domain.plan import PlanId
from catalog.domain.price import Price, PriceId
from catalog.domain.product import Product
from common.db import Tx
from saldo.catalog.v1 import events_pb2 as events


async def list_price(tx: Tx, price_id: PriceId) -> tuple[PlanId, Price]:
    """A price that one can be negotiated in place of: offered to everyone, in a plan open to subscriptions."""
    plan_id, price = await store.list_price(tx, price_id)
    (await store.plan(tx, plan_id)).must_be_active()
    return plan_id, price


async def create_contract_price(tx: Tx, plan_id: PlanId, price: Price) -> None:
    await store.add_contract_price(tx, plan_id, price)
    await tx.emit(events.PriceNegotiated(price=announceable(price_to_proto(price, plan_id), field="price")))


async def priced_products(tx: Tx, price_ids: Collection[PriceId]) -> list[tuple[PlanId, Price, Product]]:
    """Prices with what an invoice prints about them."""
    found = await store.prices_by_id(tx, price_ids)
    products = await store.products_by_id(tx, {price.product_id for _, price in found})
    return [(plan_id, price, products[price.product_id]) for plan_id, price in found]


async def check_products(tx: Tx, prices: Sequence[Price]) -> None:
    wanted = {price.product_id for price in prices}
    missing = sorted(wanted - set(await store.products_by_id(tx, wanted)))
    if missing:
        raise ProductNotFound(f"there is no product {missing[0]}", product=missing[0])
