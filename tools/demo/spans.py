"""Knows how to take in the spans that services export, as an OpenTelemetry collector would, and keeps the telling."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SPANS_MAX: Final = 200_000
UNTELLING: Final = "saldo.operations.v1."
"""Reading and moving clocks is what the player does, not what happens in the story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something a service did, and what it did it for."""

    trace: str
    id: str
    parent: str
    service: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str]

    @property
    def milliseconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1_000_000


class Spans:
    """What was taken in, by trace."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._by_trace: dict[str, dict[str, Span]] = defaultdict(dict)
        self._count = 0
        self.add(spans)

    def add(self, spans: Iterable[Span]) -> None:
        for span in spans:
            if self._count < SPANS_MAX and not span.name.startswith(UNTELLING):
                self._by_trace[span.trace][span.id] = span
                self._count += 1

    def of_trace(self, trace: str) -> Sequence[Span]:
        """In order of start."""
        return sorted(self._by_trace.get(trace, {}).values(), key=lambda span: span.start_ns)

    def with_attribute(self, name: str, value: str) -> Sequence[Span]:
        return [
            span for spans in self._by_trace.values() for span in spans.values() if span.attributes.get(name) == value
        ]

    def save(self, path: Path, traces: Iterable[str]) -> None:
        found = [asdict(span) for trace in traces for span in self.of_trace(trace)]
        path.write_text(json.dumps(found))

    @classmethod
    def load(cls, path: Path) -> Spans:
        if not path.exists():
            return cls()
        return cls(Span(**each) for each in json.loads(path.read_text()))


@asynccontextmanager
async def receiving(spans: Spans) -> AsyncIterator[str]:
    """Take in spans for as long as the body runs; gives the address to send them to."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(spans), server)  # type: ignore[no-untyped-call] # generated
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(), server)  # type: ignore[no-untyped-call] # generated
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(), server)  # type: ignore[no-untyped-call] # generated
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=1.0)


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    async def Export(  # noqa: N802 - named as in the contract
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                self._spans.add(_span(service, span) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    async def Export(self, request: object, context: object) -> metrics_service_pb2.ExportMetricsServiceResponse:  # noqa: N802
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    async def Export(self, request: object, context: object) -> logs_service_pb2.ExportLogsServiceResponse:  # noqa: N802
        return logs_service_pb2.ExportLogsServiceResponse()


def _span(service: str, span: Any) -> Span:  # Any: opentelemetry-proto carries no usable types
    return Span(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, str]:  # Any: as above
    return {pair.key: pair.value.string_value for pair in pairs if pair.value.HasField("string_value")}
