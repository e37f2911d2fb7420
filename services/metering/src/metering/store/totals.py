"""Knows how a usage without proof is put together: whole days that are summed, and the events of all the rest.

    leaves that are summed        ·····[ events )[ day │ day │ events │ day )[ events )·····     see `settled`
    all other leaves              ·····[ events                                      )·····
    a leaf that is partly summed  as the first through some position, as the others beyond it

Days of a stream in which something was corrected are counted from their events: what their sums say is not looked at.

First it is read which leaves are which; then a statement is asked that names those only in which there is something to
look for: the log has a leaf for every million events, and the database would plan a look at each. What that statement
reads is of one snapshot; when another leaf has been summed until then, one of the streams corrected, or something came
of a name that was unknown, it says so, and is asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from common.db import Tx
from common.period import Period
from metering.domain.meter import Aggregation, MeterVersion
from metering.domain.usage import Usage, UsageQuery
from metering.store import archives, settled
from metering.store.archives import POSITION_MAX, check_in_log
from metering.store.corrections import valid
from metering.store.settled import Bounds, Sums

TRIES_MAX: Final = 10
SEPARATOR: Final = "\x1f"
"""No key contains it: control characters are refused."""
FEW_STREAMS: Final = 8
"""For so many at most, leaves without an index are not read whole, but those of their pages in which one of the streams
may be.
"""

PERIODS_MAX: Final = 1_000
"""At hand: most that are asked about are the same."""
_DAY: Final = timedelta(days=1)


async def totals(tx: Tx, queries: Sequence[UsageQuery], versions: Sequence[MeterVersion]) -> list[Usage] | None:
    """In the order asked, each by a version of its meter that is summed. None if it never is of one piece, because
    what is asked about is being corrected all the time: then it is to be counted.
    """
    periods = list(dict.fromkeys(query.period for query in queries))
    period_number = {period: n for n, period in enumerate(periods, start=1)}
    whole = [whole_days(period) for period in periods]
    bounds = [Bounds.of(*each) for each in zip(periods, whole, strict=True)]
    asked = [(nth, name) for nth, query in enumerate(queries) for name in query.customers]
    edges = _edges(periods, whole)
    few = len(asked) <= FEW_STREAMS
    for _ in range(TRIES_MAX):
        places = await tx.driver.fetchrow(
            _PLACES,
            tx.seller_id,
            SEPARATOR.join([queries[nth].meter for nth, _ in asked]),
            SEPARATOR.join([name for _, name in asked]),
            [start for start, _ in edges],
            [end for _, end in edges],
            min(start for start, _ in whole),
            max(end for _, end in whole),
            *(_PLAN_FOR_FEW if few else _PLAN_FOR_MANY),
        )
        assert places is not None, "what is read from one row is a row"
        found = list(zip(asked, places["streams"], strict=True))
        streams = [(nth, stream) for (nth, _), stream in found if stream]
        unknown = [each for each, stream in found if not stream]
        corrected = places["corrected"] > 0 or places["backfills"][1] > 0
        summed = tuple(tuple(places[name]) for name in ("edges", "marked", "through"))
        parts: dict[int, settled.Asked] = {}
        if few and not corrected:
            for nth, query in enumerate(queries):
                own = [stream for each, stream in streams if each == nth]
                parts[nth] = settled.Asked.of(own, bounds[period_number[query.period] - 1], summed)
        known = settled.known(tx.driver, parts)
        rows = await tx.driver.fetch(
            _totals_sql(
                bare=places["bare"],
                indexed=places["indexed"],
                marked=places["marked"],
                edges=places["edges"],
                are_edged=bool(edges),
                days=places["corrected_days"],
                backfilled=places["backfills"][0] > 0,
                corrected=corrected,
                few=few,
            ),
            tx.seller_id,
            len(queries),
            _numbers(nth for nth, _ in streams),
            _numbers(stream for _, stream in streams),
            _numbers(period_number[queries[nth].period] for nth, _ in streams),
            [period.start for period in periods],
            [period.end for period in periods],
            [first for first, _ in whole],
            [last for _, last in whole],
            places["position"],
            SEPARATOR.join([queries[nth].meter for nth, _ in unknown]),
            SEPARATOR.join([name for _, name in unknown]),
            [each.head_end for each in bounds],
            [each.settled for each in bounds],
            [nth in known for nth, _ in streams],
        )
        seen = rows[0]
        if not seen["appeared"] and all(seen[name] == places[name] for name in _SAME):
            if places["edges"]:
                await check_in_log(tx, _looked_at(queries))
            if places["corrected"]:
                await check_in_log(tx, _all_of(queries))
            known |= {nth: Sums.of(row, "settled") for nth, row in enumerate(rows) if nth not in known}
            settled.remember(tx.driver, {asked: known[nth] for nth, asked in parts.items()})
            sums = [Sums.of(row, "total").with_(known[nth]) for nth, row in enumerate(rows)]
            position = seen["through_position"]
            return [_usage(*each, position) for each in zip(sums, queries, versions, strict=True)]
    return None


def _numbers(numbers: Iterable[int]) -> str:
    """As PostgreSQL reads an array: of thousands that is much faster than one by one."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _looked_at(queries: Sequence[UsageQuery]) -> Iterator[archives.Asked]:
    """The parts of days. What whole days come to is known of every leaf that is archived."""
    for query in queries:
        first, last = whole_days(query.period)
        for start, end in ((query.period.start, first), (last, query.period.end)):
            for customer in query.customers:
                yield archives.Asked(query.meter, customer, start, end, POSITION_MAX)


def _all_of(queries: Sequence[UsageQuery]) -> Iterator[archives.Asked]:
    """Days in which something was corrected are counted from their events: any of them may be one."""
    for query in queries:
        for customer in query.customers:
            yield archives.Asked(query.meter, customer, query.period.start, query.period.end, POSITION_MAX)


def _edges(periods: Sequence[Period], whole: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The parts of days."""
    found: set[tuple[datetime, datetime]] = set()
    for period, (first, last) in zip(periods, whole, strict=True):
        found |= {(period.start, first), (last, period.end)}
    return sorted((start, end) for start, end in found if start < end)


@lru_cache(maxsize=PERIODS_MAX)
def whole_days(period: Period) -> tuple[datetime, datetime]:
    """The days of UTC that lie in a period; nothing, at its end, if none does."""
    start = _midnight(period.start)
    if start < period.start:
        start += _DAY
    end = _midnight(period.end)
    return (start, end) if start < end else (period.end, period.end)


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _usage(sums: Sums, query: UsageQuery, version: MeterVersion, position: int) -> Usage:
    quantity: Decimal | int = getattr(sums, _COLUMN[version.definition.aggregation])
    return Usage(
        query=query,
        quantity=Decimal(quantity),
        event_count=sums.event_count,
        digest="",
        through_position=position,
        meter_version=version.number,
        traceparents=(),
        groups=(),
        values=(),
        windows=(),
    )


_COLUMN: Final = {
    Aggregation.SUM: "value_sum",
    Aggregation.COUNT: "event_count",
    Aggregation.MIN: "value_min",
    Aggregation.MAX: "value_max",
}
# In no other can there be anything of a seller's.
_OF_SHARD: Final = "l.shard = (SELECT p.shard FROM positions p WHERE p.seller_id = $1)"
_EVER_CORRECTED: Final = "EXISTS (SELECT FROM usage_corrections c WHERE c.seller_id = $1)"
_SAME: Final = ("unsummed", "marked", "through", "backfills", "corrected")
# What says that another statement saw the same leaves, and the same backfills of the seller.
_SEEN: Final = {
    "unsummed": f"ARRAY(SELECT l.leaf FROM usage_leaves l WHERE NOT l.is_summed AND {_OF_SHARD} ORDER BY l.leaf)",
    "marked": "ARRAY(SELECT s.leaf FROM usage_summed s WHERE s.seller_id = $1 ORDER BY s.leaf)",
    "through": "ARRAY(SELECT s.position FROM usage_summed s WHERE s.seller_id = $1 ORDER BY s.leaf)",
    "backfills": """
        (SELECT ARRAY[count(b.leaf), count(b.revert_position)] FROM usage_backfills b WHERE b.seller_id = $1)
    """,
}
_POSITION: Final = "coalesce((SELECT p.last FROM positions p WHERE p.seller_id = $1), 0)"
# How many of the names that had no stream have one. When nothing came in, nobody looks.
_APPEARED: Final = rf"""
CASE WHEN {_POSITION} <> $10::bigint THEN (
    SELECT count((SELECT n.stream FROM usage_streams n
                  WHERE (n.seller_id, n.meter, n.customer) = ($1, a.meter, a.customer)))
    FROM unnest(string_to_array($11::text, E'\x1f'), string_to_array($12::text, E'\x1f')) AS a (meter, customer)
) ELSE 0 END
"""
# Where the streams were last corrected. For a seller who never corrected anything nobody looks.
_CORRECTED: Final = f"""
CASE WHEN {_EVER_CORRECTED} THEN coalesce(
    (SELECT max(c.position) FROM usage_corrections c WHERE c.stream = ANY ({{streams}})), 0) ELSE 0 END
"""
# What is asked about few streams is planned once for any few, in a third of the time, and never reads a whole leaf: the
# planner does not know that rows lie in order of their streams, and would not go by what pages tell of themselves.
_PLAN_FOR_FEW: Final = ("force_generic_plan", "off")
# What is asked about many is planned for those and their leaves: else it would look up a thousand one by one.
_PLAN_FOR_MANY: Final = ("force_custom_plan", "on")
# Each name is looked up, however few names there seem to be. Behind (SELECT $n) the planner sees no values: so it finds
# that it need not plan this anew for each of them, before it has been told so for what is asked next.
_PLACES: Final = rf"""
WITH unsummed AS (
    SELECT l.leaf, to_regclass('leaves.usage_' || l.leaf || '_stream') IS NOT NULL AS is_indexed
    FROM usage_leaves l WHERE NOT l.is_summed AND {_OF_SHARD}
), asked AS MATERIALIZED (
    SELECT ARRAY(
        SELECT (SELECT n.stream FROM usage_streams n
                WHERE (n.seller_id, n.meter, n.customer) = ($1, a.meter, a.customer))
        FROM unnest(string_to_array((SELECT $2::text), E'\x1f'), string_to_array((SELECT $3::text), E'\x1f'))
            WITH ORDINALITY AS a (meter, customer, nth) ORDER BY a.nth
    ) AS streams
)
SELECT a.streams, {", ".join(f"{sql} AS {name}" for name, sql in _SEEN.items())},
ARRAY(SELECT l.leaf FROM unsummed l WHERE NOT l.is_indexed) AS bare,
ARRAY(SELECT l.leaf FROM unsummed l WHERE l.is_indexed) AS indexed,
ARRAY(
    SELECT l.leaf FROM usage_leaves l WHERE l.is_summed AND {_OF_SHARD} AND EXISTS (
        SELECT FROM unnest((SELECT $4::timestamptz[]), (SELECT $5::timestamptz[])) AS e (start_time, end_time)
        WHERE e.start_time <= l.end_time AND e.end_time > l.start_time
    )
) AS edges,
{_POSITION} AS position,
{_CORRECTED.format(streams="a.streams")} AS corrected,
CASE WHEN {_EVER_CORRECTED} THEN ARRAY(
    SELECT l.leaf FROM usage_leaves l WHERE l.is_summed AND {_OF_SHARD} AND EXISTS (
        SELECT FROM usage_corrections c
        WHERE c.stream = ANY (a.streams) AND c.day >= ((SELECT $6::timestamptz) AT TIME ZONE 'UTC')::date
          AND c.day < ((SELECT $7::timestamptz) AT TIME ZONE 'UTC')::date
          AND c.day <= (l.end_time AT TIME ZONE 'UTC')::date AND c.day >= (l.start_time AT TIME ZONE 'UTC')::date
    )
) ELSE '{{}}' END AS corrected_days,
set_config('plan_cache_mode', $8, true), set_config('enable_seqscan', $9, true)  -- of what is asked next
FROM asked a
"""
_TOTAL: Final = """
    SELECT nth, sum(event_count)::bigint AS event_count, sum(value_sum) AS value_sum, min(value_min) AS value_min,
           max(value_max) AS value_max
    FROM ({parts}) p GROUP BY nth
"""
_NONE_SETTLED: Final = """
    SELECT 0::bigint AS nth, 0::bigint AS event_count, NULL::numeric AS value_sum, NULL::numeric AS value_min,
           NULL::numeric AS value_max WHERE false
"""
_SUMS: Final = (
    "count(*) AS event_count, sum(e.value) AS value_sum, min(e.value) AS value_min, max(e.value) AS value_max"
)
_SCANNED: Final = f"""
    SELECT s.nth, {_SUMS}
    FROM stream s JOIN usage_log e ON e.stream = s.stream
    WHERE e.leaf IN ({{leaves}}) AND {{times}}
    GROUP BY s.nth
"""
_LOOKED_UP: Final = f"""
    SELECT s.nth, e.* FROM {{streams}} s CROSS JOIN LATERAL (
        SELECT {_SUMS} FROM usage_log e WHERE e.stream = s.stream AND e.leaf IN ({{leaves}}) AND {{times}}
    ) e
"""
_DAYS: Final = """
    SELECT s.nth, d.* FROM stream s CROSS JOIN LATERAL (
        SELECT sum(d.event_count)::bigint AS event_count, sum(d.value_sum) AS value_sum,
               min(d.value_min) AS value_min, max(d.value_max) AS value_max
        FROM {table} d WHERE d.stream = s.stream AND d.day >= s.first_date AND d.day < s.last_date {days}
    ) d
"""
_WITHOUT_CORRECTED: Final = (
    "AND NOT EXISTS (SELECT FROM usage_corrections c WHERE c.stream = d.stream AND c.day = d.day)"
)
_CORRECTED_DAYS: Final = f"""
    SELECT s.nth, e.* FROM stream s CROSS JOIN LATERAL (
        SELECT {_SUMS}
        FROM (
            SELECT DISTINCT c.day::timestamp AT TIME ZONE 'UTC' AS start_time,
                   (c.day + 1)::timestamp AT TIME ZONE 'UTC' AS end_time
            FROM usage_corrections c WHERE c.stream = s.stream AND c.day >= s.first_date AND c.day < s.last_date
        ) d
        JOIN usage_log e ON e.stream = s.stream AND e.time >= d.start_time AND e.time < d.end_time
        WHERE e.leaf IN ({{leaves}}) AND {{times}}
    ) e
"""
_VALID: Final = valid(streams="= ANY ($4::text::bigint[])")
_THROUGH: Final = "(SELECT s.position FROM usage_summed s WHERE s.seller_id = $1 AND s.leaf = {leaf})"
_ALL: Final = "e.time >= s.start_time AND e.time < s.end_time"
# Not to be looked up by time, of which the planner expects little: by position it is next to nothing.
_ALL_BEYOND: Final = f"coalesce({_ALL}, false)"
_EDGES: Final = "((e.time >= s.start_time AND e.time < s.first_day) OR (e.time >= s.last_day AND e.time < s.end_time))"
_SETTLED: Final = "((e.time >= s.start_time AND e.time < s.head_end) OR (e.time >= s.last_day AND e.time < s.settled))"
_UNSETTLED: Final = "(e.time >= s.settled AND e.time < s.end_time)"


def _totals_sql(
    *,
    bare: Sequence[int],
    indexed: Sequence[int],
    marked: Sequence[int],
    edges: Sequence[int],
    are_edged: bool,
    days: Sequence[int],
    backfilled: bool,
    corrected: bool,
    few: bool,
) -> str:
    """Unless `corrected`, of streams in which nothing was, and of a seller who reverted no backfill; unless
    `backfilled`, of one who never closed any. What is settled of few streams apart, unless it is known.
    """
    summed = ("usage_days", "usage_backfill_days") if backfilled else ("usage_days",)
    parts = [_DAYS.format(table=table, days=_WITHOUT_CORRECTED if corrected else "") for table in summed]
    apart = [_NONE_SETTLED]
    of_edges = _UNSETTLED if few and not corrected else _EDGES
    asked: list[tuple[Collection[int], str, str]] = [
        (set(bare) - set(marked), _LOOKED_UP if few else _SCANNED, _ALL),
        (set(indexed) - set(marked), _LOOKED_UP, _ALL),
        (edges, _LOOKED_UP, of_edges),
        (days, _CORRECTED_DAYS, "true"),
    ]
    for leaf in marked:
        through = _THROUGH.format(leaf=leaf)
        events = _LOOKED_UP if few or leaf in indexed else _SCANNED
        asked.append(({leaf}, events, f"{_ALL_BEYOND} AND e.position > {through}"))
        if are_edged:
            asked.append(({leaf}, _LOOKED_UP, f"{of_edges} AND e.position <= {through}"))
        if corrected:
            asked.append(({leaf}, _CORRECTED_DAYS, f"e.position <= {through}"))
    for leaves, events, times in asked:
        if leaves:
            only = f"{times} AND {_VALID}" if corrected else times
            parts.append(events.format(streams="stream", leaves=_listed(leaves), times=only))
    if of_edges is _UNSETTLED:
        if edges:
            apart.append(_LOOKED_UP.format(streams="unsettled", leaves=_listed(edges), times=_SETTLED))
        for leaf in marked:
            times = f"{_SETTLED} AND e.position <= {_THROUGH.format(leaf=leaf)}"
            apart.append(_LOOKED_UP.format(streams="unsettled", leaves=_listed({leaf}), times=times))
    seen = {
        "through_position": _POSITION,
        "appeared": _APPEARED,
        "corrected": _CORRECTED.format(streams="$4::text::bigint[]"),
        **_SEEN,
    }
    return f"""
WITH stream AS (
    SELECT p.*,
           (p.first_day AT TIME ZONE 'UTC')::date AS first_date, (p.last_day AT TIME ZONE 'UTC')::date AS last_date
    FROM (
        SELECT n.nth, n.stream, n.is_settled,
               ($6::timestamptz[])[n.period] AS start_time, ($7::timestamptz[])[n.period] AS end_time,
               ($8::timestamptz[])[n.period] AS first_day, ($9::timestamptz[])[n.period] AS last_day,
               ($13::timestamptz[])[n.period] AS head_end, ($14::timestamptz[])[n.period] AS settled
        FROM unnest($3::text::bigint[], $4::text::bigint[], $5::text::integer[], $15::boolean[])
            AS n (nth, stream, period, is_settled)
    ) p
), unsettled AS (
    SELECT * FROM stream WHERE NOT is_settled
), total AS (
    {_TOTAL.format(parts=" UNION ALL ".join(parts))}
), settled AS (
    {_TOTAL.format(parts=" UNION ALL ".join(apart))}
)
SELECT {", ".join(f"{part}.{name} AS {part}_{name}" for part in ("total", "settled") for name in Sums._fields)},
       {", ".join(f"CASE WHEN q.nth = 0 THEN {sql} END AS {name}" for name, sql in seen.items())}
FROM generate_series(0, $2::bigint - 1) AS q (nth) LEFT JOIN total USING (nth) LEFT JOIN settled USING (nth)
ORDER BY q.nth
"""


def _listed(leaves: Collection[int]) -> str:
    return ", ".join(map(str, sorted(leaves)))
