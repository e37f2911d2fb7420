"""Knows when the steps of a ramp are to come: so many months after the beginning of billing, wherever that moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from common.period import Interval, Unit, boundary
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ChangeId
from subscriptions.domain.timeline import Activation
from subscriptions.domain.trial import trial_end


def step_time(subscription: Subscription, after_months: int) -> datetime:
    """When a step is to come, as things stand."""
    return boundary(_begins(subscription), subscription.opening.time_zone, Interval(Unit.MONTH, 1), after_months)


def with_ramp(
    subscription: Subscription, *, decided_with: ChangeId, new_id: Callable[[], ChangeId], at: datetime
) -> Subscription:
    """With its steps where they belong by now: those that lie elsewhere are taken back, and decided anew.

    One that would come after the end that is decided is only taken back.
    """
    times = {
        step.id: step_time(subscription, step.after_months)
        for step in subscription.scheduled(at)
        if step.after_months is not None
    }
    moved = [each for each in subscription.standing if each.id in times and times[each.id] != each.effective_time]
    without = subscription.without({step.id for step in moved}, at=at)
    anew = [
        replace(
            step,
            id=new_id(),
            recorded_time=without.recorded_time(at),
            effective_time=times[step.id],
            decided_with=decided_with,
        )
        for step in moved
        if without.end is None or times[step.id] < without.end
    ]
    if not moved:
        return subscription
    return subscription.validated(replace(without, changes=(*without.changes, *anew)), new=None)


def _begins(subscription: Subscription) -> datetime:
    """Where billing begins. What waits for somebody's hand does so by its deadline: no step comes before."""
    opening, timeline = subscription.opening, subscription.timeline
    waits = opening.activation is Activation.BY_HAND and timeline.activated_time is None
    latest = subscription.activation_deadline
    if not waits or latest is None:
        return timeline.billed_from
    return trial_end(latest, opening.time_zone, days=opening.trial_days) or latest
