"""How a period is cut into windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.period import Period
from metering.domain.errors import TooManyWindows
from metering.domain.window import Window, grid

ZONES = ["UTC", "Europe/Berlin", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kathmandu"]
YEAR = datetime(2025, 1, 1, tzinfo=UTC)


@given(
    st.sampled_from(Window),
    st.sampled_from(ZONES),
    st.integers(0, 365 * 86_400 * 10**6),
    st.integers(1, 5 * 86_400 * 10**6),
)
def test_windows_leave_no_gap(window: Window, zone: str, begins: int, lasts: int) -> None:
    """Every instant of the period is in one of them, and each has an instant of the period."""
    start = YEAR + timedelta(microseconds=begins)
    period = Period(start, start + timedelta(microseconds=lasts))
    places, found = zip(*grid(period, window, zone).windows(period), strict=True)
    assert found[0].start <= period.start < found[0].end
    assert found[-1].start < period.end <= found[-1].end
    assert all(first.end == second.start for first, second in pairwise(found))
    assert list(places) == sorted(set(places))


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.HOUR, "2025-03-12T13:00", "2025-03-12T14:00"),
        (Window.DAY, "2025-03-12T00:00", "2025-03-13T00:00"),
        (Window.WEEK, "2025-03-10T00:00", "2025-03-17T00:00"),
        (Window.MONTH, "2025-03-01T00:00", "2025-04-01T00:00"),
    ],
)
def test_windows_are_those_of_the_calendar_on_the_wall(window: Window, start: str, end: str) -> None:
    """Weeks begin on Monday; March in Berlin begins an hour before it does in London and ends two before."""
    zone = ZoneInfo("Europe/Berlin")
    instant = datetime(2025, 3, 12, 13, 30, tzinfo=zone)
    period = Period(instant, instant + timedelta(seconds=1))
    [(_, found)] = grid(period, window, "Europe/Berlin").windows(period)
    assert found == Period(
        datetime.fromisoformat(start).replace(tzinfo=zone), datetime.fromisoformat(end).replace(tzinfo=zone)
    )


@pytest.mark.parametrize(("day", "hours"), [(29, 24), (30, 23)])
def test_a_day_has_its_hours(day: int, hours: int) -> None:
    """On the day on which clocks are put forward there are 23."""
    start = datetime(2025, 3, day, tzinfo=ZoneInfo("Europe/Berlin"))
    period = Period(start, datetime(2025, 3, day + 1, tzinfo=ZoneInfo("Europe/Berlin")))
    assert len(list(grid(period, Window.HOUR, "Europe/Berlin").windows(period))) == hours


def test_a_grid_has_a_size() -> None:
    """Ten thousand days are laid out, one more is not."""
    grid(Period(YEAR, YEAR + timedelta(days=10_000)), Window.HOUR, "UTC")
    with pytest.raises(TooManyWindows):
        grid(Period(YEAR, YEAR + timedelta(days=10_001)), Window.HOUR, "UTC")
