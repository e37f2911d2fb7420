"""Knows how meters are stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from metering.domain.errors import MeterCodeTaken, MeterNotFound
from metering.domain.meter import Aggregation, Bucket, Definition, Meter, MeterId
from metering.domain.window import Window
from metering.store.filters import filter_to_store, stored_filter
from metering.store.tables import meters


async def add_meter(tx: Tx, meter: Meter) -> None:
    statement = (
        insert(meters)
        .values(
            seller_id=tx.seller_id,
            id=meter.id,
            code=meter.code,
            display_name=meter.display_name,
            unit_label=meter.unit_label,
            accepts_days=meter.accepts_days,
            **_columns(meter.definition),
            revision=meter.revision,
            create_time=meter.create_time,
        )
        .on_conflict_do_nothing()
    )
    if not (await tx.execute(statement)).rowcount:
        raise MeterCodeTaken(f"there is a meter {meter.code} already", code=meter.code)


async def meter(tx: Tx, meter_id: MeterId) -> Meter:
    query = select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.id == meter_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise MeterNotFound(f"there is no meter {meter_id}", meter=meter_id)
    return _meter(row)


async def meter_by_code(tx: Tx, code: str) -> Meter:
    found = await meters_by_code(tx, [code])
    if not found:
        raise MeterNotFound(f"there is no meter {code}", codes=code)
    return found[code]


async def meters_by_code(tx: Tx, codes: Collection[str]) -> dict[str, Meter]:
    """Those that exist."""
    query = select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.code.in_(codes))
    return {row.code: _meter(row) for row in await tx.execute(query)}


async def accepted_days(tx: Tx, codes: Collection[str]) -> dict[str, int]:
    """How many days usage may lie back, by code, of those that exist."""
    query = select(meters.c.code, meters.c.accepts_days).where(
        meters.c.seller_id == tx.seller_id, meters.c.code.in_(codes)
    )
    return {row.code: row.accepts_days for row in await tx.execute(query)}


async def list_meters(tx: Tx, *, after: str, limit: int) -> list[Meter]:
    query = (
        select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.id > after).order_by(meters.c.id).limit(limit)
    )
    return [_meter(row) for row in await tx.execute(query)]


def _meter(row: Row[Any]) -> Meter:  # Any: a row of `meters`
    return Meter(
        id=MeterId(row.id),
        code=row.code,
        display_name=row.display_name,
        definition=Definition(
            aggregation=Aggregation[row.aggregation],
            unique_dimension=row.unique_dimension,
            percentile=row.percentile,
            carries_over=row.carries_over,
            bucket=Bucket(length=Window[row.bucket], time_zone=row.time_zone) if row.bucket else None,
            filter=stored_filter(row.filter),
            value_expression=row.value_expression,
        ),
        unit_label=row.unit_label,
        accepts_days=row.accepts_days,
        revision=row.revision,
        create_time=row.create_time,
    )


def _columns(definition: Definition) -> dict[str, object]:
    bucket = definition.bucket
    return {
        "aggregation": definition.aggregation.name,
        "unique_dimension": definition.unique_dimension,
        "percentile": definition.percentile,
        "carries_over": definition.carries_over,
        "bucket": bucket.length.name if bucket else "",
        "time_zone": bucket.time_zone if bucket else "",
        "filter": filter_to_store(definition.filter),
        "value_expression": definition.value_expression,
    }
