"""Asks what is to come for whoever gets the invoices: of its own, and of those it pays for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import paying
from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.credit import HoldingKey, Wallet
from invoicing.domain.errors import PreviewTooLong, TooManyLines
from invoicing.domain.line import LineKey
from invoicing.domain.lines_due import BillablePeriod, Billed, Due
from invoicing.domain.party import Customer
from invoicing.domain.preview import Outlook
from invoicing.domain.spend_threshold import open_periods
from invoicing.store import Billing
from invoicing.usecases import facts, proposing
from invoicing.usecases.facts import Agreed

PAID_FOR_MAX: Final = 1_000
"""Customers that one customer pays for, of which a look ahead tells."""

LOOKS_MAX: Final = 12
"""How many bill times of those it pays for are looked at to find the next one of a payer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Up to when is looked for whom, and what they agreed to pay until then."""

    payer_id: str
    now: datetime
    agreed: Agreed
    through: datetime
    """How far was looked."""
    may_be_early: bool
    """Whether anything may have been billed before its period ends."""

    @property
    def payer(self) -> Customer:
        return self.agreed.schedules[self.payer_id].customer

    @property
    def periods(self) -> dict[str, list[BillablePeriod]]:
        """What comes on the payer's invoices, by whose it is."""
        return {customer_id: _paid_by(self.payer_id, its.periods) for customer_id, its in self.agreed.schedules.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What is to come for one customer, as far as was looked."""

    asked: Asked
    outlooks: Sequence[Outlook]
    """Its own first; only what it gets the invoices for."""
    billed: Mapping[LineKey, Billed]
    arrangement: Arrangement
    wallets: Mapping[HoldingKey, Wallet]
    """The payer's credit."""

    @property
    def next_bill_time(self) -> datetime | None:
        """The next one of anybody among them, whoever pays."""
        return _next_bill_time(self.asked.agreed.schedules)

    def due(self) -> list[Due]:
        """All of it at once."""
        asked = self.asked
        return [
            each
            for one in self.outlooks
            for each in one.due(self.billed, as_of=asked.now, next_bill_time=one.next_bill_time, through=asked.through)
        ]


async def next_bill(desk: Desk, payer_id: str) -> Asked:
    """About everything due and not billed, and what the next bill time will bring."""
    since, now, may_be_early = await _since(desk, payer_id)
    schedules = await clients.schedules_through_next(desk, since, at=now)
    for _ in range(LOOKS_MAX):
        # What comes first may be somebody else's: a customer pays for some of its subscriptions, another for the rest.
        is_found = any(each.bill_time > now for one in schedules.values() for each in _paid_by(payer_id, one.periods))
        following = _next_bill_time(schedules)
        if is_found or following is None or schedules[payer_id].customer.payer_id:
            break
        schedules = await clients.schedules(desk, since, through=following)
    agreed = await facts.priced(desk, schedules)
    through = max(each.through for each in schedules.values())
    return Asked(payer_id=payer_id, now=now, agreed=agreed, through=through, may_be_early=may_be_early)


async def until(desk: Desk, payer_id: str, *, through: datetime) -> Asked:
    """About everything due and not billed, and what will be until an instant."""
    since, now, may_be_early = await _since(desk, payer_id)
    agreed = await facts.priced(desk, await clients.schedules(desk, since, through=through))
    return Asked(payer_id=payer_id, now=now, agreed=agreed, through=through, may_be_early=may_be_early)


async def look(desk: Desk, asked: Asked) -> Ahead:
    """With what was used so far, and what was billed."""
    payer_id, now = asked.payer_id, asked.now
    found = await facts.counted(desk, asked.agreed, as_of=now, proven=False)
    if any(each.through < asked.through for each in found.values()):
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
        if asked.may_be_early:
            metered = [period.key for period in periods if period.meter]
            opened = open_periods(await store.early_lines_of(tx, customer_ids=(), keys=metered), billed)
            early = {key: each.customer_id for key, each in opened.items()}
            outlooks = [replace(one, early=early) for one in outlooks]
        policies = await store.policies_for(
            tx, payer_ids={payer_id}, subscription_ids={period.subscription_id for period in periods}
        )
        wallets = await store.look_at_wallets(tx, {payer_id})
    return Ahead(
        asked=asked,
        outlooks=outlooks,
        billed=billed,
        wallets=wallets,
        arrangement=Arrangement(
            customers={customer_id: each.customer for customer_id, each in found.items()}, policies=policies
        ),
    )


async def _since(desk: Desk, payer_id: str) -> tuple[dict[str, datetime | None], datetime, bool]:
    """Whom to ask about, from when on; and whether anything may have been billed before its period ends."""
    paid, (own, now) = await asyncio.gather(
        paying.pairs_of(desk, payer_ids=[payer_id], limit=PAID_FOR_MAX), _billings(desk, [payer_id])
    )
    if len(paid) > PAID_FOR_MAX:
        raise PreviewTooLong(f"{payer_id} pays for more than {PAID_FOR_MAX} customers", limit=PAID_FOR_MAX)
    others = sorted({each.customer_id for each in paid} - {payer_id})
    billings = own | (await _billings(desk, others))[0] if others else own
    since = {each: facts.corrections_since(billings.get(each)) for each in [payer_id, *others]}
    return since, now, any(each.may_be_early for each in billings.values())


async def _billings(desk: Desk, customer_ids: Sequence[str]) -> tuple[dict[str, Billing], datetime]:
    async with desk.transaction() as tx:
        return await store.find_billings(tx, customer_ids), tx.now


def _paid_by(payer_id: str, periods: Sequence[BillablePeriod]) -> list[BillablePeriod]:
    return [each for each in periods if (each.payer_id or each.customer_id) == payer_id]


def _next_bill_time(schedules: Mapping[str, clients.CustomerSchedule]) -> datetime | None:
    return min((each.next_bill_time for each in schedules.values() if each.next_bill_time is not None), default=None)
