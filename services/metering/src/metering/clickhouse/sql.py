"""Knows how usage is counted in ClickHouse's SQL: in whole numbers of the twelfth decimal, which are exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from metering.clickhouse.expressions import Expressed, expressed, units_of
from metering.clickhouse.question import BEFORE, Question, micros
from metering.clickhouse.waiting import Undone
from metering.domain.filter import DimensionMatch, EventFilter
from metering.domain.meter import Aggregation, Definition
from metering.domain.window import Grid
from metering.store.archives import POSITION_MAX
from metering.store.usage_sql import GROUPS_MAX, VALUES_MAX

POSITIONS_MAX: Final = 1_000
"""Of how many of the newest events it is told which requests brought them."""

_ASKED: Final = """
    SELECT t.1 AS nth, t.2 AS stream, t.3 AS counted_from, t.4 AS start_time, t.5 AS end_time, t.6 AS fresh_after
    FROM (SELECT arrayJoin(arrayZip(
        CAST(%(nths)s, 'Array(Int64)'), CAST(%(each_stream)s, 'Array(Int64)'), CAST(%(counted_from)s, 'Array(Int64)'),
        CAST(%(start_time)s, 'Array(Int64)'), CAST(%(end_time)s, 'Array(Int64)'),
        CAST(%(fresh_after)s, 'Array(Int64)')
    )) AS t)
"""
_PLACE: Final = """
    seller_id = %(seller_id)s AND stream IN %(streams)s AND time >= %(first)s AND time < %(last)s
    AND position <= %(through)s
"""
# A row that takes an event away is of the same stream and time.
_TAKEN_AWAY: Final = f"AND position NOT IN (SELECT corrects FROM usage_log FINAL WHERE {_PLACE} AND corrects > 0)"
# The rows of a backfill have positions that follow one another.
_REVERTED: Final = """
    AND NOT arrayExists((f, l) -> position BETWEEN f AND l,
                        CAST(%(reverted_first)s, 'Array(Int64)'), CAST(%(reverted_last)s, 'Array(Int64)'))
"""
_EVENTS: Final = f"""
    SELECT q.nth AS nth, q.start_time AS start_time, q.end_time AS end_time, q.fresh_after AS fresh_after,
           e.stream AS stream, e.time AS time, toString(e.source) AS source, e.event_id AS event_id,
           e.position AS position, e.version AS version, e.dimensions AS dimensions,
           e.value AS sent, {units_of("e.value")} AS units
    FROM (SELECT * FROM usage_log FINAL WHERE {_PLACE} AND corrects = 0 {{only}}) AS e
    INNER JOIN ({_ASKED}) AS q ON e.stream = q.stream
    WHERE e.time >= q.counted_from AND e.time < q.end_time
"""
_SETTINGS: Final = "SETTINGS output_format_decimal_trailing_zeros = 0"
_LINE: Final = (
    "concat(source, char(31), event_id, char(31), toString(sent),"
    " if(version > 0, concat(char(31), toString(version)), ''))"
)
_PROOF: Final = f"""
    lower(hex(SHA256(arrayStringConcat(
        arrayMap(x -> x.3, arraySort(groupArray((source, event_id, {_LINE})))), char(10))))) AS digest,
    arraySlice(arrayReverseSort(groupArray(position)), 1, {POSITIONS_MAX}) AS positions
"""
_NO_PROOF: Final = "'' AS digest, CAST([], 'Array(Int64)') AS positions"
_VALUES: Final = f"""
    if(count() <= {VALUES_MAX},
       arrayMap(x -> x.4, arraySort(groupArray((time, source, event_id, counted)))), []) AS values
"""
_NO_VALUES: Final = "CAST([], 'Array(Int256)') AS values"


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    parameters: Mapping[str, object]


class Statements:
    """Those for questions of one shape. Fails with TooWide when their expression has no room in ClickHouse's numbers:
    then only `events` may be asked for.
    """

    def __init__(self, seller_id: str, questions: Sequence[tuple[int, Question]], *, undone: Undone) -> None:
        """Each with its number."""
        self._first = questions[0][1]
        asked = [(nth, each, stream) for nth, each in questions for stream in each.streams]
        self._parameters: dict[str, object] = {
            "seller_id": seller_id,
            "streams": sorted({stream for _, _, stream in asked}),
            "first": min(micros(each.counted.start) for _, each in questions),
            "last": max(micros(each.counted.end) for _, each in questions),
            "through": self._first.through,
            "nths": [nth for nth, _, _ in asked],
            "each_stream": [stream for _, _, stream in asked],
            "counted_from": [micros(each.counted.start) for _, each, _ in asked],
            "start_time": [micros(each.query.period.start) for _, each, _ in asked],
            "end_time": [micros(each.query.period.end) for _, each, _ in asked],
            "fresh_after": [
                POSITION_MAX if each.query.fresh_after is None else each.query.fresh_after for _, each, _ in asked
            ],
        }
        reverted = [each for each in undone.reverted if each[2] <= self._first.through]
        self._parameters |= {
            "reverted_first": [first for first, _, _ in reverted],
            "reverted_last": [last for _, last, _ in reverted],
        }
        only = list(self._only(self._first.definition.filter)) + list(self._only(self._first.query.filter))
        self._events = _EVENTS.format(
            only=" ".join([*only, _REVERTED if reverted else "", _TAKEN_AWAY if undone.is_corrected else ""])
        )

    def total(self) -> Statement:
        first = self._first
        return self._statement(f"""
            SELECT nth, {self._cell(held=_HELD)}, countIf(position > fresh_after) AS fresh_count,
                   {_PROOF if first.is_proven else _NO_PROOF},
                   {_VALUES if first.query.with_values else _NO_VALUES}
            FROM ({self._counted()}) GROUP BY nth
        """)

    def groups(self) -> Statement:
        names = (*self._first.query.group_by, None)[:2]
        # No value of a dimension is empty: the empty text stands for events that do not name it.
        first, second = ("''" if name is None else f"dimensions['{name}']" for name in names)
        return self._statement(f"""
            SELECT nth, {first} AS first_value, {second} AS second_value, {self._cell(held=_HELD)}
            FROM ({self._counted()}) GROUP BY nth, first_value, second_value
            ORDER BY nth, first_value, second_value LIMIT {GROUPS_MAX + 1} BY nth
        """)

    def windows(self, cut: Grid) -> Statement:
        begin = f"if(time < start_time, {BEFORE}, {_beginning(cut)})"
        return self._statement(f"""
            SELECT nth, {begin} AS begin, {self._cell(held="time")} FROM ({self._counted()}) GROUP BY nth, begin
        """)

    def events(self, *, limit: int, after: tuple[int, str, str] = (0, "", "")) -> Statement:
        """The events before any expression, in order of time, source and id."""
        return self._page(self._events, after=after, limit=limit)

    def page(self, *, limit: int, after: tuple[int, str, str]) -> Statement:
        """The events that are counted, in the same order."""
        return self._page(self._counted(), after=after, limit=limit)

    def _page(self, events: str, *, after: tuple[int, str, str], limit: int) -> Statement:
        self._parameters |= {"after_time": after[0], "after_source": after[1], "after_id": after[2]}
        return self._statement(f"""
            SELECT nth, {_EVENT} FROM ({events})
            WHERE (time, source, event_id) > (%(after_time)s, %(after_source)s, %(after_id)s)
            ORDER BY time, source, event_id LIMIT {limit}
        """)

    def _statement(self, sql: str) -> Statement:
        return Statement(f"{sql} {_SETTINGS}", self._parameters)

    def _counted(self) -> str:
        """The events that count, and what for."""
        expression = self._first.definition.expression
        found = expressed(expression) if expression else Expressed(units="units", condition="true")
        return f"SELECT *, {found.units} AS counted FROM ({self._events}) WHERE {found.condition}"

    def _cell(self, *, held: str) -> str:
        measure = _measure(self._first.definition, self._first.buckets, held=held)
        return f"count() AS event_count, sum(counted) AS value_sum, {measure} AS measure"

    def _only(self, only: EventFilter) -> Iterable[str]:
        for match in only.match:
            yield f"AND {self._match(match)}"
        for exclusion in only.exclude:
            yield f"AND NOT ({' AND '.join(map(self._match, exclusion))})"

    def _match(self, match: DimensionMatch) -> str:
        """An event that does not name the dimension has the empty text, which nobody asks for."""
        name = f"values_{len(self._parameters)}"
        self._parameters[name] = list(match.values)
        return f"dimensions['{match.dimension}'] IN %({name})s"


_EVENT: Final = "time, source, event_id, stream, position, version, toString(sent), dimensions"
_HELD: Final = "(end_time - greatest(time, start_time))"
"""How long a change of a level lasts, in microseconds."""


def _measure(definition: Definition, buckets: Grid | None, *, held: str) -> str:
    match definition.aggregation:
        case Aggregation.SUM | Aggregation.AVERAGE:
            return "sum(counted)"
        case Aggregation.COUNT:
            return "count()"
        case Aggregation.MAX:
            return "max(counted)"
        case Aggregation.MIN:
            return "min(counted)"
        case Aggregation.LATEST:
            return "argMax(counted, (time, source, event_id))"
        case Aggregation.UNIQUE_COUNT:
            told = f"dimensions['{definition.unique_dimension}']"
            return f"uniqExactIf({told}, {told} != '')"
        case Aggregation.WEIGHTED_SUM:
            return f"sum(counted * {held})"
        case Aggregation.PERCENTILE:
            assert definition.percentile is not None, "a percentile has one"
            part = Fraction(definition.percentile) / 100
            place = (
                f"toUInt64(intDiv(toInt128(count()) * {part.numerator} + {part.denominator - 1}, {part.denominator}))"
            )
            return f"arraySort(groupArray(counted))[{place}]"
        case Aggregation.SUM_OF_MAX:
            assert buckets is not None, "a meter that adds up the largest values of buckets has buckets"
            return f"arraySum(maxMap([{_beginning(buckets)}], [counted]).2)"


def _beginning(cut: Grid) -> str:
    """When the part of a grid begins in which an event lies."""
    marks = ", ".join(str(micros(mark)) for mark in cut.marks)
    mark = f"roundDown(time, [{marks}])"
    if cut.step is None:
        return mark
    step = cut.step.seconds * 1_000_000
    return f"({mark} + intDiv(time - {mark}, {step}) * {step})"
