"""Knows how invoices look on the wire, whole or as far as an event may tell them."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2, postal_address_pb2

from common import ids, wire
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, Usage
from invoicing.domain.party import Party
from invoicing.domain.steps import RatingStep
from invoicing.domain.tax import TaxLine
from saldo.invoicing.v1 import invoice_pb2 as pb

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
    return pb.Invoice(
        id=invoice.id,
        number=invoice.number,
        state=pb.Invoice.State.Value(invoice.state.name),
        customer_id=invoice.customer_id,
        line_items=[line_to_proto(line) for line in invoice.lines],
        subtotal=wire.money(invoice.subtotal),
        discount_total=wire.money(invoice.discount_total),
        tax_total=wire.money(invoice.tax_total),
        total_excluding_tax=wire.money(invoice.total_excluding_tax),
        taxes=[_tax_to_proto(tax) for tax in invoice.taxes],
        rounding=wire.money(invoice.rounding),
        total=wire.money(invoice.total),
        credit_applied=wire.money(invoice.credit_applied),
        amount_due=wire.money(invoice.amount_due),
        amount_credited=wire.money(invoice.amount_credited),
        amount_written_off=wire.money(invoice.amount_written_off),
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
        hold_reason=invoice.hold_reason,
        create_time=wire.timestamp(invoice.create_time),
    )


def line_to_proto(line: Line) -> pb.LineItem:
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
        rating_steps=[step_to_proto(step) for step in line.steps],
        exact_amount=wire.decimal(line.exact_amount),
        proration=pb.Fraction(numerator=line.proration.numerator, denominator=line.proration.denominator),
        usage=None if line.usage is None else usage_to_proto(line.usage),
        correction=line.correction,
        full_period=wire.interval(line.full_period),
        kind=pb.LineItem.Kind.Value(line.kind.name),
        change_id=line.change_id,
        discounts=[
            pb.LineDiscount(discount_id=each.discount_id, description=each.description, amount=wire.money(each.amount))
            for each in line.discounts
        ],
        net_amount=wire.money(line.net_amount),
    )


def _tax_to_proto(tax: TaxLine) -> pb.TaxLine:
    return pb.TaxLine(
        name=tax.name,
        category=tax.category,
        percent=wire.decimal(tax.percent),
        taxable_amount=wire.money(tax.taxable),
        amount=wire.money(tax.amount),
        is_included=tax.is_included,
        rate_id=tax.rate_id,
        exemption_reason=tax.exemption_reason,
    )


def step_to_proto(step: RatingStep) -> pb.RatingStep:
    return pb.RatingStep(
        description=step.description,
        quantity=wire.decimal(step.quantity),
        unit_price=_told(step.unit_price),
        amount=wire.decimal(step.amount),
        kind=pb.RatingStep.Kind.Value(step.kind.name),
        over=_told(step.over),
        up_to=_told(step.up_to),
        percent=_told(step.percent),
        package_size=_told(step.package_size),
        cell=step.cell,
    )


def _told(number: Decimal | None) -> decimal_pb2.Decimal | None:
    return None if number is None else wire.decimal(number)


def usage_to_proto(usage: Usage) -> pb.UsageProof:
    return pb.UsageProof(
        quantity=wire.decimal(usage.quantity),
        event_count=usage.event_count,
        digest=usage.digest,
        through_position=usage.through_position,
        meter=usage.meter,
        traceparents=usage.traceparents,
        meter_versions=usage.meter_versions,
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
