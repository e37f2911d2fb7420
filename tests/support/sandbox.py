"""Knows how a test plays an internal platform: a seller of its own, a few words for what it sells, and its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from google.protobuf.json_format import ParseDict
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from common import wire
from common.caller import Role
from common.ids import SellerId
from common.travel import quiet, travel
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import BillingInterval, FlatModel, GraduatedModel, PerUnitModel, Price, Tier
from saldo.catalog.v1.product_pb2 import Feature
from saldo.catalog.v1.seller_pb2 import Seller
from saldo.dunning.v1 import dunning_service_pb2 as dunning
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import quota_service_pb2 as quotas
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.quota_pb2 import QuotaReservation
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.payments.v1 import payments_service_pb2 as payments
from saldo.payments.v1.payment_pb2 import Payment
from saldo.subscriptions.v1 import entitlement_service_pb2 as entitlements
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import BillingProfile, Contact, Customer
from saldo.subscriptions.v1.entitlement_pb2 import EntitlementGrant, ResetInterval
from saldo.subscriptions.v1.subscription_pb2 import ItemSpec, Subscription
from tests.support.prices import with_numbers
from tools.check.journal import Journal
from tools.check.records import Sources
from tools.check.verification import verify
from tools.client import Client, pages

TokenMaker = Callable[[Role, SellerId | None], str]
PATIENCE_SECONDS: Final = 5.0
MONTHLY: Final = BillingInterval(unit=BillingInterval.MONTH, count=1)
ADDRESS: Final = PostalAddress(
    region_code="GB", postal_code="EC1A 1BB", locality="London", address_lines=["1 High Street"]
)


class Sandbox:
    """A seller with simulated time, seen through the public contracts only."""

    def __init__(self, client: Client, seller_id: SellerId, journal: Path, stack: AsyncExitStack) -> None:
        self.client = client
        self.seller_id = seller_id
        self.journal = journal
        self._stack = stack

    @classmethod
    async def open(
        cls,
        addresses: Mapping[str, str],
        token: TokenMaker,
        *,
        journals: Path,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        name: str = "Acme Energy Ltd",
        prefix: str = "INV",
    ) -> Self:
        """`journals` is a folder for what the sandbox writes down of its own calls."""
        async with Client(addresses, token(Role.PLATFORM, None)) as platform:
            seller = await platform.catalog.CreateSeller(
                catalog.CreateSellerRequest(
                    mode=Seller.SANDBOX,
                    display_name=name,
                    address=ADDRESS,
                    email="billing@example.com",
                    invoice_number_prefix=prefix,
                    sandbox_start_time=wire.timestamp(start),
                )
            )
        seller_id = SellerId(seller.id)
        stack = AsyncExitStack()
        path = journals / f"{seller_id}.jsonl"
        journal = stack.enter_context(Journal(path, seller_id=seller_id))
        owner = Client(addresses, token(Role.OWNER, seller_id), record=journal.record)
        return cls(await stack.enter_async_context(owner), seller_id, path, stack)

    async def close(self) -> None:
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def travel(self, to: datetime) -> int:
        return await travel(self.client.operations, to)

    async def quiet(self) -> None:
        await quiet(self.client.operations)

    async def verify(self, databases: Mapping[str, str]) -> None:
        """Come to rest; then everything that must hold has to hold in the data of all services."""
        await self.quiet()
        sources = Sources(databases=databases, journals=[self.journal], seller_id=self.seller_id)
        report = await verify(sources, patience_seconds=PATIENCE_SECONDS)
        assert report.content, str(report)

    async def product(self, code: str, unit_label: str = "") -> str:
        product = await self.client.catalog.CreateProduct(
            catalog.CreateProductRequest(code=code, display_name=code.replace("_", " ").title(), unit_label=unit_label)
        )
        return product.id

    async def meter(
        self, code: str, aggregation: Meter.Aggregation.ValueType = Meter.SUM, *, unique_dimension: str = ""
    ) -> str:
        meter = await self.client.metering.CreateMeter(
            metering.CreateMeterRequest(
                code=code, display_name=code, aggregation=aggregation, unique_dimension=unique_dimension
            )
        )
        return meter.id

    async def plan(self, code: str, *prices: Price, is_add_on: bool = False) -> Plan:
        """Published; a price without a product gets one that is named like it."""
        for price in prices:
            price.product_id = price.product_id or await self.product(f"{code}-{price.code}")
        draft = await self.client.catalog.CreatePlan(
            catalog.CreatePlanRequest(
                code=code, display_name=code.title(), prices=prices, kind=Plan.ADD_ON if is_add_on else Plan.BASE
            )
        )
        return await self.client.catalog.PublishPlan(catalog.PublishPlanRequest(id=draft.id))

    async def customer(
        self,
        external_id: str,
        *,
        currency: str = "EUR",
        time_zone: str = "UTC",
        token: str = "",
        net_terms_days: int = 0,
        by_hand: bool = False,
    ) -> Customer:
        """With a card of the simulated gateway, if `token` says how it behaves."""
        profile = BillingProfile(
            currency=currency,
            time_zone=time_zone,
            net_terms_days=net_terms_days,
            collection_method=BillingProfile.SEND_INVOICE if by_hand else BillingProfile.CHARGE_AUTOMATICALLY,
        )
        customer = await self.client.subscriptions.CreateCustomer(
            subscriptions.CreateCustomerRequest(
                external_id=external_id,
                contact=Contact(display_name=external_id.title(), email="someone@example.com", address=ADDRESS),
                billing_profile=profile,
            )
        )
        if token:
            await self.card(customer, token)
        return customer

    async def card(self, customer: Customer, token: str) -> None:
        await self.client.payments.AttachPaymentMethod(
            payments.AttachPaymentMethodRequest(customer_id=customer.id, gateway="simulated", token=token)
        )

    async def subscribe(
        self,
        customer: Customer,
        plan: Plan,
        *,
        start: datetime | None = None,
        billing_day: int = 0,
        trial_days: int | None = None,
        quantities: Mapping[str, str] | None = None,
    ) -> Subscription:
        """To all prices of the plan, or to those named with how many of each (`""` for a metered one)."""
        prices = {price.code: price.id for price in plan.prices}
        items = [
            ItemSpec(price_id=prices[code], quantity=Decimal(value=quantity) if quantity else None)
            for code, quantity in (quantities or {}).items()
        ]
        return await self.client.subscriptions.CreateSubscription(
            subscriptions.CreateSubscriptionRequest(
                customer_id=customer.id,
                plan_id=plan.id,
                items=items,
                start_time=wire.timestamp(start) if start else None,
                billing_day=billing_day,
                trial_days=trial_days,
            )
        )

    async def cancel(self, subscription: Subscription, *, at_period_end: bool = False) -> Subscription:
        timing = subscriptions.CancelSubscriptionRequest.PERIOD_END
        if not at_period_end:
            timing = subscriptions.CancelSubscriptionRequest.NOW
        return await self.client.subscriptions.CancelSubscription(
            subscriptions.CancelSubscriptionRequest(id=subscription.id, timing=timing)
        )

    async def use(self, *events: UsageEvent) -> metering.IngestEventsResponse:
        return await self.client.metering.IngestEvents(metering.IngestEventsRequest(events=events))

    async def quota(self, customer: Customer, code: str, *, meter: str, granted: str) -> None:
        """So much use of a meter every month, decided for one customer; and metering has heard of it."""
        await self.client.catalog.CreateFeature(
            catalog.CreateFeatureRequest(code=code, display_name=code, kind=Feature.QUOTA, meter=meter)
        )
        monthly = ResetInterval(unit=ResetInterval.MONTH, count=1)
        grant = EntitlementGrant(quota=Decimal(value=granted), reset_interval=monthly)
        await self.client.entitlements.SetEntitlementOverride(
            entitlements.SetEntitlementOverrideRequest(
                customer_id=customer.id, feature=code, grant=grant, reason="as agreed"
            )
        )
        await self.quiet()

    async def acquire(self, customer: Customer, code: str, quantity: str) -> QuotaReservation:
        answer = await self.client.quotas.AcquireQuota(
            quotas.AcquireQuotaRequest(
                customer_id=customer.id, feature=code, quantity=Decimal(value=quantity), time_to_live_seconds=3_600
            )
        )
        return answer.reservation

    async def policy(
        self, *retry_wait_days: int, final_action: DunningPolicy.FinalAction.ValueType, final_wait_days: int = 1
    ) -> None:
        await self.client.dunning.CreateDunningPolicy(
            dunning.CreateDunningPolicyRequest(
                display_name="as in the story",
                retry_wait_days=retry_wait_days,
                final_wait_days=final_wait_days,
                final_action=final_action,
            )
        )

    async def invoices(self, customer: Customer | None = None) -> list[Invoice]:
        request = invoicing.ListInvoicesRequest(customer_id=customer.id if customer else "", page_size=1000)
        found = pages(self.client.invoicing.ListInvoices, request, invoicing.ListInvoicesResponse)
        # Ids of one bill time are in no order.
        listed = [invoice async for page in found for invoice in page.invoices]
        return sorted(listed, key=lambda each: (each.create_time.ToNanoseconds(), each.number, each.id))

    async def payments(self, customer: Customer | None = None) -> list[Payment]:
        request = payments.ListPaymentsRequest(customer_id=customer.id if customer else "", page_size=1000)
        found = pages(self.client.payments.ListPayments, request, payments.ListPaymentsResponse)
        listed = [payment async for page in found for payment in page.payments]
        return sorted(listed, key=lambda each: (each.create_time.ToNanoseconds(), each.id))

    async def campaigns(self, customer: Customer | None = None) -> list[DunningCampaign]:
        request = dunning.ListDunningCampaignsRequest(customer_id=customer.id if customer else "", page_size=1000)
        found = pages(self.client.dunning.ListDunningCampaigns, request, dunning.ListDunningCampaignsResponse)
        return [campaign async for page in found for campaign in page.dunning_campaigns]

    async def subscriptions(self, customer: Customer | None = None) -> list[Subscription]:
        request = subscriptions.ListSubscriptionsRequest(customer_id=customer.id if customer else "", page_size=1000)
        found = pages(self.client.subscriptions.ListSubscriptions, request, subscriptions.ListSubscriptionsResponse)
        return [subscription async for page in found for subscription in page.subscriptions]


def flat(
    code: str,
    amount: str,
    *,
    currency: str = "EUR",
    timing: Price.BillingTiming.ValueType = Price.IN_ADVANCE,
    interval: BillingInterval = MONTHLY,
) -> Price:
    return Price(
        code=code,
        currency=currency,
        billing_interval=interval,
        billing_timing=timing,
        flat=FlatModel(amount=Decimal(value=amount)),
    )


def per_unit(
    code: str,
    unit_price: str,
    *,
    meter: str = "",
    currency: str = "EUR",
    timing: Price.BillingTiming.ValueType | None = None,
    interval: BillingInterval = MONTHLY,
) -> Price:
    """Licensed and in advance, or metered and in arrears."""
    return Price(
        code=code,
        currency=currency,
        billing_interval=interval,
        billing_timing=timing or (Price.IN_ARREARS if meter else Price.IN_ADVANCE),
        meter=meter,
        per_unit=PerUnitModel(unit_price=Decimal(value=unit_price)),
    )


def graduated(code: str, *tiers: tuple[str, str], meter: str, currency: str = "EUR") -> Price:
    """Tiers are (up to, unit price); the last one is open: ("", unit price)."""
    return Price(
        code=code,
        currency=currency,
        billing_interval=MONTHLY,
        billing_timing=Price.IN_ARREARS,
        meter=meter,
        graduated=GraduatedModel(
            tiers=[
                Tier(up_to=Decimal(value=up_to) if up_to else None, unit_price=Decimal(value=unit_price))
                for up_to, unit_price in tiers
            ]
        ),
    )


def metered(code: str, meter: str, definition: Mapping[str, object]) -> Price:
    """Monthly and in EUR; the rest is JSON as the contract has it, decimals in short: `"#1.5"`."""
    return ParseDict(
        {
            "code": code,
            "currency": "EUR",
            "billing_interval": {"unit": "MONTH", "count": 1},
            "billing_timing": "IN_ARREARS",
            "meter": meter,
            **{name: with_numbers(each) for name, each in definition.items()},
        },
        Price(),
    )


def usage(
    customer: Customer,
    meter: str,
    at: datetime,
    value: str = "1",
    *,
    event_id: str,
    source: str = "test",
    **dimensions: str,
) -> UsageEvent:
    return UsageEvent(
        id=event_id,
        source=source,
        customer=customer.external_id or customer.id,
        meter=meter,
        time=wire.timestamp(at),
        value=Decimal(value=value),
        dimensions=dimensions,
    )


def text(money: Money) -> str:
    """`45.00 EUR`: exact, and what an assertion reads like."""
    amount = wire.parse_money(money, field="amount")
    return f"{amount.amount} {amount.currency}"
