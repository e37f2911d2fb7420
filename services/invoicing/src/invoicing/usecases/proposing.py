"""Proposes what is to be billed, for many customers at once and as often as wanted: nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime

from common.db import Tx
from invoicing import store
from invoicing.domain.consolidation import Bill
from invoicing.domain.given_back import given_back_once
from invoicing.domain.issuing_policy import IssuingPolicy
from invoicing.domain.late_usage import LateUsage, Refused
from invoicing.domain.line import LineKey, LineKind
from invoicing.domain.lines_due import Billed, Due, lines_due
from invoicing.domain.preview import Outlook
from invoicing.domain.proposing import Beside, recounted
from invoicing.domain.spend_threshold import EarlyLine, open_periods
from invoicing.usecases import early, late_usage
from invoicing.usecases.facts import Facts
from invoicing.usecases.late_usage import Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What is to be billed, and what becomes of late usage that is not."""

    due: list[list[Due]]
    """For each customer, in their order."""
    late: Settled
    refused: Mapping[LineKey, Refused]
    """What was refused before."""
    waiting: list[bool]
    """Whether something of each waits until what it was billed before is annulled."""
    opened: Mapping[LineKey, EarlyLine]
    """Of what was billed early, and nothing since."""
    billed: Mapping[LineKey, Billed]


async def propose(
    tx: Tx,
    found: Sequence[Facts],
    *,
    as_of: datetime,
    next_bill_times: Sequence[datetime | None],
    policy: IssuingPolicy,
    lock: bool,
) -> Proposed:
    """For some customers. What waits to be billed is locked if it is going to be."""
    keys = [each.key for one in found for each in one.periods]
    billed_early = await early.known_of(tx, found)
    beyond = [each.key for one in found if one.ahead is not None for each in one.ahead.periods]
    beyond += [each.key for each in billed_early]
    lines = await store.already_billed(tx, [*keys, *(each.key for one in found for each in one.commitments), *beyond])
    billed = await with_credited(tx, lines, found)
    opened = open_periods(billed_early, billed)
    whose = {key: each.customer_id for key, each in opened.items()}
    refused = await store.refused_so_far(tx, keys)
    known = await beside(tx, found, lock=lock)
    derived = [
        lines_due(
            each.periods,
            each.prices,
            each.usage,
            billed,
            as_of=as_of,
            next_bill_time=next_bill_time,
            sources=its.sources,
            policy=policy,
            refused=refused,
            early=whose,
        )
        + early.due_early(each, billed, opened, as_of=as_of)
        for each, its, next_bill_time in zip(found, known, next_bill_times, strict=True)
    ]
    # All of them have the same sources.
    once = given_back_once(derived, next((its.sources for its in known), {}))
    late = await late_usage.settle(tx, once)
    held_payers = late.held_payers
    proposed: list[list[Due]] = []
    waiting: list[bool] = []
    for each, its, due in zip(found, known, once, strict=True):
        standing = [one for one in due if one.late_usage is not LateUsage.REFUSE]
        complete = its.completed(standing, billed, periods=each.periods, as_of=as_of)
        proposed.append([one for one in complete if one.payer_id not in held_payers] if held_payers else complete)
        waiting.append(len(proposed[-1]) < len(complete))
    return Proposed(due=proposed, late=late, refused=refused, waiting=waiting, opened=opened, billed=billed)


async def with_credited(
    tx: Tx, billed: Mapping[LineKey, Billed], found: Iterable[Facts | Outlook]
) -> Mapping[LineKey, Billed]:
    """With what credit notes gave back of it, where something may come back by the usage as it is now."""
    recounts = (recounted(each.periods, each.prices, each.usage, billed) for each in found)
    credited = await store.credited_so_far(tx, [key for own in recounts for key in own])
    if not credited:
        return billed
    return {**billed, **{key: replace(billed[key], credited=amount) for key, amount in credited.items()}}


async def beside(tx: Tx, found: Sequence[Facts], *, lock: bool = False) -> list[Beside]:
    """What is known of each beside its periods, in their order, from few questions for all of them."""
    customer_ids = [each.customer.party.id for each in found]
    # What was used is also on invoices of whoever pays for it.
    payer_ids = {each.customer.payer_id for each in found} | {
        period.payer_id for each in found for period in each.all_periods
    }
    invoiced = {*customer_ids, *payer_ids} - {""}
    periods = [period for each in found for period in each.all_periods]
    sources = await store.sources_of(tx, periods)
    spent = await store.lines_spent(tx, [committed for each in found for committed in each.commitments])
    pending = await store.pending_lines_of(tx, customer_ids, lock=lock)
    coupons = {coupon_id for each in found for coupon_id in each.coupons}
    owners = {
        period.subscription_id: each.customer.party.id
        for each in found
        for period in each.all_periods
        if period.coupon_ids
    }
    shares = await store.coupon_shares(tx, invoiced, coupons, owners=owners)
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
