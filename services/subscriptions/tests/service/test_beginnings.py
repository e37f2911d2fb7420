"""How subscriptions begin: by a payment, by hand or by themselves, and tried out before they are billed."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1 import invoice_pb2
from saldo.payments.v1 import events_pb2 as payments
from saldo.payments.v1 import payment_method_pb2
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service.test_life import (
    JANUARY,
    STATE,
    Cancel,
    Subscription,
    bills,
    day,
    one_seat,
    told,
)

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.


async def pays(suite: Suite, subscription: Subscription) -> None:
    invoice = invoice_pb2.Invoice(id="inv_1", line_items=[invoice_pb2.LineItem(subscription_id=subscription.id)])
    await suite.announce(invoicing.InvoicePaid(invoice=invoice), source="invoicing")
    await suite.quiet()


async def attaches_a_card(suite: Suite, customer: customer_pb2.Customer) -> None:
    method = payment_method_pb2.PaymentMethod(id="pm_1", customer_id=customer.id)
    await suite.announce(payments.PaymentMethodAttached(payment_method=method), source="payments")
    await suite.quiet()


# How it begins


async def test_the_first_payment_begins_it(suite: Suite, shop: Any) -> None:
    """Billed from its start, so that there is something to pay; served from the payment on."""
    ada, subscription = await one_seat(shop, activation=Subscription.ON_FIRST_PAYMENT, activation_hours=48)
    assert (subscription.state, subscription.activation_deadline) == (STATE.PENDING, wire.timestamp(day(1, 3)))
    assert await bills(shop, ada, day(1)) == [JANUARY]
    await suite.travel(day(1, 2))
    for _ in range(2):  # another payment begins nothing
        await pays(suite, subscription)
    begun = await shop.find(subscription)
    assert (begun.state, begun.revision, begun.start_time) == (STATE.ACTIVE, 2, wire.timestamp(day(1)))
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionActivated)] == [begun]
    await suite.travel(day(1, 4))
    assert (await shop.find(subscription)).state == STATE.ACTIVE
    assert await bills(shop, ada, day(2)) == [JANUARY, "OWED 1 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]


async def test_what_is_not_paid_in_time_never_was(suite: Suite, shop: Any) -> None:
    """It ends as if it had not begun, and what was billed is credited. A payment that is late begins nothing."""
    ada, subscription = await one_seat(shop, activation=Subscription.ON_FIRST_PAYMENT)
    assert subscription.activation_deadline == wire.timestamp(day(1, 2))
    await suite.travel(day(1, 2))
    gone = await shop.find(subscription)
    assert (gone.state, gone.end_reason) == (STATE.CANCELLED, Subscription.NOT_ACTIVATED)
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionCancelled)] == [gone]
    assert await bills(shop, ada, day(6)) == [JANUARY, "CREDIT 1 × 2026-01-01..2026-02-01 1/1 on 2026-01-02"]
    await pays(suite, subscription)
    assert await shop.find(subscription) == gone
    await suite.travel(day(3))
    assert not suite.announced(events_pb2.BillingPeriodEnded)


async def test_what_begins_by_itself_waits_for_no_payment(suite: Suite, shop: Any) -> None:
    """An invoice that is paid changes nothing about it, nor does one of a subscription that is not ours."""
    _, subscription = await one_seat(shop)
    await pays(suite, subscription)
    await pays(suite, Subscription(id=ids.mint("sub", day(1))))
    assert await shop.find(subscription) == subscription


async def test_begun_by_hand(suite: Suite, shop: Any) -> None:
    """Neither served nor billed before; its start, its anniversary and its trial are counted from then."""
    ada, subscription = await one_seat(shop, activation=Subscription.BY_HAND, activation_hours=24 * 30)
    tried = await shop.subscribe(
        ada, await shop.plan(shop.price("seats"), trial_days=3), activation=Subscription.BY_HAND, activation_hours=8760
    )
    assert [each.state for each in (subscription, tried)] == [STATE.PENDING] * 2
    await suite.travel(day(1, 5, hour=9))
    assert await bills(shop, ada, day(12)) == []
    activate = pb.ActivateSubscriptionRequest(id=subscription.id)
    begun = await shop.api.ActivateSubscription(activate)
    now = wire.timestamp(day(1, 5, hour=9))
    assert (begun.state, begun.start_time, begun.billing_anchor) == (STATE.ACTIVE, now, now)
    trialing = await shop.api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=tried.id))
    assert (trialing.state, trialing.trial_end_time) == (STATE.TRIALING, wire.timestamp(day(1, 8, hour=9)))
    assert await bills(shop, ada, day(2, 6)) == [
        "OWED 1 × 2026-01-05T09:00:00..2026-02-05T09:00:00 1/1 on 2026-01-05T09:00:00",
        "OWED 1 × 2026-01-08T09:00:00..2026-02-08T09:00:00 1/1 on 2026-01-08T09:00:00",
        "OWED 1 × 2026-02-05T09:00:00..2026-03-05T09:00:00 1/1 on 2026-02-05T09:00:00",
    ]
    for each in (subscription, await shop.subscribe(ada, await shop.plan(shop.price("seats")))):
        with refused("SUBSCRIPTION_NOT_PENDING", grpc.StatusCode.FAILED_PRECONDITION):
            await shop.api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=each.id))
    await suite.travel(day(2, 7))
    assert (await shop.find(subscription)).state == STATE.ACTIVE


async def test_what_begins_by_itself_later_cannot_be_begun_by_hand(shop: Any) -> None:
    """It waits for its start, not for anybody."""
    _, later = await one_seat(shop, start_time=wire.timestamp(day(2)))
    with refused("SUBSCRIPTION_NOT_PENDING", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=later.id))


async def test_what_nobody_begins_in_time_ends_unbilled(suite: Suite, shop: Any) -> None:
    """With its reason, and nothing ever to be billed."""
    ada, subscription = await one_seat(shop, activation=Subscription.BY_HAND)
    await suite.travel(day(1, 2))
    gone = await shop.find(subscription)
    assert (gone.state, gone.end_reason) == (STATE.CANCELLED, Subscription.NOT_ACTIVATED)
    with refused("SUBSCRIPTION_NOT_PENDING", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=subscription.id))
    schedule = await shop.due(ada, through=day(12))
    assert (len(schedule.periods), schedule.HasField("next_bill_time")) == (0, False)


# How it is tried out


@pytest.mark.parametrize("policy", [Subscription.PAUSE, Subscription.CANCEL, Subscription.CONTINUE])
@pytest.mark.parametrize("has_card", [True, False])
async def test_a_trial_ends_with_or_without_a_payment_method(
    suite: Suite, shop: Any, policy: Any, has_card: bool
) -> None:
    """With one it is billed; without one it is what was agreed. A card of somebody else is none."""
    ada, subscription = await one_seat(shop, trial_days=14, trial_end=policy)
    bob = await shop.customer()
    await attaches_a_card(suite, ada if has_card else bob)
    assert (subscription.state, subscription.trial_end) == (STATE.TRIALING, policy)
    await suite.travel(day(1, 15))
    after = await shop.find(subscription)
    if has_card or policy == Subscription.CONTINUE:
        assert after.state == STATE.ACTIVE
        assert [each.subscription for each in suite.announced(events_pb2.SubscriptionActivated)] == [after]
        assert await bills(shop, ada, day(2)) == ["OWED 1 × 2026-01-15..2026-02-15 1/1 on 2026-01-15"]
        return
    assert not suite.announced(events_pb2.SubscriptionActivated)
    assert await bills(shop, ada, day(12)) == []
    if policy == Subscription.PAUSE:
        assert (after.state, after.pause_time) == (STATE.PAUSED, wire.timestamp(day(1, 15)))
        assert [each.subscription.state for each in suite.announced(events_pb2.SubscriptionPaused)] == [STATE.PAUSED]
        await suite.travel(day(1, 20))
        resumed = await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
        assert resumed.state == STATE.ACTIVE
        assert await bills(shop, ada, day(2)) == ["OWED 1 × 2026-01-20..2026-02-15 26/31 on 2026-01-20"]
    else:
        assert (after.state, after.end_reason) == (STATE.CANCELLED, Subscription.NO_PAYMENT_METHOD)
        assert after.end_time == wire.timestamp(day(1, 15))
        [event] = suite.announced(events_pb2.SubscriptionCancelled)
        assert event.subscription.end_reason == Subscription.NO_PAYMENT_METHOD


async def test_a_trial_is_extended_across_the_end_of_a_month(suite: Suite, shop: Any) -> None:
    """The anniversary moves along, and nothing is billed before the new end."""
    ada, subscription = await one_seat(shop, trial_days=14)
    await suite.travel(day(1, 10))
    extend = pb.ExtendTrialRequest(id=subscription.id, trial_end_time=wire.timestamp(day(2, 3)))
    extended = await shop.api.ExtendTrial(extend)
    assert (extended.state, extended.trial_end_time) == (STATE.TRIALING, wire.timestamp(day(2, 3)))
    assert extended.billing_anchor == wire.timestamp(day(2, 3))
    await suite.quiet()
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionTrialMoved)] == [extended]
    before = await shop.stored()
    for wrong in (day(1, 9), day(1, 10), day(2, 2), day(2, 3), day(1, 2, year=2028)):
        extend.trial_end_time.CopyFrom(wire.timestamp(wrong))
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.ExtendTrial(extend)
        assert refusal.field == "trial_end_time"
    assert await shop.stored() == before
    await suite.travel(day(1, 15))
    assert not suite.announced(events_pb2.SubscriptionActivated)
    await suite.travel(day(2, 3))
    assert told(suite, events_pb2.SubscriptionActivated) == [(STATE.ACTIVE, 3)]
    assert await bills(shop, ada, day(3)) == ["OWED 1 × 2026-02-03..2026-03-03 1/1 on 2026-02-03"]
    with refused("SUBSCRIPTION_NOT_TRIALING", grpc.StatusCode.FAILED_PRECONDITION):
        extend.trial_end_time.CopyFrom(wire.timestamp(day(4)))
        await shop.api.ExtendTrial(extend)


async def test_a_trial_is_ended_now(suite: Suite, shop: Any) -> None:
    """Billing begins in that moment, and the trial's end that was foreseen brings nothing any more."""
    ada, subscription = await one_seat(shop, trial_days=14, trial_end=Subscription.CANCEL)
    await suite.travel(day(1, 10))
    ended = await shop.api.EndTrial(pb.EndTrialRequest(id=subscription.id, request_id="r1"))
    assert await shop.api.EndTrial(pb.EndTrialRequest(id=subscription.id, request_id="r1")) == ended
    assert ended.trial_end_time == wire.timestamp(day(1, 10))
    with refused("SUBSCRIPTION_NOT_TRIALING", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.EndTrial(pb.EndTrialRequest(id=subscription.id))
    never = await shop.subscribe(ada, await shop.plan(shop.price("seats")), start_time=wire.timestamp(day(3)))
    with refused("SUBSCRIPTION_NOT_TRIALING", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.EndTrial(pb.EndTrialRequest(id=never.id))
    await suite.travel(day(1, 20))
    assert (await shop.find(subscription)).state == STATE.ACTIVE
    assert await bills(shop, ada, day(2)) == ["OWED 1 × 2026-01-10..2026-02-10 1/1 on 2026-01-10"]


async def test_a_trial_is_given_once(suite: Suite, shop: Any) -> None:
    """Of any version of a plan, to each customer, unless somebody asks for it."""
    ada, bob = await shop.customer(), await shop.customer()
    plan, other = await shop.plan(shop.price("a"), trial_days=14), await shop.plan(shop.price("b"), trial_days=7)
    first = await shop.subscribe(ada, plan)
    await shop.api.CancelSubscription(Cancel(id=first.id, timing=Cancel.NOW))
    draft = await shop.catalog.CreatePlanVersion(catalog_service_pb2.CreatePlanVersionRequest(code=plan.code))
    again = await shop.subscribe(ada, plan)
    newer = await shop.catalog.PublishPlan(catalog_service_pb2.PublishPlanRequest(id=draft.id))
    made = [
        first,
        again,
        await shop.subscribe(ada, newer),
        await shop.subscribe(ada, newer, trial_days=5),
        await shop.subscribe(ada, other),
        await shop.subscribe(bob, newer),
    ]
    assert [each.HasField("trial_end_time") for each in made] == [True, False, False, True, True, True]
