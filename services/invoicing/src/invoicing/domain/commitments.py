"""Knows least amounts that are to be spent in committed periods, and the lines that bill what is missing.

    minimum of a full period × the share of it that is committed
    - what the subscription was billed for that time, before discounts
    = what is missing; nothing when more was spent

It is due with the last part of the period, also without any usage, on a line of its own. What late usage fills up later
is taken off again: the lines of a period always add up to what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.money import Money, exact_sum, minor_units
from common.period import Period, day_fraction
from invoicing.domain.exact import as_decimal
from invoicing.domain.line import Line, LineKey, LineKind
from invoicing.domain.lines_due import Billed, Due
from invoicing.domain.steps import StepKind, flat_step

TITLE: Final = "Minimum commitment"
_LATE: Final = " – spent since"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedPeriod:
    """One stretch of time in which a least amount is to be spent on a subscription."""

    subscription_id: str
    period: Period
    full_period: Period
    proration: Fraction
    minimum: Money
    """For the full period."""
    bill_time: datetime
    time_zone: str
    """Whose days are counted: the subscription's own, whoever pays for it."""

    @property
    def key(self) -> LineKey:
        """A commitment is of no item and no price: what is missing is billed once for the subscription."""
        return LineKey(self.subscription_id, "", self.period.start, LineKind.TRUE_UP, "")


def true_ups_due(
    commitments: Sequence[CommittedPeriod],
    spending: Iterable[Line],
    already_billed: Mapping[LineKey, Billed],
) -> list[Due]:
    """What is to be billed now for commitments, with what is billed and what is being billed of their subscriptions."""
    lines = list(spending)
    due: list[Due] = []
    for each in commitments:
        billed = already_billed.get(each.key)
        if billed is not None and not billed.is_final:
            continue  # on a draft, and computed anew with it
        whole = _true_up(each, spent_in(each.period, each.subscription_id, lines, zone=each.time_zone))
        line = whole if billed is None else _difference(whole, billed, correction=billed.correction + 1)
        if line.amount.minor:
            due.append(Due(line=line, bill_time=each.bill_time, can_wait=billed is not None))
    return due


def true_up_anew(line: Line, spending: Iterable[Line], *, billed_elsewhere: Billed | None, zone: str) -> Line:
    """One of a draft, with what has been spent by now. `zone` is that of lines from before they had one."""
    spent = spent_in(line.period, line.subscription_id, spending, zone=line.time_zone or zone)
    whole = replace(_true_up(committed_by(line), spent), id=line.id)
    return whole if billed_elsewhere is None else _difference(whole, billed_elsewhere, correction=line.correction)


def committed_by(line: Line) -> CommittedPeriod:
    """What a line was billed for."""
    return CommittedPeriod(
        subscription_id=line.subscription_id,
        period=line.period,
        full_period=line.full_period,
        proration=line.proration,
        minimum=Money.rounded(line.steps[0].amount, line.amount.currency),
        bill_time=line.period.end,
        time_zone=line.time_zone,
    )


def spent_in(period: Period, subscription_id: str, lines: Iterable[Line], *, zone: str) -> Fraction:
    """What a subscription was billed in a period, in minor units: of a line that reaches beyond, its share of days."""
    spent = Fraction(0)
    for line in lines:
        common = line.period.overlap(period)
        if line.subscription_id == subscription_id and line.kind is not LineKind.TRUE_UP and common is not None:
            share = Fraction(1) if common == line.period else day_fraction(common, line.period, zone)
            spent += line.amount.minor * share
    return spent


def _true_up(each: CommittedPeriod, spent_minor: Fraction) -> Line:
    minimum = each.minimum
    committed = Fraction(minimum.amount) * each.proration
    spent = spent_minor / 10 ** minor_units(minimum.currency)
    missing = max(committed - spent, Fraction(0))
    steps = [flat_step("The least to be spent in the full period", minimum.amount, kind=StepKind.COMMITTED)]
    if each.proration != 1:
        taken_off = exact_sum((as_decimal(committed), minimum.amount.copy_negate()))
        steps.append(flat_step(f"{each.proration} of the full period", taken_off, kind=StepKind.PRORATION))
    # No more than was to be spent: what is more was owed anyway.
    filled = min(spent, committed)
    steps.append(flat_step("Less what was spent", as_decimal(filled).copy_negate(), kind=StepKind.SPENT))
    return Line(
        id="",
        description=TITLE,
        subscription_id=each.subscription_id,
        item_id=each.subscription_id,
        price_id="",
        period=each.period,
        full_period=each.full_period,
        quantity=Decimal(1),
        unit_label="",
        amount=Money.rounded(missing, minimum.currency),
        steps=tuple(steps),
        exact_amount=exact_sum(step.amount for step in steps),
        proration=each.proration,
        usage=None,
        correction=0,
        kind=LineKind.TRUE_UP,
        time_zone=each.time_zone,
    )


def _difference(whole: Line, billed: Billed, *, correction: int) -> Line:
    taken_off = flat_step("Less what was billed before", (-billed.amount).amount, kind=StepKind.BILLED_BEFORE)
    return replace(
        whole,
        description=f"{TITLE}{_LATE}",
        amount=whole.amount - billed.amount,
        steps=(*whole.steps, taken_off),
        exact_amount=exact_sum((whole.exact_amount, taken_off.amount)),
        correction=correction,
    )
