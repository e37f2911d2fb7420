"""Knows how a leaf leaves the log, and comes back: what stays of it, and that its place changes hands between readers.

    in the log        leaves.usage_N                                          usage_leaves: SEALED
    archived          leaves.usage_N, with what is still to be counted        usage_leaves: ARCHIVED, a digest of all
                      usage_archives: what is gone, by streams
                      usage_keys: the keys of all; usage_days: the sums of all

Beside `leaves` the only module that names a leaf. A transaction that has read the log keeps its leaves as they are
until it ends: whoever looks afterwards whether something is archived does not miss what was archived meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from metering.domain.archive import Content, Leaf, LeafState, LoggedEvent
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.errors import LeafNotFound, LogBusy
from metering.domain.usage_event import Identity, UsageEvent
from metering.log.leaves import READER_MS
from metering.log.sums import sum_days

LINES_PER_READ: Final = 10_000
KEYS_PER_ROW: Final = 64
SWAP_TRIES_MAX: Final = 50
SWAP_PAUSE_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 5
ARCHIVE_CLASS: Final = 7_203_159
"""Of the advisory lock by which leaves are archived one at a time."""

_LEAF: Final = "SELECT leaf, state, row_count, start_time, end_time, is_summed, archive_digest FROM usage_leaves"


async def sealed_before(connection: asyncpg.Connection, before: datetime, *, after: int, limit: int) -> list[Leaf]:
    """The leaves of which all events happened before, oldest first."""
    rows = await connection.fetch(
        f"{_LEAF} WHERE state = 'SEALED' AND end_time < $1 AND leaf > $2 ORDER BY leaf LIMIT $3", before, after, limit
    )
    return [_leaf(row) for row in rows]


async def lock_leaf(connection: asyncpg.Connection, number: int) -> Leaf:
    """One that is sealed or archived, and nobody else's until the commit. Fails with LeafNotFound, and with LogBusy
    while another leaf is archived: two at once would wait for each other to read to the end.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1, 0)", ARCHIVE_CLASS):
        raise LogBusy("another leaf is being archived or restored", retry_seconds=RETRY_SECONDS)
    row = await connection.fetchrow(f"{_LEAF} WHERE leaf = $1 AND state IN ('SEALED', 'ARCHIVED') FOR UPDATE", number)
    if row is None:
        raise LeafNotFound(f"there is no leaf {number} that is full", leaf=number)
    return _leaf(row)


async def events_of(connection: asyncpg.Connection, leaf: int, *, after: UUID, limit: int) -> list[LoggedEvent]:
    """The next ones of a leaf that is not archived, in order of their keys."""
    # First the page, then its names: what is joined first is sorted as a whole for every page.
    rows = await connection.fetch(
        "SELECT e.seller_id, e.position, s.source, e.event_id, n.customer, n.meter, e.time, e.value, e.dimensions,"
        "  e.key"
        " FROM (SELECT * FROM usage_log WHERE leaf = $1 AND key > $2"
        "  AND EXISTS (SELECT FROM usage_leaves l WHERE l.leaf = $1 AND l.state = 'SEALED') ORDER BY key LIMIT $3) e"
        " JOIN usage_streams n ON n.stream = e.stream JOIN usage_sources s ON s.number = e.source ORDER BY e.key",
        leaf,
        after,
        limit,
    )
    return [_event(row) for row in rows]


async def content_of(connection: asyncpg.Connection, leaf: int) -> Content:
    """Of a leaf that is not archived."""
    return await _content(connection, f"usage_{leaf}")


async def restored_content(connection: asyncpg.Connection, leaf: int) -> Content:
    """Of what was brought of a leaf that is to be put back. Fails with LeafNotFound when nothing was."""
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"leaves.restored_{leaf}"):
        raise LeafNotFound(f"nothing of leaf {leaf} was brought", leaf=leaf)
    return await _content(connection, f"restored_{leaf}")


async def _content(connection: asyncpg.Connection, table: str) -> Content:
    found = Content()
    after = UUID(int=0)
    while True:
        rows = await connection.fetch(_LINES.format(table=table), after, LINES_PER_READ)
        found.add(row["line"] for row in rows)
        if len(rows) < LINES_PER_READ:
            return found
        after = rows[-1]["key"]


async def is_looked_through(connection: asyncpg.Connection, leaf: int) -> bool:
    """Whether nobody's late usage is still to be looked for in it."""
    return not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM late_looks k JOIN ("
        f"SELECT seller_id, max(position) AS last FROM leaves.usage_{leaf} GROUP BY seller_id"
        ") e ON e.seller_id = k.seller_id WHERE k.position < e.last"
        " AND (k.leaf <= $1 OR EXISTS (SELECT FROM usage_backfills b WHERE b.leaf = $1)))",
        leaf,
    )


async def is_corrected(connection: asyncpg.Connection, leaf: int) -> bool:
    """Whether there is anything in a leaf of which one has to know more than the event itself."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM usage_log WHERE leaf = $1 AND (corrects IS NOT NULL OR version IS NOT NULL))"
        " OR EXISTS (SELECT FROM usage_corrections c JOIN usage_log e USING (seller_id)"
        "  WHERE e.leaf = $1 AND e.position = c.corrects)"
        " OR EXISTS (SELECT FROM usage_backfills WHERE leaf = $1 AND revert_position IS NOT NULL)",
        leaf,
    )
    return found


async def archive(connection: asyncpg.Connection, leaf: Leaf, *, digest: str) -> None:
    """Take the events of a leaf out of the log. Its sums and keys stay, and so do events that are still to be counted:
    every later period counts those of meters that carry over, and nobody has counted yet those of nobody's.
    """
    number = leaf.number
    if not leaf.is_summed:
        await sum_days(connection, number, at_least=0)
    await _make(connection, "kept", number)
    is_all_gone = await connection.execute(_KEEP.format(leaf=number)) == "INSERT 0 0"
    await connection.execute(
        f"INSERT INTO usage_archives SELECT min(e.seller_id), {number}, e.stream, count(*), min(e.position),"
        f" max(e.position), min(e.time), max(e.time) FROM leaves.usage_{number} e"
        f" WHERE NOT EXISTS (SELECT FROM leaves.kept_{number} k WHERE k.stream = e.stream) GROUP BY e.stream"
    )
    await connection.execute(
        "INSERT INTO usage_keys (leaf, first_key, keys)"
        f" SELECT {number}, (array_agg(key ORDER BY key))[1], array_agg(key ORDER BY key)"
        f" FROM (SELECT key, (row_number() OVER (ORDER BY key) - 1) / {KEYS_PER_ROW} AS part"
        f"  FROM leaves.usage_{number}) e GROUP BY part"
    )
    # Otherwise they are looked through one by one until somebody comes to count them.
    await connection.execute("ANALYZE usage_keys, usage_archives")
    await connection.execute(
        "UPDATE usage_leaves SET state = 'ARCHIVED', archive_digest = $2 WHERE leaf = $1", number, digest
    )
    if is_all_gone:
        await connection.execute(f"DROP TABLE leaves.kept_{number}")
    await _swap(connection, number, by=None if is_all_gone else "kept")


async def begin_restoring(connection: asyncpg.Connection, leaf: int) -> None:
    """Forget what was brought of it before."""
    await connection.execute(f"DROP TABLE IF EXISTS leaves.restored_{leaf}")
    await _make(connection, "restored", leaf)


async def bring(connection: asyncpg.Connection, leaf: int, events: Sequence[LoggedEvent]) -> int:
    """Store events of a leaf that is to be put back; how many there are by now. What names nothing that the log knows
    is not there in the end, and the digest says so.
    """
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"leaves.restored_{leaf}"):
        await _make(connection, "restored", leaf)
    await connection.execute(
        _BRING.format(leaf=leaf),
        [each.seller_id for each in events],
        [each.position for each in events],
        [each.event.identity.source for each in events],
        [each.event.identity.id for each in events],
        [each.event.customer for each in events],
        [each.event.meter for each in events],
        [each.event.time for each in events],
        [each.event.value for each in events],
        [_dimensions(each.event) for each in events],
        [UUID(bytes=each.key) for each in events],
    )
    count: int = await connection.fetchval(f"SELECT count(*) FROM leaves.restored_{leaf}")
    return count


async def restore(connection: asyncpg.Connection, leaf: int) -> None:
    """Put back what was brought of a leaf: all that was in it."""
    for table in ("usage_archives", "usage_keys"):
        await connection.execute(f"DELETE FROM {table} WHERE leaf = $1", leaf)
    await connection.execute("UPDATE usage_leaves SET state = 'SEALED', archive_digest = NULL WHERE leaf = $1", leaf)
    await _swap(connection, leaf, by="restored")


async def _make(connection: asyncpg.Connection, name: str, leaf: int) -> None:
    """A table that can take the place of the leaf."""
    await connection.execute(
        f"CREATE TABLE leaves.{name}_{leaf} (LIKE usage_log INCLUDING DEFAULTS);"
        f"ALTER TABLE leaves.{name}_{leaf} ALTER COLUMN leaf SET DEFAULT {leaf},"
        f" ADD CONSTRAINT {name}_{leaf}_leaf CHECK (leaf = {leaf});"
        f"CREATE UNIQUE INDEX {name}_{leaf}_key ON leaves.{name}_{leaf} (key);"
        f"CREATE INDEX {name}_{leaf}_stream ON leaves.{name}_{leaf} (stream, time)"
    )


async def _swap(connection: asyncpg.Connection, leaf: int, *, by: str | None) -> None:
    """Put another table in the place of the leaf, or none, when nobody reads the log; nobody waits for us for long."""
    await connection.execute("SAVEPOINT swap")
    for _ in range(SWAP_TRIES_MAX):
        try:
            await connection.execute(
                f"SET LOCAL lock_timeout = '{READER_MS}ms'; LOCK TABLE ONLY usage_log IN ACCESS EXCLUSIVE MODE;"
                f"DROP TABLE IF EXISTS leaves.usage_{leaf}"
            )
            if by is not None:
                await connection.execute(_TAKE_PLACE.format(leaf=leaf, by=by))
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await connection.execute("ROLLBACK TO SAVEPOINT swap")
            await asyncio.sleep(SWAP_PAUSE_SECONDS)
    raise LogBusy("the log is being read all the time", retry_seconds=RETRY_SECONDS)


def _leaf(row: asyncpg.Record) -> Leaf:
    return Leaf(
        number=row["leaf"],
        state=LeafState[row["state"]],
        event_count=row["row_count"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        is_summed=row["is_summed"],
        digest=row["archive_digest"] or "",
    )


def _event(row: asyncpg.Record) -> LoggedEvent:
    return LoggedEvent(
        seller_id=row["seller_id"],
        position=row["position"],
        event=UsageEvent(
            identity=Identity(source=row["source"], id=row["event_id"]),
            customer=row["customer"],
            meter=row["meter"],
            time=row["time"],
            value=row["value"],
            dimensions=row["dimensions"] or NO_DIMENSIONS,
        ),
        key=row["key"].bytes,
    )


def _dimensions(event: UsageEvent) -> str | None:
    return json.dumps(dict(event.dimensions), ensure_ascii=False) if event.dimensions else None


_LINES: Final = r"""
SELECT e.key, concat_ws(
    E'\x1f', e.seller_id, e.position, s.source, e.event_id, n.customer, n.meter,
    (extract(epoch FROM e.time) * 1000000)::bigint, trim_scale(e.value),
    coalesce((
        SELECT string_agg(d.key || '=' || d.value, E'\x1e' ORDER BY d.key COLLATE "C")
        FROM jsonb_each_text(e.dimensions) d
    ), ''),
    replace(e.key::text, '-', '')
) AS line
FROM (SELECT * FROM leaves.{table} WHERE key > $1 ORDER BY key LIMIT $2) e
JOIN usage_streams n ON n.stream = e.stream JOIN usage_sources s ON s.number = e.source ORDER BY e.key
"""
_TAKE_PLACE: Final = """
ALTER TABLE leaves.{by}_{leaf} RENAME TO usage_{leaf};
ALTER TABLE leaves.usage_{leaf} RENAME CONSTRAINT {by}_{leaf}_leaf TO usage_{leaf}_leaf;
ALTER INDEX leaves.{by}_{leaf}_key RENAME TO usage_{leaf}_key;
ALTER INDEX leaves.{by}_{leaf}_stream RENAME TO usage_{leaf}_stream;
ALTER TABLE usage_log ATTACH PARTITION leaves.usage_{leaf} FOR VALUES IN ({leaf})
"""
# What is nobody's is nobody's as `unmatched` says it.
_KEEP: Final = """
INSERT INTO leaves.kept_{leaf}
SELECT e.* FROM leaves.usage_{leaf} e JOIN usage_streams s ON s.stream = e.stream
LEFT JOIN meters m ON m.seller_id = s.seller_id AND m.code = s.meter
WHERE m.code IS NULL OR m.carries_over OR (
    NOT s.customer_known
    AND EXISTS (SELECT FROM sellers_with_customers h WHERE h.seller_id = s.seller_id)
    AND NOT EXISTS (SELECT FROM customer_names c WHERE c.seller_id = s.seller_id AND c.name = s.customer)
)
"""
_BRING: Final = """
INSERT INTO leaves.restored_{leaf} (seller_id, position, stream, source, time, key, value, dimensions, event_id,
                                    backfill)
SELECT b.seller_id, b.position, n.stream, s.number, b.time, b.key, b.value, b.dimensions::jsonb, b.event_id, (
    SELECT f.number FROM usage_backfills f
    WHERE f.seller_id = b.seller_id AND f.leaf = {leaf} AND b.position BETWEEN f.first_position AND f.last_position
)
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::numeric[],
            $9::text[], $10::uuid[])
    AS b (seller_id, position, source, event_id, customer, meter, time, value, dimensions, key)
JOIN usage_streams n ON n.seller_id = b.seller_id AND n.meter = b.meter AND n.customer = b.customer
JOIN usage_sources s ON s.seller_id = b.seller_id AND s.source = b.source
ON CONFLICT (key) DO NOTHING
"""
