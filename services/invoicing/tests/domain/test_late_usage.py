"""What becomes of usage that changes after it was billed: by which policy, and what was refused once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum
from invoicing.domain.issuing_policy import IssuingPolicy
from invoicing.domain.late_usage import LateUsage, Refused, less_refused, refused_in
from invoicing.domain.line import Line, LineKey
from invoicing.domain.lines_due import (
    CORRECTION_WINDOW,
    BillablePeriod,
    Billed,
    Due,
    derived_again,
    lines_due,
    recomputed,
)
from invoicing.domain.next_look import next_look
from invoicing.domain.steps import StepKind

from .test_lines_due import APR, MAR, PRICES, counted, metered, usage_of

PERIODS = [metered("kwh", MAR)]
KWH = PRICES["kwh"]


def of(policy: LateUsage) -> IssuingPolicy:
    return IssuingPolicy(meter_late_usage={"kwh": policy})


def due(
    quantity: int,
    *,
    billed: Sequence[Line] = (),
    policy: LateUsage = LateUsage.NEXT_INVOICE,
    refused: Refused | None = None,
    credited: Money | None = None,
    position: int = 2,
) -> list[Due]:
    usage = usage_of(PERIODS, counted(quantity, position=position))
    key: LineKey = PERIODS[0].key
    before = Billed.of((line, True) for line in billed) if billed else None
    known = {} if before is None else {key: replace(before, credited=credited)}
    return lines_due(
        PERIODS,
        PRICES,
        usage,
        known,
        as_of=APR.start,
        next_bill_time=APR.end,
        policy=of(policy),
        refused={} if refused is None else {key: refused},
    )


def first(quantity: int) -> Line:
    [found] = due(quantity, position=1)
    return found.line


def refused_of(quantity: int, pence: int, *, position: int = 2) -> Refused:
    return Refused(amount=Money(pence, "GBP"), usage=counted(quantity, position=position), times=1)


@pytest.mark.parametrize(("policy", "can_wait"), [(each, not each.is_prompt) for each in LateUsage])
def test_what_is_not_to_wait_does_not_wait_for_company(policy: LateUsage, can_wait: bool) -> None:
    """Each difference says what becomes of it, and to what it is a difference."""
    [late] = due(110, billed=[first(100)], policy=policy)
    assert (late.late_usage, late.can_wait) == (policy, can_wait)
    assert late.line.amount == Money(15_65 - 14_23, "GBP")
    assert late.counted_before == counted(100)


def test_the_default_is_what_a_meter_without_a_policy_has() -> None:
    """And the default of that is the next invoice."""
    policy = IssuingPolicy(late_usage=LateUsage.CORRECT, meter_late_usage={"kwh": LateUsage.REFUSE})
    assert policy.late_usage_of("kwh") is LateUsage.REFUSE
    assert policy.late_usage_of("water") is LateUsage.CORRECT
    assert IssuingPolicy().late_usage_of("water") is LateUsage.NEXT_INVOICE


def test_what_comes_back_is_not_refused() -> None:
    """A seller may give up what it is owed, and not what it owes."""
    [late] = due(90, billed=[first(100)], policy=LateUsage.REFUSE)
    assert (late.late_usage, late.line.amount) == (LateUsage.NEXT_INVOICE, Money(12_81 - 14_23, "GBP"))


def test_what_was_refused_is_not_proposed_again() -> None:
    """Neither the same nor less of it; only what came beyond it."""
    billed, refused = [first(100)], refused_of(110, 1_42)
    assert due(110, billed=billed, refused=refused) == []
    assert due(105, billed=billed, refused=refused, position=3) == []
    [more] = due(120, billed=billed, refused=refused, position=3, policy=LateUsage.REFUSE)
    assert more.line.amount == Money(17_07 - 15_65, "GBP")
    assert more.counted_before == counted(110, position=2)
    [less] = due(90, billed=billed, refused=refused, position=3)
    assert less.line.amount == Money(12_81 - 14_23, "GBP")


def test_what_was_refused_is_left_out_of_a_first_line_too() -> None:
    """Of a period that is billed anew, because the invoice was annulled."""
    refused = refused_of(110, 1_42)
    [anew] = due(110, refused=refused)
    assert anew.line.amount == Money(14_23, "GBP")
    again = recomputed(anew.line, price=KWH, usage=counted(120, position=3), billed_elsewhere=None, refused=refused)
    assert again.amount == Money(17_07 - 1_42, "GBP")


@given(quantity=st.integers(0, 200), pence=st.integers(1, 3_000), before=st.integers(0, 100))
def test_a_line_says_what_was_left_out(quantity: int, pence: int, before: int) -> None:
    """It is made again from that to the cent, its steps add up to it, and it is never below nothing because of it."""
    billed = [first(before)]
    refused = refused_of(before, pence, position=1)
    for each in due(quantity + 1_000, billed=billed, refused=refused):
        assert each.line.amount.minor > 0
        assert exact_sum(step.amount for step in each.line.steps) == each.line.exact_amount
        assert refused_in(each.line) == refused.amount
        again = derived_again(
            each.line,
            price=KWH,
            usage=each.line.usage,
            billed=Billed.of((line, True) for line in billed),
        )
        assert again == each.line


def test_nothing_is_left_out_of_what_comes_back() -> None:
    """It was not billed, so there is nothing to give back of it."""
    [back] = due(90, billed=[first(100)])
    assert less_refused(back.line, Money(5_00, "GBP")) is back.line
    assert all(step.kind is not StepKind.REFUSED for step in back.line.steps)


@given(quantity=st.integers(0, 99), share=st.fractions(0, 1))
def test_nobody_is_given_the_same_back_twice(quantity: int, share: Fraction) -> None:
    """What credit notes gave back and what corrections take off never come to more than was billed; the line says it,
    and is made again from that to the cent.
    """
    before = first(100)
    credited = Money(int(before.amount.minor * share), "GBP")
    found = due(quantity, billed=[before], credited=credited)
    taken_off = min(before.amount - first(quantity).amount, before.amount - credited)
    assert [-each.line.amount for each in found] == ([taken_off] if taken_off.minor else [])
    for each in found:
        assert exact_sum(step.amount for step in each.line.steps) == each.line.exact_amount
        billed = Billed.of([(before, True)])
        assert derived_again(each.line, price=KWH, usage=each.line.usage, billed=billed) == each.line


@pytest.mark.parametrize("policy", list(LateUsage))
def test_what_is_not_to_wait_is_looked_for_every_day(policy: LateUsage) -> None:
    """As long as the period is open to correction, and not longer."""
    look = next_look(PERIODS, as_of=APR.start, next_bill_time=APR.end, policy=of(policy))
    assert look == (APR.start + timedelta(days=1) if policy.is_prompt else APR.end)
    late = MAR.end + CORRECTION_WINDOW - timedelta(hours=1)
    far = late + timedelta(days=9)
    assert next_look(PERIODS, as_of=late, next_bill_time=far, policy=of(policy)) == far


def test_a_period_under_way_is_not_looked_at_every_day() -> None:
    """There is nothing billed of it yet."""
    periods: list[BillablePeriod] = [replace(PERIODS[0])]
    look = next_look(periods, as_of=MAR.start, next_bill_time=MAR.end, policy=of(LateUsage.CORRECT))
    assert look == MAR.end
