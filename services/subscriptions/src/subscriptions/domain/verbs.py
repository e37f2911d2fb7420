"""Knows what callers and time do to a subscription: every verb adds to its log, or refuses by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from common.errors import InvalidArgument
from subscriptions.domain import errors
from subscriptions.domain.change import (
    Action,
    Activate,
    BeginBilling,
    Change,
    End,
    EndReason,
    Pause,
    Reactivate,
    Renewal,
    Resume,
    SetPayer,
    SetTrialEnd,
    Timing,
    Transfer,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.ramp import step_time
from subscriptions.domain.states import Verb
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import ChangeId
from subscriptions.domain.track import Break
from subscriptions.domain.trial import TRIAL_DAYS_MAX, trial_end

NOW_AND_KEEP: Final = Decision(unused=Unused.KEEP)


def change(
    subscription: Subscription, actions: Sequence[Action], *, change_id: ChangeId, at: datetime, decision: Decision
) -> Subscription:
    """Change plan, prices, quantities, items or terms: all of it or nothing."""
    return subscription.decide(actions, change_id=change_id, at=at, verb=Verb.CHANGE, decision=decision)


def activate(subscription: Subscription, *, change_id: ChangeId, at: datetime) -> Subscription:
    """Begin what waited for it."""
    subscription.check(Verb.ACTIVATE, at)
    if subscription.timeline.activated_time is not None:
        raise errors.SubscriptionNotPending(
            f"subscription {subscription.id} begins by itself", subscription=subscription.id
        )
    return subscription.decide([Activate()], change_id=change_id, at=at, verb=Verb.ACTIVATE, decision=NOW_AND_KEEP)


def move_trial_end(subscription: Subscription, to: datetime, *, change_id: ChangeId, at: datetime) -> Subscription:
    """End the trial later than was agreed, or now."""
    verb = Verb.END_TRIAL if to <= at else Verb.EXTEND_TRIAL
    subscription.check(verb, at)
    before = subscription.timeline.billed_from
    if verb is Verb.EXTEND_TRIAL:
        latest = trial_end(subscription.timeline.start_time, subscription.opening.time_zone, days=TRIAL_DAYS_MAX)
        if to <= before:
            raise InvalidArgument(f"must be later than {before.isoformat()}", field="trial_end_time")
        if latest is not None and to > latest:
            raise InvalidArgument(f"must be at most {TRIAL_DAYS_MAX} days after the start", field="trial_end_time")
    # Who ends a trial wants what follows it, payment method or not.
    begins = [BeginBilling()] if verb is Verb.END_TRIAL and not subscription.timeline.begins_billing else []
    return subscription.decide(
        [SetTrialEnd(max(to, subscription.timeline.start_time)), *begins],
        change_id=change_id,
        at=at,
        verb=verb,
        decision=NOW_AND_KEEP,
    )


def begin_billing(subscription: Subscription, *, change_id: ChangeId, at: datetime) -> Subscription:
    """The trial is over, and there is a payment method: bill from its end on."""
    change = Change(
        id=change_id,
        recorded_time=subscription.recorded_time(at),
        effective_time=subscription.timeline.billed_from,
        actions=(BeginBilling(),),
        proration=subscription.opening.proration,
        unused=Unused.KEEP,
    )
    return subscription.with_change(change, at=at)


def pause(
    subscription: Subscription,
    *,
    change_id: ChangeId,
    at: datetime,
    service: bool = True,
    billing: bool = True,
    decision: Decision = NOW_AND_KEEP,
) -> Subscription:
    """Stop service, billing or both until resumed."""
    subscription.check(Verb.PAUSE, at)
    if not _can_pause(subscription, subscription.effective_time(decision, at), service=service, billing=billing):
        raise errors.SubscriptionNotActive(
            f"subscription {subscription.id} is paused already", subscription=subscription.id
        )
    return subscription.decide(
        [Pause(service=service, billing=billing)], change_id=change_id, at=at, verb=Verb.PAUSE, decision=decision
    )


def resume_at(subscription: Subscription, time: datetime, *, change_id: ChangeId, at: datetime) -> Subscription:
    """Decide, with a pause, when it is over."""
    paused = [change for change in subscription.standing if change.has(Pause)][-1]
    if time <= max(paused.effective_time, at):
        raise InvalidArgument("must be later than now and than the pause", field="resume_time")
    pause = next(action for action in paused.actions if isinstance(action, Pause))
    change = Change(
        id=change_id,
        recorded_time=subscription.recorded_time(at),
        effective_time=time,
        actions=(Resume(service=pause.service, billing=pause.billing),),
        proration=subscription.opening.proration,
        unused=Unused.KEEP,
        decided_with=paused.id,
    )
    return subscription.with_change(change, at=at)


def resume(
    subscription: Subscription,
    *,
    change_id: ChangeId,
    at: datetime,
    service: bool | None = None,
    billing: bool | None = None,
) -> Subscription:
    """Take up again what is said or, where nothing is, whatever is paused. A pause that took no time has not been.

    A resumption that was decided before is taken back as soon as nothing is left for it to resume.
    """
    subscription.check(Verb.RESUME, at)
    now = subscription.as_of(subscription.recorded_time(at))
    unserved, unbilled = _is_broken(now.service_breaks), _is_broken(now.billing_breaks)
    if not (unserved or unbilled):
        raise errors.SubscriptionNotPaused(
            f"nothing of subscription {subscription.id} is paused", subscription=subscription.id
        )
    if (service and not unserved) or (billing and not unbilled):
        what, paused = ("service", "billing") if unbilled else ("billing", "service")
        message = f"the {what} of subscription {subscription.id} is not paused, only its {paused} is"
        raise errors.SubscriptionNotPaused(message, subscription=subscription.id, paused=paused.upper())
    service, billing = unserved if service is None else service, unbilled if billing is None else billing
    left = Resume(service=unserved and not service, billing=unbilled and not billing)
    waiting = {
        change.id
        for change in subscription.scheduled(at)
        for action in change.actions
        if isinstance(action, Resume) and not ((action.service and left.service) or (action.billing and left.billing))
    }
    return subscription.without(waiting, at=at).decide(
        [Resume(service=service, billing=billing)],
        change_id=change_id,
        at=at,
        verb=Verb.RESUME,
        decision=NOW_AND_KEEP,
    )


def transfer(
    subscription: Subscription,
    customer_id: CustomerId,
    *,
    change_id: ChangeId,
    at: datetime,
    unused: Unused = Unused.CREDIT,
) -> Subscription:
    """Make it another customer's from now on."""
    if customer_id == subscription.as_of(at).customer_id:
        raise InvalidArgument("must be another customer than before", field="customer_id")
    return subscription.decide(
        [Transfer(customer_id)],
        change_id=change_id,
        at=at,
        verb=Verb.TRANSFER,
        decision=Decision(unused=unused),
    )


def readdress(
    subscription: Subscription,
    source_id: CustomerId,
    target_id: CustomerId,
    *,
    new_id: Callable[[], ChangeId],
    at: datetime,
) -> Subscription:
    """Name the target wherever the source is named from now on, and nobody where the target would pay for itself.

    A scheduled change that names it is decided anew, so that it can still be revoked as a whole.
    """
    time = subscription.recorded_time(at)
    now = subscription.as_of(time)
    is_own = now.customer_id == target_id
    gone = {source_id, target_id} if is_own else {source_id} - {target_id}
    instead = SetPayer(None if is_own else target_id)
    waiting = [
        change
        for change in subscription.scheduled(time)
        if any(isinstance(action, SetPayer) and action.payer_id in gone for action in change.actions)
    ]
    decided = [
        replace(
            change,
            id=new_id(),
            recorded_time=time,
            decided_with=None,
            actions=tuple(
                instead if isinstance(action, SetPayer) and action.payer_id in gone else action
                for action in change.actions
            ),
        )
        for change in waiting
    ]
    if now.payer_id in gone:
        change = Change(
            id=new_id(),
            recorded_time=time,
            effective_time=time,
            actions=(instead,),
            proration=subscription.opening.proration,
            unused=Unused.KEEP,
        )
        decided = [change, *decided]
    if not decided:
        return subscription
    left = subscription.without({change.id for change in waiting}, at=at)
    return subscription.validated(subscription.moved(replace(left, changes=(*left.changes, *decided)), at), new=None)


def cancel(
    subscription: Subscription,
    *,
    change_id: ChangeId,
    at: datetime,
    decision: Decision = NOW_AND_KEEP,
    reason: EndReason = EndReason.REQUESTED,
) -> Subscription:
    """End now, with the period under way or at a time.

    Before the start there is nothing to wait for, nor is there when nothing is billed more than once: it ends at
    once. Deciding it for the period's end again changes nothing. What was to come after the end will not.
    """
    subscription.check(Verb.CANCEL, at)
    if decision.timing is Timing.PERIOD_END:
        ends = None if at < subscription.timeline.start_time else subscription.period_end(at)
        if ends is None:
            decision = replace(decision, timing=Timing.NOW)
        elif subscription.end is not None and subscription.end <= ends:
            return subscription
        else:
            decision = replace(decision, timing=Timing.AT_TIME, effective_time=ends)
    time = subscription.effective_time(decision, at)
    waiting = {change.id for change in subscription.scheduled(at) if change.effective_time >= time or change.has(End)}
    return subscription.without(waiting, at=at).decide(
        [End(reason)], change_id=change_id, at=at, verb=Verb.CANCEL, decision=decision
    )


def expire_unactivated(subscription: Subscription, *, change_id: ChangeId, at: datetime) -> Subscription:
    """End what was not activated in time, as if it had never begun or, where something was changed, gone on since.

    What was billed in advance is credited, but for what is billed once.
    """
    in_effect = [each.effective_time for each in subscription.standing if each.effective_time <= at]
    change = Change(
        id=change_id,
        recorded_time=subscription.recorded_time(at),
        effective_time=max([min(subscription.opening.start_time, at), *in_effect]),
        actions=(End(EndReason.NOT_ACTIVATED),),
        proration=subscription.opening.proration,
        unused=Unused.CREDIT,
    )
    return subscription.without({each.id for each in subscription.scheduled(at)}, at=at).with_change(change, at=at)


def revoke_cancellation(subscription: Subscription, *, new_id: Callable[[], ChangeId], at: datetime) -> Subscription:
    """Go on, the end that was decided not having come."""
    subscription.check(Verb.REVOKE_CANCELLATION, at)
    waiting = [change for change in subscription.scheduled(at) if change.has(End) and not _is_expiry(change)]
    if not waiting:
        raise errors.CancellationNotScheduled(
            f"subscription {subscription.id} is not to be cancelled", subscription=subscription.id
        )
    going_on = subscription.moved(subscription.without({change.id for change in waiting}, at=at), at)
    # What was to come after the end comes again, decided anew: it was taken back with the cancellation alone.
    back = {
        change.id: (change, new_id())
        for change in subscription.changes
        if change.effective_time > at
        and not change.has(End)
        and any(_was_taken_back_by(end, change, subscription.changes) for end in waiting)
    }
    again = [
        replace(
            change,
            id=anew,
            recorded_time=going_on.recorded_time(at),
            effective_time=_when(change, going_on, at),
            revoked_time=None,
            revoked_after=0,
            decided_with=back[change.decided_with][1] if change.decided_with in back else None,
        )
        for change, anew in back.values()
    ]
    return subscription.validated(replace(going_on, changes=(*going_on.changes, *again)), new=None)


def revoke(subscription: Subscription, change_id: ChangeId, *, at: datetime) -> Subscription:
    """Take back a change that has not taken effect, with what was decided together with it."""
    change = next((each for each in subscription.changes if each.id == change_id), None)
    if change is None:
        raise errors.ChangeNotFound(f"subscription {subscription.id} has no change {change_id}", change=change_id)
    if change.revoked_time is not None or change.effective_time <= at:
        raise errors.ChangeNotScheduled(f"change {change_id} is not scheduled", change=change_id)
    together = {each.id for each in subscription.scheduled(at) if change_id in (each.id, each.decided_with)}
    return subscription.validated(subscription.moved(subscription.without(together, at=at), at), new=None)


def reactivate(subscription: Subscription, *, change_id: ChangeId, at: datetime) -> Subscription:
    """Take it up again with what it ended with."""
    return subscription.decide([Reactivate()], change_id=change_id, at=at, verb=Verb.REACTIVATE, decision=NOW_AND_KEEP)


def with_expiry(
    subscription: Subscription, *, change_id: ChangeId, at: datetime, decided_with: ChangeId | None = None
) -> Subscription:
    """End when the term is over, if that is agreed. What was foreseen by another term is taken back."""
    ends = subscription.term_ends(subscription.recorded_time(at))
    foreseen = [change for change in subscription.scheduled(at) if _is_expiry(change)]
    wanted = (
        ends
        if subscription.timeline.term is not None and subscription.timeline.term.renewal is Renewal.EXPIRE
        else None
    )
    if [change.effective_time for change in foreseen] == ([] if wanted is None else [wanted]):
        return subscription
    revoked = subscription.without({change.id for change in foreseen}, at=at)
    if wanted is None or (revoked.end is not None and revoked.end <= wanted):
        return revoked
    change = Change(
        id=change_id,
        recorded_time=subscription.recorded_time(at),
        effective_time=wanted,
        actions=(End(EndReason.EXPIRED),),
        proration=subscription.opening.proration,
        unused=Unused.KEEP,
        decided_with=decided_with,
    )
    return replace(revoked, changes=(*revoked.changes, change))


def _was_taken_back_by(end: Change, change: Change, log: Sequence[Change]) -> bool:
    """Together with the decision to end or, a step of a ramp, when the beginning of billing moved it beyond the end."""
    if change.revoked_time is None or change.revoked_time <= end.recorded_time:
        return change.revoked_time == end.recorded_time and change.effective_time >= end.effective_time
    if change.after_months is None:
        return False
    since = [each for each in log if each.recorded_time == change.revoked_time]
    begun = any(each.has(SetTrialEnd) or each.has(Activate) for each in since)
    return begun and not any(each.after_months == change.after_months for each in since)


def _when(change: Change, subscription: Subscription, at: datetime) -> datetime:
    """When something that is decided anew comes: a step of a ramp where it belongs by now, or at once."""
    if change.after_months is None:
        return change.effective_time
    return max(step_time(subscription, change.after_months), subscription.recorded_time(at))


def _is_expiry(change: Change) -> bool:
    """Whether the term says so, and not a decision of its own."""
    return any(isinstance(action, End) and action.reason is EndReason.EXPIRED for action in change.actions)


def _is_broken(breaks: Sequence[Break]) -> bool:
    return bool(breaks) and breaks[-1].end is None


def _can_pause(subscription: Subscription, at: datetime, *, service: bool, billing: bool) -> bool:
    """Whether each thing that is to stop goes on at that moment, as things stand."""
    then = subscription.as_of(at)
    breaks = [*([then.service_breaks] if service else []), *([then.billing_breaks] if billing else [])]
    return bool(breaks) and not any(_is_broken(each) for each in breaks)
