"""Knows what goes back of discounts, when what they were given on is billed for less."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from common.money import Money, round_half_up
from invoicing.domain.line import LineDiscount


def together(lists: Iterable[Iterable[LineDiscount]]) -> tuple[LineDiscount, ...]:
    """Each discount once, in order, with all that it comes to; those that come to nothing are left out."""
    found: dict[str, LineDiscount] = {}
    for discounts in lists:
        for each in discounts:
            before = found.get(each.discount_id)
            found[each.discount_id] = each if before is None else replace(each, amount=before.amount + each.amount)
    return tuple(each for each in found.values() if each.amount.minor)


def taken_back(amount: Money, of: Money, discounts: Iterable[LineDiscount]) -> tuple[LineDiscount, ...]:
    """What goes back of discounts with an amount below zero, of what they were given on: the same share."""
    if of.minor <= 0:
        return ()
    shares = (
        replace(each, amount=Money(round_half_up(Fraction(amount.minor * each.amount.minor, of.minor)), of.currency))
        for each in discounts
    )
    return together([shares])
