"""What is billed where periods begin on another day than before; the arithmetic is in the docstrings."""

from __future__ import annotations

from fractions import Fraction

from common.period import Period
from services.subscriptions.tests.agreed import (
    ARREARS,
    YEARLY,
    agree,
    at,
    brief,
    change,
    due,
    ledger,
    next_change,
    terms,
)
from services.subscriptions.tests.domain.test_changes import SEATS, WHOLE, five_seats
from subscriptions.domain import verbs
from subscriptions.domain.change import SetBillingDay, SetPrice


def test_the_billing_day_moved_later_leaves_three_days_of_a_month_of_thirty() -> None:
    """From the 17th to the 20th, on 20 April: what is billed to 17 May stays, and 17 to 20 May is 3 of the 30 days
    from 20 April to 20 May.
    """
    moved = change(five_seats("04-17"), SetBillingDay(20), on="2026-04-20T12:00")
    assert ledger(moved, through="05-20") == [
        ("04-17", "OWED", "seats", 5, "04-17", "05-17", WHOLE),
        ("05-17", "OWED", "seats", 5, "05-17", "05-20", Fraction(3, 30)),
        ("05-20", "OWED", "seats", 5, "05-20", "06-20", WHOLE),
    ]


def test_the_billing_day_moved_earlier_leaves_28_days_of_a_month_of_31() -> None:
    """From the 20th to the 17th, on 5 March: billed to 20 March; to 17 April it is 28 of the 31 days from 17 March."""
    moved = change(five_seats("02-20"), SetBillingDay(17), on="03-05")
    assert ledger(moved, through="04-17") == [
        ("02-20", "OWED", "seats", 5, "02-20", "03-20", WHOLE),
        ("03-20", "OWED", "seats", 5, "03-20", "04-17", Fraction(28, 31)),
        ("04-17", "OWED", "seats", 5, "04-17", "05-17", WHOLE),
    ]


def test_a_moved_billing_day_settles_what_is_billed_in_arrears() -> None:
    """From the 1st to the 15th, on 10 March: 9/31 of March are billed at once, then to the 15th 5 of the 28 days
    from 15 February, and from there on whole.
    """
    calls = agree(terms("calls", None, timing=ARREARS), start="03-01")
    moved = change(calls, SetBillingDay(15), on="03-10")
    assert ledger(moved, through="04-15") == [
        ("03-10", "OWED", "calls", None, "03-01", "03-10", Fraction(9, 31)),
        ("03-15", "OWED", "calls", None, "03-10", "03-15", Fraction(5, 28)),
        ("04-15", "OWED", "calls", None, "03-15", "04-15", WHOLE),
    ]


def test_a_billing_day_that_is_moved_and_moved_back_at_once_settles_nothing() -> None:
    """In arrears, to the 1st and back to the 15th on 25 March: the 26 of 31 days to 15 April are billed as one."""
    calls = agree(terms("calls", None, timing=ARREARS), start="03-20", day=15)
    back = change(calls, SetBillingDay(1), SetBillingDay(15), on="03-25")
    assert ledger(back, through="04-15") == [("04-15", "OWED", "calls", None, "03-20", "04-15", Fraction(26, 31))]


def test_five_aligned_to_the_first_are_billed_together_from_then_on() -> None:
    """Whatever day they began: a part up to the 1st, then the same months."""
    starts = ["03-03", "03-09", "03-15", "03-21", "03-31"]
    aligned = [change(five_seats(start), SetBillingDay(1), on="04-02") for start in starts]
    together = due(aligned, after="05-01", through="06-01").periods
    assert {brief(each) for each in together if brief(each)[0] == "06-01"} == {("06-01", "06-01", "07-01", WHOLE)}
    assert len([each for each in together if brief(each)[0] == "06-01"]) == 5
    # 3 April to 1 May is 28 of April's 30 days, and so on; what began on the 31st is billed to 30 April.
    parts = [[row[-1] for row in ledger(each, after="04-02", through="05-31")] for each in aligned]
    assert (parts[0], parts[-1]) == ([Fraction(28, 30), WHOLE], [Fraction(1, 30), WHOLE])


def test_from_monthly_to_yearly_the_year_begins_with_the_change() -> None:
    """On 15 March 17/31 of the month come back, and a whole year is owed to 15 March."""
    yearly = change(five_seats(), SetPrice(SEATS, terms("yearly", 5, interval=YEARLY)), on="03-15")
    assert ledger(yearly, through="2027-03-15")[1:] == [
        ("03-15", "CREDIT", "seats", 5, "03-15", "04-01", Fraction(17, 31)),
        ("03-15", "OWED", "yearly", 5, "03-15", "03-15", WHOLE),
        ("03-15", "OWED", "yearly", 5, "03-15", "03-15", WHOLE),
    ]
    assert due(yearly, after="03-15", through="03-15").periods[-1].period == Period(at("03-15"), at("2027-03-15"))


def test_from_monthly_to_yearly_on_a_billing_day_the_year_is_that_of_the_day() -> None:
    """With the 1st as billing day, the year under way is the one from 1 March: 351 of 365 days are left on the 15th."""
    yearly = change(five_seats(day=1), SetPrice(SEATS, terms("yearly", 5, interval=YEARLY)), on="03-15")
    assert [row[-1] for row in ledger(yearly, through="03-31")] == [WHOLE, Fraction(17, 31), Fraction(351, 365)]


def test_a_trial_that_is_extended_across_a_month_end_moves_all_that_follows() -> None:
    """From 14 days from 20 January to 10 February: billed from there, on the 10th of each month."""
    trialing = agree(terms("seats", 5), start="01-20", trial_days=14)
    extended = verbs.move_trial_end(trialing, at("02-10"), change_id=next_change(trialing), at=at("02-01"))
    assert ledger(extended, through="03-10") == [
        ("02-10", "OWED", "seats", 5, "02-10", "03-10", WHOLE),
        ("03-10", "OWED", "seats", 5, "03-10", "04-10", WHOLE),
    ]
    ended = verbs.move_trial_end(trialing, at("01-25"), change_id=next_change(trialing), at=at("01-25"))
    assert ledger(ended, through="02-01") == [("01-25", "OWED", "seats", 5, "01-25", "02-25", WHOLE)]


def test_a_billing_day_that_is_set_in_a_trial_counts_from_its_end() -> None:
    """To the anniversary, on 5 January: that of 15 January, when billing begins, and not of the 5th."""
    trialing = agree(terms("seats", 5), trial_days=14, day=1)
    moved = change(trialing, SetBillingDay(0), on="01-05")
    assert ledger(moved, through="02-15") == [
        ("01-15", "OWED", "seats", 5, "01-15", "02-15", WHOLE),
        ("02-15", "OWED", "seats", 5, "02-15", "03-15", WHOLE),
    ]


def test_a_billing_day_that_is_set_in_a_trial_settles_nothing_when_that_ends_earlier() -> None:
    """The trial of 31 days ends after 19: where it was to end, in the middle of the first month, nothing is billed."""
    trialing = change(agree(terms("calls", timing=ARREARS), trial_days=31, day=31), SetBillingDay(0), on="01-05")
    ended = verbs.move_trial_end(trialing, at("01-20"), change_id=next_change(trialing), at=at("01-20"))
    assert ledger(ended, through="03-01") == [("02-20", "OWED", "calls", 1, "01-20", "02-20", WHOLE)]
