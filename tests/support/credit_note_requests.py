"""Knows a valid request for every RPC that takes back what was billed, each of an invoice of its own."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.type.money_pb2 import Money

from saldo.catalog.v1.plan_pb2 import Plan
from saldo.invoicing.v1 import credit_notes_service_pb2 as credit_notes
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.credit_note_pb2 import CreditNote, CreditNoteSettlement
from saldo.invoicing.v1.invoice_pb2 import Fraction, Invoice
from tests.support.sandbox import Sandbox

CENT = Money(currency_code="EUR", nanos=10_000_000)


async def credit_note_requests(sandbox: Sandbox, plan: Plan) -> list[Message]:
    """Of the fee of a plan. What is credited is so little that many may ask for it."""
    to_credit = await _invoice(sandbox, plan, "credited")
    to_refund = await _invoice(sandbox, plan, "refunded", token="sim:ok")
    line_id = to_credit.line_items[0].id
    wanted = credit_notes.LineItemToCredit(line_item_id=line_id, amount=CENT)
    note = await sandbox.client.credit_notes.CreateCreditNote(
        credit_notes.CreateCreditNoteRequest(
            invoice_id=to_refund.id,
            reason=CreditNote.PRODUCT_UNSATISFACTORY,
            preference=credit_notes.CreateCreditNoteRequest.REFUND_FIRST,
        )
    )
    why: Any = {"reason": CreditNote.OTHER, "memo": "Fuzzed"}  # Any: fields of several messages
    return [
        credit_notes.CreateCreditNoteRequest(
            invoice_id=to_credit.id,
            line_items=[wanted],
            settlement=CreditNoteSettlement(debt_amount=CENT),
            **why,
        ),
        credit_notes.PreviewCreditNoteRequest(
            invoice_id=to_credit.id,
            line_items=[
                credit_notes.LineItemToCredit(line_item_id=line_id, share=Fraction(numerator=1, denominator=2_000))
            ],
            **why,
        ),
        credit_notes.GetCreditNoteRequest(id=note.id),
        credit_notes.ListCreditNotesRequest(customer_id=note.customer_id, invoice_id=note.invoice_id, page_size=10),
        credit_notes.GetCreditNoteDocumentRequest(id=note.id),
        credit_notes.RecordRefundRequest(id=note.id, amount=CENT, reference="re_fuzzed"),
        invoicing.VoidInvoiceRequest(id=(await _invoice(sandbox, plan, "voided")).id, **why),
        invoicing.ReissueInvoiceRequest(id=(await _invoice(sandbox, plan, "reissued")).id, **why),
        invoicing.MarkInvoiceUncollectibleRequest(id=(await _invoice(sandbox, plan, "given-up")).id),
    ]


async def _invoice(sandbox: Sandbox, plan: Plan, name: str, *, token: str = "") -> Invoice:
    customer = await sandbox.customer(name, token=token, by_hand=not token)
    await sandbox.subscribe(
        customer, plan, quantities={price.code: "" if price.meter else "1" for price in plan.prices}
    )
    await sandbox.quiet()
    (invoice,) = await sandbox.invoices(customer)
    return invoice
