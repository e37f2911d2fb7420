"""Terms: from when they are counted, and what an end does that follows from one."""

from __future__ import annotations

import pytest

from services.subscriptions.tests.agreed import (
    YEARLY,
    agree,
    at,
    cancelled,
    change,
    ledger,
    next_change,
    reactivated,
    scheduled,
    terms,
)
from subscriptions.domain import errors, verbs
from subscriptions.domain.change import Renewal, SetTerm, Term
from subscriptions.domain.moments import Renewed, announced, next_moment
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.timeline import Activation


def for_months(
    months: int, subscription: Subscription | None = None, *, renewal: Renewal = Renewal.EXPIRE
) -> Subscription:
    agreed = change(subscription or agree(), SetTerm(Term(months=months, renewal=renewal, notice_days=0)), on="01-01")
    return with_end(agreed, on="01-01")


def with_end(subscription: Subscription, *, on: str) -> Subscription:
    return verbs.with_expiry(
        subscription, change_id=next_change(subscription), at=at(on), decided_with=subscription.changes[-1].id
    )


def taken_up(subscription: Subscription, *, on: str) -> Subscription:
    return with_end(reactivated(subscription, on=on), on=on)


@pytest.mark.parametrize(("on", "end"), [("04-01", "07-01"), ("05-10", "08-10")])
def test_after_its_term_it_is_taken_up_for_a_new_one(on: str, end: str) -> None:
    """Three months were agreed: neither what is left of a quarter that nobody knows of, nor none."""
    expired = for_months(3)
    assert expired.end == at("04-01")
    again = taken_up(expired, on=on)
    assert again.end == at(end)
    period = again.term_period(at(on))
    assert period is not None
    assert (period.start, period.end) == (at(on), at(end))
    before = again.term_period(at("02-01"))
    assert before is not None
    assert (before.start, before.end) == (at("01-01"), at("04-01"))


@pytest.mark.parametrize(("on", "end"), [("03-15", "04-01"), ("04-10", "07-10")])
def test_within_its_term_it_goes_on_in_it(on: str, end: str) -> None:
    """Who cancelled and came back has agreed to nothing longer; who comes back after it has."""
    left = cancelled(for_months(3), on="03-01")
    assert taken_up(left, on=on).end == at(end)


def test_a_term_that_passed_while_it_was_over_was_not_renewed() -> None:
    """Renewals are counted from the reactivation: nothing begins in between."""
    left = cancelled(for_months(3, renewal=Renewal.RENEW), on="03-10")
    again = reactivated(left, on="05-10")
    told = []
    while (moment := next_moment(again)) is not None and moment.time <= at("12-31"):
        again = announced(again, moment)
        told += [moment.time for happening in moment.happenings if isinstance(happening, Renewed)]
    assert told == [at("08-10"), at("11-10")]


def test_the_end_of_a_term_is_no_cancellation_to_be_revoked() -> None:
    """It follows from what was agreed: another term puts it off."""
    expiring = for_months(3)
    with pytest.raises(errors.CancellationNotScheduled):
        verbs.revoke_cancellation(expiring, new_id=lambda: next_change(expiring), at=at("01-10"))


def test_a_cancellation_that_is_revoked_leaves_the_end_of_the_term() -> None:
    """Only what was decided by itself goes; the expiry that it made superfluous comes again."""
    ending = cancelled(for_months(3), on="01-10", decision=scheduled("02-10"))
    assert ending.end == at("02-10")
    revoked = verbs.revoke_cancellation(ending, new_id=lambda: next_change(ending), at=at("01-20"))
    again = verbs.with_expiry(revoked, change_id=next_change(revoked), at=at("01-20"))
    assert again.end == at("04-01")


def test_what_begins_with_its_end_known_is_billed_up_to_it() -> None:
    """Half a year, billed by the year in advance: begun by hand it costs what it would cost begun by itself."""
    waiting = agree(terms("seats", interval=YEARLY), activation=Activation.BY_HAND, deadline="02-10")
    waiting = for_months(6, waiting)
    begun = verbs.activate(waiting, change_id=next_change(waiting), at=at("01-15"))
    [only] = ledger(with_end(begun, on="01-15"), through="2027-06-01")
    assert only[:6] == ("01-15", "OWED", "seats", 1, "01-15", "07-15")
