"""What happens by itself, and in which order it is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.period import Interval, Period, Unit
from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    CREDIT,
    DAILY,
    MICROSECOND,
    MONTHLY,
    QUARTERLY,
    agree,
    at,
    cancelled,
    change,
    next_change,
    paused,
    reactivated,
    resumed,
    scheduled,
    terms,
)
from subscriptions.domain import verbs
from subscriptions.domain.change import RemoveItem, Renewal, SetBillingDay, SetTerm, Term
from subscriptions.domain.moments import (
    ActivationMissed,
    Moment,
    PeriodEnded,
    RenewalNear,
    Renewed,
    Started,
    TookEffect,
    TrialEnded,
    TrialInDoubt,
    announced,
    next_moment,
)
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId
from subscriptions.domain.timeline import Activation, TrialEnd

MOMENTS_MAX = 100


def monthly(start: str = "01-01") -> Subscription:
    return agree(terms(timing=ARREARS), start=start, known="01-01")


def mixed(*intervals: Interval | None, start: str = "01-01") -> Subscription:
    return agree(*(terms(f"price-{n}", interval=each) for n, each in enumerate(intervals)), start=start)


def tell(subscription: Subscription, *, through: str | datetime) -> list[Moment]:
    """All that would be announced, one job run after the other."""
    until = at(through) if isinstance(through, str) else through
    told: list[Moment] = []
    for _ in range(MOMENTS_MAX):
        moment = next_moment(subscription)
        if moment is None or moment.time > until:
            return told
        told.append(moment)
        subscription = announced(subscription, moment)
    raise AssertionError("never comes to an end")


def ends(subscription: Subscription, *, through: str | datetime) -> list[tuple[str, tuple[ItemId, ...]]]:
    return [
        (moment.time.strftime("%m-%d"), happening.item_ids)
        for moment in tell(subscription, through=through)
        for happening in moment.happenings
        if isinstance(happening, PeriodEnded)
    ]


def names(subscription: Subscription, *, through: str) -> list[tuple[str, list[str]]]:
    return [
        (moment.time.strftime("%m-%d"), [type(each).__name__ for each in moment.happenings])
        for moment in tell(subscription, through=through)
    ]


def test_items_of_one_period_end_together() -> None:
    """One announcement, however many items: whoever bills has to look once."""
    ended = PeriodEnded(Period(at("01-01"), at("02-01")), (ItemId("item-0"), ItemId("item-1")))
    assert next_moment(mixed(MONTHLY, MONTHLY)) == Moment(at("02-01"), (ended,))


def test_different_periods_that_end_together_are_told_apart() -> None:
    """A quarter and its last month end at one instant and are two periods, the longer one first."""
    assert ends(mixed(MONTHLY, QUARTERLY), through="04-01") == [
        ("02-01", ("item-0",)),
        ("03-01", ("item-0",)),
        ("04-01", ("item-1",)),
        ("04-01", ("item-0",)),
    ]


def test_announcing_changes_nothing_that_others_see() -> None:
    """No revision without a change."""
    subscription = monthly()
    moment = next_moment(subscription)
    assert moment is not None
    after = announced(subscription, moment)
    assert (after.revision, after.update_time, after.announced_through) == (1, at("01-01"), at("02-01"))


def test_a_start_is_told_if_it_lay_ahead() -> None:
    """It is told before the end of any period; what had begun when it was agreed needs no further word."""
    assert names(monthly("03-01"), through="04-01") == [("03-01", ["Started"]), ("04-01", ["PeriodEnded"])]
    assert names(agree(start="01-01", known="02-10"), through="03-01") == [
        ("02-01", ["PeriodEnded"]),
        ("03-01", ["PeriodEnded"]),
    ]
    never = cancelled(monthly("03-01"), on="01-10")
    assert tell(never, through="12-31") == []


def test_in_a_trial_nothing_ends_but_the_trial() -> None:
    """The trial itself is no period; what begins after it ends like any other."""
    trialing = agree(trial_days=14)
    assert names(trialing, through="02-15") == [("01-15", ["TrialEnded"]), ("02-15", ["PeriodEnded"])]
    ended = cancelled(trialing, on="01-10", decision=AT_PERIOD_END)
    assert names(ended, through="12-31") == [("01-15", ["TookEffect"])]


def test_a_trial_that_ends_in_doubt_says_so_once() -> None:
    """Then it is known; nothing that is billed begins, so nothing ends."""
    doubtful = agree(trial_days=14, trial_end=TrialEnd.PAUSE)
    assert tell(doubtful, through="12-31") == [Moment(at("01-15"), (TrialInDoubt(),))]
    [moment] = tell(doubtful, through="12-31")
    proven = verbs.begin_billing(announced(doubtful, moment), change_id=next_change(doubtful), at=at("01-15"))
    assert names(proven, through="02-15") == [("02-15", ["PeriodEnded"])]
    by_hand = verbs.move_trial_end(doubtful, at("01-10"), change_id=next_change(doubtful), at=at("01-10"))
    assert next_moment(by_hand) == Moment(at("01-10"), (TrialEnded(),))


def test_an_activation_that_was_missed_is_noticed_at_its_deadline() -> None:
    """Unless it came, or the subscription was cancelled before."""
    waiting = agree(activation=Activation.BY_HAND, deadline="01-10")
    assert next_moment(waiting) == Moment(at("01-10"), (ActivationMissed(),))
    begun = verbs.activate(waiting, change_id=next_change(waiting), at=at("01-05"))
    assert names(begun, through="02-05") == [("02-05", ["PeriodEnded"])]
    assert next_moment(cancelled(waiting, on="01-05")) is None
    for term_end, missed in (("02-01", True), ("01-10", False)):
        ending = cancelled(waiting, on="01-05", decision=scheduled(term_end))
        moment = next_moment(ending)
        assert moment is not None
        assert (ActivationMissed() in moment.happenings) is missed


def test_what_was_scheduled_is_told_when_it_takes_effect() -> None:
    """What took effect at once was told by whoever decided it; what was taken back never happens."""
    planned = change(monthly(), SetBillingDay(15), on="01-10", decision=scheduled("01-20"))
    first = next_moment(planned)
    assert first is not None
    assert first == Moment(at("01-20"), (TookEffect(planned.changes[0]),))
    revoked = verbs.revoke(planned, planned.changes[0].id, at=at("01-11"))
    assert names(revoked, through="02-01") == [("02-01", ["PeriodEnded"])]
    assert names(change(monthly(), SetBillingDay(1), on="01-10"), through="02-01") == [("02-01", ["PeriodEnded"])]


def test_the_end_of_a_period_is_told_before_what_begins_with_it() -> None:
    """At one moment, in one go."""
    decided = cancelled(monthly(), on="01-10", decision=AT_PERIOD_END)
    assert names(decided, through="12-31") == [("02-01", ["PeriodEnded", "TookEffect"])]


def test_what_is_billed_once_has_no_period_that_ends() -> None:
    """Neither does it end with the others, nor is there anything to tell of it alone."""
    assert ends(mixed(None, MONTHLY), through="02-01") == [("02-01", ("item-1",))]
    assert next_moment(mixed(None)) is None


def test_a_pause_in_a_period_does_not_hide_its_end() -> None:
    """What was served before the pause is billed then; the months without service end unnoticed."""
    away = paused(monthly(), on="01-10")
    assert ends(away, through="12-01") == [("02-01", ("item-0",))]
    assert ends(resumed(away, on="05-20"), through="07-01") == [
        ("02-01", ("item-0",)),
        ("06-01", ("item-0",)),
        ("07-01", ("item-0",)),
    ]


def test_a_short_period_that_was_told_does_not_hide_a_long_one() -> None:
    """The day of the pause ended long before the month of it."""
    away = paused(mixed(DAILY, MONTHLY, start="01-30"), on="2026-01-30T01:00")
    assert ends(away, through="12-01") == [("01-31", ("item-0",)), ("02-28", ("item-1",))]


def test_the_last_period_end_is_told_when_the_subscription_ends_with_it() -> None:
    """Whether that was known before or decided at that instant."""
    decided = cancelled(monthly(), on="01-10", decision=AT_PERIOD_END)
    for each in (decided, cancelled(monthly(), on="02-01")):
        assert ends(each, through="12-01") == [("02-01", ("item-0",))]


def test_a_period_that_was_cut_short_did_not_end() -> None:
    """The cancellation itself says so."""
    assert ends(cancelled(monthly(), on="02-10"), through="12-01") == [("02-01", ("item-0",))]
    quarterly_too = cancelled(mixed(MONTHLY, QUARTERLY), on="01-10", decision=AT_PERIOD_END)
    assert ends(quarterly_too, through="12-01") == [("02-01", ("item-0",))]


def test_an_item_that_was_removed_in_mid_period_ends_with_the_period() -> None:
    """What was used until then is billed at its end, which has to be told."""
    both = agree(terms("a"), terms("calls", None, timing=ARREARS))
    removed = change(both, RemoveItem(ItemId("item-1")), on="01-10")
    assert ends(removed, through="03-01") == [("02-01", ("item-0", "item-1")), ("03-01", ("item-0",))]


def test_a_day_of_the_month_is_no_matter_of_weeks() -> None:
    """Weeks go on as they were when the billing day moves, also when something else about them changes then."""
    both = agree(terms("a", interval=Interval(Unit.WEEK, 1), timing=ARREARS), terms("b"), start="01-07")
    moved = change(both, SetBillingDay(1), on="01-10", decision=CREDIT)
    changed = change(moved, RemoveItem(ItemId("item-0")), on="01-10")
    assert ends(moved, through="01-21") == [("01-14", ("item-0",)), ("01-21", ("item-0",))]
    assert ends(changed, through="01-31") == [("01-14", ("item-0",))]


def test_a_term_is_near_its_end_and_then_renewed() -> None:
    """For ever, one after the other; 30 days before 1 April is 2 March."""
    agreed = change(monthly(), SetTerm(Term(months=3, renewal=Renewal.RENEW, notice_days=30)), on="01-01")
    told = [
        (moment.time.strftime("%m-%d"), type(happening))
        for moment in tell(agreed, through="10-01")
        for happening in moment.happenings
        if isinstance(happening, RenewalNear | Renewed)
    ]
    assert told == [
        ("03-02", RenewalNear),
        ("04-01", Renewed),
        ("06-01", RenewalNear),
        ("07-01", Renewed),
        ("09-01", RenewalNear),
        ("10-01", Renewed),
    ]


@pytest.mark.parametrize(
    ("start", "days", "expected"),
    [
        ("2026-01-01T10:00", 7, "2026-03-25T10:00"),  # winter time, the end is in summer
        ("2026-07-30T10:00", 10, "2026-10-20T10:00"),  # summer time, the end is in winter
        ("2026-01-01T02:30", 3, "2026-03-29T03:30"),  # half past two is skipped that day
        ("2026-07-27T02:30", 2, "2026-10-25T02:30"),  # it comes twice: the first
        ("2026-01-01T10:00", 365, "2026-01-01T10:00"),  # not before billing begins
    ],
)
def test_notice_is_given_so_many_civil_days_before(start: str, days: int, expected: str) -> None:
    """At the time of day of the end, whatever clocks do in between: a contract says days, not hours."""
    zone = "Europe/Paris"
    term = SetTerm(Term(months=3, renewal=Renewal.RENEW, notice_days=days))
    agreed = change(agree(terms(timing=ARREARS), start=start, zone=zone), term, on=at(start, zone))
    near = [
        moment.time
        for moment in tell(replace(agreed, announced_through=at(start, zone) - MICROSECOND), through="2026-12-01")
        if RenewalNear() in moment.happenings
    ]
    assert near[0] == at(expected, zone)


def test_a_term_that_ends_for_good_is_not_renewed() -> None:
    """There is notice of its end, and then it ends."""
    agreed = change(monthly(), SetTerm(Term(months=1, renewal=Renewal.EXPIRE, notice_days=10)), on="01-01")
    expiring = verbs.with_expiry(agreed, change_id=next_change(agreed), at=at("01-01"))
    assert names(expiring, through="12-31") == [
        ("01-22", ["RenewalNear"]),
        ("02-01", ["PeriodEnded", "TookEffect"]),
    ]


def test_a_notice_that_is_longer_than_the_term_comes_with_every_term() -> None:
    """None is swallowed, and none holds the others up."""
    agreed = change(monthly(), SetTerm(Term(months=1, renewal=Renewal.RENEW, notice_days=45)), on="01-01")
    renewals = [
        moment.time
        for moment in tell(agreed, through="06-01")
        if any(isinstance(each, Renewed) for each in moment.happenings)
    ]
    assert renewals == [at(f"0{month}-01") for month in range(2, 7)]


def test_terms_from_the_31st_are_counted_from_the_31st() -> None:
    """The notice of the term to 31 March comes 45 days before that, not before the 28th; that of the first at once."""
    agreed = change(monthly("01-31"), SetTerm(Term(months=1, renewal=Renewal.RENEW, notice_days=45)), on="01-31")
    near = [
        moment.time
        for moment in tell(agreed, through="02-27")
        if any(isinstance(each, RenewalNear) for each in moment.happenings)
    ]
    assert near == [at("01-31"), at("02-14")]


def test_nothing_ends_after_the_calendar() -> None:
    """The last period that ends in it is the last that is told."""
    last = agree(terms(timing=ARREARS), start=datetime(2299, 10, 15, tzinfo=UTC))
    assert len(ends(last, through=datetime(2300, 1, 1, tzinfo=UTC))) == 2
    assert isinstance(tell(monthly("02-01"), through="02-01")[0].happenings[0], Started)


@pytest.mark.parametrize(("again", "deadline"), [("01-15", "01-24"), ("02-20", "03-01")])
def test_a_deadline_that_passed_is_renewed_by_a_reactivation(again: str, deadline: str) -> None:
    """As long again as there was at first; then it is missed once more, and what is activated before is not."""
    waiting = agree(activation=Activation.BY_HAND, deadline="01-10")
    missed = verbs.expire_unactivated(waiting, change_id=next_change(waiting), at=at("01-10"))
    taken_up = replace(reactivated(missed, on=again), announced_through=at(again))
    assert taken_up.activation_deadline == at(deadline)
    assert next_moment(taken_up) == Moment(at(deadline), (ActivationMissed(),))
    begun = verbs.activate(taken_up, change_id=next_change(taken_up), at=at(again))
    assert ActivationMissed() not in [each for moment in tell(begun, through="12-31") for each in moment.happenings]
