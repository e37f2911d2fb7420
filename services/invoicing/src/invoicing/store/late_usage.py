"""Knows the questions asked of usage that changed after it was billed: what became of it, and which invoices can go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Exists, Row, Text, and_, any_, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import Tx
from common.money import Money, exact_sum
from common.period import Period
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.late_usage import LateRecord, Outcome, Refused, Statement
from invoicing.domain.line import LineKey, LineKind, Usage
from invoicing.store.late_usage_tables import late_usages
from invoicing.store.many import insert_rows
from invoicing.store.tables import credit_notes, invoice_lines, invoices


async def add_late_usages(tx: Tx, records: Sequence[LateRecord]) -> None:
    await insert_rows(tx, late_usages, [{**_row(each), "seller_id": tx.seller_id} for each in records])


async def refused_so_far(tx: Tx, keys: Collection[LineKey]) -> dict[LineKey, Refused]:
    """Of those keys of which anything was refused."""
    if not keys:
        return {}
    query = (
        select(late_usages)
        .where(
            late_usages.c.seller_id == tx.seller_id,
            late_usages.c.outcome == Outcome.REFUSED.name,
            late_usages.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
            late_usages.c.period_start >= min(key.period_start for key in keys),
            late_usages.c.period_start <= max(key.period_start for key in keys),
        )
        .order_by(late_usages.c.number)
    )
    found: dict[LineKey, Refused] = {}
    for row in await tx.execute(query):
        key = LineKey(row.item_id, row.price_id, row.period_start, LineKind.OWED, row.change_id)
        amount = Money(row.amount_minor, row.currency)
        usage = Usage(
            meter=row.meter,
            quantity=row.usage_quantity,
            event_count=row.usage_event_count,
            digest=row.usage_digest,
            through_position=row.usage_through_position,
            meter_versions=row.usage_meter_versions,
        )
        before = found.get(key)
        if before is not None:
            amount = amount + before.amount
        found[key] = Refused(amount=amount, usage=usage, times=row.number)
    return found


async def can_be_reissued(tx: Tx, keys: Collection[LineKey]) -> dict[LineKey, InvoiceId]:
    """Of those keys of which all that was billed is on one invoice, and nothing of that credited, corrected or written
    by hand.
    """
    if not keys:
        return {}
    query = (
        select(
            *(invoice_lines.c[name] for name in ("item_id", "price_id", "period_start", "kind", "change_id")),
            invoices.c.id,
            (
                invoices.c.state.in_((State.OPEN.name, State.PAID.name))
                & ~_is_credited()
                & ~_has_manual_line()
                & ~_is_corrected()
            ).label("can_go"),
        )
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
    on: dict[LineKey, dict[InvoiceId, bool]] = defaultdict(dict)
    for row in await tx.execute(query):
        key = LineKey(row.item_id, row.price_id, row.period_start, LineKind[row.kind], row.change_id)
        on[key][InvoiceId(row.id)] = row.can_go
    return {key: next(iter(on[key])) for key in keys if len(on[key]) == 1 and all(on[key].values())}


async def list_late_usages(tx: Tx, *, customer_id: str, meter: str, after: str, limit: int) -> list[Statement]:
    """What a draft has dropped since is found again by a bill run, and has a record of its own then."""
    line, anew = invoice_lines.alias("line"), invoice_lines.alias("anew")
    is_void = (late_usages.c.outcome == Outcome.REISSUED.name) | line.c.voided
    of_line = and_(line.c.seller_id == late_usages.c.seller_id, line.c.id == late_usages.c.line_id)
    # The one that took back the last of it.
    last_note = (
        select(func.max(credit_notes.c.id))
        .where(
            credit_notes.c.seller_id == late_usages.c.seller_id,
            credit_notes.c.invoice_id == late_usages.c.invoice_id,
            is_void,
        )
        .scalar_subquery()
    )
    billed_anew = and_(
        *(anew.c[name] == late_usages.c[name] for name in ("seller_id", "item_id", "price_id", "period_start")),
        anew.c.change_id == late_usages.c.change_id,
        anew.c.kind == LineKind.OWED.name,
        # As the index has both.
        anew.c.item_id != "",
        ~anew.c.voided,
        anew.c.correction == 0,
        is_void,
    )
    query = (
        select(
            late_usages,
            line.c.id.label("billed_by"),
            line.c.voided,
            line.c.amount_minor.label("line_amount_minor"),
            *(line.c[f"usage_{name}"].label(f"line_{name}") for name in _COUNTED),
            last_note.label("credit_note_id"),
            anew.c.invoice_id.label("new_invoice_id"),
        )
        .select_from(late_usages.outerjoin(line, of_line).outerjoin(anew, billed_anew))
        .where(
            late_usages.c.seller_id == tx.seller_id,
            late_usages.c.id > after,
            (late_usages.c.outcome != Outcome.BILLED.name) | line.c.id.is_not(None),
        )
        .order_by(late_usages.c.id)
        .limit(limit)
    )
    if customer_id:
        query = query.where(late_usages.c.customer_id == customer_id)
    if meter:
        query = query.where(late_usages.c.meter == meter)
    return [_statement_of(row) for row in await tx.execute(query)]


def _statement_of(row: Row[Any]) -> Statement:  # Any: a row of the query above
    # A draft is counted anew: what it bills then is what its line says.
    of_line = row.billed_by is not None
    usage = Usage(
        meter=row.meter,
        quantity=row.line_quantity if of_line else row.usage_quantity,
        event_count=row.line_event_count if of_line else row.usage_event_count,
        digest=row.line_digest if of_line else row.usage_digest,
        through_position=row.line_through_position if of_line else row.usage_through_position,
        meter_versions=row.line_meter_versions or {} if of_line else row.usage_meter_versions,
    )
    before = replace(usage, meter_versions=row.before_meter_versions)
    return Statement(
        id=row.id,
        outcome=Outcome.REISSUED if row.voided else Outcome[row.outcome],
        is_counted_anew=not usage.is_defined_like(before),
        customer_id=row.customer_id,
        payer_id=row.payer_id,
        subscription_id=row.subscription_id,
        item_id=row.item_id,
        price_id=row.price_id,
        period=Period(row.period_start, row.period_end),
        quantity=exact_sum((usage.quantity, row.before_quantity.copy_negate())),
        event_count=usage.event_count - row.before_event_count,
        amount=Money(row.line_amount_minor if of_line else row.amount_minor, row.currency),
        usage=usage,
        after_position=row.before_through_position,
        invoice_id=row.invoice_id or "",
        line_id=row.line_id,
        credit_note_id=row.credit_note_id or "",
        new_invoice_id=row.new_invoice_id or "",
        create_time=row.create_time,
    )


_COUNTED: Final = ("quantity", "event_count", "digest", "through_position", "meter_versions")


def _is_credited() -> Exists:
    return exists().where(credit_notes.c.seller_id == invoices.c.seller_id, credit_notes.c.invoice_id == invoices.c.id)


def _has_manual_line() -> Exists:
    written = invoice_lines.alias("written")
    return exists().where(
        written.c.seller_id == invoices.c.seller_id,
        written.c.invoice_id == invoices.c.id,
        written.c.kind == LineKind.MANUAL.name,
    )


def _is_corrected() -> Exists:
    """Whether another invoice corrects a line of this one, or takes off more of the same credit."""
    own, other = invoice_lines.alias("own"), invoice_lines.alias("other")
    same = [own.c[name] == other.c[name] for name in ("seller_id", "item_id", "price_id", "period_start")]
    joined = own.join(other, and_(*same, own.c.kind == other.c.kind, own.c.change_id == other.c.change_id))
    return (
        exists()
        .select_from(joined)
        .where(
            own.c.seller_id == invoices.c.seller_id,
            own.c.invoice_id == invoices.c.id,
            own.c.item_id != "",
            other.c.item_id != "",
            other.c.invoice_id != invoices.c.id,
            other.c.correction > own.c.correction,
            ~other.c.voided,
        )
    )


def _row(record: LateRecord) -> dict[str, object]:
    line, usage, before = record.line, record.usage, record.before
    return {
        "id": record.id,
        "outcome": record.outcome.name,
        "customer_id": record.customer_id,
        "payer_id": record.payer_id,
        "subscription_id": line.subscription_id,
        "item_id": line.item_id,
        "price_id": line.price_id,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "change_id": line.change_id,
        "number": record.number,
        "unit_label": line.unit_label,
        "currency": line.amount.currency,
        "amount_minor": line.amount.minor,
        "billed_minor": record.billed.minor,
        "meter": usage.meter,
        "usage_quantity": usage.quantity,
        "usage_event_count": usage.event_count,
        "usage_digest": usage.digest,
        "usage_through_position": usage.through_position,
        "usage_meter_versions": dict(usage.meter_versions),
        "before_quantity": before.quantity,
        "before_event_count": before.event_count,
        "before_through_position": before.through_position,
        "before_meter_versions": dict(before.meter_versions),
        "invoice_id": record.invoice_id or None,
        "line_id": line.id if record.outcome is Outcome.BILLED else "",
        "create_time": record.create_time,
    }
