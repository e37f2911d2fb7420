"""Knows how invoices look on the wire, whole or as far as an event may tell them."""

from __future__ import annotations

import functools
from dataclasses import asdict
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2, money_pb2, postal_address_pb2

from common import ids, wire
from common.money import Money
from invoicing.documents.grouping import Layout
from invoicing.domain.discount import GivenDiscount, PercentOff
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineKind, Usage
from invoicing.domain.party import CollectionMethod, Party
from invoicing.domain.sections import Section
from invoicing.domain.steps import RatingStep, StepKind
from invoicing.domain.tax import TaxLine
from saldo.invoicing.v1 import invoice_pb2 as pb
from saldo.invoicing.v1 import invoicing_service_pb2 as service_pb

EVENT_BYTES_MAX: Final = 900_000
"""A message of the bus has at most a mebibyte, headers included."""

PARTS_KEPT: Final = 2_000
"""Of messages, of each kind."""


def parse_invoice_id(text: str, *, field: str = "id") -> InvoiceId:
    return InvoiceId(ids.check(text, "inv", field=field))


def parse_layout(value: service_pb.GetInvoiceDocumentRequest.Layout.ValueType) -> Layout:
    if not value:
        return Layout.SECTIONS
    return Layout[wire.enum_name(service_pb.GetInvoiceDocumentRequest.Layout, value, field="layout")]


def parse_numbering(value: service_pb.ListInvoicesRequest.Numbering.ValueType) -> bool | None:
    """Whether invoices are to have a number; None where that is all the same."""
    if not value:
        return None
    return wire.enum_name(service_pb.ListInvoicesRequest.Numbering, value, field="numbering") == "NUMBERED"


def invoice_to_proto(invoice: Invoice) -> pb.Invoice:
    proto = _invoice_without_parties(invoice)
    if invoice.seller is not None:
        proto.seller.CopyFrom(party_to_proto(invoice.seller))
    if invoice.customer is not None:
        proto.customer.CopyFrom(party_to_proto(invoice.customer))
    return proto


def invoice_for_event(invoice: Invoice) -> pb.Invoice:
    """Without the parties, and what was written to one of them: events carry no personal data. What is too long for a
    message tells less of each line.
    """
    proto = _invoice_without_parties(invoice)
    proto.memo = ""
    for section in proto.sections:
        section.display_name = ""
    if proto.ByteSize() > EVENT_BYTES_MAX:
        short = [
            pb.LineItem(id=line.id, subscription_id=line.subscription_id, amount=line.amount)
            for line in proto.line_items
        ]
        del proto.line_items[:]
        del proto.sections[:]
        proto.line_items.extend(short)
    return proto


def _invoice_without_parties(invoice: Invoice) -> pb.Invoice:
    return pb.Invoice(
        id=invoice.id,
        number=invoice.number,
        state=_STATES[invoice.state],
        customer_id=invoice.customer_id,
        line_items=[line_to_proto(line) for line in invoice.lines],
        subtotal=_money(invoice.subtotal),
        discount_total=_money(invoice.discount_total),
        tax_total=_money(invoice.tax_total),
        total_excluding_tax=_money(invoice.total_excluding_tax),
        taxes=[tax_line_to_proto(tax) for tax in invoice.taxes],
        tax_time=None if invoice.tax_time is None else _timestamp(invoice.tax_time),
        rounding=_money(invoice.rounding),
        total=_money(invoice.total),
        credit_applied=_money(invoice.credit_applied),
        amount_due=_money(invoice.amount_due),
        amount_credited=_money(invoice.amount_credited),
        amount_written_off=_money(invoice.amount_written_off),
        amount_paid=_money(invoice.amount_paid),
        amount_remaining=_money(invoice.amount_remaining),
        collection_method=_METHODS[invoice.collection_method],
        given_discounts=[given_to_proto(each) for each in invoice.given_discounts],
        memo=invoice.memo,
        purchase_order=invoice.purchase_order,
        is_manual=invoice.is_manual,
        net_terms_days=invoice.net_terms_days,
        invoice_date=wire.date(invoice.invoice_date),
        bill_time=_timestamp(invoice.bill_time),
        finalize_time=None if invoice.finalize_time is None else _timestamp(invoice.finalize_time),
        due_time=None if invoice.due_time is None else _timestamp(invoice.due_time),
        paid_time=None if invoice.paid_time is None else _timestamp(invoice.paid_time),
        overdue_time=None if invoice.overdue_time is None else _timestamp(invoice.overdue_time),
        void_time=None if invoice.void_time is None else _timestamp(invoice.void_time),
        uncollectible_time=None if invoice.uncollectible_time is None else _timestamp(invoice.uncollectible_time),
        time_zone=invoice.time_zone,
        revision=invoice.revision,
        hold_reason=invoice.hold_reason,
        create_time=_timestamp(invoice.create_time),
        sections=[_section_to_proto(section) for section in invoice.sections],
        top_up_rule_id=invoice.top_up_rule_id,
    )


def line_to_proto(line: Line) -> pb.LineItem:
    return pb.LineItem(
        id=line.id,
        description=line.description,
        subscription_id=line.subscription_id,
        item_id=line.item_id,
        price_id=line.price_id,
        period=_interval(line.period),
        quantity=_same_decimal(line.quantity),
        unit_label=line.unit_label,
        amount=_money(line.amount),
        rating_steps=[_same_step(step) for step in line.steps],
        exact_amount=_same_decimal(line.exact_amount),
        proration=_fraction(line.proration.numerator, line.proration.denominator),
        usage=None if line.usage is None else usage_to_proto(line.usage),
        correction=line.correction,
        full_period=_interval(line.full_period),
        kind=_LINE_KINDS[line.kind],
        change_id=line.change_id,
        customer_id=line.customer_id,
        discounts=[
            pb.LineDiscount(discount_id=each.discount_id, description=each.description, amount=_money(each.amount))
            for each in line.discounts
        ],
        net_amount=_money(line.net_amount),
        tax_rate_ids=line.tax_rate_ids,
        tax_code=line.tax_code,
        product_id=line.product_id,
        given_discounts=[given_to_proto(each) for each in line.given_discounts],
        coupon_ids=line.coupon_ids,
    )


def given_to_proto(given: GivenDiscount) -> pb.GivenDiscount:
    proto = pb.GivenDiscount(id=given.id, description=given.description)
    if isinstance(given.benefit, PercentOff):
        proto.percent.CopyFrom(wire.decimal(given.benefit.percent))
    else:
        [amount] = given.benefit.amounts
        proto.amount.CopyFrom(wire.money(amount))
    return proto


def tax_line_to_proto(tax: TaxLine) -> pb.TaxLine:
    return pb.TaxLine(
        name=tax.name,
        category=tax.category,
        percent=wire.decimal(tax.percent),
        taxable_amount=_money(tax.taxable),
        amount=_money(tax.amount),
        is_included=tax.is_included,
        rate_id=tax.rate_id,
        exemption_reason=tax.exemption_reason,
    )


def _section_to_proto(section: Section) -> pb.InvoiceSection:
    return pb.InvoiceSection(
        customer_id=section.customer_id,
        display_name=section.display_name,
        subtotal=wire.money(section.subtotal),
        subscriptions=[
            pb.SubscriptionSection(
                subscription_id=each.subscription_id,
                display_name=each.display_name,
                subtotal=wire.money(each.subtotal),
            )
            for each in section.subscriptions
        ],
    )


def step_to_proto(step: RatingStep) -> pb.RatingStep:
    return pb.RatingStep(
        description=step.description,
        quantity=_same_decimal(step.quantity),
        unit_price=_told(step.unit_price),
        amount=_same_decimal(step.amount),
        kind=_STEP_KINDS[step.kind],
        over=_told(step.over),
        up_to=_told(step.up_to),
        percent=_told(step.percent),
        package_size=_told(step.package_size),
        cell=step.cell,
    )


def _told(number: Decimal | None) -> decimal_pb2.Decimal | None:
    return None if number is None else _same_decimal(number)


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


def party_to_proto(party: Party) -> pb.Party:
    return pb.Party(
        id=party.id,
        display_name=party.display_name,
        address=None if party.address is None else postal_address_pb2.PostalAddress(**asdict(party.address)),
        tax_id=party.tax_id,
        email=party.email,
        payment_instructions=party.payment_instructions,
    )


# The same few are told on every line of every invoice of a bill run. A message that becomes part of another is copied.
_timestamp: Final = functools.lru_cache(maxsize=PARTS_KEPT)(wire.timestamp)
_interval: Final = functools.lru_cache(maxsize=PARTS_KEPT)(wire.interval)
_same_decimal: Final = functools.lru_cache(maxsize=PARTS_KEPT)(wire.decimal)
_same_step: Final = functools.lru_cache(maxsize=PARTS_KEPT)(step_to_proto)


@functools.lru_cache(maxsize=PARTS_KEPT)
def _fraction(numerator: int, denominator: int) -> pb.Fraction:
    return pb.Fraction(numerator=numerator, denominator=denominator)


def _money(value: Money) -> money_pb2.Money:
    return _amount(value.minor, value.currency)


@functools.lru_cache(maxsize=PARTS_KEPT)
def _amount(minor: int, currency: str) -> money_pb2.Money:
    return wire.money(Money(minor, currency))


_STATES: Final = {each: pb.Invoice.State.Value(each.name) for each in State}
_METHODS: Final = {each: pb.Invoice.CollectionMethod.Value(each.name) for each in CollectionMethod}
_LINE_KINDS: Final = {each: pb.LineItem.Kind.Value(each.name) for each in LineKind}
_STEP_KINDS: Final = {each: pb.RatingStep.Kind.Value(each.name) for each in StepKind}
