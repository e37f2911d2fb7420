"""Knows how those take turns who would wait for one another with a connection to the database in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from common.rpc import ConcurrentUpdate
from metering.domain.errors import IngestOverloaded

UNDER_WAY_MAX: Final = 2
"""Each holds a connection to the database while it waits for the log; the others are for those who ask."""
WAITING_MAX: Final = 200
"""More are refused."""
RETRY_SECONDS: Final = 1
WAIT_SECONDS_MAX: Final = 10
"""For those before of the same key."""


class Turns:
    def __init__(self, what: str) -> None:
        self._what = what
        self._turns = asyncio.Semaphore(UNDER_WAY_MAX)
        self._waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_MAX:
            raise IngestOverloaded(f"too many {self._what} are waiting", retry_seconds=RETRY_SECONDS)
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    number: int = 0
    """Who has the lock, and who waits for it."""


class TurnsByKey:
    """One of a key at a time, in the order in which they came. Others than ours wait in the database."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._queues: dict[tuple[str, str], _Queue] = {}

    @asynccontextmanager
    async def one(self, key: tuple[str, str]) -> AsyncIterator[None]:
        queue = self._queues.setdefault(key, _Queue())
        queue.number += 1
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await queue.lock.acquire()
            except TimeoutError:
                raise ConcurrentUpdate(f"too many {self._what} are waiting") from None
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.number -= 1
            if not queue.number:
                del self._queues[key]
