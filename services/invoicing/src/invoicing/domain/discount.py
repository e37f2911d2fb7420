"""Knows what coupons take off lines: in order, each on what the ones before it left, never more than there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from common.money import Money, round_half_up, sum_money


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscountableLine:
    """A line as far as coupons care: what it costs without them, and by what they may be restricted."""

    amount: Money
    product: str = ""
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentOff:
    """A share of what the lines it applies to have left, all together."""

    percent: Decimal

    def of(self, total: Money) -> Money:
        """Rounded once, for all lines: rounded line by line, a third of two lines of 1.00 would lose a cent."""
        return Money(round_half_up(total.minor * Fraction(self.percent) / 100), total.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountOff:
    """A fixed amount in each of some currencies, less what earlier invoices used up of it."""

    amounts: tuple[Money, ...]
    used: Money | None = None

    def of(self, total: Money) -> Money:
        """Nothing in a currency that it is not offered in."""
        offered = next((each for each in self.amounts if each.currency == total.currency), Money.zero(total.currency))
        if self.used is not None and self.used.currency == total.currency:
            offered = max(offered - self.used, Money.zero(total.currency))
        return min(offered, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """What a redeemed coupon does: a benefit, for all lines or only for those of some products and plans, by code."""

    benefit: PercentOff | AmountOff
    products: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()

    def applies_to(self, line: DiscountableLine) -> bool:
        return (not self.products or line.product in self.products) and (not self.plans or line.plan in self.plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenDiscount:
    """What was given by hand, off one line or off all of an invoice together."""

    id: str
    description: str
    benefit: PercentOff | AmountOff


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOff:
    """What one discount takes off: in all, and off each line, in their order."""

    amount: Money
    shares: tuple[Money, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discounted:
    """What each discount takes off, in their order, and what is left of each line."""

    taken: tuple[TakenOff, ...]
    remaining: tuple[Money, ...]


def discounted(lines: Sequence[DiscountableLine], discounts: Sequence[Discount]) -> Discounted:
    """Apply discounts in the order given to lines of one currency, none of them negative."""
    *_, found = discounting(lines, discounts)
    return found


def discounting(lines: Sequence[DiscountableLine], discounts: Sequence[Discount]) -> Iterator[Discounted]:
    """The same after none of the discounts, after the first, and so on to the last."""
    found = Discounted(taken=(), remaining=tuple(line.amount for line in lines))
    yield found
    for discount in discounts:
        taken = _take_off(discount, lines, found.remaining)
        left = tuple(left - share for left, share in zip(found.remaining, taken.shares, strict=True))
        found = Discounted(taken=(*found.taken, taken), remaining=left)
        yield found


def _take_off(discount: Discount, lines: Sequence[DiscountableLine], remaining: Sequence[Money]) -> TakenOff:
    nothing = Money.zero(lines[0].amount.currency)
    open_to = [left if discount.applies_to(line) else nothing for line, left in zip(lines, remaining, strict=True)]
    amount = discount.benefit.of(sum_money(open_to, nothing.currency))
    # In proportion to what is left, no share is larger than what is left: neither by its floor nor by one unit more.
    return TakenOff(amount=amount, shares=tuple(amount.allocate([each.minor for each in open_to])))
