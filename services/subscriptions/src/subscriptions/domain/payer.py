"""Knows who may get the invoices of whom, and who has got them since when.

One level, so that nobody has to be asked twice where an invoice goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from subscriptions.domain.billable_periods import INSTANT, BillablePeriod
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.errors import PayerHasPayer
from subscriptions.domain.subscription import Subscription


@dataclass(frozen=True, slots=True)
class PayerLog:
    """Who gets a customer's invoices since when, in order; None is the customer itself, as before the first."""

    entries: tuple[tuple[datetime, CustomerId | None], ...] = ()

    @property
    def latest(self) -> CustomerId | None:
        return self.entries[-1][1] if self.entries else None

    def at(self, time: datetime) -> CustomerId | None:
        return next((payer_id for since, payer_id in reversed(self.entries) if since <= time), None)

    def next_since(self, at: datetime, *, is_billed: bool) -> datetime:
        """From when on counts what is said at a moment.

        Of a customer that is billed something may have been due in that very moment, and told to be somebody else's.
        """
        since = at + INSTANT if is_billed else at
        return max(since, self.entries[-1][0]) if self.entries else since


@dataclass(frozen=True, slots=True)
class Named:
    """For how long a subscription names a payer, or nobody; without an end for good."""

    start: datetime
    end: datetime | None
    payer_id: CustomerId | None


def check_payer(customer: Customer, payer: Customer, *, pays_for_others: bool) -> None:
    """Raise unless the payer may get the customer's invoices, which itself may get those of others by now."""
    payer.check_active()
    payer.check_not_erased()
    if payer.payer_id:
        raise PayerHasPayer(
            f"the invoices of {payer.id} go to {payer.payer_id}", customer=payer.id, payer=payer.payer_id
        )
    if pays_for_others:
        raise PayerHasPayer(f"customer {customer.id} gets the invoices of others", customer=customer.id, payer=payer.id)


def addressed(periods: Sequence[BillablePeriod], logs: Mapping[CustomerId, PayerLog]) -> Sequence[BillablePeriod]:
    """The same, each that its subscription names no payer for with the customer's at its bill time."""
    if not logs:
        return periods
    return [
        replace(each, payer_id=logs[each.customer_id].at(each.bill_time))
        if each.payer_id is None and each.customer_id in logs
        else each
        for each in periods
    ]


def named_payers(subscription: Subscription) -> list[Named]:
    """As things stand, from the agreement on; empty if the subscription never named anybody."""
    opening, (first, *later) = subscription.opening, subscription.timeline.payers
    found: list[Named] = []
    # What it began with counts before its start as well: that is where its first bill may lie.
    for start, payer_id in [(min(opening.start_time, opening.recorded_time), first[1]), *later]:
        if found and found[-1].start == start:
            found.pop()
        if found:
            found[-1] = replace(found[-1], end=start)
        found.append(Named(start, None, payer_id))
    return found if any(each.payer_id for each in found) else []
