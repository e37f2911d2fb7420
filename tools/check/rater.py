"""Knows what a usage costs, written from docs/pricing.md alone and sharing no code with invoicing.

Everything is a `Fraction`: nothing is rounded on the way but where that page says so, and the amount once, at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, assert_never

MINOR_UNITS: Final = {
    0: frozenset(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ]
    ),
    3: frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
    4: frozenset({"CLF", "UYW"}),
}
"""Decimals of ISO 4217 where they are not two, copied by hand so that a wrong table elsewhere would show."""

NOTHING: Final = Fraction(0)


@dataclass(frozen=True, slots=True)
class Flat:
    """One amount whatever the quantity."""

    amount: Fraction


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Every unit at the same price."""

    unit_price: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tier; `up_to` is None in the last. With `percent`, or by packages, or else by units."""

    up_to: Fraction | None
    unit_price: Fraction = NOTHING
    flat_amount: Fraction = NOTHING
    percent: Fraction | None = None
    package_size: Fraction | None = None

    def cost(self, inside: Fraction) -> Fraction:
        """Of what lies inside, without the flat amount."""
        if self.percent is not None:
            return inside * self.percent / 100
        if self.package_size is not None:
            return _started(inside, self.package_size) * self.unit_price
        return inside * self.unit_price


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit at the price of the tier it falls in."""

    steps: Sequence[Step]
    flat_without_usage: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """Every unit at the price of the tier that all of them fall in."""

    steps: Sequence[Step]
    flat_without_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Started packages."""

    size: Fraction
    price: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage:
    """A share of each transaction. What is None, or 0 free transactions, is not there."""

    percent: Fraction
    fixed_fee: Fraction = NOTHING
    free_transactions: int = 0
    free_amount: Fraction | None = None
    transaction_minimum: Fraction = NOTHING
    transaction_maximum: Fraction | None = None


Simple = PerUnit | Graduated | Volume | Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tariff for each cell, and one for everything else."""

    dimensions: Sequence[str]
    cells: Mapping[tuple[str, ...], Simple]
    default: Simple


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The usage is the amount."""

    multiplier: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Size:
    """One tier of a capacity: what it holds of each meter, which in the last one is everything."""

    limits: Mapping[str, Fraction]
    amount: Fraction


@dataclass(frozen=True, slots=True)
class Capacity:
    """One amount for the smallest size that holds the usage of every meter."""

    sizes: Sequence[Size]


Model = Flat | Simple | Percentage | Matrix | Dynamic | Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """From what is counted to what is priced."""

    factor: Fraction = Fraction(1)
    rounding: str = ""
    """UP, DOWN or HALF_UP; empty means that nothing is rounded."""
    decimals: int = 0

    def of(self, quantity: Fraction) -> Fraction:
        converted = quantity * self.factor
        if not self.rounding:
            return converted
        unit = Fraction(10) ** -self.decimals
        return _whole(converted / unit, self.rounding) * unit


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price, as far as an amount depends on it: a model, and the operators around it."""

    model: Model
    conversion: Conversion = field(default=Conversion(), kw_only=True)
    free_units: Fraction = field(default=NOTHING, kw_only=True)
    discount_percent: Fraction = field(default=NOTHING, kw_only=True)
    minimum: Fraction = field(default=NOTHING, kw_only=True)
    maximum: Fraction | None = field(default=None, kw_only=True)
    metered: bool = field(default=True, kw_only=True)
    """Whether less than nothing costs what nothing does; else it is refused."""
    in_advance: bool = field(default=False, kw_only=True)
    meter: str = field(default="", kw_only=True)
    """Its own one, whose usage is the quantity unless it is told beside that of others."""


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a quantity changed within a period, and that in proportion to what was left of it."""

    quantity: Fraction
    prorated: Fraction


@dataclass(frozen=True, slots=True)
class Group:
    """The usage of one combination of values of dimensions."""

    values: Mapping[str, str]
    quantity: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What was used in a period; a tariff looks at as much of it as its model needs."""

    quantity: Fraction | None = None
    tier_quantity: Fraction | None = None
    amounts: Sequence[Fraction] = ()
    """Of the transactions, in order of time."""
    changes: Sequence[Change] = ()
    groups: Sequence[Group] = ()
    meters: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def total(self) -> Fraction:
        """The quantity, or the sum of what else is told."""
        if self.changes:
            return sum((change.prorated for change in self.changes), NOTHING)
        if self.quantity is not None:
            return self.quantity
        if self.groups:
            return sum((group.quantity for group in self.groups), NOTHING)
        return sum(self.amounts, NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was billed for the same period before: an amount in minor units, else what a quantity costs.

    Where there is a quantity, the usage is what came after it.
    """

    quantity: Fraction | None = None
    billed: int | None = None


def cost(tariff: Tariff, used: Used | Fraction, *, under_way: bool = False) -> Fraction:
    """The exact amount of a whole period, in units of the currency. A fraction is a quantity and nothing else."""
    return _cost(tariff, used if isinstance(used, Used) else Used(quantity=used), NOTHING, under_way=under_way)


def due(
    tariff: Tariff, used: Used | Fraction, currency: str, *, before: Before | None = None, under_way: bool = False
) -> int:
    """What is to be paid now, in minor units: the difference of rounded amounts."""
    exact, billed = settled(tariff, used, currency, before=before, under_way=under_way)
    return minor(exact, currency) - billed


def settled(
    tariff: Tariff, used: Used | Fraction, currency: str, *, before: Before | None = None, under_way: bool = False
) -> tuple[Fraction, int]:
    """What the whole period costs so far, exactly, and how much of it was billed before, in minor units."""
    used = used if isinstance(used, Used) else Used(quantity=used)
    if before is None:
        return _cost(tariff, used, NOTHING, under_way=under_way), 0
    billed = before.billed
    if billed is None:
        billed = minor(cost(tariff, before.quantity or NOTHING, under_way=under_way), currency)
    if _adds_up(tariff.model) and before.quantity is not None:
        if used.changes or used.groups or used.meters:
            raise ValueError("a quantity says nothing of changes, groups or meters")
        used = replace(used, quantity=before.quantity + used.total, amounts=())
    carried = NOTHING if _adds_up(tariff.model) else Fraction(billed, 10 ** decimals(currency))
    return _cost(tariff, used, carried, under_way=under_way), billed


def minor(amount: Fraction, currency: str) -> int:
    """The amount in the smallest unit that can be paid, half up."""
    return _whole(amount * 10 ** decimals(currency), "HALF_UP")


def decimals(currency: str) -> int:
    return next((places for places, codes in MINOR_UNITS.items() if currency in codes), 2)


def _adds_up(model: Model) -> bool:
    """Whether a period has one quantity; of transactions only those since the last bill are known."""
    return not isinstance(model, Percentage | Dynamic)


def _cost(tariff: Tariff, used: Used, carried: Fraction, *, under_way: bool) -> Fraction:
    """`carried` is what transactions cost that are not among what was used."""
    amount = _rated(tariff, used, under_way=under_way) * (100 - tariff.discount_percent) / 100
    amount = max(amount + carried, NOTHING)
    if not under_way:
        amount = max(amount, tariff.minimum)
    return amount if tariff.maximum is None else min(amount, tariff.maximum)


def _rated(tariff: Tariff, used: Used, *, under_way: bool) -> Fraction:
    """What the model makes of the usage."""
    match tariff.model:
        case Flat(amount):
            _not_below_zero(tariff, used.total)
            return NOTHING if under_way and not tariff.in_advance else amount
        case Percentage() as model:
            return _transactions(model, _amounts(tariff, used))
        case Dynamic(multiplier):
            return sum(_amounts(tariff, used), NOTHING) * multiplier
        case Matrix() as model:
            return _matrix(model, tariff.conversion, used, under_way=under_way)
        case Capacity(sizes):
            return _capacity(sizes, {tariff.meter: used.total, **used.meters})
        case Graduated() as model if used.changes:
            return _walked(model, _converted_changes(tariff, used.changes), tariff.free_units)
        case PerUnit() | Graduated() | Volume() | Package() as model:
            quantity = _overage(tariff, _not_below_zero(tariff, used.total))
            told = used.tier_quantity
            if told is None and used.changes:
                told = sum((change.quantity for change in used.changes), NOTHING)
            tier_quantity = quantity if told is None else _overage(tariff, max(told, NOTHING))
            return _simple(model, quantity, tier_quantity, under_way=under_way)
        case unknown:
            assert_never(unknown)


def _not_below_zero(tariff: Tariff, quantity: Fraction) -> Fraction:
    if quantity < 0 and not tariff.metered:
        raise ValueError(f"a licensed quantity of {quantity}")
    return max(quantity, NOTHING)


def _overage(tariff: Tariff, quantity: Fraction) -> Fraction:
    return max(tariff.conversion.of(quantity) - tariff.free_units, NOTHING)


def _amounts(tariff: Tariff, used: Used) -> Sequence[Fraction]:
    """The transactions, or the total as if it were one; nothing at all is none."""
    if used.amounts:
        return used.amounts
    total = _not_below_zero(tariff, used.total)
    return [total] if total else []


def _simple(model: Simple, quantity: Fraction, tier_quantity: Fraction, *, under_way: bool) -> Fraction:
    match model:
        case PerUnit(unit_price):
            return quantity * unit_price
        case Package():
            return _started(quantity, model.size) * model.price
        case Graduated():
            return _graduated(model, quantity)
        case Volume():
            return NOTHING if under_way else _volume(model, quantity, tier_quantity)
        case unknown:
            assert_never(unknown)


def _graduated(model: Graduated, quantity: Fraction) -> Fraction:
    """Each unit at the price of the step it falls in; a step costs its flat amount once something falls in it."""
    total = NOTHING if quantity or not model.flat_without_usage else model.steps[0].flat_amount
    for floor, step in _floors(model.steps):
        inside = (quantity if step.up_to is None else min(quantity, step.up_to)) - floor
        if inside > 0:
            total += step.cost(inside) + step.flat_amount
    return total


def _volume(model: Volume, quantity: Fraction, tier_quantity: Fraction) -> Fraction:
    tiers = (step for step in model.steps if step.up_to is None or tier_quantity <= step.up_to)
    step = next(tiers, model.steps[-1])
    return step.cost(quantity) + (step.flat_amount if quantity or model.flat_without_usage else 0)


def _transactions(model: Percentage, amounts: Sequence[Fraction]) -> Fraction:
    total = NOTHING
    seen = 0
    so_far = NOTHING
    free = bool(model.free_transactions) or model.free_amount is not None
    for amount in amounts:
        if amount < 0:
            total += amount * model.percent / 100
            continue
        if model.free_transactions and seen >= model.free_transactions:
            free = False
        if model.free_amount is not None and so_far >= model.free_amount:
            free = False
        seen += 1
        so_far += amount
        owed = amount
        if free:
            owed = NOTHING if model.free_amount is None else max(so_far - model.free_amount, NOTHING)
            if owed == 0:
                continue
        each = max(owed * model.percent / 100 + model.fixed_fee, model.transaction_minimum)
        total += each if model.transaction_maximum is None else min(each, model.transaction_maximum)
    return total


def _matrix(model: Matrix, conversion: Conversion, used: Used, *, under_way: bool) -> Fraction:
    inside: dict[tuple[str, ...], Fraction] = defaultdict(Fraction)
    outside = NOTHING
    for group in used.groups or [Group({}, used.total)]:
        values = tuple(group.values.get(name, "") for name in model.dimensions)
        if used.groups and values in model.cells:
            inside[values] += group.quantity
        else:
            outside += group.quantity
    rated = [(model.default, outside), *((tariff, inside[values]) for values, tariff in model.cells.items())]
    total = NOTHING
    for tariff, quantity in rated:
        converted = conversion.of(max(quantity, NOTHING))
        total += _simple(tariff, converted, converted, under_way=under_way)
    return total


def _capacity(sizes: Sequence[Size], used: Mapping[str, Fraction]) -> Fraction:
    holding = (
        size.amount for size in sizes if all(used.get(meter, NOTHING) <= most for meter, most in size.limits.items())
    )
    return next(holding, sizes[-1].amount)


def _converted_changes(tariff: Tariff, changes: Sequence[Change]) -> list[Change]:
    if tariff.conversion.rounding:
        raise ValueError("a prorated quantity is not rounded")
    factor = tariff.conversion.factor
    return [Change(change.quantity * factor, change.prorated * factor) for change in changes]


def _walked(model: Graduated, changes: Sequence[Change], free_units: Fraction) -> Fraction:
    """From level to level through the tiers, each change spread over those it passes by the units in each.

    The tiers begin above the free units; without any, what lies below zero is in the first tier.
    """
    if any(step.package_size is not None for step in model.steps):
        raise ValueError("a change has no packages")
    total = level = NOTHING
    levels = [(level, level := level + change.quantity) for change in changes]
    highest = max(NOTHING, *(end for _, end in levels))
    for floor, step in _floors(model.steps):
        bottom = floor + free_units
        for (start, end), change in zip(levels, changes, strict=True):
            low, high = min(start, end), max(start, end)
            above = low if bottom == 0 else max(low, bottom)
            passed = (high if step.up_to is None else min(high, step.up_to + free_units)) - above
            if passed > 0:
                total += step.cost(change.prorated * passed / (high - low))
        if highest > bottom:
            total += step.flat_amount
    if highest <= free_units and model.flat_without_usage:
        total += model.steps[0].flat_amount
    return max(total, NOTHING)


def _floors(steps: Sequence[Step]) -> list[tuple[Fraction, Step]]:
    """Each step with the quantity above which it begins."""
    floors = [NOTHING, *(step.up_to for step in steps if step.up_to is not None)]
    return list(zip(floors, steps, strict=True))


def _started(quantity: Fraction, size: Fraction) -> int:
    return _whole(quantity / size, "UP")


def _whole(number: Fraction, rounding: str) -> int:
    """Rounded away from zero, towards it, or to the nearest with halves away from it."""
    whole, rest = divmod(abs(number).numerator, number.denominator)
    if (rounding == "UP" and rest) or (rounding == "HALF_UP" and 2 * rest >= number.denominator):
        whole += 1
    return -whole if number < 0 else whole
