"""The door of payments: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import Desk, transactional
from payments import clients, store, usecases
from payments.convert import payment_method_to_proto, payment_to_proto, recorded_payment_to_proto
from payments.domain.outside import Means, Owed, Receipt
from payments.domain.payment import PaymentId
from payments.domain.payment_method import check_no_card_number
from payments.gateways import Gateways
from saldo.payments.v1 import payment_method_pb2, payment_pb2
from saldo.payments.v1 import payments_service_pb2 as pb
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceServicer

TOKEN_LENGTH_MAX: Final = 255
NAME_LENGTH_MAX: Final = 200
REFERENCE_LENGTH_MAX: Final = 100


class PaymentsApi(PaymentsServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], gateways: Gateways) -> None:
        self.database = database
        self._desk = desk
        self._gateways = gateways

    @transactional
    async def AttachPaymentMethod(
        self, request: pb.AttachPaymentMethodRequest, tx: Tx
    ) -> payment_method_pb2.PaymentMethod:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        token = wire.text(request.token, field="token", max_length=TOKEN_LENGTH_MAX)
        check_no_card_number(token, field="token")
        display_name = wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX, required=False)
        check_no_card_number(display_name, field="display_name")
        method = await usecases.attach_payment_method(
            tx,
            self._gateways,
            customer_id=customer_id,
            gateway=request.gateway,
            token=token,
            display_name=display_name,
        )
        return payment_method_to_proto(method)

    @transactional
    async def ListPaymentMethods(self, request: pb.ListPaymentMethodsRequest, tx: Tx) -> pb.ListPaymentMethodsResponse:
        page = wire.page(request)
        found = await store.list_methods(
            tx,
            customer_id=ids.check(request.customer_id, "cus", field="customer_id"),
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListPaymentMethodsResponse(
            payment_methods=[payment_method_to_proto(method) for method in found[: page.size]],
            next_page_token=_next([method.id for method in found], page.size),
        )

    @transactional
    async def GetPayment(self, request: pb.GetPaymentRequest, tx: Tx) -> payment_pb2.Payment:
        if bool(request.id) == bool(request.invoice_id):
            raise InvalidArgument("must be given, or an invoice_id instead", field="id")
        if request.id:
            payment_id = PaymentId(ids.check(request.id, "pay"))
            recorded = await store.recorded_payment(tx, payment_id)
            if recorded is not None:
                return recorded_payment_to_proto(recorded)
            return payment_to_proto(await store.payment(tx, payment_id))
        return payment_to_proto(await store.payment_for(tx, ids.check(request.invoice_id, "inv", field="invoice_id")))

    @transactional
    async def ListPayments(self, request: pb.ListPaymentsRequest, tx: Tx) -> pb.ListPaymentsResponse:
        page = wire.page(request)
        customer_id = request.customer_id and ids.check(request.customer_id, "cus", field="customer_id")
        after = page.after[0] if page.after else ""
        collected = await store.list_payments(tx, customer_id=customer_id, after=after, limit=page.size + 1)
        recorded = await store.list_recorded_payments(tx, customer_id=customer_id, after=after, limit=page.size + 1)
        found = [*map(payment_to_proto, collected), *map(recorded_payment_to_proto, recorded)]
        found.sort(key=lambda payment: payment.id)
        return pb.ListPaymentsResponse(
            payments=found[: page.size], next_page_token=_next([payment.id for payment in found], page.size)
        )

    @transactional
    async def RetryPayment(self, request: pb.RetryPaymentRequest, tx: Tx) -> payment_pb2.Payment:
        invoice_id = ids.check(request.invoice_id, "inv", field="invoice_id")
        return payment_to_proto(await usecases.retry_payment(tx, invoice_id))

    async def RecordPayment(self, request: pb.RecordPaymentRequest, context: object) -> payment_pb2.Payment:
        invoice_id = ids.check(request.invoice_id, "inv", field="invoice_id")
        receipt = _receipt(request)
        owed = await clients.owed(self._desk(), invoice_id)
        return await _Recording(self.database, owed, receipt).RecordPayment(request, context)


class _Recording:
    """The half of RecordPayment that is a transaction, once invoicing has been asked."""

    def __init__(self, database: Database, owed: Owed, receipt: Receipt) -> None:
        self.database = database
        self._owed = owed
        self._receipt = receipt

    @transactional
    async def RecordPayment(self, request: pb.RecordPaymentRequest, tx: Tx) -> payment_pb2.Payment:
        if self._receipt.paid_time is not None and self._receipt.paid_time > tx.now:
            raise InvalidArgument("must not be later than now", field="paid_time")
        return recorded_payment_to_proto(await usecases.record_payment(tx, self._owed, self._receipt))


def _receipt(request: pb.RecordPaymentRequest) -> Receipt:
    amount = wire.parse_money(request.amount, field="amount")
    if amount.minor <= 0:
        raise InvalidArgument("must be more than zero", field="amount")
    means = wire.enum_name(payment_pb2.OutsidePayment.Means, request.means, field="means")
    reference = wire.text(request.reference, field="reference", max_length=REFERENCE_LENGTH_MAX)
    check_no_card_number(reference, field="reference")
    paid_time = None
    if request.HasField("paid_time"):
        paid_time = wire.parse_timestamp(request.paid_time, field="paid_time")
    return Receipt(amount=amount, means=Means[means], reference=reference, paid_time=paid_time)


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when one row more than the page was found."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
