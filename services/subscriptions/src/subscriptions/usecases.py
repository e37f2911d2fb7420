"""What subscriptions does, one function each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common import wire
from common.db import Tx
from common.errors import InvalidArgument
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert import customer_for_events, subscription_to_proto
from subscriptions.domain import billable_periods
from subscriptions.domain.billable_periods import PERIODS_MAX, Schedule
from subscriptions.domain.customer import BillingProfile, Contact, Customer, CustomerId
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.period_ends import announced, next_ends
from subscriptions.domain.plan import ItemSpec, Plan
from subscriptions.domain.subscription import ItemId, State, Subscription, SubscriptionId

START_DISTANCE_MAX: Final = timedelta(days=3_653)
PERIODS_PER_ANSWER_MAX: Final = 30_000
"""As many as fit a message of the size that services accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to subscribe to.

    No `start_time` means now, no items everything the plan offers, no `trial_days` as many as the plan says.
    """

    customer_id: CustomerId
    items: Sequence[ItemSpec]
    start_time: datetime | None
    billing_day: int
    trial_days: int | None


async def create_customer(tx: Tx, *, external_id: str, contact: Contact, billing_profile: BillingProfile) -> Customer:
    customer = Customer(
        id=CustomerId(tx.new_id("cus")),
        external_id=external_id,
        contact=contact,
        billing_profile=billing_profile,
        revision=1,
        create_time=tx.now,
        update_time=tx.now,
    )
    await store.add_customer(tx, customer)
    await tx.emit(events.CustomerCreated(customer=customer_for_events(customer)))
    return customer


async def update_customer(
    tx: Tx, customer_id: CustomerId, *, contact: Contact | None, billing_profile: BillingProfile | None
) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    customer = old.updated(contact=contact, billing_profile=billing_profile, at=tx.now)
    if customer is not old:
        await store.save_customer(tx, customer)
        await tx.emit(events.CustomerUpdated(customer=customer_for_events(customer)))
    return customer


async def create_subscription(tx: Tx, plan: Plan, order: Order) -> Subscription:
    """Subscribe a customer to a plan, with the prices as the catalog has them."""
    customer = await store.customer(tx, order.customer_id)
    profile = customer.billing_profile
    start_time = _near(tx.now, order.start_time)
    plan.check_open(start=start_time, at=tx.now)
    items = plan.items(
        order.items,
        customer_id=customer.id,
        currency=profile.currency,
        new_id=lambda: ItemId(tx.new_id("subi")),
    )
    subscription = Subscription.agree(
        id=SubscriptionId(tx.new_id("sub")),
        customer_id=customer.id,
        plan_id=plan.id,
        items=items,
        currency=profile.currency,
        time_zone=profile.time_zone,
        start_time=start_time,
        billing_day=order.billing_day,
        trial_days=plan.trial_days if order.trial_days is None else order.trial_days,
        at=tx.now,
    )
    await store.add_subscription(tx, subscription)
    await tx.emit(events.SubscriptionCreated(subscription=subscription_to_proto(subscription)))
    return subscription


async def cancel_subscription(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    return await _cancelled(tx, (await store.subscription(tx, subscription_id, lock=True)).cancel(at=tx.now))


async def cancel_subscription_at_period_end(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    old = await store.subscription(tx, subscription_id, lock=True)
    subscription = old.cancel_at_period_end(at=tx.now)
    return old if subscription is old else await _cancelled(tx, subscription)


async def pause_subscription(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    subscription = (await store.subscription(tx, subscription_id, lock=True)).pause(at=tx.now)
    await store.save_subscription(tx, subscription)
    await store.save_last_pause(tx, subscription)
    await tx.emit(events.SubscriptionPaused(subscription=subscription_to_proto(subscription)))
    return subscription


async def resume_subscription(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    paused = await store.subscription(tx, subscription_id, lock=True)
    subscription = paused.resume(at=tx.now, past_due=await store.is_followed_up(tx, subscription_id))
    await store.save_subscription(tx, subscription)
    await store.save_last_pause(tx, subscription)
    await tx.emit(events.SubscriptionResumed(subscription=subscription_to_proto(subscription)))
    return subscription


async def schedules(
    tx: Tx, customer_ids: Sequence[CustomerId], *, after: datetime, through: datetime
) -> list[tuple[Customer, Schedule]]:
    """What is to be billed for each of the customers, in the order asked, from one look at all of them."""
    customers = {customer.id: customer for customer in await store.customers_by_id(tx, customer_ids)}
    found = await store.subscriptions_not_over(tx, customer_ids, at=after, limit=PERIODS_MAX + 1)
    if len(found) > PERIODS_MAX:
        raise TooManyPeriods(f"there are more than {PERIODS_MAX} subscriptions", limit=PERIODS_MAX)
    of_customer: dict[CustomerId, list[Subscription]] = defaultdict(list)
    for subscription in found:
        of_customer[subscription.customer_id].append(subscription)
    answer: list[tuple[Customer, Schedule]] = []
    room = PERIODS_PER_ANSWER_MAX
    for customer_id in customer_ids:
        schedule = billable_periods.schedule(of_customer[customer_id], after=after, through=through)
        answer.append((customers[customer_id], schedule))
        room -= len(schedule.periods)
        if room < 0:
            raise TooManyPeriods(f"there are more than {PERIODS_PER_ANSWER_MAX} periods", limit=PERIODS_PER_ANSWER_MAX)
    return answer


async def begin_subscription(tx: Tx, subscription_id: str) -> None:
    pending = await store.subscription(tx, SubscriptionId(subscription_id), lock=True)
    if pending.state is not State.PENDING or pending.start_time > tx.now:
        return
    subscription = pending.begin(at=tx.now)
    if subscription.state is State.TRIALING:
        await store.save_subscription(tx, subscription)
        await tx.emit(events.SubscriptionTrialStarted(subscription=subscription_to_proto(subscription)))
    else:
        await _activated(tx, subscription)


async def end_trial(tx: Tx, subscription_id: str) -> None:
    """Unless it was decided that the subscription ends with its trial: that is carried out in its own time."""
    trialing = await store.subscription(tx, SubscriptionId(subscription_id), lock=True)
    due = trialing.billed_from <= tx.now and not trialing.ends_unbilled
    if due and trialing.state is State.TRIALING:
        await _activated(tx, trialing.end_trial(at=tx.now))


async def end_billing_periods(tx: Tx, subscription_id: str) -> None:
    """Announce the next end of a period that has come; if more have, the row is due again, for a later one."""
    subscription = await store.subscription(tx, SubscriptionId(subscription_id), lock=True)
    for ended in next_ends(subscription):
        if ended.period.end > tx.now:
            break
        subscription = announced(subscription, ended)
        await tx.emit(
            events.BillingPeriodEnded(
                subscription=subscription_to_proto(subscription),
                period=wire.interval(ended.period),
                item_ids=ended.item_ids,
            )
        )
    await store.save_subscription(tx, subscription)


async def carry_out_cancellation(tx: Tx, subscription_id: str) -> None:
    subscription = await store.subscription(tx, SubscriptionId(subscription_id), lock=True)
    due = subscription.cancel_time is not None and subscription.cancel_time <= tx.now
    if due and subscription.state is not State.CANCELLED:
        await _cancelled(tx, subscription.cancel(at=tx.now))


async def follow_dunning(
    tx: Tx, subscription_id: SubscriptionId, *, campaign_id: str, revision: int, is_open: bool
) -> None:
    """A subscription is past due for as long as an invoice of it is being followed up."""
    subscription = await store.find_subscription(tx, subscription_id, lock=True)
    if subscription is None:
        return  # nothing that is served under this name
    if not await store.record_campaign(
        tx, subscription_id, campaign_id=campaign_id, revision=revision, is_open=is_open
    ):
        return
    past_due = await store.is_followed_up(tx, subscription_id)
    if past_due and subscription.state is State.ACTIVE:
        await _past_due(tx, subscription)
    elif not past_due and subscription.state is State.PAST_DUE:
        subscription = subscription.recover(at=tx.now)
        await store.save_subscription(tx, subscription)
        await tx.emit(events.SubscriptionActivated(subscription=subscription_to_proto(subscription)))


async def _activated(tx: Tx, subscription: Subscription) -> None:
    """Save and announce that it is billed from now on. When this comes late, an invoice may be overdue already."""
    await store.save_subscription(tx, subscription)
    await tx.emit(events.SubscriptionActivated(subscription=subscription_to_proto(subscription)))
    if await store.is_followed_up(tx, subscription.id):
        await _past_due(tx, subscription)


async def _past_due(tx: Tx, active: Subscription) -> None:
    subscription = active.mark_past_due(at=tx.now)
    await store.save_subscription(tx, subscription)
    await tx.emit(events.SubscriptionPastDue(subscription=subscription_to_proto(subscription)))


async def _cancelled(tx: Tx, subscription: Subscription) -> Subscription:
    """Save and announce that it has ended, or that it will."""
    await store.save_subscription(tx, subscription)
    await tx.emit(events.SubscriptionCancelled(subscription=subscription_to_proto(subscription)))
    return subscription


def _near(now: datetime, start: datetime | None) -> datetime:
    if start is None:
        return now
    if abs(start - now) > START_DISTANCE_MAX:
        raise InvalidArgument("must lie at most ten years from now", field="start_time")
    return start
