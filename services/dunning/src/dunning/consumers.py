"""Facts from invoicing, and what dunning makes of them."""

from __future__ import annotations

from common.consumer import Handlers
from common.db import Tx
from dunning import usecases
from dunning.convert import overdue_invoice_from_proto
from saldo.invoicing.v1 import events_pb2 as invoicing


async def on_invoice_overdue(tx: Tx, event: invoicing.InvoiceOverdue) -> None:
    await usecases.start_campaign(tx, overdue_invoice_from_proto(event.invoice))


async def on_invoice_paid(tx: Tx, event: invoicing.InvoicePaid) -> None:
    await usecases.take_note_of_paid_invoice(tx, event.invoice.id)


HANDLERS: Handlers = {
    invoicing.InvoiceOverdue: on_invoice_overdue,
    invoicing.InvoicePaid: on_invoice_paid,
}
