"""The bus on NATS JetStream: durable atomic batches in, pulled deliveries out, every call bounded in time."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypedDict

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError
from nats.js.manager import JetStreamManager

from common.bus.port import (
    ACK_WAIT_SECONDS,
    BATCH_MESSAGES_MAX,
    DELIVERIES_MAX,
    DUPLICATE_WINDOW_SECONDS,
    ID_HEADER,
    UNACKNOWLEDGED_MAX,
    BusUnavailable,
    Message,
    StreamSpec,
    check_size,
    encode_headers,
)
from common.bus.pull import JetStreamSubscription

log = logging.getLogger(__name__)

STREAM_BYTES_MAX = 1024**3
STREAM_AGE_SECONDS = 7 * 24 * 3600.0
BATCH_BYTES_MAX = 8 * 1024**2
# Room for several batches on their way out; the client's own 2 MiB would stall in the middle of one.
OUTBOUND_BYTES_MAX = 64 * 1024**2
RECONNECT_WAIT_SECONDS = 0.5
CLOSE_SECONDS = 2.0

ATOMIC_SINCE_VERSION = (2, 12)
STREAM_EXISTS_DIFFERENTLY = 10058
BATCH_HAS_KNOWN_ID = 10201
# Batches are switched off for this stream, or the server allows smaller ones only.
BATCH_NOT_POSSIBLE = frozenset({10174, 10199})


class JetStreamBus:
    """`atomic=False` stores one by one, equally durably and much more slowly."""

    def __init__(
        self,
        url: str,
        *,
        atomic: bool = True,
        name: str = "saldo",
        timeout_seconds: float = 5.0,
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
        stream_bytes_max: int = STREAM_BYTES_MAX,
        replicas: int = 1,
    ) -> None:
        self._url = url
        self._atomic = atomic
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._ack_wait_seconds = ack_wait_seconds
        self._stream_bytes_max = stream_bytes_max
        self._replicas = replicas
        self._nats: Client | None = None
        self._in_doubt = False

    async def connect(self) -> None:
        if self._nats is not None:
            return
        client = _Client()

        async def on_disconnected() -> None:
            if not client.is_closed:
                log.warning("connection to NATS lost")

        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.connect(
                    self._url,
                    name=self._name,
                    # The client's annotations say int; it only ever sleeps and compares with these.
                    connect_timeout=self._timeout_seconds,  # type: ignore[arg-type]
                    reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=10,
                    pending_size=OUTBOUND_BYTES_MAX,
                    flush_timeout=self._timeout_seconds,
                    error_cb=_on_error,
                    disconnected_cb=on_disconnected,
                    reconnected_cb=_on_reconnected,
                )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await _close(client)
            raise BusUnavailable(f"cannot connect within {self._timeout_seconds} s") from error
        version = client.connected_server_version
        if self._atomic and (version.major, version.minor) < ATOMIC_SINCE_VERSION:
            log.warning("this NATS server has no atomic batches: messages are stored one by one")
            self._atomic = False
        self._nats = client

    async def close(self) -> None:
        client, self._nats = self._nats, None
        if client is not None:
            await _close(client)

    async def healthy(self) -> bool:
        # A server with a disk error keeps answering pings and leaves publishes without an answer,
        # so a publish still in doubt says more than any question put to the server.
        try:
            async with asyncio.timeout(self._timeout_seconds):
                with _unknown_outcome("account info"):
                    await self._jetstream().account_info()
        except (BusUnavailable, TimeoutError):
            return False
        return not self._in_doubt

    async def ensure_stream(self, spec: StreamSpec) -> None:
        config = StreamConfig(
            name=spec.name,
            subjects=sorted(spec.subjects),
            storage=StorageType.FILE,
            # Limits, because a stream that deletes what was consumed forgets the ids with it.
            retention=RetentionPolicy.LIMITS,
            # A full stream refuses: the outbox keeps what the stream cannot take.
            discard=DiscardPolicy.NEW,
            max_age=STREAM_AGE_SECONDS,
            max_bytes=self._stream_bytes_max,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
            num_replicas=self._replicas,
            allow_atomic=True,
            deny_delete=True,
            deny_purge=True,
        )
        with _unknown_outcome(f"stream {spec.name}"):
            try:
                await self._jetstream().add_stream(config)
            except APIError as error:
                if error.err_code != STREAM_EXISTS_DIFFERENTLY:
                    raise
                await self._jetstream().update_stream(config)

    async def publish(self, stream: str, messages: Sequence[Message]) -> None:
        client = self._connected()
        headers = [encode_headers(message) for message in messages]
        for message, header in zip(messages, headers, strict=True):
            check_size(message, header, limit_bytes=client.max_payload)
        try:
            for start, end in _batches(messages):
                await self._store(stream, messages[start:end], headers[start:end])
        except BusUnavailable:
            self._in_doubt = True
            raise
        self._in_doubt = False

    async def subscribe(self, stream: str, *, durable: str, subjects: Sequence[str]) -> JetStreamSubscription:
        config = ConsumerConfig(
            name=durable,
            durable_name=durable,
            filter_subjects=sorted(set(subjects)),
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_seconds,
            max_ack_pending=UNACKNOWLEDGED_MAX,
            max_deliver=DELIVERIES_MAX,
        )

        async def create() -> None:
            with _unknown_outcome(f"durable {durable} of {stream}"):
                await self._jetstream().add_consumer(stream, config)

        async def create_if_missing() -> None:
            # Never an update: after a rolling deployment this process may know fewer subjects than the
            # one that updated the durable last.
            with _unknown_outcome(f"durable {durable} of {stream}"):
                try:
                    await self._jetstream().consumer_info(stream, durable)
                except NotFoundError:
                    await self._jetstream().add_consumer(stream, config)

        async def backlog() -> int:
            with _unknown_outcome(f"durable {durable} of {stream}"):
                # Not the client's `consumer_info`: of all it makes an object of, two numbers are wanted, often.
                reply = await self._connected().request(
                    f"$JS.API.CONSUMER.INFO.{stream}.{durable}", timeout=self._timeout_seconds
                )
            info: _Counted = json.loads(reply.data)
            if "error" in info:
                raise _Refused(stream, info["error"])
            return info.get("num_pending", 0) + info.get("num_ack_pending", 0)

        await create()
        subscription = JetStreamSubscription(
            client=self._connected,
            pull_subject=f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
            stream=stream,
            ensure_durable=create_if_missing,
            count_backlog=backlog,
        )
        await subscription.open()
        return subscription

    async def _store(self, stream: str, messages: Sequence[Message], headers: Sequence[bytes]) -> None:
        if not self._atomic or len(messages) == 1:
            await self._store_singly(stream, messages)
            return
        try:
            await self._store_together(stream, messages, headers)
        except _Refused as refusal:
            if refusal.code in BATCH_NOT_POSSIBLE:
                log.warning("stream takes no atomic batches: messages are stored one by one")
                self._atomic = False
                await self._store_singly(stream, messages)
            elif refusal.code == BATCH_HAS_KNOWN_ID:
                await self._store_the_unknown(stream, messages, headers)
            else:
                raise

    async def _store_the_unknown(self, stream: str, messages: Sequence[Message], headers: Sequence[bytes]) -> None:
        """What a stopped relay leaves behind is a known beginning and an unknown rest: try that at once."""
        known = 0
        for message in messages:
            if not await self._store_one(stream, message):
                break
            known += 1
        rest, rest_headers = messages[known + 1 :], headers[known + 1 :]
        if len(rest) > 1:
            try:
                await self._store_together(stream, rest, rest_headers)
                return
            except _Refused as refusal:
                if refusal.code != BATCH_HAS_KNOWN_ID:
                    raise
        await self._store_singly(stream, rest)

    async def _store_singly(self, stream: str, messages: Sequence[Message]) -> None:
        # Each waits for the one before: in a pipeline, one that got lost would be overtaken.
        for message in messages:
            await self._store_one(stream, message)

    async def _store_one(self, stream: str, message: Message) -> bool:
        """Whether the stream knew the message already."""
        answer = await self._ask_to_store(stream, message, {})
        return answer.get("duplicate", False)

    async def _store_together(self, stream: str, messages: Sequence[Message], headers: Sequence[bytes]) -> None:
        batch_id = uuid.uuid4().hex
        member = f"\r\nNats-Batch-Id: {batch_id}\r\nNats-Batch-Sequence: "
        commands: list[bytes] = []
        for place, message in enumerate(messages[:-1], start=1):
            header = b"NATS/1.0\r\n" + headers[place - 1][:-2] + f"{member}{place}\r\n\r\n".encode()
            size = len(header) + len(message.data)
            commands += (
                f"HPUB {message.subject}  {len(header)} {size}\r\n".encode(),
                header,
                message.data,
                b"\r\n",
            )
        # One write for the batch. The client's `publish` would do, at a third of the speed, so this is the
        # one place that goes beneath it, to what `publish` itself calls.
        with _unknown_outcome(f"stream {stream}"):
            await self._connected()._send_command(b"".join(commands))
        answer = await self._ask_to_store(
            stream,
            messages[-1],
            {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(len(messages)),
                "Nats-Batch-Commit": "1",
            },
        )
        if answer.get("count") != len(messages):
            raise BusUnavailable(f"stream {stream} acknowledged {answer.get('count')} of {len(messages)}")

    async def _ask_to_store(self, stream: str, message: Message, batch: dict[str, str]) -> _Stored:
        headers = {ID_HEADER: message.id, **message.headers, **batch, "Nats-Expected-Stream": stream}
        with _unknown_outcome(f"stream {stream}"):
            reply = await self._connected().request(
                message.subject, message.data, timeout=self._timeout_seconds, headers=headers
            )
        answer: _Stored = json.loads(reply.data)
        if "error" in answer:
            raise _Refused(stream, answer["error"])
        return answer

    def _connected(self) -> Client:
        # Nothing is handed to a client without a connection: it would keep it and send it later, when the
        # caller has long been told that the outcome is unknown and is publishing again.
        if self._nats is None or not self._nats.is_connected:
            raise BusUnavailable("not connected")
        return self._nats

    def _jetstream(self) -> JetStreamManager:
        return JetStreamManager(self._connected(), timeout=self._timeout_seconds)


class _Client(Client):
    """The client, with another reader of headers: its own spends most of a delivery's time on them."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            key = name.strip(_WHITESPACE)
            if colon and key.isascii() and key.split() == [key]:
                found[key] = value.strip(_WHITESPACE)
        return found


_WHITESPACE = " \t\n\r\x0b\x0c"


class _Error(TypedDict, total=False):
    code: int
    err_code: int
    description: str


class _Stored(TypedDict, total=False):
    error: _Error
    duplicate: bool
    count: int


class _Counted(TypedDict, total=False):
    error: _Error
    num_pending: int
    num_ack_pending: int


class _Refused(BusUnavailable):
    """The server said no. Unless somebody knows what to do about the code, the caller tries again."""

    def __init__(self, stream: str, error: _Error) -> None:
        self.code = error.get("err_code", 0)
        super().__init__(f"stream {stream} refused ({self.code}): {error.get('description', '')}")


@contextmanager
def _unknown_outcome(what: str) -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise BusUnavailable(f"{what}: {error!r}") from error


def _batches(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    start = size_bytes = 0
    for place, message in enumerate(messages):
        full = place - start == BATCH_MESSAGES_MAX or size_bytes + len(message.data) > BATCH_BYTES_MAX
        if full and place > start:
            yield start, place
            start, size_bytes = place, 0
        size_bytes += len(message.data)
    if start < len(messages):
        yield start, len(messages)


async def _close(client: Client) -> None:
    """Let acknowledgements on their way out leave, but do not wait for a server that is not there."""
    # Not the client's drain: with an unread message it waits for half a minute.
    with suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS / 2):
            if client.is_connected:
                await client.flush()
    with suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS / 2):
            await _close_for_good(client)


async def _close_for_good(client: Client) -> None:
    """Its attempt to reconnect may have been cancelled while it waited for the same socket: nobody cancelled us."""
    try:
        await client.close()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


async def _on_error(error: Exception) -> None:
    # Every failed attempt to reconnect comes by here, twice a second; that the connection is lost has been
    # said once. What matters otherwise reaches the caller as an exception.
    if isinstance(error, nats.errors.SlowConsumerError):
        log.error("deliveries dropped by the NATS client", exc_info=error)
    else:
        log.debug("NATS client error", exc_info=error)


async def _on_reconnected() -> None:
    log.info("connection to NATS is back")
