"""Knows what was issued: the content of a document that is in somebody's hands, and the chain of all in a series.

    document ─► content, as canonical JSON ─► content hash ─┐
                              the link of the number before ┴─► link ─► ...

Whoever keeps one link knows of every document up to it that none was changed, left out or slipped in since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Final

from common.money import Money
from invoicing.domain.credit_note import CreditLine, CreditNote, CreditNoteId
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineDiscount, Usage
from invoicing.domain.party import Address, Party
from invoicing.domain.steps import RatingStep
from invoicing.domain.tax import TaxLine

CONTENT_VERSION: Final = 1
"""What the content of a document is may grow: a member that is new is left out where it says nothing, so that what was
issued before it has the hash that it had. Another version is for another form.
"""
KEPT: Final = 1_000
"""Of what is told of one document as of the next: the seller, the bounds of periods."""

BEGINNING: Final = bytes(32)
"""What the first link of a chain is linked to."""


NO_CREDIT_NOTE: Final = CreditNoteId("")

Document = Invoice | CreditNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A place in a series of numbers, in which none is left out."""

    series: str
    ordinal: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.series}-{self.ordinal:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What is kept of a document that was issued, and never changed."""

    number: Number
    invoice_id: InvoiceId
    """The invoice that it is, or that it corrects."""
    credit_note_id: CreditNoteId = NO_CREDIT_NOTE
    """The credit note that it is; empty for an invoice."""
    version: int
    content_hash: bytes
    link: bytes

    @classmethod
    def of(cls, document: Document, number: Number, *, before: bytes | None) -> Issued:
        """`before` is the link of the number before; None when that has none."""
        content_hash = hash_of(document)
        return cls(
            number=number,
            invoice_id=document.invoice_id if isinstance(document, CreditNote) else document.id,
            credit_note_id=document.id if isinstance(document, CreditNote) else NO_CREDIT_NOTE,
            version=CONTENT_VERSION,
            content_hash=content_hash,
            link=link(before, content_hash),
        )

    @property
    def document_id(self) -> str:
        return self.credit_note_id or self.invoice_id


class FaultKind(Enum):
    """What can be wrong with a number of a series."""

    MISSING = "MISSING"
    """No document has it."""
    UNCHAINED = "UNCHAINED"
    """Its document was issued before documents were chained, or what is kept of it is gone."""
    ALTERED = "ALTERED"
    """Its document does not say any more what it said when it was issued."""
    BROKEN = "BROKEN"
    """Its link does not follow from the one before it: that was exchanged, or taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    number: Number
    kind: FaultKind
    document: Document | None
    """None when no document has the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series of numbers, as far as it has got."""

    last: Number
    link: bytes | None
    """Of its last number; None if that was issued before documents were chained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found out about some numbers of a series, one after the other."""

    first: Number
    last: Number
    link: bytes | None
    """Of the last one."""
    faults: tuple[Fault, ...]
    is_end: bool


def faults(
    numbers: Iterable[Number], documents: Mapping[str, Document], issued: Mapping[int, Issued]
) -> Iterator[Fault]:
    """What is wrong with some numbers in a row. `documents` are by number, `issued` by ordinal, also of the one before
    the first.
    """
    for number in numbers:
        document, kept = documents.get(str(number)), issued.get(number.ordinal)
        before = issued.get(number.ordinal - 1)
        if document is None:
            kind = FaultKind.MISSING
        elif kept is None:
            kind = FaultKind.UNCHAINED
        elif kept.document_id != document.id or kept.content_hash != hash_of(document):
            kind = FaultKind.ALTERED
        elif kept.link != link(None if before is None else before.link, kept.content_hash):
            kind = FaultKind.BROKEN
        else:
            continue
        yield Fault(number=number, kind=kind, document=document)


def link(before: bytes | None, content_hash: bytes) -> bytes:
    return hashlib.sha256((BEGINNING if before is None else before) + content_hash).digest()


def hash_of(document: Document) -> bytes:
    """SHA-256 of the content: UTF-8, without spaces, members in order of their names (RFC 8785). Every value is a text,
    so no two programs write it differently.
    """
    content = _note_content(document) if isinstance(document, CreditNote) else content_of(document)
    return hashlib.sha256(canonical(content).encode()).digest()


def canonical(content: Mapping[str, object]) -> str:
    """As RFC 8785 writes it, as long as all values are texts."""
    return _CANONICAL.encode(content)


def content_of(invoice: Invoice) -> dict[str, object]:
    """What a document says for good. Not what becomes of it: paid, overdue."""
    assert invoice.seller is not None, "only what is finalized is issued"
    assert invoice.customer is not None, "as above"
    return {
        "version": str(CONTENT_VERSION),
        "id": invoice.id,
        "number": invoice.number,
        "customer_id": invoice.customer_id,
        "seller": _seller(invoice.seller),
        "customer": _party(invoice.customer),
        "currency": invoice.currency,
        "total_minor": str(invoice.total.minor),
        "collection_method": invoice.collection_method.name,
        "time_zone": invoice.time_zone,
        "bill_time": _instant(invoice.bill_time),
        "finalize_time": _instant(invoice.finalize_time),
        "due_time": _instant(invoice.due_time),
        "lines": [_line(line) for line in invoice.lines],
        **_telling(
            discount_minor=_minor(invoice.discount_total),
            tax_minor=_minor(invoice.tax_total),
            taxes=[_tax(tax) for tax in invoice.taxes],
            rounding_minor=_minor(invoice.rounding),
            credit_applied_minor=_minor(invoice.credit_applied),
            memo=invoice.memo,
            purchase_order=invoice.purchase_order,
            section_names=dict(invoice.section_names),
        ),
    }


def _note_content(note: CreditNote) -> dict[str, object]:
    """As of an invoice. Not whether its refund was paid."""
    return {
        "version": str(CONTENT_VERSION),
        "id": note.id,
        "number": note.number,
        "kind": note.kind.name,
        "invoice_id": note.invoice_id,
        "invoice_number": note.invoice_number,
        "customer_id": note.customer_id,
        "seller": _party(note.seller),
        "customer": _party(note.customer),
        "reason": note.reason.name,
        "memo": note.memo,
        "currency": note.currency,
        "total_minor": str(note.total.minor),
        "debt_minor": str(note.settlement.debt.minor),
        "customer_credit_minor": str(note.settlement.customer_credit.minor),
        "refund_minor": str(note.settlement.refund.minor),
        "time_zone": note.time_zone,
        "issue_time": _instant(note.issue_time),
        "lines": [_credit_line(line) for line in note.lines],
        **_telling(
            discount_minor=_minor(note.taken.discount_total),
            tax_minor=_minor(note.taken.tax_total),
            taxes=[_tax(tax) for tax in note.taken.taxes],
            rounding_minor=_minor(note.taken.rounding),
        ),
    }


def _credit_line(line: CreditLine) -> dict[str, str]:
    return {
        "line_id": line.line_id,
        "description": line.description,
        "quantity": "" if line.quantity is None else _plain(line.quantity),
        "unit_label": line.unit_label,
        "amount_minor": str(line.amount.minor),
        "discount_minor": str(line.discount.minor),
    }


def _telling(**members: object) -> dict[str, object]:
    """Those that say something."""
    return {name: value for name, value in members.items() if value}


def _minor(amount: Money) -> str:
    """Nothing is said of nothing."""
    return str(amount.minor) if amount.minor else ""


def _tax(tax: TaxLine) -> dict[str, str]:
    return {
        "name": tax.name,
        "category": tax.category,
        "percent": _plain(tax.percent),
        "taxable_minor": str(tax.taxable.minor),
        "amount_minor": str(tax.amount.minor),
        "is_included": "true" if tax.is_included else "false",
        "rate_id": tax.rate_id,
        "exemption_reason": tax.exemption_reason,
    }


def _line(line: Line) -> dict[str, object]:
    return {
        "id": line.id,
        "description": line.description,
        "subscription_id": line.subscription_id,
        "item_id": line.item_id,
        "price_id": line.price_id,
        "period_start": _instant(line.period.start),
        "period_end": _instant(line.period.end),
        "full_period_start": _instant(line.full_period.start),
        "full_period_end": _instant(line.full_period.end),
        "quantity": _plain(line.quantity),
        "unit_label": line.unit_label,
        "currency": line.amount.currency,
        "amount_minor": str(line.amount.minor),
        "exact_amount": _plain(line.exact_amount),
        "proration": f"{line.proration.numerator}/{line.proration.denominator}",
        "correction": str(line.correction),
        "kind": line.kind.name,
        "change_id": line.change_id,
        "steps": [_same_step(step) for step in line.steps],
        "usage": {} if line.usage is None else _usage(line.usage),
        **_telling(
            discounts=[_discount(each) for each in line.discounts],
            customer_id=line.customer_id,
            tax_code=line.tax_code,
            tax_rate_ids=list(line.tax_rate_ids),
        ),
    }


def _discount(discount: LineDiscount) -> dict[str, str]:
    return {
        "discount_id": discount.discount_id,
        "description": discount.description,
        "amount_minor": str(discount.amount.minor),
    }


def _step(step: RatingStep) -> dict[str, str]:
    told = {
        "quantity": step.quantity,
        "unit_price": step.unit_price,
        "amount": step.amount,
        "over": step.over,
        "up_to": step.up_to,
        "percent": step.percent,
        "package_size": step.package_size,
    }
    numbers = {name: _plain(number) for name, number in told.items() if number is not None}
    return {"kind": step.kind.name, "description": step.description, "cell": step.cell, **numbers}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "meter": usage.meter,
        "quantity": _plain(usage.quantity),
        "event_count": str(usage.event_count),
        "digest": usage.digest,
        "through_position": str(usage.through_position),
        "meter_versions": {meter: str(version) for meter, version in usage.meter_versions.items()},
    }


def _party(party: Party) -> dict[str, object]:
    """What is empty says nothing."""
    told = {name: getattr(party, name) for name in _PARTY if name != "address"}
    address = {} if party.address is None else {name: getattr(party.address, name) for name in _ADDRESS}
    return {**_telling(**told), "address": _telling(**address)}


@lru_cache(maxsize=KEPT)
def _instant(instant: datetime | None) -> str:
    assert instant is not None, "what is finalized has all of them"
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _plain(number: Decimal) -> str:
    """Without an exponent, and without zeros that say nothing: a database may keep more or fewer of them."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


_PARTY: Final = tuple(each.name for each in fields(Party))
_ADDRESS: Final = tuple(each.name for each in fields(Address))
_seller: Final = lru_cache(maxsize=KEPT)(_party)
_same_step: Final = lru_cache(maxsize=KEPT)(_step)
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
