"""Knows how a product is charged for: the catalog's prices as values, with what an invoice prints about them.

The catalog refuses a price that is not sound. One that came through all the same would leave something unbilled, so it
does not exist here either: making it is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Final

from invoicing.domain.exact import NOTHING, as_decimal, places_of

HUNDRED: Final = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """One amount whatever the quantity."""

    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """Every unit at the same price."""

    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step: the units up to and including `up_to`, or without end when that is None.

    `unit_price` is for a package where there is a `package_size`. With `percent` the quantity is money and costs that
    share of itself. `flat_amount` is added once when the quantity reaches into the tier.
    """

    up_to: Decimal | None
    unit_price: Decimal = NOTHING
    flat_amount: Decimal = NOTHING
    percent: Decimal | None = None
    package_size: Decimal | None = None

    def __post_init__(self) -> None:
        if self.package_size is not None and self.package_size <= 0:
            raise ValueError("a tier counts in packages that hold something")
        if self.percent is not None and (self.unit_price or self.package_size is not None):
            raise ValueError("a tier has a percentage or a unit price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated:
    """Each unit at the price of the tier it falls in."""

    tiers: tuple[Tier, ...]
    flat_without_usage: bool = False
    """Whether the first tier's flat amount is due although nothing was used."""

    def __post_init__(self) -> None:
        _check_tiers(self.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Every unit at the price of the tier that all of them fall in."""

    tiers: tuple[Tier, ...]
    flat_without_usage: bool = False

    def __post_init__(self) -> None:
        _check_tiers(self.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Started packages of a size, each at one price."""

    size: Decimal
    price: Decimal

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ValueError("a package holds something")


Tariff = PerUnit | Graduated | Volume | Package
"""What prices one quantity, by itself or in a cell of a matrix."""

Values = tuple[str, ...] | None
"""Of a cell of a matrix, one for each dimension; None for everything that no cell names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage:
    """A share of each transaction. Free transactions of 0 and a free amount of None are no allowance."""

    percent: Decimal
    fixed_fee: Decimal = NOTHING
    free_transactions: int = 0
    free_amount: Decimal | None = None
    transaction_minimum: Decimal = NOTHING
    transaction_maximum: Decimal | None = None

    def __post_init__(self) -> None:
        if self.transaction_maximum is not None and self.transaction_maximum < self.transaction_minimum:
            raise ValueError("a transaction's maximum is not below its minimum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tariff for each cell, by one value for each dimension, and one for everything that no cell names."""

    dimensions: tuple[str, ...]
    cells: Mapping[tuple[str, ...], Tariff]
    default: Tariff

    def __post_init__(self) -> None:
        if not self.dimensions or len(set(self.dimensions)) != len(self.dimensions):
            raise ValueError("a matrix has dimensions, none of them twice")
        if any(len(values) != len(self.dimensions) for values in self.cells):
            raise ValueError("a cell has one value for each dimension")

    def __hash__(self) -> int:
        return hash((self.dimensions, tuple(self.cells.items()), self.default))


def cell_name(matrix: Matrix, values: Values) -> str:
    if values is None:
        return ""
    return ", ".join(f"{dimension}={value}" for dimension, value in zip(matrix.dimensions, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The usage is the amount, times something."""

    multiplier: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One tier of a capacity: how much it holds of each meter, which in the last one is everything."""

    limits: Mapping[str, Decimal]
    amount: Decimal

    def __hash__(self) -> int:
        return hash((tuple(self.limits.items()), self.amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """One amount, of the first size that holds the usage of every meter."""

    sizes: tuple[Size, ...]

    def __post_init__(self) -> None:
        if not self.sizes or any(not size.limits for size in self.sizes[:-1]) or self.sizes[-1].limits:
            raise ValueError("the last size holds everything, and only the last")
        for smaller, larger in pairwise(self.sizes[:-1]):
            if smaller.limits.keys() != larger.limits.keys():
                raise ValueError("every size limits the same meters")
            falls = any(smaller.limits[meter] > larger.limits[meter] for meter in smaller.limits)
            # Equal in one meter is a size that is larger in another; equal in all could never be reached.
            if falls or smaller.limits == larger.limits:
                raise ValueError("sizes ascend")


Model = Flat | Tariff | Percentage | Matrix | Dynamic | Capacity


class Rounding(Enum):
    UP = "UP"
    """Away from zero."""
    DOWN = "DOWN"
    """Towards zero."""
    HALF_UP = "HALF_UP"
    """To the nearest, halves away from zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitConversion:
    """From what is counted to what is priced."""

    divide_by: Decimal | None = None
    multiply_by: Decimal | None = None
    rounding: Rounding | None = None
    decimals: int = 0
    unit_label: str = ""
    """What one of what is priced is called; may be empty."""

    def __post_init__(self) -> None:
        if self.divide_by is not None and self.multiply_by is not None:
            raise ValueError("a conversion divides or multiplies")
        if (self.divide_by is not None and self.divide_by <= 0) or (
            self.multiply_by is not None and self.multiply_by <= 0
        ):
            raise ValueError("a conversion is by more than nothing")
        if self.rounding is None and places_of(self.factor) is None:
            raise ValueError("a quotient that has no last decimal is rounded")

    @property
    def factor(self) -> Fraction:
        if self.divide_by is not None:
            return 1 / Fraction(self.divide_by)
        return Fraction(1) if self.multiply_by is None else Fraction(self.multiply_by)

    @property
    def in_words(self) -> str:
        """What follows the quantity in a sentence."""
        by = ""
        if self.divide_by is not None:
            by = f" ÷ {self.divide_by:,f}"
        elif self.multiply_by is not None:
            by = f" × {self.multiply_by:,f}"
        if self.rounding is None:
            return by
        decimals = "1 decimal" if self.decimals == 1 else f"{self.decimals} decimals"
        to = f" to {decimals}" if self.decimals > 0 else f" to {10**-self.decimals:,}s"
        way = _ROUNDED[self.rounding]
        return f"{by}, rounded {way}{to if self.decimals else ''},"

    def of(self, quantity: Decimal) -> Decimal:
        """Exact, and then rounded if the conversion says so."""
        converted = Fraction(quantity) * self.factor
        if self.rounding is None:
            return as_decimal(converted)
        unit = Fraction(10) ** -self.decimals
        whole, rest = divmod(abs(converted), unit)
        if (self.rounding is Rounding.UP and rest) or (self.rounding is Rounding.HALF_UP and 2 * rest >= unit):
            whole += 1
        return as_decimal((whole if converted >= 0 else -whole) * unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """What is done around the model, in this order, the model after the free units. None is not done."""

    unit_conversion: UnitConversion | None = None
    free_units: Decimal | None = None
    discount_percent: Decimal | None = None
    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None

    def __post_init__(self) -> None:
        if self.discount_percent is not None and not 0 <= self.discount_percent <= HUNDRED:
            raise ValueError("a discount is a share of the whole")
        if self.free_units is not None and self.free_units < 0:
            raise ValueError("less than nothing cannot be free")
        if (
            self.minimum_amount is not None
            and self.maximum_amount is not None
            and self.maximum_amount < self.minimum_amount
        ):
            raise ValueError("the maximum is not below the minimum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a price has to be told about the usage of a period beside the quantity of its own meter."""

    group_by: tuple[str, ...] = ()
    """The dimensions by which the usage is told apart."""
    with_values: bool = False
    """Whether the value of every event counts for itself."""
    other_meters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    id: str
    currency: str
    model: Model
    product: str
    """The name of what is sold, as printed."""
    unit_label: str
    """What one of it is called; may be empty."""
    code: str = ""
    """The seller's own key for the price, unique within the plan; may be empty."""
    product_id: str = ""
    """Which product that is; empty for a price that may not exist yet."""
    meter: str = ""
    """The code of the meter that the quantity comes from; empty for a licensed price."""
    is_metered: bool = False
    """Whether the quantity is counted: then less than nothing costs what nothing does, instead of being refused."""
    in_arrears: bool = False
    """Whether a period is billed when it has ended."""
    operators: Operators = Operators()
    tax_code: str = ""
    """How the product is taxed; may be empty."""
    customer_id: str = ""
    """The one customer that it was negotiated with; empty for a price of the list."""
    product_code: str = ""
    """The seller's own key for what is sold: by it coupons are restricted."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        has_quantity = isinstance(self.model, Tariff)
        if self.operators.unit_conversion is not None and not (has_quantity or isinstance(self.model, Matrix)):
            raise ValueError("only a quantity can be converted")
        if self.operators.free_units is not None and not has_quantity:
            raise ValueError("only of one quantity a part can be free")
        # What is prepared for a price is found by it at every rating, and a price is many values deep.
        object.__setattr__(
            self,
            "_hash",
            hash((self.id, self.currency, self.model, self.unit_label, self.is_metered, self.operators)),
        )

    def __hash__(self) -> int:
        return self._hash

    @property
    def priced_unit_label(self) -> str:
        """What one of the quantity is called once it has been converted."""
        conversion = self.operators.unit_conversion
        return self.unit_label if conversion is None else conversion.unit_label

    @property
    def needs(self) -> Needs:
        """As little as the amount depends on: what is not needed is not asked for."""
        match self.model:
            case Matrix(dimensions=dimensions):
                return Needs(group_by=dimensions)
            case Percentage() as model:
                # Nothing but a share: that of the sum is the sum of those of the transactions.
                return Needs(with_values=model != Percentage(percent=model.percent))
            case Capacity(sizes=sizes):
                return Needs(
                    other_meters=tuple(sorted({meter for size in sizes for meter in size.limits} - {self.meter}))
                )
            case _:
                return Needs()


def _check_tiers(tiers: tuple[Tier, ...]) -> None:
    bounds = [tier.up_to for tier in tiers]
    closed = [NOTHING, *(bound for bound in bounds[:-1] if bound is not None)]
    if not bounds or bounds[-1] is not None or len(closed) != len(bounds):
        raise ValueError("the last tier is open, and only the last")
    if any(lower >= upper for lower, upper in pairwise(closed)):
        raise ValueError("tiers ascend")


_ROUNDED: Final = {Rounding.UP: "up", Rounding.DOWN: "down", Rounding.HALF_UP: "half up"}
