"""Knows how series of numbers are kept, and what is kept of the documents that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from invoicing.domain.credit_note import CreditNoteId
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.issued import Issued, Number
from invoicing.store.many import insert_rows
from invoicing.store.tables import issued_documents, number_series


async def take_numbers(tx: Tx, series: str, count: int) -> Number:
    """So many numbers in a row; the first of them. The series stays locked until the commit, so that a number is never
    lost nor given twice.
    """
    statement = insert(number_series).values(seller_id=tx.seller_id, prefix=series, last=count)
    last = await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["seller_id", "prefix"], set_={"last": number_series.c.last + count}
        ).returning(number_series.c.last)
    )
    return Number(series=series, ordinal=last.scalar_one() - count + 1)


async def link_before(tx: Tx, number: Number) -> bytes | None:
    """Asked after `take_numbers`: only then is that of whoever was before us sure to be there."""
    return (
        await tx.execute(
            select(issued_documents.c.link).where(
                issued_documents.c.seller_id == tx.seller_id,
                issued_documents.c.series == number.series,
                issued_documents.c.ordinal == number.ordinal - 1,
            )
        )
    ).scalar_one_or_none()


async def add_issued(tx: Tx, issued: Sequence[Issued]) -> None:
    rows = [
        {
            "seller_id": tx.seller_id,
            "series": each.number.series,
            "ordinal": each.number.ordinal,
            "invoice_id": each.invoice_id,
            "version": each.version,
            "content_hash": each.content_hash,
            "link": each.link,
            "create_time": tx.now,
            "kind": "CREDIT_NOTE" if each.credit_note_id else "INVOICE",
            "credit_note_id": each.credit_note_id or None,
        }
        for each in issued
    ]
    await insert_rows(tx, issued_documents, rows)


async def issued(tx: Tx, invoice_id: InvoiceId) -> Issued | None:
    """What was kept of an invoice when it was issued; None if that was before anything was."""
    query = select(issued_documents).where(
        issued_documents.c.seller_id == tx.seller_id,
        issued_documents.c.invoice_id == invoice_id,
        issued_documents.c.kind == "INVOICE",
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _issued(row)


async def last_ordinal(tx: Tx, series: str) -> int:
    """0 for a series that has no numbers yet."""
    query = select(number_series.c.last).where(
        number_series.c.seller_id == tx.seller_id, number_series.c.prefix == series
    )
    return (await tx.execute(query)).scalar_one_or_none() or 0


async def list_series(tx: Tx, *, after: str, limit: int) -> list[Number]:
    """The last number of each, in order of their names."""
    query = (
        select(number_series)
        .where(number_series.c.seller_id == tx.seller_id, number_series.c.prefix > after)
        .order_by(number_series.c.prefix)
        .limit(limit)
    )
    return [Number(series=row.prefix, ordinal=row.last) for row in await tx.execute(query)]


async def issued_between(tx: Tx, series: str, first: int, last: int) -> dict[int, Issued]:
    """By ordinal, both ends included."""
    query = select(issued_documents).where(
        issued_documents.c.seller_id == tx.seller_id,
        issued_documents.c.series == series,
        issued_documents.c.ordinal.between(first, last),
    )
    return {row.ordinal: _issued(row) for row in await tx.execute(query)}


def _issued(row: Row[Any]) -> Issued:  # Any: a row of `issued_documents`
    return Issued(
        number=Number(series=row.series, ordinal=row.ordinal),
        invoice_id=InvoiceId(row.invoice_id),
        credit_note_id=CreditNoteId(row.credit_note_id or ""),
        version=row.version,
        content_hash=row.content_hash,
        link=row.link,
    )
