"""Coupons of subscriptions, as far as the catalog has a say in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.type import money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import coupon_pb2, coupon_service_pb2
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
JAN_1, JAN_20, FEB_1 = (datetime(2026, *day, tzinfo=UTC) for day in ((1, 1), (1, 20), (2, 1)))


def apply(coupon_id: str, periods: int = 0) -> Action:
    return Action(apply_discount=Action.ApplyDiscount(coupon_id=coupon_id, periods=periods))


async def redeem(shop: Any, coupon_id: str, customer_id: str) -> str:
    request = coupon_service_pb2.RedeemCouponRequest(coupon_id=coupon_id, customer_id=customer_id)
    return str((await shop.coupons.RedeemCoupon(request)).id)


async def archive(shop: Any, coupon_id: str) -> None:
    await shop.coupons.ArchiveCoupon(coupon_service_pb2.ArchiveCouponRequest(id=coupon_id))


async def made(shop: Any, kind: str) -> str:
    """A coupon that cannot be applied for the reason of its kind."""
    pounds = money_pb2.Money(currency_code="GBP", units=5)
    match kind:
        case "COUPON_NOT_FOUND":
            return ids.mint("coup", JAN_1)
        case "COUPON_NOT_YET_VALID":
            return str(await shop.coupon(valid_from_time=wire.timestamp(FEB_1)))
        case "COUPON_EXPIRED":
            return str(await shop.coupon(valid_until_time=wire.timestamp(JAN_20)))
        case "CURRENCY_NOT_OFFERED":
            return str(await shop.coupon(amount_off=coupon_pb2.AmountOff(amounts=[pounds])))
        case "COUPON_NOT_ACTIVE":
            coupon_id = str(await shop.coupon())
            await archive(shop, coupon_id)
            return coupon_id
    coupon_id = str(await shop.coupon(redemptions_max=1))
    await redeem(shop, coupon_id, (await shop.customer()).id)
    return coupon_id


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ("COUPON_NOT_ACTIVE", grpc.StatusCode.FAILED_PRECONDITION),
        ("COUPON_NOT_YET_VALID", grpc.StatusCode.FAILED_PRECONDITION),
        ("COUPON_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION),
        ("COUPON_USED_UP", grpc.StatusCode.FAILED_PRECONDITION),
        ("CURRENCY_NOT_OFFERED", grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_what_could_not_be_redeemed_is_not_applied(
    suite: Suite, shop: Any, reason: str, code: grpc.StatusCode
) -> None:
    """With the subscription, by a change, nor in a preview; nothing is stored."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan)
    coupon_id = await made(shop, reason)
    await suite.travel(JAN_20)
    before = await shop.stored()
    for attempt in (
        shop.subscribe(ada, plan, discounts=[apply(coupon_id).apply_discount]),
        shop.change(subscription, apply(coupon_id)),
        shop.change(subscription, apply(coupon_id), at=FEB_1),
        shop.preview(subscription, apply(coupon_id)),
    ):
        with refused(reason, code) as refusal:
            await attempt
        assert refusal.metadata == {"coupon": coupon_id}
    assert await shop.stored() == before


async def test_applying_redeems_nothing(shop: Any) -> None:
    """The limits of a coupon count who redeemed it, which a subscription alone does not say."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    coupon_id = await shop.coupon(redemptions_max=1)
    for _ in range(2):
        subscription = await shop.subscribe(ada, plan, discounts=[apply(coupon_id, 3).apply_discount])
        assert [each.coupon_id for each in subscription.discounts] == [coupon_id]
    coupon = await shop.coupons.GetCoupon(coupon_service_pb2.GetCouponRequest(id=coupon_id))
    assert coupon.redemption_count == 0


async def test_what_a_customer_redeemed_is_applied_whatever_became_of_it(shop: Any) -> None:
    """Used up by this very redemption, then archived; once it is taken back, no longer."""
    ada, bob, plan = await shop.customer(), await shop.customer(), await shop.plan(shop.price("seats"))
    of_ada, of_bob = await shop.subscribe(ada, plan), await shop.subscribe(bob, plan)
    coupon_id = await shop.coupon(redemptions_max=1, redemptions_per_customer_max=1)
    redemption_id = await redeem(shop, coupon_id, ada.id)
    with refused("COUPON_USED_UP"):
        await shop.change(of_bob, apply(coupon_id))
    assert (await shop.change(of_ada, apply(coupon_id, 2))).discounts[0].periods == 2
    await archive(shop, coupon_id)
    another = await shop.subscribe(ada, plan, discounts=[apply(coupon_id).apply_discount])
    assert another.discounts[0].coupon_id == coupon_id

    await shop.coupons.ReleaseRedemption(coupon_service_pb2.ReleaseRedemptionRequest(id=redemption_id))
    with refused("COUPON_NOT_ACTIVE"):
        await shop.subscribe(ada, plan, discounts=[apply(coupon_id).apply_discount])
    # What is in force goes on, for as many periods as is said now.
    changed = await shop.change(of_ada, apply(coupon_id, 7))
    assert changed.discounts[-1].periods == 7


async def test_a_repeated_request_is_answered_as_before(shop: Any) -> None:
    """Also when the coupon could not be applied any more."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    coupon_id = await shop.coupon()
    request = pb.CreateSubscriptionRequest(
        customer_id=ada.id, plan_id=plan.id, discounts=[apply(coupon_id).apply_discount], request_id="once"
    )
    created = await shop.api.CreateSubscription(request)
    await archive(shop, coupon_id)
    assert await shop.api.CreateSubscription(request) == created
