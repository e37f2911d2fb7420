"""The life of a subscription: how it is paused, ended, taken up again and handed over.

January has 31 days: what happens on the 11th concerns 21 of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.testing import Suite, refused
from saldo.subscriptions.v1 import events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Cancel = pb.CancelSubscriptionRequest
Change = subscription_pb2.SubscriptionChange
Pause = pb.PauseSubscriptionRequest
Subscription = subscription_pb2.Subscription
STATE = Subscription.State
JANUARY = "OWED 1 × 2026-01-01..2026-02-01 1/1 on 2026-01-01"


def day(month: int, number: int = 1, *, hour: int = 0, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, hour, tzinfo=UTC)


async def one_seat(shop: Any, **changes: Any) -> tuple[Any, Any]:  # Any: customer and subscription
    """A subscription to a seat a month from the first of January, in advance, and who has it."""
    ada = await shop.customer()
    return ada, await shop.subscribe(ada, await shop.plan(shop.price("seats")), **changes)


async def bills(shop: Any, customer: Any, through: datetime) -> list[str]:
    lines: list[str] = shop.billed((await shop.due(customer, through=through)).periods)
    return lines


def told(suite: Suite, event: type[Any]) -> list[tuple[int, int]]:  # Any: one of the events
    return [(each.subscription.state, each.subscription.revision) for each in suite.announced(event)]


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
