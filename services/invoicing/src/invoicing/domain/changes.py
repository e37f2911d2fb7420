"""Knows what a quantity costs that changed within the period: tier by tier, from level to level.

Quantities here have no last decimal as a rule (a third of a month of a seat), so they are fractions.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final

from common.errors import InvalidArgument
from invoicing.domain.exact import NOTHING, as_decimal
from invoicing.domain.price import Graduated, Tier, UnitConversion
from invoicing.domain.steps import (
    Labels,
    RatingStep,
    StepKind,
    counted,
    lowered,
    plain,
    several,
    tier_name,
    told_step,
)
from invoicing.domain.tariffs import flat_step_of
from invoicing.domain.usage import QuantityChange

DENOMINATOR_BITS_MAX: Final = 10_000
"""Of changes that are spread over tiers: enough for every whole number up to some thousands. Beyond it the exact sum
grows longer than anybody could check."""

CHANGES_TOLD_MAX: Final = 20
"""Of how many changes it is told, one by one, what they leave in each tier."""

TIERS_TOLD_MAX: Final = 10
"""Of those that one change passes."""

Move = tuple[Fraction, Fraction]
"""A change that was converted: by how much, and in proportion to what was left of the period."""

Spread = list[tuple[Fraction, RatingStep]]
"""Each step with its exact amount; what is written of it may end before it does."""


def change_steps(
    model: Graduated,
    changes: Sequence[QuantityChange],
    *,
    conversion: UnitConversion | None,
    free_units: Decimal | None,
    labels: Labels,
) -> Spread:
    """Each change is spread over the tiers it passes. Those begin above the free units; else the first has no floor."""
    _check(model, conversion)
    factor = Fraction(1) if conversion is None else conversion.factor
    free = Fraction(free_units or 0)
    floors = [Fraction(0), *(Fraction(tier.up_to) for tier in model.tiers if tier.up_to is not None)]
    moves = [move for change in changes if (move := _move(change, factor)) is not None]
    bottoms = [free + floor for floor in floors]
    quantities, highest = _walk(moves, bottoms)
    names = [
        tier_name(as_decimal(floor), tier.up_to, labels.unit_label)
        for tier, floor in zip(model.tiers, floors, strict=True)
    ]
    spread: Spread = [(Fraction(0), step) for step in _told(moves, bottoms, names, labels)]
    for tier, floor, quantity in zip(model.tiers, floors, quantities, strict=True):
        over = as_decimal(floor)
        if quantity or not floor:
            spread.append(_units(tier, over, quantity, labels))
        reached = highest > free + floor or (not floor and model.flat_without_usage)
        if tier.flat_amount and reached:
            spread.append((Fraction(tier.flat_amount), flat_step_of(tier, over, labels, "")))
    return spread


def _check(model: Graduated, conversion: UnitConversion | None) -> None:
    if any(tier.package_size is not None for tier in model.tiers):
        raise InvalidArgument(
            "must be absent: a price by started packages has no prorated quantities", field="usage.changes"
        )
    if conversion is not None and conversion.rounding is not None:
        raise InvalidArgument(
            "must be absent: a conversion that rounds has no prorated quantities", field="usage.changes"
        )


def _told(
    moves: Sequence[Move], floors: Sequence[Fraction], names: Sequence[str], labels: Labels
) -> Iterator[RatingStep]:
    """What the first changes leave in each tier, so that the quantities of the tiers can be added up."""
    level = Fraction(0)
    for quantity, prorated in moves[:CHANGES_TOLD_MAX]:
        start, level = level, level + quantity
        to = counted(as_decimal(level), labels.unit_label)
        words = f"From {plain(as_decimal(start))} to {to}, {plain(as_decimal(prorated))} prorated"
        low, high = min(start, level), max(start, level)
        parts = _parts(low, high, prorated, floors, names)
        if len(parts) > TIERS_TOLD_MAX:
            words = f"{words}: spread over {len(parts)} tiers"
        elif len(floors) > 1 or floors[0]:
            words = f"{words}: {', '.join(parts)}"
        yield told_step(StepKind.REMARK, words, as_decimal(quantity))
    rest = len(moves) - CHANGES_TOLD_MAX
    if rest > 0:
        yield told_step(StepKind.REMARK, f"{several(rest, 'more change')} in the same way", NOTHING)


def _parts(
    low: Fraction, high: Fraction, prorated: Fraction, floors: Sequence[Fraction], names: Sequence[str]
) -> list[str]:
    """Of one change, in proportion to the units in each tier; below the first one they are free, if any are."""
    parts = []
    if low < floors[0] and floors[0]:
        parts.append(f"{plain(as_decimal(prorated * (min(high, floors[0]) - low) / (high - low)))} free")
    for floor, ceiling, name in zip(floors, [*floors[1:], max(high, floors[-1])], names, strict=True):
        bottom = low if not floor else max(low, floor)
        if bottom < min(high, ceiling):
            share = prorated * (min(high, ceiling) - bottom) / (high - low)
            parts.append(f"{plain(as_decimal(share))} in “{lowered(name)}”")
    return parts


def _walk(moves: Sequence[Move], floors: Sequence[Fraction]) -> tuple[list[Fraction], Fraction]:
    """The prorated quantity of each tier, and the highest level."""
    scale = math.lcm(*(each.denominator for each in (*floors, *(quantity for quantity, _ in moves))))
    bottoms = [int(floor * scale) for floor in floors]
    inside = [Fraction(0)] * len(floors)
    spread = _Spreading(bottoms)
    level = highest = 0
    for quantity, prorated in moves:
        start, level = level, level + int(quantity * scale)
        highest = max(highest, level)
        low, high = min(start, level), max(start, level)
        first, last = max(bisect_right(bottoms, low) - 1, 0), max(bisect_left(bottoms, high) - 1, 0)
        if first == last and (low >= bottoms[first] or not bottoms[0]):
            # Nearly every change: nothing has to be divided. Below zero it is the first tier.
            inside[first] += prorated
        elif high > bottoms[0]:
            spread.add(low, high, prorated / (high - low))
    return [alone + shared for alone, shared in zip(inside, spread.quantities(), strict=True)], Fraction(highest, scale)


def _move(change: QuantityChange, factor: Fraction) -> Move | None:
    if change.quantity:
        return Fraction(change.quantity) * factor, Fraction(change.prorated_quantity) * factor
    if change.prorated_quantity:
        raise InvalidArgument("must be 0: nothing was changed", field="usage.changes.prorated_quantity")
    return None


class _Spreading:
    """What changes that pass several tiers leave in each: whole numbers over one denominator, added up at the end."""

    def __init__(self, bottoms: Sequence[int]) -> None:
        self._bottoms = bottoms
        self._passages: list[tuple[int, int, Fraction]] = []
        self._denominator = 1

    def add(self, low: int, high: int, ratio: Fraction) -> None:
        self._denominator = math.lcm(self._denominator, ratio.denominator)
        if self._denominator.bit_length() > DENOMINATOR_BITS_MAX:
            raise InvalidArgument("must not be by so many sizes that have nothing in common", field="usage.changes")
        self._passages.append((low, high, ratio))

    def quantities(self) -> list[Fraction]:
        bottoms = self._bottoms
        ends = [0] * len(bottoms)
        # Of tiers that are passed from end to end: what begins with each less what has ended before it.
        throughout = [0] * (len(bottoms) + 1)
        for low, high, ratio in self._passages:
            each = ratio.numerator * (self._denominator // ratio.denominator)
            first, last = max(bisect_right(bottoms, low) - 1, 0), bisect_left(bottoms, high) - 1
            bottom = low if not bottoms[0] else max(low, bottoms[first])
            if last <= first:
                ends[first] += each * (high - bottom)
                continue
            ends[first] += each * (bottoms[first + 1] - bottom)
            ends[last] += each * (high - bottoms[last])
            throughout[first + 1] += each
            throughout[last] -= each
        widths = [*(upper - lower for lower, upper in pairwise(bottoms)), 0]
        passing = accumulate(throughout[:-1])
        return [
            Fraction(end + each * width, self._denominator)
            for end, each, width in zip(ends, passing, widths, strict=True)
        ]


def _units(tier: Tier, over: Decimal, quantity: Fraction, labels: Labels) -> tuple[Fraction, RatingStep]:
    written = as_decimal(quantity)
    if tier.percent is not None:
        exact = quantity * Fraction(tier.percent) / 100
        step = RatingStep(
            StepKind.PERCENT, written, None, as_decimal(exact), labels, over, tier.up_to, percent=tier.percent
        )
    else:
        exact = quantity * Fraction(tier.unit_price)
        step = RatingStep(StepKind.UNITS, written, tier.unit_price, as_decimal(exact), labels, over, tier.up_to)
    return exact, step
