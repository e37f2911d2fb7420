"""Knows the SQL of usages: what is counted, its proof, and how it becomes quantities, groups and windows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from metering.store.corrections import EVER_CORRECTED, valid
from metering.store.expressions import VALUE_END

GROUPS_MAX: Final = 10_000
VALUES_MAX: Final = 10_000

# Arrays of different lengths do not pass through `unnest`: each is split where it is used.
_NAMED: Final = r"""
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT n.stream FROM usage_streams n
        WHERE n.seller_id = $1 AND n.meter = q.meter AND n.customer = ANY (string_to_array(q.customers, E'\x1f'))
    ) AS streams
) n
"""

_PLAIN_QUERIES: Final = f"""
unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::bigint[], $9::bigint[])
    WITH ORDINALITY AS q (customers, meter, counted_from, end_time, aggregation, through_position, fresh_after, nth)
{_NAMED}
"""

# Marks are split once, not for every event: hence the limit that is none.
_QUERIES: Final = f"""
unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::bigint[], $9::bigint[],
       $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::boolean[], $15::text[]::jsonpath[],
       $16::numeric[], $17::text[], $18::bigint[], $19::text[], $20::bigint[], $21::bigint[]) WITH ORDINALITY
    AS q (customers, meter, counted_from, end_time, aggregation, through_position, fresh_after,
          start_time, unique_dimension, first_dimension, second_dimension, with_values, filter,
          percentile, bucket_marks, bucket_step, window_marks, window_step, expression, nth)
{_NAMED}
CROSS JOIN LATERAL (
    SELECT string_to_array(q.bucket_marks, ',')::timestamptz[] AS buckets,
           string_to_array(q.window_marks, ',')::timestamptz[] AS windows
    OFFSET 0
) m
"""


_VALID: Final = valid(
    streams=r"""IN (
        SELECT s.stream FROM unnest($3::text[], $4::text[]) AS a (customers, meter)
        CROSS JOIN LATERAL unnest(string_to_array(a.customers, E'\x1f')) AS c (customer)
        JOIN usage_streams s ON (s.seller_id, s.meter, s.customer) = ($1, a.meter, c.customer)
    )""",
    through="q.through_position",
)


def _counted(*, value: str, filtered: bool, corrected: bool) -> str:
    """The usage events of a query. `value` is what one counts for; without a result it is not counted."""
    expressed = value != _SENT
    return f"""
    FROM (
        SELECT e.time, {value} AS value, e.value AS sent, e.event_id, e.dimensions, e.position, s.source
               {", e.version" if corrected else ""}
        FROM usage_log e JOIN usage_sources s ON s.number = e.source
        WHERE e.stream = ANY (n.streams) AND e.time >= q.counted_from AND e.time < q.end_time
          AND e.position <= q.through_position
          {f"AND {_VALID}" if corrected else ""}
          {"AND (q.filter IS NULL OR coalesce(e.dimensions, '{}') @@ q.filter)" if filtered else ""}
        {"OFFSET 0" if expressed else ""}
    ) e
    WHERE {f"abs(e.value) < {VALUE_END}" if expressed else "true"}
    """


TRACED: Final = """
CROSS JOIN LATERAL (
    WITH RECURSIVE newest AS (
        SELECT 0 AS nth, 0::bigint AS position, '' AS traceparent, 9223372036854775807 AS before
        UNION ALL
        SELECT w.nth + 1, i.position, i.traceparent,
               coalesce((SELECT max(b.position) FROM ingests b WHERE b.seller_id = $1 AND b.position < i.position), 0)
        FROM newest w
        CROSS JOIN LATERAL (SELECT max(p) AS last FROM unnest(u.positions) p WHERE p <= w.before) m
        CROSS JOIN LATERAL (
            SELECT i.position, i.traceparent FROM ingests i
            WHERE i.seller_id = $1 AND i.position >= m.last ORDER BY i.position LIMIT 1
        ) i
        WHERE w.nth < $2
    )
    SELECT coalesce(array_agg(w.traceparent ORDER BY w.nth), '{}') AS traceparents
    FROM newest w WHERE w.traceparent <> ''
) t
"""
"""Of `u.positions`, the last $2 requests that brought any of them."""

# No key can contain a separator (control characters are refused), so different events cannot have one digest.
_PROOF: Final = r"""
CROSS JOIN LATERAL (
    SELECT count(*) AS event_count,
           coalesce(sum(e.value), 0) AS value_sum,
           encode(sha256(convert_to(coalesce(string_agg(
               e.source || E'\x1f' || e.event_id || E'\x1f' || trim_scale(e.sent){version}, E'\n'
               ORDER BY e.source, e.event_id), ''), 'UTF8')), 'hex') AS digest,
           array_agg(e.position) AS positions
    {counted}
) u
{traced}
LEFT JOIN positions p ON p.seller_id = $1
"""

_BUCKET: Final = """
    width_bucket(e.time, m.buckets) AS bucket,
    div(extract(epoch FROM e.time - m.buckets[width_bucket(e.time, m.buckets)]), q.bucket_step) AS bucket_part
"""

_HELD: Final = "extract(epoch FROM q.end_time) - extract(epoch FROM greatest({0}.time, q.start_time))"
"""How long a change of a level lasts, in seconds."""

_TOTALS: Final = {
    "SUM": "u.value_sum",
    "AVERAGE": "u.value_sum",
    "COUNT": "u.event_count",
    "MAX": "(SELECT max(c.value) FROM counted c)",
    "MIN": "(SELECT min(c.value) FROM counted c)",
    "LATEST": "(SELECT c.value FROM counted c ORDER BY c.time DESC, c.source DESC, c.event_id DESC LIMIT 1)",
    "UNIQUE_COUNT": """(
        SELECT count(DISTINCT (c.dimensions ->> q.unique_dimension) COLLATE "C") FROM counted c)""",
    "WEIGHTED_SUM": f"(SELECT sum(c.value * ({_HELD.format('c')})) FROM counted c)",
    "PERCENTILE": """(
        SELECT c.value FROM counted c ORDER BY c.value
        LIMIT 1 OFFSET greatest(ceil(q.percentile * u.event_count * 0.01) - 1, 0)::bigint)""",
    "SUM_OF_MAX": f"""(
        SELECT sum(b.largest) FROM (
            SELECT max(e.value) AS largest FROM (SELECT e.value, {_BUCKET} FROM counted e) e
            GROUP BY e.bucket, e.bucket_part
        ) b)""",
}
"""What is added up of all events, by aggregation."""

_MEASURES: Final = {
    "SUM": "sum(e.value)",
    "AVERAGE": "sum(e.value)",
    "COUNT": "count(*)",
    "MAX": "max(e.value)",
    "MIN": "min(e.value)",
    "LATEST": """(array_agg(e.value ORDER BY e.time DESC, e.source DESC, e.event_id DESC)
        FILTER (WHERE q.aggregation = 'LATEST'))[1]""",
    "UNIQUE_COUNT": "count(DISTINCT e.counted) FILTER (WHERE q.aggregation = 'UNIQUE_COUNT')",
    "WEIGHTED_SUM": "sum(e.value * ({held})) FILTER (WHERE q.aggregation = 'WEIGHTED_SUM')",
    "PERCENTILE": """(array_agg(e.value ORDER BY e.value) FILTER (WHERE q.aggregation = 'PERCENTILE'))
        [ceil(q.percentile * count(*) * 0.01)::integer]""",
    "SUM_OF_MAX": "max(e.value)",
}
"""What is added up of the events that share group or window, and bucket: but for SUM_OF_MAX there is only one."""


def _case(measures: Mapping[str, str], aggregations: Collection[str]) -> str:
    """A branch that is not taken is not run, but it is planned: there are no more than are asked for."""
    cases = " ".join(f"WHEN '{each}' THEN {measures[each]}" for each in sorted(aggregations))
    return f"CAST(CASE q.aggregation {cases} END AS numeric)"


def _aggregated(counted: str, aggregations: Collection[str]) -> str:
    return f"""
CROSS JOIN LATERAL (
    WITH counted AS NOT MATERIALIZED (SELECT e.* {counted})
    SELECT coalesce({_case(_TOTALS, aggregations)}, 0) AS measure,
           CASE WHEN q.with_values AND u.event_count <= {VALUES_MAX} THEN
               ARRAY(SELECT c.value FROM counted c ORDER BY c.time, c.source, c.event_id)
           END AS values
) a
"""


def _measured(aggregations: Collection[str], *, held: str) -> str:
    measure = _case(_MEASURES, aggregations).format(held=held)
    return f"count(*) AS event_count, sum(e.value) AS value_sum, {measure} AS measure"


_OVER_BUCKETS: Final = """
    sum(b.event_count)::bigint AS event_count,
    sum(b.value_sum) AS value_sum,
    CASE q.aggregation WHEN 'SUM_OF_MAX' THEN sum(b.measure) ELSE max(b.measure) END AS measure
"""

_EVENT: Final = f"""
    e.time, e.source, e.event_id, e.value, (e.dimensions ->> q.unique_dimension) COLLATE "C" AS counted, {_BUCKET}
"""


def _grouped(counted: str, aggregations: Collection[str]) -> str:
    """No value of a dimension is empty, so the empty text is free to stand for events that do not name it."""
    return f"""
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(d.first ORDER BY d.first, d.second), '{{}}') AS firsts,
           coalesce(array_agg(d.second ORDER BY d.first, d.second), '{{}}') AS seconds,
           coalesce(array_agg(d.measure ORDER BY d.first, d.second), '{{}}') AS measures,
           coalesce(array_agg(d.event_count ORDER BY d.first, d.second), '{{}}') AS event_counts
    FROM (
        SELECT b.first, b.second, {_OVER_BUCKETS}
        FROM (
            SELECT e.first, e.second, {_measured(aggregations, held=_HELD.format("e"))}
            FROM (
                SELECT {_EVENT},
                       coalesce(e.dimensions ->> q.first_dimension, '') COLLATE "C" AS first,
                       coalesce(e.dimensions ->> q.second_dimension, '') COLLATE "C" AS second
                {counted} AND q.first_dimension IS NOT NULL
            ) e
            GROUP BY e.first, e.second, e.bucket, e.bucket_part
        ) b
        GROUP BY b.first, b.second
        ORDER BY b.first, b.second
        LIMIT {GROUPS_MAX} + 1
    ) d
) g
"""


def _windowed(counted: str, aggregations: Collection[str]) -> str:
    """What is carried over happened before all windows, at place 0. From the moments of its changes follows a level."""
    return f"""
CROSS JOIN LATERAL (
    SELECT array_agg(d.mark) AS window_marks, array_agg(d.part) AS window_steps,
           array_agg(d.measure) AS window_measures, array_agg(d.value_sum) AS window_value_sums,
           array_agg(d.event_count) AS window_event_counts
    FROM (
        SELECT b.mark, b.part, {_OVER_BUCKETS}
        FROM (
            SELECT e.mark, e.part, {_measured(aggregations, held="extract(epoch FROM e.time)")}
            FROM (
                SELECT e.*,
                       coalesce(div(extract(epoch FROM e.time - m.windows[e.mark]), q.window_step), 0)::bigint AS part
                FROM (
                    SELECT {_EVENT},
                           CASE WHEN e.time < q.start_time THEN 0 ELSE width_bucket(e.time, m.windows) END AS mark
                    {counted} AND q.window_marks IS NOT NULL
                ) e
            ) e
            GROUP BY e.mark, e.part, e.bucket, e.bucket_part
        ) b
        GROUP BY b.mark, b.part
    ) d
) w
"""


_NEWEST: Final = "coalesce((SELECT max(l.leaf) FROM usage_leaves l), 0)"

_PROVEN: Final = """
SELECT u.event_count, u.digest, t.traceparents,
       least(coalesce(p.last, 0), q.through_position) AS through_position,
       CASE WHEN q.fresh_after IS NOT NULL THEN
           (SELECT count(*) FROM unnest(u.positions) p WHERE p > q.fresh_after)
       ELSE 0 END AS fresh_count,
"""

LOOK: Final = f"SELECT {EVER_CORRECTED} AS corrected, {_NEWEST} AS newest"
"""What is looked at before anything is counted: whether the seller ever corrected anything, and the newest leaf."""
_VERSION: Final = r"|| coalesce(E'\x1f' || e.version, '')"

_SENT: Final = "e.value"


def _proof(counted: str, *, corrected: bool) -> str:
    return _PROOF.format(counted=counted, traced=TRACED, version=_VERSION if corrected else "")


def _as_looked_at(newest: int, *, corrected: bool) -> str:
    """Whether nothing has come since that would have been looked for otherwise. A statement that was planned without
    the newest leaf may well be carried out when it has events: then it is not the one that was looked at.
    """
    return f"{_NEWEST} = ${newest}" + ("" if corrected else f" AND NOT {EVER_CORRECTED}")


def _plain_usages_sql(*, corrected: bool) -> str:
    counted = _counted(value=_SENT, filtered=False, corrected=corrected)
    return f"""
{_PROVEN} CASE q.aggregation WHEN 'COUNT' THEN u.event_count ELSE u.value_sum END AS measure
FROM {_PLAIN_QUERIES} {_proof(counted, corrected=corrected)}
WHERE {_as_looked_at(10, corrected=corrected)}
ORDER BY q.nth
"""


PLAIN_USAGES: Final = {corrected: _plain_usages_sql(corrected=corrected) for corrected in (False, True)}
"""Of queries that ask for nothing but what is counted together with the proof; by `corrected`, see `usages_sql`."""


def usages_sql(
    values: Sequence[str], *, aggregations: Collection[str], grouped: bool, windowed: bool, corrected: bool
) -> str:
    """Of queries of some aggregations. `values` has the SQL of what events count for, of each expression.

    Unless `corrected`, it has no rows for a seller who has corrected anything; then it is right for everyone. Nor has
    it any when there is a newer leaf than the one that it is told of.

    Also within a batch only the queries that ask for more pay for it: a branch of CASE that is not taken is not run,
    and neither is a subquery whose condition is false for every event.
    """
    value = _SENT
    if values:
        cases = " ".join(f"WHEN {n} THEN {each}" for n, each in enumerate(values))
        value = f"CASE q.expression {cases} ELSE {_SENT} END"
    counted = _counted(value=value, filtered=True, corrected=corrected)
    columns, parts = ["a.measure", "a.values"], [_aggregated(counted, aggregations)]
    if grouped:
        columns += ["g.firsts", "g.seconds", "g.measures", "g.event_counts"]
        parts.append(_grouped(counted, aggregations))
    if windowed:
        columns += [f"w.window_{name}" for name in ("marks", "steps", "measures", "value_sums", "event_counts")]
        parts.append(_windowed(counted, aggregations))
    return f"""
{_PROVEN} {", ".join(columns)}
FROM {_QUERIES} {_proof(counted, corrected=corrected)} {" ".join(parts)}
WHERE {_as_looked_at(22, corrected=corrected)}
ORDER BY q.nth
"""
