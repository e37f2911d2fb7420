"""Gathers what is told on paper of an invoice beside what it said when it was issued."""

from __future__ import annotations

from common.db import Tx
from invoicing import store
from invoicing.documents.since import Since
from invoicing.domain.invoice import Invoice


async def since_issued(tx: Tx, invoice: Invoice) -> Since:
    """What was paid and credited by now."""
    return Since(
        as_of=tx.now,
        payments=await store.received_for(tx, invoice),
        notes=await store.credit_notes_of(tx, invoice.id),
    )
