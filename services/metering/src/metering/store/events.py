"""Knows how usage events are listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Row, Text, and_, cast, func, literal, literal_column, or_, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from common.db import Tx
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.meter import Definition
from metering.domain.usage import UsageQuery
from metering.domain.usage_event import EventPlace, Identity, UsageEvent
from metering.store.archives import POSITION_MAX, Asked, check_in_log
from metering.store.backfill_tables import usage_backfills
from metering.store.expressions import VALUE_END, expression_sql
from metering.store.filters import filter_path
from metering.store.tables import usage_corrections, usage_log, usage_sources, usage_streams


async def list_events(
    tx: Tx, query: UsageQuery, *, definition: Definition, after: EventPlace, limit: int
) -> list[UsageEvent]:
    """Those that a usage counts."""
    event, name, source = usage_log.c, usage_streams.c, usage_sources.c
    period = definition.counted(query.period)
    statement = (
        select(event.event_id, event.time, event.value, event.dimensions, name.customer, name.meter, source.source)
        .join_from(usage_log, usage_streams, event.stream == name.stream)
        .join(usage_sources, event.source == source.number)
        .where(
            name.seller_id == tx.seller_id,
            name.meter == query.meter,
            name.customer.in_(query.customers),
            event.time >= max(period.start, after.time),
            event.time < period.end,
            *_conditions(query, definition),
            *([] if query.through_position is None else [event.position <= query.through_position]),
            event.corrects.is_(None),
            _is_valid(tx, query),
            tuple_(event.time, source.source, event.event_id) > (after.time, *after.identity),
        )
        .order_by(event.time, source.source, event.event_id)
        .limit(limit)
    )
    found = [_event(row) for row in await tx.execute(statement)]
    through = POSITION_MAX if query.through_position is None else query.through_position
    await check_in_log(
        tx, (Asked(query.meter, customer, period.start, period.end, through) for customer in query.customers)
    )
    return found


def _is_valid(tx: Tx, query: UsageQuery) -> ColumnElement[bool]:
    """Whether nothing had taken the event away; see `store.corrections.valid`."""
    correction, name, event, backfill = usage_corrections.c, usage_streams.c, usage_log.c, usage_backfills.c
    reverted = select(backfill.number).where(backfill.revert_position.is_not(None))
    asked = select(name.stream).where(
        name.seller_id == tx.seller_id, name.meter == query.meter, name.customer.in_(query.customers)
    )
    taken_away = select(correction.corrects).where(correction.stream.in_(asked))
    if query.through_position is not None:
        taken_away = taken_away.where(correction.position <= query.through_position)
        reverted = reverted.where(backfill.revert_position <= query.through_position)
    return and_(event.position.not_in(taken_away), or_(event.backfill.is_(None), event.backfill.not_in(reverted)))


def _conditions(query: UsageQuery, definition: Definition) -> Iterator[ColumnElement[bool]]:
    """What a usage event says besides."""
    path, expression = filter_path([definition.filter, query.filter]), definition.expression
    if path is not None:
        told = func.coalesce(usage_log.c.dimensions, cast(literal("{}", Text), JSONB))
        yield told.bool_op("@@")(cast(literal(path, Text), JSONPATH))
    if expression is not None:
        yield literal_column(f"abs({expression_sql(expression, event=usage_log.name)}) < {VALUE_END}", Boolean)


def _event(row: Row[Any]) -> UsageEvent:  # Any: a usage event as its sender wrote it
    return UsageEvent(
        identity=Identity(source=row.source, id=row.event_id),
        customer=row.customer,
        meter=row.meter,
        time=row.time,
        value=row.value,
        dimensions=row.dimensions or NO_DIMENSIONS,
    )
