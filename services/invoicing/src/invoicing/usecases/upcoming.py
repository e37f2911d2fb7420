"""Looks ahead: what the customer's next invoices would be as of now. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from common.rpc import Desk
from invoicing.domain.completing import Terms, completed
from invoicing.domain.consolidation import Bill, payable
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.preview import bills_to_come
from invoicing.usecases import credit, naming, outlook
from invoicing.usecases.outlook import Ahead, Asked
from invoicing.usecases.taxing import TaxProvider, tax_terms


async def upcoming_invoice(desk: Desk, customer_id: str, *, taxes: TaxProvider) -> Invoice:
    """Everything due and not billed, and what the next bill time will bring, with the usage so far: as one invoice."""
    ahead, terms, names = await _look(desk, await outlook.next_bill(desk, customer_id), taxes)
    currency, now = terms.customer.currency, ahead.asked.now
    in_currency = [each for each in ahead.due() if each.line.amount.currency == currency and not each.is_held]
    fitted = payable([each.line for each in in_currency])
    coming = [(each.bill_time, line) for each, line in zip(in_currency, fitted, strict=True) if line is not None]
    bill = Bill(
        currency=currency,
        bill_time=max((bill_time for bill_time, _ in coming), default=now),
        lines=tuple(line for _, line in coming),
    )
    [invoice] = credit.look_ahead(ahead.wallets, [_looked_ahead(bill, terms, names, at=now)], at=now)
    return invoice


async def invoices_until(
    desk: Desk, customer_id: str, *, through: datetime, taxes: TaxProvider
) -> tuple[list[Invoice], datetime | None]:
    """All that would come until an instant, one bill time after the other, and when the next would be."""
    ahead, terms, names = await _look(desk, await outlook.until(desk, customer_id, through=through), taxes)
    now = ahead.asked.now
    bills = bills_to_come(ahead.outlooks, ahead.billed, ahead.arrangement, now=now)
    coming = [_looked_ahead(bill, terms, names, at=now) for bill in bills]
    return credit.look_ahead(ahead.wallets, coming, at=now), ahead.next_bill_time


async def _look(desk: Desk, asked: Asked, taxes: TaxProvider) -> tuple[Ahead, Terms, dict[str, str]]:
    """All the rest that has to be known, each from whoever knows it, at once."""
    return await asyncio.gather(outlook.look(desk, asked), _terms(desk, asked, taxes), _names(desk, asked))


async def _terms(desk: Desk, asked: Asked, taxes: TaxProvider) -> Terms:
    tax_codes = {price.tax_code for price in asked.agreed.prices.values()}
    return Terms(customer=asked.payer, taxes=await tax_terms(desk, taxes, [asked.payer], tax_codes=tax_codes))


async def _names(desk: Desk, asked: Asked) -> dict[str, str]:
    """Of whatever sections may be about, by id."""
    customers = {customer_id: its.customer.called for customer_id, its in asked.agreed.schedules.items()}
    return customers | await naming.subscription_names(desk, asked.periods)


def _looked_ahead(bill: Bill, terms: Terms, names: Mapping[str, str], *, at: datetime) -> Invoice:
    draft = Invoice.draft(id=InvoiceId(""), customer=terms.customer, bill=bill, at=at, grace=timedelta())
    return completed(draft, terms).looked_ahead(names)
