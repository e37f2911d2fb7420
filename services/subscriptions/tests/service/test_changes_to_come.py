"""Changes before they take effect: previewed, scheduled, and taken back."""

from __future__ import annotations

from typing import Any

import grpc
from google.type import money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.subscriptions.v1 import events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service.test_changes import (
    EARLIER,
    Action,
    Change,
    add_item,
    bills,
    day,
    five_seats,
    plan_of,
    remove_item,
    set_quantity,
)

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.


async def test_a_change_at_the_periods_end(suite: Suite, shop: Any) -> None:
    """Announced when it is decided and, by itself, when it comes; until then everything is as it was."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    changed = await shop.change(subscription, set_quantity(seats, 3), timing=Change.PERIOD_END)
    assert changed.items == subscription.items
    [change] = await shop.log(subscription)
    assert (change.state, change.effective_time) == (Change.SCHEDULED, wire.timestamp(day(2)))
    assert change.create_time == wire.timestamp(day(1, 11))
    assert await shop.log(subscription, "SCHEDULED") == [change]
    assert await shop.log(subscription, "IN_EFFECT") == []
    await suite.quiet()
    [told] = suite.announced(events_pb2.SubscriptionChanged)
    assert (told.subscription, told.change) == (changed, change)

    await suite.travel(day(2))
    [in_effect] = await shop.log(subscription)
    assert in_effect.state == Change.IN_EFFECT
    later = await shop.find(subscription)
    assert (later.items[0].quantity.value, later.revision) == ("3", 3)
    _, told = suite.announced(events_pb2.SubscriptionChanged)
    assert (told.subscription, told.change) == (later, in_effect)
    assert await bills(shop, ada, day(2)) == [EARLIER, "OWED 3 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]


async def test_a_change_at_a_time_to_come(suite: Suite, shop: Any) -> None:
    """It is in the schedule as soon as it is decided, with the bill time at which it comes."""
    ada, subscription, seats = await five_seats(shop)
    await shop.change(subscription, set_quantity(seats, 6), at=day(1, 20))
    expected = [
        EARLIER,
        "CREDIT 5 × 2026-01-20..2026-02-01 12/31 on 2026-01-20",
        "OWED 6 × 2026-01-20..2026-02-01 12/31 on 2026-01-20",
    ]
    assert await bills(shop, ada, day(1, 31)) == expected
    assert (await shop.due(ada, through=day(1, 2))).next_bill_time == wire.timestamp(day(1, 20))
    await suite.travel(day(1, 31))
    assert await bills(shop, ada, day(1, 31)) == expected


async def test_a_preview_shows_what_is_to_be_spent(suite: Suite, shop: Any) -> None:
    """A commitment is no billed item: without a list of its own nobody would see what a change of it does."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))

    def to_spend(minimum: int) -> Action:
        commitment = subscription_pb2.Commitment(minimum=money_pb2.Money(currency_code="EUR", units=minimum), months=3)
        return Action(set_commitment=Action.SetCommitment(commitment=commitment))

    first = await shop.preview(subscription, to_spend(900))
    assert (list(first.added), list(first.removed), list(first.removed_commitments)) == ([], [], [])
    assert first.subscription.commitment.minimum.units == 900
    [expected] = first.added_commitments
    assert (expected.subscription_id, expected.customer_id, expected.minimum.units) == (subscription.id, ada.id, 900)
    assert expected.full_period.start_time == wire.timestamp(day(1))
    assert (expected.period.start_time, expected.period.end_time) == (
        wire.timestamp(day(1, 11)),
        wire.timestamp(day(4)),
    )
    assert (expected.proration.numerator, expected.proration.denominator) == (8, 9)
    assert expected.bill_time == wire.timestamp(day(4))
    await shop.change(subscription, to_spend(900), preview_token=first.token)
    assert list((await shop.due(ada, through=day(4))).commitments) == [expected]

    # Less from March on divides the quarter; what is no commitment leaves all as it is.
    second = await shop.preview(subscription, to_spend(300), at=day(3))
    assert [each.minimum.units for each in second.added_commitments] == [900, 300]
    assert list(second.removed_commitments) == [expected]
    assert not (await shop.preview(subscription, set_quantity(seats, 6))).added_commitments
    none = await shop.preview(subscription, Action(set_commitment=Action.SetCommitment()))
    assert list(none.removed_commitments) == [expected]
    assert not none.added_commitments


async def test_a_preview_is_what_is_then_applied(suite: Suite, shop: Any) -> None:
    """Nothing is stored by it; with its token exactly that is done, also a moment later, and never something else."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    without, before = await shop.due(ada, through=day(2)), await shop.stored()
    preview = await shop.preview(subscription, set_quantity(seats, 8))
    assert await shop.stored() == before
    assert (preview.subscription.items[0].quantity.value, preview.change.id) == ("8", "")
    assert (preview.change.state, preview.change.effective_time) == (Change.IN_EFFECT, wire.timestamp(day(1, 11)))
    assert shop.billed(preview.added) == [
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 8 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]
    assert shop.billed(preview.removed) == ["OWED 5 × 2026-02-01..2026-03-01 1/1 on 2026-02-01"]
    with refused("PREVIEW_OUTDATED", grpc.StatusCode.FAILED_PRECONDITION) as other:
        await shop.change(subscription, set_quantity(seats, 9), preview_token=preview.token)
    assert "another change was previewed" in other.message
    for no_token in ("%", wire.encode_page_token(seats.id), wire.encode_page_token("2026-01-01", "1", "x")):
        with refused("INVALID_ARGUMENT") as refusal:
            await shop.change(subscription, set_quantity(seats, 8), preview_token=no_token)
        assert refusal.field == "preview_token"
        assert "as PreviewChange answered it" in refusal.message
    assert await shop.stored() == before

    changed = await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token, request_id="r1")
    assert changed == preview.subscription
    with_it = await shop.due(ada, through=day(2))
    assert sorted(shop.billed(with_it.periods)) == sorted(
        {*shop.billed(without.periods), *shop.billed(preview.added)} - set(shop.billed(preview.removed))
    )
    # What was applied cannot be applied again, but the same request has the same answer.
    with refused("PREVIEW_OUTDATED") as outdated:
        await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token)
    assert "has changed since the preview: preview the change again" in outdated.message
    again = await shop.change(subscription, set_quantity(seats, 8), preview_token=preview.token, request_id="r1")
    assert again == changed

    later = await shop.preview(subscription, set_quantity(seats, 4))
    await suite.travel(day(1, 12))
    applied = await shop.change(subscription, set_quantity(seats, 4), preview_token=later.token)
    assert (await shop.log(subscription))[-1].effective_time == wire.timestamp(day(1, 11))
    assert applied.items[0].quantity.value == "4"


async def test_a_preview_of_what_is_to_come(suite: Suite, shop: Any) -> None:
    """The subscription as it will be then, and what is billed up to when the caller says."""
    _, subscription, seats = await five_seats(shop)
    request = pb.PreviewChangeRequest(
        change=shop.change_request(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END),
        through_time=wire.timestamp(day(4)),
    )
    preview = await shop.api.PreviewChange(request)
    assert preview.change.state == Change.SCHEDULED
    assert preview.subscription.items[0].quantity.value == "2"
    assert len(shop.billed(preview.added)) == len(shop.billed(preview.removed)) == 3
    assert {line.split()[1] for line in shop.billed(preview.added)} == {"2"}
    await suite.quiet()
    assert not suite.announced(events_pb2.SubscriptionChanged)


async def test_a_scheduled_change_is_taken_back(suite: Suite, shop: Any) -> None:
    """As long as it has not taken effect; it stays in the log, and is announced as revoked."""
    ada, subscription, seats = await five_seats(shop)
    await suite.travel(day(1, 11))
    without = await bills(shop, ada, day(3))
    await shop.change(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END)
    await shop.change(subscription, set_quantity(seats, 6))
    later, now = await shop.log(subscription)
    revoke = pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=later.id, request_id="r1")
    await suite.travel(day(1, 15))
    revoked = await shop.api.RevokeSubscriptionChange(revoke)
    assert await shop.api.RevokeSubscriptionChange(revoke) == revoked
    [taken_back] = await shop.log(subscription, "REVOKED")
    assert (taken_back.id, taken_back.revoke_time) == (later.id, wire.timestamp(day(1, 15)))
    before = await shop.stored()
    for change_id, reason in (
        (later.id, "CHANGE_NOT_SCHEDULED"),
        (now.id, "CHANGE_NOT_SCHEDULED"),
        (ids.mint("chg", day(1)), "CHANGE_NOT_FOUND"),
    ):
        with refused(reason):
            await shop.api.RevokeSubscriptionChange(
                pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=change_id)
            )
    assert await shop.stored() == before
    await suite.travel(day(2, 2))
    told = [each.change.state for each in suite.announced(events_pb2.SubscriptionChanged)]
    assert told == [Change.SCHEDULED, Change.IN_EFFECT, Change.REVOKED]
    assert [line for line in await bills(shop, ada, day(3)) if line not in without] == [
        "CREDIT 5 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 6 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 6 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
        "OWED 6 × 2026-03-01..2026-04-01 1/1 on 2026-03-01",
    ]


async def test_what_was_due_stays_due_when_an_end_is_taken_back_in_the_same_moment(suite: Suite, shop: Any) -> None:
    """Time stands still in a sandbox: first more seats until the end, then no end; the rest of the month comes too."""
    ada, subscription, seats = await five_seats(shop)
    await shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(
            id=subscription.id,
            timing=pb.CancelSubscriptionRequest.AT_TIME,
            cancel_time=wire.timestamp(day(1, 21)),
            unused=Change.CREDIT,
        )
    )
    await suite.travel(day(1, 11))
    await shop.change(subscription, set_quantity(seats, 8))
    by_then = await bills(shop, ada, day(1, 11))
    assert by_then == [
        EARLIER,
        "CREDIT 5 × 2026-01-11..2026-01-21 10/31 on 2026-01-11",
        "OWED 8 × 2026-01-11..2026-01-21 10/31 on 2026-01-11",
    ]
    await shop.api.RevokeCancellation(pb.RevokeCancellationRequest(id=subscription.id))
    assert await bills(shop, ada, day(1, 31)) == [
        *by_then,
        "CREDIT 5 × 2026-01-21..2026-02-01 11/31 on 2026-01-21",
        "OWED 8 × 2026-01-21..2026-02-01 11/31 on 2026-01-21",
    ]


async def test_what_a_scheduled_change_needs_cannot_be_taken_away(shop: Any) -> None:
    """The refusal names the change that stands in the way; once that is revoked, nothing does."""
    _, subscription, seats = await five_seats(shop)
    plan = await plan_of(shop, subscription)
    await shop.change(subscription, add_item(plan.prices[1].id), at=day(1, 20))
    disk = (await shop.find(subscription, effective_time=day(1, 20))).items[1]
    await shop.change(subscription, set_quantity(disk, 9), at=day(1, 25))
    await shop.change(subscription, set_quantity(seats, 2), timing=Change.PERIOD_END)
    added, set_disk, set_seats = await shop.log(subscription, "SCHEDULED")
    before = await shop.stored()
    revoke = pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id)
    revoke.change_id = added.id
    with refused("CHANGE_CONFLICTS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.api.RevokeSubscriptionChange(revoke)
    assert refusal.metadata["change"] == set_disk.id
    with refused("CHANGE_CONFLICTS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.change(subscription, add_item(plan.prices[1].id), remove_item(seats))
    assert refusal.metadata["change"] == set_seats.id
    assert await shop.stored() == before
    for change_id in (set_disk.id, added.id, set_seats.id):
        revoke.change_id = change_id
        await shop.api.RevokeSubscriptionChange(revoke)
    await shop.change(subscription, add_item(plan.prices[1].id), remove_item(seats))
    assert not await shop.log(subscription, "SCHEDULED")
