"""How deliveries are pulled from a durable of JetStream, through restarts and silences of the server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.bus.port import ID_HEADER, BusUnavailable, Delivery

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 2.5
"""A server that owes an answer or a heartbeat for this long has forgotten us: ask anew."""
PAUSE_SECONDS = 0.1
FETCH_BYTES_MAX = 16 * 1024**2
# More than a fetch can bring, and then a late one: the client drops what exceeds its limits.
ARRIVED_BYTES_MAX = 4 * FETCH_BYTES_MAX
ARRIVED_MESSAGES_MAX = 65_536
HEARTBEAT = "100"
NOTHING_MORE = frozenset({"404", "408"})


class JetStreamSubscription:
    """One fetch at a time; several subscriptions may share the durable."""

    def __init__(
        self,
        *,
        client: Callable[[], Client],
        pull_subject: str,
        stream: str,
        ensure_durable: Callable[[], Awaitable[None]],
        count_backlog: Callable[[], Awaitable[int]],
    ) -> None:
        self._client = client
        self._pull_subject = pull_subject
        self._stream = stream
        self._ensure_durable = ensure_durable
        self._count_backlog = count_backlog
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._fetching = False
        self._request = _Request(address="", limit=0)
        self._requests = 0
        self._heard_time = 0.0

    async def open(self) -> None:
        client = self._client()
        self._inbox = client.new_inbox()
        self._request = _Request(address="", limit=0)
        self._request.ended.set()
        self._subscription = await client.subscribe(
            f"{self._inbox}.*",
            cb=self._on_arrival,
            pending_msgs_limit=ARRIVED_MESSAGES_MAX,
            pending_bytes_limit=ARRIVED_BYTES_MAX,
        )

    async def fetch(self, limit: int, timeout_seconds: float) -> list[Delivery]:
        if self._fetching:
            raise RuntimeError("a subscription fetches once at a time; subscribe again for a second reader")
        self._fetching = True
        try:
            return await self._fetch(min(limit, ARRIVED_MESSAGES_MAX // 2), _now() + timeout_seconds)
        finally:
            self._fetching = False

    async def backlog(self) -> int:
        return await self._count_backlog()

    async def close(self) -> None:
        with suppress(BusUnavailable):
            # Others need not wait for what arrived here and nobody fetched.
            for delivery in self._take(len(self._arrived)):
                await delivery.retry(0)
            await self._leave()

    async def _fetch(self, limit: int, deadline: float) -> list[Delivery]:
        while True:
            if not self._arrived:
                try:
                    await self._ask(limit, deadline)
                except (BusUnavailable, nats.errors.Error, OSError) as error:
                    log.debug("pull failed", exc_info=error)
                    await asyncio.sleep(max(min(PAUSE_SECONDS, deadline - _now()), 0.0))
            if self._arrived or _now() >= deadline:
                return self._take(limit)

    async def _ask(self, limit: int, deadline: float) -> None:
        """First for what there is. If there is nothing, for one message to come, then for those behind it."""
        if self._is_silent():
            # Perhaps it was this process that did not come to listen.
            await asyncio.sleep(PAUSE_SECONDS)
        if self._is_silent():
            await self._leave()
            async with asyncio.timeout_at(max(deadline, _now() + HEARTBEAT_SECONDS)):
                await self._ensure_durable()
                await self.open()
        await self._pull(limit, deadline, wait=False)
        if self._arrived or deadline <= _now():
            return
        # Waiting for one only: a request for more would stay open after the first, and what it brought
        # after that would lie here unattended until the next fetch.
        await self._pull(1, deadline, wait=True)
        if self._arrived and limit > 1:
            await self._pull(limit - 1, deadline, wait=False)

    async def _pull(self, limit: int, deadline: float, *, wait: bool) -> None:
        if self._request.over:
            self._heard_time = _now()
        self._requests += 1
        self._request = request = _Request(address=f"{self._inbox}.{self._requests}", limit=limit)
        pull: dict[str, int | bool] = {"batch": limit, "max_bytes": FETCH_BYTES_MAX}
        if wait:
            seconds = deadline - _now()
            pull["expires"] = max(_nanoseconds(seconds), 1)
            if seconds > 2 * HEARTBEAT_SECONDS:
                pull["idle_heartbeat"] = _nanoseconds(HEARTBEAT_SECONDS)
        else:
            pull["no_wait"] = True
        await self._client().publish(self._pull_subject, json.dumps(pull).encode(), reply=request.address)
        # The answer to a request that does not wait is on its way, even when the time is over.
        end = deadline if wait else max(deadline, _now() + PAUSE_SECONDS)
        while not request.over and (seconds := min(end, self._silence_time()) - _now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await request.ended.wait()
        if request.refused and not self._arrived:
            # Perhaps the durable is gone.
            await self._leave()
            raise BusUnavailable(f"pull refused: {request.refused}")

    async def _on_arrival(self, message: Msg) -> None:
        self._heard_time = _now()
        request = self._request
        if message.reply:
            self._arrived.append(message)
            request.limit -= 1
            if request.limit <= 0:
                request.ended.set()
        elif message.subject == request.address:
            headers = message.headers or {}
            status = headers.get("Status", "")
            if status != HEARTBEAT:
                # Also how a batch ends that is complete, or as many bytes as one may have.
                if status not in NOTHING_MORE:
                    request.refused = f"{status} {headers.get('Description', '')}"
                request.ended.set()

    def _take(self, limit: int) -> list[Delivery]:
        return [
            _delivery(self._client, self._stream, self._arrived.popleft())
            for _ in range(min(limit, len(self._arrived)))
        ]

    async def _leave(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def _is_silent(self) -> bool:
        return self._subscription is None or (not self._request.over and _now() >= self._silence_time())

    def _silence_time(self) -> float:
        return self._heard_time + SILENCE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamDelivery:
    id: str
    subject: str
    headers: Mapping[str, str]
    data: bytes
    attempt: int
    sequence: int
    reply: str
    client: Callable[[], Client]

    async def ack(self) -> None:
        await self._answer(b"+ACK")

    async def retry(self, delay_seconds: float) -> None:
        delay = json.dumps({"delay": _nanoseconds(delay_seconds)})
        await self._answer(b"-NAK " + delay.encode() if delay_seconds > 0 else b"-NAK")

    async def working(self) -> None:
        await self._answer(b"+WPI")

    async def terminate(self, reason: str) -> None:
        await self._answer(b"+TERM " + " ".join(reason.split()).encode())

    async def _answer(self, payload: bytes) -> None:
        # An answer that does not get through means another delivery, which everyone must expect anyway.
        with suppress(BusUnavailable, nats.errors.Error, OSError):
            await self.client().publish(self.reply, payload)


@dataclass(slots=True, kw_only=True)
class _Request:
    """One pull and what has become of it; its address tells its answers from those to earlier ones."""

    address: str
    limit: int
    refused: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        return self.ended.is_set()


def _delivery(client: Callable[[], Client], stream: str, message: Msg) -> JetStreamDelivery:
    # $JS.ACK.[<domain>.<account>.]<stream>.<durable>.<attempt>.<sequence>.<…>
    tokens = message.reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    sequence = int(tokens[first + 1])
    headers = message.headers or {}
    return JetStreamDelivery(
        id=headers.get(ID_HEADER, f"{stream}-{sequence}"),
        subject=message.subject,
        headers={name: value for name, value in headers.items() if not name.startswith("Nats-")},
        data=message.data,
        attempt=int(tokens[first]),
        sequence=sequence,
        reply=message.reply,
        client=client,
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _now() -> float:
    return asyncio.get_running_loop().time()
