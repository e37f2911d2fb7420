"""Answers `saldo.invoicing.v1.ProofService`: parse, call, answer. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common import ids, wire
from common.rpc import Desk
from invoicing import store
from invoicing.convert.proof import (
    add_usage,
    earlier_to_proto,
    event_to_proto,
    late_usage_to_proto,
    line_of_trace,
    replay_to_proto,
    sentences,
)
from invoicing.domain.invoice import InvoiceId
from invoicing.usecases import prove, unsettled
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

    async def ListLateUsage(self, request: pb.ListLateUsageRequest, context: object) -> pb.ListLateUsageResponse:
        page = wire.page(request)
        customer_id = ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else ""
        meter = wire.text(request.meter, field="meter", max_length=METER_LENGTH_MAX, required=False)
        async with self._desk().transaction() as tx:
            found = await store.list_late_usages(
                tx,
                customer_id=customer_id,
                meter=meter,
                after=page.after[0] if page.after else "",
                limit=page.size + 1,
            )
        return pb.ListLateUsageResponse(
            late_usages=[late_usage_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    async def PreviewLateUsage(
        self, request: pb.PreviewLateUsageRequest, context: object
    ) -> pb.PreviewLateUsageResponse:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        found = await unsettled.unsettled(self._desk(), customer_id)
        return pb.PreviewLateUsageResponse(late_usages=[late_usage_to_proto(each) for each in found])

    async def ReplayInvoice(self, request: pb.ReplayInvoiceRequest, context: object) -> pb.ReplayInvoiceResponse:
        invoice_id = InvoiceId(ids.check(request.invoice_id, "inv", field="invoice_id"))
        return replay_to_proto(await prove.replay_invoice(self._desk(), invoice_id))
