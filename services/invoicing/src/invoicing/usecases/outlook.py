"""Asks what is to come for whoever gets the invoices: of its own, and of those it pays for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import paying
from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.errors import PreviewTooLong, TooManyLines
from invoicing.domain.line import LineKey
from invoicing.domain.lines_due import Billed, Due
from invoicing.domain.party import Customer
from invoicing.domain.preview import Outlook
from invoicing.domain.spend_threshold import open_periods
from invoicing.usecases import facts, proposing

PAID_FOR_MAX: Final = 1_000
"""Customers that one customer pays for, of which a look ahead tells."""

LOOKS_MAX: Final = 12
"""How many bill times of those it pays for are looked at to find the next one of a payer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What is to come for one customer, as far as was looked."""

    payer: Customer
    now: datetime
    outlooks: Sequence[Outlook]
    """Its own first; only what it gets the invoices for."""
    billed: Mapping[LineKey, Billed]
    arrangement: Arrangement
    through: datetime
    """How far was looked."""
    next_bill_time: datetime | None
    """The next one of anybody among them, whoever pays."""

    def due(self) -> list[Due]:
        """All of it at once."""
        return [
            each
            for one in self.outlooks
            for each in one.due(self.billed, as_of=self.now, next_bill_time=one.next_bill_time, through=self.through)
        ]


async def next_bill(desk: Desk, payer_id: str) -> Ahead:
    """Everything due and not billed, and what the next bill time will bring."""
    since, now, may_be_early = await _since(desk, payer_id)
    through = await _next_bill_time(desk, since, now)
    ahead = await _look(desk, payer_id, since, through=through or now, now=now, may_be_early=may_be_early)
    for _ in range(LOOKS_MAX):
        # What comes first may be somebody else's: a customer pays for some of its subscriptions, another for the rest.
        is_found = any(each.bill_time > now for one in ahead.outlooks for each in one.periods)
        if is_found or ahead.next_bill_time is None or ahead.payer.payer_id:
            break
        ahead = await _look(desk, payer_id, since, through=ahead.next_bill_time, now=now, may_be_early=may_be_early)
    return ahead


async def until(desk: Desk, payer_id: str, *, through: datetime) -> Ahead:
    """Everything due and not billed, and what will be until an instant."""
    since, now, may_be_early = await _since(desk, payer_id)
    return await _look(desk, payer_id, since, through=through, now=now, may_be_early=may_be_early)


async def _since(desk: Desk, payer_id: str) -> tuple[dict[str, datetime | None], datetime, bool]:
    """Whom to ask about, from when on; and whether anything may have been billed before its period ends."""
    paid = await paying.pairs_of(desk, payer_ids=[payer_id], limit=PAID_FOR_MAX)
    if len(paid) > PAID_FOR_MAX:
        raise PreviewTooLong(f"{payer_id} pays for more than {PAID_FOR_MAX} customers", limit=PAID_FOR_MAX)
    members = [payer_id, *sorted({each.customer_id for each in paid} - {payer_id})]
    async with desk.transaction() as tx:
        billings = await store.find_billings(tx, members)
        since = {each: facts.corrections_since(billings.get(each)) for each in members}
        return since, tx.now, any(each.may_be_early for each in billings.values())


async def _next_bill_time(desk: Desk, members: Collection[str], now: datetime) -> datetime | None:
    schedules = await clients.schedules(desk, dict.fromkeys(members, now), through=now)
    return min((each.next_bill_time for each in schedules.values() if each.next_bill_time is not None), default=None)


async def _look(
    desk: Desk,
    payer_id: str,
    since: Mapping[str, datetime | None],
    *,
    through: datetime,
    now: datetime,
    may_be_early: bool,
) -> Ahead:
    found = await facts.gather(desk, since, through=through, as_of=now, proven=False)
    if any(each.through < through for each in found.values()):
        raise TooManyLines(f"too much is due for customer {payer_id} to be shown at once", customer=payer_id)
    async with desk.transaction() as tx:
        policy = await store.issuing_policy(tx)
        refused = await store.refused_so_far(tx, [period.key for each in found.values() for period in each.periods])
        outlooks = [
            Outlook(
                periods=each.periods,
                prices=each.prices,
                usage=each.usage,
                next_bill_time=each.next_bill_time,
                beside=its,
                policy=policy,
                refused=refused,
            ).paid_by(payer_id)
            for each, its in zip(found.values(), await proposing.beside(tx, list(found.values())), strict=True)
        ]
        periods = [period for one in outlooks for period in one.periods]
        commitments = [committed for one in outlooks for committed in one.beside.commitments]
        keys = [*(period.key for period in periods), *(committed.key for committed in commitments)]
        billed = await proposing.with_credited(tx, await store.already_billed(tx, keys), outlooks)
        if may_be_early:
            metered = [period.key for period in periods if period.meter]
            opened = open_periods(await store.early_lines_of(tx, customer_ids=(), keys=metered), billed)
            early = {key: each.customer_id for key, each in opened.items()}
            outlooks = [replace(one, early=early) for one in outlooks]
        policies = await store.policies_for(
            tx, payer_ids={payer_id}, subscription_ids={period.subscription_id for period in periods}
        )
    return Ahead(
        payer=found[payer_id].customer,
        now=now,
        outlooks=outlooks,
        billed=billed,
        through=through,
        arrangement=Arrangement(
            customers={customer_id: each.customer for customer_id, each in found.items()}, policies=policies
        ),
        next_bill_time=min(
            (each.next_bill_time for each in found.values() if each.next_bill_time is not None), default=None
        ),
    )
