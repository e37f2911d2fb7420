"""What the bus promises: stored once per stream, in order; delivered to each durable at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# The figures below belong to the promise: every implementation keeps them.
ACK_WAIT_SECONDS = 30.0
DELIVERIES_MAX = 1_000
"""A far bound behind the one that decides: a consumer puts a message among its dead letters long before
(after 8 deliveries) and acknowledges it. What ever reaches this bound stays in the stream, undelivered."""
UNACKNOWLEDGED_MAX = 10_000
DUPLICATE_WINDOW_SECONDS = 600.0
BATCH_MESSAGES_MAX = 1_000
PAYLOAD_BYTES_MAX = 1024 * 1024
ID_HEADER = "Nats-Msg-Id"


class BusUnavailable(Exception):
    """Nobody knows whether the messages were stored; publishing the same ones again settles it."""


class MessageTooLarge(Exception):
    """The message can never be stored. Nothing of its batch was."""

    def __init__(self, message_id: str, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"message {message_id} has {size_bytes} bytes with its headers, more than {limit_bytes}")
        self.message_id = message_id
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is published. A stream stores an id at most once within its duplicate window."""

    id: str
    subject: str
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    name: str
    subjects: tuple[str, ...]


class Delivery(Protocol):
    """One arrival of a message at a durable. Settling it is a request: a lost one means another delivery."""

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def data(self) -> bytes: ...
    @property
    def attempt(self) -> int:
        """1 on the first delivery to this durable."""

    @property
    def sequence(self) -> int:
        """The message's place in its stream, from 1."""

    async def ack(self) -> None:
        """Done with it. Not a guarantee that it never comes back: effects must be idempotent."""

    async def retry(self, delay_seconds: float) -> None:
        """Deliver it again, not before the delay is over."""

    async def working(self) -> None:
        """Start the acknowledgement wait anew."""

    async def terminate(self, reason: str) -> None:
        """Never deliver it again to this durable, and tell the operators' log why."""


class Subscription(Protocol):
    """A place at a durable. Several may share one; each message goes to one of them."""

    async def fetch(self, limit: int, timeout_seconds: float) -> list[Delivery]:
        """Up to `limit` messages, as soon as there is one; none when the time is over or the bus is away."""

    async def backlog(self) -> int:
        """Messages of this durable not yet acknowledged, delivered or not."""

    async def close(self) -> None:
        """Leave. The durable stays, with everything it has not acknowledged."""


class Bus(Protocol):
    async def connect(self) -> None: ...
    async def close(self) -> None: ...

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Create the stream, or give it these subjects. Any number of callers may do so at once."""

    async def publish(self, stream: str, messages: Sequence[Message]) -> None:
        """Store all messages, in order, durably, each once by id; return when all are.

        Raises `BusUnavailable` when the outcome is unknown: call again with the same messages.
        Raises `MessageTooLarge` before anything is stored.
        """

    async def subscribe(self, stream: str, *, durable: str, subjects: Sequence[str]) -> Subscription:
        """Take a place at the durable, creating it, or giving it these subjects (which may have wildcards).

        A new durable begins with the first message of the stream. A subject added later counts from where
        the durable stands: messages that it has already passed do not come back.
        """

    async def healthy(self) -> bool:
        """Whether a publish now would be expected to succeed."""


def encode_headers(message: Message) -> bytes:
    """The header lines of a message as they travel, its id first, without opening and closing lines."""
    lines = [f"{ID_HEADER}: {message.id}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in message.headers.items()]
    block = "".join(lines)
    if block.count("\n") != len(lines) or block.count("\r") != len(lines):
        raise ValueError(f"message {message.id} has a line break within a header")
    return block.encode()


def check_size(message: Message, headers: bytes, *, limit_bytes: int) -> None:
    # 256: the opening and closing lines, and what a batch adds to the headers of its members.
    size_bytes = len(headers) + len(message.data) + 256
    if size_bytes > limit_bytes:
        raise MessageTooLarge(message.id, size_bytes=size_bytes, limit_bytes=limit_bytes)
