"""Knows what is printed of a credit note: which invoice it corrects, why, and what becomes of the money."""

from __future__ import annotations

from typing import Final

from invoicing.documents.grouping import section_of
from invoicing.documents.words import Json, amount, day, exemptions, grouped, money, party, period, questions, tax_share
from invoicing.domain.credit_note import CreditLine, CreditNote, NoteKind, Reason, Taken
from invoicing.domain.invoice import Invoice

REASONS: Final = {
    Reason.DUPLICATE: "The same was billed twice.",
    Reason.ORDER_CHANGE: "The order was changed.",
    Reason.PRODUCT_UNSATISFACTORY: "The product was not what it should have been.",
    Reason.FRAUDULENT: "The order was not placed by the customer.",
    Reason.BILLING_ERROR: "The invoice was wrong.",
    Reason.LATE_USAGE: "Usage was counted anew.",
    Reason.OTHER: "",
}


def contents(note: CreditNote, of: Invoice) -> Json:
    """Everything that is printed, as text: the template only arranges it. What a line was about, the invoice tells."""
    periods = {line.id: period(line.period, note.time_zone) for line in of.lines}
    sections = section_of(of)
    return {
        "number": note.number,
        "seller": party(note.seller, other=note.customer),
        "customer": party(note.customer, other=note.seller),
        "facts": [
            ["Credit note number", note.number],
            ["Date", day(note.issue_date)],
            ["Corrects invoice", note.invoice_number],
        ],
        "why": [part for part in (REASONS[note.reason], *note.memo.split("\n")) if part],
        "currency": note.currency,
        "lines": [_line(line, periods[line.line_id], sections.get(line.line_id, "")) for line in note.lines],
        "sums": _sums(note.taken),
        "total": money(note.total),
        "remarks": exemptions(note.taken.taxes),
        "settlement": _settlement(note),
        "questions": questions(note.seller, note.number, of="credit note"),
    }


def _sums(taken: Taken) -> list[list[str]]:
    """From what is taken back to the total, as on an invoice."""
    sums = [["Subtotal", money(taken.subtotal)]]
    if taken.discount_total.minor:
        sums.append(["Discounts", money(-taken.discount_total)])
    sums += [[tax_share(tax), money(tax.amount)] for tax in taken.taxes if not tax.is_included]
    if taken.rounding.minor:
        sums.append(["Rounding", money(taken.rounding)])
    included = [tax for tax in taken.taxes if tax.is_included]
    if included:
        sums.append(["Total", money(taken.total)])
    return sums + [[f"of which {tax_share(tax)}", money(tax.amount)] for tax in included]


def _settlement(note: CreditNote) -> list[str]:
    """What happens with the money, in sentences. What was decided then, whatever became of it since."""
    parts = note.settlement
    told = [
        f"Invoice {note.invoice_number} is annulled: nothing is to be paid for it."
        if note.kind is NoteKind.VOID
        else "",
        f"{money(parts.debt)} of invoice {note.invoice_number} need not be paid any more." if parts.debt.minor else "",
        f"{money(parts.customer_credit)} are kept to your credit and taken off what you owe next."
        if parts.customer_credit.minor
        else "",
        f"{money(parts.refund)} are paid back to you." if parts.refund.minor else "",
    ]
    return [sentence for sentence in told if sentence]


def _line(line: CreditLine, of_period: str, section: str) -> Json:
    return {
        "description": line.description,
        "notes": [each for each in (section, of_period) if each],
        "quantity": "" if line.quantity is None else grouped(line.quantity),
        "unit": line.unit_label,
        "amount": amount(line.amount),
    }
