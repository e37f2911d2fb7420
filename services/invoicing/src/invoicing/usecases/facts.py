"""Knows what has to be asked of the neighbours before something can be billed: all of it, in few calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from common.period import Period
from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import counting
from invoicing.domain.commitments import CommittedPeriod
from invoicing.domain.coupons import Coupon
from invoicing.domain.errors import UsageTooDetailed
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import CORRECTION_WINDOW, BillablePeriod, UsageKey
from invoicing.domain.party import Customer
from invoicing.domain.price import Price
from invoicing.domain.spend_threshold import Thresholds, is_under_way
from invoicing.store import Billing
from invoicing.usecases import discounts

INSTANT: Final = timedelta.resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that `lines_due` needs from elsewhere."""

    customer: Customer
    periods: Sequence[BillablePeriod]
    through: datetime
    """Up to when these are all there are; earlier than asked for when there are too many to look at at once."""
    next_bill_time: datetime | None
    prices: dict[str, Price]
    usage: dict[UsageKey, Usage]
    commitments: Sequence[CommittedPeriod] = ()
    coupons: Mapping[str, Coupon] = field(default_factory=dict)
    """Those that apply to any of the periods."""
    ahead: Ahead | None = None
    """What is under way, where anything may be billed before its period ends."""

    @property
    def all_periods(self) -> Sequence[BillablePeriod]:
        return self.periods if self.ahead is None else [*self.periods, *self.ahead.periods]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What some customers agreed to pay, and when: all that is needed but what they used."""

    schedules: Mapping[str, clients.CustomerSchedule]
    prices: dict[str, Price]
    coupons: Mapping[str, Coupon]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What of a customer is under way, and how much of it may stay unbilled."""

    periods: Sequence[BillablePeriod]
    thresholds: Thresholds
    is_counted: bool
    """Whether usage was asked for, of what a threshold applies to."""

    def watched(self, prices: Mapping[str, Price], at: datetime) -> list[BillablePeriod]:
        return [each for each in self.periods if is_under_way(each, at) and self.thresholds.of(each, prices)]


async def gather(
    desk: Desk,
    since: Mapping[str, datetime | None],
    *,
    through: datetime,
    as_of: datetime,
    proven: bool,
    counted_ahead: Set[str] | None = None,
) -> dict[str, Facts]:
    """Of each of the customers all that is to be billed from a time of its own through another, or as much of it as can
    be had at once, with usage up to `as_of`. `counted_ahead`: also what is under way, with the usage of some of them.
    """
    schedules = await clients.schedules(desk, since, through=through, with_under_way=counted_ahead is not None)
    agreed = await priced(desk, schedules)
    ahead = {} if counted_ahead is None else await _ahead(desk, schedules, counted_ahead)
    return await counted(desk, agreed, as_of=as_of, proven=proven, ahead=ahead)


async def priced(desk: Desk, schedules: Mapping[str, clients.CustomerSchedule]) -> Agreed:
    """With what the catalog says of it."""
    prices = await clients.prices(desk, {each.price_id for found in schedules.values() for each in found.all_periods})
    applicable, coupons = await discounts.applicable(desk, schedules, prices)
    return Agreed(schedules=applicable, prices=prices, coupons=coupons)


async def counted(
    desk: Desk, agreed: Agreed, *, as_of: datetime, proven: bool, ahead: Mapping[str, Ahead] | None = None
) -> dict[str, Facts]:
    """With what was used of it up to an instant."""
    schedules, prices, ahead = agreed.schedules, agreed.prices, ahead or {}
    counted_of = [[each for each in found.periods if each.meter] for found in schedules.values()]
    for metered, its in zip(counted_of, ahead.values(), strict=False):
        metered += its.watched(prices, as_of) if its.is_counted else []
    keys = [
        {UsageKey(each.meter, each.period, prices[each.price_id].needs) for each in metered} for metered in counted_of
    ]
    asked = [{key: _until(key, as_of) for key in own if key.period.start < as_of} for own in keys]
    questions = [(found.customer, set(own.values())) for found, own in zip(schedules.values(), asked, strict=True)]
    usages = await counting.usages_of_all(desk, questions, proven=proven)
    facts: dict[str, Facts] = {}
    for (customer_id, schedule), own, clipped, usage in zip(schedules.items(), keys, asked, usages, strict=True):
        known = {key: usage[until] for key, until in clipped.items() if until in usage}
        missing = {(key.meter, key.period) for key in clipped.keys() - known.keys()}
        usage_of = {key: _none(key.meter) for key in own - clipped.keys()} | known
        its_own = _facts(schedule, prices, usage_of, missing, agreed.coupons)
        facts[customer_id] = replace(its_own, ahead=ahead[customer_id]) if ahead else its_own
    return facts


async def _ahead(desk: Desk, schedules: Mapping[str, clients.CustomerSchedule], counted: Set[str]) -> dict[str, Ahead]:
    periods = [each for found in schedules.values() for each in found.under_way]
    async with desk.transaction() as tx:
        thresholds = await store.thresholds_for(
            tx,
            customer_ids={each.customer_id for each in periods},
            subscription_ids={each.subscription_id for each in periods},
        )
    return {
        customer_id: Ahead(periods=found.under_way, thresholds=thresholds, is_counted=customer_id in counted)
        for customer_id, found in schedules.items()
    }


async def parties(desk: Desk, found: Collection[Facts]) -> dict[str, Customer]:
    """Everybody whose lines these make, and everybody who gets an invoice of them."""
    known = {each.customer.party.id: each.customer for each in found}
    payers = {period.payer_id for each in found for period in each.all_periods if period.payer_id}
    payers |= {each.customer.payer_id for each in found if each.customer.payer_id}
    return known | await clients.customers(desk, payers - known.keys())


def corrections_since(billing: Billing | None) -> datetime | None:
    """From when on to ask for periods: also those that are billed, as long as late usage may change them, and credits
    that wait.
    """
    if billing is None or billing.billed_through_time is None:
        return None
    since = billing.billed_through_time - CORRECTION_WINDOW
    return since if billing.credit_since is None else min(since, billing.credit_since)


def _facts(
    schedule: clients.CustomerSchedule,
    prices: dict[str, Price],
    usage: dict[UsageKey, Usage],
    missing: Set[tuple[str, Period]],
    coupons: Mapping[str, Coupon],
) -> Facts:
    through = _through(schedule, missing)
    periods = [each for each in schedule.periods if each.bill_time <= through]
    if through < schedule.through and not periods:
        customer_id = schedule.customer.party.id
        raise UsageTooDetailed(f"customer {customer_id} has too much usage to look at at once", customer=customer_id)
    return Facts(
        customer=schedule.customer,
        periods=periods,
        through=through,
        next_bill_time=schedule.next_bill_time,
        prices=prices,
        usage=usage,
        commitments=[each for each in schedule.commitments if each.bill_time <= through],
        coupons={one: coupons[one] for each in (*periods, *schedule.under_way) for one in each.coupon_ids},
    )


def _through(schedule: clients.CustomerSchedule, missing: Set[tuple[str, Period]]) -> datetime:
    """Up to when the usage of every period is there."""
    bill_times = (each.bill_time for each in schedule.periods if (each.meter, each.period) in missing)
    return min((time - INSTANT for time in bill_times), default=schedule.through)


def _until(key: UsageKey, as_of: datetime) -> UsageKey:
    """A period under way, as far as it has come."""
    return key._replace(period=Period(key.period.start, min(key.period.end, as_of)))


def _none(meter: str) -> Usage:
    """Of a period that has not begun."""
    return Usage(meter=meter, quantity=Decimal(0), event_count=0, digest="", through_position=0)
