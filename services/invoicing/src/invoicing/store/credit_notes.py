"""Knows the questions asked of credit notes, and how they are written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Row, Text, and_, any_, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.money import Money
from invoicing.domain.credit_note import CreditLine, CreditNote, CreditNoteId, NoteKind, Reason, Settlement, Taken
from invoicing.domain.errors import CreditNoteNotFound
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.line import LineKey, LineKind
from invoicing.store.paging import numbered, page_of
from invoicing.store.rows import party_of, tax_of, tax_row
from invoicing.store.tables import credit_note_lines, credit_note_refunds, credit_notes, invoice_lines, invoices

LINES_PER_INSERT: Final = 1_000
_KEY: Final = ("item_id", "price_id", "period_start", "kind", "change_id")


async def credit_note(tx: Tx, note_id: CreditNoteId, *, lock: bool = False) -> CreditNote:
    query = select(credit_notes).where(credit_notes.c.seller_id == tx.seller_id, credit_notes.c.id == note_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise CreditNoteNotFound(f"there is no credit note {note_id}", credit_note=note_id)
    return (await _with_lines(tx, [row]))[0]


async def credit_notes_of(tx: Tx, invoice_id: InvoiceId) -> list[CreditNote]:
    """All of an invoice, oldest first. Whoever is to add one holds the lock of the invoice."""
    query = (
        select(credit_notes)
        .where(credit_notes.c.seller_id == tx.seller_id, credit_notes.c.invoice_id == invoice_id)
        .order_by(credit_notes.c.id)
    )
    return await _with_lines(tx, (await tx.execute(query)).all())


async def list_credit_notes(
    tx: Tx, *, customer_id: str, invoice_id: str, after: str, limit: int
) -> tuple[list[CreditNote], str]:
    """A page, and the id after which the next one begins; empty on the last."""
    query = select(credit_notes)
    if customer_id:
        query = query.where(credit_notes.c.customer_id == customer_id)
    if invoice_id:
        query = query.where(credit_notes.c.invoice_id == invoice_id)
    page, next_after = await page_of(tx, credit_notes, query, after=after, limit=limit)
    return await _with_lines(tx, page), next_after


async def credit_notes_numbered(tx: Tx, numbers: Sequence[str], *, lines_max: int) -> tuple[dict[str, CreditNote], int]:
    """By number; and how many of the numbers were looked for."""
    page, looked_for = await numbered(tx, credit_notes, numbers, lines_max=lines_max)
    return {found.number: found for found in await _with_lines(tx, page)}, looked_for


async def credited_so_far(tx: Tx, keys: Collection[LineKey]) -> dict[LineKey, Money]:
    """Of those keys of which anything was given back: how much, before discounts."""
    if not keys:
        return {}
    line, part = invoice_lines, credit_note_lines
    query = (
        select(*(line.c[name] for name in _KEY), part.c.currency, func.sum(part.c.amount_minor).label("minor"))
        .join(part, and_(part.c.seller_id == line.c.seller_id, part.c.line_id == line.c.id))
        .where(
            line.c.seller_id == tx.seller_id,
            line.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
            # As the index has both.
            line.c.item_id != "",
            ~line.c.voided,
            line.c.period_start >= min(key.period_start for key in keys),
            line.c.period_start <= max(key.period_start for key in keys),
        )
        .group_by(*(line.c[name] for name in _KEY), part.c.currency)
    )
    found = {
        LineKey(row.item_id, row.price_id, row.period_start, LineKind[row.kind], row.change_id): Money(
            int(row.minor), row.currency
        )
        for row in await tx.execute(query)
    }
    return {key: found[key] for key in set(keys) & found.keys()}


async def lock_drafts_that_correct(tx: Tx, keys: Collection[LineKey]) -> None:
    """Drafts with a line of one of these keys, until the commit: nobody finalizes them meanwhile."""
    of_key = (
        select(invoice_lines.c.invoice_id)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
            # As above.
            invoice_lines.c.item_id != "",
            ~invoice_lines.c.voided,
            invoice_lines.c.correction > 0,
        )
        .scalar_subquery()
    )
    query = select(invoices.c.id).where(
        invoices.c.seller_id == tx.seller_id, invoices.c.state == State.DRAFT.name, invoices.c.id.in_(of_key)
    )
    if keys:
        await tx.execute(query.order_by(invoices.c.id).with_for_update())


async def add_credit_note(tx: Tx, note: CreditNote) -> None:
    """With its lines."""
    await tx.execute(insert(credit_notes).values({**_row(note), "seller_id": tx.seller_id}))
    rows = [
        {
            "seller_id": tx.seller_id,
            "credit_note_id": note.id,
            "position": position,
            "line_id": line.line_id,
            "description": line.description,
            "quantity": line.quantity,
            "unit_label": line.unit_label,
            "currency": line.amount.currency,
            "amount_minor": line.amount.minor,
            "discount_minor": line.discount.minor,
        }
        for position, line in enumerate(note.lines)
    ]
    for first in range(0, len(rows), LINES_PER_INSERT):
        await tx.execute(insert(credit_note_lines).values(rows[first : first + LINES_PER_INSERT]))


async def save_refunded(tx: Tx, note: CreditNote) -> None:
    """All that ever changes."""
    await tx.execute(
        update(credit_notes)
        .where(credit_notes.c.seller_id == tx.seller_id, credit_notes.c.id == note.id)
        .values(refunded_minor=note.refunded.minor, revision=note.revision)
    )


async def remember_refund(tx: Tx, note: CreditNote, *, reference: str, amount: Money) -> bool:
    """Whether the reference is new."""
    result = await tx.execute(
        insert(credit_note_refunds)
        .values(
            seller_id=tx.seller_id,
            reference=reference,
            credit_note_id=note.id,
            amount_minor=amount.minor,
            create_time=tx.now,
        )
        .on_conflict_do_nothing()
    )
    return bool(result.rowcount)


async def find_refund(tx: Tx, note: CreditNote, *, reference: str) -> Money | None:
    """What was refunded for this note under a reference; None if the reference is not of this note."""
    query = select(credit_note_refunds.c.amount_minor).where(
        credit_note_refunds.c.seller_id == tx.seller_id,
        credit_note_refunds.c.reference == reference,
        credit_note_refunds.c.credit_note_id == note.id,
    )
    minor = (await tx.execute(query)).scalar_one_or_none()
    return None if minor is None else Money(minor, note.currency)


def _row(note: CreditNote) -> dict[str, object]:
    return {
        "id": note.id,
        "number": note.number,
        "kind": note.kind.name,
        "invoice_id": note.invoice_id,
        "invoice_number": note.invoice_number,
        "customer_id": note.customer_id,
        "seller_party": asdict(note.seller),
        "customer_party": asdict(note.customer),
        "reason": note.reason.name,
        "memo": note.memo,
        "currency": note.currency,
        "line_count": len(note.lines),
        "discount_minor": note.taken.discount_total.minor,
        "tax_minor": note.taken.tax_total.minor,
        "taxes": [tax_row(tax) for tax in note.taken.taxes],
        "rounding_minor": note.taken.rounding.minor,
        "total_minor": note.total.minor,
        "debt_minor": note.settlement.debt.minor,
        "customer_credit_minor": note.settlement.customer_credit.minor,
        "refund_minor": note.settlement.refund.minor,
        "refunded_minor": note.refunded.minor,
        "time_zone": note.time_zone,
        "issue_time": note.issue_time,
        "revision": note.revision,
    }


async def _with_lines(tx: Tx, rows: Sequence[Row[Any]]) -> list[CreditNote]:  # Any: rows of `credit_notes`
    query = (
        select(credit_note_lines)
        .where(
            credit_note_lines.c.seller_id == tx.seller_id,
            credit_note_lines.c.credit_note_id == any_(literal([row.id for row in rows], ARRAY(Text))),
        )
        .order_by(credit_note_lines.c.credit_note_id, credit_note_lines.c.position)
    )
    lines: dict[str, list[CreditLine]] = defaultdict(list)
    for row in await tx.execute(query) if rows else ():
        lines[row.credit_note_id].append(
            CreditLine(
                line_id=row.line_id,
                description=row.description,
                quantity=row.quantity,
                unit_label=row.unit_label,
                amount=Money(row.amount_minor, row.currency),
                discount=Money(row.discount_minor, row.currency),
            )
        )
    return [_note(row, lines[row.id]) for row in rows]


def _note(row: Row[Any], lines: Sequence[CreditLine]) -> CreditNote:  # Any: a row of `credit_notes`
    return CreditNote(
        id=CreditNoteId(row.id),
        number=row.number,
        kind=NoteKind[row.kind],
        invoice_id=InvoiceId(row.invoice_id),
        invoice_number=row.invoice_number,
        customer_id=row.customer_id,
        seller=party_of(row.seller_party),
        customer=party_of(row.customer_party),
        reason=Reason[row.reason],
        memo=row.memo,
        taken=Taken(
            lines=tuple(lines),
            taxes=tuple(tax_of(tax, row.currency) for tax in row.taxes),
            rounding=Money(row.rounding_minor, row.currency),
            refundable=Money.zero(row.currency),
        ),
        settlement=Settlement(
            debt=Money(row.debt_minor, row.currency),
            customer_credit=Money(row.customer_credit_minor, row.currency),
            refund=Money(row.refund_minor, row.currency),
        ),
        refunded=Money(row.refunded_minor, row.currency),
        time_zone=row.time_zone,
        issue_time=row.issue_time,
        revision=row.revision,
    )
