"""Knows how to tell an amount so that anybody can follow it with a pencil: one sentence for each step, then the sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from common.money import exact_sum
from common.period import Period, civil_date, civil_days, day_fraction
from invoicing.domain.exact import NOTHING, WRITTEN_PLACES, added, less, places_written, product
from invoicing.domain.line import Line
from invoicing.domain.price import Dynamic, Matrix, Model, Percentage, Price, Volume, cell_name
from invoicing.domain.rating import Rating
from invoicing.domain.steps import ALL_ELSE, RatingStep, StepKind, counted, lowered, plain, price_text, tier_name

CUT: Final = (
    f"What has no last decimal is written with {WRITTEN_PLACES} of them, and rounded as the fraction that it is."
)

TAKEN_OFF_LAST: Final = (StepKind.BILLED_BEFORE, StepKind.REFUSED, StepKind.CREDITED_BEFORE)


def sentences(rating: Rating, price: Price, *, share: str = "") -> list[str]:
    """What each step adds or takes off, what that is together, how it is rounded, and what of it was billed before.

    `share` says which part of the period is owed, when more is known of it than the fraction.
    """
    telling = _Telling(price, share)
    told = []
    total = NOTHING
    before = [step for step in rating.steps if step.kind in TAKEN_OFF_LAST]
    for step in rating.steps:
        if step.kind not in TAKEN_OFF_LAST:
            told.append(telling.sentence(step, total))
            total = added(total, step.amount)
    # Rounded amounts are compared, so that what was billed before, or refused, is taken off last.
    period_amount = less(rating.amount.amount, exact_sum(step.amount for step in before))
    if any(
        places_written(number) == WRITTEN_PLACES for step in rating.steps for number in (step.quantity, step.amount)
    ):
        told.append(CUT)
    told += _rounded(total, period_amount, price.currency)
    for step in before:
        left = added(period_amount, step.amount)
        told.append(f"{step.description}: {_sum(period_amount, step.amount.copy_negate(), left, price.currency)}.")
        period_amount = left
    return told


def share_of(line: Line, time_zone: str) -> str:
    """Which part of its period a line is for, in days of the customer; empty for a whole one."""
    if line.proration == 1:
        return ""
    part, whole = civil_days(line.period, time_zone), civil_days(line.full_period, time_zone)
    days = f"{_dates(line.period, time_zone)} of {_dates(line.full_period, time_zone)}"
    if whole and day_fraction(line.period, line.full_period, time_zone) == line.proration:
        return f"{part} of {whole} days, {days}"
    return f"{line.proration} of the full period, {days}"


def _dates(period: Period, time_zone: str) -> str:
    """Half-open, as periods are: the day of a change belongs to what begins on it."""
    return f"{civil_date(period.start, time_zone)} until before {civil_date(period.end, time_zone)}"


@dataclass(slots=True)
class _Telling:
    price: Price
    share: str
    models: Mapping[str, Model] = field(init=False)
    """By the cell of a matrix; without one, what prices all of the rest."""

    def __post_init__(self) -> None:
        model = self.price.model
        self.models = {"": model}
        if isinstance(model, Matrix):
            cells = {cell_name(model, values): tariff for values, tariff in model.cells.items()}
            self.models = {"": model.default, **cells}

    def sentence(self, step: RatingStep, total: Decimal) -> str:
        """`total` is what the steps before it come to."""
        currency = self.price.currency
        amount = price_text(step.amount, currency)
        match step.kind:
            case StepKind.CONVERSION | StepKind.FREE | StepKind.REMARK:
                return f"{step.description}."
            case StepKind.UNITS if isinstance(self.price.model, Dynamic):
                return f"{step.description} = {amount}."
            case StepKind.UNITS if step.over is not None:
                where = self._where(step, step.over)
                return f"{where}: {plain(step.quantity)} × {_unit_price(step, currency)} = {amount}."
            case StepKind.UNITS | StepKind.PACKAGES | StepKind.FIXED_FEE:
                return f"{step.description}: {plain(step.quantity)} × {_unit_price(step, currency)} = {amount}."
            case StepKind.TRANSACTION_MINIMUM | StepKind.TRANSACTION_MAXIMUM:
                return f"{step.description}{self._bound(step)} = {amount}."
            case StepKind.DISCOUNT if step.percent is not None:
                return f"{plain(step.percent)}% off {price_text(total, currency)} = {amount}."
            case StepKind.PRORATION:
                left, words = added(total, step.amount), self.share or step.description
                of = f"{price_text(total, currency)} that is {price_text(left, currency)}"
                return f"{words}: of {of}, so {price_text(step.amount.copy_abs(), currency)} {_way(step.amount)}."
            case StepKind.MINIMUM | StepKind.MAXIMUM:
                return f"{step.description}: {_sum(added(total, step.amount), total, step.amount, currency)}."
            case _:
                return f"{step.description} = {amount}."

    def _where(self, step: RatingStep, over: Decimal) -> str:
        tier = tier_name(over, step.up_to, self.price.priced_unit_label)
        if isinstance(self.models.get(step.cell), Volume):
            # The quantity is not what lies inside of the tier.
            tier = f"{counted(step.quantity, self.price.priced_unit_label)} at the price of the tier “{lowered(tier)}”"
        where = step.cell or (ALL_ELSE if isinstance(self.price.model, Matrix) else "")
        return f"{where}: {tier}" if where else tier

    def _bound(self, step: RatingStep) -> str:
        model = self.price.model
        is_least = step.kind is StepKind.TRANSACTION_MINIMUM
        if not isinstance(model, Percentage):
            return ""
        bound = model.transaction_minimum if is_least else model.transaction_maximum or NOTHING
        before = less(product(step.quantity, bound), step.amount)
        currency = self.price.currency
        return f": {plain(step.quantity)} × {price_text(bound, currency)} − {price_text(before, currency)}"


def _rounded(total: Decimal, rounded: Decimal, currency: str) -> list[str]:
    together = f"Together {price_text(total, currency)}."
    difference = less(rounded, total)
    if not difference:
        return [together]
    change = f"{price_text(difference.copy_abs(), currency)} {_way(difference)}"
    return [together, f"Rounded half up to {price_text(rounded, currency)}: {change}."]


def _way(change: Decimal) -> str:
    return "added" if change > 0 else "taken off"


def _unit_price(step: RatingStep, currency: str) -> str:
    return price_text(step.unit_price or NOTHING, currency)


def _sum(left: Decimal, right: Decimal, result: Decimal, currency: str) -> str:
    """One taken off the other; less than nothing is taken off by adding it."""
    sign = "−" if right >= 0 else "+"
    return (
        f"{price_text(left, currency)} {sign} {price_text(right.copy_abs(), currency)} = {price_text(result, currency)}"
    )
