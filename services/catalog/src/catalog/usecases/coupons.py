"""Offers and ends coupons, makes codes for them, redeems them and takes redemptions back."""

from __future__ import annotations

import secrets
from dataclasses import replace

from catalog import store
from catalog.convert import coupon_to_proto, redemption_for_events
from catalog.domain.coupon import (
    MADE_UP_CODES,
    Coupon,
    CouponCode,
    CouponId,
    Redemption,
    RedemptionId,
    State,
    Terms,
    made_up_code,
)
from catalog.domain.errors import PlanNotFound, ProductNotFound
from common.db import Tx
from saldo.catalog.v1 import events_pb2 as events


async def create_coupon(tx: Tx, terms: Terms) -> Coupon:
    await _check_named(tx, terms)
    coupon = Coupon(
        id=CouponId(tx.new_id("coup")),
        terms=terms,
        state=State.ACTIVE,
        redemption_count=0,
        revision=1,
        create_time=tx.now,
    )
    await store.add_coupon(tx, coupon)
    await tx.emit(events.CouponCreated(coupon=coupon_to_proto(coupon)))
    return coupon


async def archive_coupon(tx: Tx, coupon_id: CouponId) -> Coupon:
    coupon = (await store.coupon(tx, coupon_id, lock=True)).archive()
    await store.save_coupon(tx, coupon)
    await tx.emit(events.CouponArchived(coupon=coupon_to_proto(coupon)))
    return coupon


async def create_code(
    tx: Tx, coupon_id: CouponId, *, code: str, redemptions_max: int, customer_id: str
) -> list[CouponCode]:
    """The one code that somebody thought of."""
    return await _create_codes(tx, coupon_id, [code], redemptions_max=redemptions_max, customer_id=customer_id)


async def make_up_codes(
    tx: Tx, coupon_id: CouponId, *, count: int, prefix: str, redemptions_max: int, customer_id: str
) -> list[CouponCode]:
    """So many codes that nobody can guess, in order of the code."""
    drawn = secrets.SystemRandom().sample(range(MADE_UP_CODES), count)
    codes = sorted(made_up_code(number, prefix=prefix) for number in drawn)
    return await _create_codes(tx, coupon_id, codes, redemptions_max=redemptions_max, customer_id=customer_id)


async def redeem_coupon(tx: Tx, coupon_id: CouponId, *, customer_id: str) -> Redemption:
    """Without a code: the coupon is given to the customer."""
    coupon = await store.coupon(tx, coupon_id, lock=True)
    return await _redeem(tx, coupon, customer_id=customer_id, coupon_code="")


async def redeem_code(tx: Tx, typed: str, *, customer_id: str) -> Redemption:
    """By what the customer typed in."""
    coupon, code = await store.locked_coupon_of(tx, typed)
    code = code.redeem(customer_id=customer_id)
    redemption = await _redeem(tx, coupon, customer_id=customer_id, coupon_code=code.code)
    await store.save_code(tx, code)
    return redemption


async def release_redemption(tx: Tx, redemption_id: RedemptionId) -> Redemption:
    """Give the limits back. Once it has been taken back, nothing follows."""
    redemption, coupon, code = await store.locked_redemption(tx, redemption_id)
    if redemption.release_time is not None:
        return redemption
    released = redemption.release(at=tx.now)
    await store.save_release(tx, released)
    await store.save_coupon(tx, coupon.release())
    if code is not None:
        await store.save_code(tx, code.release())
    await tx.emit(events.RedemptionReleased(redemption=redemption_for_events(released)))
    return released


async def _create_codes(
    tx: Tx, coupon_id: CouponId, codes: list[str], *, redemptions_max: int, customer_id: str
) -> list[CouponCode]:
    coupon = await store.coupon(tx, coupon_id, lock=True)
    coupon.must_be_active()
    first = CouponCode(
        code=codes[0],
        coupon_id=coupon.id,
        customer_id=customer_id,
        redemptions_max=redemptions_max,
        redemption_count=0,
        create_time=tx.now,
    )
    created = [replace(first, code=code) for code in codes]
    await store.add_codes(tx, created)
    return created


async def _redeem(tx: Tx, coupon: Coupon, *, customer_id: str, coupon_code: str) -> Redemption:
    """The coupon is locked, so nobody else counts at the same time."""
    before = await store.redemptions_of_customer(tx, coupon.id, customer_id)
    redemption = Redemption(
        id=RedemptionId(tx.new_id("redm")),
        coupon=coupon.redeem(count_of_customer=before, at=tx.now),
        coupon_code=coupon_code,
        customer_id=customer_id,
        redeem_time=tx.now,
        release_time=None,
    )
    await store.save_coupon(tx, redemption.coupon)
    await store.add_redemption(tx, redemption)
    await tx.emit(events.RedemptionCreated(redemption=redemption_for_events(redemption)))
    return redemption


async def _check_named(tx: Tx, terms: Terms) -> None:
    for code in await store.unknown_products(tx, terms.named_products()):
        raise ProductNotFound(f"there is no product {code}", code=code)
    for code in await store.unknown_plans(tx, terms.plans):
        raise PlanNotFound(f"there is no plan {code}", code=code)
