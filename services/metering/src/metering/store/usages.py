"""Knows how stored usage events become usages: quantity, groups, windows, values and their proof, of one snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

import asyncpg

from common.db import Tx
from common.period import Period
from common.rpc import ConcurrentUpdate
from metering.domain.dimension import GROUP_BY_MAX
from metering.domain.errors import TooManyGroups, TooManyValues
from metering.domain.expression import parse
from metering.domain.meter import Aggregation, MeterVersion
from metering.domain.quantity import NO_EVENTS, Sums, quantity, window_quantities
from metering.domain.usage import Usage, UsageGroup, UsageQuery, UsageWindow
from metering.domain.window import WINDOWS_MAX, Grid, Place, grid, too_many_windows
from metering.store.archives import POSITION_MAX, Asked, check_in_log
from metering.store.expressions import expression_sql
from metering.store.filters import filter_path
from metering.store.usage_sql import GROUPS_MAX, LOOK, PLAIN_USAGES, VALUES_MAX, usages_sql

TRACEPARENTS_MAX: Final = 4
TRIES_MAX: Final = 5
"""How often it may happen that a leaf comes in the very moment in which is counted."""
SEPARATOR: Final = "\x1f"
"""No key contains it: control characters are refused."""


async def usages(tx: Tx, queries: Sequence[UsageQuery], *, versions: Sequence[MeterVersion]) -> list[Usage]:
    """Each by a version of its meter, all in one statement: quantity, digest and position are of one snapshot."""
    questions = [_Question.of(*each) for each in zip(queries, versions, strict=True)]
    windows = _windows(questions)
    asked = [
        tx.seller_id,
        TRACEPARENTS_MAX,
        [SEPARATOR.join(query.customers) for query in queries],
        [query.meter for query in queries],
        [question.counted.start for question in questions],
        [question.counted.end for question in questions],
        [question.version.definition.aggregation.name for question in questions],
        [POSITION_MAX if query.through_position is None else query.through_position for query in queries],
        [query.fresh_after for query in queries],
    ]
    if not _are_plain(questions):
        asked += _more(questions)
    rows = await _rows(tx, questions, asked)
    await check_in_log(tx, (each for question in questions for each in question.looked_at()))
    return [_usage(*each) for each in zip(rows, questions, windows, strict=True)]


async def _rows(tx: Tx, questions: Sequence[_Question], asked: Sequence[object]) -> list[asyncpg.Record]:
    for _ in range(TRIES_MAX):
        look = await tx.driver.fetchrow(LOOK, tx.seller_id)
        assert look is not None, "what is read from no table is a row"
        rows = await tx.driver.fetch(_sql(questions, corrected=look["corrected"]), *asked, look["newest"])
        if rows:
            return list(rows)
    raise ConcurrentUpdate("leaves of usage events come faster than they can be counted: ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    query: UsageQuery
    version: MeterVersion
    counted: Period
    filter: str | None
    buckets: Grid | None
    windows: Grid | None

    @classmethod
    def of(cls, query: UsageQuery, version: MeterVersion) -> Self:
        definition, period, window = version.definition, query.period, query.window
        bucket = definition.bucket
        return cls(
            query=query,
            version=version,
            counted=definition.counted(period),
            filter=filter_path([definition.filter, query.filter]),
            buckets=grid(period, bucket.length, bucket.time_zone) if bucket else None,
            windows=grid(period, window, query.time_zone) if window else None,
        )

    def looked_at(self) -> Iterator[Asked]:
        query, counted = self.query, self.counted
        through = POSITION_MAX if query.through_position is None else query.through_position
        for customer in query.customers:
            yield Asked(query.meter, customer, counted.start, counted.end, through)

    @property
    def is_plain(self) -> bool:
        """Nothing is asked for but what is counted together with the proof."""
        query, definition = self.query, self.version.definition
        return definition.aggregation in _COUNTED_WITH_THE_PROOF and not (
            query.group_by or query.with_values or self.windows or self.filter or definition.value_expression
        )


_COUNTED_WITH_THE_PROOF: Final = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.AVERAGE})

Windows = Sequence[tuple[Place, Period]]


def _windows(questions: Sequence[_Question]) -> list[Windows]:
    """Those of each, before anybody looks for their events."""
    found: list[Windows] = []
    left = WINDOWS_MAX
    for question in questions:
        each = question.windows.windows(question.query.period) if question.windows else ()
        found.append(tuple(islice(each, left + 1)))
        left -= len(found[-1])
        if left < 0:
            raise too_many_windows()
    return found


def _are_plain(questions: Sequence[_Question]) -> bool:
    return all(question.is_plain for question in questions)


def _sql(questions: Sequence[_Question], *, corrected: bool) -> str:
    """Unless `corrected`, it has no rows for a seller who has corrected anything."""
    if _are_plain(questions):
        return PLAIN_USAGES[corrected]
    return usages_sql(
        [expression_sql(parse(each), event="e") for each in _expressions(questions)],
        aggregations={question.version.definition.aggregation.name for question in questions},
        grouped=any(question.query.group_by for question in questions),
        windowed=any(question.windows for question in questions),
        corrected=corrected,
    )


def _expressions(questions: Sequence[_Question]) -> list[str]:
    """Each once: two versions of one meter may have different ones."""
    return sorted({question.version.definition.value_expression for question in questions} - {""})


def _more(questions: Sequence[_Question]) -> list[list[object]]:
    numbers = {each: n for n, each in enumerate(_expressions(questions))}
    group_bys = [(*question.query.group_by, *[None] * GROUP_BY_MAX)[:GROUP_BY_MAX] for question in questions]
    return [
        [question.query.period.start for question in questions],
        [question.version.definition.unique_dimension for question in questions],
        [first for first, _ in group_bys],
        [second for _, second in group_bys],
        [question.query.with_values for question in questions],
        [question.filter for question in questions],
        [question.version.definition.percentile for question in questions],
        [_marks(question.buckets) for question in questions],
        [_step(question.buckets) for question in questions],
        [_marks(question.windows) for question in questions],
        [_step(question.windows) for question in questions],
        [numbers.get(question.version.definition.value_expression) for question in questions],
    ]


def _marks(found: Grid | None) -> str | None:
    return ",".join(mark.isoformat() for mark in found.marks) if found else None


def _step(found: Grid | None) -> int | None:
    return found.step.seconds if found and found.step else None


def _usage(row: asyncpg.Record, question: _Question, windows: Windows) -> Usage:
    query = question.query
    if query.with_values and row["event_count"] > VALUES_MAX:
        raise TooManyValues(f"{query.meter} has more than {VALUES_MAX} values", meter=query.meter, limit=VALUES_MAX)
    return Usage(
        query=query,
        quantity=quantity(
            question.version.definition.aggregation,
            row["measure"],
            event_count=row["event_count"],
            period=query.period,
        ),
        event_count=row["event_count"],
        digest=row["digest"],
        through_position=row["through_position"],
        meter_version=question.version.number,
        traceparents=tuple(row["traceparents"]),
        fresh_count=row["fresh_count"],
        groups=_groups(row, question) if query.group_by else (),
        values=tuple(row["values"]) if query.with_values else (),
        windows=_window_usages(row, question, windows) if windows else (),
    )


def _groups(row: asyncpg.Record, question: _Question) -> tuple[UsageGroup, ...]:
    query, aggregation = question.query, question.version.definition.aggregation
    found = list(zip(row["firsts"], row["seconds"], row["measures"], row["event_counts"], strict=True))
    if len(found) > GROUPS_MAX:
        raise TooManyGroups(f"{query.meter} has more than {GROUPS_MAX} groups", meter=query.meter, limit=GROUPS_MAX)
    return tuple(
        UsageGroup(
            values=(first, second)[: len(query.group_by)],
            quantity=quantity(aggregation, measure, event_count=event_count, period=query.period),
            event_count=event_count,
        )
        for first, second, measure, event_count in found
    )


def _window_usages(row: asyncpg.Record, question: _Question, windows: Windows) -> tuple[UsageWindow, ...]:
    columns = [row[f"window_{name}"] or () for name in ("marks", "steps", "measures", "value_sums", "event_counts")]
    found = {
        Place(mark, step): Sums(measure=measure, value_sum=value_sum, event_count=event_count)
        for mark, step, measure, value_sum, event_count in zip(*columns, strict=True)
    }
    before = found.pop(_BEFORE, NO_EVENTS)
    return tuple(window_quantities(question.version.definition, question.query.period, windows, found, before))


_BEFORE: Final = Place(0, 0)
