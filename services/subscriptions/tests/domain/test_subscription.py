"""The life of a subscription: every state, every verb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from common.errors import InvalidArgument, SaldoError
from common.period import Interval, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import (
    SubscriptionCancelled,
    SubscriptionNotActive,
    SubscriptionNotPastDue,
    SubscriptionNotPaused,
    SubscriptionNotPending,
    SubscriptionNotTrialing,
    TooManyPauses,
)
from subscriptions.domain.subscription import (
    PAUSES_MAX,
    BillingTiming,
    Item,
    ItemId,
    Notice,
    Pause,
    PlanId,
    PriceId,
    State,
    Stretch,
    Subscription,
    SubscriptionId,
)

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)
JAN_10, JAN_15, JAN_20, JAN_31 = (JAN_1 + timedelta(days=days) for days in (9, 14, 19, 30))
DAY = timedelta(days=1)

PENDING, TRIALING, ACTIVE, PAST_DUE, PAUSED, CANCELLED = (
    State.PENDING,
    State.TRIALING,
    State.ACTIVE,
    State.PAST_DUE,
    State.PAUSED,
    State.CANCELLED,
)


MONTHLY = Interval(Unit.MONTH, 1)
SEATS = Item(
    id=ItemId("seats"),
    price_id=PriceId("price"),
    interval=MONTHLY,
    timing=BillingTiming.IN_ADVANCE,
    meter="",
    quantity=Decimal(1),
)
SETUP = replace(SEATS, id=ItemId("setup"), interval=None)
"""Billed once."""


def agree(
    *items: Item, start: datetime = JAN_1, at: datetime = JAN_1, trial_days: int = 0, billing_day: int = 0
) -> Subscription:
    return Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=items or (SEATS,),
        currency="EUR",
        time_zone="UTC",
        start_time=start,
        billing_day=billing_day,
        trial_days=trial_days,
        at=at,
    )


IN = {
    PENDING: agree(start=JAN_20),
    TRIALING: agree(trial_days=30),
    ACTIVE: agree(),
    PAST_DUE: agree().mark_past_due(at=JAN_1),
    PAUSED: agree().pause(at=JAN_10),
    CANCELLED: agree().cancel(at=JAN_10),
}
"""One subscription in every state."""

VERBS: dict[str, Callable[[Subscription], Subscription]] = {
    "begin": lambda subscription: subscription.begin(at=JAN_15),
    "end trial": lambda subscription: subscription.end_trial(at=JAN_15),
    "mark_past_due": lambda subscription: subscription.mark_past_due(at=JAN_15),
    "recover": lambda subscription: subscription.recover(at=JAN_15),
    "pause": lambda subscription: subscription.pause(at=JAN_15),
    "resume": lambda subscription: subscription.resume(at=JAN_15, past_due=False),
    "resume past due": lambda subscription: subscription.resume(at=JAN_15, past_due=True),
    "cancel": lambda subscription: subscription.cancel(at=JAN_15),
    "cancel at period end": lambda subscription: subscription.cancel_at_period_end(at=JAN_15),
}
NOT_PENDING, NOT_TRIALING, NOT_ACTIVE, NOT_PAST_DUE, NOT_PAUSED, OVER = (
    SubscriptionNotPending,
    SubscriptionNotTrialing,
    SubscriptionNotActive,
    SubscriptionNotPastDue,
    SubscriptionNotPaused,
    SubscriptionCancelled,
)
#                         PENDING       TRIALING      ACTIVE        PAST_DUE      PAUSED        CANCELLED
MATRIX: dict[str, tuple[State | type[SaldoError], ...]] = {
    "begin":                (ACTIVE,       NOT_PENDING,  NOT_PENDING,  NOT_PENDING,  NOT_PENDING,  NOT_PENDING),
    "end trial":            (NOT_TRIALING, ACTIVE,       NOT_TRIALING, NOT_TRIALING, NOT_TRIALING, NOT_TRIALING),
    "mark_past_due":        (NOT_ACTIVE,   NOT_ACTIVE,   PAST_DUE,     NOT_ACTIVE,   NOT_ACTIVE,   NOT_ACTIVE),
    "recover":              (NOT_PAST_DUE, NOT_PAST_DUE, NOT_PAST_DUE, ACTIVE,       NOT_PAST_DUE, NOT_PAST_DUE),
    "pause":                (NOT_ACTIVE,   NOT_ACTIVE,   PAUSED,       PAUSED,       NOT_ACTIVE,   NOT_ACTIVE),
    "resume":               (NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   ACTIVE,       NOT_PAUSED),
    "resume past due":      (NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   PAST_DUE,     NOT_PAUSED),
    "cancel":               (CANCELLED,    CANCELLED,    CANCELLED,    CANCELLED,    CANCELLED,    OVER),
    "cancel at period end": (CANCELLED,    TRIALING,     ACTIVE,       PAST_DUE,     PAUSED,       OVER),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", State)
def test_every_verb_moves_or_names_the_rule(verb: str, state: State) -> None:
    """No pair of state and verb is left to chance; what moves is a new revision, what does not is untouched."""
    before = IN[state]
    outcome = MATRIX[verb][list(State).index(state)]
    assert before.state is state
    if isinstance(outcome, State):
        after = VERBS[verb](before)
        assert (after.state, after.revision, after.update_time) == (outcome, before.revision + 1, JAN_15)
    else:
        with pytest.raises(outcome) as refusal:
            VERBS[verb](before)
        assert refusal.value.metadata == {"subscription": "sub"}


def test_a_start_that_has_come_is_active_at_once() -> None:
    """Also one in the past: it is billed from then on."""
    assert agree(start=JAN_10, at=JAN_10).state is ACTIVE
    assert agree(start=JAN_1, at=JAN_10).state is ACTIVE
    assert agree(start=JAN_10, at=JAN_1).state is PENDING


def test_a_trial_lasts_until_its_last_instant() -> None:
    """Before a start to come it is still pending, and one that is over by now has left no trace in the state."""
    assert agree(start=JAN_10, trial_days=10, at=JAN_1).state is PENDING
    assert agree(start=JAN_10, trial_days=10, at=JAN_10).state is TRIALING
    assert agree(start=JAN_10, trial_days=10, at=JAN_20 - DAY / 86_400).state is TRIALING
    assert agree(start=JAN_10, trial_days=10, at=JAN_20).state is ACTIVE


def test_a_trial_is_begun_with_even_when_it_is_over() -> None:
    """A service that slept through it tells of it all the same."""
    begun = agree(start=JAN_10, trial_days=5).begin(at=FEB_1)
    assert (begun.state, begun.end_trial(at=FEB_1).state) == (TRIALING, ACTIVE)


def test_billing_is_anchored_where_it_begins() -> None:
    """At the end of the trial, or on the first of its day of the month from then on."""
    assert agree(trial_days=14).billing_anchor == agree(trial_days=14).trial_end_time == JAN_15
    assert agree(trial_days=14, billing_day=10).billing_anchor == datetime(2026, 2, 10, tzinfo=UTC)
    assert agree().trial_end_time is None


def test_a_billing_day_is_no_matter_of_what_is_billed_once() -> None:
    """It has no day to come back to, and so none to be wrong."""
    assert agree(SETUP, SEATS, billing_day=10).billing_anchor == JAN_10
    assert agree(SETUP, billing_day=10).billing_anchor == JAN_10


@pytest.mark.parametrize(
    "start", [datetime(2299, 12, 15, tzinfo=UTC), datetime(2295, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)]
)
def test_a_start_at_the_end_of_the_calendar_is_refused(start: datetime) -> None:
    """A period that cannot end cannot be billed."""
    with pytest.raises(InvalidArgument) as refusal:
        agree(replace(SEATS, interval=Interval(Unit.YEAR, 5)), start=start, at=start)
    assert refusal.value.field == "start_time"


@pytest.mark.parametrize("days", [1, 31])
def test_billing_begins_within_the_calendar(days: int) -> None:
    """A trial that ends after it never ends, and the day of what is billed once must be one."""
    start = datetime(2299, 12, 31, tzinfo=UTC)
    with pytest.raises(InvalidArgument) as refusal:
        agree(SETUP, start=start, at=start, trial_days=days)
    assert refusal.value.field == "start_time"
    with pytest.raises(InvalidArgument) as refusal:
        agree(SETUP, start=start, at=start)
    assert refusal.value.field == "start_time"


def test_a_decision_for_the_period_end_waits_for_it() -> None:
    """Until then everything goes on; then the same verb carries it out, at the moment that was decided."""
    decided = agree().cancel_at_period_end(at=JAN_15)
    assert (decided.state, decided.cancel_time, decided.end_time) == (ACTIVE, FEB_1, None)
    ended = decided.cancel(at=FEB_1 + DAY)
    assert (ended.state, ended.cancel_time, ended.end_time) == (CANCELLED, FEB_1, FEB_1)


def test_deciding_again_changes_nothing() -> None:
    """A second call in the next period must not push the end out."""
    decided = agree().cancel_at_period_end(at=JAN_15)
    assert decided.cancel_at_period_end(at=JAN_20) is decided


def test_in_a_trial_the_decision_waits_for_its_end() -> None:
    """That is when the first period would begin, so nothing is billed; and the trial does not end in being active."""
    decided = agree(trial_days=30).cancel_at_period_end(at=JAN_15)
    assert (decided.state, decided.cancel_time) == (TRIALING, JAN_31)
    assert decided.cancel_at_period_end(at=JAN_20) is decided
    # Months counted back from the end of the trial are no periods: nothing happens when they end.
    assert agree(trial_days=45).cancel_at_period_end(at=JAN_10).cancel_time == JAN_1 + 45 * DAY
    with pytest.raises(SubscriptionNotTrialing):
        decided.end_trial(at=JAN_31)
    ended = decided.cancel(at=FEB_1)
    assert (ended.state, ended.end_time, ended.served) == (CANCELLED, JAN_31, ())


def test_a_trial_that_is_over_unnoticed_has_a_period_under_way() -> None:
    """The job may be late; the month that is billed is served, and the trial ended before the subscription does."""
    late = agree(trial_days=30).cancel_at_period_end(at=FEB_1)
    assert (late.state, late.cancel_time) == (TRIALING, datetime(2026, 2, 28, tzinfo=UTC))
    assert late.end_trial(at=FEB_1 + 60 * DAY).state is ACTIVE


def test_the_decision_waits_for_a_period_of_what_has_periods() -> None:
    """What is billed once has none; where nothing else is billed, there is nothing to wait for."""
    assert agree(SETUP, SEATS).cancel_at_period_end(at=JAN_15).cancel_time == FEB_1
    ended = agree(SETUP).cancel_at_period_end(at=JAN_15)
    assert (ended.state, ended.end_time) == (CANCELLED, JAN_15)


def test_a_decision_can_be_hastened() -> None:
    """Then the later end is no longer told, but what was billed in knowledge of it stays as it was."""
    ended = agree().cancel_at_period_end(at=JAN_15).cancel(at=JAN_20)
    assert (ended.state, ended.cancel_time, ended.end_time) == (CANCELLED, None, JAN_20)
    assert ended.notice == Notice(JAN_15, FEB_1)


def test_at_a_boundary_the_period_under_way_is_the_one_that_begins() -> None:
    """It has begun and was billed, so it is served."""
    assert agree().cancel_at_period_end(at=FEB_1).cancel_time == datetime(2026, 3, 1, tzinfo=UTC)


def test_nothing_is_paused_or_resumed_after_the_end_that_was_decided() -> None:
    """The job that ends it may be late; the end is not."""
    decided = agree().cancel_at_period_end(at=JAN_15)
    with pytest.raises(SubscriptionNotActive):
        decided.pause(at=FEB_1)
    with pytest.raises(SubscriptionNotPaused):
        decided.pause(at=JAN_20).resume(at=FEB_1, past_due=False)


def test_a_start_that_has_come_unnoticed_has_a_period_under_way() -> None:
    """The job that activates may be late too: the customer does not lose the month that was paid."""
    late = agree(start=JAN_10, at=JAN_1).cancel_at_period_end(at=JAN_15)
    assert (late.state, late.cancel_time) == (PENDING, JAN_10 + 31 * DAY)


def test_a_pause_that_took_no_time_has_not_been() -> None:
    """Clocks of sandboxes stand still between two calls."""
    assert agree().pause(at=JAN_10).resume(at=JAN_10, past_due=False).pauses == ()
    assert agree().pause(at=JAN_10).resume(at=JAN_15, past_due=False).pauses == (Pause(JAN_10, JAN_15),)


def test_pauses_never_overlap_whoever_comes_second() -> None:
    """A call takes its time before it waits for its turn: a pause may have been asked for before service resumed."""
    resumed = agree().pause(at=JAN_10).resume(at=JAN_20, past_due=False)
    paused = resumed.pause(at=JAN_15)
    assert paused.pauses == (Pause(JAN_10, JAN_20), Pause(JAN_20, None))
    assert paused.resume(at=JAN_15, past_due=False).pauses == resumed.pauses


def test_no_pause_begins_before_billing_does() -> None:
    """A call that took its time before the trial ended, and its turn after, pauses what has begun by then."""
    paused = agree(trial_days=14).end_trial(at=JAN_15).pause(at=JAN_15 - DAY)
    assert paused.pauses == (Pause(JAN_15, None),)
    assert paused.stretches == (Stretch(JAN_15, JAN_15, False),)


def test_a_trial_is_no_stretch() -> None:
    """It is served and not billed."""
    assert agree(trial_days=14).stretches == (Stretch(JAN_15, None, False),)
    assert agree(trial_days=14).cancel(at=JAN_10).stretches == ()


def test_service_is_given_in_stretches() -> None:
    """From the start or a resumption to a pause or the end."""
    twice = agree().pause(at=JAN_10).resume(at=JAN_15, past_due=False).pause(at=JAN_20)
    assert twice.stretches == (Stretch(JAN_1, JAN_10, False), Stretch(JAN_15, JAN_20, False))
    assert twice.pause_time == JAN_20
    resumed = twice.resume(at=FEB_1, past_due=False)
    assert resumed.stretches[-1] == Stretch(FEB_1, None, False)
    assert resumed.pause_time is None
    assert resumed.cancel(at=FEB_1 + DAY).stretches[-1] == Stretch(FEB_1, FEB_1 + DAY, False)
    assert twice.cancel(at=FEB_1).stretches == twice.stretches


def test_an_end_is_foreseen_only_if_it_was_decided_before() -> None:
    """That alone says whether a period that begins at that instant is billed."""
    decided = agree().cancel_at_period_end(at=JAN_15)
    assert decided.stretches == (Stretch(JAN_1, FEB_1, True),)
    assert decided.cancel(at=FEB_1).stretches == decided.stretches
    assert decided.cancel(at=JAN_20).stretches == (Stretch(JAN_1, JAN_20, False),)
    assert decided.pause(at=JAN_20).stretches == (Stretch(JAN_1, JAN_20, False),)
    assert not decided.stretches[0].reaches(FEB_1)
    assert agree().cancel(at=FEB_1).stretches[0].reaches(FEB_1)


def test_service_in_one_instant_took_no_time() -> None:
    """It may have been billed in advance, but there is nothing to bill afterwards."""
    seam = agree().pause(at=JAN_10).resume(at=JAN_15, past_due=False).pause(at=JAN_15)
    assert seam.stretches == (Stretch(JAN_1, JAN_10, False), Stretch(JAN_15, JAN_15, False))
    assert seam.served == (Stretch(JAN_1, JAN_10, False),)


def test_cancelled_before_the_start_nothing_was_served() -> None:
    """There is nothing to bill either."""
    assert IN[PENDING].cancel(at=JAN_10).stretches == ()


def test_pauses_are_limited() -> None:
    """Everything that is read together has a limit."""
    pauses = tuple(Pause(JAN_1 + n * DAY, JAN_1 + (n + 0.5) * DAY) for n in range(PAUSES_MAX))
    with pytest.raises(TooManyPauses):
        replace(agree(), pauses=pauses).pause(at=JAN_1 + PAUSES_MAX * DAY)
