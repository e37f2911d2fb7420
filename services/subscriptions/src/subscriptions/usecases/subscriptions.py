"""What is done to subscriptions by callers: agreed, changed, begun, paused, ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.message import Message

from common.db import Tx
from common.errors import InvalidArgument
from common.period import Unit
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.subscription import change_to_proto, subscription_to_proto
from subscriptions.domain import verbs
from subscriptions.domain.amendment import Amendment
from subscriptions.domain.change import (
    Action,
    Change,
    End,
    SetBillingDay,
    SetCommitment,
    SetPrice,
    SetQuantity,
    SetTerm,
    Unused,
)
from subscriptions.domain.coupon import Coupon
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.entitlement import plans_taken
from subscriptions.domain.errors import (
    BillingDayNotSet,
    MergeTooLarge,
    PayerHasPayer,
    PlanNotSubscribable,
    PriceNotInPlan,
    SubscriptionMoved,
    TooManySubscriptions,
)
from subscriptions.domain.order import Order, RampStep
from subscriptions.domain.payer import check_payer
from subscriptions.domain.plan import ItemSpec, Plan
from subscriptions.domain.ramp import step_time, with_ramp
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import (
    NO_CHANGE,
    BillingTiming,
    ChangeId,
    CouponId,
    Item,
    ItemId,
    PlanId,
    SubscriptionId,
)
from subscriptions.domain.timeline import Activation
from subscriptions.domain.trial import trial_end
from subscriptions.usecases import entitlements, seats

START_DISTANCE_MAX: Final = timedelta(days=3_653)
SUBSCRIPTIONS_OF_CUSTOMER_MAX: Final = 1_000


async def create_subscription(
    tx: Tx, plan: Plan, order: Order, *, add_ons: Mapping[PlanId, Plan], coupons: Mapping[CouponId, Coupon]
) -> Subscription:
    """Subscribe a customer to a plan, with the prices as the catalog has them."""
    customer = await _open_customer(tx, order.customer_id)
    await check_payer_of(tx, customer, order.payer_id)
    profile = customer.billing_profile
    start_time = _near(tx.now, order.start_time)
    plan.check_open(start=start_time, at=tx.now, as_add_on=plan.is_add_on)
    if plan.is_add_on and not await store.living_subscriptions(tx, customer.id, limit=1):
        raise PlanNotSubscribable(f"plan {plan.id} is an add-on, and there is nothing beside it", plan=plan.id)
    currency = order.currency or profile.currency
    for discount in order.discounts:
        coupons[discount.coupon_id].check(customer_id=customer.id, currency=currency, at=tx.now)
    trial_days = order.trial_days
    if trial_days is None:
        had = plan.trial_days and await store.has_had_trial(
            tx, [customer.id, *customer.merged_ids], plan_code=plan.code
        )
        trial_days = 0 if had else plan.trial_days
    items = plan.items(
        order.items, customer_id=customer.id, currency=currency, new_id=lambda: ItemId(tx.new_id("subi"))
    )
    subscription = Subscription.agree(
        id=SubscriptionId(tx.new_id("sub")),
        customer_id=customer.id,
        plan_id=plan.id,
        items=items,
        currency=currency,
        time_zone=profile.time_zone,
        start_time=start_time,
        billing_day=_billing_day(order, profile.billing_day),
        trial_days=trial_days,
        at=tx.now,
        proration=order.proration,
        activation=order.activation,
        activation_deadline=_activation_deadline(tx.now, order, items, start_time, profile.time_zone, trial_days),
        trial_end_policy=order.trial_end,
        payer_id=order.payer_id,
        bill_ahead_days=order.bill_ahead_days,
    )
    plans = {plan.id: plan, **add_ons}
    subscription = _with_what_else_is_agreed(tx, subscription, plans, order)
    await store.add_subscription(tx, subscription, plan_code=plan.code)
    await tx.emit(events.SubscriptionCreated(subscription=subscription_to_proto(subscription, at=tx.now)))
    await entitlements.remember(tx, plans)
    await entitlements.refresh_of(tx, [subscription])
    return subscription


async def cancel(tx: Tx, subscription_id: SubscriptionId, decision: Decision) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = verbs.cancel(before, change_id=new_change_id(tx), at=tx.now, decision=decision)
    return await _announced(tx, before, after, events.SubscriptionCancelled)


async def revoke_cancellation(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = verbs.revoke_cancellation(before, new_id=lambda: new_change_id(tx), at=tx.now)
    after = verbs.with_expiry(after, change_id=new_change_id(tx), at=tx.now)
    ends = {change.id for change in before.standing if change.has(End)}
    await _announced(tx, before, after, events.SubscriptionCancellationRevoked, told=ends)
    for change in after.changes[len(before.changes) :]:
        if not change.has(End) and change.after_months is None:
            await _tell(tx, after, change)
    return after


async def pause(
    tx: Tx,
    subscription_id: SubscriptionId,
    *,
    service: bool,
    billing: bool,
    decision: Decision,
    resume_time: datetime | None,
) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = verbs.pause(
        before, change_id=new_change_id(tx), at=tx.now, service=service, billing=billing, decision=decision
    )
    if resume_time is not None:
        after = verbs.resume_at(after, resume_time, change_id=new_change_id(tx), at=tx.now)
    return await _announced(tx, before, after, events.SubscriptionPaused)


async def resume(
    tx: Tx, subscription_id: SubscriptionId, *, service: bool | None, billing: bool | None
) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = verbs.resume(before, change_id=new_change_id(tx), at=tx.now, service=service, billing=billing)
    return await _announced(tx, before, after, events.SubscriptionResumed)


async def activate(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    after = await _activated(tx, await store.subscription(tx, subscription_id, lock=True))
    await entitlements.refresh_of(tx, [after])
    return after


async def activate_paid(tx: Tx, subscription_ids: Collection[SubscriptionId]) -> None:
    """Begin what waited for its first payment; anything else waits for none."""
    begun = [
        await _activated(tx, before)
        for before in await store.lock_subscriptions(tx, subscription_ids)
        if before.opening.activation is Activation.ON_FIRST_PAYMENT
        and before.timeline.activated_time is None
        and before.end is None
    ]
    await entitlements.refresh_of(tx, begun)


async def _activated(tx: Tx, before: Subscription) -> Subscription:
    after = _with_what_follows(tx, verbs.activate(before, change_id=new_change_id(tx), at=tx.now))
    await tx.emit(events.SubscriptionActivated(subscription=subscription_to_proto(after, at=tx.now)))
    await save(tx, after, before=before)
    return after


async def move_trial_end(tx: Tx, subscription_id: SubscriptionId, to: datetime) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = _with_what_follows(tx, verbs.move_trial_end(before, to, change_id=new_change_id(tx), at=tx.now))
    return await _announced(tx, before, after, events.SubscriptionTrialMoved)


async def reactivate(tx: Tx, subscription_id: SubscriptionId) -> Subscription:
    # First the customer, then the subscription: as a merge does.
    customer = await _open_customer(tx, (await store.subscription(tx, subscription_id)).as_of(tx.now).customer_id)
    before = await store.subscription(tx, subscription_id, lock=True)
    if before.as_of(tx.now).customer_id != customer.id:
        raise SubscriptionMoved(f"subscription {subscription_id} was transferred", subscription=subscription_id)
    followed = _with_what_follows(tx, verbs.reactivate(before, change_id=new_change_id(tx), at=tx.now))
    after = await _to_who_pays_now(tx, followed, customer)
    await _announced(tx, before, after, events.SubscriptionReactivated)
    for change in after.changes[len(followed.changes) :]:
        await _tell(tx, after, change)
    return after


async def _to_who_pays_now(tx: Tx, subscription: Subscription, customer: Customer) -> Subscription:
    """Of what had ended the payer may have been merged meanwhile, or erased."""
    named = subscription.as_of(tx.now).payer_id
    if named is None:
        await check_payer_of(tx, customer, None)
        return subscription
    payer = await store.customer_by_key(tx, named)
    payer.check_not_erased()
    if payer.id == named:
        return subscription
    return verbs.readdress(subscription, named, payer.id, new_id=lambda: new_change_id(tx), at=tx.now)


async def transfer(tx: Tx, subscription_id: SubscriptionId, customer_id: CustomerId, *, unused: Unused) -> Subscription:
    await check_payer_of(tx, await _open_customer(tx, customer_id), None)
    before = await store.subscription(tx, subscription_id, lock=True)
    after = await _transferred(tx, before, customer_id, unused=unused)
    await entitlements.refresh_of(tx, [after])
    return after


async def hand_over(tx: Tx, from_customer_id: CustomerId, to_customer_id: CustomerId) -> None:
    """All of a customer's subscriptions that have not ended to another one, who uses up what was billed in advance."""
    handed = await store.living_subscriptions(tx, from_customer_id, limit=SUBSCRIPTIONS_OF_CUSTOMER_MAX + 1)
    if len(handed) > SUBSCRIPTIONS_OF_CUSTOMER_MAX:
        raise MergeTooLarge(
            f"customer {from_customer_id} has more than {SUBSCRIPTIONS_OF_CUSTOMER_MAX} subscriptions",
            customer=from_customer_id,
        )
    transferred = [
        await _transferred(tx, subscription, to_customer_id, unused=Unused.KEEP)
        for subscription in handed
        if subscription.end is None or subscription.end > tx.now
    ]
    await entitlements.refresh_of(tx, transferred)


async def readdress(tx: Tx, source_id: CustomerId, target: Customer) -> None:
    """Have the target pay for the subscriptions that the source was to pay for from now on; for its own as it pays."""
    limit = SUBSCRIPTIONS_OF_CUSTOMER_MAX
    wanted = await store.to_be_readdressed(tx, source_id, target.id, limit=limit + 1)
    if len(wanted) > limit:
        raise MergeTooLarge(f"customer {source_id} pays for more than {limit} subscriptions", customer=source_id)
    for before in await store.lock_subscriptions(tx, wanted):
        after = verbs.readdress(before, source_id, target.id, new_id=lambda: new_change_id(tx), at=tx.now)
        if after is before:
            continue
        if target.payer_id and after.as_of(tx.now).customer_id != target.id:
            raise PayerHasPayer(
                f"customer {source_id} pays for others, and the invoices of {target.id} go to {target.payer_id}",
                customer=target.id,
                payer=target.payer_id,
            )
        await save(tx, after, before=before)
        for change in after.changes[len(before.changes) :]:
            await _tell(tx, after, change)


async def _transferred(tx: Tx, before: Subscription, customer_id: CustomerId, *, unused: Unused) -> Subscription:
    after = verbs.transfer(before, customer_id, change_id=new_change_id(tx), at=tx.now, unused=unused)
    await save(tx, after, before=before)
    await tx.emit(
        events.SubscriptionTransferred(
            subscription=subscription_to_proto(after, at=tx.now),
            from_customer_id=before.as_of(tx.now).customer_id,
        )
    )
    return after


async def align(tx: Tx, customer_id: CustomerId, billing_day: int) -> list[Subscription]:
    """Have the periods of all of a customer's subscriptions begin on one day of the month."""
    customer = await store.customer(tx, customer_id)
    day = billing_day or customer.billing_profile.billing_day
    if not day:
        raise BillingDayNotSet(f"customer {customer_id} has no billing day", customer=customer_id)
    aligned: list[Subscription] = []
    living = await store.living_subscriptions(tx, customer_id, limit=SUBSCRIPTIONS_OF_CUSTOMER_MAX + 1)
    if len(living) > SUBSCRIPTIONS_OF_CUSTOMER_MAX:
        raise TooManySubscriptions(
            f"customer {customer_id} has more than {SUBSCRIPTIONS_OF_CUSTOMER_MAX} subscriptions", customer=customer_id
        )
    for before in living:
        now = before.as_of(tx.now)
        by_month = any(
            terms.interval is not None and terms.interval.unit in (Unit.MONTH, Unit.YEAR)
            for terms in now.items.values()
        )
        if now.billing_day == day or not by_month or (before.end is not None and before.end <= tx.now):
            continue
        aligned.append(await change(tx, before, [SetBillingDay(day)], Decision()))
    return aligned


async def change(tx: Tx, before: Subscription, actions: Sequence[Action], decision: Decision) -> Subscription:
    """Carry out what was decided about a subscription that is locked."""
    after = await carry_out(tx, before, actions, decision)
    if any(plans_taken(each.actions) for each in after.changes[len(before.changes) :]):
        await entitlements.refresh_of(tx, [after])
    return after


async def carry_out(tx: Tx, before: Subscription, actions: Sequence[Action], decision: Decision) -> Subscription:
    """The same without a look at what its customers are entitled to.

    Who changes many has that look when all are changed: customers are locked in one order, whoever has what.
    """
    after = decided(tx, before, actions, decision)
    new = next(each for each in after.changes if each.id not in {known.id for known in before.changes})
    await seats.check_room(tx, before, after)
    await _tell(tx, after, new)
    await save(tx, after, before=before, told={new.id})
    return after


def decided(tx: Tx, before: Subscription, actions: Sequence[Action], decision: Decision) -> Subscription:
    """What would come of it."""
    return _with_what_follows(
        tx, verbs.change(before, actions, change_id=new_change_id(tx), at=tx.now, decision=decision)
    )


async def revoke_change(tx: Tx, subscription_id: SubscriptionId, change_id: ChangeId) -> Subscription:
    before = await store.subscription(tx, subscription_id, lock=True)
    after = verbs.revoke(before, change_id, at=tx.now)
    after = verbs.with_expiry(after, change_id=new_change_id(tx), at=tx.now)
    revoked = next(each for each in after.changes if each.id == change_id)
    if revoked.has(End):
        await tx.emit(events.SubscriptionCancellationRevoked(subscription=subscription_to_proto(after, at=tx.now)))
    else:
        await _tell(tx, after, revoked)
    await save(tx, after, before=before, told={revoked.id})
    return after


def _with_what_follows(tx: Tx, decided: Subscription) -> Subscription:
    """With the end of the term and the steps of the ramp where they belong by what was decided last."""
    with_ = decided.changes[-1].id
    after = verbs.with_expiry(decided, change_id=new_change_id(tx), at=tx.now, decided_with=with_)
    return with_ramp(after, decided_with=with_, new_id=lambda: new_change_id(tx), at=tx.now)


async def save(tx: Tx, after: Subscription, *, before: Subscription, told: Collection[ChangeId] = ()) -> None:
    """Save what was decided, and tell of each change that it took back or put elsewhere, unless that was told."""
    await store.save_subscription(tx, after, before=before)
    standing = {change.id for change in before.standing}
    known = {change.id for change in before.changes}
    for change in after.changes:
        is_revoked = change.revoked_time is not None and (change.id in standing or change.id not in known)
        is_moved = change.after_months is not None and change.id not in known
        if change.id not in told and (is_revoked or is_moved):
            await _tell(tx, after, change)


async def _tell(tx: Tx, subscription: Subscription, change: Change) -> None:
    await tx.emit(
        events.SubscriptionChanged(
            subscription=subscription_to_proto(subscription, at=tx.now),
            change=change_to_proto(change, subscription, at=tx.now),
        )
    )


def new_change_id(tx: Tx) -> ChangeId:
    return ChangeId(tx.new_id("chg"))


async def _announced(
    tx: Tx, before: Subscription, after: Subscription, event: type[Message], *, told: Collection[ChangeId] = ()
) -> Subscription:
    """Save and announce what was decided, unless it changes nothing."""
    if after is before:
        return before
    await tx.emit(event(subscription=subscription_to_proto(after, at=tx.now)))
    await save(tx, after, before=before, told=told)
    await entitlements.refresh_of(tx, [after])
    return after


def _with_what_else_is_agreed(
    tx: Tx, subscription: Subscription, plans: Mapping[PlanId, Plan], order: Order
) -> Subscription:
    """With add-ons, terms and steps that were agreed in the same breath."""
    start = subscription.opening.start_time
    amendment = Amendment(subscription, plans, effective=start, at=tx.now, new_id=lambda: ItemId(tx.new_id("subi")))
    actions: list[Action] = [
        *amendment.actions(order.add_ons, field="add_ons"),
        *order.discounts,
        *([SetCommitment(order.commitment)] if order.commitment is not None else []),
        *([SetTerm(order.term)] if order.term is not None else []),
    ]
    if actions:
        subscription = _also(subscription, _agreed(tx, subscription, start, actions))
    for n, step in sorted(enumerate(order.ramp), key=lambda each: each[1].after_months):
        subscription = _also(subscription, _ramped(tx, subscription, plans, step, field=f"ramp[{n}]"))
    return verbs.with_expiry(subscription, change_id=new_change_id(tx), at=tx.now, decided_with=NO_CHANGE)


def _also(subscription: Subscription, change: Change) -> Subscription:
    return subscription.validated(replace(subscription, changes=(*subscription.changes, change)), new=change.id)


def _agreed(tx: Tx, subscription: Subscription, effective: datetime, actions: Sequence[Action]) -> Change:
    return Change(
        id=new_change_id(tx),
        recorded_time=subscription.opening.recorded_time,
        effective_time=effective,
        actions=tuple(actions),
        proration=subscription.opening.proration,
        unused=Unused.CREDIT,
        decided_with=NO_CHANGE,
    )


def _ramped(tx: Tx, subscription: Subscription, plans: Mapping[PlanId, Plan], step: RampStep, *, field: str) -> Change:
    """A step of a ramp, as a change of the items that have those prices by then."""
    opening = subscription.opening
    effective = step_time(subscription, step.after_months)
    then = subscription.as_of(effective)
    by_price = {terms.price_id: (item_id, terms) for item_id, terms in then.items.items()}
    actions: list[Action] = []
    for n, (old, new) in enumerate(step.prices):
        if old not in by_price:
            raise PriceNotInPlan("must be a price of the subscription by then", field=f"{field}.prices[{n}]")
        item_id, before = by_price.pop(old)
        terms = plans[before.plan_id].terms(
            ItemSpec(price_id=new, quantity=before.quantity),
            customer_id=then.customer_id,
            currency=opening.currency,
            field=f"{field}.prices[{n}]",
        )
        by_price[new] = (item_id, terms)
        actions.append(SetPrice(item_id, terms))
    for n, spec in enumerate(step.quantities):
        if spec.price_id not in by_price or by_price[spec.price_id][1].quantity is None or spec.quantity is None:
            raise PriceNotInPlan(
                "must be a licensed price of the subscription by then", field=f"{field}.quantities[{n}]"
            )
        actions.append(SetQuantity(by_price[spec.price_id][0], spec.quantity))
    if step.commitment is not None:
        actions.append(SetCommitment(step.commitment))
    if not actions:
        raise InvalidArgument("must change something", field=field)
    return replace(_agreed(tx, subscription, effective, actions), after_months=step.after_months)


def _activation_deadline(
    now: datetime, order: Order, items: Sequence[Item], start: datetime, zone: str, trial_days: int
) -> datetime | None:
    """By when it must be activated: so long after its start or, if it is to be paid for, after the first bill."""
    if order.activation is Activation.ON_START:
        return None
    if order.activation is Activation.BY_HAND:
        return max(start, now) + order.activation_within
    if not any(item.terms.timing is BillingTiming.IN_ADVANCE for item in items):
        raise InvalidArgument("must not be ON_FIRST_PAYMENT where nothing is billed in advance", field="activation")
    billed_from = trial_end(start, zone, days=trial_days) or start
    return max(billed_from, now) + order.activation_within


def _billing_day(order: Order, of_customer: int) -> int:
    if not order.align_to_customer:
        return order.billing_day
    if order.billing_day:
        raise InvalidArgument("must be 0 with align_to_customer", field="billing_day")
    if not of_customer:
        raise BillingDayNotSet(f"customer {order.customer_id} has no billing day", customer=order.customer_id)
    return of_customer


async def check_payer_of(tx: Tx, customer: Customer, payer_id: CustomerId | None) -> None:
    """Whether somebody, or whoever gets the invoices of a customer, may get those for a subscription of it."""
    if payer_id is None:
        if customer.payer_id:
            (await store.customer(tx, CustomerId(customer.payer_id), lock=True)).check_not_erased()
        return
    check_payer(customer, await _open_customer(tx, payer_id), pays_for_others=False)


async def _open_customer(tx: Tx, customer_id: CustomerId) -> Customer:
    """A customer about whom something can be agreed, held so that nobody merges or erases it meanwhile."""
    customer = await store.customer(tx, customer_id, lock=True)
    customer.check_active()
    customer.check_not_erased()
    return customer


def _near(now: datetime, start: datetime | None) -> datetime:
    if start is None:
        return now
    if abs(start - now) > START_DISTANCE_MAX:
        raise InvalidArgument("must lie at most ten years from now", field="start_time")
    return start
