"""Knows who may get the invoices of whom: one level, so that nobody has to be asked twice where an invoice goes."""

from __future__ import annotations

from subscriptions.domain.customer import Customer
from subscriptions.domain.errors import PayerHasPayer


def check_payer(customer: Customer, payer: Customer, *, pays_for_others: bool) -> None:
    """Raise unless the payer may get the customer's invoices, which itself may get those of others by now."""
    payer.check_active()
    payer.check_not_erased()
    if payer.payer_id:
        raise PayerHasPayer(
            f"the invoices of {payer.id} go to {payer.payer_id}", customer=payer.id, payer=payer.payer_id
        )
    if pays_for_others:
        raise PayerHasPayer(f"customer {customer.id} gets the invoices of others", customer=customer.id, payer=payer.id)
