"""Subscriptions with its real neighbour, and a shop: everything one needs before a subscription can be made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, time
from typing import Any

import asyncpg
import pytest_asyncio
from google.protobuf import timestamp_pb2
from google.type import decimal_pb2, postal_address_pb2

from common import wire
from common.ensemble import Spares, handed_on
from common.testing import Databases, Suite
from saldo.catalog.v1 import catalog_service_pb2, coupon_pb2, coupon_service_pb2, plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from services.subscriptions.tests.migrating import Migrating

UNITS = price_pb2.BillingInterval.Unit
TABLES = ("subscriptions", "subscription_changes", "subscription_terms", "payment_methods_on_file", "outbox")
STORED = " UNION ALL ".join(f"SELECT '{table}' AS name, t::text AS content FROM {table} t" for table in TABLES)
STORED += " ORDER BY name, content"
LONDON = postal_address_pb2.PostalAddress(region_code="GB", locality="London", address_lines=["1 Quay Street"])


class Shop:
    """A seller with plans and customers. `api` is subscriptions as the owner sees it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.api: Any = suite.stub(SubscriptionsServiceStub, "subscriptions")  # Any: grpc stubs are generated
        self.customers: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: as above
        self.catalog: Any = suite.stub(CatalogServiceStub, "catalog")  # Any: as above
        self.coupons: Any = suite.stub(CouponServiceStub, "catalog")  # Any: as above
        self._coupons = 0
        self._plans = 0
        self._products = 0
        self._connection: asyncpg.Connection | None = None

    async def customer(self, **changes: Any) -> customer_pb2.Customer:  # Any: fields of the request
        request = pb.CreateCustomerRequest(
            contact=customer_pb2.Contact(display_name="Ada", email="ada@example.com", address=LONDON),
            billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="UTC"),
        )
        request.MergeFrom(pb.CreateCustomerRequest(**changes))
        customer: customer_pb2.Customer = await self.api.CreateCustomer(request)
        return customer

    async def product(self) -> str:
        self._products += 1
        product = await self.catalog.CreateProduct(
            catalog_service_pb2.CreateProductRequest(code=f"product-{self._products}", display_name="Product")
        )
        return str(product.id)

    async def plan(
        self,
        *prices: price_pb2.Price,
        published: bool = True,
        trial_days: int = 0,
        add_on: bool = False,
        entitlements: Iterable[plan_pb2.PlanEntitlement] = (),
    ) -> plan_pb2.Plan:
        """Prices that name no product are all of one and the same."""
        self._plans += 1
        product_id = await self.product()
        for price in prices:
            price.product_id = price.product_id or product_id
        plan: plan_pb2.Plan = await self.catalog.CreatePlan(
            catalog_service_pb2.CreatePlanRequest(
                code=f"plan-{self._plans}",
                display_name="Plan",
                prices=prices,
                trial_days=trial_days,
                entitlements=entitlements,
                kind=plan_pb2.Plan.ADD_ON if add_on else plan_pb2.Plan.KIND_UNSPECIFIED,
            )
        )
        if published:
            plan = await self.catalog.PublishPlan(catalog_service_pb2.PublishPlanRequest(id=plan.id))
        return plan

    async def coupon(self, **terms: Any) -> str:  # Any: fields of the coupon
        """The id of one that takes half off for ever unless said otherwise."""
        self._coupons += 1
        coupon = coupon_pb2.Coupon(
            code=f"coupon-{self._coupons}", display_name="Coupon", **{"duration": coupon_pb2.Coupon.FOREVER, **terms}
        )
        if coupon.WhichOneof("benefit") is None:
            coupon.percent_off.percent.value = "50"
        made = await self.coupons.CreateCoupon(coupon_service_pb2.CreateCouponRequest(coupon=coupon))
        return str(made.id)

    async def subscribe(
        self, customer: customer_pb2.Customer, plan: plan_pb2.Plan, **changes: Any
    ) -> subscription_pb2.Subscription:  # Any: fields of the request
        subscription: subscription_pb2.Subscription = await self.api.CreateSubscription(
            pb.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id, **changes)
        )
        return subscription

    async def due(
        self, customer: customer_pb2.Customer, *, through: datetime, after: datetime | None = None
    ) -> pb.CustomerSchedule:
        answer = await self.api.ListBillablePeriods(
            pb.ListBillablePeriodsRequest(
                customer_ids=[customer.id],
                after_time=wire.timestamp(after) if after else None,
                through_time=wire.timestamp(through),
            )
        )
        schedule: pb.CustomerSchedule = answer.schedules[0]
        return schedule

    async def find(self, subscription: subscription_pb2.Subscription, **times: datetime) -> Any:  # Any: Subscription
        """As it is, or as it was then."""
        given = {name: wire.timestamp(time) for name, time in times.items()}
        return await self.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id, **given))

    async def change(
        self, subscription: subscription_pb2.Subscription, *actions: subscription_pb2.SubscriptionAction, **more: Any
    ) -> Any:  # Any: fields of the request, and the Subscription
        return await self.api.ChangeSubscription(self.change_request(subscription, *actions, **more))

    async def preview(
        self, subscription: subscription_pb2.Subscription, *actions: subscription_pb2.SubscriptionAction, **more: Any
    ) -> Any:  # Any: fields of the request, and the ChangePreview
        change = self.change_request(subscription, *actions, **more)
        return await self.api.PreviewChange(pb.PreviewChangeRequest(change=change))

    @staticmethod
    def change_request(
        subscription: subscription_pb2.Subscription,
        *actions: subscription_pb2.SubscriptionAction,
        at: datetime | None = None,
        **more: Any,  # Any: fields of the request
    ) -> pb.ChangeSubscriptionRequest:
        """NOW, or AT_TIME if there is one."""
        if at is not None:
            more |= {"timing": subscription_pb2.SubscriptionChange.AT_TIME, "effective_time": wire.timestamp(at)}
        return pb.ChangeSubscriptionRequest(id=subscription.id, actions=actions, **more)

    async def log(self, subscription: subscription_pb2.Subscription, state: str = "") -> Any:  # Any: list of changes
        answer = await self.api.ListSubscriptionChanges(
            pb.ListSubscriptionChangesRequest(
                subscription_id=subscription.id,
                state=subscription_pb2.SubscriptionChange.State.Value(state or "STATE_UNSPECIFIED"),
            )
        )
        return list(answer.changes)

    async def stored(self) -> dict[str, list[str]]:
        """Every row of ours about subscriptions and of what is to be announced: for comparing before with after."""
        if self._connection is None:
            self._connection = await asyncpg.connect(self.suite.reading_urls["subscriptions"].replace("+asyncpg", ""))
            await self._connection.execute("SELECT set_config('saldo.seller', $1, false)", self.suite.seller)
        rows = await self._connection.fetch(STORED)
        return {table: [row["content"] for row in rows if row["name"] == table] for table in TABLES}

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    @staticmethod
    def billed(
        periods: Iterable[subscription_pb2.BillablePeriod], item: subscription_pb2.SubscriptionItem | None = None
    ) -> list[str]:
        """Each as a line: which way, what for, how many, what share, and when."""
        return [_line(each) for each in periods if item is None or each.item_id == item.id]

    @staticmethod
    def price(
        code: str, *, unit: str = "MONTH", count: int = 1, timing: str = "IN_ADVANCE", currency: str = "EUR"
    ) -> price_pb2.Price:
        """A licensed price, billed in advance unless said otherwise."""
        return price_pb2.Price(
            code=code,
            currency=currency,
            billing_interval=price_pb2.BillingInterval(unit=UNITS.Value(unit), count=count),
            billing_timing=price_pb2.Price.BillingTiming.Value(timing),
            per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="12.50")),
        )

    @classmethod
    def metered(cls, code: str) -> price_pb2.Price:
        """A monthly price of usage, billed in arrears as all of them are."""
        price = cls.price(code, timing="IN_ARREARS")
        price.meter = "api_calls"
        return price


def _line(period: subscription_pb2.BillablePeriod) -> str:
    kind = subscription_pb2.BillablePeriod.Kind.Name(period.kind)
    many = f" {period.quantity.value} ×" if period.HasField("quantity") else ""
    start, end = _moment(period.period.start_time), _moment(period.period.end_time)
    share = f"{period.proration.numerator}/{period.proration.denominator}"
    return f"{kind}{many} {start}..{end} {share} on {_moment(period.bill_time)}"


def _moment(at: timestamp_pb2.Timestamp) -> str:
    """In UTC, the time only where it is not midnight."""
    instant = at.ToDatetime(UTC)
    day = instant.strftime("%Y-%m-%d")
    return day if instant.time() == time.min else f"{day}T{instant.time().isoformat()}"


@pytest_asyncio.fixture(scope="package")
async def spares(databases: Databases) -> AsyncIterator[Spares]:
    async with handed_on(databases.drop) as found:
        yield found


@pytest_asyncio.fixture
async def shop(suite: Suite) -> AsyncIterator[Shop]:
    await suite.start("catalog", "subscriptions")
    shop = Shop(suite)
    yield shop
    await shop.close()


@pytest_asyncio.fixture
async def migrating(shop: Shop) -> AsyncIterator[Migrating]:
    yield await Migrating(shop).open()
