"""Every state of a payment meets every verb: it moves, or it says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.errors import SaldoError
from common.money import Money
from payments.domain.errors import AttemptSettled, AttemptUnsettled, PaymentNotFailed, PaymentNotRetryable
from payments.domain.payment import (
    ATTEMPTS_MAX,
    DEFERRED_WAITS,
    NO_PAYMENT_METHOD,
    PENDING_WAIT,
    UNKNOWN_WAITS,
    AttemptId,
    AttemptState,
    Missing,
    Payment,
    PaymentAttempt,
    PaymentId,
    State,
)
from payments.domain.payment_method import PaymentMethod, PaymentMethodId

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
FIRST = AttemptId("att_1")
SECOND = AttemptId("att_2")
VISA = PaymentMethod(
    id=PaymentMethodId("pmeth_visa"),
    customer_id="cus_1",
    gateway="simulated",
    token="sim:ok",
    display_name="Visa",
    default=True,
    revision=1,
    create_time=NOON,
)
AMEX = replace(VISA, id=PaymentMethodId("pmeth_amex"))

WANTED = Payment(
    id=PaymentId("pay_1"),
    invoice_id="inv_1",
    customer_id="cus_1",
    amount=Money(6416, "GBP"),
    state=State.PROCESSING,
    attempts=(),
    failure_code="",
    retryable=False,
    collect_time=NOON,
    invoice_settled=False,
    revision=1,
    create_time=NOON,
    update_time=NOON,
)
PENDING = WANTED.begin_attempt(FIRST, VISA, at=NOON, recorded=LATER)
UNKNOWN = PENDING.ask_later(FIRST, at=NOON)
SUCCEEDED = PENDING.succeed(FIRST, gateway_reference="sim_1", at=NOON)
SOFT = PENDING.fail(FIRST, code="insufficient_funds", retryable=True, at=NOON)
HARD = PENDING.fail(FIRST, code="stolen_card", retryable=False, at=NOON)
METHODLESS = WANTED.fail_without_method(at=NOON)
CANCELLED = SOFT.settle_invoice(at=NOON)
UNWANTED = UNKNOWN.settle_invoice(at=NOON)

STATES = {
    "wanted": WANTED,
    "pending": PENDING,
    "unknown": UNKNOWN,
    "succeeded": SUCCEEDED,
    "soft": SOFT,
    "hard": HARD,
    "methodless": METHODLESS,
    "cancelled": CANCELLED,
    "unwanted": UNWANTED,
}
Verb = Callable[[Payment], Payment]
VERBS: dict[str, Verb] = {
    "begin": lambda payment: payment.begin_attempt(SECOND, VISA, at=LATER, recorded=LATER),
    "succeed": lambda payment: payment.succeed(FIRST, gateway_reference="sim_1", at=LATER),
    "fail": lambda payment: payment.fail(FIRST, code="do_not_honor", retryable=True, at=LATER),
    "ask_later": lambda payment: payment.ask_later(FIRST, at=LATER),
    "defer": lambda payment: payment.defer(FIRST, at=LATER),
    "retry": lambda payment: payment.retry(default_method_id=VISA.id, at=LATER),
}
MOVES = {
    ("wanted", "begin"),
    *(
        (state, verb)
        for state in ("pending", "unknown", "unwanted")
        for verb in ("succeed", "fail", "ask_later", "defer")
    ),
    ("soft", "retry"),
    ("methodless", "retry"),
}
REFUSALS: dict[str, type[SaldoError]] = {
    "begin": AttemptUnsettled,
    "succeed": AttemptSettled,
    "fail": AttemptSettled,
    "ask_later": AttemptSettled,
    "defer": AttemptSettled,
    "retry": PaymentNotFailed,
}
ABOUT_AN_ATTEMPT = ("succeed", "fail", "ask_later", "defer")
CASES = [(state, verb) for state in STATES for verb in VERBS if STATES[state].attempts or verb not in ABOUT_AN_ATTEMPT]


@pytest.mark.parametrize(("state", "verb"), CASES)
def test_every_state_meets_every_verb(state: str, verb: str) -> None:
    """It moves, counts the change and says when; or it raises the rule's name and nothing has changed."""
    payment = STATES[state]
    if (state, verb) in MOVES:
        moved = VERBS[verb](payment)
        assert (moved.revision, moved.update_time) == (payment.revision + 1, LATER)
        assert moved.amount == payment.amount
        assert sum(attempt.is_open for attempt in moved.attempts) <= 1
        assert not (moved.is_due and any(attempt.is_open for attempt in moved.attempts))
        return
    with pytest.raises(PaymentNotRetryable if (state, verb) == ("hard", "retry") else REFUSALS[verb]):
        VERBS[verb](payment)


def test_an_attempt_is_recorded_with_a_time_to_ask_after_it() -> None:
    """The process that recorded it may die before it has called anyone; and the payment is no longer due."""
    attempt = PENDING.attempt(FIRST)
    assert (attempt.state, attempt.ask_time) == (AttemptState.PENDING, NOON + PENDING_WAIT)
    assert (attempt.create_time, attempt.record_time) == (NOON, LATER)
    assert not PENDING.is_due


def test_no_attempt_while_one_is_unknown() -> None:
    """It may have captured: a second one could capture again."""
    for payment in (PENDING, UNKNOWN):
        with pytest.raises(AttemptUnsettled):
            payment.begin_attempt(SECOND, VISA, at=LATER, recorded=LATER)


def test_success_and_refusal_are_told() -> None:
    """What is known of the payment is what is known of its last attempt."""
    assert (SUCCEEDED.state, SUCCEEDED.attempt(FIRST).gateway_reference) == (State.SUCCEEDED, "sim_1")
    assert (SOFT.state, SOFT.failure_code, SOFT.retryable) == (State.FAILED, "insufficient_funds", True)
    assert (HARD.failure_code, HARD.retryable) == ("stolen_card", False)
    for payment in (SUCCEEDED, SOFT, HARD):
        attempt = payment.attempt(FIRST)
        assert (attempt.settle_time, attempt.ask_time, attempt.is_open) == (NOON, None, False)


def test_nothing_to_collect_from_can_be_tried_again() -> None:
    """There may be a payment method by then."""
    assert (METHODLESS.failure_code, METHODLESS.retryable) == (NO_PAYMENT_METHOD, True)
    retried = METHODLESS.retry(default_method_id=None, at=LATER)
    assert (retried.state, retried.failure_code, retried.is_due) == (State.PROCESSING, "", True)


def test_a_stolen_card_is_not_tried_again_but_another_is() -> None:
    """The refusal was of the method, not of the customer."""
    with pytest.raises(PaymentNotRetryable):
        HARD.retry(default_method_id=VISA.id, at=LATER)
    assert HARD.retry(default_method_id=AMEX.id, at=LATER).is_due
    assert HARD.retry(default_method_id=None, at=LATER).is_due


def test_the_tries_have_an_end() -> None:
    """A payment that was tried a hundred times will not be tried again."""
    payment = SOFT
    for number in range(2, ATTEMPTS_MAX + 1):
        again = AttemptId(f"att_{number}")
        payment = payment.retry(default_method_id=VISA.id, at=LATER).begin_attempt(
            again, VISA, at=LATER, recorded=LATER
        )
        payment = payment.fail(again, code="insufficient_funds", retryable=True, at=LATER)
    with pytest.raises(PaymentNotRetryable):
        payment.retry(default_method_id=VISA.id, at=LATER)


def test_each_wish_to_collect_has_a_moment_of_its_own() -> None:
    """A sandbox's clock can stand still; two tries at one instant are still two, for whoever watches for loops."""
    again = SOFT.retry(default_method_id=VISA.id, at=NOON)
    third = (
        again.begin_attempt(SECOND, VISA, at=NOON, recorded=LATER)
        .fail(SECOND, code="do_not_honor", retryable=True, at=NOON)
        .retry(default_method_id=VISA.id, at=NOON)
    )
    moments = [WANTED.collect_time, again.collect_time, third.collect_time]
    assert len(set(moments)) == 3
    assert all(moment is not None and moment <= NOON for moment in moments)


def test_the_gateway_is_asked_less_and_less_often() -> None:
    """Soon at first, daily in the end, and never at the same moment twice."""
    payment, at, waits = PENDING, NOON, []
    for _ in range(len(UNKNOWN_WAITS) + 2):
        payment = payment.ask_later(FIRST, at=at)
        ask_time = payment.attempt(FIRST).ask_time
        assert ask_time is not None
        waits.append(ask_time - at)
        at = ask_time
    assert waits == [*UNKNOWN_WAITS, timedelta(days=1), timedelta(days=1)]


def test_a_gateway_that_turns_calls_away_is_called_less_and_less_often() -> None:
    """A key without permission would be tried every minute of a sandbox's month otherwise: 43,200 times in a row."""
    payment, at, waits = PENDING, NOON, []
    for _ in range(len(DEFERRED_WAITS) + 2):
        payment = payment.defer(FIRST, at=at)
        ask_time = payment.attempt(FIRST).ask_time
        assert ask_time is not None
        waits.append(ask_time - at)
        at = ask_time
    assert waits == [*DEFERRED_WAITS, timedelta(hours=1), timedelta(hours=1)]
    assert payment.attempt(FIRST).deferred


def test_a_settled_invoice_is_not_collected() -> None:
    """Whoever paid it: no attempt is made; one under way is followed to its end; what is in stays in."""
    for idle in (WANTED, SOFT, HARD, METHODLESS):
        cancelled = idle.settle_invoice(at=LATER)
        assert (cancelled.state, cancelled.failure_code, cancelled.retryable) == (State.CANCELLED, "", False)
        assert (cancelled.revision, cancelled.is_due) == (idle.revision + 1, False)
        assert cancelled.attempts == idle.attempts
    assert UNWANTED.state is State.PROCESSING
    assert UNWANTED.attempt(FIRST).ask_time is not None
    assert UNWANTED.succeed(FIRST, gateway_reference="sim_1", at=LATER).state is State.SUCCEEDED
    refused = UNWANTED.fail(FIRST, code="do_not_honor", retryable=True, at=LATER)
    assert (refused.state, refused.failure_code) == (State.CANCELLED, "")
    assert refused.attempt(FIRST).failure_code == "do_not_honor"
    for settled in (SUCCEEDED, CANCELLED, UNWANTED):
        assert settled.settle_invoice(at=LATER) is settled


MINUTES_10 = timedelta(minutes=10)
HOURS_24 = timedelta(hours=24)


@pytest.mark.parametrize(
    ("age", "deferred", "wanted", "expected"),
    [
        (timedelta(minutes=1), False, True, Missing.WAIT),
        (timedelta(minutes=1), True, True, Missing.CALL_AGAIN),
        (MINUTES_10 - timedelta(seconds=1), False, True, Missing.WAIT),
        (MINUTES_10, False, True, Missing.CALL_AGAIN),
        (MINUTES_10, False, False, Missing.WAIT),
        (MINUTES_10, True, False, Missing.WAIT),
        (HOURS_24 - timedelta(seconds=1), False, True, Missing.CALL_AGAIN),
        (HOURS_24, False, True, Missing.WAIT),
        (HOURS_24, True, True, Missing.WAIT),
        (HOURS_24 + MINUTES_10, False, True, Missing.GIVE_UP),
        (HOURS_24 + MINUTES_10, True, False, Missing.GIVE_UP),
    ],
)
def test_what_to_do_about_an_attempt_the_gateway_does_not_know(
    age: timedelta, deferred: bool, wanted: bool, expected: Missing
) -> None:
    """Too early it may be at work; within the key's life the same call is safe; after it nothing can have happened."""
    attempt: PaymentAttempt = replace(UNKNOWN.attempt(FIRST), deferred=deferred)
    found = attempt.missing(age=age, processing_max=MINUTES_10, key_lifetime=HOURS_24, wanted=wanted)
    assert found is expected


def test_what_was_never_looked_at_is_deferred_and_what_may_have_been_is_not() -> None:
    """Only an attempt whose every call was turned away may be called again before the gateway's time is up."""
    deferred = PENDING.defer(FIRST, at=NOON).attempt(FIRST)
    assert (deferred.state, deferred.deferred, deferred.ask_time) == (AttemptState.PENDING, True, NOON + PENDING_WAIT)
    assert not UNKNOWN.defer(FIRST, at=NOON).attempt(FIRST).deferred
    assert not PENDING.defer(FIRST, at=NOON).ask_later(FIRST, at=NOON).attempt(FIRST).deferred


def test_less_is_wanted_when_less_is_owed() -> None:
    """Of the next attempt: one that is under way is captured as it was begun, and then that is what came in."""
    less = Money(5_00, WANTED.amount.currency)
    for payment in (WANTED, SOFT, HARD, METHODLESS):
        assert payment.want_less(less, at=LATER).amount == less
        assert payment.want_less(payment.amount, at=LATER) is payment
    for settled in (SUCCEEDED, CANCELLED, UNWANTED):
        assert settled.want_less(less, at=LATER) is settled
    under_way = UNKNOWN.want_less(less, at=LATER)
    assert (under_way.amount, under_way.attempt(FIRST).amount) == (less, UNKNOWN.amount)
    assert under_way.succeed(FIRST, gateway_reference="sim_1", at=LATER).amount == UNKNOWN.amount
    assert under_way.fail(FIRST, code="do_not_honor", retryable=True, at=LATER).amount == less


def test_what_came_in_otherwise_is_not_collected_again() -> None:
    """A part leaves the rest to be collected, the whole leaves nothing; what is in, or over, stays as it is."""
    partly = WANTED.came_in_otherwise(Money(16, "GBP"), at=LATER)
    assert (partly.amount, partly.state, partly.collect_time) == (Money(6400, "GBP"), State.PROCESSING, NOON)
    for whole in (6416, 7000):
        over = WANTED.came_in_otherwise(Money(whole, "GBP"), at=LATER)
        assert (over.state, over.collect_time, over.invoice_settled) == (State.CANCELLED, None, True)
    failed = WANTED.fail_without_method(at=NOON).came_in_otherwise(Money(16, "GBP"), at=LATER)
    assert (failed.state, failed.amount) == (State.FAILED, Money(6400, "GBP"))
    begun = WANTED.begin_attempt(FIRST, VISA, at=NOON, recorded=NOON)
    collected = begun.succeed(FIRST, gateway_reference="sim_1", at=NOON)
    assert collected.came_in_otherwise(Money(16, "GBP"), at=LATER) is collected
    settled = WANTED.settle_invoice(at=NOON)
    assert settled.came_in_otherwise(Money(16, "GBP"), at=LATER) is settled


def test_nothing_is_taken_in_beside_an_attempt_without_an_outcome() -> None:
    """It may bring in the same money: until that is known, nobody can say what is left."""
    begun = WANTED.begin_attempt(FIRST, VISA, at=NOON, recorded=NOON)
    for unsettled in (begun, begun.ask_later(FIRST, at=NOON), begun.settle_invoice(at=NOON)):
        with pytest.raises(AttemptUnsettled):
            unsettled.came_in_otherwise(Money(16, "GBP"), at=LATER)
    refused = begun.fail(FIRST, code="declined", retryable=True, at=NOON)
    assert refused.came_in_otherwise(Money(16, "GBP"), at=LATER).amount == Money(6400, "GBP")
