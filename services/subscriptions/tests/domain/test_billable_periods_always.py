"""What is to be billed and when, whatever happened: properties over random lives of subscriptions."""

from __future__ import annotations

import calendar
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import FailedPrecondition
from common.period import EARLIEST, Interval, Period, Unit, boundary, period_at
from subscriptions.domain.billable_periods import BillablePeriod, full_periods, schedule
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.period_ends import announced, next_ends
from subscriptions.domain.subscription import (
    BillingTiming,
    Item,
    ItemId,
    PlanId,
    PriceId,
    State,
    Subscription,
    SubscriptionId,
)

INTERVALS = st.one_of(
    st.sampled_from([Interval(Unit.MONTH, 1), Interval(Unit.MONTH, 3), Interval(Unit.YEAR, 1)]),
    st.builds(Interval, st.just(Unit.MONTH), st.integers(1, 14)),
    st.builds(Interval, st.just(Unit.WEEK), st.integers(1, 5)),
    st.builds(Interval, st.just(Unit.DAY), st.integers(3, 90)),
)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/London",
        "Europe/Dublin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Antarctica/Troll",
    ]
)
TIMES = st.sampled_from(
    [timedelta(0), timedelta(hours=1), timedelta(hours=2, minutes=30), timedelta(hours=23, minutes=59)]
)
STARTS = st.builds(
    lambda year, month, day, time, shift: (
        datetime(year, month, min(day, calendar.monthrange(year, month)[1]), tzinfo=UTC) + time + timedelta(hours=shift)
    ),
    st.sampled_from([2011, 2018, 2024, 2026]),
    st.integers(1, 12),
    st.one_of(st.integers(28, 31), st.integers(1, 31)),
    TIMES,
    st.integers(-14, 14),
)
# Mostly some days; nothing, which a sandbox's clock does between two calls; and the very instant of a boundary.
WAITS = st.one_of(
    st.just(None),
    st.just(timedelta(0)),
    st.builds(timedelta, days=st.integers(0, 80), hours=st.integers(0, 23)),
)
VERBS = st.sampled_from(["pause", "resume", "resume", "cancel at period end", "cancel", "late invoice", "paid invoice"])


@dataclass(frozen=True)
class Life:
    """What a subscription was at each moment at which something happened to it, and when the story ends."""

    moments: tuple[tuple[datetime, Subscription], ...]
    verbs: tuple[tuple[datetime, str], ...]
    end: datetime

    @property
    def subscription(self) -> Subscription:
        return self.moments[-1][1]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    timings = st.sampled_from(BillingTiming)
    items = tuple(
        Item(
            id=ItemId(f"item-{n}"),
            price_id=PriceId(f"price-{n}"),
            interval=draw(INTERVALS),
            timing=draw(timings),
            meter="",
            quantity=Decimal(1),
        )
        for n in range(draw(st.integers(1, 3)))
    )
    start = draw(STARTS)
    now = start - draw(st.sampled_from([timedelta(0), timedelta(days=40), timedelta(days=-40)]))
    dated = all(item.interval and item.interval.unit in (Unit.MONTH, Unit.YEAR) for item in items)
    subscription = Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=items,
        currency="EUR",
        time_zone=draw(ZONES),
        start_time=start,
        billing_day=draw(st.one_of(st.just(0), st.integers(27, 31), st.just(1))) if dated else 0,
        trial_days=draw(st.sampled_from([0, 0, 1, 14, 100])),
        at=now,
    )
    moments, verbs = [(now, subscription)], []
    for wait, verb in draw(st.lists(st.tuples(WAITS, VERBS), max_size=6)):
        now = now + wait if wait is not None else _next_boundary(subscription, max(now, start))
        subscription = _jobs(subscription, now)
        moments.append((now, subscription))
        subscription = _do(verb, subscription, now)
        moments.append((now, subscription))
        verbs.append((now, verb))
    end = now + timedelta(days=draw(st.integers(0, 400)))
    moments.append((end, _jobs(subscription, end)))
    return Life(tuple(moments), tuple(verbs), end)


def _next_boundary(subscription: Subscription, now: datetime) -> datetime:
    return period_of(subscription, subscription.items[-1], now).end


def period_of(subscription: Subscription, item: Item, instant: datetime) -> Period:
    assert item.interval is not None, "these items have periods"
    return period_at(subscription.billing_anchor, subscription.time_zone, item.interval, instant)


def _jobs(subscription: Subscription, now: datetime) -> Subscription:
    """What the service does by itself."""
    if subscription.state is State.PENDING and subscription.start_time <= now:
        subscription = subscription.begin(at=now)
    if subscription.state is State.TRIALING and subscription.billed_from <= now and not subscription.ends_unbilled:
        subscription = subscription.end_trial(at=now)
    if subscription.state is not State.CANCELLED and subscription.cancel_time and subscription.cancel_time <= now:
        subscription = subscription.cancel(at=now)
    return subscription


def _do(verb: str, subscription: Subscription, now: datetime) -> Subscription:
    try:
        match verb:
            case "pause":
                return subscription.pause(at=now)
            case "resume":
                return subscription.resume(at=now, past_due=False)
            case "cancel":
                return subscription.cancel(at=now)
            case "cancel at period end":
                return subscription.cancel_at_period_end(at=now)
            case "late invoice":
                return subscription.mark_past_due(at=now)
            case _:
                return subscription.recover(at=now)
    except FailedPrecondition:
        return subscription


def due(subscription: Subscription, *, through: datetime, after: datetime = EARLIEST) -> list[BillablePeriod]:
    return list(schedule([subscription], after=after, through=through).periods)


def of(item: Item, billables: list[BillablePeriod]) -> list[BillablePeriod]:
    return [billable for billable in billables if billable.item == item]


def with_timing(subscription: Subscription, timing: BillingTiming) -> Subscription:
    return replace(subscription, items=tuple(replace(item, timing=timing) for item in subscription.items))


def in_arrears(life: Life) -> Subscription:
    return with_timing(life.subscription, BillingTiming.IN_ARREARS)


def tell(subscription: Subscription, *, through: datetime) -> tuple[list[tuple[ItemId, Period]], Subscription]:
    """Announce, one job run after the other, what has ended by then."""
    told: list[tuple[ItemId, Period]] = []
    for _ in range(10_000):
        upcoming = next_ends(subscription)
        if not upcoming or upcoming[0].period.end > through:
            return told, subscription
        for ended in upcoming:
            told += [(item_id, ended.period) for item_id in ended.item_ids]
            subscription = announced(subscription, ended)
    raise AssertionError("the ends of periods never come to an end")


def served_before(subscription: Subscription, until: datetime) -> list[Period]:
    return [
        Period(served.start, min(served.end or until, until)) for served in subscription.served if served.start < until
    ]


def length(periods: list[Period]) -> timedelta:
    return sum((period.end - period.start for period in periods), timedelta())


@settings(max_examples=150, deadline=None)
@given(lives())
def test_what_was_due_stays_due_as_it_was(life: Life) -> None:
    """At every moment of a life, what could have been billed until then is in every later answer, unchanged."""
    for (now, before), (_, after) in pairwise(life.moments):
        could_be_billed = due(before, through=now)
        later = due(after, through=now)
        assert [billable for billable in could_be_billed if billable not in later] == []


@settings(max_examples=150, deadline=None)
@given(lives())
def test_every_instant_of_service_is_in_exactly_one_part_in_arrears(life: Life) -> None:
    """Of every item: nothing served is forgotten or billed twice, and nothing is billed that was not served."""
    subscription = in_arrears(life)
    for item in subscription.items:
        parts = of(item, due(subscription, through=life.end))
        periods = [part.period for part in parts]
        assert all(one.end <= other.start for one, other in pairwise(periods))
        # What is under way is billed when it has ended.
        under_way = period_of(subscription, item, life.end)
        over = subscription.end is not None and subscription.end <= life.end
        until = life.end if over else max(under_way.start, subscription.billed_from)
        served = served_before(subscription, until)
        assert length(periods) == length(served)
        assert all(any(s.start <= p.start and p.end <= s.end for s in served) for p in periods)


@settings(max_examples=150, deadline=None)
@given(lives())
def test_every_instant_of_service_is_in_exactly_one_part_in_advance(life: Life) -> None:
    """Of every item: one part per full period, before the service is given, and no more service than was paid for."""
    subscription = with_timing(life.subscription, BillingTiming.IN_ADVANCE)
    for item in subscription.items:
        parts = of(item, due(subscription, through=life.end))
        assert len({part.full_period for part in parts}) == len(parts)
        assert all(one.period.end <= other.period.start for one, other in pairwise(parts))
        for served in served_before(subscription, life.end):
            paid = [part.period.overlap(served) for part in parts]
            assert length([each for each in paid if each]) == served.end - served.start


@settings(max_examples=150, deadline=None)
@given(lives())
def test_a_part_lies_in_its_full_period_and_is_billed_at_one_of_its_ends(life: Life) -> None:
    """In advance when it begins; in arrears when the full period ends, or the subscription in it."""
    subscription = life.subscription
    for part in due(subscription, through=life.end):
        period, full = part.period, part.full_period
        assert full == period_of(subscription, part.item, period.start)
        assert full.start <= period.start < period.end <= full.end
        assert Fraction(0) <= part.proration <= 1
        assert (part.proration == 1) or period != full
        if part.item.timing is BillingTiming.IN_ADVANCE:
            assert part.bill_time == period.start
        else:
            assert part.bill_time == min(full.end, subscription.end or full.end)
            assert period.end <= part.bill_time


@settings(max_examples=150, deadline=None)
@given(lives(), st.lists(st.integers(0, 1_000), min_size=1, max_size=4))
def test_windows_add_up_to_the_whole(life: Life, days: list[int]) -> None:
    """However time is cut, each period is in one piece of it; and the next bill time is where the next piece begins."""
    first = life.moments[0][0]
    cuts = sorted({first + timedelta(days=each) for each in days})
    whole = due(life.subscription, through=cuts[-1])
    after = EARLIEST
    pieces: list[BillablePeriod] = []
    for cut in cuts:
        found = schedule([life.subscription], after=after, through=cut)
        pieces += found.periods
        following = [part.bill_time for part in due(life.subscription, through=cuts[-1]) if part.bill_time > cut]
        if following:
            assert found.next_bill_time == min(following)
        elif found.next_bill_time is not None:
            assert found.next_bill_time > cuts[-1]
        after = cut + timedelta(microseconds=1)
    assert pieces == whole


@settings(max_examples=150, deadline=None)
@given(lives())
def test_a_part_is_named_by_its_item_and_start(life: Life) -> None:
    """That is the key under which it is billed once for ever."""
    found = due(life.subscription, through=life.end)
    assert len({(part.item.id, part.period.start) for part in found}) == len(found)
    assert [part.bill_time for part in found] == sorted(part.bill_time for part in found)


@settings(max_examples=150, deadline=None)
@given(lives())
def test_shares_of_an_undisturbed_period_add_up_to_one(life: Life) -> None:
    """The parts that a pause without a day's length leaves are still a whole month; nothing is lost to rounding."""
    parts_of: dict[tuple[ItemId, Period], list[BillablePeriod]] = defaultdict(list)
    for part in due(in_arrears(life), through=life.end):
        parts_of[part.item.id, part.full_period].append(part)
    for (_, full), parts in parts_of.items():
        share = sum((part.proration for part in parts), Fraction())
        assert share <= 1
        if length([part.period for part in parts]) == full.end - full.start:
            assert share == 1


@settings(max_examples=150, deadline=None)
@given(lives())
def test_ends_are_announced_once_and_are_those_that_are_billed(life: Life) -> None:
    """One announcement per full period with service in it, in order, in every state of the row it is read from."""
    subscription = in_arrears(life)
    expected = {
        (part.item.id, part.full_period)
        for part in due(subscription, through=life.end)
        if part.bill_time == part.full_period.end
    }
    told, _ = tell(subscription, through=life.end)
    assert [period.end for _, period in told] == sorted(period.end for _, period in told)
    assert len(set(told)) == len(told)
    assert set(told) == expected


@settings(max_examples=150, deadline=None)
@given(lives())
def test_announcing_along_the_way_or_afterwards_is_the_same(life: Life) -> None:
    """Pauses and cancellations between two announcements neither repeat one nor swallow one."""
    live: list[tuple[ItemId, Period]] = []
    told_through = life.moments[0][1].periods_ended_through
    for now, moment in life.moments:
        told, subscription = tell(replace(moment, periods_ended_through=told_through), through=now)
        live += told
        told_through = subscription.periods_ended_through
    expected = {
        (part.item.id, part.full_period)
        for part in due(in_arrears(life), through=life.end)
        if part.bill_time == part.full_period.end
    }
    assert len(set(live)) == len(live)
    assert set(live) == expected


@settings(max_examples=150, deadline=None)
@given(lives())
def test_a_trial_is_billed_as_if_service_began_with_its_end(life: Life) -> None:
    """Whatever happened, in the trial or after it: the same periods, and the same ends of them are told."""
    now, trialing = life.moments[0]
    assume(trialing.trial_end_time is not None)
    start = trialing.billed_from
    twin = replace(
        trialing,
        start_time=start,
        trial_end_time=None,
        state=State.PENDING if start > now else State.ACTIVE,
        periods_ended_through=start,
    )
    for at, verb in life.verbs:
        twin = _do(verb, _jobs(twin, at), at)
    twin = _jobs(twin, life.end)
    assert due(life.subscription, through=life.end) == due(twin, through=life.end)
    assert tell(life.subscription, through=life.end)[0] == tell(twin, through=life.end)[0]


@settings(max_examples=150, deadline=None)
@given(lives())
def test_once_is_once(life: Life) -> None:
    """From the moment billing begins, in every answer from then on; never, if it never begins."""
    setup = replace(life.subscription.items[0], id=ItemId("setup"), interval=None, timing=BillingTiming.IN_ADVANCE)
    billed: list[BillablePeriod] = []
    for now, moment in life.moments:
        found = due(replace(moment, items=(setup,)), through=now)
        assert found == billed or (not billed and len(found) == 1 and found[0].bill_time == moment.billed_from <= now)
        billed = found
    subscription = replace(life.subscription, items=(setup,))
    began = subscription.billed_from <= life.end and not subscription.ends_unbilled
    at_that_instant = subscription.end == subscription.billed_from and subscription.cancel_time is None
    assert len(billed) == int(began or at_that_instant)
    assert tell(subscription, through=life.end)[0] == []


@settings(max_examples=150, deadline=None)
@given(STARTS, ZONES, INTERVALS, st.integers(1, 31), st.integers(0, 40))
def test_full_periods_abut_and_the_nth_is_where_counting_says(
    start: datetime, zone: str, interval: Interval, billing_day: int, n: int
) -> None:
    """From any instant on: no gap, no overlap, no drift, whatever the clocks of the zone do."""
    assume(not (start.year == 2011 and zone == "Pacific/Apia" and interval.unit is Unit.DAY))
    item = Item(
        id=ItemId("item"),
        price_id=PriceId("price"),
        interval=interval,
        timing=BillingTiming.IN_ARREARS,
        meter="",
        quantity=Decimal(1),
    )
    subscription = Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=(item,),
        currency="EUR",
        time_zone=zone,
        start_time=start,
        billing_day=billing_day if interval.unit in (Unit.MONTH, Unit.YEAR) else 0,
        trial_days=0,
        at=start,
    )
    found = full_periods(subscription, interval, since=subscription.billing_anchor)
    walked = [next(found) for _ in range(n + 1)]
    assert walked[0].start == subscription.billing_anchor
    assert all(one.end == other.start for one, other in pairwise(walked))
    assert walked[n].start == boundary(subscription.billing_anchor, zone, interval, n)
    if interval.unit is Unit.MONTH and zone == "UTC":
        first = subscription.billing_anchor.date()
        assert all(
            period.start.day == min(first.day, calendar.monthrange(period.start.year, period.start.month)[1])
            for period in walked
        )
        assert walked[0].start.date() >= date(start.year, start.month, start.day)
