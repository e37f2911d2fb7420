"""Knows how a meter makes one quantity of usage events, by its row and by arithmetic of its own."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from tools.check.calendar import MICROSECOND, Span
from tools.check.records import Row

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No usage event is older."""
HOUR: Final = timedelta(hours=1)
PLACES: Final = 10**12
RESULT_END: Final = 10**26

_WORD: Final = re.compile(r'"[^"]*"|[a-z][a-z0-9_]*|[0-9.]+')
_NUMBER: Final = re.compile(r"-?[0-9]{1,26}(\.[0-9]{1,12})?")


class Reported(Protocol):
    """A usage event."""

    @property
    def time(self) -> datetime: ...
    @property
    def counts(self) -> Fraction:
        """What it counts for."""

    @property
    def dimensions(self) -> Mapping[str, str]: ...


def counts_for(meter: Row, value: Fraction, dimensions: Mapping[str, str]) -> Fraction | None:
    """None if the meter does not count it."""
    told = meter.get("filter")
    if told and not _lets_through(json.loads(told), dimensions):
        return None
    expression = meter.get("value_expression")
    if not expression:
        return value
    try:
        text = _WORD.sub(_told_apart, expression)
        result = _rounded(_result(ast.parse(text, mode="eval").body, text, value, dimensions))
    except ArithmeticError:
        return None
    return result if abs(result) < RESULT_END else None


def counted_span(meter: Row, span: Span) -> Span:
    """When the usage events happened of which a quantity is made."""
    return Span(BEGINNING, span.end) if meter.get("carries_over") else span


def quantity(meter: Row, events: Sequence[Reported], span: Span) -> Fraction:
    """Of events in order of time, source and id."""
    values = [event.counts for event in events]
    match meter["aggregation"]:
        case "COUNT":
            return Fraction(len(events))
        case "UNIQUE_COUNT":
            told = {event.dimensions.get(meter["unique_dimension"], "") for event in events}
            return Fraction(len(told - {""}))
        case _ if not events:
            return Fraction(0)
        case "SUM":
            return sum(values, Fraction(0))
        case "MAX":
            return max(values)
        case "MIN":
            return min(values)
        case "LATEST":
            return values[-1]
        case "AVERAGE":
            return _rounded(sum(values, Fraction(0)) / len(values))
        case "PERCENTILE":
            return _percentile(sorted(values), Fraction(meter["percentile"]))
        case "SUM_OF_MAX":
            return _sum_of_max(meter, events)
        case "WEIGHTED_SUM":
            return _level(events, span)
    raise ValueError(f"the aggregation {meter['aggregation']}")


def _percentile(values: Sequence[Fraction], percent: Fraction) -> Fraction:
    """The first that has enough values before it and with it."""
    enough = percent * len(values)
    return next(value for rank, value in enumerate(values, start=1) if rank * 100 >= enough)


def _sum_of_max(meter: Row, events: Sequence[Reported]) -> Fraction:
    zone = ZoneInfo(meter["time_zone"])
    largest: dict[tuple[date, int], Fraction] = {}
    for event in events:
        day = event.time.astimezone(zone).date()
        hour = (event.time - datetime.combine(day, datetime.min.time(), zone)) // HOUR
        bucket = (day, hour if meter["bucket"] == "HOUR" else 0)
        largest[bucket] = max(largest.get(bucket, event.counts), event.counts)
    return sum(largest.values(), Fraction(0))


def _level(events: Sequence[Reported], span: Span) -> Fraction:
    """The area under the level, from change to change, by the length of the span."""
    level = area = Fraction(0)
    last = span.start
    for event in events:
        moment = max(event.time, span.start)
        area += level * ((moment - last) // MICROSECOND)
        level, last = level + event.counts, moment
    area += level * ((span.end - last) // MICROSECOND)
    return _rounded(area / ((span.end - span.start) // MICROSECOND))


def _lets_through(told: Row, dimensions: Mapping[str, str]) -> bool:
    def hold(matches: Sequence[Row]) -> bool:
        return all(dimensions.get(match["dimension"]) in match["values"] for match in matches)

    return hold(told["match"]) and not any(map(hold, told["exclude"]))


def _result(node: ast.expr, text: str, value: Fraction, dimensions: Mapping[str, str]) -> Fraction:
    """Python reads the same arithmetic as metering does; a text in quotation marks is the name of a dimension."""
    match node:
        case ast.BinOp(left, sign, right):
            first = _result(left, text, value, dimensions)
            second = _result(right, text, value, dimensions)
            match sign:
                case ast.Add():
                    return first + second
                case ast.Sub():
                    return first - second
                case ast.Mult():
                    return first * second
                case ast.Div():
                    return first / second
        case ast.UnaryOp(ast.USub(), operand):
            return -_result(operand, text, value, dimensions)
        case ast.Name("value"):
            return value
        case ast.Constant(str(name)):
            told = dimensions.get(name, "")
            if not _NUMBER.fullmatch(told):
                raise ArithmeticError(f"{name} is no number")
            return Fraction(told)
        case ast.Constant():
            return Fraction(ast.get_source_segment(text, node) or "")
    raise ValueError(f"the expression {text}")


def _told_apart(word: re.Match[str]) -> str:
    """Names in quotation marks, some being words of Python, and numbers without zeros before them."""
    text = word.group()
    if text[0].isdigit():
        return text.lstrip("0") or "0"
    return text if text.startswith('"') or text == "value" else f'"{text}"'


def _rounded(exact: Fraction) -> Fraction:
    """At 12 decimals, halves away from zero."""
    whole = int(abs(exact) * PLACES + Fraction(1, 2))
    return Fraction(whole if exact >= 0 else -whole, PLACES)
