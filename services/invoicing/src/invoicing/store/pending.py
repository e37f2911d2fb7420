"""Knows the lines that wait for an invoice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Text, any_, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from invoicing.domain.manual import PendingLine
from invoicing.store.rows import written_line_of, written_line_row
from invoicing.store.tables import invoice_lines, pending_lines


async def add_pending_line(tx: Tx, pending: PendingLine) -> None:
    await tx.execute(
        insert(pending_lines).values(
            seller_id=tx.seller_id,
            id=pending.line.id,
            customer_id=pending.customer_id,
            currency=pending.line.amount.currency,
            line=written_line_row(pending.line),
            bill_alone_time=pending.bill_alone_time,
            create_time=pending.create_time,
        )
    )


async def pending_lines_of(
    tx: Tx, customer_ids: Collection[str], *, lock: bool = False
) -> Mapping[str, Sequence[PendingLine]]:
    """By customer, oldest first. Locked, nobody takes one back that is being billed."""
    wanted = any_(literal(sorted(customer_ids), ARRAY(Text)))
    query = (
        select(pending_lines)
        .where(pending_lines.c.seller_id == tx.seller_id, pending_lines.c.customer_id == wanted)
        .order_by(pending_lines.c.customer_id, pending_lines.c.id)
    )
    found: dict[str, list[PendingLine]] = defaultdict(list)
    for row in await tx.execute(query.with_for_update() if lock else query):
        found[row.customer_id].append(_pending_of(row))
    return found


async def count_pending_lines(tx: Tx, customer_id: str) -> int:
    query = select(func.count()).where(
        pending_lines.c.seller_id == tx.seller_id, pending_lines.c.customer_id == customer_id
    )
    return int((await tx.execute(query)).scalar_one())


async def list_pending_lines(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[PendingLine]:
    query = select(pending_lines).where(pending_lines.c.seller_id == tx.seller_id, pending_lines.c.id > after)
    if customer_id:
        query = query.where(pending_lines.c.customer_id == customer_id)
    return [_pending_of(row) for row in await tx.execute(query.order_by(pending_lines.c.id).limit(limit))]


async def take_pending_lines(tx: Tx, line_ids: Collection[str]) -> list[PendingLine]:
    """They wait no more; those that waited until now."""
    if not line_ids:
        return []
    wanted = any_(literal(sorted(line_ids), ARRAY(Text)))
    query = (
        delete(pending_lines)
        .where(pending_lines.c.seller_id == tx.seller_id, pending_lines.c.id == wanted)
        .returning(pending_lines)
    )
    return [_pending_of(row) for row in await tx.execute(query)]


async def is_billed(tx: Tx, line_id: str) -> bool:
    query = select(func.count()).where(invoice_lines.c.seller_id == tx.seller_id, invoice_lines.c.id == line_id)
    return bool((await tx.execute(query)).scalar_one())


def _pending_of(row: Row[Any]) -> PendingLine:  # Any: a row of `pending_lines`
    return PendingLine(
        customer_id=row.customer_id,
        line=written_line_of(row.line, row.currency),
        bill_alone_time=row.bill_alone_time,
        create_time=row.create_time,
    )
