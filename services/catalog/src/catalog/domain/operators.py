"""Knows the operators, what is done to a quantity before a model prices it and to an amount after it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

from catalog.domain.bounds import check_number, check_order, check_percent, check_size
from catalog.domain.model import Model, has_one_quantity, has_quantity
from common.errors import InvalidArgument

DECIMALS_MAX: Final = 12
"""Either way: to so many decimals, or to so many zeros before the point."""


class Rounding(Enum):
    UP = "UP"
    DOWN = "DOWN"
    HALF_UP = "HALF_UP"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitConversion:
    """From what is counted to what is priced. Without a rounding nothing is rounded, and `decimals` means nothing."""

    divide_by: Decimal | None = None
    multiply_by: Decimal | None = None
    rounding: Rounding | None = None
    decimals: int = 0
    unit_label: str = ""

    def check(self, *, field: str) -> None:
        if self.divide_by is not None:
            if self.multiply_by is not None:
                raise InvalidArgument("must be absent beside a divide_by", field=f"{field}.multiply_by")
            check_size(self.divide_by, field=f"{field}.divide_by")
        if self.multiply_by is not None:
            check_size(self.multiply_by, field=f"{field}.multiply_by")
        if not -DECIMALS_MAX <= self.decimals <= DECIMALS_MAX:
            raise InvalidArgument(f"must be -{DECIMALS_MAX} to {DECIMALS_MAX}", field=f"{field}.decimals")
        if self.rounding is None:
            self._check_without_rounding(field=field)

    def _check_without_rounding(self, *, field: str) -> None:
        if self.decimals:
            raise InvalidArgument("must be absent without a rounding", field=f"{field}.decimals")
        if self.divide_by is None and self.multiply_by is None:
            raise InvalidArgument("must divide, multiply or round", field=field)
        if self.divide_by is not None and not _divides_exactly(self.divide_by):
            raise InvalidArgument(
                "must have no prime factors but 2 and 5 without a rounding: the quotient would have no last decimal",
                field=f"{field}.divide_by",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Each in its turn, in this order, the model between the free units and the discount. What is None is not done."""

    unit_conversion: UnitConversion | None = None
    free_units: Decimal | None = None
    discount_percent: Decimal | None = None
    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None


NO_OPERATORS: Final = Operators()


def check_operators(operators: Operators, *, model: Model, field: str) -> None:
    """Whether each is sound, and has something to work on."""
    if operators.unit_conversion is not None:
        if not has_quantity(model):
            raise _nothing_to_work_on(model, field=f"{field}.unit_conversion")
        operators.unit_conversion.check(field=f"{field}.unit_conversion")
    if operators.free_units is not None:
        if not has_one_quantity(model):
            raise _nothing_to_work_on(model, field=f"{field}.free_units")
        check_number(operators.free_units, field=f"{field}.free_units")
    if operators.discount_percent is not None:
        check_percent(operators.discount_percent, field=f"{field}.discount_percent")
        check_size(operators.discount_percent, field=f"{field}.discount_percent")
    if operators.minimum_amount is not None:
        check_number(operators.minimum_amount, field=f"{field}.minimum_amount")
    if operators.maximum_amount is not None:
        check_number(operators.maximum_amount, field=f"{field}.maximum_amount")
    check_order(
        operators.minimum_amount,
        operators.maximum_amount,
        low_name="minimum_amount",
        field=f"{field}.maximum_amount",
    )


def _nothing_to_work_on(model: Model, *, field: str) -> InvalidArgument:
    return InvalidArgument(f"must be absent: {model.name} does not price one quantity", field=field)


def _divides_exactly(divisor: Decimal) -> bool:
    """Whether every quotient by it has a last decimal."""
    digits = divisor.as_integer_ratio()[0]
    for prime in (2, 5):
        while digits % prime == 0:
            digits //= prime
    return digits == 1
