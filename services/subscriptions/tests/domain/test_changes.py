"""What a change costs, by business situation; the arithmetic is in the docstrings. March 2026 has 31 days, April 30."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from common.errors import InvalidArgument
from common.period import Period
from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    CREDIT,
    KEEP,
    MICROSECOND,
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
from subscriptions.domain import verbs
from subscriptions.domain.billable_periods import Kind
from subscriptions.domain.change import (
    AddItem,
    Proration,
    RemoveItem,
    SetAddOn,
    SetBillingDay,
    SetPayer,
    SetPlan,
    SetPrice,
    SetQuantity,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import Item, ItemId, PlanId

SEATS = ItemId("item-0")
WHOLE = Fraction(1)
UNPRORATED = Decision(proration=Proration.NONE)
BY_SECOND = Decision(proration=Proration.BY_SECOND)


def five_seats(start: str = "03-01", *, day: int = 0) -> Subscription:
    return agree(terms("seats", 5), start=start, day=day)


def quantity(number: int) -> SetQuantity:
    return SetQuantity(SEATS, Decimal(number))


def price(name: str, number: int = 5) -> SetPrice:
    return SetPrice(SEATS, terms(name, number))


def test_an_upgrade_in_mid_period_credits_the_rest_and_bills_the_new_price() -> None:
    """On 15 March, 17 of the 31 days are left: 17/31 of the old price back, 17/31 of the new one owed, then whole."""
    upgraded = change(five_seats(), price("gold"), SetPlan(PlanId("gold")), on="03-15")
    assert ledger(upgraded, through="04-01") == [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("03-15", "CREDIT", "seats", 5, "03-15", "04-01", Fraction(17, 31)),
        ("03-15", "OWED", "gold", 5, "03-15", "04-01", Fraction(17, 31)),
        ("04-01", "OWED", "gold", 5, "04-01", "05-01", WHOLE),
    ]
    assert upgraded.as_of(at("03-15")).plan_id == "gold"
    assert upgraded.as_of(at("03-15") - MICROSECOND).plan_id == "plan"


def test_a_downgrade_at_the_period_end_credits_nothing() -> None:
    """March is had as it was billed; April begins with the smaller plan."""
    downgraded = change(five_seats(), price("bronze"), on="03-15", decision=AT_PERIOD_END)
    assert ledger(downgraded, through="04-01") == [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("04-01", "OWED", "bronze", 5, "04-01", "05-01", WHOLE),
    ]


def test_by_the_second_a_change_at_noon_is_half_a_day() -> None:
    """From 15 March 12:00 there are 16.5 of 31 days left, which is 33/62."""
    upgraded = change(five_seats(), price("gold"), on="2026-03-15T12:00", decision=BY_SECOND)
    assert [row[-1] for row in ledger(upgraded, through="03-31")] == [WHOLE, Fraction(33, 62), Fraction(33, 62)]


def test_by_the_day_the_day_of_the_change_belongs_to_what_begins_on_it() -> None:
    """At noon or at midnight: 17 days of 31."""
    for time in ("2026-03-15T00:00", "2026-03-15T23:59"):
        upgraded = change(five_seats(), price("gold"), on=time)
        assert [row[-1] for row in ledger(upgraded, through="03-31")] == [WHOLE, Fraction(17, 31), Fraction(17, 31)]


def test_without_proration_the_next_period_is_the_first_that_is_billed_otherwise() -> None:
    """What is agreed changes at once: ten seats on 15 March, five of them billed until April."""
    more = change(five_seats(), quantity(10), on="03-15", decision=UNPRORATED)
    assert ledger(more, through="04-01") == [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("04-01", "OWED", "seats", 10, "04-01", "05-01", WHOLE),
    ]
    assert more.as_of(at("03-15")).items[SEATS].quantity == 10


def test_without_proration_at_a_boundary_the_period_that_begins_is_the_next() -> None:
    """Decided before, it is billed by it; decided at that instant, what was billed a moment ago is taken back."""
    before = change(five_seats(), quantity(10), on="03-31", decision=scheduled("04-01", proration=Proration.NONE))
    assert ledger(before, through="04-01")[1:] == [("04-01", "OWED", "seats", 10, "04-01", "05-01", WHOLE)]
    at_once = change(five_seats(), quantity(10), on="04-01", decision=UNPRORATED)
    assert ledger(at_once, through="04-01")[1:] == [
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
        ("04-01", "CREDIT", "seats", 5, "04-01", "05-01", WHOLE),
        ("04-01", "OWED", "seats", 10, "04-01", "05-01", WHOLE),
    ]


def test_two_changes_on_one_day_leave_the_last_one() -> None:
    """Five to ten at nine, ten to seven at ten, on 15 March: in between, 17/31 of ten is owed and given back."""
    twice = change(five_seats(), quantity(10), on="2026-03-15T09:00")
    twice = change(twice, quantity(7), on="2026-03-15T10:00")
    assert ledger(twice, through="03-31")[1:] == [
        ("03-15", "CREDIT", "seats", 5, "03-15", "04-01", Fraction(17, 31)),
        ("03-15", "OWED", "seats", 10, "03-15", "04-01", Fraction(17, 31)),
        ("03-15", "CREDIT", "seats", 10, "03-15", "04-01", Fraction(17, 31)),
        ("03-15", "OWED", "seats", 7, "03-15", "04-01", Fraction(17, 31)),
    ]
    assert len({each.change_id for each in due(twice, through="03-31").periods}) == 3


def test_a_change_a_moment_before_a_boundary_is_of_the_period_that_ends() -> None:
    """The last microsecond of March belongs to March: 1/31 by the day, like any change that day; April is whole."""
    late = change(five_seats(), quantity(10), on=at("04-01") - MICROSECOND)
    assert ledger(late, through="04-01")[1:] == [
        ("03-31", "CREDIT", "seats", 5, "03-31", "04-01", Fraction(1, 31)),
        ("03-31", "OWED", "seats", 10, "03-31", "04-01", Fraction(1, 31)),
        ("04-01", "OWED", "seats", 10, "04-01", "05-01", WHOLE),
    ]
    early = change(five_seats(), quantity(10), on=at("04-01") + MICROSECOND)
    assert ledger(early, through="2026-04-01T00:00:01")[1:] == [
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
        ("04-01", "CREDIT", "seats", 5, "04-01", "05-01", WHOLE),
        ("04-01", "OWED", "seats", 10, "04-01", "05-01", WHOLE),
    ]


def test_what_is_taken_back_and_wanted_again_at_one_moment_is_billed_again() -> None:
    """At the very boundary, where April was billed a moment ago: each time under a name of its own, or it would be
    taken for what was billed before.
    """
    toggled = five_seats()
    for number in (10, 5, 10, 5):
        toggled = change(toggled, quantity(number), on="04-01")
    again = resumed(paused(five_seats(), on="04-01", decision=CREDIT), on="04-01")
    for subscription, parts in ((toggled, 9), (again, 3)):
        april = due(subscription, after="04-01", through="04-01").periods
        names = {(each.terms.price_id, each.period.start, each.kind, each.change_id) for each in april}
        assert len(names) == len(april) == parts
        owed = sum(each.terms.quantity or 0 for each in april if each.kind is Kind.OWED)
        assert owed - sum(each.terms.quantity or 0 for each in april if each.kind is Kind.CREDIT) == 5


def test_what_is_kept_covers_up_to_what_was_paid() -> None:
    """Five paid, three wanted from the 11th, five again from the 16th: nothing. Eight from the 21st, 11 days: the five
    that were paid are given back, eight are owed.
    """
    kept = change(five_seats(), quantity(3), on="03-11", decision=KEEP)
    kept = change(kept, quantity(5), on="03-16", decision=KEEP)
    assert ledger(kept, through="03-31") == [("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE)]
    more = change(kept, quantity(8), on="03-21", decision=KEEP)
    assert ledger(more, through="04-01")[1:] == [
        ("03-21", "CREDIT", "seats", 5, "03-21", "04-01", Fraction(11, 31)),
        ("03-21", "OWED", "seats", 8, "03-21", "04-01", Fraction(11, 31)),
        ("04-01", "OWED", "seats", 8, "04-01", "05-01", WHOLE),
    ]


@pytest.mark.parametrize(("number", "given_back"), [(4, None), (5, None), (6, 5)])
def test_what_was_kept_once_counts_also_when_more_is_asked_for_without_a_word(
    number: int, given_back: int | None
) -> None:
    """Credit is what a caller gets that says nothing; what was paid for and kept is used up first all the same."""
    kept = change(five_seats(), quantity(3), on="03-11", decision=KEEP)
    rows = ledger(change(kept, quantity(number), on="03-21", decision=CREDIT), through="03-31")
    found = [(kind, units) for _, kind, _, units, *_ in rows[1:]]
    assert found == ([] if given_back is None else [("CREDIT", given_back), ("OWED", number)])


def test_what_is_kept_of_one_price_is_no_use_for_another() -> None:
    """A downgrade that keeps: 17/31 of bronze is owed although gold was paid for."""
    kept = change(five_seats(), price("bronze"), on="03-15", decision=KEEP)
    assert ledger(kept, through="03-31")[1:] == [("03-15", "OWED", "bronze", 5, "03-15", "04-01", Fraction(17, 31))]


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


def test_a_back_dated_start_bills_the_periods_it_missed() -> None:
    """Agreed on 10 April from 1 February on: February and March and April are due, each with its own time."""
    late = agree(terms("seats", 5), terms("calls", None, timing=ARREARS), start="02-01", known="04-10")
    assert [row for row in ledger(late, through="04-10") if row[2] == "seats"] == [
        ("02-01", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
    ]
    assert [row[4] for row in ledger(late, through="04-10") if row[2] == "calls"] == ["02-01", "03-01"]


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


def test_an_add_on_comes_and_goes_with_its_items() -> None:
    """Taken on the 11th, 21/31; left on the 21st, 11/31 back."""
    support = Item(id=ItemId("support"), terms=terms("support", 1, plan="support"))
    taken = change(five_seats(), SetAddOn(PlanId("support"), True), AddItem(support), on="03-11")
    left = change(taken, SetAddOn(PlanId("support"), False), RemoveItem(support.id), on="03-21")
    assert [row for row in ledger(left, through="04-01") if row[2] == "support"] == [
        ("03-11", "OWED", "support", 1, "03-11", "04-01", Fraction(21, 31)),
        ("03-21", "CREDIT", "support", 1, "03-21", "04-01", Fraction(11, 31)),
    ]
    assert list(taken.as_of(at("03-15")).add_ons) == ["support"]
    assert list(left.as_of(at("03-21")).add_ons) == []


def test_what_is_billed_once_is_billed_when_it_is_added_and_never_given_back() -> None:
    """A day in March, whole, whatever becomes of it."""
    setup = Item(id=ItemId("setup"), terms=terms("setup", 2, interval=None))
    added = change(five_seats(), AddItem(setup), on="03-11")
    removed = change(added, RemoveItem(setup.id), on="03-11")
    for each in (added, removed, cancelled(removed, on="03-12", decision=CREDIT)):
        assert [row for row in ledger(each, through="12-31") if row[2] == "setup"] == [
            ("03-11", "OWED", "setup", 2, "03-11", "03-12", WHOLE)
        ]


def test_what_begins_with_the_next_period_can_be_changed_before_that() -> None:
    """Added without proration on 11 March, three of them; five on the 20th, put off too: April is billed with five."""
    support = Item(id=ItemId("support"), terms=terms("support", 3))
    added = change(five_seats(), AddItem(support), on="03-11", decision=UNPRORATED)
    more = change(added, SetQuantity(support.id, Decimal(5)), on="03-20", decision=UNPRORATED)
    assert [row for row in ledger(more, through="04-01") if row[2] == "support"] == [
        ("04-01", "OWED", "support", 5, "04-01", "05-01", WHOLE)
    ]
    gone = change(added, RemoveItem(support.id), on="03-20")
    assert [row for row in ledger(gone, through="12-31") if row[2] == "support"] == []


def test_what_begins_with_the_next_period_comes_with_a_change_that_is_not_put_off() -> None:
    """Added without proration on 11 March; five from the 20th on, prorated: the rest of March is billed with five."""
    support = Item(id=ItemId("support"), terms=terms("support", 3))
    added = change(five_seats(), AddItem(support), on="03-11", decision=UNPRORATED)
    more = change(added, SetQuantity(support.id, Decimal(5)), on="03-20")
    assert [row for row in ledger(more, through="04-01") if row[2] == "support"] == [
        ("03-20", "OWED", "support", 5, "03-20", "04-01", Fraction(12, 31)),
        ("04-01", "OWED", "support", 5, "04-01", "05-01", WHOLE),
    ]


def test_what_was_put_off_and_comes_earlier_settles_nothing_when_it_would_have_come() -> None:
    """Years instead of months are put off to 1 April, and come with a change on 20 March: a year from then on."""
    calls = agree(terms("calls", 1, timing=ARREARS), start="03-01")
    yearly = SetPrice(SEATS, terms("calls by the year", 1, timing=ARREARS, interval=YEARLY))
    sooner = change(change(calls, yearly, on="03-11", decision=UNPRORATED), quantity(2), on="03-20")
    assert ledger(sooner, through="12-31") == [
        ("03-20", "OWED", "calls", 1, "03-01", "03-20", Fraction(19, 31)),
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


def test_a_scheduled_change_that_is_revoked_has_never_been() -> None:
    """And the later one that was decided on top of it stands."""
    decided = change(five_seats(), quantity(10), on="03-05", decision=scheduled("03-15"))
    revoked = verbs.revoke(decided, decided.changes[-1].id, at=at("03-10"))
    assert ledger(revoked, through="04-01") == ledger(five_seats(), through="04-01")
    assert [each.revoked_time for each in revoked.changes] == [at("03-10")]


def test_a_change_of_the_past_is_billed_when_it_is_decided() -> None:
    """On the 20th, seats are said to have been ten since the 11th: 21/31 back and owed, on the 20th."""
    late = change(five_seats(), quantity(10), on="03-20", decision=scheduled("03-11"))
    assert ledger(late, through="03-31")[1:] == [
        ("03-20", "CREDIT", "seats", 5, "03-11", "04-01", Fraction(21, 31)),
        ("03-20", "OWED", "seats", 10, "03-11", "04-01", Fraction(21, 31)),
    ]


def test_whoever_asks_from_the_decision_on_gets_all_that_it_makes_due() -> None:
    """By the month instead of the year since 1 January, said on 10 March: three months are due then, also the first."""
    yearly = agree(terms("licence", interval=YEARLY))
    monthly = change(yearly, SetPrice(SEATS, terms("by the month", 1)), on="03-10", decision=scheduled("01-01"))
    found = [(each.terms.price_id, *brief(each)) for each in due(monthly, after="03-10", through="03-31").periods]
    assert found == [
        ("licence", "03-10", "01-01", "01-01", WHOLE),
        ("by the month", "03-10", "01-01", "02-01", WHOLE),
        ("by the month", "03-10", "02-01", "03-01", WHOLE),
        ("by the month", "03-10", "03-01", "04-01", WHOLE),
    ]


def test_usage_that_is_agreed_for_the_past_is_billed_when_it_is_agreed() -> None:
    """Added on 10 March to a yearly licence, monthly since 1 January: two months are due at once, not before."""
    yearly = agree(terms("licence", interval=YEARLY))
    calls = AddItem(Item(id=ItemId("calls"), terms=terms("calls", None, timing=ARREARS)))
    late = change(yearly, calls, on="03-10", decision=scheduled("01-01"))
    whole = due(late, after="01-02", through="04-01")
    assert [brief(each) for each in whole.periods] == [
        ("03-10", "01-01", "02-01", WHOLE),
        ("03-10", "02-01", "03-01", WHOLE),
        ("04-01", "03-01", "04-01", WHOLE),
    ]
    assert due(late, after="03-10", through="04-01") == whole
    assert due(late, after="2026-03-10T00:00:01", through="04-01").periods == whole.periods[2:]


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


def test_a_trial_that_was_given_up_and_taken_up_again_is_followed_by_whole_periods() -> None:
    """Ended on the 5th, again on the 8th, the trial to the 15th: months from the 15th."""
    again = reactivated(cancelled(agree(terms("seats", 5), trial_days=14), on="01-05"), on="01-08")
    assert ledger(again, through="02-15") == [
        ("01-15", "OWED", "seats", 5, "01-15", "02-15", WHOLE),
        ("02-15", "OWED", "seats", 5, "02-15", "03-15", WHOLE),
    ]


def test_who_pays_from_now_on_gets_what_is_billed_from_now_on() -> None:
    """Pat pays from 15 March; also said on the 20th for the past, what was billed on the 1st stays with whom it was."""
    for decision in (CREDIT, scheduled("03-01")):
        paid = change(five_seats(), SetPayer(CustomerId("pat")), on="03-15", decision=decision)
        paid = change(paid, quantity(6), on="03-20")
        found = due(paid, through="04-01").periods
        assert [each.payer_id for each in found] == [None, "pat", "pat", "pat"]


def test_a_payer_from_a_boundary_on_gets_the_period_that_begins_there_if_it_was_known() -> None:
    """Said at that very instant, the bill may have gone out before."""
    calls = agree(terms("seats", 5), terms("calls", None, timing=ARREARS), start="03-01")
    known = change(calls, SetPayer(CustomerId("pat")), on="03-15", decision=scheduled("04-01"))
    said = change(calls, SetPayer(CustomerId("pat")), on="04-01")
    april = {each.payer_id for each in due(known, after="04-01", through="04-01").periods}
    assert april == {"pat"}
    assert {each.payer_id for each in due(said, after="04-01", through="04-01").periods} == {None}
    assert {each.payer_id for each in due(said, after="05-01", through="05-01").periods} == {"pat"}


def test_a_payer_of_the_subscription_is_there_from_the_start() -> None:
    """Also for what is billed before anything else is said."""
    subscription = agree(terms("seats"), start="03-01", payer="pat")
    assert [each.payer_id for each in due(subscription, through="03-01").periods] == ["pat"]


def test_a_change_is_billed_the_same_whoever_asks_from_when() -> None:
    """Invoicing asks from where it stopped: nothing before comes again, nothing is left out."""
    busy = change(five_seats(), quantity(10), on="03-11")
    busy = change(busy, quantity(2), on="03-21", decision=KEEP)
    busy = resumed(paused(busy, on="04-05", decision=CREDIT), on="04-20")
    whole = ledger(busy, through="06-01")
    for day in range(1, 70, 7):
        cut = at("03-01") + timedelta(days=day)
        first = due(busy, through=cut).periods
        rest = due(busy, after=cut + MICROSECOND, through="06-01").periods
        assert len(first) + len(rest) == len(whole)
        assert [*first, *rest] == list(due(busy, through="06-01").periods)


def test_up_and_down_again_in_one_moment_kept_is_what_was_most() -> None:
    """Each is a decision: ten were billed, and under KEEP stay so; until that runs out ten again cost nothing."""
    both = change(five_seats(), quantity(10), on="03-11", decision=KEEP)
    both = change(both, quantity(5), on="03-11", decision=KEEP)
    rest = Fraction(21, 31)
    rows = [
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("03-11", "CREDIT", "seats", 5, "03-11", "04-01", rest),
        ("03-11", "OWED", "seats", 10, "03-11", "04-01", rest),
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
    ]
    assert ledger(both, through="04-01") == rows
    assert ledger(change(both, quantity(10), on="03-20", decision=KEEP), through="03-31") == rows[:3]
    at_once = change(five_seats(), quantity(10), quantity(5), on="03-11", decision=KEEP)
    assert ledger(at_once, through="04-01") == [rows[0], rows[3]]
