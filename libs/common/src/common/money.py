"""Knows money: whole minor units of one currency, rounded in one place, split without losing any.

An amount is `Money`. What is finer than a cent (unit prices, quantities, rates) is `Decimal` or `Fraction`
and stays exact until `Money.rounded` ends it, once per line. Nothing here depends on the precision of the
current decimal context.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, Self, overload

from iso4217 import Currency

from common.errors import FailedPrecondition, InvalidArgument

MINOR_MAX: Final = 10**18 - 1
"""The largest amount in minor units, either sign; it and every sum that is checked fit a 64-bit column."""


class UnknownCurrency(InvalidArgument):
    """Not an ISO 4217 code of a currency in circulation with minor units (gold and test codes have none)."""


class CurrencyMismatch(FailedPrecondition):
    """Amounts of different currencies cannot be added or compared."""


class AmountOutOfRange(FailedPrecondition):
    """The amount is larger than any that can be stored."""


@dataclass(frozen=True, slots=True)
class Money:
    minor: int
    currency: str

    def __post_init__(self) -> None:
        minor_units(self.currency)
        if type(self.minor) is not int:
            raise TypeError(f"minor units are counted, not measured: {self.minor!r}")
        if not -MINOR_MAX <= self.minor <= MINOR_MAX:
            raise _out_of_range(self.currency)

    @classmethod
    def rounded(cls, amount: Decimal | Fraction, currency: str) -> Self:
        """The nearest amount that can be paid."""
        places = minor_units(currency)
        if isinstance(amount, Fraction):
            return cls(round_half_up(amount * 10**places), currency)
        try:
            return cls(int(_EXACT.scaleb(round_half_up(amount, places), places)), currency)
        except decimal.InvalidOperation:
            raise _out_of_range(currency) from None

    @staticmethod
    def zero(currency: str) -> Money:
        return _zero(currency)

    @property
    def amount(self) -> Decimal:
        """In whole units of the currency, exact: 6416 minor units of GBP are 64.16."""
        return _EXACT.scaleb(Decimal(self.minor), -minor_units(self.currency))

    def allocate(self, weights: Sequence[int | Decimal | Fraction]) -> list[Money]:
        """Shares in proportion to the weights that add up to the whole.

        Units that are left over go to the largest remainders, the first of equals first; a negative amount
        is the mirror image of the positive one, so that a reversal cancels share by share. If all weights
        are zero, all are alike.
        """
        parts = _whole_numbers(weights)
        total = sum(parts)
        whole = abs(self.minor)
        shares = [whole * part // total for part in parts]
        left = whole - sum(shares)
        by_remainder = sorted(range(len(parts)), key=lambda index: whole * parts[index] % total, reverse=True)
        for index in by_remainder[:left]:
            shares[index] += 1
        sign = -1 if self.minor < 0 else 1
        return [Money(sign * share, self.currency) for share in shares]

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.minor - other.minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __abs__(self) -> Money:
        return Money(abs(self.minor), self.currency)

    def __mul__(self, times: int) -> Money:
        if not isinstance(times, int):
            return NotImplemented
        return Money(self.minor * times, self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.minor < other.minor

    def __le__(self, other: Money) -> bool:
        self._same(other)
        return self.minor <= other.minor

    def __gt__(self, other: Money) -> bool:
        self._same(other)
        return self.minor > other.minor

    def __ge__(self, other: Money) -> bool:
        self._same(other)
        return self.minor >= other.minor

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise _mismatch(self.currency, other.currency)


def _mismatch(currency: str, other: str) -> CurrencyMismatch:
    return CurrencyMismatch(f"{currency} and {other} cannot be combined", currency=currency, other_currency=other)


def sum_money(amounts: Iterable[Money], currency: str) -> Money:
    """The sum, also of nothing; every amount must be of this currency."""
    total = 0
    for amount in amounts:
        if amount.currency != currency:
            raise _mismatch(currency, amount.currency)
        total += amount.minor
    return Money(total, currency) if total else Money.zero(currency)


@functools.lru_cache(maxsize=1_000)
def _zero(currency: str) -> Money:
    return Money(0, currency)


def minor_units(currency: str, *, field: str = "currency_code") -> int:
    """How many decimals the currency has, by ISO 4217."""
    places = _MINOR_UNITS.get(currency)
    if places is None:
        raise UnknownCurrency("must be an ISO 4217 currency code, such as EUR", field=field)
    return places


def currencies() -> list[tuple[str, int]]:
    """Every currency that can be billed in, by its code, and how many decimals it has."""
    return sorted(_MINOR_UNITS.items())


@overload
def round_half_up(value: Decimal | Fraction) -> int: ...
@overload
def round_half_up(value: Decimal | Fraction, places: int) -> Decimal: ...
def round_half_up(value: Decimal | Fraction, places: int | None = None) -> Decimal | int:
    """The nearest value with so many decimals, halves away from zero; without `places` a whole number.

    The only rounding there is: always exact, however many digits the value has.
    """
    if places is not None and places < 0:
        raise ValueError("rounding to tens and hundreds is not rounding to a currency")
    if isinstance(value, Fraction):
        scaled = value * 10 ** (places or 0)
        whole = (2 * abs(scaled.numerator) + scaled.denominator) // (2 * scaled.denominator)
        signed = -whole if scaled < 0 else whole
        return signed if places is None else _EXACT.scaleb(Decimal(signed), -places)
    if not value.is_finite():
        raise ValueError(f"{value} cannot be rounded")
    step = Decimal((0, (1,), -(places or 0)))
    rounded = value.quantize(step, rounding=decimal.ROUND_HALF_UP, context=_ROUNDING)
    if places is None:
        return int(rounded)
    return rounded if rounded else rounded.copy_abs()


def exact_product(*factors: Decimal) -> Decimal:
    """The product with every digit; `*` would round it to the 28 digits of the current context."""
    product = Decimal(1)
    for factor in factors:
        product = _EXACT.multiply(product, factor)
    return product


def exact_sum(terms: Iterable[Decimal]) -> Decimal:
    """The sum with every digit, also of nothing."""
    total = Decimal(0)
    for term in terms:
        total = _EXACT.add(total, term)
    return total


def _out_of_range(currency: str) -> AmountOutOfRange:
    return AmountOutOfRange(f"an amount has at most {len(str(MINOR_MAX))} digits", currency=currency)


def _whole_numbers(weights: Sequence[int | Decimal | Fraction]) -> list[int]:
    """Whole numbers in the same proportion, not all zero."""
    if not weights:
        raise ValueError("nothing to allocate to")
    ratios = [Fraction(weight) for weight in weights]
    if min(ratios) < 0:
        raise ValueError("a share cannot be negative")
    if not any(ratios):
        return [1] * len(ratios)
    denominator = math.lcm(*(ratio.denominator for ratio in ratios))
    return [ratio.numerator * (denominator // ratio.denominator) for ratio in ratios]


_MINOR_UNITS: Final = {each.code: each.exponent for each in Currency if each.exponent is not None}

# Far more digits than a product of all the factors of a price can have. What would need more is refused,
# never rounded.
_DIGITS_MAX: Final = 1_000
_REFUSED = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow]
_ROUNDING: Final = decimal.Context(prec=_DIGITS_MAX, traps=_REFUSED)
_EXACT: Final = decimal.Context(prec=_DIGITS_MAX, traps=[*_REFUSED, decimal.Inexact])
