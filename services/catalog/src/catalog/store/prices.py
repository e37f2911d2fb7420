"""Knows how prices are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from catalog.domain.errors import PriceNotFound, PriceNotOfList
from catalog.domain.plan import PlanId
from catalog.domain.price import BillingTiming, Price, PriceId
from catalog.domain.product import ProductId
from catalog.store.models import model_from_json, model_to_json, operators_from_json, operators_to_json
from catalog.store.tables import prices
from common.db import Tx
from common.period import Interval, Unit

ONCE: Final = "ONCE"
"""The unit of an interval that there is not."""


async def prices_by_id(tx: Tx, price_ids: Collection[PriceId]) -> list[tuple[PlanId, Price]]:
    """All of them, with the plans they belong to, in order of id; PRICE_NOT_FOUND if one does not exist."""
    query = select(prices).where(prices.c.seller_id == tx.seller_id, prices.c.id.in_(price_ids)).order_by(prices.c.id)
    found = [(PlanId(row.plan_id), _price(row)) for row in await tx.execute(query)]
    missing = sorted(set(price_ids) - {price.id for _, price in found})
    if missing:
        raise PriceNotFound(f"there is no price {', '.join(missing[:10])}", ids=",".join(missing[:10]))
    return found


async def prices_of_plans(tx: Tx, plan_ids: Collection[str]) -> dict[str, list[Price]]:
    """By plan, in the order they were added: neither what a draft said before, nor what was negotiated."""
    query = (
        select(prices)
        .where(
            prices.c.seller_id == tx.seller_id,
            prices.c.plan_id.in_(plan_ids),
            prices.c.position.is_not(None),
        )
        .order_by(prices.c.plan_id, prices.c.position)
    )
    of_plan: dict[str, list[Price]] = defaultdict(list)
    for row in await tx.execute(query):
        of_plan[row.plan_id].append(_price(row))
    return of_plan


async def list_price(tx: Tx, price_id: PriceId) -> tuple[PlanId, Price]:
    """One that its plan offers to everyone, with the plan; PRICE_NOT_OF_LIST if it was negotiated or discarded."""
    query = select(prices).where(prices.c.seller_id == tx.seller_id, prices.c.id == price_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise PriceNotFound(f"there is no price {price_id}", ids=price_id)
    if row.position is None:
        raise PriceNotOfList(f"price {price_id} is not offered to everyone", price=price_id)
    return PlanId(row.plan_id), _price(row)


async def list_contract_prices(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[tuple[PlanId, Price]]:
    """Of one customer, or of all if that is empty, oldest first."""
    query = select(prices).where(
        prices.c.seller_id == tx.seller_id,
        prices.c.customer_id == customer_id if customer_id else prices.c.customer_id != "",
        prices.c.id > after,
    )
    found = await tx.execute(query.order_by(prices.c.id).limit(limit))
    return [(PlanId(row.plan_id), _price(row)) for row in found]


async def add_contract_price(tx: Tx, plan_id: PlanId, price: Price) -> None:
    await tx.execute(insert(prices).values(_row(tx, plan_id, price, position=None)))


async def add_prices(tx: Tx, plan_id: PlanId, new: Sequence[Price], *, first: int) -> None:
    if new:
        rows = [_row(tx, plan_id, price, position=position) for position, price in enumerate(new, start=first)]
        await tx.execute(insert(prices).values(rows))


async def discard_prices(tx: Tx, plan_id: PlanId) -> None:
    """The plan has them no more. They stay, for whoever was told of one may keep it for ever."""
    await tx.execute(
        update(prices)
        .where(prices.c.seller_id == tx.seller_id, prices.c.plan_id == plan_id, prices.c.position.is_not(None))
        .values(position=None)
    )


def _row(tx: Tx, plan_id: PlanId, price: Price, *, position: int | None) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": price.id,
        "plan_id": plan_id,
        "position": position,
        "code": price.code,
        "product_id": price.product_id,
        "currency": price.currency,
        "interval_unit": price.interval.unit.name if price.interval else ONCE,
        "interval_count": price.interval.count if price.interval else 1,
        "timing": price.timing.name,
        "meter": price.meter,
        "model": model_to_json(price.model),
        "operators": operators_to_json(price.operators),
        "customer_id": price.customer_id,
        "list_price_id": price.list_price_id,
        "create_time": price.create_time,
    }


def _price(row: Row[Any]) -> Price:  # Any: a row of `prices`
    return Price(
        id=PriceId(row.id),
        code=row.code,
        product_id=ProductId(row.product_id),
        currency=row.currency,
        interval=None if row.interval_unit == ONCE else Interval(Unit[row.interval_unit], row.interval_count),
        timing=BillingTiming[row.timing],
        meter=row.meter,
        model=model_from_json(row.model),
        operators=operators_from_json(row.operators),
        customer_id=row.customer_id,
        list_price_id=row.list_price_id,
        create_time=row.create_time,
    )
