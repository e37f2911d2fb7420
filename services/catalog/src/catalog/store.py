"""Knows how the catalog is stored: its tables, and the questions asked of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    UniqueConstraint,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, insert

from catalog.domain.errors import (
    PlanCodeTaken,
    PlanNotFound,
    PriceNotFound,
    ProductCodeTaken,
    ProductNotFound,
    SellerNotFound,
)
from catalog.domain.plan import Plan, PlanId, State
from catalog.domain.price import BillingTiming, Flat, Graduated, Model, PerUnit, Price, PriceId, Tier
from catalog.domain.product import Product, ProductId
from catalog.domain.seller import Mode, Seller
from common.db import Tx
from common.ids import SellerId
from common.period import Interval, Unit

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)

sellers = Table(
    "sellers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("tax_id", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("payment_instructions", Text, nullable=False),
    Column("invoice_number_prefix", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="products_code"),
)

plans = Table(
    "plans",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("publish_time", Instant),
    UniqueConstraint("seller_id", "code", name="plans_code"),
)

prices = Table(
    "prices",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("product_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("interval_unit", Text, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("timing", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("model", JSONB, nullable=False),
    UniqueConstraint("seller_id", "plan_id", "code", name="prices_code"),
    UniqueConstraint("seller_id", "plan_id", "position", name="prices_position"),
    ForeignKeyConstraint(["seller_id", "plan_id"], ["plans.seller_id", "plans.id"], name="prices_plan"),
    ForeignKeyConstraint(["seller_id", "product_id"], ["products.seller_id", "products.id"], name="prices_product"),
)


async def add_seller(tx: Tx, seller: Seller) -> None:
    await tx.execute(insert(sellers).values(_seller_row(seller)))


async def seller(tx: Tx, seller_id: SellerId, *, lock: bool = False) -> Seller:
    query = select(sellers).where(sellers.c.seller_id == seller_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise SellerNotFound(f"there is no seller {seller_id}", seller=seller_id)
    return Seller(
        id=SellerId(row.seller_id),
        mode=Mode[row.mode],
        display_name=row.display_name,
        address=row.address,
        tax_id=row.tax_id,
        email=row.email,
        payment_instructions=row.payment_instructions,
        invoice_number_prefix=row.invoice_number_prefix,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )


async def save_seller(tx: Tx, seller: Seller) -> None:
    await tx.execute(update(sellers).where(sellers.c.seller_id == seller.id).values(_seller_row(seller)))


async def add_product(tx: Tx, product: Product) -> None:
    values = {
        "seller_id": tx.seller_id,
        "id": product.id,
        "code": product.code,
        "display_name": product.display_name,
        "description": product.description,
        "unit_label": product.unit_label,
        "revision": product.revision,
        "create_time": product.create_time,
    }
    if not await _inserted(tx, products, values):
        raise ProductCodeTaken(f"there is a product {product.code} already", code=product.code)


async def product(tx: Tx, product_id: ProductId) -> Product:
    found = await products_by_id(tx, [product_id])
    if not found:
        raise ProductNotFound(f"there is no product {product_id}", product=product_id)
    return found[product_id]


async def products_by_id(tx: Tx, product_ids: Collection[ProductId]) -> dict[ProductId, Product]:
    """Those that exist."""
    query = select(products).where(products.c.seller_id == tx.seller_id, products.c.id.in_(product_ids))
    return {ProductId(row.id): _product(row) for row in await tx.execute(query)}


async def list_products(tx: Tx, *, after: str, limit: int) -> list[Product]:
    query = (
        select(products)
        .where(products.c.seller_id == tx.seller_id, products.c.id > after)
        .order_by(products.c.id)
        .limit(limit)
    )
    return [_product(row) for row in await tx.execute(query)]


async def add_plan(tx: Tx, plan: Plan) -> None:
    values = {
        "seller_id": tx.seller_id,
        "id": plan.id,
        "code": plan.code,
        "display_name": plan.display_name,
        "state": plan.state.name,
        "revision": plan.revision,
        "create_time": plan.create_time,
        "publish_time": plan.publish_time,
    }
    if not await _inserted(tx, plans, values):
        raise PlanCodeTaken(f"there is a plan {plan.code} already", code=plan.code)
    await _add_prices(tx, plan.id, plan.prices, first=0)


async def save_plan(tx: Tx, plan: Plan, *, new_prices: Sequence[Price] = ()) -> None:
    await tx.execute(
        update(plans)
        .where(plans.c.seller_id == tx.seller_id, plans.c.id == plan.id)
        .values(state=plan.state.name, revision=plan.revision, publish_time=plan.publish_time)
    )
    await _add_prices(tx, plan.id, new_prices, first=len(plan.prices) - len(new_prices))


async def plan(tx: Tx, plan_id: PlanId, *, lock: bool = False) -> Plan:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.id == plan_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id)
    return (await _plans(tx, [row]))[0]


async def plan_by_code(tx: Tx, code: str) -> Plan:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.code == code)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise PlanNotFound(f"there is no plan {code}", code=code)
    return (await _plans(tx, [row]))[0]


async def list_plans(tx: Tx, *, after: str, limit: int) -> list[Plan]:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.id > after).order_by(plans.c.id).limit(limit)
    return await _plans(tx, (await tx.execute(query)).all())


async def prices_by_id(tx: Tx, price_ids: Collection[PriceId]) -> list[tuple[PlanId, Price]]:
    """All of them, with the plans they belong to, in order of id; PRICE_NOT_FOUND if one does not exist."""
    query = select(prices).where(prices.c.seller_id == tx.seller_id, prices.c.id.in_(price_ids)).order_by(prices.c.id)
    found = [(PlanId(row.plan_id), _price(row)) for row in await tx.execute(query)]
    missing = sorted(set(price_ids) - {price.id for _, price in found})
    if missing:
        raise PriceNotFound(f"there is no price {', '.join(missing[:10])}", ids=",".join(missing[:10]))
    return found


async def _inserted(tx: Tx, table: Table, values: dict[str, object]) -> bool:
    """Whether the row went in; False when a unique code is taken."""
    result = await tx.execute(insert(table).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)


async def _add_prices(tx: Tx, plan_id: PlanId, new: Sequence[Price], *, first: int) -> None:
    if not new:
        return
    rows = [
        {
            "seller_id": tx.seller_id,
            "id": price.id,
            "plan_id": plan_id,
            "position": position,
            "code": price.code,
            "product_id": price.product_id,
            "currency": price.currency,
            "interval_unit": price.interval.unit.name,
            "interval_count": price.interval.count,
            "timing": price.timing.name,
            "meter": price.meter,
            "model": _model_row(price.model),
        }
        for position, price in enumerate(new, start=first)
    ]
    await tx.execute(insert(prices).values(rows))


async def _plans(tx: Tx, rows: Iterable[Row[Any]]) -> list[Plan]:  # Any: a row of `plans`
    rows = list(rows)
    query = (
        select(prices)
        .where(prices.c.seller_id == tx.seller_id, prices.c.plan_id.in_([row.id for row in rows]))
        .order_by(prices.c.plan_id, prices.c.position)
    )
    of_plan: dict[str, list[Price]] = defaultdict(list)
    for row in await tx.execute(query):
        of_plan[row.plan_id].append(_price(row))
    return [
        Plan(
            id=PlanId(row.id),
            code=row.code,
            display_name=row.display_name,
            state=State[row.state],
            prices=tuple(of_plan[row.id]),
            revision=row.revision,
            create_time=row.create_time,
            publish_time=row.publish_time,
        )
        for row in rows
    ]


def _seller_row(seller: Seller) -> dict[str, object]:
    return {
        "seller_id": seller.id,
        "mode": seller.mode.name,
        "display_name": seller.display_name,
        "address": seller.address,
        "tax_id": seller.tax_id,
        "email": seller.email,
        "payment_instructions": seller.payment_instructions,
        "invoice_number_prefix": seller.invoice_number_prefix,
        "revision": seller.revision,
        "create_time": seller.create_time,
        "update_time": seller.update_time,
    }


def _product(row: Row[Any]) -> Product:  # Any: a row of `products`
    return Product(
        id=ProductId(row.id),
        code=row.code,
        display_name=row.display_name,
        description=row.description,
        unit_label=row.unit_label,
        revision=row.revision,
        create_time=row.create_time,
    )


def _price(row: Row[Any]) -> Price:  # Any: a row of `prices`
    return Price(
        id=PriceId(row.id),
        code=row.code,
        product_id=ProductId(row.product_id),
        currency=row.currency,
        interval=Interval(Unit[row.interval_unit], row.interval_count),
        timing=BillingTiming[row.timing],
        meter=row.meter,
        model=_model(row.model),
    )


# Decimals are text in JSON: a JSON number would be read as a float.
def _model_row(model: Model) -> dict[str, object]:
    match model:
        case Flat(amount=amount):
            return {"model": "FLAT", "amount": str(amount)}
        case PerUnit(unit_price=unit_price):
            return {"model": "PER_UNIT", "unit_price": str(unit_price)}
        case Graduated(tiers=tiers):
            return {"model": "GRADUATED", "tiers": [_tier_row(tier) for tier in tiers]}


def _tier_row(tier: Tier) -> dict[str, str | None]:
    return {
        "up_to": None if tier.up_to is None else str(tier.up_to),
        "unit_price": str(tier.unit_price),
        "flat_amount": str(tier.flat_amount),
    }


def _model(stored: dict[str, Any]) -> Model:  # Any: JSON as `_model_row` wrote it
    match stored["model"]:
        case "FLAT":
            return Flat(amount=Decimal(stored["amount"]))
        case "PER_UNIT":
            return PerUnit(unit_price=Decimal(stored["unit_price"]))
        case _:
            return Graduated(tiers=tuple(_tier(tier) for tier in stored["tiers"]))


def _tier(stored: dict[str, str | None]) -> Tier:
    up_to = stored["up_to"]
    return Tier(
        up_to=None if up_to is None else Decimal(up_to),
        unit_price=Decimal(stored["unit_price"] or 0),
        flat_amount=Decimal(stored["flat_amount"] or 0),
    )
