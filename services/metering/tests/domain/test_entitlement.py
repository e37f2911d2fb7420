"""What a customer may use: periods of quotas without gaps, and access that follows from what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument, reason_of
from common.period import Interval, Period, Unit
from metering.domain.entitlement import (
    Enabled,
    Entitlement,
    Feature,
    FeatureKind,
    Grant,
    Limit,
    Quota,
    QuotaPeriod,
    Unlimited,
    access_of,
    quota_access,
    quota_period,
)
from metering.domain.errors import (
    CustomerNotFound,
    FeatureNotFound,
    FeatureNotQuota,
    LimitExceeded,
    NotEntitled,
    QuotaExceeded,
)

MICROSECOND: Final = timedelta(microseconds=1)
ZONES: Final = (
    *("UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Pacific/Kiritimati", "America/Sao_Paulo"),
    *("Asia/Kathmandu", "Africa/Cairo", "Australia/Lord_Howe", "America/Havana"),
)
FIRST: Final = datetime(1991, 1, 1, tzinfo=UTC)
MONTH: Final = Interval(Unit.MONTH, 1)
JANUARY: Final = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
CALLS: Final = Feature(code="calls", kind=FeatureKind.QUOTA, meter="calls")

intervals = st.one_of(
    st.builds(Interval, st.just(Unit.DAY), st.integers(1, 366)),
    st.builds(Interval, st.just(Unit.WEEK), st.integers(1, 366)),
    st.builds(Interval, st.just(Unit.MONTH), st.integers(1, 120)),
    st.builds(Interval, st.just(Unit.YEAR), st.integers(1, 10)),
)
instants = st.integers(0, 24 * 366 * 280).map(lambda hours: FIRST + timedelta(hours=hours, microseconds=hours % 3))


def entitlement(*grants: Grant, feature: Feature | None = CALLS, is_known: bool = True) -> Entitlement:
    return Entitlement(
        customer_id="cus_1",
        feature_code="calls",
        grants=grants,
        feature=feature,
        names=("cus_1",),
        time_zone="UTC",
        customer_is_known=is_known,
    )


def used(granted: int, used: int, *, reserved: int = 0) -> QuotaPeriod:
    return QuotaPeriod(
        period=JANUARY, granted=Decimal(granted), used=Decimal(used), reserved=Decimal(reserved), meter_version=1
    )


@given(intervals, st.sampled_from(ZONES), instants)
def test_the_periods_of_a_quota_abut(interval: Interval, zone: str, at: datetime) -> None:
    """Over month ends, clock changes and days that a zone skipped: no use is in two of them, and none in no one."""
    period = quota_period(interval, zone, at)
    assert period.contains(at)
    assert quota_period(interval, zone, period.end).start == period.end
    assert quota_period(interval, zone, period.start - MICROSECOND).end == period.start
    assert quota_period(interval, zone, period.end - MICROSECOND) == period


@given(st.integers(1, 10), st.sampled_from(ZONES), instants)
def test_intervals_that_are_the_same_begin_together(count: int, zone: str, at: datetime) -> None:
    """Subscriptions adds such quotas up and says either of the two."""
    weeks, days = Interval(Unit.WEEK, count), Interval(Unit.DAY, 7 * count)
    years, months = Interval(Unit.YEAR, count), Interval(Unit.MONTH, 12 * count)
    assert quota_period(weeks, zone, at) == quota_period(days, zone, at)
    assert quota_period(years, zone, at) == quota_period(months, zone, at)


@given(st.sampled_from(ZONES), instants)
def test_a_week_begins_on_monday_and_a_month_on_the_first(zone: str, at: datetime) -> None:
    """By the calendar on the customer's wall."""
    week = quota_period(Interval(Unit.WEEK, 1), zone, at).start.astimezone(ZoneInfo(zone))
    month = quota_period(MONTH, zone, at).start.astimezone(ZoneInfo(zone))
    assert week.weekday() == 0
    assert month.day == 1


def test_a_quarter_and_a_decade_begin_where_everybody_says() -> None:
    """Three months from March would be a quarter of nobody's."""
    at = datetime(2026, 8, 15, 12, tzinfo=UTC)
    quarter = quota_period(Interval(Unit.MONTH, 3), "Europe/Berlin", at)
    assert quarter == Period(datetime(2026, 6, 30, 22, tzinfo=UTC), datetime(2026, 9, 30, 22, tzinfo=UTC))
    assert quota_period(Interval(Unit.YEAR, 10), "UTC", at).start == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("known", "quantity", "reason"),
    [
        (entitlement(Enabled(True)), None, ""),
        (entitlement(Enabled(False)), None, reason_of(NotEntitled)),
        (entitlement(feature=None), None, reason_of(NotEntitled)),
        (entitlement(is_known=False), None, reason_of(CustomerNotFound)),
        (entitlement(Limit(Decimal(5))), None, ""),
        (entitlement(Limit(Decimal(5))), Decimal(5), ""),
        (entitlement(Limit(Decimal(5))), Decimal("5.000000000001"), reason_of(LimitExceeded)),
        (entitlement(Limit(Decimal(0))), None, reason_of(NotEntitled)),
        (entitlement(Unlimited(), feature=None), Decimal(10**20), ""),
        (entitlement(Quota(Decimal(5), MONTH), feature=None), None, reason_of(FeatureNotFound)),
        (entitlement(Quota(Decimal(0), MONTH)), None, reason_of(NotEntitled)),
    ],
)
def test_access_without_counting(known: Entitlement, quantity: Decimal | None, reason: str) -> None:
    """Why not is told in words that a program can tell apart."""
    refusal = access_of(known, quantity).refusal
    assert (refusal.reason if refusal else "") == reason


def test_a_switch_is_not_asked_for_so_many() -> None:
    """Whoever does relies on something that would be ignored."""
    with pytest.raises(InvalidArgument, match="SWITCH"):
        access_of(entitlement(Enabled(True)), Decimal(1))


def test_what_any_quota_leaves_may_be_used() -> None:
    """Each is for itself: the one that is used up takes nothing from the other."""
    periods = (used(10, 10), used(100, 40, reserved=10))
    access = quota_access(entitlement(), Decimal(50), periods=periods, reserved=Decimal(10))
    assert access.refusal is None
    assert access.best == periods[1]
    more = quota_access(entitlement(), Decimal(51), periods=periods, reserved=Decimal(10))
    assert more.refusal is not None
    assert more.refusal.reason == reason_of(QuotaExceeded)
    assert more.refusal.metadata["remaining"] == "50"
    assert more.refusal.metadata["reset_time"] == JANUARY.end.isoformat()


@pytest.mark.parametrize(("grant", "error"), [(Enabled(True), FeatureNotQuota), (Limit(Decimal(1)), FeatureNotQuota)])
def test_only_quotas_are_reserved(grant: Grant, error: type[Exception]) -> None:
    """Of a switch nothing is used up."""
    with pytest.raises(error):
        entitlement(grant).check_quota()
    with pytest.raises(FeatureNotFound):
        entitlement(Unlimited(), feature=None).check_quota()
    entitlement(Unlimited()).check_quota()


@given(st.integers(-50, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_what_is_let_in_fits(taken: int, reserved: int, granted: int, quantity: int) -> None:
    """And what is refused would not have: to the last unit."""
    period = used(granted, taken, reserved=reserved)
    access = quota_access(entitlement(), Decimal(quantity), periods=(period,), reserved=Decimal(reserved))
    assert (access.refusal is None) == (taken + reserved + quantity <= granted)
    assert access.after(Decimal(quantity)).periods[0].remaining == max(0, granted - taken - reserved - quantity)
