"""In which stretches of time a least amount is to be spent."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common.money import Money
from common.period import EARLIEST
from services.subscriptions.tests.agreed import (
    AT_PERIOD_END,
    CREDIT,
    YEARLY,
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
from subscriptions.domain.change import Commitment, SetBillingDay, SetCommitment
from subscriptions.domain.commitments import CommittedPeriod, committed_periods, next_true_up
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.timeline import Activation, TrialEnd

Told = tuple[str, str, str, Fraction, int]
WHOLE = Fraction(1)


def commit(
    subscription: Subscription, minimum: int | None, *, on: str, months: int = 1, effective: str | None = None
) -> Subscription:
    commitment = None if minimum is None else Commitment(minimum=Money(minimum, "EUR"), months=months)
    decision = CREDIT if effective is None else scheduled(effective)
    return change(subscription, SetCommitment(commitment), on=on, decision=decision)


def found(subscription: Subscription, *, through: str) -> list[Told]:
    """When it is settled, from when to when, which share of the whole, and how much for the whole."""
    return [_told(each) for each in committed_periods([subscription], after=EARLIEST, through=at(through))]


def _told(each: CommittedPeriod) -> Told:
    billed, start, end = (time.strftime("%m-%d") for time in (each.bill_time, each.period.start, each.period.end))
    return billed, start, end, each.proration, each.minimum.minor


def test_a_commitment_is_settled_when_its_period_is_over() -> None:
    """A quarter after the other, from the start on."""
    committed = commit(agree(), 300, on="01-01", months=3)
    assert found(committed, through="07-01") == [
        ("04-01", "01-01", "04-01", WHOLE, 300),
        ("07-01", "04-01", "07-01", WHOLE, 300),
    ]


def test_the_next_one_is_foreseen_until_it_is_over() -> None:
    """Also between the bill times of items; nothing after the end, nor for somebody else."""
    committed = commit(agree(), 300, on="01-01", months=3)
    mine, others = committed.opening.customer_id, CustomerId("cus_other")
    assert next_true_up([committed], mine, after=at("01-15")) == at("04-01")
    assert next_true_up([committed], mine, after=at("04-01")) == at("07-01")
    assert next_true_up([committed], others, after=at("01-15")) is None
    ended = cancelled(committed, on="02-10", decision=CREDIT)
    assert next_true_up([ended], mine, after=at("01-15")) == at("02-10")
    assert next_true_up([ended], mine, after=at("02-10")) is None
    assert next_true_up([agree()], mine, after=at("01-15")) is None


def test_a_change_in_mid_period_leaves_a_part_of_each() -> None:
    """100 a month until 11 January, 200 from then on: 10/31 and 21/31, settled with the month."""
    committed = commit(commit(agree(), 100, on="01-01"), 200, on="01-11")
    assert found(committed, through="03-01") == [
        ("02-01", "01-01", "01-11", Fraction(10, 31), 100),
        ("02-01", "01-11", "02-01", Fraction(21, 31), 200),
        ("03-01", "02-01", "03-01", WHOLE, 200),
    ]


def test_a_commitment_that_is_dropped_binds_until_then() -> None:
    """And nothing comes after it."""
    committed = commit(commit(agree(), 100, on="01-01"), None, on="01-20", effective="02-01")
    assert found(committed, through="12-31") == [("02-01", "01-01", "02-01", WHOLE, 100)]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (cancelled(commit(agree(), 100, on="01-01"), on="01-11"), ("01-11", "01-01", "01-11", Fraction(10, 31), 100)),
        (
            cancelled(commit(agree(), 100, on="01-01"), on="01-11", decision=AT_PERIOD_END),
            ("02-01", "01-01", "02-01", WHOLE, 100),
        ),
    ],
)
def test_an_end_settles_what_was_committed(ended: Subscription, expected: Told) -> None:
    """For the time until then, at once."""
    assert found(ended, through="12-31") == [expected]


def test_in_a_trial_nothing_is_committed() -> None:
    """It counts from where billing begins; an end in the trial leaves nothing."""
    committed = commit(agree(trial_days=14), 100, on="01-01")
    assert found(committed, through="02-15") == [("02-15", "01-15", "02-15", WHOLE, 100)]
    assert found(cancelled(committed, on="01-10"), through="12-31") == []


def test_what_has_not_begun_binds_nobody() -> None:
    """Neither before somebody activates it, nor while the end of its trial is in doubt."""
    waiting = commit(agree(activation=Activation.ON_FIRST_PAYMENT, deadline="02-01"), 100, on="01-01")
    assert found(waiting, through="12-31") == []
    paid = verbs.activate(waiting, change_id=next_change(waiting), at=at("01-11"))
    assert found(paid, through="02-01") == [("02-01", "01-11", "02-01", Fraction(21, 31), 100)]
    doubtful = commit(agree(trial_days=14, trial_end=TrialEnd.PAUSE), 100, on="01-01")
    assert found(doubtful, through="12-31") == []
    again = resumed(paused(doubtful, on="01-15"), on="01-25")
    assert found(again, through="02-15") == [("02-15", "01-25", "02-15", Fraction(21, 31), 100)]


def test_a_commitment_follows_the_billing_day_and_leaves_the_past_as_it_was() -> None:
    """Moved to the 11th on 1 March: February was settled, 1 to 11 March is 10 of the 28 days from 11 February."""
    committed = commit(agree(), 100, on="01-01")
    moved = change(committed, SetBillingDay(11), on="2026-03-01T00:00:01")
    assert found(moved, through="04-11") == [
        ("02-01", "01-01", "02-01", WHOLE, 100),
        ("03-01", "02-01", "03-01", WHOLE, 100),
        ("03-01", "03-01", "03-01", Fraction(0), 100),
        ("03-11", "03-01", "03-11", Fraction(10, 28), 100),
        ("04-11", "03-11", "04-11", WHOLE, 100),
    ]


def test_each_customer_keeps_to_the_commitment_for_their_time() -> None:
    """Transferred on 11 January: 10/31 and 21/31 of the minimum."""
    committed = commit(agree(), 100, on="01-01")
    moved = verbs.transfer(committed, CustomerId("bob"), change_id=next_change(committed), at=at("01-11"))
    told = committed_periods([moved], after=EARLIEST, through=at("02-01"))
    assert [each.customer_id for each in told] == ["ada", "bob"]
    assert [each.proration for each in told] == [Fraction(10, 31), Fraction(21, 31)]


def test_an_end_and_a_new_beginning_leave_time_without_commitment() -> None:
    """Ended on the 11th, settled then; again from the 20th on, by its own months."""
    ended = cancelled(commit(agree(), 100, on="01-01"), on="01-11")
    assert found(reactivated(ended, on="01-20"), through="02-20") == [
        ("01-11", "01-01", "01-11", Fraction(10, 31), 100),
        ("02-20", "01-20", "02-20", WHOLE, 100),
    ]


def test_a_commitment_for_the_past_is_due_when_it_is_agreed() -> None:
    """In a year under way, from 1 January on, agreed on 10 March: two months are due then."""
    yearly = commit(agree(terms(interval=YEARLY)), 100, on="03-10", effective="01-01")
    assert found(yearly, through="04-01") == [
        ("03-10", "01-01", "02-01", WHOLE, 100),
        ("03-10", "02-01", "03-01", WHOLE, 100),
        ("04-01", "03-01", "04-01", WHOLE, 100),
    ]


def test_without_a_commitment_there_is_none() -> None:
    """Nor is one after it was taken away where it began."""
    assert found(agree(), through="12-31") == []
    assert agree().commitments_at(at("01-05")) is None
    committed = commit(agree(), 100, on="01-05")
    assert committed.commitments_at(at("01-04")) is None
    assert committed.commitments_at(at("01-05")) == (at("01-05"), Commitment(minimum=Money(100, "EUR"), months=1))


def test_the_window_is_of_bill_times_and_closed() -> None:
    """Two subscriptions, in order of when they are settled."""
    early, late = commit(agree(start="01-10", name="b"), 1, on="01-10"), commit(agree(name="a"), 2, on="01-01")
    told = committed_periods([early, late], after=at("02-01"), through=at("02-10"))
    assert [(each.subscription_id, each.bill_time) for each in told] == [("a", at("02-01")), ("b", at("02-10"))]
