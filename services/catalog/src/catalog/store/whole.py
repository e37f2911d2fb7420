"""Knows how the catalog of a seller is read as a whole, and by one at a time who means to change it as a whole."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, or_, select, text, tuple_

from catalog.domain.plan import Plan, State
from catalog.store.plans import plans_of
from catalog.store.tables import plans
from common.db import Tx

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


async def lock_catalog(tx: Tx) -> None:
    """Until this transaction ends. What is changed piece by piece does not wait."""
    await tx.execute(_LOCK, {"key": f"catalog {tx.seller_id}"})


async def standing_versions(tx: Tx, *, after: tuple[str, int], limit: int) -> list[Plan]:
    """Of each plan those that are published and open or going to be, the draft, and the last one that was published."""
    last = (
        select(plans.c.code, func.max(plans.c.version))
        .where(plans.c.seller_id == tx.seller_id, plans.c.state != State.DRAFT.name)
        .group_by(plans.c.code)
    )
    query = (
        select(plans)
        .where(
            plans.c.seller_id == tx.seller_id,
            tuple_(plans.c.code, plans.c.version) > tuple_(*after),
            or_(plans.c.state != State.ARCHIVED.name, tuple_(plans.c.code, plans.c.version).in_(last)),
        )
        .order_by(plans.c.code, plans.c.version)
        .limit(limit)
    )
    return await plans_of(tx, await tx.execute(query))
