"""Knows which lines share an invoice: all that a customer owes in one currency when a bill run comes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from common.money import Money
from invoicing.domain.line import Line
from invoicing.domain.lines_due import Due


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The lines of one invoice to be."""

    currency: str
    bill_time: datetime
    lines: tuple[Line, ...]


def consolidate(due: Iterable[Due]) -> list[Bill]:
    """One bill per currency, in order of currency.

    Periods that are found late join the bill at hand, whose time is that of its newest period. What can wait and finds
    no company waits.
    """
    by_currency: dict[str, list[Due]] = defaultdict(list)
    for each in due:
        by_currency[each.line.amount.currency].append(each)
    payable = {currency: _payable(by_currency[currency]) for currency in sorted(by_currency)}
    return [_bill(currency, lines) for currency, lines in payable.items() if not all(each.can_wait for each in lines)]


def left_waiting(due: Iterable[Due], bills: Iterable[Bill]) -> list[datetime]:
    """The bill times of the credits that were not taken off in full."""
    taken = {line.key: line.amount for bill in bills for line in bill.lines if line.is_credit}
    return [each.bill_time for each in due if each.line.is_credit and taken.get(each.line.key) != each.line.amount]


def payable(lines: Sequence[Line]) -> list[Line | None]:
    """Each of them as it can be on one invoice, None if it cannot: nobody is owed by an invoice.

    Corrections that take off more than there is are found again by the next bill run; of a credit as much is taken off
    as there is, and the rest by the next ones.
    """
    rest = sum(line.amount.minor for line in lines if line.amount.minor >= 0)
    fitted: list[Line | None] = list(lines)
    # Corrections before credits: they are taken off whole or not at all.
    for n, line in sorted(enumerate(lines), key=lambda each: each[1].is_credit):
        if line.amount.minor >= 0:
            continue
        taken = min(rest, -line.amount.minor) if line.is_credit else -line.amount.minor
        if not 0 < taken <= rest:
            fitted[n] = None
        elif taken < -line.amount.minor:
            fitted[n] = line.credited(Money(-taken, line.amount.currency))
        if fitted[n] is not None:
            rest -= taken
    return fitted


def _payable(due: Sequence[Due]) -> list[Due]:
    fitted = payable([each.line for each in due])
    return [replace(each, line=line) for each, line in zip(due, fitted, strict=True) if line is not None]


def _bill(currency: str, due: Sequence[Due]) -> Bill:
    regular = [each.bill_time for each in due if not (each.line.correction or each.line.is_credit)]
    return Bill(
        currency=currency,
        bill_time=max(regular or [each.bill_time for each in due]),
        lines=tuple(each.line for each in due),
    )
