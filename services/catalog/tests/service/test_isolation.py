"""What one seller has is unknown to another, by any id or code, in any RPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.type import decimal_pb2

from common import ids
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import coupon_pb2, price_pb2, product_pb2
from saldo.catalog.v1 import coupon_service_pb2 as coupon_pb
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.

OTHER = ids.SellerId(ids.mint(ids.SANDBOX, datetime(2026, 1, 1, tzinfo=UTC)))
CUSTOMER = ids.mint("cus", SANDBOX_START)


class Stock:
    """One of everything that a seller can have."""

    def __init__(self, suite: Suite, shop: Any) -> None:  # Any: as above
        self.suite = suite
        self.shop = shop
        self.coupons: Any = suite.stub(CouponServiceStub, "catalog")  # Any: grpc stubs are generated

    async def fill(self) -> None:
        api = self.shop.api
        await api.CreateTaxCode(pb.CreateTaxCodeRequest(code="standard", display_name="Standard"))
        await api.CreateFeature(
            pb.CreateFeatureRequest(code="sso", display_name="Single sign-on", kind=product_pb2.Feature.SWITCH)
        )
        self.plan = await self.shop.published()
        self.draft = await self.shop.next_version()
        self.negotiated = await api.CreateContractPrice(
            pb.CreateContractPriceRequest(
                list_price_id=self.plan.prices[0].id,
                customer_id=CUSTOMER,
                price=price_pb2.Price(per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="9"))),
            )
        )
        self.coupon = await self.coupons.CreateCoupon(
            coupon_pb.CreateCouponRequest(
                coupon=coupon_pb2.Coupon(
                    code="spring",
                    display_name="Spring",
                    percent_off=coupon_pb2.PercentOff(percent=decimal_pb2.Decimal(value="10")),
                    duration=coupon_pb2.Coupon.ONCE,
                )
            )
        )
        await self.coupons.CreateCouponCodes(
            coupon_pb.CreateCouponCodesRequest(coupon_id=self.coupon.id, code="SPRING")
        )
        self.redemption = await self.coupons.RedeemCoupon(
            coupon_pb.RedeemCouponRequest(coupon_code="SPRING", customer_id=CUSTOMER)
        )


@pytest_asyncio.fixture
async def stock(suite: Suite, shop: Any) -> Stock:  # Any: as above
    stock = Stock(suite, shop)
    await stock.fill()
    return stock


async def listed(api: Any, coupons: Any, coupon_id: str) -> list[Sequence[Message]]:  # Any: grpc stubs are generated
    return [
        (await api.ListProducts(pb.ListProductsRequest())).products,
        (await api.ListTaxCodes(pb.ListTaxCodesRequest())).tax_codes,
        (await api.ListFeatures(pb.ListFeaturesRequest())).features,
        (await api.ListPlans(pb.ListPlansRequest())).plans,
        (await api.ListContractPrices(pb.ListContractPricesRequest())).prices,
        (await coupons.ListCoupons(coupon_pb.ListCouponsRequest())).coupons,
        (await coupons.ListCouponCodes(coupon_pb.ListCouponCodesRequest(coupon_id=coupon_id))).coupon_codes,
        (await coupons.ListRedemptions(coupon_pb.ListRedemptionsRequest())).redemptions,
    ]


async def test_another_seller_finds_nothing_by_id_or_code(stock: Stock) -> None:
    """An id is no secret: it stands in invoices, events and addresses of pages."""
    api = stock.suite.stub(CatalogServiceStub, "catalog", seller=OTHER)
    coupons = stock.suite.stub(CouponServiceStub, "catalog", seller=OTHER)
    price_id = stock.plan.prices[0].id
    calls: list[tuple[Callable[[], Any], str]] = [  # Any: calls of grpc
        (lambda: api.GetProduct(pb.GetProductRequest(id=stock.shop.seats.id)), "PRODUCT_NOT_FOUND"),
        (lambda: api.UpdateProduct(pb.UpdateProductRequest(id=stock.shop.seats.id)), "PRODUCT_NOT_FOUND"),
        (lambda: api.CheckPrice(pb.CheckPriceRequest(price=stock.shop.price())), "PRODUCT_NOT_FOUND"),
        (
            lambda: api.CreateProduct(pb.CreateProductRequest(code="x", display_name="X", tax_code="standard")),
            "TAX_CODE_NOT_FOUND",
        ),
        (lambda: api.GetPlan(pb.GetPlanRequest(id=stock.plan.id)), "PLAN_NOT_FOUND"),
        (lambda: api.GetPlan(pb.GetPlanRequest(code="team")), "PLAN_NOT_FOUND"),
        (lambda: api.GetPlan(pb.GetPlanRequest(code="team", version=1)), "PLAN_NOT_FOUND"),
        (lambda: api.CreatePlanVersion(pb.CreatePlanVersionRequest(code="team")), "PLAN_NOT_FOUND"),
        (lambda: api.UpdatePlan(pb.UpdatePlanRequest(id=stock.draft.id, display_name="X")), "PLAN_NOT_FOUND"),
        (
            lambda: api.CreatePrice(
                pb.CreatePriceRequest(plan_id=stock.draft.id, price=stock.shop.price(code="second"))
            ),
            "PLAN_NOT_FOUND",
        ),
        (lambda: api.PublishPlan(pb.PublishPlanRequest(id=stock.draft.id)), "PLAN_NOT_FOUND"),
        (lambda: api.ArchivePlan(pb.ArchivePlanRequest(id=stock.plan.id)), "PLAN_NOT_FOUND"),
        (lambda: api.GetPrice(pb.GetPriceRequest(id=price_id)), "PRICE_NOT_FOUND"),
        (lambda: api.GetPrice(pb.GetPriceRequest(id=stock.negotiated.id)), "PRICE_NOT_FOUND"),
        (lambda: api.BatchGetPrices(pb.BatchGetPricesRequest(ids=[stock.negotiated.id])), "PRICE_NOT_FOUND"),
        (
            lambda: api.CreateContractPrice(
                pb.CreateContractPriceRequest(list_price_id=price_id, customer_id=CUSTOMER, price=stock.shop.price("1"))
            ),
            "PRICE_NOT_FOUND",
        ),
        (lambda: coupons.GetCoupon(coupon_pb.GetCouponRequest(id=stock.coupon.id)), "COUPON_NOT_FOUND"),
        (lambda: coupons.GetCoupon(coupon_pb.GetCouponRequest(code="spring")), "COUPON_NOT_FOUND"),
        (lambda: coupons.ArchiveCoupon(coupon_pb.ArchiveCouponRequest(id=stock.coupon.id)), "COUPON_NOT_FOUND"),
        (
            lambda: coupons.CreateCouponCodes(
                coupon_pb.CreateCouponCodesRequest(coupon_id=stock.coupon.id, code="MINE")
            ),
            "COUPON_NOT_FOUND",
        ),
        (
            lambda: coupons.RedeemCoupon(coupon_pb.RedeemCouponRequest(coupon_code="SPRING", customer_id=CUSTOMER)),
            "REDEMPTION_CODE_NOT_FOUND",
        ),
        (
            lambda: coupons.RedeemCoupon(
                coupon_pb.RedeemCouponRequest(coupon_id=stock.coupon.id, customer_id=CUSTOMER)
            ),
            "COUPON_NOT_FOUND",
        ),
        (
            lambda: coupons.ReleaseRedemption(coupon_pb.ReleaseRedemptionRequest(id=stock.redemption.id)),
            "REDEMPTION_NOT_FOUND",
        ),
    ]
    for call, reason in calls:
        with refused(reason):
            await call()


async def test_another_seller_lists_and_exports_nothing(stock: Stock) -> None:
    """A list names no id, so nothing but the seller of the token keeps it apart."""
    api = stock.suite.stub(CatalogServiceStub, "catalog", seller=OTHER)
    coupons = stock.suite.stub(CouponServiceStub, "catalog", seller=OTHER)
    own = await listed(stock.shop.api, stock.coupons, stock.coupon.id)
    others = await listed(api, coupons, stock.coupon.id)
    assert [len(found) for found in own] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert [len(found) for found in others] == [0] * 8
    document = (await api.ExportCatalog(pb.ExportCatalogRequest())).document
    assert not any(word in document for word in ("seats", "team", "spring", "standard", "sso"))


@pytest.mark.own_services
async def test_the_tables_themselves_keep_sellers_apart(stock: Stock) -> None:
    """A query that forgets its condition shows and changes nothing of another seller; one without a seller nothing."""
    tables = ["products", "tax_codes", "features", "plans", "prices", "coupons", "coupon_codes", "redemptions"]
    connection = await asyncpg.connect(stock.suite.urls["catalog"].replace("+asyncpg", ""))
    try:
        for seller in ("", OTHER):
            await connection.execute("SELECT set_config('saldo.seller', $1, false)", seller)
            assert [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == [0] * 8
            assert await connection.execute("UPDATE coupons SET redemption_count = 0") == "UPDATE 0"
        await connection.execute("SELECT set_config('saldo.seller', $1, false)", stock.suite.seller)
        assert 0 not in [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    finally:
        await connection.close()
