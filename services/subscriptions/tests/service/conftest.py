"""Subscriptions with its real neighbour, and a shop: everything one needs before a subscription can be made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest_asyncio
from google.type import decimal_pb2, postal_address_pb2

from common import wire
from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

UNITS = price_pb2.BillingInterval.Unit
LONDON = postal_address_pb2.PostalAddress(region_code="GB", locality="London", address_lines=["1 Quay Street"])


class Shop:
    """A seller with plans and customers. `api` is subscriptions as the owner sees it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.api: Any = suite.stub(SubscriptionsServiceStub, "subscriptions")  # Any: grpc stubs are generated
        self.catalog: Any = suite.stub(CatalogServiceStub, "catalog")  # Any: as above
        self._plans = 0

    async def customer(self, **changes: Any) -> customer_pb2.Customer:  # Any: fields of the request
        request = pb.CreateCustomerRequest(
            contact=customer_pb2.Contact(display_name="Ada", email="ada@example.com", address=LONDON),
            billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="UTC"),
        )
        request.MergeFrom(pb.CreateCustomerRequest(**changes))
        customer: customer_pb2.Customer = await self.api.CreateCustomer(request)
        return customer

    async def plan(self, *prices: price_pb2.Price, published: bool = True, trial_days: int = 0) -> plan_pb2.Plan:
        self._plans += 1
        product = await self.catalog.CreateProduct(
            catalog_service_pb2.CreateProductRequest(code=f"product-{self._plans}", display_name="Product")
        )
        for price in prices:
            price.product_id = product.id
        plan: plan_pb2.Plan = await self.catalog.CreatePlan(
            catalog_service_pb2.CreatePlanRequest(
                code=f"plan-{self._plans}", display_name="Plan", prices=prices, trial_days=trial_days
            )
        )
        if published:
            plan = await self.catalog.PublishPlan(catalog_service_pb2.PublishPlanRequest(id=plan.id))
        return plan

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


@pytest_asyncio.fixture
async def shop(suite: Suite) -> AsyncIterator[Shop]:
    await suite.start("catalog", "subscriptions")
    yield Shop(suite)
