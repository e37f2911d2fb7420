"""Knows how the log is looked through for usage that came too late, and for which frozen usages it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, and_, exists, func, or_, select

from common.db import Tx
from metering.domain.freeze import FrozenUsageId, LateUsage
from metering.domain.meter import Meter
from metering.store.looks import BACKFILLED_SINCE, Look, Looks, moment, stretch
from metering.store.tables import late_looks, late_usages, usage_leaves

LATE_LOOKS: Final = Looks(late_looks)

_UNTOLD: Final = or_(
    late_usages.c.position > late_usages.c.announced_position,
    late_usages.c.meter_version > late_usages.c.announced_version,
)
_IN_ARCHIVES: Final = and_(
    late_usages.c.archived_leaf.is_not(None),
    exists().where(usage_leaves.c.leaf == late_usages.c.archived_leaf, usage_leaves.c.state == "ARCHIVED"),
)
LATE_USAGES_DUE: Final[Select[Any]] = select(  # Any: the columns are by convention, see `common.jobs`
    late_usages.c.seller_id,
    late_usages.c.freeze_id.label("id"),
    # Another moment than before, when it comes due once more.
    moment(late_usages.c.position + late_usages.c.meter_version + func.coalesce(late_usages.c.archived_leaf, 0)).label(
        "due_time"
    ),
).where(_UNTOLD, ~_IN_ARCHIVES)
LATE_IN_ARCHIVES: Final[Select[Any]] = (  # Any: of one whole number
    select(func.count()).select_from(late_usages).where(_UNTOLD, _IN_ARCHIVES)
)
"""How many cannot be counted until something is restored, of all sellers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """A frozen usage for which something may have come too late that nobody was told of."""

    frozen_id: FrozenUsageId
    position: int
    announced_position: int
    """Through which it was counted last; 0 if it never was."""
    announced_count: int
    announced_corrected_count: int
    is_recounted: bool
    """Another version of the meter counts it by now, and nobody was told."""


async def look(tx: Tx, before: Look) -> Look:
    """Note for which frozen usages something came too late, in the next leaves of the log; how far that was."""
    part = await stretch(tx, before)
    await tx.driver.execute(_LATE, tx.seller_id, part.leaves, part.after_position, part.last_position)
    if part.backfilled:
        await tx.driver.execute(_BACKFILLED, tx.seller_id, part.backfilled, part.after_position, part.last_position)
    return part.reached


async def mark_recounted(tx: Tx, meter: Meter) -> None:
    """Note which frozen usages the last version of a meter counts otherwise, because their periods begin with it."""
    version = meter.last
    await tx.driver.execute(_RECOUNTED, tx.seller_id, meter.code, version.effective_time, version.number)


async def lock_overtaken(tx: Tx, frozen_ids: Sequence[str]) -> list[Overtaken]:
    """Those of them that are to be announced."""
    rows = await tx.driver.fetch(
        "SELECT freeze_id, position, announced_position, announced_count, announced_corrected_count,"
        "  meter_version > announced_version AS is_recounted FROM late_usages WHERE seller_id = $1"
        "  AND freeze_id = ANY ($2::text[]) AND (position > announced_position OR meter_version > announced_version)"
        " ORDER BY freeze_id FOR UPDATE",
        tx.seller_id,
        list(frozen_ids),
    )
    return [
        Overtaken(
            frozen_id=FrozenUsageId(row["freeze_id"]),
            position=row["position"],
            announced_position=row["announced_position"],
            announced_count=row["announced_count"],
            announced_corrected_count=row["announced_corrected_count"],
            is_recounted=row["is_recounted"],
        )
        for row in rows
    ]


async def save_announced(tx: Tx, announced: Sequence[LateUsage]) -> None:
    await tx.driver.execute(
        "UPDATE late_usages l SET announced_position = n.position, announced_count = n.count,"
        "  announced_corrected_count = n.corrected_count, announced_version = l.meter_version,"
        "  archived_leaf = NULL"
        " FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])"
        "  AS n (freeze_id, position, count, corrected_count)"
        " WHERE l.seller_id = $1 AND l.freeze_id = n.freeze_id",
        tx.seller_id,
        [late.frozen.id for late in announced],
        [late.now.through_position for late in announced],
        [late.event_count for late in announced],
        [late.corrected_count for late in announced],
    )


async def wait_for_leaf(tx: Tx, frozen_id: str, leaf: int) -> None:
    """Leave it until that leaf is in the log again."""
    await tx.driver.execute(
        "UPDATE late_usages SET archived_leaf = $3 WHERE seller_id = $1 AND freeze_id = $2",
        tx.seller_id,
        frozen_id,
        leaf,
    )


# What is not before the end of every frozen period is late for none: nearly all that comes.
_OVERTAKEN: Final = """
INSERT INTO late_usages AS l (seller_id, freeze_id, position)
SELECT $1, f.id, max({position})
FROM usage_log e
JOIN usage_streams s ON s.stream = e.stream
JOIN usage_freeze_names n ON n.seller_id = $1 AND n.meter = s.meter AND n.customer = s.customer
JOIN usage_freezes f ON f.seller_id = $1 AND f.id = n.freeze_id
WHERE e.seller_id = $1 AND {rows}
  AND e.time < (SELECT max(end_time) FROM usage_freezes WHERE seller_id = $1)
  AND e.time >= f.counted_from AND e.time < f.end_time AND {position} > f.through_position
  AND NOT EXISTS (SELECT FROM usage_freezes r WHERE r.seller_id = $1 AND r.replaces = f.id)
GROUP BY f.id
ORDER BY f.id
ON CONFLICT (seller_id, freeze_id) DO UPDATE SET position = excluded.position
"""
_LATE: Final = _OVERTAKEN.format(
    rows="e.leaf = ANY ($2::integer[]) AND e.position > $3 AND e.position <= $4", position="e.position"
)
# What a backfill has brought is late when it is closed, and once more when it is reverted.
_BACKFILLED: Final = _OVERTAKEN.format(
    rows=f"e.leaf = ANY ($2::integer[]) AND {BACKFILLED_SINCE.format(after='$3', through='$4')}",
    position="coalesce((SELECT b.revert_position FROM usage_backfills b WHERE b.number = e.backfill), e.position)",
)
_RECOUNTED: Final = """
INSERT INTO late_usages AS l (seller_id, freeze_id, position, meter_version)
SELECT $1, f.id, f.through_position, $4
FROM usage_freezes f
WHERE f.seller_id = $1 AND f.meter = $2 AND f.start_time >= $3 AND f.end_time > $3
  AND NOT EXISTS (SELECT FROM usage_freezes r WHERE r.seller_id = $1 AND r.replaces = f.id)
ORDER BY f.id
ON CONFLICT (seller_id, freeze_id) DO UPDATE SET meter_version = excluded.meter_version
"""
