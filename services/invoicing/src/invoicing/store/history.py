"""Knows the questions asked of what was billed long ago: by which prices, for how much, and what it cost a customer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from fractions import Fraction
from typing import Final

import asyncpg
from sqlalchemy import Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import Tx
from common.money import Money, sum_money
from common.period import Period
from invoicing.domain.errors import LineNotFound
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.line import Line, LineKind
from invoicing.domain.simulation import BilledPeriod
from invoicing.store.invoices import invoice
from invoicing.store.rows import line_of
from invoicing.store.tables import invoice_lines, invoices

PERIODS_PER_PAGE: Final = 500
OWED: Final = tuple(state.name for state in State if state not in (State.DRAFT, State.VOID))
"""The states of invoices that were meant, and are final."""


async def line_with_period(tx: Tx, invoice_id: InvoiceId, line_id: str) -> tuple[Line, Money, str]:
    """A line, what its period cost with it and with all that was billed for it before, and where its days are days."""
    query = (
        select(invoice_lines, invoices.c.time_zone.label("zone"))
        .select_from(invoice_lines.join(invoices))
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.invoice_id == invoice_id,
            invoice_lines.c.id == line_id,
        )
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        await invoice(tx, invoice_id)  # or there is no such invoice, which is what to say
        raise LineNotFound(f"there is no line {line_id} on invoice {invoice_id}", invoice=invoice_id, line=line_id)
    line = line_of(row)
    if line.kind is LineKind.MANUAL:
        return line, line.amount, row.zone
    earlier = (await lines_before(tx, [line])).get(line.id, ())
    currency = line.amount.currency
    return line, sum_money((line.amount, *(each.amount for _, each in earlier)), currency), line.time_zone or row.zone


async def lines_before(tx: Tx, lines: Collection[Line]) -> dict[str, list[tuple[InvoiceId, Line]]]:
    """By the id of each line, those that billed the same period before it, oldest first, with their invoices.

    Of lines with the same number all but one are on invoices that were annulled: the one before it counted then.
    """
    later = {line.key: line for line in lines if line.correction}
    if not later:
        return {}
    query = (
        select(invoice_lines)
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.item_id == any_(literal(sorted({key.item_id for key in later}), ARRAY(Text))),
            invoice_lines.c.period_start >= min(key.period_start for key in later),
            invoice_lines.c.period_start <= max(key.period_start for key in later),
            invoice_lines.c.item_id != "",
        )
        .order_by(invoice_lines.c.id)
    )
    found: dict[str, dict[int, tuple[InvoiceId, Line]]] = defaultdict(dict)
    for row in await tx.execute(query):
        before = line_of(row)
        line = later.get(before.key)
        if line is None or before.correction >= line.correction:
            continue
        # Ids are in the order of time, but of one instant in none.
        if before.id < line.id:
            found[line.id][before.correction] = InvoiceId(row.invoice_id), before
        elif not row.voided:
            found[line.id].setdefault(before.correction, (InvoiceId(row.invoice_id), before))
    return {line_id: [own[number] for number in sorted(own)] for line_id, own in found.items()}


async def count_lines_billed_by(
    tx: Tx, price_ids: Collection[str], *, after: datetime, through: datetime, limit: int
) -> int:
    """How many final lines of periods that ended in `(after, through]`; no more than `limit` are counted."""
    found = (
        select(literal(1))
        .select_from(invoice_lines.join(invoices))
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.price_id == any_(literal(sorted(price_ids), ARRAY(Text))),
            invoice_lines.c.period_end > after,
            invoice_lines.c.period_end <= through,
            invoice_lines.c.item_id != "",
            ~invoice_lines.c.voided,
            invoices.c.state.in_(OWED),
        )
        .limit(limit)
    )
    return int((await tx.execute(select(func.count()).select_from(found.subquery()))).scalar_one())


async def periods_billed_by(
    tx: Tx, price_ids: Collection[str], *, after: datetime, through: datetime
) -> AsyncIterator[list[BilledPeriod]]:
    """The same lines, put together by period, in pages: all of one statement, so that none is missed or seen twice."""
    cursor = await tx.driver.cursor(_PERIODS, tx.seller_id, sorted(price_ids), after, through, list(OWED))
    while rows := await cursor.fetch(PERIODS_PER_PAGE):
        yield [_period(row) for row in rows]


_PERIODS: Final = """
    SELECT p.*, (
        SELECT coalesce(sum(u.amount_minor), 0) FROM late_usages u
        WHERE u.seller_id = $1 AND u.outcome = 'REFUSED' AND u.item_id = p.item_id AND u.price_id = p.price_id
            AND u.period_start = p.period_start AND u.usage_through_position > p.through_position
    ) AS refused_since_minor
    FROM (
    SELECT coalesce(nullif(l.customer_id, ''), i.customer_id) AS customer_id, l.price_id, l.currency,
        l.item_id, l.period_start, min(l.period_end) AS period_end,
        sum(l.amount_minor) AS billed_minor, count(*) AS line_count,
        bool_or(l.correction = 0) AS is_complete,
        (array_agg(l.quantity ORDER BY l.correction))[1] AS quantity,
        (array_agg(l.meter ORDER BY l.correction))[1] AS meter,
        (array_agg(l.usage_quantity ORDER BY l.correction DESC))[1] AS usage_quantity,
        max(l.usage_through_position) AS through_position,
        (array_agg(
            CASE WHEN l.rating_steps @> '[{"kind": "REFUSED"}]' THEN (
                SELECT -sum((step->>'amount')::numeric) FROM jsonb_array_elements(l.rating_steps) step
                WHERE step->>'kind' = 'REFUSED'
            ) ELSE 0 END ORDER BY l.correction DESC
        ))[1] AS refused,
        (array_agg(l.proration_numerator ORDER BY l.correction))[1] AS proration_numerator,
        (array_agg(l.proration_denominator ORDER BY l.correction))[1] AS proration_denominator
    FROM invoice_lines l JOIN invoices i ON i.seller_id = l.seller_id AND i.id = l.invoice_id
    WHERE l.seller_id = $1 AND l.price_id = ANY ($2::text[]) AND l.period_end > $3 AND l.period_end <= $4
        AND l.item_id <> '' AND NOT l.voided
        AND i.state = ANY ($5::text[])
    GROUP BY 1, l.item_id, l.price_id, l.period_start, l.currency
    ) p
"""


def _period(row: asyncpg.Record) -> BilledPeriod:
    refused = Money.rounded(row["refused"], row["currency"])
    return BilledPeriod(
        customer_id=row["customer_id"],
        price_id=row["price_id"],
        billed=Money(int(row["billed_minor"]), row["currency"]),
        line_count=row["line_count"],
        quantity=row["quantity"],
        meter=row["meter"],
        usage_quantity=row["usage_quantity"],
        period=Period(row["period_start"], row["period_end"]),
        proration=Fraction(row["proration_numerator"], row["proration_denominator"]),
        is_complete=row["is_complete"],
        refused=refused,
        refused_since=Money(int(row["refused_since_minor"]), row["currency"]),
    )


async def prices_ever_billed_by(tx: Tx, price_ids: Collection[str]) -> set[str]:
    """Those of the prices that some final line was billed by."""
    asked = func.unnest(literal(sorted(price_ids), ARRAY(Text))).table_valued("id").render_derived(name="asked")
    billed = (
        select(literal(1))
        .select_from(invoice_lines.join(invoices))
        .where(
            invoice_lines.c.seller_id == tx.seller_id,
            invoice_lines.c.price_id == asked.c.id,
            invoice_lines.c.item_id != "",
            invoices.c.state.in_(OWED),
        )
    )
    return set((await tx.execute(select(asked.c.id).where(billed.exists()))).scalars())
