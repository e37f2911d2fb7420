"""Knows how questions about usage are answered from the copy: the same as from the log, through the same position."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from common.db import Tx
from common.period import EARLIEST
from metering.clickhouse import exact
from metering.clickhouse.connection import Connection
from metering.clickhouse.exact import Event
from metering.clickhouse.expressions import PLACES, TooWide
from metering.clickhouse.question import BEFORE, MICROSECOND, Cell, Found, Question, micros, windows_of
from metering.clickhouse.sql import Statement, Statements
from metering.clickhouse.waiting import Undone, ready
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.errors import TooManyExpressedEvents, TooManyGroups, TooManyValues
from metering.domain.meter import Aggregation, Definition, MeterVersion
from metering.domain.quantity import NO_EVENTS, Sums, quantity, window_quantities
from metering.domain.usage import Usage, UsageGroup, UsageQuery, UsageWindow
from metering.domain.usage_event import EventPlace, Identity, UsageEvent
from metering.domain.window import grid
from metering.store.archives import Asked, check_in_log
from metering.store.usage_sql import GROUPS_MAX, TRACED, VALUES_MAX
from metering.store.usages import TRACEPARENTS_MAX

STATEMENTS_MAX: Final = 4
"""Of one request that ClickHouse has at a time."""

PAIRS_TOGETHER: Final = 10_000
"""Of a question and a name of its customer, that one statement is about: a megabyte."""
EVENTS_TOGETHER: Final = 10_000

_MICRO_PLACES: Final = 6
_WHOLE: Final = frozenset({Aggregation.COUNT, Aggregation.UNIQUE_COUNT})
"""What is no sum or choice of values."""
_NO_EVENTS_DIGEST: Final = hashlib.sha256(b"").hexdigest()


class CopyStore:
    """See `store.usage_store`."""

    def __init__(self, connection: Connection, *, wait_seconds: float) -> None:
        """`wait_seconds` is how long a question waits for the copy."""
        self._connection = connection
        self._wait_seconds = wait_seconds
        # Whoever has so many events at hand is the only one: they take some fifty megabytes.
        self._counting_each = asyncio.Lock()

    async def usages(
        self, tx: Tx, queries: Sequence[UsageQuery], *, versions: Sequence[MeterVersion], complete: bool
    ) -> list[Usage]:
        cuts = windows_of(queries)
        copy = await ready(tx, queries, complete=complete, wait_seconds=self._wait_seconds)
        # As the log does: one that is to be proven has all of the batch proven.
        are_short = (
            query.is_short and each.definition.is_summed for query, each in zip(queries, versions, strict=True)
        )
        is_proven = not all(are_short)
        questions = []
        for query, version, cut in zip(queries, versions, cuts, strict=True):
            definition = version.definition
            bucket = definition.bucket
            questions.append(
                Question(
                    query=query,
                    definition=definition,
                    streams=copy.streams_of(query),
                    through=copy.through(query),
                    buckets=grid(query.period, bucket.length, bucket.time_zone) if bucket else None,
                    windows=cut,
                    is_proven=is_proven,
                )
            )
        found = await self._find(tx.seller_id, questions, undone=copy.undone)
        await check_in_log(tx, (each for question in questions for each in _looked_at(question)), or_copied=True)
        traceparents = await _traceparents(tx, found)
        return [_usage(*each) for each in zip(questions, versions, found, traceparents, strict=True)]

    async def list_events(
        self, tx: Tx, query: UsageQuery, *, definition: Definition, after: EventPlace, limit: int, complete: bool
    ) -> list[UsageEvent]:
        copy = await ready(tx, [query], complete=complete, wait_seconds=self._wait_seconds)
        question = Question(
            query=query,
            definition=definition,
            streams=copy.streams_of(query),
            through=copy.through(query),
            buckets=None,
            windows=(),
            is_proven=False,
        )
        found = await self._page(tx.seller_id, question, after, limit, undone=copy.undone)
        await check_in_log(tx, _looked_at(question), or_copied=True)
        names = {stream: name for (_, name), stream in copy.streams.items()}
        return [_event(event, query.meter, names[event.stream]) for event in found]

    async def _find(self, seller_id: str, questions: Sequence[Question], *, undone: Undone) -> list[Found]:
        """What is found for each."""
        found = [Found(digest=_NO_EVENTS_DIGEST if each.is_proven else "") for each in questions]
        pairs: Counter[object] = Counter()
        shapes: dict[tuple[object, int], list[int]] = {}
        for nth, question in enumerate(questions):
            if question.streams:
                shape = question.shape
                shapes.setdefault((shape, pairs[shape] // PAIRS_TOGETHER), []).append(nth)
                pairs[shape] += len(question.streams)
        turns = asyncio.Semaphore(STATEMENTS_MAX)

        async def find(alike: Sequence[int]) -> None:
            asked = [(nth, questions[nth]) for nth in alike]
            async with turns:
                try:
                    await self._count(Statements(seller_id, asked, undone=undone), asked, found)
                except TooWide:
                    await self._count_each(Statements(seller_id, asked, undone=undone), asked, found)

        try:
            async with asyncio.TaskGroup() as group:
                for alike in shapes.values():
                    group.create_task(find(alike))
        except ExceptionGroup as failures:
            # One says enough: the caller is told a reason.
            raise failures.exceptions[0] from failures
        return found

    async def _count(
        self, statements: Statements, asked: Sequence[tuple[int, Question]], found: Sequence[Found]
    ) -> None:
        """Let ClickHouse count."""
        for row in await self._rows(statements.total()):
            nth, event_count, value_sum, measure, fresh_count, digest, positions, values = row
            each = found[nth]
            each.total = Cell(measure=measure, value_sum=value_sum, event_count=event_count)
            each.digest, each.fresh_count, each.positions, each.values = digest, fresh_count, positions, values
        first = asked[0][1]
        if first.query.group_by:
            for nth, one, other, event_count, value_sum, measure in await self._rows(statements.groups()):
                cell = Cell(measure=measure, value_sum=value_sum, event_count=event_count)
                found[nth].groups.append(((one, other), cell))
        if first.cut is not None:
            for nth, begin, event_count, value_sum, measure in await self._rows(statements.windows(first.cut)):
                found[nth].windows[begin] = Cell(measure=measure, value_sum=value_sum, event_count=event_count)

    async def _count_each(
        self, statements: Statements, asked: Sequence[tuple[int, Question]], found: list[Found]
    ) -> None:
        """Have the events, and count them here."""
        async with self._counting_each:
            rows = await self._rows(statements.events(limit=exact.EVENTS_MAX + 1))
            if len(rows) > exact.EVENTS_MAX:
                raise _too_many(asked[0][1].query.meter)
            events: dict[int, list[Event]] = {}
            for nth, *row in rows:
                events.setdefault(nth, []).append(Event(*row))

            def count() -> None:
                for nth, question in asked:
                    if nth in events:
                        found[nth] = exact.find(question, exact.counted(events[nth], question.definition))

            await asyncio.to_thread(count)

    async def _page(
        self, seller_id: str, question: Question, after: EventPlace, limit: int, *, undone: Undone
    ) -> list[Event]:
        if not question.streams:
            return []
        statements = Statements(seller_id, [(0, question)], undone=undone)
        place = (micros(after.time), *after.identity)
        try:
            return [Event(*row) for _, *row in await self._rows(statements.page(after=place, limit=limit))]
        except TooWide:
            pass
        found: list[Event] = []
        for _ in range(-(-exact.EVENTS_MAX // EVENTS_TOGETHER)):
            rows = await self._rows(statements.events(after=place, limit=EVENTS_TOGETHER))
            events = [Event(*row) for _, *row in rows]
            found += exact.counted(events, question.definition)
            if len(found) >= limit or len(rows) < EVENTS_TOGETHER:
                return found[:limit]
            place = (events[-1].time, events[-1].source, events[-1].event_id)
        raise _too_many(question.query.meter)

    async def _rows(self, statement: Statement) -> Sequence[Sequence[Any]]:  # Any: of any type
        return await self._connection.rows(statement.sql, statement.parameters)


def _too_many(meter: str) -> TooManyExpressedEvents:
    message = f"{meter} calculates more than {exact.EVENTS_MAX} events one by one: ask about a shorter period"
    return TooManyExpressedEvents(message, meter=meter, limit=exact.EVENTS_MAX)


def _looked_at(question: Question) -> Iterator[Asked]:
    query, counted = question.query, question.counted
    for customer in query.customers:
        yield Asked(query.meter, customer, counted.start, counted.end, question.through)


async def _traceparents(tx: Tx, found: Sequence[Found]) -> list[Sequence[str]]:
    """Of the requests that brought the newest events of each."""
    traced = [nth for nth, each in enumerate(found) if each.positions]
    told: list[Sequence[str]] = [() for _ in found]
    if traced:
        # Arrays of different lengths do not pass through `unnest`.
        positions = [",".join(map(str, found[nth].positions)) for nth in traced]
        rows = await tx.driver.fetch(_TRACEPARENTS, tx.seller_id, TRACEPARENTS_MAX, positions)
        for nth, row in zip(traced, rows, strict=True):
            told[nth] = row["traceparents"]
    return told


_TRACEPARENTS: Final = f"""
SELECT t.traceparents FROM unnest($3::text[]) WITH ORDINALITY AS q (positions, nth)
CROSS JOIN LATERAL (SELECT string_to_array(q.positions, ',')::bigint[] AS positions) u {TRACED} ORDER BY q.nth
"""


def _usage(question: Question, version: MeterVersion, found: Found, traceparents: Sequence[str]) -> Usage:
    query, total = question.query, found.total
    if query.with_values and total.event_count > VALUES_MAX:
        raise TooManyValues(f"{query.meter} has more than {VALUES_MAX} values", meter=query.meter, limit=VALUES_MAX)
    if len(found.groups) > GROUPS_MAX:
        raise TooManyGroups(f"{query.meter} has more than {GROUPS_MAX} groups", meter=query.meter, limit=GROUPS_MAX)
    return Usage(
        query=query,
        quantity=_quantity(question, total),
        event_count=total.event_count,
        digest=found.digest,
        through_position=question.through,
        traceparents=tuple(traceparents),
        fresh_count=found.fresh_count if query.fresh_after is not None else 0,
        groups=tuple(
            UsageGroup(
                values=values[: len(query.group_by)],
                quantity=_quantity(question, cell),
                event_count=cell.event_count,
            )
            for values, cell in found.groups
        ),
        values=tuple(_decimal(value, PLACES) for value in found.values),
        windows=tuple(_windows(question, found)),
        meter_version=version.number,
    )


def _windows(question: Question, found: Found) -> Iterator[UsageWindow]:
    definition = question.definition
    sums = {
        place: _sums(definition, found.windows[begin])
        for place, window in question.windows
        if (begin := micros(window.start)) in found.windows
    }
    before = _sums(definition, found.windows[BEFORE]) if BEFORE in found.windows else NO_EVENTS
    return window_quantities(definition, question.query.period, question.windows, sums, before)


def _quantity(question: Question, cell: Cell) -> Decimal:
    definition = question.definition
    measure = _sums(definition, cell).measure
    return quantity(definition.aggregation, measure, event_count=cell.event_count, period=question.query.period)


def _sums(definition: Definition, cell: Cell) -> Sums:
    places = PLACES
    if definition.aggregation is Aggregation.WEIGHTED_SUM:
        places += _MICRO_PLACES
    elif definition.aggregation in _WHOLE:
        places = 0
    return Sums(
        measure=_decimal(cell.measure, places),
        value_sum=_decimal(cell.value_sum, PLACES),
        event_count=cell.event_count,
    )


def _decimal(units: int, places: int) -> Decimal:
    """Exactly, however many digits that are."""
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -places))


def _event(event: Event, meter: str, customer: str) -> UsageEvent:
    return UsageEvent(
        identity=Identity(source=event.source, id=event.event_id),
        customer=customer,
        meter=meter,
        time=EARLIEST + event.time * MICROSECOND,
        value=Decimal(event.sent),
        dimensions=event.dimensions or NO_DIMENSIONS,
    )
