"""Knows the questions asked of invoices, and how they are written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Text, any_, bindparam, column, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.errors import InvoiceNotFound
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineKey
from invoicing.domain.lines_due import Billed
from invoicing.store.rows import invoice_of, invoice_row, line_of, line_row
from invoicing.store.tables import invoice_lines, invoice_payments, invoices

LINES_PER_PAGE_MAX: Final = 2_000
"""A page of invoices ends early rather than outgrow a message."""

DRAFTS_DUE: Final = select(
    invoices.c.seller_id, invoices.c.id, invoices.c.finalize_time.label("due_time"), invoices.c.traceparent
).where(invoices.c.state == "DRAFT")

OVERDUE_DUE: Final = select(
    invoices.c.seller_id, invoices.c.id, invoices.c.overdue_from_time.label("due_time"), invoices.c.traceparent
).where(invoices.c.overdue_from_time.is_not(None))


async def invoice(tx: Tx, invoice_id: InvoiceId, *, lock: bool = False) -> Invoice:
    query = select(invoices).where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"there is no invoice {invoice_id}", invoice=invoice_id)
    return (await _with_lines(tx, [row]))[0]


async def lock_draft(tx: Tx, *, customer_id: str, currency: str, bill_time: datetime) -> Invoice | None:
    """The draft that bills the same customer for the same moment, if it is still one."""
    query = (
        select(invoices)
        .where(
            invoices.c.seller_id == tx.seller_id,
            invoices.c.customer_id == customer_id,
            invoices.c.currency == currency,
            invoices.c.bill_time == bill_time,
            invoices.c.state == State.DRAFT.name,
        )
        .with_for_update()
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else (await _with_lines(tx, [row]))[0]


async def list_invoices(tx: Tx, *, customer_id: str, after: str, limit: int) -> tuple[list[Invoice], str]:
    """A page, and the id after which the next one begins; empty on the last. Long invoices make a page shorter."""
    query = select(invoices).where(invoices.c.seller_id == tx.seller_id, invoices.c.id > after)
    if customer_id:
        query = query.where(invoices.c.customer_id == customer_id)
    rows = (await tx.execute(query.order_by(invoices.c.id).limit(limit + 1))).all()
    page: list[Row[Any]] = []  # Any: rows of `invoices`
    line_count = 0
    for row in rows[:limit]:
        line_count += row.line_count
        if page and line_count > LINES_PER_PAGE_MAX:
            break
        page.append(row)
    return await _with_lines(tx, page), page[-1].id if len(page) < len(rows) else ""


async def invoices_numbered(tx: Tx, numbers: Sequence[str], *, lines_max: int) -> tuple[dict[str, Invoice], int]:
    """By number; and how many of the numbers were looked for: fewer when they have more lines than that together."""
    query = select(invoices).where(
        invoices.c.seller_id == tx.seller_id, invoices.c.number == any_(literal(list(numbers), ARRAY(Text)))
    )
    rows = {row.number: row for row in await tx.execute(query)}
    page: list[Row[Any]] = []  # Any: rows of `invoices`
    line_count = 0
    looked_for = len(numbers)
    for nth, number in enumerate(numbers):
        line_count += rows[number].line_count if number in rows else 0
        if page and line_count > lines_max:
            looked_for = nth
            break
        page += [rows[number]] if number in rows else []
    return {found.number: found for found in await _with_lines(tx, page)}, looked_for


async def add_invoice(tx: Tx, invoice: Invoice) -> None:
    """With its lines."""
    row = {**invoice_row(invoice), "seller_id": tx.seller_id, "traceparent": traceparent()}
    await tx.execute(insert(invoices).values(row))
    await _add_lines(tx, invoice, first=0)


async def save_invoice(tx: Tx, invoice: Invoice) -> None:
    """All but its lines."""
    await tx.execute(
        update(invoices)
        .where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice.id)
        .values(invoice_row(invoice))
    )


async def save_draft(tx: Tx, invoice: Invoice, *, lines_before: int) -> None:
    """With the lines that have been added to it."""
    await save_invoice(tx, invoice)
    await _add_lines(tx, invoice, first=lines_before)


async def replace_lines(tx: Tx, invoice: Invoice) -> None:
    """The lines of a draft, computed anew."""
    await tx.execute(
        delete(invoice_lines).where(invoice_lines.c.seller_id == tx.seller_id, invoice_lines.c.invoice_id == invoice.id)
    )
    await _add_lines(tx, invoice, first=0)


async def already_billed(
    tx: Tx, keys: Collection[LineKey], *, but_on: InvoiceId | None = None
) -> dict[LineKey, Billed]:
    """What has been billed for these keys, on all invoices (but one)."""
    if not keys:
        return {}
    query = (
        select(invoice_lines, invoices.c.state)
        .join(invoices)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
            invoice_lines.c.period_start >= min(key.period_start for key in keys),
            invoice_lines.c.period_start <= max(key.period_start for key in keys),
        )
    )
    if but_on is not None:
        query = query.where(invoice_lines.c.invoice_id != but_on)
    lines: dict[LineKey, list[tuple[Line, bool]]] = defaultdict(list)
    for row in await tx.execute(query):
        line = line_of(row)
        lines[line.key].append((line, row.state != State.DRAFT.name))
    return {key: Billed.of(lines[key]) for key in keys if key in lines}


async def remember_payment(tx: Tx, *, payment_id: str, invoice_id: InvoiceId, amount: Money) -> bool:
    """Whether the payment is new."""
    result = await tx.execute(
        insert(invoice_payments)
        .values(
            seller_id=tx.seller_id,
            payment_id=payment_id,
            invoice_id=invoice_id,
            amount_minor=amount.minor,
            create_time=tx.now,
        )
        .on_conflict_do_nothing()
    )
    return bool(result.rowcount)


# All lines of an invoice are one parameter of one statement, however many there are. COPY, which would be a little
# faster still, does not go through row-level security.
_NEW_LINES: Final = (
    func.jsonb_to_recordset(bindparam("rows", type_=JSONB))
    .table_valued(*(column(each.name, each.type) for each in invoice_lines.c))
    .render_derived(name="new", with_types=True)
)
_ADD_LINES: Final = insert(invoice_lines).from_select(
    [each.name for each in invoice_lines.c], select(*(_NEW_LINES.c[each.name] for each in invoice_lines.c))
)


async def _add_lines(tx: Tx, invoice: Invoice, *, first: int) -> None:
    rows = [
        {**line_row(line), "seller_id": tx.seller_id, "invoice_id": invoice.id, "position": position}
        for position, line in enumerate(invoice.lines)
        if position >= first
    ]
    if rows:
        await tx.execute(_ADD_LINES, {"rows": rows})


async def _with_lines(tx: Tx, rows: Sequence[Row[Any]]) -> list[Invoice]:  # Any: rows of `invoices`
    query = (
        select(invoice_lines)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.invoice_id == any_(literal([row.id for row in rows], ARRAY(Text))),
        )
        .order_by(invoice_lines.c.invoice_id, invoice_lines.c.position)
    )
    lines: dict[str, list[Line]] = defaultdict(list)
    for row in await tx.execute(query) if rows else ():
        lines[row.invoice_id].append(line_of(row))
    return [invoice_of(row, lines[row.id]) for row in rows]
