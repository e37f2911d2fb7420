"""Finds what the sections of invoices are to be called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.rpc import Desk
from invoicing.clients.naming import plan_names
from invoicing.domain.lines_due import BillablePeriod


async def subscription_names(desk: Desk, found: Mapping[str, Sequence[BillablePeriod]]) -> dict[str, str]:
    """By id, of the subscriptions that may share an invoice with another; given what is to be billed of customers, by
    their ids. Most customers have one subscription, with an invoice of its own: they are not asked about.
    """
    payers = {period.payer_id for periods in found.values() for period in periods if period.payer_id}
    plans: dict[str, set[str]] = {}
    for customer_id, periods in found.items():
        own: dict[str, set[str]] = {}
        for period in periods:
            own.setdefault(period.subscription_id, set()).add(period.plan_id)
        if len(own) > 1 or customer_id in payers or any(period.payer_id for period in periods):
            plans |= own
    names = await plan_names(desk, {plan_id for its in plans.values() for plan_id in its})

    def called(its: Iterable[str]) -> str:
        # A subscription is called as its plan is, not as what was added to that.
        known = sorted((names[each] for each in its if each in names), key=lambda name: (name.is_add_on, name))
        return known[0].display_name if known else ""

    return {subscription_id: called(its) for subscription_id, its in plans.items()}
