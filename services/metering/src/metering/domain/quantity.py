"""Knows how what was added up of usage events becomes a quantity: exact, and rounded once if it was divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from common.money import round_half_up
from common.period import EARLIEST, Period
from metering.domain.meter import Aggregation, Definition
from metering.domain.usage import UsageWindow
from metering.domain.window import Place

PLACES: Final = 12
NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What was added up of some usage events, before anything is divided."""

    measure: Decimal
    """The quantity itself; the sum of the values for AVERAGE; for WEIGHTED_SUM that of value times time, in seconds."""
    value_sum: Decimal
    event_count: int


NO_EVENTS: Final = Sums(measure=NOTHING, value_sum=NOTHING, event_count=0)


def quantity(aggregation: Aggregation, measure: Decimal, *, event_count: int, period: Period) -> Decimal:
    """For WEIGHTED_SUM the time by which values are multiplied is how long each held."""
    if aggregation is Aggregation.AVERAGE and event_count:
        return _divided(Fraction(measure), Fraction(event_count))
    if aggregation is Aggregation.WEIGHTED_SUM:
        return _divided(Fraction(measure), _seconds(period.end - period.start))
    return measure


def window_quantities(
    definition: Definition,
    period: Period,
    windows: Sequence[tuple[Place, Period]],
    found: Mapping[Place, Sums],
    before: Sums,
) -> Iterator[UsageWindow]:
    """Of each in turn; for WEIGHTED_SUM the time by which values are multiplied is that since 1970.

    `before` is what was added up of the events before the period, by a meter that carries over.
    """
    level, latest = Fraction(before.value_sum), before.measure
    for place, window in windows:
        sums = found.get(place, NO_EVENTS)
        inside = window.overlap(period)
        assert inside is not None, "windows without an instant in the period are not asked for"
        last = level
        level += Fraction(sums.value_sum)
        latest = sums.measure if sums.event_count else latest
        match definition.aggregation:
            case Aggregation.WEIGHTED_SUM:
                held = Fraction(sums.value_sum) * _instant(inside.end) - Fraction(sums.measure)
                length = _seconds(inside.end - inside.start)
                told = _divided(last * length + held, length)
            case Aggregation.SUM if definition.carries_over:
                told = round_half_up(level, PLACES)
            case Aggregation.LATEST if definition.carries_over:
                told = latest
            case aggregation:
                told = quantity(aggregation, sums.measure, event_count=sums.event_count, period=inside)
        yield UsageWindow(window=window, quantity=told, event_count=sums.event_count)


def _divided(dividend: Fraction, divisor: Fraction) -> Decimal:
    return round_half_up(dividend / divisor, PLACES)


def _instant(instant: datetime) -> Fraction:
    return _seconds(instant - EARLIEST)


def _seconds(length: timedelta) -> Fraction:
    return Fraction(length // timedelta(microseconds=1), 10**6)
