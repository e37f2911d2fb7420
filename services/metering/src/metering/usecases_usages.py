"""What the metering service does with usage: count it, and list its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.db import Tx
from metering import store
from metering.domain.errors import MeterNotFound
from metering.domain.meter import Meter
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventPlace, UsageEvent
from metering.store import LOG, UsageStore


async def query_usages(
    tx: Tx, queries: Sequence[UsageQuery], *, counting: UsageStore = LOG, complete: bool = True
) -> list[Usage]:
    """In the order asked, all from one snapshot of what was ingested."""
    if not queries:
        return []
    meters = await _existing_meters(tx, queries)
    return await count_usages(tx, queries, meters=meters, counting=counting, complete=complete)


async def count_usages(
    tx: Tx,
    queries: Sequence[UsageQuery],
    *,
    meters: Mapping[str, Meter],
    counting: UsageStore = LOG,
    complete: bool = True,
) -> list[Usage]:
    """The same by meters that are at hand, by their codes."""
    if not queries:
        return []
    versions = [meters[query.meter].counting(query.period, query.meter_version) for query in queries]
    return await counting.usages(tx, queries, versions=versions, complete=complete)


async def list_events(
    tx: Tx, query: UsageQuery, *, after: EventPlace, limit: int, counting: UsageStore = LOG
) -> list[UsageEvent]:
    meter = await store.meter_by_code(tx, query.meter)
    definition = meter.counting(query.period, query.meter_version).definition
    return await counting.list_events(tx, query, definition=definition, after=after, limit=limit, complete=False)


async def _existing_meters(tx: Tx, queries: Sequence[UsageQuery]) -> dict[str, Meter]:
    """Nobody is billed zero because of a misspelt meter."""
    codes = {query.meter for query in queries}
    meters = await store.meters_by_code(tx, codes)
    if missing := sorted(codes - meters.keys()):
        raise MeterNotFound(f"there is no meter {', '.join(missing)}", codes=",".join(missing))
    return meters
