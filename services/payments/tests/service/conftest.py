"""Payments running alone: invoices are announced as invoicing would announce them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.type import money_pb2

from common import ids
from common.testing import SANDBOX_START, Suite
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.payments.v1 import events_pb2, payment_method_pb2, payment_pb2
from saldo.payments.v1 import payments_service_pb2 as pb
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub

from .localstripe import LocalStripe, running

GBP_64_16 = money_pb2.Money(currency_code="GBP", units=64, nanos=160_000_000)


@dataclass
class Collecting:
    """A customer, invoices, and payments at work on them."""

    suite: Suite
    stub: Any = None  # Any: grpc stubs are generated
    customer: str = field(default_factory=lambda: ids.mint("cus", SANDBOX_START))

    async def start(self, **settings: object) -> Collecting:
        await self.suite.start("payments", **settings)
        self.stub = self.suite.stub(PaymentsServiceStub, "payments")
        return self

    async def attach(self, token: str, *, gateway: str = "simulated") -> payment_method_pb2.PaymentMethod:
        method: payment_method_pb2.PaymentMethod = await self.stub.AttachPaymentMethod(
            pb.AttachPaymentMethodRequest(customer_id=self.customer, gateway=gateway, token=token)
        )
        return method

    def invoice(self, **changes: Any) -> Invoice:  # Any: fields of the message
        """One that is owed and to be collected, unless said otherwise."""
        invoice = Invoice(
            id=ids.mint("inv", SANDBOX_START),
            state=Invoice.OPEN,
            customer_id=self.customer,
            total=GBP_64_16,
            amount_remaining=GBP_64_16,
            collection_method=Invoice.CHARGE_AUTOMATICALLY,
            revision=2,
        )
        for name, value in changes.items():
            if isinstance(value, money_pb2.Money):
                getattr(invoice, name).CopyFrom(value)
            else:
                setattr(invoice, name, value)
        return invoice

    async def owe(self, invoice: Invoice | None = None) -> str:
        """Announce an invoice as final, and let happen what follows from it; its id."""
        invoice = invoice or self.invoice()
        await self.suite.announce(invoicing.InvoiceFinalized(invoice=invoice), source="invoicing")
        await self.suite.quiet()
        return invoice.id

    async def pay_otherwise(self, invoice: Invoice) -> None:
        paid = Invoice()
        paid.CopyFrom(invoice)
        paid.state = Invoice.PAID
        paid.amount_remaining.CopyFrom(money_pb2.Money(currency_code="GBP"))
        await self.suite.announce(invoicing.InvoicePaid(invoice=paid), source="invoicing")
        await self.suite.quiet()

    async def payment(self, invoice_id: str) -> payment_pb2.Payment:
        found: payment_pb2.Payment = await self.stub.GetPayment(pb.GetPaymentRequest(invoice_id=invoice_id))
        return found

    async def retry(self, invoice_id: str) -> payment_pb2.Payment:
        retried: payment_pb2.Payment = await self.stub.RetryPayment(pb.RetryPaymentRequest(invoice_id=invoice_id))
        await self.suite.quiet()
        return retried

    def succeeded(self) -> list[payment_pb2.Payment]:
        return [event.payment for event in self.suite.announced(events_pb2.PaymentSucceeded)]

    def failed(self) -> list[payment_pb2.Payment]:
        return [event.payment for event in self.suite.announced(events_pb2.PaymentFailed)]

    def cancelled(self) -> list[payment_pb2.Payment]:
        return [event.payment for event in self.suite.announced(events_pb2.PaymentCancelled)]

    async def captures(self) -> list[asyncpg.Record]:
        """What the gateway itself has on record of the seller, in its own database."""
        connection = await asyncpg.connect(self.suite.reading_urls["simulated_gateway"].replace("+asyncpg", ""))
        try:
            if not await connection.fetchval("SELECT to_regclass('captures')"):
                return []
            return list(
                await connection.fetch(
                    "SELECT * FROM captures WHERE seller_id = $1 ORDER BY create_time", self.suite.seller
                )
            )
        finally:
            await connection.close()

    async def captured(self) -> list[tuple[str, int]]:
        """Which attempts have captured, and how much."""
        rows = await self.captures()
        return [(row["attempt_id"], row["amount_minor"]) for row in rows if row["outcome"] == "CAPTURED"]


@pytest_asyncio.fixture
async def collecting(suite: Suite) -> AsyncIterator[Collecting]:
    yield await Collecting(suite).start()


@pytest.fixture(scope="session")
def stripe_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStripe]:
    with running(tmp_path_factory.mktemp("localstripe")) as found:
        yield found


@pytest.fixture
def localstripe(stripe_process: LocalStripe) -> LocalStripe:
    """A line to localstripe on which nothing has happened yet."""
    stripe_process.keys.clear()
    stripe_process.faults.clear()
    return stripe_process
