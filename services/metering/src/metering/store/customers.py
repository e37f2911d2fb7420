"""Knows how it is stored what customers are called, since and until when, and in which time zone they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from common.db import Tx
from metering.domain.naming import CustomerName
from metering.store.unmatched_names import look_again


async def keep_customer(
    tx: Tx, customer_id: str, names: Sequence[CustomerName], *, time_zone: str, revision: int
) -> bool:
    """These names and no others, whether that changed anything; nothing when something newer was heard before."""
    if await tx.driver.fetchval(_FIRST, tx.seller_id):
        await look_again(tx)
    is_news = await tx.driver.fetchval(_HEARD, tx.seller_id, customer_id, revision, time_zone)
    if is_news is None:
        return False
    changed = await tx.driver.fetch(
        _NAMES,
        tx.seller_id,
        customer_id,
        [each.name for each in names],
        [each.since for each in names],
        [each.until for each in names],
    )
    if added := [row["name"] for row in changed if row["is_new"]]:
        await tx.driver.execute(_KNOWN, tx.seller_id, added)
    if removed := [row["name"] for row in changed if not row["is_new"]]:
        await tx.driver.execute(_UNKNOWN, tx.seller_id, removed)
        await look_again(tx)
    return bool(changed)


async def has_customers(tx: Tx) -> bool:
    """Whether any was heard of."""
    found: bool = await tx.driver.fetchval(
        "SELECT EXISTS (SELECT FROM sellers_with_customers WHERE seller_id = $1)", tx.seller_id
    )
    return found


async def known_names(tx: Tx, asked: Collection[str]) -> set[str]:
    """Those of the names that are somebody's."""
    rows = await tx.driver.fetch(
        "SELECT DISTINCT name FROM customer_names WHERE seller_id = $1 AND name = ANY ($2::text[])",
        tx.seller_id,
        list(asked),
    )
    return {row["name"] for row in rows}


async def is_customer(tx: Tx, customer_id: str) -> bool:
    """Whether usage in a period that begins now may be this customer's; as long as none was heard of, anybody's."""
    found: bool = await tx.driver.fetchval(
        "SELECT NOT EXISTS (SELECT FROM sellers_with_customers WHERE seller_id = $1) OR EXISTS ("
        " SELECT FROM customer_names n WHERE n.seller_id = $1 AND n.customer_id = $2"
        " AND (n.since_time IS NULL OR n.since_time <= $3) AND (n.until_time IS NULL OR n.until_time > $3))",
        tx.seller_id,
        customer_id,
        tx.now,
    )
    return found


async def names_counted(tx: Tx, asked: Sequence[tuple[str, datetime]]) -> list[list[str]]:
    """What usage may call each of the customers in a period that begins at a time."""
    rows = await tx.driver.fetch(
        _COUNTED, tx.seller_id, [customer_id for customer_id, _ in asked], [start for _, start in asked]
    )
    return [row["names"] for row in rows]


_FIRST: Final = "INSERT INTO sellers_with_customers (seller_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
_HEARD: Final = """
INSERT INTO customers AS c (seller_id, id, revision, time_zone) VALUES ($1, $2, $3, $4)
ON CONFLICT (seller_id, id) DO UPDATE SET revision = excluded.revision, time_zone = excluded.time_zone
WHERE c.revision < excluded.revision
RETURNING true
"""
_NAMES: Final = """
WITH removed AS (
    DELETE FROM customer_names WHERE seller_id = $1 AND customer_id = $2 AND name <> ALL ($3::text[]) RETURNING name
), added AS (
    INSERT INTO customer_names AS c (seller_id, name, customer_id, since_time, until_time)
    SELECT $1, n.name, $2, n.since_time, n.until_time
    FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) AS n (name, since_time, until_time)
    ON CONFLICT (seller_id, name, customer_id) DO UPDATE
    -- Who was merged stays so: the first time that was heard of is the time.
    SET since_time = excluded.since_time, until_time = least(excluded.until_time, c.until_time)
    WHERE (c.since_time, c.until_time) IS DISTINCT FROM (excluded.since_time, least(excluded.until_time, c.until_time))
    RETURNING name
)
SELECT name, true AS is_new FROM added UNION ALL SELECT name, false FROM removed
"""
# False is always right: whoever is called so then is looked up, as the names say who is.
# A pair that is written meanwhile does not see the names, nor these statements it: it stays false, and is looked up.
_KNOWN: Final = """
UPDATE usage_streams SET customer_known = true
WHERE seller_id = $1 AND customer = ANY ($2::text[]) AND NOT customer_known
"""
_UNKNOWN: Final = """
UPDATE usage_streams SET customer_known = false
WHERE seller_id = $1 AND customer = ANY ($2::text[]) AND customer_known
"""
_COUNTED: Final = """
SELECT ARRAY(
    SELECT n.name FROM customer_names n
    WHERE n.seller_id = $1 AND n.customer_id = a.customer_id
      AND (n.since_time IS NULL OR n.since_time <= a.start_time)
      AND (n.until_time IS NULL OR n.until_time > a.start_time)
) AS names
FROM unnest($2::text[], $3::timestamptz[]) WITH ORDINALITY AS a (customer_id, start_time, nth) ORDER BY a.nth
"""
