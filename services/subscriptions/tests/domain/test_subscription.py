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
JAN_10, JAN_15, JAN_20 = (JAN_1 + timedelta(days=days) for days in (9, 14, 19))
DAY = timedelta(days=1)

PENDING, ACTIVE, PAST_DUE, PAUSED, CANCELLED = (
    State.PENDING,
    State.ACTIVE,
    State.PAST_DUE,
    State.PAUSED,
    State.CANCELLED,
)


def agree(*, start: datetime = JAN_1, at: datetime = JAN_1, interval: Interval | None = None) -> Subscription:
    seats = Item(
        id=ItemId("seats"),
        price_id=PriceId("price"),
        interval=interval or Interval(Unit.MONTH, 1),
        timing=BillingTiming.IN_ADVANCE,
        meter="",
        quantity=Decimal(1),
    )
    return Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=(seats,),
        currency="EUR",
        time_zone="UTC",
        start_time=start,
        billing_day=0,
        at=at,
    )


IN = {
    PENDING: agree(start=JAN_20),
    ACTIVE: agree(),
    PAST_DUE: agree().mark_past_due(at=JAN_1),
    PAUSED: agree().pause(at=JAN_10),
    CANCELLED: agree().cancel(at=JAN_10),
}
"""One subscription in every state."""

VERBS: dict[str, Callable[[Subscription], Subscription]] = {
    "activate": lambda subscription: subscription.activate(at=JAN_15),
    "mark_past_due": lambda subscription: subscription.mark_past_due(at=JAN_15),
    "recover": lambda subscription: subscription.recover(at=JAN_15),
    "pause": lambda subscription: subscription.pause(at=JAN_15),
    "resume": lambda subscription: subscription.resume(at=JAN_15, past_due=False),
    "resume past due": lambda subscription: subscription.resume(at=JAN_15, past_due=True),
    "cancel": lambda subscription: subscription.cancel(at=JAN_15),
    "cancel at period end": lambda subscription: subscription.cancel_at_period_end(at=JAN_15),
}
NOT_PENDING, NOT_ACTIVE, NOT_PAST_DUE, NOT_PAUSED, OVER = (
    SubscriptionNotPending,
    SubscriptionNotActive,
    SubscriptionNotPastDue,
    SubscriptionNotPaused,
    SubscriptionCancelled,
)
#                         PENDING       ACTIVE        PAST_DUE      PAUSED        CANCELLED
MATRIX: dict[str, tuple[State | type[SaldoError], ...]] = {
    "activate":             (ACTIVE,       NOT_PENDING,  NOT_PENDING,  NOT_PENDING,  NOT_PENDING),
    "mark_past_due":        (NOT_ACTIVE,   PAST_DUE,     NOT_ACTIVE,   NOT_ACTIVE,   NOT_ACTIVE),
    "recover":              (NOT_PAST_DUE, NOT_PAST_DUE, ACTIVE,       NOT_PAST_DUE, NOT_PAST_DUE),
    "pause":                (NOT_ACTIVE,   PAUSED,       PAUSED,       NOT_ACTIVE,   NOT_ACTIVE),
    "resume":               (NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   ACTIVE,       NOT_PAUSED),
    "resume past due":      (NOT_PAUSED,   NOT_PAUSED,   NOT_PAUSED,   PAST_DUE,     NOT_PAUSED),
    "cancel":               (CANCELLED,    CANCELLED,    CANCELLED,    CANCELLED,    OVER),
    "cancel at period end": (CANCELLED,    ACTIVE,       PAST_DUE,     PAUSED,       OVER),
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


@pytest.mark.parametrize(
    "start", [datetime(2299, 12, 15, tzinfo=UTC), datetime(2295, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)]
)
def test_a_start_at_the_end_of_the_calendar_is_refused(start: datetime) -> None:
    """A period that cannot end cannot be billed."""
    with pytest.raises(InvalidArgument) as refusal:
        agree(start=start, at=start, interval=Interval(Unit.YEAR, 5))
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
