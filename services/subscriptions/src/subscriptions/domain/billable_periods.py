"""Knows which stretches of time are to be billed, and when: a pure function of what was agreed and what happened.

    full periods       [────────────)[────────────)[────────────)
    service                 [──────────────)  pause  [──────)  cancelled
    in advance              [───────)[────────────)[────────────)       billed when each begins
    in arrears              [───────)[─────)         [──────)           billed when the full period ends, or the service
    once                    [─)                                         billed when billing begins, as one civil day

The service meant is what is billed: a trial is no part of it.

Whatever has become due stays as it is, whatever happens later: what begins has begun, and the past does not change.
So an answer about the past may be billed, and the same question later has the same answer and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from common.period import Interval, Period, TimeOutOfRange, boundary, day_fraction, index_at, period_at
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.subscription import ONE_OFF, BillingTiming, Item, Stretch, Subscription, SubscriptionId

PERIODS_MAX: Final = 10_000
INSTANT: Final = timedelta(microseconds=1)
"""The smallest step of time there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillablePeriod:
    """One stretch of time of one item that is to be billed once. `(item, period.start)` is unique for ever."""

    subscription_id: SubscriptionId
    customer_id: CustomerId
    currency: str
    item: Item
    period: Period
    full_period: Period
    proration: Fraction
    bill_time: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be billed in some time, and the first bill time after it; None when nothing more is to come."""

    periods: tuple[BillablePeriod, ...]
    next_bill_time: datetime | None


def schedule(subscriptions: Sequence[Subscription], *, after: datetime, through: datetime) -> Schedule:
    """Everything of these subscriptions with a bill time in `[after, through]`, in order of bill time, then as given.

    Fails with TOO_MANY_PERIODS rather than answer half of it.
    """
    found: list[BillablePeriod] = []
    to_come: list[datetime] = []
    for subscription in subscriptions:
        for item in subscription.items:
            for billable in billable_periods(subscription, item, after=after):
                if billable.bill_time > through:
                    to_come.append(billable.bill_time)
                    break
                found.append(billable)
                if len(found) > PERIODS_MAX:
                    raise TooManyPeriods(f"there are more than {PERIODS_MAX} periods", limit=PERIODS_MAX)
    # The sort is stable: within one bill time the order is that of the subscriptions and their items.
    found.sort(key=lambda billable: billable.bill_time)
    return Schedule(tuple(found), min(to_come, default=None))


def billable_periods(subscription: Subscription, item: Item, *, after: datetime) -> Iterator[BillablePeriod]:
    """What is to be billed for an item, not before `after`, in order of bill time; it may never end."""
    if item.interval is None:
        return _once(subscription, item, after)
    if item.timing is BillingTiming.IN_ADVANCE:
        return _in_advance(subscription, item, item.interval, after)
    return _in_arrears(subscription, item, item.interval, after)


def _once(subscription: Subscription, item: Item, after: datetime) -> Iterator[BillablePeriod]:
    """When billing begins, if it ever does; whole, whatever happens later, and never again."""
    start = subscription.billed_from
    begins = any(stretch.start == start and stretch.reaches(start) for stretch in subscription.stretches)
    if begins and start >= after:
        day = period_at(start, subscription.time_zone, ONE_OFF, start)
        yield _billable(subscription, item, day, day, start)


def _in_advance(
    subscription: Subscription, item: Item, interval: Interval, after: datetime
) -> Iterator[BillablePeriod]:
    """Once per full period: from when service is first given in it to its end, whatever happens later."""
    previous: Stretch | None = None
    for stretch in subscription.stretches:
        for full in full_periods(subscription, interval, since=max(stretch.start, after)):
            start = max(full.start, stretch.start)
            if not stretch.reaches(start):
                break
            if start < after or (previous is not None and previous.reaches(full.start)):
                continue  # billed before
            yield _billable(subscription, item, Period(start, _paid_through(subscription, full, start)), full, start)
        previous = stretch


def _paid_through(subscription: Subscription, full: Period, bill_time: datetime) -> datetime:
    """The end of the full period, but nothing is billed beyond an end that was known before."""
    notice = subscription.notice
    if notice is not None and notice.given < bill_time:
        return min(full.end, notice.cancel_time)
    return full.end


def _in_arrears(
    subscription: Subscription, item: Item, interval: Interval, after: datetime
) -> Iterator[BillablePeriod]:
    """The time that was served in a full period, in as many parts as pauses have left of it."""
    end = subscription.end
    for served in subscription.served:
        # A full period that ends at `after` is billed then.
        for full in full_periods(subscription, interval, since=max(served.start, after - INSTANT)):
            if served.end is not None and served.end <= full.start:
                break
            part = Period(max(full.start, served.start), full.end if served.end is None else min(full.end, served.end))
            bill_time = full.end if end is None else min(full.end, end)
            if bill_time >= after:
                yield _billable(subscription, item, part, full, bill_time)


def full_periods(subscription: Subscription, interval: Interval, *, since: datetime) -> Iterator[Period]:
    """The whole periods in order, from the one that contains the instant to the end of the calendar."""
    anchor, zone = subscription.billing_anchor, subscription.time_zone
    n = index_at(anchor, zone, interval, since)
    start = boundary(anchor, zone, interval, n)
    while True:
        n += 1
        try:
            end = boundary(anchor, zone, interval, n)
        except TimeOutOfRange:
            return
        if start < end:  # a civil day that a zone skipped has no period
            yield Period(start, end)
        start = end


def _billable(
    subscription: Subscription, item: Item, period: Period, full_period: Period, bill_time: datetime
) -> BillablePeriod:
    return BillablePeriod(
        subscription_id=subscription.id,
        customer_id=subscription.customer_id,
        currency=subscription.currency,
        item=item,
        period=period,
        full_period=full_period,
        proration=day_fraction(period, full_period, subscription.time_zone),
        bill_time=bill_time,
    )
