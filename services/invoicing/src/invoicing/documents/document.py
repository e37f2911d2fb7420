"""Knows how an invoice becomes a document: what is printed, in which words, and the typesetting of it and its notes.

The template gets everything as JSON strings: no text of a customer is ever read as markup. The same invoice gives the
same bytes for ever: the date in the file is the one of finalizing, and the fonts are those that come with typst, unless
a folder with more of them is configured for scripts that these do not have.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import typst

from common.money import Money, minor_units
from common.period import civil_date, civil_days, day_fraction
from invoicing.documents import credit_note
from invoicing.documents.grouping import Layout, groups, summary
from invoicing.documents.since import Since
from invoicing.documents.words import (
    MINUS,
    Json,
    amount,
    day,
    exemptions,
    grouped,
    money,
    party,
    period,
    questions,
    tax_share,
)
from invoicing.domain.credit_note import CreditNote
from invoicing.domain.invoice import Invoice, State
from invoicing.domain.line import Line
from invoicing.domain.party import CollectionMethod
from invoicing.domain.steps import RatingStep, StepKind

CONTENT_TYPE: Final = "application/pdf"
TEMPLATE: Final = Path(__file__).with_name("invoice.typ")
CREDIT_NOTE: Final = Path(__file__).with_name("credit_note.typ")
THREADS: Final = 2
STANDARD: Final = "a-3b"
"""PDF/A: fonts embedded, to be read in decades; 3 allows to attach the invoice as data."""

NO_FONT: Final = "could not be displayed with"
"""How typst says that it has no font for a character, which PDF/A does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    file_name: str
    content_type: str
    content: bytes


class Printer:
    """Typesets documents in threads of its own, so that nobody waits who only wants an answer."""

    def __init__(self, *, font_folder: Path | None = None) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="printer")
        self._fonts = typst.Fonts(
            include_system_fonts=False, font_paths=[font_folder] if font_folder is not None else []
        )
        # A compiler keeps its fonts and the parsed template; it serves one thread.
        self._own = threading.local()

    async def print(
        self, invoice: Invoice, *, layout: Layout = Layout.SECTIONS, since: Since | None = None
    ) -> Document:
        """The PDF of a finalized invoice: as it was issued or, told what became of it `since`, as it stands by then.
        Fails with INVOICE_NOT_FINALIZED for a draft, or INVOICE_WITHOUT_NUMBER.
        """
        invoice.check_document()
        name = invoice.number
        if since is not None:
            name = f"{name}-on-{civil_date(since.as_of, invoice.time_zone).isoformat()}"
        return await self._print(lambda: self.typeset(invoice, layout=layout, since=since), name)

    async def print_credit_note(self, note: CreditNote, of: Invoice) -> Document:
        return await self._print(lambda: self.typeset_credit_note(note, of), note.number)

    async def _print(self, typeset: Callable[[], bytes], name: str) -> Document:
        content = await asyncio.get_running_loop().run_in_executor(self._threads, typeset)
        return Document(
            file_name=f"{re.sub('[^A-Za-z0-9-]', '_', name)}.pdf",
            content_type=CONTENT_TYPE,
            content=content,
        )

    async def close(self) -> None:
        self._threads.shutdown(wait=True)

    def typeset(self, invoice: Invoice, *, layout: Layout = Layout.SECTIONS, since: Since | None = None) -> bytes:
        assert invoice.finalize_time is not None
        told = contents(invoice, layout=layout, since=since)
        return self._typeset(TEMPLATE, told, dated=invoice.finalize_time if since is None else since.as_of)

    def typeset_credit_note(self, note: CreditNote, of: Invoice) -> bytes:
        return self._typeset(CREDIT_NOTE, credit_note.contents(note, of), dated=note.issue_time)

    def _typeset(self, template: Path, told: Json, *, dated: datetime) -> bytes:
        timestamp = int(dated.timestamp())
        compiler = self._compiler(template)
        inputs = {template.stem: json.dumps(told, ensure_ascii=False)}
        try:
            pdf = compiler.compile(format="pdf", sys_inputs=inputs, pdf_standards=[STANDARD], timestamp=timestamp)
        except typst.TypstError as error:
            if NO_FONT not in str(error):
                raise
            # No font here has some character of a name. An ordinary PDF, with a box for it, is better than none.
            pdf = compiler.compile(format="pdf", sys_inputs=inputs, timestamp=timestamp)
        assert isinstance(pdf, bytes)
        return pdf

    def _compiler(self, template: Path) -> typst.Compiler:
        compilers: dict[str, typst.Compiler] = self._own.__dict__
        if template.stem not in compilers:
            compilers[template.stem] = typst.Compiler(template, font_paths=self._fonts)
        return compilers[template.stem]


def contents(invoice: Invoice, *, layout: Layout = Layout.SECTIONS, since: Since | None = None) -> Json:
    """Everything that is printed, as text: the template only arranges it."""
    assert invoice.seller is not None
    assert invoice.customer is not None
    assert invoice.due_time is not None
    zone = invoice.time_zone
    return {
        "number": invoice.number,
        "seller": party(invoice.seller, other=invoice.customer),
        "customer": party(invoice.customer, other=invoice.seller),
        "facts": [
            ["Invoice number", invoice.number],
            ["Invoice date", day(invoice.invoice_date)],
            ["Due date", day(civil_date(invoice.due_time, zone))],
            *([["Your reference", invoice.purchase_order]] if invoice.purchase_order else []),
        ],
        "memo": invoice.memo,
        "currency": invoice.currency,
        "summary": summary(invoice) if layout is Layout.SUMMARY_FIRST else [],
        "groups": groups(invoice, lambda line: _line(line, zone)),
        "sums": _sums(invoice),
        "remarks": exemptions(invoice.taxes),
        "due": [f"Amount due by {day(civil_date(invoice.due_time, zone))}", money(invoice.amount_due)],
        "since": [] if since is None else since.sums(invoice),
        "left": None if since is None else [since.title(invoice), money(invoice.amount_remaining)],
        "payment": _payment(invoice, invoice.amount_due if since is None else invoice.amount_remaining),
        "questions": questions(invoice.seller, invoice.number, of="invoice"),
    }


def _sums(invoice: Invoice) -> list[list[str]]:
    """From what the lines come to, step by step, to the total and what credit leaves of it. What is nothing is left
    out, but for the first and the total.
    """
    added = [tax for tax in invoice.taxes if not tax.is_included]
    included = [tax for tax in invoice.taxes if tax.is_included]
    sums = [["Subtotal", money(invoice.subtotal)]]
    if invoice.discount_total.minor:
        sums.append(["Discounts", money(-invoice.discount_total)])
    if added and invoice.total_excluding_tax != invoice.subtotal:
        sums.append(["Total without tax", money(invoice.total_excluding_tax)])
    sums += [[tax_share(tax), money(tax.amount)] for tax in added]
    if invoice.rounding.minor:
        sums.append(["Rounding", money(invoice.rounding)])
    sums.append(["Total", money(invoice.total)])
    sums += [[f"of which {tax_share(tax)}", money(tax.amount)] for tax in included]
    if invoice.credit_applied.minor:
        sums.append(["Paid from your credit", money(-invoice.credit_applied)])
    return sums


def _payment(invoice: Invoice, left: Money) -> Json:
    """How the money comes in that is left to be paid."""
    assert invoice.seller is not None
    if not left.minor:
        if not invoice.total.minor:
            text = "This invoice needs no payment."
        elif not invoice.amount_due.minor:
            text = "Your credit covers this invoice."
        elif invoice.state is State.VOID:
            text = "This invoice was annulled."
        elif invoice.state is State.UNCOLLECTIBLE:
            text = "What was left of this invoice is not collected any more."
        else:
            text = "This invoice is settled."
        return {"title": "Nothing to pay", "text": text}
    if invoice.collection_method is CollectionMethod.CHARGE_AUTOMATICALLY:
        text = "The amount due is collected automatically with your payment method on file. There is nothing to do."
        return {"title": "Payment", "text": text}
    text = invoice.seller.payment_instructions or "Please pay by the due date and state the invoice number."
    return {"title": "How to pay", "text": text}


def _line(line: Line, zone: str) -> Json:
    return {
        "description": line.description,
        "period": period(line.period, zone),
        "notes": _notes(line, zone),
        "quantity": grouped(line.quantity),
        "unit": line.unit_label,
        "amount": amount(line.amount),
    }


def _notes(line: Line, zone: str) -> list[str]:
    """Why it is there and how the amount came about, where that is not plain to see, and what was taken off it."""
    why = ["Billed in advance and not used: taken off"] if line.is_credit else []
    taken_off = [f"{each.description}: {amount(-each.amount)} {each.amount.currency}" for each in line.discounts]
    return [*why, *_steps(line, zone), *taken_off]


def _steps(line: Line, zone: str) -> list[str]:
    if len(line.steps) == 1:
        [step] = line.steps
        has_sum = step.unit_price is not None or step.percent is not None
        return [step.description] if has_sum else []
    if line.proration == 1:
        return [_sum(step, line.amount.currency) for step in line.steps]
    # The last step takes off the rest of the period: people rather hear which part it is.
    return [*(_sum(step, line.amount.currency) for step in line.steps[:-1]), _share(line, zone)]


def _sum(step: RatingStep, currency: str) -> str:
    if step.kind in (StepKind.CONVERSION, StepKind.FREE, StepKind.REMARK):
        return step.description
    comes_to = grouped(step.amount, places_min=minor_units(currency)).replace("-", MINUS)
    return f"{step.description} = {comes_to} {currency}"


def _share(line: Line, zone: str) -> str:
    of = period(line.full_period, zone)
    if day_fraction(line.period, line.full_period, zone) == line.proration and civil_days(line.full_period, zone):
        return f"{civil_days(line.period, zone)} of {civil_days(line.full_period, zone)} days of {of}"
    return f"{line.proration} of {of}"
