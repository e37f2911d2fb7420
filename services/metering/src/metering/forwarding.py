"""Knows how a replica that does not own a seller's shard hands on to the one that does what is to be written there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind

from common import telemetry
from common.auth import Unauthenticated
from common.caller import Caller, current_caller
from common.db import DatabaseUnavailable
from common.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, SaldoError, reason_of
from common.rpc import CALL_DEADLINE_SECONDS, MESSAGE_BYTES_MAX, ConcurrentUpdate, RequestIdReused, error_info
from common.telemetry import Telemetry
from metering.domain.errors import (
    BackfillAmended,
    BackfillFull,
    BackfillIncomplete,
    BackfillNotFound,
    BackfillNotOpen,
    EventInFuture,
    IngestMoving,
    IngestOverloaded,
    QuotaReservationEnded,
    QuotaReservationExpired,
    QuotaReservationNotFound,
    TooManyAmendments,
    UsageArchived,
    UsageEventNotFound,
    UsageEventVoided,
)
from metering.log import Log, Shard
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import quota_pb2

FORWARDED: Final = "saldo-forwarded"
"""The mark of a call that another replica has handed on: it goes no further."""
WAITING_BYTES_MAX: Final = 128 << 20
"""Of requests that are handed on and not answered; more is refused."""
OWNER_SECONDS_MAX: Final = 5
"""For how long an owner is looked for."""
PAUSE_SECONDS: Final = 0.1
ADDRESS_SECONDS: Final = 0.1
"""How old an address may be."""
ADDRESSES_MAX: Final = 64
"""As many as there may be shards."""
RETRY_SECONDS: Final = 1
ResultT = TypeVar("ResultT")
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[ResponseT]):
    """An RPC that only the owner carries out."""

    name: str
    """With that of its service."""
    response: type[ResponseT]


INGEST: Final = Method(name="saldo.metering.v1.MeteringService/IngestEvents", response=pb.IngestEventsResponse)
VOID: Final = Method(name="saldo.metering.v1.CorrectionService/VoidEvent", response=corrections.EventHistory)
AMEND: Final = Method(name="saldo.metering.v1.CorrectionService/AmendEvent", response=corrections.EventHistory)
CLOSE_BACKFILL: Final = Method(name="saldo.metering.v1.BackfillService/CloseBackfill", response=backfills.Backfill)
COMMIT_QUOTA: Final = Method(name="saldo.metering.v1.QuotaService/CommitQuota", response=quota_pb2.QuotaReservation)
REVERT_BACKFILL: Final = Method(name="saldo.metering.v1.BackfillService/RevertBackfill", response=backfills.Backfill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who sends usage events, and what a replica needs to ask another one in their name."""

    caller: Caller
    authorization: str
    is_forwarded: bool

    @classmethod
    def of(cls, context: Any) -> Call:  # Any: the context of gRPC, which has no usable type
        told = dict(context.invocation_metadata() or ())
        return cls(
            caller=current_caller.get(),
            authorization=told.get("authorization", ""),
            is_forwarded=FORWARDED in told,
        )


class Forwarding:
    def __init__(self, log: Log, *, address: Callable[[], str], telemetry: Telemetry) -> None:
        """`address` is our own, as the other replicas know it."""
        self._log = log
        self._own_address = address
        self._telemetry = telemetry
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._waiting_bytes = 0
        self._reading = asyncio.Lock()
        self._owner_addresses: Mapping[int, str] = {}
        self._read_time = -ADDRESS_SECONDS

    async def answer(self, request: Message, call: Call, method: Method[ResponseT]) -> ResponseT | None:
        """What the owner answers; None when we are the owner.

        Fails with IngestMoving when there is none, or none that can be reached. It may have stored what was sent all
        the same: whoever sends it again, we or the sender, is told that it is a repeat.
        """
        shard = await self._log.shard_of(call.caller.seller_id)
        if shard.owned.is_set():
            return None
        if call.is_forwarded:
            _check_owned(shard)
        size = request.ByteSize()
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise IngestOverloaded("too much is waiting for the replica that stores", retry_seconds=RETRY_SECONDS)
        self._waiting_bytes += size
        try:
            return await self._answer(request, call, method, shard)
        finally:
            self._waiting_bytes -= size

    async def check_owned(self, seller_id: str) -> None:
        """Fails with IngestMoving unless it is this replica that stores a seller's."""
        _check_owned(await self._log.shard_of(seller_id))

    async def close(self) -> None:
        for each in self._channels.values():
            await each.close()

    async def _answer(self, request: Message, call: Call, method: Method[ResponseT], shard: Shard) -> ResponseT | None:
        owned = shard.owned
        give_up = time.monotonic() + OWNER_SECONDS_MAX
        while not owned.is_set():
            address = await self._address(shard)
            if address and address != self._own_address():
                response = await _unless(owned, self._ask(address, request, call, method))
                if response is not None:
                    return response
            if time.monotonic() > give_up:
                raise _moving("another replica stores usage events, and cannot be reached")
            await _unless(owned, asyncio.sleep(PAUSE_SECONDS))
        return None

    async def _ask(self, address: str, request: Message, call: Call, method: Method[ResponseT]) -> ResponseT | None:
        """None when there is no answer."""
        ask: Any = self._channel(address).unary_unary(  # Any: typed for synchronous calls only
            f"/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.response.FromString,
        )
        with self._telemetry.span(method.name, SpanKind.CLIENT):
            metadata = (
                ("authorization", call.authorization),
                ("traceparent", telemetry.traceparent()),
                (FORWARDED, "1"),
            )
            try:
                response: ResponseT = await ask(request, metadata=metadata, timeout=CALL_DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                refusal = _refusal(error)
                if refusal is None:
                    return None
                raise refusal from error
            return response

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            if len(self._channels) >= ADDRESSES_MAX:
                self._channels.pop(next(iter(self._channels)))  # closed when the last call on it has ended
            channel = self._channels[address] = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        return channel

    async def _address(self, shard: Shard) -> str:
        """The owner's, as it stands in the database; the last one known while that is away."""
        async with self._reading:
            if time.monotonic() - self._read_time >= ADDRESS_SECONDS:
                with suppress(DatabaseUnavailable):
                    self._owner_addresses = await self._log.owner_addresses()
                self._read_time = time.monotonic()
            return self._owner_addresses.get(shard.number, "")


def _check_owned(shard: Shard) -> None:
    if not shard.owned.is_set():
        raise _moving("this replica does not store usage events any more, or not yet")


async def _unless(event: asyncio.Event, work: Coroutine[object, object, ResultT]) -> ResultT | None:
    """What the work gives; None when it was broken off because of the event."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


def _refusal(error: grpc.aio.AioRpcError) -> SaldoError | None:
    """What the owner refused with, to be told on; None when it is not the owner, or not there."""
    info = error_info(error)
    message = error.details() or ""
    if info is None:
        return None
    if info.reason == reason_of(IngestOverloaded):
        return IngestOverloaded(message, retry_seconds=RETRY_SECONDS, **info.metadata)
    if info.reason in _REFUSALS:
        return _REFUSALS[info.reason](message, **info.metadata)
    if info.reason == reason_of(EventInFuture):
        return EventInFuture(message, field=_field(error))
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidArgument(message, field=_field(error))
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return Unauthenticated(message)  # a stream may live longer than its token
    return None


def _field(error: grpc.aio.AioRpcError) -> str:
    bad = error_details_pb2.BadRequest()
    told = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only; works on both
    for detail in told.details if told else ():
        detail.Unpack(bad)
    return bad.field_violations[0].field if bad.field_violations else ""


def _moving(message: str) -> IngestMoving:
    return IngestMoving(message, retry_seconds=RETRY_SECONDS)


_REFUSALS: Final[Mapping[str, type[NotFound | FailedPrecondition | Aborted]]] = {
    reason_of(each): each
    for each in (
        *(UsageEventNotFound, UsageEventVoided, TooManyAmendments, RequestIdReused, ConcurrentUpdate),
        *(BackfillNotFound, BackfillNotOpen, BackfillFull, BackfillIncomplete, BackfillAmended, UsageArchived),
        *(QuotaReservationNotFound, QuotaReservationExpired, QuotaReservationEnded),
    )
}
"""Of corrections, backfills and commits of quota."""
_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # An owner that is gone is given up at once: the next one is not far.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
)
