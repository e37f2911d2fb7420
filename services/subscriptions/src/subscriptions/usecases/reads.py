"""What is asked of subscriptions: as they were, and what is to be billed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from common.db import Tx
from subscriptions import store
from subscriptions.domain import billable_periods
from subscriptions.domain.billable_periods import PERIODS_MAX, BillablePeriod, Schedule
from subscriptions.domain.commitments import CommittedPeriod, committed_periods, next_true_up
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.errors import SubscriptionNotFound, TooManyPeriods
from subscriptions.domain.payer import addressed
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.under_way import under_way

PERIODS_PER_ANSWER_MAX: Final = 20_000
"""As many as fit a message of the size that services accept."""


@dataclass(frozen=True, slots=True)
class CustomerSchedule:
    """What is to be billed for one customer, and the customer, if that was asked for as well."""

    customer_id: CustomerId
    customer: Customer | None
    schedule: Schedule
    commitments: Sequence[CommittedPeriod]
    under_way: Sequence[BillablePeriod] = ()


def as_of(subscription: Subscription, *, at: datetime, known: datetime, now: datetime) -> Subscription:
    """As it was known at a moment; not found if it was not there yet, or nothing is agreed about the time asked for."""
    then = subscription if known >= now else subscription.as_known(known)
    if then is None or at < min(then.create_time, then.opening.start_time):
        raise SubscriptionNotFound(f"there was no subscription {subscription.id} then", subscription=subscription.id)
    # Whether an invoice was followed up is known of now alone.
    return then if at == known == now else replace(then, is_followed_up=False)


async def schedules(
    tx: Tx,
    customer_ids: Sequence[CustomerId],
    *,
    after: datetime,
    through: datetime,
    with_customers: bool,
    with_under_way: bool = False,
    through_next: bool = False,
) -> tuple[list[CustomerSchedule], datetime]:
    """For each of the customers, in the order asked, from one look at all of them; and through when they tell all: as
    asked or, if wanted, through the first bill time after it of any of them.
    """
    customers: dict[CustomerId, Customer] = {}
    if with_customers:
        customers = {customer.id: customer for customer in await store.customers_by_id(tx, customer_ids)}
    else:
        await store.check_customers(tx, customer_ids)
    found = await store.subscriptions_not_over(tx, customer_ids, at=after, limit=PERIODS_MAX + 1)
    if len(found) > PERIODS_MAX:
        raise TooManyPeriods(f"there are more than {PERIODS_MAX} subscriptions", limit=PERIODS_MAX)
    payers = await store.payer_logs(tx, customer_ids)
    of_customer: dict[CustomerId, list[Subscription]] = {customer_id: [] for customer_id in customer_ids}
    for subscription in found:
        for customer_id in subscription.customer_ids:
            if customer_id in of_customer:
                of_customer[customer_id].append(subscription)
    if through_next:
        coming = (_next_bill_time(theirs, customer_id, after=through) for customer_id, theirs in of_customer.items())
        through = min((time for time in coming if time is not None), default=through)
    answer: list[CustomerSchedule] = []
    room = PERIODS_PER_ANSWER_MAX
    for customer_id, theirs in of_customer.items():
        schedule = billable_periods.schedule(theirs, after=after, through=through, customer_id=customer_id)
        schedule = replace(schedule, next_bill_time=_first(schedule, theirs, customer_id, after=through))
        if customer_id in payers:
            schedule = replace(schedule, periods=tuple(addressed(schedule.periods, payers)))
        committed = [
            each for each in committed_periods(theirs, after=after, through=through) if each.customer_id == customer_id
        ]
        begun: Sequence[BillablePeriod] = ()
        if with_under_way:
            begun = under_way(theirs, at=through, customer_id=customer_id)
            begun = tuple(addressed(begun, payers)) if customer_id in payers else begun
        answer.append(CustomerSchedule(customer_id, customers.get(customer_id), schedule, committed, begun))
        room -= len(schedule.periods) + len(begun)
        if room < 0:
            raise TooManyPeriods(f"there are more than {PERIODS_PER_ANSWER_MAX} periods", limit=PERIODS_PER_ANSWER_MAX)
    return answer, through


def _next_bill_time(theirs: Sequence[Subscription], customer_id: CustomerId, *, after: datetime) -> datetime | None:
    now = billable_periods.schedule(theirs, after=after, through=after, customer_id=customer_id)
    return _first(now, theirs, customer_id, after=after)


def _first(
    schedule: Schedule, theirs: Sequence[Subscription], customer_id: CustomerId, *, after: datetime
) -> datetime | None:
    """The first bill time after those of a schedule, also of what is trued up."""
    coming = [schedule.next_bill_time, next_true_up(theirs, customer_id, after=after)]
    return min((time for time in coming if time is not None), default=None)
