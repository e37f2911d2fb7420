"""Facts from other services, and what invoicing makes of them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from common import wire
from common.consumer import Handlers
from common.db import Tx
from invoicing.domain.invoice import InvoiceId
from invoicing.usecases import bill_run, merging, paying
from saldo.payments.v1 import events_pb2 as payments
from saldo.subscriptions.v1 import events_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import Subscription


class AboutSubscription(Protocol):
    """Any event that carries a subscription."""

    @property
    def subscription(self) -> Subscription: ...


async def on_subscription_created(tx: Tx, event: subscriptions.SubscriptionCreated) -> None:
    """It may begin in the past, before what was billed last: then the next bill run looks back as far."""
    start = wire.parse_timestamp(event.subscription.start_time, field="start_time")
    await _mark(tx, event, look_back_to=start)


async def on_subscription_moved(tx: Tx, event: AboutSubscription) -> None:
    await _mark(tx, event, look_back_to=None)


async def on_subscription_transferred(tx: Tx, event: subscriptions.SubscriptionTransferred) -> None:
    await _mark(tx, event, look_back_to=None)
    await bill_run.mark_customer_due(tx, event.from_customer_id)


async def on_customer_merged(tx: Tx, event: subscriptions.CustomerMerged) -> None:
    await merging.take_note_of_merge(tx, event.customer.id, event.customer.merged_into_id)


async def on_payment_succeeded(tx: Tx, event: payments.PaymentSucceeded) -> None:
    payment = event.payment
    paid_time = None
    if payment.HasField("outside"):
        paid_time = wire.parse_timestamp(payment.outside.paid_time, field="outside.paid_time")
    await paying.take_payment(
        tx,
        payment_id=payment.id,
        invoice_id=InvoiceId(payment.invoice_id),
        amount=wire.parse_money(payment.amount, field="amount"),
        paid_time=paid_time,
    )


async def _mark(tx: Tx, event: AboutSubscription, *, look_back_to: datetime | None) -> None:
    await bill_run.mark_customer_due(tx, event.subscription.customer_id, look_back_to=look_back_to)
    # What those owe who had it before may be settled earlier by it.
    for customer_id in sorted(event.subscription.former_customer_ids):
        await bill_run.mark_customer_due(tx, customer_id)


HANDLERS: Handlers = {
    subscriptions.SubscriptionCreated: on_subscription_created,
    subscriptions.SubscriptionActivated: on_subscription_moved,
    subscriptions.SubscriptionResumed: on_subscription_moved,
    subscriptions.SubscriptionChanged: on_subscription_moved,
    subscriptions.SubscriptionPaused: on_subscription_moved,
    subscriptions.SubscriptionTrialMoved: on_subscription_moved,
    subscriptions.SubscriptionCancelled: on_subscription_moved,
    subscriptions.SubscriptionCancellationRevoked: on_subscription_moved,
    subscriptions.SubscriptionReactivated: on_subscription_moved,
    subscriptions.SubscriptionTransferred: on_subscription_transferred,
    subscriptions.BillingPeriodEnded: on_subscription_moved,
    subscriptions.CustomerMerged: on_customer_merged,
    payments.PaymentSucceeded: on_payment_succeeded,
}
