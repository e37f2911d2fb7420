"""Knows how the hierarchy of a seller's customers, and who pays for whom, is walked and by one at a time changed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CTE, func, literal, or_, select, text

from common.db import Tx
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.hierarchy import LEVELS_MAX, Branch
from subscriptions.store.customers import customer_of
from subscriptions.store.personal_data import read_customers
from subscriptions.store.tables import customers

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


async def lock_hierarchy(tx: Tx) -> None:
    """Until this transaction ends: two that look at the same tree and change it would make a loop of it together."""
    await tx.execute(_LOCK, {"key": f"hierarchy {tx.seller_id}"})


async def branch(tx: Tx, customer_id: CustomerId) -> Branch:
    """Where a customer that exists stands, and how much is below it."""
    below = _below(tx, customer_id)
    counted = select(func.coalesce(func.max(below.c.depth), 0).label("levels"), func.count().label("size"))
    found = (await tx.execute(counted.select_from(below))).one()
    return Branch(
        customer_id=customer_id,
        ancestors=await _ancestors(tx, customer_id),
        levels=1 + found.levels,
        size=1 + found.size,
    )


async def descendants(tx: Tx, customer_id: CustomerId, *, after: str, limit: int) -> list[tuple[Customer, int]]:
    """Customers below one, in order of id, with how far below."""
    below = _below(tx, customer_id)
    query = (
        select(customers, below.c.depth)
        .join(below, customers.c.id == below.c.id)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id > after)
        .order_by(customers.c.id)
        .limit(limit)
    )
    return [(customer_of(tx, row), row.depth) for row in await read_customers(tx, query)]


async def pays_for_others(tx: Tx, customer_id: CustomerId) -> bool:
    query = (
        select(literal(True)).where(customers.c.seller_id == tx.seller_id, customers.c.payer_id == customer_id).limit(1)
    )
    return (await tx.execute(query)).scalar_one_or_none() is True


async def lock_dependents(tx: Tx, customer_id: CustomerId, *, limit: int) -> list[Customer]:
    """Customers directly below one, and those it pays for."""
    query = (
        select(customers)
        .where(
            customers.c.seller_id == tx.seller_id,
            or_(customers.c.parent_id == customer_id, customers.c.payer_id == customer_id),
        )
        .order_by(customers.c.id)
        .limit(limit)
    )
    return [customer_of(tx, row) for row in await read_customers(tx, query, lock=True)]


async def _ancestors(tx: Tx, customer_id: CustomerId) -> tuple[CustomerId, ...]:
    """From the parent up to the root."""
    own = customers.c.seller_id == tx.seller_id
    start = select(customers.c.parent_id.label("id"), literal(1).label("depth")).where(
        own, customers.c.id == customer_id, customers.c.parent_id.is_not(None)
    )
    above = start.cte("above", recursive=True)
    above = above.union_all(
        select(customers.c.parent_id, above.c.depth + 1)
        .join(above, customers.c.id == above.c.id)
        .where(own, customers.c.parent_id.is_not(None), above.c.depth < LEVELS_MAX)
    )
    rows = await tx.execute(select(above.c.id).order_by(above.c.depth))
    return tuple(CustomerId(row.id) for row in rows)


def _below(tx: Tx, customer_id: CustomerId) -> CTE:
    """Ids and depths. The bound is one that no tree reaches: the walk ends even if one were broken."""
    own = customers.c.seller_id == tx.seller_id
    start = select(customers.c.id, literal(1).label("depth")).where(own, customers.c.parent_id == customer_id)
    below = start.cte("below", recursive=True)
    return below.union_all(
        select(customers.c.id, below.c.depth + 1)
        .join(below, customers.c.parent_id == below.c.id)
        .where(own, below.c.depth < LEVELS_MAX)
    )
