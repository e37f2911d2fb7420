"""Proposes what is to be billed, for many customers at once and as often as wanted: nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from datetime import datetime

from common.db import Tx
from invoicing import store
from invoicing.domain.consolidation import Bill
from invoicing.domain.line import LineKind
from invoicing.domain.lines_due import Due, lines_due
from invoicing.domain.proposing import Beside
from invoicing.usecases.facts import Facts


async def propose(
    tx: Tx, found: Sequence[Facts], *, as_of: datetime, next_bill_times: Sequence[datetime | None], lock: bool
) -> list[list[Due]]:
    """For each customer, in their order. What waits to be billed is locked if it is going to be."""
    keys = [each.key for one in found for each in one.periods]
    keys += [each.key for one in found for each in one.commitments]
    billed = await store.already_billed(tx, keys)
    proposed: list[list[Due]] = []
    for each, its, next_bill_time in zip(found, await beside(tx, found, lock=lock), next_bill_times, strict=True):
        due = lines_due(
            each.periods,
            each.prices,
            each.usage,
            billed,
            as_of=as_of,
            next_bill_time=next_bill_time,
            sources=its.sources,
        )
        proposed.append(its.completed(due, billed, periods=each.periods, as_of=as_of))
    return proposed


async def beside(tx: Tx, found: Sequence[Facts], *, lock: bool = False) -> list[Beside]:
    """What is known of each beside its periods, in their order, from few questions for all of them."""
    customer_ids = [each.customer.party.id for each in found]
    # What was used is also on invoices of whoever pays for it.
    payer_ids = {each.customer.payer_id for each in found} | {
        period.payer_id for each in found for period in each.periods
    }
    invoiced = {*customer_ids, *payer_ids} - {""}
    periods = [period for each in found for period in each.periods]
    sources = await store.sources_of(tx, periods)
    spent = await store.lines_spent(tx, [committed for each in found for committed in each.commitments], invoiced)
    pending = await store.pending_lines_of(tx, customer_ids, lock=lock)
    coupons = {coupon_id for each in found for coupon_id in each.coupons}
    shares = await store.coupon_shares(tx, invoiced, coupons)
    return [
        Beside(
            customer=each.customer,
            commitments=each.commitments,
            coupons=each.coupons,
            sources=sources,
            spent=spent,
            shares=shares.get(each.customer.party.id, ()),
            pending=pending.get(each.customer.party.id, ()),
        )
        for each in found
    ]


def written_on(bills: Iterable[Bill]) -> list[str]:
    """The lines on these bills that waited for them, and wait no more."""
    return [line.id for bill in bills for line in bill.lines if line.kind is LineKind.MANUAL]


def alone_times(due: Iterable[Due], billed: Set[str]) -> list[datetime]:
    """When each of the lines that wait on has waited long enough; not those that are `billed`."""
    return [each.bill_alone_time for each in due if each.bill_alone_time is not None and each.line.id not in billed]
