"""Knows what is to be billed: a line for every billable period, minus what is already billed. Twice is nothing.

    subscriptions say   when and what     BillablePeriod
    catalog says        for how much      Price
    metering says       how many          Usage
    invoices say        what is billed    Billed

The same function gives the lines of a bill run, of the upcoming invoice, and of the correction for late usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from common.money import Money, exact_sum, sum_money
from common.period import Period
from invoicing.domain.early_bill import BILLED_EARLY, REST, EarlyBill
from invoicing.domain.errors import TooManyLines
from invoicing.domain.exact import as_decimal
from invoicing.domain.issuing_policy import NOTHING_DECLARED, IssuingPolicy
from invoicing.domain.late_usage import (
    LateUsage,
    Refused,
    counted_last,
    credited_in,
    less_credited,
    less_refused,
    refused_in,
    without_credited,
)
from invoicing.domain.line import Line, LineDiscount, LineKey, LineKind, Usage, usage_to_rate
from invoicing.domain.line_discounts import taken_back, together
from invoicing.domain.price import Needs, Price
from invoicing.domain.rating import Rating, rate
from invoicing.domain.steps import StepKind, flat_step
from invoicing.domain.usage import UsageToRate

LINES_MAX: Final = 10_000
RATINGS_KEPT: Final = 2_000
"""Of licensed prices: many customers have one of the same."""

CORRECTION_WINDOW: Final = timedelta(days=62)
"""How long after its end a metered period is asked about again: two bill runs of a monthly customer."""


class UsageKey(NamedTuple):
    """What is asked of metering, for one customer."""

    meter: str
    period: Period
    needs: Needs = Needs()
    """Two prices may look at the same usage in different ways."""

    @property
    def meters(self) -> tuple[str, ...]:
        return self.meter, *self.needs.other_meters


@dataclass(frozen=True, slots=True, kw_only=True)
class BillablePeriod:
    """One stretch of time of one item that is to be billed once."""

    subscription_id: str
    item_id: str
    price_id: str
    quantity: Decimal | None
    """How many, for a licensed price; None for a metered one."""
    meter: str
    """The code of the meter, for a metered price; empty for a licensed one."""
    period: Period
    full_period: Period
    proration: Fraction
    bill_time: datetime
    kind: LineKind = LineKind.OWED
    change_id: str = ""
    customer_id: str = ""
    """Who uses it."""
    payer_id: str = ""
    """Who gets the invoice, if that is somebody else."""
    plan_id: str = ""
    """The plan that the item came with."""
    coupon_ids: tuple[str, ...] = ()
    """The coupons that apply to it, in the order in which they were applied."""

    @property
    def key(self) -> LineKey:
        return LineKey(self.item_id, self.price_id, self.period.start, self.kind, self.change_id)

    @property
    def beneficiary_id(self) -> str:
        """Who uses it, as lines tell it: empty for whoever gets the invoice."""
        return self.customer_id if self.payer_id not in ("", self.customer_id) else ""

    def due(self, line: Line, *, bill_time: datetime, can_wait: bool) -> Due:
        """The line that it makes, with what decides on which invoice that goes."""
        return Due(
            line=line,
            bill_time=bill_time,
            can_wait=can_wait,
            customer_id=self.customer_id,
            payer_id=self.payer_id or self.customer_id,
            plan_id=self.plan_id,
        )


class BilledLine(Protocol):
    """As much of a line as tells what more there is to bill."""

    @property
    def amount(self) -> Money: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def correction(self) -> int: ...
    @property
    def discounts(self) -> tuple[LineDiscount, ...]: ...
    @property
    def period_end(self) -> datetime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """What has been billed for one key so far, corrections included."""

    amount: Money
    usage: Usage | None
    """What the last of the lines had counted."""
    correction: int
    """The number of the last of the lines."""
    is_final: bool
    """Whether every one of the lines stands on a finalized invoice. A draft is recomputed, never corrected."""
    discounts: tuple[LineDiscount, ...] = ()
    """What was taken off them, each discount once."""
    credited: Money | None = None
    """What credit notes gave back of it, where somebody has asked."""
    through: datetime | None = None
    """Up to when the last of the lines bills; None where nothing is billed before its time."""

    @classmethod
    def of(cls, lines: Iterable[tuple[BilledLine, bool]]) -> Billed:
        """From the lines of one key, each with whether it is final."""
        ordered = sorted(lines, key=lambda each: each[0].correction)
        last = ordered[-1][0]
        return cls(
            amount=sum_money((line.amount for line, _ in ordered), last.amount.currency),
            usage=last.usage,
            correction=last.correction,
            is_final=all(final for _, final in ordered),
            discounts=together(line.discounts for line, _ in ordered),
            through=last.period_end,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A proposed line, and when it is to be billed."""

    line: Line
    bill_time: datetime
    can_wait: bool
    """A correction joins the next bill if one will come in time: nobody wants an invoice of its own for some cents. A
    credit waits for a bill that it can be taken off.
    """
    customer_id: str = ""
    """Who uses it."""
    payer_id: str = ""
    """Who gets the invoice."""
    plan_id: str = ""
    is_held: bool = False
    """Not to be billed yet, whatever else is."""
    bill_alone_time: datetime | None = None
    """When it can wait no more, if there is such a time."""
    late_usage: LateUsage | None = None
    """What becomes of it, of a difference that usage makes after it was billed."""
    counted_before: Usage | None = None
    """Of such a difference: what it is a difference to."""
    early: EarlyBill | None = None
    """Why it is billed before its period ends, if it is."""
    is_rest: bool = False
    """Whether it is the line of a period of which a part was billed early."""
    gives_back: bool = False
    """Whether what was billed early is to be given back, and billed anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The line that a credit is of, and whether it is final."""

    line: Line
    is_final: bool
    left: Money
    """What nobody has given back of it."""


def lines_due(
    periods: Sequence[BillablePeriod],
    prices: Mapping[str, Price],
    usage: Mapping[UsageKey, Usage],
    already_billed: Mapping[LineKey, Billed],
    *,
    as_of: datetime,
    next_bill_time: datetime | None,
    sources: Mapping[LineKey, Source] | None = None,
    policy: IssuingPolicy = NOTHING_DECLARED,
    refused: Mapping[LineKey, Refused] | None = None,
    early: Mapping[LineKey, str] | None = None,
) -> list[Due]:
    """The lines to bill now, in the order of the periods. Usage must be there for every metered period.

    `sources` are by the credits that they are for, `early` tells who was billed a part of a period before it ended.
    Discounts are not taken off yet, but those of a credit taken back. Differences that are not to be billed as
    such, by the policy for late usage, are among them and say so.
    """
    due: list[Due] = []
    for each in periods:
        billed = already_billed.get(each.key)
        before = None if refused is None else refused.get(each.key)
        price = prices[each.price_id]
        if each.kind is not LineKind.OWED:
            source = None if sources is None else sources.get(each.key)
            credit = _credit(each, price, billed, source)
            if credit is not None:
                # What a coupon takes off a draft may still be spread in another way.
                is_held = source is not None and not source.is_final and bool(source.line.coupon_ids)
                proposed = each.due(credit, bill_time=each.bill_time, can_wait=True)
                due.append(replace(proposed, is_held=is_held))
        elif billed is None:
            counted = usage[UsageKey(each.meter, each.period, price.needs)] if each.meter else None
            line = less_refused(first_line(each, price, counted), None if before is None else before.amount)
            due.append(each.due(line, bill_time=each.bill_time, can_wait=False))
        elif early and each.key in early and (billed.through != each.period.end or early[each.key] != each.customer_id):
            line = first_line(each, price, usage[UsageKey(each.meter, each.period, price.needs)])
            due.append(_rest(each, line, billed, before, customer_id=early[each.key]))
        elif each.meter and is_open_to_correction(each, as_of):
            correction = _correction(each, price, usage[UsageKey(each.meter, each.period, price.needs)], billed, before)
            if correction is not None:
                assert billed.usage is not None, "as it was corrected"
                last_chance = next_bill_time is None or next_bill_time > each.period.end + CORRECTION_WINDOW
                wanted = policy.late_usage_for(correction)
                proposed = each.due(correction, bill_time=as_of, can_wait=not (last_chance or wanted.is_prompt))
                due.append(replace(proposed, late_usage=wanted, counted_before=counted_last(billed.usage, before)))
        if len(due) > LINES_MAX:
            raise TooManyLines(f"more than {LINES_MAX} lines are due at once", limit=LINES_MAX)
    return due


def recomputed(
    line: Line, *, price: Price, usage: Usage, billed_elsewhere: Billed | None, refused: Refused | None = None
) -> Line:
    """A metered line of a draft, as the usage stands now."""
    assert line.usage is not None, "a licensed line does not change"
    if usage.through_position < line.usage.through_position:
        return line
    again = _rated(line, rate(price, usage_to_rate(price, usage)), usage)
    if billed_elsewhere is not None:
        again = _difference(again, billed_elsewhere, correction=line.correction)
        again = _not_twice(again, billed_elsewhere)
    return less_refused(again, None if refused is None else refused.amount)


def derived_again(line: Line, *, price: Price, usage: Usage | None, billed: Billed | None) -> Line:
    """A line from what it was derived from; `billed` is what stood on invoices before it.

    Not derived, and so taken over: what it is called, who used it, how much of a credit there was room for, what had
    been refused, discounts, and how it is taxed.
    """
    each = BillablePeriod(
        subscription_id=line.subscription_id,
        item_id=line.item_id,
        price_id=line.price_id,
        quantity=line.quantity if usage is None else None,
        meter="" if usage is None else usage.meter,
        period=line.period,
        full_period=line.full_period,
        proration=line.proration,
        bill_time=line.period.start,
        kind=line.kind,
        change_id=line.change_id,
    )
    if line.is_credit:
        again = _credit(each, price, billed, None)
        assert again is not None, "there was something to take off"
        credited = credited_in(line)
        again = again if credited is None else without_credited(again, credited)
        if any(step.kind is StepKind.CREDITED_LATER for step in line.steps):
            again = again.credited(line.amount)
    else:
        again = first_line(each, price, usage)
        if billed is not None:
            again = _difference(again, billed, correction=line.correction)
        again = less_refused(again, refused_in(line))
        credited = credited_in(line)
        again = again if credited is None else without_credited(again, credited)
    return replace(
        again,
        id=line.id,
        description=line.description,
        unit_label=line.unit_label,
        discounts=line.discounts,
        customer_id=line.customer_id,
        tax_code=line.tax_code,
        tax_rate_ids=line.tax_rate_ids,
        coupon_ids=line.coupon_ids,
    )


def is_open_to_correction(each: BillablePeriod, as_of: datetime) -> bool:
    return each.period.end <= as_of <= each.period.end + CORRECTION_WINDOW


def first_line(each: BillablePeriod, price: Price, usage: Usage | None) -> Line:
    quantity = usage.quantity if usage is not None else each.quantity
    assert quantity is not None, "a licensed item has a quantity"
    rating = _licensed(price, quantity) if usage is None else rate(price, usage_to_rate(price, usage))
    line = Line(
        id="",
        description=price.product,
        subscription_id=each.subscription_id,
        item_id=each.item_id,
        price_id=each.price_id,
        period=each.period,
        full_period=each.full_period,
        quantity=quantity,
        unit_label=price.unit_label,
        amount=rating.amount,
        steps=rating.steps,
        exact_amount=rating.exact_amount,
        # The usage of a part of a period is itself only a part.
        proration=_WHOLE if usage is not None else each.proration,
        usage=usage,
        correction=0,
        kind=each.kind,
        change_id=each.change_id,
        customer_id=each.beneficiary_id,
        tax_code=price.tax_code,
        product_id=price.product_id,
        coupon_ids=each.coupon_ids,
    )
    return line if line.proration == 1 else _share(line)


@lru_cache(maxsize=RATINGS_KEPT)
def _licensed(price: Price, quantity: Decimal) -> Rating:
    return rate(price, UsageToRate.of(quantity))


def source_of(credit: BillablePeriod | Line, lines: Iterable[Line]) -> Line | None:
    """Which of the lines was billed for what is taken off: of those for all of that time the one that began last, of as
    many. What the same change made due comes in its place, and what was written later is of a later change.
    """
    mine = [
        line
        for line in lines
        if (line.item_id, line.price_id, line.kind, line.correction)
        == (credit.item_id, credit.price_id, LineKind.OWED, 0)
        and line.period.start <= credit.period.start
        and credit.period.end <= line.period.end
    ]
    change_id, written = credit.change_id, credit.id if isinstance(credit, Line) else ""

    def near(line: Line) -> tuple[bool, bool, datetime, bool, bool, str]:
        is_other = not change_id or line.change_id != change_id
        is_as_many = line.quantity == credit.quantity
        # What has no id yet is the newest.
        return is_other, not written or "" < line.id < written, line.period.start, is_as_many, not line.id, line.id

    return max(mine, key=near, default=None)


def _credit(each: BillablePeriod, price: Price, billed: Billed | None, source: Source | None) -> Line | None:
    """What is to be taken off for a period, or is left of it; None when nothing is.

    Prices never change, so this is the share of what was billed for the period; and of its discounts the same share is
    taken back.
    """
    owed = first_line(each, price, None)
    whole = replace(
        owed,
        coupon_ids=(),
        discounts=() if source is None else taken_back(-owed.amount, source.line.amount, source.line.discounts),
        description=f"{owed.description}{_UNUSED}",
        amount=-owed.amount,
        steps=tuple(step._replace(amount=step.amount.copy_negate()) for step in owed.steps),
        exact_amount=owed.exact_amount.copy_negate(),
    )
    if billed is not None:
        step = flat_step("Less what was taken off before", (-billed.amount).amount, kind=StepKind.BILLED_BEFORE)
        whole = replace(
            whole,
            amount=whole.amount - billed.amount,
            steps=(*whole.steps, step),
            exact_amount=exact_sum((whole.exact_amount, step.amount)),
            correction=billed.correction + 1,
            discounts=together([whole.discounts, [replace(d, amount=-d.amount) for d in billed.discounts]]),
        )
    return whole if whole.amount.minor < 0 else None


def _share(whole: Line) -> Line:
    """The part of a whole period's amount that is owed for a part of the period."""
    share = Fraction(whole.exact_amount) * whole.proration
    # The amount is rounded from the exact fraction; of one that has no last decimal not all can be written down.
    written = as_decimal(share)
    taken_off = flat_step(
        f"{whole.proration} of the full period",
        exact_sum((written, whole.exact_amount.copy_negate())),
        kind=StepKind.PRORATION,
    )
    return replace(
        whole,
        amount=Money.rounded(share, whole.amount.currency),
        steps=(*whole.steps, taken_off),
        exact_amount=written,
    )


def _correction(
    each: BillablePeriod, price: Price, usage: Usage, billed: Billed, refused: Refused | None
) -> Line | None:
    """What late usage, or another version of the meter, adds to, or takes off, what was billed for the period; None
    when it changes nothing, or was refused.
    """
    before = billed.usage
    if not billed.is_final or before is None or usage.is_counted_like(before):
        return None
    if usage.through_position < before.through_position:
        # Asked before the invoice was finalized with what came in later.
        return None
    line = _difference(first_line(each, price, usage), billed, correction=billed.correction + 1)
    line = _not_twice(less_refused(line, None if refused is None else refused.amount), billed)
    return line if line.amount.minor else None


def _not_twice(correction: Line, billed: Billed) -> Line:
    """What it takes off as far as no credit note has given it back."""
    return correction if billed.credited is None else less_credited(correction, billed.amount - billed.credited)


def _rest(each: BillablePeriod, whole: Line, billed: Billed, refused: Refused | None, *, customer_id: str) -> Due:
    """The line of a period of which a part was billed early, with what is left: also if that is nothing."""
    rest = further(whole, billed, described=REST)
    assert billed.usage is not None, "it was counted"
    assert whole.usage is not None, "so is this"
    is_beyond = customer_id != each.customer_id or rest.amount.minor < 0
    is_beyond = is_beyond or billed.through is None or billed.through > each.period.end
    is_older = whole.usage.through_position < billed.usage.through_position
    line = less_refused(rest, None if refused is None else refused.amount)
    proposed = each.due(line, bill_time=each.bill_time, can_wait=False)
    is_held = is_beyond or is_older or not billed.is_final
    return replace(proposed, is_rest=True, is_held=is_held, gives_back=is_beyond and billed.is_final)


def further(whole: Line, billed: Billed, *, described: str) -> Line:
    """What more there is to a period that was billed before it ended."""
    told = replace(whole, description=f"{whole.description}{described}")
    return _difference(told, billed, correction=billed.correction + 1)


def _difference(whole: Line, billed: Billed, *, correction: int) -> Line:
    """Rounded amounts are compared, so that the lines of a period always add up to its rounded amount."""
    assert whole.usage is not None
    counted = billed.usage.quantity if billed.usage is not None else Decimal(0)
    is_defined_anew = billed.usage is not None and not whole.usage.is_defined_like(billed.usage)
    described = whole.description.removesuffix(_LATE).removesuffix(_DEFINED_ANEW)
    why = _DEFINED_ANEW if is_defined_anew else _LATE
    taken_off = flat_step("Less what was billed before", (-billed.amount).amount, kind=StepKind.BILLED_BEFORE)
    amount = whole.amount - billed.amount
    return replace(
        whole,
        description=described if described.endswith((BILLED_EARLY, REST)) else f"{described}{why}",
        quantity=exact_sum((whole.usage.quantity, counted.copy_negate())),
        amount=amount,
        steps=(*whole.steps, taken_off),
        exact_amount=exact_sum((whole.exact_amount, taken_off.amount)),
        correction=correction,
        discounts=taken_back(amount, billed.amount, billed.discounts) if amount.minor < 0 else (),
    )


def _rated(line: Line, rating: Rating, usage: Usage) -> Line:
    return replace(
        line,
        quantity=usage.quantity,
        amount=rating.amount,
        steps=rating.steps,
        exact_amount=rating.exact_amount,
        usage=usage,
    )


_WHOLE: Final = Fraction(1)
_LATE: Final = " – late usage"
_DEFINED_ANEW: Final = " – usage counted anew"
_UNUSED: Final = " – unused"
