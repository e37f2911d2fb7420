"""Knows what one quantity costs by units, tiers or packages, step by step.

What does not depend on the quantity is prepared once: the steps of every tier that lies wholly below it.
"""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from typing import NamedTuple, Protocol

from invoicing.domain.exact import NOTHING, added, less, percent_of, product, started
from invoicing.domain.price import Graduated, Package, PerUnit, Tariff, Tier, Volume
from invoicing.domain.steps import ONCE, Labels, RatingStep, StepKind


class Cost(NamedTuple):
    """The steps, and what they add up to."""

    steps: tuple[RatingStep, ...]
    amount: Decimal


class Prepared(Protocol):
    """A tariff made ready for very many quantities, none of them below zero."""

    def cost(self, quantity: Decimal, tier_quantity: Decimal) -> Cost: ...


def prepared(tariff: Tariff, labels: Labels, cell: str = "") -> Prepared:
    match tariff:
        case PerUnit(unit_price=unit_price):
            return _Alone(Tier(up_to=None, unit_price=unit_price), labels, cell)
        case Package(size=size, price=price):
            return _Alone(Tier(up_to=None, unit_price=price, package_size=size), labels, cell)
        case Graduated():
            return _Ladder(tariff, labels, cell)
        case Volume():
            return _Chosen(tariff, labels._replace(is_volume=True), cell)


def costs_unused(tariff: Tariff) -> bool:
    """Whether something is due although nothing was used."""
    return isinstance(tariff, Graduated | Volume) and tariff.flat_without_usage and tariff.tiers[0].flat_amount > 0


def flat_step_of(tier: Tier, over: Decimal, labels: Labels, cell: str) -> RatingStep:
    return RatingStep(StepKind.FLAT, ONCE, None, tier.flat_amount, labels, over=over, up_to=tier.up_to, cell=cell)


class _Alone:
    """One unit price for every quantity."""

    def __init__(self, tier: Tier, labels: Labels, cell: str) -> None:
        self._tier = tier
        self._labels = labels
        self._cell = cell

    def cost(self, quantity: Decimal, tier_quantity: Decimal) -> Cost:
        step = _step(self._tier, None, quantity, self._labels, self._cell)
        return Cost((step,), step.amount)


class _Ladder:
    """Each part of the quantity at the price of the tier it lies in."""

    def __init__(self, model: Graduated, labels: Labels, cell: str) -> None:
        self._labels = labels
        self._cell = cell
        self._bounds = [tier.up_to for tier in model.tiers if tier.up_to is not None]
        self._rungs = list(zip(model.tiers, [NOTHING, *self._bounds], strict=True))
        # Of the tiers below each: their steps up to here, and what these add up to.
        self._ends = [0]
        self._costs = [NOTHING]
        full: list[RatingStep] = []
        for tier, over in self._rungs[:-1]:
            assert tier.up_to is not None
            steps, amount = self._inside(tier, over, less(tier.up_to, over))
            full += steps
            self._ends.append(len(full))
            self._costs.append(added(self._costs[-1], amount))
        self._full = tuple(full)
        self._unused = self._without_usage(model)

    def cost(self, quantity: Decimal, tier_quantity: Decimal) -> Cost:
        if not quantity:
            return self._unused
        index = bisect_left(self._bounds, quantity)
        tier, over = self._rungs[index]
        steps, amount = self._inside(tier, over, less(quantity, over))
        return Cost(self._full[: self._ends[index]] + steps, added(self._costs[index], amount))

    def _inside(self, tier: Tier, over: Decimal, inside: Decimal) -> Cost:
        step = _step(tier, over, inside, self._labels, self._cell)
        if not tier.flat_amount:
            return Cost((step,), step.amount)
        flat = flat_step_of(tier, over, self._labels, self._cell)
        return Cost((step, flat), added(step.amount, flat.amount))

    def _without_usage(self, model: Graduated) -> Cost:
        # The first tier is told even when nothing was used: no line is without a reason.
        if costs_unused(model):
            return self._inside(model.tiers[0], NOTHING, NOTHING)
        step = _step(model.tiers[0], NOTHING, NOTHING, self._labels, self._cell)
        return Cost((step,), NOTHING)


class _Chosen:
    """All of the quantity at the price of one tier."""

    def __init__(self, model: Volume, labels: Labels, cell: str) -> None:
        self._labels = labels
        self._cell = cell
        self._flat_without_usage = model.flat_without_usage
        self._bounds = [tier.up_to for tier in model.tiers if tier.up_to is not None]
        self._rungs = list(zip(model.tiers, [NOTHING, *self._bounds], strict=True))

    def cost(self, quantity: Decimal, tier_quantity: Decimal) -> Cost:
        tier, over = self._rungs[bisect_left(self._bounds, tier_quantity)]
        step = _step(tier, over, quantity, self._labels, self._cell)
        if not tier.flat_amount or not (quantity or self._flat_without_usage):
            return Cost((step,), step.amount)
        flat = flat_step_of(tier, over, self._labels, self._cell)
        return Cost((step, flat), added(step.amount, flat.amount))


def _step(tier: Tier, over: Decimal | None, inside: Decimal, labels: Labels, cell: str) -> RatingStep:
    """What lies inside of a tier, without its flat amount."""
    if tier.percent is not None:
        amount = percent_of(tier.percent, inside)
        return RatingStep(StepKind.PERCENT, inside, None, amount, labels, over, tier.up_to, tier.percent, None, cell)
    price, size = tier.unit_price, tier.package_size
    if size is not None:
        packages = started(inside, size)
        amount = product(packages, price)
        words = labels._replace(packed=inside)
        return RatingStep(StepKind.PACKAGES, packages, price, amount, words, over, tier.up_to, None, size, cell)
    return RatingStep(StepKind.UNITS, inside, price, product(inside, price), labels, over, tier.up_to, None, None, cell)
