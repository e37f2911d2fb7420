"""Knows how those who wait for the log with a connection to the database in hand take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from metering.domain.errors import IngestOverloaded

UNDER_WAY_MAX: Final = 2
"""Each holds a connection to the database while it waits for the log; the others are for those who ask."""
WAITING_MAX: Final = 200
"""More are refused."""
RETRY_SECONDS: Final = 1


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
