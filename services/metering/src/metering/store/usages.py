"""Knows how stored usage events become usages: quantity, groups, values and their proof, of one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from common.db import Tx
from metering.domain.dimension import GROUP_BY_MAX
from metering.domain.errors import TooManyGroups, TooManyValues
from metering.domain.meter import Aggregation, Meter
from metering.domain.usage import Usage, UsageGroup, UsageQuery

TRACEPARENTS_MAX: Final = 4
GROUPS_MAX: Final = 10_000
VALUES_MAX: Final = 10_000
SEPARATOR: Final = "\x1f"
"""No key contains it: control characters are refused."""


async def usages(tx: Tx, queries: Sequence[UsageQuery], *, meters: Mapping[str, Meter]) -> list[Usage]:
    """All of them in one statement: quantity, digest and position are of one snapshot."""
    asked = [
        tx.seller_id,
        TRACEPARENTS_MAX,
        [SEPARATOR.join(query.customers) for query in queries],
        [query.meter for query in queries],
        [query.period.start for query in queries],
        [query.period.end for query in queries],
        [meters[query.meter].aggregation.name for query in queries],
    ]
    if all(_is_plain(query, meters[query.meter].aggregation) for query in queries):
        rows = await tx.driver.fetch(_PLAIN_USAGES, *asked)
    else:
        group_bys = [(*query.group_by, *[None] * GROUP_BY_MAX)[:GROUP_BY_MAX] for query in queries]
        rows = await tx.driver.fetch(
            _USAGES,
            *asked,
            [meters[query.meter].unique_dimension for query in queries],
            [first for first, _ in group_bys],
            [second for _, second in group_bys],
            [query.with_values for query in queries],
            GROUPS_MAX,
            VALUES_MAX,
        )
    return [_usage(row, query) for row, query in zip(rows, queries, strict=True)]


def _is_plain(query: UsageQuery, aggregation: Aggregation) -> bool:
    """Nothing is asked for but what is counted together with the proof."""
    return aggregation in _COUNTED_WITH_THE_PROOF and not query.group_by and not query.with_values


def _usage(row: asyncpg.Record, query: UsageQuery) -> Usage:
    if query.with_values and row["event_count"] > VALUES_MAX:
        raise TooManyValues(f"{query.meter} has more than {VALUES_MAX} values", meter=query.meter, limit=VALUES_MAX)
    return Usage(
        query=query,
        quantity=row["quantity"],
        event_count=row["event_count"],
        digest=row["digest"],
        through_position=row["through_position"],
        traceparents=tuple(row["traceparents"]),
        groups=_groups(row, query) if query.group_by else (),
        values=tuple(row["values"]) if query.with_values else (),
    )


def _groups(row: asyncpg.Record, query: UsageQuery) -> tuple[UsageGroup, ...]:
    found = list(zip(row["firsts"], row["seconds"], row["quantities"], row["event_counts"], strict=True))
    if len(found) > GROUPS_MAX:
        raise TooManyGroups(f"{query.meter} has more than {GROUPS_MAX} groups", meter=query.meter, limit=GROUPS_MAX)
    return tuple(
        UsageGroup(values=(first, second)[: len(query.group_by)], quantity=quantity, event_count=event_count)
        for first, second, quantity, event_count in found
    )


_COUNTED_WITH_THE_PROOF: Final = frozenset({Aggregation.SUM, Aggregation.COUNT})

_PLAIN_QUERIES: Final = """
unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[]) WITH ORDINALITY
    AS q (customers, meter, start_time, end_time, aggregation, nth)
"""

_QUERIES: Final = """
unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[],
       $8::text[], $9::text[], $10::text[], $11::boolean[]) WITH ORDINALITY
    AS q (customers, meter, start_time, end_time, aggregation,
          unique_dimension, first_dimension, second_dimension, with_values, nth)
"""

# Arrays of different lengths do not pass through `unnest`: each is split where it is used.
_COUNTED: Final = r"""
    FROM usage_events e
    WHERE e.seller_id = $1 AND e.meter = q.meter AND e.customer = ANY (string_to_array(q.customers, E'\x1f'))
      AND e.time >= q.start_time AND e.time < q.end_time
"""

# No key can contain a separator (control characters are refused), so different events cannot have one digest.
_PROOF: Final = rf"""
CROSS JOIN LATERAL (
    SELECT count(*) AS event_count,
           coalesce(sum(e.value), 0) AS value_sum,
           encode(sha256(convert_to(coalesce(string_agg(
               e.source || E'\x1f' || e.event_id || E'\x1f' || trim_scale(e.value), E'\n'
               ORDER BY e.source, e.event_id), ''), 'UTF8')), 'hex') AS digest,
           array_agg(DISTINCT e.ingest_id) AS ingest_ids
    {_COUNTED}
) u
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(newest.traceparent ORDER BY newest.position DESC), '{{}}') AS traceparents
    FROM (
        SELECT i.traceparent, i.position FROM ingests i
        WHERE i.seller_id = $1 AND i.id = ANY (u.ingest_ids) AND i.traceparent <> ''
        ORDER BY i.position DESC LIMIT $2
    ) newest
) t
LEFT JOIN positions p ON p.seller_id = $1
"""

# Also within a batch only the queries that ask for more pay for it: a branch of CASE that is not taken is not run, and
# neither is a subquery whose condition is false for every event.
_AGGREGATED: Final = f"""
CROSS JOIN LATERAL (
    WITH counted AS NOT MATERIALIZED (SELECT e.* {_COUNTED})
    SELECT CASE q.aggregation
               WHEN 'SUM' THEN u.value_sum
               WHEN 'COUNT' THEN u.event_count
               WHEN 'MAX' THEN coalesce((SELECT max(c.value) FROM counted c), 0)
               WHEN 'LATEST' THEN coalesce((
                   SELECT c.value FROM counted c ORDER BY c.time DESC, c.source DESC, c.event_id DESC LIMIT 1), 0)
               WHEN 'UNIQUE_COUNT' THEN (
                   SELECT count(DISTINCT (c.dimensions ->> q.unique_dimension) COLLATE "C") FROM counted c)
           END AS quantity,
           CASE WHEN q.with_values AND u.event_count <= $13 THEN
               ARRAY(SELECT c.value FROM counted c ORDER BY c.time, c.source, c.event_id)
           END AS values
) a
"""

# No value of a dimension is empty, so the empty text is free to stand for events that do not name it.
_GROUPED: Final = f"""
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(d.first ORDER BY d.first, d.second), '{{}}') AS firsts,
           coalesce(array_agg(d.second ORDER BY d.first, d.second), '{{}}') AS seconds,
           coalesce(array_agg(d.quantity ORDER BY d.first, d.second), '{{}}') AS quantities,
           coalesce(array_agg(d.event_count ORDER BY d.first, d.second), '{{}}') AS event_counts
    FROM (
        SELECT e.first, e.second, count(*) AS event_count,
               CASE q.aggregation
                   WHEN 'SUM' THEN sum(e.value)
                   WHEN 'COUNT' THEN count(*)
                   WHEN 'MAX' THEN max(e.value)
                   WHEN 'LATEST' THEN (array_agg(e.value ORDER BY e.time DESC, e.source DESC, e.event_id DESC)
                                       FILTER (WHERE q.aggregation = 'LATEST'))[1]
                   WHEN 'UNIQUE_COUNT' THEN count(DISTINCT e.counted)
                                            FILTER (WHERE q.aggregation = 'UNIQUE_COUNT')
               END AS quantity
        FROM (
            SELECT e.time, e.source, e.event_id, e.value,
                   (e.dimensions ->> q.unique_dimension) COLLATE "C" AS counted,
                   coalesce(e.dimensions ->> q.first_dimension, '') COLLATE "C" AS first,
                   coalesce(e.dimensions ->> q.second_dimension, '') COLLATE "C" AS second
            {_COUNTED} AND q.first_dimension IS NOT NULL
        ) e
        GROUP BY e.first, e.second
        ORDER BY e.first, e.second
        LIMIT $12::bigint + 1
    ) d
) g
"""

_PROVEN: Final = "SELECT u.event_count, u.digest, t.traceparents, coalesce(p.last, 0) AS through_position,"

_PLAIN_USAGES: Final = f"""
{_PROVEN} CASE q.aggregation WHEN 'SUM' THEN u.value_sum ELSE u.event_count END AS quantity
FROM {_PLAIN_QUERIES} {_PROOF}
ORDER BY q.nth
"""

_USAGES: Final = f"""
{_PROVEN} a.quantity, a.values, g.firsts, g.seconds, g.quantities, g.event_counts
FROM {_QUERIES} {_PROOF} {_AGGREGATED} {_GROUPED}
ORDER BY q.nth
"""
