"""Answers cases that tell a story: what was agreed, what was changed when, and everything that is billed by then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from saldo.catalog.v1.price_pb2 import Price
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import BillablePeriod, SubscriptionAction, SubscriptionChange
from tests.conformance.agreements import (
    Agreement,
    agree,
    amount_of,
    customer_in,
    flat_price,
    instant_of,
    interval_of,
    period_of,
    schedule_of,
    share_of,
    time_of,
    unit_price,
)
from tests.conformance.case import Answer, Case, Json, check_fields
from tests.conformance.rooms import Rooms
from tests.support.sandbox import Sandbox

FIELDS: Final = frozenset(
    [
        "kind",
        "currency",
        "timezone",
        "start",
        "prices",
        "items",
        "billing_day",
        "trial_days",
        "proration",
        "steps",
        "bill_up_to",
    ]
)
PRICE_FIELDS: Final = frozenset(["amount", "unit_amount", "period", "in_arrears"])
STEP_FIELDS: Final = frozenset(
    ["at", "do", "item", "price", "quantity", "day", "until", "effective", "proration", "unused"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Story:
    agreement: Agreement
    other_customer: Customer
    """To whom it may be handed over."""
    zone: str


async def answer(case: Case, rooms: Rooms) -> Answer:
    """Step by step, as time passes; then all that was to be billed, and the invoices that came of it."""
    given = case.given
    check_fields(given, FIELDS)
    zone = given["timezone"]
    async with rooms.at(instant_of(given["start"], zone)) as sandbox:
        story = await _agreed(given, sandbox, zone)
        for step in given["steps"]:
            check_fields(step, STEP_FIELDS)
            # Whoever travels waits first for what follows from the step before, also to the same moment.
            await sandbox.travel(instant_of(step["at"], zone))
            await STEPS[step["do"]](story, step)
        end = instant_of(given["bill_up_to"], zone)
        await sandbox.travel(end)
        customers = [story.agreement.customer, story.other_customer]
        found = [each for customer in customers for each in (await schedule_of(sandbox, customer, end)).periods]
        invoices = [invoice for customer in customers for invoice in await sandbox.invoices(customer)]
        totals = [wire.parse_money(each.total, field="total").amount for each in invoices]
        return {"periods": [await _told(each, story) for each in found], "invoice_totals": totals}


async def _agreed(given: Json, sandbox: Sandbox, zone: str) -> _Story:
    currency = given["currency"]
    agreement = await agree(
        sandbox,
        *(_price(code, each, currency) for code, each in given["prices"].items()),
        start=instant_of(given["start"], zone),
        zone=zone,
        billing_day=int(given.get("billing_day", "0")),
        trial_days=int(given.get("trial_days", "0")),
        proration=_proration(given),
        quantities=given["items"],
    )
    return _Story(
        agreement=agreement, other_customer=await customer_in(sandbox, zone=zone, currency=currency), zone=zone
    )


def _price(code: str, told: Json, currency: str) -> Price:
    check_fields(told, PRICE_FIELDS)
    interval = interval_of(told["period"])
    if "unit_amount" in told:
        price = unit_price(told["unit_amount"], interval, code=code, currency=currency)
    else:
        price = flat_price(told["amount"], interval, code=code, currency=currency)
    if told.get("in_arrears"):
        price.billing_timing = Price.IN_ARREARS
    return price


async def _told(billable: BillablePeriod, story: _Story) -> Mapping[str, Any]:  # Any: as in the cases
    period = period_of(billable.period)
    amount = await amount_of(story.agreement.sandbox, billable)
    share = share_of(billable)
    [price] = [code for code, price_id in story.agreement.prices.items() if price_id == billable.price_id]
    return {
        "customer": "1" if billable.customer_id == story.agreement.customer.id else "2",
        "price": price,
        "kind": BillablePeriod.Kind.Name(billable.kind).lower(),
        "quantity": billable.quantity.value,
        "from": _civil(period.start, story.zone),
        "to": _civil(period.end, story.zone),
        "share": f"{share.numerator}/{share.denominator}",
        "amount": amount.amount,
        "billed_at": _civil(time_of(billable.bill_time), story.zone),
    }


def _civil(at: datetime, zone: str) -> str:
    """The day, and the time of day unless it is midnight."""
    wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return wall.date().isoformat() if wall.time() == time() else wall.isoformat()


# Steps


async def _set_quantity(story: _Story, step: Json) -> None:
    item_id = await _item(story, step["item"])
    quantity = DecimalPb(value=step["quantity"])
    await _change(
        story, step, SubscriptionAction(set_quantity=SubscriptionAction.SetQuantity(item_id=item_id, quantity=quantity))
    )


async def _set_price(story: _Story, step: Json) -> None:
    wanted = SubscriptionAction.SetPrice(
        item_id=await _item(story, step["item"]), price_id=story.agreement.prices[step["price"]]
    )
    await _change(story, step, SubscriptionAction(set_price=wanted))


async def _add_item(story: _Story, step: Json) -> None:
    wanted = SubscriptionAction.AddItem(price_id=story.agreement.prices[step["price"]])
    await _change(story, step, SubscriptionAction(add_item=wanted))


async def _remove_item(story: _Story, step: Json) -> None:
    wanted = SubscriptionAction.RemoveItem(item_id=await _item(story, step["item"]))
    await _change(story, step, SubscriptionAction(remove_item=wanted))


async def _set_billing_day(story: _Story, step: Json) -> None:
    wanted = SubscriptionAction.SetBillingDay(billing_day=int(step["day"]))
    await _change(story, step, SubscriptionAction(set_billing_day=wanted))


async def _change(story: _Story, step: Json, action: SubscriptionAction) -> None:
    effective = step.get("effective")
    await story.agreement.sandbox.client.subscriptions.ChangeSubscription(
        pb.ChangeSubscriptionRequest(
            id=story.agreement.subscription.id,
            actions=[action],
            timing=SubscriptionChange.AT_TIME if effective else SubscriptionChange.NOW,
            effective_time=wire.timestamp(instant_of(effective, story.zone)) if effective else None,
            proration=_proration(step),
            unused=_unused(step),
        )
    )


async def _cancel(story: _Story, step: Json) -> None:
    effective = step.get("effective")
    await story.agreement.sandbox.client.subscriptions.CancelSubscription(
        pb.CancelSubscriptionRequest(
            id=story.agreement.subscription.id,
            timing=pb.CancelSubscriptionRequest.AT_TIME if effective else pb.CancelSubscriptionRequest.NOW,
            cancel_time=wire.timestamp(instant_of(effective, story.zone)) if effective else None,
            proration=_proration(step),
            unused=_unused(step),
        )
    )


async def _pause(story: _Story, step: Json) -> None:
    await story.agreement.sandbox.client.subscriptions.PauseSubscription(
        pb.PauseSubscriptionRequest(
            id=story.agreement.subscription.id,
            resume_time=wire.timestamp(instant_of(step["until"], story.zone)) if "until" in step else None,
            unused=_unused(step),
        )
    )


async def _resume(story: _Story, _: Json) -> None:
    await story.agreement.sandbox.client.subscriptions.ResumeSubscription(
        pb.ResumeSubscriptionRequest(id=story.agreement.subscription.id)
    )


async def _revoke_cancellation(story: _Story, _: Json) -> None:
    await story.agreement.sandbox.client.subscriptions.RevokeCancellation(
        pb.RevokeCancellationRequest(id=story.agreement.subscription.id)
    )


async def _reactivate(story: _Story, _: Json) -> None:
    await story.agreement.sandbox.client.subscriptions.ReactivateSubscription(
        pb.ReactivateSubscriptionRequest(id=story.agreement.subscription.id)
    )


async def _transfer(story: _Story, step: Json) -> None:
    await story.agreement.sandbox.client.subscriptions.TransferSubscription(
        pb.TransferSubscriptionRequest(
            id=story.agreement.subscription.id, customer_id=story.other_customer.id, unused=_unused(step)
        )
    )


async def _item(story: _Story, code: str) -> str:
    """What has this price now."""
    request = pb.GetSubscriptionRequest(id=story.agreement.subscription.id)
    found = await story.agreement.sandbox.client.subscriptions.GetSubscription(request)
    [item] = [each.id for each in found.items if each.price_id == story.agreement.prices[code]]
    return str(item)


def _proration(told: Json) -> SubscriptionChange.Proration.ValueType:
    return SubscriptionChange.Proration.Value(told.get("proration", "proration_unspecified").upper())


def _unused(told: Json) -> SubscriptionChange.Unused.ValueType:
    return SubscriptionChange.Unused.Value(told.get("unused", "unused_unspecified").upper())


STEPS: Final[Mapping[str, Callable[[_Story, Json], Awaitable[None]]]] = {
    "set_quantity": _set_quantity,
    "set_price": _set_price,
    "add_item": _add_item,
    "remove_item": _remove_item,
    "set_billing_day": _set_billing_day,
    "cancel": _cancel,
    "revoke_cancellation": _revoke_cancellation,
    "reactivate": _reactivate,
    "pause": _pause,
    "resume": _resume,
    "transfer": _transfer,
}
