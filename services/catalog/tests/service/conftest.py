"""A running catalog, and what most of its tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest_asyncio
from google.type import decimal_pb2

from common import wire
from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from services.catalog.tests.coupons import Coupons


@pytest_asyncio.fixture
async def catalog(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    await suite.start("catalog")
    yield suite.stub(CatalogServiceStub, "catalog")


@pytest_asyncio.fixture
async def seats(catalog: Any) -> product_pb2.Product:  # Any: as above
    product: product_pb2.Product = await catalog.CreateProduct(
        pb.CreateProductRequest(code="seats", display_name="Seats", unit_label="seat")
    )
    return product


class Shop:
    """A seller who writes plans. `api` is the catalog as the owner sees it."""

    def __init__(self, api: Any, seats: product_pb2.Product) -> None:  # Any: as above
        self.api = api
        self.seats = seats

    def price(self, amount: str = "12.50", **changes: Any) -> price_pb2.Price:  # Any: fields of the message
        price = price_pb2.Price(
            code="seat",
            product_id=self.seats.id,
            currency="EUR",
            billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
            billing_timing=price_pb2.Price.IN_ADVANCE,
            per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value=amount)),
        )
        price.MergeFrom(price_pb2.Price(**changes))
        return price

    async def draft(self, code: str = "team", **changes: Any) -> plan_pb2.Plan:  # Any: fields of the request
        request = pb.CreatePlanRequest(code=code, display_name="Team", **{"prices": [self.price()], **changes})
        plan: plan_pb2.Plan = await self.api.CreatePlan(request)
        return plan

    async def published(self, code: str = "team", **changes: Any) -> plan_pb2.Plan:  # Any: as above
        return await self.publish(await self.draft(code, **changes))

    async def next_version(self, code: str = "team") -> plan_pb2.Plan:
        plan: plan_pb2.Plan = await self.api.CreatePlanVersion(pb.CreatePlanVersionRequest(code=code))
        return plan

    async def publish(self, plan: plan_pb2.Plan, effective_time: datetime | None = None) -> plan_pb2.Plan:
        request = pb.PublishPlanRequest(id=plan.id)
        if effective_time is not None:
            request.effective_time.CopyFrom(wire.timestamp(effective_time))
        published: plan_pb2.Plan = await self.api.PublishPlan(request)
        return published

    async def on_sale(self, code: str = "team") -> plan_pb2.Plan:
        plan: plan_pb2.Plan = await self.api.GetPlan(pb.GetPlanRequest(code=code))
        return plan

    async def states(self, code: str = "team") -> list[str]:
        """Of every version, from the first on."""
        plans = (await self.api.ListPlans(pb.ListPlansRequest(page_size=1000))).plans
        return [plan_pb2.Plan.State.Name(plan.state) for plan in plans if plan.code == code]


@pytest_asyncio.fixture
async def shop(catalog: Any, seats: product_pb2.Product) -> Shop:  # Any: as above
    return Shop(catalog, seats)


@pytest_asyncio.fixture
async def coupons(suite: Suite) -> Coupons:
    await suite.start("catalog")
    return Coupons(suite)
