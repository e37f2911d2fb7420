"""Knows how the log is copied: behind the commits, in bounded blocks; nothing is missed, and nothing counts twice.

    leaf  ─► blocks of its table ─► rows that are not copied yet ─► ClickHouse ─► through which position all is copied

A row may be sent more than once: it replaces itself. That there is no other row of a seller before a position is known
in one of two ways. Positions have no gaps, so what continues them is all there is: quick, and nearly always enough,
since PostgreSQL appends to the leaf that is written. Or else the leaf was read from its beginning to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from common.crash import crashpoint, register
from common.db import Database
from common.errors import Unavailable
from common.pace import Pace
from common.telemetry import Telemetry
from metering.clickhouse.connection import Connection
from metering.log import Log, copies
from metering.log.copies import CopyPlace

IDLE_SECONDS: Final = 0.05
STANDBY_SECONDS: Final = 0.5
FAILURE_SECONDS: Final = 1
BLOCKS_TOGETHER: Final = 1_024
"""Of 8 KiB, read and sent together: some 60,000 rows."""
BLOCKS_AGAIN: Final = 64
"""So many before the last row that was seen are looked at again: PostgreSQL may have left room there."""
WATCH_SECONDS: Final = 0.1
"""How soon a shard is copied that this replica has begun to own."""

SENT: Final = register("copy.sent", "rows of the log are in the copy, and it is not noted that they are")


@dataclass(slots=True)
class Seen:
    """How far the leaf that is written was read."""

    leaf: int
    is_read: bool = False
    """Whether it was read from its beginning, and nothing was missed since."""
    last_block: int = 0
    """In which a row was that was not copied."""


class Copying:
    """Copies the shards that this replica owns: so what there is to copy is divided as what is stored is."""

    def __init__(
        self, database: Database, log: Log, connection: Connection, *, pause_seconds: float, telemetry: Telemetry
    ) -> None:
        """`pause_seconds` is how long it waits after it has sent all there is: ClickHouse likes few, large blocks."""
        self._database = database
        self._of = log
        self._connection = connection
        self._pause_seconds = pause_seconds
        self._log = telemetry.log
        self._copied = telemetry.meter.create_counter("saldo.usage_events.copied")
        self._pace = Pace()

    def stop(self) -> None:
        self._pace.stop()

    async def run(self) -> None:
        under_way: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as copying:
            while not self._pace.stopping:
                under_way = {shard: task for shard, task in under_way.items() if not task.done()}
                for shard in self._of.owned_shards:
                    if shard not in under_way:
                        under_way[shard] = copying.create_task(self._copy_shard(shard), name=f"copy shard {shard}")
                await self._pace.rest(WATCH_SECONDS)

    async def _copy_shard(self, shard: int) -> None:
        """For as long as we own it; whoever did before may still be at it."""
        try:
            async with self._database.session() as session:
                while self._goes_on(shard):
                    if await copies.become_copier(session, shard):
                        await self._connection.open()
                        await self._copy(session, shard)
                    await self._pace.rest(STANDBY_SECONDS)
        except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self._log.warning("usage not copied", shard=shard, error=str(error), cause=repr(error.__cause__))
            await self._pace.rest(FAILURE_SECONDS)

    def _goes_on(self, shard: int) -> bool:
        return not self._pace.stopping and shard in self._of.owned_shards

    async def _copy(self, session: asyncpg.Connection, shard: int) -> None:
        seen = Seen(leaf=0)
        while self._goes_on(shard):
            place = await copies.place(session, shard)
            if place is None or not (place.is_full or place.behind):
                await self._pace.rest(IDLE_SECONDS)
                continue
            if seen.leaf != place.leaf:
                seen = Seen(place.leaf)
            if place.is_full:
                count = await copies.count_rows(session, place.leaf)
                if await self._send(session, place, seen, first=0):
                    await copies.note_leaf(session, place.leaf, count)
                continue
            reached = {seller_id: last for seller_id, (_, last) in place.behind.items()}
            if seen.is_read:
                following = Following(place)
                first = max(0, seen.last_block - BLOCKS_AGAIN)
                if not await self._send(session, place, seen, first=first, following=following):
                    return
                seen.is_read = all(following.reached[seller_id] >= last for seller_id, last in reached.items())
                reached = following.reached
            else:
                # All that was stored when it was begun is here, or in a leaf before, and is seen.
                if not await self._send(session, place, seen, first=0):
                    return
                seen.is_read = True
            await copies.note(session, reached)
            await self._pace.rest(self._pause_seconds)

    async def _send(
        self,
        session: asyncpg.Connection,
        place: CopyPlace,
        seen: Seen,
        *,
        first: int,
        following: Following | None = None,
    ) -> bool:
        """Send what is from a block of a leaf to its end; False if that was broken off."""
        while not self._pace.stopping:
            end = first + BLOCKS_TOGETHER
            found = await copies.copy_rows(session, place.leaf, first=first, end=end, again=place.is_restored)
            if found.rows:
                await self._connection.insert(found.rows)
                self._copied.add(sum(map(len, found.positions.values())))
                crashpoint(SENT)
                seen.last_block = max(seen.last_block, found.last_block)
            if following is not None:
                following.add(found.positions)
            first = end
            if end >= found.block_count:
                return True
        return False


class Following:
    """How far the positions of each seller go on without a gap."""

    def __init__(self, place: CopyPlace) -> None:
        self.reached = {seller_id: position for seller_id, (position, _) in place.behind.items()}
        self._beyond: dict[str, set[int]] = {seller_id: set() for seller_id in self.reached}

    def add(self, positions: Mapping[str, Iterable[int]]) -> None:
        for seller_id in positions.keys() & self.reached.keys():
            beyond, position = self._beyond[seller_id], self.reached[seller_id]
            beyond.update(positions[seller_id])
            while position + 1 in beyond:
                position += 1
                beyond.remove(position)
            self.reached[seller_id] = position
