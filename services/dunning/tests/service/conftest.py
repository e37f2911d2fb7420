"""Running services around dunning, and somebody who owes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest_asyncio
from google.type import decimal_pb2, money_pb2, postal_address_pb2

from common import ids, wire
from common.caller import Role
from common.testing import SANDBOX_START, Suite
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2, seller_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.dunning.v1.dunning_service_pb2_grpc import DunningServiceStub
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1 import invoice_pb2
from saldo.payments.v1 import payment_pb2
from saldo.payments.v1 import payments_service_pb2 as payments
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

DAY = timedelta(days=1)
OWED = money_pb2.Money(currency_code="EUR", units=99)


def invoice(*, customer_id: str, subscription_ids: tuple[str, ...] = (), **changes: Any) -> invoice_pb2.Invoice:
    """As invoicing would announce it: two lines for each subscription, as for a fee and for usage."""
    found = invoice_pb2.Invoice(
        id=ids.mint("inv", SANDBOX_START),
        state=invoice_pb2.Invoice.OPEN,
        customer_id=customer_id,
        line_items=[invoice_pb2.LineItem(subscription_id=each) for each in (*subscription_ids, *subscription_ids)],
        total=OWED,
        amount_paid=money_pb2.Money(currency_code="EUR"),
        amount_remaining=OWED,
        collection_method=invoice_pb2.Invoice.CHARGE_AUTOMATICALLY,
        revision=3,
    )
    found.MergeFrom(invoice_pb2.Invoice(**changes))
    return found


def paid(owed: invoice_pb2.Invoice) -> invoice_pb2.Invoice:
    settled = invoice_pb2.Invoice()
    settled.CopyFrom(owed)
    settled.state = invoice_pb2.Invoice.PAID
    settled.amount_paid.CopyFrom(owed.total)
    settled.amount_remaining.CopyFrom(money_pb2.Money(currency_code="EUR"))
    settled.revision += 1
    return settled


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A seller with one customer, who has subscriptions and a payment method; and what may be done to it."""

    suite: Suite
    dunning: Any  # grpc stubs are generated
    payments: Any
    subscriptions: Any
    customer_id: str
    subscription_ids: tuple[str, ...]

    async def pay_with(self, token: str) -> None:
        await self.payments.AttachPaymentMethod(
            payments.AttachPaymentMethodRequest(customer_id=self.customer_id, gateway="simulated", token=token)
        )

    async def finalize(self, **changes: Any) -> invoice_pb2.Invoice:  # Any: fields of the message
        """An invoice is owed, and payments tries to collect it."""
        owed = invoice(customer_id=self.customer_id, subscription_ids=self.subscription_ids, **changes)
        await self.suite.announce(invoicing.InvoiceFinalized(invoice=owed), source="invoicing")
        await self.suite.quiet()
        return owed

    async def overdue(self, owed: invoice_pb2.Invoice) -> dunning_campaign_pb2.DunningCampaign:
        await self.suite.announce(invoicing.InvoiceOverdue(invoice=owed), source="invoicing")
        await self.suite.quiet()
        return await self.campaign(owed)

    async def settle(self, owed: invoice_pb2.Invoice) -> None:
        await self.suite.announce(invoicing.InvoicePaid(invoice=paid(owed)), source="invoicing")
        await self.suite.quiet()

    async def campaign(self, owed: invoice_pb2.Invoice) -> dunning_campaign_pb2.DunningCampaign:
        found: dunning_campaign_pb2.DunningCampaign = await self.dunning.GetDunningCampaign(
            pb.GetDunningCampaignRequest(invoice_id=owed.id)
        )
        return found

    async def attempts(self, owed: invoice_pb2.Invoice) -> int:
        payment = await self.payments.GetPayment(payments.GetPaymentRequest(invoice_id=owed.id))
        return len(payment.attempts)

    async def payment_is_processing(self, owed: invoice_pb2.Invoice) -> bool:
        payment = await self.payments.GetPayment(payments.GetPaymentRequest(invoice_id=owed.id))
        return bool(payment.state == payment_pb2.Payment.PROCESSING)

    async def subscription_states(self) -> list[int]:
        found = [
            await self.subscriptions.GetSubscription(subscriptions.GetSubscriptionRequest(id=each))
            for each in self.subscription_ids
        ]
        return [each.state for each in found]


@pytest_asyncio.fixture
async def dunning(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    """Dunning on its own: its neighbours are away."""
    await suite.start("dunning")
    yield suite.stub(DunningServiceStub, "dunning")


@pytest_asyncio.fixture
async def world(suite: Suite) -> AsyncIterator[World]:
    """Everybody but invoicing, which is told from the tests. The customer has two subscriptions."""
    await suite.start("catalog", "subscriptions", "payments", "dunning")
    yield await _settle(suite, token="sim:ok", net_terms_days=0, subscription_count=2)


@pytest_asyncio.fixture
async def whole_world(suite: Suite) -> AsyncIterator[World]:
    """All six. The first two attempts to collect are declined.

    The customer has one subscription: of two, the first may be on an invoice of its own before the second is there.
    """
    await suite.start("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
    platform = suite.stub(CatalogServiceStub, "catalog", role=Role.PLATFORM)
    seller = await platform.CreateSeller(
        catalog.CreateSellerRequest(
            mode=seller_pb2.Seller.SANDBOX,
            display_name="Teamware",
            address=postal_address_pb2.PostalAddress(region_code="DE", locality="Berlin"),
            invoice_number_prefix="T",
            sandbox_start_time=wire.timestamp(SANDBOX_START),
        )
    )
    suite.seller = ids.check_seller(seller.id)
    yield await _settle(suite, token="sim:decline,decline,ok", net_terms_days=7, subscription_count=1)


async def _settle(suite: Suite, *, token: str, net_terms_days: int, subscription_count: int) -> World:
    subscriber = suite.stub(SubscriptionsServiceStub, "subscriptions")
    payer = suite.stub(PaymentsServiceStub, "payments")
    plan_id = await _published_plan(suite.stub(CatalogServiceStub, "catalog"))
    customer = await subscriber.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            contact=customer_pb2.Contact(display_name="Debtor"),
            billing_profile=customer_pb2.BillingProfile(
                currency="EUR", time_zone="Europe/Berlin", net_terms_days=net_terms_days
            ),
        )
    )
    await payer.AttachPaymentMethod(
        payments.AttachPaymentMethodRequest(customer_id=customer.id, gateway="simulated", token=token)
    )
    agreed = [
        await subscriber.CreateSubscription(
            subscriptions.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan_id)
        )
        for _ in range(subscription_count)
    ]
    return World(
        suite=suite,
        dunning=suite.stub(DunningServiceStub, "dunning"),
        payments=payer,
        subscriptions=subscriber,
        customer_id=customer.id,
        subscription_ids=tuple(each.id for each in agreed),
    )


async def _published_plan(cataloguer: Any) -> str:  # Any: a stub
    product = await cataloguer.CreateProduct(catalog.CreateProductRequest(code="seats", display_name="Seats"))
    plan = await cataloguer.CreatePlan(
        catalog.CreatePlanRequest(
            code="team",
            display_name="Team",
            prices=[
                price_pb2.Price(
                    code="seat",
                    product_id=product.id,
                    currency="EUR",
                    billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
                    billing_timing=price_pb2.Price.IN_ADVANCE,
                    per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="49.50")),
                )
            ],
        )
    )
    published = await cataloguer.PublishPlan(catalog.PublishPlanRequest(id=plan.id))
    return str(published.id)
