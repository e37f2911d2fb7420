"""Knows how it is noted which usage may stand differently to a threshold, and how it stands.

What grew in the log, whose meter was gone through, or who got another name is marked, in one statement and whatever the
number of usage events; what is marked is due at once, or as soon as its period begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg
from sqlalchemy import Select, String, cast, select

from common.db import Tx
from common.period import Period
from metering.domain.threshold import AlertState, Rhythm, ThresholdId, UsageAlert, UsageThreshold
from metering.store.looks import BACKFILLED_SINCE, Look, Looks, stretch
from metering.store.threshold_tables import threshold_looks, usage_alerts

THRESHOLD_LOOKS: Final = Looks(threshold_looks)

ALERTS_DUE: Final[Select[Any]] = select(  # Any: the columns are by convention, see `common.jobs`
    usage_alerts.c.seller_id, cast(usage_alerts.c.number, String).label("id"), usage_alerts.c.due_time
)

STREAMS_PER_SWEEP: Final = 10_000


async def mark_grown(tx: Tx, before: Look, rhythms: Sequence[Rhythm], *, ahead: timedelta) -> Look:
    """What grew in the next leaves of the log; how far that was."""
    part = await stretch(tx, before)
    await tx.driver.execute(
        _MARK_GROWN,
        *_watched(tx, rhythms, ahead=ahead),
        part.leaves,
        part.after_position,
        part.last_position,
        part.backfilled,
    )
    return part.reached


async def mark_part(tx: Tx, threshold: UsageThreshold, *, after: str, ahead: timedelta) -> str:
    """The next of all that a threshold may be about, by customer as senders name it; the last one if more follow."""
    if threshold.customer_id:
        names = await _names(tx, threshold.customer_id)
    else:
        rows = await tx.driver.fetch(_STREAMS, tx.seller_id, threshold.meter, after, STREAMS_PER_SWEEP)
        names = [row["customer"] for row in rows]
    rhythms = [threshold.rhythm] if threshold.rhythm else []
    await tx.driver.execute(_MARK_NAMED, *_watched(tx, rhythms, ahead=ahead), names, threshold.id, "")
    return names[-1] if not threshold.customer_id and len(names) == STREAMS_PER_SWEEP else ""


async def mark_customer(tx: Tx, customer_id: str, rhythms: Sequence[Rhythm], *, ahead: timedelta) -> None:
    """All that is somebody's who is called otherwise now."""
    await tx.driver.execute(_MARK_AGAIN, tx.seller_id, tx.now, customer_id)
    names = await _names(tx, customer_id)
    await tx.driver.execute(_MARK_NAMED, *_watched(tx, rhythms, ahead=ahead), names, "", customer_id)


async def lock_alerts(tx: Tx, numbers: Sequence[int]) -> list[UsageAlert]:
    """Those of them that are due."""
    return [_alert(row) for row in await tx.driver.fetch(_LOCK, list(numbers), tx.now)]


async def save_alerts(tx: Tx, settled: Sequence[tuple[UsageAlert, UsageThreshold]]) -> None:
    alerts = [alert for alert, _ in settled]
    await tx.driver.execute(
        _SAVE,
        [alert.number for alert in alerts],
        [alert.state.name for alert in alerts],
        [alert.previous_state.name for alert in alerts],
        [alert.ended_state.name if alert.ended_state is not None else None for alert in alerts],
        [alert.quantity for alert in alerts],
        [alert.through_position for alert in alerts],
        [alert.change_time for alert in alerts],
        [alert.settled_mark for alert in alerts],
        [alert.next_moment(threshold) for alert, threshold in settled],
        [alert.meter_version for alert in alerts],
    )


async def remove_alerts(tx: Tx, numbers: Sequence[int]) -> None:
    await tx.driver.execute("DELETE FROM usage_alerts WHERE number = ANY ($1::bigint[])", list(numbers))


async def list_alerts(
    tx: Tx, *, threshold_id: str, customer_id: str, after: Sequence[str], limit: int
) -> list[UsageAlert]:
    """Of active thresholds, those that are not OK, after a threshold, a customer and the begin of a period."""
    last_threshold, last_customer, last_start = after or ("", "", "-infinity")
    rows = await tx.driver.fetch(
        _LIST, tx.seller_id, threshold_id, customer_id, last_threshold, last_customer, last_start, limit
    )
    return [_alert(row) for row in rows]


async def _names(tx: Tx, customer_id: str) -> list[str]:
    """All that it is or was called; of somebody who was not heard of, the id."""
    rows = await tx.driver.fetch(
        "SELECT name FROM customer_names WHERE seller_id = $1 AND customer_id = $2", tx.seller_id, customer_id
    )
    return [row["name"] for row in rows] or [customer_id]


def _watched(tx: Tx, rhythms: Sequence[Rhythm], *, ahead: timedelta) -> list[object]:
    found = [(rhythm, period) for rhythm in rhythms for period in rhythm.watched(tx.now, ahead=ahead)]
    return [
        tx.seller_id,
        tx.now,
        [rhythm.unit.name for rhythm, _ in found],
        [rhythm.time_zone for rhythm, _ in found],
        [period.start for _, period in found],
        [period.end for _, period in found],
    ]


def _alert(row: asyncpg.Record) -> UsageAlert:
    ended_state = row["ended_state"]
    return UsageAlert(
        number=row["number"],
        threshold_id=ThresholdId(row["threshold_id"]),
        meter=row["meter"],
        customer_id=row["customer_id"],
        period=Period(row["start_time"], row["end_time"]),
        state=AlertState[row["state"]],
        previous_state=AlertState[row["previous_state"]],
        ended_state=AlertState[ended_state] if ended_state else None,
        quantity=row["quantity"],
        through_position=row["through_position"],
        meter_version=row["meter_version"],
        change_time=row["change_time"],
        mark=row["mark"],
        settled_mark=row["settled_mark"],
    )


_STREAMS: Final = """
SELECT s.customer FROM usage_streams s WHERE s.seller_id = $1 AND s.meter = $2 AND s.customer > $3
ORDER BY s.customer LIMIT $4
"""

# Whose names were never heard of is taken by the id, as long as none of the seller's customers was. In one order, that
# of whoever settles: nobody waits for somebody who waits for him.
_MARK: Final = """
WITH watched AS MATERIALIZED (
    SELECT * FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
        AS w (unit, time_zone, start_time, end_time)
), touched AS MATERIALIZED ({touched})
INSERT INTO usage_alerts AS a (seller_id, threshold_id, customer_id, start_time, end_time, due_time)
SELECT DISTINCT $1, t.id, c.customer_id, p.start_time, p.end_time,
       CASE WHEN p.start_time <= $2 THEN timestamptz 'epoch' + interval '1 microsecond' ELSE p.start_time END
FROM touched s
CROSS JOIN LATERAL (
    SELECT n.customer_id, n.since_time, n.until_time FROM customer_names n
    WHERE n.seller_id = $1 AND n.name = s.customer
    UNION ALL
    SELECT s.customer, NULL, NULL WHERE starts_with(s.customer, 'cus_')
      AND NOT EXISTS (SELECT FROM sellers_with_customers h WHERE h.seller_id = $1)
) c
JOIN usage_thresholds t ON t.seller_id = $1 AND t.state = 'ACTIVE' AND t.meter = s.meter
    AND t.customer_id IN ('', c.customer_id)
JOIN meters m ON m.seller_id = $1 AND m.code = t.meter
CROSS JOIN LATERAL (
    SELECT w.start_time, w.end_time FROM watched w WHERE w.unit = t.unit AND w.time_zone = t.time_zone
    UNION ALL
    SELECT t.start_time, t.end_time WHERE t.unit = '' AND t.end_time + (t.end_time - t.start_time) > $2
) p
WHERE p.end_time > t.create_time AND s.first_time < p.end_time
  -- What is carried over is looked at when a period begins, whether anything grew or not.
  AND CASE WHEN m.carries_over THEN p.start_time <= $2 ELSE s.last_time >= p.start_time END
  AND (c.since_time IS NULL OR c.since_time <= p.start_time)
  AND (c.until_time IS NULL OR c.until_time > p.start_time)
  {only}
ORDER BY c.customer_id, t.id, p.start_time
ON CONFLICT (seller_id, customer_id, threshold_id, start_time) DO UPDATE SET {again}
"""
_AGAIN: Final = """
    mark = a.mark + 1,
    due_time = CASE WHEN a.start_time <= $2 THEN timestamptz 'epoch' + (a.mark + 1) * interval '1 microsecond'
               ELSE a.start_time END
"""
_MARK_GROWN: Final = _MARK.format(
    touched=f"""
    SELECT s.meter, s.customer, g.first_time, g.last_time
    FROM (
        SELECT e.stream, min(e.time) AS first_time, max(e.time) AS last_time FROM usage_log e
        WHERE e.seller_id = $1 AND e.leaf = ANY ($7::integer[]) AND e.position > $8 AND e.position <= $9
        GROUP BY e.stream
        UNION ALL
        SELECT e.stream, min(e.time) AS first_time, max(e.time) AS last_time FROM usage_log e
        WHERE e.leaf = ANY ($10::integer[]) AND {BACKFILLED_SINCE.format(after="$8", through="$9")}
        GROUP BY e.stream
    ) g JOIN usage_streams s ON s.stream = g.stream
    """,
    only="",
    again=_AGAIN,
)
_MARK_NAMED: Final = _MARK.format(
    touched="""
    SELECT s.meter, s.customer, timestamptz '-infinity' AS first_time, timestamptz 'infinity' AS last_time
    FROM usage_streams s
    WHERE s.seller_id = $1 AND s.customer = ANY ($7::text[]) AND s.meter = ANY (ARRAY(
        SELECT t.meter FROM usage_thresholds t WHERE t.seller_id = $1 AND t.state = 'ACTIVE' AND $8 IN ('', t.id)
    ))
    """,
    only="AND $8 IN ('', t.id) AND $9 IN ('', c.customer_id)",
    again=_AGAIN,
)
_MARK_AGAIN: Final = f"UPDATE usage_alerts a SET {_AGAIN} WHERE a.seller_id = $1 AND a.customer_id = $3"

# By number alone, whose they are is seen to by the database: asked for a seller's it would read all of the seller's.
_LOCK: Final = """
SELECT a.*, (
    SELECT t.meter FROM usage_thresholds t WHERE t.seller_id = a.seller_id AND t.id = a.threshold_id
) AS meter
FROM usage_alerts a
WHERE a.number = ANY ($1::bigint[]) AND a.due_time <= $2
ORDER BY a.customer_id, a.threshold_id, a.start_time FOR UPDATE OF a
"""
_SAVE: Final = """
UPDATE usage_alerts a
SET state = n.state, previous_state = n.previous_state, ended_state = n.ended_state, quantity = n.quantity,
    through_position = n.through_position, change_time = n.change_time, settled_mark = n.settled_mark,
    due_time = n.due_time, meter_version = n.meter_version
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::bigint[], $7::timestamptz[],
            $8::bigint[], $9::timestamptz[], $10::integer[])
    AS n (number, state, previous_state, ended_state, quantity, through_position, change_time, settled_mark, due_time,
          meter_version)
WHERE a.number = n.number
"""
_LIST: Final = """
SELECT a.*, t.meter FROM usage_alerts a
JOIN usage_thresholds t ON t.seller_id = a.seller_id AND t.id = a.threshold_id
WHERE a.seller_id = $1 AND a.state <> 'OK' AND t.state = 'ACTIVE' AND $2 IN ('', a.threshold_id)
  AND $3 IN ('', a.customer_id) AND (a.threshold_id, a.customer_id, a.start_time) > ($4, $5, $6::text::timestamptz)
ORDER BY a.threshold_id, a.customer_id, a.start_time LIMIT $7
"""
