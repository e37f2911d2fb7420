"""Knows how it is stored who redeemed which coupon."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from catalog.domain.coupon import Coupon, CouponCode, CouponId, Redemption, RedemptionId, State
from catalog.domain.errors import RedemptionNotFound
from catalog.store.coupon_codes import coupon_code
from catalog.store.coupon_tables import coupons, redemptions
from catalog.store.coupons import find_coupon, terms_of
from common.db import Tx


async def redemptions_of_customer(tx: Tx, coupon_id: CouponId, customer_id: str) -> int:
    """How often the customer has redeemed the coupon, without what was taken back."""
    query = select(func.count()).where(
        redemptions.c.seller_id == tx.seller_id,
        redemptions.c.coupon_id == coupon_id,
        redemptions.c.customer_id == customer_id,
        redemptions.c.release_time.is_(None),
    )
    return int((await tx.execute(query)).scalar_one())


async def add_redemption(tx: Tx, redemption: Redemption) -> None:
    values = {
        "seller_id": tx.seller_id,
        "id": redemption.id,
        "coupon_id": redemption.coupon.id,
        "coupon_redemption_count": redemption.coupon.redemption_count,
        "coupon_revision": redemption.coupon.revision,
        "coupon_code": redemption.coupon_code,
        "customer_id": redemption.customer_id,
        "redeem_time": redemption.redeem_time,
        "release_time": redemption.release_time,
    }
    await tx.execute(insert(redemptions).values(values))


async def save_release(tx: Tx, redemption: Redemption) -> None:
    await tx.execute(
        update(redemptions)
        .where(redemptions.c.seller_id == tx.seller_id, redemptions.c.id == redemption.id)
        .values(release_time=redemption.release_time)
    )


async def locked_redemption(tx: Tx, redemption_id: RedemptionId) -> tuple[Redemption, Coupon, CouponCode | None]:
    """A redemption, with its coupon as it is now and the code that was typed in. The lock is on the coupon, which
    guards all that is counted of it.
    """
    of_redemption = select(redemptions.c.coupon_id).where(
        redemptions.c.seller_id == tx.seller_id, redemptions.c.id == redemption_id
    )
    now = await find_coupon(tx, coupons.c.id == of_redemption.scalar_subquery(), lock=True)
    if now is None:
        raise RedemptionNotFound(f"there is no redemption {redemption_id}", redemption=redemption_id)
    row = (await tx.execute(_redemptions(tx).where(redemptions.c.id == redemption_id))).one()
    redemption = _redemption_of(row)
    return redemption, now, await coupon_code(tx, redemption.coupon_code) if redemption.coupon_code else None


async def list_redemptions(
    tx: Tx,
    *,
    customer_id: str,
    coupon_id: str,
    before: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Redemption]:
    """In the order in which discounts stack."""
    query = _redemptions(tx).order_by(redemptions.c.redeem_time, redemptions.c.id).limit(limit)
    if customer_id:
        query = query.where(redemptions.c.customer_id == customer_id)
    if coupon_id:
        query = query.where(redemptions.c.coupon_id == coupon_id)
    if before is not None:
        query = query.where(redemptions.c.redeem_time < before)
    if after is not None:
        query = query.where(tuple_(redemptions.c.redeem_time, redemptions.c.id) > tuple_(*after))
    return [_redemption_of(row) for row in await tx.execute(query)]


def _redemptions(tx: Tx) -> Select[Any]:  # Any: a row of `redemptions`, and what it needs of its coupon's
    of_redemption = [redemptions.c[name].label(f"redemption_{name}") for name in _OF_REDEMPTION]
    return (
        select(coupons, *of_redemption)
        .join_from(
            redemptions,
            coupons,
            (coupons.c.seller_id == redemptions.c.seller_id) & (coupons.c.id == redemptions.c.coupon_id),
        )
        .where(redemptions.c.seller_id == tx.seller_id)
    )


def _redemption_of(row: Row[Any]) -> Redemption:  # Any: a row of `_redemptions`
    return Redemption(
        id=RedemptionId(row.redemption_id),
        # As it was: its terms never change, and what is redeemed is active.
        coupon=Coupon(
            id=CouponId(row.id),
            terms=terms_of(row),
            state=State.ACTIVE,
            redemption_count=row.redemption_coupon_redemption_count,
            revision=row.redemption_coupon_revision,
            create_time=row.create_time,
        ),
        coupon_code=row.redemption_coupon_code,
        customer_id=row.redemption_customer_id,
        redeem_time=row.redemption_redeem_time,
        release_time=row.redemption_release_time,
    )


_OF_REDEMPTION: Final = (
    "id",
    "coupon_redemption_count",
    "coupon_revision",
    "coupon_code",
    "customer_id",
    "redeem_time",
    "release_time",
)
