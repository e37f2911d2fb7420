"""Bills what has reached its threshold before its period ends, and gives back what turns out not to be owed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from common.db import Tx
from common.money import Money, sum_money
from common.rpc import Desk
from invoicing import store
from invoicing.domain.credit_note import Preference, Reason
from invoicing.domain.crediting import Part
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineKey
from invoicing.domain.lines_due import Billed, Due
from invoicing.domain.spend_threshold import (
    EarlyLine,
    Spend,
    SpendLooks,
    early_due,
    spends,
)
from invoicing.store import SpendLook
from invoicing.usecases import credit_notes, facts
from invoicing.usecases.credit_notes import Order
from invoicing.usecases.facts import Facts

NOT_OWED: Final = "billed before the period ended, which became another"


async def look(desk: Desk, customer_ids: Sequence[str], *, looks: SpendLooks) -> None:
    """Look at what customers have spent, and have those billed who have reached a threshold. What is only looked at
    needs no proof.
    """
    async with desk.transaction() as tx:
        wanted = await store.due_for_look(tx, customer_ids)
        now = tx.now
    if not wanted:
        return
    found = await _counted(desk, wanted, at=now)
    async with desk.transaction() as tx:
        spent = await _spent(tx, found, as_of=now)
        reached = {customer_id for customer_id, own in spent.items() if any(each.is_reached for each in own)}
        # Their billing before the plan for the next look, as a bill run has it: nobody waits for whom he keeps waiting.
        for customer_id in sorted(reached):
            await store.mark_due(tx, customer_id)
        soon = looks.after(now, seller_id=tx.seller_id)
        await store.plan_looks(
            tx,
            [
                SpendLook(customer_id=each, time=soon if own else None, is_reached=each in reached)
                for each, own in spent.items()
            ],
        )


async def unbilled_spend(desk: Desk, customer_id: str) -> list[Spend]:
    """How the subscriptions of a customer stand to their thresholds."""
    async with desk.transaction() as tx:
        now = tx.now
    found = await _counted(desk, [customer_id], at=now)
    async with desk.transaction() as tx:
        return (await _spent(tx, found, as_of=now))[customer_id]


async def known_of(tx: Tx, found: Iterable[Facts]) -> list[EarlyLine]:
    """What was billed early of what these customers are to be billed, or were."""
    those = [each for each in found if each.ahead is not None]
    if not those:
        return []
    keys = {period.key for each in those for period in each.all_periods if period.meter}
    return await store.early_lines_of(tx, customer_ids={each.customer.party.id for each in those}, keys=keys)


def due_early(
    each: Facts, billed: Mapping[LineKey, Billed], opened: Mapping[LineKey, EarlyLine], *, as_of: datetime
) -> list[Due]:
    """What a customer is billed now of what is under way."""
    if each.ahead is None or not each.ahead.is_counted:
        return []
    customer_id = each.customer.party.id
    # What somebody else was billed of the same period is given back first.
    mine = [
        period
        for period in each.ahead.watched(each.prices, as_of)
        if period.key not in opened or opened[period.key].customer_id == customer_id
    ]
    spent = spends(mine, each.prices, each.usage, billed, each.ahead.thresholds, as_of=as_of, proven=True)
    return early_due(spent, as_of=as_of)


def not_owed(each: Facts, opened: Mapping[LineKey, EarlyLine]) -> list[LineKey]:
    """What was billed early of a customer whose periods are not there any more, or end before they were billed."""
    if each.ahead is None:
        return []
    ends = {period.key: period.period.end for period in each.all_periods}
    return [
        key
        for key, early in opened.items()
        if early.customer_id == each.customer.party.id and (key not in ends or ends[key] < early.period.end)
    ]


async def record(tx: Tx, proposed: Iterable[Sequence[Due]], invoices: Iterable[Invoice]) -> None:
    """Which lines are billed early, and why."""
    early = {each.line.key: each for own in proposed for each in own if each.early is not None}
    if not early:
        return
    await store.add_early_lines(
        tx,
        [
            _record(tx, early[line.key], line, invoice.id)
            for invoice in invoices
            for line in invoice.lines
            if line.key in early and line.correction == early[line.key].line.correction
        ],
    )


async def plan_looks(tx: Tx, found: Mapping[str, Facts], *, as_of: datetime, looks: SpendLooks) -> None:
    """When to look at customers next who have just been billed."""
    soon = looks.after(as_of, seller_id=tx.seller_id)
    planned = [
        SpendLook(customer_id=customer_id, time=soon if each.ahead.watched(each.prices, as_of) else None)
        for customer_id, each in found.items()
        if each.ahead is not None
    ]
    if planned:
        await store.plan_looks(tx, planned)


async def give_back(desk: Desk, keys: Collection[LineKey]) -> None:
    """What was billed early of these periods, whoever was billed: credited in full, and never billed. What is owed of
    them is billed anew.
    """
    for key in sorted(keys):
        async with desk.transaction() as tx:
            lines = await store.standing_early_lines(tx, key)
            for customer_id in sorted({each.customer_id for each in lines}):
                await store.mark_due(tx, customer_id, look_back_to=key.period_start)
            billed = await store.already_billed(tx, [key])
            # Somebody may have annulled it meanwhile, or billed more.
            if lines and lines[-1].is_last_of(billed.get(key)) and billed[key].is_final:
                await _give_back(tx, lines)


async def _give_back(tx: Tx, lines: Iterable[EarlyLine]) -> None:
    by_invoice: dict[InvoiceId, list[str]] = defaultdict(list)
    for each in lines:
        by_invoice[InvoiceId(each.invoice_id)].append(each.line_id)
    for invoice_id, line_ids in sorted(by_invoice.items()):
        invoice = await store.invoice(tx, invoice_id, lock=True)
        assert invoice.state is not State.DRAFT, "all of it is final"
        before: dict[str, list[Money]] = defaultdict(list)
        for note in await store.credit_notes_of(tx, invoice_id):
            for credited in note.lines:
                before[credited.line_id].append(credited.amount)
        left = [
            line.id
            for line in invoice.lines
            if line.id in line_ids and line.net_amount.minor and line.amount != _sum(before[line.id], line)
        ]
        if left:
            order = Order(
                invoice_id=invoice_id,
                parts=[Part(line_id=each) for each in left],
                reason=Reason.ORDER_CHANGE,
                memo=NOT_OWED,
                settlement=None,
                preference=Preference.DEBT_FIRST,
            )
            await credit_notes.create_credit_note(tx, order)
        for line_id in line_ids:
            await store.void_line(tx, line_id)


def _sum(amounts: Sequence[Money], line: Line) -> Money:
    return sum_money(amounts, line.amount.currency)


async def _counted(desk: Desk, customer_ids: Sequence[str], *, at: datetime) -> dict[str, Facts]:
    return await facts.gather(
        desk,
        dict.fromkeys(customer_ids, at),
        through=at,
        as_of=at,
        proven=False,
        counted_ahead=frozenset(customer_ids),
    )


async def _spent(tx: Tx, found: Mapping[str, Facts], *, as_of: datetime) -> dict[str, list[Spend]]:
    """What is to be looked at of each."""
    watched = {
        customer_id: [] if each.ahead is None else each.ahead.watched(each.prices, as_of)
        for customer_id, each in found.items()
    }
    billed = await store.already_billed(tx, [period.key for own in watched.values() for period in own])
    spent: dict[str, list[Spend]] = {}
    for customer_id, own in watched.items():
        its, ahead = found[customer_id], found[customer_id].ahead
        assert ahead is not None, "as was asked"
        spent[customer_id] = spends(own, its.prices, its.usage, billed, ahead.thresholds, as_of=as_of, proven=False)
    return spent


def _record(tx: Tx, due: Due, line: Line, invoice_id: InvoiceId) -> EarlyLine:
    assert due.early is not None, "as of all that is billed early"
    return EarlyLine(
        key=line.key,
        line_id=line.id,
        invoice_id=invoice_id,
        customer_id=due.customer_id,
        subscription_id=line.subscription_id,
        period=line.period,
        correction=line.correction,
        bill_time=due.early.bill_time,
        spend=due.early.spend,
        threshold_id=due.early.threshold_id,
        create_time=tx.now,
    )
