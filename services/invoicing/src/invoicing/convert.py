"""Knows how what invoicing works with looks on the wire: invoices out; what the neighbours answer in."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from typing import Final

from google.type import decimal_pb2, postal_address_pb2

from common import ids, wire
from common.errors import InvalidArgument
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, Usage
from invoicing.domain.lines_due import BillablePeriod
from invoicing.domain.party import Address, CollectionMethod, Customer, Party, Seller
from invoicing.domain.price import Flat, Graduated, Model, PerUnit, Price, Tier
from invoicing.domain.rating import RatingStep
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2, seller_pb2
from saldo.invoicing.v1 import invoice_pb2 as pb
from saldo.metering.v1 import usage_event_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2

DIGITS_MAX: Final = 100
"""Of a sum of very many very large values."""

EVENT_BYTES_MAX: Final = 900_000
"""A message of the bus has at most a mebibyte, headers included."""


def parse_invoice_id(text: str) -> InvoiceId:
    return InvoiceId(ids.check(text, "inv"))


def invoice_to_proto(invoice: Invoice) -> pb.Invoice:
    proto = _invoice_without_parties(invoice)
    if invoice.seller is not None:
        proto.seller.CopyFrom(_party_to_proto(invoice.seller))
    if invoice.customer is not None:
        proto.customer.CopyFrom(_party_to_proto(invoice.customer))
    return proto


def invoice_for_event(invoice: Invoice) -> pb.Invoice:
    """Without the parties: events carry no personal data. What is too long for a message tells less of each line."""
    proto = _invoice_without_parties(invoice)
    if proto.ByteSize() > EVENT_BYTES_MAX:
        short = [
            pb.LineItem(id=line.id, subscription_id=line.subscription_id, amount=line.amount)
            for line in proto.line_items
        ]
        del proto.line_items[:]
        proto.line_items.extend(short)
    return proto


def _invoice_without_parties(invoice: Invoice) -> pb.Invoice:
    total = wire.money(invoice.total)
    return pb.Invoice(
        id=invoice.id,
        number=invoice.number,
        state=pb.Invoice.State.Value(invoice.state.name),
        customer_id=invoice.customer_id,
        line_items=[_line_to_proto(line) for line in invoice.lines],
        subtotal=total,
        total=total,
        amount_paid=wire.money(invoice.amount_paid),
        amount_remaining=wire.money(invoice.amount_remaining),
        collection_method=pb.Invoice.CollectionMethod.Value(invoice.collection_method.name),
        invoice_date=wire.date(invoice.invoice_date),
        bill_time=wire.timestamp(invoice.bill_time),
        finalize_time=None if invoice.finalize_time is None else wire.timestamp(invoice.finalize_time),
        due_time=None if invoice.due_time is None else wire.timestamp(invoice.due_time),
        paid_time=None if invoice.paid_time is None else wire.timestamp(invoice.paid_time),
        overdue_time=None if invoice.overdue_time is None else wire.timestamp(invoice.overdue_time),
        time_zone=invoice.time_zone,
        revision=invoice.revision,
        create_time=wire.timestamp(invoice.create_time),
    )


def _line_to_proto(line: Line) -> pb.LineItem:
    return pb.LineItem(
        id=line.id,
        description=line.description,
        subscription_id=line.subscription_id,
        item_id=line.item_id,
        price_id=line.price_id,
        period=wire.interval(line.period),
        quantity=wire.decimal(line.quantity),
        unit_label=line.unit_label,
        amount=wire.money(line.amount),
        rating_steps=[_step_to_proto(step) for step in line.steps],
        exact_amount=wire.decimal(line.exact_amount),
        proration=pb.Fraction(numerator=line.proration.numerator, denominator=line.proration.denominator),
        usage=None if line.usage is None else _usage_to_proto(line.usage),
        correction=line.correction,
        full_period=wire.interval(line.full_period),
    )


def _step_to_proto(step: RatingStep) -> pb.RatingStep:
    return pb.RatingStep(
        description=step.description,
        quantity=wire.decimal(step.quantity),
        unit_price=None if step.unit_price is None else wire.decimal(step.unit_price),
        amount=wire.decimal(step.amount),
    )


def _usage_to_proto(usage: Usage) -> pb.UsageProof:
    return pb.UsageProof(
        quantity=wire.decimal(usage.quantity),
        event_count=usage.event_count,
        digest=usage.digest,
        through_position=usage.through_position,
        meter=usage.meter,
        traceparents=usage.traceparents,
    )


def _party_to_proto(party: Party) -> pb.Party:
    return pb.Party(
        id=party.id,
        display_name=party.display_name,
        address=None if party.address is None else postal_address_pb2.PostalAddress(**asdict(party.address)),
        tax_id=party.tax_id,
        email=party.email,
        payment_instructions=party.payment_instructions,
    )


def billable_period_from_proto(proto: subscription_pb2.BillablePeriod) -> BillablePeriod:
    return BillablePeriod(
        subscription_id=proto.subscription_id,
        item_id=proto.item_id,
        price_id=proto.price_id,
        quantity=None if proto.meter else _decimal(proto.quantity, field="quantity"),
        meter=proto.meter,
        period=wire.parse_interval(proto.period, field="period"),
        full_period=wire.parse_interval(proto.full_period, field="full_period"),
        proration=Fraction(proto.proration.numerator, proto.proration.denominator),
        bill_time=wire.parse_timestamp(proto.bill_time, field="bill_time"),
    )


def usage_from_proto(proto: usage_event_pb2.Usage) -> Usage:
    return Usage(
        meter=proto.meter,
        quantity=_decimal(proto.quantity, field="quantity"),
        event_count=proto.event_count,
        digest=proto.digest,
        through_position=proto.through_position,
        traceparents=tuple(proto.traceparents),
    )


def price_from_proto(proto: catalog.PricedProduct) -> Price:
    return Price(
        id=proto.price.id,
        currency=proto.price.currency,
        model=_model(proto.price),
        product=proto.product.display_name,
        unit_label=proto.product.unit_label,
    )


def _model(proto: price_pb2.Price) -> Model:
    match proto.WhichOneof("model"):
        case "flat":
            return Flat(amount=_decimal(proto.flat.amount, field="flat.amount"))
        case "per_unit":
            return PerUnit(unit_price=_decimal(proto.per_unit.unit_price, field="per_unit.unit_price"))
        case "graduated":
            return Graduated(tiers=tuple(_tier(tier) for tier in proto.graduated.tiers))
        case _:
            # A newer contract may know more: better not billed yet than billed wrong.
            raise InvalidArgument(f"price {proto.id} has a model that is not known here", field="model")


def _tier(proto: price_pb2.Tier) -> Tier:
    return Tier(
        up_to=_decimal(proto.up_to, field="up_to") if proto.HasField("up_to") else None,
        unit_price=_decimal(proto.unit_price, field="unit_price"),
        flat_amount=_decimal(proto.flat_amount, field="flat_amount") if proto.HasField("flat_amount") else Decimal(0),
    )


def seller_from_proto(proto: seller_pb2.Seller) -> Seller:
    return Seller(
        party=Party(
            id=proto.id,
            display_name=proto.display_name,
            address=_address(proto.address) if proto.HasField("address") else None,
            tax_id=proto.tax_id,
            email=proto.email,
            payment_instructions=proto.payment_instructions,
        ),
        invoice_number_prefix=proto.invoice_number_prefix,
    )


def customer_from_proto(proto: customer_pb2.Customer) -> Customer:
    profile = proto.billing_profile
    method = wire.enum_name(
        customer_pb2.BillingProfile.CollectionMethod, profile.collection_method, field="collection_method"
    )
    return Customer(
        party=Party(
            id=proto.id,
            display_name=proto.contact.display_name,
            address=_address(proto.contact.address) if proto.contact.HasField("address") else None,
            email=proto.contact.email,
        ),
        external_id=proto.external_id,
        currency=profile.currency,
        time_zone=profile.time_zone,
        net_terms_days=profile.net_terms_days,
        collection_method=CollectionMethod[method],
    )


def _address(proto: postal_address_pb2.PostalAddress) -> Address:
    return Address(
        region_code=proto.region_code,
        language_code=proto.language_code,
        postal_code=proto.postal_code,
        sorting_code=proto.sorting_code,
        administrative_area=proto.administrative_area,
        locality=proto.locality,
        sublocality=proto.sublocality,
        address_lines=tuple(proto.address_lines),
        recipients=tuple(proto.recipients),
        organization=proto.organization,
    )


def _decimal(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field, digits_max=DIGITS_MAX)
