"""Knows which usage events that a question is about are no longer in the log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from common.db import Tx
from metering.domain.errors import UsageArchived

POSITION_MAX: Final = 2**63 - 1


class Asked(NamedTuple):
    """Usage events that an answer looked at one by one."""

    meter: str
    customer: str
    """As senders name it."""
    start: datetime
    end: datetime
    through_position: int


async def check_in_log(tx: Tx, asked: Iterable[Asked], *, or_copied: bool = False) -> None:
    """Fails with UsageArchived when an answer may lack some. To be asked in the transaction that has read them, and
    afterwards: until it ends no leaf leaves the log, see `log.archives`.

    `or_copied` is for what was read from the copy of the log: that has what was archived after it was copied.
    """
    last: datetime | None = await tx.driver.fetchval(_LAST_ARCHIVED, or_copied)
    if last is None:
        return
    old = [each for each in asked if each.start <= last and each.start < each.end]
    if not old:
        return
    row = await tx.driver.fetchrow(
        _ARCHIVED,
        tx.seller_id,
        [each.meter for each in old],
        [each.customer for each in old],
        [each.start for each in old],
        [each.end for each in old],
        [each.through_position for each in old],
        or_copied,
    )
    if row is not None:
        raise _archived(row)


async def check_recountable(tx: Tx, meter: str, since: datetime) -> None:
    """Fails with UsageArchived when a meter has usage since an instant that nobody can count anew."""
    last: datetime | None = await tx.driver.fetchval(_LAST_ARCHIVED, False)
    if last is None or last < since:
        return
    row = await tx.driver.fetchrow(_ARCHIVED_OF_METER, tx.seller_id, meter, since)
    if row is not None:
        raise _archived(row)


def _archived(row: asyncpg.Record) -> UsageArchived:
    until = row["end_time"].isoformat()
    return UsageArchived(
        f"usage of {row['meter']} up to {until} is archived: ask for what came later, or have it restored",
        meter=row["meter"],
        end_time=until,
        leaf=row["leaf"],
    )


_LAST_ARCHIVED: Final = """
SELECT max(end_time) FROM usage_leaves
WHERE state = 'ARCHIVED' AND NOT ($1 AND coalesce(copied_count, 0) >= row_count)
"""
_ARCHIVED_OF_METER: Final = """
SELECT n.meter, a.end_time, a.leaf FROM usage_streams n JOIN usage_archives a ON a.stream = n.stream
WHERE n.seller_id = $1 AND n.meter = $2 AND a.end_time >= $3
ORDER BY a.end_time DESC LIMIT 1
"""
# An archived leaf is summed: on a day without a sum there is nothing archived either.
_DAYS: Final = """EXISTS (
          SELECT FROM {table} d WHERE d.stream = a.stream AND d.event_count > 0
          AND d.day >= (greatest(a.start_time, q.start_time) AT TIME ZONE 'UTC')::date
          AND d.day <= (least(a.end_time, q.end_time - interval '1 microsecond') AT TIME ZONE 'UTC')::date)"""
_ARCHIVED: Final = f"""
SELECT q.meter, a.end_time, a.leaf
FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
    AS q (meter, customer, start_time, end_time, through_position)
CROSS JOIN LATERAL (
    SELECT n.stream FROM usage_streams n
    WHERE n.seller_id = $1 AND n.meter = q.meter AND n.customer = q.customer OFFSET 0
) n
CROSS JOIN LATERAL (
    SELECT a.end_time, a.leaf FROM usage_archives a
    WHERE a.stream = n.stream AND a.start_time < q.end_time AND a.end_time >= q.start_time
      AND a.first_position <= q.through_position
      AND NOT ($7 AND (SELECT coalesce(l.copied_count, 0) >= l.row_count FROM usage_leaves l WHERE l.leaf = a.leaf))
      AND ({_DAYS.format(table="usage_days")} OR {_DAYS.format(table="usage_backfill_days")})
    ORDER BY a.end_time DESC LIMIT 1
) a
ORDER BY a.end_time DESC LIMIT 1
"""
