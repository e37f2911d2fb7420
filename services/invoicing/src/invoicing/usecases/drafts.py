"""Finalizes drafts: recomputed one last time, numbered, owed from then on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from common.crash import crashpoint, register
from common.db import Tx
from common.errors import SaldoError
from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import counting
from invoicing.domain.completing import Terms
from invoicing.domain.completing import completed as taxed
from invoicing.domain.coupons import Coupon
from invoicing.domain.errors import DraftMoved, InvoiceNotDraft, UsageTooDetailed
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.late_usage import Refused
from invoicing.domain.line import Line, LineKey, Usage
from invoicing.domain.lines_due import Billed, UsageKey, recomputed
from invoicing.domain.party import Customer, Seller
from invoicing.domain.price import Price
from invoicing.domain.tax_rules import TaxTerms
from invoicing.usecases import completing, issuing, parking
from invoicing.usecases.taxing import TaxProvider, tax_terms

RECOUNTED: Final = register("invoicing.recounted", "the usage of drafts was asked for again and nothing written")
NUMBERED: Final = register("invoicing.numbered", "invoices have their numbers and nothing is committed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What drafts are recomputed from and finalized with."""

    customers: dict[str, Customer]
    seller: Seller
    prices: dict[str, Price]
    usage: dict[InvoiceId, dict[tuple[str, UsageKey], Usage]]
    """Of every draft that was there when metering was asked, by who used it."""
    taxes: TaxTerms
    coupons: dict[str, Coupon] = field(default_factory=dict)
    users: frozenset[str] = frozenset()
    """The customers who use them."""


async def finalize_due_drafts(desk: Desk, invoice_ids: Sequence[str], *, taxes: TaxProvider) -> None:
    """Finalize drafts whose grace period is over. Of one that cannot be, as things stand, the customer is parked with
    the reason.
    """
    try:
        await _finalize_due(desk, invoice_ids, taxes=taxes)
    except SaldoError as error:
        # Of several, each half is tried by itself.
        if len(invoice_ids) > 1 or not parking.is_lasting(error):
            raise
        await parking.park_draft(desk, InvoiceId(invoice_ids[0]), error)


async def _finalize_due(desk: Desk, invoice_ids: Sequence[str], *, taxes: TaxProvider) -> None:
    facts = await pull(desk, [InvoiceId(each) for each in invoice_ids], taxes=taxes)
    crashpoint(RECOUNTED)
    if facts is None:
        return
    async with desk.transaction() as tx:
        # Somebody may have finalized or held some by hand while the neighbours were asked.
        held = await _turns(tx, facts)
        found = await store.drafts(tx, facts.usage.keys(), lock=True)
        # Those whose turn it is not stay due.
        mine = [each for each in found if users_of_coupons(each.invoice) <= held]
        free = [each for each in mine if not each.invoice.hold_reason]
        # Numbers go by age, of drafts and then of customers: ids of one bill time are in no order.
        free.sort(key=lambda each: (each.invoice.create_time, each.invoice.customer_id, each.invoice.id))
        await _finalize(tx, free, facts)


async def pull(desk: Desk, invoice_ids: Collection[InvoiceId], *, taxes: TaxProvider) -> Facts | None:
    """Ask for everything that finalizing needs; None when none of the invoices is a draft (any more)."""
    async with desk.transaction() as tx:
        drafts = [draft for draft, _ in await store.drafts(tx, invoice_ids)]
    if not drafts:
        return None
    metered = [(draft, line) for draft in drafts for line in draft.lines if line.usage is not None]
    prices = await clients.prices(desk, (line.price_id for _, line in metered))
    keys: dict[tuple[InvoiceId, str], set[UsageKey]] = defaultdict(set)
    for draft, line in metered:
        keys[draft.id, draft.used_by(line)].add(_usage_key(line, prices[line.price_id]))
    customers = await clients.customers(
        desk, {draft.customer_id for draft in drafts}.union(*(users_of(draft) for draft in drafts))
    )
    counted = await counting.usages_of_all(desk, [(customers[each], own) for (_, each), own in keys.items()])
    usages: dict[InvoiceId, dict[tuple[str, UsageKey], Usage]] = {draft.id: {} for draft in drafts}
    for ((invoice_id, customer_id), own), usage in zip(keys.items(), counted, strict=True):
        if own - usage.keys():
            raise UsageTooDetailed(f"invoice {invoice_id} has too much usage to look at at once", invoice=invoice_id)
        usages[invoice_id] |= {(customer_id, key): found for key, found in usage.items()}
    return Facts(
        customers=customers,
        seller=await clients.seller(desk),
        prices=prices,
        usage=usages,
        taxes=await tax_terms(
            desk, taxes, customers.values(), tax_codes={line.tax_code for draft in drafts for line in draft.lines}
        ),
        coupons=await clients.coupons(desk, {one for draft in drafts for one in coupons_of(draft)}),
        users=frozenset(one for draft in drafts for one in users_of_coupons(draft)),
    )


async def finalize_draft(tx: Tx, invoice_id: InvoiceId, facts: Facts | None) -> Invoice:
    """Freeze a draft now. Fails with INVOICE_NOT_DRAFT in any other state."""
    held = set() if facts is None else await _turns(tx, facts)
    found = await store.invoice(tx, invoice_id, lock=True)
    if facts is None or found.state is not State.DRAFT:
        raise InvoiceNotDraft(f"invoice {found.id} is {found.state.name}", invoice=found.id, state=found.state)
    if users_of_coupons(found) - held:
        raise DraftMoved(f"another invoice uses the coupons of {found.id}", invoice=found.id)
    [invoice] = await _finalize(tx, [store.Draft(found, "")], facts)
    return invoice


def coupons_of(draft: Invoice) -> set[str]:
    return {coupon_id for line in draft.lines for coupon_id in line.coupon_ids}


def users_of(draft: Invoice) -> set[str]:
    return {draft.used_by(line) for line in draft.lines}


def users_of_coupons(draft: Invoice) -> set[str]:
    return {draft.used_by(line) for line in draft.lines if line.coupon_ids}


async def _turns(tx: Tx, facts: Facts) -> set[str]:
    """The customers whose coupons nobody else uses now. One invoice does at a time, and the row of the customer says
    whose turn it is: it is taken before those of invoices, as in a bill run.
    """
    return set(await store.find_billings(tx, facts.users, lock=True)) if facts.users else set()


async def _finalize(tx: Tx, drafts: Sequence[store.Draft], facts: Facts) -> list[Invoice]:
    moved = [
        draft.id
        for draft, _ in drafts
        if coupons_of(draft) - facts.coupons.keys() or users_of(draft) - facts.customers.keys()
    ]
    if moved:
        ids = ", ".join(moved)
        raise DraftMoved(f"a coupon or a customer joined {ids} while others were asked", invoices=",".join(moved))
    corrected = {draft.id: [line.key for line in draft.lines if line.correction] for draft, _ in drafts}
    elsewhere = await _with_credited(tx, await store.billed_elsewhere(tx, corrected))
    metered = [line.key for draft, _ in drafts for line in draft.lines if line.usage is not None]
    refused = await store.refused_so_far(tx, metered)
    recounted = [_recounted(draft, facts, elsewhere.get(draft.id, {}), refused) for draft, _ in drafts]
    recounted = await completing.completed(tx, recounted, elsewhere, facts.coupons)
    recounted = [
        taxed(draft.dated(tx.now), Terms(customer=facts.customers[draft.customer_id], taxes=facts.taxes))
        for draft in recounted
    ]
    changed = [after for after, (before, _) in zip(recounted, drafts, strict=True) if after.lines != before.lines]
    await store.replace_lines(tx, changed)
    # The numbers last: everyone else who finalizes waits for them.
    called = {customer_id: each.called for customer_id, each in facts.customers.items()}
    ready = [
        issuing.Ready(draft=draft, customer=facts.customers[draft.customer_id], users=called, traceparent=traceparent)
        for draft, (_, traceparent) in zip(recounted, drafts, strict=True)
    ]
    invoices = await issuing.issue(tx, ready, seller=facts.seller)
    await store.save_invoices(tx, invoices)
    crashpoint(NUMBERED)
    return invoices


async def _with_credited(
    tx: Tx, elsewhere: Mapping[InvoiceId, Mapping[LineKey, Billed]]
) -> dict[InvoiceId, dict[LineKey, Billed]]:
    """What was billed before corrections, with what credit notes gave back of it. Nobody credits any of it meanwhile:
    who does waits for the drafts.
    """
    credited = await store.credited_so_far(tx, {key for own in elsewhere.values() for key in own})
    return {
        invoice_id: {key: replace(each, credited=credited.get(key)) for key, each in own.items()}
        for invoice_id, own in elsewhere.items()
    }


def _recounted(
    draft: Invoice, facts: Facts, elsewhere: Mapping[LineKey, Billed], refused: Mapping[LineKey, Refused]
) -> Invoice:
    """With the usage as it is now."""
    counted = facts.usage[draft.id]

    def anew(line: Line) -> Line:
        # A line that a bill run added since has been counted since; it may share its usage with one that was there.
        price = facts.prices.get(line.price_id)
        if line.usage is None or price is None:
            return line
        usage = counted.get((draft.used_by(line), _usage_key(line, price)))
        if usage is None:
            return line
        return recomputed(
            line,
            price=price,
            usage=usage,
            billed_elsewhere=elsewhere.get(line.key),
            refused=refused.get(line.key),
        )

    return draft.with_lines([anew(line) for line in draft.lines])


def _usage_key(line: Line, price: Price) -> UsageKey:
    assert line.usage is not None
    return UsageKey(line.usage.meter, line.period, price.needs)
