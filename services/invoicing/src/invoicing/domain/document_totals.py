"""Knows what a document comes to from what somebody says of its lines: the totals of EN 16931 (BG-22).

lines                   net, without tax                          BT-131
sum of lines                                                      BT-106
- allowances            of the whole document                     BT-107
+ charges               of the whole document                     BT-108
= total without tax                                               BT-109
+ tax                   by category and rate (BG-23)              BT-110
= total with tax                                                  BT-112
- prepaid                                                         BT-113
+ rounding                                                        BT-114
= due                                                             BT-115
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from common.money import Money, sum_money
from invoicing.domain.tax import Taxable, TaxLine, TaxRate, TaxRateId, check_rates, tax_lines, tax_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxChoice:
    """How something is taxed: at rates that are named or told, or else by the rules."""

    rate_ids: tuple[TaxRateId, ...] = ()
    rates: tuple[TaxRate, ...] = ()
    tax_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLine:
    """A line as far as totals care."""

    amount: Money | None
    """What it costs before its own allowances and charges; None if it is so many at so much."""
    quantity: Decimal = Decimal(1)
    unit_price: Decimal = Decimal(0)
    base_quantity: Decimal = Decimal(1)
    """How many the unit price is for."""
    added: Money
    """Its charges less its allowances."""
    tax: TaxChoice = TaxChoice()

    @property
    def net(self) -> Money:
        """Rounded once."""
        whole = self.amount
        if whole is None:
            exact = Fraction(self.quantity) * Fraction(self.unit_price) / Fraction(self.base_quantity)
            whole = Money.rounded(exact, self.added.currency)
        return whole + self.added


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What is taken off or added to a whole document; it takes part in what its rates are a share of."""

    amount: Money
    """Not negative."""
    is_charge: bool
    tax: TaxChoice = TaxChoice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    lines: tuple[DocumentLine, ...]
    adjustments: tuple[Adjustment, ...]
    prepaid: Money
    rounding: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentTotals:
    line_rates: tuple[tuple[TaxRate, ...], ...]
    line_nets: tuple[Money, ...]
    line_taxes: tuple[Money, ...]
    allowances: Money
    charges: Money
    taxes: tuple[TaxLine, ...]
    prepaid: Money
    rounding: Money

    @property
    def sum_of_lines(self) -> Money:
        return sum_money(self.line_nets, self.prepaid.currency)

    @property
    def without_tax(self) -> Money:
        return self.sum_of_lines - self.allowances + self.charges

    @property
    def tax(self) -> Money:
        return sum_money((tax.amount for tax in self.taxes), self.prepaid.currency)

    @property
    def with_tax(self) -> Money:
        return self.without_tax + self.tax

    @property
    def due(self) -> Money:
        return self.with_tax - self.prepaid + self.rounding


def document_totals(document: Document, rates_of: Callable[[TaxChoice], tuple[TaxRate, ...]]) -> DocumentTotals:
    """Where amounts include their tax, that is taken out of each of them first."""
    currency, count = document.prepaid.currency, len(document.lines)
    things = [
        Taxable(amount=line.net, rates=_on_one(rates_of(line.tax), f"lines[{n}].tax"))
        for n, line in enumerate(document.lines)
    ] + [
        Taxable(
            amount=each.amount if each.is_charge else -each.amount,
            rates=_on_one(rates_of(each.tax), f"allowances_and_charges[{n}].tax"),
        )
        for n, each in enumerate(document.adjustments)
    ]
    shares = tax_shares(things, currency)
    nets = [
        thing.amount - share if thing.rates and thing.rates[0].is_inclusive else thing.amount
        for thing, share in zip(things, shares, strict=True)
    ]
    added = list(zip(document.adjustments, nets[count:], strict=True))
    return DocumentTotals(
        line_rates=tuple(thing.rates for thing in things[:count]),
        line_nets=tuple(nets[:count]),
        line_taxes=tuple(shares[:count]),
        allowances=-sum_money((net for each, net in added if not each.is_charge), currency),
        charges=sum_money((net for each, net in added if each.is_charge), currency),
        taxes=tax_lines(things, currency),
        prepaid=document.prepaid,
        rounding=document.rounding,
    )


def _on_one(rates: tuple[TaxRate, ...], field: str) -> tuple[TaxRate, ...]:
    check_rates(rates, field=field)
    return rates
