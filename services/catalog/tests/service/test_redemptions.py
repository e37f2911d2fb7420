"""Redemptions of coupons through the door: as many as there may be under any rush, given back once, and listed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import Role
from common.testing import Suite, refused
from saldo.catalog.v1 import coupon_pb2, events_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from services.catalog.tests.coupons import JAN_1, Coupons, customer_id, outcomes


async def test_a_coupon_is_redeemed_as_often_as_it_says_under_any_rush(coupons: Coupons) -> None:
    """Twenty at once for five places: five get one, and the count says five."""
    coupon = await coupons.create(redemptions_max=5)
    found = await outcomes(*(coupons.redeem(coupon, customer_id()) for _ in range(20)))
    assert found == {"": 5, "COUPON_USED_UP": 15}
    assert (await coupons.get(coupon)).redemption_count == len(await coupons.redemptions()) == 5


async def test_a_customer_redeems_as_often_as_one_may_under_any_rush(coupons: Coupons) -> None:
    """Who clicks twenty times gets five, and leaves the rest to others."""
    coupon = await coupons.create(redemptions_per_customer_max=5)
    ada, bob = customer_id(), customer_id()
    found = await outcomes(*(coupons.redeem(coupon, ada) for _ in range(20)), coupons.redeem(coupon, bob))
    assert found == {"": 6, "COUPON_USED_UP_BY_CUSTOMER": 15}
    assert len(await coupons.redemptions(customer_id=ada)) == 5
    assert len(await coupons.redemptions(customer_id=bob)) == 1


async def test_a_code_is_redeemed_as_often_as_it_says_under_any_rush(coupons: Coupons) -> None:
    """Also while the coupon is redeemed by other codes and without any."""
    coupon = await coupons.create()
    await coupons.code(coupon, "FIVE", redemptions_max=5)
    await coupons.code(coupon, "MANY")
    found = await outcomes(
        *(coupons.type_in("FIVE", customer_id()) for _ in range(20)),
        *(coupons.type_in("MANY", customer_id()) for _ in range(5)),
        *(coupons.redeem(coupon, customer_id()) for _ in range(5)),
    )
    assert found == {"": 15, "COUPON_USED_UP": 15}
    codes = (await coupons.api.ListCouponCodes(pb.ListCouponCodesRequest(coupon_id=coupon.id))).coupon_codes
    assert {code.code: code.redemption_count for code in codes} == {"FIVE": 5, "MANY": 5}
    assert (await coupons.get(coupon)).redemption_count == 15


async def test_a_release_gives_the_limits_back_once(suite: Suite, coupons: Coupons) -> None:
    """To the coupon, the customer and the code; twenty releases of one redemption give back one."""
    coupon = await coupons.create(redemptions_max=2, redemptions_per_customer_max=1)
    await coupons.code(coupon, "ONCE", redemptions_max=1)
    ada = customer_id()
    redemption = await coupons.type_in("ONCE", ada)
    await coupons.redeem(coupon, customer_id())
    with refused("COUPON_USED_UP", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.type_in("ONCE", ada)
    later = JAN_1 + timedelta(days=1)
    await suite.travel(later)
    assert await outcomes(*(coupons.release(redemption) for _ in range(20))) == {"": 20}
    await suite.travel(later + timedelta(days=1))
    redemption.release_time.CopyFrom(wire.timestamp(later))
    assert await coupons.release(redemption) == redemption
    assert (await coupons.get(coupon)).redemption_count == 1
    again = await coupons.type_in("ONCE", ada)
    assert again.id != redemption.id
    assert again.coupon.redemption_count == 2
    # What was taken back stays on record.
    assert await coupons.redemptions(customer_id=ada) == [redemption, again]
    await suite.quiet()
    redemption.coupon_code = ""
    assert [event.redemption for event in suite.announced(events_pb2.RedemptionReleased)] == [redemption]
    with refused("REDEMPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.api.ReleaseRedemption(pb.ReleaseRedemptionRequest(id=ids.mint("redm", JAN_1)))


async def test_a_redemption_names_one_thing_and_a_customer(coupons: Coupons) -> None:
    """A code or a coupon that exists, and somebody to be discounted."""
    coupon = await coupons.create()
    ada = customer_id()
    for fields, field in [
        ({"customer_id": ada}, "coupon_code"),
        ({"customer_id": ada, "coupon_id": coupon.id, "coupon_code": "HELLO"}, "coupon_code"),
        ({"customer_id": ada, "coupon_code": "no such!"}, "coupon_code"),
        ({"customer_id": ada, "coupon_id": "spring"}, "coupon_id"),
        ({"coupon_id": coupon.id}, "customer_id"),
    ]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await coupons.api.RedeemCoupon(pb.RedeemCouponRequest(**fields))
        assert refusal.field == field
    with refused("REDEMPTION_CODE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.type_in("NOWHERE", ada)
    coupon.id = ids.mint("coup", JAN_1)
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.redeem(coupon, ada)
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.code(coupon, "HELLO")
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id))


async def test_a_repeated_request_is_carried_out_once(suite: Suite, coupons: Coupons) -> None:
    """Who does not hear the answer asks again, and is not discounted twice for it."""
    coupon = await coupons.create()
    ada = customer_id()
    first, *others = await asyncio.gather(*(coupons.redeem(coupon, ada, request_id="r1") for _ in range(5)))
    assert others == [first] * 4
    assert (await coupons.get(coupon)).redemption_count == 1
    await suite.quiet()
    assert len(suite.announced(events_pb2.RedemptionCreated)) == 1


async def test_redemptions_are_listed_in_the_order_in_which_they_stack(suite: Suite, coupons: Coupons) -> None:
    """By time, and by id within one instant; page by page; of a customer, of a coupon, before an instant."""
    one, other = await coupons.create("one"), await coupons.create("other")
    ada, bob = customer_id(), customer_id()
    early = [await coupons.redeem(*each) for each in ((other, ada), (one, ada), (one, bob), (other, ada))]
    later = JAN_1 + timedelta(days=1)
    await suite.travel(later)
    late = [await coupons.redeem(*each) for each in ((one, bob), (other, ada))]
    everything = [*early, *late]
    listed: list[coupon_pb2.Redemption] = []
    token = ""
    for _ in range(3):
        page = await coupons.api.ListRedemptions(pb.ListRedemptionsRequest(page_size=2, page_token=token))
        listed.extend(page.redemptions)
        token = page.next_page_token
    assert (listed, token) == (everything, "")
    assert await coupons.redemptions(customer_id=ada) == [each for each in everything if each.customer_id == ada]
    assert await coupons.redemptions(coupon_id=one.id) == [each for each in everything if each.coupon.id == one.id]
    assert await coupons.redemptions(customer_id=bob, coupon_id=one.id) == [early[2], late[0]]
    assert await coupons.redemptions(before_time=wire.timestamp(later)) == early
    assert await coupons.redemptions(customer_id=ada, before_time=wire.timestamp(JAN_1)) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_token": wire.encode_page_token("a")}, "page_token"),
        ({"page_token": wire.encode_page_token("noon", "redm")}, "page_token"),
        ({"page_token": wire.encode_page_token("2026-01-01", "redm")}, "page_token"),
        ({"before_time": {}}, "before_time"),
        ({"customer_id": "ada"}, "customer_id"),
        ({"coupon_id": "spring"}, "coupon_id"),
        ({"page_size": -1}, "page_size"),
    ],
)
async def test_a_list_that_cannot_be_read_is_refused_by_field(
    coupons: Coupons, fields: dict[str, Any], field: str
) -> None:
    """Tokens are handed back unchanged, ids are ids."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.ListRedemptions(pb.ListRedemptionsRequest(**fields))
    assert refusal.field == field


async def test_who_only_reads_redeems_nothing(suite: Suite, coupons: Coupons) -> None:
    """A viewer sees what is offered."""
    coupon = await coupons.create()
    viewer = suite.stub(CouponServiceStub, "catalog", role=Role.VIEWER)
    assert await viewer.GetCoupon(pb.GetCouponRequest(id=coupon.id)) == coupon
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.RedeemCoupon(pb.RedeemCouponRequest(coupon_id=coupon.id, customer_id=customer_id()))
