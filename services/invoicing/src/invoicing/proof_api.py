"""Answers `saldo.invoicing.v1.ProofService`: parse, call, answer. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common import ids, wire
from common.rpc import Desk
from invoicing.convert.proof import (
    add_usage,
    earlier_to_proto,
    event_to_proto,
    line_of_trace,
    replay_to_proto,
    sentences,
)
from invoicing.domain.invoice import InvoiceId
from invoicing.usecases import prove
from saldo.invoicing.v1 import proof_service_pb2 as pb
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceServicer

METER_LENGTH_MAX: Final = 64
TOKEN_KEYS: Final = 3
"""Of metering's list of usage events: its tokens are handed on."""


class ProofApi(ProofServiceServicer):
    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def TraceLine(self, request: pb.TraceLineRequest, context: object) -> pb.TraceLineResponse:
        found = await prove.trace_line(
            self._desk(),
            InvoiceId(ids.check(request.invoice_id, "inv", field="invoice_id")),
            ids.check(request.line_id, "line", field="line_id"),
            meter=wire.text(request.meter, field="meter", max_length=METER_LENGTH_MAX, required=False),
            page_size=wire.page(request, keys=TOKEN_KEYS).size,
            page_token=request.page_token,
        )
        response = line_of_trace(found.invoice, found.line, traceparent=found.traceparent)
        if found.derived is not None:
            derived = found.derived
            response.price_code = derived.price.code
            response.sentences.extend(sentences(derived.price, derived.rating, derived.share))
            response.earlier_lines.extend(earlier_to_proto(*each) for each in derived.earlier)
        if found.counted is not None:
            add_usage(response, found.counted.usage, is_alike=found.counted.is_alike)
            response.events.extend(event_to_proto(each) for each in found.counted.events)
            response.next_page_token = found.counted.next_page_token
        return response

    async def ReplayInvoice(self, request: pb.ReplayInvoiceRequest, context: object) -> pb.ReplayInvoiceResponse:
        invoice_id = InvoiceId(ids.check(request.invoice_id, "inv", field="invoice_id"))
        return replay_to_proto(await prove.replay_invoice(self._desk(), invoice_id))
