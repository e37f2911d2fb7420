"""Codes of coupons through the door: made one by one or by the thousand, each unique, and told to nobody else."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from common import wire
from common.testing import Suite, refused
from saldo.catalog.v1 import coupon_pb2, events_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from services.catalog.tests.coupons import JAN_1, Coupons, customer_id

SECONDS_FOR_MANY_CODES_MAX = 5
"""Ten times what it takes on a machine that does nothing else."""


@pytest.mark.own_services
async def test_a_code_is_understood_in_any_case_and_told_to_nobody(suite: Suite, coupons: Coupons) -> None:
    """Stored and answered in upper case; events are read by many, and who reads a code could redeem it."""
    coupon = await coupons.create()
    created = await coupons.code(coupon, "Hello-2026")
    assert created == coupon_pb2.CouponCode(code="HELLO-2026", coupon_id=coupon.id, create_time=wire.timestamp(JAN_1))
    redemption = await coupons.type_in("hellO-2026", customer_id())
    assert (redemption.coupon_code, redemption.coupon.id) == ("HELLO-2026", coupon.id)
    await suite.quiet()
    (event,) = suite.announced(events_pb2.RedemptionCreated)
    redemption.coupon_code = ""
    assert event.redemption == redemption
    assert not any(b"HELLO" in message.data for message in suite.bus.published("CATALOG"))


async def test_a_code_is_unique_for_its_seller(coupons: Coupons) -> None:
    """What is typed in must mean one coupon, however it is typed; the refusal does not repeat it."""
    one, other = await coupons.create("one"), await coupons.create("other")
    await coupons.code(one, "HELLO")
    for coupon in (one, other):
        with refused("REDEMPTION_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
            await coupons.code(coupon, "hello")
        assert "hello" not in f"{refusal.message} {refusal.metadata}".lower()


async def test_a_code_of_one_customer_is_not_anothers(coupons: Coupons) -> None:
    """What was sent to Ada cannot be used by whoever sees it."""
    coupon = await coupons.create()
    ada = customer_id()
    assert (await coupons.code(coupon, "FOR-ADA", customer_id=ada)).customer_id == ada
    with refused("REDEMPTION_CODE_OF_ANOTHER_CUSTOMER", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.type_in("FOR-ADA", customer_id())
    assert (await coupons.type_in("FOR-ADA", ada)).coupon_code == "FOR-ADA"


async def test_ten_thousand_codes_are_made_at_once(coupons: Coupons) -> None:
    """A mailing to all customers is one call; each code is unique, has the prefix, and cannot be guessed."""
    coupon = await coupons.create()
    request = pb.CreateCouponCodesRequest(
        coupon_id=coupon.id, count=10_000, prefix="mail-", redemptions_max=1, request_id="mailing"
    )
    started = time.monotonic()
    answer = await coupons.api.CreateCouponCodes(request)
    assert time.monotonic() - started < SECONDS_FOR_MANY_CODES_MAX
    codes = [each.code for each in answer.coupon_codes]
    assert len(set(codes)) == 10_000
    assert codes == sorted(codes)
    # The symbols at every place are about as many as there are: nothing but the prefix repeats.
    drawn = [code.removeprefix("MAIL-").replace("-", "") for code in codes]
    assert {len(each) for each in drawn} == {14}
    assert min(len(set(place)) for place in zip(*drawn, strict=True)) == 22
    assert {(each.coupon_id, each.redemptions_max, each.redemption_count) for each in answer.coupon_codes} == {
        (coupon.id, 1, 0)
    }
    # The letters are in the post: whoever asks again must hear of the same codes.
    assert await coupons.api.CreateCouponCodes(request) == answer
    listed: list[coupon_pb2.CouponCode] = []
    token = ""
    for _ in range(10):
        page = await coupons.api.ListCouponCodes(
            pb.ListCouponCodesRequest(coupon_id=coupon.id, page_size=1000, page_token=token)
        )
        listed.extend(page.coupon_codes)
        token = page.next_page_token
    assert (listed, token) == (list(answer.coupon_codes), "")
    ada = customer_id()
    await coupons.type_in(codes[0], ada)
    with refused("COUPON_USED_UP"):
        await coupons.type_in(codes[0], ada)


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "count"),
        ({"count": -1}, "count"),
        ({"count": 10_001}, "count"),
        ({"count": 1, "code": "HELLO"}, "count"),
        ({"prefix": "A", "code": "HELLO"}, "prefix"),
        ({"count": 1, "prefix": "A_"}, "prefix"),
        ({"count": 1, "prefix": "A" * 17}, "prefix"),
        ({"code": "AB"}, "code"),
        ({"code": "straße"}, "code"),
        ({"count": 1, "redemptions_max": -1}, "redemptions_max"),
        ({"count": 1, "customer_id": "ada"}, "customer_id"),
        ({"coupon_id": "spring", "count": 1}, "coupon_id"),
    ],
)
async def test_codes_that_cannot_be_made_are_refused_by_field(
    coupons: Coupons, request_fields: dict[str, Any], field: str
) -> None:
    """One given code, or a number of made-up ones."""
    coupon = await coupons.create()
    request = pb.CreateCouponCodesRequest(coupon_id=coupon.id)
    request.MergeFrom(pb.CreateCouponCodesRequest(**request_fields))
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.CreateCouponCodes(request)
    assert refusal.field == field
    assert not (await coupons.api.ListCouponCodes(pb.ListCouponCodesRequest(coupon_id=coupon.id))).coupon_codes
