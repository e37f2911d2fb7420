"""The life of a subscription: how it begins, is tried out, paused and ended, and what is billed of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from common.errors import InvalidArgument
from common.period import Interval, Period, Unit
from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    CREDIT,
    MICROSECOND,
    YEARLY,
    agree,
    at,
    cancelled,
    change,
    due,
    ledger,
    next_change,
    paused,
    reactivated,
    resumed,
    scheduled,
    terms,
    told,
)
from subscriptions.domain import errors, verbs
from subscriptions.domain.change import EndReason, Renewal, SetBillingDay, SetQuantity, SetTerm, Term
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId
from subscriptions.domain.timeline import Activation, TrialEnd

SEATS = ItemId("item-0")
WHOLE = Fraction(1)
SETUP = terms("setup", interval=None)
"""Billed once."""


def state(subscription: Subscription, on: str | datetime) -> State:
    return subscription.state_at(at(on) if isinstance(on, str) else on)


def quantity(number: int) -> SetQuantity:
    return SetQuantity(SEATS, Decimal(number))


def activated(subscription: Subscription, *, on: str) -> Subscription:
    return verbs.activate(subscription, change_id=next_change(subscription), at=at(on))


def moved_trial(subscription: Subscription, to: str, *, on: str) -> Subscription:
    return verbs.move_trial_end(subscription, at(to), change_id=next_change(subscription), at=at(on))


def test_a_start_that_has_come_is_active() -> None:
    """Also one in the past: it is billed from then on."""
    assert state(agree(start="01-10"), "01-10") is State.ACTIVE
    assert state(agree(start="01-01", known="01-10"), "01-10") is State.ACTIVE
    later = agree(start="01-10", known="01-01")
    assert state(later, at("01-10") - MICROSECOND) is State.PENDING
    assert state(later, "01-10") is State.ACTIVE


def test_a_trial_lasts_until_its_last_instant() -> None:
    """Before a start to come it is still pending, and one that is over leaves no trace in the state."""
    trialing = agree(start="01-10", known="01-01", trial_days=10)
    assert state(trialing, "01-09") is State.PENDING
    assert state(trialing, "01-10") is State.TRIALING
    assert state(trialing, at("01-20") - MICROSECOND) is State.TRIALING
    assert state(trialing, "01-20") is State.ACTIVE


def test_billing_is_anchored_where_it_begins() -> None:
    """At the end of the trial, or on the first of its day of the month from then on."""
    trialing = agree(trial_days=14).timeline
    assert trialing.anchor == trialing.trial_end_time == at("01-15")
    assert agree(trial_days=14, day=10).timeline.anchor == at("02-10")
    assert agree().timeline.trial_end_time is None


def test_a_billing_day_is_no_matter_of_what_is_billed_once() -> None:
    """It has no day to come back to, and so none to be wrong."""
    assert agree(SETUP, terms(), day=10).timeline.anchor == at("01-10")
    assert agree(SETUP, day=10).timeline.anchor == at("01-10")


@pytest.mark.parametrize("day", [15, 31, 30])
def test_a_start_at_the_end_of_the_calendar_is_refused(day: int) -> None:
    """A period that cannot end cannot be billed."""
    with pytest.raises(InvalidArgument) as refusal:
        agree(terms(interval=Interval(Unit.YEAR, 5)), start=datetime(2299, 12, day, tzinfo=UTC))
    assert refusal.value.field == "start_time"


@pytest.mark.parametrize("days", [0, 1, 31])
def test_billing_begins_within_the_calendar(days: int) -> None:
    """A trial that ends after it never ends, and the day of what is billed once must be one."""
    with pytest.raises(InvalidArgument) as refusal:
        agree(SETUP, start=datetime(2299, 12, 31, tzinfo=UTC), trial_days=days)
    assert refusal.value.field == "start_time"


def test_a_decision_for_the_period_end_waits_for_it() -> None:
    """Until then everything goes on; then it has ended, whether anybody noticed or not."""
    decided = cancelled(agree(), on="01-15", decision=AT_PERIOD_END)
    assert decided.end == at("02-01")
    assert state(decided, at("02-01") - MICROSECOND) is State.ACTIVE
    assert state(decided, "02-01") is State.CANCELLED
    assert decided.scheduled_end == decided.changes[-1]


def test_deciding_again_changes_nothing() -> None:
    """A second call in the next period must not push the end out."""
    decided = cancelled(agree(), on="01-15", decision=AT_PERIOD_END)
    assert cancelled(decided, on="01-20", decision=AT_PERIOD_END) is decided


def test_in_a_trial_the_decision_waits_for_its_end() -> None:
    """That is when the first period would begin, so nothing is billed; months before it are no periods."""
    decided = cancelled(agree(trial_days=45), on="01-10", decision=AT_PERIOD_END)
    assert decided.end == at("01-01") + timedelta(days=45)
    assert state(decided, "02-14") is State.TRIALING
    assert due(decided, through="12-31").periods == ()


def test_the_decision_waits_for_a_period_of_what_has_periods() -> None:
    """What is billed once has none; where nothing else is billed, there is nothing to wait for."""
    assert cancelled(agree(SETUP, terms()), on="01-15", decision=AT_PERIOD_END).end == at("02-01")
    assert cancelled(agree(SETUP), on="01-15", decision=AT_PERIOD_END).end == at("01-15")
    assert cancelled(agree(start="03-01", known="01-01"), on="01-15", decision=AT_PERIOD_END).end == at("01-15")


def test_a_decision_can_be_hastened() -> None:
    """Then the later end is taken back, and the earlier one stands."""
    ended = cancelled(cancelled(agree(), on="01-15", decision=AT_PERIOD_END), on="01-20")
    assert (ended.end, state(ended, "01-20"), ended.scheduled_end) == (at("01-20"), State.CANCELLED, None)
    assert [each.revoked_time for each in ended.changes] == [at("01-20"), None]


def test_at_a_boundary_the_period_under_way_is_the_one_that_begins() -> None:
    """It has begun and was billed, so it is served."""
    assert cancelled(agree(), on="02-01", decision=AT_PERIOD_END).end == at("03-01")


def test_why_it_ended_is_kept() -> None:
    """Churn that was wanted is told from churn that was not."""
    before = agree()
    ended = verbs.cancel(before, change_id=next_change(before), at=at("01-15"), reason=EndReason.NO_PAYMENT_METHOD)
    last = ended.timeline.last_end
    assert last is not None
    assert last[1] is EndReason.NO_PAYMENT_METHOD


def test_nothing_is_paused_or_resumed_after_the_end_that_was_decided() -> None:
    """The job that announces it may be late; the end is not."""
    decided = cancelled(agree(), on="01-15", decision=AT_PERIOD_END)
    with pytest.raises(errors.SubscriptionNotActive):
        paused(decided, on="02-01")
    with pytest.raises(errors.SubscriptionNotPaused):
        resumed(paused(decided, on="01-20"), on="02-01")


def test_an_end_is_revoked_until_it_has_come() -> None:
    """Then only a reactivation helps."""
    decided = cancelled(agree(), on="01-15", decision=AT_PERIOD_END)
    revoked = verbs.revoke_cancellation(decided, new_id=lambda: next_change(decided), at=at("01-20"))
    assert (revoked.end, state(revoked, "02-01")) == (None, State.ACTIVE)
    with pytest.raises(errors.CancellationNotScheduled):
        verbs.revoke_cancellation(decided, new_id=lambda: next_change(decided), at=at("02-01"))
    with pytest.raises(errors.CancellationNotScheduled):
        verbs.revoke_cancellation(revoked, new_id=lambda: next_change(revoked), at=at("01-21"))


def test_a_pause_that_took_no_time_has_not_been() -> None:
    """Clocks of sandboxes stand still between two calls."""
    still = resumed(paused(agree(), on="01-10"), on="01-10")
    assert told(due(still, through="03-01")) == told(due(agree(), through="03-01"))
    assert state(still, "01-10") is State.ACTIVE


def test_a_pause_ends_by_itself_when_that_was_decided() -> None:
    """And by hand before that; then the end that was decided is taken back."""
    away = paused(agree(), on="01-10", until="01-20")
    assert (state(away, "01-19"), state(away, "01-20")) == (State.PAUSED, State.ACTIVE)
    sooner = resumed(away, on="01-15")
    assert state(sooner, "01-15") is State.ACTIVE
    again = paused(sooner, on="01-16")
    assert state(again, "01-25") is State.PAUSED
    with pytest.raises(InvalidArgument) as refusal:
        paused(agree(), on="01-10", until="01-10")
    assert refusal.value.field == "resume_time"


def test_a_pause_that_is_taken_back_takes_its_end_with_it() -> None:
    """Another pause, without an end, must not be ended by it."""
    planned = paused(agree(), on="01-05", decision=scheduled("01-10"), until="01-20")
    revoked = verbs.revoke(planned, planned.changes[0].id, at=at("01-06"))
    assert [each.revoked_time for each in revoked.changes] == [at("01-06"), at("01-06")]
    assert state(paused(revoked, on="01-15"), "01-25") is State.PAUSED


def test_service_and_billing_are_paused_apart_and_resumed_together() -> None:
    """Who is served for nothing is active; and nothing is paused twice."""
    free = paused(agree(), on="01-10", service=False)
    assert state(free, "01-15") is State.ACTIVE
    with pytest.raises(errors.SubscriptionNotActive):
        paused(free, on="01-15", service=False)
    both = paused(free, on="01-15", billing=False)
    assert state(both, "01-15") is State.PAUSED
    again = resumed(both, on="01-20")
    assert state(again, "01-20") is State.ACTIVE
    with pytest.raises(errors.SubscriptionNotPaused):
        resumed(again, on="01-21")


def test_activation_by_hand_begins_billing_then() -> None:
    """Neither the start that was foreseen nor what was said in the meantime bills anything before."""
    waiting = agree(terms("seats", 1), activation=Activation.BY_HAND, deadline="02-01")
    assert (state(waiting, "01-10"), due(waiting, through="12-31").periods) == (State.PENDING, ())
    begun = activated(change(waiting, quantity(3), on="01-05"), on="01-20")
    assert ledger(begun, through="02-01") == [("01-20", "OWED", "seats", 3, "01-20", "02-20", WHOLE)]
    assert state(begun, "01-20") is State.ACTIVE
    with pytest.raises(errors.SubscriptionNotPending):
        activated(begun, on="01-21")


def test_activation_by_the_first_payment_bills_before_it() -> None:
    """The bill must be there to be paid; usage counts from the payment on: 12 of 31 days."""
    both = agree(
        terms("seats"),
        terms("calls", None, timing=ARREARS),
        activation=Activation.ON_FIRST_PAYMENT,
        deadline="01-02",
    )
    assert state(both, "01-01") is State.PENDING
    assert ledger(both, through="01-01") == [("01-01", "OWED", "seats", 1, "01-01", "02-01", WHOLE)]
    begun = activated(both, on="01-20")
    calls = [row for row in ledger(begun, through="02-01") if row[2] == "calls"]
    assert [row[4:] for row in calls] == [("01-20", "02-01", Fraction(12, 31))]


def test_what_is_not_activated_in_time_ends_as_if_it_had_never_begun() -> None:
    """What was billed for it comes back."""
    waiting = agree(terms("seats"), activation=Activation.ON_FIRST_PAYMENT, deadline="01-02")
    missed = verbs.expire_unactivated(waiting, change_id=next_change(waiting), at=at("01-02"))
    assert (state(missed, "01-02"), missed.end) == (State.CANCELLED, at("01-01"))
    assert ledger(missed, through="12-31")[1:] == [("01-02", "CREDIT", "seats", 1, "01-01", "02-01", WHOLE)]


def test_what_was_taken_up_again_and_not_activated_ends_again() -> None:
    """With the reactivation, not with the first start, which was before it."""
    waiting = agree(terms("seats"), activation=Activation.ON_FIRST_PAYMENT, deadline="01-20")
    again = reactivated(cancelled(waiting, on="01-02"), on="01-10")
    missed = verbs.expire_unactivated(again, change_id=next_change(again), at=at("01-20"))
    assert (state(missed, "01-20"), missed.end) == (State.CANCELLED, at("01-10"))


def test_what_begins_by_itself_is_not_activated() -> None:
    """It waits for its start and for nobody."""
    with pytest.raises(errors.SubscriptionNotPending):
        activated(agree(start="02-01", known="01-01"), on="01-10")


def test_a_trial_ends_later_or_now_but_not_sooner() -> None:
    """Two years after the start is the latest."""
    trialing = agree(trial_days=30)
    assert moved_trial(trialing, "02-15", on="01-10").timeline.billed_from == at("02-15")
    assert moved_trial(trialing, "01-10", on="01-10").timeline.billed_from == at("01-10")
    for to in ("01-20", "01-31", "2028-02-01"):
        with pytest.raises(InvalidArgument) as refusal:
            moved_trial(trialing, to, on="01-10")
        assert refusal.value.field == "trial_end_time"


def test_a_trial_that_ends_with_the_start_has_not_been() -> None:
    """Billing begins at once."""
    ended = moved_trial(agree(trial_days=30), "01-01", on="01-01")
    assert (ended.timeline.trial_end_time, state(ended, "01-01")) == (None, State.ACTIVE)


@pytest.mark.parametrize("policy", [TrialEnd.PAUSE, TrialEnd.CANCEL])
def test_a_trial_that_ends_in_doubt_is_not_billed_until_there_is_a_payment_method(policy: TrialEnd) -> None:
    """Then from its end on. Who ends a trial by hand is billed without being asked."""
    trialing = agree(terms("seats"), trial_days=14, trial_end=policy)
    assert due(trialing, through="12-31").periods == ()
    proven = verbs.begin_billing(trialing, change_id=next_change(trialing), at=at("2026-01-15T00:05"))
    [first] = ledger(proven, through="02-01")
    assert first == ("01-15", "OWED", "seats", 1, "01-15", "02-15", WHOLE)
    by_hand = moved_trial(trialing, "01-10", on="01-10")
    assert ledger(by_hand, through="02-01") == [("01-10", "OWED", "seats", 1, "01-10", "02-10", WHOLE)]


def test_what_was_paused_at_the_end_of_a_trial_is_billed_from_its_resumption_on() -> None:
    """Also when the pause was noticed late: 23 of 31 days in advance, and no usage of the time nobody agreed to."""
    trialing = agree(terms("seats"), terms("calls", None, timing=ARREARS), trial_days=14, trial_end=TrialEnd.PAUSE)
    again = resumed(paused(trialing, on="01-17"), on="01-23")
    rows = [row for row in ledger(again, through="02-15") if row[0] != "02-15" or row[2] == "calls"]
    assert [(*row[:6], int(row[6] * 31)) for row in rows] == [
        ("01-23", "OWED", "seats", 1, "01-23", "02-15", 23),
        ("02-15", "OWED", "calls", None, "01-23", "02-15", 23),
    ]


def test_what_ended_with_its_trial_is_billed_when_it_is_taken_up_again() -> None:
    """It would be served for nothing for ever."""
    trialing = agree(terms("seats"), trial_days=14, trial_end=TrialEnd.CANCEL)
    again = reactivated(cancelled(trialing, on="01-15"), on="01-20")
    assert ledger(again, through="02-01") == [("01-20", "OWED", "seats", 1, "01-20", "02-20", WHOLE)]
    in_trial = reactivated(cancelled(trialing, on="01-05"), on="01-10")
    assert due(in_trial, through="12-31").periods == ()


def test_a_term_counts_from_where_billing_begins() -> None:
    """The first one, in the trial before it; then one after the other."""
    yearly = Term(months=12, renewal=Renewal.RENEW, notice_days=30)
    agreed = change(agree(trial_days=14), SetTerm(yearly), on="01-01")
    assert agreed.term_period(at("01-05")) == Period(at("01-15"), at("2027-01-15"))
    assert agreed.term_period(at("2027-03-01")) == Period(at("2027-01-15"), at("2028-01-15"))
    assert agree().term_period(at("01-05")) is None


def test_a_term_that_expires_ends_it() -> None:
    """An end that moves with the term and goes with it; one that was asked for before comes first."""

    def expiring(subscription: Subscription, *, months: int | None, on: str) -> Subscription:
        term = None if months is None else Term(months=months, renewal=Renewal.EXPIRE, notice_days=0)
        agreed = change(subscription, SetTerm(term), on=on)
        return verbs.with_expiry(agreed, change_id=next_change(agreed), at=at(on))

    once = expiring(agree(), months=3, on="01-10")
    assert once.end == at("04-01")
    assert verbs.with_expiry(once, change_id=next_change(once), at=at("01-11")) is once
    assert expiring(once, months=6, on="02-01").end == at("07-01")
    assert expiring(once, months=None, on="02-01").end is None
    sooner = cancelled(agree(), on="01-10", decision=AT_PERIOD_END)
    assert expiring(sooner, months=3, on="01-11").end == at("02-01")


def test_only_a_change_of_state_is_a_revision_of_being_followed_up() -> None:
    """Paused, nobody sees a difference until it is resumed."""
    late = agree().followed_up(True, at=at("01-10"))
    assert (state(late, "01-10"), late.revision) == (State.PAST_DUE, 2)
    assert late.followed_up(True, at=at("01-11")) is late
    away = paused(agree(), on="01-10")
    followed = away.followed_up(True, at=at("01-11"))
    assert (state(followed, "01-11"), followed.revision) == (State.PAUSED, away.revision)
    assert state(resumed(followed, on="01-12"), "01-12") is State.PAST_DUE


def test_whose_it_was_is_remembered() -> None:
    """For whoever still has something to be billed."""
    moved = agree()
    for name in ("bob", "ada", "cyd"):
        moved = verbs.transfer(moved, CustomerId(name), change_id=next_change(moved), at=at("01-15"))
    assert moved.customer_ids == ["ada", "bob", "cyd"]
    assert moved.as_of(at("01-15")).customer_id == "cyd"
    assert moved.as_of(at("01-14")).customer_id == "ada"


def test_billing_days_of_days_and_weeks_stay_where_they_are() -> None:
    """A day of the month moves what is counted in months."""
    both = agree(terms("a"), terms("b", interval=Interval(Unit.WEEK, 1)), terms("c", interval=YEARLY), start="01-07")
    moved = change(both, SetBillingDay(1), on="01-10", decision=CREDIT)
    anchors = [track.segments[-1].anchor for track in moved.tracks]
    assert anchors == [at("02-01"), at("01-07"), at("02-01")]
