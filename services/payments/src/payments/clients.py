"""What payments asks of its neighbours, as functions; never inside a transaction."""

from __future__ import annotations

from common import wire
from common.rpc import Desk, NeighbourRefused
from payments.domain.errors import InvoiceNotFound, InvoiceNotIssued
from payments.domain.outside import Owed
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub


async def owed(desk: Desk, invoice_id: str) -> Owed:
    """What an invoice is owed for; or INVOICE_NOT_FOUND, or INVOICE_NOT_ISSUED for a draft."""
    try:
        invoice = await desk.ask(InvoicingServiceStub).GetInvoice(invoicing.GetInvoiceRequest(id=invoice_id))
    except NeighbourRefused as error:
        if error.metadata.get("neighbour_reason") == "INVOICE_NOT_FOUND":
            raise InvoiceNotFound(f"there is no invoice {invoice_id}", invoice=invoice_id) from error
        raise
    if invoice.state == Invoice.DRAFT:
        raise InvoiceNotIssued(f"invoice {invoice_id} is a draft", invoice=invoice_id)
    return Owed(
        invoice_id=invoice.id,
        invoice_number=invoice.number,
        customer_id=invoice.customer_id,
        remaining=wire.parse_money(invoice.amount_remaining, field="amount_remaining"),
        is_to_be_collected=invoice.state == Invoice.OPEN and invoice.collection_method == Invoice.CHARGE_AUTOMATICALLY,
    )
