"""Knows how the proof of an invoice looks on the wire."""

from __future__ import annotations

from common import wire
from invoicing.convert.invoice import line_to_proto, usage_to_proto
from invoicing.convert.issuing_policy import told_late_usage
from invoicing.convert.rating import explanation_to_proto
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.late_usage import Statement
from invoicing.domain.line import Line, Usage
from invoicing.domain.price import Price
from invoicing.domain.rating import Rating
from invoicing.domain.replay import Replay
from saldo.invoicing.v1 import proof_service_pb2 as pb
from saldo.metering.v1 import usage_event_pb2


def line_of_trace(invoice: Invoice, line: Line, *, traceparent: str) -> pb.TraceLineResponse:
    return pb.TraceLineResponse(invoice_number=invoice.number, traceparent=traceparent, line_item=line_to_proto(line))


def sentences(price: Price, rating: Rating, share: str) -> list[str]:
    return list(explanation_to_proto(price, rating, share).sentences)


def earlier_to_proto(invoice_id: InvoiceId, line: Line) -> pb.EarlierLine:
    return pb.EarlierLine(
        invoice_id=invoice_id, line_id=line.id, correction=line.correction, amount=wire.money(line.amount)
    )


def event_to_proto(event: usage_event_pb2.UsageEvent) -> pb.CountedEvent:
    """As metering tells it, without what only senders need to know."""
    return pb.CountedEvent(
        id=event.id,
        source=event.source,
        customer=event.customer,
        meter=event.meter,
        time=event.time,
        value=event.value,
        dimensions=event.dimensions,
    )


def add_usage(response: pb.TraceLineResponse, usage: Usage, *, is_alike: bool) -> None:
    response.counted_again.CopyFrom(usage_to_proto(usage))
    response.is_counted_alike = is_alike


def replay_to_proto(replay: Replay) -> pb.ReplayInvoiceResponse:
    return pb.ReplayInvoiceResponse(
        number=replay.number,
        manifest=replay.manifest,
        manifest_hash=replay.manifest_hash.hex(),
        issued_hash=replay.issued_hash.hex() if replay.issued_hash else "",
        replayed_hash=replay.replayed_hash.hex(),
        is_identical=replay.is_identical,
        differences=[
            pb.ReplayDifference(path=each.path, stored=each.stored or "", replayed=each.replayed or "")
            for each in replay.differences
        ],
    )


def late_usage_to_proto(statement: Statement) -> pb.LateUsageRecord:
    reasons = pb.LateUsageRecord.Reason
    return pb.LateUsageRecord(
        id=statement.id,
        outcome=pb.LateUsageRecord.Outcome.Value(statement.outcome.name),
        reason=reasons.COUNTED_ANEW if statement.is_counted_anew else reasons.LATE,
        customer_id=statement.customer_id,
        payer_id=statement.payer_id,
        subscription_id=statement.subscription_id,
        item_id=statement.item_id,
        price_id=statement.price_id,
        period=wire.interval(statement.period),
        quantity=wire.decimal(statement.quantity),
        event_count=statement.event_count,
        amount=wire.money(statement.amount),
        usage=usage_to_proto(statement.usage),
        after_position=statement.after_position,
        invoice_id=statement.invoice_id,
        line_id=statement.line_id,
        credit_note_id=statement.credit_note_id,
        new_invoice_id=statement.new_invoice_id,
        create_time=wire.timestamp(statement.create_time),
        policy=told_late_usage(statement.policy),
    )
