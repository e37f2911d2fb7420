"""How the amount of a line of an invoice came about."""

from __future__ import annotations

from dataclasses import replace

from common.money import exact_sum
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.explanation import share_of
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.line import Line
from invoicing.domain.price import Flat, Price
from invoicing.domain.rating import Rating


async def explain_line(desk: Desk, invoice_id: InvoiceId, line_id: str) -> tuple[Price, Rating, str]:
    """The price it was billed by, what was kept of its rating, and of which days it was billed.

    Not rated anew, but told as it was, with what a unit was called then.
    """
    async with desk.transaction() as tx:
        line, period_amount, time_zone = await store.line_with_period(tx, invoice_id, line_id)
    price = await clients.price(desk, line.price_id) if line.price_id else _agreed(line)
    rating = Rating(
        amount=line.amount,
        exact_amount=line.exact_amount,
        rounding=exact_sum((line.amount.amount, line.exact_amount.copy_negate())),
        steps=line.steps,
        period_amount=period_amount,
    )
    return replace(price, unit_label=line.unit_label), rating, share_of(line, time_zone)


def _agreed(line: Line) -> Price:
    """What somebody wrote, or was missing to a commitment, has no price in the catalog: only what was agreed."""
    return Price(
        id="",
        currency=line.amount.currency,
        model=Flat(amount=line.exact_amount),
        product=line.description,
        unit_label=line.unit_label,
    )
