"""Knows how the log is looked through for usage that came too late, and for which frozen usages it did.

What is stored after a look is in the leaf that was open then, or in a later one: so each leaf is read about once,
however long the log is, and only for sellers who have frozen something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal_column, select

from common.db import Tx
from metering.domain.freeze import FrozenUsageId, LateUsage
from metering.store.tables import late_looks, late_usages, positions

LEAVES_PER_LOOK: Final = 4


def _moment(number: ColumnElement[int]) -> ColumnElement[datetime]:
    """Long past, and with every greater number another one: the time of a sandbox may stand still meanwhile."""
    micros: ColumnElement[Any] = literal_column("interval '1 microsecond'")  # Any: an interval
    epoch: ColumnElement[Any] = literal_column("timestamptz 'epoch'")  # Any: an instant
    return epoch + cast(number, BigInteger) * micros


LOOKS_DUE: Final[Select[Any]] = (  # Any: the columns are by convention, see `common.jobs`
    select(
        late_looks.c.seller_id,
        late_looks.c.seller_id.label("id"),
        func.greatest(late_looks.c.next_time, _moment(positions.c.last + late_looks.c.leaf)).label("due_time"),
    )
    .join(positions, positions.c.seller_id == late_looks.c.seller_id)
    .where(positions.c.last > late_looks.c.position)
)

LATE_USAGES_DUE: Final[Select[Any]] = select(  # Any: as above
    late_usages.c.seller_id, late_usages.c.freeze_id.label("id"), _moment(late_usages.c.position).label("due_time")
).where(late_usages.c.position > late_usages.c.announced_position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How far a look has come."""

    leaf: int
    """All before it is looked through."""
    position: int
    """In this leaf and later ones, all up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """A frozen usage for which something may have come too late that nobody was told of."""

    frozen_id: FrozenUsageId
    position: int
    announced_position: int
    """Through which it was counted last; 0 if it never was."""
    announced_count: int
    announced_corrected_count: int


async def hold_looks(tx: Tx) -> None:
    """Let no look go on until the commit: what it went past without seeing this freeze would be late in silence."""
    for _ in range(2):
        held = "SELECT true FROM late_looks WHERE seller_id = $1 FOR SHARE"
        if await tx.driver.fetchval(held, tx.seller_id):
            return
        await tx.driver.execute(
            "INSERT INTO late_looks (seller_id, leaf, position)"
            f" VALUES ($1, ({_OPEN_LEAF}), coalesce((SELECT last FROM positions WHERE seller_id = $1), 0))"
            " ON CONFLICT DO NOTHING",
            tx.seller_id,
        )


async def lock_look(tx: Tx) -> Look:
    row = await tx.driver.fetchrow(
        "SELECT leaf, position FROM late_looks WHERE seller_id = $1 FOR UPDATE", tx.seller_id
    )
    assert row is not None, "only what stands in the table is due"
    return Look(leaf=row["leaf"], position=row["position"])


async def look(tx: Tx, before: Look) -> Look:
    """Note for which frozen usages something came too late, in the next leaves of the log; how far that was."""
    # First the leaf, then the position: what is stored in between has the higher position, and is not before the leaf.
    opened = await tx.driver.fetchval(_OPEN_LEAF)
    last = await tx.driver.fetchval("SELECT last FROM positions WHERE seller_id = $1", tx.seller_id)
    is_partial = before.leaf + LEAVES_PER_LOOK < opened
    end = before.leaf + LEAVES_PER_LOOK if is_partial else _LEAF_MAX
    await tx.driver.execute(_LATE, tx.seller_id, before.leaf, end, before.position, last)
    return Look(leaf=end, position=before.position) if is_partial else Look(leaf=opened, position=last)


async def save_look(tx: Tx, reached: Look, *, next_time: datetime | None) -> None:
    await tx.driver.execute(
        "UPDATE late_looks SET leaf = $2, position = $3, next_time = $4 WHERE seller_id = $1",
        tx.seller_id,
        reached.leaf,
        reached.position,
        next_time,
    )


async def lock_overtaken(tx: Tx, frozen_ids: Sequence[str]) -> list[Overtaken]:
    """Those of them that are to be announced."""
    rows = await tx.driver.fetch(
        "SELECT freeze_id, position, announced_position, announced_count, announced_corrected_count FROM late_usages"
        " WHERE seller_id = $1 AND freeze_id = ANY ($2::text[]) AND position > announced_position"
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
        )
        for row in rows
    ]


async def save_announced(tx: Tx, announced: Sequence[LateUsage]) -> None:
    await tx.driver.execute(
        "UPDATE late_usages l SET announced_position = n.position, announced_count = n.count,"
        "  announced_corrected_count = n.corrected_count"
        " FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])"
        "  AS n (freeze_id, position, count, corrected_count)"
        " WHERE l.seller_id = $1 AND l.freeze_id = n.freeze_id",
        tx.seller_id,
        [late.frozen.id for late in announced],
        [late.now.through_position for late in announced],
        [late.event_count for late in announced],
        [late.corrected_count for late in announced],
    )


_LEAF_MAX: Final = 2**31 - 1
_OPEN_LEAF: Final = "SELECT coalesce(min(leaf), 0) FROM usage_leaves WHERE state IN ('OPEN', 'READY')"

# What is not before the end of every frozen period is late for none: nearly all that comes.
_LATE: Final = """
INSERT INTO late_usages AS l (seller_id, freeze_id, position)
SELECT $1, f.id, max(e.position)
FROM usage_log e
JOIN usage_streams s ON s.stream = e.stream
JOIN usage_freeze_names n ON n.seller_id = $1 AND n.meter = s.meter AND n.customer = s.customer
JOIN usage_freezes f ON f.seller_id = $1 AND f.id = n.freeze_id
WHERE e.seller_id = $1 AND e.leaf >= $2 AND e.leaf < $3 AND e.position > $4 AND e.position <= $5
  AND e.time < (SELECT max(end_time) FROM usage_freezes WHERE seller_id = $1)
  AND e.time >= f.counted_from AND e.time < f.end_time AND e.position > f.through_position
  AND NOT EXISTS (SELECT FROM usage_freezes r WHERE r.seller_id = $1 AND r.replaces = f.id)
GROUP BY f.id
ORDER BY f.id
ON CONFLICT (seller_id, freeze_id) DO UPDATE SET position = excluded.position
"""
