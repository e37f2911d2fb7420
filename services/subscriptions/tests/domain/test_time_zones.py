"""Periods in every time zone there is: through clock changes, month ends and leap years."""

from __future__ import annotations

import calendar
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.period import Interval, Period, Unit, boundary, civil_date
from services.subscriptions.tests.agreed import (
    ARREARS,
    CREDIT,
    MICROSECOND,
    MONTHLY,
    YEARLY,
    agree,
    at,
    change,
    due,
    terms,
)
from subscriptions.domain.billable_periods import full_periods
from subscriptions.domain.change import SetQuantity
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId

ZONES: Final = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
INTERVALS: Final = [
    MONTHLY,
    Interval(Unit.MONTH, 3),
    YEARLY,
    Interval(Unit.YEAR, 4),
    Interval(Unit.DAY, 1),
    Interval(Unit.WEEK, 2),
]
SEATS = ItemId("item-0")
PERIODS_AHEAD: Final = 14


def local(zone: str, year: int, month: int, day: int, hour: int = 2, minute: int = 30) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def monthly(zone: str, start: datetime) -> Subscription:
    return agree(terms("calls", 1, timing=ARREARS), start=start, zone=zone)


def clock_changes(zone: str, year: int) -> list[date]:
    """The days of a year on which the clocks of a zone are moved."""
    clock = ZoneInfo(zone)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(367)]
    offsets = [day.astimezone(clock).utcoffset() for day in days]
    return [day.astimezone(clock).date() for n, day in enumerate(days[:-1]) if offsets[n] != offsets[n + 1]]


CHANGES: Final = {zone: changed for zone in ZONES if (changed := clock_changes(zone, 2024))}


def test_there_are_zones_to_speak_of() -> None:
    """An empty list would prove nothing; half-hour and quarter-hour zones are among them."""
    assert len(ZONES) > 400
    assert {"Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"} <= set(CHANGES)


@pytest.mark.parametrize("day", [28, 29, 30, 31])
@pytest.mark.parametrize("year", [2023, 2024])
def test_the_day_of_the_anchor_returns_in_every_zone(day: int, year: int) -> None:
    """In February it is the last there is, the 29th only in a leap year; then it is itself again."""
    for zone in ZONES:
        anchor = local(zone, year, 1, day)
        walked = list(islice(full_periods(anchor, zone, MONTHLY, since=anchor), PERIODS_AHEAD))
        dates = [civil_date(each.start, zone) for each in walked]
        assert [(each.year - year) * 12 + each.month for each in dates] == list(range(1, PERIODS_AHEAD + 1)), zone
        assert all(each.day == min(day, calendar.monthrange(each.year, each.month)[1]) for each in dates), zone
        assert all(one.end == other.start for one, other in pairwise(walked)), zone


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_periods_abut_and_the_nth_is_where_counting_says_through_every_clock_change(interval: Interval) -> None:
    """Anchored the day before the clocks move, in the hour that they skip or repeat: no gap, no overlap, no drift."""
    for zone, days in CHANGES.items():
        for changed in days:
            eve = changed - timedelta(days=1)
            anchor = local(zone, eve.year, eve.month, eve.day)
            walked = list(islice(full_periods(anchor, zone, interval, since=anchor), 4))
            assert walked[0].start == anchor
            assert all(one.end == other.start for one, other in pairwise(walked)), zone
            assert [each.start for each in walked] == [boundary(anchor, zone, interval, n) for n in range(4)], zone
            assert all(each.start < each.end for each in walked), zone


@pytest.mark.parametrize("beside", [-MICROSECOND, timedelta(0), MICROSECOND])
def test_a_change_at_a_boundary_belongs_to_exactly_one_period_in_every_zone(beside: timedelta) -> None:
    """A microsecond before, it splits the period that ends; at the boundary none; a microsecond after, the next one."""
    for zone in ZONES:
        anchor = local(zone, 2024, 1, 31)
        turn = boundary(anchor, zone, MONTHLY, 2)
        subscription = monthly(zone, anchor)
        changed = change(subscription, SetQuantity(SEATS, Decimal(2)), on=turn + beside, decision=CREDIT)
        parts = due(changed, through=boundary(anchor, zone, MONTHLY, 4)).periods
        assert parts[0].period.start == anchor
        assert parts[-1].period.end == boundary(anchor, zone, MONTHLY, 4)
        assert all(one.period.end == other.period.start for one, other in pairwise(parts)), zone
        assert len(parts) == 4 + bool(beside)
        assert all(each.terms.quantity == (1 if each.period.start < turn + beside else 2) for each in parts), zone
        split = [each.full_period for each in parts if each.period != each.full_period]
        index = 1 if beside < timedelta(0) else 2
        full = Period(boundary(anchor, zone, MONTHLY, index), boundary(anchor, zone, MONTHLY, index + 1))
        assert split == ([full, full] if beside else [])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.integers(1971, 2100),
    st.integers(1, 12),
    st.integers(28, 31),
    st.integers(0, 1439),
    st.sampled_from([each for each in INTERVALS if each.unit in (Unit.MONTH, Unit.YEAR)]),
    st.integers(0, 40),
)
def test_any_number_of_periods_ahead_is_the_one_computed_directly(
    zone: str, year: int, month: int, day: int, minute: int, interval: Interval, n: int
) -> None:
    """Walked or counted, from any anchor in any year."""
    last = calendar.monthrange(year, month)[1]
    anchor = local(zone, year, month, min(day, last), minute // 60, minute % 60)
    walked = list(islice(full_periods(anchor, zone, interval, since=anchor), n + 1))
    assert walked[n].start == boundary(anchor, zone, interval, n)
    assert all(one.end == other.start for one, other in pairwise(walked))


def test_lord_howe_moves_its_clocks_by_half_an_hour() -> None:
    """April 2024 there has 30 days and half an hour more; a month is a month, and half past two stays half past two."""
    zone = "Australia/Lord_Howe"
    found = due(monthly(zone, local(zone, 2024, 3, 15)), through=local(zone, 2024, 5, 15)).periods
    assert [each.period.end - each.period.start for each in found] == [
        timedelta(days=31, minutes=30),
        timedelta(days=30),
    ]
    assert [each.period.end.astimezone(ZoneInfo(zone)).strftime("%H:%M") for each in found] == ["02:30", "02:30"]
    assert [each.proration for each in found] == [1, 1]


def test_chatham_is_twelve_hours_and_three_quarters_ahead() -> None:
    """A billing day is a midnight there, and it is the day that counts there."""
    zone = "Pacific/Chatham"
    found = due(agree(terms(), start="2026-01-10", zone=zone, day=1), through=at("2026-04-30", zone)).periods
    starts = [each.period.start.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M") for each in found]
    assert starts == ["01-10 00:00", "02-01 00:00", "03-01 00:00", "04-01 00:00"]
    assert found[1].period.start == at("2026-01-31T10:15:00Z")


def test_a_day_that_samoa_skipped_is_billed_to_nobody() -> None:
    """30 December 2011 was not there: no period on that day, none twice, and the month had 30 days."""
    zone = "Pacific/Apia"
    calls = terms("calls", 1, timing=ARREARS, interval=Interval(Unit.DAY, 1))
    daily = agree(calls, start=local(zone, 2011, 12, 28), zone=zone)
    found = due(daily, through=local(zone, 2012, 1, 2)).periods
    days = [civil_date(each.period.start, zone).day for each in found]
    assert days == [28, 29, 31, 1]
    assert all(one.period.end == other.period.start for one, other in pairwise(found))
    [december] = due(monthly(zone, local(zone, 2011, 12, 1)), through=local(zone, 2012, 1, 1)).periods
    assert december.period.end - december.period.start == timedelta(days=30)
    assert december.proration == 1
