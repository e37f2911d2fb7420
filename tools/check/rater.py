"""Knows what a quantity costs, written from the definitions of the pricing models and sharing no code with invoicing.

Everything is a `Fraction`: nothing is rounded until the one rounding at the end, half up, away from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Step:
    """One tier of a graduated price; `up_to` is None in the last."""

    up_to: Fraction | None
    unit_price: Fraction
    flat_amount: Fraction


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price, as far as an amount depends on it. Exactly one of the three is set."""

    flat: Fraction | None = None
    unit_price: Fraction | None = None
    steps: Sequence[Step] = ()


def cost(tariff: Tariff, quantity: Fraction) -> Fraction:
    """The exact amount of a whole period, in units of the currency. Less than nothing costs what nothing costs."""
    quantity = max(quantity, Fraction(0))
    if tariff.flat is not None:
        return tariff.flat
    if tariff.unit_price is not None:
        return tariff.unit_price * quantity
    return _graduated(tariff.steps, quantity)


def minor(amount: Fraction, currency: str) -> int:
    """The amount in the smallest unit that can be paid, half up."""
    scaled: Fraction = abs(amount) * Fraction(10) ** decimals(currency)
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    if 2 * rest >= scaled.denominator:
        whole += 1
    return -whole if amount < 0 else whole


def decimals(currency: str) -> int:
    return next((places for places, codes in MINOR_UNITS.items() if currency in codes), 2)


def _graduated(steps: Sequence[Step], quantity: Fraction) -> Fraction:
    """Each unit at the price of the step it falls in; a step costs its flat amount once something falls in it."""
    total = Fraction(0)
    reached = Fraction(0)
    for step in steps:
        ceiling = quantity if step.up_to is None else min(quantity, step.up_to)
        inside = ceiling - reached
        if inside <= 0:
            break
        total += inside * step.unit_price + step.flat_amount
        reached = ceiling
    return total
