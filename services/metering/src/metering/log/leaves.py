"""Knows the tables of the log: leaves that are written to, filled, given their indexes, and the keys of each commit.

Rows are written to a leaf itself: COPY does not go through row-level security, and what reads goes through `usage_log`,
which has it. Every other statement of this service names `usage_log`, but for those by which leaves are archived.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import numpy as np

from metering.log.batch import KEY, KeyArray, Mask
from metering.log.keyset import KeySet
from metering.log.memory import BACKFILLED_KEYS, LEAVES_PER_FILTER, PIECE_BYTES, Filter, Generation, Memory
from metering.log.sums import DENSE, SORT_MEMORY, sum_days
from metering.log.tally import Tally

SEGMENTS_PER_READ: Final = 200
MANY_KEYS: Final = 100
"""When so many are looked for, first is asked which leaves have given all of theirs back."""
ONE_PLAN: Final = "SET plan_cache_mode = force_generic_plan"
"""For a connection on which keys are looked for."""
WRITE_BEHIND: Final = "SET backend_flush_after = '1MB'"
"""For a connection that writes much: it goes to the disk bit by bit. Otherwise the kernel collects it for half a
minute, writes hundreds of megabytes at once, and a commit waits behind them for a tenth of a second.
"""
SAMPLE: Final = "SET default_statistics_target = 30"
"""For a connection by which leaves get their indexes: of each 9,000 rows are looked at instead of 30,000, at a fifth of
the cost. Its queries go by the index, whatever the figures say.
"""
READER_MS: Final = 20
"""How long readers of a leaf may make its writer wait."""


@dataclass(slots=True)
class Leaf:
    number: int
    row_count: int


async def seed(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT seed FROM seeds"))


async def last_sequence(connection: asyncpg.Connection, shard: int) -> int:
    last: int = await connection.fetchval(
        "SELECT coalesce(max(sequence), 0) FROM usage_segments WHERE shard = $1", shard
    )
    return last


async def open_leaf(connection: asyncpg.Connection, shard: int) -> Leaf:
    """The leaf that is being written; the first one, if there is none yet."""
    row = await connection.fetchrow(
        "SELECT leaf FROM usage_leaves WHERE shard = $1 AND state = 'OPEN' ORDER BY leaf DESC LIMIT 1", shard
    )
    if row is None:
        number = await ready_leaf(connection, shard)
        await connection.execute("UPDATE usage_leaves SET state = 'OPEN' WHERE leaf = $1", number)
        return Leaf(number, 0)
    count: int = await connection.fetchval(
        f"SELECT coalesce(sum(length(keys)), 0) / {KEY.itemsize} FROM usage_segments WHERE shard = $1 AND leaf = $2",
        shard,
        row["leaf"],
    )
    return Leaf(row["leaf"], count)


async def ready_leaf(connection: asyncpg.Connection, shard: int) -> int:
    """An empty leaf that can be written as soon as the open one is full."""
    number: int | None = await connection.fetchval(
        "SELECT leaf FROM usage_leaves WHERE shard = $1 AND state = 'READY' ORDER BY leaf LIMIT 1", shard
    )
    if number is not None:
        return number
    async with connection.transaction():
        # One at a time, of all shards: numbers are seen in the order in which they are given, and whoever has not seen
        # a shard's first leaf yet knows that it comes after those that are there.
        await connection.execute("LOCK TABLE ONLY usage_log IN SHARE UPDATE EXCLUSIVE MODE")
        number = await connection.fetchval(
            "INSERT INTO usage_leaves (shard, state) VALUES ($1, 'READY') RETURNING leaf", shard
        )
        assert number is not None
        await make(connection, number)
        await connection.execute(
            f"CREATE INDEX usage_{number}_pages ON leaves.usage_{number} USING brin (stream) WITH (pages_per_range = 1)"
        )
        await attach(connection, number)
    return number


async def make(connection: asyncpg.Connection, leaf: int) -> None:
    """A table that can be attached. A check that says the same as its bounds spares the reading of the table then, and
    a lock on the log that readers would feel.
    """
    await connection.execute(
        # It is swept once, when it is full: a sweep that is under way would keep the index by pages from being told.
        f"CREATE TABLE leaves.usage_{leaf} (LIKE usage_log INCLUDING DEFAULTS) WITH (autovacuum_enabled = false);"
        f"ALTER TABLE leaves.usage_{leaf} ALTER COLUMN leaf SET DEFAULT {leaf},"
        f" ADD CONSTRAINT usage_{leaf}_leaf CHECK (leaf = {leaf})"
    )


async def attach(connection: asyncpg.Connection, leaf: int) -> None:
    await connection.execute(f"ALTER TABLE usage_log ATTACH PARTITION leaves.usage_{leaf} FOR VALUES IN ({leaf})")


async def turn(connection: asyncpg.Connection, *, full: Leaf, following: int) -> None:
    """Write to the next leaf from now on."""
    await connection.execute(
        "UPDATE usage_leaves SET state = CASE leaf WHEN $1 THEN 'FULL' ELSE 'OPEN' END, row_count ="
        " CASE leaf WHEN $1 THEN $3 ELSE 0 END WHERE leaf IN ($1, $2)",
        full.number,
        following,
        full.row_count,
    )


async def full_leaves(connection: asyncpg.Connection, shard: int) -> list[int]:
    rows = await connection.fetch(
        "SELECT leaf FROM usage_leaves WHERE shard = $1 AND state = 'FULL' ORDER BY leaf", shard
    )
    return [row["leaf"] for row in rows]


async def seal(connection: asyncpg.Connection, leaf: int, *, generation: int, tally: Tally | None) -> None:
    """Give a leaf that is not written any more its indexes. By the one on `key` a repeat is recognised for ever.
    `tally` as `sum_days` takes it.
    """
    await tell_pages(connection, leaf)
    async with connection.transaction():
        # By one process: the others are for those who wait for an answer.
        await connection.execute(
            "SET LOCAL max_parallel_maintenance_workers = 0; SET LOCAL max_parallel_workers_per_gather = 0;"
            f"SET LOCAL maintenance_work_mem = '{SORT_MEMORY}';"
            f"CREATE UNIQUE INDEX IF NOT EXISTS usage_{leaf}_key ON leaves.usage_{leaf} (key);"
            f"CREATE INDEX IF NOT EXISTS usage_{leaf}_stream ON leaves.usage_{leaf} (stream, time);"
            f"DROP INDEX IF EXISTS leaves.usage_{leaf}_late"
        )
        is_ours = await connection.fetchval(
            "UPDATE usage_leaves SET state = 'SEALED', generation = $2, (row_count, start_time, end_time) ="
            f" (SELECT count(*), min(time), max(time) FROM leaves.usage_{leaf})"
            " WHERE leaf = $1 AND state = 'FULL' RETURNING true",
            leaf,
            generation,
        )
        # An owner that was replaced meanwhile may have been first.
        if is_ours:
            await sum_days(connection, leaf, at_least=DENSE, tally=tally)
    await freeze(connection, leaf)


async def freeze(connection: asyncpg.Connection, leaf: int) -> None:
    """Nothing in it changes any more: no later sweep has to look at it again."""
    await connection.execute(f"VACUUM (FREEZE, ANALYZE) leaves.usage_{leaf}")


async def tell_pages(connection: asyncpg.Connection, leaf: int) -> bool:
    """Let what was written to a leaf be found by its pages: of each it is told between which streams its rows lie.
    False when the leaf is being given its indexes, and has no need of it.
    """
    try:
        async with connection.transaction():
            await connection.execute(
                f"SET LOCAL lock_timeout = '{READER_MS}ms';"
                f"SELECT brin_summarize_new_values(to_regclass('leaves.usage_{leaf}_pages'))"
            )
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def is_indexed(connection: asyncpg.Connection, leaf: int) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"leaves.usage_{leaf}_stream"))


async def index_open(connection: asyncpg.Connection, leaf: int) -> None:
    """Give the leaf that is being written the index by which it is read. The writer waits, for as long as that takes:
    not CONCURRENTLY, which waits for every reader of the database, and leaves half an index when it dies.
    """
    await connection.execute(f"CREATE INDEX IF NOT EXISTS usage_{leaf}_stream ON leaves.usage_{leaf} (stream, time)")
    await connection.execute(f"ANALYZE leaves.usage_{leaf} (stream, time, position)")


async def index_rest(connection: asyncpg.Connection, leaf: int) -> None:
    """As `index_open`: by position, for what is not summed."""
    await connection.execute(f"CREATE INDEX IF NOT EXISTS usage_{leaf}_late ON leaves.usage_{leaf} (stream, position)")


async def bare_open(connection: asyncpg.Connection, leaf: int) -> bool:
    """Take these indexes away again, from a leaf that is still being written; False when somebody is reading."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{READER_MS}ms'")
            # For as long as we hold its row it is not full, and nobody counts on its indexes.
            is_open = await connection.fetchval(
                "SELECT true FROM usage_leaves WHERE leaf = $1 AND state = 'OPEN' FOR SHARE", leaf
            )
            if is_open:
                await connection.execute(f"DROP INDEX IF EXISTS leaves.usage_{leaf}_stream, leaves.usage_{leaf}_late")
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def keep_filter(connection: asyncpg.Connection, shard: int, generation: Generation) -> None:
    """Store the filter of a generation that is complete: it stands for the keys of each commit."""
    bits = generation.filter.bits()
    async with connection.transaction():
        for piece, first in enumerate(range(0, len(bits), PIECE_BYTES)):
            await connection.execute(
                "INSERT INTO usage_filters (shard, generation, piece, blocks, bits) VALUES ($1, $2, $3, $4, $5)",
                shard,
                generation.number,
                piece,
                generation.filter.blocks,
                bits[first : first + PIECE_BYTES],
            )
        # The last one tells at which number the next begins.
        await connection.execute(
            "DELETE FROM usage_segments WHERE shard = $1 AND leaf = ANY ($2::integer[])"
            " AND sequence < (SELECT max(sequence) FROM usage_segments WHERE shard = $1)",
            shard,
            generation.leaves,
        )


async def known(connection: asyncpg.Connection, keys: KeyArray, *, leaves: Sequence[int]) -> Mask:
    """Which of the keys stand in the indexes of these leaves, or in what is kept of them. Of one snapshot, taken when
    the log can be read: a leaf that is being archived is in one of the two."""
    if len(keys) >= MANY_KEYS:
        free = {row["leaf"] for row in await connection.fetch(_GIVEN_BACK, leaves)}
        leaves = [leaf for leaf in leaves if leaf not in free]
    if not leaves:
        return np.zeros(len(keys), dtype=np.bool_)
    asked = [each.tobytes() for each in keys]
    # Planned once for these leaves. With their numbers as a parameter all leaves there are would be planned for, each
    # time: that takes longer than to look.
    numbers = ", ".join(str(int(each)) for each in leaves)
    rows = await connection.fetch(_KNOWN.format(leaves=numbers), [UUID(bytes=each) for each in asked])
    found = {row["key"].bytes for row in rows}
    return np.fromiter((each in found for each in asked), dtype=np.bool_, count=len(asked))


async def remembered(connection: asyncpg.Connection, shard: int, *, leaf_rows: int) -> Memory:
    """What has been written to a shard."""
    memory = Memory(leaf_rows)
    stored = await connection.fetch(
        "SELECT generation, array_agg(leaf ORDER BY leaf) AS leaves, sum(row_count)::bigint AS keys FROM usage_leaves"
        " WHERE shard = $1 AND state IN ('SEALED', 'ARCHIVED')"
        " GROUP BY generation ORDER BY abs(generation)",
        shard,
    )
    for row in stored:
        number, leaves = row["generation"], row["leaves"]
        size = max(LEAVES_PER_FILTER * leaf_rows if number >= 0 else BACKFILLED_KEYS, row["keys"])
        kept = await _filter(connection, shard, number, size=size)
        generation = Generation(number, kept or Filter(size), leaves, row["keys"], kept is not None)
        if kept is None:
            async for keys in _keys_of(connection, shard, leaves):
                generation.filter.add(keys)
        (memory.generations if number >= 0 else memory.backfilled).append(generation)
    rows = await connection.fetch(
        "SELECT leaf FROM usage_leaves WHERE shard = $1 AND state IN ('OPEN', 'FULL')"
        " ORDER BY state = 'OPEN', leaf",  # the one that is being written last
        shard,
    )
    for row in rows:
        recent = memory.begin_leaf(row["leaf"])
        async for keys in _keys_of(connection, shard, [row["leaf"]]):
            recent.add(keys)
    return memory


async def _filter(connection: asyncpg.Connection, shard: int, generation: int, *, size: int) -> Filter | None:
    """As it was kept."""
    rows = await connection.fetch(
        "SELECT blocks, bits FROM usage_filters WHERE shard = $1 AND generation = $2 ORDER BY piece", shard, generation
    )
    return Filter(size, b"".join([row["bits"] for row in rows]), blocks=rows[0]["blocks"]) if rows else None


async def remember(connection: asyncpg.Connection, shard: int, segment: int, into: KeySet) -> None:
    """The keys of a backfill that is open."""
    async for keys in _keys_of(connection, shard, [segment]):
        into.add(keys)


async def _keys_of(connection: asyncpg.Connection, shard: int, leaves: Sequence[int]) -> AsyncIterator[KeyArray]:
    after = 0
    while True:
        rows = await connection.fetch(
            "SELECT sequence, keys FROM usage_segments"
            " WHERE shard = $1 AND leaf = ANY ($2::integer[]) AND sequence > $3"
            " ORDER BY sequence LIMIT $4",
            shard,
            leaves,
            after,
            SEGMENTS_PER_READ,
        )
        if not rows:
            return
        after = rows[-1]["sequence"]
        yield np.frombuffer(b"".join([row["keys"] for row in rows]), dtype=KEY)


# What was reverted gives its keys back, unless it was corrected.
# Once that is so it stays so: what is reverted is neither closed nor corrected any more.
_GIVEN_BACK: Final = """
SELECT b.leaf FROM usage_backfills b WHERE b.leaf = ANY ($1::integer[])
GROUP BY b.leaf HAVING bool_and(b.revert_position IS NOT NULL AND NOT EXISTS (
    SELECT FROM usage_corrections c
    WHERE c.seller_id = b.seller_id AND c.corrects BETWEEN b.first_position AND b.last_position
))
"""
_KNOWN: Final = """
SELECT e.key FROM usage_log e WHERE e.leaf IN ({leaves}) AND e.key = ANY ($1::uuid[])
  AND (
      e.backfill IS NULL
      OR NOT EXISTS (SELECT FROM usage_backfills b WHERE b.number = e.backfill AND b.revert_position IS NOT NULL)
      OR EXISTS (SELECT FROM usage_corrections c WHERE c.seller_id = e.seller_id AND c.corrects = e.position)
  )
UNION ALL
SELECT a.key FROM usage_leaves l CROSS JOIN unnest($1::uuid[]) AS a (key) CROSS JOIN LATERAL (
    SELECT k.keys FROM usage_keys k WHERE k.leaf = l.leaf AND k.first_key <= a.key ORDER BY k.first_key DESC LIMIT 1
) k
WHERE l.leaf IN ({leaves}) AND l.state = 'ARCHIVED' AND a.key = ANY (k.keys)
"""
