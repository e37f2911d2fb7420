"""Knows how the log is read to be copied: a leaf in blocks of its table, and how far that is noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

import asyncpg

COPIER_CLASS: Final = 7_203_160
"""Of the advisory locks by which one replica at a time copies a shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlace:
    """What is to be copied next."""

    leaf: int
    is_full: bool
    """Nothing more is written to it."""
    is_restored: bool
    """It was archived when it was copied, and is there again: how far a seller's copy is says nothing about it."""
    behind: Mapping[str, tuple[int, int]]
    """Of the sellers of whom not all is copied, through which position that is, and the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRows:
    """Some blocks of a leaf."""

    rows: bytes
    """Of what is not copied yet, as PostgreSQL's COPY writes text."""
    positions: Mapping[str, list[int]]
    """Theirs, by seller."""
    last_block: int
    """In which one of them was; 0 if there is none."""
    block_count: int
    """Of the leaf."""


class DayRows(NamedTuple):
    """Some rows of one day: how many, and the sum of a number that each of them has by what is in it."""

    row_count: int = 0
    digest: int = 0

    def plus(self, other: DayRows) -> DayRows:
        return DayRows(self.row_count + other.row_count, self.digest + other.digest)


async def become_copier(connection: asyncpg.Connection, shard: int) -> bool:
    """For as long as the connection is open. False while another replica is."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", COPIER_CLASS, shard))


async def place(connection: asyncpg.Connection, shard: int) -> CopyPlace | None:
    """None if nothing was ever stored."""
    # First the positions: what is stored in between is in the leaf that is open afterwards, or before it.
    behind = await connection.fetch(
        "SELECT p.seller_id, coalesce(c.position, 0) AS position, p.last FROM positions p"
        " LEFT JOIN usage_copies c USING (seller_id) WHERE p.shard = $1 AND p.last > coalesce(c.position, 0)",
        shard,
    )
    row = await connection.fetchrow(_NEXT_LEAF, shard)
    if row is None:
        return None
    return CopyPlace(
        leaf=row["leaf"],
        is_full=row["state"] != "OPEN",
        is_restored=row["is_restored"],
        behind={each["seller_id"]: (each["position"], each["last"]) for each in behind},
    )


async def copy_rows(connection: asyncpg.Connection, leaf: int, *, first: int, end: int, again: bool) -> CopyRows:
    """What is in the blocks from `first` to before `end`; only what is not noted to be copied, unless `again`."""
    block_count = await connection.fetchval(
        "SELECT coalesce(pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint, 0)",
        f"leaves.usage_{leaf}",
    )
    lines: list[bytes] = []
    rest = b""

    async def take(part: bytes) -> None:
        nonlocal rest
        *whole, rest = (rest + part).split(b"\n")
        lines.extend(whole)

    if first < block_count:
        await connection.copy_from_query(
            _ROWS.format(leaf=leaf, first=first, end=end, only="true" if again else _NOT_COPIED), output=take
        )
    positions: dict[str, list[int]] = {}
    rows = []
    last_block = 0
    for line in lines:
        block, row = line.split(b"\t", 1)
        seller_id, position, _ = row.split(b"\t", 2)
        last_block = max(last_block, int(block))
        positions.setdefault(seller_id.decode(), []).append(int(position))
        rows.append(row)
    return CopyRows(
        rows=b"".join(row + b"\n" for row in rows), positions=positions, last_block=last_block, block_count=block_count
    )


async def note(connection: asyncpg.Connection, reached: Mapping[str, int]) -> None:
    """Through which position each seller's is copied."""
    await connection.execute(
        "INSERT INTO usage_copies AS c (seller_id, position) SELECT * FROM unnest($1::text[], $2::bigint[])"
        " ON CONFLICT (seller_id) DO UPDATE SET position = greatest(c.position, excluded.position)",
        list(reached),
        list(reached.values()),
    )


async def count_rows(connection: asyncpg.Connection, leaf: int) -> int:
    """What is in a leaf. To be asked before it is copied: a backfill that is closed meanwhile may add to it."""
    count: int = await connection.fetchval("SELECT count(*) FROM usage_log WHERE leaf = $1", leaf)
    return count


async def note_leaf(connection: asyncpg.Connection, leaf: int, count: int) -> None:
    """So many rows of a leaf are copied; if it has more, it is copied again."""
    await connection.execute("UPDATE usage_leaves SET copied_count = $2 WHERE leaf = $1", leaf, count)


async def leaves_to_compare(connection: asyncpg.Connection) -> list[int]:
    """Those in which there may be anything that is copied."""
    rows = await connection.fetch("SELECT leaf FROM usage_leaves WHERE state <> 'READY' ORDER BY leaf")
    return [row["leaf"] for row in rows]


async def copied_positions(connection: asyncpg.Connection) -> dict[str, int]:
    """Through which position each seller's usage events are copied."""
    return {row["seller_id"]: row["position"] for row in await connection.fetch("SELECT * FROM usage_copies")}


async def leaf_days(
    connection: asyncpg.Connection, leaf: int, through: Mapping[str, int]
) -> dict[tuple[str, date], DayRows]:
    """What a leaf has of each day of UTC, as far as it is copied."""
    rows = await connection.fetch(_DAYS, leaf, list(through), list(through.values()))
    return {(row["seller_id"], row["day"]): DayRows(row["row_count"], int(row["digest"])) for row in rows}


async def archived_days(connection: asyncpg.Connection) -> list[tuple[str, date, date]]:
    """Of sellers, the first and the last day of what is no longer in the log."""
    rows = await connection.fetch(
        "SELECT DISTINCT seller_id, (start_time AT TIME ZONE 'UTC')::date AS first,"
        " (end_time AT TIME ZONE 'UTC')::date AS last FROM usage_archives"
    )
    return [(row["seller_id"], row["first"], row["last"]) for row in rows]


async def is_copied(connection: asyncpg.Connection, leaf: int) -> bool:
    """Whether all of a leaf is, which is sealed."""
    found: bool = await connection.fetchval(
        "SELECT coalesce(copied_count >= row_count, false) FROM usage_leaves WHERE leaf = $1", leaf
    )
    return found


# The open one last: backfills have leaves that come after it, and are whole from the beginning.
_NEXT_LEAF: Final = """
SELECT l.leaf, l.state, l.copied_count IS NOT NULL AS is_restored FROM usage_leaves l
WHERE l.shard = $1 AND l.state <> 'READY'
  AND (l.copied_count IS NULL OR (l.state = 'SEALED' AND l.copied_count < l.row_count))
ORDER BY l.state = 'OPEN', l.leaf LIMIT 1
"""
_NOT_COPIED: Final = "e.position > coalesce(c.position, 0)"
# In the order of `clickhouse.connection.COLUMNS`, after the number of the block.
_ROWS: Final = """
SELECT (e.ctid::text::point)[0]::bigint, e.seller_id, e.position, e.stream, s.source,
       (extract(epoch FROM e.time) * 1000000)::bigint, e.value, e.event_id,
       coalesce(e.corrects, 0), coalesce(e.version, 0), coalesce(e.dimensions::text, '')
FROM usage_log e JOIN usage_sources s ON s.number = e.source LEFT JOIN usage_copies c ON c.seller_id = e.seller_id
WHERE e.leaf = {leaf} AND e.ctid >= '({first},0)' AND e.ctid < '({end},0)' AND {only}
"""
# The number is the first 64 bits of MD5, which both stores can calculate: what is looked for are mistakes, not forgery.
_DAYS: Final = r"""
SELECT e.seller_id, (e.time AT TIME ZONE 'UTC')::date AS day, count(*) AS row_count,
       sum(('x' || substr(md5(concat_ws(
           E'\x1f', e.position, e.stream, s.source, e.event_id, (extract(epoch FROM e.time) * 1000000)::bigint,
           trim_scale(e.value), coalesce(e.corrects, 0), coalesce(e.version, 0), coalesce((
               SELECT string_agg(d.key || '=' || d.value, E'\x1e' ORDER BY d.key COLLATE "C")
               FROM jsonb_each_text(e.dimensions) d
           ), '')
       )), 1, 16))::bit(64)::bigint) AS digest
FROM usage_log e
JOIN usage_sources s ON s.number = e.source
JOIN unnest($2::text[], $3::bigint[]) AS c (seller_id, position)
    ON c.seller_id = e.seller_id AND e.position <= c.position
WHERE e.leaf = $1
GROUP BY e.seller_id, day
"""
