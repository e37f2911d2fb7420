"""Knows how an invoice is completed from its lines: a pure function of it, and of what was asked for before.

    lines ─► taxes ─► fitted, so that nobody is owed by it

The same for what a bill run writes, for a draft that is counted anew, and for what is only looked ahead to.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from common.money import Money, sum_money
from invoicing.domain.consolidation import Bill
from invoicing.domain.invoice import Invoice
from invoicing.domain.line import Line
from invoicing.domain.party import Customer
from invoicing.domain.tax import Taxable, TaxLine, TaxRate, tax_lines
from invoicing.domain.tax_rules import TaxTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an invoice of a customer is completed by."""

    customer: Customer
    taxes: TaxTerms


def completed(invoice: Invoice, terms: Terms) -> Invoice:
    """With its taxes, by the rules for the moment that it bills."""
    lines = _fitted(invoice.lines, terms, at=invoice.bill_time)
    rates = _rates(lines, terms, at=invoice.bill_time)
    told = [_taxed_at(line, tuple(rate.id for rate in own)) for line, own in zip(lines, rates, strict=True)]
    return invoice.with_taxes(told, _taxes(lines, rates, invoice.currency), as_of=terms.taxes.as_of)


def _taxed_at(line: Line, rate_ids: tuple[str, ...]) -> Line:
    return line if line.tax_rate_ids == rate_ids else replace(line, tax_rate_ids=rate_ids)


def taxed_again(invoice: Invoice, rates: Mapping[str, TaxRate]) -> Invoice:
    """What its taxes come to by the rates that its lines carry; exempt is who was exempt."""
    if not all(tax.rate_id in rates for tax in invoice.taxes):
        return invoice  # somebody else computed them
    told = {tax.rate_id: tax for tax in invoice.taxes}
    known = {
        rate_id: rates[rate_id]
        if tax.category == rates[rate_id].category
        else rates[rate_id].exempted(tax.exemption_reason)
        for rate_id, tax in told.items()
    }
    own = [tuple(known[rate_id] for rate_id in line.tax_rate_ids if rate_id in known) for line in invoice.lines]
    return replace(invoice, taxes=_taxes(invoice.lines, own, invoice.currency))


def fitted(bill: Bill, terms: Terms) -> Bill:
    """Without what of its credits there is no room for once they are taxed: the next bill run finds it again."""
    lines = _fitted(bill.lines, terms, at=bill.bill_time)
    return bill if lines is bill.lines else replace(bill, lines=tuple(lines))


def _fitted(lines: Sequence[Line], terms: Terms, *, at: datetime) -> Sequence[Line]:
    """A credit may be taxed at more than what it is taken off: then it takes off as much as leaves nothing to pay."""
    negative = [n for n, line in enumerate(lines) if line.amount.minor < 0]
    if not negative:
        return lines
    currency = lines[0].amount.currency
    rates = _rates(lines, terms, at=at)
    kept: list[Line | None] = list(lines)

    def total() -> int:
        left = [(line, own) for line, own in zip(kept, rates, strict=True) if line is not None]
        taxes = _taxes([line for line, _ in left], [own for _, own in left], currency)
        nets = sum_money((line.net_amount for line, _ in left), currency)
        return (nets + sum_money((tax.amount for tax in taxes if not tax.is_included), currency)).minor

    def overflows(n: int, taken: int) -> bool:
        kept[n] = lines[n].credited(Money(-taken, currency))
        return total() < 0

    # The last credit first, and corrections after all credits: those are taken off whole or not at all.
    for n in sorted(negative, key=lambda n: (not lines[n].is_credit, -n)):
        if total() >= 0:
            break
        owed = -lines[n].net_amount.minor
        room = 0
        if lines[n].is_credit:
            room = bisect_left(range(1, owed + 1), True, key=partial(overflows, n))
        kept[n] = lines[n].credited(Money(-room, currency)) if room else None
    return [line for line in kept if line is not None]


def _rates(lines: Sequence[Line], terms: Terms, *, at: datetime) -> list[tuple[TaxRate, ...]]:
    by_code = {code: terms.taxes.rates_for(terms.customer, code, at) for code in {line.tax_code for line in lines}}
    return [by_code[line.tax_code] for line in lines]


def _taxes(lines: Sequence[Line], rates: Sequence[tuple[TaxRate, ...]], currency: str) -> tuple[TaxLine, ...]:
    return tax_lines(
        (Taxable(amount=line.net_amount, rates=own) for line, own in zip(lines, rates, strict=True)), currency
    )
