"""Knows how an invoice becomes a document: what is printed, in which words, and the typesetting of it.

The template gets everything as JSON strings: no text of a customer is ever read as markup. The same invoice gives the
same bytes for ever: the date in the file is the one of finalizing, and the fonts are those that come with typst, unless
a folder with more of them is configured for scripts that these do not have.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import typst

from common.money import Money, minor_units
from common.period import Period, civil_date, civil_days, day_fraction
from invoicing.domain.errors import InvoiceNotFinalized
from invoicing.domain.invoice import Invoice, State
from invoicing.domain.line import Line
from invoicing.domain.party import Address, CollectionMethod, Party
from invoicing.domain.steps import RatingStep, StepKind, plain
from invoicing.domain.tax import TaxLine

CONTENT_TYPE: Final = "application/pdf"
TEMPLATE: Final = Path(__file__).with_name("invoice.typ")
THREADS: Final = 2
STANDARD: Final = "a-3b"
"""PDF/A: fonts embedded, to be read in decades; 3 allows to attach the invoice as data."""

NO_FONT: Final = "could not be displayed with"
"""How typst says that it has no font for a character, which PDF/A does not allow."""

CITY_FIRST: Final = frozenset({"AU", "CA", "GB", "IE", "IN", "NZ", "US"})
"""Where the postal code stands behind or below the city."""

Json = dict[str, object]


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

    async def print(self, invoice: Invoice) -> Document:
        """The PDF of a finalized invoice. Fails with INVOICE_NOT_FINALIZED for a draft."""
        if invoice.state is State.DRAFT:
            raise InvoiceNotFinalized(f"invoice {invoice.id} is a draft", invoice=invoice.id)
        content = await asyncio.get_running_loop().run_in_executor(self._threads, self.typeset, invoice)
        return Document(
            file_name=f"{re.sub('[^A-Za-z0-9-]', '_', invoice.number)}.pdf",
            content_type=CONTENT_TYPE,
            content=content,
        )

    async def close(self) -> None:
        self._threads.shutdown(wait=True)

    def typeset(self, invoice: Invoice) -> bytes:
        assert invoice.finalize_time is not None
        timestamp = int(invoice.finalize_time.timestamp())
        compiler = self._compiler()
        told = {"invoice": json.dumps(contents(invoice), ensure_ascii=False)}
        try:
            pdf = compiler.compile(format="pdf", sys_inputs=told, pdf_standards=[STANDARD], timestamp=timestamp)
        except typst.TypstError as error:
            if NO_FONT not in str(error):
                raise
            # No font here has some character of a name. An ordinary PDF, with a box for it, is better than none.
            pdf = compiler.compile(format="pdf", sys_inputs=told, timestamp=timestamp)
        assert isinstance(pdf, bytes)
        return pdf

    def _compiler(self) -> typst.Compiler:
        compiler: typst.Compiler | None = getattr(self._own, "compiler", None)
        if compiler is None:
            compiler = self._own.compiler = typst.Compiler(TEMPLATE, font_paths=self._fonts)
        return compiler


def contents(invoice: Invoice) -> Json:
    """Everything that is printed, as text: the template only arranges it."""
    assert invoice.seller is not None
    assert invoice.customer is not None
    assert invoice.due_time is not None
    zone = invoice.time_zone
    return {
        "number": invoice.number,
        "seller": _party(invoice.seller, other=invoice.customer),
        "customer": _party(invoice.customer, other=invoice.seller),
        "facts": [
            ["Invoice number", invoice.number],
            ["Invoice date", _date(invoice.invoice_date)],
            ["Due date", _date(civil_date(invoice.due_time, zone))],
        ],
        "currency": invoice.currency,
        "lines": [_line(line, zone) for line in invoice.lines],
        "sums": _sums(invoice),
        "remarks": _remarks(invoice),
        "amount_due": _money(invoice.amount_due),
        "due_date": _date(civil_date(invoice.due_time, zone)),
        "payment": _payment(invoice),
        "questions": _questions(invoice),
    }


def _sums(invoice: Invoice) -> list[list[str]]:
    """From what the lines come to, step by step, to the total and what credit leaves of it. What is nothing is left
    out, but for the first and the total.
    """
    added = [tax for tax in invoice.taxes if not tax.is_included]
    included = [tax for tax in invoice.taxes if tax.is_included]
    sums = [["Subtotal", _money(invoice.subtotal)]]
    if invoice.discount_total.minor:
        sums.append(["Discounts", _money(-invoice.discount_total)])
    if added:
        sums.append(["Total without tax", _money(invoice.total_excluding_tax)])
    sums += [[_tax(tax), _money(tax.amount)] for tax in added]
    if invoice.rounding.minor:
        sums.append(["Rounding", _money(invoice.rounding)])
    sums.append(["Total", _money(invoice.total)])
    sums += [[f"of which {_tax(tax)}", _money(tax.amount)] for tax in included]
    if invoice.credit_applied.minor:
        sums.append(["Paid from your credit", _money(-invoice.credit_applied)])
    return sums


def _tax(tax: TaxLine) -> str:
    """EN 16931 wants the rate, and what it is a share of, of every category (BG-23)."""
    return f"{tax.name} {_grouped(tax.percent)}% of {_amount(tax.taxable)}"


def _remarks(invoice: Invoice) -> list[str]:
    """Why no tax is due, where a law wants that to be said; each reason once."""
    return list(dict.fromkeys(tax.exemption_reason for tax in invoice.taxes if tax.exemption_reason))


def _questions(invoice: Invoice) -> str:
    """Whom to ask, and what to tell them."""
    assert invoice.seller is not None
    if not invoice.seller.email:
        return ""
    return f"Questions about this invoice? Write to {invoice.seller.email} and name {invoice.number}."


def _payment(invoice: Invoice) -> Json:
    """How the money comes in. The document says what was owed when it was finalized, whatever happened since."""
    assert invoice.seller is not None
    if not invoice.amount_due.minor:
        text = "Your credit covers this invoice." if invoice.total.minor else "This invoice needs no payment."
        return {"title": "Nothing to pay", "text": text}
    if invoice.collection_method is CollectionMethod.CHARGE_AUTOMATICALLY:
        text = "The amount due is collected automatically with your payment method on file. There is nothing to do."
        return {"title": "Payment", "text": text}
    text = invoice.seller.payment_instructions or "Please pay by the due date and state the invoice number."
    return {"title": "How to pay", "text": text}


def _line(line: Line, zone: str) -> Json:
    return {
        "description": line.description,
        "period": _period(line.period, zone),
        "notes": _notes(line, zone),
        "quantity": _grouped(line.quantity),
        "unit": line.unit_label,
        "amount": _amount(line.amount),
    }


def _notes(line: Line, zone: str) -> list[str]:
    """How the amount came about, where that is not plain to see, and what was taken off it."""
    taken_off = [f"{each.description}: {_amount(-each.amount)} {each.amount.currency}" for each in line.discounts]
    return [*_steps(line, zone), *taken_off]


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
    amount = _grouped(step.amount, places_min=minor_units(currency)).replace("-", MINUS)
    return f"{step.description} = {amount} {currency}"


def _share(line: Line, zone: str) -> str:
    of = _period(line.full_period, zone)
    if day_fraction(line.period, line.full_period, zone) == line.proration and civil_days(line.full_period, zone):
        return f"{civil_days(line.period, zone)} of {civil_days(line.full_period, zone)} days of {of}"
    return f"{line.proration} of {of}"


def _party(party: Party, *, other: Party) -> Json:
    home = other.address.region_code if other.address is not None else ""
    return {
        "name": party.display_name,
        "address": _address(party.address, home=home) if party.address is not None else [],
        "tax_id": party.tax_id,
        "email": party.email,
    }


def _address(address: Address, *, home: str) -> list[str]:
    """The lines of an envelope. The country is only printed when the other side is in another one."""
    if address.region_code in CITY_FIRST:
        city = [", ".join(filter(None, (address.locality, address.administrative_area))), address.postal_code]
        city = [" ".join(filter(None, city))] if address.region_code not in ("GB", "IE") else city
    else:
        city = [" ".join(filter(None, (address.postal_code, address.locality))), address.administrative_area]
    country = address.region_code if address.region_code != home else ""
    parts = [*address.recipients, address.organization, *address.address_lines, address.sublocality, *city, country]
    return [part for part in parts if part]


def _period(period: Period, zone: str) -> str:
    """Both days included, as people say it: the first to the 31st, not the first to the first.

    One day from a time to the same time is the day on which it begins.
    """
    first = civil_date(period.start, zone)
    if civil_days(period, zone) <= 1:
        return _date(first)
    last = civil_date(period.end - timedelta(microseconds=1), zone)
    if first.year != last.year:
        return f"{_date(first)} – {_date(last)}"
    return f"{first.day} {_MONTHS[first.month - 1]} – {_date(last)}"


def _date(value: date) -> str:
    """`1 Apr 2026`: read alike everywhere, unlike any date in figures."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def _money(value: Money) -> str:
    return f"{_amount(value)} {value.currency}"


def _amount(value: Money) -> str:
    return _grouped(value.amount, places_min=minor_units(value.currency)).replace("-", MINUS)


def _grouped(value: Decimal, *, places_min: int = 0) -> str:
    """`1,234,567.50`: thousands in groups, as many decimals as there are but at least so many."""
    whole, _, decimals = plain(value).partition(".")
    decimals = decimals.ljust(places_min, "0")
    return f"{whole}.{decimals}" if decimals else whole


MINUS: Final = "−"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
