"""Knows how coupons come to discounts on lines: which lines, in which order, and how much is left of an amount.

A coupon was applied to a subscription. It takes something off the lines of that subscription that say so, in the order
in which the coupons were applied, each on what the ones before it left.

    PercentOff, ONCE or REPEATING   of the first full period of each item, or of as many as the coupon says
    PercentOff, FOREVER             of every line
    AmountOff, ONCE                 once for each customer; what was not used stays for the next invoice
    AmountOff, REPEATING            once for each full period of the subscription, for as many as the coupon says
    AmountOff, FOREVER              once for each full period of the subscription

What was used before follows from what was really billed: the discounts of the lines, less what credits took back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from common.money import Money
from common.period import Period
from invoicing.domain.discount import AmountOff, Discount, DiscountableLine, GivenDiscount, PercentOff, discounted
from invoicing.domain.line import Line, LineDiscount


class Duration(Enum):
    """How many periods a coupon discounts."""

    ONCE = "ONCE"
    REPEATING = "REPEATING"
    FOREVER = "FOREVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """What a coupon of the catalog takes off; that never changes."""

    id: str
    display_name: str
    benefit: PercentOff | AmountOff | None
    """None for one that takes off something else than money."""
    duration: Duration
    duration_periods: int
    """How many, for REPEATING."""
    products: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()
    """Only what has one of these codes is discounted; none for all."""

    def applies_to(self, *, product: str, plan: str) -> bool:
        return (not self.products or product in self.products) and (not self.plans or plan in self.plans)

    @property
    def periods_max(self) -> int | None:
        """How many full periods of an item it discounts; None for all."""
        match self.duration:
            case Duration.FOREVER:
                return None
            case Duration.REPEATING:
                return self.duration_periods
            case _:
                # An amount that is given once is limited by itself.
                return 1 if isinstance(self.benefit, PercentOff) else None


class Share(NamedTuple):
    """What a coupon took off a line that was billed, may be nothing; or below zero what was taken back of it."""

    coupon_id: str
    subscription_id: str
    item_id: str
    full_period: Period
    amount: Money


@dataclass(slots=True)
class Used:
    """How much of its coupons a customer has used."""

    amounts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """Of a coupon in a currency."""
    in_periods: dict[tuple[str, str, Period, str], int] = field(default_factory=lambda: defaultdict(int))
    """Of a coupon, in a full period of a subscription, in a currency."""
    periods: dict[tuple[str, str], set[Period]] = field(default_factory=lambda: defaultdict(set))
    """The full periods of an item in which a coupon took something off."""

    @classmethod
    def of(cls, shares: Iterable[Share]) -> Used:
        used = cls()
        for each in shares:
            used.take(each)
        return used

    def take(self, share: Share) -> None:
        currency, minor = share.amount.currency, share.amount.minor
        self.amounts[share.coupon_id, currency] += minor
        self.in_periods[share.coupon_id, share.subscription_id, share.full_period, currency] += minor
        if minor >= 0:
            # Also of a line that cost nothing: the coupon was there for it, and is not kept for a dearer one.
            self.periods[share.coupon_id, share.item_id].add(share.full_period)


def with_discounts(
    lines: Sequence[Line],
    *,
    coupons: Mapping[str, Coupon],
    used: Used,
    given: Sequence[GivenDiscount] = (),
) -> list[Line]:
    """The same lines, of one currency, with their discounts computed anew: those of single lines, then coupons, then
    those of all lines together. Lines below zero keep what they take back.
    """
    fresh = [each if each.amount.minor < 0 else _with_own(each) for each in lines]
    # What is taken back with this very invoice can be used again with it.
    for line in fresh:
        for share in shares_of(line):
            if share.coupon_id in coupons:
                used.take(share)
    subscriptions = dict.fromkeys(line.subscription_id for line in fresh if line.coupon_ids)
    for subscription_id in subscriptions:
        mine = [n for n, line in enumerate(fresh) if line.subscription_id == subscription_id and line.amount.minor >= 0]
        for coupon_id in in_order([fresh[n].coupon_ids for n in mine]):
            coupon = coupons.get(coupon_id)
            if coupon is not None and coupon.benefit is not None:
                open_to = [n for n in mine if coupon_id in fresh[n].coupon_ids]
                _redeem(coupon, coupon.benefit, fresh, open_to, used)
    for each in given:
        everything = [n for n, line in enumerate(fresh) if line.amount.minor >= 0]
        _take_off(fresh, everything, each.benefit, discount_id=each.id, description=each.description)
    return fresh


def in_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """All that are in the lists, each once and after those that are before it in any of them."""
    waiting = [list(each) for each in lists if each]
    found: list[str] = []
    while waiting:
        first = next(
            (each[0] for each in waiting if not any(each[0] in other[1:] for other in waiting)),
            # Two lists that contradict each other: the first has it its way.
            waiting[0][0],
        )
        found.append(first)
        waiting = [rest for each in waiting if (rest := [other for other in each if other != first])]
    return found


def shares_of(line: Line) -> list[Share]:
    return [
        Share(each.discount_id, line.subscription_id, line.item_id, line.full_period, each.amount)
        for each in line.discounts
    ]


def _redeem(
    coupon: Coupon, benefit: PercentOff | AmountOff, lines: list[Line], open_to: Sequence[int], used: Used
) -> None:
    """Take it off these of the lines, as much as is left of it."""
    within = [n for n in open_to if _is_within(coupon, lines[n], used)]
    if not within:
        return
    if isinstance(benefit, PercentOff):
        _use(coupon, benefit, lines, within, used)
    elif coupon.duration is Duration.ONCE:
        currency = lines[within[0]].amount.currency
        spent = Money(max(used.amounts[coupon.id, currency], 0), currency)
        _use(coupon, replace(benefit, used=spent), lines, within, used)
    else:
        periods: dict[Period, list[int]] = defaultdict(list)
        for n in within:
            periods[lines[n].full_period].append(n)
        for period, those in periods.items():
            first = lines[those[0]]
            currency = first.amount.currency
            minor = used.in_periods[coupon.id, first.subscription_id, period, currency]
            spent = Money(max(minor, 0), currency)
            _use(coupon, replace(benefit, used=spent), lines, those, used)


def _is_within(coupon: Coupon, line: Line, used: Used) -> bool:
    """Whether the full period of the line is one of as many as the coupon discounts."""
    if coupon.periods_max is None:
        return True
    periods = used.periods[coupon.id, line.item_id]
    if line.full_period not in periods and len(periods) >= coupon.periods_max:
        return False
    periods.add(line.full_period)
    return True


def _use(coupon: Coupon, benefit: PercentOff | AmountOff, lines: list[Line], those: Sequence[int], used: Used) -> None:
    before = {n: len(lines[n].discounts) for n in those}
    _take_off(lines, those, benefit, discount_id=coupon.id, description=coupon.display_name)
    for n in those:
        for share in shares_of(lines[n])[before[n] :]:
            used.take(share)


def _with_own(line: Line) -> Line:
    """With the discounts of this line alone, and no others."""
    lines = [replace(line, discounts=()) if line.discounts else line]
    for each in line.given_discounts:
        _take_off(lines, [0], each.benefit, discount_id=each.id, description=each.description)
    return lines[0]


def _take_off(
    lines: list[Line],
    those: Sequence[int],
    benefit: PercentOff | AmountOff,
    *,
    discount_id: str,
    description: str,
) -> None:
    if not those:
        return
    [taken] = discounted(
        [DiscountableLine(amount=lines[n].net_amount) for n in those], [Discount(benefit=benefit)]
    ).taken
    for n, share in zip(those, taken.shares, strict=True):
        if share.minor:
            discount = LineDiscount(discount_id=discount_id, description=description, amount=share)
            lines[n] = replace(lines[n], discounts=(*lines[n].discounts, discount))
