"""Knows how the events of a backfill are kept apart while it is open, and how they become a part of the log.

    open      leaves.backfill_N, positions counted from 1              usage_segments: its keys, of leaf -N
    closed    rows of leaves.usage_L, with its number, and day sums    usage_segments: its keys, of leaf L
    reverted  the same, but for the sums; nothing if it was open

Small ones share a leaf, so that the log has not one for each; no other usage is in it. Whoever closes or reverts one
holds the shard's row by its epoch until the commit, like whoever writes a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from common.db import DatabaseUnavailable
from metering.domain.backfill import BackfillState, check_complete
from metering.domain.errors import BackfillAmended, BackfillNotOpen, UsageArchived
from metering.log.leaves import attach, make
from metering.log.rows import COLUMNS, copy
from metering.log.sums import SORT_MEMORY

SHARED_EVENTS_MAX: Final = 100_000
"""Larger ones get a leaf of their own, whose indexes are made as a whole."""
LEAF_EVENTS_MAX: Final = 1_000_000
"""Of those that share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """That a backfill is to be closed, or reverted."""

    seller_id: str
    number: int
    is_revert: bool
    only_open: bool
    """Whether it is left alone that was closed meanwhile."""
    event_count: int | None
    """Close it only if it has so many; None says nothing."""
    reason: str
    actor: str
    time: datetime
    traceparent: str


@dataclass(slots=True)
class Loading:
    """A backfill that is open."""

    seller_id: str
    count: int
    """Of the events in it, with those that are being written."""


@dataclass(slots=True)
class Loaded:
    """What one commit adds to a backfill."""

    rows: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    count: int = 0
    """Of all its events then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a backfill."""

    last: int
    """The last position of its seller."""
    leaf: int | None = None
    """In which it counts from now on."""
    undone: tuple[int, int] | None = None
    """The first and the last position of what no longer counts."""


def segment_of(number: int) -> int:
    """Under which its keys are kept as long as it has no leaf."""
    return -number


async def open_ones(connection: asyncpg.Connection, shard: int) -> dict[int, Loading]:
    """Those of a shard into which something was loaded."""
    rows = await connection.fetch(
        "SELECT b.number, b.seller_id, b.event_count FROM usage_backfills b JOIN positions p USING (seller_id)"
        " WHERE b.state = 'OPEN' AND b.event_count > 0 AND p.shard = $1",
        shard,
    )
    return {row["number"]: Loading(row["seller_id"], row["event_count"]) for row in rows}


async def begin_loading(connection: asyncpg.Connection, numbers: Iterable[int]) -> dict[int, Loading]:
    """Those of the backfills that are open, each with a table for its events."""
    found: dict[int, Loading] = {}
    rows = await connection.fetch(
        "SELECT number, seller_id, event_count FROM usage_backfills"
        " WHERE state = 'OPEN' AND number = ANY ($1::integer[])",
        list(numbers),
    )
    for row in rows:
        number = row["number"]
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS leaves.backfill_{number} (LIKE usage_log INCLUDING DEFAULTS);"
            f"ALTER TABLE leaves.backfill_{number} ALTER COLUMN leaf SET DEFAULT 0"
        )
        found[number] = Loading(row["seller_id"], row["event_count"])
    return found


async def load(connection: asyncpg.Connection, *, shard: int, sequence: int, number: int, loaded: Loaded) -> None:
    """Add to a backfill, within a commit of the owner."""
    await connection.execute(
        "INSERT INTO usage_segments (shard, sequence, leaf, keys) VALUES ($1, $2, $3, $4)",
        shard,
        sequence,
        segment_of(number),
        b"".join(loaded.keys),
    )
    await connection.execute("UPDATE usage_backfills SET event_count = $2 WHERE number = $1", number, loaded.count)
    await copy(connection, f"backfill_{number}", loaded.rows, columns=COLUMNS, schema="leaves")


async def undone(connection: asyncpg.Connection, shard: int) -> dict[str, list[tuple[int, int]]]:
    """The positions of what was reverted after it had counted, by seller."""
    found: dict[str, list[tuple[int, int]]] = {}
    rows = await connection.fetch(
        "SELECT b.seller_id, b.first_position, b.last_position"
        " FROM usage_backfills b JOIN positions p USING (seller_id)"
        " WHERE b.revert_position IS NOT NULL AND p.shard = $1",
        shard,
    )
    for row in rows:
        found.setdefault(row["seller_id"], []).append((row["first_position"], row["last_position"]))
    return found


async def make_room(connection: asyncpg.Connection, number: int, *, shard: int, generation: int) -> None:
    """Let there be a leaf for a backfill, some time before anything is in it: whoever has planned to read the log
    without that leaf is not to see from the same moment on that positions of it count.
    """
    async with connection.transaction():
        count = await connection.fetchval(
            "SELECT event_count FROM usage_backfills WHERE number = $1 AND state = 'OPEN'", number
        )
        if not count or await _leaf_for(connection, count, shard=shard, generation=generation) is not None:
            return
        leaf = await connection.fetchval(
            "INSERT INTO usage_leaves (shard, state, generation, is_summed) VALUES ($1, 'SEALED', $2, true)"
            " RETURNING leaf",
            shard,
            generation,
        )
        await make(connection, leaf)
        # Not unique: what is reverted gives its keys back, perhaps to another one here.
        await connection.execute(
            f"CREATE INDEX usage_{leaf}_key ON leaves.usage_{leaf} (key);"
            f"CREATE INDEX usage_{leaf}_stream ON leaves.usage_{leaf} (stream, time)"
        )
        await attach(connection, leaf)


async def _leaf_for(
    connection: asyncpg.Connection, count: int, *, shard: int, generation: int
) -> asyncpg.Record | None:
    return await connection.fetchrow(_LEAF, shard, generation, count, SHARED_EVENTS_MAX, LEAF_EVENTS_MAX)


async def settle(
    connection: asyncpg.Connection, asked: Settlement, *, shard: int, epoch: int, generation: int
) -> Settled:
    """Within a transaction that is still to be committed."""
    if not await connection.fetchval("SELECT true FROM shards WHERE shard = $1 AND epoch = $2 FOR SHARE", shard, epoch):
        raise DatabaseUnavailable("another replica owns the shard now")
    row = await connection.fetchrow("SELECT * FROM usage_backfills WHERE number = $1 FOR UPDATE", asked.number)
    assert row is not None, "it was read before, and is never deleted"
    last: int = await connection.fetchval(_LAST, asked.seller_id) or 0
    state = BackfillState[row["state"]]
    if asked.is_revert:
        match state:
            case BackfillState.REVERTED:
                return Settled(last=last)
            case BackfillState.CLOSED if asked.only_open:
                return Settled(last=last)
            case BackfillState.OPEN:
                await _discard(connection, asked, shard=shard)
                return Settled(last=last)
            case BackfillState.CLOSED:
                return await _revert(connection, asked, row, last=last)
    if state is BackfillState.CLOSED:
        return Settled(last=last)
    if state is BackfillState.REVERTED:
        raise BackfillNotOpen(f"{row['id']} is {state.name}", id=row["id"], state=state.name)
    check_complete(row["event_count"], asked.event_count)
    return await _close(connection, asked, row, shard=shard, last=last, generation=generation)


async def _close(
    connection: asyncpg.Connection,
    asked: Settlement,
    row: asyncpg.Record,
    *,
    shard: int,
    last: int,
    generation: int,
) -> Settled:
    number, count = row["number"], row["event_count"]
    await connection.execute(
        "UPDATE usage_backfills SET state = 'CLOSED', closed_by = $2, close_time = $3 WHERE number = $1",
        number,
        asked.actor,
        asked.time,
    )
    if not count:
        await connection.execute(f"DROP TABLE IF EXISTS leaves.backfill_{number}")
        return Settled(last=last)
    await connection.execute(f"SET LOCAL work_mem = '{SORT_MEMORY}'")
    found = await _leaf_for(connection, count, shard=shard, generation=generation)
    if found is None:
        raise DatabaseUnavailable("the leaf that was made for the backfill is gone")
    leaf = found["leaf"]
    columns = ", ".join(name for name in COLUMNS if name != "position")
    stored = await connection.execute(
        f"INSERT INTO leaves.usage_{leaf} (position, backfill, {columns})"
        f" SELECT position + $1, {number}, {columns} FROM leaves.backfill_{number} ORDER BY position",
        last,
    )
    assert stored == f"INSERT 0 {count}", "what was loaded is stored"
    await connection.execute(_ADD_DAYS.format(number=number))
    await connection.execute(_FILL.format(number=number), leaf, count)
    await connection.execute(f"DROP TABLE leaves.backfill_{number}")
    if found["is_empty"]:
        await connection.execute(f"ANALYZE leaves.usage_{leaf}")
    await connection.execute(
        "UPDATE usage_segments SET leaf = $3 WHERE shard = $1 AND leaf = $2", shard, segment_of(number), leaf
    )
    await connection.execute(
        "UPDATE usage_backfills SET leaf = $2, first_position = $3, last_position = $4 WHERE number = $1",
        number,
        leaf,
        last + 1,
        last + count,
    )
    await _reach(connection, asked, last + count)
    return Settled(last=last + count, leaf=leaf)


async def _discard(connection: asyncpg.Connection, asked: Settlement, *, shard: int) -> None:
    await connection.execute(f"DROP TABLE IF EXISTS leaves.backfill_{asked.number}")
    # The last one tells at which number the next begins.
    await connection.execute(
        "DELETE FROM usage_segments WHERE shard = $1 AND leaf = $2"
        " AND sequence < (SELECT max(sequence) FROM usage_segments WHERE shard = $1)",
        shard,
        segment_of(asked.number),
    )
    await _save_reverted(connection, asked, None)


async def _revert(connection: asyncpg.Connection, asked: Settlement, row: asyncpg.Record, *, last: int) -> Settled:
    if row["leaf"] is None:
        await _save_reverted(connection, asked, None)
        return Settled(last=last)
    first_own, last_own = row["first_position"], row["last_position"]
    amended = await connection.fetchrow(_AMENDED, asked.seller_id, first_own, last_own)
    if amended is not None:
        message = f"{amended['event_id']} of {amended['source']} was amended since"
        raise BackfillAmended(message, source=amended["source"], id=amended["event_id"])
    position = last + 1
    is_archived = await connection.fetchval(
        "SELECT state = 'ARCHIVED' FROM usage_leaves WHERE leaf = $1 FOR UPDATE", row["leaf"]
    )
    if is_archived:
        raise UsageArchived(f"{row['id']} is archived: have it restored first", id=row["id"], leaf=row["leaf"])
    await connection.execute("DELETE FROM usage_backfill_days WHERE backfill = $1", asked.number)
    await _save_reverted(connection, asked, position)
    await _reach(connection, asked, position)
    return Settled(last=position, undone=(first_own, last_own))


async def _save_reverted(connection: asyncpg.Connection, asked: Settlement, position: int | None) -> None:
    await connection.execute(
        "UPDATE usage_backfills SET state = 'REVERTED', revert_position = $2, reverted_by = $3, revert_time = $4,"
        " revert_reason = $5 WHERE number = $1",
        asked.number,
        position,
        asked.actor,
        asked.time,
        asked.reason,
    )


async def _reach(connection: asyncpg.Connection, asked: Settlement, position: int) -> None:
    await connection.execute("UPDATE positions SET last = $2 WHERE seller_id = $1", asked.seller_id, position)
    await connection.execute(
        "INSERT INTO ingests (seller_id, position, traceparent, create_time) VALUES ($1, $2, $3, $4)",
        asked.seller_id,
        position,
        asked.traceparent,
        asked.time,
    )


def are_undone(ranges: Sequence[tuple[int, int]], position: int) -> bool:
    return any(first <= position <= last for first, last in ranges)


_LAST: Final = "SELECT last FROM positions WHERE seller_id = $1 FOR UPDATE"
# A version counts unless the last correction of its event took it away for good.
_AMENDED: Final = """
SELECT c.source, c.event_id FROM usage_corrections c
WHERE c.seller_id = $1 AND c.corrects BETWEEN $2 AND $3 AND NOT EXISTS (
    SELECT FROM usage_corrections v
    WHERE v.seller_id = c.seller_id AND v.source = c.source AND v.event_id = c.event_id AND v.amended_position IS NULL
)
LIMIT 1
"""
# An empty one, or one that has room for a small backfill more; not one that was archived and restored, whose keys are
# unique since.
_LEAF: Final = """
SELECT l.leaf, l.row_count = 0 AS is_empty FROM usage_leaves l
WHERE l.shard = $1 AND l.state = 'SEALED' AND l.generation = $2
  AND (l.row_count = 0 OR ($3::bigint <= $4 AND l.row_count + $3::bigint <= $5))
  AND NOT EXISTS (
      SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('leaves.usage_' || l.leaf || '_key') AND i.indisunique
  )
ORDER BY l.leaf DESC LIMIT 1 FOR UPDATE
"""
_ADD_DAYS: Final = """
INSERT INTO usage_backfill_days (seller_id, stream, day, backfill, event_count, value_sum, value_min, value_max)
SELECT min(seller_id), stream, (time AT TIME ZONE 'UTC')::date AS day, {number}, count(*), sum(value), min(value),
       max(value)
FROM leaves.backfill_{number} GROUP BY stream, day
"""
_FILL: Final = """
UPDATE usage_leaves l SET row_count = l.row_count + $2, start_time = least(l.start_time, n.start_time),
    end_time = greatest(l.end_time, n.end_time)
FROM (SELECT min(time) AS start_time, max(time) AS end_time FROM leaves.backfill_{number}) n WHERE l.leaf = $1
"""
