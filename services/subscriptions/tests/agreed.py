"""Subscriptions as tests agree them: terms in a word, times of 2026 in a few characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from common.period import EARLIEST, Interval, Unit
from subscriptions.domain import verbs
from subscriptions.domain.billable_periods import BillablePeriod, Schedule, schedule
from subscriptions.domain.change import Action, Proration, Timing, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.states import Verb
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import BillingTiming, ChangeId, Item, ItemId, PlanId, PriceId, ProductId, SubscriptionId
from subscriptions.domain.terms import Terms as AgreedTerms
from subscriptions.domain.timeline import Activation, TrialEnd

ADVANCE, ARREARS = BillingTiming.IN_ADVANCE, BillingTiming.IN_ARREARS
DAILY, WEEKLY = Interval(Unit.DAY, 1), Interval(Unit.WEEK, 1)
MONTHLY, QUARTERLY, YEARLY = Interval(Unit.MONTH, 1), Interval(Unit.MONTH, 3), Interval(Unit.YEAR, 1)
MICROSECOND: Final = timedelta(microseconds=1)
CREDIT = Decision(unused=Unused.CREDIT)
KEEP = Decision(unused=Unused.KEEP)
REFUND = Decision(unused=Unused.REFUND)
AT_PERIOD_END = Decision(timing=Timing.PERIOD_END, unused=Unused.KEEP)

Told = tuple[str, str, str, Fraction]
Row = tuple[str, str, str, int | None, str, str, Fraction]


def at(text: str, zone: str = "UTC") -> datetime:
    """`01-15` is a day of 2026."""
    text = text if len(text) > 5 else f"2026-{text}"
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _time(on: str | datetime) -> datetime:
    return at(on) if isinstance(on, str) else on


def terms(
    price: str = "seats",
    quantity: int | None = 1,
    *,
    timing: BillingTiming = ADVANCE,
    interval: Interval | None = MONTHLY,
    plan: str = "plan",
) -> AgreedTerms:
    """Metered if there is no quantity."""
    return AgreedTerms(
        plan_id=PlanId(plan),
        price_id=PriceId(price),
        product_id=ProductId(f"product of {price}"),
        interval=interval,
        timing=timing,
        meter="" if quantity is not None else "calls",
        quantity=None if quantity is None else Decimal(quantity),
    )


def agree(
    *agreed: AgreedTerms,
    start: str | datetime = "01-01",
    known: str | datetime | None = None,
    day: int = 0,
    zone: str = "UTC",
    name: str = "sub",
    trial_days: int = 0,
    trial_end: TrialEnd = TrialEnd.CONTINUE,
    proration: Proration = Proration.BY_DAY,
    activation: Activation = Activation.ON_START,
    deadline: str | None = None,
    payer: str | None = None,
    ahead: int = 0,
) -> Subscription:
    """Items `item-0` and on; agreed when it starts unless it is known otherwise."""
    begins = at(start, zone) if isinstance(start, str) else start
    recorded = begins if known is None else at(known, zone) if isinstance(known, str) else known
    return Subscription.agree(
        id=SubscriptionId(name),
        customer_id=CustomerId("ada"),
        plan_id=PlanId("plan"),
        items=tuple(Item(id=ItemId(f"item-{n}"), terms=each) for n, each in enumerate(agreed or (terms(),))),
        currency="EUR",
        time_zone=zone,
        start_time=begins,
        billing_day=day,
        trial_days=trial_days,
        at=recorded,
        proration=proration,
        activation=activation,
        activation_deadline=None if deadline is None else at(deadline, zone),
        trial_end_policy=trial_end,
        payer_id=None if payer is None else CustomerId(payer),
        bill_ahead_days=ahead,
    )


def change(
    subscription: Subscription, *actions: Action, on: str | datetime, decision: Decision = CREDIT, name: str = ""
) -> Subscription:
    """Changes are called `change-1` and on, in the order in which they are decided."""
    changed = subscription.decide(
        actions,
        change_id=ChangeId(name) if name else next_change(subscription),
        at=_time(on),
        verb=Verb.CHANGE,
        decision=decision,
    )
    return kept(changed)


def kept(subscription: Subscription) -> Subscription:
    """As it is read again after a call has changed it."""
    count = len(subscription.changes)
    return subscription if subscription.kept == count else replace(subscription, kept=count)


def paused(
    subscription: Subscription,
    *,
    on: str | datetime,
    service: bool = True,
    billing: bool = True,
    decision: Decision = KEEP,
    until: str | None = None,
) -> Subscription:
    stopped = verbs.pause(
        subscription,
        change_id=next_change(subscription),
        at=_time(on),
        service=service,
        billing=billing,
        decision=decision,
    )
    if until is None:
        return kept(stopped)
    return kept(verbs.resume_at(stopped, at(until), change_id=next_change(stopped), at=_time(on)))


def resumed(subscription: Subscription, *, on: str | datetime) -> Subscription:
    return kept(verbs.resume(subscription, change_id=next_change(subscription), at=_time(on)))


def cancelled(subscription: Subscription, *, on: str | datetime, decision: Decision | None = None) -> Subscription:
    """At once, what is billed already being kept, unless something else is decided."""
    ended = verbs.cancel(subscription, change_id=next_change(subscription), at=_time(on), decision=decision or KEEP)
    return kept(ended)


def reactivated(subscription: Subscription, *, on: str) -> Subscription:
    return kept(verbs.reactivate(subscription, change_id=next_change(subscription), at=at(on)))


def next_change(subscription: Subscription) -> ChangeId:
    return ChangeId(f"change-{len(subscription.changes) + 1}")


def scheduled(on: str | datetime, *, unused: Unused = Unused.CREDIT, proration: Proration | None = None) -> Decision:
    return Decision(
        timing=Timing.AT_TIME,
        effective_time=_time(on),
        unused=unused,
        proration=proration,
    )


def due(
    subscriptions: Subscription | Sequence[Subscription],
    *,
    through: str | datetime,
    after: str | datetime = EARLIEST,
    zone: str = "UTC",
) -> Schedule:
    several = [subscriptions] if isinstance(subscriptions, Subscription) else subscriptions
    return schedule(
        several,
        after=at(after, zone) if isinstance(after, str) else after,
        through=at(through, zone) if isinstance(through, str) else through,
    )


def brief(billable: BillablePeriod, zone: str = "UTC") -> Told:
    """When it is billed, from when to when, and which share of the whole."""
    times = (billable.bill_time, billable.period.start, billable.period.end)
    billed, start, end = (time.astimezone(ZoneInfo(zone)).strftime("%m-%d") for time in times)
    return billed, start, end, billable.proration


def told(found: Schedule, zone: str = "UTC") -> list[Told]:
    return [brief(billable, zone) for billable in found.periods]


def ledger(subscription: Subscription, *, through: str, after: str | datetime = EARLIEST) -> list[Row]:
    """What is billed when, which way, of what and how many, from when to when, and which share of the whole."""
    found: list[Row] = []
    for each in due(subscription, through=through, after=after).periods:
        billed, start, end, share = brief(each)
        number = None if each.terms.quantity is None else int(each.terms.quantity)
        found.append((billed, each.kind.name, each.terms.price_id, number, start, end, share))
    return found
