"""Knows when the periods of a subscription end, so that it can be announced.

A period counts if service was given in it and it ran out before the subscription did: neither a pause that lasted for
all of it nor a cancellation in the middle of it is announced as its end. A trial is no period, nor is the day of an
item that is billed once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from common.period import Interval, Period, TimeOutOfRange, period_at
from subscriptions.domain.billable_periods import INSTANT
from subscriptions.domain.subscription import ItemId, State, Subscription


@dataclass(frozen=True, slots=True)
class EndedPeriod:
    """A full period, and the items whose period it was."""

    period: Period
    item_ids: tuple[ItemId, ...]


def next_ends(subscription: Subscription) -> list[EndedPeriod]:
    """The periods that end together as the next ones after those announced, the longest first; empty if none will.

    Before a subscription has begun to be billed nothing of it ends.
    """
    if subscription.state in (State.PENDING, State.TRIALING):
        return []
    upcoming: dict[Period, list[ItemId]] = defaultdict(list)
    for item in subscription.items:
        period = _next_end(subscription, item.interval) if item.interval is not None else None
        if period is not None:
            upcoming[period].append(item.id)
    first = min((period.end for period in upcoming), default=None)
    together = sorted((period for period in upcoming if period.end == first), key=lambda period: period.start)
    return [EndedPeriod(period, tuple(upcoming[period])) for period in together]


def announced(subscription: Subscription, ended: EndedPeriod) -> Subscription:
    """The same subscription, of which this end and all before it have been told. It has not changed by that."""
    return replace(subscription, periods_ended_through=ended.period.end)


def _next_end(subscription: Subscription, interval: Interval) -> Period | None:
    """The first full period that ends after those announced, with service in it, before the subscription."""
    told, end = subscription.periods_ended_through, subscription.end
    for served in subscription.served:
        # Either the period under way when the last end was told, or the last one that this stretch has a part in.
        instant = max(served.start, told)
        if served.end is not None:
            instant = min(instant, served.end - INSTANT)
        try:
            period = period_at(subscription.billing_anchor, subscription.time_zone, interval, instant)
        except TimeOutOfRange:
            return None
        if period.end > told:
            return period if end is None or period.end <= end else None
    return None
