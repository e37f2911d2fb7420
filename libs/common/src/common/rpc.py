"""Knows the way of a call, in and out: who asks, one transaction, one answer or one explained refusal.

`@transactional` makes an RPC method of `async def X(self, request, tx)`: begin, run, commit, answer; a request that
carries a `request_id` is carried out once (AIP-155). A method that talks to the outside is not decorated, takes
`(self, request, context)` as gRPC has it, and opens its transactions at a `Desk`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, get_type_hints

import asyncpg
import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind, Status, StatusCode
from sqlalchemy.exc import DBAPIError

from common import errors, telemetry
from common.auth import READING_VERBS, Audience, Unauthenticated, Verifier, admit, audience_of
from common.bus import BusUnavailable
from common.caller import Caller, current_caller
from common.crash import crashpoint
from common.db import Database, Tx
from common.errors import InvalidArgument, Kind, ResourceExhausted, SaldoError, Unavailable
from common.neighbours import (
    CALL_DEADLINE_SECONDS,
    MESSAGE_BYTES_MAX,
    Desk,
    NeighbourRefused,
    Neighbours,
    NeighbourUnavailable,
    error_info,
)
from common.outbox import Answer
from common.telemetry import SECONDS, Telemetry

__all__ = [
    "CALL_DEADLINE_SECONDS",
    "MESSAGE_BYTES_MAX",
    "ConcurrentUpdate",
    "Desk",
    "IncomingCalls",
    "NeighbourRefused",
    "NeighbourUnavailable",
    "Neighbours",
    "RequestIdReused",
    "error_info",
    "open_to",
    "transactional",
]

REQUEST_ID_LENGTH_MAX: Final = 128

STATUS: Final[Mapping[Kind, grpc.StatusCode]] = {
    Kind.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.ABORTED: grpc.StatusCode.ABORTED,
    Kind.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}


class RequestIdReused(errors.FailedPrecondition):
    """The same request_id came before with another content. One id stands for one command."""


class ConcurrentUpdate(errors.Aborted):
    """The database chose another transaction over this one. Nothing was stored; try the same again."""


Response = TypeVar("Response", bound=Message)


class HasDatabase(Protocol):
    """What an api class must have for `@transactional`."""

    @property
    def database(self) -> Database: ...


ApiT = TypeVar("ApiT", bound=HasDatabase)
RequestT = TypeVar("RequestT", bound=Message)
Handler = Callable[[ApiT, RequestT, Tx], Awaitable[Response]]
Method = Callable[[ApiT, RequestT, Any], Awaitable[Response]]  # Any: the context of gRPC, which has no usable type


def transactional(handler: Handler[ApiT, RequestT, Response]) -> Method[ApiT, RequestT, Response]:
    """One call, one transaction: the gRPC method around a handler of `(self, request, tx)`."""
    # An inner method of an RPC that asks a neighbour first is called `_Create…`; on record it is the RPC.
    name = handler.__name__.lstrip("_")
    only_reads = name.startswith(READING_VERBS)

    @functools.wraps(handler)
    async def method(self: ApiT, request: RequestT, context: Any) -> Response:  # Any: see Method
        caller = current_caller.get()
        async with self.database.transaction(caller, only_reads=only_reads) as tx:
            request_id = getattr(request, "request_id", "")
            if not request_id:
                response = await handler(self, request, tx)
                crashpoint("rpc.before_commit")
            else:
                response = await _once(tx, name, request_id, request, handler, self)
        crashpoint("rpc.committed")
        return response

    return method


def open_to(audience: Audience) -> Callable[[Method[ApiT, RequestT, Response]], Method[ApiT, RequestT, Response]]:
    """Declare who may call an RPC, where the verb of its name does not say it."""

    def declare(method: Method[ApiT, RequestT, Response]) -> Method[ApiT, RequestT, Response]:
        method.__dict__["audience"] = audience
        return method

    return declare


async def _once(
    tx: Tx,
    method: str,
    request_id: str,
    request: RequestT,
    handler: Handler[ApiT, RequestT, Response],
    api: ApiT,
) -> Response:
    """Carry the command out, or answer what the first one answered. A twin waits here for the first to commit."""
    if len(request_id) > REQUEST_ID_LENGTH_MAX or not request_id.isprintable():
        message = f"must be at most {REQUEST_ID_LENGTH_MAX} printable characters"
        raise InvalidArgument(message, field="request_id")
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    key = (tx.seller_id, method, request_id)
    claimed = await tx.driver.fetchval(
        "INSERT INTO requests (seller_id, method, request_id, digest) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING RETURNING true",
        *key,
        digest,
    )
    if not claimed:
        row = await tx.driver.fetchrow(
            "SELECT digest, response FROM requests WHERE seller_id = $1 AND method = $2 AND request_id = $3", *key
        )
        assert row is not None
        if row["digest"] != digest:
            raise RequestIdReused(f"request_id {request_id} was used for another command", request_id=request_id)
        kind: type[Response] = _response_type(handler)
        return kind.FromString(await api.database.answers.told(tx, row["response"]))
    response = await handler(api, request, tx)
    kept = await api.database.answers.kept(tx, request, response)
    tx.remember(Answer(seller_id=tx.seller_id, method=method, request_id=request_id, response=kept))
    crashpoint("rpc.before_commit")
    return response


@functools.cache
def _response_type(handler: Callable[..., object]) -> Any:  # Any: the annotation says which message it is
    module = inspect.getmodule(handler)
    return get_type_hints(handler, vars(module) if module else None)["return"]


class FoundByName:
    """Where contracts put their methods: in a server that finds the one that is called by its name. One that is also
    registered the server waits for by itself: with fifty of them every call sets up fifty waits, and takes them away.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same that come as generic ones."""


class IncomingCalls(grpc.aio.ServerInterceptor):
    """The one interceptor: token, span, log event, error table. Health and reflection pass, nothing else does."""

    def __init__(self, service: str, *, verifier: Verifier, telemetry: Telemetry, callers: Collection[str]) -> None:
        self._service = service
        self._verifier = verifier
        self._telemetry = telemetry
        self._callers = callers
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}  # Any: of any method
        self._duration = telemetry.meter.create_histogram(
            "rpc.server.duration", unit="s", explicit_bucket_boundaries_advisory=SECONDS
        )
        self.in_flight = 0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:  # Any: grpc's signature
        method: str = details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(details)
        if handler is None or method.startswith("/grpc."):
            return handler
        # Without a deserializer: gRPC's own would read requests of strangers, and answers garbage with UNKNOWN.
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            wrapped = grpc.stream_stream_rpc_method_handler(
                self._around_stream(method, handler.stream_stream, parse), response_serializer=serialize
            )
        else:
            assert handler.unary_unary is not None, "streams of one side are not served yet"
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._around(method, handler.unary_unary, parse), response_serializer=serialize
            )
        self._wrapped[method] = wrapped
        return wrapped

    def _around_stream(self, method: str, behaviour: Any, parse: Any) -> Any:  # Any: as below
        """A stream is one call: one token, one span, one log event. It ends with the first failure."""

        async def answers(requests: AsyncIterator[bytes], context: Any) -> None:  # Any: see Method
            async def parsed() -> AsyncIterator[Message]:
                async for raw in requests:
                    yield _parsed(parse, raw)

            async with aclosing(behaviour(parsed(), context)) as responses:
                async for each in responses:
                    await context.write(each)

        return self._around(method, answers, lambda requests: requests, named=behaviour)

    def _around(  # Any: grpc's behaviours are not typed
        self, method: str, behaviour: Any, parse: Any, *, named: Any = None
    ) -> Any:
        name = method.rpartition("/")[2]
        audience: Audience = getattr(named or behaviour, "audience", None) or audience_of(name)
        span_name = method.lstrip("/")
        well = {"rpc.method": name, "rpc.response.status_code": "OK"}

        async def around(raw: bytes, context: Any) -> Message:  # Any: see Method
            started = time.perf_counter()
            self.in_flight += 1
            code = "CANCELLED"  # unless it comes to an end
            caller: Caller | None = None
            failure: Exception | None = None
            authorization, traceparent = _told(context)
            try:
                with self._telemetry.span(span_name, SpanKind.SERVER, parent=traceparent) as span:
                    try:
                        caller = self._verifier.caller(_bearer(authorization))
                        admit(caller, audience, services=self._callers)
                        current_caller.set(caller)
                        response: Message = await behaviour(_parsed(parse, raw), context)
                        code = "OK"
                        return response
                    except Exception as error:
                        failure = error
                        status = self._status(error)
                        code = status.code.name
                        span.set_status(Status(StatusCode.ERROR, status.reason))
                    finally:
                        # Inside the span, so that the log event carries its trace.
                        duration = time.perf_counter() - started
                        self._duration.record(
                            duration,
                            well if code == "OK" else {"rpc.method": name, "rpc.response.status_code": code},
                        )
                        if failure is not None or code != "OK" or self._telemetry.verbose:
                            self._log(method, code, caller, duration, failure)
                        # It leads to this frame, and so to the request: neither would be freed before a collection.
                        failure = None
            finally:
                self.in_flight -= 1
            await _abort(context, status)
            raise AssertionError("abort raises")

        return around

    def _status(self, error: Exception) -> _Status:
        known = _as_saldo_error(error)
        if known is None:
            return _Status(
                code=grpc.StatusCode.INTERNAL,
                reason=type(error).__name__,
                message=f"internal error; trace {telemetry.trace_id()}",
                details=(),
            )
        return _Status(
            code=STATUS[known.kind],
            reason=known.reason,
            message=known.message,
            details=_details(known, self._service),
        )

    def _log(self, method: str, code: str, caller: Caller | None, duration: float, failure: Exception | None) -> None:
        fields: dict[str, object] = {"method": method, "code": code, "duration_ms": round(duration * 1000, 2)}
        if caller is not None:
            fields |= {"seller_id": caller.seller_id, "actor": caller.actor}
        log = self._telemetry.log
        if failure is None:
            # Nobody waits any more for a call that was cancelled.
            (log.debug if code == "OK" else log.info)("request", **fields)
        elif code == "INTERNAL":
            log.error("request", **fields, exc_info=failure)
        else:
            known = _as_saldo_error(failure)
            log.info("request", **fields, reason=known.reason if known else "", error=str(failure)[:500])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Status:
    code: grpc.StatusCode
    reason: str
    message: str
    details: tuple[Message, ...]


async def _abort(context: Any, status: _Status) -> None:  # Any: see Method
    packed = []
    for detail in status.details:
        anything = any_pb2.Any()
        anything.Pack(detail)
        packed.append(anything)
    number = getattr(code_pb2, status.code.name)
    await context.abort_with_status(
        rpc_status.to_status(status_pb2.Status(code=number, message=status.message, details=packed))
    )


def _details(error: SaldoError, service: str) -> tuple[Message, ...]:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=f"saldo.{service}", metadata=error.metadata)
    if isinstance(error, InvalidArgument):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.description)
            for each in error.violations
        ]
        return info, error_details_pb2.BadRequest(field_violations=violations)
    if isinstance(error, Unavailable | ResourceExhausted) and error.retry_seconds is not None:
        return info, error_details_pb2.RetryInfo(retry_delay=Duration(seconds=error.retry_seconds))
    return (info,)


_CONFLICTS: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


def _as_saldo_error(error: BaseException) -> SaldoError | None:
    if isinstance(error, SaldoError):
        return error
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(cause, _CONFLICTS):
        return ConcurrentUpdate("another transaction was faster; nothing was stored")
    if isinstance(cause, BusUnavailable):
        return Unavailable("the event bus does not answer")
    if isinstance(cause, asyncpg.QueryCanceledError):
        return Unavailable("the database took too long; nothing was stored")
    return None


def _told(context: Any) -> tuple[str, str]:  # Any: see Method
    """What a call says about itself beside its request: `authorization` and `traceparent`."""
    authorization = traceparent = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            authorization = value
        elif key == "traceparent":
            traceparent = value
    return authorization, traceparent


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("a bearer token is required in the metadata `authorization`")
    return token


def _parsed(parse: Any, raw: bytes) -> Message:  # Any: a message's own FromString
    try:
        request: Message = parse(raw)
    except DecodeError:
        raise InvalidArgument("is not what the contract says", field="request") from None
    return request
