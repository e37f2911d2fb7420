"""The facts payments listens to: invoices that are owed, of which less is owed, and that no longer are."""

from __future__ import annotations

from typing import Final, Protocol

from common import wire
from common.consumer import Handlers
from common.db import Tx
from payments import usecases
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice


class AboutInvoice(Protocol):
    """Any event that carries an invoice."""

    @property
    def invoice(self) -> Invoice: ...


async def on_invoice_finalized(tx: Tx, event: invoicing.InvoiceFinalized) -> None:
    invoice = event.invoice
    amount = wire.parse_money(invoice.amount_remaining, field="invoice.amount_remaining")
    if invoice.state == Invoice.OPEN and _collected_here(invoice) and amount.minor > 0:
        await usecases.want_payment(
            tx,
            invoice_id=invoice.id,
            invoice_number=invoice.number,
            customer_id=invoice.customer_id,
            amount=amount,
        )
    await usecases.tell_recorded(tx, invoice.id)


async def on_invoice_credited(tx: Tx, event: invoicing.InvoiceCredited) -> None:
    """If nothing remains, or nobody hopes for it any more, another event says so."""
    invoice = event.invoice
    amount = wire.parse_money(invoice.amount_remaining, field="invoice.amount_remaining")
    if invoice.HasField("amount_paid"):
        amount += wire.parse_money(invoice.amount_paid, field="invoice.amount_paid")
    if invoice.state == Invoice.OPEN and _collected_here(invoice) and amount.minor > 0:
        await usecases.want_less(tx, invoice_id=invoice.id, customer_id=invoice.customer_id, amount=amount)


async def on_invoice_ended(tx: Tx, event: AboutInvoice) -> None:
    invoice = event.invoice
    # The release before knows of no credit that may have been taken up.
    due = wire.parse_money(invoice.amount_due if invoice.HasField("amount_due") else invoice.total, field="amount_due")
    if _collected_here(invoice) and due.minor > 0:
        await usecases.settle_invoice(tx, invoice_id=invoice.id, customer_id=invoice.customer_id, amount=due)


def _collected_here(invoice: Invoice) -> bool:
    return invoice.collection_method == Invoice.CHARGE_AUTOMATICALLY


HANDLERS: Final[Handlers] = {
    invoicing.InvoiceFinalized: on_invoice_finalized,
    invoicing.InvoiceCredited: on_invoice_credited,
    invoicing.InvoicePaid: on_invoice_ended,
    invoicing.InvoiceVoided: on_invoice_ended,
    invoicing.InvoiceMarkedUncollectible: on_invoice_ended,
}
