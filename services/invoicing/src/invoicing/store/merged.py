"""Knows which customers are part of another one, and which of their wallets have something in them that is to move."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.telemetry import traceparent
from invoicing.domain.credit import HoldingKey
from invoicing.store.credit_tables import credit_moves, merged_customers

CREDIT_MOVES_DUE: Final = select(
    credit_moves.c.seller_id, credit_moves.c.id, credit_moves.c.due_time, credit_moves.c.traceparent
)


async def hold_customer(tx: Tx, customer_id: str) -> None:
    """Until the commit nobody else merges the customer, or makes it a first wallet."""
    key = f"credit {tx.seller_id} {customer_id}"
    await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def remember_merge(tx: Tx, customer_id: str, into_id: str) -> bool:
    """Whether that is new."""
    row = {"seller_id": tx.seller_id, "customer_id": customer_id, "into_id": into_id, "create_time": tx.now}
    new = insert(merged_customers).values(row).on_conflict_do_nothing().returning(merged_customers.c.customer_id)
    return (await tx.execute(new)).first() is not None


async def merged_into(tx: Tx, customer_id: str) -> str:
    """The customer that one is part of; empty if it is none's."""
    query = select(merged_customers.c.into_id).where(
        merged_customers.c.seller_id == tx.seller_id, merged_customers.c.customer_id == customer_id
    )
    return (await tx.execute(query)).scalar_one_or_none() or ""


async def want_moves(tx: Tx, keys: Collection[HoldingKey]) -> None:
    """Of wallets that are locked."""
    rows = [
        {
            "seller_id": tx.seller_id,
            "id": tx.new_id("cmove"),
            **key._asdict(),
            "due_time": tx.now,
            "traceparent": traceparent(),
        }
        for key in sorted(keys)
    ]
    if rows:
        await tx.execute(insert(credit_moves).values(rows).on_conflict_do_nothing())


async def wanted_move(tx: Tx, move_id: str) -> HoldingKey | None:
    """What is to be emptied; None if that was done."""
    query = select(credit_moves.c.customer_id, credit_moves.c.currency).where(
        credit_moves.c.seller_id == tx.seller_id, credit_moves.c.id == move_id
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else HoldingKey(row.customer_id, row.currency)


async def end_move(tx: Tx, move_id: str) -> bool:
    """Whether it was still wanted; asked with its wallet locked."""
    ended = await tx.execute(
        delete(credit_moves)
        .where(credit_moves.c.seller_id == tx.seller_id, credit_moves.c.id == move_id)
        .returning(credit_moves.c.id)
    )
    return ended.first() is not None
