"""Trials, and what is billed once, as time goes by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc
import pytest

from common import wire
from common.period import Period
from common.testing import Suite, refused
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from saldo.payments.v1 import events_pb2 as payments
from saldo.payments.v1 import payment_method_pb2
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Pause = pb.PauseSubscriptionRequest
Subscription = subscription_pb2.Subscription
STATE = Subscription.State
NOW, PERIOD_END = pb.CancelSubscriptionRequest.NOW, pb.CancelSubscriptionRequest.PERIOD_END
LONDON = customer_pb2.BillingProfile(currency="EUR", time_zone="Europe/London")


def day(month: int, number: int = 1, *, hour: int = 0) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(2026, month, number, hour, tzinfo=UTC)


async def state_of(shop: Any, subscription: subscription_pb2.Subscription) -> subscription_pb2.Subscription:
    found: subscription_pb2.Subscription = await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id))
    return found


def bill_times(schedule: pb.CustomerSchedule) -> list[datetime]:
    return [period.bill_time.ToDatetime(UTC) for period in schedule.periods]


def states_told(suite: Suite, event: type[Any]) -> list[tuple[int, int]]:  # Any: one of the events
    return [(each.subscription.state, each.subscription.revision) for each in suite.announced(event)]


async def test_a_trial_ends_by_itself_and_is_never_billed(suite: Suite, shop: Any) -> None:
    """Two weeks as the plan says, across the clock change: nine in the morning in London, both times."""
    ada = await shop.customer(billing_profile=LONDON)
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"), trial_days=14)
    await suite.travel(day(3, 20, hour=9))
    subscription = await shop.subscribe(ada, plan)
    over = day(4, 3, hour=8)
    assert (subscription.state, subscription.revision) == (STATE.TRIALING, 1)
    assert subscription.trial_end_time.ToDatetime(UTC) == subscription.billing_anchor.ToDatetime(UTC) == over
    schedule = await shop.due(ada, through=day(4, 3, hour=7))
    assert (len(schedule.periods), schedule.next_bill_time) == (0, wire.timestamp(over))

    await suite.travel(day(4, 3, hour=7))
    assert await state_of(shop, subscription) == subscription
    await suite.travel(over)
    active = await state_of(shop, subscription)
    assert (active.state, active.revision, active.update_time) == (STATE.ACTIVE, 2, wire.timestamp(over))
    assert [event.subscription for event in suite.announced(events_pb2.SubscriptionActivated)] == [active]
    assert not suite.announced(events_pb2.SubscriptionTrialStarted)

    await suite.travel(day(6))
    assert bill_times(await shop.due(ada, through=day(6))) == [over, *[day(5, 3, hour=8)] * 2]
    [ended] = suite.announced(events_pb2.BillingPeriodEnded)
    assert (ended.period.start_time.ToDatetime(UTC), len(ended.item_ids)) == (over, 2)


@pytest.mark.parametrize(("wanted", "end"), [(7, day(1, 8)), (0, None), (None, day(1, 15))])
async def test_the_request_overrules_the_plan(shop: Any, wanted: int | None, end: datetime | None) -> None:
    """Nothing said is what the plan says; no days said is no trial."""
    plan = await shop.plan(shop.price("seats"), trial_days=14)
    changes = {} if wanted is None else {"trial_days": wanted}
    subscription = await shop.subscribe(await shop.customer(), plan, **changes)
    assert subscription.state == (STATE.TRIALING if end else STATE.ACTIVE)
    assert subscription.HasField("trial_end_time") == (end is not None)
    assert subscription.billing_anchor == wire.timestamp(end or day(1))
    assert await state_of(shop, subscription) == subscription


async def test_days_that_are_no_trial_are_refused(shop: Any) -> None:
    """Two years are the longest."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    for days in (-1, 731):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, trial_days=days)
        assert refusal.field == "trial_days"
    longest = await shop.subscribe(ada, plan, trial_days=730)
    assert longest.trial_end_time == wire.timestamp(datetime(2028, 1, 1, tzinfo=UTC))


async def test_a_trial_that_lies_ahead_begins_and_ends(suite: Suite, shop: Any) -> None:
    """Each is told in its time; slept through, both are told in order."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    later = await shop.subscribe(ada, plan, start_time=wire.timestamp(day(2)), trial_days=10)
    assert (later.state, later.trial_end_time) == (STATE.PENDING, wire.timestamp(day(2, 11)))
    await suite.travel(day(2))
    begun = await state_of(shop, later)
    assert (begun.state, begun.revision) == (STATE.TRIALING, 2)
    assert [event.subscription for event in suite.announced(events_pb2.SubscriptionTrialStarted)] == [begun]
    assert not suite.announced(events_pb2.SubscriptionActivated)
    await suite.travel(day(3))
    assert states_told(suite, events_pb2.SubscriptionActivated) == [(STATE.ACTIVE, 3)]
    assert bill_times(await shop.due(ada, through=day(3))) == [day(2, 11)]

    await shop.subscribe(ada, plan, start_time=wire.timestamp(day(4)), trial_days=10)
    await suite.travel(day(12))
    assert states_told(suite, events_pb2.SubscriptionTrialStarted) == [(STATE.TRIALING, 2)] * 2
    assert states_told(suite, events_pb2.SubscriptionActivated) == [(STATE.ACTIVE, 3)] * 2


async def test_a_trial_that_is_over_before_anybody_asked_for_it(suite: Suite, shop: Any) -> None:
    """Begun in the past: billed from when it ended then, and active at once."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    await suite.travel(day(3))
    subscription = await shop.subscribe(ada, plan, start_time=wire.timestamp(day(1)), trial_days=31)
    assert (subscription.state, subscription.trial_end_time) == (STATE.ACTIVE, wire.timestamp(day(2)))
    assert bill_times(await shop.due(ada, through=day(3))) == [day(2), day(3)]


@pytest.mark.parametrize("timing", [NOW, PERIOD_END])
async def test_cancelled_in_the_trial_nothing_is_ever_billed(suite: Suite, shop: Any, timing: Any) -> None:
    """At once or with the trial; it never becomes active, no period of it ends, and nothing is to come."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("setup", unit="ONCE"), shop.price("seats"), shop.metered("calls"), trial_days=14)
    subscription = await shop.subscribe(ada, plan)
    await suite.travel(day(1, 5))
    request = pb.CancelSubscriptionRequest(id=subscription.id, timing=timing)
    cancelled = await shop.api.CancelSubscription(request)
    if timing == PERIOD_END:
        assert (cancelled.state, cancelled.cancel_time) == (STATE.TRIALING, wire.timestamp(day(1, 15)))
        assert await shop.api.CancelSubscription(request) == cancelled
    await suite.travel(day(4))
    gone = await state_of(shop, subscription)
    assert (gone.state, gone.end_time) == (STATE.CANCELLED, wire.timestamp(day(1, 5 if timing == NOW else 15)))
    schedule = await shop.due(ada, through=day(12))
    assert (len(schedule.periods), schedule.HasField("next_bill_time")) == (0, False)
    assert not suite.announced(events_pb2.SubscriptionActivated)
    assert not suite.announced(events_pb2.BillingPeriodEnded)


async def test_a_trial_cannot_be_paused(shop: Any) -> None:
    """It would be neither longer nor cheaper."""
    plan = await shop.plan(shop.price("seats"), trial_days=14)
    subscription = await shop.subscribe(await shop.customer(), plan)
    with refused("SUBSCRIPTION_NOT_ACTIVE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    with refused("SUBSCRIPTION_NOT_PAUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))


async def test_what_dunning_says_in_a_trial_counts_when_it_ends(suite: Suite, shop: Any) -> None:
    """Nothing of a trial can be overdue; what is told while the job that ends it is late must not be lost."""
    plan = await shop.plan(shop.price("seats"), trial_days=14)
    subscription = await shop.subscribe(await shop.customer(), plan)
    campaign = dunning_campaign_pb2.DunningCampaign(
        id="dcam_1",
        subscription_ids=[subscription.id],
        revision=1,
        state=dunning_campaign_pb2.DunningCampaign.ACTIVE,
    )
    await suite.announce(dunning.DunningCampaignStarted(dunning_campaign=campaign), source="dunning")
    await suite.quiet()
    assert await state_of(shop, subscription) == subscription
    await suite.travel(day(1, 15))
    # It is both at once: billed from now on, and overdue.
    assert states_told(suite, events_pb2.SubscriptionActivated) == [(STATE.PAST_DUE, 2)]
    assert states_told(suite, events_pb2.SubscriptionPastDue) == [(STATE.PAST_DUE, 2)]
    assert (await state_of(shop, subscription)).state == STATE.PAST_DUE


async def test_once_is_billed_once(suite: Suite, shop: Any) -> None:
    """When service begins, as one civil day; a pause does not bring it back, and no end of a period is told."""
    ada = await shop.customer(billing_profile=LONDON)
    setup = shop.price("setup", unit="ONCE")
    both = await shop.subscribe(ada, await shop.plan(setup, shop.price("seats")), billing_day=1)
    alone = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("setup", unit="ONCE")))
    once = [each for each in (await shop.due(ada, through=day(1))).periods if each.item_id == both.items[0].id]
    [period] = once
    assert period.period == period.full_period == wire.interval(Period(day(1), day(1, 2)))
    assert (period.proration.numerator, period.proration.denominator) == (1, 1)
    assert period.bill_time == wire.timestamp(day(1))
    assert not period.meter
    assert period.quantity.value == "1"

    await suite.travel(day(2, 10))
    for each in (both, alone):
        await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=each.id))
    await suite.travel(day(3, 20))
    for each in (both, alone):
        await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=each.id))
    await suite.travel(day(6))
    schedule = await shop.due(ada, through=day(6))
    assert [each for each in schedule.periods if each.item_id == both.items[0].id] == once
    assert len(schedule.periods) > len(once)
    told = suite.announced(events_pb2.BillingPeriodEnded)
    assert {event.subscription.id for event in told} == {both.id}
    assert {item_id for event in told for item_id in event.item_ids} == {both.items[1].id}
    alone_due = await shop.due(customer_pb2.Customer(id=alone.customer_id), through=day(6))
    assert (bill_times(alone_due), alone_due.HasField("next_bill_time")) == ([day(1)], False)


# What is decided when the trial has ended, by a job that is late


async def sleeps_until(suite: Suite, instant: datetime) -> None:
    """Nothing is due in the meantime, as far as the job knows; whoever changes the subscription wakes it."""
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("UPDATE subscriptions SET next_moment_time = now() + interval '99 years'")
    finally:
        await connection.close()
    await suite.travel(instant)


async def doubtful(suite: Suite, shop: Any, policy: Any, *, has_card: bool) -> tuple[Any, Any]:  # Any: and who has it
    """A trial that ended two days ago, of which nothing has been decided yet."""
    ada = await shop.customer()
    subscription = await shop.subscribe(ada, await shop.plan(shop.price("seats")), trial_days=14, trial_end=policy)
    if has_card:
        method = payment_method_pb2.PaymentMethod(id="pm_1", customer_id=ada.id)
        await suite.announce(payments.PaymentMethodAttached(payment_method=method), source="payments")
        await suite.quiet()
    await sleeps_until(suite, day(1, 17))
    return ada, subscription


def told_since(suite: Suite) -> list[str]:
    """The names of all that was told of beginnings, pauses and ends."""
    kinds = (events_pb2.SubscriptionActivated, events_pb2.SubscriptionPaused, events_pb2.SubscriptionCancelled)
    return [kind.DESCRIPTOR.name.removeprefix("Subscription") for kind in kinds for _ in suite.announced(kind)]


@pytest.mark.own_services
@pytest.mark.parametrize("policy", [Subscription.PAUSE, Subscription.CANCEL])
@pytest.mark.parametrize("has_card", [True, False])
async def test_what_was_cancelled_before_the_trial_was_decided_stays_cancelled(
    suite: Suite, shop: Any, policy: Any, has_card: bool
) -> None:
    """Card or not: it is neither billed for the two days in between nor paused."""
    ada, subscription = await doubtful(suite, shop, policy, has_card=has_card)
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=NOW))
    await suite.quiet()
    gone = await state_of(shop, subscription)
    assert (gone.state, gone.end_reason) == (STATE.CANCELLED, Subscription.REQUESTED)
    assert told_since(suite) == ["Cancelled"]
    assert len((await shop.due(ada, through=day(12))).periods) == 0


@pytest.mark.own_services
@pytest.mark.parametrize("policy", [Subscription.PAUSE, Subscription.CANCEL])
async def test_what_was_paused_before_the_trial_was_decided_is_billed_up_to_the_pause(
    suite: Suite, shop: Any, policy: Any
) -> None:
    """There is a card; but it is not active, and nobody is told that it were."""
    ada, subscription = await doubtful(suite, shop, policy, has_card=True)
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    await suite.quiet()
    assert (await state_of(shop, subscription)).state == STATE.PAUSED
    assert told_since(suite) == ["Paused"]
    assert shop.billed((await shop.due(ada, through=day(12))).periods) == [
        "OWED 1 × 2026-01-15..2026-01-17 2/31 on 2026-01-17"
    ]


@pytest.mark.own_services
@pytest.mark.parametrize("policy", [Subscription.PAUSE, Subscription.CANCEL])
@pytest.mark.parametrize(("scope", "pauses"), [(Pause.BOTH, 1), (Pause.SERVICE, 2)])
async def test_what_is_paused_without_a_card_is_billed_from_its_resumption_on(
    suite: Suite, shop: Any, policy: Any, scope: Any, pauses: int
) -> None:
    """Billing is paused with it, or there would be nothing to resume that would ever bill it."""
    ada, subscription = await doubtful(suite, shop, policy, has_card=False)
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id, scope=scope))
    await suite.quiet()
    paused = await state_of(shop, subscription)
    assert (paused.state, paused.HasField("billing_pause_time")) == (STATE.PAUSED, True)
    assert told_since(suite) == ["Paused"] * pauses
    assert len((await shop.due(ada, through=day(12))).periods) == 0
    await suite.travel(day(1, 20))
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    assert shop.billed((await shop.due(ada, through=day(2))).periods) == [
        "OWED 1 × 2026-01-20..2026-02-15 26/31 on 2026-01-20"
    ]


@pytest.mark.own_services
@pytest.mark.parametrize(
    ("policy", "has_card", "state", "told"),
    [
        (Subscription.PAUSE, True, STATE.ACTIVE, ["Activated", "Paused"]),
        (Subscription.PAUSE, False, STATE.PAUSED, ["Paused", "Paused"]),
        (Subscription.CANCEL, False, STATE.CANCELLED, ["Paused", "Cancelled"]),
    ],
)
async def test_what_is_served_for_nothing_is_decided_all_the_same(
    suite: Suite, shop: Any, policy: Any, has_card: bool, state: Any, told: list[str]
) -> None:
    """Its billing alone was paused before: with a card it goes on so, without one service stops too, or it ends."""
    ada, subscription = await doubtful(suite, shop, policy, has_card=has_card)
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id, scope=Pause.BILLING))
    await suite.quiet()
    assert (await state_of(shop, subscription)).state == state
    assert told_since(suite) == told
    billed = ["OWED 1 × 2026-01-15..2026-01-17 2/31 on 2026-01-17"] if has_card else []
    assert shop.billed((await shop.due(ada, through=day(12))).periods) == billed


async def test_who_pays_by_hand_needs_no_payment_method(suite: Suite, shop: Any) -> None:
    """An invoice is sent; and it is the payer's way of paying that counts, not that of who is served."""
    by_hand = customer_pb2.BillingProfile(
        currency="EUR", time_zone="UTC", collection_method=customer_pb2.BillingProfile.SEND_INVOICE
    )
    pat, ada = await shop.customer(billing_profile=by_hand), await shop.customer()
    plan = await shop.plan(shop.price("seats"))
    tried = [
        await shop.subscribe(who, plan, trial_days=14, trial_end=Subscription.CANCEL, payer_id=payer)
        for who, payer in ((pat, ""), (ada, pat.id), (ada, ""))
    ]
    await suite.travel(day(1, 15))
    states = [(await state_of(shop, each)).state for each in tried]
    assert states == [STATE.ACTIVE, STATE.ACTIVE, STATE.CANCELLED]
