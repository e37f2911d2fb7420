"""Facts from invoicing and payments, and what dunning makes of them."""

from __future__ import annotations

from common import wire
from common.consumer import Handlers
from common.db import Tx
from dunning import usecases
from dunning.convert import overdue_invoice_from_proto
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.payments.v1 import events_pb2 as payments


async def on_invoice_overdue(tx: Tx, event: invoicing.InvoiceOverdue) -> None:
    await usecases.start_campaign(tx, overdue_invoice_from_proto(event.invoice))


async def on_invoice_paid(tx: Tx, event: invoicing.InvoicePaid) -> None:
    await usecases.take_note_of_paid_invoice(tx, event.invoice.id)


async def on_invoice_called_off(tx: Tx, event: invoicing.InvoiceVoided | invoicing.InvoiceMarkedUncollectible) -> None:
    await usecases.take_note_of_called_off_invoice(tx, event.invoice.id)


async def on_payment_method_attached(tx: Tx, event: payments.PaymentMethodAttached) -> None:
    method = event.payment_method
    attached = wire.parse_timestamp(method.create_time, field="payment_method.create_time")
    await usecases.try_new_payment_method(tx, method.customer_id, attached=attached)


HANDLERS: Handlers = {
    invoicing.InvoiceOverdue: on_invoice_overdue,
    invoicing.InvoicePaid: on_invoice_paid,
    invoicing.InvoiceVoided: on_invoice_called_off,
    invoicing.InvoiceMarkedUncollectible: on_invoice_called_off,
    payments.PaymentMethodAttached: on_payment_method_attached,
}
