"""Invoicing with its real neighbours, a seller, and what most tests begin with: a plan, a customer, usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest_asyncio
from google.type import decimal_pb2, postal_address_pb2

from common import wire
from common.caller import Role
from common.ensemble import Spares, handed_on
from common.ids import SellerId
from common.testing import SANDBOX_START, Databases, Suite
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import plan_pb2, price_pb2, seller_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.invoicing.v1 import bill_runs_service_pb2 as bill_runs
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1.bill_runs_service_pb2_grpc import BillRunsServiceStub
from saldo.invoicing.v1.credit_service_pb2_grpc import CreditServiceStub
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.invoicing.v1.ledger_service_pb2_grpc import LedgerServiceStub
from saldo.invoicing.v1.proof_service_pb2 import ReplayInvoiceRequest
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub
from saldo.invoicing.v1.tax_service_pb2_grpc import TaxServiceStub
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.payments.v1 import events_pb2 as payments
from saldo.payments.v1 import payment_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from tools.check import commitments, discounts, late_usage, written
from tools.check.billing import amounts_rated_anew, lines_sum_to_totals, steps_explain_amounts
from tools.check.records import Reader, Records, Sources
from tools.check.report import Tally
from tools.check.tax import exempt_are_not_taxed, lines_taxed_by_their_rules, taxes_add_up

from .price_list import PriceList, serving

NEIGHBOURS = ("catalog", "subscriptions", "metering")
NET_TERMS_DAYS = 120
"""Time that is travelled stops at every invoice that becomes overdue."""

LEEDS = postal_address_pb2.PostalAddress(
    region_code="GB", locality="Leeds", postal_code="LS1 4AP", address_lines=["12 Wellington Street"]
)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def per_unit(text: str) -> dict[str, Any]:  # Any: fields of a message
    return {"per_unit": price_pb2.PerUnitModel(unit_price=decimal(text))}


def flat(text: str) -> dict[str, Any]:  # Any: as above
    return {"flat": price_pb2.FlatModel(amount=decimal(text))}


class Business:
    """A seller in a sandbox that begins on 1 January 2026, and everything that can be done in its name."""

    def __init__(self, suite: Suite, reader: Reader) -> None:
        self.suite = suite
        self._reader = reader
        # Any, of all of these: grpc stubs are generated
        self.catalog: Any = suite.stub(CatalogServiceStub, "catalog")
        self.subscriptions: Any = suite.stub(SubscriptionsServiceStub, "subscriptions")
        self.metering: Any = suite.stub(MeteringServiceStub, "metering")
        self.invoicing: Any = suite.stub(InvoicingServiceStub, "invoicing")
        self.ledger: Any = suite.stub(LedgerServiceStub, "invoicing")
        self.tax: Any = suite.stub(TaxServiceStub, "invoicing")
        self.credit: Any = suite.stub(CreditServiceStub, "invoicing")
        self._count = count(1)

    async def price(
        self,
        product: str,
        unit_label: str = "",
        *,
        tax_code: str = "",
        **fields: Any,  # Any: of the message
    ) -> price_pb2.Price:
        """Of a new product, monthly and in GBP unless said otherwise; in arrears when it has a meter."""
        code = f"product-{next(self._count)}"
        made = await self.catalog.CreateProduct(
            catalog.CreateProductRequest(code=code, display_name=product, unit_label=unit_label, tax_code=tax_code)
        )
        price = price_pb2.Price(
            code=code,
            product_id=made.id,
            currency="GBP",
            billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
            billing_timing=price_pb2.Price.IN_ARREARS if fields.get("meter") else price_pb2.Price.IN_ADVANCE,
        )
        price.MergeFrom(price_pb2.Price(**fields))
        return price

    async def plan(self, *prices: price_pb2.Price) -> plan_pb2.Plan:
        code = f"plan-{next(self._count)}"
        draft = await self.catalog.CreatePlan(catalog.CreatePlanRequest(code=code, display_name="Plan", prices=prices))
        published: plan_pb2.Plan = await self.catalog.PublishPlan(catalog.PublishPlanRequest(id=draft.id))
        return published

    async def meter(
        self,
        code: str,
        unit_label: str = "",
        *,
        aggregation: meter_pb2.Meter.Aggregation.ValueType = meter_pb2.Meter.SUM,
        unique_dimension: str = "",
    ) -> None:
        await self.metering.CreateMeter(
            metering.CreateMeterRequest(
                code=code,
                display_name=code,
                aggregation=aggregation,
                unit_label=unit_label,
                unique_dimension=unique_dimension,
            )
        )

    async def customer(self, **profile: Any) -> customer_pb2.Customer:  # Any: fields of the message
        request = subscriptions.CreateCustomerRequest(
            external_id=f"customer-{next(self._count)}",
            contact=customer_pb2.Contact(display_name="Ada Byron", email="ada@example.org", address=LEEDS),
            billing_profile=customer_pb2.BillingProfile(
                **{"currency": "GBP", "time_zone": "Europe/London", "net_terms_days": NET_TERMS_DAYS, **profile}
            ),
        )
        made: customer_pb2.Customer = await self.subscriptions.CreateCustomer(request)
        return made

    async def subscribe(
        self,
        customer: customer_pb2.Customer,
        plan: plan_pb2.Plan,
        *,
        quantities: Sequence[str] = (),
        start: datetime | None = None,
        billing_day: int = 1,
        trial_days: int | None = None,
        bill_ahead_days: int = 0,
    ) -> subscription_pb2.Subscription:
        """To all prices of the plan; `quantities` are of the licensed ones, in their order."""
        licensed = [price for price in plan.prices if not price.meter]
        items = (
            [
                subscription_pb2.ItemSpec(price_id=price.id, quantity=decimal(quantity))
                for price, quantity in zip(licensed, quantities, strict=True)
            ]
            if quantities
            else []
        )
        if items:
            items += [subscription_pb2.ItemSpec(price_id=price.id) for price in plan.prices if price.meter]
        request = subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            items=items,
            billing_day=billing_day,
            trial_days=trial_days,
            bill_ahead_days=bill_ahead_days,
            start_time=None if start is None else wire.timestamp(start),
        )
        made: subscription_pb2.Subscription = await self.subscriptions.CreateSubscription(request)
        await self.suite.quiet()
        return made

    async def use(
        self,
        customer: customer_pb2.Customer,
        meter: str,
        value: str,
        at: datetime,
        *,
        id: str = "",  # noqa: A002
    ) -> metering.IngestEventsResponse:
        """One report of use, when its time has come; `id` to send the same one again."""
        await self.suite.travel(max(at, await self.now()))
        event = usage_event_pb2.UsageEvent(
            id=id or f"event-{next(self._count)}",
            source="test",
            customer=customer.external_id,
            meter=meter,
            time=wire.timestamp(at),
            value=decimal(value),
        )
        answer: metering.IngestEventsResponse = await self.metering.IngestEvents(
            metering.IngestEventsRequest(events=[event])
        )
        assert answer.rejected_count == 0, answer
        return answer

    async def now(self) -> datetime:
        clock = await self.suite.stub(OperationsServiceStub, "invoicing").GetClock(operations.GetClockRequest())
        return wire.parse_timestamp(clock.time, field="time")

    async def pay(self, invoice: invoice_pb2.Invoice, *, payment_id: str, pence: int | None = None) -> None:
        """As payments would say it; the whole of what remains unless said otherwise."""
        await self.announce_payment(invoice, payment_id=payment_id, pence=pence)
        await self.suite.quiet()

    async def announce_payment(
        self, invoice: invoice_pb2.Invoice, *, payment_id: str, pence: int | None = None
    ) -> None:
        """The same for who has more to say before anything follows from it."""
        amount = wire.parse_money(invoice.amount_remaining, field="amount")
        if pence is not None:
            amount = type(amount)(pence, amount.currency)
        payment = payment_pb2.Payment(
            id=payment_id,
            invoice_id=invoice.id,
            customer_id=invoice.customer_id,
            amount=wire.money(amount),
            state=payment_pb2.Payment.SUCCEEDED,
        )
        await self.suite.announce(payments.PaymentSucceeded(payment=payment), source="payments")

    async def invoices(self, customer: customer_pb2.Customer | None = None) -> list[invoice_pb2.Invoice]:
        found = await self.invoicing.ListInvoices(
            pb.ListInvoicesRequest(customer_id=customer.id if customer else "", page_size=1_000)
        )
        # Ids of one bill time are in no order.
        return sorted(found.invoices, key=lambda each: (each.create_time.ToNanoseconds(), each.number, each.id))

    async def records(self) -> Records:
        """What all four services have stored, for the checker."""
        databases = {name: self.suite.reading_urls[name] for name in (*NEIGHBOURS, "invoicing")}
        return await self._reader.read(Sources(databases=databases, seller_id=self.suite.seller))


async def dead_letters(suite: Suite) -> list[operations.DeadLetter]:
    platform: Any = suite.stub(OperationsServiceStub, "invoicing", role=Role.PLATFORM)  # Any: grpc stubs are generated
    return list((await platform.ListDeadLetters(operations.ListDeadLettersRequest())).dead_letters)


async def parked_customers(suite: Suite) -> dict[str, tuple[str, str]]:
    """Who cannot be billed, by id: the reason, for programs and for people."""
    runs: Any = suite.stub(BillRunsServiceStub, "invoicing")  # Any: as above
    found = await runs.ListParkedCustomers(bill_runs.ListParkedCustomersRequest(page_size=1_000))
    return {each.customer_id: (each.reason, each.message) for each in found.parked_customers}


def pence(invoice: invoice_pb2.Invoice) -> int:
    return wire.parse_money(invoice.total, field="total").minor


def told(invoice: invoice_pb2.Invoice) -> list[tuple[str, int]]:
    """What the lines say, and how many pence each."""
    return [(line.description, wire.parse_money(line.amount, field="amount").minor) for line in invoice.line_items]


def civil(invoice: invoice_pb2.Invoice) -> str:
    date = invoice.invoice_date
    return f"{date.year}-{date.month:02d}-{date.day:02d}"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type] # year, month, day and so on


@pytest_asyncio.fixture(scope="package")
async def spares(databases: Databases) -> AsyncIterator[Spares]:
    async with handed_on(databases.drop) as found:
        yield found


@pytest_asyncio.fixture(scope="package")
async def reader() -> AsyncIterator[Reader]:
    async with Reader() as found:
        yield found


@pytest_asyncio.fixture
async def business(suite: Suite, reader: Reader) -> AsyncIterator[Business]:
    await suite.start(*NEIGHBOURS, "invoicing")
    platform: Any = suite.stub(CatalogServiceStub, "catalog", role=Role.PLATFORM)  # Any: as above
    seller = await platform.CreateSeller(
        catalog.CreateSellerRequest(
            mode=seller_pb2.Seller.SANDBOX,
            display_name="Northern Light Ltd",
            address=LEEDS,
            tax_id="GB 123 4567 89",
            payment_instructions="Bank transfer to 12-34-56 12345678",
            invoice_number_prefix="NL",
            sandbox_start_time=wire.timestamp(SANDBOX_START),
        )
    )
    suite.seller = SellerId(seller.id)
    found = Business(suite, reader)
    yield found
    _rate_anew(await found.records())


async def replayed(business: Business) -> None:
    """Every final invoice follows from what it was made of once more, to the byte."""
    proof: Any = business.suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    for invoice in await business.invoices():
        if invoice.state != invoice_pb2.Invoice.DRAFT:
            replay = await proof.ReplayInvoice(ReplayInvoiceRequest(invoice_id=invoice.id))
            assert replay.is_identical, (replay.number, replay.differences)


def _rate_anew(records: Records) -> None:
    """Whatever a test was about: no line that it wrote costs anything else by the independent rater, nor is it taxed
    otherwise.
    """
    for invariant in (
        amounts_rated_anew,
        steps_explain_amounts,
        lines_sum_to_totals,
        taxes_add_up,
        lines_taxed_by_their_rules,
        exempt_are_not_taxed,
    ):
        tally = Tally()
        invariant(records, tally)
        assert not tally.offending, (invariant.__name__, tally.offenders)
    for each in (*written.INVARIANTS, *discounts.INVARIANTS, *commitments.INVARIANTS, *late_usage.INVARIANTS):
        tally = Tally()
        each.verify(records, tally)
        assert not tally.offending, (each.name, tally.offenders)


@pytest_asyncio.fixture
async def price_list(suite: Suite) -> AsyncIterator[PriceList]:
    """Invoicing beside a stand-in of the catalog, and nobody else."""
    async with serving(suite) as found:
        await suite.start("invoicing")
        yield found


@pytest_asyncio.fixture
async def rating(suite: Suite, price_list: PriceList) -> Any:  # Any: grpc stubs are generated
    return suite.stub(RatingServiceStub, "invoicing")
