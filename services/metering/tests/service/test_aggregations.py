"""Every way to count: by aggregation, filter, expression, group and window; each is what a plain scan comes to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import grpc
import pytest

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventExclusion, EventFilter, Meter
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from tests.support import usage_scan as scan

ANNA: Final = ids.mint("cus", SANDBOX_START)
MARCH: Final = Period(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
LEAF_ROWS: Final = 300

# Clocks change at midnight, by half an hour, at an hour that is no midnight of UTC, and never.
ZONES: Final = (
    "UTC",
    "Europe/Berlin",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
)
REGIONS: Final = ("eu", "us", "Ä", 'a"b', "\\", "")
NUMBERS: Final = ("0", "1", "2.5", "-3", "0.000000000001", "7", "", "many", "1e3", " 1", "9" * 26, "9" * 27)
EXPRESSIONS: Final = (
    "value * 2 - 1",
    "(input + 3 * output) / 1000",
    "value / input",
    "1 / (value / input)",
    '-"out-put" * value + 0.5',
    "value - output - input / 7 / 3",
    "value * value * value * 1000000000000",
    "-(-value) / 3 * 3",
)


async def create(
    metering: Any, code: str, aggregation: Meter.Aggregation.ValueType, **more: Any
) -> Meter:  # Any: a stub; fields of the request
    request = pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation, **more)
    meter: Meter = await metering.CreateMeter(request)
    return meter


def event(
    event_id: str,
    meter: str,
    value: str = "1",
    *,
    at: datetime = MARCH.start,
    customer: str = ANNA,
    **dimensions: str,
) -> usage_event_pb2.UsageEvent:
    return usage_event_pb2.UsageEvent(
        id=event_id,
        source="gateway",
        customer=customer,
        meter=meter,
        time=wire.timestamp(at),
        value=scan.decimal(value),
        dimensions=dimensions,
    )


async def ingest(metering: Any, events: Sequence[usage_event_pb2.UsageEvent]) -> None:  # Any: a stub
    answer = await metering.IngestEvents(pb.IngestEventsRequest(events=events))
    assert answer.accepted_count == len(events), [each.message for each in answer.results if each.message][:3]


def query(meter: str, *, period: Period = MARCH, **more: Any) -> pb.UsageQuery:  # Any: fields of the query
    return pb.UsageQuery(customer_id=ANNA, meter=meter, period=wire.interval(period), **more)


async def usage(metering: Any, asked: pb.UsageQuery) -> usage_event_pb2.Usage:  # Any: a stub
    found: usage_event_pb2.Usage = await metering.QueryUsage(pb.QueryUsageRequest(query=asked))
    return found


async def quantity(metering: Any, meter: str, **more: Any) -> str:  # Any: a stub; fields of the query
    return (await usage(metering, query(meter, **more))).quantity.value


def windows(found: usage_event_pb2.Usage) -> list[tuple[str, int]]:
    return [(each.quantity.value, each.event_count) for each in found.windows]


def where(name: str, *values: str) -> DimensionMatch:
    return DimensionMatch(dimension=name, values=values)


async def test_an_average_is_rounded_once(metering: Any) -> None:
    """A third has no end, and the halves of the thirteenth decimal go away from zero."""
    await create(metering, "mean", Meter.AVERAGE)
    await ingest(metering, [event("a", "mean", "1"), event("b", "mean", "0"), event("c", "mean", "0")])
    assert await quantity(metering, "mean") == "0.333333333333"
    later = Period(MARCH.end, MARCH.end + DAY)
    await ingest(
        metering, [event(each, "mean", "-0.000000000001" if each == "d" else "0", at=MARCH.end) for each in "de"]
    )
    assert await quantity(metering, "mean", period=later) == "-0.000000000001"


async def test_a_level_is_averaged_over_its_time(metering: Any) -> None:
    """Ten seats for half of the month are five: also when nothing is reported in the other half."""
    await create(metering, "seats", Meter.WEIGHTED_SUM)
    await create(metering, "kept", Meter.WEIGHTED_SUM, carries_over=True)
    middle = MARCH.start + (MARCH.end - MARCH.start) / 2
    for code in ("seats", "kept"):
        await ingest(metering, [event(f"{code}a", code, "10", at=middle), event(f"{code}b", code, "-4", at=MARCH.end)])
    assert await quantity(metering, "seats") == "5"
    april = Period(MARCH.end, MARCH.end + 30 * DAY)
    assert (await quantity(metering, "seats", period=april), await quantity(metering, "kept", period=april)) == (
        "-4",
        "6",
    )


async def test_what_is_carried_over_was_there_before_the_period(metering: Any) -> None:
    """Seats of last year are seats today; all events that make them are counted, proven and listed."""
    await create(metering, "seats", Meter.SUM, carries_over=True)
    await create(metering, "stored", Meter.LATEST, carries_over=True)
    for code in ("seats", "stored"):
        old, new = datetime(1999, 1, 1, tzinfo=UTC), MARCH.start + DAY
        await ingest(metering, [event(f"{code}a", code, "5", at=old), event(f"{code}b", code, "-2", at=new)])
        await ingest(metering, [event(f"{code}c", code, "100", at=MARCH.end)])
    found = await usage(metering, query("seats"))
    assert (found.quantity.value, found.event_count) == ("3", 2)
    listed = await metering.ListEvents(pb.ListEventsRequest(query=query("seats")))
    assert [each.id for each in listed.events] == ["seatsa", "seatsb"]
    first_day = Period(MARCH.start, MARCH.start + DAY)
    assert await quantity(metering, "stored", period=first_day) == "5"
    shown = await usage(metering, query("stored", period=Period(MARCH.start, MARCH.start + 3 * DAY), window="DAY"))
    assert windows(shown) == [("5", 0), ("-2", 1), ("-2", 0)]


@pytest.mark.parametrize(
    ("percent", "due"), [("0.0001", "1"), ("50", "5"), ("50.0001", "6"), ("90", "9"), ("100", "10")]
)
async def test_a_percentile_is_one_of_the_values(metering: Any, percent: str, due: str) -> None:
    """By nearest rank: whoever pays by it can point at the event."""
    await create(metering, "burst", Meter.PERCENTILE, percentile=scan.decimal(percent))
    await ingest(metering, [event(str(n), "burst", str(n)) for n in range(1, 11)])
    assert await quantity(metering, "burst") == due


async def test_a_percentile_of_many_is_not_off_by_one(metering: Any) -> None:
    """In binary fractions 0.95 * 8640 is more than 8208, and the next place would be billed."""
    await create(metering, "burst", Meter.PERCENTILE, percentile=scan.decimal("95"))
    await ingest(metering, [event(str(n), "burst", str(n)) for n in range(8640, 0, -1)])
    assert await quantity(metering, "burst") == "8208"


async def test_the_largest_values_of_buckets_are_added_up(metering: Any) -> None:
    """By the days of the meter's own time zone: half past eleven at night in London is the next day in Berlin."""
    await create(metering, "utc", Meter.SUM_OF_MAX, bucket=Meter.DAY)
    await create(metering, "berlin", Meter.SUM_OF_MAX, bucket=Meter.DAY, time_zone="Europe/Berlin")
    await create(metering, "hourly", Meter.SUM_OF_MAX, bucket=Meter.HOUR)
    late = MARCH.start + DAY - HOUR / 2
    for code in ("utc", "berlin", "hourly"):
        times = {"a": ("3", MARCH.start), "b": ("5", late), "c": ("-7", late + DAY), "d": ("4", late + HOUR)}
        await ingest(metering, [event(code + each, code, value, at=at) for each, (value, at) in times.items()])
    assert await quantity(metering, "utc") == "9"
    assert await quantity(metering, "berlin") == "1"
    assert await quantity(metering, "hourly") == "5"
    assert (await metering.GetMeter(pb.GetMeterRequest(code="utc"))).time_zone == "UTC"


async def test_a_filter_says_which_events_count(metering: Any) -> None:
    """Of the meter and of the query both; what an event does not name it neither matches nor is excluded by."""
    only = EventFilter(match=[where("region", "eu", "us")], exclude=[EventExclusion(match=[where("plan", "free")])])
    await create(metering, "calls", Meter.SUM, filter=only)
    sent = [
        event("a", "calls", "1", region="eu"),
        event("b", "calls", "2", region="us", plan="paid"),
        event("c", "calls", "4", region="eu", plan="free"),
        event("d", "calls", "8", region="as"),
        event("e", "calls", "16", plan="paid"),
        event("f", "calls", "32"),
    ]
    await ingest(metering, sent)
    found = await usage(metering, query("calls"))
    assert (found.quantity.value, found.event_count) == ("3", 2)
    paid = query("calls", filter=EventFilter(match=[where("plan", "paid")]))
    assert (await usage(metering, paid)).quantity.value == "2"
    listed = await metering.ListEvents(pb.ListEventsRequest(query=paid))
    assert list(listed.events) == [sent[1]]
    unpaid = query("calls", filter=EventFilter(exclude=[EventExclusion(match=[where("plan", "paid")])]))
    assert (await usage(metering, unpaid)).quantity.value == "1"


async def test_an_expression_says_what_an_event_counts_for(metering: Any) -> None:
    """Exact until the end; an event without a result is as if it had not been sent to this meter."""
    await create(metering, "tokens", Meter.SUM, value_expression="(input + 3 * output) / 1000")
    sent = [
        event("a", "tokens", input="1000", output="2.5"),
        event("b", "tokens", input="1"),
        event("c", "tokens", input="1", output="many"),
        event("d", "tokens", input="0", output="-1"),
    ]
    await ingest(metering, sent)
    found = await usage(metering, query("tokens", with_values=True))
    assert (found.quantity.value, found.event_count) == ("1.0045", 2)
    assert [each.value for each in found.values] == ["1.0075", "-0.003"]
    listed = await metering.ListEvents(pb.ListEventsRequest(query=query("tokens")))
    assert [each.id for each in listed.events] == ["a", "d"]


async def test_a_division_by_zero_within_a_division_has_no_result(metering: Any) -> None:
    """As a fraction of fractions it would come out as zero."""
    await create(metering, "odd", Meter.SUM, value_expression="1 / (value / input)")
    await ingest(
        metering,
        [event("a", "odd", "2", input="0"), event("b", "odd", "0", input="2"), event("c", "odd", "4", input="2")],
    )
    found = await usage(metering, query("odd"))
    assert (found.quantity.value, found.event_count) == ("0.5", 1)


async def test_windows_follow_the_calendar_of_a_zone(metering: Any) -> None:
    """The day on which clocks change has 23 hours; windows at the ends of the period are whole, their events not."""
    await create(metering, "calls", Meter.COUNT)
    change = datetime(2025, 3, 29, 23, tzinfo=UTC)
    await ingest(metering, [event(str(n), "calls", at=change + n * HOUR) for n in range(-2, 25)])
    period = Period(change - HOUR, change + 24 * HOUR)
    found = await usage(metering, query("calls", period=period, window="DAY", time_zone="Europe/Berlin"))
    assert windows(found) == [("1", 1), ("23", 23), ("1", 1)]
    spans = [wire.parse_interval(each.window, field="window") for each in found.windows]
    assert [span.end - span.start for span in spans] == [DAY, 23 * HOUR, DAY]
    hours = await usage(metering, query("calls", period=period, window="HOUR", time_zone="Europe/Berlin"))
    assert windows(hours) == [("1", 1)] * 25


async def test_an_answer_has_so_many_windows(metering: Any) -> None:
    """Ten thousand in all queries of a request; one more is refused by name, before anything is counted."""
    await create(metering, "calls", Meter.COUNT)
    start = MARCH.start
    most = query("calls", period=Period(start, start + timedelta(minutes=10_000)), window="MINUTE")
    assert len((await usage(metering, most)).windows) == 10_000
    over = query("calls", period=Period(start, start + timedelta(minutes=10_000, seconds=1)), window="MINUTE")
    with refused("TOO_MANY_WINDOWS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await usage(metering, over)
    assert refusal.metadata == {"limit": "10000"}
    with refused("TOO_MANY_WINDOWS"):
        await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=[most, query("calls", window="DAY")]))
    ages = Period(datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
    with refused("TOO_MANY_WINDOWS"):
        await usage(metering, query("calls", period=ages, window="DAY"))
    await create(metering, "peaks", Meter.SUM_OF_MAX, bucket=Meter.HOUR)
    with refused("TOO_MANY_WINDOWS"):
        await usage(metering, query("peaks", period=ages))


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"window": 99}, "query.window"),
        ({"window": "DAY", "time_zone": "Berlin"}, "query.time_zone"),
        ({"time_zone": "Europe/Berlin"}, "query.time_zone"),
        ({"window": "DAY", "group_by": ["region"]}, "query.window"),
        ({"filter": EventFilter(match=[where("Region", "eu")])}, "query.filter.match[0].dimension"),
        ({"filter": EventFilter(match=[where("region")])}, "query.filter.match[0].values"),
        ({"filter": EventFilter(match=[where("region", "")])}, "query.filter.match[0].values[0]"),
        ({"filter": EventFilter(match=[where("region", *map(str, range(101)))])}, "query.filter.match[0].values"),
        ({"filter": EventFilter(match=[where("region", "eu")] * 17)}, "query.filter.match"),
        ({"filter": EventFilter(exclude=[EventExclusion()])}, "query.filter.exclude[0]"),
        ({"filter": EventFilter(exclude=[EventExclusion(match=[where("x", "y")])] * 17)}, "query.filter.exclude"),
        (
            {"filter": EventFilter(exclude=[EventExclusion(match=[where("x")])])},
            "query.filter.exclude[0].match[0].values",
        ),
    ],
)
async def test_a_bad_query_is_refused_with_its_field(metering: Any, more: dict[str, Any], field: str) -> None:
    """What would be guessed at would be billed."""
    await create(metering, "calls", Meter.COUNT)
    with refused("UNKNOWN_TIME_ZONE" if more.get("time_zone") == "Berlin" else "INVALID_ARGUMENT") as refusal:
        await usage(metering, query("calls", **more))
    assert refusal.field == field


async def test_a_meter_is_told_as_it_was_made(metering: Any) -> None:
    """All of what decides about a quantity can be read, and is announced."""
    only = EventFilter(match=[where("a", "b")], exclude=[EventExclusion(match=[where("c", "d", "e")])])
    made = [
        await create(metering, "p", Meter.PERCENTILE, percentile=scan.decimal("99.9"), filter=only),
        await create(metering, "b", Meter.SUM_OF_MAX, bucket=Meter.HOUR, time_zone="Asia/Kolkata"),
        await create(metering, "w", Meter.WEIGHTED_SUM, carries_over=True, value_expression='value / "d-1"'),
    ]
    assert (made[0].percentile.value, made[0].filter, made[1].bucket) == ("99.9", only, Meter.HOUR)
    assert (made[1].time_zone, made[2].carries_over, made[2].value_expression) == (
        "Asia/Kolkata",
        True,
        'value / "d-1"',
    )
    assert list((await metering.ListMeters(pb.ListMetersRequest())).meters) == made


@pytest.mark.parametrize(
    ("seed", "counting"),
    # Each has meters in a zone of its own, and asks for the days of all of them.
    [
        *((seed, "postgresql") for seed in (1, 4, 5)),
        (1, "clickhouse"),
        *(pytest.param(seed, "postgresql", marks=pytest.mark.thorough) for seed in (0, 2, 3, 6)),
    ],
    indirect=["counting"],
)
async def test_every_usage_is_what_a_plain_scan_comes_to(suite: Suite, seed: int, counting: dict[str, object]) -> None:
    """Whatever is sent and asked, over many leaves: every number of every answer, from the events that were sent."""
    await suite.start("metering", leaf_rows=LEAF_ROWS, shards=3, **counting)
    metering = suite.stub(MeteringServiceStub, "metering")
    chance = random.Random(seed)
    zone = ZONES[seed]
    # On the sixth of April clocks change in Australia, on the thirtieth of March in Berlin, and so on: not all are met.
    start = datetime(2025, *CHANGES[zone], tzinfo=UTC) - 2 * DAY + chance.randrange(86_400) * timedelta(seconds=1)
    meters = [await create(metering, f"m{n}", **any_meter(chance, zone)) for n in range(16)]
    meters += [
        await create(metering, name.lower(), Meter.Aggregation.Value(name), **needed(name, zone))
        for name in Meter.Aggregation.keys()[1:]
    ]
    sent = [
        event(
            f"{n}",
            chance.choice(meters).code,
            f"{chance.choice([-1, 1, 1]) * Decimal(chance.randrange(10**5)) / 10 ** chance.randrange(6):f}",
            at=start
            + chance.choice([-400 * DAY, 0 * DAY, chance.randrange(4 * 86_400_000_000) * scan.MICROSECOND])
            + chance.choice([0, 0, 1]) * 60 * DAY,
            customer=chance.choice([ANNA, ANNA, "bob"]),
            **{
                name: value
                for name, value in (
                    ("region", chance.choice(REGIONS)),
                    ("input", chance.choice(NUMBERS).strip()),
                    ("output", chance.choice(NUMBERS[:4])),
                    ("out-put", chance.choice(NUMBERS[:6])),
                )
                if value
            },
        )
        for n in range(2_500)
    ]
    for first in range(0, len(sent), 100):
        await ingest(metering, sent[first : first + 100])
    periods = [Period(start, start + 4 * DAY), Period(start - 3 * HOUR, start + 65 * DAY + scan.MICROSECOND)]
    by_code = {meter.code: meter for meter in meters}
    asked = [any_query(chance, meter.code, periods) for meter in meters for _ in range(4)]
    asked += [
        query(meter.code, period=periods[0], window=window, time_zone=chance.choice(ZONES))
        for meter in meters
        for window in ("HOUR", "DAY")
    ]
    if counting:
        # Statements for a few rows cost there what those for millions do.
        asked = chance.sample(asked, 50)
    compared = 0
    for first in range(0, len(asked), 40):
        part = asked[first : first + 40]
        answer = await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=part))
        for each, found in zip(part, answer.usages, strict=True):
            about = scan.counted(by_code[each.meter], each, sent, customers=[ANNA])
            compared += compare(each, found, about)
    assert compared > 1_000, "hardly anything was compared"


def compare(asked: pb.UsageQuery, found: usage_event_pb2.Usage, about: scan.Counted) -> int:
    """How many events there were."""
    period = wire.parse_interval(asked.period, field="period")
    events = (
        [event for event in about.events if event.time < period.end]
        if about.meter.carries_over
        else scan.inside(about, period)
    )
    assert found.event_count == len(events), about.meter
    assert Decimal(found.quantity.value) == scan.quantity(about, period), about.meter
    if asked.with_values:
        assert [Decimal(each.value) for each in found.values] == [scan.rounded(event.value) for event in events]
    if asked.group_by:
        told = [(tuple(each.values), Decimal(each.quantity.value), each.event_count) for each in found.groups]
        assert told == scan.grouped(about, period, asked.group_by), about.meter
    due = []
    if asked.window:
        unit = pb.UsageQuery.Window.Name(asked.window)
        for window in scan.windows(period, unit, asked.time_zone or "UTC"):
            part = window.overlap(period)
            assert part is not None
            due.append((window, scan.quantity(about, part, since=period.start), len(scan.inside(about, part))))
    windows_told = [
        (wire.parse_interval(each.window, field="window"), Decimal(each.quantity.value), each.event_count)
        for each in found.windows
    ]
    assert windows_told == due, about.meter
    return len(events)


def any_query(chance: random.Random, meter: str, periods: Sequence[Period]) -> pb.UsageQuery:
    apart: dict[str, Any] = {}  # Any: fields of the query
    if chance.random() < 0.5:
        apart = {"group_by": chance.sample(["region", "input", "out-put", "nowhere"], chance.choice([1, 2]))}
    elif chance.random() < 0.7:
        apart = {"window": chance.choice(["HOUR", "DAY", "WEEK", "MONTH"]), "time_zone": chance.choice(ZONES)}
    return query(
        meter,
        period=chance.choice(periods[:1] if apart.get("window") == "HOUR" else periods),
        with_values=chance.random() < 0.3,
        filter=any_filter(chance),
        **apart,
    )


def any_meter(chance: random.Random, zone: str) -> dict[str, Any]:  # Any: fields of the request
    name = chance.choice(Meter.Aggregation.keys()[1:])
    more = needed(name, zone)
    if name not in ("COUNT", "UNIQUE_COUNT"):
        more["value_expression"] = chance.choice(["", *EXPRESSIONS])
    if name in ("SUM", "LATEST", "WEIGHTED_SUM"):
        more["carries_over"] = chance.random() < 0.6
    return {"aggregation": Meter.Aggregation.Value(name), "filter": any_filter(chance), **more}


def needed(name: str, zone: str) -> dict[str, Any]:  # Any: fields of the request
    match name:
        case "UNIQUE_COUNT":
            return {"unique_dimension": "input"}
        case "PERCENTILE":
            return {"percentile": scan.decimal("66.6667")}
        case "SUM_OF_MAX":
            return {"bucket": "HOUR" if zone < "B" else "DAY", "time_zone": zone}
    return {}


def any_filter(chance: random.Random) -> EventFilter:
    def match() -> DimensionMatch:
        name = chance.choice(["region", "region", "output", "nowhere"])
        values = [each for each in (*REGIONS, *NUMBERS[:4]) if each]
        return where(name, *chance.sample(values, chance.randrange(3, len(values))))

    return EventFilter(
        match=[match() for _ in range(chance.choice([0, 0, 0, 1]))],
        exclude=[EventExclusion(match=[match(), match()]) for _ in range(chance.choice([0, 0, 1, 2]))],
    )


CHANGES: Final = {
    "UTC": (3, 30),
    "Europe/Berlin": (3, 30),
    "America/Los_Angeles": (3, 9),
    "Asia/Kolkata": (5, 1),
    "Australia/Lord_Howe": (4, 5),
    "Africa/Cairo": (4, 25),
    "America/Havana": (3, 9),
}
"""Month and day on which the clocks of a zone change, if they do."""
