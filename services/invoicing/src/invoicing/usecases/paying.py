"""Takes in payments: each one once. What is more than is owed becomes credit of the customer."""

from __future__ import annotations

from datetime import datetime

from common.db import Tx
from common.money import Money
from invoicing import store
from invoicing.convert.invoice import invoice_for_event
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.ledger import entries_of_payment
from invoicing.usecases import credit, top_ups
from saldo.invoicing.v1 import events_pb2 as events


async def take_payment(
    tx: Tx, *, payment_id: str, invoice_id: InvoiceId, amount: Money, paid_time: datetime | None = None
) -> None:
    """Settle an invoice with a payment that succeeded; a payment that is known already changes nothing. It is booked
    now, whenever the money came in; `paid_time` is told when that was before.
    """
    owed = await store.invoice(tx, invoice_id, lock=True)
    settling = owed.takes_of(amount)
    overpaid = amount - settling
    if not await store.remember_payment(
        tx,
        payment_id=payment_id,
        invoice_id=invoice_id,
        amount=settling,
        overpaid=overpaid,
        paid_time=paid_time or tx.now,
    ):
        return
    if settling.minor:
        invoice = owed.pay(settling, at=tx.now)
        await store.save_invoice(tx, invoice)
        recovered = owed.amount_written_off - invoice.amount_written_off
        entries = entries_of_payment(invoice, payment_id=payment_id, amount=settling, at=tx.now, recovered=recovered)
        await store.add_entries(tx, entries)
        if invoice.state is State.PAID:
            await tx.emit(events.InvoicePaid(invoice=invoice_for_event(invoice)))
            await top_ups.settle(tx, invoice)
    if overpaid.minor:
        await credit.give_overpaid(tx, owed, overpaid, payment_id=payment_id)
