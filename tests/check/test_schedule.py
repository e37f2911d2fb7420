"""Two that computed the same thing apart from each other: the checker's calendar, and the service's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from common.period import Interval, Unit
from subscriptions.domain.billable_periods import schedule
from subscriptions.domain.customer import CustomerId
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
from tools.check.calendar import Rhythm, Span, days_later, share
from tools.check.schedule import Agreement, BilledKey, Terms, billables

ZONES = ("UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")
START = datetime(2011, 10, 1, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> Subscription:
    """A subscription, and what has become of it: paused, resumed, cancelled with notice or without."""
    start = START + timedelta(minutes=draw(st.integers(0, 400 * 24 * 60)))
    units = draw(st.sampled_from([(Unit.DAY, Unit.WEEK), (Unit.MONTH, Unit.YEAR), tuple(Unit)]))
    items = tuple(
        Item(
            id=ItemId(f"subi_{n}"),
            price_id=PriceId(f"price_{n}"),
            interval=Interval(draw(st.sampled_from(units)), draw(st.integers(1, 3))),
            timing=draw(st.sampled_from(list(BillingTiming))),
            meter="",
            quantity=None,
        )
        for n in range(2)
    )
    once = replace(items[0], id=ItemId("subi_once"), interval=None, timing=BillingTiming.IN_ADVANCE)
    found = Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=(*items, once),
        currency="EUR",
        time_zone=draw(st.sampled_from(ZONES)),
        start_time=start,
        billing_day=draw(st.integers(0, 31)) if units == (Unit.MONTH, Unit.YEAR) else 0,
        trial_days=draw(st.sampled_from([0, 0, 1, 31, 90])),
        at=start,
    )
    now = start
    for verb in draw(st.lists(st.sampled_from(["pause", "resume", "notice", "cancel"]), max_size=6)):
        now += timedelta(hours=draw(st.sampled_from([0, 1, 24, 24 * 31, 24 * 45])))
        end = found.end
        if end is not None and end <= now:
            break
        if found.state is State.TRIALING and found.billed_from <= now:
            found = found.end_trial(at=now)
        match verb, found.state.name:
            case "pause", "ACTIVE":
                found = found.pause(at=now)
            case "resume", "PAUSED":
                found = found.resume(at=now, past_due=False)
            case "notice", ("TRIALING" | "ACTIVE" | "PAUSED"):
                found = found.cancel_at_period_end(at=now)
            case "cancel", ("TRIALING" | "ACTIVE" | "PAUSED"):
                found = found.cancel(at=now)
    return found


@settings(max_examples=400)
@given(histories(), st.integers(0, 900))
def test_both_come_to_the_same_periods(subscription: Subscription, days: int) -> None:
    """Whatever became of the subscription, wherever it is, and however long it has been."""
    through = subscription.start_time + timedelta(days=days)
    agreement = Agreement(
        id=subscription.id,
        customer_id=subscription.customer_id,
        zone=subscription.time_zone,
        anchor=subscription.billing_anchor,
        start=subscription.start_time,
        trial_end=subscription.trial_end_time,
        pauses=tuple((pause.start, pause.end) for pause in subscription.pauses),
        end=subscription.end,
        notice_given=subscription.notice.given if subscription.notice else None,
        cancel_time=subscription.notice.cancel_time if subscription.notice else None,
    )
    mine = [
        (each.key, each.period.end, each.full.start, each.full.end, each.share, each.bill_time)
        for item in subscription.items
        for each in billables(agreement, _terms(item), through=through)
    ]
    theirs = [
        (
            BilledKey(each.item.id, each.item.price_id, each.period.start),
            each.period.end,
            each.full_period.start,
            each.full_period.end,
            each.proration,
            each.bill_time,
        )
        for each in schedule([subscription], after=START, through=through).periods
    ]
    assert sorted(mine) == sorted(theirs)


def _terms(item: Item) -> Terms:
    return Terms(
        item_id=item.id,
        price_id=item.price_id,
        unit=item.interval.unit.name if item.interval else "ONCE",
        count=item.interval.count if item.interval else 1,
        in_advance=item.timing is BillingTiming.IN_ADVANCE,
        meter=item.meter,
        quantity=Fraction(1),
    )


def test_the_31st_returns_after_february() -> None:
    """Boundaries are counted from the anchor, never from one another."""
    rhythm = Rhythm(datetime(2026, 1, 31, 9, tzinfo=UTC), "Europe/Paris", "MONTH", 1)
    assert [rhythm.boundary(n).day for n in range(4)] == [31, 28, 31, 30]


def test_a_clock_change_makes_no_day_longer() -> None:
    """March 2012 in London has 743 hours and 31 days."""
    march = Span(datetime(2012, 3, 1, tzinfo=UTC), datetime(2012, 3, 31, 23, tzinfo=UTC))
    later = Span(datetime(2012, 3, 16, tzinfo=UTC), march.end)
    assert share(later, march, "Europe/London") == Fraction(16, 31)


def test_days_later_is_the_same_time_of_day() -> None:
    """Nine in London is nine in London, whatever the clocks did in between."""
    nine = datetime(2012, 3, 20, 9, tzinfo=UTC)
    assert days_later(nine, 14, "Europe/London") == datetime(2012, 4, 3, 8, tzinfo=UTC)
