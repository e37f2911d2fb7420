"""Tells what is in the books, and posts what a release before this one issued and took in without posting it."""

from __future__ import annotations

from datetime import date
from typing import Final

from common.db import Tx
from common.rpc import Desk
from invoicing import store
from invoicing.domain.errors import CustomerNotFound
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.ledger import Entry, Movement, Statement, entries_of_issue, entries_of_payment

INVOICES_PER_BATCH: Final = 100
BATCHES_MAX: Final = 100_000
"""Of one seller in one go: ten million invoices."""


async def customer_statement(
    tx: Tx, *, customer_id: str, currency: str, start: date, end: date, after: store.After | None, limit: int
) -> Statement:
    """The movements from day to day, both included, that come after one."""
    if not await store.known_customers(tx, {customer_id}) and not await store.has_entries(tx, customer_id):
        raise CustomerNotFound(
            f"there is no customer {customer_id} with anything to be billed for", customer=customer_id
        )
    opening, closing, owed = await store.owed_at(
        tx, customer_id=customer_id, currency=currency, start=start, end=end, after=after
    )
    found = await store.movements(
        tx, customer_id=customer_id, currency=currency, start=start, end=end, after=after, limit=limit + 1
    )
    movements: list[Movement] = []
    for each in found[:limit]:
        owed = owed.after(each.entry)
        movements.append(Movement(recorded=each, owed=owed))
    return Statement(opening=opening, closing=closing, movements=tuple(movements), is_end=len(found) <= limit)


async def post_what_was_issued_before(desk: Desk, _seller_id: str) -> None:
    """Post every invoice and payment of a seller that has no entry, as of its own date; a batch at a time."""
    for _ in range(BATCHES_MAX):
        async with desk.transaction() as tx:
            after_id = await store.find_backfill(tx, lock=True)
            if after_id is None:
                return
            invoice_ids = await store.finalized_invoices(tx, after_id=after_id, limit=INVOICES_PER_BATCH)
            await store.add_entries(tx, await _missing(tx, invoice_ids))
            if len(invoice_ids) < INVOICES_PER_BATCH:
                await store.end_backfill(tx)
                return
            await store.go_on_after(tx, invoice_ids[-1])


async def _missing(tx: Tx, invoice_ids: list[str]) -> list[Entry]:
    payments = await store.payments_of(tx, invoice_ids)
    unposted = await store.not_posted(
        tx, [*invoice_ids, *(payment.id for paid in payments.values() for payment in paid)]
    )
    missing: list[Entry] = []
    for invoice_id in invoice_ids:
        unpaid = [payment for payment in payments.get(invoice_id, ()) if payment.id in unposted]
        if invoice_id not in unposted and not unpaid:
            continue
        # Locked: whoever is just paying it posts that payment.
        invoice = await store.invoice(tx, InvoiceId(invoice_id), lock=True)
        if invoice_id in unposted:
            missing += entries_of_issue(invoice)
        for payment in unpaid:
            missing += entries_of_payment(invoice, payment_id=payment.id, amount=payment.amount, at=payment.create_time)
    return missing
