"""Knows how a log is looked through where it has grown: how far a seller's was, and when it is to be gone on with.

What is stored after a look is in the leaf that was open then, or in a later one: so each leaf is read about once,
however long the log is, and only for sellers who have something to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, Table, cast, func, literal_column, select

from common.db import Tx
from metering.store.tables import positions

LEAVES_PER_LOOK: Final = 4
"""A leaf of a million usage events is read in a fifth of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How far a look has come."""

    leaf: int
    """All before it is looked through."""
    position: int
    """In this leaf and later ones, all up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What of the log is to be looked through next."""

    leaves: Sequence[int]
    after_position: int
    last_position: int
    backfilled: Sequence[int]
    """The leaves in which backfills began to count since then, or ended: those may lie before."""
    reached: Look
    """How far that is."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Those for one purpose, a row for each seller who has it."""

    table: Table

    @property
    def due(self) -> Select[Any]:  # Any: the columns are by convention, see `common.jobs`
        columns = self.table.c
        return (
            select(
                columns.seller_id,
                columns.seller_id.label("id"),
                func.greatest(columns.next_time, moment(positions.c.last + columns.leaf)).label("due_time"),
            )
            .join(positions, positions.c.seller_id == columns.seller_id)
            .where(positions.c.last > columns.position)
        )

    async def hold(self, tx: Tx) -> None:
        """Let no look go on until the commit: what it went past without seeing what is written now, none will see."""
        for _ in range(2):
            if await self.hold_begun(tx):
                return
            await tx.driver.execute(
                f"INSERT INTO {self.table.name} (seller_id, leaf, position)"
                f" VALUES ($1, ({_OPEN_LEAF}), coalesce((SELECT last FROM positions WHERE seller_id = $1), 0))"
                " ON CONFLICT DO NOTHING",
                tx.seller_id,
            )

    async def hold_begun(self, tx: Tx) -> bool:
        """The same, where there are any looks."""
        held = f"SELECT true FROM {self.table.name} WHERE seller_id = $1 FOR SHARE"
        return bool(await tx.driver.fetchval(held, tx.seller_id))

    async def lock(self, tx: Tx) -> Look | None:
        """None when there is nothing to look for any more."""
        locked = f"SELECT leaf, position FROM {self.table.name} WHERE seller_id = $1 FOR UPDATE"
        row = await tx.driver.fetchrow(locked, tx.seller_id)
        return Look(leaf=row["leaf"], position=row["position"]) if row else None

    async def save(self, tx: Tx, reached: Look, *, next_time: datetime | None) -> None:
        await tx.driver.execute(
            f"UPDATE {self.table.name} SET leaf = $2, position = $3, next_time = $4 WHERE seller_id = $1",
            tx.seller_id,
            reached.leaf,
            reached.position,
            next_time,
        )

    async def end(self, tx: Tx) -> None:
        await tx.driver.execute(f"DELETE FROM {self.table.name} WHERE seller_id = $1", tx.seller_id)


async def stretch(tx: Tx, before: Look) -> Stretch:
    """The next leaves of the log, so many as one look reads."""
    # First the leaf, then the position: what is stored in between has the higher position, and is not before the leaf.
    # Last the leaves: all up to that position is in one of them.
    opened = await tx.driver.fetchval(_OPEN_LEAF, tx.seller_id)
    last = await tx.driver.fetchval("SELECT last FROM positions WHERE seller_id = $1", tx.seller_id)
    leaves = [row["leaf"] for row in await tx.driver.fetch(_LEAVES, tx.seller_id, before.leaf)]
    following = [leaf for leaf in leaves if leaf < opened][LEAVES_PER_LOOK:]
    is_partial = bool(following)
    # In the last part: the position that those before begin at is its own.
    rows = [] if is_partial else await tx.driver.fetch(_BACKFILLED, tx.seller_id, before.position, last)
    return Stretch(
        leaves=leaves[:LEAVES_PER_LOOK] if is_partial else leaves,
        after_position=before.position,
        last_position=last,
        backfilled=[row["leaf"] for row in rows],
        reached=Look(leaf=following[0] if is_partial else opened, position=before.position if is_partial else last),
    )


def moment(number: ColumnElement[int]) -> ColumnElement[datetime]:
    """Long past, and with every greater number another one: the time of a sandbox may stand still meanwhile."""
    micros: ColumnElement[Any] = literal_column("interval '1 microsecond'")  # Any: an interval
    epoch: ColumnElement[Any] = literal_column("timestamptz 'epoch'")  # Any: an instant
    return epoch + cast(number, BigInteger) * micros


BACKFILLED_SINCE: Final = """e.backfill IN (
    SELECT b.number FROM usage_backfills b WHERE b.seller_id = $1
    AND coalesce(b.revert_position, b.last_position) > {after} AND b.first_position <= {through}
)"""
"""The SQL that is true of a row `e` of the log if it came with a backfill of which something became in between."""
_OF_SHARD: Final = "l.shard = coalesce((SELECT p.shard FROM positions p WHERE p.seller_id = $1), l.shard)"
"""The SQL that is true of a leaf `l` in which events of the seller may be: of any, as long as it has no shard."""
_OPEN_LEAF: Final = (
    f"SELECT coalesce(min(l.leaf), 0) FROM usage_leaves l WHERE l.state IN ('OPEN', 'READY') AND {_OF_SHARD}"
)
_LEAVES: Final = (
    f"SELECT l.leaf FROM usage_leaves l WHERE l.leaf >= $2 AND l.state <> 'READY' AND {_OF_SHARD} ORDER BY l.leaf"
)
_BACKFILLED: Final = """
SELECT DISTINCT leaf FROM usage_backfills
WHERE seller_id = $1 AND leaf IS NOT NULL AND coalesce(revert_position, last_position) > $2 AND first_position <= $3
"""
