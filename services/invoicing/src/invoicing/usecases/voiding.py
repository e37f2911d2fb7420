"""Annuls invoices, gives them up, and has them issued anew: what a void invoice billed was never billed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from common.db import Tx
from common.rpc import Desk
from invoicing import clients, store
from invoicing.convert.credit_note import credit_note_for_event
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.consolidation import Bill
from invoicing.domain.credit_note import CreditNote, NoteKind, Preference, Reason, check_creditable, settled_by
from invoicing.domain.crediting import taken_back
from invoicing.domain.errors import InvoiceCorrectedSince
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.ledger import entries_of_credit_note, entries_of_write_off
from invoicing.domain.line import LineKind
from invoicing.domain.party import Customer
from invoicing.store import Draft, DraftKey
from invoicing.usecases import credit, credit_notes, issuing
from invoicing.usecases.credit_notes import Order
from saldo.invoicing.v1 import events_pb2 as events

TO_BE_LOOKED_AT: Final = "reissued: look at its manual lines, and release it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What the credit note says of an invoice that is annulled."""

    reason: Reason
    memo: str


async def void_invoice(tx: Tx, invoice_id: InvoiceId, why: Why) -> Invoice:
    """It should not have been. The next bill run of the customer bills anew what is still due of it."""
    found = await _issued(tx, invoice_id)
    since = _since(found)
    if since is not None:
        # The customer's billing before its invoice, as a bill run has it: nobody waits for whom he keeps waiting.
        for customer_id in _users(found):
            await store.look_back(tx, customer_id, to=since)
    return await _void(tx, invoice_id, why)


async def pull(desk: Desk, invoice_id: InvoiceId) -> Customer | None:
    """Whom a new draft would be for; None when the invoice has nothing that only a draft can bill anew."""
    async with desk.transaction() as tx:
        found = await store.invoice(tx, invoice_id)
    is_manual = any(line.kind is LineKind.MANUAL for line in found.lines)
    return await clients.customer(desk, found.customer_id) if is_manual else None


async def reissue_invoice(tx: Tx, invoice_id: InvoiceId, why: Why, *, customer: Customer | None) -> Invoice:
    """Annul it, and bill anew at once what is still due of it; manual lines as they are, in a draft that is held."""
    found = await _issued(tx, invoice_id)
    since = _since(found)
    if since is not None:
        for customer_id in _users(found):
            await store.mark_due(tx, customer_id, look_back_to=since)
    invoice = await _void(tx, invoice_id, why)
    if customer is not None:
        await _draft_manual_lines(tx, invoice, customer=customer)
    return invoice


async def replace_invoice(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    """Because usage came late: annul it and have it billed anew at once. What was paid is credited in full instead, and
    the new invoice takes that up.
    """
    found = await _issued(tx, invoice_id)
    since = _since(found)
    assert since is not None, "usage was billed"
    for customer_id in _users(found):
        await store.mark_due(tx, customer_id, look_back_to=since)
    owed = await store.invoice(tx, invoice_id, lock=True)
    if not owed.amount_paid.minor:
        return await _void(tx, invoice_id, Why(reason=Reason.LATE_USAGE, memo=""))
    await _check_corrected(tx, invoice_id)
    order = Order(
        invoice_id=invoice_id,
        parts=(),
        reason=Reason.LATE_USAGE,
        memo="",
        settlement=None,
        preference=Preference.DEBT_FIRST,
        is_made_anew=True,
    )
    await credit_notes.create_credit_note(tx, order)
    await store.void_lines(tx, invoice_id)
    return await store.invoice(tx, invoice_id)


async def mark_uncollectible(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    owed = await store.invoice(tx, invoice_id, lock=True)
    invoice = owed.write_off(at=tx.now)
    await store.save_invoice(tx, invoice)
    await store.add_entries(tx, entries_of_write_off(invoice, at=tx.now))
    await tx.emit(events.InvoiceMarkedUncollectible(invoice=invoice_for_event(invoice)))
    return invoice


async def _issued(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    """Unlocked: of what is asked here nothing changes any more."""
    found = await store.invoice(tx, invoice_id)
    found.check_issued()
    return found


def _users(invoice: Invoice) -> list[str]:
    """Whoever used what is on it, and whoever got it, in the order in which everybody holds them."""
    return sorted({invoice.customer_id, *(invoice.used_by(line) for line in invoice.lines)})


def _since(invoice: Invoice) -> datetime | None:
    """From when on a bill run has to look; None when it bills nothing of the invoice."""
    return min((line.full_period.start for line in invoice.lines if line.kind is not LineKind.MANUAL), default=None)


async def _void(tx: Tx, invoice_id: InvoiceId, why: Why) -> Invoice:
    owed = await store.invoice(tx, invoice_id, lock=True)
    invoice = owed.void(at=tx.now)
    await _check_corrected(tx, invoice_id)
    if owed.number:
        await _take_back(tx, owed, why)
    await store.save_invoice(tx, invoice)
    await store.void_lines(tx, invoice_id)
    await tx.emit(events.InvoiceVoided(invoice=invoice_for_event(invoice)))
    return invoice


async def _take_back(tx: Tx, owed: Invoice, why: Why) -> None:
    """By a credit note, all that is left of a document."""
    earlier = await store.credit_notes_of(tx, owed.id)
    taken = taken_back(owed, earlier, ())
    if owed.total.minor:
        check_creditable(owed, earlier, taken)
    settlement = settled_by(owed, taken, Preference.DEBT_FIRST)
    planned = CreditNote.of(owed, taken, settlement, kind=NoteKind.VOID, reason=why.reason, memo=why.memo, at=tx.now)
    note = await issuing.issue_credit_note(tx, planned)
    await store.add_credit_note(tx, note)
    if note.settlement.customer_credit.minor:
        credited = note.settlement.customer_credit
        # What an earlier note gave back of it is not to be given once more.
        annuls = credited == owed.credit_applied
        await credit.give_credited(tx, owed, credited, credit_note_id=note.id, annuls=annuls)
    await store.add_entries(tx, entries_of_credit_note(owed, note))
    await tx.emit(events.CreditNoteIssued(credit_note=credit_note_for_event(note)))


async def _check_corrected(tx: Tx, invoice_id: InvoiceId) -> None:
    corrected = await store.corrected_since(tx, invoice_id)
    if corrected is not None:
        raise InvoiceCorrectedSince(
            f"invoice {corrected} corrects lines of {invoice_id}", invoice=invoice_id, corrected_by=corrected
        )


async def _draft_manual_lines(tx: Tx, void: Invoice, *, customer: Customer) -> None:
    """Held: what was wrong with them only people can put right."""
    manual = [line for line in void.lines if line.kind is LineKind.MANUAL]
    bill = Bill(
        currency=void.currency,
        bill_time=tx.now,
        lines=tuple(replace(line, id=tx.new_id("line")) for line in manual),
    )
    new = Invoice.draft(
        id=InvoiceId(tx.new_id("inv")),
        customer=customer,
        bill=bill,
        at=tx.now,
        grace=timedelta(),
        hold_reason=TO_BE_LOOKED_AT,
    )
    key = DraftKey.of(new)
    # A sandbox's clock may stand where a bill run has stood.
    draft = (await store.lock_drafts_for(tx, [key])).get(key)
    if draft is None:
        await store.add_invoices(tx, [Draft(new, "")])
    else:
        grown = draft.invoice.add(bill.lines).hold(TO_BE_LOOKED_AT)
        await store.save_drafts(tx, [(grown, draft.invoice)])
