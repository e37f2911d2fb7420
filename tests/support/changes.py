"""Knows how a test changes a subscription, and reads what came of it off the invoices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from google.type.decimal_pb2 import Decimal

from common import wire
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import Subscription, SubscriptionAction, SubscriptionChange
from tests.support.sandbox import Sandbox, text

Timing = SubscriptionChange


class Billed(NamedTuple):
    """A line in short. A kind that goes without saying is left out."""

    start: str
    end: str
    quantity: str
    share: str
    amount: str
    kind: str = ""


async def change(
    sandbox: Sandbox,
    subscription: Subscription,
    *actions: SubscriptionAction,
    timing: SubscriptionChange.Timing.ValueType = SubscriptionChange.NOW,
    at: datetime | None = None,
    proration: SubscriptionChange.Proration.ValueType = SubscriptionChange.PRORATION_UNSPECIFIED,
    unused: SubscriptionChange.Unused.ValueType = SubscriptionChange.UNUSED_UNSPECIFIED,
) -> Subscription:
    return await sandbox.client.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=subscription.id,
            actions=actions,
            timing=SubscriptionChange.AT_TIME if at else timing,
            effective_time=wire.timestamp(at) if at else None,
            proration=proration,
            unused=unused,
        )
    )


def set_quantity(subscription: Subscription, quantity: str, *, item: int = 0) -> SubscriptionAction:
    return SubscriptionAction(
        set_quantity=SubscriptionAction.SetQuantity(
            item_id=subscription.items[item].id, quantity=Decimal(value=quantity)
        )
    )


def change_plan(plan_id: str) -> SubscriptionAction:
    return SubscriptionAction(change_plan=SubscriptionAction.ChangePlan(plan_id=plan_id))


def set_billing_day(day: int) -> SubscriptionAction:
    return SubscriptionAction(set_billing_day=SubscriptionAction.SetBillingDay(billing_day=day))


def billed(invoice: Invoice) -> list[Billed]:
    """The lines of an invoice, in its order."""
    return [_billed(line) for line in invoice.line_items]


def all_billed(invoices: Sequence[Invoice]) -> list[Billed]:
    """The lines of all of them, in order."""
    return [line for invoice in invoices for line in billed(invoice)]


def _billed(line: LineItem) -> Billed:
    return Billed(
        _short(line.period.start_time.ToDatetime(UTC)),
        _short(line.period.end_time.ToDatetime(UTC)),
        line.quantity.value,
        f"{line.proration.numerator}/{line.proration.denominator}",
        text(line.amount),
        "" if line.kind == LineItem.OWED else LineItem.Kind.Name(line.kind),
    )


def _short(time: datetime) -> str:
    """A date, and the time of day where it is not midnight in UTC."""
    day = f"{time:%Y-%m-%d}"
    return day if (time.hour, time.minute, time.second, time.microsecond) == (0, 0, 0, 0) else f"{day} {time:%H:%M}"
