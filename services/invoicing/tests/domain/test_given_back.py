"""What is left of what was billed in advance: of each line, by notes and credits together."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum
from common.period import Period
from invoicing.domain.given_back import LeftOf, Standing, given_back_once
from invoicing.domain.line import Line, LineDiscount, LineKind
from invoicing.domain.lines_due import BillablePeriod, Billed, Due, Source, derived_again, lines_due, source_of
from invoicing.domain.steps import StepKind

from .test_credits import HALF, JULY, JUNE, PRICES, SEAT, credit, period

NOTHING = Money.zero("EUR")
LATER = Period(JUNE.start + timedelta(days=20), JUNE.end)


def euros(minor: int) -> Money:
    return Money(minor, "EUR")


def billed(of: BillablePeriod, *, line_id: str = "line_1", discount: int = 0) -> Line:
    [due] = lines_due([of], PRICES, {}, {}, as_of=JULY.start, next_bill_time=None)
    given = (LineDiscount(discount_id="d", description="Less", amount=euros(discount)),) if discount else ()
    return replace(due.line, id=line_id, discounts=given)


def standing(line: Line, *, credited: int = 0) -> Standing:
    return Standing(line=line, credited=euros(credited), is_final=True)


def proposed(credits_due: list[BillablePeriod], left: LeftOf, taken: dict[str, int] | None = None) -> list[Due]:
    """What a bill run takes off, after it took off so much for each change."""
    sources = {each.key: source for each in credits_due if (source := left.source_of(each)) is not None}
    before = {
        each.key: Billed(amount=euros(taken[each.change_id]), usage=None, correction=0, is_final=True)
        for each in credits_due
        if taken and each.change_id in taken
    }
    due = lines_due(credits_due, PRICES, {}, before, as_of=JULY.start, next_bill_time=None, sources=sources)
    [own] = given_back_once([due], sources)
    return own


def test_what_a_note_gave_back_is_left_out_with_its_share_of_discounts() -> None:
    """Of 49.95 half is unused, and 29.95 were given back before: 20.00 are left of 24.98, and so of its discount."""
    source = billed(period("5"), discount=10_00)
    [due] = proposed([credit("5")], LeftOf([standing(source, credited=29_95)]))
    line = due.line
    assert (line.amount, line.discount) == (euros(-20_00), euros(-4_00))
    assert line.steps[-1].kind is StepKind.CREDITED_BEFORE
    assert (line.steps[-1].amount, line.steps[-1].description) == (Decimal("4.98"), "Given back before")
    assert exact_sum(step.amount for step in line.steps) == line.exact_amount


@pytest.mark.parametrize("room", [20_00, 7_00], ids=["whole", "in-part"])
def test_it_is_derived_again_to_the_cent(room: int) -> None:
    """Also of what an invoice had no room for."""
    source = billed(period("5"))
    [due] = proposed([credit("5")], LeftOf([standing(source, credited=29_95)]))
    line = due.line if room == 20_00 else due.line.credited(euros(-room))
    assert derived_again(line, price=SEAT, usage=None, billed=None) == line


def test_where_nothing_is_left_there_is_no_line() -> None:
    """Not even one of nothing: it would wait for ever."""
    source = billed(period("5"))
    assert proposed([credit("5")], LeftOf([standing(source, credited=49_95)])) == []
    # More than there was, as may have been before anybody looked.
    taken = replace(billed(period("5")), id="line_2", kind=LineKind.CREDIT, change_id="chg_0", amount=euros(-10_00))
    assert proposed([credit("5")], LeftOf([standing(source, credited=49_95), standing(taken)])) == []


def test_who_uses_no_credit_notes_sees_nothing_of_it() -> None:
    """The line is what it has always been, to its steps."""
    source = billed(period("5"))
    [due] = proposed([credit("5")], LeftOf([standing(source)]))
    assert due.line.amount == euros(-24_98)
    assert [step.kind for step in due.line.steps] == [StepKind.UNITS, StepKind.PRORATION]


def test_what_a_note_took_back_of_a_credit_is_left_again() -> None:
    """Then the customer has not got it; and of what does not count nothing is told."""
    source = billed(period("5"))
    taken = replace(billed(period("5", of=HALF, share=Fraction(1, 2)), line_id="line_2"), kind=LineKind.CREDIT)
    taken = replace(taken, amount=-taken.amount, change_id="chg_1")
    assert LeftOf([standing(source), standing(taken)]).of(source) == euros(49_95 - 24_98)
    assert LeftOf([standing(source), standing(taken, credited=-24_98)]).of(source) == euros(49_95)
    assert LeftOf([standing(taken)]).of(source) is None


def test_the_parts_of_one_bill_are_no_more_than_it() -> None:
    """Two halves of 9.99 are 5.00 each; the second one is what is left. So it is when the bill is new, too."""
    first = Period(JUNE.start, HALF.start)
    halves = [
        period("1", of=of, share=Fraction(1, 2), kind=LineKind.CREDIT, change_id=change_id)
        for of, change_id in ((first, "chg_1"), (HALF, "chg_2"))
    ]
    due = proposed(halves, LeftOf([standing(billed(period("1")))]))
    assert [each.line.amount.minor for each in due] == [-5_00, -4_99]
    new = lines_due([period("1"), *halves], PRICES, {}, {}, as_of=JULY.start, next_bill_time=None)
    [together] = given_back_once([new], {})
    assert [each.line.amount.minor for each in together] == [9_99, -5_00, -4_99]


def test_a_look_ahead_remembers_what_it_took_off() -> None:
    """On an invoice that is only looked ahead to."""
    source = billed(period("5"))
    left = LeftOf([standing(source, credited=29_95)])
    [due] = proposed([credit("5")], left)
    some = due.line.credited(euros(-15_00))
    sources = {due.line.key: Source(line=source, is_final=True, left=euros(20_00))}
    [[rest]] = given_back_once([[replace(due, line=replace(some, amount=euros(-9_98)))]], sources, so_far=[some])
    assert rest.line.amount == euros(-5_00)


def test_a_credit_is_of_what_was_billed_and_not_of_what_comes_in_its_place() -> None:
    """As many and from later on; and of two bills that it may be of, of the one that came in place of the other."""
    whole, fewer = billed(period("3")), billed(period("5", of=HALF, change_id="chg_1"), line_id="line_2")
    again = billed(period("3", of=HALF, change_id="chg_1"), line_id="line_2")
    assert source_of(credit("3"), [whole, again]) is whole
    ended = replace(credit("3"), change_id="chg_2", period=LATER)
    assert source_of(ended, [whole, fewer]) is fewer
    after = billed(period("3", of=HALF, change_id="chg_3"), line_id="line_4")
    taken = replace(billed(ended, line_id="line_3"), kind=LineKind.CREDIT)
    assert source_of(taken, [whole, after]) is whole
    assert source_of(credit("3", item="other"), [whole, after]) is None


@given(notes=st.integers(0, 50_00), shares=st.lists(st.fractions(0, 1), max_size=5))
def test_never_more_than_was_billed(notes: int, shares: list[Fraction]) -> None:
    """Whatever is given back by hand and by however many changes: nothing below zero is left."""
    source = billed(period("5"))
    notes = min(notes, source.amount.minor)
    left = LeftOf([standing(source, credited=notes)])
    parts = [replace(credit("5", share=share), change_id=f"chg_{n}") for n, share in enumerate(shares)]
    due = proposed(parts, left)
    wanted = sum(Money.rounded(Fraction(Decimal("49.95")) * share, "EUR").minor for share in shares)
    assert -sum(each.line.amount.minor for each in due) == min(wanted, source.amount.minor - notes)
    assert all(each.line.amount.minor < 0 for each in due)
