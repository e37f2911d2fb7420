"""Knows which coupons can be applied to a subscription, by what the catalog says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from subscriptions.domain.change import ApplyDiscount
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import (
    CouponExpired,
    CouponNotActive,
    CouponNotYetValid,
    CouponUsedUp,
    CurrencyNotOffered,
)
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import CouponId


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A coupon as the catalog had it when it was asked."""

    id: CouponId
    is_active: bool
    is_used_up: bool
    """Whether it has been redeemed as often as it can be."""
    valid_from_time: datetime | None
    valid_until_time: datetime | None
    currencies: frozenset[str]
    """Those in which it takes off a fixed amount; none of it does not depend on the currency."""
    redeemed_by: CustomerId | None
    """The customer for whom it was asked about, if that one has redeemed it."""

    def check(self, *, customer_id: CustomerId, currency: str, at: datetime) -> None:
        """Whether it can be applied for a customer. What was redeemed goes on, whatever became of the coupon."""
        if self.currencies and currency not in self.currencies:
            raise CurrencyNotOffered(f"coupon {self.id} takes nothing off in {currency}", coupon=self.id)
        if self.redeemed_by == customer_id:
            return
        if not self.is_active:
            raise CouponNotActive(f"coupon {self.id} was archived", coupon=self.id)
        if self.valid_from_time is not None and at < self.valid_from_time:
            raise CouponNotYetValid(f"coupon {self.id} is not valid yet", coupon=self.id)
        if self.valid_until_time is not None and at >= self.valid_until_time:
            raise CouponExpired(f"coupon {self.id} is no longer valid", coupon=self.id)
        if self.is_used_up:
            raise CouponUsedUp(f"coupon {self.id} is used up", coupon=self.id)


def check_applicable(
    discount: ApplyDiscount,
    coupons: Mapping[CouponId, Coupon],
    subscription: Subscription,
    *,
    effective: datetime,
    at: datetime,
) -> None:
    """One that is in force by then goes on: only its number of periods becomes another."""
    then = subscription.as_of(effective)
    for applied in then.discounts:
        end = subscription.discount_end(applied)
        if applied.coupon_id == discount.coupon_id and (end is None or end > effective):
            return
    coupon = coupons[discount.coupon_id]
    coupon.check(customer_id=then.customer_id, currency=subscription.opening.currency, at=at)
