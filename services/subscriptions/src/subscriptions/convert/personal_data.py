"""Knows the document in which a person reads what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from subscriptions.convert.customer import customer_to_proto
from subscriptions.convert.tax_id import tax_id_to_proto
from subscriptions.domain.customer import Customer
from subscriptions.domain.tax_id import TaxId
from subscriptions.store.personal_data import SubscriptionTimes

CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept of one customer."""

    customer: Customer
    tax_ids: Sequence[TaxId]
    subscriptions: Sequence[SubscriptionTimes]


def export_document(own: Kept, merged: Sequence[Kept]) -> bytes:
    """The same data give the same bytes."""
    document = {**_section(own), "merged_customers": [_section(each) for each in merged]}
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"


def _section(kept: Kept) -> dict[str, object]:
    return {
        "customer": _document(customer_to_proto(kept.customer)),
        "tax_ids": [_document(tax_id_to_proto(each)) for each in kept.tax_ids],
        "subscriptions": [
            {
                "id": each.id,
                "state": each.state,
                "create_time": _instant(each.create_time),
                "start_time": _instant(each.start_time),
                "end_time": _instant(each.end_time) if each.end_time else None,
            }
            for each in kept.subscriptions
        ],
    }


def _document(message: Message) -> dict[str, Any]:  # Any: whatever JSON can hold
    return MessageToDict(message, preserving_proto_field_name=True)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
