"""What the catalog does, one function each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from catalog import store
from catalog.convert import plan_to_proto, product_to_proto, seller_to_proto
from catalog.domain.errors import ProductNotFound
from catalog.domain.plan import Plan, PlanId, State
from catalog.domain.price import Price, PriceId
from catalog.domain.product import Product, ProductId
from catalog.domain.seller import Mode, Seller
from common import ids
from common.db import Tx
from common.ids import SellerId
from saldo.catalog.v1 import events_pb2 as events


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """What is printed about a seller; None leaves it as it is."""

    display_name: str | None
    address: bytes | None
    tax_id: str | None
    email: str | None
    payment_instructions: str | None


async def create_seller(
    tx: Tx, *, imprint: Imprint, invoice_number_prefix: str, sandbox_start: datetime | None
) -> Seller:
    """A new tenant. The id of a sandbox carries the instant at which its clock begins."""
    sandbox = sandbox_start is not None
    seller_id = SellerId(ids.mint(ids.SANDBOX, sandbox_start) if sandbox_start else tx.new_id(ids.SELLER))
    own = await tx.for_seller(seller_id)
    seller = Seller(
        id=seller_id,
        mode=Mode.SANDBOX if sandbox else Mode.LIVE,
        display_name=imprint.display_name or "",
        address=imprint.address or b"",
        tax_id=imprint.tax_id or "",
        email=imprint.email or "",
        payment_instructions=imprint.payment_instructions or "",
        invoice_number_prefix=invoice_number_prefix,
        revision=1,
        create_time=own.now,
        update_time=own.now,
    )
    await store.add_seller(own, seller)
    await own.emit(events.SellerCreated(seller=seller_to_proto(seller)))
    return seller


async def get_seller(tx: Tx, seller_id: SellerId) -> Seller:
    return await store.seller(tx, seller_id)


async def update_seller(tx: Tx, imprint: Imprint) -> Seller:
    old = await store.seller(tx, tx.seller_id, lock=True)
    seller = replace(
        old,
        display_name=old.display_name if imprint.display_name is None else imprint.display_name,
        address=old.address if imprint.address is None else imprint.address,
        tax_id=old.tax_id if imprint.tax_id is None else imprint.tax_id,
        email=old.email if imprint.email is None else imprint.email,
        payment_instructions=(
            old.payment_instructions if imprint.payment_instructions is None else imprint.payment_instructions
        ),
        revision=old.revision + 1,
        update_time=tx.now,
    )
    await store.save_seller(tx, seller)
    await tx.emit(events.SellerUpdated(seller=seller_to_proto(seller)))
    return seller


async def create_product(tx: Tx, *, code: str, display_name: str, description: str, unit_label: str) -> Product:
    product = Product(
        id=ProductId(tx.new_id("prod")),
        code=code,
        display_name=display_name,
        description=description,
        unit_label=unit_label,
        revision=1,
        create_time=tx.now,
    )
    await store.add_product(tx, product)
    await tx.emit(events.ProductCreated(product=product_to_proto(product)))
    return product


async def create_plan(tx: Tx, *, code: str, display_name: str, prices: Sequence[Price]) -> Plan:
    plan = Plan(
        id=PlanId(tx.new_id("plan")),
        code=code,
        display_name=display_name,
        state=State.DRAFT,
        prices=(),
        revision=1,
        create_time=tx.now,
        publish_time=None,
    )
    for price in prices:
        plan = plan.add(price)
    plan = replace(plan, revision=1)
    await _check_products(tx, prices)
    await store.add_plan(tx, plan)
    await tx.emit(events.PlanCreated(plan=plan_to_proto(plan)))
    return plan


async def create_price(tx: Tx, plan_id: PlanId, price: Price) -> Plan:
    draft = await store.plan(tx, plan_id, lock=True)
    plan = draft.add(price)
    await _check_products(tx, [price])
    await store.save_plan(tx, plan, new_prices=[price])
    return plan


async def publish_plan(tx: Tx, plan_id: PlanId) -> Plan:
    draft = await store.plan(tx, plan_id, lock=True)
    plan = draft.publish(at=tx.now)
    await store.save_plan(tx, plan)
    await tx.emit(events.PlanPublished(plan=plan_to_proto(plan)))
    return plan


async def archive_plan(tx: Tx, plan_id: PlanId) -> Plan:
    active = await store.plan(tx, plan_id, lock=True)
    plan = active.archive()
    await store.save_plan(tx, plan)
    await tx.emit(events.PlanArchived(plan=plan_to_proto(plan)))
    return plan


async def priced_products(tx: Tx, price_ids: Collection[PriceId]) -> list[tuple[PlanId, Price, Product]]:
    """Prices with what an invoice prints about them."""
    found = await store.prices_by_id(tx, price_ids)
    products = await store.products_by_id(tx, {price.product_id for _, price in found})
    return [(plan_id, price, products[price.product_id]) for plan_id, price in found]


async def _check_products(tx: Tx, prices: Sequence[Price]) -> None:
    wanted = {price.product_id for price in prices}
    missing = sorted(wanted - set(await store.products_by_id(tx, wanted)))
    if missing:
        raise ProductNotFound(f"there is no product {missing[0]}", product=missing[0])
