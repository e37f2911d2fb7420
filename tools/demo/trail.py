"""Knows how to follow one amount of money: from a usage event over the invoice to the payment, span by span."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from saldo.invoicing.v1 import invoice_pb2
from saldo.payments.v1 import payment_pb2
from tools.demo.account import Account
from tools.demo.spans import Span, Spans

ATTEMPT: Final = "attempt.id"
"""What the span of a call to a gateway is told apart by."""

BILL_RUN: Final = "bill customers"
"""The span of the job that asks for everything and writes the invoice."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Something that was done, and what it led to. A call is one branch, although two services have a span of it."""

    span: Span
    answered_by: str
    """The service that was called; empty when the span is no call."""
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The way of one amount."""

    invoice: invoice_pb2.Invoice
    line: invoice_pb2.LineItem
    payment: payment_pb2.Payment
    ingest: tuple[Branch, ...]
    bill: tuple[Branch, ...]
    traces: tuple[str, ...]


def follow(account: Account, spans: Spans) -> Trail | None:
    """Of the first metered line that was paid for and whose spans are all there."""
    for invoice in account.invoices:
        payment = account.payments.get(invoice.id)
        if payment is None or payment.state != payment_pb2.Payment.SUCCEEDED:
            continue
        captures = spans.with_attribute(ATTEMPT, payment.attempts[-1].id)
        for line in invoice.line_items:
            for traceparent in line.usage.traceparents:
                ingest = spans.of_trace(_trace(traceparent))
                if ingest and captures:
                    capture = captures[0]
                    bill = spans.of_trace(capture.trace)
                    return Trail(
                        invoice=invoice,
                        line=line,
                        payment=payment,
                        ingest=_tree(ingest),
                        bill=_tree(_leading_to(capture, bill)),
                        traces=(ingest[0].trace, capture.trace),
                    )
    return None


def _trace(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def _leading_to(capture: Span, spans: Sequence[Span]) -> Sequence[Span]:
    """The way to the capture and what was done on it; not what the beginning led to elsewhere."""
    by_id = {span.id: span for span in spans}
    way = _ancestors(capture, by_id)
    # From the bill run on everything is of interest; what comes before it, if an event asked for it, began other
    # things too.
    names = [span.name for span in way]
    on_it = {span.id for span in way[: names.index(BILL_RUN) + 1 if BILL_RUN in names else len(way)]}
    kept = {span.id for span in way}
    return [
        span
        for span in spans
        if span.id in kept or any(ancestor.id in on_it for ancestor in _ancestors(span, by_id)[1:])
    ]


def _ancestors(span: Span, by_id: Mapping[str, Span]) -> list[Span]:
    """The span itself, its parent, and so on up."""
    found = [span]
    while (parent := by_id.get(found[-1].parent)) is not None and len(found) < len(by_id):
        found.append(parent)
    return found


def _tree(spans: Sequence[Span]) -> tuple[Branch, ...]:
    ids = {span.id for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        children[span.parent if span.parent in ids else ""].append(span)
    return tuple(_branch(span, children) for span in children[""])


def _branch(span: Span, children: Mapping[str, Sequence[Span]]) -> Branch:
    own = children.get(span.id, ())
    answered_by = ""
    if len(own) == 1 and own[0].name == span.name and own[0].service != span.service:
        answered_by = own[0].service
        own = children.get(own[0].id, ())
    return Branch(span, answered_by, tuple(_branch(child, children) for child in own))
