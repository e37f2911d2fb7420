"""The life of a subscription: how it begins, is tried out, paused, ended, taken up again, renewed and handed over.

January has 31 days: what happens on the 11th concerns 21 of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1 import invoice_pb2
from saldo.payments.v1 import events_pb2 as payments
from saldo.payments.v1 import payment_method_pb2
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Cancel = pb.CancelSubscriptionRequest
Change = subscription_pb2.SubscriptionChange
Pause = pb.PauseSubscriptionRequest
Subscription = subscription_pb2.Subscription
STATE = Subscription.State
JANUARY = "OWED 1 × 2026-01-01..2026-02-01 1/1 on 2026-01-01"


def day(month: int, number: int = 1, *, hour: int = 0, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, hour, tzinfo=UTC)


def decimal(quantity: int) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=str(quantity))


async def one_seat(shop: Any, **changes: Any) -> tuple[Any, Any]:  # Any: customer and subscription
    """A subscription to a seat a month from the first of January, in advance, and who has it."""
    ada = await shop.customer()
    return ada, await shop.subscribe(ada, await shop.plan(shop.price("seats")), **changes)


async def bills(shop: Any, customer: Any, through: datetime) -> list[str]:
    lines: list[str] = shop.billed((await shop.due(customer, through=through)).periods)
    return lines


async def pays(suite: Suite, subscription: Subscription) -> None:
    invoice = invoice_pb2.Invoice(id="inv_1", line_items=[invoice_pb2.LineItem(subscription_id=subscription.id)])
    await suite.announce(invoicing.InvoicePaid(invoice=invoice), source="invoicing")
    await suite.quiet()


async def attaches_a_card(suite: Suite, customer: customer_pb2.Customer) -> None:
    method = payment_method_pb2.PaymentMethod(id="pm_1", customer_id=customer.id)
    await suite.announce(payments.PaymentMethodAttached(payment_method=method), source="payments")
    await suite.quiet()


def told(suite: Suite, event: type[Any]) -> list[tuple[int, int]]:  # Any: one of the events
    return [(each.subscription.state, each.subscription.revision) for each in suite.announced(event)]


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


# How it is paused


@pytest.mark.parametrize(
    ("scope", "state", "expected"),
    [
        (Pause.SERVICE, STATE.PAUSED, [JANUARY, "OWED 1 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]),
        (Pause.BILLING, STATE.ACTIVE, [JANUARY, "OWED 1 × 2026-02-15..2026-03-01 1/2 on 2026-02-15"]),
        (Pause.BOTH, STATE.PAUSED, [JANUARY, "OWED 1 × 2026-02-15..2026-03-01 1/2 on 2026-02-15"]),
        (Pause.SCOPE_UNSPECIFIED, STATE.PAUSED, [JANUARY, "OWED 1 × 2026-02-15..2026-03-01 1/2 on 2026-02-15"]),
    ],
)
async def test_what_a_pause_stops(suite: Suite, shop: Any, scope: Any, state: Any, expected: list[str]) -> None:
    """Service, billing or both; by itself it is over when that was said."""
    ada, subscription = await one_seat(shop)
    await suite.travel(day(1, 11))
    request = Pause(id=subscription.id, scope=scope, resume_time=wire.timestamp(day(2, 15)))
    paused = await shop.api.PauseSubscription(request)
    assert (paused.state, paused.resume_time) == (state, wire.timestamp(day(2, 15)))
    assert paused.HasField("pause_time") == (scope != Pause.BILLING)
    assert paused.HasField("billing_pause_time") == (scope != Pause.SERVICE)
    with refused("SUBSCRIPTION_NOT_ACTIVE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.PauseSubscription(Pause(id=subscription.id, scope=scope))
    await suite.travel(day(2, 20))
    resumed = await shop.find(subscription)
    assert resumed.state == STATE.ACTIVE
    assert not any(resumed.HasField(name) for name in ("pause_time", "billing_pause_time", "resume_time"))
    assert [each.subscription.revision for each in suite.announced(events_pb2.SubscriptionPaused)] == [paused.revision]
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionResumed)] == [resumed]
    assert await bills(shop, ada, day(2, 28)) == expected


@pytest.mark.parametrize(
    ("unused", "expected"),
    [
        (Change.CREDIT, ["CREDIT 1 × 2026-01-11..2026-01-21 10/31 on 2026-01-11"]),
        (Change.KEEP, []),
        (Change.UNUSED_UNSPECIFIED, []),
    ],
)
async def test_what_was_billed_for_a_pause(suite: Suite, shop: Any, unused: Any, expected: list[str]) -> None:
    """Credited for as long as the pause takes, or kept: after it the rest of the month is still paid for."""
    ada, subscription = await one_seat(shop)
    await suite.travel(day(1, 11))
    await shop.api.PauseSubscription(Pause(id=subscription.id, unused=unused, resume_time=wire.timestamp(day(1, 21))))
    await suite.travel(day(1, 31))
    assert await bills(shop, ada, day(2)) == [
        JANUARY,
        *expected,
        "OWED 1 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]


async def test_a_pause_that_begins_later(suite: Suite, shop: Any) -> None:
    """With the period or at a time; resumed by hand before its time, the time that was set is gone."""
    ada, subscription = await one_seat(shop)
    later = await shop.api.PauseSubscription(
        Pause(id=subscription.id, timing=Change.PERIOD_END, resume_time=wire.timestamp(day(3, 10)))
    )
    assert (later.state, later.HasField("pause_time")) == (STATE.ACTIVE, False)
    await suite.travel(day(2, 10))
    assert (await shop.find(subscription)).state == STATE.PAUSED
    assert told(suite, events_pb2.SubscriptionPaused)[-1][0] == STATE.PAUSED
    resumed = await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    assert (resumed.state, resumed.HasField("resume_time")) == (STATE.ACTIVE, False)
    await suite.travel(day(3, 11))
    assert len(suite.announced(events_pb2.SubscriptionResumed)) == 1
    assert [change.state for change in await shop.log(subscription)] == [
        *(Change.IN_EFFECT, Change.REVOKED, Change.IN_EFFECT)
    ]
    assert await bills(shop, ada, day(3)) == [
        JANUARY,
        "OWED 1 × 2026-02-10..2026-03-01 19/28 on 2026-02-10",
        "OWED 1 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
    ]


async def test_a_pause_is_checked_by_field(suite: Suite, shop: Any) -> None:
    """Its end lies after it, a time needs AT_TIME, and nothing of a pause is refunded."""
    _, subscription = await one_seat(shop)
    await suite.travel(day(1, 11))
    before, name = await shop.stored(), subscription.id
    at = wire.timestamp(day(1, 20))
    for request, field in (
        (Pause(id=name, resume_time=wire.timestamp(day(1, 11))), "resume_time"),
        (Pause(id=name, timing=Change.AT_TIME, pause_time=at, resume_time=at), "resume_time"),
        (Pause(id=name, pause_time=at), "pause_time"),
        (Pause(id=name, timing=Change.AT_TIME), "pause_time"),
        (Pause(id=name, unused=Change.REFUND), "unused"),
    ):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.PauseSubscription(request)
        assert refusal.field == field
    with refused("CHANGE_TOO_EARLY", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.PauseSubscription(
            Pause(id=name, timing=Change.AT_TIME, pause_time=wire.timestamp(day(1) - timedelta(seconds=1)))
        )
    assert await shop.stored() == before


# How it ends, and goes on


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Cancel(timing=Cancel.NOW), []),
        (Cancel(timing=Cancel.NOW, unused=Change.CREDIT), ["CREDIT 1 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"]),
        (Cancel(timing=Cancel.NOW, unused=Change.REFUND), ["REFUND 1 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"]),
        (
            Cancel(timing=Cancel.AT_TIME, cancel_time=wire.timestamp(day(1, 20, hour=12)), unused=Change.CREDIT),
            ["CREDIT 1 × 2026-01-20T12:00:00..2026-02-01 12/31 on 2026-01-20T12:00:00"],
        ),
        (
            Cancel(
                timing=Cancel.AT_TIME,
                cancel_time=wire.timestamp(day(1, 20, hour=12)),
                unused=Change.REFUND,
                proration=Change.BY_SECOND,
            ),
            ["REFUND 1 × 2026-01-20T12:00:00..2026-02-01 23/62 on 2026-01-20T12:00:00"],
        ),
        (
            Cancel(timing=Cancel.AT_TIME, cancel_time=wire.timestamp(day(1, 6)), unused=Change.CREDIT),
            ["CREDIT 1 × 2026-01-06..2026-02-01 26/31 on 2026-01-11"],
        ),
        (Cancel(timing=Cancel.PERIOD_END, unused=Change.CREDIT), []),
    ],
)
async def test_what_was_billed_beyond_the_end(suite: Suite, shop: Any, request_: Cancel, expected: list[str]) -> None:
    """Kept, credited or paid back, by days or by time; at once, then, or as of a day that is over."""
    ada, subscription = await one_seat(shop)
    await suite.travel(day(1, 11))
    request_.id = subscription.id
    cancelled = await shop.api.CancelSubscription(request_)
    assert await bills(shop, ada, day(12)) == [JANUARY, *expected]
    await suite.travel(day(2))
    gone = await shop.find(subscription)
    assert (gone.state, gone.end_reason) == (STATE.CANCELLED, Subscription.REQUESTED)
    if cancelled.state == STATE.ACTIVE:
        assert gone.end_time == gone.cancel_time == cancelled.cancel_time
        assert told(suite, events_pb2.SubscriptionCancelled) == [(STATE.ACTIVE, 2), (STATE.CANCELLED, 3)]
    else:
        assert told(suite, events_pb2.SubscriptionCancelled) == [(STATE.CANCELLED, 2)]
    assert await bills(shop, ada, day(12)) == [JANUARY, *expected]


async def test_a_cancellation_is_checked_by_field(suite: Suite, shop: Any) -> None:
    """No time without AT_TIME, none that is billed already, no part that is not measured."""
    _, subscription = await one_seat(shop)
    await suite.travel(day(2, 11))
    name, before = subscription.id, await shop.stored()
    for request, field in (
        (Cancel(id=name, timing=Cancel.AT_TIME), "cancel_time"),
        (Cancel(id=name, timing=Cancel.NOW, cancel_time=wire.timestamp(day(3))), "cancel_time"),
        (Cancel(id=name), "timing"),
        (Cancel(id=name, timing=Cancel.NOW, proration=Change.NONE), "proration"),
    ):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.CancelSubscription(request)
        assert refusal.field == field
        assert field != "proration" or "to give nothing back, say KEEP" in refusal.message
    with refused("CHANGE_TOO_EARLY", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.api.CancelSubscription(
            Cancel(id=name, timing=Cancel.AT_TIME, cancel_time=wire.timestamp(day(1, 31)))
        )
    assert refusal.metadata["earliest_time"] == day(2).isoformat()
    assert await shop.stored() == before


async def test_a_cancellation_is_taken_back(suite: Suite, shop: Any) -> None:
    """Before it takes effect, once; then it goes on as if nothing had been said."""
    ada, subscription = await one_seat(shop)
    without = await bills(shop, ada, day(5))
    revoke = pb.RevokeCancellationRequest(id=subscription.id)
    with refused("CANCELLATION_NOT_SCHEDULED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.RevokeCancellation(revoke)
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.PERIOD_END))
    assert await bills(shop, ada, day(5)) == [JANUARY]
    await suite.travel(day(1, 20))
    going_on = await shop.api.RevokeCancellation(revoke)
    assert (going_on.state, going_on.HasField("cancel_time"), going_on.end_reason) == (STATE.ACTIVE, False, 0)
    with refused("CANCELLATION_NOT_SCHEDULED"):
        await shop.api.RevokeCancellation(revoke)
    await suite.travel(day(2, 2))
    assert (await shop.find(subscription)).state == STATE.ACTIVE
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionCancellationRevoked)] == [going_on]
    assert await bills(shop, ada, day(5)) == without

    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.NOW))
    with refused("CANCELLATION_NOT_SCHEDULED"):
        await shop.api.RevokeCancellation(revoke)


async def test_an_ended_one_is_taken_up_again(suite: Suite, shop: Any) -> None:
    """With the same items. Its periods begin anew; what was paid beyond the end and kept covers its time."""
    ada, subscription = await one_seat(shop)
    await suite.travel(day(1, 11))
    reactivate = pb.ReactivateSubscriptionRequest(id=subscription.id)
    with refused("SUBSCRIPTION_NOT_CANCELLED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.ReactivateSubscription(reactivate)
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.NOW))
    await suite.travel(day(1, 21))
    again = await shop.api.ReactivateSubscription(reactivate)
    assert (again.state, again.items, again.billing_anchor) == (
        *(STATE.ACTIVE, subscription.items, wire.timestamp(day(1, 21))),
    )
    assert not any(again.HasField(name) for name in ("end_time", "cancel_time"))
    assert again.end_reason == Subscription.END_REASON_UNSPECIFIED
    assert await bills(shop, ada, day(3)) == [
        JANUARY,
        "OWED 1 × 2026-02-01..2026-02-21 20/31 on 2026-02-01",
        "OWED 1 × 2026-02-21..2026-03-21 1/1 on 2026-02-21",
    ]
    await suite.quiet()
    assert [each.subscription for each in suite.announced(events_pb2.SubscriptionReactivated)] == [again]
    with refused("SUBSCRIPTION_NOT_CANCELLED"):
        await shop.api.ReactivateSubscription(reactivate)


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


# Whose it is


@pytest.mark.parametrize("unused", [Change.CREDIT, Change.KEEP])
async def test_a_subscription_is_handed_over(suite: Suite, shop: Any, unused: Any) -> None:
    """What was before stays the old customer's, also usage that is billed later; each schedule has its own part."""
    ada, bob = await shop.customer(), await shop.customer()
    subscription = await shop.subscribe(ada, await shop.plan(shop.price("seats"), shop.metered("calls")))
    await suite.travel(day(1, 11))
    transfer = pb.TransferSubscriptionRequest(id=subscription.id, customer_id=bob.id, unused=unused, request_id="r1")
    transferred = await shop.api.TransferSubscription(transfer)
    assert await shop.api.TransferSubscription(transfer) == transferred
    assert (transferred.customer_id, transferred.state, transferred.items) == (
        *(bob.id, STATE.ACTIVE, subscription.items),
    )
    is_credited = unused == Change.CREDIT
    assert await bills(shop, ada, day(3)) == [
        JANUARY,
        *(["CREDIT 1 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"] if is_credited else []),
        "OWED 2026-01-01..2026-01-11 10/31 on 2026-02-01",
    ]
    schedule = await shop.due(bob, through=day(2))
    assert sorted(shop.billed(schedule.periods)) == sorted(
        [
            *(["OWED 1 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"] if is_credited else []),
            "OWED 2026-01-11..2026-02-01 21/31 on 2026-02-01",
            "OWED 1 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        ]
    )
    assert {period.customer_id for period in schedule.periods} == {bob.id}
    await suite.quiet()
    [event] = suite.announced(events_pb2.SubscriptionTransferred)
    assert (event.subscription, event.from_customer_id) == (transferred, ada.id)
    for customer, expected in ((ada, []), (bob, [subscription.id])):
        listed = await shop.api.ListSubscriptions(pb.ListSubscriptionsRequest(customer_id=customer.id))
        assert [each.id for each in listed.subscriptions] == expected


async def test_who_cannot_be_handed_a_subscription(shop: Any) -> None:
    """Who has it, who does not exist; and nobody one that has ended."""
    ada, subscription = await one_seat(shop)
    bob = await shop.customer()
    before = await shop.stored()
    transfer = pb.TransferSubscriptionRequest(id=subscription.id, customer_id=ada.id)
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.TransferSubscription(transfer)
    assert refusal.field == "customer_id"
    transfer.customer_id = ids.mint("cus", day(1))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.api.TransferSubscription(transfer)
    transfer.customer_id = bob.id
    transfer.unused = Change.REFUND
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.TransferSubscription(transfer)
    assert refusal.field == "unused"
    assert await shop.stored() == before
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.NOW))
    transfer.unused = Change.CREDIT
    with refused("SUBSCRIPTION_NOT_CHANGEABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.TransferSubscription(transfer)


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
