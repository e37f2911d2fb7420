"""Knows the questions asked of invoices, and how they are written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, Text, and_, any_, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP, insert

from common import ids
from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.errors import InvoiceNotFound, TooManyInvoices
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineDiscount, LineKey, LineKind, Usage
from invoicing.domain.lines_due import Billed
from invoicing.domain.received import Received
from invoicing.store.many import insert_rows, update_rows
from invoicing.store.paging import numbered, page_of
from invoicing.store.rows import MANUAL, discounts_of, invoice_of, invoice_row, line_of, line_row, usage_of
from invoicing.store.tables import billing, invoice_lines, invoice_payments, invoices

_PARKED: Final = and_(
    invoices.c.is_parked,
    select(literal(1))
    .where(
        billing.c.seller_id == invoices.c.seller_id,
        billing.c.customer_id == invoices.c.customer_id,
        billing.c.park_time.is_not(None),
    )
    .exists(),
)

DRAFTS_DUE: Final = select(
    invoices.c.seller_id, invoices.c.id, invoices.c.finalize_time.label("due_time"), invoices.c.traceparent
).where(invoices.c.state == "DRAFT", invoices.c.hold_reason == "", invoices.c.finalize_time.is_not(None), ~_PARKED)

OVERDUE_DUE: Final = select(
    invoices.c.seller_id, invoices.c.id, invoices.c.overdue_from_time.label("due_time"), invoices.c.traceparent
).where(invoices.c.overdue_from_time.is_not(None))


class DraftKey(NamedTuple):
    """Of which there is one draft at most."""

    customer_id: str
    currency: str
    bill_time: datetime
    consolidation_key: str

    @classmethod
    def of(cls, invoice: Invoice) -> DraftKey:
        return cls(invoice.customer_id, invoice.currency, invoice.bill_time, invoice.consolidation_key)


class Draft(NamedTuple):
    """A draft, and the trace that it is part of."""

    invoice: Invoice
    traceparent: str


async def invoice(tx: Tx, invoice_id: InvoiceId, *, lock: bool = False) -> Invoice:
    query = select(invoices).where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"there is no invoice {invoice_id}", invoice=invoice_id)
    return (await _with_lines(tx, [row]))[0]


async def traceparent_of(tx: Tx, invoice_id: InvoiceId) -> str:
    """Of what made the invoice; may be empty."""
    query = select(invoices.c.traceparent).where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id)
    return str((await tx.execute(query)).scalar_one())


async def drafts(tx: Tx, invoice_ids: Collection[InvoiceId], *, lock: bool = False) -> list[Draft]:
    """Those of the invoices that are drafts, in the order in which everybody locks them."""
    query = (
        select(invoices)
        .where(
            invoices.c.seller_id == tx.seller_id,
            invoices.c.id == any_(literal(list(invoice_ids), ARRAY(Text))),
            invoices.c.state == State.DRAFT.name,
        )
        .order_by(invoices.c.id)
    )
    return await _drafts(tx, query, lock=lock)


async def lock_drafts_for(tx: Tx, wanted: Collection[DraftKey]) -> dict[DraftKey, Draft]:
    """The drafts that bill the same customers for the same moments by the same keys, if there are any."""
    if not wanted:
        return {}
    names, currencies, moments, declared = zip(*wanted, strict=True)
    asked = (
        func.unnest(
            literal(list(names), ARRAY(Text)),
            literal(list(currencies), ARRAY(Text)),
            literal(list(moments), ARRAY(TIMESTAMP(timezone=True))),
            literal(list(declared), ARRAY(Text)),
        )
        .table_valued("customer_id", "currency", "bill_time", "consolidation_key")
        .render_derived(name="asked")
    )
    query = (
        select(invoices)
        .where(
            invoices.c.seller_id == tx.seller_id,
            tuple_(*(invoices.c[name] for name in DraftKey._fields)).in_(select(asked)),
            invoices.c.state == State.DRAFT.name,
            invoices.c.origin != MANUAL,
        )
        .order_by(invoices.c.id)
    )
    found = await _drafts(tx, query, lock=True)
    return {DraftKey.of(each.invoice): each for each in found}


async def new_invoice_ids(tx: Tx, wanted: Collection[DraftKey]) -> dict[DraftKey, InvoiceId]:
    """The id of a new invoice for each, derived from what it bills: an invoice that is lost, with all that came after a
    backup, and is made again has the id by which others know it. Further ones, after one was finalized or annulled, are
    counted.

    One question for all of them; another only where there has been one before. Who asks holds what makes them one after
    the other: the drafts that there are, and the payers.
    """
    found: dict[DraftKey, InvoiceId] = {}
    first, end = 0, 1
    while len(found) < len(wanted):
        missing = [key for key in wanted if key not in found]
        if first > ids.NTH_MAX:
            raise TooManyInvoices(
                f"there are {first} invoices of {missing[0].customer_id} for {missing[0].bill_time}",
                customer=missing[0].customer_id,
            )
        asked = {key: _derived_ids(tx, key, range(first, end)) for key in missing}
        those = [each for own in asked.values() for each in own]
        query = select(invoices.c.id).where(
            invoices.c.seller_id == tx.seller_id, invoices.c.id == any_(literal(those, ARRAY(Text)))
        )
        taken = set((await tx.execute(query)).scalars())
        for key, own in asked.items():
            free = next((each for each in own if each not in taken), None)
            if free is not None:
                found[key] = free
        first, end = end, min(2 * end + 1, ids.NTH_MAX + 1)
    return found


def _derived_ids(tx: Tx, key: DraftKey, generations: range) -> list[InvoiceId]:
    moment = key.bill_time.astimezone(UTC).isoformat()
    parts = (tx.seller_id, key.customer_id, key.currency, moment, key.consolidation_key)
    return [InvoiceId(ids.derived("inv", key.bill_time, parts, nth=n)) for n in generations]


async def _drafts(tx: Tx, query: Select[Any], *, lock: bool) -> list[Draft]:  # Any: rows of `invoices`
    rows = (await tx.execute(query.with_for_update(of=invoices) if lock else query)).all()
    with_lines = await _with_lines(tx, rows)
    return [Draft(found, row.traceparent) for found, row in zip(with_lines, rows, strict=True)]


async def list_invoices(
    tx: Tx, *, customer_id: str, is_numbered: bool | None = None, after: str, limit: int
) -> tuple[list[Invoice], str]:
    """A page, and the id after which the next one begins; empty on the last. With a number, or finalized without one;
    by default both, and drafts.
    """
    query = select(invoices)
    if customer_id:
        query = query.where(invoices.c.customer_id == customer_id)
    if is_numbered is not None:
        without = and_(invoices.c.number.is_(None), invoices.c.state != State.DRAFT.name)
        query = query.where(invoices.c.number.is_not(None) if is_numbered else without)
    page, next_after = await page_of(tx, invoices, query, after=after, limit=limit)
    return await _with_lines(tx, page), next_after


async def invoices_numbered(tx: Tx, numbers: Sequence[str], *, lines_max: int) -> tuple[dict[str, Invoice], int]:
    """By number; and how many of the numbers were looked for."""
    page, looked_for = await numbered(tx, invoices, numbers, lines_max=lines_max)
    return {found.number: found for found in await _with_lines(tx, page)}, looked_for


async def add_invoices(tx: Tx, new: Sequence[Draft]) -> None:
    """With their lines, and the traces that they are part of."""
    own = {"seller_id": tx.seller_id}
    rows = [{**invoice_row(each), **own, "traceparent": trace or traceparent()} for each, trace in new]
    await insert_rows(tx, invoices, rows)
    await _add_lines(tx, [(each, 0) for each, _ in new])


async def save_invoice(tx: Tx, invoice: Invoice) -> None:
    """All but its lines."""
    await save_invoices(tx, [invoice])


async def save_invoices(tx: Tx, changed: Sequence[Invoice]) -> None:
    """All but their lines."""
    own = {"seller_id": tx.seller_id}
    await update_rows(tx, invoices, [{**invoice_row(each), **own} for each in changed], key="id")


async def save_drafts(tx: Tx, grown: Sequence[tuple[Invoice, Invoice]]) -> None:
    """With the lines that have been added to each since it was as the other, and those that changed with them."""
    await save_invoices(tx, [each for each, _ in grown])
    kept = [(each, len(before.lines)) for each, before in grown if each.lines[: len(before.lines)] == before.lines]
    await _add_lines(tx, kept)
    await replace_lines(tx, [each for each, before in grown if each.lines[: len(before.lines)] != before.lines])


async def replace_lines(tx: Tx, changed: Sequence[Invoice]) -> None:
    """The lines of drafts, computed anew."""
    if not changed:
        return
    named = any_(literal([each.id for each in changed], ARRAY(Text)))
    await tx.execute(
        delete(invoice_lines).where(invoice_lines.c.seller_id == tx.seller_id, invoice_lines.c.invoice_id == named)
    )
    await _add_lines(tx, [(each, 0) for each in changed])


async def already_billed(tx: Tx, keys: Collection[LineKey]) -> dict[LineKey, Billed]:
    """What has been billed for these keys, on all invoices."""
    lines = await _lines_billed(tx, keys)
    return {key: Billed.of((line, line.is_final) for line in lines[key]) for key in keys if key in lines}


async def billed_elsewhere(
    tx: Tx, keys: Mapping[InvoiceId, Collection[LineKey]]
) -> dict[InvoiceId, dict[LineKey, Billed]]:
    """What has been billed for keys of some invoices, on all but the invoice itself."""
    lines = await _lines_billed(tx, {key for own in keys.values() for key in own})
    found: dict[InvoiceId, dict[LineKey, Billed]] = defaultdict(dict)
    for invoice_id, own in keys.items():
        for key in own:
            others = [(line, line.is_final) for line in lines.get(key, ()) if line.invoice_id != invoice_id]
            if others:
                found[invoice_id][key] = Billed.of(others)
    return found


async def delete_draft(tx: Tx, invoice_id: InvoiceId) -> None:
    """With its lines. The tables refuse it for anything but a draft."""
    of_seller = invoice_lines.c.seller_id == tx.seller_id
    await tx.execute(delete(invoice_lines).where(of_seller, invoice_lines.c.invoice_id == invoice_id))
    await tx.execute(delete(invoices).where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id))


class _LineBilled(NamedTuple):
    """A line without what was written of it for people: of every customer there are some, each time."""

    amount: Money
    usage: Usage | None
    correction: int
    is_final: bool
    invoice_id: str
    discounts: tuple[LineDiscount, ...]
    period_end: datetime


async def _lines_billed(tx: Tx, keys: Collection[LineKey]) -> Mapping[LineKey, list[_LineBilled]]:
    if not keys:
        return {}
    query = (
        select(*(invoice_lines.c[name] for name in _TOLD_OF_BILLED), invoices.c.state)
        .join(invoices)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
            # As the index has both.
            invoice_lines.c.item_id != "",
            ~invoice_lines.c.voided,
            invoice_lines.c.period_start >= min(key.period_start for key in keys),
            invoice_lines.c.period_start <= max(key.period_start for key in keys),
        )
    )
    lines: dict[LineKey, list[_LineBilled]] = defaultdict(list)
    for row in await tx.execute(query):
        key = LineKey(row.item_id, row.price_id, row.period_start, LineKind[row.kind], row.change_id)
        line = _LineBilled(
            amount=Money(row.amount_minor, row.currency),
            usage=usage_of(row),
            correction=row.correction,
            is_final=row.state != State.DRAFT.name,
            invoice_id=row.invoice_id,
            discounts=discounts_of(row),
            period_end=row.period_end,
        )
        lines[key].append(line)
    return lines


_TOLD_OF_BILLED: Final = (
    *(
        "invoice_id",
        "item_id",
        "price_id",
        "period_start",
        "period_end",
        "kind",
        "change_id",
        "currency",
        "amount_minor",
        "correction",
    ),
    *("meter", "usage_quantity", "usage_event_count", "usage_digest", "usage_through_position"),
    *("usage_traceparents", "usage_meter_versions", "discounts"),
)


async def void_lines(tx: Tx, invoice_id: InvoiceId) -> None:
    """What a void invoice billed was never billed."""
    await tx.execute(
        update(invoice_lines)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.invoice_id == invoice_id,
            # What was billed early may have been given back before.
            ~invoice_lines.c.voided,
        )
        .values(voided=True)
    )


async def void_line(tx: Tx, line_id: str) -> None:
    """What was billed early and was given back was never billed. The tables refuse it for anything else."""
    await tx.execute(
        update(invoice_lines)
        .where(invoice_lines.c.seller_id == tx.seller_id, invoice_lines.c.id == line_id)
        .values(voided=True)
    )


async def corrected_since(tx: Tx, invoice_id: InvoiceId) -> str | None:
    """Another invoice, if there is one, that corrects a line of this one or takes off more of the same credit."""
    own, other = invoice_lines.alias("own"), invoice_lines.alias("other")
    same = [own.c[name] == other.c[name] for name in ("seller_id", "item_id", "price_id", "period_start")]
    query = (
        select(other.c.invoice_id)
        .select_from(own.join(other, and_(*same, own.c.kind == other.c.kind, own.c.change_id == other.c.change_id)))
        .where(
            own.c.seller_id == tx.seller_id,
            own.c.invoice_id == invoice_id,
            own.c.item_id != "",
            other.c.item_id != "",
            other.c.invoice_id != invoice_id,
            other.c.correction > own.c.correction,
            ~other.c.voided,
        )
        .limit(1)
    )
    found: str | None = (await tx.execute(query)).scalar_one_or_none()
    return found


async def remember_payment(
    tx: Tx, *, payment_id: str, invoice_id: InvoiceId, amount: Money, overpaid: Money, paid_time: datetime
) -> bool:
    """Whether the payment is new. `amount` is what settles the invoice, `overpaid` what it brought beyond that."""
    result = await tx.execute(
        insert(invoice_payments)
        .values(
            seller_id=tx.seller_id,
            payment_id=payment_id,
            invoice_id=invoice_id,
            amount_minor=amount.minor,
            overpaid_minor=overpaid.minor,
            paid_time=paid_time,
            create_time=tx.now,
        )
        .on_conflict_do_nothing()
    )
    return bool(result.rowcount)


async def received_for(tx: Tx, invoice: Invoice) -> list[Received]:
    """What settled an invoice, oldest first."""
    query = (
        select(invoice_payments)
        .where(invoice_payments.c.seller_id == tx.seller_id, invoice_payments.c.invoice_id == invoice.id)
        .order_by(invoice_payments.c.create_time, invoice_payments.c.payment_id)
    )
    return [
        Received(amount=Money(row.amount_minor, invoice.currency), time=row.paid_time or row.create_time)
        for row in await tx.execute(query)
        if row.amount_minor
    ]


async def _add_lines(tx: Tx, grown: Sequence[tuple[Invoice, int]]) -> None:
    """Those of each invoice that come after so many."""
    rows = [
        {**line_row(line), "seller_id": tx.seller_id, "invoice_id": invoice.id, "position": position}
        for invoice, before in grown
        for position, line in enumerate(invoice.lines[before:], start=before)
    ]
    await insert_rows(tx, invoice_lines, rows)


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
