"""One request for each RPC about invoices that are written by hand, that names only things which exist."""

from __future__ import annotations

from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal

from saldo.invoicing.v1 import manual_invoice_pb2
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1.invoice_pb2 import GivenDiscount
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox


async def manual_requests(sandbox: Sandbox, payer: Customer) -> list[Message]:
    three = Decimal(value="3")
    by_hand = manual_invoice_pb2.ManualLine(
        description="Work",
        quantity=three,
        unit_price=Decimal(value="80"),
        discounts=[GivenDiscount(description="Friends", percent=Decimal(value="10"))],
    )
    written = await sandbox.client.manual_invoices.CreateInvoice(
        manual.CreateInvoiceRequest(customer_id=payer.id, lines=[by_hand])
    )
    pending = await sandbox.client.manual_invoices.CreatePendingLine(
        manual.CreatePendingLineRequest(customer_id=payer.id, line=by_hand)
    )
    return [
        manual.CreateInvoiceRequest(customer_id=payer.id, lines=[by_hand], discounts=by_hand.discounts),
        manual.AddInvoiceLineRequest(invoice_id=written.id, line=by_hand),
        manual.UpdateInvoiceLineRequest(invoice_id=written.id, line_id=written.line_items[0].id, line=by_hand),
        manual.RemoveInvoiceLineRequest(invoice_id=written.id, line_id=written.line_items[0].id),
        manual.DeleteInvoiceRequest(id=written.id),
        manual.CreatePendingLineRequest(customer_id=payer.id, line=by_hand),
        manual.ListPendingLinesRequest(customer_id=payer.id, page_size=10),
        manual.DeletePendingLineRequest(id=pending.id),
    ]
