"""Knows how backfills are found and listed. What becomes of one is written by whoever writes the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, func, insert, select

from common.db import Tx
from metering.domain.backfill import Backfill, BackfillId, BackfillState
from metering.domain.errors import BackfillNotFound
from metering.store.backfill_tables import usage_backfills

BACKFILLS_EXPIRING: Final[Select[Any]] = select(  # Any: the columns are by convention, see `common.jobs`
    usage_backfills.c.seller_id, usage_backfills.c.id, usage_backfills.c.expire_time.label("due_time")
).where(usage_backfills.c.state == BackfillState.OPEN.name)

OPEN_BACKFILLS: Final[Select[Any]] = (  # Any: of one whole number
    select(func.count()).select_from(usage_backfills).where(usage_backfills.c.state == BackfillState.OPEN.name)
)
"""How many wait for somebody to close them, of all sellers."""


async def lock_backfills(tx: Tx) -> None:
    """Nobody else opens one until the commit."""
    await tx.driver.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _OPENING_CLASS, tx.seller_id)


async def count_backfills(tx: Tx) -> tuple[int, int]:
    """How many are open, and how many open or closed."""
    row = await tx.driver.fetchrow(
        "SELECT count(*) FILTER (WHERE state = 'OPEN') AS open, count(*) AS kept FROM usage_backfills"
        " WHERE seller_id = $1 AND state <> 'REVERTED'",
        tx.seller_id,
    )
    assert row is not None, "an aggregate has a row"
    return row["open"], row["kept"]


async def add_backfill(tx: Tx, new_id: BackfillId, *, reason: str, expire_time: datetime) -> Backfill:
    """An open one."""
    await tx.execute(
        insert(usage_backfills).values(
            seller_id=tx.seller_id,
            id=new_id,
            state=BackfillState.OPEN.name,
            reason=reason,
            opened_by=tx.actor,
            create_time=tx.now,
            expire_time=expire_time,
        )
    )
    return await backfill(tx, new_id)


async def backfill(tx: Tx, backfill_id: BackfillId) -> Backfill:
    query = select(usage_backfills).where(
        usage_backfills.c.seller_id == tx.seller_id, usage_backfills.c.id == backfill_id
    )
    row = (await tx.execute(query)).first()
    if row is None:
        raise BackfillNotFound(f"there is no backfill {backfill_id}", id=backfill_id)
    return _backfill(row)


async def list_backfills(tx: Tx, *, state: BackfillState | None, after: str, limit: int) -> list[Backfill]:
    query = (
        select(usage_backfills)
        .where(usage_backfills.c.seller_id == tx.seller_id, usage_backfills.c.id > after)
        .order_by(usage_backfills.c.id)
        .limit(limit)
    )
    if state is not None:
        query = query.where(usage_backfills.c.state == state.name)
    return [_backfill(row) for row in await tx.execute(query)]


def _backfill(row: Row[Any]) -> Backfill:  # Any: a row of `usage_backfills`
    return Backfill(
        id=BackfillId(row.id),
        number=row.number,
        state=BackfillState[row.state],
        reason=row.reason,
        event_count=row.event_count,
        first_position=row.first_position,
        last_position=row.last_position,
        revert_position=row.revert_position,
        opened_by=row.opened_by,
        create_time=row.create_time,
        expire_time=row.expire_time,
        closed_by=row.closed_by,
        close_time=row.close_time,
        reverted_by=row.reverted_by,
        revert_time=row.revert_time,
        revert_reason=row.revert_reason,
    )


_OPENING_CLASS: Final = 7_203_164
"""Of the advisory locks by which a seller's backfills are counted one after the other."""
