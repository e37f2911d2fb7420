"""Knows lines that somebody writes by hand: on an invoice of its own, or to join the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.money import Money, exact_product
from common.period import Period, civil_day
from invoicing.domain.discount import AmountOff, GivenDiscount
from invoicing.domain.errors import LineInAnotherCurrency, LineNotFound, PriceOfAnotherCustomer
from invoicing.domain.exact import less
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineKind
from invoicing.domain.lines_due import Due
from invoicing.domain.party import CollectionMethod, Customer
from invoicing.domain.price import Price
from invoicing.domain.rating import Rating, rate
from invoicing.domain.steps import Labels, RatingStep, StepKind, flat_step
from invoicing.domain.usage import UsageToRate

PENDING_MAX: Final = 1_000
"""Of one customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenLine:
    """A line as somebody writes it."""

    description: str
    """May be empty with a price of the catalog: then it is the name of the product."""
    quantity: Decimal
    unit_label: str
    priced_by: Decimal | Money | str
    """The price of one, the amount of all, or the id of a price of the catalog."""
    tax_code: str
    period: Period | None
    """When it was supplied; None for the day on which it is written."""
    discounts: tuple[GivenDiscount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenInvoice:
    """An invoice as somebody writes it."""

    currency: str
    """Empty for the customer's."""
    lines: tuple[WrittenLine, ...]
    discounts: tuple[GivenDiscount, ...]
    collection_method: CollectionMethod | None
    net_terms_days: int | None
    memo: str
    purchase_order: str
    finalize_time: datetime | None
    """None when it waits for somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLine:
    """A line that waits for the customer's next invoice in its currency. The line on the invoice has its id."""

    customer_id: str
    line: Line
    bill_alone_time: datetime | None
    """When it gets an invoice of its own; None when it waits for however long."""
    create_time: datetime


def written(
    told: WrittenLine,
    prices: Mapping[str, Price],
    *,
    id: str,  # noqa: A002
    customer: Customer,
    currency: str,
    at: datetime,
) -> Line:
    """The line, with what it costs and why."""
    price = prices[told.priced_by] if isinstance(told.priced_by, str) else None
    if price is not None and price.customer_id not in ("", customer.party.id):
        raise PriceOfAnotherCustomer(f"{price.id} was negotiated with somebody else", price=price.id)
    told_currency = price.currency if price is not None else _currency_of(told.priced_by, currency)
    others = {amount.currency for each in told.discounts for amount in amounts_off(each)} - {currency}
    if told_currency != currency or others:
        other = told_currency if told_currency != currency else min(others)
        raise LineInAnotherCurrency(f"the line is in {other}, the invoice in {currency}", currency=other)
    rating = _rating(told, price, currency)
    period = told.period or civil_day(at, customer.time_zone)
    return Line(
        id=id,
        description=told.description or (price.product if price is not None else ""),
        subscription_id="",
        item_id="",
        price_id="" if price is None else price.id,
        period=period,
        full_period=period,
        quantity=told.quantity,
        unit_label=told.unit_label if price is None else price.unit_label,
        amount=rating.amount,
        steps=rating.steps,
        exact_amount=rating.exact_amount,
        proration=Fraction(1),
        usage=None,
        correction=0,
        kind=LineKind.MANUAL,
        given_discounts=told.discounts,
        tax_code=told.tax_code or ("" if price is None else price.tax_code),
        product_id="" if price is None else price.product_id,
    )


def drafted(
    told: WrittenInvoice,
    lines: Sequence[Line],
    *,
    id: InvoiceId,  # noqa: A002
    customer: Customer,
    at: datetime,
) -> Invoice:
    currency = told.currency or customer.currency
    for each in told.discounts:
        for amount in amounts_off(each):
            if amount.currency != currency:
                raise LineInAnotherCurrency(
                    f"a discount is in {amount.currency}, the invoice in {currency}", currency=amount.currency
                )
    nothing = Money.zero(currency)
    invoice = Invoice(
        id=id,
        number="",
        state=State.DRAFT,
        customer_id=customer.party.id,
        seller=None,
        customer=None,
        currency=currency,
        lines=(),
        given_discounts=told.discounts,
        rounding=nothing,
        credit_applied=nothing,
        amount_paid=nothing,
        amount_credited=nothing,
        amount_written_off=nothing,
        collection_method=told.collection_method or customer.collection_method,
        time_zone=customer.time_zone,
        bill_time=at,
        finalize_time=told.finalize_time,
        due_time=None,
        paid_time=None,
        overdue_time=None,
        revision=0,
        create_time=at,
        is_manual=True,
        net_terms_days=customer.net_terms_days if told.net_terms_days is None else told.net_terms_days,
        memo=told.memo,
        purchase_order=told.purchase_order,
    )
    return invoice.rewritten(lines)


def with_line_in_place(invoice: Invoice, line: Line) -> Invoice:
    """Another line where the one with its id was. Fails with LINE_NOT_FOUND."""
    check_line(invoice, line.id)
    return invoice.rewritten([line if each.id == line.id else each for each in invoice.lines])


def without_line(invoice: Invoice, line_id: str) -> Invoice:
    """Fails with LINE_NOT_FOUND."""
    check_line(invoice, line_id)
    return invoice.rewritten([each for each in invoice.lines if each.id != line_id])


def check_line(invoice: Invoice, line_id: str) -> None:
    if all(each.id != line_id for each in invoice.lines):
        raise LineNotFound(f"there is no line {line_id} on invoice {invoice.id}", invoice=invoice.id, line=line_id)


def pending_due(pending: Sequence[PendingLine], *, as_of: datetime) -> list[Due]:
    """What waits joins an invoice that comes anyway; what has waited long enough is reason for one."""
    return [
        Due(
            line=each.line,
            bill_time=as_of,
            can_wait=each.bill_alone_time is None or each.bill_alone_time > as_of,
            bill_alone_time=each.bill_alone_time,
        )
        for each in pending
    ]


def amounts_off(discount: GivenDiscount) -> tuple[Money, ...]:
    return discount.benefit.amounts if isinstance(discount.benefit, AmountOff) else ()


def _currency_of(priced_by: Decimal | Money | str, default: str) -> str:
    return priced_by.currency if isinstance(priced_by, Money) else default


def _rating(told: WrittenLine, price: Price | None, currency: str) -> Rating:
    if price is not None:
        return rate(price, UsageToRate.of(told.quantity))
    if isinstance(told.priced_by, Money):
        step = flat_step("As agreed", told.priced_by.amount)
    else:
        assert isinstance(told.priced_by, Decimal), "what has no price and no amount has a unit price"
        exact = exact_product(told.quantity, told.priced_by)
        step = RatingStep(StepKind.UNITS, told.quantity, told.priced_by, exact, Labels(currency, told.unit_label))
    amount = Money.rounded(step.amount, currency)
    return Rating(
        amount=amount,
        exact_amount=step.amount,
        rounding=less(amount.amount, step.amount),
        steps=(step,),
        period_amount=amount,
    )


def renamed(discounts: Sequence[GivenDiscount], ids: Sequence[str]) -> tuple[GivenDiscount, ...]:
    """With ids of their own."""
    return tuple(replace(each, id=new) for each, new in zip(discounts, ids, strict=True))
