"""What it costs to pause, to end, to be taken up again and to hand over; the arithmetic is in the docstrings."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common.errors import InvalidArgument
from services.subscriptions.tests.agreed import (
    ARREARS,
    CREDIT,
    REFUND,
    YEARLY,
    agree,
    at,
    brief,
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
)
from services.subscriptions.tests.domain.test_changes import WHOLE, five_seats, quantity
from subscriptions.domain import verbs
from subscriptions.domain.billable_periods import Kind
from subscriptions.domain.change import Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.subscription import Decision


def test_a_pause_that_keeps_and_is_resumed_in_time_costs_nothing_and_gives_nothing() -> None:
    """March was billed, March goes on."""
    assert ledger(resumed(paused(five_seats(), on="03-11"), on="03-21"), through="04-01") == [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
    ]


def test_a_pause_with_credit_and_an_end_that_is_known_gives_back_just_that_time() -> None:
    """From the 11th to the 21st: 10/31 back, and nothing more to bill in March."""
    away = paused(five_seats(), on="03-11", decision=CREDIT, until="03-21")
    assert ledger(away, through="04-01") == [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("03-11", "CREDIT", "seats", 5, "03-11", "03-21", Fraction(10, 31)),
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
    ]


def test_a_pause_with_credit_and_no_end_gives_back_the_rest() -> None:
    """21/31 on the 11th; resumed on the 21st, 11/31 is owed again."""
    away = paused(five_seats(), on="03-11", decision=CREDIT)
    assert ledger(resumed(away, on="03-21"), through="03-31")[1:] == [
        ("03-11", "CREDIT", "seats", 5, "03-11", "04-01", Fraction(21, 31)),
        ("03-21", "OWED", "seats", 5, "03-21", "04-01", Fraction(11, 31)),
    ]


def test_a_pause_across_a_boundary_leaves_a_part_of_the_month_it_ends_in() -> None:
    """Away from 20 March to 11 April, kept: March is lost, 20 of April's 30 days are owed on the 11th."""
    away = paused(five_seats(), on="03-20", until="04-11")
    assert ledger(away, through="05-01")[1:] == [
        ("04-11", "OWED", "seats", 5, "04-11", "05-01", Fraction(2, 3)),
        ("05-01", "OWED", "seats", 5, "05-01", "06-01", WHOLE),
    ]


def test_fewer_in_a_pause_are_credited_when_it_ends() -> None:
    """Paused and resumed by plan, 11th to 21st, all with credit; from five to three in between: 10/31 of five for the
    pause, and on the 21st 11/31 of five against 11/31 of three. A resumption keeps, but did not make it fewer.
    """
    away = paused(five_seats(), on="03-11", decision=CREDIT, until="03-21")
    fewer = change(away, quantity(3), on="03-15", decision=CREDIT)
    assert ledger(fewer, through="03-31")[1:] == [
        ("03-11", "CREDIT", "seats", 5, "03-11", "03-21", Fraction(10, 31)),
        ("03-21", "CREDIT", "seats", 5, "03-21", "04-01", Fraction(11, 31)),
        ("03-21", "OWED", "seats", 3, "03-21", "04-01", Fraction(11, 31)),
    ]


def test_a_year_blocked_for_25_days_gives_back_25_of_365() -> None:
    """From 1 to 26 March, of a year of 365 days that was paid in January."""
    yearly = agree(terms("licence", 1, interval=YEARLY))
    blocked = paused(yearly, on="03-01", decision=CREDIT, until="03-26")
    assert ledger(blocked, through="12-31")[1:] == [
        ("03-01", "CREDIT", "licence", 1, "03-01", "03-26", Fraction(25, 365))
    ]


def test_a_year_in_arrears_that_was_served_for_25_days_is_25_of_365() -> None:
    """Paused on 26 January and never resumed: billed when the year is over."""
    blocked = paused(agree(terms("licence", 1, timing=ARREARS, interval=YEARLY)), on="01-26")
    [row] = ledger(blocked, through="2027-01-01")
    assert row == ("01-01", "OWED", "licence", 1, "01-01", "01-26", Fraction(25, 365))


@pytest.mark.parametrize(("decision", "kind"), [(CREDIT, "CREDIT"), (REFUND, "REFUND")])
def test_a_cancellation_gives_back_what_is_left(decision: Decision, kind: str) -> None:
    """On 11 March 21 of 31 days: taken off, or to be paid back."""
    ended = cancelled(five_seats(), on="03-11", decision=decision)
    assert ledger(ended, through="12-31")[1:] == [("03-11", kind, "seats", 5, "03-11", "04-01", Fraction(21, 31))]
    assert due(ended, through="12-31").next_bill_time is None


def test_a_cancellation_of_the_past_gives_back_from_then_on() -> None:
    """Decided on the 20th for the 11th: 21/31, billed on the 20th, for nothing is billed before it is decided."""
    ended = cancelled(five_seats(), on="03-20", decision=scheduled("03-11"))
    assert ledger(ended, through="12-31")[1:] == [("03-20", "CREDIT", "seats", 5, "03-11", "04-01", Fraction(21, 31))]


def test_a_cancellation_of_the_past_bills_what_was_used_at_once() -> None:
    """In arrears: 10/31 of March, on the 20th, when it was decided."""
    calls = agree(terms("calls", None, timing=ARREARS), start="03-01")
    ended = cancelled(calls, on="03-20", decision=scheduled("03-11"))
    assert ledger(ended, through="12-31") == [("03-20", "OWED", "calls", None, "03-01", "03-11", Fraction(10, 31))]


def test_a_scheduled_end_that_is_revoked_after_a_short_period_was_billed() -> None:
    """An end on 11 April makes April 10/30, billed on the 1st; revoked on the 5th, 20/30 follow on the 11th."""
    decided = cancelled(five_seats(), on="03-15", decision=scheduled("04-11"))
    short = ("04-01", "OWED", "seats", 5, "04-01", "04-11", Fraction(1, 3))
    assert ledger(decided, through="12-31")[1:] == [short]
    revoked = verbs.revoke_cancellation(decided, new_id=lambda: next_change(decided), at=at("04-05"))
    assert ledger(revoked, through="05-01")[1:] == [
        short,
        ("04-11", "OWED", "seats", 5, "04-11", "05-01", Fraction(2, 3)),
        ("05-01", "OWED", "seats", 5, "05-01", "06-01", WHOLE),
    ]


def test_a_transfer_credits_the_one_and_bills_the_other() -> None:
    """On 15 March 17/31 each; usage before it stays with whom it was."""
    both = agree(terms("seats", 5), terms("calls", None, timing=ARREARS), start="03-01")
    moved = verbs.transfer(both, CustomerId("bob"), change_id=next_change(both), at=at("03-15"))
    found = due(moved, after="03-15", through="04-01").periods
    assert [(each.customer_id, each.kind, each.terms.price_id, each.proration) for each in found] == [
        ("ada", Kind.CREDIT, "seats", Fraction(17, 31)),
        ("bob", Kind.OWED, "seats", Fraction(17, 31)),
        ("bob", Kind.OWED, "seats", WHOLE),
        ("ada", Kind.OWED, "calls", Fraction(14, 31)),
        ("bob", Kind.OWED, "calls", Fraction(17, 31)),
    ]


def test_a_transfer_that_keeps_leaves_what_is_paid_to_the_next_one() -> None:
    """Bob is billed from April on, and Ada gets nothing back."""
    before = five_seats()
    moved = verbs.transfer(before, CustomerId("bob"), change_id=next_change(before), at=at("03-15"), unused=Unused.KEEP)
    found = due(moved, through="04-01").periods
    assert [(each.customer_id, brief(each)) for each in found] == [
        ("ada", ("03-01", "03-01", "04-01", WHOLE)),
        ("bob", ("04-01", "04-01", "05-01", WHOLE)),
    ]


def test_a_transfer_to_oneself_is_refused() -> None:
    """It would credit and bill for nothing."""
    with pytest.raises(InvalidArgument) as refusal:
        verbs.transfer(five_seats(), CustomerId("ada"), change_id=next_change(five_seats()), at=at("03-15"))
    assert refusal.value.field == "customer_id"


def test_a_reactivation_begins_the_periods_anew() -> None:
    """Ended with credit on 11 March, taken up again on the 20th: a month from the 20th on."""
    again = reactivated(cancelled(five_seats(), on="03-11", decision=CREDIT), on="03-20")
    assert ledger(again, through="04-20")[2:] == [
        ("03-20", "OWED", "seats", 5, "03-20", "04-20", WHOLE),
        ("04-20", "OWED", "seats", 5, "04-20", "05-20", WHOLE),
    ]


def test_a_reactivation_uses_up_what_was_kept() -> None:
    """Ended on 11 March and kept: March is paid. From 1 April to 20 April it is 19 of the 31 days from 20 March."""
    again = reactivated(cancelled(five_seats(), on="03-11"), on="03-20")
    assert ledger(again, through="04-20")[1:] == [
        ("04-01", "OWED", "seats", 5, "04-01", "04-20", Fraction(19, 31)),
        ("04-20", "OWED", "seats", 5, "04-20", "05-20", WHOLE),
    ]


def test_what_ends_and_is_taken_up_again_at_one_moment_is_settled_there() -> None:
    """In arrears, from the 1st to the 1st: what was used up to 11 March is billed then, the rest with March."""
    calls = agree(terms("calls", None, timing=ARREARS), start="03-01", day=1)
    again = reactivated(cancelled(calls, on="03-11"), on="03-11")
    assert ledger(again, through="04-30") == [
        ("03-11", "OWED", "calls", None, "03-01", "03-11", Fraction(10, 31)),
        ("04-01", "OWED", "calls", None, "03-11", "04-01", Fraction(21, 31)),
    ]


def test_a_trial_that_was_given_up_and_taken_up_again_is_followed_by_whole_periods() -> None:
    """Ended on the 5th, again on the 8th, the trial to the 15th: months from the 15th."""
    again = reactivated(cancelled(agree(terms("seats", 5), trial_days=14), on="01-05"), on="01-08")
    assert ledger(again, through="02-15") == [
        ("01-15", "OWED", "seats", 5, "01-15", "02-15", WHOLE),
        ("02-15", "OWED", "seats", 5, "02-15", "03-15", WHOLE),
    ]
