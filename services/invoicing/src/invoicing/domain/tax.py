"""Knows what taxes come to on an invoice: a line for each declared rate, as EN 16931 breaks them down (BG-23).

    not included    taxable  what the things that carry the rate come to, together
                    tax      taxable × percent, rounded once, half up
    included        what the things with the same rates come to, together, is split into what they cost without
                    tax and the tax of each rate, without losing a cent

Several rates on one thing are each a share of what it costs without any tax. Only a compound rate is also a share of
the taxes of the others beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Final, NewType

from common.money import Money, round_half_up
from invoicing.domain.errors import (
    ExemptionReasonMismatch,
    TaxPercentMismatch,
    TaxRateArchived,
    TaxRatesMixed,
    TooManyTaxRates,
)

TaxRateId = NewType("TaxRateId", str)

RATES_MAX: Final = 10
"""That one thing can carry."""


class TaxCategory(Enum):
    """By their codes in UNTDID 5305, as far as EN 16931 knows them."""

    S = "S"
    """Standard, and every reduced rate."""
    Z = "Z"
    """Zero-rated."""
    E = "E"
    """Exempt."""
    AE = "AE"
    """Reverse charge: the buyer owes it."""
    K = "K"
    """Delivered into another state of the European Union."""
    G = "G"
    """Exported."""
    O = "O"  # noqa: E741 # the code has no other letter
    """Not subject to the tax."""
    L = "L"
    """Of the Canary Islands (IGIC)."""
    M = "M"
    """Of Ceuta and Melilla (IPSI)."""


NOTHING_DUE: Final = frozenset({"Z", "E", "AE", "K", "G", "O"})
"""The categories whose percent is 0."""

EXPLAINED: Final = frozenset({"E", "AE", "K", "G", "O"})
"""Those that have to say why nothing is due (BR-E-10 of EN 16931 and its like)."""

EXEMPTIONS: Final = {"VATEX-EU-AE": "AE", "VATEX-EU-IC": "K", "VATEX-EU-G": "G", "VATEX-EU-O": "O"}
"""The reasons of the code list VATEX that are a category of their own. Every other one exempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRate:
    """A rate as it was declared. It never changes: another percent is another rate."""

    id: TaxRateId
    """Empty for one that was only calculated with."""
    name: str
    """As printed, such as `VAT`."""
    category: str
    percent: Decimal
    is_inclusive: bool = False
    """Whether amounts include it."""
    is_compound: bool = False
    """Whether it is a share of the other taxes of a thing as well."""
    exemption_reason: str = ""
    country: str = ""
    """Where it is due, in capital letters by ISO 3166-1; empty: wherever the customer is."""
    region: str = ""
    create_time: datetime | None = None
    """None for one that was only calculated with."""
    archive_time: datetime | None = None

    @property
    def share(self) -> Fraction:
        return Fraction(self.percent) / 100

    def check(self) -> None:
        """Category, percent and reason must go together, as EN 16931 has it."""
        self.check_percent(field="tax_rate.percent")
        field = "tax_rate.exemption_reason"
        if self.category in EXPLAINED and not self.exemption_reason:
            raise ExemptionReasonMismatch(f"is required in category {self.category}", field=field)
        if self.category not in EXPLAINED and self.exemption_reason:
            raise ExemptionReasonMismatch(f"must be empty in category {self.category}", field=field)

    def check_percent(self, *, field: str) -> None:
        if self.category in NOTHING_DUE and self.percent:
            raise TaxPercentMismatch(f"must be 0 in category {self.category}", field=field)
        if self.category == TaxCategory.S.value and not self.percent:
            raise TaxPercentMismatch("must be more than 0 in category S; nothing is due in Z, E or O", field=field)

    def check_usable(self) -> None:
        if self.archive_time is not None:
            raise TaxRateArchived(f"tax rate {self.id} is archived", tax_rate=self.id)

    def archive(self, at: datetime) -> TaxRate:
        """Not for new rules any more. Those that name it go on. Twice is once."""
        return self if self.archive_time is not None else replace(self, archive_time=at)

    def exempted(self, reason_code: str) -> TaxRate:
        """The same with nothing due, and why. What includes it stays what it costs."""
        category = EXEMPTIONS.get(reason_code, TaxCategory.E.value)
        return replace(self, category=category, percent=Decimal(0), exemption_reason=reason_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLine:
    """What one rate of one category comes to on an invoice."""

    name: str
    """As printed, such as `VAT`."""
    category: str
    """Its code in UNTDID 5305: `S` standard, `Z` zero, `E` exempt, `AE` reverse charge, `K`, `G`, `O`, …"""
    percent: Decimal
    taxable: Money
    """What it is a share of, without the tax itself."""
    amount: Money
    is_included: bool
    """Whether the amounts of the lines include it, so that it is not added to them."""
    rate_id: str = ""
    """The rate that was declared; empty if somebody else computed it."""
    exemption_reason: str = ""
    """Why nothing is to be paid, where a law wants that to be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxable:
    """Something that rates apply to: a line less its discounts, or what is taken off or added to a whole document."""

    amount: Money
    """Below zero for what is taken off."""
    rates: tuple[TaxRate, ...]


def check_rates(rates: Sequence[TaxRate], *, field: str) -> None:
    """Rates that are to be on one thing."""
    if len(rates) > RATES_MAX:
        raise TooManyTaxRates(f"must be at most {RATES_MAX}", field=field)
    if len({rate.is_inclusive for rate in rates}) > 1:
        raise TaxRatesMixed("must all be included in the amount, or none", field=field)
    if sum(rate.is_compound for rate in rates) > 1:
        raise TaxRatesMixed("must hold at most one compound rate", field=field)


def tax_lines(things: Iterable[Taxable], currency: str) -> tuple[TaxLine, ...]:
    """In whatever order the things come, the taxes are the same."""
    found = _sums(things, currency)
    return tuple(_line(rate, found[rate], currency) for rate in _in_order(found))


def tax_shares(things: Sequence[Taxable], currency: str) -> list[Money]:
    """The taxes of each thing, in their order: together they are all that there are."""
    shares = [0] * len(things)
    carrying: dict[TaxRate, list[int]] = defaultdict(list)
    for n, thing in enumerate(things):
        for rate in thing.rates:
            carrying[rate].append(n)
    for rate, comes_to in _sums(things, currency).items():
        due = _line(rate, comes_to, currency).amount
        exact = [things[n].amount.minor * _part(rate, things[n].rates) for n in carrying[rate]]
        for n, share in zip(carrying[rate], spread(due.minor, exact), strict=True):
            shares[n] += share
    return [Money(share, currency) for share in shares]


@dataclass(slots=True)
class _Sum:
    """What a rate comes to so far, in minor units."""

    taxable: int | Fraction = 0
    included: int = 0


def _sums(things: Iterable[Taxable], currency: str) -> dict[TaxRate, _Sum]:
    stacks: dict[tuple[TaxRate, ...], int] = defaultdict(int)
    for thing in things:
        if thing.rates:
            stacks[_in_order(thing.rates)] += thing.amount.minor
    found: dict[TaxRate, _Sum] = defaultdict(_Sum)
    for rates, minor in stacks.items():
        if rates[0].is_inclusive:
            _split(rates, Money(minor, currency), found)
            continue
        for rate in rates:
            found[rate].taxable += minor * _base(rate, rates) if rate.is_compound else minor
    return found


def _split(rates: Sequence[TaxRate], gross: Money, found: dict[TaxRate, _Sum]) -> None:
    """What is without tax, and each tax, add up to what includes them."""
    net, *taxes = gross.allocate([Fraction(1), *(rate.share * _base(rate, rates) for rate in rates)])
    others = sum(tax.minor for rate, tax in zip(rates, taxes, strict=True) if not rate.is_compound)
    for rate, tax in zip(rates, taxes, strict=True):
        found[rate].taxable += net.minor + (others if rate.is_compound else 0)
        found[rate].included += tax.minor


def _base(rate: TaxRate, rates: Iterable[TaxRate]) -> Fraction:
    """What a rate is a share of, as a multiple of what a thing costs without tax."""
    if not rate.is_compound:
        return Fraction(1)
    return 1 + sum((each.share for each in rates if not each.is_compound), Fraction(0))


def _line(rate: TaxRate, comes_to: _Sum, currency: str) -> TaxLine:
    taxable = Money(round_half_up(Fraction(comes_to.taxable)), currency)
    due = comes_to.included if rate.is_inclusive else round_half_up(taxable.minor * rate.share)
    return TaxLine(
        name=rate.name,
        category=rate.category,
        percent=rate.percent,
        taxable=taxable,
        amount=Money(due, currency),
        is_included=rate.is_inclusive,
        rate_id=rate.id,
        exemption_reason=rate.exemption_reason,
    )


def _part(rate: TaxRate, rates: Sequence[TaxRate]) -> Fraction:
    """What a rate comes to, as a part of what a thing is said to cost."""
    part = rate.share * _base(rate, rates)
    if not rate.is_inclusive:
        return part
    return part / (1 + sum((each.share * _base(each, rates) for each in rates), Fraction(0)))


def spread(total: int, exact: Sequence[Fraction]) -> list[int]:
    """Whole numbers near the exact ones that add up to a total which is near their sum.

    What is left over goes to the largest remainders, the first of equals first; the mirror image is the mirror image.
    """
    if sum(exact) < 0 or (sum(exact) == 0 and total < 0):
        return [-share for share in spread(-total, [-each for each in exact])]
    shares = [each.numerator // each.denominator for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda n: exact[n] - shares[n], reverse=True)
    left = total - sum(shares)
    step = 1 if left > 0 else -1
    for nth in range(abs(left) if exact else 0):
        shares[by_remainder[nth % len(exact)]] += step
    return shares


def _in_order(rates: Iterable[TaxRate]) -> tuple[TaxRate, ...]:
    """As they are told: by name, then category, the higher percent first; a compound one behind the others."""
    found = tuple(rates)
    if len(found) < 2:
        return found
    return tuple(
        sorted(
            found,
            key=lambda rate: (
                rate.is_compound,
                rate.name,
                rate.category,
                -rate.percent,
                rate.is_inclusive,
                rate.exemption_reason,
                rate.id,
            ),
        )
    )
