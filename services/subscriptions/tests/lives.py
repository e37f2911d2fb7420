"""Random lives of subscriptions: what callers did to them, when, and what was known after each step."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from common.errors import SaldoError
from common.money import Money
from common.period import Interval, TimeOutOfRange, Unit
from services.subscriptions.tests.agreed import kept
from subscriptions.domain import verbs
from subscriptions.domain.change import (
    Action,
    AddItem,
    ApplyDiscount,
    Change,
    Commitment,
    End,
    EndReason,
    Proration,
    RemoveDiscount,
    RemoveItem,
    SetBillingDay,
    SetCommitment,
    SetPayer,
    SetPrice,
    SetQuantity,
    Timing,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.moments import ActivationMissed, TrialInDoubt, announced, next_moment
from subscriptions.domain.states import State, Verb
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import (
    NO_CHANGE,
    BillingTiming,
    ChangeId,
    CouponId,
    Item,
    ItemId,
    PlanId,
    PriceId,
    ProductId,
    SubscriptionId,
    Terms,
)
from subscriptions.domain.timeline import Activation, TrialEnd

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/London",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Antarctica/Troll",
    ]
)
CIVIL = [Interval(Unit.MONTH, 1), Interval(Unit.MONTH, 1), Interval(Unit.MONTH, 3), Interval(Unit.YEAR, 1)]
OTHERS = [Interval(Unit.WEEK, 1), Interval(Unit.WEEK, 5), Interval(Unit.DAY, 10), Interval(Unit.MONTH, 2)]
STARTS = st.builds(
    lambda year, month, day, time: (
        datetime(year, month, min(day, calendar.monthrange(year, month)[1]), tzinfo=UTC) + timedelta(minutes=time)
    ),
    st.sampled_from([2011, 2024, 2026]),
    st.integers(1, 12),
    st.one_of(st.integers(28, 31), st.integers(1, 31)),
    st.sampled_from([0, 0, 60, 150, 600, 1439]),
)
STEPS_MAX = 7
MOMENTS_MAX = 1_000


@dataclass(frozen=True)
class Style:
    """What may happen in a life; everything, unless it is narrowed."""

    unused: tuple[Unused, ...] = (Unused.CREDIT, Unused.KEEP, Unused.REFUND)
    prorations: tuple[Proration, ...] = tuple(Proration)
    timings: tuple[BillingTiming, ...] = tuple(BillingTiming)
    steps: tuple[str, ...] = (
        "quantity",
        "quantity",
        "quantity",
        "price",
        "interval",
        "add",
        "remove",
        "both",
        "pause",
        "pause for a while",
        "resume",
        "cancel",
        "revoke cancellation",
        "revoke",
        "reactivate",
        "trial",
        "billing day",
        "transfer",
        "discount",
        "no discount",
        "payer",
        "commitment",
        "commitment",
        "activate",
    )
    policies: tuple[TrialEnd, ...] = (TrialEnd.CONTINUE,)
    activations: tuple[Activation, ...] = (Activation.ON_START,)
    trials: tuple[int, ...] = (0, 0, 0, 1, 14, 100)
    has_once: bool = True


EVERYTHING = Style(policies=tuple(TrialEnd), activations=(Activation.ON_START, *Activation))


@dataclass(frozen=True)
class Life:
    """What a subscription was after each thing that happened to it, and when the story ends."""

    moments: tuple[tuple[datetime, Subscription], ...]
    steps: tuple[str, ...]
    end: datetime

    @property
    def subscription(self) -> Subscription:
        return self.moments[-1][1]

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Short enough to be read when a property fails."""
        told = [self.subscription.opening, *self.steps, *self.subscription.changes, f"until {self.end}"]
        printer.text("Life of\n" + "\n".join(f"  {each}" for each in told))


@st.composite
def lives(draw: st.DrawFn, style: Style = EVERYTHING) -> Life:
    start = draw(STARTS)
    now = start + draw(st.sampled_from([0 * DAY, 0 * DAY, 40 * DAY, -40 * DAY, -DAY]))
    agreed = [_terms(draw, style, n) for n in range(draw(st.integers(1, 3)))]
    dated = all(each.interval is None or each.interval.unit in (Unit.MONTH, Unit.YEAR) for each in agreed)
    activation = draw(st.sampled_from(style.activations))
    subscription = Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("ada"),
        plan_id=PlanId("plan"),
        items=tuple(Item(id=ItemId(f"item-{n}"), terms=each) for n, each in enumerate(agreed)),
        currency="EUR",
        time_zone=draw(ZONES),
        start_time=start,
        billing_day=draw(st.sampled_from([0, 0, 1, 15, 31])) if dated else 0,
        trial_days=draw(st.sampled_from(style.trials)),
        at=now,
        proration=draw(st.sampled_from([each for each in style.prorations if each is not Proration.NONE])),
        activation=activation,
        activation_deadline=None if activation is Activation.ON_START else max(start, now) + 60 * DAY,
        trial_end_policy=draw(st.sampled_from(style.policies)),
        bill_ahead_days=draw(st.sampled_from([0, 0, 0, 1, 7, 31])),
    )
    numbers = count(1)
    subscription = _agreed_together(draw, subscription, numbers)
    moments = [(now, subscription)]
    told: list[str] = []
    for _ in range(draw(st.integers(0, STEPS_MAX))):
        later = _later(draw, subscription, now)
        for happened in list(_by_itself(draw, subscription, now, later, numbers)):
            now, subscription = happened
            moments.append(happened)
            told.append(f"{now}: by itself")
        now = max(now, later)
        step = draw(st.sampled_from(style.steps))
        try:
            subscription = kept(_taken(draw, style, subscription, step, now, numbers))
            told.append(f"{now}: {step}")
        except SaldoError as refusal:
            told.append(f"{now}: {step} refused: {type(refusal).__name__}")
        moments.append((now, subscription))
    end = now + timedelta(days=draw(st.integers(0, 400)))
    moments += _by_itself(draw, subscription, now, end, numbers)
    end, subscription = max(end, moments[-1][0]), moments[-1][1]
    return Life((*moments, (end, subscription)), tuple(told), end)


def _agreed_together(draw: st.DrawFn, subscription: Subscription, numbers: Iterator[int]) -> Subscription:
    """With what was agreed in the same breath: a coupon, a commitment, a ramp, an end."""
    opening = subscription.opening
    quantities = [item.id for item in opening.items if item.terms.quantity is not None]
    billed_from = subscription.timeline.billed_from
    wanted: list[tuple[datetime, Action]] = []
    if draw(st.integers(0, 2)) == 0:
        wanted.append((opening.start_time, ApplyDiscount(CouponId("x"), draw(st.integers(0, 3)))))
    if draw(st.integers(0, 3)) == 0:
        commitment = Commitment(minimum=Money(100, "EUR"), months=draw(st.integers(1, 3)))
        wanted.append((opening.start_time, SetCommitment(commitment)))
    if quantities and draw(st.integers(0, 3)) == 0:
        ramped = billed_from + timedelta(days=draw(st.integers(1, 100)))
        wanted.append((ramped, SetQuantity(quantities[0], Decimal(draw(st.integers(0, 9))))))
    if draw(st.integers(0, 5)) == 0:
        wanted.append((billed_from + timedelta(days=draw(st.integers(1, 200))), End(EndReason.EXPIRED)))
    agreed = tuple(
        Change(
            id=ChangeId(f"agreed-{next(numbers)}"),
            recorded_time=opening.recorded_time,
            effective_time=effective,
            actions=(action,),
            proration=opening.proration,
            unused=Unused.KEEP if isinstance(action, End) else Unused.CREDIT,
            decided_with=NO_CHANGE,
        )
        for effective, action in wanted
    )
    return kept(replace(subscription, changes=agreed))


def _by_itself(
    draw: st.DrawFn, subscription: Subscription, now: datetime, until: datetime, numbers: Iterator[int]
) -> Iterator[tuple[datetime, Subscription]]:
    """What the service decides when something that was waited for has come or has not."""
    if subscription.opening.activation is Activation.ON_START and subscription.opening.trial_end is TrialEnd.CONTINUE:
        return
    for _ in range(MOMENTS_MAX):
        moment = next_moment(subscription)
        if moment is None or moment.time > until:
            return
        subscription = announced(kept(subscription), moment)
        for happening in moment.happenings:
            now = at = max(now, moment.time + timedelta(seconds=draw(st.sampled_from([0, 10]))))
            change_id = ChangeId(f"change-{next(numbers)}")
            state = subscription.state_at(at)
            if isinstance(happening, ActivationMissed):
                yield at, (subscription := verbs.expire_unactivated(subscription, change_id=change_id, at=at))
            elif isinstance(happening, TrialInDoubt) and draw(st.booleans()):
                yield at, (subscription := verbs.begin_billing(subscription, change_id=change_id, at=at))
            elif isinstance(happening, TrialInDoubt) and state is State.ACTIVE:
                gives_up = verbs.pause if subscription.opening.trial_end is TrialEnd.PAUSE else verbs.cancel
                yield at, (subscription := gives_up(subscription, change_id=change_id, at=at))
    raise AssertionError("there is no end to what happens by itself")


def _terms(draw: st.DrawFn, style: Style, n: int) -> Terms:
    once = style.has_once and draw(st.integers(0, 7)) == 0
    timing = BillingTiming.IN_ADVANCE if once else draw(st.sampled_from(style.timings))
    metered = timing is BillingTiming.IN_ARREARS and draw(st.booleans())
    return Terms(
        plan_id=PlanId("plan"),
        price_id=PriceId(f"price-{n}"),
        product_id=ProductId(f"product-{n}"),
        interval=None if once else draw(st.sampled_from([*CIVIL, *OTHERS])),
        timing=timing,
        meter="calls" if metered else "",
        quantity=None if metered else Decimal(draw(st.integers(0, 9))),
    )


def _later(draw: st.DrawFn, subscription: Subscription, now: datetime) -> datetime:
    """Mostly some days; nothing, as a sandbox's clock does; or at the very instant of a boundary, or beside it."""
    kind = draw(st.sampled_from(["days", "days", "nothing", "boundary", "before it", "after it"]))
    if kind == "days":
        return now + timedelta(days=draw(st.integers(0, 70)), hours=draw(st.integers(0, 23)))
    if kind == "nothing":
        return now
    boundary = _boundary(draw, subscription, now)
    beside = {"boundary": timedelta(0), "before it": -MICROSECOND, "after it": MICROSECOND}[kind]
    return max(now, boundary + beside)


def _boundary(draw: st.DrawFn, subscription: Subscription, now: datetime) -> datetime:
    later = [change.effective_time for change in subscription.scheduled(now)]
    ends = [subscription.period_end(now), *(period.end for period in subscription.periods_under_way(now)), *later]
    found = [each for each in ends if each is not None]
    return draw(st.sampled_from(found)) if found else now + DAY


def _decision(draw: st.DrawFn, style: Style, subscription: Subscription, now: datetime) -> Decision:
    timing = draw(st.sampled_from([Timing.NOW, Timing.NOW, Timing.PERIOD_END, Timing.AT_TIME, Timing.AT_TIME]))
    effective = None
    if timing is Timing.AT_TIME:
        back = subscription.earliest_change(now)
        effective = draw(
            st.sampled_from(
                [
                    back,
                    min(now, back + DAY),
                    back + (now - back) / 2 if back < now else now,
                    now + timedelta(days=draw(st.integers(0, 60))),
                    _boundary(draw, subscription, now),
                    _boundary(draw, subscription, now) - MICROSECOND,
                ]
            )
        )
    return Decision(
        timing=timing,
        effective_time=effective,
        proration=draw(st.sampled_from([None, *style.prorations])),
        unused=draw(st.sampled_from(style.unused)),
    )


def _taken(
    draw: st.DrawFn, style: Style, subscription: Subscription, step: str, now: datetime, numbers: Iterator[int]
) -> Subscription:
    change_id = ChangeId(f"change-{next(numbers)}")
    decision = _decision(draw, style, subscription, now)
    match step:
        case "pause":
            service, billing = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
            return verbs.pause(
                subscription, change_id=change_id, at=now, service=service, billing=billing, decision=decision
            )
        case "pause for a while":
            paused = verbs.pause(subscription, change_id=change_id, at=now, decision=decision)
            resumed = max(now, paused.changes[-1].effective_time) + timedelta(days=draw(st.integers(1, 60)))
            return verbs.resume_at(paused, resumed, change_id=ChangeId(f"change-{next(numbers)}"), at=now)
        case "resume":
            return verbs.resume(subscription, change_id=change_id, at=now)
        case "cancel":
            return verbs.cancel(subscription, change_id=change_id, at=now, decision=decision)
        case "revoke cancellation":
            return verbs.revoke_cancellation(subscription, new_id=lambda: ChangeId(f"change-{next(numbers)}"), at=now)
        case "revoke":
            waiting = subscription.scheduled(now)
            return verbs.revoke(subscription, draw(st.sampled_from(waiting)).id, at=now) if waiting else subscription
        case "reactivate":
            return verbs.reactivate(subscription, change_id=change_id, at=now)
        case "trial":
            to = draw(st.sampled_from([now, now + 5 * DAY, now + 100 * DAY]))
            return verbs.move_trial_end(subscription, to, change_id=change_id, at=now)
        case "transfer":
            to_customer = CustomerId(draw(st.sampled_from(["ada", "bob", "cyd"])))
            unused = draw(st.sampled_from([each for each in style.unused if each is not Unused.REFUND]))
            return verbs.transfer(subscription, to_customer, change_id=change_id, at=now, unused=unused)
        case "activate":
            return verbs.activate(subscription, change_id=change_id, at=now)
        case _:
            if decision.unused is Unused.REFUND:
                decision = replace(decision, unused=Unused.CREDIT)
            actions = _actions(draw, style, subscription, step, decision, now, numbers)
            return subscription.decide(actions, change_id=change_id, at=now, verb=Verb.CHANGE, decision=decision)


def _actions(
    draw: st.DrawFn,
    style: Style,
    subscription: Subscription,
    step: str,
    decision: Decision,
    now: datetime,
    numbers: Iterator[int],
) -> list[Action]:
    try:
        then = subscription.as_of(subscription.effective_time(decision, now))
    except TimeOutOfRange:
        then = subscription.timeline
    item_id = draw(st.sampled_from(list(then.items) or [ItemId("item-0")]))
    terms = then.items.get(item_id) or subscription.opening.items[0].terms
    quantity = SetQuantity(item_id, Decimal(draw(st.integers(0, 9))))
    match step:
        case "quantity" if terms.quantity is not None:
            return [quantity]
        case "price" | "quantity":
            return [SetPrice(item_id, _priced(terms, f"other {draw(st.integers(0, 2))}"))]
        case "interval":
            interval = draw(st.sampled_from([*CIVIL, *OTHERS])) if terms.interval is not None else None
            return [SetPrice(item_id, _priced(replace(terms, interval=interval), "switched"))]
        case "add":
            return [AddItem(Item(id=ItemId(f"added-{next(numbers)}"), terms=_terms(draw, style, 7)))]
        case "remove":
            return [RemoveItem(item_id)]
        case "both":
            added = AddItem(Item(id=ItemId(f"added-{next(numbers)}"), terms=_terms(draw, style, 8)))
            return [added, *([quantity] if terms.quantity is not None else [])]
        case "billing day":
            return [SetBillingDay(draw(st.sampled_from([0, 1, 15, 31])))]
        case "discount":
            return [ApplyDiscount(CouponId(draw(st.sampled_from("xy"))), draw(st.integers(0, 3)))]
        case "no discount":
            return [RemoveDiscount(CouponId(draw(st.sampled_from("xy"))))]
        case "payer":
            return [SetPayer(draw(st.sampled_from([None, CustomerId("pat"), CustomerId("quinn")])))]
        case _:
            months = draw(st.integers(1, 3))
            return [SetCommitment(draw(st.sampled_from([None, Commitment(minimum=Money(100, "EUR"), months=months)])))]


def _priced(terms: Terms, name: str) -> Terms:
    """A price never changes: another way to be billed is another price."""
    return replace(terms, price_id=PriceId(f"{name}, {terms.timing.name}, {terms.interval or 'once'}, {terms.meter}"))
