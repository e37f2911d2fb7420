"""Which version of a meter counts, what may change from one to the next, and from when on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.period import EARLIEST, Period
from metering.domain.errors import (
    MeterChanged,
    MeterEffectiveInPast,
    MeterVersionFollows,
    MeterVersionNotFound,
    TooManyMeterVersions,
)
from metering.domain.filter import EVERYTHING, DimensionMatch, EventFilter
from metering.domain.meter import Aggregation, Bucket, Definition, Meter, MeterId, MeterVersion
from metering.domain.meter_update import (
    AHEAD_MAX,
    VERSIONS_MAX,
    DefinitionUpdate,
    MeterUpdate,
    is_counted_anew,
)
from metering.domain.window import Window

NOW: Final = datetime(2026, 3, 15, tzinfo=UTC)
DAY: Final = timedelta(days=1)
MICROSECOND: Final = timedelta(microseconds=1)
EU: Final = EventFilter(match=(DimensionMatch(dimension="region", values=("eu",)),))
TO_MAX: Final = DefinitionUpdate(aggregation=Aggregation.MAX)


def meter(*effective: datetime, of: Definition | None = None, others: Aggregation = Aggregation.COUNT) -> Meter:
    """Of a first version, and of others that take effect then."""
    first = of or Definition(aggregation=Aggregation.SUM)
    versions = [
        MeterVersion(
            number=n + 1,
            definition=first if n == 0 else Definition(aggregation=others),
            accepts_days=n,
            effective_time=time,
            create_time=EARLIEST,
        )
        for n, time in enumerate([EARLIEST, *effective])
    ]
    return Meter(
        id=MeterId("meter_1"),
        code="calls",
        display_name="Calls",
        unit_label="",
        revision=len(versions),
        create_time=EARLIEST,
        versions=tuple(versions),
    )


instants = st.integers(-8, 8).map(lambda days: NOW + days * DAY)


@given(st.lists(instants, max_size=7), instants)
def test_one_version_counts_a_period(effective: list[datetime], at: datetime) -> None:
    """Always exactly one: the newest whose time had come when the period began; and it is the one in whose time that
    was. What a version is told to be in effect for is when it counts.
    """
    of = meter(*effective)
    period = Period(at, at + 40 * DAY)
    found = of.counting(period, None)
    assert found.number == max(each.number for each in of.versions if each.effective_time <= at)
    inside = [
        each for each in of.versions if each.effective_time <= at and ((end := of.end_time(each)) is None or at < end)
    ]
    assert inside == [found]
    for number in range(1, len(of.versions) + 1):
        assert of.counting(period, number).number == number


@given(st.lists(instants, max_size=7), instants)
def test_later_periods_are_not_counted_by_older_versions(effective: list[datetime], at: datetime) -> None:
    """As time goes on versions only follow each other, so what is in effect from now on is known now."""
    of = meter(*effective)
    moments = sorted({at, *(each for each in effective if each > at)})
    numbers = [of.in_effect(each).number for each in moments]
    assert all(first <= second for first, second in pairwise(numbers))
    assert [each.number for each in of.in_effect_from(at)] == sorted(set(numbers))


@given(st.lists(instants, max_size=5), instants)
def test_an_update_changes_nothing_before_it(effective: list[datetime], at: datetime) -> None:
    """Whatever begins before is counted as it was, to the microsecond; whatever begins then or later by the new one."""
    before = meter(*effective)
    update = MeterUpdate(definition=TO_MAX, effective_time=at, recount=True, supersede=True)
    after = update.of(before, at=NOW)
    assert after.last.definition.aggregation is Aggregation.MAX
    for moment in (*effective, at - MICROSECOND, at, at + MICROSECOND):
        expected = before.in_effect(moment) if moment < at else after.last
        assert after.in_effect(moment) is expected
    assert (after.revision, after.versions[:-1]) == (before.revision + 1, before.versions)
    assert is_counted_anew(before, after)


def test_the_microsecond_in_which_it_takes_effect_is_the_new_ones() -> None:
    """A month that begins with it is counted by it, and the one before is not."""
    of = meter(NOW)
    assert of.in_effect(NOW).number == 2
    assert of.in_effect(NOW - MICROSECOND).number == 1


def test_what_is_left_out_stays_as_it_was_then() -> None:
    """Of the version in effect at that time, not of one that takes effect later."""
    of = meter(NOW + DAY)
    update = MeterUpdate(definition=DefinitionUpdate(filter=EU), supersede=True)
    last = update.of(of, at=NOW).last
    assert (last.definition, last.accepts_days) == (Definition(aggregation=Aggregation.SUM, filter=EU), 0)
    later = MeterUpdate(definition=DefinitionUpdate(filter=EU), effective_time=NOW + DAY)
    last = later.of(of, at=NOW).last
    assert (last.definition, last.accepts_days) == (Definition(aggregation=Aggregation.COUNT, filter=EU), 1)


def test_what_changes_nothing_makes_no_version() -> None:
    """Sent again without a key of its own it is the same meter, and nobody is told."""
    of = meter(NOW)
    for update in (MeterUpdate(), MeterUpdate(display_name="Calls", accepts_days=1, effective_time=NOW)):
        assert update.of(of, at=NOW) is of
    named = MeterUpdate(display_name="All calls").of(of, at=NOW)
    assert (named.display_name, named.versions, named.revision) == ("All calls", of.versions, of.revision + 1)
    assert not is_counted_anew(of, named)


def test_a_version_that_is_to_come_is_withdrawn() -> None:
    """By one that says what is said now, and takes its place."""
    of = meter(NOW + DAY)
    after = MeterUpdate(supersede=True).of(of, at=NOW)
    assert after.last.definition == of.versions[0].definition
    assert after.in_effect(NOW + 9 * DAY) is after.last
    assert after.end_time(after.versions[1]) == NOW


@pytest.mark.parametrize(
    ("update", "refusal"),
    [
        (MeterUpdate(definition=TO_MAX, effective_time=NOW - MICROSECOND), MeterEffectiveInPast),
        (MeterUpdate(definition=TO_MAX), MeterVersionFollows),
        (MeterUpdate(definition=TO_MAX, effective_time=NOW - DAY, recount=True), MeterVersionFollows),
        (MeterUpdate(definition=TO_MAX, expected_revision=1), MeterChanged),
        (MeterUpdate(definition=TO_MAX, effective_time=NOW + AHEAD_MAX + MICROSECOND), InvalidArgument),
        (MeterUpdate(definition=TO_MAX, effective_time=EARLIEST - MICROSECOND, recount=True), InvalidArgument),
    ],
)
def test_what_would_surprise_is_refused(update: MeterUpdate, refusal: type[Exception]) -> None:
    """What was billed, and what somebody else has arranged, changes only when it is asked for."""
    with pytest.raises(refusal):
        update.of(meter(NOW + DAY), at=NOW)


def test_versions_have_a_limit() -> None:
    """Each of them is read whenever the meter is."""
    of = meter(*[NOW] * (VERSIONS_MAX - 1))
    with pytest.raises(TooManyMeterVersions):
        MeterUpdate(definition=TO_MAX).of(of, at=NOW)
    with pytest.raises(MeterVersionNotFound):
        of.counting(Period(NOW, NOW + DAY), VERSIONS_MAX + 1)


def test_another_aggregation_forgets_what_only_the_one_before_knew() -> None:
    """What it would ignore would be refused, and nobody could ever leave it."""
    percentile = Definition(
        aggregation=Aggregation.PERCENTILE, percentile=Decimal(95), filter=EU, value_expression="value * 2"
    )
    told = DefinitionUpdate(aggregation=Aggregation.SUM)
    assert told.of(percentile) == Definition(aggregation=Aggregation.SUM, filter=EU, value_expression="value * 2")
    told = DefinitionUpdate(aggregation=Aggregation.UNIQUE_COUNT, unique_dimension="host", filter=EVERYTHING)
    assert told.of(percentile) == Definition(aggregation=Aggregation.UNIQUE_COUNT, unique_dimension="host")
    told = DefinitionUpdate(aggregation=Aggregation.SUM_OF_MAX, bucket=Window.DAY)
    found = told.of(percentile)
    assert (found.bucket, found.percentile) == (Bucket(length=Window.DAY, time_zone="UTC"), None)
    moved = DefinitionUpdate(time_zone="Asia/Tokyo").of(found)
    assert moved.bucket == Bucket(length=Window.DAY, time_zone="Asia/Tokyo")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"aggregation": Aggregation.COUNT}, "aggregation"),
        ({"aggregation": Aggregation.PERCENTILE}, "aggregation"),
        ({"percentile": Decimal(50)}, "percentile"),
        ({"time_zone": "Asia/Tokyo"}, "time_zone"),
        ({"bucket": Window.DAY}, "bucket"),
        ({"unique_dimension": "host"}, "unique_dimension"),
        ({"value_expression": "value +"}, "value_expression"),
    ],
)
def test_a_meter_that_carries_over_goes_on_to(changes: Any, field: str) -> None:  # Any: fields of an update
    """Otherwise what was billed would be gone; and every version is as sound as a first one has to be."""
    seats = Definition(aggregation=Aggregation.SUM, carries_over=True)
    with pytest.raises(InvalidArgument) as refusal:
        DefinitionUpdate(**changes).of(seats)
    assert [each.field for each in refusal.value.violations] == [field]
    assert DefinitionUpdate(aggregation=Aggregation.LATEST).of(seats).carries_over
