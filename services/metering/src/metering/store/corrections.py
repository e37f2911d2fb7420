"""Knows which usage events still count, and how their versions and corrections are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, exists, or_, select

from common.db import Tx
from metering.domain.correction import Correction, EventVersion
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.usage_event import Identity, UsageEvent
from metering.store.backfill_tables import usage_backfills
from metering.store.tables import usage_corrections, usage_log, usage_streams


def valid(*, streams: str, through: str = "") -> str:
    """The SQL that is true of a row `e` of the log if it is an event that nothing had taken away by then: neither a
    correction of it, nor that its backfill was reverted.

    `streams` is the SQL of which streams are asked about, and must not depend on anything: then what was taken away is
    looked up once, and compared as a hash. A join would be planned for the one row that there seems to be.
    """
    counts = f"e.position NOT IN (SELECT v.corrects FROM usage_corrections v WHERE v.stream {streams})"
    stands = NOT_REVERTED
    if through:
        later = "SELECT v.position FROM usage_corrections v WHERE v.seller_id = $1 AND v.corrects = e.position"
        counts = f"({counts} OR ({later}) > {through})"
        later = "SELECT b.revert_position FROM usage_backfills b WHERE b.number = e.backfill"
        stands = f"({stands} OR ({later}) > {through})"
    return f"e.corrects IS NULL AND {counts} AND {stands}"


NOT_REVERTED: Final = """(e.backfill IS NULL OR e.backfill NOT IN (
    SELECT b.number FROM usage_backfills b WHERE b.revert_position IS NOT NULL
))"""
"""The SQL that is true of a row `e` of the log unless it came with a backfill that was reverted since."""

EVER_CORRECTED: Final = """(
    EXISTS (SELECT FROM usage_corrections c WHERE c.seller_id = $1)
    OR EXISTS (SELECT FROM usage_backfills b WHERE b.seller_id = $1 AND b.revert_position IS NOT NULL)
)"""
"""The SQL that is true of a seller of whom anything was taken away: only then has anybody to look for what."""


async def corrections_of(tx: Tx, identity: Identity) -> list[Correction]:
    """Of one event, in order."""
    correction = usage_corrections.c
    query = (
        select(usage_corrections)
        .where(
            correction.seller_id == tx.seller_id,
            correction.source == identity.source,
            correction.event_id == identity.id,
        )
        .order_by(correction.number)
    )
    return [_correction(row) for row in await tx.execute(query)]


async def list_corrections(tx: Tx, *, after: int, limit: int) -> list[Correction]:
    """In order of position."""
    correction = usage_corrections.c
    query = (
        select(usage_corrections)
        .where(correction.seller_id == tx.seller_id, correction.position > after)
        .order_by(correction.position)
        .limit(limit)
    )
    return [_correction(row) for row in await tx.execute(query)]


async def versions_of(tx: Tx, identity: Identity, keys: Sequence[UUID]) -> list[EventVersion]:
    """What the log has by these keys, in order. A leaf that has no index yet is read. Events of a backfill that was
    reverted have given their ids back, unless they were corrected.
    """
    event, name, correction = usage_log.c, usage_streams.c, usage_corrections.c
    reverted = select(usage_backfills.c.number).where(usage_backfills.c.revert_position.is_not(None))
    is_corrected = exists().where(correction.seller_id == event.seller_id, correction.corrects == event.position)
    query = (
        select(event.position, event.time, event.value, event.dimensions, name.customer, name.meter)
        .join_from(usage_log, usage_streams, event.stream == name.stream)
        # Keys are as good as never alike; the id says for sure.
        .where(event.seller_id == tx.seller_id, event.key.in_(keys), event.event_id == identity.id)
        .where(or_(event.backfill.is_(None), event.backfill.not_in(reverted), is_corrected))
        .order_by(event.position)
    )
    return [
        EventVersion(
            event=UsageEvent(
                identity=identity,
                customer=row.customer,
                meter=row.meter,
                time=row.time,
                value=row.value,
                dimensions=row.dimensions or NO_DIMENSIONS,
            ),
            position=row.position,
        )
        for row in await tx.execute(query)
    ]


def _correction(row: Row[Any]) -> Correction:  # Any: a row of `usage_corrections`
    return Correction(
        identity=Identity(source=row.source, id=row.event_id),
        number=row.number,
        corrects=row.corrects,
        position=row.position,
        amended_position=row.amended_position,
        reason=row.reason,
        actor=row.actor,
        request_id=row.request_id,
        create_time=row.create_time,
    )
