"""Knows how a quantity becomes an amount: exactly, step by step, and in words.

Nothing is rounded here: an amount has every digit of the products it is the sum of. Rounding ends a line, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from common.money import exact_product, exact_sum, minor_units
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.price import Flat, Graduated, PerUnit, Price, Tier

ONCE: Final = Decimal(1)
NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingStep:
    """One step from a quantity to an amount. `unit_price` is None for an amount that does not depend on how many."""

    description: str
    quantity: Decimal
    unit_price: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """An exact amount, and the steps that add up to it."""

    amount: Decimal
    steps: tuple[RatingStep, ...]


def rate(price: Price, quantity: Decimal) -> Rating:
    """What so many cost at this price."""
    if quantity < 0:
        raise NegativeQuantity(f"{quantity} cannot be rated", price=price.id, quantity=quantity)
    steps = _steps(price, quantity)
    return Rating(amount=exact_sum(step.amount for step in steps), steps=tuple(steps))


def rate_usage(price: Price, quantity: Decimal) -> Rating:
    """What counted usage costs. Less than nothing, after somebody corrected too much, costs what nothing does.

    It is neither credited nor refused: one bad report must not keep a customer from being billed for all the rest.
    """
    if quantity >= 0:
        return rate(price, quantity)
    nothing = rate(price, NOTHING)
    told = flat_step(f"{_counted(quantity, price.unit_label)} counted, charged as nothing", NOTHING)
    return replace(nothing, steps=(told, *nothing.steps))


def flat_step(description: str, amount: Decimal) -> RatingStep:
    """A step whose amount is simply there, once; negative when it takes something off."""
    return RatingStep(description=description, quantity=ONCE, unit_price=None, amount=amount)


def plain(value: Decimal) -> str:
    """For people: thousands in groups, no exponent, no zeros that say nothing."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _steps(price: Price, quantity: Decimal) -> list[RatingStep]:
    match price.model:
        case Flat(amount=amount):
            return [flat_step("Fixed price", amount)]
        case PerUnit(unit_price=unit_price):
            return [_unit_step(_counted(quantity, price.unit_label), quantity, unit_price, price.currency)]
        case Graduated(tiers=tiers):
            return _graduated(tiers, quantity, price)


def _graduated(tiers: tuple[Tier, ...], quantity: Decimal, price: Price) -> list[RatingStep]:
    steps: list[RatingStep] = []
    lower = NOTHING
    for tier in tiers:
        upper = quantity if tier.up_to is None else min(quantity, tier.up_to)
        inside = max(upper - lower, NOTHING)
        # The first tier is told even when nothing was used: no line is without a reason.
        if inside or not steps:
            where = _tier_name(lower, tier.up_to, price.unit_label)
            steps.append(_unit_step(f"{where}: {plain(inside)}", inside, tier.unit_price, price.currency))
        if inside and tier.flat_amount:
            steps.append(flat_step(f"{_tier_name(lower, tier.up_to, price.unit_label)}, once", tier.flat_amount))
        if tier.up_to is None or quantity <= tier.up_to:
            break
        lower = tier.up_to
    return steps


def _unit_step(what: str, quantity: Decimal, unit_price: Decimal, currency: str) -> RatingStep:
    return RatingStep(
        description=f"{what} at {_price_text(unit_price, currency)} each",
        quantity=quantity,
        unit_price=unit_price,
        amount=exact_product(quantity, unit_price),
    )


def _tier_name(lower: Decimal, up_to: Decimal | None, unit_label: str) -> str:
    if up_to is None:
        return f"Over {_counted(lower, unit_label)}" if lower else "All"
    if lower:
        return f"Over {plain(lower)} up to {_counted(up_to, unit_label)}"
    return f"The first {_counted(up_to, unit_label)}"


def _counted(quantity: Decimal, unit_label: str) -> str:
    return f"{plain(quantity)} {unit_label}".rstrip()


def _price_text(unit_price: Decimal, currency: str) -> str:
    """`0.14228 GBP`, but `9.50 GBP` rather than `9.5`: every decimal there is, and as many as cash has."""
    whole, _, decimals = plain(unit_price).partition(".")
    decimals = decimals.ljust(minor_units(currency), "0")
    return f"{whole}.{decimals} {currency}" if decimals else f"{whole} {currency}"
