"""Knows how coupons are stored."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update

from catalog.domain.coupon import (
    AmountOff,
    Benefit,
    Coupon,
    CouponId,
    Duration,
    FreeUnits,
    PercentOff,
    State,
    Terms,
)
from catalog.domain.errors import CouponCodeTaken, CouponNotFound
from catalog.store.coupon_tables import coupons
from catalog.store.rows import inserted
from catalog.store.tables import plans, products
from common.db import Tx
from common.money import Money


async def add_coupon(tx: Tx, coupon: Coupon) -> None:
    terms = coupon.terms
    values = {
        "seller_id": tx.seller_id,
        "id": coupon.id,
        "code": terms.code,
        "display_name": terms.display_name,
        "benefit": _benefit_row(terms.benefit),
        "duration": terms.duration.name,
        "duration_periods": terms.duration_periods,
        "redemptions_max": terms.redemptions_max,
        "redemptions_per_customer_max": terms.redemptions_per_customer_max,
        "valid_from_time": terms.valid_from_time,
        "valid_until_time": terms.valid_until_time,
        "products": terms.products,
        "plans": terms.plans,
        "state": coupon.state.name,
        "redemption_count": coupon.redemption_count,
        "revision": coupon.revision,
        "create_time": coupon.create_time,
    }
    if not await inserted(tx, coupons, values):
        raise CouponCodeTaken(f"there is a coupon {terms.code} already", code=terms.code)


async def coupon(tx: Tx, coupon_id: CouponId, *, lock: bool = False) -> Coupon:
    found = await find_coupon(tx, coupons.c.id == coupon_id, lock=lock)
    if found is None:
        raise CouponNotFound(f"there is no coupon {coupon_id}", coupon=coupon_id)
    return found


async def coupon_by_code(tx: Tx, code: str) -> Coupon:
    """By the seller's own key."""
    found = await find_coupon(tx, coupons.c.code == code)
    if found is None:
        raise CouponNotFound(f"there is no coupon {code}", code=code)
    return found


async def find_coupon(tx: Tx, condition: ColumnElement[bool], *, lock: bool = False) -> Coupon | None:
    query = select(coupons).where(coupons.c.seller_id == tx.seller_id, condition)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _coupon_of(row)


async def list_coupons(tx: Tx, *, after: str, limit: int) -> list[Coupon]:
    query = (
        select(coupons)
        .where(coupons.c.seller_id == tx.seller_id, coupons.c.id > after)
        .order_by(coupons.c.id)
        .limit(limit)
    )
    return [_coupon_of(row) for row in await tx.execute(query)]


async def save_coupon(tx: Tx, coupon: Coupon) -> None:
    await tx.execute(
        update(coupons)
        .where(coupons.c.seller_id == tx.seller_id, coupons.c.id == coupon.id)
        .values(state=coupon.state.name, redemption_count=coupon.redemption_count, revision=coupon.revision)
    )


async def unknown_products(tx: Tx, codes: Collection[str]) -> list[str]:
    """Which of the codes no product has, in order."""
    query = select(products.c.code).where(products.c.seller_id == tx.seller_id, products.c.code.in_(codes))
    return sorted(set(codes) - {row.code for row in await tx.execute(query)}) if codes else []


async def unknown_plans(tx: Tx, codes: Collection[str]) -> list[str]:
    """Which of the codes no plan has, in order."""
    query = select(plans.c.code).distinct().where(plans.c.seller_id == tx.seller_id, plans.c.code.in_(codes))
    return sorted(set(codes) - {row.code for row in await tx.execute(query)}) if codes else []


def terms_of(row: Row[Any]) -> Terms:  # Any: a row of `coupons`
    return Terms(
        code=row.code,
        display_name=row.display_name,
        benefit=_benefit(row.benefit),
        duration=Duration[row.duration],
        duration_periods=row.duration_periods,
        redemptions_max=row.redemptions_max,
        redemptions_per_customer_max=row.redemptions_per_customer_max,
        valid_from_time=row.valid_from_time,
        valid_until_time=row.valid_until_time,
        products=tuple(row.products),
        plans=tuple(row.plans),
    )


def _coupon_of(row: Row[Any]) -> Coupon:  # Any: a row of `coupons`
    return Coupon(
        id=CouponId(row.id),
        terms=terms_of(row),
        state=State[row.state],
        redemption_count=row.redemption_count,
        revision=row.revision,
        create_time=row.create_time,
    )


# Decimals are text in JSON: a JSON number would be read as a float. Minor units are whole numbers.
def _benefit_row(benefit: Benefit) -> dict[str, object]:
    match benefit:
        case PercentOff(percent=percent):
            return {"benefit": "PERCENT_OFF", "percent": f"{percent:f}"}
        case AmountOff(amounts=amounts):
            minor = [{"currency": amount.currency, "minor": amount.minor} for amount in amounts]
            return {"benefit": "AMOUNT_OFF", "amounts": minor}
        case FreeUnits(product=product, quantity=quantity):
            return {"benefit": "FREE_UNITS", "product": product, "quantity": f"{quantity:f}"}


def _benefit(stored: dict[str, Any]) -> Benefit:  # Any: JSON as `_benefit_row` wrote it
    match stored["benefit"]:
        case "PERCENT_OFF":
            return PercentOff(percent=Decimal(stored["percent"]))
        case "AMOUNT_OFF":
            return AmountOff(amounts=tuple(Money(each["minor"], each["currency"]) for each in stored["amounts"]))
        case _:
            return FreeUnits(product=stored["product"], quantity=Decimal(stored["quantity"]))
