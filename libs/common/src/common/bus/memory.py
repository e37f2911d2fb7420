"""A bus within one process, as faithful as a real one and, on request, as unkind."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.bus.port import (
    ACK_WAIT_SECONDS,
    DELIVERIES_MAX,
    DUPLICATE_WINDOW_SECONDS,
    PAYLOAD_BYTES_MAX,
    UNACKNOWLEDGED_MAX,
    BusUnavailable,
    Delivery,
    Message,
    StreamSpec,
    check_size,
    encode_headers,
)

REORDER_WINDOW = 16
"""How far a message may overtake those before it."""


class MemoryBus:
    """Streams and durables live in this object; every service of the process connects to the same one.

    Faults are probabilities, drawn from the seed: a delivery comes twice (`duplicate`), out of order
    (`reorder`), only after the acknowledgement wait (`lose`), or again because its acknowledgement went
    missing (`ack_loss`).
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        lose: float = 0.0,
        ack_loss: float = 0.0,
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
        duplicate_window_seconds: float = DUPLICATE_WINDOW_SECONDS,
    ) -> None:
        for probability in (duplicate, reorder, lose, ack_loss):
            if not 0.0 <= probability < 1.0:
                raise ValueError("a fault that always strikes lets nothing through: probabilities are below 1")
        self._faults = _Faults(
            random=random.Random(seed), duplicate=duplicate, reorder=reorder, lose=lose, ack_loss=ack_loss
        )
        self._ack_wait_seconds = ack_wait_seconds
        self._duplicate_window_seconds = duplicate_window_seconds
        self._streams: dict[str, _Stream] = {}

    async def connect(self) -> None:
        """Nothing to do: the bus is there as long as the object is."""

    async def close(self) -> None:
        """Nothing to do: other services may still be using it."""

    async def healthy(self) -> bool:
        return True

    async def ensure_stream(self, spec: StreamSpec) -> None:
        if spec.name in self._streams:
            self._streams[spec.name].spec = spec
        else:
            self._streams[spec.name] = _Stream(spec=spec)

    async def publish(self, stream: str, messages: Sequence[Message]) -> None:
        for message in messages:
            check_size(message, encode_headers(message), limit_bytes=PAYLOAD_BYTES_MAX)
        target = self._streams.get(stream)
        for message in messages:
            if target is None or not any(subject_matches(s, message.subject) for s in target.spec.subjects):
                raise BusUnavailable(f"stream {stream} does not take {message.subject}")
        # Like a server: others run while the messages travel.
        await asyncio.sleep(0)
        if target is not None:
            target.store(messages, now=_now(), duplicate_window_seconds=self._duplicate_window_seconds)

    async def subscribe(self, stream: str, *, durable: str, subjects: Sequence[str]) -> MemorySubscription:
        source = self._streams.get(stream)
        if source is None:
            raise BusUnavailable(f"there is no stream {stream}")
        if durable in source.durables:
            source.durables[durable].filter_by(subjects)
        else:
            source.durables[durable] = _Durable(
                stored=source.stored,
                subjects=tuple(subjects),
                faults=self._faults,
                ack_wait_seconds=self._ack_wait_seconds,
            )
        return MemorySubscription(source.durables[durable])

    def published(self, stream: str) -> list[Message]:
        """Everything the stream has stored, in order."""
        return list(self._streams[stream].stored) if stream in self._streams else []

    def published_counts(self) -> dict[str, int]:
        """How many messages each stream has stored."""
        return {name: len(stream.stored) for name, stream in self._streams.items()}


class MemorySubscription:
    def __init__(self, durable: _Durable) -> None:
        self._durable = durable

    async def fetch(self, limit: int, timeout_seconds: float) -> list[Delivery]:
        deadline = _now() + timeout_seconds
        # Like a server: others run while the messages travel.
        await asyncio.sleep(0)
        while True:
            now = _now()
            if taken := self._durable.take(limit, now=now):
                return list(taken)
            if now >= deadline:
                return []
            await self._durable.wait(min(deadline, self._durable.next_redelivery_time()) - now)

    async def backlog(self) -> int:
        return self._durable.backlog()

    async def close(self) -> None:
        """Nothing to do: what was left unsettled here goes to others after the acknowledgement wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDelivery:
    id: str
    subject: str
    headers: Mapping[str, str]
    data: bytes
    attempt: int
    sequence: int
    durable: _Durable

    async def ack(self) -> None:
        self.durable.ack(self.sequence)

    async def retry(self, delay_seconds: float) -> None:
        self.durable.redeliver_at(self.sequence, _now() + delay_seconds)

    async def working(self) -> None:
        self.durable.redeliver_at(self.sequence, _now() + self.durable.ack_wait_seconds)

    async def terminate(self, reason: str) -> None:
        self.durable.settle(self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Faults:
    random: random.Random
    duplicate: float
    reorder: float
    lose: float
    ack_loss: float

    def strikes(self, probability: float) -> bool:
        # No draw for a fault that is off: switching one on leaves the others' choices as they were.
        return probability > 0.0 and self.random.random() < probability


@dataclass(slots=True, kw_only=True)
class _Stream:
    spec: StreamSpec
    stored: list[Message] = field(default_factory=list)
    stored_time: dict[str, float] = field(default_factory=dict)
    durables: dict[str, _Durable] = field(default_factory=dict)

    def store(self, messages: Sequence[Message], *, now: float, duplicate_window_seconds: float) -> None:
        for message in messages:
            known = self.stored_time.get(message.id)
            if known is None or now - known >= duplicate_window_seconds:
                self.stored_time[message.id] = now
                self.stored.append(message)
        for durable in self.durables.values():
            durable.wake()


@dataclass(slots=True, kw_only=True)
class _Durable:
    """How far one consumer has come in a stream, and what it has yet to acknowledge."""

    stored: list[Message]
    subjects: tuple[str, ...]
    faults: _Faults
    ack_wait_seconds: float
    passed: int = 0
    overtaken: deque[int] = field(default_factory=deque)
    echoes: deque[int] = field(default_factory=deque)
    attempts: dict[int, int] = field(default_factory=dict)
    redelivery_time: dict[int, float] = field(default_factory=dict)
    timetable: list[tuple[float, int]] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def take(self, limit: int, *, now: float) -> list[MemoryDelivery]:
        """Redeliveries that are due before anything new, as a server does it."""
        taken = []
        for sequence in itertools.chain(self._echoed(), self._due(now), self._fresh()):
            self.attempts[sequence] = attempt = self.attempts.get(sequence, 0) + 1
            self._schedule(sequence, now + self.ack_wait_seconds)
            if self.faults.strikes(self.faults.lose):
                continue
            if self.faults.strikes(self.faults.duplicate):
                self.echoes.append(sequence)
            message = self.stored[sequence - 1]
            taken.append(
                MemoryDelivery(
                    id=message.id,
                    subject=message.subject,
                    headers=dict(message.headers),
                    data=message.data,
                    attempt=attempt,
                    sequence=sequence,
                    durable=self,
                )
            )
            if len(taken) == limit:
                break
        return taken

    def ack(self, sequence: int) -> None:
        if not self.faults.strikes(self.faults.ack_loss):
            self.settle(sequence)

    def settle(self, sequence: int) -> None:
        self.redelivery_time.pop(sequence, None)
        self.wake()

    def redeliver_at(self, sequence: int, time: float) -> None:
        if sequence in self.redelivery_time:
            self._schedule(sequence, time)
            self.wake()

    def filter_by(self, subjects: Sequence[str]) -> None:
        self.subjects = tuple(subjects)
        self.overtaken = deque(sequence for sequence in self.overtaken if self._wants(sequence))
        self.wake()

    def backlog(self) -> int:
        unread = sum(1 for sequence in range(self.passed + 1, len(self.stored) + 1) if self._wants(sequence))
        echoes = sum(1 for sequence in set(self.echoes) if sequence not in self.redelivery_time)
        return unread + len(self.overtaken) + len(self.redelivery_time) + echoes

    def next_redelivery_time(self) -> float:
        return self.timetable[0][0] if self.timetable else float("inf")

    async def wait(self, seconds: float) -> None:
        """Until something may have become deliverable, but not longer."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=max(seconds, 0.0))
        finally:
            if waiter in self.waiting:
                self.waiting.remove(waiter)

    def wake(self) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
        self.waiting.clear()

    def _echoed(self) -> Iterator[int]:
        # Only those that were there at the beginning: an echo may echo, but in a later fetch.
        for _ in range(len(self.echoes)):
            yield self.echoes.popleft()

    def _due(self, now: float) -> Iterator[int]:
        while self.timetable and self.timetable[0][0] <= now:
            time, sequence = heapq.heappop(self.timetable)
            if self.redelivery_time.get(sequence) != time:
                continue
            if self.attempts[sequence] >= DELIVERIES_MAX:
                self.settle(sequence)
                continue
            yield sequence

    def _fresh(self) -> Iterator[int]:
        while len(self.redelivery_time) < UNACKNOWLEDGED_MAX:
            reach = 1
            if self.faults.strikes(self.faults.reorder):
                reach = REORDER_WINDOW
            while len(self.overtaken) < reach and self.passed < len(self.stored):
                self.passed += 1
                if self._wants(self.passed):
                    self.overtaken.append(self.passed)
            if not self.overtaken:
                return
            place = self.faults.random.randrange(len(self.overtaken)) if reach > 1 else 0
            sequence = self.overtaken[place]
            del self.overtaken[place]
            yield sequence

    def _schedule(self, sequence: int, time: float) -> None:
        self.redelivery_time[sequence] = time
        heapq.heappush(self.timetable, (time, sequence))

    def _wants(self, sequence: int) -> bool:
        subject = self.stored[sequence - 1].subject
        return any(subject_matches(pattern, subject) for pattern in self.subjects)


def subject_matches(pattern: str, subject: str) -> bool:
    """`*` stands for one token, a final `>` for one or more."""
    tokens = subject.split(".")
    for place, wanted in enumerate(pattern.split(".")):
        if wanted == ">":
            return len(tokens) > place
        if place >= len(tokens) or wanted not in ("*", tokens[place]):
            return False
    return len(tokens) == pattern.count(".") + 1


def _now() -> float:
    return asyncio.get_running_loop().time()
