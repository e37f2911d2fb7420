"""Periods follow each other without gap, overlap or loss, in every zone and through every clock change."""

from __future__ import annotations

import calendar
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.period import (
    EARLIEST,
    LATEST,
    Interval,
    Period,
    TimeOutOfRange,
    Unit,
    UnknownTimeZone,
    boundary,
    check_time_zone,
    civil_date,
    civil_days,
    day_fraction,
    index_at,
    period_at,
    periods_between,
)

MICROSECOND = timedelta(microseconds=1)
MONTHLY = Interval(Unit.MONTH, 1)
QUARTERLY = Interval(Unit.MONTH, 3)
YEARLY = Interval(Unit.YEAR, 1)
WEEKLY = Interval(Unit.WEEK, 1)
DAILY = Interval(Unit.DAY, 1)

# Zones that make calendars hard: clocks that change at midnight, by half an hour or across the date line, and
# negative daylight saving. The rest of the database is drawn from as well.
HARD_ZONES = [
    "UTC",
    "Europe/Paris",
    "Europe/Dublin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Antarctica/Troll",
]
ZONES = st.one_of(
    st.sampled_from(HARD_ZONES),
    st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})),
)
INTERVALS = st.one_of(
    st.sampled_from([DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY]),
    st.builds(Interval, st.just(Unit.DAY), st.integers(1, 400)),
    st.builds(Interval, st.just(Unit.WEEK), st.integers(1, 60)),
    st.builds(Interval, st.just(Unit.MONTH), st.integers(1, 36)),
    st.builds(Interval, st.just(Unit.YEAR), st.integers(1, 10)),
)
# The clock changes of the hard zones lie at and around these times of day.
HARD_TIMES = st.sampled_from(
    [timedelta(0), timedelta(hours=1), timedelta(hours=2, minutes=30), timedelta(hours=23, minutes=59)]
)
HARD_DATES = st.one_of(
    st.sampled_from(
        [
            date(2011, 12, 29),  # Samoa is about to lose a day
            date(1993, 8, 20),  # Kwajalein too
            date(2024, 2, 29),
            date(2023, 2, 28),
            date(2024, 3, 10),  # clocks change in the USA
            date(2024, 3, 31),  # and in Europe
            date(2024, 10, 27),
            date(2024, 11, 3),
            date(2018, 11, 4),  # midnight does not exist in Sao Paulo
        ]
    ),
    st.builds(date, st.integers(1980, 2200), st.integers(1, 12), st.integers(28, 28)),
    st.builds(
        lambda year, month, day: date(year, month, min(day, calendar.monthrange(year, month)[1])),
        st.integers(1980, 2200),
        st.integers(1, 12),
        st.integers(28, 31),
    ),
)
INSTANTS = st.one_of(
    st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.builds(
        lambda day, time, shift: datetime(day.year, day.month, day.day, tzinfo=UTC) + time + shift,
        HARD_DATES,
        HARD_TIMES,
        st.integers(-14, 14).map(lambda hours: timedelta(hours=hours)),
    ),
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def local(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).astimezone(UTC)


# Boundaries


def test_the_31st_returns_after_february() -> None:
    """Counting from the previous boundary would stay at the 28th for ever."""
    anchor = at("2025-01-31T15:00:00Z")
    days = [boundary(anchor, "UTC", MONTHLY, n).date().isoformat() for n in range(-2, 6)]
    assert days == [
        "2024-11-30", "2024-12-31", "2025-01-31", "2025-02-28",
        "2025-03-31", "2025-04-30", "2025-05-31", "2025-06-30",
    ]  # fmt: skip


def test_a_leap_day_is_kept_for_leap_years() -> None:
    """Yearly from 29 February: the 28th in common years, the 29th again when there is one."""
    anchor = at("2024-02-29T00:00:00Z")
    assert [boundary(anchor, "UTC", YEARLY, n).date() for n in range(5)] == [
        date(2024, 2, 29), date(2025, 2, 28), date(2026, 2, 28), date(2027, 2, 28), date(2028, 2, 29),
    ]  # fmt: skip


def test_a_boundary_keeps_its_time_on_the_wall() -> None:
    """Midnight in New York stays midnight; the instant moves with the clocks."""
    anchor = at("2024-02-01T05:00:00Z")
    assert boundary(anchor, "America/New_York", MONTHLY, 2) == at("2024-04-01T04:00:00Z")


def test_the_day_is_that_of_the_zone() -> None:
    """16:00 UTC on the 30th is the 31st in Tokyo, so February is clamped there and not here."""
    anchor = at("2025-01-30T16:00:00Z")
    assert boundary(anchor, "Asia/Tokyo", MONTHLY, 1) == local("2025-02-28T01:00", "Asia/Tokyo")
    assert boundary(anchor, "UTC", MONTHLY, 2) == at("2025-03-30T16:00:00Z")


def test_a_time_that_the_clocks_skip_is_the_time_after() -> None:
    """02:30 does not exist in New York on 10 March 2024; the next day it does again."""
    anchor = local("2024-03-09T02:30", "America/New_York")
    assert boundary(anchor, "America/New_York", DAILY, 1) == at("2024-03-10T03:30:00-04:00")
    assert boundary(anchor, "America/New_York", DAILY, 2) == at("2024-03-11T02:30:00-04:00")


def test_a_time_that_happens_twice_is_the_first() -> None:
    """01:30 happens at 05:30 and at 06:30 UTC on 3 November 2024 in New York."""
    anchor = local("2024-11-02T01:30", "America/New_York")
    assert boundary(anchor, "America/New_York", DAILY, 1) == at("2024-11-03T05:30:00Z")


def test_boundary_zero_is_the_anchor_itself() -> None:
    """A subscription that began in the second of two equal hours did not begin an hour earlier."""
    anchor = at("2024-11-03T06:30:00Z")
    assert boundary(anchor, "America/New_York", MONTHLY, 0) == anchor
    assert period_at(anchor, "America/New_York", MONTHLY, anchor).start == anchor


def test_a_day_that_a_zone_skipped_has_no_period() -> None:
    """Samoa had no 30 December 2011: nobody can be billed for it, and the neighbours meet."""
    anchor = local("2011-12-28T00:00", "Pacific/Apia")
    periods = periods_between(
        anchor, "Pacific/Apia", DAILY, anchor, local("2012-01-02T00:00", "Pacific/Apia"), limit=10
    )
    days = [civil_date(period.start, "Pacific/Apia").isoformat() for period in periods]
    assert days == ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"]
    assert all(period.end - period.start == timedelta(days=1) for period in periods)


@settings(max_examples=400, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, st.integers(-60, 60))
def test_boundaries_are_in_order_and_periods_do_not_vanish(
    anchor: datetime, zone: str, interval: Interval, n: int
) -> None:
    """Consecutive boundaries are apart, except around a civil day that the zone itself skipped."""
    try:
        one, other = (boundary(anchor, zone, interval, index) for index in (n, n + 1))
    except TimeOutOfRange:
        assume(False)
    if one == other:
        assert interval == DAILY
        assert (civil_date(one, zone) - civil_date(one - MICROSECOND, zone)).days == 2
    else:
        assert one < other


@settings(max_examples=400, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, st.integers(-60, 60))
def test_a_boundary_has_the_day_and_time_of_the_anchor(anchor: datetime, zone: str, interval: Interval, n: int) -> None:
    """Recomputed with the standard library: so many months on, the anchor's day or the last of the month."""
    try:
        found = boundary(anchor, zone, interval, n)
    except TimeOutOfRange:
        assume(False)
    first = civil_date(anchor, zone)
    if interval.unit in (Unit.DAY, Unit.WEEK):
        days = n * interval.count * (7 if interval.unit is Unit.WEEK else 1)
        expected = first + timedelta(days=days)
    else:
        months = first.year * 12 + first.month - 1 + n * interval.count * (12 if interval.unit is Unit.YEAR else 1)
        year, month = months // 12, months % 12 + 1
        expected = date(year, month, min(first.day, calendar.monthrange(year, month)[1]))
    place = zoneinfo.ZoneInfo(zone)
    wall = anchor.astimezone(place).time().replace(fold=0)
    # The standard library reads a skipped time as the one after and a doubled one as the first, as we do.
    assert found == (datetime.combine(expected, wall, tzinfo=place).astimezone(UTC) if n else anchor)


@settings(max_examples=400, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, INSTANTS)
def test_an_instant_is_in_exactly_one_period(
    anchor: datetime, zone: str, interval: Interval, instant: datetime
) -> None:
    """Found directly, however far from the anchor; its neighbours do not contain it."""
    n = index_at(anchor, zone, interval, instant)
    try:
        before, start, end, after = (boundary(anchor, zone, interval, n + step) for step in (-1, 0, 1, 2))
    except TimeOutOfRange:
        assume(False)
    period = period_at(anchor, zone, interval, instant)
    assert period == Period(start, end)
    assert period.contains(instant)
    assert before <= start <= instant < end <= after


@settings(max_examples=300, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, st.integers(-40, 40))
def test_a_microsecond_decides(anchor: datetime, zone: str, interval: Interval, n: int) -> None:
    """At the boundary the next period has begun, a microsecond before it has not."""
    try:
        start = boundary(anchor, zone, interval, n)
        at_boundary = period_at(anchor, zone, interval, start)
        just_before = period_at(anchor, zone, interval, start - MICROSECOND)
        just_after = period_at(anchor, zone, interval, start + MICROSECOND)
    except TimeOutOfRange:
        assume(False)
    assert at_boundary.start == start
    assert just_before.end == start
    assert just_before.abuts(at_boundary)
    assert just_before.overlap(at_boundary) is None
    assert just_after == at_boundary


@settings(max_examples=200, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, st.integers(0, 30), st.integers(1, 30))
def test_walking_n_periods_is_jumping_to_the_nth(
    anchor: datetime, zone: str, interval: Interval, first: int, count: int
) -> None:
    """Renewing period by period arrives where counting from the anchor does; nothing is doubled or lost."""
    try:
        start = boundary(anchor, zone, interval, first)
        end = boundary(anchor, zone, interval, first + count)
        boundary(anchor, zone, interval, first + count + 1)
    except TimeOutOfRange:
        assume(False)
    walked, instant = [], start
    while instant < end:
        walked.append(period_at(anchor, zone, interval, instant))
        instant = walked[-1].end
    assert instant == end
    assert walked == periods_between(anchor, zone, interval, start, end, limit=count)
    assert all(one.end == other.start for one, other in pairwise(walked))
    jumped = {boundary(anchor, zone, interval, n) for n in range(first, first + count)} - {end}
    assert [period.start for period in walked] == sorted(jumped)


# Periods between


def test_periods_between_are_whole_and_limited() -> None:
    """A period that merely begins or ends inside counts whole; the caller's limit bounds the work."""
    anchor = at("2025-01-31T00:00:00Z")
    start, end = at("2025-02-10T00:00:00Z"), at("2025-05-01T00:00:00Z")
    found = periods_between(anchor, "UTC", MONTHLY, start, end, limit=100)
    assert [(period.start.date().isoformat(), period.end.date().isoformat()) for period in found] == [
        ("2025-01-31", "2025-02-28"),
        ("2025-02-28", "2025-03-31"),
        ("2025-03-31", "2025-04-30"),
        ("2025-04-30", "2025-05-31"),
    ]
    assert periods_between(anchor, "UTC", MONTHLY, start, end, limit=2) == found[:2]
    assert periods_between(anchor, "UTC", MONTHLY, start, end, limit=0) == []


def test_nothing_lies_between_an_instant_and_itself() -> None:
    """An empty range has no instants, so no period has one in it."""
    anchor = at("2025-01-31T00:00:00Z")
    assert periods_between(anchor, "UTC", MONTHLY, anchor, anchor, limit=10) == []
    assert periods_between(anchor, "UTC", MONTHLY, anchor, anchor - MICROSECOND, limit=10) == []
    assert len(periods_between(anchor, "UTC", MONTHLY, anchor, anchor + MICROSECOND, limit=10)) == 1


# Period


def test_a_period_is_half_open() -> None:
    """The end belongs to the next one."""
    period = Period(at("2025-01-01T00:00:00Z"), at("2025-02-01T00:00:00Z"))
    assert period.contains(period.start)
    assert period.contains(period.end - MICROSECOND)
    assert not period.contains(period.end)
    assert not period.contains(period.start - MICROSECOND)


@settings(deadline=None)
@given(*[st.datetimes(datetime(2020, 1, 1), datetime(2020, 1, 9), timezones=st.just(UTC))] * 4)  # noqa: DTZ001
def test_overlap_is_what_both_contain(a: datetime, b: datetime, c: datetime, d: datetime) -> None:
    """Symmetric, inside both, and absent exactly when they only touch or are apart."""
    assume(a != b)
    assume(c != d)
    one, other = Period(min(a, b), max(a, b)), Period(min(c, d), max(c, d))
    common = one.overlap(other)
    assert common == other.overlap(one)
    if common is None:
        assert one.end <= other.start or other.end <= one.start
    else:
        assert not one.abuts(other)
        for period in (one, other):
            assert period.start <= common.start < common.end <= period.end
    assert one.overlap(one) == one


def test_a_period_is_in_utc_whatever_it_was_made_of() -> None:
    """Equal periods must be equal, in memory and as keys."""
    east = timezone(timedelta(hours=9))
    period = Period(datetime(2025, 1, 1, 9, tzinfo=east), datetime(2025, 1, 2, 9, tzinfo=east))
    assert period == Period(at("2025-01-01T00:00:00Z"), at("2025-01-02T00:00:00Z"))
    assert period.start.tzinfo is UTC
    assert str(period) == "[2025-01-01T00:00:00+00:00, 2025-01-02T00:00:00+00:00)"


def test_a_period_that_is_none_cannot_be_made() -> None:
    """Empty, backward and naive ones are mistakes of the program."""
    start = at("2025-01-01T00:00:00Z")
    for end in (start, start - MICROSECOND):
        with pytest.raises(ValueError, match="ends after it starts"):
            Period(start, end)
    with pytest.raises(ValueError, match="has a time zone"):
        Period(datetime(2025, 1, 1), start)  # noqa: DTZ001  the naive datetime is the point


# Days


def test_days_are_counted_on_the_wall() -> None:
    """March in New York has 31 days although it lacks an hour; seen from UTC the dates are others."""
    march = Period(at("2024-03-01T05:00:00Z"), at("2024-04-01T04:00:00Z"))
    assert civil_days(march, "America/New_York") == 31
    assert civil_date(at("2024-03-01T04:59:59Z"), "America/New_York") == date(2024, 2, 29)


def test_the_day_of_a_change_belongs_to_what_begins() -> None:
    """A change on the 20th at noon leaves 19 days to the old plan and 12 to the new one."""
    march = Period(at("2022-03-01T00:00:00Z"), at("2022-04-01T00:00:00Z"))
    change = at("2022-03-20T12:00:00Z")
    assert day_fraction(Period(march.start, change), march, "UTC") == Fraction(19, 31)
    assert day_fraction(Period(change, march.end), march, "UTC") == Fraction(12, 31)


def test_a_whole_inside_one_day_is_measured_by_duration() -> None:
    """There are no days to count, and dividing by none would stop the bill run."""
    whole = Period(at("2025-01-01T06:00:00Z"), at("2025-01-01T18:00:00Z"))
    part = Period(whole.start, at("2025-01-01T09:00:00Z"))
    assert day_fraction(part, whole, "UTC") == Fraction(1, 4)


def test_a_part_lies_inside_the_whole() -> None:
    """More than the whole is never prorated, it is a different period."""
    whole = Period(at("2025-01-01T00:00:00Z"), at("2025-02-01T00:00:00Z"))
    for start, end in ((whole.start - MICROSECOND, whole.end), (whole.start, whole.end + MICROSECOND)):
        with pytest.raises(ValueError, match="is not a part of"):
            day_fraction(Period(start, end), whole, "UTC")


@settings(max_examples=300, deadline=None)
@given(INSTANTS, ZONES, INTERVALS, INSTANTS, st.lists(st.fractions(0, 1, max_denominator=1000), max_size=6))
def test_the_parts_of_a_whole_add_up(
    anchor: datetime, zone: str, interval: Interval, instant: datetime, cuts: list[Fraction]
) -> None:
    """However often a plan changes within a period, exactly one period's price is spread."""
    whole = period_at(anchor, zone, interval, instant)
    length = (whole.end - whole.start) // MICROSECOND
    marks = sorted({whole.start, whole.end, *(whole.start + int(length * cut) * MICROSECOND for cut in cuts)})
    fractions = [day_fraction(Period(start, end), whole, zone) for start, end in pairwise(marks)]
    assert sum(fractions) == 1
    assert all(0 <= fraction <= 1 for fraction in fractions)


# Refusals


@pytest.mark.parametrize(
    "zone",
    ["", "Europe/paris", "localtime", "Factory", "right/UTC", "../../etc/passwd", "+02:00", "Mars/Base\0"],
)
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    """A zone names the same rules on every machine, or it is none."""
    with pytest.raises(UnknownTimeZone) as refused:
        check_time_zone(zone, field="customer.time_zone")
    assert refused.value.field == "customer.time_zone"
    with pytest.raises(UnknownTimeZone):
        boundary(at("2025-01-01T00:00:00Z"), zone, MONTHLY, 1)


@pytest.mark.parametrize("unit, longest", [(Unit.DAY, 3_660), (Unit.WEEK, 520), (Unit.MONTH, 120), (Unit.YEAR, 10)])
def test_an_interval_has_a_length(unit: Unit, longest: int) -> None:
    """Zero would loop for ever, and more than ten years is a typing error."""
    assert Interval(unit, longest).count == longest
    for count in (0, -1, longest + 1):
        with pytest.raises(InvalidArgument, match=f"1 to {longest}"):
            Interval(unit, count)


def test_an_interval_reads_like_one() -> None:
    """It appears in messages and descriptions."""
    assert str(MONTHLY) == "1 month"
    assert str(QUARTERLY) == "3 months"


@pytest.mark.parametrize("n", [10**4, 10**9, 10**30, -(10**4), -(10**9), -(10**30)])
def test_times_beyond_the_range_are_refused(n: int) -> None:
    """No arithmetic overflows; the caller is told."""
    for interval in (DAILY, MONTHLY, YEARLY):
        if abs(n) == 10**4 and interval is DAILY:
            continue  # 27 years are inside
        with pytest.raises(TimeOutOfRange):
            boundary(at("2025-01-01T00:00:00Z"), "UTC", interval, n)


def test_the_range_has_edges() -> None:
    """Anchors and instants outside are refused, the first and the last instant are not."""
    for outside in (EARLIEST - MICROSECOND, LATEST):
        with pytest.raises(TimeOutOfRange):
            boundary(outside, "UTC", MONTHLY, 0)
        with pytest.raises(TimeOutOfRange):
            index_at(at("2025-01-01T00:00:00Z"), "UTC", MONTHLY, outside)
    assert boundary(EARLIEST, "America/New_York", MONTHLY, 0) == EARLIEST
    assert index_at(EARLIEST, "UTC", YEARLY, LATEST - MICROSECOND) == 329
    with pytest.raises(TimeOutOfRange):
        period_at(EARLIEST, "UTC", YEARLY, LATEST - MICROSECOND)


def test_a_naive_instant_is_refused() -> None:
    """It would mean another instant on every machine."""
    with pytest.raises(ValueError, match="has a time zone"):
        boundary(datetime(2025, 1, 1), "UTC", MONTHLY, 1)  # noqa: DTZ001  the naive datetime is the point
