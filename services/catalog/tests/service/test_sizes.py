"""How large a plan may become, and how much of a list one answer holds."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from google.type import decimal_pb2

from catalog.convert.limits import ANNOUNCED_BYTES_MAX
from catalog.convert.page import PAGE_BYTES_MAX
from common import ids, wire
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import coupon_service_pb2 as coupon_pb
from saldo.catalog.v1 import events_pb2, price_pb2
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.

FINE = decimal_pb2.Decimal(value="123456789012345.123456789012345678")


def matrices(shop: Any, count: int) -> list[price_pb2.Price]:  # Any: as above
    """Prices within every bound of a price, each of some 97 kilobytes."""
    tiers = [price_pb2.Tier(up_to=decimal_pb2.Decimal(value=str(10**12 + n)), unit_price=FINE) for n in range(99)]
    tariff = price_pb2.Tariff(graduated=price_pb2.GraduatedModel(tiers=[*tiers, price_pb2.Tier(unit_price=FINE)]))
    return [matrix(shop, [[f"zone {cell}"] for cell in range(16)], tariff, code=f"calls-{n}") for n in range(count)]


def matrix(
    shop: Any,  # as above
    cells: list[list[str]],
    tariff: price_pb2.Tariff,
    **changes: Any,  # fields of the price
) -> price_pb2.Price:
    price: price_pb2.Price = shop.price(meter="calls", billing_timing=price_pb2.Price.IN_ARREARS, **changes)
    price.matrix.CopyFrom(
        price_pb2.MatrixModel(
            dimensions=["zone", "size"][: len(cells[0])],
            cells=[price_pb2.MatrixCell(values=values, tariff=tariff) for values in cells],
            default_tariff=tariff,
        )
    )
    return price


def wordy(shop: Any) -> price_pb2.Price:  # Any: as above
    """One price of more than a megabyte: its cells have the longest names there are."""
    tariff = price_pb2.Tariff(per_unit=price_pb2.PerUnitModel(unit_price=FINE))
    return matrix(shop, [["𝔷" * 128, f"{n:04}" + "𝔷" * 124] for n in range(1000)], tariff)


async def test_a_plan_is_never_too_large_to_be_announced(suite: Suite, shop: Any) -> None:
    """Of a plan larger than an event can be nobody would learn, and no client could read it."""
    *most, more = matrices(shop, 11)
    assert 0.8 * ANNOUNCED_BYTES_MAX < sum(price.ByteSize() for price in most) < ANNOUNCED_BYTES_MAX
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.draft(prices=[*most, more])
    assert refusal.field == "prices"
    plan = await shop.draft(prices=most)
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.CreatePrice(pb.CreatePriceRequest(plan_id=plan.id, price=more))
    assert refusal.field == "price"
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.UpdatePlan(pb.UpdatePlanRequest(id=plan.id, display_name="Team", prices=[*most, more]))
    assert refusal.field == "prices"
    published = await shop.publish(plan)
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.CreateContractPrice(
            pb.CreateContractPriceRequest(
                list_price_id=published.prices[0].id,
                customer_id=ids.mint("cus", SANDBOX_START),
                price=wordy(shop),
            )
        )
    assert refusal.field == "price"
    await suite.quiet()
    assert [event.plan.id for event in suite.announced(events_pb2.PlanCreated)] == [plan.id]
    assert [event.plan.id for event in suite.announced(events_pb2.PlanPublished)] == [plan.id]


async def test_a_page_of_large_plans_is_shorter_than_was_asked_for(shop: Any) -> None:
    """A client takes four megabytes; whoever asks for a thousand plans gets what fits, and the way to the rest."""
    made = [(await shop.draft(f"plan-{n}", prices=matrices(shop, 10))).id for n in range(4)]
    found: list[str] = []
    sizes: list[int] = []
    token = ""
    while not sizes or token:
        page = await shop.api.ListPlans(pb.ListPlansRequest(page_size=1000, page_token=token))
        found += [plan.id for plan in page.plans]
        sizes.append(len(page.plans))
        token = page.next_page_token
        assert page.ByteSize() < PAGE_BYTES_MAX + 1000
    assert (found, sizes) == (made, [3, 1])


@pytest.mark.parametrize(
    ("method", "request_class", "key"),
    [
        ("ListProducts", pb.ListProductsRequest, "plan"),
        ("ListTaxCodes", pb.ListTaxCodesRequest, "prod"),
        ("ListFeatures", pb.ListFeaturesRequest, "prod"),
        ("ListPlans", pb.ListPlansRequest, "prod"),
        ("ListContractPrices", pb.ListContractPricesRequest, "plan"),
        ("ListCoupons", coupon_pb.ListCouponsRequest, "redm"),
    ],
)
async def test_a_place_in_another_list_is_none_in_this_one(
    suite: Suite, catalog: Any, method: str, request_class: type[Message], key: str
) -> None:
    """It would answer an empty or a truncated list, which looks as if there were no more."""
    coupons = suite.stub(CouponServiceStub, "catalog")
    token = wire.encode_page_token(ids.mint(key, SANDBOX_START))
    with refused("INVALID_ARGUMENT") as refusal:
        await getattr(coupons if method == "ListCoupons" else catalog, method)(request_class(page_token=token))
    assert refusal.field == "page_token"


@pytest.mark.parametrize(
    ("time", "redemption"),
    [
        ("0001-01-01T00:00:00+23:59", "redm"),
        ("9999-12-31T23:59:59-23:59", "redm"),
        ("2026-01-01T00:00:00", "redm"),
        ("2026-01-01T01:00:00+01:00", "redm"),
        ("today", "redm"),
        ("2026-01-01T00:00:00+00:00", "coup"),
    ],
)
async def test_a_forged_place_among_redemptions_is_refused(
    suite: Suite, catalog: Any, time: str, redemption: str
) -> None:
    """Tokens are no secret: an instant that no calendar holds must not be the database's problem."""
    coupons = suite.stub(CouponServiceStub, "catalog")
    token = wire.encode_page_token(time, ids.mint(redemption, SANDBOX_START))
    with refused("INVALID_ARGUMENT") as refusal:
        await coupons.ListRedemptions(coupon_pb.ListRedemptionsRequest(page_token=token))
    assert refusal.field == "page_token"
