"""What the metering service does, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from common.db import Tx
from common.wire import Page
from metering import store
from metering.convert import meter_to_proto
from metering.domain.errors import MeterCodeTaken, MeterNotFound
from metering.domain.meter import Meter, MeterId, NewMeter
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventResult, Report, UsageEvent, first_of_each, settle
from metering.store import EventKey, MeterKey, Slice
from saldo.metering.v1 import events_pb2 as events


async def create_meter(tx: Tx, new: NewMeter) -> Meter:
    meter = Meter.of(new, id=MeterId(tx.new_id("meter")), at=tx.now)
    if not await store.insert_meter(tx, meter):
        raise MeterCodeTaken(f"there is a meter {meter.code} already", code=meter.code)
    await tx.emit(events.MeterCreated(meter=meter_to_proto(meter)))
    return meter


async def get_meter(tx: Tx, key: MeterKey) -> Meter:
    meter = await store.find_meter(tx, key)
    if meter is None:
        raise MeterNotFound(f"there is no meter {key.id or key.code}", meter=key.id or key.code)
    return meter


async def list_meters(tx: Tx, page: Page) -> Slice[Meter]:
    return await store.meters_after(tx, page)


async def ingest_events(tx: Tx, reports: Sequence[Report], *, ahead_max: timedelta) -> list[EventResult]:
    """Store what can be stored, exactly once, and say of each report what became of it."""
    meters = await store.meters_of(tx, {report.event.meter for report in reports if report.event})
    judged = [report.judge(meters=meters, latest=tx.now + ahead_max) for report in reports]
    events_to_store = first_of_each(judged)
    accepted = await store.insert_events(tx, events_to_store) if events_to_store else set()
    # Only the faulty are looked up: a good event that was not accepted had been before.
    faulty = {report.identity for report in judged if report.fault and report.identity}
    known = await store.known_events(tx, faulty - accepted) if faulty else set()
    return settle(judged, accepted=accepted, known=known)


async def query_usages(tx: Tx, queries: Sequence[UsageQuery]) -> list[Usage]:
    """All of them from one snapshot of what was ingested."""
    meters = await _existing_meters(tx, queries)
    return await store.usages(tx, queries, meters)


async def list_events(tx: Tx, query: UsageQuery, page: Page) -> Slice[UsageEvent]:
    await _existing_meters(tx, [query])
    return await store.events_after(tx, query, EventKey.parse(page.after), limit=page.size)


async def _existing_meters(tx: Tx, queries: Sequence[UsageQuery]) -> dict[str, Meter]:
    codes = {query.meter for query in queries}
    meters = await store.meters_of(tx, codes)
    if missing := sorted(codes - meters.keys()):
        raise MeterNotFound(f"there is no meter {', '.join(missing)}", meters=",".join(missing))
    return meters
