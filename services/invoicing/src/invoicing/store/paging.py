"""Knows how documents are told by the page, of whatever kind they are: long ones make it shorter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, Table, Text, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import Tx

LINES_PER_PAGE_MAX: Final = 2_000
"""A page ends early rather than outgrow a message."""


async def page_of(
    tx: Tx,
    documents: Table,
    query: Select[Any],  # Any: rows of the table
    *,
    after: str,
    limit: int,
) -> tuple[Sequence[Row[Any]], str]:
    """In order of their ids; and the id after which the next page begins, empty on the last."""
    query = query.where(documents.c.seller_id == tx.seller_id, documents.c.id > after)
    rows = (await tx.execute(query.order_by(documents.c.id).limit(limit + 1))).all()
    page = rows[: _fitting([row.line_count for row in rows[:limit]], LINES_PER_PAGE_MAX)]
    return page, page[-1].id if len(page) < len(rows) else ""


async def numbered(
    tx: Tx, documents: Table, numbers: Sequence[str], *, lines_max: int
) -> tuple[Sequence[Row[Any]], int]:  # Any: rows of the table
    """Those that have the numbers; and how many of the numbers were looked for: fewer when they have more lines than
    that together.
    """
    query = select(documents).where(
        documents.c.seller_id == tx.seller_id, documents.c.number == any_(literal(list(numbers), ARRAY(Text)))
    )
    rows = {row.number: row for row in await tx.execute(query)}
    looked_for = _fitting([rows[each].line_count if each in rows else 0 for each in numbers], lines_max)
    return [rows[each] for each in numbers[:looked_for] if each in rows], looked_for


def _fitting(line_counts: Sequence[int], lines_max: int) -> int:
    """How many of them, from the first, have no more lines than that together. One alone may have more."""
    total = 0
    for nth, line_count in enumerate(line_counts):
        if total and total + line_count > lines_max:
            return nth
        total += line_count
    return len(line_counts)
