"""Issues invoices: numbered, frozen, and linked to the one before; and verifies what was issued."""

from __future__ import annotations

from typing import Final

from common.db import Tx
from invoicing import store
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.errors import SeriesNotFound
from invoicing.domain.invoice import Invoice, State
from invoicing.domain.issued import Issued, Number, Series, Verification, faults
from invoicing.domain.party import Customer, Seller
from saldo.invoicing.v1 import events_pb2 as events

LINES_MAX: Final = 20_000
"""A page ends early rather than look at more lines than these at once."""


async def issue(tx: Tx, draft: Invoice, *, seller: Seller, customer: Customer) -> Invoice:
    """Give it the next number, and keep what it says. Everyone else who issues waits from here to the commit."""
    number = await store.next_number(tx, seller.series_of(draft.invoice_date))
    invoice = draft.finalize(number=str(number), at=tx.now, seller=seller, customer=customer)
    await store.add_issued(tx, Issued.of(invoice, number, before=await store.link_before(tx, number)))
    return invoice


async def announce(tx: Tx, invoice: Invoice) -> None:
    """A total of nothing is paid the moment it is owed: both are said."""
    told = invoice_for_event(invoice)
    await tx.emit(events.InvoiceFinalized(invoice=told))
    if invoice.state is State.PAID:
        await tx.emit(events.InvoicePaid(invoice=told))


async def list_series(tx: Tx, *, after: str, limit: int) -> list[Series]:
    """In order of their names."""
    found: list[Series] = []
    for last in await store.list_series(tx, after=after, limit=limit):
        kept = await store.issued_between(tx, last.series, last.ordinal, last.ordinal)
        found.append(Series(last=last, link=kept[last.ordinal].link if last.ordinal in kept else None))
    return found


async def verify_series(tx: Tx, series: str, *, after: int, limit: int) -> Verification:
    """Look at so many numbers after an ordinal, at most. Fails with SERIES_NOT_FOUND."""
    # Whoever is giving out numbers has not committed those beyond the last.
    last = await store.last_ordinal(tx, series)
    if after >= last:
        raise SeriesNotFound(f"there are no numbers {series}-… beyond {after}", series=series)
    numbers = [Number(series=series, ordinal=n) for n in range(after + 1, min(after + limit, last) + 1)]
    documents, looked_for = await store.invoices_numbered(tx, [str(each) for each in numbers], lines_max=LINES_MAX)
    numbers = numbers[:looked_for]
    kept = await store.issued_between(tx, series, after, numbers[-1].ordinal)
    final = kept.get(numbers[-1].ordinal)
    return Verification(
        first=numbers[0],
        last=numbers[-1],
        link=None if final is None else final.link,
        faults=tuple(faults(numbers, documents, kept)),
        is_end=numbers[-1].ordinal == last,
    )
