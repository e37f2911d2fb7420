"""Looks ahead: what the customer's next invoice would be as of now. Nothing is stored."""

from __future__ import annotations

from datetime import timedelta

from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.consolidation import Bill, payable
from invoicing.domain.errors import TooManyLines
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.lines_due import lines_due
from invoicing.usecases import facts
from invoicing.usecases.bill_run import corrections_since


async def upcoming_invoice(desk: Desk, customer_id: str) -> Invoice:
    """Everything due and not billed, and what the next bill time will bring, with the usage so far."""
    async with desk.transaction() as tx:
        billing = await store.find_billing(tx, customer_id)
        now = tx.now
    next_bill_time = (await clients.schedule(desk, customer_id, after=now, through=now)).next_bill_time
    since = {customer_id: corrections_since(billing)}
    found = (await facts.gather(desk, since, through=next_bill_time or now, as_of=now, proven=False))[customer_id]
    if found.through < (next_bill_time or now):
        raise TooManyLines(f"too much is due for customer {customer_id} to be shown at once", customer=customer_id)
    async with desk.transaction() as tx:
        billed = await store.already_billed(tx, [each.key for each in found.periods])
    due = lines_due(found.periods, found.prices, found.usage, billed, as_of=now, next_bill_time=found.next_bill_time)
    currency = found.customer.currency
    in_currency = [each for each in due if each.line.amount.currency == currency]
    fitted = payable([each.line for each in in_currency])
    coming = [(each.bill_time, line) for each, line in zip(in_currency, fitted, strict=True) if line is not None]
    bill = Bill(
        currency=currency,
        bill_time=max((bill_time for bill_time, _ in coming), default=now),
        lines=tuple(line for _, line in coming),
    )
    draft = Invoice.draft(id=InvoiceId(""), customer=found.customer, bill=bill, at=now, grace=timedelta())
    return draft.looked_ahead()
