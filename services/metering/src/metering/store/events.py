"""Knows how usage events are stored, each once.

Positions are handed out in the order of commits: the counter's row stays locked until its transaction ends. So whoever
sees a position sees every usage event that was accepted before it, whatever was under way at the time, and the
position of an ingest is at once the number of usage events that the seller had sent when it was done.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Row, select, tuple_

from common import telemetry
from common.db import Tx
from common.wire import decimal
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.usage import UsageQuery
from metering.domain.usage_event import EventPlace, Identity, UsageEvent
from metering.store.tables import usage_events


async def add_events(tx: Tx, events: Sequence[UsageEvent]) -> set[Identity]:
    """Store usage events of different identities in one statement; which of them are new.

    A concurrent twin waits for the first to commit. Rows are inserted in one order, so that twins with several events
    in common cannot wait for each other.
    """
    if not events:
        return set()
    rows = await tx.driver.fetch(
        _ADD_EVENTS,
        tx.seller_id,
        tx.now,
        telemetry.traceparent(),
        [event.identity.source for event in events],
        [event.identity.id for event in events],
        [event.customer for event in events],
        [event.meter for event in events],
        [event.time for event in events],
        [decimal(event.value).value for event in events],
        [json.dumps(dict(event.dimensions)) if event.dimensions else None for event in events],
    )
    return {Identity(source=row["source"], id=row["event_id"]) for row in rows}


async def known_events(tx: Tx, identities: Collection[Identity]) -> set[Identity]:
    """Those that have been accepted."""
    if not identities:
        return set()
    rows = await tx.driver.fetch(
        "SELECT e.source, e.event_id FROM usage_events e"
        " JOIN unnest($2::text[], $3::text[]) AS asked (source, event_id) USING (source, event_id)"
        " WHERE e.seller_id = $1",
        tx.seller_id,
        [identity.source for identity in identities],
        [identity.id for identity in identities],
    )
    return {Identity(source=row["source"], id=row["event_id"]) for row in rows}


async def list_events(tx: Tx, query: UsageQuery, *, after: EventPlace, limit: int) -> list[UsageEvent]:
    columns = usage_events.c
    statement = (
        select(usage_events)
        .where(
            columns.seller_id == tx.seller_id,
            columns.meter == query.meter,
            columns.customer.in_(query.customers),
            columns.time >= max(query.period.start, after.time),
            columns.time < query.period.end,
            tuple_(columns.time, columns.source, columns.event_id) > (after.time, *after.identity),
        )
        .order_by(columns.time, columns.source, columns.event_id)
        .limit(limit)
    )
    return [_event(row) for row in await tx.execute(statement)]


def _event(row: Row[Any]) -> UsageEvent:  # Any: a row of `usage_events`
    return UsageEvent(
        identity=Identity(source=row.source, id=row.event_id),
        customer=row.customer,
        meter=row.meter,
        time=row.time,
        value=row.value,
        dimensions=row.dimensions or NO_DIMENSIONS,
    )


# The position is taken last, so that ingests of one seller wait for one another only while one commits.
_ADD_EVENTS: Final = """
WITH ingest AS (
    SELECT nextval(pg_get_serial_sequence('ingests', 'id')) AS id
), fresh AS (
    INSERT INTO usage_events (seller_id, source, event_id, customer, meter, time, value, ingest_id, dimensions)
    SELECT $1, e.source, e.event_id, e.customer, e.meter, e.time, e.value::numeric, (SELECT id FROM ingest),
           e.dimensions::jsonb
    FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[], $10::text[])
         AS e (source, event_id, customer, meter, time, value, dimensions)
    ORDER BY e.source COLLATE "C", e.event_id COLLATE "C"
    ON CONFLICT (seller_id, source, event_id) DO NOTHING
    RETURNING source, event_id
), counted AS (
    INSERT INTO positions AS p (seller_id, last)
    SELECT $1, count(*) FROM fresh HAVING count(*) > 0
    ON CONFLICT (seller_id) DO UPDATE SET last = p.last + excluded.last
    RETURNING last
), recorded AS (
    INSERT INTO ingests (seller_id, id, position, traceparent, create_time)
    SELECT $1, ingest.id, counted.last, $3, $2 FROM ingest, counted
)
SELECT source, event_id FROM fresh
"""
