"""The door of payments: parse, call, answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from payments import store, usecases
from payments.convert import payment_method_to_proto, payment_to_proto
from payments.domain.payment import PaymentId
from payments.domain.payment_method import check_no_card_number
from payments.gateways import Gateways
from saldo.payments.v1 import payment_method_pb2, payment_pb2
from saldo.payments.v1 import payments_service_pb2 as pb
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceServicer

TOKEN_LENGTH_MAX: Final = 255
NAME_LENGTH_MAX: Final = 200


class PaymentsApi(PaymentsServiceServicer):
    def __init__(self, database: Database, gateways: Gateways) -> None:
        self.database = database
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
            return payment_to_proto(await store.payment(tx, PaymentId(ids.check(request.id, "pay"))))
        return payment_to_proto(await store.payment_for(tx, ids.check(request.invoice_id, "inv", field="invoice_id")))

    @transactional
    async def ListPayments(self, request: pb.ListPaymentsRequest, tx: Tx) -> pb.ListPaymentsResponse:
        page = wire.page(request)
        customer_id = request.customer_id and ids.check(request.customer_id, "cus", field="customer_id")
        found = await store.list_payments(
            tx, customer_id=customer_id, after=page.after[0] if page.after else "", limit=page.size + 1
        )
        return pb.ListPaymentsResponse(
            payments=[payment_to_proto(payment) for payment in found[: page.size]],
            next_page_token=_next([payment.id for payment in found], page.size),
        )

    @transactional
    async def RetryPayment(self, request: pb.RetryPaymentRequest, tx: Tx) -> payment_pb2.Payment:
        invoice_id = ids.check(request.invoice_id, "inv", field="invoice_id")
        return payment_to_proto(await usecases.retry_payment(tx, invoice_id))


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when one row more than the page was found."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
