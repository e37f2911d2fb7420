"""Knows how what was committed gets announced: from the outbox to the bus, in order, by one relay at a time.

A replica leads by holding an advisory lock for as long as it is connected. Everything is published at least once, under
an id that the stream stores once; a crash between publishing and marking costs a repeat, never a loss or a double.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import asyncpg

from common.bus import Bus, BusUnavailable, Message, MessageTooLarge
from common.crash import crashpoint
from common.db import Database, DatabaseUnavailable
from common.telemetry import Telemetry

BATCH_SIZE: Final = 1_000
BATCHES_PER_READ: Final = 4
LEADER_LOCK: Final = 7_203_156
FOLLOWER_WAIT_SECONDS: Final = 1.0
FAILURE_WAIT_SECONDS: Final = 0.5

_WAITING: Final = """
SELECT position, id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload
FROM outbox WHERE publish_time IS NULL ORDER BY position LIMIT $1
"""
_MARK: Final = "UPDATE outbox SET publish_time = clock_timestamp() WHERE position = ANY($1::bigint[])"
_STRETCH: Final = """
SELECT position, id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload
FROM outbox WHERE position BETWEEN $1 AND $2 AND publish_time IS NOT NULL ORDER BY position LIMIT $3
"""


class Relay:
    def __init__(self, database: Database, bus: Bus, *, stream: str, telemetry: Telemetry, poll_seconds: float) -> None:
        self._database = database
        self._bus = bus
        self._stream = stream
        self._source = f"saldo/{database.service}"
        self._log = telemetry.log
        self._published = telemetry.meter.create_counter("saldo.events.published")
        self._poll_seconds = poll_seconds
        self._wanted = asyncio.Event()
        self._stopping = False
        database.on_commit(self._wanted.set)

    def stop(self) -> None:
        """Publish what is committed, then return from `run`."""
        self._stopping = True
        self._wanted.set()

    async def run(self) -> None:
        while not self._stopping:
            try:
                async with self._database.session() as connection:
                    await self._lead(connection)
            except (BusUnavailable, DatabaseUnavailable) as error:
                self._log.warning("relay waits", error=str(error))
                await self._pause(FAILURE_WAIT_SECONDS)

    async def _lead(self, connection: asyncpg.Connection) -> None:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
            if self._stopping:
                return
            await self._pause(FOLLOWER_WAIT_SECONDS)
        while True:
            self._wanted.clear()
            moved = await self.relay_waiting(connection)
            if moved:
                continue
            if self._stopping:
                return
            await self._pause(self._poll_seconds)

    async def relay_waiting(self, connection: asyncpg.Connection) -> int:
        """Publish what waits, up to a few batches, and mark it; how many events that was."""
        rows = await connection.fetch(_WAITING, BATCH_SIZE * BATCHES_PER_READ)
        if not rows:
            return 0
        crashpoint("relay.claimed")
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            await self._publish(connection, batch)
            crashpoint("relay.published")
            await connection.execute(_MARK, [row["position"] for row in batch])
        self._published.add(len(rows))
        return len(rows)

    async def replay(self, connection: asyncpg.Connection, first: int, last: int) -> int:
        """Publish a stretch again, for consumers that lost their data; the ids are the old ones."""
        count = 0
        while first <= last:
            rows = await connection.fetch(_STRETCH, first, last, BATCH_SIZE)
            if not rows:
                break
            # Ids within the stream's duplicate window are known to it; a suffix makes them messages anew, and the
            # inbox of every consumer still knows the event by its ce-id.
            await self._bus.publish(
                self._stream, [self._message(row, message_id=f"{row['id']}:replay") for row in rows]
            )
            count += len(rows)
            first = rows[-1]["position"] + 1
        return count

    async def _publish(self, connection: asyncpg.Connection, rows: list[asyncpg.Record]) -> None:
        messages = [self._message(row) for row in rows]
        try:
            await self._bus.publish(self._stream, messages)
        except MessageTooLarge as error:
            # It can never be stored: it must not hold up the others, nor vanish.
            for row, message in zip(rows, messages, strict=True):
                if message.id == error.message_id:
                    await self._bury(connection, row, str(error))
            rest = [row for row in rows if row["id"] != error.message_id]
            if rest:
                await self._publish(connection, rest)

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

    def _message(self, row: asyncpg.Record, *, message_id: str | None = None) -> Message:
        """The CloudEvents binding for NATS, binary mode: attributes in headers, the message itself as data."""
        event_id: str = row["id"]
        return Message(
            id=message_id or event_id,
            subject=row["subject"],
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-type": row["subject"],
                "ce-source": self._source,
                "ce-time": _rfc3339(row["time"]),
                "ce-subject": row["aggregate_id"],
                "ce-sequence": str(row["sequence"]),
                "ce-seller": row["seller_id"],
                "content-type": "application/protobuf",
                "traceparent": row["traceparent"],
            },
            data=row["payload"],
        )

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), seconds)


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
