"""Knows how rows become batches of columns, several under way at a time, and what became of each row."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.period import EARLIEST
from saldo.metering.v1.metering_service_pb2 import IngestEventsRequest, IngestEventsResponse
from saldo.metering.v1.usage_event_pb2 import DimensionSet, EventColumns, EventResult, UsageEvent
from tools.client import Client
from tools.imports.layout import Layout, Unusable
from tools.imports.reading import Place, Record
from tools.imports.rows import Malformed, Row, row_of, strings_of

BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 2_000_000
UNDER_WAY_MAX: Final = 4
UNMATCHED_NAMES_MAX: Final = 1_000
UNITS_MAX: Final = 2**63 - 1


@dataclass(slots=True)
class Tally:
    """What became of the rows so far."""

    accepted: int = 0
    duplicate: int = 0
    unmatched: int = 0
    rejected: int = 0
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many rows are unmatched for which reason, by the name that nobody has; the first that occur."""


@dataclass(frozen=True, slots=True)
class Rejection:
    line: int
    column: str
    reason: str


@dataclass(slots=True)
class _Batch:
    rows: list[Row]
    rejections: list[Rejection]
    """Of rows in it that cannot be sent."""
    end: Place
    size: int


async def send(
    client: Client,
    records: Iterator[Record],
    layout: Layout,
    tally: Tally,
    *,
    tell: Callable[[Rejection], None],
    done: Callable[[Place], None],
    backfill_id: str = "",
) -> None:
    """Send all of it, perhaps into a backfill. `done` hears how far everything has been answered, `tell` what was
    rejected, in order.
    """
    under_way: deque[tuple[_Batch, asyncio.Task[list[tuple[list[Row], IngestEventsResponse]]]]] = deque()

    async def settle() -> None:
        batch, task = under_way[0]
        answers = await task
        under_way.popleft()
        rejections = [*batch.rejections]
        for rows, answer in answers:
            _count(tally, rows, answer)
            rejections += _rejections(rows, answer, layout)
        tally.rejected += len(batch.rejections)
        for each in sorted(rejections, key=lambda rejection: rejection.line):
            tell(each)
        done(batch.end)

    try:
        for batch in _batches(records, layout):
            if len(under_way) == UNDER_WAY_MAX:
                await settle()
            under_way.append((batch, asyncio.create_task(_send(client, batch.rows, backfill_id))))
            # Reading does not wait for anything: those under way must get their turn.
            await asyncio.sleep(0)
        while under_way:
            await settle()
    except Unusable:
        while under_way:
            await settle()
        raise
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


def _batches(records: Iterator[Record], layout: Layout) -> Iterator[_Batch]:
    batch = _Batch([], [], Place(), 0)
    for record in records:
        try:
            batch.rows.append(row_of(record, layout))
        except Malformed as error:
            batch.rejections.append(Rejection(record.line, error.column, error.reason))
        batch.end = record.end
        batch.size += sum(len(text) for text in record.cells.values())
        if len(batch.rows) + len(batch.rejections) >= BATCH_ROWS or batch.size >= BATCH_BYTES:
            yield batch
            batch = _Batch([], [], record.end, 0)
    if batch.rows or batch.rejections:
        yield batch


async def _send(client: Client, rows: list[Row], backfill_id: str) -> list[tuple[list[Row], IngestEventsResponse]]:
    decimals = max((row.decimals for row in rows), default=0)
    fits = [abs(row.units) * 10 ** (decimals - row.decimals) <= UNITS_MAX for row in rows]
    plain = [row for row, fit in zip(rows, fits, strict=True) if fit]
    wide = [row for row, fit in zip(rows, fits, strict=True) if not fit]
    answers = []
    if plain:
        columns = columns_of(plain, decimals=decimals)
        request = IngestEventsRequest(columns=columns, exceptions_only=True, backfill_id=backfill_id)
        answers.append((plain, await client.metering.IngestEvents(request)))
    if wide:
        request = IngestEventsRequest(events=map(_event, wide), exceptions_only=True, backfill_id=backfill_id)
        answers.append((wide, await client.metering.IngestEvents(request)))
    return answers


def columns_of(rows: list[Row], *, decimals: int) -> EventColumns:
    strings = strings_of(rows)
    sets: dict[tuple[tuple[str, str], ...], int] = {}
    dimensions = [sets.setdefault(row.dimensions, len(sets) + 1) if row.dimensions else 0 for row in rows]
    return EventColumns(
        strings=list(strings),
        ids=b"".join(row.id for row in rows),
        id_lengths=[len(row.id) for row in rows],
        sources=[strings[row.source] for row in rows],
        customers=[strings[row.customer] for row in rows],
        meters=[strings[row.meter] for row in rows],
        times_micros=[row.micros for row in rows],
        units=[row.units * 10 ** (decimals - row.decimals) for row in rows],
        decimal_places=decimals,
        dimension_sets=[DimensionSet(dimensions=dict(each)) for each in sets],
        dimensions=dimensions if sets else [],
    )


def _event(row: Row) -> UsageEvent:
    return UsageEvent(
        id=row.id.decode(),
        source=row.source,
        customer=row.customer,
        meter=row.meter,
        time=wire.timestamp(EARLIEST + timedelta(microseconds=row.micros)),
        value=DecimalPb(value=f"{row.value:f}"),
        dimensions=dict(row.dimensions),
    )


def _count(tally: Tally, rows: list[Row], answer: IngestEventsResponse) -> None:
    tally.accepted += answer.accepted_count
    tally.duplicate += answer.duplicate_count
    tally.unmatched += answer.unmatched_count
    tally.rejected += answer.rejected_count
    for each in answer.results:
        if each.outcome == EventResult.UNMATCHED:
            row = rows[each.index]
            name = (each.reason, row.customer if each.field == "customer" else row.meter)
            if name in tally.names or len(tally.names) < UNMATCHED_NAMES_MAX:
                tally.names[name] += 1


def _rejections(rows: list[Row], answer: IngestEventsResponse, layout: Layout) -> list[Rejection]:
    return [
        Rejection(
            rows[each.index].record.line,
            layout.columns.get(each.field, each.field),
            f"{each.reason}: {each.message}",
        )
        for each in answer.results
        if each.outcome == EventResult.REJECTED
    ]
