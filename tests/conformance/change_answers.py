"""Answers the cases of proration.jsonl that are about changes: what is credited, and what is owed instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.money import Money, sum_money
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1.invoice_pb2 import LineItem
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscription_pb2 import Subscription, SubscriptionAction, SubscriptionChange
from tests.conformance.agreements import (
    BY_DAY,
    BY_SECOND,
    Agreement,
    agree,
    amount_of,
    flat_price,
    instant_of,
    interval_between,
    interval_of,
    period_of,
    plan_code,
    unit_price,
    whole_amount,
)
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.rooms import Rooms
from tests.conformance.system import Refused, attempt
from tests.support.sandbox import Sandbox

ANY_START: Final = datetime(2025, 6, 1, tzinfo=UTC)
ANY_DAYS: Final = 100
"""Of a period of which a case says only how much of it is left."""

CHANGE_FIELDS: Final = frozenset(
    ["kind", "currency", "period_start", "period_end", "change_at", "fraction_left", "discount_percent"]
)
PLAN_FIELDS: Final = frozenset(["old_amount", "new_amount", "new_period", "old_discount", "new_discount"])
QUANTITY_FIELDS: Final = frozenset(["unit_amount", "old_quantity", "new_quantity"])
NOT_OF_THE_CHANGE: Final = frozenset(["account_credit_before"])
"""What a customer has to his credit is taken off an invoice; what a change makes due is the same with it."""
CAP_FIELDS: Final = frozenset(["kind", "currency", "credit", "paid", "previous_credits"])


async def answer(case: Case, rooms: Rooms) -> Answer:
    return await ANSWERS[case.given["kind"]](case, rooms)


async def _plan_change(case: Case, rooms: Rooms) -> Answer:
    """To another plan with the same product."""
    given = case.given
    check_fields(given, CHANGE_FIELDS | PLAN_FIELDS | NOT_OF_THE_CHANGE)
    currency = given["currency"]
    async with _begun(given, rooms) as (sandbox, times):
        old = flat_price(given["old_amount"], times.interval, discount_percent=_percent(given.get("old_discount")))
        old.currency = currency
        agreement = await agree(sandbox, old, start=times.start)
        new_interval = interval_of(given["new_period"]) if "new_period" in given else times.interval
        new = flat_price(given["new_amount"], new_interval, discount_percent=_percent(given.get("new_discount")))
        new.currency, new.code, new.product_id = currency, old.code, old.product_id
        plan = await sandbox.plan(plan_code(), new)
        switch = SubscriptionAction(change_plan=SubscriptionAction.ChangePlan(plan_id=plan.id))
        return await _changed(agreement, switch, times, case)


async def _quantity_change(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    check_fields(given, CHANGE_FIELDS | QUANTITY_FIELDS)
    async with _begun(given, rooms) as (sandbox, times):
        price = unit_price(
            given["unit_amount"],
            times.interval,
            currency=given["currency"],
            code="seats",
            discount_percent=given.get("discount_percent", ""),
        )
        agreement = await agree(sandbox, price, start=times.start, quantities={"seats": given["old_quantity"]})
        return await _changed(agreement, _set_quantity(agreement.subscription, given["new_quantity"]), times, case)


async def _plan_change_parts(case: Case, _: Rooms) -> Answer:
    raise Unsupported(f"a discount of type {case.given['discount']['type']} on invoices")


async def _credit_cap(case: Case, rooms: Rooms) -> Answer:
    """So many units at one each were billed, and fewer are wanted, and fewer still: never fewer than none."""
    given = case.given
    check_fields(given, CAP_FIELDS)
    period = BillingInterval(unit=BillingInterval.MONTH, count=1)
    async with rooms.at(ANY_START) as sandbox:
        price = unit_price("1", period, code="units", currency=given["currency"])
        agreement = await agree(sandbox, price, start=ANY_START, quantities={"units": given["paid"]})
        wanted = Decimal(given["paid"]) - Decimal(given["previous_credits"])
        await _want(agreement, max(wanted, Decimal(0)))
        before = await _balance(agreement)
        await _want(agreement, wanted - Decimal(given["credit"]))
        credited = before - await _balance(agreement)
    return {"credit": max(credited.amount, Decimal(0))}


async def _want(agreement: Agreement, quantity: Decimal) -> None:
    """So many; what cannot be wanted is refused, and nothing changes."""
    request = _now(agreement, _set_quantity(agreement.subscription, str(quantity)))
    refusal = await attempt(agreement.sandbox.client.subscriptions.ChangeSubscription(request))
    assert not isinstance(refusal, Refused) or quantity < 0, refusal


async def _balance(agreement: Agreement) -> Money:
    """What is owed, less what is credited."""
    periods = (await agreement.schedule(ANY_START)).periods
    amounts = [await amount_of(agreement.sandbox, each) for each in periods]
    return sum_money(amounts, agreement.subscription.currency)


# A change in the middle of a period


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    start: datetime
    change: datetime
    interval: BillingInterval


@asynccontextmanager
async def _begun(given: Json, rooms: Rooms) -> AsyncIterator[tuple[Sandbox, Times]]:
    """Where a period is about to begin that will be changed."""
    if "period_start" in given:
        start, end = instant_of(given["period_start"]), instant_of(given["period_end"])
        times = Times(start=start, change=instant_of(given["change_at"]), interval=interval_between(start, end))
    else:
        used = (1 - Fraction(given["fraction_left"])) * ANY_DAYS
        days = BillingInterval(unit=BillingInterval.DAY, count=ANY_DAYS)
        times = Times(start=ANY_START, change=ANY_START + timedelta(days=int(used)), interval=days)
    async with rooms.at(times.start) as sandbox:
        yield sandbox, times


async def _changed(agreement: Agreement, action: SubscriptionAction, times: Times, case: Case) -> Answer:
    """The lines that the change has put on an invoice, as it was foretold."""
    sandbox = agreement.sandbox
    await sandbox.travel(times.change)
    in_seconds = any(each.startswith("proration:seconds") for each in case.conventions)
    request = _now(agreement, action, proration=BY_SECOND if in_seconds else BY_DAY)
    preview = await sandbox.client.subscriptions.PreviewChange(
        pb.PreviewChangeRequest(change=request, through_time=wire.timestamp(times.change))
    )
    request.preview_token = preview.token
    await sandbox.client.subscriptions.ChangeSubscription(request)
    await sandbox.quiet()
    invoices = await sandbox.invoices(agreement.customer)
    lines = [line for invoice in invoices for line in invoice.line_items if line.change_id]
    [credit] = [line for line in lines if line.kind == LineItem.CREDIT]
    [owed] = [line for line in lines if line.kind == LineItem.OWED]
    credited, charged = whole_amount(credit), whole_amount(owed)
    foretold = [await amount_of(sandbox, each) for each in preview.added]
    assert foretold == [credited, charged], f"foretold {foretold}, billed {[credited, charged]}"
    period = period_of(owed.period)
    return {
        "credit": credited.amount,
        "charge": charged.amount,
        "net": (credited + charged).amount,
        "new_period": {name: f"{at:%Y-%m-%dT%H:%M:%SZ}" for name, at in (("start", period.start), ("end", period.end))},
    }


def _now(
    agreement: Agreement, action: SubscriptionAction, *, proration: SubscriptionChange.Proration.ValueType = BY_DAY
) -> pb.ChangeSubscriptionRequest:
    return pb.ChangeSubscriptionRequest(
        id=agreement.subscription.id,
        actions=[action],
        timing=SubscriptionChange.NOW,
        proration=proration,
        unused=SubscriptionChange.CREDIT,
    )


def _set_quantity(subscription: Subscription, quantity: str) -> SubscriptionAction:
    [item] = subscription.items
    return SubscriptionAction(
        set_quantity=SubscriptionAction.SetQuantity(item_id=item.id, quantity=DecimalPb(value=quantity))
    )


def _percent(discount: Mapping[str, str] | None) -> str:
    """A discount that a plan carries is one of its price, if it is a share of it."""
    if discount is None:
        return ""
    if discount["type"] != "percent":
        raise Unsupported(f"a discount of type {discount['type']} on invoices")
    return discount["value"]


ANSWERS: Final[dict[str, Callable[[Case, Rooms], Awaitable[Answer]]]] = {
    "plan_change": _plan_change,
    "quantity_change": _quantity_change,
    "plan_change_parts": _plan_change_parts,
    "credit_cap": _credit_cap,
}
