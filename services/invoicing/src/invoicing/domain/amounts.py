"""Knows what very many quantities cost at one price, in whole numbers and without steps.

A price is compiled once: every number of it becomes a whole one over a common denominator, and every tier knows what
all those below it cost. What is left for a quantity is to find its tier, to multiply, to add, and to round. Nothing is
shared with `rate` but the price, so that each can be checked against the other.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, assert_never

from common.money import MINOR_MAX, Money, minor_units
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.exact import shifted
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Package,
    Percentage,
    PerUnit,
    Price,
    Rounding,
    Tier,
    UnitConversion,
    Volume,
)

COMPILED_MAX: Final = 256
"""How many compiled prices are kept."""

QUANTITY_PLACES: Final = 12
"""How many decimals a quantity has at most; one with more is rated the slow way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """Quantities are counted in such parts of one that each is a whole number, converted but not rounded; amounts in
    `1 / scale` of the minor unit.
    """

    factor: int
    """How many of them are in 10^-12."""
    step: int
    """To a multiple of how many of them a conversion rounds; 0 for none."""
    rounding: Rounding | None
    free: int
    bounds: list[int]
    floors: list[int]
    """What of a quantity is not priced in its tier: where the tier begins, or nothing."""
    bases: list[int]
    """What comes on top in each tier: flat amounts, and what the tiers below cost."""
    prices: list[int]
    """Per unit, or per package where there are `sizes`."""
    sizes: list[int]
    has_packages: bool
    unused: int
    """What nothing costs."""
    minimum: int
    maximum: int | None
    scale: int


def amounts_of(price: Price, quantities: Sequence[Decimal]) -> list[int] | None:
    """In minor units; None if the price looks at more than a quantity, or a quantity has too many decimals."""
    compiled = _compiled(price)
    if compiled is None:
        return None
    counts = _whole_numbers(quantities)
    if counts is None:
        return None
    if not price.is_metered and counts and min(counts) < 0:
        raise NegativeQuantity(f"{min(quantities):f} cannot be rated", price=price.id, quantity=min(quantities))
    is_plain = not (compiled.has_packages or compiled.free or compiled.step or compiled.minimum)
    amounts = (
        _tiers_only(compiled, counts) if is_plain and compiled.maximum is None else _whole_course(compiled, counts)
    )
    if amounts and max(amounts) > MINOR_MAX:
        # Which refuses it.
        Money(max(amounts), price.currency)
    return amounts


def _whole_numbers(quantities: Sequence[Decimal]) -> list[int] | None:
    """Each quantity in 10^-12; None if one is finer than that."""
    numbers = [shifted(quantity, QUANTITY_PLACES) for quantity in quantities]
    counts = list(map(int, numbers))
    return counts if counts == numbers else None


def _tiers_only(compiled: _Compiled, counts: Sequence[int]) -> list[int]:
    bounds, floors, bases, prices = compiled.bounds, compiled.floors, compiled.bases, compiled.prices
    factor, unused = compiled.factor, compiled.unused
    half, scale = compiled.scale // 2, compiled.scale
    amounts = []
    for count in counts:
        if count > 0:
            quantity = count * factor
            index = bisect_left(bounds, quantity)
            exact = bases[index] + (quantity - floors[index]) * prices[index]
        else:
            exact = unused
        amounts.append((exact + half) // scale)
    return amounts


def _whole_course(compiled: _Compiled, counts: Sequence[int]) -> list[int]:
    half, scale = compiled.scale // 2, compiled.scale
    minimum, maximum = compiled.minimum, compiled.maximum
    amounts = []
    for count in counts:
        exact = max(_priced(compiled, _overage(compiled, count)), minimum)
        if maximum is not None and exact > maximum:
            exact = maximum
        amounts.append((exact + half) // scale)
    return amounts


def _overage(compiled: _Compiled, count: int) -> int:
    quantity = max(count, 0) * compiled.factor
    if compiled.step:
        whole, rest = divmod(quantity, compiled.step)
        if (compiled.rounding is Rounding.UP and rest) or (
            compiled.rounding is Rounding.HALF_UP and 2 * rest >= compiled.step
        ):
            whole += 1
        quantity = whole * compiled.step
    return max(quantity - compiled.free, 0)


def _priced(compiled: _Compiled, quantity: int) -> int:
    if not quantity:
        return compiled.unused
    index = bisect_left(compiled.bounds, quantity)
    inside = quantity - compiled.floors[index]
    size = compiled.sizes[index]
    if size:
        inside = -(-inside // size)
    return compiled.bases[index] + inside * compiled.prices[index]


@lru_cache(maxsize=COMPILED_MAX)
def _compiled(price: Price) -> _Compiled | None:
    match price.model:
        case Percentage() | Matrix() | Capacity():
            return None
        case Flat(amount=amount):
            tiers = [Tier(up_to=None, flat_amount=amount)]
        case PerUnit(unit_price=unit_price):
            tiers = [Tier(up_to=None, unit_price=unit_price)]
        case Dynamic(multiplier=multiplier):
            tiers = [Tier(up_to=None, unit_price=multiplier)]
        case Package(size=size, price=package_price):
            tiers = [Tier(up_to=None, unit_price=package_price, package_size=size)]
        case Graduated(tiers=found) | Volume(tiers=found):
            tiers = list(found)
        case unknown:
            assert_never(unknown)
    return _compile(price, tiers)


def _compile(price: Price, tiers: Sequence[Tier]) -> _Compiled:
    model, operators = price.model, price.operators
    conversion = operators.unit_conversion or UnitConversion()
    kept = 1 - Fraction(operators.discount_percent or 0) / 100
    bounds = [Fraction(tier.up_to) for tier in tiers if tier.up_to is not None]
    floors = [Fraction(0), *bounds]
    prices = [kept * _unit_price(tier) for tier in tiers]
    flats = [kept * Fraction(tier.flat_amount) for tier in tiers]
    sizes = [Fraction(tier.package_size or 0) for tier in tiers]
    if isinstance(model, Volume):
        floors = [Fraction(0)] * len(tiers)
        bases = flats
    else:
        bases = _bases(floors, prices, flats, sizes)
    unused = flats[0] if isinstance(model, Flat) or getattr(model, "flat_without_usage", False) else Fraction(0)
    minimum = Fraction(operators.minimum_amount or 0)
    maximum = None if operators.maximum_amount is None else Fraction(operators.maximum_amount)
    round_to = Fraction(10) ** -conversion.decimals if conversion.rounding is not None else Fraction(0)

    # The denominators that make every quantity, and every amount, a whole number.
    ticks = conversion.factor / 10**QUANTITY_PLACES
    free = Fraction(operators.free_units or 0)
    units = math.lcm(*(each.denominator for each in (ticks, round_to, free, *bounds, *sizes)))
    cash = Fraction(10) ** minor_units(price.currency)
    amounts = [*bases, unused, minimum, *([] if maximum is None else [maximum])]
    exact = math.lcm(*((each * cash).denominator for each in (*amounts, *prices)))
    scale = exact * units * 2

    def quantity(number: Fraction) -> int:
        return (number * units).numerator

    def amount(number: Fraction) -> int:
        return (number * cash * scale).numerator

    # A package is one whatever its size. A unit is counted in many parts, and its price is that of a part.
    return _Compiled(
        factor=quantity(ticks),
        step=quantity(round_to),
        rounding=conversion.rounding,
        free=quantity(free),
        bounds=[quantity(bound) for bound in bounds],
        floors=[quantity(floor) for floor in floors],
        bases=[amount(base) for base in bases],
        prices=[amount(each if size else each / units) for each, size in zip(prices, sizes, strict=True)],
        sizes=[quantity(size) for size in sizes],
        has_packages=any(sizes),
        unused=amount(unused),
        minimum=amount(minimum),
        maximum=None if maximum is None else amount(maximum),
        scale=scale,
    )


def _unit_price(tier: Tier) -> Fraction:
    return Fraction(tier.unit_price) if tier.percent is None else Fraction(tier.percent) / 100


def _bases(
    floors: Sequence[Fraction], prices: Sequence[Fraction], flats: Sequence[Fraction], sizes: Sequence[Fraction]
) -> list[Fraction]:
    """For each tier its own flat amount, and all that the tiers below it cost."""
    below = Fraction(0)
    bases = []
    for index, flat in enumerate(flats):
        bases.append(below + flat)
        if index + 1 < len(floors):
            width = floors[index + 1] - floors[index]
            inside = Fraction(math.ceil(width / sizes[index])) if sizes[index] else width
            below += flat + inside * prices[index]
    return bases
