"""Versions of meters through the door: a period is counted by one of them, and every answer says by which."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import grpc
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import freeze_service_pb2 as freezes_pb
from saldo.metering.v1 import meter_pb2, usage_threshold_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import usage_threshold_service_pb2 as thresholds_pb
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventFilter, Meter
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, Usage, UsageEvent
from saldo.metering.v1.usage_threshold_pb2 import CalendarPeriod
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub
from tests.support import usage_scan
from tests.support.tables import each_refused

ANNA: Final = "cus_01h455vb4pex5vsknk084sn02q"
DECEMBER: Final = Period(datetime(2025, 12, 1, tzinfo=UTC), SANDBOX_START)
JANUARY: Final = Period(SANDBOX_START, datetime(2026, 2, 1, tzinfo=UTC))
FEBRUARY: Final = Period(JANUARY.end, datetime(2026, 3, 1, tzinfo=UTC))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EU: Final = EventFilter(match=[DimensionMatch(dimension="region", values=["eu"])])
REGIONS: Final = ("eu", "us")
POLLS, POLL_SECONDS = 500, 0.02


@pytest_asyncio.fixture
async def freezes(suite: Suite, metering: Any) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    yield suite.stub(FreezeServiceStub, "metering")


def event(event_id: str, at: datetime, value: object, **changes: Any) -> UsageEvent:  # Any: fields of the message
    fields: dict[str, Any] = {"source": "s", "customer": ANNA, "meter": "kwh", "dimensions": {"region": "eu"}}
    number = decimal_pb2.Decimal(value=str(value))
    return UsageEvent(id=event_id, time=wire.timestamp(at), value=number, **(fields | changes))


async def ingest(metering: Any, *sent: UsageEvent) -> None:  # Any: a stub
    assert (await metering.IngestEvents(pb.IngestEventsRequest(events=sent))).accepted_count == len(sent)


def query(period: Period, **changes: Any) -> pb.UsageQuery:  # Any: fields of the message
    fields: dict[str, Any] = {"customer_id": ANNA, "meter": "kwh", "period": wire.interval(period)}
    return pb.UsageQuery(**(fields | changes))


async def counted(metering: Any, period: Period, **changes: Any) -> Usage:  # Any: a stub, and fields of the message
    usage: Usage = await metering.QueryUsage(pb.QueryUsageRequest(query=query(period, **changes)))
    return usage


async def update(metering: Any, meter: Meter, at: datetime | None = None, **changes: Any) -> Meter:  # Any: as above
    if at is not None:
        changes["effective_time"] = wire.timestamp(at)
    updated: Meter = await metering.UpdateMeter(pb.UpdateMeterRequest(id=meter.id, **changes))
    return updated


async def versions(metering: Any, meter: Meter) -> list[meter_pb2.MeterVersion]:  # Any: a stub
    """By pages of two."""
    found: list[meter_pb2.MeterVersion] = []
    token = ""
    for _ in range(50):
        request = pb.ListMeterVersionsRequest(id=meter.id, page_size=2, page_token=token)
        answer = await metering.ListMeterVersions(request)
        found += answer.versions
        token = answer.next_page_token
        if not token:
            return found
    raise AssertionError("the list has no end")


async def test_an_update_makes_a_version_that_everyone_hears_of(suite: Suite, metering: Any, kwh: Meter) -> None:
    """Once, however often it is sent; one that takes effect later is told of now, and the meter is what it is now."""
    scheduled = pb.UpdateMeterRequest(
        id=kwh.id, filter=EU, effective_time=wire.timestamp(FEBRUARY.start), request_id="later"
    )
    planned = await metering.UpdateMeter(scheduled)
    assert await metering.UpdateMeter(scheduled) == planned
    assert (planned.version, planned.last_version, planned.revision) == (1, 2, 2)
    assert not planned.HasField("filter")
    assert not planned.HasField("effective_time")
    assert await metering.GetMeter(pb.GetMeterRequest(code="kwh")) == planned
    await suite.travel(FEBRUARY.start)
    current = await metering.GetMeter(pb.GetMeterRequest(id=kwh.id))
    assert (current.version, current.filter, current.effective_time) == (2, EU, wire.timestamp(FEBRUARY.start))
    assert (current.revision, current.create_time) == (2, kwh.create_time)
    assert list((await metering.ListMeters(pb.ListMetersRequest())).meters) == [current]
    await suite.quiet()
    [told] = suite.announced(events.MeterUpdated)
    assert told.meter == planned
    [first, second] = await versions(metering, kwh)
    assert told.version == second
    assert (second.meter.filter, second.create_time) == (EU, wire.timestamp(SANDBOX_START))
    assert not first.HasField("effective_time")
    assert (first.end_time, second.effective_time) == (wire.timestamp(FEBRUARY.start),) * 2
    assert not second.HasField("end_time")


async def test_a_name_is_no_version(suite: Suite, metering: Any, kwh: Meter) -> None:
    """Nothing counts otherwise for it; and what changes nothing is told to nobody."""
    renamed = await update(metering, kwh, display_name="Power", unit_label="kW h")
    assert (renamed.display_name, renamed.unit_label, renamed.version, renamed.revision) == ("Power", "kW h", 1, 2)
    assert await update(metering, kwh, display_name="Power", aggregation=Meter.SUM, filter=EventFilter()) == renamed
    await suite.quiet()
    [told] = suite.announced(events.MeterUpdated)
    assert told.meter == renamed
    assert not told.HasField("version")


async def test_of_two_at_once_both_are_made_or_one_is_refused(metering: Any, kwh: Meter) -> None:
    """Without a word each builds on what it finds; who says what it has seen is not overtaken unseen."""
    await asyncio.gather(*(update(metering, kwh, value_expression=f"value * {n}") for n in (2, 3, 4)))
    made = await versions(metering, kwh)
    assert [each.version for each in made] == [1, 2, 3, 4]
    assert {each.meter.value_expression for each in made[1:]} == {"value * 2", "value * 3", "value * 4"}
    answers = await asyncio.gather(
        *(update(metering, kwh, value_expression=f"value * {n}", expected_revision=4) for n in (5, 6, 7)),
        return_exceptions=True,
    )
    refusals = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert [each.code() for each in refusals] == [grpc.StatusCode.FAILED_PRECONDITION] * 2
    assert len(await versions(metering, kwh)) == 5


async def test_a_period_is_counted_by_the_version_that_it_begins_with(suite: Suite, metering: Any, kwh: Meter) -> None:
    """To its end, with its windows and groups, whatever came in between; and by any other when that is asked for."""
    middle = JANUARY.start + 10 * DAY
    await suite.travel(middle)
    await ingest(
        metering,
        event("a", JANUARY.start, 10),
        event("b", middle + HOUR, 20),
        event("c", middle + 2 * HOUR, 30, dimensions={"region": "us"}),
    )
    updated = await update(metering, kwh, aggregation=Meter.MAX, filter=EU)
    assert (updated.version, updated.effective_time) == (2, wire.timestamp(middle))
    whole = await counted(metering, JANUARY, window=pb.UsageQuery.MONTH)
    assert (whole.quantity.value, whole.meter_version, whole.event_count) == ("60", 1, 3)
    assert [each.quantity.value for each in whole.windows] == ["60"]
    groups = (await counted(metering, JANUARY, group_by=["region"])).groups
    assert [(each.values[0], each.quantity.value) for each in groups] == [("eu", "30"), ("us", "30")]
    short = await counted(metering, JANUARY, without_proof=True)
    assert (short.quantity.value, short.meter_version) == ("60", 1)
    rest = await counted(metering, Period(middle, JANUARY.end))
    assert (rest.quantity.value, rest.meter_version, rest.event_count) == ("20", 2, 1)
    before = await counted(metering, Period(middle - timedelta(microseconds=1), JANUARY.end))
    assert (before.quantity.value, before.meter_version) == ("50", 1)
    other = await counted(metering, JANUARY, meter_version=2)
    assert (other.quantity.value, other.meter_version, other.event_count) == ("20", 2, 2)
    listed = await metering.ListEvents(pb.ListEventsRequest(query=query(JANUARY, meter_version=2)))
    assert [each.id for each in listed.events] == ["a", "b"]
    with refused("METER_VERSION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await counted(metering, JANUARY, meter_version=3)
    with refused("INVALID_ARGUMENT") as refusal:
        await counted(metering, JANUARY, meter_version=-1)
    assert refusal.field == "query.meter_version"


async def test_every_version_counts_what_a_plain_scan_counts(suite: Suite) -> None:
    """Versions, expressions and filters in one batch, from sums of days or from events: each as if it were alone."""
    chance = random.Random(5)
    await suite.start("metering", leaf_rows=400)
    metering = suite.stub(MeteringServiceStub, "metering")
    meter = await metering.CreateMeter(pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=Meter.SUM))
    sent = [
        event(
            f"{n}",
            SANDBOX_START - timedelta(minutes=chance.randrange(6 * 1440)),
            chance.randrange(-99, 999),
            dimensions={"region": chance.choice(REGIONS), "factor": str(chance.randrange(4))},
        )
        for n in range(600)
    ]
    for part in range(0, len(sent), 200):
        await ingest(metering, *sent[part : part + 200])
    changes: list[dict[str, Any]] = [  # Any: fields of the message
        {"aggregation": Meter.MAX},
        {"value_expression": "value * factor"},
        {"filter": EU},
        {"aggregation": Meter.SUM, "value_expression": "value / factor"},
        {"aggregation": Meter.COUNT},
        {"filter": EventFilter()},
        {"aggregation": Meter.PERCENTILE, "percentile": decimal_pb2.Decimal(value="90")},
        {"aggregation": Meter.SUM_OF_MAX, "bucket": Meter.DAY, "value_expression": "value * factor * factor"},
        {"aggregation": Meter.SUM, "value_expression": ""},
    ]
    for n, change in enumerate(changes):
        at = SANDBOX_START - 5 * DAY + n * 12 * HOUR
        await update(metering, meter, at, recount=True, **change)
    await suite.quiet()
    made = [each.meter for each in await versions(metering, meter)]
    assert len(made) == 10
    asked = []
    for n in range(80):
        minutes = sorted(chance.sample(range(0, 6 * 1440, 360), 2))
        period = Period(*(SANDBOX_START - 6 * DAY + timedelta(minutes=each) for each in minutes))
        # The last of them are answered from sums of days, because nothing else is asked about in their batch.
        number = chance.choice([0, chance.randrange(1, 11)]) if n < 60 else chance.choice([1, 2, 7, 10])
        asked.append(query(period, meter_version=number, without_proof=n >= 50))
    batches = (asked[:60], asked[60:])
    answers = [
        usage
        for batch in batches
        for usage in (await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=batch))).usages
    ]
    assert not any(usage.digest for usage in answers[60:])
    for each, usage in zip(asked, answers, strict=True):
        period = wire.parse_interval(each.period, field="period")
        begun = [begins for begins in map(_begins, made) if begins <= period.start]
        due = each.meter_version or len(begun)
        assert usage.meter_version == due
        about = usage_scan.counted(made[due - 1], each, sent, customers=[ANNA])
        expected = usage_scan.quantity(about, period)
        found = (Decimal(usage.quantity.value), usage.event_count)
        assert found == (expected, len(usage_scan.inside(about, period)))
    assert {usage.meter_version for usage in answers} == set(range(1, 11))


def _begins(meter: Meter) -> datetime:
    if not meter.HasField("effective_time"):
        return datetime.min.replace(tzinfo=UTC)
    return wire.parse_timestamp(meter.effective_time, field="effective_time")


async def test_what_is_frozen_stays_and_is_told_what_it_comes_to_now(
    suite: Suite, metering: Any, freezes: Any, kwh: Meter
) -> None:
    """A bill is proven by its own definition for ever; that it would be another one now is told once, and a new freeze
    is of the new one.
    """
    await ingest(
        metering,
        event("a", DECEMBER.start, 10),
        event("b", DECEMBER.start + DAY, 5, dimensions={"region": "us"}),
    )
    frozen = await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query(DECEMBER)))
    assert (frozen.quantity.value, frozen.query.meter_version) == ("15", 1)
    with refused("METER_EFFECTIVE_IN_PAST", grpc.StatusCode.FAILED_PRECONDITION):
        await update(metering, kwh, DECEMBER.start, filter=EU)
    await update(metering, kwh, DECEMBER.start + timedelta(microseconds=1), value_expression="value * 2", recount=True)
    await suite.quiet()
    assert not suite.announced(events.LateUsageDetected)
    await update(metering, kwh, DECEMBER.start, filter=EU, recount=True, supersede=True)
    told = await late(suite, 1)
    assert told[0].id == frozen.id
    assert (told[0].quantity.value, told[0].difference.value, told[0].meter_version) == ("10", "-5", 3)
    assert (told[0].event_count, told[0].corrected_count, told[0].frozen_usage) == (0, 0, frozen)
    verified = await freezes.VerifyDigest(freezes_pb.VerifyDigestRequest(frozen_usage_id=frozen.id))
    assert (verified.verdict, verified.meter_version) == (freezes_pb.VerifyDigestResponse.VALID, 1)
    listed = await metering.ListEvents(pb.ListEventsRequest(query=frozen.query))
    assert [each.id for each in listed.events] == ["a", "b"]
    again = await freezes.VerifyDigest(freezes_pb.VerifyDigestRequest(query=frozen.query, digest=frozen.digest))
    assert (again.verdict, again.counted_quantity.value) == (freezes_pb.VerifyDigestResponse.VALID, "15")
    assert (await freezes.ListLateUsages(freezes_pb.ListLateUsagesRequest())).late_usages == told
    # Of what comes late too is told how much of it there is by the frozen version, and to what it comes by the other.
    await ingest(metering, event("c", DECEMBER.start + DAY, 1), event("d", DECEMBER.start, 2, dimensions={}))
    told = await late(suite, 2)
    assert (told[1].event_count, told[1].quantity.value, told[1].difference.value) == (2, "11", "-4")
    with refused("INVALID_ARGUMENT") as refusal:
        await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query(DECEMBER, meter_version=3)))
    assert refusal.field == "query"
    request = freezes_pb.FreezeUsageRequest(query=query(DECEMBER), replaces=frozen.id)
    corrected = await freezes.FreezeUsage(request)
    assert (corrected.quantity.value, corrected.query.meter_version, corrected.event_count) == ("11", 3, 2)
    await update(metering, kwh, DECEMBER.start, filter=EventFilter(), recount=True)
    told = await late(suite, 3)
    assert (told[2].id, told[2].quantity.value, told[2].meter_version) == (corrected.id, "18", 4)


async def late(suite: Suite, count: int) -> list[Any]:  # Any: late usages
    """As many as are to be announced, and no more."""
    await suite.quiet()
    found = [each.late_usage for each in suite.announced(events.LateUsageDetected)]
    assert len(found) == count
    return found


async def test_who_freezes_while_the_meter_changes_is_told(
    suite: Suite, metering: Any, freezes: Any, kwh: Meter
) -> None:
    """Whichever comes first: it is frozen by the new version, or told that there is one."""
    await ingest(metering, event("a", DECEMBER.start, 10))
    request = freezes_pb.FreezeUsageRequest(query=query(DECEMBER))
    *frozen, _ = await asyncio.gather(
        *(freezes.FreezeUsage(request) for _ in range(6)),
        update(metering, kwh, DECEMBER.start, value_expression="value * 2", recount=True),
    )
    await suite.quiet()
    told = {each.late_usage.id for each in suite.announced(events.LateUsageDetected)}
    assert told == {each.id for each in frozen if each.query.meter_version == 1}
    assert {each.quantity.value for each in frozen} <= {"10", "20"}


async def test_thresholds_stand_by_the_version_of_their_period(suite: Suite, metering: Any, kwh: Meter) -> None:
    """A meter that is counted anew is looked at anew, though nothing came; and what can reach nothing is refused."""
    thresholds = suite.stub(UsageThresholdServiceStub, "metering")
    created = thresholds_pb.CreateUsageThresholdRequest(
        meter="kwh",
        value=decimal_pb2.Decimal(value="100"),
        calendar=CalendarPeriod(length=CalendarPeriod.MONTH, time_zone="UTC"),
    )
    await suite.travel(JANUARY.start + DAY)
    threshold: usage_threshold_pb2.UsageThreshold = await thresholds.CreateUsageThreshold(created)
    await ingest(metering, event("a", JANUARY.start, 60), event("b", JANUARY.start, 60, dimensions={}))
    await suite.quiet()
    [reached] = suite.announced(events.UsageThresholdReached)
    assert reached.usage_alert.meter_version == 1
    await update(metering, kwh, filter=EU)
    await suite.quiet()
    assert not suite.announced(events.UsageThresholdRecovered)
    await update(metering, kwh, JANUARY.start, filter=EU, recount=True, supersede=True)
    await suite.quiet()
    [recovered] = suite.announced(events.UsageThresholdRecovered)
    assert (recovered.usage_alert.quantity.value, recovered.usage_alert.meter_version) == ("60", 3)
    with refused("AGGREGATION_HAS_NO_THRESHOLD", grpc.StatusCode.FAILED_PRECONDITION):
        await update(metering, kwh, FEBRUARY.start, aggregation=Meter.MIN)
    await thresholds.ArchiveUsageThreshold(thresholds_pb.ArchiveUsageThresholdRequest(id=threshold.id))
    await update(metering, kwh, FEBRUARY.start, aggregation=Meter.MIN)
    with refused("AGGREGATION_HAS_NO_THRESHOLD", grpc.StatusCode.FAILED_PRECONDITION):
        await thresholds.CreateUsageThreshold(created)


async def test_how_old_usage_may_be_follows_the_version_in_effect(suite: Suite, metering: Any, kwh: Meter) -> None:
    """When the event comes; whoever stores it knows within a second, also where the meter was known without a limit."""
    old = JANUARY.start - 40 * DAY
    await ingest(metering, event("a", old, 1))
    await update(metering, kwh, accepts_days=30)
    await update(metering, kwh, FEBRUARY.start, accepts_days=0)
    answer = await metering.IngestEvents(pb.IngestEventsRequest(events=[event("b", old, 1)]))
    for n in range(POLLS):
        if answer.rejected_count:
            break
        await asyncio.sleep(POLL_SECONDS)
        answer = await metering.IngestEvents(pb.IngestEventsRequest(events=[event(f"b-{n}", old, 1)]))
    assert [(each.outcome, each.reason) for each in answer.results] == [(EventResult.REJECTED, "EVENT_TOO_OLD")]
    await ingest(metering, event("fresh", JANUARY.start - 30 * DAY, 1))
    await suite.travel(FEBRUARY.start)
    await ingest(metering, event("unlimited", old, 1))


BAD: Final[tuple[tuple[dict[str, Any], str], ...]] = (  # Any: fields of the message
    ({"aggregation": 99}, "aggregation"),
    ({"display_name": ""}, "display_name"),
    ({"unit_label": "x" * 33}, "unit_label"),
    ({"percentile": decimal_pb2.Decimal(value="50")}, "percentile"),
    ({"time_zone": "UTC"}, "time_zone"),
    ({"aggregation": Meter.SUM_OF_MAX, "bucket": 9}, "bucket"),
    ({"accepts_days": -1}, "accepts_days"),
    ({"expected_revision": -1}, "expected_revision"),
    ({"filter": EventFilter(match=[DimensionMatch(dimension="region")])}, "filter.match[0].values"),
    ({"filter": EU, "effective_time": wire.timestamp(SANDBOX_START + 367 * DAY)}, "effective_time"),
)


async def test_a_bad_update_is_refused_with_its_field(metering: Any, kwh: Meter) -> None:  # Any: a stub
    """Whoever changes a meter must see at once what is wrong, and nothing of it may stay."""
    for changes, field in BAD:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await update(metering, kwh, **changes)
        assert refusal.field == field
    assert await metering.GetMeter(pb.GetMeterRequest(id=kwh.id)) == kwh


async def test_a_version_never_changes(suite: Suite, metering: Any, kwh: Meter) -> None:
    """Not by whatever has access to the database either: bills are proven by it."""
    await update(metering, kwh, filter=EU)
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await metering.ListMeterVersions(pb.ListMeterVersionsRequest(id=ids.mint("meter", SANDBOX_START)))
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.ListMeterVersions(pb.ListMeterVersionsRequest(id=kwh.id, page_token="eA"))
    assert refusal.field == "page_token"
    async with suite.own_rows("metering") as connection:
        await each_refused(
            connection,
            "UPDATE meter_versions SET filter = NULL",
            "DELETE FROM meter_versions",
            "UPDATE meters SET aggregation = 'MAX'",
            because="never changes",
        )
