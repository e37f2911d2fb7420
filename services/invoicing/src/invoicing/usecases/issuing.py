"""Issues invoices and notes: numbered, frozen, linked to the one before, and posted; and verifies what was issued."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from common.db import Tx
from invoicing import store
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.credit_note import CreditNote, CreditNoteId
from invoicing.domain.errors import SeriesNotFound
from invoicing.domain.invoice import Invoice, State
from invoicing.domain.issued import Document, Issued, Number, Series, Verification, faults
from invoicing.domain.issuing_policy import IssuingPolicy
from invoicing.domain.ledger import entries_of_issue
from invoicing.domain.party import Customer, Seller
from invoicing.usecases import credit
from saldo.invoicing.v1 import events_pb2 as events

CREDIT_NOTES_SUFFIX: Final = "-CN"
"""What the numbers of credit notes have behind the prefix of the invoices'."""

LINES_MAX: Final = 20_000
"""A page ends early rather than look at more lines than these at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A draft with nothing left to wait for, and to whom it goes."""

    draft: Invoice
    customer: Customer
    users: Mapping[str, str] = field(default_factory=dict)
    """What those are called that it may be paid for, by id."""
    traceparent: str = ""
    """Of the story that it belongs to; empty for the one under way."""


async def issue(
    tx: Tx, ready: Sequence[Ready], *, seller: Seller, policy: IssuingPolicy | None = None
) -> list[Invoice]:
    """Give each the next number, keep what it says, post it, announce it: the invoices in the order given. Everyone
    else who issues waits from here to the commit. What is of nothing may do without a number, and is no document then;
    the policy is looked up, if there is such an invoice and it is not given.
    """
    # Before the numbers: whoever waits for a wallet must not keep others waiting for theirs.
    drafts = await credit.take_up(tx, [each.draft for each in ready])
    unnumbered = await _unnumbered(tx, drafts, policy)
    of_series: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(ready):
        if place not in unnumbered:
            of_series[seller.series_of(each.draft.invoice_date)].append(place)
    found = {place: _finalized(tx, drafts[place], ready[place], number="", seller=seller) for place in unnumbered}
    issued: list[Issued] = []
    # Everybody takes the series in one order.
    for series, places in sorted(of_series.items()):
        first = await store.take_numbers(tx, series, len(places))
        before = await store.link_before(tx, first)
        for ordinal, place in enumerate(places, start=first.ordinal):
            number = Number(series=series, ordinal=ordinal)
            invoice = _finalized(tx, drafts[place], ready[place], number=str(number), seller=seller)
            issued.append(Issued.of(invoice, number, before=before))
            before = issued[-1].link
            found[place] = invoice
    await store.add_issued(tx, issued)
    invoices = [found[place] for place in range(len(ready))]
    await store.add_entries(tx, [entry for invoice in invoices for entry in entries_of_issue(invoice)])
    for invoice, each in zip(invoices, ready, strict=True):
        await _announce(tx, invoice, traceparent=each.traceparent)
    return invoices


async def issue_credit_note(tx: Tx, note: CreditNote) -> CreditNote:
    """The same for a credit note, in the series beside that of its invoice."""
    series = f"{note.invoice_number.rpartition('-')[0]}{CREDIT_NOTES_SUFFIX}"
    number = await store.take_numbers(tx, series, 1)
    numbered = note.numbered(id=CreditNoteId(tx.new_id("cn")), number=str(number))
    await store.add_issued(tx, [Issued.of(numbered, number, before=await store.link_before(tx, number))])
    return numbered


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
    texts = [str(each) for each in numbers]
    # A series may hold documents of both kinds: a seller chooses its prefixes.
    invoices, looked_for = await store.invoices_numbered(tx, texts, lines_max=LINES_MAX)
    notes, looked_for = await store.credit_notes_numbered(tx, texts[:looked_for], lines_max=LINES_MAX)
    documents: dict[str, Document] = {**invoices, **notes}
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


async def _unnumbered(tx: Tx, drafts: Sequence[Invoice], policy: IssuingPolicy | None) -> AbstractSet[int]:
    """The places of those that are to have no number."""
    places = {place for place, draft in enumerate(drafts) if draft.is_of_nothing}
    if not places:
        return places
    policy = policy or await store.issuing_policy(tx)
    return set() if policy.numbers_zero_invoices else places


def _finalized(tx: Tx, draft: Invoice, its: Ready, *, number: str, seller: Seller) -> Invoice:
    return draft.finalize(number=number, at=tx.now, seller=seller, customer=its.customer, users=its.users)


async def _announce(tx: Tx, invoice: Invoice, *, traceparent: str) -> None:
    """A total of nothing is paid the moment it is owed: both are said."""
    told = invoice_for_event(invoice)
    await tx.emit(events.InvoiceFinalized(invoice=told), traceparent=traceparent)
    if invoice.state is State.PAID:
        await tx.emit(events.InvoicePaid(invoice=told), traceparent=traceparent)
