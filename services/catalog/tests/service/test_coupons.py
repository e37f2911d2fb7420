"""Coupons through their door: real PostgreSQL, real gRPC."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, coupon_pb2, events_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from services.catalog.tests.coupons import JAN_1, REPEATING, Coupons, customer_id, decimal, offer, outcomes


async def test_a_coupon_is_offered_redeemed_and_announced(suite: Suite, coupons: Coupons) -> None:
    """The main job: what is promised is stored as it was said, and everybody hears of it once."""
    created = await coupons.create(redemptions_max=2, valid_until_time=wire.timestamp(JAN_1 + timedelta(days=9)))
    expected = offer(redemptions_max=2, valid_until_time=created.valid_until_time)
    expected.MergeFrom(
        coupon_pb2.Coupon(id=created.id, state=coupon_pb2.Coupon.ACTIVE, revision=1, create_time=wire.timestamp(JAN_1))
    )
    assert created == expected
    assert ids.prefix_of(created.id) == "coup"
    for key in ({"id": created.id}, {"code": "spring"}):
        assert await coupons.api.GetCoupon(pb.GetCouponRequest(**key)) == created
    ada = customer_id()
    redemption = await coupons.redeem(created, ada)
    assert ids.prefix_of(redemption.id) == "redm"
    assert (redemption.customer_id, redemption.coupon_code) == (ada, "")
    assert redemption.redeem_time == wire.timestamp(JAN_1)
    created.redemption_count = 1
    assert redemption.coupon == await coupons.get(created) == created
    await suite.quiet()
    created.redemption_count = 0
    assert [event.coupon for event in suite.announced(events_pb2.CouponCreated)] == [created]
    assert [event.redemption for event in suite.announced(events_pb2.RedemptionCreated)] == [redemption]


async def test_every_benefit_comes_back_as_it_was_given(suite: Suite, coupons: Coupons) -> None:
    """Exact to the last decimal."""
    catalog = suite.stub(CatalogServiceStub, "catalog")
    await catalog.CreateProduct(catalog_service_pb2.CreateProductRequest(code="seats", display_name="Seats"))
    await catalog.CreatePlan(catalog_service_pb2.CreatePlanRequest(code="team", display_name="Team"))
    amounts = [wire.money(Money(501, "EUR")), wire.money(Money(700, "JPY"))]
    benefits: list[coupon_pb2.Coupon] = [
        coupon_pb2.Coupon(percent_off=coupon_pb2.PercentOff(percent=decimal("12.345678901234"))),
        coupon_pb2.Coupon(amount_off=coupon_pb2.AmountOff(amounts=amounts)),
        coupon_pb2.Coupon(free_units=coupon_pb2.FreeUnits(product="seats", quantity=decimal("0.000000000001"))),
    ]
    for n, benefit in enumerate(benefits):
        terms = offer(f"c{n}", duration=REPEATING, duration_periods=3, products=["seats"], plans=["team"])
        terms.MergeFrom(benefit)
        created = await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=terms))
        terms.MergeFrom(
            coupon_pb2.Coupon(
                id=created.id, state=coupon_pb2.Coupon.ACTIVE, revision=1, create_time=wire.timestamp(JAN_1)
            )
        )
        assert created == terms
        assert await coupons.get(created) == created


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"code": "Spring!"}, "coupon.code", "INVALID_ARGUMENT"),
        ({"display_name": "x" * 201}, "coupon.display_name", "INVALID_ARGUMENT"),
        ({"display_name": "two\nlines"}, "coupon.display_name", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("0")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("100.1")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("ten")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("0.0000000000001")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"amount_off": {}}, "coupon.amount_off.amounts", "INVALID_ARGUMENT"),
        (
            {"amount_off": {"amounts": [{"currency_code": "EUR", "units": -1}]}},
            "coupon.amount_off.amounts[0]",
            "INVALID_ARGUMENT",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "JPY", "nanos": 1}]}},
            "coupon.amount_off.amounts[0].nanos",
            "INVALID_ARGUMENT",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "XXX", "units": 1}]}},
            "coupon.amount_off.amounts[0].currency_code",
            "UNKNOWN_CURRENCY",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "EUR", "units": 1}] * 2}},
            "coupon.amount_off.amounts[1].currency_code",
            "INVALID_ARGUMENT",
        ),
        (
            {"free_units": {"product": "seats", "quantity": decimal("-1")}},
            "coupon.free_units.quantity",
            "INVALID_ARGUMENT",
        ),
        ({"duration": 9}, "coupon.duration", "INVALID_ARGUMENT"),
        ({"duration": REPEATING}, "coupon.duration_periods", "INVALID_ARGUMENT"),
        ({"duration_periods": 2}, "coupon.duration_periods", "INVALID_ARGUMENT"),
        ({"redemptions_max": -1}, "coupon.redemptions_max", "INVALID_ARGUMENT"),
        ({"redemptions_per_customer_max": -1}, "coupon.redemptions_per_customer_max", "INVALID_ARGUMENT"),
        ({"valid_from_time": {}}, "coupon.valid_from_time", "INVALID_ARGUMENT"),
        (
            {"valid_from_time": wire.timestamp(JAN_1), "valid_until_time": wire.timestamp(JAN_1)},
            "coupon.valid_until_time",
            "INVALID_ARGUMENT",
        ),
        ({"products": ["a", "b", "a"]}, "coupon.products[2]", "INVALID_ARGUMENT"),
        ({"plans": ["Team"]}, "coupon.plans[0]", "INVALID_ARGUMENT"),
    ],
)
async def test_a_bad_coupon_is_refused_with_its_field(
    coupons: Coupons, changes: dict[str, Any], field: str, reason: str
) -> None:
    """Whoever offers a discount sees at once what is wrong with it, and nothing is stored."""
    coupon = offer()
    coupon.MergeFrom(coupon_pb2.Coupon(**changes))
    with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=coupon))
    assert refusal.field == field
    assert not (await coupons.api.ListCoupons(pb.ListCouponsRequest())).coupons


async def test_a_coupon_must_say_what_it_takes_off_and_for_how_long(coupons: Coupons) -> None:
    """Nothing is not a discount, and nobody is to guess how long one lasts."""
    nothing, always = offer(), offer()
    nothing.ClearField("benefit")
    always.ClearField("duration")
    for coupon, field in [(nothing, "coupon.benefit"), (always, "coupon.duration")]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=coupon))
        assert refusal.field == field


async def test_what_a_coupon_names_must_exist(coupons: Coupons) -> None:
    """A discount on a product with a misspelt code would be given to nobody."""
    free = coupon_pb2.FreeUnits(product="sets", quantity=decimal("1"))
    cases: list[tuple[dict[str, Any], str]] = [  # Any: fields of the coupon
        ({"products": ["sets"]}, "PRODUCT_NOT_FOUND"),
        ({"free_units": free}, "PRODUCT_NOT_FOUND"),
        ({"plans": ["sets"]}, "PLAN_NOT_FOUND"),
    ]
    for changes, reason in cases:
        with refused(reason, grpc.StatusCode.NOT_FOUND) as refusal:
            await coupons.create(**changes)
        assert refusal.metadata["code"] == "sets"


async def test_a_coupons_key_is_unique_for_its_seller(suite: Suite, coupons: Coupons) -> None:
    """A key names one thing, and another seller's keys are not in the way; nor can its coupons be seen."""
    created = await coupons.create()
    with refused("COUPON_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS):
        await coupons.create()
    other = suite.stub(CouponServiceStub, "catalog", role=Role.OWNER, seller=SellerId(ids.mint(ids.SANDBOX, JAN_1)))
    assert (await other.CreateCoupon(pb.CreateCouponRequest(coupon=offer()))).id != created.id
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.GetCoupon(pb.GetCouponRequest(id=created.id))
    await coupons.code(created, "HELLO")
    with refused("REDEMPTION_CODE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.RedeemCoupon(pb.RedeemCouponRequest(coupon_code="HELLO", customer_id=customer_id()))


async def test_coupons_are_found_by_one_key_and_listed_in_order(coupons: Coupons) -> None:
    """Page by page, each once."""
    created = [await coupons.create(f"c{n}") for n in range(5)]
    first = await coupons.api.ListCoupons(pb.ListCouponsRequest(page_size=3))
    rest = await coupons.api.ListCoupons(pb.ListCouponsRequest(page_size=3, page_token=first.next_page_token))
    assert [*first.coupons, *rest.coupons] == created
    assert not rest.next_page_token
    for key in ({}, {"id": created[0].id, "code": "c0"}):
        with refused("INVALID_ARGUMENT") as refusal:
            await coupons.api.GetCoupon(pb.GetCouponRequest(**key))
        assert refusal.field == "id"
    for missing in ({"id": ids.mint("coup", JAN_1)}, {"code": "c9"}):
        with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await coupons.api.GetCoupon(pb.GetCouponRequest(**missing))


async def test_an_archived_coupon_is_redeemed_by_nobody(suite: Suite, coupons: Coupons) -> None:
    """Neither with a code nor without; what was redeemed goes on and says what it was."""
    coupon = await coupons.create()
    await coupons.code(coupon, "SPRING")
    redemption = await coupons.redeem(coupon, customer_id())
    archived = await coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id))
    assert (archived.state, archived.revision, archived.redemption_count) == (coupon_pb2.Coupon.ARCHIVED, 2, 1)
    assert await outcomes(
        coupons.redeem(coupon, customer_id()),
        coupons.type_in("SPRING", customer_id()),
        coupons.code(coupon, "MORE"),
        coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id)),
    ) == {"COUPON_NOT_ACTIVE": 4}
    assert await coupons.redemptions() == [redemption]
    assert (await coupons.release(redemption)).release_time == wire.timestamp(JAN_1)
    assert (await coupons.get(coupon)).redemption_count == 0
    await suite.quiet()
    assert [event.coupon for event in suite.announced(events_pb2.CouponArchived)] == [archived]


async def test_a_coupon_is_valid_by_the_sellers_clock(suite: Suite, coupons: Coupons) -> None:
    """From its first instant until before its last, in a sandbox by simulated time."""
    begin, end = JAN_1 + timedelta(days=1), JAN_1 + timedelta(days=3)
    coupon = await coupons.create(valid_from_time=wire.timestamp(begin), valid_until_time=wire.timestamp(end))
    with refused("COUPON_NOT_YET_VALID", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.redeem(coupon, customer_id())
    await suite.travel(begin)
    assert (await coupons.redeem(coupon, customer_id())).redeem_time == wire.timestamp(begin)
    await suite.travel(end - timedelta(seconds=1))
    await coupons.redeem(coupon, customer_id())
    await suite.travel(end)
    with refused("COUPON_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.redeem(coupon, customer_id())
    assert (await coupons.get(coupon)).redemption_count == 2
