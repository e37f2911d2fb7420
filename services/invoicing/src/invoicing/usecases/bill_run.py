"""Assembles the invoices of customers who are due: everything due is asked for, nothing waits for anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from common.crash import crashpoint, register
from common.db import Tx
from common.errors import SaldoError
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.bill_run import Looked
from invoicing.domain.completing import Terms, fitted
from invoicing.domain.consolidation import Bill, consolidate, credits_taken, left_waiting
from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.errors import TooManyLines
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import LineKey
from invoicing.domain.lines_due import Due
from invoicing.domain.next_look import next_look
from invoicing.domain.party import Seller
from invoicing.domain.spend_threshold import HOURLY, SpendLooks
from invoicing.usecases import companions, early, facts, late_usage, naming, parking, proposing
from invoicing.usecases.companions import Company
from invoicing.usecases.facts import Facts
from invoicing.usecases.sweep import sweep_every
from invoicing.usecases.taxing import TaxProvider, tax_terms
from invoicing.usecases.writing import Names, Owed, write

SLICES_MAX: Final = 1_000
"""Of a bill run that finds more than can be looked at at once: ten years of every day, of several hundred items."""

PATIENCE: Final = 20
"""How often those who belong together are tried to be had together, while somebody else holds one of them."""

ASKED: Final = register("invoicing.asked", "a bill run has asked for everything and written nothing")
DRAFTED: Final = register("invoicing.drafted", "a bill run has written its invoices and committed nothing")
BILLED: Final = register("invoicing.billed", "a bill run has committed, and taken nothing back of what it has to")


async def mark_customer_due(
    tx: Tx, customer_id: str, *, look_back_to: datetime | None = None, at: datetime | None = None
) -> None:
    """Have a customer billed now, or then. `look_back_to`: something to bill may lie before what was billed last."""
    if await store.mark_due(tx, customer_id, look_back_to=look_back_to, at=at):
        await store.plan_sweep(tx, first_after=sweep_every(tx.seller_id))


@dataclass(slots=True, kw_only=True)
class _Unbilled:
    """A customer who is due, and how far the bill run has come with what is owed."""

    billing: store.Billing
    after: datetime | None
    looks: list[datetime] = field(default_factory=list)
    waiting: list[datetime] = field(default_factory=list)
    is_first: bool = True
    """Whether what is looked at reaches back as far as anything may be billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was asked for beside what is to be billed, before anything is locked."""

    seller: Seller | None
    """None where there is nothing that could be billed."""
    terms: Mapping[str, Terms]
    """By customer."""
    names: Mapping[str, str]
    """What subscriptions are called, of those that may be told apart on paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What is to be taken back once all else is written, and is billed anew."""

    reissued: Mapping[InvoiceId, Sequence[Due]]
    given_back: Collection[LineKey]


async def bill_customers(
    desk: Desk,
    customer_ids: Sequence[str],
    *,
    grace: timedelta,
    taxes: TaxProvider,
    spend_looks: SpendLooks = HOURLY,
) -> None:
    """Bill everything that some customers owe as of now, once, and note when to come again; with them whoever is due
    and has a payer in common with one of them. One who cannot be billed is parked, with the reason.

    Whoever is being marked at this very moment is waited for when the others are billed.
    """
    company = await companions.of(desk, customer_ids)
    bill = partial(_bill_all, desk, customer_ids, grace=grace, taxes=taxes, spend_looks=spend_looks)
    try:
        await bill(company)
    except SaldoError as error:
        # Of several, each half is tried by itself.
        if len(customer_ids) > 1 or not parking.is_lasting(error):
            raise
        [customer_id] = customer_ids
        with_others = None
        if company.companion_ids:
            # It may have come with somebody who cannot be billed.
            with_others = partial(bill, await companions.sound(desk, company, beside=customer_ids))
        alone = partial(bill, company.only((), beside=customer_ids))
        await parking.bill_or_park(desk, customer_id, with_others=with_others, alone=alone)


async def _bill_all(
    desk: Desk,
    customer_ids: Sequence[str],
    company: Company,
    *,
    grace: timedelta,
    taxes: TaxProvider,
    spend_looks: SpendLooks,
) -> None:
    async with desk.transaction() as tx:
        beside = set(company.companion_ids)
        billings = await store.find_billings(tx, beside.union(customer_ids))
        pending = await store.pending_lines_of(tx, beside.union(customer_ids))
        ahead = None
        if any(each.may_be_early for each in billings.values()):
            ahead = await store.reached_among(tx, billings.keys())
        now = tx.now
    unbilled = {
        customer_id: _Unbilled(billing=each, after=facts.corrections_since(each))
        for customer_id, each in billings.items()
        if each.is_due(now) or customer_id in beside
    }
    for turn in range(SLICES_MAX):
        if not unbilled:
            return
        since = {customer_id: each.after for customer_id, each in unbilled.items()}
        found = await facts.gather(desk, since, through=now, as_of=now, proven=True, counted_ahead=ahead)
        # Asked for even when no invoice may come of it: what comes of it is decided with the rows locked.
        worth = pending or ahead or any(each.periods or each.commitments for each in found.values())
        asked = _Asked(
            seller=await clients.seller(desk) if worth else None,
            terms=await _terms(desk, taxes, found.values()),
            names=await naming.subscription_names(desk, {each: its.all_periods for each, its in found.items()}),
        )
        crashpoint(ASKED)
        async with desk.transaction() as tx:
            await store.lock_payers(tx, company.payer_ids)
            locked = await store.find_billings(tx, unbilled.keys(), lock=True)
            # Who belongs together is billed together, or a moment later.
            held = company.broken_by(unbilled.keys() - locked.keys()) if turn < PATIENCE else frozenset()
            own = {each: its for each, its in found.items() if each in locked and each not in held}
            done = await _bill(tx, unbilled, locked, own, asked, as_of=now, grace=grace, spend_looks=spend_looks)
            crashpoint(DRAFTED)
        if done.reissued or done.given_back:
            crashpoint(BILLED)
        await late_usage.reissue(desk, done.reissued)
        await early.give_back(desk, done.given_back)
        for customer_id in found.keys() - own.keys() - held:
            alone = company.only((), beside=[customer_id])
            await _bill_all(desk, [customer_id], alone, grace=grace, taxes=taxes, spend_looks=spend_looks)
        sliced = {
            each: replace(unbilled[each], after=its.through, is_first=False)
            for each, its in own.items()
            if its.through < now
        }
        unbilled = {each: mine for each, mine in unbilled.items() if each in held} | sliced
    ids = ", ".join(unbilled)
    raise TooManyLines(f"customer {ids} is not billed after {SLICES_MAX} slices", customer=ids)


async def _terms(desk: Desk, taxes: TaxProvider, found: Collection[Facts]) -> dict[str, Terms]:
    """Who may get an invoice or is on one, and what theirs is completed by."""
    parties = await facts.parties(desk, found)
    tax_codes = {price.tax_code for each in found for price in each.prices.values()}
    known = await tax_terms(desk, taxes, parties.values(), tax_codes=tax_codes)
    return {party_id: Terms(customer=party, taxes=known) for party_id, party in parties.items()}


async def _bill(
    tx: Tx,
    unbilled: Mapping[str, _Unbilled],
    locked: Mapping[str, store.Billing],
    found: Mapping[str, Facts],
    asked: _Asked,
    *,
    as_of: datetime,
    grace: timedelta,
    spend_looks: SpendLooks,
) -> _Done:
    """Write what is owed, and how far they are billed, as they are `locked`. Answers what is to be billed otherwise."""
    terms, seller = asked.terms, asked.seller
    # The next bill time after a slice lies in the next slice, and what waits for it would not be looked at there.
    next_bill_times = [each.next_bill_time if each.through == as_of else None for each in found.values()]
    policy = await store.issuing_policy(tx)
    proposed = await proposing.propose(
        tx, list(found.values()), as_of=as_of, next_bill_times=next_bill_times, policy=policy, lock=True
    )
    due = dict(zip(found, proposed.due, strict=True))
    await late_usage.record_refused(tx, proposed.late.refused, proposed.refused)
    looked: list[store.Looked] = []
    # What somebody wrote since the neighbours were asked has marked the customer anew, if it cannot wait.
    owed_lines = [] if seller is None else [each for own in due.values() for each in own]
    arrangement = await _arrangement(tx, due.values(), terms)
    bills = [fitted(bill, terms[bill.consolidation.payer_id]) for bill in consolidate(owed_lines, arrangement)]
    taken = credits_taken(bills)
    given_back: set[LineKey] = set()
    written = proposing.written_on(bills)
    billed = frozenset(written)
    for (customer_id, each), next_bill_time, is_waiting in zip(
        found.items(), next_bill_times, proposed.waiting, strict=True
    ):
        mine = unbilled[customer_id]
        look = next_look(each.periods, as_of=as_of, next_bill_time=next_bill_time, policy=policy)
        mine.looks += [] if look is None else [look]
        mine.looks += proposing.alone_times(due[customer_id], billed)
        mine.waiting += left_waiting(due[customer_id], taken)
        own_back = [one.line.key for one in due[customer_id] if one.gives_back]
        own_back += early.not_owed(each, proposed.opened) if mine.is_first and each.through == as_of else []
        given_back.update(own_back)
        if own_back or any(one.is_rest and one.is_held for one in due[customer_id]):
            # Until what was billed early is final, or given back.
            mine.looks.append(spend_looks.after(as_of, seller_id=tx.seller_id))
        now = locked[customer_id]
        # What was marked while the neighbours were asked may not have been in their answers: it stays due.
        is_seen = each.through == as_of and not is_waiting
        if is_seen and now.revision == mine.billing.revision:
            looked.append(
                store.Looked(
                    customer_id=customer_id,
                    next_time=min(mine.looks, default=None),
                    through_time=as_of,
                    credit_since=min(mine.waiting, default=None),
                    is_news=now.in_bill_run or now.was_parked,
                )
            )
    owed = [
        Owed(bill=bill, terms=terms[bill.consolidation.payer_id], traceparent=_trace(bill, unbilled)) for bill in bills
    ]
    await store.take_pending_lines(tx, written)
    invoices: list[Invoice] = []
    if owed:
        assert seller is not None, "as above"
        called = {customer_id: its.customer.called for customer_id, its in found.items()}
        names = Names(subscriptions=asked.names, customers=called)
        invoices = await write(tx, owed, seller=seller, names=names, policy=policy, grace=grace)
        await late_usage.record_billed(tx, due.values(), invoices)
        await early.record(tx, due.values(), invoices)
    await store.save_billings(tx, looked)
    ended = {each.customer_id for each in looked}
    await early.plan_looks(tx, {each: found[each] for each in ended}, as_of=as_of, looks=spend_looks)
    told = {each for each in found if locked[each].in_bill_run}
    await store.tell_bill_runs(tx, _results(told, ended, bills, invoices))
    final = {key for key in given_back if proposed.billed[key].is_final}
    return _Done(reissued=proposed.late.reissued, given_back=final)


def _results(
    told: Collection[str], ended: Collection[str], bills: Sequence[Bill], invoices: Sequence[Invoice]
) -> list[Looked]:
    """Of those whom a bill run waits for: which invoices have lines of theirs."""
    mine: dict[str, dict[InvoiceId, None]] = {each: {} for each in sorted(told)}
    for bill, invoice in zip(bills, invoices, strict=True) if told else ():
        for line in bill.lines:
            user = line.customer_id or bill.consolidation.payer_id
            if user in mine:
                mine[user][invoice.id] = None
    return [Looked(customer_id=each, invoice_ids=tuple(its), is_end=each in ended) for each, its in mine.items()]


async def _arrangement(tx: Tx, due: Iterable[Sequence[Due]], terms: Mapping[str, Terms]) -> Arrangement:
    lines = [each for own in due for each in own]
    policies = await store.policies_for(
        tx,
        payer_ids={each.payer_id for each in lines},
        subscription_ids={each.line.subscription_id for each in lines},
    )
    return Arrangement(customers={party_id: each.customer for party_id, each in terms.items()}, policies=policies)


def _trace(bill: Bill, unbilled: Mapping[str, _Unbilled]) -> str:
    """Of the first of them who was made due by something that is known."""
    customer_ids = dict.fromkeys(line.customer_id or bill.consolidation.payer_id for line in bill.lines)
    traces = (unbilled[each].billing.traceparent for each in customer_ids if each in unbilled)
    return next((each for each in traces if each), "")
