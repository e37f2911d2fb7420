"""Where periods are anchored, so that they begin on the day that was wanted, for ever."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.period import Interval, Unit, boundary, civil_date, period_at
from subscriptions.domain.billing_anchor import billing_anchor

MONTHLY = Interval(Unit.MONTH, 1)
ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def anchor(start: str, day: int, *, zone: str = "UTC", interval: Interval = MONTHLY) -> datetime:
    return billing_anchor(at(start), zone, billing_day=day, intervals=[interval])


def test_without_a_day_the_start_is_the_anchor() -> None:
    """The anniversary, to the microsecond."""
    assert anchor("2026-02-10T15:00:00.000001Z", 0) == at("2026-02-10T15:00:00.000001Z")


def test_a_day_is_the_next_of_its_number_at_midnight_there() -> None:
    """A service that began mid-month is billed from the first of the next on."""
    assert anchor("2026-02-10T15:00:00Z", 1) == at("2026-03-01T00:00:00Z")
    assert anchor("2026-02-10T15:00:00Z", 20) == at("2026-02-20T00:00:00Z")
    assert anchor("2026-06-10T15:00:00Z", 1, zone="Europe/London") == at("2026-06-30T23:00:00Z")


def test_a_start_at_that_very_midnight_is_the_anchor() -> None:
    """There is no part before the first whole period then; a moment later there is."""
    assert anchor("2026-02-01T00:00:00Z", 1) == at("2026-02-01T00:00:00Z")
    assert anchor("2026-02-01T00:00:00.000001Z", 1) == at("2026-03-01T00:00:00Z")


def test_the_31st_is_remembered_through_february() -> None:
    """Begun in February, billed on its last day and then on the 31st again."""
    found = anchor("2026-02-10T15:00:00Z", 31)
    days = [boundary(found, "UTC", MONTHLY, n).date() for n in range(-2, 3)]
    assert days == [date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31), date(2026, 4, 30), date(2026, 5, 31)]
    assert period_at(found, "UTC", MONTHLY, at("2026-02-10T15:00:00Z")).end == at("2026-02-28T00:00:00Z")


def test_a_midnight_that_the_clocks_skip_is_not_an_anchor() -> None:
    """Beirut began 26 March 2023 at one o'clock; anchored there, every period would begin at one."""
    found = anchor("2023-03-20T12:00:00Z", 26, zone="Asia/Beirut")
    assert found == at("2023-04-26T00:00:00+03:00")
    assert period_at(found, "Asia/Beirut", MONTHLY, at("2023-03-20T12:00:00Z")).end == at("2023-03-26T01:00:00+03:00")


@pytest.mark.parametrize("day", [-1, 32])
def test_a_day_that_no_month_has_is_refused(day: int) -> None:
    """The largest month has 31."""
    with pytest.raises(InvalidArgument) as refusal:
        anchor("2026-02-10T15:00:00Z", day)
    assert refusal.value.field == "billing_day"


@pytest.mark.parametrize("unit", [Unit.DAY, Unit.WEEK])
def test_days_and_weeks_have_no_day_of_the_month(unit: Unit) -> None:
    """A week that begins on the 15th does so once or twice a year."""
    with pytest.raises(InvalidArgument) as refusal:
        billing_anchor(at("2026-02-10T00:00:00Z"), "UTC", billing_day=15, intervals=[MONTHLY, Interval(unit, 1)])
    assert refusal.value.field == "billing_day"


@settings(max_examples=300, deadline=None)
@example(datetime(2018, 11, 1, tzinfo=UTC), "America/Sao_Paulo", 4)
@example(datetime(2011, 12, 20, tzinfo=UTC), "Pacific/Apia", 30)
@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2290, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants them naive
    st.sampled_from(ZONES),
    st.integers(1, 31),
)
def test_an_anchor_is_a_midnight_of_that_number_soon_after_the_start(start: datetime, zone: str, day: int) -> None:
    """Whatever zone and whatever its clocks do."""
    found = billing_anchor(start, zone, billing_day=day, intervals=[MONTHLY])
    wall = found.astimezone(ZoneInfo(zone))
    assert (wall.day, wall.time()) == (day, time())
    assert 0 <= (civil_date(found, zone) - civil_date(start, zone)).days <= 4 * 31
    assert found >= start
