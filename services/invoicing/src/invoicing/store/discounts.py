"""Knows what was used of coupons, what credits are of and is left of that, and what was spent: by what was billed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import Tx
from common.money import Money
from common.period import Period
from invoicing.domain.commitments import CommittedPeriod
from invoicing.domain.coupons import Share
from invoicing.domain.given_back import LeftOf, Standing
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.line import Line, LineKey, LineKind
from invoicing.domain.lines_due import BillablePeriod, Source
from invoicing.store.rows import line_of
from invoicing.store.tables import credit_note_lines, invoice_lines, invoices

_SHARES: Final = """
    SELECT coalesce(s.customer_id, nullif(l.customer_id, ''), l.payer_id) AS customer_id, c.coupon_id,
        l.subscription_id, l.item_id, l.full_period_start, l.full_period_end, l.currency,
        coalesce((
            SELECT sum((d->>'amount_minor')::bigint) FROM jsonb_array_elements(l.discounts) d
            WHERE d->>'discount_id' = c.coupon_id
        ), 0)::bigint AS amount_minor
    FROM (
        SELECT l.*, i.customer_id AS payer_id
        FROM invoices i
        JOIN invoice_lines l ON l.seller_id = i.seller_id AND l.invoice_id = i.id
        WHERE i.seller_id = $1 AND i.customer_id = ANY ($2::text[]) AND l.subscription_id <> ALL ($3::text[])
        UNION ALL
        SELECT l.*, i.customer_id
        FROM invoice_lines l
        JOIN invoices i ON i.seller_id = l.seller_id AND i.id = l.invoice_id
        WHERE l.seller_id = $1 AND l.subscription_id = ANY ($3::text[]) AND l.subscription_id <> ''
    ) l
    LEFT JOIN unnest($3::text[], $4::text[]) AS s (subscription_id, customer_id) USING (subscription_id)
    CROSS JOIN unnest($5::text[]) AS c (coupon_id)
    WHERE NOT l.voided AND l.invoice_id <> ALL ($6::text[])
        AND (l.discount_minor <> 0 OR l.coupon_ids <> '{}')
        AND (
            c.coupon_id = ANY (l.coupon_ids)
            OR l.discounts @> jsonb_build_array(jsonb_build_object('discount_id', c.coupon_id))
        )
    ORDER BY l.id, c.coupon_id
"""


async def coupon_shares(
    tx: Tx,
    customer_ids: Collection[str],
    coupon_ids: Collection[str],
    *,
    owners: Mapping[str, str],
    but_on: Collection[InvoiceId] = (),
) -> Mapping[str, Sequence[Share]]:
    """What coupons took off everything on the invoices that these customers got, but for some, by who used it; and all
    that they ever took off some subscriptions, whoever had these and paid for them, by their `owners` now.
    """
    found: dict[str, list[Share]] = defaultdict(list)
    if not coupon_ids:
        return found
    rows = await tx.driver.fetch(
        _SHARES,
        tx.seller_id,
        sorted(customer_ids),
        list(owners.keys()),
        list(owners.values()),
        sorted(coupon_ids),
        sorted(but_on),
    )
    for row in rows:
        found[row["customer_id"]].append(
            Share(
                row["coupon_id"],
                row["subscription_id"],
                row["item_id"],
                Period(row["full_period_start"], row["full_period_end"]),
                Money(row["amount_minor"], row["currency"]),
            )
        )
    return found


async def sources_of(tx: Tx, periods: Sequence[BillablePeriod]) -> dict[LineKey, Source]:
    """The line that each of the credits among these periods is of."""
    taken_off = [each for each in periods if each.kind is not LineKind.OWED]
    if not taken_off:
        return {}
    left = await left_of(tx, taken_off)
    found = {each.key: left.source_of(each) for each in taken_off}
    return {key: source for key, source in found.items() if source is not None}


async def left_of(tx: Tx, billed: Sequence[BillablePeriod | Line]) -> LeftOf:
    """What is left of all that was billed for the same items in the full periods of these."""
    line, part = invoice_lines, credit_note_lines
    credited = (
        select(func.coalesce(func.sum(part.c.amount_minor), 0))
        .where(part.c.seller_id == line.c.seller_id, part.c.line_id == line.c.id)
        .scalar_subquery()
    )
    query = (
        select(line, invoices.c.state, credited.label("credited_minor"))
        .join(invoices)
        .where(
            line.c.seller_id == tx.seller_id,
            line.c.item_id == any_(literal(sorted({each.item_id for each in billed}), ARRAY(Text))),
            # As the index has both.
            line.c.item_id != "",
            ~line.c.voided,
            line.c.period_start >= min(each.full_period.start for each in billed),
            line.c.period_start < max(each.full_period.end for each in billed),
        )
    )
    return LeftOf(
        Standing(
            line=line_of(row),
            credited=Money(int(row.credited_minor), row.currency),
            is_final=row.state != State.DRAFT.name,
        )
        for row in await tx.execute(query)
    )


async def lines_spent(
    tx: Tx, commitments: Sequence[CommittedPeriod], *, but_on: Collection[InvoiceId] = ()
) -> list[Line]:
    """All that was billed for the subscriptions within their committed periods, whoever paid it."""
    if not commitments:
        return []
    subscription_ids = sorted({each.subscription_id for each in commitments})
    query = select(invoice_lines).where(
        invoice_lines.c.seller_id == tx.seller_id,
        ~invoice_lines.c.voided,
        invoice_lines.c.invoice_id.not_in(sorted(but_on)),
        invoice_lines.c.subscription_id != "",
        invoice_lines.c.subscription_id == any_(literal(subscription_ids, ARRAY(Text))),
        invoice_lines.c.kind != LineKind.TRUE_UP.name,
        invoice_lines.c.period_end > min(each.period.start for each in commitments),
        invoice_lines.c.period_start < max(each.period.end for each in commitments),
    )
    return [line_of(row) for row in await tx.execute(query)]
