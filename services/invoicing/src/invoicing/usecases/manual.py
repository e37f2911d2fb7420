"""Writes invoices by hand, as drafts that somebody finalizes, and lines that wait for the next invoice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from common.db import Tx
from common.rpc import Desk
from common.telemetry import traceparent
from invoicing import clients, store
from invoicing.domain.completing import Terms, completed
from invoicing.domain.coupons import Used, with_discounts
from invoicing.domain.errors import InvoiceNotManual, PendingLineBilled, PendingLineNotFound, TooManyPendingLines
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line
from invoicing.domain.manual import (
    PENDING_MAX,
    PendingLine,
    WrittenInvoice,
    WrittenLine,
    check_line,
    drafted,
    renamed,
    with_line_in_place,
    without_line,
    written,
)
from invoicing.domain.party import Customer
from invoicing.domain.price import Price
from invoicing.domain.tax_rules import TaxTerms
from invoicing.usecases import bill_run
from invoicing.usecases.taxing import TaxProvider, tax_terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is needed from elsewhere to write lines for a customer."""

    customer: Customer
    prices: dict[str, Price]
    taxes: TaxTerms

    @property
    def terms(self) -> Terms:
        return Terms(customer=self.customer, taxes=self.taxes)


async def pull(
    desk: Desk,
    customer_id: str,
    lines: Sequence[WrittenLine],
    *,
    taxes: TaxProvider,
    tax_codes: Collection[str] = (),
) -> Facts:
    """`tax_codes` are those of lines that are there. Fails with CUSTOMER_NOT_FOUND or PRICE_NOT_FOUND."""
    customer = await clients.customer(desk, customer_id)
    wanted = sorted({each.priced_by for each in lines if isinstance(each.priced_by, str)})
    # One by one, so that what is not there is named; what is known costs nothing.
    prices = {price_id: await clients.price(desk, price_id) for price_id in wanted}
    codes = {*tax_codes, *(each.tax_code for each in lines), *(each.tax_code for each in prices.values())}
    return Facts(customer=customer, prices=prices, taxes=await tax_terms(desk, taxes, [customer], tax_codes=codes))


async def pull_for(desk: Desk, invoice_id: InvoiceId, lines: Sequence[WrittenLine], *, taxes: TaxProvider) -> Facts:
    """The same for the customer of a draft."""
    async with desk.transaction() as tx:
        found = await store.invoice(tx, invoice_id)
    codes = {line.tax_code for line in found.lines}
    return await pull(desk, found.customer_id, lines, taxes=taxes, tax_codes=codes)


async def create_invoice(tx: Tx, told: WrittenInvoice, facts: Facts) -> Invoice:
    currency = told.currency or facts.customer.currency
    lines = [_written(tx, each, facts, currency=currency) for each in told.lines]
    named = replace(told, discounts=renamed(told.discounts, [tx.new_id("disc") for _ in told.discounts]))
    draft = drafted(named, lines, id=InvoiceId(tx.new_id("inv")), customer=facts.customer, at=tx.now)
    invoice = _completed(draft, facts)
    await store.add_invoices(tx, [store.Draft(invoice, traceparent())])
    return invoice


async def add_line(tx: Tx, invoice_id: InvoiceId, told: WrittenLine, facts: Facts) -> Invoice:
    """The last of the lines."""

    def added(draft: Invoice) -> Invoice:
        line = _written(tx, told, facts, currency=draft.currency)
        return draft.rewritten([*draft.lines, line])

    return await _rewrite(tx, invoice_id, added, facts)


async def update_line(tx: Tx, invoice_id: InvoiceId, line_id: str, told: WrittenLine, facts: Facts) -> Invoice:
    def updated(draft: Invoice) -> Invoice:
        check_line(draft, line_id)
        line = replace(_written(tx, told, facts, currency=draft.currency), id=line_id)
        return with_line_in_place(draft, line)

    return await _rewrite(tx, invoice_id, updated, facts)


async def remove_line(tx: Tx, invoice_id: InvoiceId, line_id: str, facts: Facts) -> Invoice:
    return await _rewrite(tx, invoice_id, lambda draft: without_line(draft, line_id), facts)


async def delete_invoice(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    """What it was."""
    draft = (await _locked(tx, invoice_id)).rewritten(())
    found = await store.invoice(tx, invoice_id)
    assert draft.state is State.DRAFT
    await store.delete_draft(tx, invoice_id)
    return found


async def create_pending_line(
    tx: Tx, told: WrittenLine, facts: Facts, *, currency: str, bill_alone_time: datetime | None
) -> PendingLine:
    """It joins the next invoice in its currency. The customer is looked at in time, if there is a time."""
    customer_id = facts.customer.party.id
    if bill_alone_time is not None:
        await bill_run.mark_customer_due(tx, customer_id, at=max(bill_alone_time, tx.now))
    if await store.count_pending_lines(tx, customer_id) >= PENDING_MAX:
        raise TooManyPendingLines(f"{PENDING_MAX} lines wait for {customer_id}", customer=customer_id)
    line = _written(tx, told, facts, currency=currency or facts.customer.currency)
    pending = PendingLine(customer_id=customer_id, line=line, bill_alone_time=bill_alone_time, create_time=tx.now)
    await store.add_pending_line(tx, pending)
    return pending


async def delete_pending_line(tx: Tx, line_id: str) -> PendingLine:
    """What it was. A bill run that is under way has it locked: then it is billed, or not, before this goes on."""
    found = await store.take_pending_lines(tx, [line_id])
    if found:
        return found[0]
    if await store.is_billed(tx, line_id):
        raise PendingLineBilled(f"line {line_id} is on an invoice", line=line_id)
    raise PendingLineNotFound(f"no line {line_id} waits for an invoice", line=line_id)


async def _rewrite(tx: Tx, invoice_id: InvoiceId, change: Callable[[Invoice], Invoice], facts: Facts) -> Invoice:
    draft = await _locked(tx, invoice_id)
    changed = _completed(change(draft), facts)
    await store.replace_lines(tx, [changed])
    await store.save_invoice(tx, changed)
    return changed


async def _locked(tx: Tx, invoice_id: InvoiceId) -> Invoice:
    draft = await store.invoice(tx, invoice_id, lock=True)
    if not draft.is_manual:
        raise InvoiceNotManual(f"a bill run wrote invoice {invoice_id}", invoice=invoice_id)
    return draft


def _completed(draft: Invoice, facts: Facts) -> Invoice:
    """With its discounts, and its taxes."""
    if draft.lines:
        lines = with_discounts(draft.lines, coupons={}, used=Used(), given=draft.given_discounts)
        draft = draft.with_lines(lines)
    return completed(draft, facts.terms)


def _written(tx: Tx, told: WrittenLine, facts: Facts, *, currency: str) -> Line:
    named = replace(told, discounts=renamed(told.discounts, [tx.new_id("disc") for _ in told.discounts]))
    return written(named, facts.prices, id=tx.new_id("line"), customer=facts.customer, currency=currency, at=tx.now)
