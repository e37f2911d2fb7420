"""Knows how lines are arranged on paper: in one table, or in a section for each customer and subscription."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Final

from invoicing.documents.words import Json, amount
from invoicing.domain.invoice import Invoice
from invoicing.domain.line import Line
from invoicing.domain.sections import Section, SubscriptionSection

OTHER: Final = "Other items"
"""Above lines that belong to no subscription."""


class Layout(Enum):
    """In which order an invoice is told that is for several customers; of one customer it is all the same."""

    SECTIONS = "SECTIONS"
    """What each of them used, and what it comes to."""
    SUMMARY_FIRST = "SUMMARY_FIRST"
    """What it comes to, a line for each of them, and on the pages after that what each of them used."""


def groups(invoice: Invoice, printed: Callable[[Line], Json]) -> list[Json]:
    """In the order printed. Without headings where it takes none to tell what a line is about, and where nobody kept
    what they would say.
    """
    if not invoice.section_names:
        return [_group([printed(line) for line in invoice.lines])]
    found = invoice.sections
    is_of_one = _is_of_one(invoice)
    return [
        group for section in found for group in _groups(section, printed, customer="" if is_of_one else _name(section))
    ]


def summary(invoice: Invoice) -> list[Json]:
    """What each customer's part comes to, a line each; nothing where there is only the one that gets the invoice."""
    if not invoice.section_names or _is_of_one(invoice):
        return []
    return [
        {
            "title": _name(section),
            "parts": ", ".join(_titles(section)),
            "amount": amount(section.subtotal),
        }
        for section in invoice.sections
    ]


def section_of(invoice: Invoice) -> dict[str, str]:
    """In which section each line stands, by its id; nothing where there are none."""
    if not invoice.section_names:
        return {}
    is_of_one = _is_of_one(invoice)
    return {
        line.id: title if is_of_one else f"{_name(section)}, {title}"
        for section in invoice.sections
        for title, part in zip(_titles(section), section.subscriptions, strict=True)
        for line in part.lines
    }


def _is_of_one(invoice: Invoice) -> bool:
    return [section.customer_id for section in invoice.sections] == [invoice.customer_id]


def _groups(section: Section, printed: Callable[[Line], Json], *, customer: str) -> list[Json]:
    """A subtotal for each, unless it would only say once more what the customer's total says."""
    titles = _titles(section)
    last = len(titles) - 1
    alone = bool(customer) and not last
    repeated = Counter(titles)
    return [
        _group(
            [printed(line) for line in part.lines],
            customer=customer,
            title=title,
            # Two of the same plan are told apart by what the seller calls them.
            reference=part.subscription_id if repeated[title] > 1 else "",
            subtotal=None if alone else [f"Subtotal {title}", amount(part.subtotal)],
            total=[f"Total {customer}", amount(section.subtotal)] if customer and n == last else None,
        )
        for n, (title, part) in enumerate(zip(titles, section.subscriptions, strict=True))
    ]


def _group(
    lines: list[Json],
    *,
    customer: str = "",
    title: str = "",
    reference: str = "",
    subtotal: list[str] | None = None,
    total: list[str] | None = None,
) -> Json:
    return {
        "customer": customer,
        "title": title,
        "reference": reference,
        "lines": lines,
        "subtotal": subtotal,
        "total": total,
    }


def _name(section: Section) -> str:
    return section.display_name or section.customer_id


def _titles(section: Section) -> list[str]:
    return [_title(part) for part in section.subscriptions]


def _title(part: SubscriptionSection) -> str:
    return part.display_name or part.subscription_id or OTHER
