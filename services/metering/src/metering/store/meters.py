"""Knows how meters are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ARRAY, Row, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import EARLIEST
from metering.domain.errors import MeterCodeTaken, MeterNotFound
from metering.domain.meter import Aggregation, Bucket, Definition, Meter, MeterId, MeterVersion
from metering.domain.window import Window
from metering.store.filters import filter_to_store, stored_filter
from metering.store.tables import meter_versions, meters


async def add_meter(tx: Tx, meter: Meter) -> None:
    [first] = meter.versions
    statement = (
        insert(meters)
        .values(
            seller_id=tx.seller_id,
            id=meter.id,
            code=meter.code,
            display_name=meter.display_name,
            unit_label=meter.unit_label,
            **_columns(first),
            revision=meter.revision,
            create_time=meter.create_time,
        )
        .on_conflict_do_nothing()
    )
    if not (await tx.execute(statement)).rowcount:
        raise MeterCodeTaken(f"there is a meter {meter.code} already", code=meter.code)


async def save_meter(tx: Tx, meter: Meter, *, before: Meter) -> None:
    await tx.execute(
        meters.update()
        .where(meters.c.seller_id == tx.seller_id, meters.c.id == meter.id)
        .values(
            display_name=meter.display_name,
            unit_label=meter.unit_label,
            revision=meter.revision,
            last_version=meter.last.number,
        )
    )
    for version in meter.versions[len(before.versions) :]:
        await tx.execute(
            insert(meter_versions).values(
                seller_id=tx.seller_id,
                meter_id=meter.id,
                version=version.number,
                **_columns(version),
                effective_time=version.effective_time,
                create_time=version.create_time,
            )
        )


async def meter(tx: Tx, meter_id: MeterId, *, lock: bool = False) -> Meter:
    query = select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.id == meter_id)
    found = await _meters(tx, await tx.execute(query.with_for_update() if lock else query))
    if not found:
        raise MeterNotFound(f"there is no meter {meter_id}", meter=meter_id)
    return found[0]


async def meter_by_code(tx: Tx, code: str, *, hold: bool = False) -> Meter:
    """Until the commit nobody changes a meter that is held."""
    found = await meters_by_code(tx, [code], hold=hold)
    if not found:
        raise MeterNotFound(f"there is no meter {code}", codes=code)
    return found[code]


async def meters_by_code(tx: Tx, codes: Collection[str], *, hold: bool = False) -> dict[str, Meter]:
    """Those that exist."""
    query = _BY_CODE.with_for_update(read=True) if hold else _BY_CODE
    found = await _meters(tx, await tx.execute(query, {"seller_id": tx.seller_id, "codes": list(codes)}))
    return {meter.code: meter for meter in found}


async def version_count(tx: Tx) -> int:
    """How many versions all meters of the seller have."""
    counted = select(func.coalesce(func.sum(meters.c.last_version), 0)).where(meters.c.seller_id == tx.seller_id)
    return int((await tx.execute(counted)).scalar_one())


async def list_meters(tx: Tx, *, after: str, limit: int) -> list[Meter]:
    query = (
        select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.id > after).order_by(meters.c.id).limit(limit)
    )
    return await _meters(tx, await tx.execute(query))


# Made once: every question about usage asks this first.
_BY_CODE: Final = select(meters).where(
    meters.c.seller_id == bindparam("seller_id"), meters.c.code == any_(bindparam("codes", type_=ARRAY(Text)))
)


async def _meters(tx: Tx, rows: Iterable[Row[Any]]) -> list[Meter]:  # Any: rows of `meters`
    """With their versions. Most have only the first, and cost no second question."""
    found = list(rows)
    later: dict[str, list[MeterVersion]] = {row.id: [] for row in found if row.last_version > 1}
    if later:
        query = (
            select(meter_versions)
            .where(meter_versions.c.seller_id == tx.seller_id, meter_versions.c.meter_id.in_(later))
            .order_by(meter_versions.c.version)
        )
        for row in await tx.execute(query):
            later[row.meter_id].append(_version(row, number=row.version, effective_time=row.effective_time))
    return [_meter(row, later.get(row.id, ())) for row in found]


def _meter(row: Row[Any], later: Sequence[MeterVersion]) -> Meter:  # Any: a row of `meters`
    return Meter(
        id=MeterId(row.id),
        code=row.code,
        display_name=row.display_name,
        unit_label=row.unit_label,
        revision=row.revision,
        create_time=row.create_time,
        # One that was made after the row was read is not known yet.
        versions=(_version(row, number=1, effective_time=EARLIEST), *later[: row.last_version - 1]),
    )


def _version(row: Row[Any], *, number: int, effective_time: datetime) -> MeterVersion:  # Any: of either table
    return MeterVersion(
        number=number,
        definition=Definition(
            aggregation=Aggregation[row.aggregation],
            unique_dimension=row.unique_dimension,
            percentile=row.percentile,
            carries_over=row.carries_over,
            bucket=Bucket(length=Window[row.bucket], time_zone=row.time_zone) if row.bucket else None,
            filter=stored_filter(row.filter),
            value_expression=row.value_expression,
        ),
        accepts_days=row.accepts_days,
        effective_time=effective_time,
        create_time=row.create_time,
    )


def _columns(version: MeterVersion) -> dict[str, object]:
    definition = version.definition
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
        "accepts_days": version.accepts_days,
    }
