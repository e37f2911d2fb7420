"""Knows how the codes that redeem coupons are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, update

from catalog.domain.coupon import Coupon, CouponCode, CouponId
from catalog.domain.errors import RedemptionCodeNotFound, RedemptionCodeTaken
from catalog.store.coupon_tables import coupon_codes, coupons
from catalog.store.coupons import find_coupon
from common.db import Tx


async def locked_coupon_of(tx: Tx, code: str) -> tuple[Coupon, CouponCode]:
    """What a code redeems. The lock on the coupon guards the counts of its codes, too: all change beneath it."""
    of_code = select(coupon_codes.c.coupon_id).where(
        coupon_codes.c.seller_id == tx.seller_id, coupon_codes.c.code == code
    )
    found = await find_coupon(tx, coupons.c.id == of_code.scalar_subquery(), lock=True)
    if found is None:
        raise RedemptionCodeNotFound("no coupon is redeemed by this code")
    return found, await coupon_code(tx, code)


async def coupon_code(tx: Tx, code: str) -> CouponCode:
    query = select(coupon_codes).where(coupon_codes.c.seller_id == tx.seller_id, coupon_codes.c.code == code)
    return _code_of((await tx.execute(query)).one())


async def add_codes(tx: Tx, codes: Sequence[CouponCode]) -> None:
    """All of them, which are of one coupon and have the same rules, or REDEMPTION_CODE_TAKEN."""
    first = codes[0]
    added = await tx.driver.fetchval(
        _ADD_CODES,
        tx.seller_id,
        first.coupon_id,
        first.customer_id,
        first.redemptions_max,
        first.create_time,
        sorted(code.code for code in codes),  # two calls with the same codes must not wait for each other
    )
    if added < len(codes):
        raise RedemptionCodeTaken("there is such a code already", coupon=first.coupon_id)


async def save_code(tx: Tx, code: CouponCode) -> None:
    await tx.execute(
        update(coupon_codes)
        .where(coupon_codes.c.seller_id == tx.seller_id, coupon_codes.c.code == code.code)
        .values(redemption_count=code.redemption_count)
    )


async def list_codes(tx: Tx, coupon_id: CouponId, *, after: str, limit: int) -> list[CouponCode]:
    query = (
        select(coupon_codes)
        .where(
            coupon_codes.c.seller_id == tx.seller_id,
            coupon_codes.c.coupon_id == coupon_id,
            coupon_codes.c.code > after,
        )
        .order_by(coupon_codes.c.code)
        .limit(limit)
    )
    return [_code_of(row) for row in await tx.execute(query)]


def _code_of(row: Row[Any]) -> CouponCode:  # Any: a row of `coupon_codes`
    return CouponCode(
        code=row.code,
        coupon_id=CouponId(row.coupon_id),
        customer_id=row.customer_id,
        redemptions_max=row.redemptions_max,
        redemption_count=row.redemption_count,
        create_time=row.create_time,
    )


_ADD_CODES = """
WITH added AS (
    INSERT INTO coupon_codes
        (seller_id, coupon_id, customer_id, redemptions_max, create_time, code, redemption_count)
    SELECT $1::text, $2::text, $3::text, $4::integer, $5::timestamptz, code, 0 FROM unnest($6::text[]) AS code
    ON CONFLICT DO NOTHING
    RETURNING code
)
SELECT count(*) FROM added
"""
