"""Answers the cases about what a customer has to his credit: how it is taken off an invoice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from common import wire
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionChange
from tests.conformance.agreements import agree, customer_in, flat_price
from tests.conformance.case import Answer, Json
from tests.conformance.rooms import Rooms

NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
YEARLY: Final = BillingInterval(unit=BillingInterval.YEAR, count=1)


async def applied(given: Json, rooms: Rooms) -> Answer:
    """Each credit is of something that was billed and ended at once; then comes an invoice with these lines."""
    currency = given["currency"]
    async with rooms.at(NOW) as sandbox:
        customer = await customer_in(sandbox, zone="UTC", currency=currency)
        credited = [
            await agree(sandbox, flat_price(amount, YEARLY, currency=currency), start=NOW, customer=customer)
            for amount in given["credits"]
        ]
        await sandbox.quiet()
        for each in credited:
            await each.end(NOW, unused=SubscriptionChange.CREDIT)
        await sandbox.quiet()
        before = {invoice.id for invoice in await sandbox.invoices(customer)}
        prices = [
            flat_price(amount, YEARLY, code=f"line-{n}", currency=currency) for n, amount in enumerate(given["lines"])
        ]
        await agree(sandbox, *prices, start=NOW, customer=customer)
        await sandbox.quiet()
        [invoice] = [each for each in await sandbox.invoices(customer) if each.id not in before]
    assert isinstance(invoice, Invoice)
    taken = [line.amount for line in invoice.line_items if line.kind == LineItem.CREDIT]
    return {
        "used": [-wire.parse_money(each, field="amount").amount for each in taken],
        "remaining_due": wire.parse_money(invoice.total, field="total").amount,
    }
