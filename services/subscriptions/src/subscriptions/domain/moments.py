"""Knows what happens to a subscription by itself, and when: what is announced when its time has come.

A period's end counts if something was billed in it and it ran out before the item did: neither a pause that lasted for
all of it nor an end in the middle of it is announced as its end. A trial is no period, nor is the day of an item that
is billed once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from common.period import Interval, Period, TimeOutOfRange, Unit, boundary, index_at, period_at
from subscriptions.domain.billable_periods import INSTANT
from subscriptions.domain.change import Change
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId
from subscriptions.domain.timeline import Activation, TrialEnd
from subscriptions.domain.track import Track


@dataclass(frozen=True, slots=True)
class Started:
    """Service has begun."""


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """The trial is over, and what follows is billed."""


@dataclass(frozen=True, slots=True)
class TrialInDoubt:
    """The trial is over, and what follows depends on whether there is a payment method."""


@dataclass(frozen=True, slots=True)
class ActivationMissed:
    """It was to be activated by now and was not."""


@dataclass(frozen=True, slots=True)
class TookEffect:
    """A change that was decided before has taken effect."""

    change: Change


@dataclass(frozen=True, slots=True)
class PeriodEnded:
    """A full period is over, and the items whose period it was."""

    period: Period
    item_ids: tuple[ItemId, ...]


@dataclass(frozen=True, slots=True)
class RenewalNear:
    """The term ends in as many days as it gives notice."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A new term has begun."""


Happening = Started | TrialEnded | TrialInDoubt | ActivationMissed | TookEffect | PeriodEnded | RenewalNear | Renewed


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that happens at one instant, in the order in which it is told."""

    time: datetime
    happenings: tuple[Happening, ...]


def next_moment(subscription: Subscription) -> Moment | None:
    """The first moment after what has been announced; None when nothing more will happen by itself."""
    found: list[tuple[datetime, Happening]] = [*_period_ends(subscription), *_of_the_term(subscription)]
    found += [(change.effective_time, TookEffect(change)) for change in subscription.standing if change.was_scheduled]
    found += _of_the_beginning(subscription)
    upcoming = [each for each in found if each[0] > subscription.announced_through]
    if not upcoming:
        return None
    first = min(time for time, _ in upcoming)
    return Moment(first, tuple(each for time, each in upcoming if time == first))


def announced(subscription: Subscription, moment: Moment) -> Subscription:
    """The same subscription, of which this moment and all before it have been told."""
    return subscription.told(moment.time)


def _of_the_beginning(subscription: Subscription) -> Iterator[tuple[datetime, Happening]]:
    """What was known when it was agreed needs no further word."""
    timeline, opening = subscription.timeline, subscription.opening
    known = opening.recorded_time
    ends = subscription.end
    waits = timeline.activated_time is None
    if waits:
        deadline = subscription.activation_deadline
        if deadline is not None and (ends is None or ends > deadline):
            yield deadline, ActivationMissed()
        return
    by_itself = opening.activation is Activation.ON_START
    if by_itself and timeline.start_time > known and (ends is None or ends > timeline.start_time):
        yield timeline.start_time, Started()
    trial_end = timeline.trial_end_time
    if trial_end is None or trial_end <= known or (ends is not None and ends <= trial_end):
        return
    if timeline.begins_billing or opening.trial_end is TrialEnd.CONTINUE:
        yield trial_end, TrialEnded()
    else:
        yield trial_end, TrialInDoubt()


def _of_the_term(subscription: Subscription) -> Iterator[tuple[datetime, Happening]]:
    term = subscription.timeline.term
    if term is None:
        return
    told, ends = subscription.announced_through, subscription.end
    start, zone = subscription.timeline.term_start, subscription.opening.time_zone
    interval = Interval(Unit.MONTH, term.months)
    try:
        n = index_at(start, zone, interval, max(told, start))
        upcoming = [boundary(start, zone, interval, n + 1), boundary(start, zone, interval, n + 2)]
    except TimeOutOfRange:
        return
    for end in upcoming:
        if ends is not None and ends < end:
            return
        if term.notice_days:
            yield _notice(end, term.notice_days, zone, not_before=start), RenewalNear()
        if ends is None or ends > end:
            yield end, Renewed()


def _notice(end: datetime, days: int, zone: str, *, not_before: datetime) -> datetime:
    """The same time of day so many civil days before the end: a clock change in between makes no difference."""
    try:
        return max(boundary(end, zone, Interval(Unit.DAY, days), -1), not_before)
    except TimeOutOfRange:
        return not_before


def _period_ends(subscription: Subscription) -> list[tuple[datetime, PeriodEnded]]:
    """The next full periods to end, the longest first."""
    ending: dict[Period, list[ItemId]] = defaultdict(list)
    for track in subscription.tracks:
        period = _next_end(subscription, track)
        if period is not None:
            ending[period].append(track.item_id)
    return [(period.end, PeriodEnded(period, tuple(ending[period]))) for period in sorted(ending, key=_longest)]


def _longest(period: Period) -> datetime:
    return period.start


def _next_end(subscription: Subscription, track: Track) -> Period | None:
    """The first full period of an item that ends after those announced, with something billed in it."""
    told, zone = subscription.announced_through, subscription.opening.time_zone
    for segment in track.segments:
        if segment.terms is None or segment.terms.interval is None:
            continue
        # Either the period under way when the last end was told, or the last one that this segment has a part in.
        instant = max(segment.start, told)
        if segment.end is not None:
            instant = min(instant, segment.end - INSTANT)
        try:
            period = period_at(segment.anchor, zone, segment.terms.interval, instant)
        except TimeOutOfRange:
            return None
        cut = any(segment.start < each.time < period.end and each.time > period.start for each in track.settlements)
        if period.end > told and not cut:
            return period
    return None
