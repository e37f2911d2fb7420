"""A seller who offers coupons, and the requests that most tests of them make."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import grpc.aio
from google.type import decimal_pb2

from common import ids
from common.rpc import error_info
from common.testing import Suite
from saldo.catalog.v1 import coupon_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub

ONCE, REPEATING = coupon_pb2.Coupon.ONCE, coupon_pb2.Coupon.REPEATING
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def customer_id() -> str:
    return ids.mint("cus", JAN_1)


def offer(code: str = "spring", **changes: Any) -> coupon_pb2.Coupon:  # Any: fields of the message
    coupon = coupon_pb2.Coupon(
        code=code,
        display_name="Spring",
        percent_off=coupon_pb2.PercentOff(percent=decimal("10")),
        duration=ONCE,
    )
    coupon.MergeFrom(coupon_pb2.Coupon(**changes))
    return coupon


class Coupons:
    """The door, with the requests that most tests make."""

    def __init__(self, suite: Suite) -> None:
        self.api: Any = suite.stub(CouponServiceStub, "catalog")  # Any: grpc stubs are generated

    async def create(self, code: str = "spring", **changes: Any) -> coupon_pb2.Coupon:  # Any: fields of the coupon
        coupon: coupon_pb2.Coupon = await self.api.CreateCoupon(pb.CreateCouponRequest(coupon=offer(code, **changes)))
        return coupon

    async def code(self, coupon: coupon_pb2.Coupon, code: str, **changes: Any) -> coupon_pb2.CouponCode:  # Any: fields
        answer = await self.api.CreateCouponCodes(
            pb.CreateCouponCodesRequest(coupon_id=coupon.id, code=code, **changes)
        )
        (created,) = answer.coupon_codes
        found: coupon_pb2.CouponCode = created
        return found

    async def redeem(self, coupon: coupon_pb2.Coupon, customer: str, **changes: Any) -> coupon_pb2.Redemption:  # Any
        redemption: coupon_pb2.Redemption = await self.api.RedeemCoupon(
            pb.RedeemCouponRequest(coupon_id=coupon.id, customer_id=customer, **changes)
        )
        return redemption

    async def type_in(self, code: str, customer: str) -> coupon_pb2.Redemption:
        redemption: coupon_pb2.Redemption = await self.api.RedeemCoupon(
            pb.RedeemCouponRequest(coupon_code=code, customer_id=customer)
        )
        return redemption

    async def release(self, redemption: coupon_pb2.Redemption) -> coupon_pb2.Redemption:
        released: coupon_pb2.Redemption = await self.api.ReleaseRedemption(
            pb.ReleaseRedemptionRequest(id=redemption.id)
        )
        return released

    async def get(self, coupon: coupon_pb2.Coupon) -> coupon_pb2.Coupon:
        found: coupon_pb2.Coupon = await self.api.GetCoupon(pb.GetCouponRequest(id=coupon.id))
        return found

    async def redemptions(self, **filters: Any) -> list[coupon_pb2.Redemption]:  # Any: fields of the request
        return list((await self.api.ListRedemptions(pb.ListRedemptionsRequest(**filters))).redemptions)


async def outcomes(*calls: Any) -> Counter[str]:  # Any: calls of grpc
    """How often each reason was given, with "" for what was done."""
    found: Counter[str] = Counter()
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, grpc.aio.AioRpcError):
            info = error_info(answer)
            found[info.reason if info else answer.code().name] += 1
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[""] += 1
    return found
