"""Knows which lines share an invoice: those that have the same keys, and the same values of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from common.money import Money
from invoicing.domain.consolidation_policy import (
    Arrangement,
    Consolidation,
    ConsolidationPolicy,
    KeyValue,
    merged_sources,
)
from invoicing.domain.line import Line, LineKey, LineKind
from invoicing.domain.lines_due import Due


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The lines of one invoice to be."""

    currency: str
    bill_time: datetime
    lines: tuple[Line, ...]
    consolidation: Consolidation = field(default_factory=Consolidation)
    """Why they are together."""
    early: frozenset[LineKey] = frozenset()
    """What of them is billed before its period ends, and waits for no late usage."""


def consolidate(due: Iterable[Due], arrangement: Arrangement) -> list[Bill]:
    """A bill for each set of keys and values, in order of these.

    Periods that are found late join the bill at hand, whose time is that of its newest period. What can wait and finds
    no company waits.
    """
    groups: dict[tuple[KeyValue, ...], list[tuple[Due, ConsolidationPolicy | None]]] = defaultdict(list)
    for each, (keys, policy) in arrangement.placed(each for each in due if not each.is_held):
        groups[keys].append((each, policy))
    bills: list[Bill] = []
    for keys, members in sorted(groups.items(), key=lambda group: group[0]):
        lines = _payable([each for each, _ in members])
        if not all(each.can_wait for each in lines):
            consolidation = Consolidation(keys=keys, sources=merged_sources(policy for _, policy in members))
            bills.append(_bill(lines, consolidation))
    return bills


def credits_taken(bills: Iterable[Bill]) -> dict[LineKey, Money]:
    return {line.key: line.amount for bill in bills for line in bill.lines if line.is_credit}


def left_waiting(due: Iterable[Due], taken: Mapping[LineKey, Money]) -> list[datetime]:
    """The bill times of the credits that were not taken off in full, and of periods billed early whose rest waits."""
    return [
        each.bill_time
        for each in due
        if (each.is_rest and each.is_held) or (each.line.is_credit and taken.get(each.line.key) != each.line.amount)
    ]


def payable(lines: Sequence[Line]) -> list[Line | None]:
    """Each of them as it can be on one invoice, None if it cannot: nobody is owed by an invoice.

    Corrections that take off more than there is are found again by the next bill run; of a credit as much is taken off
    as there is, and the rest by the next ones.
    """
    rest = sum(line.net_amount.minor for line in lines if line.amount.minor >= 0)
    fitted: list[Line | None] = list(lines)
    # Corrections before credits: they are taken off whole or not at all.
    for n, line in sorted(enumerate(lines), key=lambda each: each[1].is_credit):
        if line.amount.minor >= 0:
            continue
        whole = -line.net_amount.minor
        taken = min(rest, whole) if line.is_credit else whole
        if taken > rest or (whole and not taken):
            fitted[n] = None
        elif taken < whole:
            fitted[n] = line.credited(Money(-taken, line.amount.currency))
        if fitted[n] is not None:
            rest -= taken
    return fitted


def _payable(due: Sequence[Due]) -> list[Due]:
    fitted = payable([each.line for each in due])
    return [
        each if line is each.line else replace(each, line=line)
        for each, line in zip(due, fitted, strict=True)
        if line is not None
    ]


def _bill(due: Sequence[Due], consolidation: Consolidation) -> Bill:
    regular = [each.bill_time for each in due if each.early or each.is_rest or _is_regular(each.line)]
    # What the payer used itself comes first; otherwise as they came, which is customer by customer.
    ordered = sorted(due, key=lambda each: each.customer_id != each.payer_id)
    return Bill(
        currency=due[0].line.amount.currency,
        bill_time=max(regular or [each.bill_time for each in due]),
        lines=tuple(each.line for each in ordered),
        consolidation=consolidation,
        early=frozenset(each.line.key for each in due if each.early),
    )


def _is_regular(line: Line) -> bool:
    """Whether its bill time is that of the bill that it is on; all else only joins one."""
    return not (line.correction or line.is_credit or line.kind is LineKind.MANUAL)
