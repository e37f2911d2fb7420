"""Assembles the invoices of a customer who is due: everything due is asked for, nothing waits for anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from common.crash import crashpoint, register
from common.db import Tx
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.consolidation import Bill, consolidate, left_waiting
from invoicing.domain.errors import TooManyLines
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.lines_due import CORRECTION_WINDOW, lines_due, next_look
from invoicing.domain.party import Customer, Seller
from invoicing.usecases import facts, issuing
from invoicing.usecases.sweep import SWEEP_EVERY

SLICES_MAX: Final = 1_000
"""Of a bill run that finds more than can be looked at at once: ten years of every day, of several hundred items."""

ASKED: Final = register("invoicing.asked", "a bill run has asked for everything and written nothing")
DRAFTED: Final = register("invoicing.drafted", "a bill run has written its invoices and committed nothing")


async def mark_customer_due(tx: Tx, customer_id: str, *, look_back_to: datetime | None = None) -> None:
    """Have a customer billed now. `look_back_to`: something to bill may lie before what was billed last."""
    if await store.mark_due(tx, customer_id, look_back_to=look_back_to):
        await store.plan_sweep(tx, first_after=SWEEP_EVERY)


async def bill_customer(desk: Desk, customer_id: str, *, grace: timedelta) -> None:
    """Bill everything a customer owes as of now, once, and note when to come again."""
    async with desk.transaction() as tx:
        billing = await store.find_billing(tx, customer_id)
        now = tx.now
    if billing is None or billing.due_time is None or billing.due_time > now:
        return
    after = corrections_since(billing)
    looks: list[datetime] = []
    waiting: list[datetime] = []
    for _ in range(SLICES_MAX):
        found = await facts.gather(desk, customer_id, after=after, through=now, as_of=now, proven=True)
        is_all = found.through == now
        # The next bill time after a slice lies in the next slice, and what waits for it would not be looked at there.
        next_bill_time = found.next_bill_time if is_all else None
        look = next_look(found.periods, as_of=now, next_bill_time=next_bill_time)
        looks += [] if look is None else [look]
        # Asked for even when no invoice may come of it: what comes of it is decided with the rows locked.
        seller = await clients.seller(desk) if found.periods else None
        crashpoint(ASKED)
        async with desk.transaction() as tx:
            locked = await store.find_billing(tx, customer_id, lock=True)
            assert locked is not None, "a customer once known here stays known"
            billed = await store.already_billed(tx, [each.key for each in found.periods])
            due = lines_due(found.periods, found.prices, found.usage, billed, as_of=now, next_bill_time=next_bill_time)
            bills = consolidate(due)
            for bill in bills:
                assert seller is not None
                await _write(tx, bill, customer=found.customer, seller=seller, grace=grace)
            waiting += left_waiting(due, bills)
            # What was marked while the neighbours were asked may not have been in their answers: it stays due.
            if is_all and locked.revision == billing.revision:
                await store.save_billing(
                    tx,
                    customer_id,
                    due_time=min(looks, default=None),
                    billed_through_time=now,
                    credit_since=min(waiting, default=None),
                )
            crashpoint(DRAFTED)
        if is_all:
            return
        after = found.through
    raise TooManyLines(f"customer {customer_id} is not billed after {SLICES_MAX} slices", customer=customer_id)


def corrections_since(billing: store.Billing | None) -> datetime | None:
    """From when on to ask for periods: also those that are billed, as long as late usage may change them, and credits
    that wait.
    """
    if billing is None or billing.billed_through_time is None:
        return None
    since = billing.billed_through_time - CORRECTION_WINDOW
    return since if billing.credit_since is None else min(since, billing.credit_since)


async def _write(tx: Tx, bill: Bill, *, customer: Customer, seller: Seller, grace: timedelta) -> None:
    """Into the draft for the same moment, if there is one, or as an invoice of its own."""
    lines = tuple(replace(line, id=tx.new_id("line")) for line in bill.lines)
    draft = await store.lock_draft(tx, customer_id=customer.party.id, currency=bill.currency, bill_time=bill.bill_time)
    if draft is not None:
        await store.save_draft(tx, draft.add(lines), lines_before=len(draft.lines))
        return
    invoice = Invoice.draft(
        id=InvoiceId(tx.new_id("inv")), customer=customer, bill=replace(bill, lines=lines), at=tx.now, grace=grace
    )
    if invoice.is_waiting_for_usage:
        await store.add_invoice(tx, invoice)
        return
    invoice = await issuing.issue(tx, invoice, seller=seller, customer=customer)
    await store.add_invoice(tx, invoice)
    await issuing.announce(tx, invoice)
