"""Knows the clocks of sandboxes: what time it is there, what is to be done by then, and how one is moved on.

A year that is travelled through asks thousands of times: two statements each time, on a connection of its own, planned
once, with no transaction around them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from common.clock import ClockBackwards
from common.db import ONE_PLAN, Database, DatabaseUnavailable, is_lost, now_of
from common.due import Scheduled, due_moments
from common.ids import SellerId

CLAIM_CLASS: Final = 7_203
"""The class of the advisory locks that say what is being worked on."""

NEVER_IDLE: Final = -1
"""Less than any claim: until it has been seen that none is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What time it is in a sandbox, and what it has to do in this service."""

    time: datetime
    due_count: int
    failing_count: int
    running_count: int
    """What is being worked on, for whomever."""
    waiting_count: int
    """Events that are to be announced."""
    next_due_time: datetime | None
    progress: int


class Clocks:
    def __init__(self, database: Database, jobs: Sequence[Scheduled], *, on_due: Callable[[], None]) -> None:
        """`on_due` is called when a clock was moved to where something is due."""
        self._database = database
        self._on_due = on_due
        self._agenda_sql = _AGENDA.format(moments=due_moments(jobs) if jobs else _NEVER)
        self._idle_since = NEVER_IDLE  # or the claim after which none was held
        self._turn = asyncio.Lock()
        self._session = AsyncExitStack()
        self._connection: asyncpg.Connection | None = None

    async def read(self, seller_id: SellerId) -> Agenda:
        async with self._asking() as connection:
            found = await self._so_far(connection, _READ, seller_id)
            if found["time"] is None:
                await now_of(connection, seller_id)
                found = await self._so_far(connection, _READ, seller_id)
            return await self._agenda(connection, seller_id, found["time"], found)

    async def move(self, seller_id: SellerId, to: datetime, *, hold_until: datetime | None) -> Agenda:
        """To a time that is not before its own. Until `hold_until`, by wall time, it acts on nothing that is due."""
        async with self._asking() as connection:
            found = await self._so_far(connection, _MOVE, seller_id, to, hold_until)
            if not found["moved"]:
                now = await now_of(connection, seller_id)
                found = await self._so_far(connection, _MOVE, seller_id, to, hold_until)
                if not found["moved"]:
                    raise ClockBackwards(
                        f"the clock stands at {now.isoformat()} and only moves forward", seller=seller_id
                    )
            agenda = await self._agenda(connection, seller_id, to, found)
        if agenda.due_count:
            self._on_due()
        return agenda

    async def close(self) -> None:
        async with self._turn:
            await self._let_go()

    async def _so_far(self, connection: asyncpg.Connection, query: str, *arguments: object) -> asyncpg.Record:
        """What is being worked on is asked only if anything was claimed since nothing was: the list of all locks is
        long.
        """
        found = await connection.fetchrow(query, self._idle_since, CLAIM_CLASS, *arguments)
        assert found is not None
        if not found["running"]:
            self._idle_since = found["claims"]
        return found

    async def _agenda(
        self, connection: asyncpg.Connection, seller_id: SellerId, time: datetime, earlier: asyncpg.Record
    ) -> Agenda:
        # Progress and claims were asked before, in a question of their own: what is committed in between shows in the
        # next reading's progress, even if nothing else of it shows any more.
        found = await connection.fetchrow(self._agenda_sql, seller_id, time)
        assert found is not None
        return Agenda(**found, time=time, running_count=earlier["running"], progress=earlier["progress"])

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, for one at a time: opened by the first who asks, and anew by the next when it was lost."""
        async with self._turn:
            if self._connection is not None and self._connection.is_closed():
                await self._let_go()  # what the server has dropped meanwhile harms nobody
            is_new = self._connection is None
            if self._connection is None:
                self._connection = await self._session.enter_async_context(self._database.session())
                self._idle_since = NEVER_IDLE
            connection = self._connection
            try:
                if is_new:
                    await connection.execute(ONE_PLAN)
                yield connection
            except ClockBackwards:
                raise
            except BaseException as error:
                lost = is_lost(error, connection)
                await self._let_go()
                if lost:
                    raise DatabaseUnavailable("the database went away") from error
                raise

    async def _let_go(self) -> None:
        self._connection = None
        await self._session.aclose()


_NEVER: Final = "SELECT 0, 0, NULL::timestamptz WHERE $2::timestamptz IS NOT NULL"
"""Instead of due moments, where nothing ever is."""

_AGENDA: Final = """
SELECT due_count, failing_count, next_due_time,
       (SELECT count(*) FROM outbox_waiting WHERE seller_id = $1::text) AS waiting_count
FROM ({moments}) AS d (due_count, failing_count, next_due_time)
"""
_SO_FAR: Final = """
       claims + coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')), 0) AS progress,
       CASE WHEN claims = $1 THEN 0 ELSE
           (SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = $2 AND objsubid = 2 AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) END AS running
FROM (SELECT coalesce(pg_sequence_last_value('progress'), 0) AS claims OFFSET 0) AS c
"""
_READ: Final = f"SELECT claims, (SELECT time FROM clocks WHERE seller_id = $3) AS time,{_SO_FAR}"
_MOVE: Final = f"""
WITH moved AS (
    UPDATE clocks SET time = $4, hold_until = $5 WHERE seller_id = $3 AND time <= $4 RETURNING true
)
SELECT claims, EXISTS (SELECT FROM moved) AS moved,{_SO_FAR}
"""
