"""Writes invoices of the past, without the years that it would take to bill them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common import ids
from common.caller import service_caller
from common.money import Money
from common.period import Period
from common.testing import SANDBOX_START, Suite
from invoicing import store
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, Usage
from invoicing.domain.party import CollectionMethod, Party
from invoicing.domain.steps import RatingStep, flat_step

WHOLE: Final = Fraction(1)


def new(prefix: str) -> str:
    return ids.mint(prefix, SANDBOX_START)


def line(
    price_id: str,
    cents: int,
    *,
    period: Period,
    currency: str = "EUR",
    item_id: str = "",
    quantity: str = "1",
    usage: str | None = None,
    meter: str = "calls",
    proration: Fraction = WHOLE,
    correction: int = 0,
    steps: Sequence[RatingStep] | None = None,
) -> Line:
    """A line of that many cents; metered when it has a usage."""
    amount = Money(cents, currency)
    counted = None
    if usage is not None:
        counted = Usage(
            meter=meter, quantity=Decimal(usage), event_count=1, digest=f"digest {correction}", through_position=1
        )
    told = (flat_step("Fixed price", amount.amount),) if steps is None else tuple(steps)
    return Line(
        id=new("line"),
        description="A line",
        subscription_id=new("sub"),
        item_id=item_id or new("subi"),
        price_id=price_id,
        period=period,
        full_period=period,
        quantity=Decimal(usage or quantity),
        unit_label="",
        amount=amount,
        steps=told,
        exact_amount=sum((step.amount for step in told), Decimal(0)),
        proration=proration,
        usage=counted,
        correction=correction,
    )


async def bill(suite: Suite, *lines: Line, customer_id: str = "", state: State = State.OPEN) -> Invoice:
    """An invoice with these lines."""
    end = max(each.period.end for each in lines)
    is_draft = state is State.DRAFT
    currency = lines[0].amount.currency
    total = Money(sum(each.amount.minor for each in lines), currency)
    nothing = Money.zero(currency)
    party = Party(id=customer_id, display_name="Somebody")
    invoice = Invoice(
        id=InvoiceId(new("inv")),
        number="" if is_draft else new("number"),
        state=state,
        customer_id=customer_id or new("cus"),
        seller=None if is_draft else party,
        customer=None if is_draft else party,
        currency=currency,
        lines=lines,
        rounding=nothing,
        credit_applied=nothing,
        amount_paid=total if state is State.PAID else nothing,
        amount_credited=nothing,
        amount_written_off=nothing,
        collection_method=CollectionMethod.SEND_INVOICE,
        time_zone="Europe/London",
        bill_time=end,
        finalize_time=end,
        due_time=None if is_draft else end,
        paid_time=end if state is State.PAID else None,
        overdue_time=None if is_draft else end,
        void_time=end if state is State.VOID else None,
        uncollectible_time=end if state is State.UNCOLLECTIBLE else None,
        revision=1,
        create_time=end,
    )
    caller = service_caller("invoicing", suite.seller)
    async with suite.running["invoicing"].database.transaction(caller) as tx:
        await store.add_invoices(tx, [store.Draft(invoice, "")])
    return invoice


def month(year: int, number: int) -> Period:
    months = year * 12 + number - 1
    return Period(_first_of(months), _first_of(months + 1))


def _first_of(months: int) -> datetime:
    return SANDBOX_START.replace(year=months // 12, month=months % 12 + 1)
