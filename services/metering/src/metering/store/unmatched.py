"""Knows how usage is found that nobody counts: first the pairs of meter and customer, then the events of those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Select, literal_column, select

from common.db import Tx
from metering.domain.unmatched import UnmatchedUsage
from metering.store.corrections import NOT_REVERTED, valid

FIGURE_PAIRS_MAX: Final = 1_000
FIGURE_EVENTS_MAX: Final = 10_000
"""The figure stops counting there: it is taken every few seconds, to say whether there are any and roughly how many."""


async def list_unmatched(
    tx: Tx, *, after: Sequence[str], limit: int
) -> tuple[list[UnmatchedUsage], tuple[str, str] | None]:
    """Those of the next pairs after one, of which there may be fewer; and the last pair looked at if more follow."""
    meter, customer = after or ("", "")
    rows = await tx.driver.fetch(_LIST, tx.seller_id, meter, customer, limit + 1)
    found = [
        UnmatchedUsage(
            meter=row["meter"],
            customer=row["customer"],
            meter_is_known=row["meter_is_known"],
            name_id=row["name_id"] or "",
            event_count=row["event_count"],
            first_time=row["first_time"],
            last_time=row["last_time"],
            first_position=row["first_position"],
            last_position=row["last_position"],
        )
        for row in rows[:limit]
        # A pair may be written down and its events not, when their commit failed; or all of them were corrected.
        if row["event_count"]
    ]
    last = (rows[limit - 1]["meter"], rows[limit - 1]["customer"]) if len(rows) > limit else None
    return found, last


# Sellers have few meters and many pairs: from one code to the next along the index, instead of through all pairs. Of a
# meter that is there only the pairs are looked at that are not known to be somebody's.
_UNMATCHED: Final = """
    codes AS (
        (SELECT s.seller_id, s.meter FROM usage_streams s WHERE {of_seller} ORDER BY s.seller_id, s.meter LIMIT 1)
        UNION ALL
        SELECT n.seller_id, n.meter FROM codes c CROSS JOIN LATERAL (
            SELECT s.seller_id, s.meter FROM usage_streams s
            WHERE {of_seller} AND (s.seller_id, s.meter) > (c.seller_id, c.meter)
            ORDER BY s.seller_id, s.meter LIMIT 1
        ) n
    ), known AS MATERIALIZED (
        SELECT c.seller_id, c.meter,
               EXISTS (SELECT FROM meters m WHERE (m.seller_id, m.code) = (c.seller_id, c.meter)) AS meter_is_known,
               EXISTS (SELECT FROM sellers_with_customers h WHERE h.seller_id = c.seller_id) AS customers_are_known
        FROM codes c
    ), unmatched AS (
        SELECT s.stream, s.meter, s.customer, k.meter_is_known FROM known k CROSS JOIN LATERAL (
            SELECT s.stream, s.meter, s.customer FROM usage_streams s
            WHERE s.seller_id = k.seller_id AND s.meter = k.meter AND {after}
            ORDER BY s.customer LIMIT {limit}
        ) s
        WHERE NOT k.meter_is_known
        UNION ALL
        SELECT s.stream, s.meter, s.customer, k.meter_is_known FROM known k CROSS JOIN LATERAL (
            SELECT s.stream, s.meter, s.customer FROM usage_streams s
            WHERE s.seller_id = k.seller_id AND s.meter = k.meter AND NOT s.customer_known AND {after}
              AND NOT EXISTS (SELECT FROM customer_names n WHERE (n.seller_id, n.name) = (s.seller_id, s.customer))
            ORDER BY s.customer LIMIT {limit}
        ) s
        WHERE k.meter_is_known AND k.customers_are_known
    )
"""

_VALID: Final = valid(streams="IN (SELECT stream FROM page)")
_LIST: Final = f"""
WITH RECURSIVE {_UNMATCHED.format(of_seller="s.seller_id = $1", after="(s.meter, s.customer) > ($2, $3)", limit="$4")},
page AS (
    SELECT * FROM unmatched ORDER BY meter, customer LIMIT $4
)
SELECT p.meter, p.customer, p.meter_is_known, coalesce(u.event_count, 0) AS event_count,
       u.first_time, u.last_time, u.first_position, u.last_position, (
           SELECT t.id FROM unmatched_names t
           WHERE t.seller_id = $1 AND t.matched_time IS NULL
             AND t.reason = CASE WHEN p.meter_is_known THEN 'UNKNOWN_CUSTOMER' ELSE 'UNKNOWN_METER' END
             AND t.name = CASE WHEN p.meter_is_known THEN p.customer ELSE p.meter END
       ) AS name_id
FROM page p LEFT JOIN (
    SELECT e.stream, count(*) AS event_count, min(e.time) AS first_time, max(e.time) AS last_time,
           min(e.position) AS first_position, max(e.position) AS last_position
    FROM usage_log e WHERE e.stream = ANY (ARRAY(SELECT stream FROM page)) AND {_VALID} GROUP BY e.stream
) u ON u.stream = p.stream
ORDER BY p.meter, p.customer
"""

# Of many sellers, and of a few thousand events: each is looked up.
_VALID_OF_ANYBODY: Final = f"""e.corrects IS NULL AND {NOT_REVERTED} AND (
                SELECT count(*) FROM usage_corrections v WHERE v.seller_id = e.seller_id AND v.corrects = e.position
            ) = 0"""
# A branch of CASE that is not taken is not run: as long as every pair is matched, no usage event is looked at.
_COUNT: Final = f"""(
    WITH RECURSIVE {_UNMATCHED.format(of_seller="true", after="true", limit=FIGURE_PAIRS_MAX)}
    SELECT CASE WHEN cardinality(p.streams) > 0 THEN (
        SELECT count(*) FROM (
            SELECT FROM usage_log e WHERE e.stream = ANY (p.streams) AND {_VALID_OF_ANYBODY}
            LIMIT {FIGURE_EVENTS_MAX}
        ) found
    ) ELSE 0 END
    FROM (SELECT ARRAY(SELECT stream FROM unmatched LIMIT {FIGURE_PAIRS_MAX}) AS streams) p
)"""

UNMATCHED_EVENTS: Final[Select[Any]] = select(literal_column(_COUNT, BigInteger))  # Any: of one whole number
"""How many usage events nobody counts, of all sellers."""
