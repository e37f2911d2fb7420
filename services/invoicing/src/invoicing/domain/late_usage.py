"""Knows what becomes of usage that changes after it was billed: who wants it billed how, and what was refused of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Final

from common.money import Money, exact_sum, round_half_up
from common.period import Period
from invoicing.domain.line import Line, Usage
from invoicing.domain.steps import StepKind, flat_step

LOOK_EVERY: Final = timedelta(days=1)
"""How often a period is looked at again whose late usage is not to wait for the next bill."""


class LateUsage(Enum):
    """What is to become of the difference that it makes."""

    NEXT_INVOICE = "NEXT_INVOICE"
    CORRECT = "CORRECT"
    REISSUE = "REISSUE"
    REFUSE = "REFUSE"

    @property
    def is_prompt(self) -> bool:
        """Whether it is looked for before there is a next bill."""
        return self in (LateUsage.CORRECT, LateUsage.REISSUE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was refused of one period so far: it is not billed by another name either."""

    amount: Money
    usage: Usage
    """What had been counted when it was refused last."""
    times: int


class Outcome(Enum):
    """What became of a difference."""

    BILLED = "BILLED"
    """A line item is for it."""
    REFUSED = "REFUSED"
    REISSUED = "REISSUED"
    """The invoice that billed the period was annulled because of it."""
    WAITING = "WAITING"
    """Nothing yet: it is not on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRecord:
    """What became of a difference that usage made after it was billed. Amounts are before discounts and taxes."""

    id: str
    outcome: Outcome
    customer_id: str
    """Who used it."""
    payer_id: str
    line: Line
    """As it is billed, or would have been."""
    before: Usage
    """What had been counted when it was billed, or refused, last."""
    invoice_id: str
    """The one that bills it, or that was annulled; empty where it was refused."""
    number: int
    """The how manieth refusal of the period; 0 of all else."""
    create_time: datetime

    @property
    def usage(self) -> Usage:
        assert self.line.usage is not None, "only usage comes late"
        return self.line.usage

    @property
    def quantity(self) -> Decimal:
        """By how much the quantity had changed."""
        return exact_sum((self.usage.quantity, self.before.quantity.copy_negate()))

    @property
    def billed(self) -> Money:
        """What was billed of the period by then."""
        return taken_off(self.line, StepKind.BILLED_BEFORE) or Money.zero(self.line.amount.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What became of a difference, as it is told: with what happened since."""

    id: str
    outcome: Outcome
    is_counted_anew: bool
    """Whether another version of the meter made it, and not usage that came late or was corrected."""
    customer_id: str
    payer_id: str
    subscription_id: str
    item_id: str
    price_id: str
    period: Period
    quantity: Decimal
    event_count: int
    amount: Money
    usage: Usage
    after_position: int
    invoice_id: str
    line_id: str
    credit_note_id: str
    new_invoice_id: str
    create_time: datetime
    policy: LateUsage | None = None
    """What will become of it, as it stands; None of what is settled."""


def less_refused(line: Line, refused: Money | None) -> Line:
    """Without what was refused before, as far as there is so much of it. Nobody is given less back because of it."""
    if refused is None or line.amount.minor <= 0 or refused.minor <= 0:
        return line
    less = min(line.amount, refused)
    step = flat_step("Less late usage that was refused", (-less).amount, kind=StepKind.REFUSED)
    return replace(
        line,
        amount=line.amount - less,
        steps=(*line.steps, step),
        exact_amount=exact_sum((line.exact_amount, step.amount)),
    )


def less_credited(line: Line, left: Money) -> Line:
    """What it takes off as far as so much is `left` of what was billed: nothing is given back twice."""
    kept = -line.amount - left
    return line if kept.minor <= 0 else without_credited(line, min(kept, -line.amount))


def without_credited(line: Line, credited: Money) -> Line:
    """What is below zero without what was given back before; discounts are taken back in proportion."""
    # Of what was billed in advance other credits may have given back, too.
    told = "Given back before" if line.is_credit else "Given back before by credit notes"
    step = flat_step(told, credited.amount, kind=StepKind.CREDITED_BEFORE)
    amount = line.amount + credited
    share = Fraction(amount.minor, line.amount.minor)
    shares = [replace(each, amount=_part(each.amount, share)) for each in line.discounts]
    return replace(
        line,
        amount=amount,
        steps=(*line.steps, step),
        exact_amount=exact_sum((line.exact_amount, step.amount)),
        discounts=tuple(each for each in shares if each.amount.minor),
    )


def credited_in(line: Line) -> Money | None:
    """What the line leaves out because it was given back before."""
    taken = taken_off(line, StepKind.CREDITED_BEFORE)
    return None if taken is None else -taken


def refused_in(line: Line) -> Money | None:
    """What the line leaves out of what it was derived from, because it was refused."""
    return taken_off(line, StepKind.REFUSED)


def taken_off(line: Line, kind: StepKind) -> Money | None:
    """By the steps of a kind; None where there is none."""
    steps = [step.amount for step in line.steps if step.kind is kind]
    return -Money.rounded(exact_sum(steps), line.amount.currency) if steps else None


def _part(amount: Money, share: Fraction) -> Money:
    return Money(round_half_up(amount.minor * share), amount.currency)


def counted_last(billed: Usage, refused: Refused | None) -> Usage:
    """The newer one of what was billed, and of what was refused."""
    if refused is None or refused.usage.through_position < billed.through_position:
        return billed
    return refused.usage
