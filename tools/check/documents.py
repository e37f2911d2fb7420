"""Invariants of what was issued: every document says what it said then, and follows from the one before.

The content of a document is put together here once more, from the rows: as JSON whose values are all texts, in the form
of RFC 8785. A link is SHA-256 of the link before it and of the SHA-256 of the content; before the first there are 32
bytes of zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

VERSION: Final = "1"
NOTHING: Final = bytes(32)

_AMOUNTS: Final = ("discount_minor", "tax_minor", "rounding_minor", "credit_applied_minor")
_STEP_NUMBERS: Final = ("quantity", "unit_price", "amount", "over", "up_to", "percent", "package_size")


def documents_chained(records: Records, tally: Tally) -> None:
    """What was issued before documents were linked has no link, and is looked at by the other invariants only."""
    kept = {
        (row["seller_id"], row["series"], row["ordinal"]): row for row in records.rows("invoicing", "issued_documents")
    }
    invoices = {(row["seller_id"], row["id"]): row for row in records.rows("invoicing", "invoices")}
    notes = {(row["seller_id"], row["id"]): row for row in records.rows("invoicing", "credit_notes")}
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    note_lines = records.by("invoicing", "credit_note_lines", "credit_note_id")
    issued = {row["credit_note_id"] for row in kept.values()}
    for (seller_id, series, ordinal), row in sorted(kept.items()):
        number = f"{series}-{ordinal:06d}"
        is_note = row["kind"] == "CREDIT_NOTE"
        document_id = row["credit_note_id"] if is_note else row["invoice_id"]
        document = (notes if is_note else invoices).get((seller_id, document_id))
        if document is None or document["number"] != number:
            tally.check(False, f"{seller_id} {number} was issued as {document_id}, which has it no more")
            continue
        own = sorted(
            (note_lines if is_note else lines).get(document["id"], ()),
            key=lambda line: line["position"],
        )
        content = _note(document, own) if is_note else _invoice(document, own)
        tally.check(row["content_hash"] == _hash(content), f"{document['id']} {number} says something else")
        before = kept.get((seller_id, series, ordinal - 1))
        link = hashlib.sha256((NOTHING if before is None else before["link"]) + row["content_hash"]).digest()
        tally.check(row["link"] == link, f"{document['id']} {number} does not follow from the number before")
    for _, note_id in notes:
        # All of them were linked, from the first.
        tally.check(note_id in issued, f"{note_id} was never linked")


def sections_named(records: Records, tally: Tally) -> None:
    """An invoice that was issued before names were kept has none."""
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        names = json.loads(invoice["section_names"])
        if invoice["state"] == "DRAFT" or not names:
            continue
        own = lines.get(invoice["id"], ())
        users = {line["customer_id"] for line in own} - {""}
        subscriptions = {line["subscription_id"] for line in own} - {""}
        told = f"{invoice['id']} calls its sections {', '.join(sorted(names))}"
        tally.check(users <= names.keys() <= users | subscriptions and all(names.values()), told)
        tally.check(bool(users) or len(subscriptions) > 1, f"{invoice['id']} has names for sections and no sections")


def _hash(content: Mapping[str, object]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _note(note: Row, lines: list[Row]) -> dict[str, object]:
    return {
        "version": VERSION,
        **{
            name: note[name]
            for name in (
                *("id", "number", "kind", "invoice_id", "invoice_number", "customer_id", "reason", "memo"),
                *("currency", "time_zone"),
            )
        },
        "seller": _party(json.loads(note["seller_party"])),
        "customer": _party(json.loads(note["customer_party"])),
        **{name: str(note[name]) for name in ("total_minor", "debt_minor", "customer_credit_minor", "refund_minor")},
        "issue_time": _instant(note["issue_time"]),
        "lines": [
            {
                **{name: line[name] for name in ("line_id", "description", "unit_label")},
                **{name: str(line[name]) for name in ("amount_minor", "discount_minor")},
                "quantity": "" if line["quantity"] is None else _plain(line["quantity"]),
            }
            for line in lines
        ],
        **_telling(
            {
                **{
                    name: str(note[name]) if note[name] else ""
                    for name in ("discount_minor", "tax_minor", "rounding_minor")
                },
                "taxes": [_texts(tax) for tax in json.loads(note["taxes"])],
            }
        ),
    }


def _invoice(invoice: Row, lines: list[Row]) -> dict[str, object]:
    return {
        "version": VERSION,
        **{
            name: invoice[name]
            for name in ("id", "number", "customer_id", "currency", "collection_method", "time_zone")
        },
        "seller": _party(json.loads(invoice["seller_party"])),
        "customer": _party(json.loads(invoice["customer_party"])),
        "total_minor": str(invoice["total_minor"]),
        **{name: _instant(invoice[name]) for name in ("bill_time", "finalize_time", "due_time")},
        "lines": [_line(line) for line in lines],
        **_telling(
            {
                **{name: str(invoice[name]) if invoice[name] else "" for name in _AMOUNTS},
                "memo": invoice["memo"],
                "purchase_order": invoice["purchase_order"],
                "section_names": json.loads(invoice["section_names"]),
                "taxes": [_texts(tax) for tax in json.loads(invoice["taxes"])],
            }
        ),
    }


def _line(line: Row) -> dict[str, object]:
    return {
        **{
            name: line[name]
            for name in (
                *("id", "description", "subscription_id", "item_id", "price_id", "unit_label", "currency", "kind"),
                "change_id",
            )
        },
        **{
            name: _instant(line[name])
            for name in ("period_start", "period_end", "full_period_start", "full_period_end")
        },
        "quantity": _plain(line["quantity"]),
        "exact_amount": _plain(line["exact_amount"]),
        "amount_minor": str(line["amount_minor"]),
        "proration": f"{line['proration_numerator']}/{line['proration_denominator']}",
        "correction": str(line["correction"]),
        "steps": [_step(step) for step in json.loads(line["rating_steps"])],
        "usage": _usage(line) if line["meter"] else {},
        **_telling(
            {
                "discounts": [_texts(each) for each in json.loads(line["discounts"])],
                "customer_id": line["customer_id"],
                "tax_code": line["tax_code"],
                "tax_rate_ids": line["tax_rate_ids"],
            }
        ),
    }


def _telling(members: Mapping[str, object]) -> dict[str, object]:
    """What was added to the content later is left out where it says nothing."""
    return {name: value for name, value in members.items() if value}


def _texts(stored: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON
    numbers = {name: _plain(Decimal(value)) for name, value in stored.items() if name == "percent"}
    truths = {name: "true" if value else "false" for name, value in stored.items() if isinstance(value, bool)}
    return {**{name: str(value) for name, value in stored.items()}, **numbers, **truths}


def _step(step: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON
    numbers = {name: _plain(Decimal(step[name])) for name in _STEP_NUMBERS if step.get(name) is not None}
    kind = step.get("kind", "KIND_UNSPECIFIED")
    return {"kind": kind, "description": step["description"], "cell": step.get("cell", ""), **numbers}


def _usage(line: Row) -> dict[str, object]:
    versions = json.loads(line["usage_meter_versions"] or "{}")
    return {
        "meter": line["meter"],
        "quantity": _plain(line["usage_quantity"]),
        "event_count": str(line["usage_event_count"]),
        "digest": line["usage_digest"],
        "through_position": str(line["usage_through_position"]),
        "meter_versions": {meter: str(version) for meter, version in versions.items()},
    }


def _party(party: Mapping[str, Any]) -> dict[str, object]:  # Any: JSON
    address = {name: value for name, value in (party["address"] or {}).items() if value}
    return {**{name: value for name, value in party.items() if value and name != "address"}, "address": address}


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


INVARIANTS: Final = (
    Invariant(
        name="issued documents say what they said, each linked to the one before",
        needs=("invoicing",),
        verify=documents_chained,
    ),
    Invariant(
        name="the sections of an invoice are called what its lines are about",
        needs=("invoicing",),
        verify=sections_named,
    ),
)
