"""What the metering service does, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from common.db import Tx
from metering import store
from metering.convert import meter_to_proto
from metering.domain.errors import MeterNotFound
from metering.domain.meter import Aggregation, Meter, MeterId
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventPlace, EventResult, Report, UsageEvent, first_of_each, settle
from saldo.metering.v1 import events_pb2 as events


async def create_meter(
    tx: Tx, *, code: str, display_name: str, aggregation: Aggregation, unit_label: str, unique_dimension: str
) -> Meter:
    meter = Meter(
        id=MeterId(tx.new_id("meter")),
        code=code,
        display_name=display_name,
        aggregation=aggregation,
        unit_label=unit_label,
        unique_dimension=unique_dimension,
        revision=1,
        create_time=tx.now,
    )
    await store.add_meter(tx, meter)
    await tx.emit(events.MeterCreated(meter=meter_to_proto(meter)))
    return meter


async def ingest_events(tx: Tx, reports: Sequence[Report], *, ahead_max: timedelta) -> list[EventResult]:
    """Store what can be stored, exactly once, and say of each report what became of it."""
    meters = await store.meters_by_code(tx, {report.event.meter for report in reports if report.event})
    judged = [report.judged(meters=meters, latest=tx.now + ahead_max) for report in reports]
    accepted = await store.add_events(tx, first_of_each(judged))
    # A good event that was not accepted has been before; of a faulty one it must be found out.
    faulty = {report.identity for report in judged if report.fault and report.identity}
    known = await store.known_events(tx, faulty - accepted)
    return settle(judged, accepted=accepted, known=known)


async def query_usages(tx: Tx, queries: Sequence[UsageQuery]) -> list[Usage]:
    """In the order asked, all from one snapshot of what was ingested."""
    return await store.usages(tx, queries, meters=await _existing_meters(tx, queries))


async def list_events(tx: Tx, query: UsageQuery, *, after: EventPlace, limit: int) -> list[UsageEvent]:
    await _existing_meters(tx, [query])
    return await store.list_events(tx, query, after=after, limit=limit)


async def _existing_meters(tx: Tx, queries: Sequence[UsageQuery]) -> dict[str, Meter]:
    """Nobody is billed zero because of a misspelt meter."""
    codes = {query.meter for query in queries}
    meters = await store.meters_by_code(tx, codes)
    if missing := sorted(codes - meters.keys()):
        raise MeterNotFound(f"there is no meter {', '.join(missing)}", codes=",".join(missing))
    return meters
