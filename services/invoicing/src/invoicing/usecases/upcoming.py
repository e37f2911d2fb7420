"""Looks ahead: what the customer's next invoices would be as of now. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from common.rpc import Desk
from invoicing.domain.completing import Terms, completed
from invoicing.domain.consolidation import Bill, payable
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.preview import bills_to_come
from invoicing.usecases import credit, naming, outlook
from invoicing.usecases.outlook import Ahead
from invoicing.usecases.taxing import TaxProvider, tax_terms


async def upcoming_invoice(desk: Desk, customer_id: str, *, taxes: TaxProvider) -> Invoice:
    """Everything due and not billed, and what the next bill time will bring, with the usage so far: as one invoice."""
    ahead = await outlook.next_bill(desk, customer_id)
    currency = ahead.payer.currency
    in_currency = [each for each in ahead.due() if each.line.amount.currency == currency and not each.is_held]
    fitted = payable([each.line for each in in_currency])
    coming = [(each.bill_time, line) for each, line in zip(in_currency, fitted, strict=True) if line is not None]
    bill = Bill(
        currency=currency,
        bill_time=max((bill_time for bill_time, _ in coming), default=ahead.now),
        lines=tuple(line for _, line in coming),
    )
    terms, names = await _terms(desk, ahead, taxes), await _names(desk, ahead)
    [invoice] = await _covered(desk, [_looked_ahead(bill, terms, names, at=ahead.now)])
    return invoice


async def invoices_until(
    desk: Desk, customer_id: str, *, through: datetime, taxes: TaxProvider
) -> tuple[list[Invoice], datetime | None]:
    """All that would come until an instant, one bill time after the other, and when the next would be."""
    ahead = await outlook.until(desk, customer_id, through=through)
    bills = bills_to_come(ahead.outlooks, ahead.billed, ahead.arrangement, now=ahead.now)
    terms, names = await _terms(desk, ahead, taxes), await _names(desk, ahead)
    coming = [_looked_ahead(bill, terms, names, at=ahead.now) for bill in bills]
    return await _covered(desk, coming), ahead.next_bill_time


async def _terms(desk: Desk, ahead: Ahead, taxes: TaxProvider) -> Terms:
    tax_codes = {price.tax_code for one in ahead.outlooks for price in one.prices.values()}
    return Terms(customer=ahead.payer, taxes=await tax_terms(desk, taxes, [ahead.payer], tax_codes=tax_codes))


async def _names(desk: Desk, ahead: Ahead) -> dict[str, str]:
    """Of whatever sections may be about, by id."""
    customers = {one.beside.customer.party.id: one.beside.customer.called for one in ahead.outlooks}
    periods = {one.beside.customer.party.id: one.periods for one in ahead.outlooks}
    return customers | await naming.subscription_names(desk, periods)


def _looked_ahead(bill: Bill, terms: Terms, names: Mapping[str, str], *, at: datetime) -> Invoice:
    draft = Invoice.draft(id=InvoiceId(""), customer=terms.customer, bill=bill, at=at, grace=timedelta())
    return completed(draft, terms).looked_ahead(names)


async def _covered(desk: Desk, coming: Sequence[Invoice]) -> list[Invoice]:
    """With the credit that they would take up, one after the other."""
    async with desk.transaction() as tx:
        return await credit.look_ahead(tx, coming)
