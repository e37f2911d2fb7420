"""Knows how payments and payment methods look on the wire."""

from __future__ import annotations

from common import wire
from payments.domain.outside import RecordedPayment
from payments.domain.payment import Payment, PaymentAttempt
from payments.domain.payment_method import PaymentMethod
from saldo.payments.v1 import payment_method_pb2, payment_pb2


def payment_to_proto(payment: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        id=payment.id,
        invoice_id=payment.invoice_id,
        customer_id=payment.customer_id,
        amount=wire.money(payment.amount),
        state=payment_pb2.Payment.State.Value(payment.state.name),
        attempts=[attempt_to_proto(attempt) for attempt in payment.attempts],
        failure_code=payment.failure_code,
        retryable=payment.retryable,
        revision=payment.revision,
        create_time=wire.timestamp(payment.create_time),
        update_time=wire.timestamp(payment.update_time),
    )


def recorded_payment_to_proto(recorded: RecordedPayment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        id=recorded.id,
        invoice_id=recorded.invoice_id,
        customer_id=recorded.customer_id,
        amount=wire.money(recorded.amount),
        state=payment_pb2.Payment.SUCCEEDED,
        revision=1,
        create_time=wire.timestamp(recorded.create_time),
        update_time=wire.timestamp(recorded.create_time),
        outside=payment_pb2.OutsidePayment(
            means=payment_pb2.OutsidePayment.Means.Value(recorded.means.name),
            reference=recorded.reference,
            paid_time=wire.timestamp(recorded.paid_time),
        ),
    )


def attempt_to_proto(attempt: PaymentAttempt) -> payment_pb2.PaymentAttempt:
    return payment_pb2.PaymentAttempt(
        id=attempt.id,
        state=payment_pb2.PaymentAttempt.State.Value(attempt.state.name),
        payment_method_id=attempt.payment_method_id,
        gateway_reference=attempt.gateway_reference,
        failure_code=attempt.failure_code,
        amount=wire.money(attempt.amount),
        create_time=wire.timestamp(attempt.create_time),
        settle_time=None if attempt.settle_time is None else wire.timestamp(attempt.settle_time),
    )


def announced_payment_method(method: PaymentMethod) -> payment_method_pb2.PaymentMethod:
    """As it is in events: a token is nobody's business but the gateway's."""
    proto = payment_method_to_proto(method)
    proto.ClearField("token")
    return proto


def payment_method_to_proto(method: PaymentMethod) -> payment_method_pb2.PaymentMethod:
    return payment_method_pb2.PaymentMethod(
        id=method.id,
        customer_id=method.customer_id,
        gateway=method.gateway,
        token=method.token,
        display_name=method.display_name,
        default=method.default,
        revision=method.revision,
        create_time=wire.timestamp(method.create_time),
    )
