"""Knows how what was committed gets announced: from the outbox to the bus, in order, by one relay at a time.

A replica leads by holding an advisory lock for as long as it is connected. Everything is published at least once, under
an id that the stream stores once; a crash between publishing and marking costs a repeat, never a loss or a double.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import asyncpg

from common.bus import Bus, BusUnavailable, Message, MessageTooLarge
from common.crash import crashpoint
from common.db import Database, DatabaseUnavailable
from common.pace import Pace
from common.telemetry import Telemetry

BATCH_SIZE: Final = 1_000
BATCHES_PER_PASS: Final = 20
LEADER_LOCK: Final = 7_203_156
FOLLOWER_WAIT_SECONDS: Final = 1.0
FAILURE_WAIT_SECONDS: Final = 0.5

_WAITING: Final = """
SELECT position, o.id, o.seller_id, o.subject, o.aggregate_id, o.sequence, o.time, o.traceparent, o.payload
FROM (
    SELECT position FROM outbox_waiting
    WHERE position > $1 AND (SELECT count(*) FROM outbox_waiting WHERE position <= $1) = $2
    ORDER BY position LIMIT $3
) w JOIN outbox o USING (position)
ORDER BY position
"""
# Positions are handed out before a commit: what waits may become visible behind what is on its way, and what follows
# upon it ahead of that. Then nothing is read, and the next pass begins from the start again.
_PUBLISHED: Final = "DELETE FROM outbox_waiting WHERE position = ANY($1::bigint[])"
_STRETCH: Final = """
SELECT position, id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload
FROM outbox o WHERE position BETWEEN $1 AND $2
  AND NOT EXISTS (SELECT FROM outbox_waiting w WHERE w.position = o.position)
ORDER BY position LIMIT $3
"""


class _Waiting(NamedTuple):
    row: asyncpg.Record
    message: Message


class Relay:
    def __init__(self, database: Database, bus: Bus, *, stream: str, telemetry: Telemetry, poll_seconds: float) -> None:
        self._database = database
        self._bus = bus
        self._stream = stream
        self._source = source_of(database.service)
        self._log = telemetry.log
        self._published = telemetry.meter.create_counter("saldo.events.published")
        self._poll_seconds = poll_seconds
        self._pace = Pace()
        database.on_emit(self._pace.wake)

    def stop(self) -> None:
        """Publish what is committed, then return from `run`."""
        self._pace.stop()

    async def run(self) -> None:
        while not self._pace.stopping:
            try:
                async with self._database.session() as connection:
                    await self._lead(connection)
            except DatabaseUnavailable as error:
                self._log.warning("relay waits", error=str(error))
                await self._pace.rest(FAILURE_WAIT_SECONDS)

    async def _lead(self, connection: asyncpg.Connection) -> None:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
            if self._pace.stopping:
                return
            await self._pace.rest(FOLLOWER_WAIT_SECONDS)
        while True:
            # What is committed before somebody says stop is seen by who reads after that, not by who was reading.
            is_last = self._pace.stopping
            self._pace.listen()
            try:
                moved = await self.relay_waiting(connection)
            except BusUnavailable as error:
                self._log.warning("relay waits", error=str(error))
                if self._pace.stopping:
                    return
                await self._pace.rest(FAILURE_WAIT_SECONDS)
                continue
            if moved:
                continue
            if is_last:
                return
            await self._pace.pause(self._poll_seconds)

    async def relay_waiting(self, connection: asyncpg.Connection) -> int:
        """Publish what waits, up to some batches, and mark it; how many events that was.

        While a batch is on its way, the one before is marked and the next one read.
        """
        moved = 0
        unmarked: Sequence[asyncpg.Record] = []
        batch = await self._read(connection, after=0, on_their_way=0)
        for _ in range(BATCHES_PER_PASS):
            if not batch:
                break
            crashpoint("relay.claimed")
            publishing = asyncio.create_task(self._publish(batch))
            try:
                await self._mark(connection, unmarked)
                unmarked = []
                ahead = await self._read(connection, after=batch[-1].row["position"], on_their_way=len(batch))
                too_large = await publishing
            except BaseException:
                # Whether it was published is unknown then: it will be read again, and the stream knows the ids.
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)
                raise
            crashpoint("relay.published")
            for row, error in too_large:
                await self._bury(connection, row, str(error))
            unmarked = [each.row for each in batch]
            moved += len(batch)
            batch = ahead
        await self._mark(connection, unmarked)
        return moved

    async def _read(self, connection: asyncpg.Connection, *, after: int, on_their_way: int) -> list[_Waiting]:
        rows = await connection.fetch(_WAITING, after, on_their_way, BATCH_SIZE)
        return [_Waiting(row, message_of(row, source=self._source)) for row in rows]

    async def _mark(self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> None:
        if rows:
            await connection.execute(_PUBLISHED, [row["position"] for row in rows])
            self._published.add(len(rows))

    async def replay(self, connection: asyncpg.Connection, first: int, last: int) -> int:
        """Publish a stretch again, for consumers that lost their data; the ids of the events are the old ones."""
        # The stream knows their messages, and those of an earlier replay: these are other messages. Inboxes know the
        # events by their ce-id.
        this_time = secrets.token_hex(8)
        count = 0
        while first <= last:
            rows = await connection.fetch(_STRETCH, first, last, BATCH_SIZE)
            if not rows:
                break
            await self._bus.publish(
                self._stream,
                [message_of(row, source=self._source, message_id=f"{row['id']}:{this_time}") for row in rows],
            )
            count += len(rows)
            first = rows[-1]["position"] + 1
        return count

    async def first_since(self, connection: asyncpg.Connection, time: datetime) -> int | None:
        """The position of the first event of those that were announced at a time, by the wall's clock, or later."""
        found: int | None = await connection.fetchval("SELECT min(position) FROM outbox WHERE create_time >= $1", time)
        return found

    async def first_behind(self, connection: asyncpg.Connection, position: int) -> int | None:
        found: int | None = await connection.fetchval("SELECT min(position) FROM outbox WHERE position > $1", position)
        return found

    async def _publish(self, batch: Sequence[_Waiting]) -> list[tuple[asyncpg.Record, MessageTooLarge]]:
        """All but the events that no stream can ever store; those must not hold up the others, nor vanish."""
        too_large: list[tuple[asyncpg.Record, MessageTooLarge]] = []
        while batch:
            try:
                await self._bus.publish(self._stream, [each.message for each in batch])
                break
            except MessageTooLarge as error:
                too_large += [(each.row, error) for each in batch if each.message.id == error.message_id]
                batch = [each for each in batch if each.message.id != error.message_id]
        return too_large

    async def _bury(self, connection: asyncpg.Connection, row: asyncpg.Record, error: str) -> None:
        self._log.error("event too large", event_id=row["id"], subject=row["subject"], error=error)
        await connection.execute(
            "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
            " VALUES ($1, $2, $3, '{}', $4, $5, 1) ON CONFLICT DO NOTHING",
            f"outbox:{row['id']}",
            row["seller_id"],
            row["subject"],
            row["payload"],
            error,
        )


def source_of(service: str) -> str:
    """The `ce-source` of everything that a service announces."""
    return f"saldo/{service}"


def message_of(
    row: asyncpg.Record | Mapping[str, Any], *, source: str, message_id: str | None = None
) -> Message:  # Any: columns of the outbox
    """The CloudEvents binding for NATS, binary mode: attributes in headers, the message itself as data."""
    event_id: str = row["id"]
    return Message(
        id=message_id or event_id,
        subject=row["subject"],
        headers={
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-type": row["subject"],
            "ce-source": source,
            "ce-time": _rfc3339(row["time"]),
            "ce-subject": row["aggregate_id"],
            "ce-sequence": str(row["sequence"]),
            "ce-seller": row["seller_id"],
            "content-type": "application/protobuf",
            "traceparent": row["traceparent"],
        },
        data=row["payload"],
    )


@functools.lru_cache(maxsize=1_024)  # events of one transaction have one time, those of a sandbox often so
def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
