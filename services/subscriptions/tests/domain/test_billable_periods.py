"""What is to be billed and when, as long as nothing changes, and around pauses and ends."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common.period import EARLIEST, LATEST, Interval, Period, Unit
from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    DAILY,
    MICROSECOND,
    MONTHLY,
    QUARTERLY,
    YEARLY,
    agree,
    at,
    brief,
    cancelled,
    due,
    paused,
    resumed,
    terms,
    told,
)
from subscriptions.domain.billable_periods import PERIODS_MAX, BillablePeriod, Schedule, schedule
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.terms import BillingTiming, ItemId, SubscriptionId, Terms
from subscriptions.domain.under_way import under_way

WHOLE = Fraction(1)


def seats(interval: Interval | None = MONTHLY) -> Terms:
    return terms("seats", 3, interval=interval)


def calls(interval: Interval = MONTHLY) -> Terms:
    return terms("calls", None, timing=ARREARS, interval=interval)


def test_in_advance_is_billed_when_a_period_begins() -> None:
    """One period per month, whole, on its first instant."""
    found = due(agree(seats()), through="03-01")
    assert told(found) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("03-01", "03-01", "04-01", WHOLE),
    ]
    assert found.next_bill_time == at("04-01")


def test_what_is_under_way_has_begun_and_is_billed_later() -> None:
    """From its first instant on; of what is metered, and of the customer alone."""
    agreed = [agree(seats(), calls()), agree(calls(YEARLY), name="year")]
    whose = agreed[0].opening.customer_id
    for moment in ("02-01", "02-15"):
        found = under_way(agreed, at=at(moment), customer_id=whose)
        assert [brief(each)[:3] for each in found] == [("03-01", "02-01", "03-01"), ("01-01", "01-01", "01-01")]
    assert under_way([agree(calls(), start="02-02")], at=at("02-01"), customer_id=whose) == ()
    assert under_way(agreed, at=at("02-01"), customer_id=CustomerId("cus_other")) == ()


def test_in_arrears_is_billed_when_a_period_has_ended() -> None:
    """What is under way is not billed yet."""
    found = due(agree(calls()), through="03-01")
    assert told(found) == [("02-01", "01-01", "02-01", WHOLE), ("03-01", "02-01", "03-01", WHOLE)]
    assert found.next_bill_time == at("04-01")


def test_a_start_in_mid_month_is_a_part() -> None:
    """Billed from the first of each month: 17 of January's 31 days, whichever way it is billed."""
    both = agree(seats(), calls(), start="01-15", day=1)
    assert told(due(both, through="02-01")) == [
        ("01-15", "01-15", "02-01", Fraction(17, 31)),
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-15", "02-01", Fraction(17, 31)),
    ]
    assert due(both, through="01-15").periods[0].full_period == Period(at("01-01"), at("02-01"))


def test_a_part_inside_a_day_has_no_days() -> None:
    """Nothing of a licensed price is billed for it; of a metered one, the usage that was counted."""
    evening = cancelled(agree(calls(), start="2026-01-01T18:00"), on="2026-01-01T20:00")
    assert told(due(evening, through="01-02")) == [("01-01", "01-01", "01-01", Fraction(0))]


def test_a_clock_change_makes_no_day_longer() -> None:
    """March in London has 31 days and 743 hours; months end at London's midnight."""
    zone = "Europe/London"
    found = due(agree(calls(), start="03-16", day=1, zone=zone), through="05-01", zone=zone)
    assert told(found, zone) == [("04-01", "03-16", "04-01", Fraction(16, 31)), ("05-01", "04-01", "05-01", WHOLE)]
    assert found.periods[0].bill_time == at("2026-03-31T23:00:00Z")


def test_the_31st_returns() -> None:
    """After February and after April."""
    found = due(agree(seats(), start="01-31"), through="05-31")
    assert [brief(billable)[0] for billable in found.periods] == ["01-31", "02-28", "03-31", "04-30", "05-31"]
    assert all(billable.proration == 1 for billable in found.periods)


def test_the_31st_in_a_leap_year_is_the_29th_of_february() -> None:
    """And the year after it is the 28th."""
    found = due(agree(seats(), start="2024-01-31"), through="2025-03-01")
    days = [billable.period.start.strftime("%y-%m-%d") for billable in found.periods]
    assert days[:3] == ["24-01-31", "24-02-29", "24-03-31"]
    assert days[-2:] == ["25-01-31", "25-02-28"]


def test_what_was_billed_in_advance_stays_billed() -> None:
    """Neither a cancellation nor a pause takes it back, unless it says so."""
    subscription = agree(seats())
    january = [("01-01", "01-01", "02-01", WHOLE)]
    for after in (cancelled(subscription, on="01-10"), paused(subscription, on="01-10")):
        found = due(after, through="12-31")
        assert (told(found), found.next_bill_time) == (january, None)


def test_what_is_billed_in_arrears_is_billed_up_to_the_end() -> None:
    """Promptly: when the service ends, not when the month does."""
    found = due(cancelled(agree(calls()), on="01-11"), through="12-31")
    assert told(found) == [("01-11", "01-01", "01-11", Fraction(10, 31))]
    assert found.next_bill_time is None


def test_a_decision_to_cancel_ends_billing_in_advance() -> None:
    """The period under way is the last; what is used in it is billed at its end."""
    decided = cancelled(agree(seats(), calls()), on="02-10", decision=AT_PERIOD_END)
    assert told(due(decided, through="12-31")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-01", "02-01", WHOLE),
        ("03-01", "02-01", "03-01", WHOLE),
    ]


def test_nothing_is_billed_in_advance_beyond_an_end_that_is_known() -> None:
    """The licence for two months that begins after the decision is for what is left of the one for three."""
    both = agree(terms("a", interval=QUARTERLY), terms("b", interval=Interval(Unit.MONTH, 2)))
    decided = cancelled(both, on="02-10", decision=AT_PERIOD_END)
    assert decided.end == at("04-01")
    assert told(due(decided, through="12-31"))[-1] == ("03-01", "03-01", "04-01", Fraction(31, 61))


def test_hastening_a_cancellation_does_not_change_what_was_billed() -> None:
    """The part was cut at the end that was known when it was billed, and keeps that end."""
    both = agree(terms("a", interval=QUARTERLY), terms("b", interval=Interval(Unit.MONTH, 2)))
    decided = cancelled(both, on="02-10", decision=AT_PERIOD_END)
    assert told(due(cancelled(decided, on="03-15"), through="12-31")) == told(due(decided, through="12-31"))


def test_a_period_that_begins_at_the_very_instant_of_an_end_has_begun() -> None:
    """The bill run of that instant may have come first: the order of two things at one instant must not matter."""
    for stopped in (paused(agree(seats()), on="02-01"), cancelled(agree(seats()), on="02-01")):
        assert told(due(stopped, through="12-31")) == [
            ("01-01", "01-01", "02-01", WHOLE),
            ("02-01", "02-01", "03-01", WHOLE),
        ]


def test_an_instant_before_a_boundary_the_next_period_never_begins() -> None:
    """A microsecond decides, and it is the same one for every kind of stop."""
    just_before = at("02-01") - MICROSECOND
    for stopped in (paused(agree(seats()), on=just_before), cancelled(agree(seats()), on=just_before)):
        assert told(due(stopped, through="12-31")) == [("01-01", "01-01", "02-01", WHOLE)]


def test_a_pause_leaves_two_parts_to_bill_in_arrears() -> None:
    """Each with its own share of the month, both when the month is over."""
    found = due(resumed(paused(agree(calls()), on="01-11"), on="01-21"), through="02-01")
    assert told(found) == [
        ("02-01", "01-01", "01-11", Fraction(10, 31)),
        ("02-01", "01-21", "02-01", Fraction(11, 31)),
    ]
    assert {billable.full_period for billable in found.periods} == {Period(at("01-01"), at("02-01"))}


def test_a_pause_that_lasts_leaves_what_was_served_before_it() -> None:
    """It is billed at the end of its month, and then nothing more."""
    found = due(paused(agree(calls()), on="01-11"), through="12-31")
    assert told(found) == [("02-01", "01-01", "01-11", Fraction(10, 31))]
    assert found.next_bill_time is None


def test_a_cancellation_in_a_pause_bills_what_was_served_at_once() -> None:
    """The end of the subscription comes before the end of the month."""
    found = due(cancelled(paused(agree(calls()), on="01-11"), on="01-25"), through="12-31")
    assert told(found) == [("01-25", "01-01", "01-11", Fraction(10, 31))]


def test_a_resumption_in_mid_period_is_a_part_in_advance() -> None:
    """March was never billed, so it is billed from when service is given again; January was, and is not again."""
    subscription = resumed(paused(agree(seats()), on="01-11"), on="01-21")
    subscription = resumed(paused(subscription, on="02-11"), on="03-11")
    assert told(due(subscription, through="04-01")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "02-01", "03-01", WHOLE),
        ("03-11", "03-11", "04-01", Fraction(21, 31)),
        ("04-01", "04-01", "05-01", WHOLE),
    ]


def test_months_in_a_pause_are_not_billed() -> None:
    """Neither way."""
    both = paused(agree(seats(), calls()), on="2026-01-31T12:00")
    assert told(due(resumed(both, on="04-01"), through="04-30")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "01-01", "01-31", Fraction(30, 31)),
        ("04-01", "04-01", "05-01", WHOLE),
    ]


def test_a_pause_of_service_alone_is_billed() -> None:
    """Somebody keeps a place, and pays for it; the other way round somebody is served for nothing."""
    both = agree(seats(), calls())
    assert told(due(paused(both, on="01-11", billing=False), through="12-31")) == told(due(both, through="12-31"))
    assert told(due(paused(both, on="01-11", service=False), through="12-31")) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("02-01", "01-01", "01-11", Fraction(10, 31)),
    ]


def test_cancelled_before_the_start_nothing_is_billed() -> None:
    """Although it would have been, had nothing happened."""
    pending = agree(seats(), calls(), start="03-01", known="01-01")
    assert due(pending, through="02-01") == Schedule((), at("03-01"))
    assert due(cancelled(pending, on="02-01"), through="12-31") == Schedule((), None)


def test_in_a_trial_nothing_is_billed() -> None:
    """Neither what is licensed nor what is used in it; then everything is, from the end of the trial on."""
    both = agree(seats(), calls(), trial_days=14)
    assert due(both, through="01-14") == Schedule((), at("01-15"))
    assert told(due(both, through="02-15")) == [
        ("01-15", "01-15", "02-15", WHOLE),
        ("02-15", "02-15", "03-15", WHOLE),
        ("02-15", "01-15", "02-15", WHOLE),
    ]


def test_a_trial_before_a_billing_day_leaves_a_part() -> None:
    """Of the month in which it ended: 17 of January's 31 days, as if service began then."""
    found = due(agree(calls(), day=1, trial_days=14), through="03-01")
    assert told(found) == [("02-01", "01-15", "02-01", Fraction(17, 31)), ("03-01", "02-01", "03-01", WHOLE)]


def test_a_trial_across_a_clock_change_ends_at_the_same_time_of_day() -> None:
    """Nine in the morning in London is eight o'clock UTC by then."""
    subscription = agree(seats(), start="2026-03-20T09:00", zone="Europe/London", trial_days=14)
    assert subscription.timeline.trial_end_time == at("2026-04-03T08:00")
    assert due(subscription, through="04-30").periods[0].bill_time == at("2026-04-03T08:00")


def test_cancelled_in_the_trial_nothing_is_billed() -> None:
    """At once or with notice: not even what is billed once."""
    trialing = agree(seats(), seats(None), calls(), trial_days=14)
    for decision in (None, AT_PERIOD_END):
        assert due(cancelled(trialing, on="01-10", decision=decision), through="12-31") == Schedule((), None)


def test_cancelled_when_the_trial_ends_billing_has_begun() -> None:
    """Without notice, what happens at an instant comes after what begins at it; whether a job was late is no matter."""
    ended = cancelled(agree(seats(), trial_days=14), on="01-15")
    assert told(due(ended, through="12-31")) == [("01-15", "01-15", "02-15", WHOLE)]


def test_once_is_billed_when_billing_begins() -> None:
    """One civil day, whole, whatever becomes of the subscription in it or after it, and nothing more to come."""
    setup = agree(seats(None), start="2026-03-28T12:00", zone="Europe/London")
    [once] = due(setup, through="12-31").periods
    assert once.period == once.full_period == Period(at("2026-03-28T12:00"), at("2026-03-29T11:00"))
    assert (once.proration, once.bill_time) == (WHOLE, at("2026-03-28T12:00"))
    assert due(setup, through="12-31").next_bill_time is None
    later = resumed(paused(setup, on="2026-03-28T13:00"), on="04-10")
    for each in (later, cancelled(later, on="05-01"), cancelled(setup, on="2026-03-28T12:30")):
        assert due(each, through="12-31") == Schedule((once,), None)
    assert due(setup, after="2026-03-28T13:00", through="12-31") == Schedule((), None)


def test_once_is_billed_when_the_trial_ends() -> None:
    """Together with the first period of what is billed again."""
    both = agree(terms("setup", interval=None), seats(), trial_days=14)
    assert due(both, through="01-14").next_bill_time == at("01-15")
    assert told(due(both, through="02-15")) == [
        ("01-15", "01-15", "01-16", WHOLE),
        ("01-15", "01-15", "02-15", WHOLE),
        ("02-15", "02-15", "03-15", WHOLE),
    ]


def test_the_window_is_of_bill_times_and_closed() -> None:
    """`after` and `through` are both in it, so that an instant can be asked for."""
    subscription = agree(seats(), calls())
    assert told(due(subscription, after="02-01", through="02-01")) == [
        ("02-01", "02-01", "03-01", WHOLE),
        ("02-01", "01-01", "02-01", WHOLE),
    ]
    assert due(subscription, after="02-02", through="02-27") == Schedule((), at("03-01"))


def test_the_order_is_of_bill_time_then_as_created() -> None:
    """An invoice lists the items in the order in which they were agreed."""
    first = agree(calls(), seats(), name="first")
    second = agree(terms("support"), name="second")
    found = due([first, second], through="02-01")
    assert [(brief(each)[0], each.subscription_id, each.terms.price_id) for each in found.periods] == [
        ("01-01", "first", "seats"),
        ("01-01", "second", "support"),
        ("02-01", "first", "calls"),
        ("02-01", "first", "seats"),
        ("02-01", "second", "support"),
    ]


def test_a_billable_period_knows_when_and_what() -> None:
    """Everything that invoicing needs to price it, and no amount."""
    assert due(agree(seats()), through="01-01").periods == (
        BillablePeriod(
            subscription_id=SubscriptionId("sub"),
            customer_id=CustomerId("ada"),
            currency="EUR",
            item_id=ItemId("item-0"),
            terms=seats(),
            period=Period(at("01-01"), at("02-01")),
            full_period=Period(at("01-01"), at("02-01")),
            proration=WHOLE,
            bill_time=at("01-01"),
        ),
    )


def test_half_an_answer_is_none() -> None:
    """Thirty years of days are refused as a whole; a year of them is not, however long ago it began."""
    old = agree(calls(DAILY), start="1996-01-01")
    with pytest.raises(TooManyPeriods) as refusal:
        due(old, through="2026-01-01")
    assert refusal.value.metadata == {"limit": str(PERIODS_MAX)}
    assert len(due(old, after="2025-01-02", through="2026-01-01").periods) == 365


@pytest.mark.parametrize("timing", BillingTiming)
def test_the_calendar_ends(timing: BillingTiming) -> None:
    """Nothing is promised beyond it, and asking up to its end is no error."""
    last = LATEST.replace(year=LATEST.year - 1, month=12, day=31)
    found = schedule([agree(terms(timing=timing, interval=YEARLY))], after=EARLIEST, through=last)
    assert found.periods[-1].period.end == LATEST.replace(year=LATEST.year - 1)
    assert found.next_bill_time is None


def test_yearly_and_monthly_in_one_subscription_each_keep_their_own_periods() -> None:
    """Twelve months and one year from the 29th of February, the year ending on the 28th."""
    both = agree(terms("platform", interval=YEARLY), terms("seats"), start="2024-02-29")
    found = due(both, through="2025-02-28").periods
    assert [each.period.start.strftime("%y-%m-%d") for each in found if each.terms.price_id == "platform"] == [
        "24-02-29",
        "25-02-28",
    ]
    months = [each.period for each in found if each.terms.price_id == "seats"]
    assert len(months) == 13
    assert [month.start.day for month in months[:3]] == [29, 29, 29]
    assert months[-1].start.day == 28
