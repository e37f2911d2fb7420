"""What a change costs, by business situation; the arithmetic is in the docstrings. March 2026 has 31 days, April 30."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    CREDIT,
    KEEP,
    MICROSECOND,
    YEARLY,
    agree,
    at,
    brief,
    cancelled,
    change,
    due,
    kept,
    ledger,
    paused,
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
    SetPayer,
    SetPlan,
    SetPrice,
    SetQuantity,
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


def test_a_back_dated_start_bills_the_periods_it_missed() -> None:
    """Agreed on 10 April from 1 February on: February and March and April are due, each with its own time."""
    late = agree(terms("seats", 5), terms("calls", None, timing=ARREARS), start="02-01", known="04-10")
    assert [row for row in ledger(late, through="04-10") if row[2] == "seats"] == [
        ("02-01", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("03-01", "OWED", "seats", 5, "03-01", "04-01", WHOLE),
        ("04-01", "OWED", "seats", 5, "04-01", "05-01", WHOLE),
    ]
    assert [row[4] for row in ledger(late, through="04-10") if row[2] == "calls"] == ["02-01", "03-01"]


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


def test_a_scheduled_change_that_is_revoked_has_never_been() -> None:
    """And the later one that was decided on top of it stands."""
    decided = change(five_seats(), quantity(10), on="03-05", decision=scheduled("03-15"))
    revoked = verbs.revoke(decided, decided.changes[-1].id, at=at("03-10"))
    assert ledger(revoked, through="04-01") == ledger(five_seats(), through="04-01")
    assert [each.revoked_time for each in revoked.changes] == [at("03-10")]


def test_what_one_call_made_due_stays_due_when_the_next_takes_something_back_in_the_same_moment() -> None:
    """An end on 20 March makes an upgrade on the 15th one of 5 days, due at once; without it the rest comes as well."""
    ending = cancelled(five_seats(), on="03-05", decision=scheduled("03-20"))
    upgraded = change(ending, quantity(10), on="03-15")
    due_by_then = ledger(upgraded, through="03-15")
    going_on = kept(verbs.revoke(upgraded, upgraded.changes[0].id, at=at("03-15")))
    assert due_by_then[1:] == [
        ("03-15", "CREDIT", "seats", 5, "03-15", "03-20", Fraction(5, 31)),
        ("03-15", "OWED", "seats", 10, "03-15", "03-20", Fraction(5, 31)),
    ]
    assert ledger(going_on, through="03-15")[: len(due_by_then)] == due_by_then
    assert ledger(going_on, through="03-31")[len(due_by_then) :] == [
        ("03-20", "CREDIT", "seats", 5, "03-20", "04-01", Fraction(12, 31)),
        ("03-20", "OWED", "seats", 10, "03-20", "04-01", Fraction(12, 31)),
    ]


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


def test_a_scheduled_change_that_changes_nothing_divides_what_another_price_is_billed_for() -> None:
    """What was billed by the old price covers its time until that change takes it back: whatever is decided between the
    two, the new price is billed for no moment twice.
    """
    agreed = agree(terms("seats", 4))
    to_come = change(agreed, quantity(4), on="01-02", decision=scheduled("01-21"))
    repriced = change(to_come, price("gold", 4), on="01-11")
    beyond = change(repriced, quantity(9), on="01-16", decision=scheduled("02-10"))
    found = [
        ("01-01", "OWED", "seats", 4, "01-01", "02-01", Fraction(1)),
        ("01-11", "CREDIT", "seats", 4, "01-11", "01-21", Fraction(10, 31)),
        ("01-11", "OWED", "gold", 4, "01-11", "01-21", Fraction(10, 31)),
        ("01-21", "CREDIT", "seats", 4, "01-21", "02-01", Fraction(11, 31)),
        ("01-21", "OWED", "gold", 4, "01-21", "02-01", Fraction(11, 31)),
    ]
    assert ledger(repriced, through="01-11") == found[:3]
    assert ledger(repriced, through="01-31") == ledger(beyond, through="01-31") == found
