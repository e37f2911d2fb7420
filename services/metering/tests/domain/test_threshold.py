"""Which periods of a threshold are looked at, and how usage stands to it as time goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.period import Period, Unit
from metering.domain.threshold import AlertState, Rhythm, ThresholdId, UsageAlert, UsageThreshold

HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
OK, WARNING, REACHED = AlertState
ZONES: Final = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Cairo")
INSTANTS: Final = st.integers(0, 40_000 * 24).map(
    lambda hours: datetime(1990, 1, 1, 0, 59, 59, tzinfo=UTC) + hours * HOUR
)


def threshold(rhythm: Rhythm | None, interval: Period | None = None, *, warning: str = "10") -> UsageThreshold:
    return UsageThreshold(
        id=ThresholdId("uthr"),
        meter="kwh",
        customer_id="",
        rhythm=rhythm,
        interval=interval,
        value=Decimal(20),
        warning_value=Decimal(warning) if warning else None,
        create_time=START,
    )


def alert(of: UsageThreshold) -> UsageAlert:
    period = of.interval or Period(START, START + DAY)
    return UsageAlert(number=1, threshold_id=of.id, meter=of.meter, customer_id="cus", period=period)


DAILY: Final = threshold(Rhythm(unit=Unit.DAY, time_zone="UTC"))
ONCE: Final = threshold(None, Period(START, START + DAY))


@pytest.mark.parametrize(
    ("quantity", "level"), [("-1", OK), ("9.999999999999", OK), ("10", WARNING), ("19.9", WARNING), ("20", REACHED)]
)
def test_a_value_is_reached_when_usage_is_at_it(quantity: str, level: AlertState) -> None:
    """Exactly: not a little before, and not only above."""
    assert DAILY.level(Decimal(quantity)) is level
    if level is WARNING:
        assert threshold(None, ONCE.interval, warning="").level(Decimal(quantity)) is OK


@given(INSTANTS, st.sampled_from(ZONES), st.sampled_from(Unit), st.integers(0, 50))
def test_watched_are_the_period_before_and_all_to_come(at: datetime, zone: str, unit: Unit, hours: int) -> None:
    """Without a gap, and to the instant: no usage event that can come is in a period that nobody looks at."""
    rhythm = Rhythm(unit=unit, time_zone=zone)
    before, under_way, *rest = rhythm.watched(at, ahead=hours * HOUR)
    assert before.end == under_way.start <= at < under_way.end
    periods = [before, under_way, *rest]
    assert all(first.end == second.start for first, second in pairwise(periods))
    assert periods[-1].start <= at + hours * HOUR < periods[-1].end
    assert threshold(rhythm).closes(before) == under_way.end > at
    for period in periods:
        civil = period.start.astimezone(ZoneInfo(zone))
        assert unit is not Unit.WEEK or civil.weekday() == 0 or zone == "Pacific/Apia"
        assert unit not in (Unit.MONTH, Unit.YEAR) or civil.day == 1
        assert unit is not Unit.YEAR or civil.month == 1


@pytest.mark.parametrize("of", [DAILY, ONCE])
def test_a_period_that_is_over_recovers_and_late_usage_goes_beyond(of: UsageThreshold) -> None:
    """Only what goes beyond the state at the end is news; and that recovers when the next period is over."""
    end, closes = START + DAY, START + 2 * DAY
    warned = alert(of).counted(Decimal(10), through_position=1, meter_version=1).settled(of, at=end - MICROSECOND)
    assert (warned.state, warned.period_ended, warned.next_moment(of)) == (WARNING, False, end)
    over = warned.settled(of, at=end)
    assert (over.state, over.previous_state, over.ended_state, over.change_time) == (OK, WARNING, WARNING, end)
    assert over.next_moment(of) == closes
    assert over.counted(Decimal(19), through_position=2, meter_version=1).settled(of, at=end).state is OK
    late = over.counted(Decimal(20), through_position=3, meter_version=1).settled(of, at=closes - MICROSECOND)
    assert (late.state, late.ended_state) == (REACHED, WARNING)
    assert late.settled(of, at=closes).state is OK


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 72)), max_size=12))
def test_whatever_rose_has_recovered_in_the_end(steps: list[tuple[int, int]]) -> None:
    """Whoever switched something off when it was reached is told when to switch it on, and once for each."""
    found = alert(DAILY)
    for quantity, hours in [*sorted(steps, key=lambda step: step[1]), (30, 72)]:
        before = found
        counted = found.counted(Decimal(quantity), through_position=0, meter_version=1)
        found = counted.settled(DAILY, at=START + hours * HOUR)
        assert found.previous_state is (before.state if found.state is not before.state else before.previous_state)
    assert found.state is OK
    assert found.change_time is None or found.previous_state is not OK
