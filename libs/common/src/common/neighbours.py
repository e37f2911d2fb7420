"""Knows how a service asks others: from a desk, in a caller's name, each call signed, traced and with a deadline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind

from common import errors, telemetry
from common.auth import Identity
from common.caller import Caller, current_caller
from common.db import Database, Tx
from common.errors import SaldoError, Unavailable, Violation
from common.telemetry import Telemetry

CALL_DEADLINE_SECONDS: Final = 10.0
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024


class NeighbourUnavailable(Unavailable):
    """A service that this one needs did not answer. Nothing was stored; try the same again."""


class NeighbourRefused(errors.FailedPrecondition):
    """A service that this one needs refused; `metadata` says who and why.

    `violations` are the fields that were wrong, of the request to that service. Only who made it knows whether they
    are fields of what this service was asked, too; so they are not told on.
    """

    violations: tuple[Violation, ...] = ()
    is_lasting: bool = False
    """Whether it is what was asked that is at fault: not who asked, nor the neighbour itself."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where work that needs more than one transaction is done: for a caller, with neighbours to ask in between."""

    database: Database
    caller: Caller
    neighbours: Neighbours

    def transaction(self) -> AbstractAsyncContextManager[Tx]:
        return self.database.transaction(self.caller)

    def ask(self, stub: type[StubT]) -> StubT:
        """The neighbour that answers this contract."""
        return self.neighbours.stub(stub)


StubT = TypeVar("StubT")
MessageT = TypeVar("MessageT", bound=Message)


class Neighbours:
    """The services that this one asks: a channel each, every call signed and traced, with a deadline."""

    def __init__(self, addresses: Mapping[type, str], *, identity: Identity, telemetry: Telemetry) -> None:
        interceptor = _OutgoingCalls(identity, telemetry)
        self._channels = {
            stub: grpc.aio.insecure_channel(address, interceptors=[interceptor], options=_CHANNEL_OPTIONS)
            for stub, address in addresses.items()
        }
        self._stubs = {stub: stub(channel) for stub, channel in self._channels.items()}

    def stub(self, stub: type[StubT]) -> StubT:
        found: StubT = self._stubs[stub]
        return found

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


_CHANNEL_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # gRPC shares connections by address within a process: a channel that has failed, and that nobody closed, would fail
    # every other one to the same place for as long as it rests.
    ("grpc.use_local_subchannel_pool", 1),
]


class _OutgoingCalls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, identity: Identity, telemetry: Telemetry) -> None:
        self._identity = identity
        self._telemetry = telemetry

    async def intercept_unary_unary(
        self, continuation: Any, details: Any, request: Any
    ) -> Any:  # Any: grpc's signature
        method = details.method if isinstance(details.method, str) else details.method.decode()
        with self._telemetry.span(method.lstrip("/"), SpanKind.CLIENT):
            metadata = grpc.aio.Metadata(*(details.metadata or ()))
            metadata.add("authorization", f"Bearer {self._identity.token(current_caller.get().seller_id)}")
            metadata.add("traceparent", telemetry.traceparent())
            signed = grpc.aio.ClientCallDetails(
                method=details.method,
                timeout=details.timeout or CALL_DEADLINE_SECONDS,
                metadata=metadata,
                credentials=details.credentials,
                wait_for_ready=details.wait_for_ready,
            )
            call = await continuation(signed, request)
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                raise _neighbour_error(method, error) from error


_PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)


_LASTING: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)


def _neighbour_error(method: str, error: grpc.aio.AioRpcError) -> SaldoError:
    info = error_info(error)
    if error.code() in _PASSING:
        return NeighbourUnavailable(f"{method} is not available", method=method)
    refused = NeighbourRefused(
        f"{method}: {error.details()}",
        **{
            **(info.metadata if info else {}),
            "method": method,
            "neighbour_reason": info.reason if info else error.code().name,
        },
    )
    refused.violations = _violations(error)
    refused.is_lasting = error.code() in _LASTING
    return refused


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """The reason and metadata of a refusal, as a client reads them."""
    return next(_details(error, error_details_pb2.ErrorInfo), None)


def _violations(error: grpc.aio.AioRpcError) -> tuple[Violation, ...]:
    found = next(_details(error, error_details_pb2.BadRequest), error_details_pb2.BadRequest())
    return tuple(Violation(each.field, each.description) for each in found.field_violations)


def _details(error: grpc.aio.AioRpcError, kind: type[MessageT]) -> Iterator[MessageT]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only; works on both
    for detail in status.details if status else ():
        found = kind()
        if detail.Is(found.DESCRIPTOR):
            detail.Unpack(found)
            yield found
