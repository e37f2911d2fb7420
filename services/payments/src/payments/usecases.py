"""What payments does, one function each.

Money moves by record, call, record: an attempt is committed before its gateway is called, and what came of it after.
Between the two the process may die, and the answer may get lost; then the gateway is asked by the attempt's id, which
is the only key it ever sees of the attempt.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Final

from common import clock, ids
from common.crash import crashpoint, register
from common.db import Tx
from common.ids import is_sandbox
from common.money import Money
from common.rpc import Desk
from payments import store
from payments.convert import announced_payment_method, payment_to_proto, recorded_payment_to_proto
from payments.domain.errors import (
    CapturedAfterFailure,
    GatewayNotConfigured,
    RealMoneyInSandbox,
    SimulatedGatewayInLive,
    UnknownGateway,
)
from payments.domain.outside import Owed, Receipt, RecordedPayment
from payments.domain.payment import LOST, AttemptId, AttemptState, Missing, Payment, PaymentAttempt, PaymentId, State
from payments.domain.payment_method import PaymentMethod, PaymentMethodId
from payments.gateways import (
    Captured,
    CaptureOrder,
    Declined,
    Gateway,
    Gateways,
    GatewayUnavailable,
    GatewayUnknown,
    Outcome,
)
from saldo.payments.v1 import events_pb2 as events

RECORDED: Final = register("gateway.recorded", "an attempt is recorded and its gateway not called")
CALLED: Final = register("gateway.called", "a gateway was called and nothing is recorded of its answer")


class Silence(Enum):
    """How a gateway can fail to say what became of an attempt."""

    UNKNOWN = "UNKNOWN"
    DEFERRED = "DEFERRED"


async def attach_payment_method(
    tx: Tx, gateways: Gateways, *, customer_id: str, gateway: str, token: str, display_name: str
) -> PaymentMethod:
    """Put a token on file; from now on the customer's invoices are collected from it."""
    _suitable_gateway(tx, gateways, gateway).check_token(token)
    await store.lock_customer(tx, customer_id)
    former = await store.default_method(tx, customer_id)
    if former is not None:
        await store.save_method(tx, former.give_way())
    method = PaymentMethod(
        id=PaymentMethodId(tx.new_id("pmeth")),
        customer_id=customer_id,
        gateway=gateway,
        token=token,
        display_name=display_name,
        default=True,
        revision=1,
        create_time=tx.now,
    )
    await store.add_method(tx, method)
    await tx.emit(events.PaymentMethodAttached(payment_method=announced_payment_method(method)))
    return method


async def want_payment(tx: Tx, *, invoice_id: str, invoice_number: str, customer_id: str, amount: Money) -> None:
    """An invoice is owed: collect it now. There is one payment per invoice, however often this is heard.

    Whoever restored a backup announces again what was announced since: then it is told what was collected.
    """
    new = _new_payment(tx, invoice_id=invoice_id, invoice_number=invoice_number, customer_id=customer_id, amount=amount)
    if await store.add_payment(tx, new):
        return
    payment = await store.payment_for(tx, invoice_id, lock=True)
    wanted = payment.want_again(amount, at=tx.now)
    if wanted.told_again_count > payment.told_again_count:
        await _save_and_announce(tx, wanted)
    elif wanted is not payment:
        await store.save_payment(tx, wanted)


async def tell_recorded(tx: Tx, invoice_id: str) -> None:
    """An invoice is announced of which money is on record already: whoever restored a backup has forgotten of it."""
    for recorded in await store.recorded_again(tx, invoice_id):
        await tx.emit(events.PaymentSucceeded(payment=recorded_payment_to_proto(recorded)))


async def want_less(tx: Tx, *, invoice_id: str, customer_id: str, amount: Money) -> None:
    """Some of what an invoice was for has been credited, which leaves so much to be paid in all: from now on collect
    what remains of it.
    """
    # Whoever hears this before that the invoice is owed collects what remains from the first.
    await store.add_payment(tx, _new_payment(tx, invoice_id=invoice_id, customer_id=customer_id, amount=amount))
    payment = await store.payment_for(tx, invoice_id, lock=True)
    # What came in otherwise may not be known to invoicing yet.
    left = amount - await store.recorded_for(tx, invoice_id, amount.currency)
    less = payment.want_less(left, at=tx.now) if left.minor > 0 else payment.settle_invoice(at=tx.now)
    await _save_less(tx, less, than=payment)


async def settle_invoice(tx: Tx, *, invoice_id: str, customer_id: str, amount: Money) -> None:
    """Nothing is to be collected for an invoice any more: paid, through us or otherwise, annulled, or given up."""
    # The facts may come in either order: one that would have been collected is on file before it is cancelled.
    await store.add_payment(tx, _new_payment(tx, invoice_id=invoice_id, customer_id=customer_id, amount=amount))
    payment = await store.payment_for(tx, invoice_id, lock=True)
    settled = payment.settle_invoice(at=tx.now)
    if settled is not payment:
        await _save_and_announce(tx, settled)


async def retry_payment(tx: Tx, invoice_id: str) -> Payment:
    """Another attempt at the payment of an invoice is wanted now."""
    failed = await store.payment_for(tx, invoice_id, lock=True)
    default = await store.default_method(tx, failed.customer_id)
    payment = failed.retry(default_method_id=default.id if default else None, at=tx.now)
    await store.save_payment(tx, payment)
    return payment


async def record_payment(tx: Tx, owed: Owed, receipt: Receipt) -> RecordedPayment:
    """Money for an invoice came in by another way: so much less is to be collected. What is on record already under its
    reference is answered as it is.
    """
    if owed.is_to_be_collected:
        # Whoever hears later that the invoice is owed finds on file what is left to be collected.
        own = _new_payment(
            tx,
            invoice_id=owed.invoice_id,
            invoice_number=owed.invoice_number,
            customer_id=owed.customer_id,
            amount=owed.remaining,
        )
        await store.add_payment(tx, own)
    collecting = await store.find_payment_for(tx, owed.invoice_id, lock=True)
    # Of the invoice and its reference: whoever has heard of it knows it again if it has to be recorded again.
    parts = (tx.seller_id, owed.invoice_id, receipt.reference)
    payment_id = PaymentId(ids.derived("pay", ids.instant_of(owed.invoice_id), parts))
    recorded = RecordedPayment.of(receipt, owed, id=payment_id, at=tx.now)
    if not await store.add_recorded_payment(tx, recorded):
        known = await store.recorded_under(tx, owed.invoice_id, receipt.reference)
        known.check_told_again(receipt)
        return known
    if collecting is not None:
        await _save_less(tx, collecting.came_in_otherwise(recorded.amount, at=tx.now), than=collecting)
    await tx.emit(events.PaymentSucceeded(payment=recorded_payment_to_proto(recorded)))
    return recorded


async def collect_payment(gateways: Gateways, desk: Desk, payment_id: str, *, asks_first: bool = False) -> None:
    """Make the attempt that is wanted: record it, call the gateway, record what came of it.

    `asks_first`: it may have been made before, and been lost with all that came after a backup. Its id is the same
    again, but the gateway may remember keys no more.
    """
    async with desk.transaction() as tx:
        order = await _record_attempt(tx, gateways, PaymentId(payment_id))
    if order is None:
        return
    gateway, capture_order = order
    if asks_first:
        earliest = min(ids.instant_of(payment_id), capture_order.record_time)
        answer = await _find(gateway, replace(capture_order, record_time=earliest))
        if answer is not None:
            async with desk.transaction() as tx:
                await _record_answer(tx, capture_order.attempt_id, answer)
            return
    await _capture(desk, gateway, capture_order)


async def settle_attempt(gateways: Gateways, desk: Desk, attempt_id: str) -> None:
    """Find out what became of an attempt whose outcome is not known, and call again where that is safe."""
    async with desk.transaction() as tx:
        payment = await store.payment_of(tx, AttemptId(attempt_id))
        attempt = payment.attempt(AttemptId(attempt_id))
        if attempt.ask_time is None or attempt.ask_time > tx.now:
            return
        gateway = _configured_gateway(tx, gateways, attempt.gateway)
        order = _order(tx, payment, attempt, await store.method(tx, attempt.payment_method_id))
        age = tx.now - attempt.create_time if gateway.simulated else clock.wall() - attempt.record_time
    answer = await _find(gateway, order)
    if answer is None:
        missing = attempt.missing(
            age=age,
            processing_max=gateway.processing_max,
            key_lifetime=gateway.key_lifetime,
            wanted=not payment.invoice_settled,
        )
        if missing is Missing.CALL_AGAIN:
            await _capture(desk, gateway, order)
            return
        answer = Declined(code=LOST, retryable=True) if missing is Missing.GIVE_UP else Silence.UNKNOWN
    async with desk.transaction() as tx:
        await _record_answer(tx, order.attempt_id, answer)


async def _record_attempt(tx: Tx, gateways: Gateways, payment_id: PaymentId) -> tuple[Gateway, CaptureOrder] | None:
    """Record the attempt that is wanted; None when there is nothing to call a gateway for."""
    payment = await store.payment(tx, payment_id, lock=True)
    if not payment.is_due:
        return None
    method = await store.default_method(tx, payment.customer_id)
    if method is None:
        await _save_and_announce(tx, payment.fail_without_method(at=tx.now))
        return None
    gateway = _configured_gateway(tx, gateways, method.gateway)
    # Derived, as the payment's: whoever makes it again, from a backup that was restored, asks under the same key.
    nth = len(payment.attempts)
    attempt_id = AttemptId(ids.derived("att", ids.instant_of(payment_id), (tx.seller_id, payment_id), nth=nth))
    begun = payment.begin_attempt(attempt_id, method, at=tx.now, recorded=clock.wall())
    await store.save_payment(tx, begun)
    return gateway, _order(tx, begun, begun.attempt(attempt_id), method)


async def _find(gateway: Gateway, order: CaptureOrder) -> Outcome | Silence | None:
    """What the gateway knows of an attempt; None when it does not know it."""
    try:
        return await gateway.find(order)
    except (GatewayUnknown, GatewayUnavailable):
        return Silence.UNKNOWN


async def _capture(desk: Desk, gateway: Gateway, order: CaptureOrder) -> None:
    """Call the gateway about an attempt that is on record, and record what it says."""
    crashpoint(RECORDED)
    answer: Outcome | Silence
    try:
        answer = await gateway.capture(order)
    except GatewayUnknown:
        answer = Silence.UNKNOWN
    except GatewayUnavailable:
        answer = Silence.DEFERRED
    crashpoint(CALLED)
    async with desk.transaction() as tx:
        await _record_answer(tx, order.attempt_id, answer)


async def _record_answer(tx: Tx, attempt_id: AttemptId, answer: Outcome | Silence) -> None:
    """The first to know the outcome records it; whoever comes later finds the attempt settled."""
    payment = await store.payment_of(tx, attempt_id, lock=True)
    attempt = payment.attempt(attempt_id)
    if attempt.state is AttemptState.FAILED and isinstance(answer, Captured):
        # Money that is on no payment: whoever reads the logs must hear of it.
        raise CapturedAfterFailure(
            f"the gateway captured {answer.reference} for {attempt_id}, which had failed with {attempt.failure_code}",
            attempt=attempt_id,
            gateway_reference=answer.reference,
        )
    if not attempt.is_open:
        return
    match answer:
        case Captured(reference):
            changed = payment.succeed(attempt_id, gateway_reference=reference, at=tx.now)
        case Declined(code=code, retryable=retryable):
            changed = payment.fail(attempt_id, code=code, retryable=retryable, at=tx.now)
        case Silence.DEFERRED:
            changed = payment.defer(attempt_id, at=tx.now)
        case _:
            changed = payment.ask_later(attempt_id, at=tx.now)
    await _save_and_announce(tx, changed)


async def _save_and_announce(tx: Tx, payment: Payment) -> None:
    await store.save_payment(tx, payment)
    if payment.state is State.SUCCEEDED:
        await tx.emit(events.PaymentSucceeded(payment=payment_to_proto(payment)))
    elif payment.state is State.FAILED:
        await tx.emit(events.PaymentFailed(payment=payment_to_proto(payment)))
    elif payment.state is State.CANCELLED:
        await tx.emit(events.PaymentCancelled(payment=payment_to_proto(payment)))


async def _save_less(tx: Tx, payment: Payment, *, than: Payment) -> None:
    """That less is to be collected is not announced, only that nothing is."""
    if payment.state is State.CANCELLED and than.state is not State.CANCELLED:
        await _save_and_announce(tx, payment)
    elif payment is not than:
        await store.save_payment(tx, payment)


def _new_payment(tx: Tx, *, invoice_id: str, customer_id: str, amount: Money, invoice_number: str = "") -> Payment:
    return Payment(
        # As the invoice, so that whoever has heard of this payment knows it again if it has to be made again.
        id=PaymentId(f"pay_{invoice_id.rpartition('_')[2]}"),
        invoice_id=invoice_id,
        customer_id=customer_id,
        amount=amount,
        state=State.PROCESSING,
        attempts=(),
        failure_code="",
        retryable=False,
        collect_time=tx.now,
        invoice_settled=False,
        revision=1,
        create_time=tx.now,
        update_time=tx.now,
        invoice_number=invoice_number,
    )


def _order(tx: Tx, payment: Payment, attempt: PaymentAttempt, method: PaymentMethod) -> CaptureOrder:
    return CaptureOrder(
        attempt_id=attempt.id,
        seller_id=tx.seller_id,
        invoice_id=payment.invoice_id,
        token=method.token,
        amount=attempt.amount,
        record_time=attempt.record_time,
    )


def _suitable_gateway(tx: Tx, gateways: Gateways, name: str) -> Gateway:
    """One that this seller may use: play money in a sandbox, real money in life."""
    gateway = gateways.get(name)
    if gateway is None:
        known = ", ".join(sorted(gateways)) or "none"
        raise UnknownGateway(f"must be a gateway configured here, which are: {known}", field="gateway")
    return _of_suitable_money(tx, gateway)


def _configured_gateway(tx: Tx, gateways: Gateways, name: str) -> Gateway:
    """The one an attempt is made with. Its credentials may be others than when the payment method was attached."""
    gateway = gateways.get(name)
    if gateway is None:
        raise GatewayNotConfigured(f"there is no gateway {name} any more", gateway=name)
    return _of_suitable_money(tx, gateway)


def _of_suitable_money(tx: Tx, gateway: Gateway) -> Gateway:
    if gateway.moves_real_money and is_sandbox(tx.seller_id):
        raise RealMoneyInSandbox(f"{gateway.name} would move real money for a sandbox", gateway=gateway.name)
    if not gateway.moves_real_money and not is_sandbox(tx.seller_id):
        raise SimulatedGatewayInLive(f"{gateway.name} moves no money, and the seller is live", gateway=gateway.name)
    return gateway
