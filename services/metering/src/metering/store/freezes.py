"""Knows how frozen usages are stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import Period
from metering.domain.errors import FrozenUsageNotFound, FrozenUsageReplaced
from metering.domain.freeze import FrozenUsage, FrozenUsageId
from metering.domain.usage import UsageQuery
from metering.store.tables import late_usages, usage_freeze_names, usage_freezes


async def add_frozen_usage(tx: Tx, frozen: FrozenUsage, *, counted_from: datetime) -> None:
    """Fails with FrozenUsageReplaced when something has taken the place that this one is to take."""
    query = frozen.query
    statement = (
        insert(usage_freezes)
        .values(
            seller_id=tx.seller_id,
            id=frozen.id,
            customer_id=query.customer_id,
            external_id=query.external_id,
            names=list(query.names),
            meter=query.meter,
            start_time=query.period.start,
            end_time=query.period.end,
            counted_from=counted_from,
            quantity=frozen.quantity,
            event_count=frozen.event_count,
            digest=frozen.digest,
            through_position=frozen.through_position,
            replaces=frozen.replaces,
            meter_version=query.meter_version,
            create_time=frozen.create_time,
        )
        .on_conflict_do_nothing(constraint="usage_freezes_replaces")
    )
    if not (await tx.execute(statement)).rowcount:
        raise FrozenUsageReplaced(f"{frozen.replaces} has been replaced", frozen_usage=str(frozen.replaces))
    await tx.execute(
        insert(usage_freeze_names),
        [
            {"seller_id": tx.seller_id, "meter": query.meter, "customer": customer, "freeze_id": frozen.id}
            for customer in query.customers
        ],
    )
    if frozen.replaces is not None:
        await tx.execute(
            delete(late_usages).where(
                late_usages.c.seller_id == tx.seller_id, late_usages.c.freeze_id == frozen.replaces
            )
        )


async def frozen_usage(tx: Tx, frozen_id: FrozenUsageId) -> FrozenUsage:
    found = await frozen_usages_by_id(tx, [frozen_id])
    if not found:
        raise FrozenUsageNotFound(f"there is no frozen usage {frozen_id}", frozen_usage=frozen_id)
    return found[0]


async def frozen_usages_by_id(tx: Tx, frozen_ids: Collection[FrozenUsageId]) -> list[FrozenUsage]:
    """Those that exist, oldest first."""
    query = (
        select(usage_freezes)
        .where(usage_freezes.c.seller_id == tx.seller_id, usage_freezes.c.id.in_(frozen_ids))
        .order_by(usage_freezes.c.id)
    )
    return [_frozen_usage(row) for row in await tx.execute(query)]


async def list_frozen_usages(tx: Tx, *, customer_id: str, meter: str, after: str, limit: int) -> list[FrozenUsage]:
    query = (
        select(usage_freezes)
        .where(usage_freezes.c.seller_id == tx.seller_id, usage_freezes.c.id > after)
        .order_by(usage_freezes.c.id)
        .limit(limit)
    )
    if customer_id:
        query = query.where(usage_freezes.c.customer_id == customer_id)
    if meter:
        query = query.where(usage_freezes.c.meter == meter)
    return [_frozen_usage(row) for row in await tx.execute(query)]


async def list_overtaken(tx: Tx, *, after: str, limit: int) -> Sequence[FrozenUsage]:
    """Those of which it has been announced that they would come to something else by now, oldest first."""
    query = (
        select(usage_freezes)
        .join(
            late_usages,
            (late_usages.c.seller_id == usage_freezes.c.seller_id) & (late_usages.c.freeze_id == usage_freezes.c.id),
        )
        .where(
            late_usages.c.seller_id == tx.seller_id,
            late_usages.c.freeze_id > after,
            late_usages.c.announced_count + late_usages.c.announced_corrected_count + late_usages.c.announced_version
            > 0,
        )
        .order_by(late_usages.c.freeze_id)
        .limit(limit)
    )
    return [_frozen_usage(row) for row in await tx.execute(query)]


def _frozen_usage(row: Row[Any]) -> FrozenUsage:  # Any: a row of `usage_freezes`
    return FrozenUsage(
        id=FrozenUsageId(row.id),
        query=UsageQuery(
            customer_id=row.customer_id,
            external_id=row.external_id,
            meter=row.meter,
            period=Period(row.start_time, row.end_time),
            names=tuple(row.names),
            through_position=row.through_position,
            meter_version=row.meter_version,
        ),
        quantity=row.quantity,
        event_count=row.event_count,
        digest=row.digest,
        through_position=row.through_position,
        replaces=FrozenUsageId(row.replaces) if row.replaces else None,
        create_time=row.create_time,
    )
