"""Notes which invoices are past their due time, once each."""

from __future__ import annotations

from common.db import Tx
from invoicing import store
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.invoice import InvoiceId
from saldo.invoicing.v1 import events_pb2 as events


async def mark_overdue(tx: Tx, invoice_id: str) -> None:
    owed = await store.invoice(tx, InvoiceId(invoice_id), lock=True)
    if owed.overdue_from is None or tx.now < owed.overdue_from:
        return  # paid while the job was on its way
    invoice = owed.mark_overdue(at=tx.now)
    await store.save_invoice(tx, invoice)
    await tx.emit(events.InvoiceOverdue(invoice=invoice_for_event(invoice)))
