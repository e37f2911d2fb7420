"""One trace runs from the call to the last effect; what is measured and logged can be read by a collector."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.trace import SpanKind

from common import telemetry, wire
from common.telemetry import SECONDS, Telemetry, span_context, traceparent
from common.testing import refused
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook.contracts import notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb
from libs.common.tests.notebook.house import START, House

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(slots=True)
class Collector:
    """What an OTLP collector would have got."""

    address: str = ""
    spans: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    logs: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    metrics: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))

    def all_spans(self) -> list[Any]:
        return [span for spans in self.spans.values() for span in spans]


def _service(resource: Any) -> str:
    return next(str(each.value.string_value) for each in resource.attributes if each.key == "service.name")


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, found: Collector) -> None:
        self.found = found

    async def Export(self, request: Any, context: object) -> Any:
        for group in request.resource_spans:
            for scope in group.scope_spans:
                self.found.spans[_service(group.resource)] += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, found: Collector) -> None:
        self.found = found

    async def Export(self, request: Any, context: object) -> Any:
        for group in request.resource_logs:
            for scope in group.scope_logs:
                self.found.logs[_service(group.resource)] += scope.log_records
        return logs_service_pb2.ExportLogsServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, found: Collector) -> None:
        self.found = found

    async def Export(self, request: Any, context: object) -> Any:
        for group in request.resource_metrics:
            for scope in group.scope_metrics:
                self.found.metrics[_service(group.resource)] |= {metric.name: metric for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = grpc.aio.server()
    add: list[Any] = [  # Any: generated without types
        (trace_service_pb2_grpc.add_TraceServiceServicer_to_server, _Traces(found)),
        (logs_service_pb2_grpc.add_LogsServiceServicer_to_server, _Logs(found)),
        (metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, _Metrics(found)),
    ]
    for add_to_server, servicer in add:
        add_to_server(servicer, server)
    found.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield found
    await server.stop(0)


async def test_one_trace_from_the_call_to_the_last_effect(house: House, collector: Collector) -> None:
    """Through the outbox, the bus and the inbox, and through a row that becomes due much later."""
    await house.start("notebook", "archive", otlp_endpoint=collector.address)
    await house.start("notebook-2", kind="notebook", otlp_endpoint=collector.address,
                      notebook_address=house.running["notebook"].address)  # fmt: skip
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook-2")
    request = pb.WriteNoteRequest(text="x")
    request.remind_time.CopyFrom(wire.timestamp(START))
    await stub.WriteNote(request, metadata=(("traceparent", REMOTE),))
    await stub.ForwardNote(pb.ForwardNoteRequest(text="y"))

    async def reminded() -> bool:
        rows = await house.rows("archive", "SELECT 1 FROM archived WHERE handled = 2")
        return len(rows) == 1

    await eventually(reminded)
    await house.stop(*house.running)

    spans = collector.all_spans()
    ours = [span for span in spans if span.trace_id.hex() == REMOTE[3:35]]
    names = [span.name for span in sorted(ours, key=lambda span: int(span.start_time_unix_nano))]
    assert names[0] == "saldo.notebook.v1.NotebookService/WriteNote"
    # Both replicas may see the row while it is due: who comes second looks again, finds it done, and traces that.
    reminders = names.count("remind of notes")
    assert reminders in (1, 2)
    assert sorted(names) == [
        "handle NoteWritten", *["remind of notes"] * reminders, "saldo.notebook.v1.NotebookService/WriteNote",
    ]  # fmt: skip
    first = next(span for span in ours if span.kind == trace_service_kind("SERVER"))
    assert first.parent_span_id.hex() == REMOTE[36:52]
    assert all(span.parent_span_id == first.span_id for span in ours if span is not first)
    # What takes many at a time belongs to no single trace: it is linked to those that it comes from.
    (batch,) = [span for span in spans if span.name == "handle NoteReminded"]
    assert [link.trace_id.hex() for link in batch.links] == [REMOTE[3:35]]
    assert batch.trace_id.hex() != REMOTE[3:35]
    # A call to a neighbour: server, client, server, then what follows from it.
    forwarded = next(span for span in spans if span.name.endswith("/ForwardNote"))
    chain = [span for span in spans if span.trace_id == forwarded.trace_id]
    assert len(chain) == 4
    parents = {span.span_id: span.parent_span_id for span in chain}
    client = next(span for span in chain if span.kind == trace_service_kind("CLIENT"))
    assert parents[client.span_id] == forwarded.span_id
    assert [span.kind for span in chain if span.parent_span_id == client.span_id] == [trace_service_kind("SERVER")]


def trace_service_kind(name: str) -> int:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    kind: int = Span.SpanKind.Value(f"SPAN_KIND_{name}")
    return kind


async def test_a_refusal_marks_its_span_with_the_reason(house: House, collector: Collector) -> None:
    """And not with the name of gRPC's own exception, or whatever else passed by."""
    await house.start("notebook", otlp_endpoint=collector.address, log_level="info")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    with refused("NOTE_NOT_FOUND"):
        await stub.GetNote(pb.GetNoteRequest(id="note_1"))
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.SpoilNote(pb.SpoilNoteRequest(how="bug"))
    await stub.EchoNote(pb.EchoNoteRequest(text="x"))
    await house.stop("notebook")
    told = {span.name.rpartition("/")[2]: (span.status.code, span.status.message) for span in collector.all_spans()}
    assert told == {"GetNote": (2, "NOTE_NOT_FOUND"), "SpoilNote": (2, "RuntimeError"), "EchoNote": (0, "")}
    # The log has the same trace, so that one finds the other.
    failed = next(span for span in collector.all_spans() if span.name.endswith("SpoilNote"))
    requests = [record for record in collector.logs["notebook"] if record.body.string_value == "request"]
    assert [record.severity_text for record in requests] == ["INFO", "ERROR"]
    assert requests[1].trace_id == failed.trace_id
    attributes = {each.key: each.value.string_value for each in requests[1].attributes}
    assert attributes["trace_id"] == failed.trace_id.hex()
    assert "hunter2" in attributes["exception"]


async def test_durations_fall_into_buckets_made_for_seconds(house: House, collector: Collector) -> None:
    """The SDK's own begin at five; every call would be in the first one."""
    await house.start("notebook", otlp_endpoint=collector.address)
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    request = pb.WriteNoteRequest(text="x")
    request.remind_time.CopyFrom(wire.timestamp(START))
    await stub.WriteNote(request)
    with refused("NOTE_NOT_FOUND"):
        await stub.GetNote(pb.GetNoteRequest(id="note_1"))
    await house.quiet()
    await house.stop("notebook")
    metrics = collector.metrics["notebook"]
    for name in ("rpc.server.duration", "saldo.job.duration"):
        assert metrics[name].unit == "s"
        assert tuple(metrics[name].histogram.data_points[0].explicit_bounds) == SECONDS
    calls = {
        tuple(sorted((each.key, each.value.string_value) for each in point.attributes)): point.count
        for point in metrics["rpc.server.duration"].histogram.data_points
    }
    assert calls[("rpc.method", "WriteNote"), ("rpc.response.status_code", "OK")] == 1
    assert calls[("rpc.method", "GetNote"), ("rpc.response.status_code", "NOT_FOUND")] == 1
    published = metrics["saldo.events.published"].sum.data_points
    assert sum(point.as_int for point in published) == 2


async def test_a_collector_that_is_away_costs_nothing_but_its_data(house: House) -> None:
    """Neither calls nor the end of the service wait for it for long."""
    await house.start("notebook", otlp_endpoint="127.0.0.1:1")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    for _ in range(5):
        await stub.WriteNote(pb.WriteNoteRequest(text="x"))
    async with asyncio.timeout(20):
        await house.stop("notebook")


def test_without_a_collector_spans_still_have_a_place() -> None:
    """Their ids travel in the outbox: a trace can be picked up where somebody exports."""
    silent = Telemetry("notebook")
    assert traceparent() == ""
    with silent.span("outer", SpanKind.SERVER) as span:
        outer = span_context(traceparent())
        assert outer is not None
        assert span.get_span_context().span_id == outer.span_id
        assert outer.trace_flags.sampled
        with silent.span("inner", SpanKind.INTERNAL):
            inner = span_context(traceparent())
            assert inner is not None
            assert inner.trace_id == outer.trace_id
            assert inner.span_id != outer.span_id
            assert telemetry.trace_id() == f"{inner.trace_id:032x}"
        assert traceparent().split("-")[2] == f"{outer.span_id:016x}"
    with silent.span("continued", SpanKind.CONSUMER, parent=REMOTE):
        assert traceparent().startswith("00-0af7651916cd43dd8448eb211c80319c-")
    with silent.span("unsampled", SpanKind.CONSUMER, parent=f"{REMOTE[:-2]}00"):
        assert traceparent().endswith("-00"), "what somebody decided not to sample stays so"
    with silent.span("broken", SpanKind.CONSUMER, parent="garbage"):
        assert span_context(traceparent()) is not None
    with pytest.raises(ZeroDivisionError), silent.span("failing", SpanKind.SERVER):
        raise ZeroDivisionError
    assert traceparent() == ""


@given(st.text(max_size=80) | st.from_regex(r"00-[0-9a-fg]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}", fullmatch=True))
def test_a_malformed_traceparent_is_never_worth_a_failure(text: str) -> None:
    """It comes from outside, and tracing is not the job."""
    found = span_context(text)
    if found is not None:
        rebuilt = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        assert span_context(rebuilt) == found


def test_a_log_that_nobody_reads_harms_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output may be a pipe whose reader is gone."""

    tried = []

    class Gone:
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    Telemetry("notebook").log.error("anything", field=1)
    assert "anything" in tried[0]
