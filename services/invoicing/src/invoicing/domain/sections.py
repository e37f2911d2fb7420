"""Knows the sections of an invoice: what was used by whom and for which subscription, with what that comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.money import Money, sum_money
from invoicing.domain.line import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSection:
    subscription_id: str
    """Empty for lines that belong to none."""
    display_name: str
    """What its plan is called; empty where nobody kept it."""
    lines: tuple[Line, ...]
    subtotal: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one customer used: the invoice's own, or one that it pays for."""

    customer_id: str
    display_name: str
    """What the customer was called when the invoice was finalized, or in a look ahead is; empty in a draft, and where
    nobody kept it.
    """
    subtotal: Money
    subscriptions: tuple[SubscriptionSection, ...]


def sections(
    lines: Iterable[Line], *, customer_id: str, currency: str, names: Mapping[str, str]
) -> tuple[Section, ...]:
    """In the order in which they come up; `customer_id` is whose invoice it is, and the names are by id."""
    found: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line.customer_id or customer_id][line.subscription_id].append(line)
    return tuple(_section(each, by_subscription, currency, names) for each, by_subscription in found.items())


def is_divided(lines: Iterable[Line]) -> bool:
    """Whether it takes sections to tell what a line is about: there are several subscriptions, or somebody else's."""
    subscription_id = ""
    for line in lines:
        if line.customer_id or (subscription_id and line.subscription_id not in ("", subscription_id)):
            return True
        subscription_id = subscription_id or line.subscription_id
    return False


def named(lines: Iterable[Line], names: Mapping[str, str]) -> dict[str, str]:
    """Of the names, by id, those of the subscriptions and customers that lines are about."""
    ids = {each: None for line in lines for each in (line.customer_id, line.subscription_id)}
    return {each: names[each] for each in ids if names.get(each)}


def _section(
    customer_id: str, by_subscription: Mapping[str, list[Line]], currency: str, names: Mapping[str, str]
) -> Section:
    parts = tuple(
        SubscriptionSection(
            subscription_id=each,
            display_name=names.get(each, ""),
            lines=tuple(theirs),
            subtotal=sum_money((line.amount for line in theirs), currency),
        )
        for each, theirs in by_subscription.items()
    )
    return Section(
        customer_id=customer_id,
        display_name=names.get(customer_id, ""),
        subtotal=sum_money((part.subtotal for part in parts), currency),
        subscriptions=parts,
    )
