"""Subscriptions as time goes by: what is announced, and what is to be billed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from sqlalchemy import event as sqlalchemy_event

from common import ids, wire
from common.testing import Suite, refused
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STATE = subscription_pb2.Subscription.State
NOW, PERIOD_END = pb.CancelSubscriptionRequest.NOW, pb.CancelSubscriptionRequest.PERIOD_END
CAMPAIGN = dunning_campaign_pb2.DunningCampaign


def day(month: int, number: int = 1, *, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, tzinfo=UTC)


def ended(suite: Suite, subscription: subscription_pb2.Subscription) -> list[tuple[datetime, datetime, str]]:
    """The periods whose end was announced, item by item, in the order of the announcements."""
    return [
        (event.period.start_time.ToDatetime(UTC), event.period.end_time.ToDatetime(UTC), item_id)
        for event in suite.announced(events_pb2.BillingPeriodEnded)
        if event.subscription.id == subscription.id
        for item_id in event.item_ids
    ]


def billed(schedule: pb.CustomerSchedule, item_id: str) -> list[tuple[datetime, datetime, datetime]]:
    """When, from when, to when; of one item."""
    return [
        (
            period.bill_time.ToDatetime(UTC),
            period.period.start_time.ToDatetime(UTC),
            period.period.end_time.ToDatetime(UTC),
        )
        for period in schedule.periods
        if period.item_id == item_id
    ]


async def state_of(shop: Any, subscription: subscription_pb2.Subscription) -> subscription_pb2.Subscription:
    found: subscription_pb2.Subscription = await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id))
    return found


async def test_half_a_year_of_a_customer(suite: Suite, shop: Any) -> None:
    """A start in mid-month, a pause across the clock change, a decision to leave: what ended is what is billed."""
    london = customer_pb2.BillingProfile(currency="EUR", time_zone="Europe/London")
    ada = await shop.customer(billing_profile=london)
    plan = await shop.plan(
        shop.price("seats"), shop.metered("calls"), shop.price("audit", unit="WEEK", timing="IN_ARREARS")
    )
    monthly = await shop.plan(shop.price("seats"), shop.metered("calls"))
    seats, calls = (price.id for price in monthly.prices)
    await suite.travel(day(1, 15))
    subscription = await shop.subscribe(ada, monthly, billing_day=1)
    weekly = await shop.subscribe(ada, plan)
    await suite.travel(day(3, 10))
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    await suite.travel(day(5, 20))
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    await suite.travel(day(6, 20))
    leaving = await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=PERIOD_END))
    july = datetime(2026, 6, 30, 23, tzinfo=UTC)  # London's first of July
    assert (leaving.state, leaving.cancel_time) == (STATE.ACTIVE, wire.timestamp(july))
    await suite.travel(day(8))
    gone = await state_of(shop, subscription)
    assert (gone.state, gone.end_time, gone.cancel_time) == (
        STATE.CANCELLED,
        wire.timestamp(july),
        wire.timestamp(july),
    )

    schedule = await shop.due(ada, through=day(8))
    items = {item.price_id: item.id for item in subscription.items}
    april, may_end = datetime(2026, 3, 31, 23, tzinfo=UTC), datetime(2026, 5, 31, 23, tzinfo=UTC)
    assert billed(schedule, items[calls]) == [
        (day(2), day(1, 15), day(2)),
        (day(3), day(2), day(3)),
        (april, day(3), day(3, 10)),
        (may_end, day(5, 20), may_end),
        (july, may_end, july),
    ]
    assert billed(schedule, items[seats]) == [
        (day(1, 15), day(1, 15), day(2)),
        (day(2), day(2), day(3)),
        (day(3), day(3), april),
        (day(5, 20), day(5, 20), may_end),
        (may_end, may_end, july),
    ]
    shares = [period.proration for period in schedule.periods if period.item_id == items[calls]]
    assert [(share.numerator, share.denominator) for share in shares] == [(17, 31), (1, 1), (9, 31), (12, 31), (1, 1)]

    for each in (subscription, weekly):
        arrears = [
            (period.full_period.start_time.ToDatetime(UTC), period.full_period.end_time.ToDatetime(UTC), period.item_id)
            for period in schedule.periods
            if period.subscription_id == each.id and period.bill_time == period.full_period.end_time
        ]
        arrears_items = {item_id for _, _, item_id in arrears}
        announced = ended(suite, each)
        assert [entry for entry in announced if entry[2] in arrears_items] == arrears
        assert len(set(announced)) == len(announced)
    assert len([entry for entry in ended(suite, weekly) if entry[2] == weekly.items[2].id]) == 28


async def test_months_that_a_service_slept_through_are_caught_up_in_order(suite: Suite, shop: Any) -> None:
    """One announcement per period, oldest first, although they were all due at once."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"), shop.metered("calls"))
    old = await shop.subscribe(ada, plan, start_time=wire.timestamp(day(2, 10, year=2025)), billing_day=31)
    await suite.quiet()
    starts = [day(1, 31, year=2025), day(2, 28, year=2025), day(3, 31, year=2025), day(4, 30, year=2025)]
    told = ended(suite, old)
    assert [start for start, _, item_id in told if item_id == old.items[0].id][:4] == starts
    assert len(told) == 2 * 11
    assert len(suite.announced(events_pb2.BillingPeriodEnded)) == 11
    schedule = await shop.due(ada, through=day(1))
    assert [when for when, _, _ in billed(schedule, old.items[1].id)] == [end for _, end, _ in told[1::2]]


async def test_a_subscription_for_later_begins_then(suite: Suite, shop: Any) -> None:
    """Pending until its day; told when it begins, billed from then on."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    later = await shop.subscribe(ada, plan, start_time=wire.timestamp(day(3)))
    assert later.state == STATE.PENDING
    assert (await shop.due(ada, through=day(2))).next_bill_time == wire.timestamp(day(3))
    await suite.travel(day(2, 28))
    assert (await state_of(shop, later)).state == STATE.PENDING
    await suite.travel(day(3))
    begun = await state_of(shop, later)
    assert (begun.state, begun.revision, begun.update_time) == (STATE.ACTIVE, 2, wire.timestamp(day(3)))
    assert [event.subscription for event in suite.announced(events_pb2.SubscriptionActivated)] == [begun]
    assert len((await shop.due(ada, through=day(3))).periods) == 1


async def test_cancelled_before_it_began(suite: Suite, shop: Any) -> None:
    """It ends at once, whichever end is asked for, and never begins."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    later = await shop.subscribe(ada, plan, start_time=wire.timestamp(day(3)))
    request = pb.CancelSubscriptionRequest(id=later.id, timing=PERIOD_END)
    assert (await shop.api.CancelSubscription(request)).state == STATE.CANCELLED
    await suite.travel(day(5))
    assert (await state_of(shop, later)).state == STATE.CANCELLED
    assert not suite.announced(events_pb2.SubscriptionActivated)
    assert not suite.announced(events_pb2.BillingPeriodEnded)
    schedule = await shop.due(ada, through=day(12))
    assert (len(schedule.periods), schedule.HasField("next_bill_time")) == (0, False)


async def test_an_end_at_a_period_end_is_told_once_and_so_is_the_period(suite: Suite, shop: Any) -> None:
    """Two jobs are due at one instant: both do their part, in either order, and neither comes back."""
    ada, plan = await shop.customer(), await shop.plan(shop.metered("calls"))
    subscription = await shop.subscribe(ada, plan)
    request = pb.CancelSubscriptionRequest(id=subscription.id, timing=PERIOD_END)
    decided = await shop.api.CancelSubscription(request)
    assert await shop.api.CancelSubscription(request) == decided
    await suite.travel(day(6))
    assert ended(suite, subscription) == [(day(1), day(2), subscription.items[0].id)]
    cancellations = [event.subscription for event in suite.announced(events_pb2.SubscriptionCancelled)]
    assert [each.state for each in cancellations] == [STATE.ACTIVE, STATE.CANCELLED]
    assert [each.revision for each in cancellations] == [2, 3]
    with refused("SUBSCRIPTION_CANCELLED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.CancelSubscription(request)


async def test_a_pause_ends_the_announcements_after_the_period_it_began_in(suite: Suite, shop: Any) -> None:
    """What was served before it is still billed at the end of its month; the empty months are not told."""
    ada, plan = await shop.customer(), await shop.plan(shop.metered("calls"))
    subscription = await shop.subscribe(ada, plan)
    await suite.travel(day(2, 10))
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    await suite.travel(day(6, 10))
    assert [end for _, end, _ in ended(suite, subscription)] == [day(2), day(3)]
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    await suite.travel(day(8))
    assert [end for _, end, _ in ended(suite, subscription)] == [day(2), day(3), day(7), day(8)]


def campaign(
    subscription_ids: list[str], *, revision: int, state: Any, campaign_id: str = "dcam_1"
) -> dunning_campaign_pb2.DunningCampaign:  # Any: an enum's value
    return CAMPAIGN(id=campaign_id, subscription_ids=subscription_ids, revision=revision, state=state)


async def test_a_subscription_is_past_due_while_an_invoice_is_followed_up(suite: Suite, shop: Any) -> None:
    """From the first campaign that starts to the last that is over."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    mine = [subscription.id]

    async def hear(event: Any) -> int:  # Any: one of dunning's events
        await suite.announce(event, source="dunning")
        await suite.quiet()
        return (await state_of(shop, subscription)).state

    started = dunning.DunningCampaignStarted(dunning_campaign=campaign(mine, revision=1, state=CAMPAIGN.ACTIVE))
    assert await hear(started) == STATE.PAST_DUE
    another = campaign(mine, revision=1, state=CAMPAIGN.ACTIVE, campaign_id="dcam_2")
    assert await hear(dunning.DunningCampaignStarted(dunning_campaign=another)) == STATE.PAST_DUE
    recovered = campaign(mine, revision=3, state=CAMPAIGN.RECOVERED)
    assert await hear(dunning.DunningCampaignRecovered(dunning_campaign=recovered)) == STATE.PAST_DUE
    exhausted = campaign(mine, revision=2, state=CAMPAIGN.EXHAUSTED, campaign_id="dcam_2")
    assert await hear(dunning.DunningCampaignExhausted(dunning_campaign=exhausted)) == STATE.ACTIVE
    assert len(suite.announced(events_pb2.SubscriptionPastDue)) == 1
    assert len(suite.announced(events_pb2.SubscriptionActivated)) == 1


async def test_a_recovery_that_arrives_first_is_the_last_word(suite: Suite, shop: Any) -> None:
    """Otherwise the customer would be past due for ever, having paid."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    recovered = campaign([subscription.id], revision=2, state=CAMPAIGN.RECOVERED)
    started = campaign([subscription.id], revision=1, state=CAMPAIGN.ACTIVE)
    await suite.announce(dunning.DunningCampaignRecovered(dunning_campaign=recovered), source="dunning")
    await suite.announce(dunning.DunningCampaignStarted(dunning_campaign=started), source="dunning")
    await suite.quiet()
    assert await state_of(shop, subscription) == subscription


async def test_dunning_leaves_alone_what_is_not_served_or_not_known(suite: Suite, shop: Any) -> None:
    """A paused or cancelled subscription stays so, a stranger's is none of ours, and no message is ever refused."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    paused, cancelled = await shop.subscribe(ada, plan), await shop.subscribe(ada, plan)
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=paused.id))
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=cancelled.id, timing=NOW))
    everyone = [paused.id, cancelled.id, ids.mint("sub", day(1))]
    started = campaign(everyone, revision=1, state=CAMPAIGN.ACTIVE)
    await suite.announce(dunning.DunningCampaignStarted(dunning_campaign=started), source="dunning")
    await suite.quiet()
    assert (await state_of(shop, paused)).state == STATE.PAUSED
    assert (await state_of(shop, cancelled)).state == STATE.CANCELLED
    assert not suite.announced(events_pb2.SubscriptionPastDue)
    # The invoice is still being followed up, so that is how it comes back.
    resumed = await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=paused.id))
    assert resumed.state == STATE.PAST_DUE
    recovered = campaign(everyone, revision=2, state=CAMPAIGN.RECOVERED)
    await suite.announce(dunning.DunningCampaignRecovered(dunning_campaign=recovered), source="dunning")
    await suite.quiet()
    assert (await state_of(shop, paused)).state == STATE.ACTIVE
    assert (await state_of(shop, cancelled)).state == STATE.CANCELLED


@pytest.mark.own_services
async def test_many_customers_are_asked_about_at_once(suite: Suite, shop: Any) -> None:
    """In the order asked, each once, with as many queries for a hundred as for one."""
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"))
    customers = [await shop.customer() for _ in range(4)]
    for customer in customers[1:]:
        await shop.subscribe(customer, plan)
    await shop.subscribe(customers[3], plan)
    asked = [customer.id for customer in reversed(customers)]
    engine = suite.running["subscriptions"].database._engine.sync_engine
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    sqlalchemy_event.listen(engine, "before_cursor_execute", note)
    request = pb.ListBillablePeriodsRequest(customer_ids=[*asked, asked[0]], through_time=wire.timestamp(day(2)))
    answer = await shop.api.ListBillablePeriods(request)
    assert [schedule.customer.id for schedule in answer.schedules] == asked
    assert [len(schedule.periods) for schedule in answer.schedules] == [6, 3, 3, 0]
    assert answer.schedules[0].customer == customers[3]
    assert not answer.schedules[3].HasField("next_bill_time")
    for_many, statements[:] = len(statements), []
    request = pb.ListBillablePeriodsRequest(customer_ids=[asked[1]], through_time=wire.timestamp(day(2)))
    await shop.api.ListBillablePeriods(request)
    assert len(statements) == for_many == 4


async def test_the_question_is_checked(shop: Any) -> None:
    """By field; and an answer too long to give is refused rather than cut."""
    ada = await shop.customer()
    for request, field in [
        (pb.ListBillablePeriodsRequest(customer_ids=[ada.id]), "through_time"),
        (
            pb.ListBillablePeriodsRequest(
                customer_ids=[ada.id], after_time=wire.timestamp(day(3)), through_time=wire.timestamp(day(2))
            ),
            "after_time",
        ),
        (
            pb.ListBillablePeriodsRequest(customer_ids=[ada.id] * 101, through_time=wire.timestamp(day(2))),
            "customer_ids",
        ),
        (pb.ListBillablePeriodsRequest(customer_ids=["x"], through_time=wire.timestamp(day(2))), "customer_ids[0]"),
    ]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.ListBillablePeriods(request)
        assert refusal.field == field
    await shop.subscribe(ada, await shop.plan(shop.price("day", unit="DAY")))
    for_ever = datetime(2299, 12, 31, 23, 59, 59, tzinfo=UTC)
    with refused("TOO_MANY_PERIODS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.due(ada, through=for_ever)
    assert refusal.metadata == {"limit": "10000"}
    last_day = await shop.due(ada, after=for_ever - timedelta(days=1), through=for_ever)
    assert not last_day.HasField("next_bill_time")


async def test_the_same_question_has_the_same_answer(suite: Suite, shop: Any) -> None:
    """Invoicing repeats it after every crash; what was due by then is never taken back."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"), shop.metered("calls"))
    subscription = await shop.subscribe(ada, plan)
    await suite.travel(day(3))
    before = list((await shop.due(ada, through=day(3))).periods)
    assert len(before) == 5
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=NOW))
    await suite.travel(day(6))
    assert list((await shop.due(ada, through=day(6))).periods) == before


@pytest.mark.own_services
async def test_a_moment_that_was_written_down_too_early_is_looked_at_once(suite: Suite, shop: Any) -> None:
    """As an older release may have done: nothing is announced for it, and the right moment takes its place."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("UPDATE subscriptions SET next_moment_time = announced_through + interval '1 day'")
        await suite.travel(day(1, 5))
        assert await connection.fetchval("SELECT next_moment_time FROM subscriptions") == day(2)
    finally:
        await connection.close()
    assert await state_of(shop, subscription) == subscription
    assert not suite.announced(events_pb2.BillingPeriodEnded)
