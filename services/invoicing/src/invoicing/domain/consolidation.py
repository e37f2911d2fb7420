"""Knows which lines share an invoice: all that a customer owes in one currency when a bill run comes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress

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


def payable(lines: Sequence[Line]) -> list[bool]:
    """Which of them can be on one invoice: all but corrections that take off more than there is.

    Those are found again by the next bill run.
    """
    rest = sum(line.amount.minor for line in lines if line.amount.minor >= 0)
    kept: list[bool] = []
    for line in lines:
        fits = line.amount.minor >= 0 or rest + line.amount.minor >= 0
        if fits and line.amount.minor < 0:
            rest += line.amount.minor
        kept.append(fits)
    return kept


def _payable(due: Sequence[Due]) -> list[Due]:
    return list(compress(due, payable([each.line for each in due])))


def _bill(currency: str, due: Sequence[Due]) -> Bill:
    regular = [each.bill_time for each in due if not each.line.correction]
    return Bill(
        currency=currency,
        bill_time=max(regular or [each.bill_time for each in due]),
        lines=tuple(each.line for each in due),
    )
