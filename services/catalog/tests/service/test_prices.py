"""Prices through the door: checked without being kept, kept as they were checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2

from common import ids
from common.caller import Role
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tests.support.prices import sound_prices

PER_UNIT = price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="0.067"))


async def test_every_model_and_operator_is_kept_as_it_was_checked(catalog: Any, seats: product_pb2.Product) -> None:
    """Whoever reads a price, by whichever call, reads what was agreed to, and when it was written."""
    written = sound_prices()
    for n, price in enumerate(written):
        price.MergeFrom(price_pb2.Price(product_id=seats.id, code=f"price-{n}"))
    plan = await catalog.CreatePlan(pb.CreatePlanRequest(code="all", display_name="All", prices=written))
    found = await catalog.BatchGetPrices(pb.BatchGetPricesRequest(ids=[price.id for price in plan.prices]))
    assert {each.price.id: each.price for each in found.prices} == {price.id: price for price in plan.prices}
    for sent, stored in zip(written, plan.prices, strict=True):
        single = await catalog.GetPrice(pb.GetPriceRequest(id=stored.id))
        assert (single.price, single.product) == (stored, seats)
        assert (stored.plan_id, stored.create_time) == (plan.id, plan.create_time)
        for name in ("id", "plan_id", "create_time"):
            stored.ClearField(name)
        assert await catalog.CheckPrice(pb.CheckPriceRequest(price=sent)) == stored


async def test_a_check_keeps_nothing(suite: Suite, catalog: Any) -> None:
    """Looking at what something would cost is open to everybody who may look, and leaves no trace."""
    viewer = suite.stub(CatalogServiceStub, "catalog", role=Role.VIEWER)
    price = price_pb2.Price(currency="EUR", meter="calls", per_unit=PER_UNIT)
    assert await viewer.CheckPrice(pb.CheckPriceRequest(price=price)) == price
    assert not (await catalog.ListPlans(pb.ListPlansRequest())).plans
    with refused("UNKNOWN_CURRENCY", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await viewer.CheckPrice(pb.CheckPriceRequest())
    assert refusal.field == "price.currency"


async def test_a_product_that_is_named_must_be_there(catalog: Any) -> None:
    """A check that passes promises that the price can be created."""
    stranger = ids.mint("prod", datetime(2026, 1, 1, tzinfo=UTC))
    price = price_pb2.Price(currency="EUR", product_id=stranger, per_unit=PER_UNIT)
    with refused("PRODUCT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await catalog.CheckPrice(pb.CheckPriceRequest(price=price))


@pytest.mark.parametrize(
    ("price_id", "reason"),
    [("price_01h455vb4pex5vsknk084sn02q", "PRICE_NOT_FOUND"), ("", "INVALID_ARGUMENT")],
)
async def test_a_price_that_is_not_there_is_not_found(catalog: Any, price_id: str, reason: str) -> None:
    """As is one that cannot be there."""
    with refused(reason):
        await catalog.GetPrice(pb.GetPriceRequest(id=price_id))
