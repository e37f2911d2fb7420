"""Knows how it is stored which names of usage are unmatched, how new ones are found, and how far that was looked for.

Whoever looks and whoever makes a meter or hears of a customer exclude each other: so what appears while somebody looks
is either seen to be there, or told to have been unmatched and to be so no more.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import asyncpg
from sqlalchemy import Select, and_, func, select

from common.db import Tx
from metering.domain.unmatched import Missing, UnmatchedName
from metering.store.corrections import NOT_REVERTED
from metering.store.looks import moment
from metering.store.tables import positions
from metering.store.unmatched_tables import unmatched_looks

CANDIDATES_MAX: Final = 200
"""Pairs of a meter that are looked at in one look, whether there are any usage events of theirs or not."""

_look = unmatched_looks.c
UNMATCHED_LOOKS_DUE: Final[Select[Any]] = (  # Any: the columns are by convention, see `common.jobs`
    select(
        positions.c.seller_id,
        positions.c.seller_id.label("id"),
        func.greatest(_look.next_time, moment(positions.c.last + func.coalesce(_look.looks, 0))).label("due_time"),
    )
    .join(unmatched_looks, and_(_look.seller_id == positions.c.seller_id), isouter=True)
    .where(positions.c.last > func.coalesce(_look.position, 0))
)


async def hold_unmatched(tx: Tx, *, looking: bool = False) -> None:
    """Until the commit nobody looks who is not us; and if we look, nothing that usage may name appears."""
    shared = "" if looking else "_shared"
    await tx.driver.execute(
        f"SELECT pg_advisory_xact_lock{shared}(hashtextextended('unmatched ' || $1, 0))", tx.seller_id
    )


async def last_position(tx: Tx) -> int:
    last = await tx.driver.fetchval("SELECT last FROM positions WHERE seller_id = $1", tx.seller_id)
    return int(last or 0)


async def open_count(tx: Tx) -> int:
    """How many names are unmatched and told of."""
    count = "SELECT count(*) FROM unmatched_names WHERE seller_id = $1 AND matched_time IS NULL"
    return int(await tx.driver.fetchval(count, tx.seller_id))


async def find_unmatched(tx: Tx, *, limit: int) -> list[tuple[Missing, str, UnmatchedName | None]]:
    """Names that are unmatched and not told of; with how each was before, if it was."""
    # Of few streams the leaves are not read as a whole.
    await tx.driver.execute("SELECT set_config('enable_seqscan', 'off', true)")
    rows = await tx.driver.fetch(_FIND, tx.seller_id, limit, CANDIDATES_MAX)
    return [(Missing(row["reason"]), row["name"], _name(row) if row["id"] else None) for row in rows]


async def save_unmatched(tx: Tx, names: Collection[UnmatchedName]) -> None:
    await tx.driver.executemany(
        _SAVE,
        [
            (tx.seller_id, each.missing.value, each.name, each.id, each.found_time, each.matched_time, each.revision)
            for each in names
        ],
    )


async def unmatched_names_of(tx: Tx, missing: Missing, names: Collection[str]) -> list[UnmatchedName]:
    """Those of the names that are unmatched and told of."""
    rows = await tx.driver.fetch(_OPEN, tx.seller_id, missing.value, list(names))
    return [_name(row) for row in rows]


async def look_again(tx: Tx) -> None:
    """Names may be unmatched of which nobody has sent anything since."""
    await tx.driver.execute(
        "UPDATE unmatched_looks SET position = 0, looks = looks + 1 WHERE seller_id = $1", tx.seller_id
    )


async def save_unmatched_look(tx: Tx, position: int, *, next_time: datetime | None) -> None:
    """Through the position, or as far as before if that is 0."""
    await tx.driver.execute(_LOOKED, tx.seller_id, position, next_time)


def _name(row: asyncpg.Record) -> UnmatchedName:
    return UnmatchedName(
        id=row["id"],
        missing=Missing(row["reason"]),
        name=row["name"],
        found_time=row["found_time"],
        matched_time=row["matched_time"],
        revision=row["revision"],
    )


# From one code of a meter to the next along the index, as in `unmatched.py`. LIMIT keeps each look for an event one by
# the index of a leaf, where a join would read the leaf.
_EVENT: Final = f"""
    SELECT FROM usage_log e WHERE e.stream = s.stream AND e.corrects IS NULL AND {NOT_REVERTED} AND (
        SELECT count(*) FROM usage_corrections v WHERE v.seller_id = e.seller_id AND v.corrects = e.position
    ) = 0 LIMIT 1
"""
_UNTOLD: Final = """NOT EXISTS (
    SELECT FROM unmatched_names u
    WHERE (u.seller_id, u.reason, u.name) = ($1, '{reason}', {name}) AND u.matched_time IS NULL
)"""
_FIND: Final = f"""
WITH RECURSIVE codes AS (
    (SELECT s.meter FROM usage_streams s WHERE s.seller_id = $1 ORDER BY s.meter LIMIT 1)
    UNION ALL
    SELECT n.meter FROM codes c CROSS JOIN LATERAL (
        SELECT s.meter FROM usage_streams s WHERE s.seller_id = $1 AND s.meter > c.meter ORDER BY s.meter LIMIT 1
    ) n
), known AS MATERIALIZED (
    SELECT c.meter, EXISTS (SELECT FROM meters m WHERE (m.seller_id, m.code) = ($1, c.meter)) AS is_known FROM codes c
), found AS (
    SELECT 'UNKNOWN_METER' AS reason, k.meter AS name FROM known k
    WHERE NOT k.is_known AND {_UNTOLD.format(reason="UNKNOWN_METER", name="k.meter")} AND EXISTS (
        SELECT FROM (
            SELECT s.stream FROM usage_streams s WHERE s.seller_id = $1 AND s.meter = k.meter
            ORDER BY s.customer LIMIT $3
        ) s CROSS JOIN LATERAL ({_EVENT}) e
    )
    UNION
    SELECT 'UNKNOWN_CUSTOMER', s.customer FROM known k CROSS JOIN LATERAL (
        SELECT s.stream, s.customer FROM usage_streams s
        WHERE s.seller_id = $1 AND s.meter = k.meter AND NOT s.customer_known
          AND NOT EXISTS (SELECT FROM customer_names n WHERE (n.seller_id, n.name) = ($1, s.customer))
          AND {_UNTOLD.format(reason="UNKNOWN_CUSTOMER", name="s.customer")}
        ORDER BY s.customer LIMIT $3
    ) s CROSS JOIN LATERAL ({_EVENT}) e
    WHERE k.is_known AND EXISTS (SELECT FROM sellers_with_customers h WHERE h.seller_id = $1)
)
SELECT f.reason, f.name, u.id, u.found_time, u.matched_time, u.revision
FROM found f LEFT JOIN unmatched_names u ON (u.seller_id, u.reason, u.name) = ($1, f.reason, f.name)
ORDER BY f.reason DESC, f.name LIMIT $2
"""
_SAVE: Final = """
INSERT INTO unmatched_names AS u (seller_id, reason, name, id, found_time, matched_time, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (seller_id, reason, name) DO UPDATE
SET found_time = excluded.found_time, matched_time = excluded.matched_time, revision = excluded.revision
"""
_OPEN: Final = """
SELECT * FROM unmatched_names
WHERE seller_id = $1 AND reason = $2 AND name = ANY ($3::text[]) AND matched_time IS NULL
ORDER BY name FOR UPDATE
"""
_LOOKED: Final = """
INSERT INTO unmatched_looks AS l (seller_id, position, looks, next_time) VALUES ($1, $2, 1, $3)
ON CONFLICT (seller_id) DO UPDATE
SET position = CASE WHEN $2 > 0 THEN $2 ELSE l.position END, looks = l.looks + 1, next_time = $3
"""
