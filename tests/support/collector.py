"""Knows how to be an OTLP collector in this process: whatever services export can be looked at a moment later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class Span:
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    failed: bool


@dataclass(slots=True)
class Collector:
    """What has arrived so far."""

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def trace(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id == trace_id]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector at a free port of loopback."""
    found = Collector()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    adders: list[Any] = [  # Any: as below
        (trace_service_pb2_grpc.add_TraceServiceServicer_to_server, _Traces(found)),
        (metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, _Metrics(found)),
        (logs_service_pb2_grpc.add_LogsServiceServicer_to_server, _Logs(found)),
    ]
    for add, servicer in adders:
        add(servicer, server)
    found.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield found
    finally:
        server.stop(grace=None).wait()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, into: Collector) -> None:
        self._into = into

    def Export(self, request: Any, context: Any) -> Any:  # Any: the generated code has no types
        for of_resource in request.resource_spans:
            service = _service(of_resource.resource)
            for of_scope in of_resource.scope_spans:
                self._into.spans.extend(_span(service, each) for each in of_scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, into: Collector) -> None:
        self._into = into

    def Export(self, request: Any, context: Any) -> Any:  # Any: as above
        for of_resource in request.resource_metrics:
            names = {metric.name for of_scope in of_resource.scope_metrics for metric in of_scope.metrics}
            self._into.metrics[_service(of_resource.resource)] |= names
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, into: Collector) -> None:
        self._into = into

    def Export(self, request: Any, context: Any) -> Any:  # Any: as above
        for of_resource in request.resource_logs:
            self._into.logs[_service(of_resource.resource)].extend(
                (record.body.string_value, record.trace_id.hex())
                for of_scope in of_resource.scope_logs
                for record in of_scope.log_records
            )
        return logs_service_pb2.ExportLogsServiceResponse()


def _service(resource: Any) -> str:  # Any: as above
    name: str = next(each.value.string_value for each in resource.attributes if each.key == "service.name")
    return name


def _span(service: str, span: Any) -> Span:  # Any: as above
    return Span(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(link.trace_id.hex() for link in span.links),
        failed=span.status.code == 2,
    )
