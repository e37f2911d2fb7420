"""Knows how what somebody writes by hand looks on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money, minor_units
from invoicing.convert.invoice import line_to_proto
from invoicing.domain.discount import AmountOff, GivenDiscount, PercentOff
from invoicing.domain.invoice import LINES_WRITTEN_MAX
from invoicing.domain.manual import PendingLine, WrittenInvoice, WrittenLine
from invoicing.domain.party import CollectionMethod
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import manual_invoice_pb2 as written_pb
from saldo.invoicing.v1 import manual_invoices_service_pb2 as pb

DESCRIPTION_LENGTH_MAX: Final = 500
UNIT_LENGTH_MAX: Final = 50
TAX_CODE_LENGTH_MAX: Final = 64
DISCOUNT_LENGTH_MAX: Final = 200
MEMO_LENGTH_MAX: Final = 2_000
PURCHASE_ORDER_LENGTH_MAX: Final = 100
DISCOUNTS_MAX: Final = 20
NET_TERMS_DAYS_MAX: Final = 365
QUANTITY_MAX: Final = Decimal(10**12)
HUNDRED: Final = Decimal(100)


def written_invoice_from_proto(request: pb.CreateInvoiceRequest) -> WrittenInvoice:
    if len(request.lines) > LINES_WRITTEN_MAX:
        raise InvalidArgument(f"must be at most {LINES_WRITTEN_MAX}", field="lines")
    terms = request.net_terms_days if request.HasField("net_terms_days") else None
    if terms is not None and not 0 <= terms <= NET_TERMS_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {NET_TERMS_DAYS_MAX}", field="net_terms_days")
    method = None
    if request.collection_method:
        known = invoice_pb2.Invoice.CollectionMethod
        method = CollectionMethod[wire.enum_name(known, request.collection_method, field="collection_method")]
    told = request.HasField("finalize_time")
    return WrittenInvoice(
        currency=currency_from_proto(request.currency),
        lines=tuple(written_line_from_proto(each, field=f"lines[{n}]") for n, each in enumerate(request.lines)),
        discounts=_discounts(request.discounts, field="discounts"),
        collection_method=method,
        net_terms_days=terms,
        memo=wire.text(request.memo, field="memo", max_length=MEMO_LENGTH_MAX, required=False, multiline=True),
        purchase_order=wire.text(
            request.purchase_order, field="purchase_order", max_length=PURCHASE_ORDER_LENGTH_MAX, required=False
        ),
        finalize_time=wire.parse_timestamp(request.finalize_time, field="finalize_time") if told else None,
    )


def currency_from_proto(currency: str) -> str:
    """Empty for the customer's."""
    if currency:
        minor_units(currency, field="currency")
    return currency


def written_line_from_proto(proto: written_pb.ManualLine, *, field: str) -> WrittenLine:
    priced_by = _priced_by(proto, field=field)
    quantity = (
        wire.parse_decimal(proto.quantity, field=f"{field}.quantity", minimum=0)
        if proto.HasField("quantity")
        else Decimal(1)
    )
    if quantity > QUANTITY_MAX:
        raise InvalidArgument(f"must be at most {QUANTITY_MAX}", field=f"{field}.quantity")
    if isinstance(priced_by, str) and proto.unit_label:
        raise InvalidArgument("must be empty with a price: it is that of the product", field=f"{field}.unit_label")
    return WrittenLine(
        description=wire.text(
            proto.description,
            field=f"{field}.description",
            max_length=DESCRIPTION_LENGTH_MAX,
            required=not isinstance(priced_by, str),
        ),
        quantity=quantity,
        unit_label=wire.text(proto.unit_label, field=f"{field}.unit_label", max_length=UNIT_LENGTH_MAX, required=False),
        priced_by=priced_by,
        tax_code=wire.text(proto.tax_code, field=f"{field}.tax_code", max_length=TAX_CODE_LENGTH_MAX, required=False),
        period=wire.parse_interval(proto.period, field=f"{field}.period") if proto.HasField("period") else None,
        discounts=_discounts(proto.discounts, field=f"{field}.discounts"),
    )


def pending_line_to_proto(pending: PendingLine) -> written_pb.PendingLine:
    alone = pending.bill_alone_time
    return written_pb.PendingLine(
        id=pending.line.id,
        customer_id=pending.customer_id,
        line_item=line_to_proto(pending.line),
        bill_alone_time=None if alone is None else wire.timestamp(alone),
        create_time=wire.timestamp(pending.create_time),
    )


def _priced_by(proto: written_pb.ManualLine, *, field: str) -> Decimal | Money | str:
    match proto.WhichOneof("priced_by"):
        case "unit_price":
            return wire.parse_decimal(proto.unit_price, field=f"{field}.unit_price", minimum=0)
        case "amount":
            amount = wire.parse_money(proto.amount, field=f"{field}.amount")
            if amount.minor < 0:
                raise InvalidArgument("must not be negative: give a discount", field=f"{field}.amount")
            return amount
        case "price_id":
            return ids.check(proto.price_id, "price", field=f"{field}.price_id")
        case _:
            raise InvalidArgument("is required, or an amount, or a price_id", field=f"{field}.unit_price")


def _discounts(protos: Sequence[invoice_pb2.GivenDiscount], *, field: str) -> tuple[GivenDiscount, ...]:
    if len(protos) > DISCOUNTS_MAX:
        raise InvalidArgument(f"must be at most {DISCOUNTS_MAX}", field=field)
    return tuple(_discount(each, field=f"{field}[{n}]") for n, each in enumerate(protos))


def _discount(proto: invoice_pb2.GivenDiscount, *, field: str) -> GivenDiscount:
    description = wire.text(proto.description, field=f"{field}.description", max_length=DISCOUNT_LENGTH_MAX)
    return GivenDiscount(id="", description=description, benefit=_benefit(proto, field=field))


def _benefit(proto: invoice_pb2.GivenDiscount, *, field: str) -> PercentOff | AmountOff:
    match proto.WhichOneof("benefit"):
        case "percent":
            percent = wire.parse_decimal(proto.percent, field=f"{field}.percent")
            if not 0 < percent <= HUNDRED:
                raise InvalidArgument("must be more than 0, and at most 100", field=f"{field}.percent")
            return PercentOff(percent=percent)
        case "amount":
            amount = wire.parse_money(proto.amount, field=f"{field}.amount")
            if amount.minor <= 0:
                raise InvalidArgument("must be more than zero", field=f"{field}.amount")
            return AmountOff(amounts=(amount,))
        case _:
            raise InvalidArgument("is required, or an amount", field=f"{field}.percent")
