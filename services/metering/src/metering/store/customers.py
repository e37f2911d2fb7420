"""Knows how the names of customers are stored that were heard of: to report what names nobody, and never to count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from common.db import Tx


async def keep_names(tx: Tx, customer_id: str, names: Sequence[str], *, revision: int) -> None:
    """These and no others; nothing when something newer was heard before."""
    is_news = await tx.driver.fetchval(_HEARD, tx.seller_id, customer_id, revision)
    if is_news is None:
        return
    changed = await tx.driver.fetch(_NAMES, tx.seller_id, customer_id, names)
    if added := [row["name"] for row in changed if row["is_new"]]:
        await tx.driver.execute(_KNOWN, tx.seller_id, added)
    if removed := [row["name"] for row in changed if not row["is_new"]]:
        await tx.driver.execute(_UNKNOWN, tx.seller_id, removed)


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


_HEARD: Final = """
WITH seller AS (
    INSERT INTO sellers_with_customers (seller_id) VALUES ($1) ON CONFLICT DO NOTHING
)
INSERT INTO customers AS c (seller_id, id, revision) VALUES ($1, $2, $3)
ON CONFLICT (seller_id, id) DO UPDATE SET revision = excluded.revision WHERE c.revision < excluded.revision
RETURNING true
"""
_NAMES: Final = """
WITH removed AS (
    DELETE FROM customer_names WHERE seller_id = $1 AND customer_id = $2 AND name <> ALL ($3::text[]) RETURNING name
), added AS (
    INSERT INTO customer_names (seller_id, name, customer_id) SELECT $1, n, $2 FROM unnest($3::text[]) n
    ON CONFLICT DO NOTHING RETURNING name
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
