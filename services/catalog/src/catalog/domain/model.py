"""Knows the models: how a quantity, or what else was used, becomes an amount."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Final

from catalog.domain.bounds import check_number, check_order, check_percent, check_unit_price
from catalog.domain.capacity import Capacity
from catalog.domain.matrix import Matrix
from catalog.domain.tariff import Tariff, field_of
from common.errors import InvalidArgument

FREE_TRANSACTIONS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    name: ClassVar = "FLAT"

    amount: Decimal

    def check(self, *, field: str) -> None:
        check_unit_price(self.amount, field=f"{field}.amount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage:
    """A share of each transaction's amount. Free transactions of 0 and a free amount of None are no allowance."""

    name: ClassVar = "PERCENTAGE"

    percent: Decimal
    fixed_fee: Decimal | None = None
    free_transactions: int = 0
    free_amount: Decimal | None = None
    transaction_minimum: Decimal | None = None
    transaction_maximum: Decimal | None = None

    def check(self, *, field: str) -> None:
        check_percent(self.percent, field=f"{field}.percent")
        if not 0 <= self.free_transactions <= FREE_TRANSACTIONS_MAX:
            raise InvalidArgument(f"must be 0 to {FREE_TRANSACTIONS_MAX}", field=f"{field}.free_transactions")
        for name, number in (
            ("fixed_fee", self.fixed_fee),
            ("free_amount", self.free_amount),
            ("transaction_minimum", self.transaction_minimum),
            ("transaction_maximum", self.transaction_maximum),
        ):
            if number is not None:
                check_number(number, field=f"{field}.{name}")
        check_order(
            self.transaction_minimum,
            self.transaction_maximum,
            low_name="transaction_minimum",
            field=f"{field}.transaction_maximum",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The sum of the amounts that were used, times a multiplier if there is one."""

    name: ClassVar = "DYNAMIC"

    multiplier: Decimal | None = None

    def check(self, *, field: str) -> None:
        if self.multiplier is not None:
            check_unit_price(self.multiplier, field=f"{field}.multiplier")


Model = Flat | Tariff | Percentage | Matrix | Dynamic | Capacity


def check_model(model: Model, *, field: str) -> None:
    """Whether the definition is sound, whatever it is for; `field` is that of the price."""
    model.check(field=f"{field}.{field_of(model.name)}")


def is_of_usage(model: Model) -> bool:
    """Whether it says what usage costs; there is nothing that it could say about a quantity in a subscription."""
    return isinstance(model, Percentage | Matrix | Dynamic | Capacity)


def has_quantity(model: Model) -> bool:
    """Whether a quantity is what it prices, in one or in several parts."""
    return isinstance(model, Tariff | Matrix)


def has_one_quantity(model: Model) -> bool:
    """Whether it prices one quantity, of which a part can be free."""
    return isinstance(model, Tariff)
