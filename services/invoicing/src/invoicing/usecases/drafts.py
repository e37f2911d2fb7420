"""Finalizes drafts: recomputed one last time, numbered, owed from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.crash import crashpoint, register
from common.db import Tx
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.consolidation import payable
from invoicing.domain.errors import InvoiceNotDraft, UsageTooDetailed
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, Usage
from invoicing.domain.lines_due import UsageKey, recomputed
from invoicing.domain.party import Customer, Seller
from invoicing.domain.price import Price
from invoicing.usecases import issuing

RECOUNTED: Final = register("invoicing.recounted", "the usage of a draft was asked for again and nothing written")
NUMBERED: Final = register("invoicing.numbered", "an invoice has its number and nothing is committed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a draft is recomputed from and finalized with."""

    customer: Customer
    seller: Seller
    prices: dict[str, Price]
    usage: dict[UsageKey, Usage]


async def finalize_due_draft(desk: Desk, invoice_id: str) -> None:
    """Finalize a draft whose grace period is over."""
    facts = await pull(desk, InvoiceId(invoice_id))
    crashpoint(RECOUNTED)
    async with desk.transaction() as tx:
        # Somebody may have finalized it by hand while the neighbours were asked.
        found = await store.invoice(tx, InvoiceId(invoice_id), lock=True)
        if facts is not None and found.state is State.DRAFT:
            await _finalize(tx, found, facts)


async def pull(desk: Desk, invoice_id: InvoiceId) -> Facts | None:
    """Ask for everything that finalizing needs; None when the invoice is no draft (any more)."""
    async with desk.transaction() as tx:
        draft = await store.invoice(tx, invoice_id)
    if draft.state is not State.DRAFT:
        return None
    metered = [line for line in draft.lines if line.usage is not None]
    customer = await clients.customer(desk, draft.customer_id)
    prices = await clients.prices(desk, (line.price_id for line in metered))
    keys = {_usage_key(line, prices[line.price_id]) for line in metered}
    usage = await clients.usages(desk, customer, keys)
    if keys - usage.keys():
        raise UsageTooDetailed(f"invoice {draft.id} has too much usage to look at at once", invoice=draft.id)
    return Facts(
        customer=customer,
        seller=await clients.seller(desk),
        prices=prices,
        usage=usage,
    )


async def finalize_draft(tx: Tx, invoice_id: InvoiceId, facts: Facts | None) -> Invoice:
    """Freeze a draft now. Fails with INVOICE_NOT_DRAFT in any other state."""
    found = await store.invoice(tx, invoice_id, lock=True)
    if facts is None or found.state is not State.DRAFT:
        raise InvoiceNotDraft(f"invoice {found.id} is {found.state.name}", invoice=found.id, state=found.state)
    return await _finalize(tx, found, facts)


async def _finalize(tx: Tx, draft: Invoice, facts: Facts) -> Invoice:
    recomputed_draft = await _recomputed(tx, draft, facts)
    if recomputed_draft.lines != draft.lines:
        await store.replace_lines(tx, recomputed_draft)
    # The number last: everyone else who finalizes waits for it.
    invoice = await issuing.issue(tx, recomputed_draft, seller=facts.seller, customer=facts.customer)
    await store.save_invoice(tx, invoice)
    await issuing.announce(tx, invoice)
    crashpoint(NUMBERED)
    return invoice


async def _recomputed(tx: Tx, draft: Invoice, facts: Facts) -> Invoice:
    corrected = [line.key for line in draft.lines if line.correction]
    elsewhere = await store.already_billed(tx, corrected, but_on=draft.id)

    def anew(line: Line) -> Line:
        # A line that a bill run added since has been counted since; it may share its usage with one that was there.
        price = facts.prices.get(line.price_id)
        usage = facts.usage.get(_usage_key(line, price)) if line.usage is not None and price is not None else None
        if usage is None or price is None:
            return line
        return recomputed(line, price=price, usage=usage, billed_elsewhere=elsewhere.get(line.key))

    lines = [anew(line) for line in draft.lines]
    # A correction that fitted when it was drafted may by now take off more than there is: then it waits again.
    return draft.with_lines([line for line in payable(lines) if line is not None])


def _usage_key(line: Line, price: Price) -> UsageKey:
    assert line.usage is not None
    return UsageKey(line.usage.meter, line.period, price.needs)
