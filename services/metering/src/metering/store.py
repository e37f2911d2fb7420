"""Knows how usage is stored: its tables, and the questions asked of them.

Positions are handed out in the order of commits: the counter's row stays locked until its transaction ends. So whoever
sees a position sees every usage event that was accepted before it, whatever was under way at the time, and the
position of an ingest is at once the number of usage events that the seller had sent when it was done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    MetaData,
    Numeric,
    Row,
    Table,
    Text,
    UniqueConstraint,
    select,
    tuple_,
)
from sqlalchemy import (
    Identity as IdentityColumn,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert

from common import telemetry
from common.db import Tx
from common.wire import decimal
from metering.domain.errors import MeterCodeTaken, MeterNotFound
from metering.domain.meter import Aggregation, Meter, MeterId
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventPlace, Identity, UsageEvent

TRACEPARENTS_MAX: Final = 4

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)
ByteOrder = Text(collation="C")
"""Keys are sorted by their bytes: the order in a digest must not depend on the language of a server."""

meters = Table(
    "meters",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("aggregation", Text, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="meters_code"),
)

usage_events = Table(
    "usage_events",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("source", ByteOrder, primary_key=True),
    Column("event_id", ByteOrder, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("time", Instant, nullable=False),
    Column("value", Numeric, nullable=False),
    # Written by the very statement that writes the ingest: a foreign key would only be checked once per row.
    Column("ingest_id", BigInteger, nullable=False),
    Index("usage_events_usage", "seller_id", "meter", "customer", "time"),
    comment="every report of use that was accepted, for ever",
)

ingests = Table(
    "ingests",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", BigInteger, IdentityColumn(), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "position", name="ingests_position"),
    comment="the batches that brought usage events, each with the position it ends at",
)

positions = Table(
    "positions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
    comment="how many usage events each seller has had accepted",
)


async def add_meter(tx: Tx, meter: Meter) -> None:
    statement = (
        insert(meters)
        .values(
            seller_id=tx.seller_id,
            id=meter.id,
            code=meter.code,
            display_name=meter.display_name,
            aggregation=meter.aggregation.name,
            unit_label=meter.unit_label,
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


async def list_meters(tx: Tx, *, after: str, limit: int) -> list[Meter]:
    query = (
        select(meters).where(meters.c.seller_id == tx.seller_id, meters.c.id > after).order_by(meters.c.id).limit(limit)
    )
    return [_meter(row) for row in await tx.execute(query)]


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


async def usages(tx: Tx, queries: Sequence[UsageQuery], *, aggregations: Mapping[str, Aggregation]) -> list[Usage]:
    """All of them in one statement: quantity, digest and position are of one snapshot."""
    rows = await tx.driver.fetch(
        _USAGES,
        tx.seller_id,
        [query.customer_id for query in queries],
        [query.external_id for query in queries],
        [query.meter for query in queries],
        [query.period.start for query in queries],
        [query.period.end for query in queries],
        TRACEPARENTS_MAX,
    )
    return [_usage(row, query, aggregations[query.meter]) for row, query in zip(rows, queries, strict=True)]


async def list_events(tx: Tx, query: UsageQuery, *, after: EventPlace, limit: int) -> list[UsageEvent]:
    columns = usage_events.c
    statement = (
        select(usage_events)
        .where(
            columns.seller_id == tx.seller_id,
            columns.meter == query.meter,
            columns.customer.in_([query.customer_id, query.external_id]),
            columns.time >= max(query.period.start, after.time),
            columns.time < query.period.end,
            tuple_(columns.time, columns.source, columns.event_id) > (after.time, *after.identity),
        )
        .order_by(columns.time, columns.source, columns.event_id)
        .limit(limit)
    )
    return [_event(row) for row in await tx.execute(statement)]


def _meter(row: Row[Any]) -> Meter:  # Any: a row of `meters`
    return Meter(
        id=MeterId(row.id),
        code=row.code,
        display_name=row.display_name,
        aggregation=Aggregation[row.aggregation],
        unit_label=row.unit_label,
        revision=row.revision,
        create_time=row.create_time,
    )


def _event(row: Row[Any]) -> UsageEvent:  # Any: a row of `usage_events`
    return UsageEvent(
        identity=Identity(source=row.source, id=row.event_id),
        customer=row.customer,
        meter=row.meter,
        time=row.time,
        value=row.value,
    )


def _usage(row: asyncpg.Record, query: UsageQuery, aggregation: Aggregation) -> Usage:
    return Usage(
        query=query,
        quantity=aggregation.quantity(event_count=row["event_count"], value_sum=row["value_sum"]),
        event_count=row["event_count"],
        digest=row["digest"],
        through_position=row["through_position"],
        traceparents=tuple(row["traceparents"]),
    )


# The position is taken last, so that ingests of one seller wait for one another only while one commits.
_ADD_EVENTS: Final = """
WITH ingest AS (
    SELECT nextval(pg_get_serial_sequence('ingests', 'id')) AS id
), fresh AS (
    INSERT INTO usage_events (seller_id, source, event_id, customer, meter, time, value, ingest_id)
    SELECT $1, e.source, e.event_id, e.customer, e.meter, e.time, e.value::numeric, (SELECT id FROM ingest)
    FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[])
         AS e (source, event_id, customer, meter, time, value)
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

# No key can contain a separator (control characters are refused), so different events cannot have one digest.
_USAGES: Final = r"""
SELECT u.event_count, u.value_sum, u.digest, t.traceparents, coalesce(p.last, 0) AS through_position
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[]) WITH ORDINALITY
     AS q (customer_id, external_id, meter, start_time, end_time, nth)
CROSS JOIN LATERAL (
    SELECT count(*) AS event_count,
           coalesce(sum(e.value), 0) AS value_sum,
           encode(sha256(convert_to(coalesce(string_agg(
               e.source || E'\x1f' || e.event_id || E'\x1f' || trim_scale(e.value), E'\n'
               ORDER BY e.source, e.event_id), ''), 'UTF8')), 'hex') AS digest,
           array_agg(DISTINCT e.ingest_id) AS ingest_ids
    FROM usage_events e
    WHERE e.seller_id = $1 AND e.meter = q.meter AND e.customer = ANY (ARRAY[q.customer_id, q.external_id])
      AND e.time >= q.start_time AND e.time < q.end_time
) u
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(newest.traceparent ORDER BY newest.position DESC), '{}') AS traceparents
    FROM (
        SELECT i.traceparent, i.position FROM ingests i
        WHERE i.seller_id = $1 AND i.id = ANY (u.ingest_ids) AND i.traceparent <> ''
        ORDER BY i.position DESC LIMIT $7
    ) newest
) t
LEFT JOIN positions p ON p.seller_id = $1
ORDER BY q.nth
"""
