"""Which coupons can be applied, by what the catalog says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import SaldoError
from services.subscriptions.tests.agreed import CREDIT, MICROSECOND, agree, at, change
from subscriptions.domain.change import ApplyDiscount, RemoveDiscount
from subscriptions.domain.coupon import Coupon, check_applicable
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import (
    CouponExpired,
    CouponNotActive,
    CouponNotYetValid,
    CouponUsedUp,
    CurrencyNotOffered,
)
from subscriptions.domain.terms import CouponId

ADA, BOB = CustomerId("ada"), CustomerId("bob")
FINE = Coupon(
    id=CouponId("x"),
    is_active=True,
    is_used_up=False,
    valid_from_time=at("02-01"),
    valid_until_time=at("03-01"),
    currencies=frozenset({"EUR", "USD"}),
    redeemed_by=None,
)
BAD: list[tuple[Coupon, str, type[SaldoError]]] = [
    (FINE, "2026-01-31T23:59", CouponNotYetValid),
    (FINE, "03-01", CouponExpired),
    (replace(FINE, is_active=False), "02-10", CouponNotActive),
    (replace(FINE, is_used_up=True), "02-10", CouponUsedUp),
]


def test_a_coupon_is_fine_in_its_time() -> None:
    """From its first instant to before its last; a share of the amount is so in any currency."""
    for time in (at("02-01"), at("03-01") - MICROSECOND):
        FINE.check(customer_id=ADA, currency="EUR", at=time)
    with pytest.raises(CurrencyNotOffered):
        FINE.check(customer_id=ADA, currency="GBP", at=at("02-10"))
    replace(FINE, currencies=frozenset()).check(customer_id=ADA, currency="GBP", at=at("02-10"))


@pytest.mark.parametrize(("coupon", "on", "error"), BAD)
def test_what_was_redeemed_goes_on(coupon: Coupon, on: str, error: type[SaldoError]) -> None:
    """For who redeemed it, and for nobody else; not in a currency in which it takes nothing off."""
    for bad in (coupon, replace(coupon, redeemed_by=BOB)):
        with pytest.raises(error):
            bad.check(customer_id=ADA, currency="EUR", at=at(on))
    redeemed = replace(coupon, redeemed_by=ADA)
    redeemed.check(customer_id=ADA, currency="EUR", at=at(on))
    with pytest.raises(CurrencyNotOffered):
        redeemed.check(customer_id=ADA, currency="GBP", at=at(on))


def test_what_is_in_force_is_not_asked_about_again() -> None:
    """To say for how many periods takes no coupon; what is used up or was taken off is applied anew."""
    coupons = {FINE.id: replace(FINE, is_active=False)}
    applied = change(agree(), ApplyDiscount(FINE.id, 2), on="01-10")
    again = ApplyDiscount(FINE.id, 5)
    check_applicable(again, coupons, applied, effective=at("02-10"), at=at("02-10"))
    with pytest.raises(CouponNotActive):  # its two periods end with March
        check_applicable(again, coupons, applied, effective=at("04-01"), at=at("04-01"))
    removed = change(applied, RemoveDiscount(FINE.id), on="02-01", decision=CREDIT)
    with pytest.raises(CouponNotActive):
        check_applicable(again, coupons, removed, effective=at("02-10"), at=at("02-10"))
