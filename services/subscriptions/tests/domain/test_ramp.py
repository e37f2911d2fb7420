"""Steps of a ramp: counted from the beginning of billing, wherever that moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import count

import pytest

from services.subscriptions.tests.agreed import (
    ADVANCE,
    MONTHLY,
    YEARLY,
    agree,
    at,
    cancelled,
    change,
    ledger,
    next_change,
    scheduled,
    terms,
)
from subscriptions.domain import errors, verbs
from subscriptions.domain.change import Change, RemoveItem, SetQuantity, Unused
from subscriptions.domain.ramp import step_time, with_ramp
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import NO_CHANGE, ChangeId, ItemId
from subscriptions.domain.timeline import Activation

SEATS = ItemId("item-0")
NUMBERS = count(1)


def new_id() -> ChangeId:
    return ChangeId(f"step-{next(NUMBERS)}")


def ramped(subscription: Subscription, steps: dict[int, int]) -> Subscription:
    """With a quantity of the first item after each of so many months."""
    planned = [
        Change(
            id=new_id(),
            recorded_time=subscription.opening.recorded_time,
            effective_time=step_time(subscription, months),
            actions=(SetQuantity(SEATS, Decimal(quantity)),),
            proration=subscription.opening.proration,
            unused=Unused.CREDIT,
            decided_with=NO_CHANGE,
            after_months=months,
        )
        for months, quantity in steps.items()
    ]
    return replace(subscription, changes=(*subscription.changes, *planned))


def by_hand(*, trial_days: int = 0) -> Subscription:
    """Planned for January, to be activated by the tenth of February, and the steps of its ramp."""
    waiting = agree(
        terms("seats"), known="2025-12-01", activation=Activation.BY_HAND, deadline="02-10", trial_days=trial_days
    )
    return ramped(waiting, {1: 5, 3: 10})


def activated(subscription: Subscription, on: str) -> Subscription:
    return follows(verbs.activate(subscription, change_id=next_change(subscription), at=at(on)), on)


def moved_trial(subscription: Subscription, to: str, *, on: str) -> Subscription:
    moved = verbs.move_trial_end(subscription, at(to), change_id=next_change(subscription), at=at(on))
    return follows(moved, on)


def follows(subscription: Subscription, on: str) -> Subscription:
    return with_ramp(subscription, decided_with=subscription.changes[-1].id, new_id=new_id, at=at(on))


def steps(subscription: Subscription) -> list[datetime]:
    return [change.effective_time for change in subscription.standing if change.after_months is not None]


@pytest.mark.parametrize(
    ("on", "first", "second"),
    [("2025-12-20", "01-20", "03-20"), ("01-01", "02-01", "04-01"), ("02-08", "03-08", "05-08")],
)
def test_a_ramp_begins_with_the_activation_by_hand(on: str, first: str, second: str) -> None:
    """Earlier than planned, as planned, or later than the first step was to be: as many months of each quantity."""
    begun = activated(by_hand(), on)
    assert steps(begun) == [at(first), at(second)]
    rows = ledger(begun, through=second)
    assert [row[3] for row in rows] == [1, 5, 5, 10]
    assert {row[6] for row in rows} == {Fraction(1)}


def test_no_step_comes_while_it_waits_to_be_activated() -> None:
    """Nobody is served: it is planned as if that began at the last moment at which it can."""
    waiting = by_hand()
    assert steps(waiting) == [at("03-10"), at("05-10")]
    assert steps(by_hand(trial_days=5)) == [at("03-15"), at("05-15")]
    assert waiting.as_of(at("02-09")).items[SEATS].quantity == 1
    assert ledger(waiting, through="12-31") == []


def test_a_ramp_follows_the_end_of_the_trial() -> None:
    """Longer, or shorter; and what is known about it at each moment is what was planned then."""
    trialing = ramped(agree(terms("seats"), trial_days=31), {1: 5, 2: 10})
    assert steps(trialing) == [at("03-01"), at("04-01")]
    longer = moved_trial(trialing, "02-15", on="01-10")
    assert steps(longer) == [at("03-15"), at("04-15")]
    shorter = moved_trial(longer, "01-20", on="01-20")
    assert steps(shorter) == [at("02-20"), at("03-20")]
    assert [row[3:5] for row in ledger(shorter, through="03-20")] == [(1, "01-20"), (5, "02-20"), (10, "03-20")]
    then = shorter.as_known(at("01-15"))
    assert then is not None
    assert steps(then) == steps(longer)


def test_what_moves_with_the_beginning_was_known_with_it() -> None:
    """A year in advance is billed up to the step: what moved with the activation was not decided after it."""
    waiting = agree(terms("seats", interval=YEARLY), activation=Activation.BY_HAND, deadline="02-10")
    begun = activated(ramped(waiting, {3: 5}), "01-15")
    assert [row[:6] for row in ledger(begun, through="06-01")] == [
        ("01-15", "OWED", "seats", 1, "01-15", "04-15"),
        ("04-15", "OWED", "seats", 5, "04-15", "01-15"),
    ]


def test_a_beginning_that_stays_moves_no_step() -> None:
    """A first payment bills from the start that was agreed; nothing is taken back to be said again."""
    waiting = agree(terms("seats"), activation=Activation.ON_FIRST_PAYMENT, deadline="03-10")
    planned = ramped(waiting, {1: 5})
    begun = activated(planned, "02-20")
    assert steps(begun) == [at("02-01")]
    assert begun.changes[0] == planned.changes[0]


def test_a_step_that_was_taken_back_or_was_decided_later_does_not_move() -> None:
    """What somebody revoked is gone, and a change at a time is one at that time."""
    trialing = ramped(agree(terms("seats"), trial_days=31), {1: 5, 2: 10})
    first, second = trialing.changes
    trialing = verbs.revoke(trialing, second.id, at=at("01-05"))
    trialing = change(trialing, SetQuantity(SEATS, Decimal(7)), on="01-06", decision=scheduled("05-01"))
    moved = moved_trial(trialing, "02-15", on="01-10")
    assert [each.effective_time for each in moved.scheduled(at("01-10"))] == [at("03-15"), at("05-01")]
    assert {each.id for each in moved.changes if each.revoked_time} == {first.id, second.id}


def test_a_step_that_could_not_be_taken_refuses_the_move() -> None:
    """The item is to go before the step would come: whoever moves the trial hears of it."""
    two = agree(terms("seats"), terms("support", timing=ADVANCE, interval=MONTHLY), trial_days=31)
    leaving = change(ramped(two, {1: 5}), RemoveItem(SEATS), on="01-05", decision=scheduled("03-05"))
    with pytest.raises(errors.ChangeConflicts):
        moved_trial(leaving, "02-15", on="01-10")


def test_a_step_beyond_the_end_comes_again_with_the_revocation_of_the_end() -> None:
    """Whether the cancellation took it back, or the trial that was extended afterwards."""
    trialing = ramped(agree(terms("seats"), trial_days=31), {1: 5, 2: 10})
    ending = cancelled(trialing, on="01-05", decision=scheduled("03-10"))
    assert steps(ending) == [at("03-01")]
    longer = moved_trial(ending, "02-15", on="01-10")
    assert steps(longer) == []
    going_on = verbs.revoke_cancellation(longer, new_id=new_id, at=at("01-12"))
    assert sorted(steps(going_on)) == [at("03-15"), at("04-15")]
    assert [row[3:5] for row in ledger(going_on, through="04-15")] == [(1, "02-15"), (5, "03-15"), (10, "04-15")]


def test_a_step_whose_time_has_passed_meanwhile_comes_with_the_revocation() -> None:
    """The trial was cut short under a cancellation that had taken the step back: by now it would be in effect."""
    trialing = ramped(agree(terms("seats"), trial_days=59), {1: 5})
    ending = cancelled(trialing, on="01-05", decision=scheduled("03-20"))
    begun = moved_trial(ending, "01-10", on="01-10")
    assert steps(begun) == []
    going_on = verbs.revoke_cancellation(begun, new_id=new_id, at=at("02-20"))
    assert steps(going_on) == [at("02-20")]
    assert going_on.as_of(at("02-20")).items[SEATS].quantity == 5
