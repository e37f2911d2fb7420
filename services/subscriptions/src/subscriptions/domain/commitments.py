"""Knows in which stretches of time a least amount is to be spent on a subscription."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

from common.money import Money
from common.period import LATEST, Interval, Period, Unit, day_fraction
from subscriptions.domain.billable_periods import INSTANT, full_periods, settled
from subscriptions.domain.change import Commitment
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import SubscriptionId
from subscriptions.domain.timeline import Activation, Timeline

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedPeriod:
    """A part of a full period in which a least amount is to be spent; the amount is for a full period."""

    subscription_id: SubscriptionId
    customer_id: CustomerId
    period: Period
    full_period: Period
    proration: Fraction
    minimum: Money
    bill_time: datetime
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Time in which nothing about a commitment changes, half-open."""

    start: datetime
    stop: datetime | None
    commitment: Commitment
    known: datetime
    """Before when nothing of it is due, as it was not decided."""
    anchor: datetime
    customer_id: CustomerId


def committed_periods(
    subscriptions: Sequence[Subscription], *, after: datetime, through: datetime
) -> list[CommittedPeriod]:
    """All of these subscriptions with a bill time in `[after, through]`, in order of bill time."""
    found = [
        each
        for subscription in subscriptions
        for stretch in _stretches(subscription.timeline)
        for each in _of(subscription, stretch, after=after, through=through)
        if after <= each.bill_time <= through
    ]
    return sorted(found, key=lambda each: each.bill_time)


def next_true_up(subscriptions: Sequence[Subscription], customer_id: CustomerId, *, after: datetime) -> datetime | None:
    """When a committed period of this customer is to be billed next, if one is: also where no item is billed then."""
    times = (
        next(
            (
                each.bill_time
                for each in _of(subscription, stretch, after=after, through=LATEST)
                if each.bill_time > after
            ),
            None,
        )
        for subscription in subscriptions
        for stretch in _stretches(subscription.timeline)
        if stretch.customer_id == customer_id
    )
    return min((time for time in times if time is not None), default=None)


def _of(
    subscription: Subscription, stretch: _Stretch, *, after: datetime, through: datetime
) -> Iterator[CommittedPeriod]:
    """In order. A full period that something divides has a part for each."""
    zone, stop = subscription.opening.time_zone, stretch.stop
    since = stretch.start if after <= stretch.known else max(stretch.start, after - INSTANT)
    if stop is not None:
        since = min(since, stop - INSTANT)
    for full in full_periods(stretch.anchor, zone, Interval(Unit.MONTH, stretch.commitment.months), since=since):
        if full.start > through or (stop is not None and stop <= full.start):
            return
        part = Period(max(full.start, stretch.start), full.end if stop is None else min(full.end, stop))
        due = settled(subscription.timeline.settlements, start=part.start, end=part.end, full=full)
        yield CommittedPeriod(
            subscription_id=subscription.id,
            customer_id=stretch.customer_id,
            period=part,
            full_period=full,
            proration=day_fraction(part, full, zone),
            minimum=stretch.commitment.minimum,
            bill_time=max(due, stretch.known),
            time_zone=zone,
        )


def _stretches(timeline: Timeline) -> Iterator[_Stretch]:
    """From where billing begins on, whatever was agreed before; ended, nothing is to be spent."""
    bound_from = _bound_from(timeline)
    if not timeline.commitments or bound_from is None:
        return
    committed = [(since, (commitment, known)) for since, commitment, known in timeline.commitments]
    ends = [each for each, _ in timeline.ends]
    stops = [mark for each in ends for mark in (each.start, each.end) if mark is not None]
    steps = [since for since, _ in (*committed, *timeline.anchors, *timeline.customers)]
    marks = sorted({max(mark, bound_from) for mark in (*stops, *steps)})
    for start, stop in pairwise([*marks, None]):
        assert start is not None, "only the last stretch has no end"
        commitment, known = _in_force(committed, start) or (None, start)
        has_ended = any(each.start <= start and (each.end is None or start < each.end) for each in ends)
        anchor, customer_id = _in_force(timeline.anchors, start), _in_force(timeline.customers, start)
        if commitment is None or has_ended:
            continue
        assert anchor is not None, "periods are counted from the start"
        assert customer_id is not None, "it is somebody's from the start"
        yield _Stretch(
            start=start, stop=stop, commitment=commitment, known=known, anchor=anchor, customer_id=customer_id
        )


def _bound_from(timeline: Timeline) -> datetime | None:
    """When billing has begun for certain; None if it has not."""
    if timeline.activated_time is None or not timeline.begins_billing:
        return None
    by_payment = timeline.opening.activation is Activation.ON_FIRST_PAYMENT
    since = [timeline.activated_time] if by_payment else []
    return max([timeline.billed_from, timeline.unbilled_until or timeline.billed_from, *since])


def _in_force(steps: Sequence[tuple[datetime, T]], at: datetime) -> T | None:
    return next((value for since, value in reversed(steps) if since <= at), None)
