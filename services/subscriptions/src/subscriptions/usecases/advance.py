"""What happens to subscriptions by itself when the time has come, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, assert_never

from common import wire
from common.crash import crashpoint, register
from common.db import Tx
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.subscription import change_to_proto, subscription_to_proto
from subscriptions.domain import verbs
from subscriptions.domain.change import Activate, Change, End, EndReason, Pause, Reactivate, Resume
from subscriptions.domain.customer import CollectionMethod, CustomerId
from subscriptions.domain.moments import (
    ActivationMissed,
    Happening,
    Moment,
    PeriodEnded,
    RenewalNear,
    Renewed,
    Started,
    TookEffect,
    TrialEnded,
    TrialInDoubt,
    announced,
    next_moment,
)
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import SubscriptionId
from subscriptions.domain.timeline import TrialEnd
from subscriptions.usecases import entitlements, seats, subscriptions
from subscriptions.usecases.subscriptions import new_change_id

MOMENTS_PER_TURN: Final = 20
"""Of one subscription; if more have come, it is due again."""

ADVANCED: Final = register("subscriptions.advanced", "what has come was announced of many and nothing is committed")


async def advance(tx: Tx, subscription_ids: Sequence[str]) -> None:
    """Announce, and do, what has come by now, moment by moment."""
    moved: list[Subscription] = []
    changed: list[Subscription] = []
    for before in await store.lock_subscriptions(tx, subscription_ids):
        after = before
        for _ in range(MOMENTS_PER_TURN):
            moment = next_moment(after)
            if moment is None or moment.time > tx.now:
                break
            after = await _passed(tx, after, moment)
        if after.changes != before.changes:
            await subscriptions.save(tx, after, before=before)
        else:
            # Also where nothing has come: the moment that was written down was another one, or it would not be due.
            moved.append(after)
        if after.revision != before.revision:
            changed.append(after)
    await store.save_announced(tx, moved)
    await entitlements.refresh_of(tx, changed)
    crashpoint(ADVANCED)


async def follow_dunning(
    tx: Tx, subscription_id: SubscriptionId, *, campaign_id: str, revision: int, is_open: bool
) -> None:
    """A subscription is past due for as long as an invoice of it is being followed up."""
    before = await store.find_subscription(tx, subscription_id, lock=True)
    if before is None:
        return  # nothing that is served under this name
    if not await store.record_campaign(
        tx, subscription_id, campaign_id=campaign_id, revision=revision, is_open=is_open
    ):
        return
    after = before.followed_up(await store.is_followed_up(tx, subscription_id), at=tx.now)
    if after is before:
        return
    await store.save_subscription(tx, after, before=before)
    match before.state_at(tx.now), after.state_at(tx.now):
        case State.ACTIVE, State.PAST_DUE:
            await tx.emit(events.SubscriptionPastDue(subscription=subscription_to_proto(after, at=tx.now)))
        case State.PAST_DUE, State.ACTIVE:
            await tx.emit(events.SubscriptionActivated(subscription=subscription_to_proto(after, at=tx.now)))


async def _passed(tx: Tx, subscription: Subscription, moment: Moment) -> Subscription:
    """The subscription after a moment, everything that happens in it being told."""
    if any(not isinstance(each, PeriodEnded | RenewalNear) for each in moment.happenings):
        subscription = replace(subscription, revision=subscription.revision + 1, update_time=tx.now)
    subscription = announced(subscription, moment)
    for happening in moment.happenings:
        subscription = await _happened(tx, subscription, moment, happening)
    return subscription


async def _happened(tx: Tx, subscription: Subscription, moment: Moment, happening: Happening) -> Subscription:
    match happening:
        case Started():
            await _begun(tx, subscription, moment)
        case TrialEnded():
            await _activated(tx, subscription, moment.time)
        case TrialInDoubt():
            return await _decide_trial(tx, subscription)
        case ActivationMissed():
            subscription = verbs.expire_unactivated(subscription, change_id=new_change_id(tx), at=tx.now)
            await tx.emit(events.SubscriptionCancelled(subscription=subscription_to_proto(subscription, at=tx.now)))
        case TookEffect(change):
            await _took_effect(tx, subscription, moment, change)
        case PeriodEnded(period, item_ids):
            await tx.emit(
                events.BillingPeriodEnded(
                    subscription=subscription_to_proto(subscription, at=moment.time),
                    period=wire.interval(period),
                    item_ids=item_ids,
                )
            )
        case RenewalNear():
            await tx.emit(
                events.SubscriptionRenewalAnnounced(subscription=subscription_to_proto(subscription, at=moment.time))
            )
        case Renewed():
            await tx.emit(events.SubscriptionRenewed(subscription=subscription_to_proto(subscription, at=moment.time)))
        case _:
            assert_never(happening)
    return subscription


async def _begun(tx: Tx, subscription: Subscription, moment: Moment) -> None:
    if subscription.state_at(moment.time) is State.TRIALING:
        await tx.emit(events.SubscriptionTrialStarted(subscription=subscription_to_proto(subscription, at=moment.time)))
    else:
        await _activated(tx, subscription, moment.time)


async def _activated(tx: Tx, subscription: Subscription, at: datetime) -> None:
    """It is billed from now on. When this comes late, an invoice may be overdue already."""
    as_it_is = subscription_to_proto(subscription, at=at)
    await tx.emit(events.SubscriptionActivated(subscription=as_it_is))
    if subscription.state_at(at) is State.PAST_DUE:
        await tx.emit(events.SubscriptionPastDue(subscription=as_it_is))


async def _can_be_billed(tx: Tx, subscription: Subscription, at: datetime) -> bool:
    """Whether whoever gets the invoices pays by hand, or has a payment method."""
    then = subscription.as_of(at)
    customer = await store.customer(tx, then.customer_id)
    payer_id = CustomerId(then.payer_id or customer.payer_id or customer.id)
    payer = customer if payer_id == customer.id else await store.customer(tx, payer_id)
    by_hand = payer.billing_profile.collection_method is CollectionMethod.SEND_INVOICE
    return by_hand or await store.has_payment_method(tx, payer_id)


async def _decide_trial(tx: Tx, subscription: Subscription) -> Subscription:
    """Bill if there is a payment method, and do otherwise what was agreed; unless it was stopped since."""
    change_id, at = new_change_id(tx), tx.now
    state = subscription.state_at(subscription.recorded_time(at))
    if state is State.CANCELLED:
        return subscription
    if await _can_be_billed(tx, subscription, at):
        subscription = verbs.begin_billing(subscription, change_id=change_id, at=at)
        if state is not State.PAUSED:
            await _activated(tx, subscription, at)
    elif state is State.PAUSED or subscription.opening.trial_end is TrialEnd.PAUSE:
        # It is billed once it is resumed, which needs its billing to be paused; nothing of it is until then.
        then = subscription.as_of(subscription.recorded_time(at))
        service = not any(gap.end is None for gap in then.service_breaks)
        billing = not any(gap.end is None for gap in then.billing_breaks)
        if not (service or billing):
            return subscription
        subscription = verbs.pause(subscription, change_id=change_id, at=at, service=service, billing=billing)
        await tx.emit(events.SubscriptionPaused(subscription=subscription_to_proto(subscription, at=at)))
    else:
        subscription = verbs.cancel(subscription, change_id=change_id, at=at, reason=EndReason.NO_PAYMENT_METHOD)
        await tx.emit(events.SubscriptionCancelled(subscription=subscription_to_proto(subscription, at=at)))
    return subscription


async def _took_effect(tx: Tx, subscription: Subscription, moment: Moment, change: Change) -> None:
    as_it_is = subscription_to_proto(subscription, at=moment.time)
    if change.has(End):
        await tx.emit(events.SubscriptionCancelled(subscription=as_it_is))
    elif change.has(Pause):
        await tx.emit(events.SubscriptionPaused(subscription=as_it_is))
    elif change.has(Resume):
        await tx.emit(events.SubscriptionResumed(subscription=as_it_is))
    elif change.has(Activate) or change.has(Reactivate):
        await tx.emit(events.SubscriptionActivated(subscription=as_it_is))
    else:
        await tx.emit(
            events.SubscriptionChanged(
                subscription=as_it_is, change=change_to_proto(change, subscription, at=moment.time)
            )
        )
        await seats.revoke_surplus(tx, subscription)
