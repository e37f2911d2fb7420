"""Knows how to tell what happens: one span and one log event per request, message and job.

Every service has providers of its own, so that several can live in one process. Spans of a service that exports
nothing still have ids, which travel in the outbox: a trace can be picked up later.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets of durations: the SDK's own are made for milliseconds."""

EXPORT_EVERY_MILLISECONDS: Final = 5_000
SPAN_DELAY_MILLISECONDS: Final = 500
FLUSH_MILLISECONDS: Final = 3_000


class Telemetry:
    """The tracer, the meter and the log of one service."""

    def __init__(self, service: str, *, endpoint: str = "", level: str = "info") -> None:
        self._exporters: _Exporters | None = None
        self.meter: Meter = NoOpMeterProvider().get_meter("saldo.common")
        if endpoint:
            self._exporters = _Exporters(service, endpoint)
            self.meter = self._exporters.metrics.get_meter("saldo.common")
        self.log = _logger(service, level, self._exporters.logs if self._exporters else None)
        self.verbose = level == "debug"
        """Whether it is worth putting together what only `log.debug` would tell."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: str = "",
        links: tuple[str, ...] = (),
        attributes: Mapping[str, str | int] | None = None,
    ) -> AbstractContextManager[Span]:
        """A span that continues the `traceparent` given, or the span under way, or begins a trace.

        An exception that leaves the body marks it as failed.
        """
        if self._exporters is None:
            return _Unexported(parent)
        return _exported(self._exporters.tracer, name, kind, parent, links, attributes)

    def shutdown(self) -> None:
        """Send what is waiting, within a few seconds."""
        if self._exporters is not None:
            self._exporters.shutdown()


class _Exporters:
    """Everything that leaves for a collector."""

    def __init__(self, service: str, endpoint: str) -> None:
        # Imported here: a service that exports nothing starts without them.
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        resource = Resource.create({"service.name": service, "service.namespace": "saldo"})
        self.spans = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
        self.spans.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=2),
                max_queue_size=20_000,
                max_export_batch_size=512,
                schedule_delay_millis=SPAN_DELAY_MILLISECONDS,
            )
        )
        self.metrics = MeterProvider(
            resource=resource,
            metric_readers=[
                PeriodicExportingMetricReader(
                    OTLPMetricExporter(endpoint=endpoint, insecure=True, timeout=2),
                    export_interval_millis=EXPORT_EVERY_MILLISECONDS,
                )
            ],
            shutdown_on_exit=False,
        )
        self.logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self.logs.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint, insecure=True, timeout=2))
        )
        self.tracer = self.spans.get_tracer("saldo.common")

    def shutdown(self) -> None:
        self.spans.force_flush(FLUSH_MILLISECONDS)
        self.spans.shutdown()
        self.logs.force_flush(FLUSH_MILLISECONDS)
        self.logs.shutdown()
        self.metrics.shutdown(timeout_millis=FLUSH_MILLISECONDS)


@contextmanager
def _exported(
    tracer: trace.Tracer,
    name: str,
    kind: SpanKind,
    parent: str,
    links: tuple[str, ...],
    attributes: Mapping[str, str | int] | None,
) -> Iterator[Span]:
    known = (span_context(text) for text in links)
    with tracer.start_as_current_span(
        name,
        context=_context(parent),
        kind=kind,
        links=[Link(context) for context in known if context is not None],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


_Place = tuple[int, int, int]
"""Trace, span, flags."""

_place: ContextVar[_Place | None] = ContextVar("_place", default=None)


class _Unexported:
    """What is left of a span when nobody is told of it: its place in the trace, at a tenth of the cost."""

    __slots__ = ("_parent", "_token")

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def __enter__(self) -> Span:
        outer = _place_of(span_context(self._parent)) if self._parent else None
        if outer is None:
            outer = _here()
        # Sampled unless somebody before us has decided otherwise: those after us may export.
        trace_id, _, flags = outer or (random.getrandbits(128) or 1, 0, TraceFlags.SAMPLED)
        span_id = random.getrandbits(64) or 1
        self._token: Token[_Place | None] = _place.set((trace_id, span_id, flags))
        return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        _place.reset(self._token)


def traceparent() -> str:
    """The W3C `traceparent` of the span under way; empty outside of one."""
    here = _here()
    return "" if here is None else f"00-{here[0]:032x}-{here[1]:016x}-{here[2]:02x}"


def trace_id() -> str:
    here = _here()
    return "" if here is None else f"{here[0]:032x}"


def _here() -> _Place | None:
    return _place.get() or _place_of(trace.get_current_span().get_span_context())


def _place_of(context: SpanContext | None) -> _Place | None:
    if context is None or not context.is_valid:
        return None
    return context.trace_id, context.span_id, context.trace_flags


def span_context(text: str) -> SpanContext | None:
    """The other end of a `traceparent`; None when it is malformed, which is never worth a failure."""
    version, _, rest = text.partition("-")
    parts = rest.split("-")
    if version != "00" or len(parts) != 3 or [len(part) for part in parts] != [32, 16, 2]:
        return None
    try:
        numbers = [int(part, 16) for part in parts]
    except ValueError:
        return None
    context = SpanContext(numbers[0], numbers[1], is_remote=True, trace_flags=TraceFlags(numbers[2]))
    return context if context.is_valid else None


def _context(parent: str) -> Context | None:
    remote = span_context(parent) if parent else None
    return None if remote is None else trace.set_span_in_context(NonRecordingSpan(remote))


Event = MutableMapping[str, Any]  # Any: whatever is logged


class _Lines:
    """Standard output, a line at a time. What cannot be told, because nobody listens any more, harms nobody's work."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    debug = info = warning = error = msg


_SEVERITY: Final = {
    "debug": (logging.DEBUG, SeverityNumber.DEBUG),
    "info": (logging.INFO, SeverityNumber.INFO),
    "warning": (logging.WARNING, SeverityNumber.WARN),
    "error": (logging.ERROR, SeverityNumber.ERROR),
}


def _logger(service: str, level: str, logs: LoggerProvider | None) -> structlog.typing.FilteringBoundLogger:
    exporter = logs.get_logger("saldo.common") if logs is not None else None

    def add_context(_logger: object, _method: str, event: Event) -> Event:
        event["service"] = service
        if identity := trace_id():
            event["trace_id"] = identity
        return event

    def export(_logger: object, method: str, event: Event) -> Event:
        if exporter is not None:
            attributes = {key: str(value) for key, value in event.items() if key not in ("event", "timestamp")}
            exporter.emit(
                severity_number=_SEVERITY.get(method, _SEVERITY["error"])[1],
                severity_text=method.upper(),
                body=str(event["event"]),
                attributes=attributes,
            )
        return event

    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _Lines(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_context,
            structlog.processors.format_exc_info,
            export,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_SEVERITY[level][0]),
    )
    return logger.bind()
