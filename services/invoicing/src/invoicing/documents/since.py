"""Knows what became of an invoice since it was issued, as far as it is told on a paper that says as of when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from common.period import civil_date
from invoicing.documents.words import day, money
from invoicing.domain.credit_note import CreditNote
from invoicing.domain.invoice import Invoice
from invoicing.domain.received import Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What was paid and credited by an instant."""

    as_of: datetime
    payments: Sequence[Received]
    notes: Sequence[CreditNote]

    def sums(self, invoice: Invoice) -> list[list[str]]:
        """From what was due to what is left of it, each with its day."""
        zone = invoice.time_zone
        told = [(each.time, f"Paid on {day(civil_date(each.time, zone))}", each.amount) for each in self.payments]
        told += [
            (note.issue_time, f"Credit note {note.number} of {day(note.issue_date)}", note.settlement.debt)
            for note in self.notes
            if note.settlement.debt.minor
        ]
        found = [[words, money(-taken)] for _, words, taken in sorted(told, key=lambda each: each[:2])]
        if invoice.amount_written_off.minor:
            found.append(["Not collected any more", money(-invoice.amount_written_off)])
        return found

    def title(self, invoice: Invoice) -> str:
        return f"Left to pay on {day(civil_date(self.as_of, invoice.time_zone))}"
