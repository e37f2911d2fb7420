"""Pauses: what is taken up again, and what a period's end is while nothing is billed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    DAILY,
    agree,
    at,
    cancelled,
    change,
    ledger,
    next_change,
    paused,
    resumed,
    terms,
)
from subscriptions.domain import errors, verbs
from subscriptions.domain.change import SetQuantity
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId
from subscriptions.domain.timeline import Activation, TrialEnd


def resumed_in_part(
    subscription: Subscription, *, on: str, service: bool = False, billing: bool = False
) -> Subscription:
    return verbs.resume(subscription, change_id=next_change(subscription), at=at(on), service=service, billing=billing)


def billing_goes_on(subscription: Subscription, on: str) -> bool:
    breaks = subscription.as_of(at(on)).billing_breaks
    return not breaks or breaks[-1].end is not None


@pytest.mark.parametrize("on", ["01-10", "02-01", "02-20"])
def test_a_pause_makes_no_difference_to_when_a_period_ends(on: str) -> None:
    """Periods are counted from the anchor; whoever waits for the end of one in a pause waits for the same day."""
    away = paused(agree(start="01-05"), on="01-08")
    end = at("02-05") if on < "02-05" else at("03-05")
    assert away.period_end(at(on)) == end
    ending = cancelled(away, on=on, decision=AT_PERIOD_END)
    assert (ending.end, ending.state_at(at(on))) == (end, State.PAUSED)


def test_a_change_at_the_period_end_waits_in_a_pause() -> None:
    """Resumed before, the rest of the period is billed as it was, and the next one otherwise."""
    away = paused(agree(terms("seats", 5)), on="01-08")
    planned = change(away, SetQuantity(ItemId("item-0"), Decimal(3)), on="02-10", decision=AT_PERIOD_END)
    back = resumed(planned, on="02-15")
    assert [row[:6] for row in ledger(back, through="03-01")][1:] == [
        ("02-15", "OWED", "seats", 5, "02-15", "03-01"),
        ("03-01", "OWED", "seats", 3, "03-01", "04-01"),
    ]


def test_the_period_of_the_first_item_that_has_periods_counts_in_a_pause_too() -> None:
    """What is billed once has none, nor has what was taken away."""
    several = agree(terms("setup", interval=None), terms("calls", None, timing=ARREARS), terms("day", interval=DAILY))
    assert paused(several, on="01-08").period_end(at("01-10")) == at("02-01")
    assert paused(agree(terms("setup", interval=None)), on="01-08").period_end(at("01-10")) is None


def test_after_a_trial_that_ended_in_a_pause_periods_are_counted_from_its_end() -> None:
    """Nothing was ever billed; the anniversary is there all the same."""
    doubtful = paused(agree(trial_days=14, trial_end=TrialEnd.PAUSE), on="01-15")
    assert doubtful.period_end(at("01-20")) == at("02-15")


def test_what_waits_for_activation_by_hand_has_no_period_under_way() -> None:
    """A decision for its end takes effect at once."""
    waiting = agree(activation=Activation.BY_HAND, deadline="02-10")
    assert waiting.period_end(at("01-10")) is None


@pytest.mark.parametrize(
    ("service", "billing", "state"),
    [(True, False, State.ACTIVE), (False, True, State.PAUSED), (True, True, State.ACTIVE)],
)
def test_service_and_billing_are_resumed_apart(service: bool, billing: bool, state: State) -> None:
    """Served for nothing for a while, or billed for a place that is kept: what was not named stays paused."""
    away = paused(agree(terms("seats")), on="01-10")
    back = resumed_in_part(away, on="01-20", service=service, billing=billing)
    assert (back.state_at(at("01-20")), billing_goes_on(back, "01-20")) == (state, billing)
    assert len(ledger(back, through="02-01")) == (2 if billing else 1)
    if not (service and billing):
        whole = resumed(back, on="01-25")
        assert (whole.state_at(at("01-25")), billing_goes_on(whole, "01-25")) == (State.ACTIVE, True)


@pytest.mark.parametrize(("service", "billing"), [(True, False), (True, True)])
def test_what_is_named_must_be_paused(service: bool, billing: bool) -> None:
    """The error says what is: half of a wish is not carried out."""
    free = paused(agree(), on="01-10", service=False)
    with pytest.raises(errors.SubscriptionNotPaused, match="service of subscription sub is not paused") as refusal:
        resumed_in_part(free, on="01-20", service=service, billing=billing)
    assert refusal.value.metadata["paused"] == "BILLING"


def test_a_resumption_that_was_planned_still_comes_for_the_rest() -> None:
    """Service goes on sooner; billing goes on when it was agreed to, and the pause does not come back."""
    away = paused(agree(), on="01-10", until="02-10")
    served = resumed_in_part(away, on="01-20", service=True)
    assert [each.revoked_time for each in served.changes] == [None, None, None]
    assert not billing_goes_on(served, "02-09")
    assert billing_goes_on(served, "02-10")
    both = resumed_in_part(served, on="01-25", billing=True)
    assert [each.revoked_time for each in both.changes] == [None, at("01-25"), None, None]


def test_a_resumption_that_was_planned_ends_the_pause_it_was_planned_with_and_no_other() -> None:
    """Who pauses service again, without an end, has not said that it is to go on with billing."""
    away = paused(agree(), on="01-10", until="02-10")
    served = resumed_in_part(away, on="01-20", service=True)
    again = paused(served, on="01-25", billing=False)
    assert again.state_at(at("02-15")) is State.PAUSED
    assert billing_goes_on(again, "02-15")


def test_of_two_pauses_the_one_that_lasts_is_not_ended_with_the_other() -> None:
    """Billing was paused for a while, service until further notice: the end of the first is that of the first."""
    free = paused(agree(), on="01-10", service=False, until="02-10")
    both = paused(free, on="01-15", billing=False)
    assert both.state_at(at("02-15")) is State.PAUSED
    assert billing_goes_on(both, "02-15")


def test_a_trial_in_doubt_is_billed_when_its_billing_is_resumed_and_not_before() -> None:
    """Service alone may go on for nothing."""
    doubtful = paused(agree(terms("seats"), trial_days=14, trial_end=TrialEnd.PAUSE), on="01-15")
    served = resumed_in_part(doubtful, on="01-20", service=True)
    assert (served.state_at(at("01-20")), ledger(served, through="12-31")) == (State.ACTIVE, [])
    billed = resumed_in_part(served, on="02-15", billing=True)
    assert [row[:6] for row in ledger(billed, through="02-15")] == [
        ("02-15", "OWED", "seats", 1, "02-15", "03-15"),
    ]


def moments_of(subscription: Subscription) -> list[datetime]:
    return [each.effective_time for each in subscription.standing]


def test_a_pause_at_a_period_end_waits_while_billing_is_paused() -> None:
    """Service stops with the period that would be under way."""
    free = paused(agree(), on="01-10", service=False)
    later = paused(free, on="01-15", billing=False, decision=AT_PERIOD_END)
    assert moments_of(later) == [at("01-10"), at("02-01")]
