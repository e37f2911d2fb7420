"""Knows where a case that has a time is played: in a sandbox whose clock begins before the case does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.support.sandbox import Sandbox, TokenMaker

YEARS_AHEAD: Final = 1


class Rooms:
    """Sandboxes of sellers of their own; what is agreed in one is no concern of another."""

    def __init__(self, addresses: Mapping[str, str], token: TokenMaker, journals: Path, stack: AsyncExitStack) -> None:
        """`stack` closes what is open when all cases have been put."""
        self._addresses = addresses
        self._token = token
        self._journals = journals
        self._stack = stack
        self._lobbies: dict[int, Sandbox] = {}

    async def before(self, time: datetime) -> Sandbox:
        """One that many cases share, as no time ever passes there: the time asked for is still to come."""
        year = time.year - YEARS_AHEAD
        if year not in self._lobbies:
            lobby = await self._open(datetime(year, 1, 1, tzinfo=UTC))
            self._lobbies[year] = await self._stack.enter_async_context(lobby)
        return self._lobbies[year]

    @asynccontextmanager
    async def at(self, time: datetime) -> AsyncIterator[Sandbox]:
        """One for a single case, which begins now and lets time pass."""
        async with await self._open(time) as sandbox:
            yield sandbox

    async def _open(self, start: datetime) -> Sandbox:
        return await Sandbox.open(self._addresses, self._token, journals=self._journals, start=start)
