"""Knows how usage is counted event by event: for the expressions that ClickHouse's numbers are too narrow for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple, TypeVar

from common.money import round_half_up
from metering.clickhouse.expressions import PLACES, UNITS_END
from metering.clickhouse.question import BEFORE, Cell, Found, Question, micros
from metering.domain.expression import Expression, result
from metering.domain.meter import Aggregation, Definition
from metering.domain.window import Grid
from metering.store.usage_sql import GROUPS_MAX, VALUES_MAX

EVENTS_MAX: Final = 100_000
"""Of the questions of one shape: a few seconds' work."""


KeyT = TypeVar("KeyT")


class Event(NamedTuple):
    time: int
    source: str
    event_id: str
    stream: int
    position: int
    version: int
    sent: str
    dimensions: Mapping[str, str]
    counted: int = 0


def counted(events: Iterable[Event], definition: Definition) -> list[Event]:
    """Those that count, and what for."""
    expression = definition.expression
    assert expression is not None, "only an expression can be too wide"
    found = []
    for event in events:
        units = _units(expression, event)
        if units is not None:
            found.append(event._replace(counted=units))
    return found


def find(question: Question, events: Sequence[Event]) -> Found:
    """What is found for a question, of the events that count for it, in order of time, source and id."""
    query = question.query
    start, end = micros(query.period.start), micros(query.period.end)

    def held(event: Event) -> int:
        return end - max(event.time, start)

    def group(event: Event) -> tuple[str, str]:
        first, second = (event.dimensions.get(name, "") if name else "" for name in (*query.group_by, "", "")[:2])
        return first, second

    found = Found(
        total=_cell(question, events, held),
        digest=_digest(events) if question.is_proven else "",
        fresh_count=sum(event.position > query.fresh_after for event in events) if query.fresh_after is not None else 0,
        positions=sorted((event.position for event in events), reverse=True) if question.is_proven else (),
    )
    if query.with_values and len(events) <= VALUES_MAX:
        found.values = [event.counted for event in events]
    if query.group_by:
        groups = sorted(_split(events, group).items())[: GROUPS_MAX + 1]
        found.groups = [(values, _cell(question, some, held)) for values, some in groups]
    if question.windows:
        begins = sorted(micros(window.start) for _, window in question.windows)

        def window(event: Event) -> int:
            return BEFORE if event.time < start else max(begin for begin in begins if begin <= event.time)

        parts = _split(events, window)
        found.windows = {begin: _cell(question, some, lambda event: event.time) for begin, some in parts.items()}
    return found


def _cell(question: Question, events: Sequence[Event], held: Callable[[Event], int]) -> Cell:
    values = [event.counted for event in events]
    return Cell(
        measure=_measure(question, events, held) if events else 0, value_sum=sum(values), event_count=len(values)
    )


def _measure(question: Question, events: Sequence[Event], held: Callable[[Event], int]) -> int:
    definition, values = question.definition, [event.counted for event in events]
    match definition.aggregation:
        case Aggregation.MAX:
            return max(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.LATEST:
            return max(events, key=lambda event: event[:3]).counted
        case Aggregation.WEIGHTED_SUM:
            return sum(event.counted * held(event) for event in events)
        case Aggregation.PERCENTILE:
            assert definition.percentile is not None, "a percentile has one"
            place = -(-len(values) * Fraction(definition.percentile) // 100)
            return sorted(values)[int(place) - 1]
        case Aggregation.SUM_OF_MAX:
            assert question.buckets is not None, "a meter that adds up the largest values of buckets has buckets"
            cut = question.buckets
            parts = _split(events, lambda event: _beginning(cut, event.time))
            return sum(max(event.counted for event in some) for some in parts.values())
        case Aggregation.SUM | Aggregation.AVERAGE:
            return sum(values)
        case Aggregation.COUNT | Aggregation.UNIQUE_COUNT:
            raise AssertionError("what looks at no value has no expression")


def _beginning(cut: Grid, time: int) -> int:
    """When the part of a grid begins in which a time lies."""
    mark = max(each for each in map(micros, cut.marks) if each <= time)
    return mark if cut.step is None else time - (time - mark) % (cut.step.seconds * 1_000_000)


def _split(events: Iterable[Event], key: Callable[[Event], KeyT]) -> dict[KeyT, list[Event]]:
    parts: dict[KeyT, list[Event]] = defaultdict(list)
    for event in events:
        parts[key(event)].append(event)
    return parts


def _digest(events: Iterable[Event]) -> str:
    ordered = sorted((event.source.encode(), event.event_id.encode(), event) for event in events)
    lines = ("\x1f".join(_told(event)) for *_, event in ordered)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _told(event: Event) -> Iterator[str]:
    yield from (event.source, event.event_id, event.sent)
    if event.version:
        yield str(event.version)


def _units(expression: Expression, event: Event) -> int | None:
    exact = result(expression, Decimal(event.sent), event.dimensions)
    if exact is None:
        return None
    units = round_half_up(exact * 10**PLACES)
    return units if -UNITS_END < units < UNITS_END else None
