"""Knows how what is in a leaf gets into the sums of days, by which whole days are counted: once, whoever is at it.

open     what has come so far, every so often, as long as little comes     usage_summed: through which positions
sealed   the rest of it, or all                                            is_summed
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from metering.log.rows import copy
from metering.log.tally import COLUMNS, Days, Tally

DENSE: Final = 4
"""A leaf is summed if a day of a stream has so many events in it on average."""
DAYS_TOGETHER: Final = 8
SORT_MEMORY: Final = "256MB"
SUMMER_CLASS: Final = 7_203_163
"""Of the advisory locks by which leaves are summed."""


async def sum_days(connection: asyncpg.Connection, leaf: int, *, at_least: int, tally: Tally | None = None) -> None:
    """Add what is not in them yet of a leaf to the days of its streams, if a day of a stream has so many events in it
    on average, or a part of the leaf is in them. `tally` is of all of the leaf; None when nobody kept one.
    """
    await _sum_alone(connection, leaf)
    rows = await connection.fetch("SELECT seller_id, position FROM usage_summed WHERE leaf = $1", leaf)
    beyond = {row["seller_id"]: row["position"] for row in rows}
    days = await asyncio.to_thread(tally.days, beyond) if tally is not None else None
    if days is not None:
        day_count, event_count = await _take_over(connection, days)
    else:
        day_count, event_count = await _sum_rest(connection, leaf, is_begun=bool(beyond))
    if beyond or day_count * at_least <= event_count:
        await _add_days(connection, is_dense=day_count * DENSE <= event_count)
        await connection.execute("UPDATE usage_leaves SET is_summed = true WHERE leaf = $1", leaf)
        await connection.execute("DELETE FROM usage_summed WHERE leaf = $1", leaf)


async def sum_open(connection: asyncpg.Connection, leaf: int, *, at_least: int) -> int:
    """As `sum_days`, of the leaf that is being written; how many events are left."""
    async with connection.transaction():
        await _sum_alone(connection, leaf)
        if await connection.fetchval("SELECT is_summed FROM usage_leaves WHERE leaf = $1", leaf):
            return 0
        await connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        day_count, event_count = await _sum_rest(connection, leaf, is_begun=True)
        if day_count * at_least > event_count:
            return event_count
        await _add_days(connection, is_dense=True)
        await connection.execute(
            "INSERT INTO usage_summed (seller_id, leaf, position)"
            " SELECT seller_id, $1, max(position) FROM summed GROUP BY seller_id ORDER BY seller_id"
            " ON CONFLICT (seller_id, leaf) DO UPDATE SET position = excluded.position",
            leaf,
        )
    return 0


async def _sum_alone(connection: asyncpg.Connection, leaf: int) -> None:
    """An owner that was replaced may not know it yet: what is read afterwards is what the other one left."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", SUMMER_CLASS, leaf)


async def _sum_rest(connection: asyncpg.Connection, leaf: int, *, is_begun: bool) -> tuple[int, int]:
    """Put into `summed`, until the transaction ends, what a leaf has that is not in the days yet; how many days of
    streams that is, and how many events.
    """
    await connection.execute(
        f"SET LOCAL work_mem = '{SORT_MEMORY}';"
        "CREATE TEMPORARY TABLE summed ON COMMIT DROP AS"
        # A stream is of one seller: grouping by a number less is twice as fast.
        " SELECT any_value(e.seller_id) AS seller_id, e.stream, (e.time AT TIME ZONE 'UTC')::date AS day,"
        "  count(*) AS event_count, sum(e.value) AS value_sum, min(e.value) AS value_min, max(e.value) AS value_max,"
        "  max(e.position) AS position"
        f" FROM leaves.usage_{leaf} e {_BEYOND.format(leaf=leaf) if is_begun else ''} GROUP BY e.stream, day"
    )
    row = await connection.fetchrow("SELECT count(*), coalesce(sum(event_count), 0)::bigint FROM summed")
    assert row is not None, "what is read from a whole table is a row"
    return row[0], row[1]


async def _take_over(connection: asyncpg.Connection, days: Sequence[Days]) -> tuple[int, int]:
    """As `_sum_rest`, of what is known already."""
    await connection.execute(
        f"CREATE TEMPORARY TABLE summed ON COMMIT DROP AS SELECT {', '.join(COLUMNS)} FROM usage_days LIMIT 0"
    )
    await copy(connection, "summed", [each.rows() for each in days], columns=COLUMNS, schema=None)
    return sum(len(each.counts) for each in days), sum(int(each.counts.sum()) for each in days)


async def _add_days(connection: asyncpg.Connection, *, is_dense: bool) -> None:
    if is_dense:
        await connection.execute(_MAKE_ROOM)
    await connection.execute(_ADD_DAYS)


# A seller's positions come in the order of commits: whoever sees one sees all before it.
_BEYOND: Final = """
LEFT JOIN usage_summed s ON s.seller_id = e.seller_id AND s.leaf = {leaf} WHERE e.position > coalesce(s.position, 0)
"""
# Days that come one after the other would lie on a page each: who asks for a month would look at thirty. Those of a
# stream in which much happens get their places together, empty at first.
_MAKE_ROOM: Final = f"""
INSERT INTO usage_days (seller_id, stream, day, event_count, value_sum)
SELECT b.seller_id, b.stream, b.first_day + n, 0, 0
FROM (
    SELECT DISTINCT s.seller_id, s.stream, s.day - (s.day - date '1970-01-01') % {DAYS_TOGETHER} AS first_day
    FROM summed s WHERE NOT EXISTS (SELECT FROM usage_days d WHERE (d.stream, d.day) = (s.stream, s.day))
) b CROSS JOIN generate_series(0, {DAYS_TOGETHER} - 1) AS n ORDER BY b.stream, b.first_day + n
ON CONFLICT DO NOTHING
"""
# In one order: whoever else adds to the same days waits, and does not wait for us.
_ADD_DAYS: Final = """
INSERT INTO usage_days AS d (seller_id, stream, day, event_count, value_sum, value_min, value_max)
SELECT seller_id, stream, day, event_count, value_sum, value_min, value_max FROM summed ORDER BY stream, day
ON CONFLICT (stream, day) DO UPDATE SET
    event_count = d.event_count + excluded.event_count,
    value_sum = d.value_sum + excluded.value_sum,
    value_min = least(d.value_min, excluded.value_min),
    value_max = greatest(d.value_max, excluded.value_max)
"""
