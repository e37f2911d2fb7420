"""What is to be billed and when, by example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from common.period import EARLIEST, LATEST, Interval, Period, Unit
from subscriptions.domain.billable_periods import PERIODS_MAX, BillablePeriod, Schedule, schedule
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.subscription import (
    BillingTiming,
    Item,
    ItemId,
    PlanId,
    PriceId,
    Subscription,
    SubscriptionId,
)

ADVANCE, ARREARS = BillingTiming.IN_ADVANCE, BillingTiming.IN_ARREARS
DAILY, MONTHLY, YEARLY = Interval(Unit.DAY, 1), Interval(Unit.MONTH, 1), Interval(Unit.YEAR, 1)
WHOLE = Fraction(1)


def at(text: str, zone: str = "UTC") -> datetime:
    """`01-15` is a day of 2026."""
    text = text if len(text) > 5 else f"2026-{text}"
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def item(timing: BillingTiming, interval: Interval | None = MONTHLY, *, name: str = "item") -> Item:
    return Item(
        id=ItemId(name),
        price_id=PriceId(f"price of {name}"),
        interval=interval,
        timing=timing,
        meter="",
        quantity=Decimal(3),
    )


def agree(
    *items: Item, start: str = "01-01", day: int = 0, zone: str = "UTC", name: str = "sub", trial_days: int = 0
) -> Subscription:
    return Subscription.agree(
        id=SubscriptionId(name),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=items,
        currency="EUR",
        time_zone=zone,
        start_time=at(start, zone),
        billing_day=day,
        trial_days=trial_days,
        at=at(start, zone),
    )


def due(
    subscriptions: Subscription | Sequence[Subscription], *, through: str, after: datetime = EARLIEST, zone: str = "UTC"
) -> Schedule:
    several = [subscriptions] if isinstance(subscriptions, Subscription) else subscriptions
    return schedule(several, after=after, through=at(through, zone))


def brief(billable: BillablePeriod, zone: str = "UTC") -> tuple[str, str, str, Fraction]:
    """When it is billed, from when to when, and which share of the whole."""
    times = (billable.bill_time, billable.period.start, billable.period.end)
    billed, start, end = (time.astimezone(ZoneInfo(zone)).strftime("%m-%d") for time in times)
    return billed, start, end, billable.proration


def told(found: Schedule, zone: str = "UTC") -> list[tuple[str, str, str, Fraction]]:
    return [brief(billable, zone) for billable in found.periods]


def test_in_advance_is_billed_when_a_period_begins() -> None:
    """One period per month, whole, on its first instant."""
    found = due(agree(item(ADVANCE)), through="03-01")
    assert told(found) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("03-01", "03-01", "04-01", WHOLE),
    ]
    assert found.next_bill_time == at("04-01")


def test_in_arrears_is_billed_when_a_period_has_ended() -> None:
    """What is under way is not billed yet."""
    found = due(agree(item(ARREARS)), through="03-01")
    assert told(found) == [("02-01", "01-01", "02-01", WHOLE), ("03-01", "02-01", "03-01", WHOLE)]
    assert found.next_bill_time == at("04-01")


def test_a_start_in_mid_month_is_a_part() -> None:
    """Billed from the first of each month: 17 of January's 31 days, whichever way it is billed."""
    both = agree(item(ADVANCE, name="seats"), item(ARREARS, name="calls"), start="01-15", day=1)
    assert told(due(both, through="02-01")) == [
        ("01-15", "01-15", "02-01", Fraction(17, 31)),
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-15", "02-01", Fraction(17, 31)),
    ]
    assert due(both, through="01-15").periods[0].full_period == Period(at("01-01"), at("02-01"))


def test_a_part_inside_a_day_has_no_days() -> None:
    """Nothing of a licensed price is billed for it; of a metered one, the usage that was counted."""
    evening = agree(item(ARREARS), start="2026-01-01T18:00").cancel(at=at("2026-01-01T20:00"))
    assert told(due(evening, through="01-02")) == [("01-01", "01-01", "01-01", Fraction(0))]


def test_a_clock_change_makes_no_day_longer() -> None:
    """March in London has 31 days and 743 hours; months end at London's midnight."""
    zone = "Europe/London"
    found = due(agree(item(ARREARS), start="03-16", day=1, zone=zone), through="05-01", zone=zone)
    assert told(found, zone) == [("04-01", "03-16", "04-01", Fraction(16, 31)), ("05-01", "04-01", "05-01", WHOLE)]
    assert found.periods[0].bill_time == at("2026-03-31T23:00:00Z")


def test_the_31st_returns() -> None:
    """After February and after April."""
    found = due(agree(item(ADVANCE), start="01-31"), through="05-31")
    assert [brief(billable)[0] for billable in found.periods] == ["01-31", "02-28", "03-31", "04-30", "05-31"]
    assert all(billable.proration == 1 for billable in found.periods)


def test_what_was_billed_in_advance_stays_billed() -> None:
    """Neither a cancellation nor a pause takes it back; the money is not returned by forgetting it."""
    subscription = agree(item(ADVANCE))
    january = [("01-01", "01-01", "02-01", WHOLE)]
    for after in (subscription.cancel(at=at("01-10")), subscription.pause(at=at("01-10"))):
        found = due(after, through="12-31")
        assert (told(found), found.next_bill_time) == (january, None)


def test_what_is_billed_in_arrears_is_billed_up_to_the_end() -> None:
    """Promptly: when the service ends, not when the month does."""
    found = due(agree(item(ARREARS)).cancel(at=at("01-11")), through="12-31")
    assert told(found) == [("01-11", "01-01", "01-11", Fraction(10, 31))]
    assert found.next_bill_time is None


def test_a_decision_to_cancel_ends_billing_in_advance() -> None:
    """The period under way is the last; what is used in it is billed at its end."""
    decided = agree(item(ADVANCE, name="seats"), item(ARREARS, name="calls")).cancel_at_period_end(at=at("02-10"))
    expected = [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-01", "02-01", WHOLE),
        ("03-01", "02-01", "03-01", WHOLE),
    ]
    assert told(due(decided, through="12-31")) == expected
    assert told(due(decided.cancel(at=at("03-01")), through="12-31")) == expected


def test_nothing_is_billed_in_advance_beyond_an_end_that_is_known() -> None:
    """The yearly licence that begins after the decision is for the months that are left of the monthly one."""
    monthly_and_yearly = agree(item(ADVANCE, Interval(Unit.MONTH, 4), name="a"), item(ADVANCE, MONTHLY, name="b"))
    decided = monthly_and_yearly.cancel_at_period_end(at=at("05-10"))
    assert decided.cancel_time == at("09-01")
    assert told(due(decided, through="12-31"))[-3:] == [
        ("06-01", "06-01", "07-01", WHOLE),
        ("07-01", "07-01", "08-01", WHOLE),
        ("08-01", "08-01", "09-01", WHOLE),
    ]
    yearly_second = agree(item(ADVANCE, Interval(Unit.MONTH, 3), name="a"), item(ADVANCE, Interval(Unit.MONTH, 2)))
    clipped = yearly_second.cancel_at_period_end(at=at("02-10"))
    assert clipped.cancel_time == at("04-01")
    assert told(due(clipped, through="12-31"))[-1] == ("03-01", "03-01", "04-01", Fraction(31, 61))


def test_hastening_a_cancellation_does_not_change_what_was_billed() -> None:
    """The part was cut at the end that was known when it was billed, and keeps that end."""
    decided = agree(
        item(ADVANCE, Interval(Unit.MONTH, 3), name="a"), item(ADVANCE, Interval(Unit.MONTH, 2))
    ).cancel_at_period_end(at=at("02-10"))
    assert told(due(decided.cancel(at=at("03-15")), through="12-31")) == told(due(decided, through="12-31"))


@pytest.mark.parametrize("stop", [Subscription.pause, Subscription.cancel])
def test_a_period_that_begins_at_the_very_instant_of_an_end_has_begun(
    stop: Callable[..., Subscription],  # its keyword `at`
) -> None:
    """The bill run of that instant may have come first: the order of two things at one instant must not matter."""
    stopped = stop(agree(item(ADVANCE)), at=at("02-01"))
    assert told(due(stopped, through="12-31")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
    ]


def test_a_pause_leaves_two_parts_to_bill_in_arrears() -> None:
    """Each with its own share of the month, both when the month is over."""
    paused = agree(item(ARREARS)).pause(at=at("01-11"))
    found = due(paused.resume(at=at("01-21"), past_due=False), through="02-01")
    assert told(found) == [
        ("02-01", "01-01", "01-11", Fraction(10, 31)),
        ("02-01", "01-21", "02-01", Fraction(11, 31)),
    ]
    assert {billable.full_period for billable in found.periods} == {Period(at("01-01"), at("02-01"))}


def test_a_pause_that_lasts_leaves_what_was_served_before_it() -> None:
    """It is billed at the end of its month, and then nothing more."""
    found = due(agree(item(ARREARS)).pause(at=at("01-11")), through="12-31")
    assert told(found) == [("02-01", "01-01", "01-11", Fraction(10, 31))]
    assert found.next_bill_time is None


def test_a_cancellation_in_a_pause_bills_what_was_served_at_once() -> None:
    """The end of the subscription comes before the end of the month."""
    found = due(agree(item(ARREARS)).pause(at=at("01-11")).cancel(at=at("01-25")), through="12-31")
    assert told(found) == [("01-25", "01-01", "01-11", Fraction(10, 31))]


def test_a_resumption_in_mid_period_is_a_part_in_advance() -> None:
    """March was never billed, so it is billed from when service is given again; January was, and is not again."""
    subscription = agree(item(ADVANCE)).pause(at=at("01-11")).resume(at=at("01-21"), past_due=False)
    subscription = subscription.pause(at=at("02-11")).resume(at=at("03-11"), past_due=False)
    assert told(due(subscription, through="04-01")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("03-11", "03-11", "04-01", Fraction(21, 31)),
        ("04-01", "04-01", "05-01", WHOLE),
    ]


def test_months_in_a_pause_are_not_billed() -> None:
    """Neither way."""
    both = agree(item(ADVANCE, name="seats"), item(ARREARS, name="calls")).pause(at=at("2026-01-31T12:00"))
    found = due(both.resume(at=at("04-01"), past_due=False), through="04-30")
    assert told(found) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "01-01", "01-31", Fraction(30, 31)),
        ("04-01", "04-01", "05-01", WHOLE),
    ]


def test_cancelled_before_the_start_nothing_is_billed() -> None:
    """Although it would have been, had nothing happened."""
    pending = Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=(item(ADVANCE), item(ARREARS, name="calls")),
        currency="EUR",
        time_zone="UTC",
        start_time=at("03-01"),
        billing_day=0,
        trial_days=0,
        at=at("01-01"),
    )
    assert due(pending, through="02-01") == Schedule((), at("03-01"))
    assert due(pending.cancel(at=at("02-01")), through="12-31") == Schedule((), None)


def test_in_a_trial_nothing_is_billed() -> None:
    """Neither what is licensed nor what is used in it; then everything is, from the end of the trial on."""
    both = agree(item(ADVANCE, name="seats"), item(ARREARS, name="calls"), trial_days=14)
    found = due(both, through="01-14")
    assert (found.periods, found.next_bill_time) == ((), at("01-15"))
    assert told(due(both, through="02-15")) == [
        ("01-15", "01-15", "02-15", WHOLE),
        ("02-15", "02-15", "03-15", WHOLE),
        ("02-15", "01-15", "02-15", WHOLE),
    ]


def test_a_trial_before_a_billing_day_leaves_a_part() -> None:
    """Of the month in which it ended: 17 of January's 31 days, as if service began then."""
    found = due(agree(item(ARREARS), day=1, trial_days=14), through="03-01")
    assert told(found) == [("02-01", "01-15", "02-01", Fraction(17, 31)), ("03-01", "02-01", "03-01", WHOLE)]


def test_a_trial_across_a_clock_change_ends_at_the_same_time_of_day() -> None:
    """Nine in the morning in London is eight o'clock UTC by then."""
    subscription = agree(item(ADVANCE), start="2026-03-20T09:00", zone="Europe/London", trial_days=14)
    assert subscription.trial_end_time == at("2026-04-03T08:00")
    assert due(subscription, through="04-30", zone="Europe/London").periods[0].bill_time == at("2026-04-03T08:00")


def test_cancelled_in_the_trial_nothing_is_billed() -> None:
    """At once or with notice: not even what is billed once."""
    trialing = agree(item(ADVANCE), item(ADVANCE, None, name="setup"), item(ARREARS, name="calls"), trial_days=14)
    for cancelled in (trialing.cancel(at=at("01-10")), trialing.cancel_at_period_end(at=at("01-10"))):
        assert due(cancelled, through="12-31") == Schedule((), None)


def test_cancelled_when_the_trial_ends_billing_has_begun() -> None:
    """Without notice, what happens at an instant comes after what begins at it; whether a job was late is no matter."""
    ended = agree(item(ADVANCE), trial_days=14).cancel(at=at("01-15"))
    assert told(due(ended, through="12-31")) == [("01-15", "01-15", "02-15", WHOLE)]


def test_once_is_billed_when_billing_begins() -> None:
    """One civil day, whole, whatever becomes of the subscription in it or after it, and nothing more to come."""
    setup = agree(item(ADVANCE, None), start="2026-03-28T12:00", zone="Europe/London")
    [once] = due(setup, through="12-31").periods
    assert once.period == once.full_period == Period(at("2026-03-28T12:00"), at("2026-03-29T11:00"))
    assert (once.proration, once.bill_time) == (WHOLE, at("2026-03-28T12:00"))
    assert due(setup, through="12-31").next_bill_time is None
    resumed = setup.pause(at=at("2026-03-28T13:00")).resume(at=at("04-10"), past_due=False)
    for later in (resumed, resumed.cancel(at=at("05-01")), setup.cancel(at=at("2026-03-28T12:30"))):
        assert due(later, through="12-31") == Schedule((once,), None)
    assert due(setup, after=at("2026-03-28T13:00"), through="12-31") == Schedule((), None)


def test_once_is_billed_when_the_trial_ends() -> None:
    """Together with the first period of what is billed again."""
    both = agree(item(ADVANCE, None, name="setup"), item(ADVANCE, name="seats"), trial_days=14)
    assert due(both, through="01-14").next_bill_time == at("01-15")
    assert told(due(both, through="02-15")) == [
        ("01-15", "01-15", "01-16", WHOLE),
        ("01-15", "01-15", "02-15", WHOLE),
        ("02-15", "02-15", "03-15", WHOLE),
    ]


def test_the_window_is_of_bill_times_and_closed() -> None:
    """`after` and `through` are both in it, so that an instant can be asked for."""
    subscription = agree(item(ADVANCE, name="seats"), item(ARREARS, name="calls"))
    assert told(due(subscription, after=at("02-01"), through="02-01")) == [
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-01", "02-01", WHOLE),
    ]
    between = due(subscription, after=at("02-02"), through="02-27")
    assert (between.periods, between.next_bill_time) == ((), at("03-01"))


def test_the_order_is_of_bill_time_then_as_created() -> None:
    """An invoice lists the items in the order in which they were agreed."""
    first = agree(item(ARREARS, name="calls"), item(ADVANCE, name="seats"), name="first")
    second = agree(item(ADVANCE, name="support"), name="second")
    found = due([first, second], through="02-01")
    assert [(brief(billable)[0], billable.subscription_id, billable.item.id) for billable in found.periods] == [
        ("01-01", "first", "seats"),
        ("01-01", "second", "support"),
        ("02-01", "first", "calls"),
        ("02-01", "first", "seats"),
        ("02-01", "second", "support"),
    ]


def test_a_billable_period_knows_when_and_what() -> None:
    """Everything that invoicing needs to price it, and no amount."""
    seats = item(ADVANCE, name="seats")
    assert due(agree(seats), through="01-01").periods == (
        BillablePeriod(
            subscription_id=SubscriptionId("sub"),
            customer_id=CustomerId("cus"),
            currency="EUR",
            item=seats,
            period=Period(at("01-01"), at("02-01")),
            full_period=Period(at("01-01"), at("02-01")),
            proration=WHOLE,
            bill_time=at("01-01"),
        ),
    )


def test_half_an_answer_is_none() -> None:
    """Thirty years of days are refused as a whole; a year of them is not, however long ago it began."""
    old = agree(item(ARREARS, DAILY), start="1996-01-01")
    with pytest.raises(TooManyPeriods) as refusal:
        due(old, through="2026-01-01")
    assert refusal.value.metadata == {"limit": str(PERIODS_MAX)}
    assert len(due(old, after=at("2025-01-02"), through="2026-01-01").periods) == 365


@pytest.mark.parametrize("timing", BillingTiming)
def test_the_calendar_ends(timing: BillingTiming) -> None:
    """Nothing is promised beyond it, and asking up to its end is no error."""
    last = LATEST.replace(year=LATEST.year - 1, month=12, day=31)
    found = schedule([agree(item(timing, YEARLY))], after=EARLIEST, through=last)
    assert found.periods[-1].period.end == LATEST.replace(year=LATEST.year - 1)
    assert found.next_bill_time is None
