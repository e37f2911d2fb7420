"""Issues credit notes: what is taken back of an invoice, and what becomes of that money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.db import Tx
from common.money import Money
from invoicing import store
from invoicing.convert.credit_note import credit_note_for_event
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.credit_note import (
    CreditNote,
    CreditNoteId,
    NoteKind,
    Preference,
    Reason,
    Settlement,
    Taken,
    check_creditable,
    check_settlement,
    settled_by,
)
from invoicing.domain.crediting import Part, taken_back
from invoicing.domain.errors import CreditExceedsLine, RefundAlreadyRecorded, TopUpNotGivenBack
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.ledger import entries_of_credit_note, entries_of_refund
from invoicing.domain.line import Line, LineKind
from invoicing.usecases import credit, issuing, top_ups
from saldo.invoicing.v1 import events_pb2 as events


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to be credited."""

    invoice_id: InvoiceId
    parts: Sequence[Part]
    """All that is left, if there are none."""
    reason: Reason
    memo: str
    settlement: Settlement | None
    """What is to become of it, to the cent; None: as is preferred."""
    preference: Preference
    is_made_anew: bool = False
    """Whether all that it takes back is billed once more: then what was given back of it elsewhere is of that."""


async def create_credit_note(tx: Tx, order: Order) -> CreditNote:
    owed = await _locked(tx, order)
    planned = await _planned(tx, owed, order)
    invoice = owed.credit(planned.settlement.debt, at=tx.now)
    note = await issuing.issue_credit_note(tx, planned)
    await store.add_credit_note(tx, note)
    if note.settlement.customer_credit.minor:
        await credit.give_credited(tx, owed, note.settlement.customer_credit, credit_note_id=note.id)
    await store.add_entries(tx, entries_of_credit_note(owed, note))
    await tx.emit(events.CreditNoteIssued(credit_note=credit_note_for_event(note)))
    if invoice is not owed:
        await _save_less_owed(tx, invoice, before=owed)
    return note


async def preview_credit_note(tx: Tx, order: Order) -> CreditNote:
    """As it would be now. Nothing is stored."""
    return await _planned(tx, await store.invoice(tx, order.invoice_id), order)


async def record_refund(tx: Tx, note_id: CreditNoteId, *, amount: Money | None, reference: str) -> CreditNote:
    """Money was paid back, all that was still to be unless it is said how much. The same told again changes nothing."""
    note = await store.credit_note(tx, note_id, lock=True)
    known = await store.find_refund(tx, note, reference=reference)
    if known is not None and amount in (None, known):
        return note
    paid_back = note.refund_pending if amount is None else amount
    refunded = note.refund(paid_back)
    if not await store.remember_refund(tx, note, reference=reference, amount=paid_back):
        raise RefundAlreadyRecorded(f"{reference} is another refund", reference=reference)
    await store.save_refunded(tx, refunded)
    invoice = await store.invoice(tx, note.invoice_id)
    await store.add_entries(tx, entries_of_refund(invoice, refunded, amount=paid_back, at=tx.now))
    await tx.emit(events.CreditNoteRefunded(credit_note=credit_note_for_event(refunded)))
    return refunded


async def _planned(tx: Tx, invoice: Invoice, order: Order) -> CreditNote:
    invoice.check_issued()
    invoice.check_document()
    earlier = await store.credit_notes_of(tx, invoice.id)
    taken = taken_back(invoice, earlier, order.parts)
    check_creditable(invoice, earlier, taken)
    if not order.is_made_anew:
        await _check_left(tx, invoice, taken)
    if order.settlement is None:
        settlement = settled_by(invoice, taken, order.preference)
    else:
        settlement = check_settlement(invoice, earlier, taken, order.settlement)
    if invoice.top_up_rule_id and (settlement.customer_credit.minor or settlement.refund.minor):
        raise TopUpNotGivenBack(f"invoice {invoice.id} bought credit: revoke its grant instead", invoice=invoice.id)
    return CreditNote.of(
        invoice, taken, settlement, kind=NoteKind.CREDIT, reason=order.reason, memo=order.memo, at=tx.now
    )


async def _locked(tx: Tx, order: Order) -> Invoice:
    """With all that may correct what was used and billed on it, or takes off what was billed in advance: neither a bill
    run nor a draft does so meanwhile. The customers' billing before the invoice, as a bill run has it.
    """
    found = await store.invoice(tx, order.invoice_id)
    metered = [line for line in found.lines if line.usage is not None]
    for customer_id in sorted({found.used_by(line) for line in found.lines if line.is_of_item}):
        await store.find_billings(tx, [customer_id], lock=True)
    owed = await store.invoice(tx, order.invoice_id, lock=True)
    # A draft counts what it corrects anew. What it takes off as a credit never becomes more.
    await store.lock_drafts_that_correct(tx, [line.key for line in metered])
    return owed


async def _check_left(tx: Tx, invoice: Invoice, taken: Taken) -> None:
    """A later invoice may have taken off, because usage or the subscription changed, what is wanted back here: not the
    same twice.
    """
    lines = {line.id: line for line in invoice.lines if line.kind is LineKind.OWED}
    wanted = [lines[each.line_id] for each in taken.lines if each.line_id in lines and each.amount.minor > 0]
    left = await _left_of_usage(tx, [line for line in wanted if line.usage is not None])
    left |= await _left_of_fees(tx, [line for line in wanted if line.usage is None])
    for each in taken.lines:
        # What was annulled has nothing left to look at.
        if each.line_id in left and each.amount > left[each.line_id]:
            message = f"{each.amount} is not of the {left[each.line_id]} that later invoices have left"
            raise CreditExceedsLine(f"{message} of line {each.line_id}", line=each.line_id, left=left[each.line_id])


async def _left_of_usage(tx: Tx, lines: Sequence[Line]) -> dict[str, Money]:
    """By line, what is left of all that was billed for its period."""
    if not lines:
        return {}
    keys = [line.key for line in lines]
    billed, credited = await store.already_billed(tx, keys), await store.credited_so_far(tx, keys)
    return {
        line.id: billed[line.key].amount - credited.get(line.key, Money.zero(line.amount.currency))
        for line in lines
        if line.key in billed
    }


async def _left_of_fees(tx: Tx, lines: Sequence[Line]) -> dict[str, Money]:
    """By line, what is left of it."""
    if not lines:
        return {}
    left = await store.left_of(tx, lines)
    found = {line.id: left.of(line) for line in lines}
    return {line_id: amount for line_id, amount in found.items() if amount is not None}


async def _save_less_owed(tx: Tx, invoice: Invoice, *, before: Invoice) -> None:
    await store.save_invoice(tx, invoice)
    told = invoice_for_event(invoice)
    await tx.emit(events.InvoiceCredited(invoice=told))
    if invoice.state is State.PAID and before.state is not State.PAID:
        await tx.emit(events.InvoicePaid(invoice=told))
        await top_ups.settle(tx, invoice)
