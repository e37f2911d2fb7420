"""Knows where cases that have a time are played: many at once, side by side, in sandboxes whose time they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from tests.support.sandbox import Sandbox, TokenMaker

YEARS_AHEAD: Final = 1
SIDE_BY_SIDE: Final = 8
"""So many cases have a call under way at once."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    """A case that goes on when its room has come to a time, or to rest where it is; or one that has yet to enter."""

    time: datetime | None
    enters: bool
    goes_on: asyncio.Future[int]
    """With how many due moments the room has passed."""


class Rooms:
    """Sandboxes of sellers of their own. Cases in the same one have customers and plans of their own: what is agreed in
    one is no concern of another."""

    def __init__(self, addresses: Mapping[str, str], token: TokenMaker, journals: Path, stack: AsyncExitStack) -> None:
        """`stack` closes what is open when all cases have been put."""
        self._addresses = addresses
        self._token = token
        self._journals = journals
        self._stack = stack
        self._lobbies: dict[int, Sandbox] = {}
        self._lobby_door = asyncio.Lock()
        self._slots = asyncio.Semaphore(SIDE_BY_SIDE)
        self._acting = 0  # cases that do not wait for time to pass
        self._all_wait = asyncio.Event()
        self._waiting: list[_Waiting] = []
        self._room: Sandbox | None = None
        self._inside = 0

    async def side_by_side(self, cases: Sequence[Coroutine[object, object, ResultT]]) -> list[ResultT]:
        """What each gives, in their order. Time passes only while all of them wait for it."""
        self._acting += len(cases)
        self._all_wait.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._act(case)) for case in cases]
            if tasks:
                group.create_task(self._let_time_pass())
        return [task.result() for task in tasks]

    async def before(self, time: datetime) -> Sandbox:
        """One that many cases share, as no time ever passes there: the time asked for is still to come."""
        year = time.year - YEARS_AHEAD
        async with self._lobby_door:
            if year not in self._lobbies:
                lobby = await self.alone(datetime(year, 1, 1, tzinfo=UTC))
                self._lobbies[year] = await self._stack.enter_async_context(lobby)
        return self._lobbies[year]

    @asynccontextmanager
    async def at(self, time: datetime) -> AsyncIterator[Sandbox]:
        """One in which it is that time, and where time passes. Only for cases that are played side by side."""
        await self.until(time, enters=True)
        assert self._room is not None
        try:
            yield _Guest(self._room, self)
        finally:
            self._inside -= 1

    async def alone(self, start: datetime) -> Sandbox:
        """One for nobody else."""
        return await Sandbox.open(self._addresses, self._token, journals=self._journals, start=start)

    async def until(self, time: datetime | None, *, enters: bool = False) -> int:
        """Let others act until it is that time, or until nothing is under way any more."""
        waiting = _Waiting(time=time, enters=enters, goes_on=asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._slots.release()
        self._acts_no_more()
        try:
            return await waiting.goes_on
        finally:
            await self._slots.acquire()

    async def _act(self, case: Coroutine[object, object, ResultT]) -> ResultT:
        async with self._slots:
            try:
                return await case
            finally:
                self._acts_no_more()

    def _acts_no_more(self) -> None:
        self._acting -= 1
        if not self._acting:
            self._all_wait.set()

    async def _let_time_pass(self) -> None:
        """From the earliest time that anybody waits for to the next. When nobody is left in a room, it is given up, and
        another begins with those who wait outside: whatever was agreed in the old one would go on for ever."""
        while True:
            await self._all_wait.wait()
            if not self._waiting:
                return
            self._all_wait.clear()
            if not self._inside:
                self._room = None
            if self._room is None:
                now = min(each.time for each in self._waiting if each.time is not None)
                self._room = await self._stack.enter_async_context(await self.alone(now))
                moments = 0
            elif any(each.time is None for each in self._waiting):
                await self._room.quiet()
                self._go_on([each for each in self._waiting if each.time is None], 0)
                continue
            else:
                now = min(each.time for each in self._waiting if each.time is not None)
                moments = await self._room.travel(now)
            self._go_on([each for each in self._waiting if each.time is not None and each.time <= now], moments)

    def _go_on(self, those: Sequence[_Waiting], moments: int) -> None:
        self._waiting = [each for each in self._waiting if each not in those]
        self._acting += len(those)
        self._inside += sum(each.enters for each in those)
        for each in those:
            each.goes_on.set_result(moments)


class _Guest(Sandbox):
    """A room as one case sees it: to let time pass is to wait until it has passed for everybody there."""

    def __init__(self, room: Sandbox, rooms: Rooms) -> None:
        super().__init__(room.client, room.seller_id, room.journal, AsyncExitStack())
        self._rooms = rooms

    async def travel(self, to: datetime) -> int:
        return await self._rooms.until(to)

    async def quiet(self) -> None:
        await self._rooms.until(None)
