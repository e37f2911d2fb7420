"""Knows the sections of an invoice: what was used by whom and for which subscription, with what that comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from common.money import Money, sum_money
from invoicing.domain.line import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSection:
    subscription_id: str
    """Empty for lines that belong to none."""
    subtotal: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one customer used: the invoice's own, or one that it pays for."""

    customer_id: str
    subtotal: Money
    subscriptions: tuple[SubscriptionSection, ...]


def sections(lines: Iterable[Line], *, customer_id: str, currency: str) -> tuple[Section, ...]:
    """In the order in which they come up; `customer_id` is whose invoice it is."""
    found: dict[str, dict[str, list[Money]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line.customer_id or customer_id][line.subscription_id].append(line.amount)
    return tuple(_section(each, amounts, currency) for each, amounts in found.items())


def _section(customer_id: str, amounts: dict[str, list[Money]], currency: str) -> Section:
    parts = tuple(
        SubscriptionSection(subscription_id=each, subtotal=sum_money(theirs, currency))
        for each, theirs in amounts.items()
    )
    return Section(
        customer_id=customer_id, subtotal=sum_money((part.subtotal for part in parts), currency), subscriptions=parts
    )
