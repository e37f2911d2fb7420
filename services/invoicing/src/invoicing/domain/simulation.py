"""Knows what other prices would have made of the bills of the past: customer by customer, and how that spreads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.money import AmountOutOfRange, Money, round_half_up
from common.period import Period
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.line import Usage, usage_to_rate
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.price import Capacity, Matrix, Needs, Percentage, Price
from invoicing.domain.rating import rate
from invoicing.domain.usage import UsageToRate

QUANTILES: Final = (0, 5, 10, 25, 50, 75, 90, 95, 100)

BillingInterval = tuple[str, int]
"""A unit and how many of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledPeriod:
    """What was billed for one period of a subscription item: its first line and the corrections of it."""

    customer_id: str
    price_id: str
    billed: Money
    line_count: int
    quantity: Decimal
    """Of the first line."""
    meter: str
    usage_quantity: Decimal | None
    """Of the whole period, as the last correction knew it; None of a licensed price."""
    period: Period
    proration: Fraction
    is_complete: bool
    """Whether the first line is among them, so that they are what the period cost."""
    refused: Money
    """What the last of the lines left out of what its usage comes to, because that came late and was refused."""
    refused_since: Money
    """What was refused of usage that came after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceToTry:
    price: Price
    billing_interval: BillingInterval


def to_ask(period: BilledPeriod, to_try: PriceToTry, *, billed_by: BillingInterval) -> UsageKey | None:
    """What is asked of metering, because it was not kept with the lines; None when nothing has to be, or would help."""
    price = to_try.price
    if not price.meter or not period.is_complete or to_try.billing_interval != billed_by:
        return None
    if price.meter == period.meter and price.needs == Needs():
        return None
    return UsageKey(price.meter, period.period, price.needs)


def rated_by(period: BilledPeriod, usage: Usage, to_try: PriceToTry) -> Money | None:
    """What the period would have cost with what metering counts in it now; None if nobody could pay that."""
    try:
        amount = rate(to_try.price, usage_to_rate(to_try.price, usage)).amount
    except AmountOutOfRange:
        return None
    return _less_refused(amount, period, period.refused + period.refused_since)


def rated_anew(period: BilledPeriod, to_try: PriceToTry, *, billed_by: BillingInterval) -> Money | None:
    """What the period would have cost; None when what the price needs to know was not kept with the lines."""
    price = to_try.price
    quantity = period.quantity if not price.meter else period.usage_quantity
    if quantity is None or price.meter != period.meter or to_try.billing_interval != billed_by:
        return None
    if not period.is_complete or not _needs_only_a_quantity(price):
        return None
    try:
        rating = rate(price, UsageToRate.of(quantity))
        if period.proration == 1:
            return _less_refused(rating.amount, period, period.refused)
        return Money.rounded(Fraction(rating.exact_amount) * period.proration, price.currency)
    except (AmountOutOfRange, NegativeQuantity):
        return None


def _less_refused(amount: Money, period: BilledPeriod, refused: Money) -> Money:
    """Late usage that was refused would have been so at any price: of what all usage comes to, the share is left that
    was billed. So the same price makes what was billed.
    """
    whole = period.billed + refused
    if refused.minor <= 0 or period.billed.minor < 0:
        return amount
    return Money(round_half_up(Fraction(amount.minor * period.billed.minor, whole.minor)), amount.currency)


def _needs_only_a_quantity(price: Price) -> bool:
    match price.model:
        case Matrix() | Capacity():
            return False
        case Percentage(free_transactions=free, fixed_fee=each, transaction_minimum=least, transaction_maximum=most):
            return not (free or each or least or most is not None)
        case _:
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerBills:
    """What one customer was billed in one currency, and would have been."""

    customer_id: str
    billed: Money
    simulated: Money

    @property
    def change(self) -> Money:
        return self.simulated - self.billed


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyOutcome:
    """What would have become of the bills in one currency."""

    currency: str
    line_count: int
    customers: tuple[CustomerBills, ...]
    """In order of their change, from the smallest up."""
    billed: Money
    simulated: Money

    @property
    def raised_count(self) -> int:
        return sum(each.change.minor > 0 for each in self.customers)

    @property
    def lowered_count(self) -> int:
        return sum(each.change.minor < 0 for each in self.customers)

    @property
    def quantiles(self) -> tuple[tuple[int, Money], ...]:
        """For each share of the customers, in percent, the change that so many do not exceed."""
        return tuple((percent, _nearest_rank(self.customers, percent).change) for percent in QUANTILES)

    def largest_changes(self, count: int) -> list[CustomerBills]:
        """Either way, the largest first; of equals, in order of their id. Who is not touched is not named."""
        touched = [each for each in self.customers if each.change.minor]
        return sorted(touched, key=lambda each: (-abs(each.change.minor), each.customer_id))[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What would have become of the bills, and what could not be told."""

    outcomes: Sequence[CurrencyOutcome]
    dropped_codes: Set[str]
    new_codes: Set[str]
    unratable_line_count: int


class Bills:
    """What was billed and would have been, added up period by period."""

    def __init__(self) -> None:
        self._line_counts: defaultdict[str, int] = defaultdict(int)
        self._billed: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._simulated: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, customer_id: str, *, billed: Money, simulated: Money, line_count: int) -> None:
        """`line_count` lines were rated anew; 0 for what is counted as unchanged."""
        currency = (billed - simulated).currency
        self._line_counts[currency] += line_count
        self._billed[currency][customer_id] += billed.minor
        self._simulated[currency][customer_id] += simulated.minor

    def outcomes(self) -> list[CurrencyOutcome]:
        """One for each currency, in order of its code."""
        return [self._outcome(currency) for currency in sorted(self._billed)]

    def _outcome(self, currency: str) -> CurrencyOutcome:
        billed, simulated = self._billed[currency], self._simulated[currency]
        customers = [
            CustomerBills(
                customer_id=each, billed=Money(billed[each], currency), simulated=Money(simulated[each], currency)
            )
            for each in billed
        ]
        return CurrencyOutcome(
            currency=currency,
            line_count=self._line_counts[currency],
            customers=tuple(sorted(customers, key=lambda each: (each.change.minor, each.customer_id))),
            billed=Money(sum(billed.values()), currency),
            simulated=Money(sum(simulated.values()), currency),
        )


def _nearest_rank(customers: Sequence[CustomerBills], percent: int) -> CustomerBills:
    """The first one that at least so many percent do not exceed; no value between two customers is made up."""
    rank = -(-percent * len(customers) // 100)
    return customers[max(rank, 1) - 1]
