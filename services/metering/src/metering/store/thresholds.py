"""Knows how usage thresholds are stored."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, func, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import EARLIEST, Period, Unit
from metering.domain.errors import UsageThresholdNotFound
from metering.domain.threshold import Rhythm, ThresholdId, ThresholdState, UsageThreshold
from metering.store.filters import filter_to_store, stored_filter
from metering.store.looks import moment
from metering.store.threshold_tables import usage_thresholds

_columns: Final = usage_thresholds.c
_ACTIVE: Final = _columns.state == ThresholdState.ACTIVE.name

SWEEPS_DUE: Final[Select[Any]] = select(  # Any: the columns are by convention, see `common.jobs`
    _columns.seller_id, _columns.id, _columns.sweep_time.label("due_time")
).where(_columns.sweep_time.is_not(None))


async def add_threshold(tx: Tx, threshold: UsageThreshold) -> None:
    """What is there already is gone through at once."""
    rhythm, interval = threshold.rhythm, threshold.interval
    await tx.execute(
        insert(usage_thresholds).values(
            seller_id=tx.seller_id,
            id=threshold.id,
            meter=threshold.meter,
            customer_id=threshold.customer_id,
            unit=rhythm.unit.name if rhythm else "",
            time_zone=rhythm.time_zone if rhythm else "",
            start_time=interval.start if interval else None,
            end_time=interval.end if interval else None,
            value=threshold.value,
            warning_value=threshold.warning_value,
            filter=filter_to_store(threshold.filter),
            state=threshold.state.name,
            revision=threshold.revision,
            create_time=threshold.create_time,
            sweep_time=EARLIEST,
        )
    )


async def archive_threshold(tx: Tx, threshold: UsageThreshold) -> None:
    await tx.execute(
        usage_thresholds.update()
        .where(_columns.seller_id == tx.seller_id, _columns.id == threshold.id)
        .values(
            state=threshold.state.name,
            revision=threshold.revision,
            archive_time=threshold.archive_time,
            sweep_time=None,
        )
    )


async def threshold(tx: Tx, threshold_id: ThresholdId, *, lock: bool = False) -> UsageThreshold:
    query = select(usage_thresholds).where(_columns.seller_id == tx.seller_id, _columns.id == threshold_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise UsageThresholdNotFound(f"there is no usage threshold {threshold_id}", usage_threshold=threshold_id)
    return _threshold(row)


async def thresholds_by_id(tx: Tx, threshold_ids: Collection[ThresholdId]) -> dict[ThresholdId, UsageThreshold]:
    query = select(usage_thresholds).where(_columns.seller_id == tx.seller_id, _columns.id.in_(threshold_ids))
    return {ThresholdId(row.id): _threshold(row) for row in await tx.execute(query)}


async def list_thresholds(tx: Tx, *, meter: str, customer_id: str, after: str, limit: int) -> list[UsageThreshold]:
    query = (
        select(usage_thresholds)
        .where(_columns.seller_id == tx.seller_id, _columns.id > after)
        .order_by(_columns.id)
        .limit(limit)
    )
    if meter:
        query = query.where(_columns.meter == meter)
    if customer_id:
        query = query.where(_columns.customer_id == customer_id)
    return [_threshold(row) for row in await tx.execute(query)]


async def active_count(tx: Tx, *, limit: int) -> int:
    """How many thresholds of the seller are active, as far as the limit."""
    found = select(_columns.id).where(_columns.seller_id == tx.seller_id, _ACTIVE).limit(limit).subquery()
    return int((await tx.execute(select(func.count()).select_from(found))).scalar_one())


async def active_rhythms(tx: Tx) -> list[Rhythm]:
    """Each once, of the active thresholds."""
    query = (
        select(_columns.unit, _columns.time_zone)
        .where(_columns.seller_id == tx.seller_id, _ACTIVE, _columns.unit != "")
        .distinct()
    )
    return [Rhythm(unit=Unit[row.unit], time_zone=row.time_zone) for row in await tx.execute(query)]


async def is_watched(tx: Tx, meter: str) -> bool:
    """Whether an active threshold is about the meter."""
    found = select(_columns.id).where(_columns.seller_id == tx.seller_id, _columns.meter == meter, _ACTIVE)
    return (await tx.execute(found.limit(1))).first() is not None


async def look_through_again(tx: Tx, meter: str) -> None:
    """Go through all that the active thresholds of a meter are about, from the beginning."""
    statement = usage_thresholds.update().where(_columns.seller_id == tx.seller_id, _columns.meter == meter, _ACTIVE)
    # Another moment than that of the last time: the time of a sandbox may stand still meanwhile.
    begun = moment(_columns.sweep_parts + 1)
    await tx.execute(statement.values(sweep_after="", sweep_parts=_columns.sweep_parts + 1, sweep_time=begun))


async def sweep_place(tx: Tx, threshold_id: ThresholdId) -> str:
    """After which customer, as senders name it, the meter's pairs are to be gone on with."""
    query = select(_columns.sweep_after).where(_columns.seller_id == tx.seller_id, _columns.id == threshold_id)
    return str((await tx.execute(query)).scalar_one())


async def save_sweep(tx: Tx, threshold_id: ThresholdId, *, after: str, next_time: datetime | None) -> None:
    """`after` is where to go on at once; empty when all are gone through, and next time is from the beginning."""
    await tx.driver.execute(_GO_ON if after else _SWEPT, tx.seller_id, threshold_id, after if after else next_time)


# Each part is due at another moment, long past: the time of a sandbox may stand still meanwhile.
_GO_ON: Final = """
UPDATE usage_thresholds SET sweep_after = $3, sweep_parts = sweep_parts + 1,
    sweep_time = timestamptz 'epoch' + (sweep_parts + 1) * interval '1 microsecond'
WHERE seller_id = $1 AND id = $2
"""
_SWEPT: Final = """
UPDATE usage_thresholds SET sweep_after = '', sweep_time = $3 WHERE seller_id = $1 AND id = $2
"""


def _threshold(row: Row[Any]) -> UsageThreshold:  # Any: a row of `usage_thresholds`
    return UsageThreshold(
        id=ThresholdId(row.id),
        meter=row.meter,
        customer_id=row.customer_id,
        rhythm=Rhythm(unit=Unit[row.unit], time_zone=row.time_zone) if row.unit else None,
        interval=None if row.unit else Period(row.start_time, row.end_time),
        value=row.value,
        warning_value=row.warning_value,
        filter=stored_filter(row.filter),
        state=ThresholdState[row.state],
        revision=row.revision,
        create_time=row.create_time,
        archive_time=row.archive_time,
    )
