"""Customers to whom lines of tests can go."""

from __future__ import annotations

from collections.abc import Mapping

from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.party import CollectionMethod, Customer, Party


def customer(
    customer_id: str,
    *,
    net_terms_days: int = 14,
    collection_method: CollectionMethod = CollectionMethod.SEND_INVOICE,
    purchase_order: str = "",
    custom_fields: Mapping[str, str] | None = None,
) -> Customer:
    return Customer(
        party=Party(id=customer_id, display_name=customer_id),
        external_id="",
        currency="EUR",
        time_zone="UTC",
        net_terms_days=net_terms_days,
        collection_method=collection_method,
        purchase_order=purchase_order,
        custom_fields=custom_fields or {},
    )


NOTHING_DECLARED = Arrangement(customers={"": customer("")})
"""For lines that name nobody, because the test is not about that."""
