"""Knows what an invoice was made of, and whether what comes of that once more is the same invoice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from common.money import sum_money
from invoicing.domain.invoice import Invoice
from invoicing.domain.issued import canonical, content_of, hash_of
from invoicing.domain.late_usage import credited_in, refused_in
from invoicing.domain.line import Line
from invoicing.domain.lines_due import Billed

DIFFERENCES_MAX: Final = 100

_TERMS: Final = (
    *("version", "id", "number", "customer_id", "seller", "customer", "currency", "collection_method", "time_zone"),
    *("bill_time", "finalize_time", "due_time", "rounding_minor", "credit_applied_minor"),
    *("memo", "purchase_order", "section_names"),
)
_OF_A_LINE: Final = (
    *("id", "description", "unit_label", "kind", "subscription_id", "item_id", "price_id", "change_id"),
    *("period_start", "period_end", "full_period_start", "full_period_end", "proration", "correction", "usage"),
    *("discounts", "tax_code", "tax_rate_ids"),
)
"""What stands on a document and was not computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A place at which two documents do not say the same; None where one says nothing."""

    path: str
    stored: str | None
    replayed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    number: str
    manifest: str
    issued_hash: bytes | None
    """Of what was issued; None if that was not kept."""
    replayed_hash: bytes
    is_identical: bool
    differences: tuple[Difference, ...]

    @property
    def manifest_hash(self) -> bytes:
        return hashlib.sha256(self.manifest.encode()).digest()


def compared(stored: Invoice, replayed: Invoice, *, issued_hash: bytes | None, before: Mapping[str, Billed]) -> Replay:
    """`before`: what was billed before each line, by its id."""
    replayed_hash = hash_of(replayed)
    differences = tuple(islice(_differences("", content_of(stored), content_of(replayed)), DIFFERENCES_MAX))
    return Replay(
        number=stored.number,
        manifest=canonical(_manifest(stored, before)),
        issued_hash=issued_hash,
        replayed_hash=replayed_hash,
        is_identical=not differences and issued_hash in (None, replayed_hash),
        differences=differences,
    )


def billed_before(lines: Sequence[Line]) -> Billed:
    return Billed(
        amount=sum_money((line.amount for line in lines), lines[0].amount.currency),
        usage=lines[-1].usage,
        correction=lines[-1].correction,
        is_final=True,
    )


def _manifest(invoice: Invoice, before: Mapping[str, Billed]) -> dict[str, object]:
    content = content_of(invoice)
    told, taxes = content["lines"], content.get("taxes", [])
    assert isinstance(told, list), "a document has lines"
    assert isinstance(taxes, list), "as above"
    # What they come to is computed.
    rates = [{name: tax[name] for name in tax.keys() - {"taxable_minor", "amount_minor"}} for tax in taxes]
    return {
        **{name: content[name] for name in _TERMS if name in content},
        **({"tax_rates": rates} if rates else {}),
        "lines": [_line(each, line, before.get(line.id)) for each, line in zip(told, invoice.lines, strict=True)],
    }


def _line(told: Mapping[str, object], line: Line, before: Billed | None) -> dict[str, object]:
    made_of = {name: told[name] for name in _OF_A_LINE if name in told}
    if line.usage is None:
        made_of["quantity"] = told["quantity"]
    if before is not None:
        made_of["billed_before_minor"] = str(before.amount.minor)
    refused = refused_in(line)
    if refused is not None:
        made_of["refused_before_minor"] = str(refused.minor)
    credited = credited_in(line)
    if credited is not None:
        made_of["credited_before_minor"] = str(credited.minor)
    return made_of


def _differences(path: str, stored: object, replayed: object) -> Iterator[Difference]:
    if isinstance(stored, dict) and isinstance(replayed, dict):
        for name in sorted(stored.keys() | replayed.keys()):
            inside = f"{path}.{name}" if path else name
            yield from _differences(inside, stored.get(name), replayed.get(name))
    elif isinstance(stored, list) and isinstance(replayed, list):
        for n in range(max(len(stored), len(replayed))):
            inside = (each[n] if n < len(each) else None for each in (stored, replayed))
            yield from _differences(f"{path}[{n}]", *inside)
    elif stored != replayed:
        yield Difference(path=path, stored=_text(stored), replayed=_text(replayed))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else canonical({"": value})[4:-1]
