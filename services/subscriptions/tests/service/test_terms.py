"""What is agreed for a time: terms that renew themselves or expire, ramps, and a day on which all is billed."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import grpc
from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service.test_life import STATE, Cancel, Change, Subscription, bills, day, one_seat

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction


def decimal(quantity: int) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=str(quantity))


# For how long, and how it grows


async def test_a_term_renews_itself(suite: Suite, shop: Any) -> None:
    """Announced as many days before as it gives notice, and again when the next one has begun."""
    term = subscription_pb2.Term(months=2, notice_days=10)
    ada, subscription = await one_seat(shop, term=term)
    assert subscription.term.renewal == subscription_pb2.Term.RENEW
    assert subscription.term.period.end_time == wire.timestamp(day(3))
    assert not subscription.HasField("cancel_time")
    await suite.travel(day(2, 18))
    assert not suite.announced(events_pb2.SubscriptionRenewalAnnounced)
    await suite.travel(day(2, 19))
    [upcoming] = suite.announced(events_pb2.SubscriptionRenewalAnnounced)
    assert upcoming.subscription.term.period.end_time == wire.timestamp(day(3))
    assert not suite.announced(events_pb2.SubscriptionRenewed)
    await suite.travel(day(3))
    [renewed] = suite.announced(events_pb2.SubscriptionRenewed)
    assert renewed.subscription.term.period.end_time == wire.timestamp(day(5))
    await suite.travel(day(7))
    assert len(suite.announced(events_pb2.SubscriptionRenewalAnnounced)) == 3
    assert len(suite.announced(events_pb2.SubscriptionRenewed)) == 3
    assert len(await bills(shop, ada, day(7))) == 7


async def test_a_term_expires(suite: Suite, shop: Any) -> None:
    """The end is foreseen from the start, and can be put off by another term."""
    term = subscription_pb2.Term(months=2, renewal=subscription_pb2.Term.EXPIRE, notice_days=10)
    ada, subscription = await one_seat(shop, term=term)
    _, longer = await one_seat(shop, term=term)
    assert (subscription.cancel_time, subscription.end_reason) == (wire.timestamp(day(3)), Subscription.EXPIRED)
    assert len(await bills(shop, ada, day(12))) == 2
    term.months = 3
    put_off = await shop.change(longer, Action(set_term=Action.SetTerm(term=term)))
    assert put_off.cancel_time == wire.timestamp(day(4))
    await suite.travel(day(3))
    gone = await shop.find(subscription)
    assert (gone.state, gone.end_reason, gone.end_time) == (
        *(STATE.CANCELLED, Subscription.EXPIRED, wire.timestamp(day(3))),
    )
    assert (await shop.find(longer)).state == STATE.ACTIVE
    assert [each.subscription.id for each in suite.announced(events_pb2.SubscriptionRenewalAnnounced)] == [
        subscription.id
    ]
    await suite.travel(day(4))
    assert (await shop.find(longer)).state == STATE.CANCELLED
    assert not suite.announced(events_pb2.SubscriptionRenewed)


async def test_a_term_that_is_taken_back_does_not_expire(suite: Suite, shop: Any) -> None:
    """The end followed from it; nobody decided it by itself."""
    ada, subscription = await one_seat(shop)
    term = subscription_pb2.Term(months=3, renewal=subscription_pb2.Term.EXPIRE)
    await shop.change(subscription, Action(set_term=Action.SetTerm(term=term)), timing=Change.PERIOD_END)
    assert (await shop.find(subscription)).cancel_time == wire.timestamp(day(4))
    decided = next(each for each in await shop.log(subscription) if each.actions[0].HasField("set_term"))
    revoked = await shop.api.RevokeSubscriptionChange(
        pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=decided.id)
    )
    assert (revoked.HasField("term"), revoked.HasField("cancel_time")) == (False, False)
    assert len(await bills(shop, ada, day(6))) == 6


async def test_a_ramp_is_agreed_with_the_subscription(suite: Suite, shop: Any) -> None:
    """Prices, quantities and the commitment of each step, in whatever order they are given; each is announced."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("intro"), shop.price("full"))
    intro, full = (price.id for price in plan.prices)
    step_2 = pb.RampStep(
        after_months=2,
        prices=[pb.PriceReplacement(from_price_id=intro, to_price_id=full)],
        commitment=subscription_pb2.Commitment(minimum=money_pb2.Money(currency_code="EUR", units=500), months=1),
    )
    step_3 = pb.RampStep(after_months=3, quantities=[subscription_pb2.ItemSpec(price_id=full, quantity=decimal(20))])
    subscription = await shop.subscribe(
        ada,
        plan,
        items=[subscription_pb2.ItemSpec(price_id=intro, quantity=decimal(10))],
        commitment=subscription_pb2.Commitment(minimum=money_pb2.Money(currency_code="EUR", units=100), months=1),
        ramp=[step_3, step_2],
    )
    assert subscription.commitment.minimum.units == 100
    schedule = await shop.due(ada, through=day(4))
    assert shop.billed(schedule.periods) == [
        "OWED 10 × 2026-01-01..2026-02-01 1/1 on 2026-01-01",
        "OWED 10 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        "OWED 10 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
        "OWED 20 × 2026-04-01..2026-05-01 1/1 on 2026-04-01",
    ]
    assert [period.price_id for period in schedule.periods] == [intro, intro, full, full]
    assert [each.minimum.units for each in schedule.commitments] == [100, 100, 500]
    await suite.travel(day(4))
    assert [each.subscription.items[0].quantity.value for each in suite.announced(events_pb2.SubscriptionChanged)] == [
        *("10", "20")
    ]
    assert await shop.due(ada, through=day(4)) == schedule


async def test_steps_of_a_ramp_are_checked_by_field(shop: Any) -> None:
    """Each names prices that the subscription has by then, as the request has them, and changes something."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("intro"), shop.price("full"), shop.metered("calls"))
    intro, full, calls = (price.id for price in plan.prices)
    items = [subscription_pb2.ItemSpec(price_id=intro), subscription_pb2.ItemSpec(price_id=calls)]
    good = pb.RampStep(after_months=9, prices=[pb.PriceReplacement(from_price_id=intro, to_price_id=full)])
    much = decimal_pb2.Decimal(value="1000000000001")
    before = await shop.stored()
    for step, reason, field in (
        (pb.RampStep(after_months=1), "INVALID_ARGUMENT", "ramp[1]"),
        (pb.RampStep(after_months=0), "INVALID_ARGUMENT", "ramp[1].after_months"),
        (pb.RampStep(after_months=121), "INVALID_ARGUMENT", "ramp[1].after_months"),
        (
            pb.RampStep(after_months=1, quantities=[subscription_pb2.ItemSpec(price_id=full, quantity=decimal(2))]),
            *("PRICE_NOT_IN_PLAN", "ramp[1].quantities[0]"),
        ),
        (
            pb.RampStep(after_months=1, quantities=[subscription_pb2.ItemSpec(price_id=calls, quantity=decimal(2))]),
            *("PRICE_NOT_IN_PLAN", "ramp[1].quantities[0]"),
        ),
        (
            pb.RampStep(after_months=1, quantities=[subscription_pb2.ItemSpec(price_id=intro, quantity=much)]),
            *("INVALID_ARGUMENT", "ramp[1].quantities[0].quantity"),
        ),
        (
            pb.RampStep(after_months=1, prices=[pb.PriceReplacement(from_price_id=full, to_price_id=intro)]),
            *("PRICE_NOT_IN_PLAN", "ramp[1].prices[0]"),
        ),
        (
            pb.RampStep(after_months=1, prices=[pb.PriceReplacement(from_price_id=intro, to_price_id="x")]),
            *("INVALID_ARGUMENT", "ramp[1].prices[0].to_price_id"),
        ),
    ):
        with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, items=items, ramp=[good, step])
        assert refusal.field == field
    assert await shop.stored() == before


# On which day it is billed


async def test_five_subscriptions_are_aligned_to_the_first(suite: Suite, shop: Any) -> None:
    """Each with a part up to the first; what is by weeks, ended, or there already, stays as it is."""
    profile = customer_pb2.BillingProfile(currency="EUR", time_zone="UTC", billing_day=1)
    ada, bob = await shop.customer(billing_profile=profile), await shop.customer()
    plan, weekly = await shop.plan(shop.price("seats")), await shop.plan(shop.price("seats", unit="WEEK"))
    made = []
    for number in (5, 10, 15, 20, 25):
        await suite.travel(day(1, number))
        made.append(await shop.subscribe(ada, plan))
    others = [
        await shop.subscribe(ada, weekly),
        await shop.subscribe(ada, plan, align_to_customer=True),
        await shop.subscribe(bob, plan),
    ]
    assert others[1].billing_anchor == wire.timestamp(day(2))
    ended = await shop.subscribe(ada, plan)
    await shop.api.CancelSubscription(Cancel(id=ended.id, timing=Cancel.NOW))
    await suite.travel(day(1, 28))
    align = pb.AlignSubscriptionsRequest(customer_id=ada.id, request_id="r1")
    aligned = await shop.api.AlignSubscriptions(align)
    assert await shop.api.AlignSubscriptions(align) == aligned
    assert [each.id for each in aligned.subscriptions] == [each.id for each in made]
    assert {(each.billing_day, each.billing_anchor.ToDatetime(UTC)) for each in aligned.subscriptions} == {(1, day(2))}
    assert [await shop.find(each) for each in others] == others
    schedule = await shop.due(ada, through=day(3))
    lines = [shop.billed(each for each in schedule.periods if each.subscription_id == one.id) for one in made]
    assert [each[:2] for each in lines] == [
        [
            f"OWED 1 × 2026-01-{number:02}..2026-02-{number:02} 1/1 on 2026-01-{number:02}",
            f"OWED 1 × 2026-02-{number:02}..2026-03-01 {share} on 2026-02-{number:02}",
        ]
        for number, share in ((5, "6/7"), (10, "19/28"), (15, "1/2"), (20, "9/28"), (25, "1/7"))
    ]
    assert {each[2] for each in lines} == {"OWED 1 × 2026-03-01..2026-04-01 1/1 on 2026-03-01"}
    await suite.quiet()
    assert len(suite.announced(events_pb2.SubscriptionChanged)) == 5
    assert not (await shop.api.AlignSubscriptions(pb.AlignSubscriptionsRequest(customer_id=ada.id))).subscriptions


async def test_a_day_to_align_to_is_needed(shop: Any) -> None:
    """Of the request or of the customer; nothing is guessed."""
    ada, _ = await one_seat(shop)
    plan = await shop.plan(shop.price("seats"))
    before = await shop.stored()
    align = pb.AlignSubscriptionsRequest(customer_id=ada.id)
    with refused("BILLING_DAY_NOT_SET", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.AlignSubscriptions(align)
    with refused("BILLING_DAY_NOT_SET", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.subscribe(ada, plan, align_to_customer=True)
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.subscribe(ada, plan, align_to_customer=True, billing_day=2)
    assert refusal.field == "billing_day"
    for wrong in (-1, 32):
        align.billing_day = wrong
        with refused("INVALID_ARGUMENT") as refusal:
            await shop.api.AlignSubscriptions(align)
        assert refusal.field == "billing_day"
    align.customer_id = ids.mint("cus", day(1))
    align.billing_day = 1
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.api.AlignSubscriptions(align)
    assert await shop.stored() == before
