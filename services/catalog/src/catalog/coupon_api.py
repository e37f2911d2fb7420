"""The door of coupons: parse, call, answer."""

from __future__ import annotations

from collections.abc import Sequence

from catalog import store
from catalog.convert import (
    coupon_code_to_proto,
    coupon_to_proto,
    place,
    redemption_place,
    redemption_to_proto,
    redemption_token,
    shown,
    terms_from_proto,
)
from catalog.domain.coupon import (
    CouponId,
    RedemptionId,
    check_count,
    check_maximum,
    typed_code,
    typed_prefix,
)
from catalog.domain.product import check_code
from catalog.usecases import coupons
from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from saldo.catalog.v1 import coupon_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceServicer


class CouponApi(CouponServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def CreateCoupon(self, request: pb.CreateCouponRequest, tx: Tx) -> coupon_pb2.Coupon:
        return coupon_to_proto(await coupons.create_coupon(tx, terms_from_proto(request.coupon, field="coupon")))

    @transactional
    async def GetCoupon(self, request: pb.GetCouponRequest, tx: Tx) -> coupon_pb2.Coupon:
        if bool(request.id) == bool(request.code):
            raise InvalidArgument("must be given, or a code instead", field="id")
        if request.code:
            return coupon_to_proto(await store.coupon_by_code(tx, check_code(request.code)))
        return coupon_to_proto(await store.coupon(tx, _coupon_id(request.id, field="id")))

    @transactional
    async def ListCoupons(self, request: pb.ListCouponsRequest, tx: Tx) -> pb.ListCouponsResponse:
        page = wire.page(request)
        found = await store.list_coupons(tx, after=place(page, "coup"), limit=page.size + 1)
        listed = shown((coupon_to_proto(coupon) for coupon in found), page.size)
        return pb.ListCouponsResponse(
            coupons=listed, next_page_token=_next([coupon.id for coupon in found], len(listed))
        )

    @transactional
    async def ArchiveCoupon(self, request: pb.ArchiveCouponRequest, tx: Tx) -> coupon_pb2.Coupon:
        return coupon_to_proto(await coupons.archive_coupon(tx, _coupon_id(request.id, field="id")))

    @transactional
    async def CreateCouponCodes(self, request: pb.CreateCouponCodesRequest, tx: Tx) -> pb.CreateCouponCodesResponse:
        coupon_id = _coupon_id(request.coupon_id, field="coupon_id")
        redemptions_max = check_maximum(request.redemptions_max, field="redemptions_max")
        customer_id = _customer_id(request.customer_id) if request.customer_id else ""
        if request.code:
            if request.count or request.prefix:
                raise InvalidArgument("must be left out beside a code", field="count" if request.count else "prefix")
            created = await coupons.create_code(
                tx,
                coupon_id,
                code=typed_code(request.code, field="code"),
                redemptions_max=redemptions_max,
                customer_id=customer_id,
            )
        else:
            created = await coupons.make_up_codes(
                tx,
                coupon_id,
                count=check_count(request.count, field="count"),
                prefix=typed_prefix(request.prefix, field="prefix"),
                redemptions_max=redemptions_max,
                customer_id=customer_id,
            )
        return pb.CreateCouponCodesResponse(coupon_codes=[coupon_code_to_proto(code) for code in created])

    @transactional
    async def ListCouponCodes(self, request: pb.ListCouponCodesRequest, tx: Tx) -> pb.ListCouponCodesResponse:
        page = wire.page(request)
        found = await store.list_codes(
            tx,
            _coupon_id(request.coupon_id, field="coupon_id"),
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListCouponCodesResponse(
            coupon_codes=[coupon_code_to_proto(code) for code in found[: page.size]],
            next_page_token=_next([code.code for code in found], page.size),
        )

    @transactional
    async def RedeemCoupon(self, request: pb.RedeemCouponRequest, tx: Tx) -> coupon_pb2.Redemption:
        if bool(request.coupon_code) == bool(request.coupon_id):
            raise InvalidArgument("must be given, or a coupon_id instead", field="coupon_code")
        customer_id = _customer_id(request.customer_id)
        if request.coupon_code:
            typed = typed_code(request.coupon_code, field="coupon_code")
            return redemption_to_proto(await coupons.redeem_code(tx, typed, customer_id=customer_id))
        coupon_id = _coupon_id(request.coupon_id, field="coupon_id")
        return redemption_to_proto(await coupons.redeem_coupon(tx, coupon_id, customer_id=customer_id))

    @transactional
    async def ReleaseRedemption(self, request: pb.ReleaseRedemptionRequest, tx: Tx) -> coupon_pb2.Redemption:
        redemption_id = RedemptionId(ids.check(request.id, "redm"))
        return redemption_to_proto(await coupons.release_redemption(tx, redemption_id))

    @transactional
    async def ListRedemptions(self, request: pb.ListRedemptionsRequest, tx: Tx) -> pb.ListRedemptionsResponse:
        page = wire.page(request, keys=2)
        found = await store.list_redemptions(
            tx,
            customer_id=_customer_id(request.customer_id) if request.customer_id else "",
            coupon_id=_coupon_id(request.coupon_id, field="coupon_id") if request.coupon_id else "",
            before=(
                wire.parse_timestamp(request.before_time, field="before_time")
                if request.HasField("before_time")
                else None
            ),
            after=redemption_place(page),
            limit=page.size + 1,
        )
        listed = shown((redemption_to_proto(redemption) for redemption in found), page.size)
        return pb.ListRedemptionsResponse(
            redemptions=listed,
            next_page_token=redemption_token(found[len(listed) - 1]) if len(found) > len(listed) else "",
        )


def _coupon_id(text: str, *, field: str) -> CouponId:
    return CouponId(ids.check(text, "coup", field=field))


def _customer_id(text: str) -> str:
    return ids.check(text, "cus", field="customer_id")


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when more was found than the page shows."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
