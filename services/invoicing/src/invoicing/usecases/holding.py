"""Holds drafts back, releases them, and lets a seller say how invoices are to be issued."""

from __future__ import annotations

from common.db import Tx
from invoicing import store
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.issuing_policy import IssuingPolicy


async def hold_invoice(tx: Tx, invoice_id: InvoiceId, reason: str) -> Invoice:
    """Fails with INVOICE_NOT_FOUND, or INVOICE_NOT_DRAFT."""
    held = (await store.invoice(tx, invoice_id, lock=True)).hold(reason)
    await store.save_invoice(tx, held)
    return held


async def release_invoice(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    """It is finalized at once if its time has come. Fails with INVOICE_NOT_DRAFT, or INVOICE_NOT_HELD."""
    released = (await store.invoice(tx, invoice_id, lock=True)).release()
    await store.save_invoice(tx, released)
    return released


async def declare_policy(tx: Tx, policy: IssuingPolicy) -> IssuingPolicy:
    """For drafts that are made from now on."""
    return await store.save_issuing_policy(tx, policy)
