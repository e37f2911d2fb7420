"""Knows what a usage is by a plain scan of all events that were sent: the contract once more, by other means."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from google.type import decimal_pb2

from common import wire
from common.period import Period
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb

MICROSECOND = timedelta(microseconds=1)
PLAIN = Context(prec=200)


@dataclass(frozen=True)
class Event:
    """With what it counts for."""

    sent: usage_event_pb2.UsageEvent
    time: datetime
    value: Fraction


@dataclass(frozen=True)
class Counted:
    """What a query is about: all events that count, whenever they happened."""

    meter: meter_pb2.Meter
    events: Sequence[Event]
    """In order of time, source and id."""


def counted(
    meter: meter_pb2.Meter,
    query: pb.UsageQuery,
    sent: Iterable[usage_event_pb2.UsageEvent],
    *,
    customers: Collection[str],
) -> Counted:
    found = []
    for event in sent:
        if event.meter != meter.code or event.customer not in customers:
            continue
        value = counts_for(meter.value_expression, event)
        only = (meter.filter, query.filter)
        if value is not None and all(lets_through(each, event.dimensions) for each in only):
            found.append(Event(event, wire.parse_timestamp(event.time, field="time"), value))
    found.sort(key=lambda event: (event.time, event.sent.source.encode(), event.sent.id.encode()))
    return Counted(meter, found)


def lets_through(only: meter_pb2.EventFilter, dimensions: Mapping[str, str]) -> bool:
    def holds(match: meter_pb2.DimensionMatch) -> bool:
        return match.dimension in dimensions and dimensions[match.dimension] in list(match.values)

    return all(map(holds, only.match)) and not any(all(map(holds, each.match)) for each in only.exclude)


def counts_for(expression: str, event: usage_event_pb2.UsageEvent) -> Fraction | None:
    """Python reads the same arithmetic; None if there is no result."""
    if not expression:
        return Fraction(event.value.value)

    def result(node: ast.expr) -> Fraction:
        match node:
            case ast.BinOp(left, operator, right):
                first, second = result(left), result(right)
                match operator:
                    case ast.Add():
                        return first + second
                    case ast.Sub():
                        return first - second
                    case ast.Mult():
                        return first * second
                    case ast.Div():
                        return first / second
            case ast.UnaryOp(ast.USub(), operand):
                return -result(operand)
            case ast.Name("value"):
                return Fraction(event.value.value)
            case ast.Name(name) | ast.Constant(str(name)):
                told = event.dimensions.get(name, "")
                if not re.fullmatch(r"-?[0-9]{1,26}(\.[0-9]{1,12})?", told):
                    raise ArithmeticError(f"{told} is no number")
                return Fraction(told)
            case ast.Constant():
                return Fraction(ast.get_source_segment(expression, node) or "")
        raise AssertionError(ast.dump(node))

    try:
        exact = result(ast.parse(expression, mode="eval").body)
    except ArithmeticError:
        return None
    found = Fraction(rounded(exact))
    return found if abs(found) < 10**26 else None


def quantity(about: Counted, period: Period, *, since: datetime | None = None) -> Decimal:
    """`since` is when a level began that goes on from before the period."""
    meter = about.meter
    events = inside(about, period)
    values = [event.value for event in events]
    if meter.carries_over:
        events = [event for event in about.events if event.time < period.end]
        values = [event.value for event in events]
    match meter_pb2.Meter.Aggregation.Name(meter.aggregation):
        case "SUM":
            return rounded(sum(values, Fraction(0)))
        case "COUNT":
            return Decimal(len(events))
        case "MAX":
            return rounded(max(values, default=Fraction(0)))
        case "MIN":
            return rounded(min(values, default=Fraction(0)))
        case "AVERAGE":
            return rounded(sum(values, Fraction(0)) / len(values)) if values else Decimal(0)
        case "LATEST":
            return rounded(values[-1]) if values else Decimal(0)
        case "UNIQUE_COUNT":
            told = [event.sent.dimensions for event in events]
            return Decimal(len({each[meter.unique_dimension] for each in told if meter.unique_dimension in each}))
        case "PERCENTILE":
            return percentile(values, Fraction(meter.percentile.value))
        case "SUM_OF_MAX":
            unit = meter_pb2.Meter.Bucket.Name(meter.bucket)
            largest: dict[object, Fraction] = {}
            for event in events:
                bucket = window(event.time, unit, meter.time_zone).start
                largest[bucket] = max(largest.get(bucket, event.value), event.value)
            return rounded(sum(largest.values(), Fraction(0)))
        case "WEIGHTED_SUM":
            return held(about.events, period, since=None if meter.carries_over else since or period.start)
    raise AssertionError(meter.aggregation)


def inside(about: Counted, period: Period) -> list[Event]:
    return [event for event in about.events if period.start <= event.time < period.end]


def percentile(values: Sequence[Fraction], percent: Fraction) -> Decimal:
    """The smallest value that so many percent of all do not exceed."""
    for value in sorted(values):
        if sum(1 for each in values if each <= value) * 100 >= percent * len(values):
            return rounded(value)
    return Decimal(0)


def held(events: Iterable[Event], period: Period, *, since: datetime | None) -> Decimal:
    """From change to change: each level as long as it lasted."""
    level, area, last = Fraction(0), Fraction(0), period.start
    for event in events:
        if event.time >= period.end:
            break
        if since is not None and event.time < since:
            continue
        if event.time > last:
            area += level * ((event.time - last) // MICROSECOND)
            last = event.time
        level += event.value
    area += level * ((period.end - last) // MICROSECOND)
    return rounded(area / ((period.end - period.start) // MICROSECOND))


def windows(period: Period, unit: str, zone: str) -> list[Period]:
    """Whole ones, as long as there is something of the period left."""
    found = []
    instant = period.start
    while instant < period.end:
        found.append(window(instant, unit, zone))
        instant = found[-1].end
    return found


def window(instant: datetime, unit: str, zone: str) -> Period:
    """That which has the instant."""
    local = ZoneInfo(zone)
    day = instant.astimezone(local).date()

    def midnight(ordinal: int) -> datetime:
        return datetime.fromordinal(ordinal).replace(tzinfo=local).astimezone(UTC)

    match unit:
        case "DAY":
            return Period(midnight(day.toordinal()), midnight(day.toordinal() + 1))
        case "WEEK":
            monday = day.toordinal() - day.weekday()
            return Period(midnight(monday), midnight(monday + 7))
        case "MONTH":
            first = day.replace(day=1)
            following = (first + timedelta(days=31)).replace(day=1)
            return Period(midnight(first.toordinal()), midnight(following.toordinal()))
    length = {"HOUR": timedelta(hours=1), "MINUTE": timedelta(minutes=1)}[unit]
    start, end = midnight(day.toordinal()), midnight(day.toordinal() + 1)
    start += (instant - start) // length * length
    return Period(start, min(start + length, end))


def grouped(about: Counted, period: Period, names: Sequence[str]) -> list[tuple[tuple[str, ...], Decimal, int]]:
    found: dict[tuple[str, ...], list[Event]] = {}
    for event in about.events if about.meter.carries_over else inside(about, period):
        if event.time < period.end:
            found.setdefault(tuple(event.sent.dimensions.get(name, "") for name in names), []).append(event)
    return [
        (values, quantity(Counted(about.meter, found[values]), period), len(found[values]))
        for values in sorted(found, key=lambda values: [value.encode() for value in values])
    ]


def rounded(value: Fraction) -> Decimal:
    """At 12 decimals, halves away from zero."""
    scaled = abs(value) * 10**12
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(whole if value >= 0 else -whole).scaleb(-12, PLAIN)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)
