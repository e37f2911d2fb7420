"""Knows how a usage without proof is put together: whole days that are summed, and the events of all the rest.

    leaves that are summed        ·····[ events )[ day │ day │ day │ day )[ events )·····
    all other leaves              ·····[ events                                   )·····

Of one snapshot: a leaf is in the days from the very commit on that says that it is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import asyncpg

from common.db import Tx
from common.period import Period
from metering.domain.meter import Aggregation
from metering.domain.usage import Usage, UsageQuery

SEPARATOR: Final = "\x1f"
"""No key contains it: control characters are refused."""

_DAY: Final = timedelta(days=1)


async def totals(tx: Tx, queries: Sequence[UsageQuery], aggregations: Sequence[Aggregation]) -> list[Usage]:
    """In the order asked, each by one of the aggregations that are summed."""
    whole = [whole_days(query.period) for query in queries]
    rows = await tx.driver.fetch(
        _TOTALS,
        tx.seller_id,
        [SEPARATOR.join(query.customers) for query in queries],
        [query.meter for query in queries],
        [query.period.start for query in queries],
        [query.period.end for query in queries],
        [first for first, _ in whole],
        [last for _, last in whole],
    )
    return [_usage(*each) for each in zip(rows, queries, aggregations, strict=True)]


def whole_days(period: Period) -> tuple[datetime, datetime]:
    """The days of UTC that lie in a period; nothing, at its end, if none does."""
    start = _midnight(period.start)
    if start < period.start:
        start += _DAY
    end = _midnight(period.end)
    return (start, end) if start < end else (period.end, period.end)


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _usage(row: asyncpg.Record, query: UsageQuery, aggregation: Aggregation) -> Usage:
    quantity: Decimal | int | None = {
        Aggregation.SUM: row["value_sum"],
        Aggregation.COUNT: row["event_count"],
        Aggregation.MIN: row["value_min"],
        Aggregation.MAX: row["value_max"],
    }[aggregation]
    return Usage(
        query=query,
        quantity=Decimal(quantity or 0),
        event_count=row["event_count"],
        digest="",
        through_position=row["through_position"],
        traceparents=(),
        groups=(),
        values=(),
        windows=(),
    )


# A scalar subquery is run once, and what it says spares the leaves that it does not name.
_TOTALS: Final = r"""
WITH leaf AS MATERIALIZED (
    SELECT l.leaf, l.is_summed, l.start_time, l.end_time FROM usage_leaves l
), other AS MATERIALIZED (
    SELECT coalesce(array_agg(l.leaf), '{}') AS leaves FROM leaf l WHERE NOT l.is_summed
), summed AS MATERIALIZED (
    SELECT coalesce(array_agg(l.leaf), '{}') AS leaves FROM leaf l WHERE l.is_summed
)
SELECT d.event_count + o.event_count + e.event_count AS event_count,
       d.value_sum + o.value_sum + e.value_sum AS value_sum,
       least(d.value_min, o.value_min, e.value_min) AS value_min,
       greatest(d.value_max, o.value_max, e.value_max) AS value_max,
       coalesce((SELECT p.last FROM positions p WHERE p.seller_id = $1), 0) AS through_position
FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[])
    WITH ORDINALITY AS q (customers, meter, start_time, end_time, first_day, last_day, nth)
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT n.stream FROM usage_streams n
        WHERE n.seller_id = $1 AND n.meter = q.meter AND n.customer = ANY (string_to_array(q.customers, E'\x1f'))
    ) AS streams
) n
CROSS JOIN LATERAL (
    SELECT coalesce(sum(d.event_count), 0)::bigint AS event_count, coalesce(sum(d.value_sum), 0) AS value_sum,
           min(d.value_min) AS value_min, max(d.value_max) AS value_max
    FROM usage_days d
    WHERE d.stream = ANY (n.streams) AND d.day >= (q.first_day AT TIME ZONE 'UTC')::date
      AND d.day < (q.last_day AT TIME ZONE 'UTC')::date
) d
CROSS JOIN LATERAL (
    SELECT count(*) AS event_count, coalesce(sum(e.value), 0) AS value_sum,
           min(e.value) AS value_min, max(e.value) AS value_max
    FROM usage_log e
    WHERE e.leaf = ANY ((SELECT o.leaves FROM other o)::integer[]) AND e.stream = ANY (n.streams)
      AND e.time >= q.start_time AND e.time < q.end_time
) o
CROSS JOIN LATERAL (
    SELECT count(*) AS event_count, coalesce(sum(e.value), 0) AS value_sum,
           min(e.value) AS value_min, max(e.value) AS value_max
    FROM usage_log e
    WHERE e.leaf = ANY ((SELECT s.leaves FROM summed s)::integer[]) AND e.stream = ANY (n.streams)
      AND (q.start_time < q.first_day OR q.last_day < q.end_time)
      AND ((e.time >= q.start_time AND e.time < q.first_day) OR (e.time >= q.last_day AND e.time < q.end_time))
) e
ORDER BY q.nth
"""
