"""Knows what is under way: metered time that has begun and is billed later, as things stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from subscriptions.domain.billable_periods import PERIODS_MAX, BillablePeriod, in_arrears
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.subscription import Subscription


def under_way(
    subscriptions: Sequence[Subscription], *, at: datetime, customer_id: CustomerId
) -> tuple[BillablePeriod, ...]:
    """Of one customer, in the order given. Fails with TOO_MANY_PERIODS."""
    found: list[BillablePeriod] = []
    for subscription in subscriptions:
        for track in subscription.tracks:
            for billable in in_arrears(subscription, track, after=at):
                if billable.period.start > at:
                    break
                if billable.customer_id == customer_id and billable.terms.meter and billable.bill_time > at:
                    found.append(billable)
            if len(found) > PERIODS_MAX:
                raise TooManyPeriods(f"more than {PERIODS_MAX} periods are under way", limit=PERIODS_MAX)
    return tuple(found)
