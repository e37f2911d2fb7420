"""What dunning asks of its neighbours, as functions; never inside a transaction."""

from __future__ import annotations

from typing import Final

from common.rpc import Desk, NeighbourRefused
from dunning.domain.campaign import PaymentState, Refusal
from saldo.payments.v1 import payment_pb2
from saldo.payments.v1 import payments_service_pb2 as payments
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

# What was asked for is the case already, whoever did it.
_STOPPED_ALREADY: Final = frozenset({"SUBSCRIPTION_CANCELLED", "SUBSCRIPTION_NOT_ACTIVE"})


async def retry_payment(desk: Desk, invoice_id: str, *, request_id: str) -> Refusal | None:
    """Ask for another try at the payment of an invoice; why there will be none, or None."""
    request = payments.RetryPaymentRequest(invoice_id=invoice_id, request_id=request_id)
    try:
        await desk.ask(PaymentsServiceStub).RetryPayment(request)
    except NeighbourRefused as error:
        refusal = Refusal.__members__.get(_reason(error))
        if refusal is None:
            raise
        return refusal
    return None


async def payment_state(desk: Desk, invoice_id: str) -> PaymentState:
    try:
        payment = await desk.ask(PaymentsServiceStub).GetPayment(payments.GetPaymentRequest(invoice_id=invoice_id))
    except NeighbourRefused as error:
        if _reason(error) != "PAYMENT_NOT_FOUND":
            raise
        return PaymentState.NONE
    return PaymentState[payment_pb2.Payment.State.Name(payment.state)]


async def cancel_subscription(desk: Desk, subscription_id: str, *, request_id: str) -> None:
    """End it at once. It may have ended before."""
    request = subscriptions.CancelSubscriptionRequest(
        id=subscription_id, timing=subscriptions.CancelSubscriptionRequest.NOW, request_id=request_id
    )
    try:
        await desk.ask(SubscriptionsServiceStub).CancelSubscription(request)
    except NeighbourRefused as error:
        if _reason(error) not in _STOPPED_ALREADY:
            raise


async def pause_subscription(desk: Desk, subscription_id: str, *, request_id: str) -> None:
    """Stop it until somebody resumes it. It may not be running as it is."""
    request = subscriptions.PauseSubscriptionRequest(id=subscription_id, request_id=request_id)
    try:
        await desk.ask(SubscriptionsServiceStub).PauseSubscription(request)
    except NeighbourRefused as error:
        if _reason(error) not in _STOPPED_ALREADY:
            raise


def _reason(error: NeighbourRefused) -> str:
    return error.metadata["neighbour_reason"]
