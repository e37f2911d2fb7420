"""The life of a campaign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from dunning.domain.campaign import (
    DAY,
    NEW_PAYMENT_METHODS_MAX,
    POSTPONEMENTS_MAX,
    Action,
    Campaign,
    CampaignId,
    OverdueInvoice,
    PaymentState,
    Refusal,
    State,
)
from dunning.domain.errors import DunningCampaignOver, StepOutOfTurn
from dunning.domain.policy import DEFAULT_TERMS, FinalAction, Policy, PolicyId, Terms

START = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)
LATE = START + timedelta(days=100)
INVOICE = OverdueInvoice(
    invoice_id="inv_1", customer_id="cus_1", subscription_ids=("sub_1", "sub_2"), amount=Money(9900, "EUR")
)


def policy(*waits: int, final: int = 3, action: FinalAction = FinalAction.CANCEL_SUBSCRIPTION) -> Policy:
    terms = Terms(display_name="Firm", retry_wait_days=waits, final_wait_days=final, final_action=action)
    return Policy(id=PolicyId("dpol_1"), terms=terms, revision=1, create_time=START)


def campaign(*waits: int, final: int = 3, action: FinalAction = FinalAction.CANCEL_SUBSCRIPTION) -> Campaign:
    return Campaign.start(
        INVOICE, policy(*waits, final=final, action=action), campaign_id=CampaignId("dcam_1"), at=START
    )


def take_next(current: Campaign, at: datetime) -> Campaign:
    """The next step, as it goes when nothing comes in."""
    return current.retry(at=at) if current.wants_retry else current.give_up(at=at)


BEFORE_RETRY = campaign(1)
BEFORE_GIVING_UP = BEFORE_RETRY.retry(at=START + DAY)
RECOVERED = BEFORE_RETRY.recover(at=LATE)
EXHAUSTED = BEFORE_GIVING_UP.give_up(at=LATE)
CANCELLED = replace(EXHAUSTED, state=State.CANCELLED)

VERBS: dict[str, Callable[[Campaign], Campaign]] = {
    "retry": lambda current: current.retry(at=LATE),
    "skip_retry": lambda current: current.skip_retry(Refusal.PAYMENT_NOT_FAILED, at=LATE),
    "try_new_payment_method": lambda current: current.try_new_payment_method(at=LATE),
    "postpone": lambda current: current.postpone(PaymentState.PROCESSING, at=LATE),
    "give_up": lambda current: current.give_up(at=LATE),
    "recover": lambda current: current.recover(at=LATE),
}
STAGES = {
    "before_retry": BEFORE_RETRY,
    "before_giving_up": BEFORE_GIVING_UP,
    "recovered": RECOVERED,
    "exhausted": EXHAUSTED,
    "cancelled": CANCELLED,
}
MOVES = {
    ("before_retry", "retry"): State.ACTIVE,
    ("before_retry", "skip_retry"): State.ACTIVE,
    ("before_retry", "try_new_payment_method"): State.ACTIVE,
    ("before_retry", "recover"): State.RECOVERED,
    ("before_giving_up", "try_new_payment_method"): State.ACTIVE,
    ("before_giving_up", "postpone"): State.ACTIVE,
    ("before_giving_up", "give_up"): State.EXHAUSTED,
    ("before_giving_up", "recover"): State.RECOVERED,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_verb_moves_or_says_why_not(stage: str, verb: str) -> None:
    """Two workers that disagree about a campaign must not both have their way."""
    before = STAGES[stage]
    expected = MOVES.get((stage, verb))
    if expected is None:
        with pytest.raises(DunningCampaignOver if before.is_over else StepOutOfTurn):
            VERBS[verb](before)
        return
    after = VERBS[verb](before)
    assert after.state is expected
    assert after.revision == before.revision + 1
    assert after.is_over == (after.next_step_time is None) == (after.end_time is not None)
    assert after.steps[: len(before.steps)] == before.steps


def test_each_wait_is_counted_from_the_step_before() -> None:
    """A day is 24 hours; a retry that was held up by an outage does not bring the next one closer."""
    first = campaign(1, 3)
    assert first.next_step_time == START + DAY
    late = START + 2 * DAY
    second = first.retry(at=late)
    assert second.next_step_time == late + 3 * DAY
    third = second.skip_retry(Refusal.PAYMENT_NOT_RETRYABLE, at=late + 3 * DAY)
    assert third.next_step_time == late + 6 * DAY
    assert not third.wants_retry


def test_a_policy_without_retries_only_waits() -> None:
    """For sellers whose customers pay by hand."""
    assert not campaign(final=10).wants_retry
    assert campaign(final=10).next_step_time == START + 10 * DAY


def test_giving_up_is_put_off_day_by_day_while_the_money_may_come() -> None:
    """Nobody is cut off who has paid; and nothing is waited for without end, nor cut off then."""
    waiting = campaign()
    for day in range(1, POSTPONEMENTS_MAX + 1):
        at = LATE + day * DAY
        waiting = waiting.postpone(PaymentState.PROCESSING, at=at)
        assert (waiting.state, waiting.next_step_time) == (State.ACTIVE, at + DAY)
    over = waiting.postpone(PaymentState.PROCESSING, at=LATE + 99 * DAY)
    assert (over.state, over.next_step_time, over.end_time) == (State.CANCELLED, None, LATE + 99 * DAY)
    assert {step.action for step in over.steps} == {Action.POSTPONE}


def test_giving_up_may_still_happen_after_a_postponement() -> None:
    """The payment that was under way has failed after all."""
    assert campaign().postpone(PaymentState.PROCESSING, at=LATE).give_up(at=LATE + DAY).state is State.EXHAUSTED


@pytest.mark.parametrize(
    ("action", "note"),
    [
        (FinalAction.NONE, "no action is taken"),
        (FinalAction.PAUSE_SUBSCRIPTION, "2 subscriptions paused"),
        (FinalAction.CANCEL_SUBSCRIPTION, "2 subscriptions cancelled"),
    ],
)
def test_the_last_step_says_what_was_done(action: FinalAction, note: str) -> None:
    """Somebody will call and ask."""
    assert campaign(action=action).give_up(at=LATE).steps[-1].note == note


def test_money_may_be_in_unless_payments_is_sure_it_is_not() -> None:
    """PROCESSING covers the attempt whose answer was lost, CANCELLED the invoice that was settled otherwise."""
    assert [state for state in PaymentState if state.may_bring_money] == [
        PaymentState.PROCESSING,
        PaymentState.SUCCEEDED,
        PaymentState.CANCELLED,
    ]


def test_a_new_payment_method_brings_the_next_retry_forward() -> None:
    """It takes the turn that was next, and the one after waits its days from then."""
    heard = campaign(5, 3).try_new_payment_method(at=START + DAY)
    assert heard.wants_retry
    assert heard.is_due(START + DAY)
    retried = heard.retry(at=START + DAY)
    assert (retried.retry_count, retried.next_step_time) == (1, START + 4 * DAY)
    assert [step.action for step in retried.steps] == [Action.NEW_PAYMENT_METHOD, Action.RETRY_PAYMENT]


def test_a_new_payment_method_after_the_last_retry_is_tried_before_anyone_is_given_up() -> None:
    """Who heeds the last warning has heeded it; and if that card is declined too, the final wait begins anew."""
    heard = BEFORE_GIVING_UP.try_new_payment_method(at=LATE)
    assert heard.wants_retry
    declined = heard.retry(at=LATE)
    assert not declined.wants_retry
    assert declined.next_step_time == LATE + 3 * DAY
    assert declined.give_up(at=LATE + 3 * DAY).state is State.EXHAUSTED


def test_new_payment_methods_do_not_put_the_end_off_for_ever() -> None:
    """One bad card a day would."""
    current = BEFORE_GIVING_UP
    for day in range(NEW_PAYMENT_METHODS_MAX):
        at = LATE + day * DAY
        current = current.try_new_payment_method(at=at).retry(at=at)
    assert current.try_new_payment_method(at=LATE + 99 * DAY) is current
    assert not current.wants_retry


def test_by_default_nobody_is_cut_off() -> None:
    """A seller who never thought about dunning must not lose customers to it."""
    assert DEFAULT_TERMS.retry_wait_days == (1, 3, 5, 7)
    assert DEFAULT_TERMS.final_action is FinalAction.NONE


@given(st.lists(st.integers(0, 365), max_size=20), st.integers(1, 365))
def test_a_campaign_ends_after_its_retries(waits: list[int], final: int) -> None:
    """Always: as many retries as the policy says, in the order of time, then the end."""
    current = campaign(*waits, final=final)
    for _ in range(len(waits) + 1):
        assert current.next_step_time is not None
        current = take_next(current, current.next_step_time)
    assert current.state is State.EXHAUSTED
    assert current.retry_count == len(waits)
    assert current.end_time == START + (sum(waits) + final) * DAY
    times = [step.time for step in current.steps]
    assert times == sorted(times)


def test_the_retry_that_brought_the_money_in_is_told_although_it_came_second() -> None:
    """The payment may succeed before the retry is recorded: the campaign stays recovered, and its history is whole."""
    told = RECOVERED.with_retry_that_recovered(BEFORE_RETRY, at=LATE)
    assert [step.action for step in told.steps] == [Action.RETRY_PAYMENT]
    assert replace(told, steps=(), revision=RECOVERED.revision) == RECOVERED
    assert told.with_retry_that_recovered(BEFORE_RETRY, at=LATE) == told
    assert EXHAUSTED.with_retry_that_recovered(BEFORE_GIVING_UP, at=LATE) == EXHAUSTED


def test_a_campaign_is_called_off_at_any_time() -> None:
    """The invoice should not have been, or nobody hopes for the money: that is no recovery, and nobody is cut off."""
    off = BEFORE_GIVING_UP.call_off(at=LATE)
    assert (off.state, off.next_step_time, off.end_time) == (State.CANCELLED, None, LATE)
    for over in (RECOVERED, EXHAUSTED, off):
        with pytest.raises(DunningCampaignOver):
            over.call_off(at=LATE)
