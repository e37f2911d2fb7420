"""Knows how a row with a key of the seller's own goes in."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx


async def inserted(tx: Tx, table: Table, values: dict[str, object]) -> bool:
    """Whether the row went in; False when a unique code is taken."""
    result = await tx.execute(insert(table).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)
