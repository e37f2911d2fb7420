"""Usage told apart and event by event, in every aggregation: each answer is what a plain recount comes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, refused
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from tests.support.seeds import seeds

ANNA = ids.mint("cus", SANDBOX_START)
DECEMBER = Period(datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
HOUR = timedelta(hours=1)
READINGS = 10
BATCHES_MAX = 120
AGGREGATIONS = meter_pb2.Meter.Aggregation.keys()[1:]
# What sorts differently by language, by case, by UTF-16 and by bytes; what JSON and SQL might take for something else.
WORDS = ["a", "B", "b", "ä", "z", "Z", "a b", "a-b", "ﬀ", "😀", '"', "'", "\\", "\\u0000", "null", "0", "x" * 128]


@pytest_asyncio.fixture
async def meters(metering: Any) -> Sequence[str]:  # Any: grpc stubs are generated
    """One of every aggregation, named like it."""
    for aggregation in AGGREGATIONS:
        await metering.CreateMeter(
            pb.CreateMeterRequest(
                code=aggregation.lower(),
                display_name=aggregation,
                aggregation=meter_pb2.Meter.Aggregation.Value(aggregation),
                unique_dimension="device" if aggregation == "UNIQUE_COUNT" else "",
                percentile=decimal_pb2.Decimal(value="87.5") if aggregation == "PERCENTILE" else None,
                bucket=meter_pb2.Meter.HOUR if aggregation == "SUM_OF_MAX" else meter_pb2.Meter.BUCKET_UNSPECIFIED,
            )
        )
    return [aggregation.lower() for aggregation in AGGREGATIONS]


def event(
    event_id: str,
    meter: str,
    value: str = "1",
    *,
    at: datetime = DECEMBER.start,
    source: str = "gateway",
    customer: str = ANNA,
    dimensions: dict[str, str] | None = None,
) -> usage_event_pb2.UsageEvent:
    return usage_event_pb2.UsageEvent(
        id=event_id,
        source=source,
        customer=customer,
        meter=meter,
        time=wire.timestamp(at),
        value=decimal_pb2.Decimal(value=value),
        dimensions=dimensions or {},
    )


async def ingest(metering: Any, events: Iterable[usage_event_pb2.UsageEvent]) -> None:  # Any: a stub
    request = pb.IngestEventsRequest(events=events)
    answer = await metering.IngestEvents(request)
    assert answer.accepted_count == len(request.events), [each.message for each in answer.results if each.message][:3]


def query(
    meter: str,
    *,
    period: Period = DECEMBER,
    external_id: str = "",
    names: Sequence[str] = (),
    group_by: Sequence[str] = (),
    with_values: bool = False,
) -> pb.UsageQuery:
    return pb.UsageQuery(
        customer_id=ANNA,
        external_id=external_id,
        names=names,
        meter=meter,
        period=wire.interval(period),
        group_by=group_by,
        with_values=with_values,
    )


async def usage(metering: Any, asked: pb.UsageQuery) -> usage_event_pb2.Usage:  # Any: a stub
    answer: usage_event_pb2.Usage = await metering.QueryUsage(pb.QueryUsageRequest(query=asked))
    return answer


def groups(found: usage_event_pb2.Usage) -> dict[tuple[str, ...], tuple[str, int]]:
    return {tuple(group.values): (group.quantity.value, group.event_count) for group in found.groups}


async def test_the_largest_value_may_be_negative(metering: Any, meters: Sequence[str]) -> None:
    """A depth or a temperature: zero, which nobody sent, would be a larger one."""
    await ingest(metering, [event("a", "max", "-3"), event("b", "max", "-2.50"), event("c", "max", "-7")])
    assert (await usage(metering, query("max"))).quantity.value == "-2.5"


async def test_the_latest_value_is_that_of_the_greatest_identity(metering: Any, meters: Sequence[str]) -> None:
    """By time; at one time by source and id, in the order of bytes: not by when it came."""
    later = DECEMBER.start + HOUR
    await ingest(
        metering,
        [
            event("a", "latest", "5", at=later, source="a"),
            event("B", "latest", "-4", at=later, source="b"),
            event("A", "latest", "3", at=later, source="b"),
            event("z", "latest", "2", at=later, source="Z"),
        ],
    )
    await ingest(metering, [event("zz", "latest", "1", source="zz")])
    assert (await usage(metering, query("latest"))).quantity.value == "-4"


async def test_unique_values_are_counted_once(metering: Any, meters: Sequence[str]) -> None:
    """An active device is one, however often it reports, and an event that names none is none."""
    sent = [
        event("a", "unique_count", "7", dimensions={"device": "one"}),
        event("b", "unique_count", "7", dimensions={"device": "one", "region": "eu"}),
        event("c", "unique_count", "7", dimensions={"device": "One"}),
        event("d", "unique_count", "7", dimensions={"region": "eu"}),
        event("e", "unique_count", "7"),
    ]
    await ingest(metering, sent)
    found = await usage(metering, query("unique_count", group_by=["region"]))
    assert (found.quantity.value, found.event_count) == ("2", 5)
    assert groups(found) == {("",): ("2", 3), ("eu",): ("1", 2)}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
async def test_an_empty_period_is_zero_and_has_no_groups(
    metering: Any, meters: Sequence[str], aggregation: str
) -> None:
    """Nothing was used: every price can be asked what that costs."""
    found = await usage(metering, query(aggregation.lower(), group_by=["region"], with_values=True))
    assert (found.quantity.value, found.event_count) == ("0", 0)
    assert not found.groups
    assert not found.values


async def test_what_is_not_asked_for_is_not_told(metering: Any, meters: Sequence[str]) -> None:
    """Also beside queries of the same batch that do ask: nobody pays for what another price needs."""
    await ingest(metering, [event("a", "sum", "2", dimensions={"region": "eu"})])
    asked = [query("sum"), query("sum", group_by=["region"]), query("sum", with_values=True), query("max")]
    answer = await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=asked))
    assert [(len(each.groups), len(each.values)) for each in answer.usages] == [(0, 0), (1, 0), (0, 1), (0, 0)]
    assert answer.usages[0] == await usage(metering, query("sum"))


async def test_a_repeat_with_other_dimensions_is_a_duplicate(metering: Any, meters: Sequence[str]) -> None:
    """What was accepted first counts, where it said it was used."""
    await ingest(metering, [event("a", "sum", "2", dimensions={"region": "eu"})])
    again = event("a", "sum", "2", dimensions={"region": "us"})
    answer = await metering.IngestEvents(pb.IngestEventsRequest(events=[again, event("a", "sum", "2")]))
    assert answer.duplicate_count == 2
    assert groups(await usage(metering, query("sum", group_by=["region"]))) == {("eu",): ("2", 1)}


async def test_dimensions_do_not_change_the_proof(metering: Any, meters: Sequence[str]) -> None:
    """The digest says which events were counted; their identities already say everything about them."""
    await ingest(metering, [event("a", "sum", "2", dimensions={"region": "eu"})])
    plain = await usage(metering, query("sum"))
    told = await usage(metering, query("sum", group_by=["region"], with_values=True))
    assert (plain.digest, plain.through_position) == (told.digest, told.through_position)


async def test_listed_events_name_their_dimensions(metering: Any, meters: Sequence[str]) -> None:
    """As they were sent: whoever doubts a group looks at its events."""
    sent = [
        event("a", "sum", dimensions={f"d{n}": word for n, word in enumerate(WORDS[:16])}),
        event("b", "sum", dimensions={"region": WORDS[-1]}),
        event("c", "sum"),
    ]
    await ingest(metering, sent)
    listed = await metering.ListEvents(pb.ListEventsRequest(query=query("sum", group_by=["region"], with_values=True)))
    assert list(listed.events) == sent


@pytest.mark.parametrize("group_by", [["a", "b", "c"], ["a", "a"], ["A"], [""]])
async def test_a_bad_group_by_is_refused_with_its_field(
    metering: Any, meters: Sequence[str], group_by: list[str]
) -> None:
    """In a batch the path says which one."""
    asked = query("sum", group_by=group_by)
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await usage(metering, asked)
    assert refusal.field == "query.group_by"
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=[query("sum"), asked]))
    assert refusal.field == "queries[1].group_by"


async def test_an_answer_has_a_size(metering: Any, meters: Sequence[str]) -> None:
    """Ten thousand groups or values are told, one more is refused: by name, never cut off."""
    await ingest(metering, [event(f"{n}", "sum", dimensions={"device": f"{n:05}"}) for n in range(10_000)])
    await ingest(metering, [event("last", "sum", at=DECEMBER.start + HOUR, dimensions={"device": "last"})])
    first_hour = Period(DECEMBER.start, DECEMBER.start + HOUR)
    found = await usage(metering, query("sum", period=first_hour, group_by=["device"], with_values=True))
    assert [group.values[0] for group in found.groups] == [f"{n:05}" for n in range(10_000)]
    assert len(found.values) == 10_000
    with refused("TOO_MANY_GROUPS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await usage(metering, query("sum", group_by=["device"]))
    assert refusal.metadata == {"meter": "sum", "limit": "10000"}
    with refused("TOO_MANY_VALUES", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await usage(metering, query("sum", with_values=True))
    assert refusal.metadata == {"meter": "sum", "limit": "10000"}
    assert (await usage(metering, query("sum", group_by=["region"]))).event_count == 10_001


async def test_quantity_groups_and_values_are_of_one_snapshot(metering: Any, meters: Sequence[str]) -> None:
    """While many ingest at once: a bill that adds up to something else than its usage would be doubted for good."""

    seen = asyncio.Event()

    async def send(sender: int) -> None:
        for n in range(BATCHES_MAX):
            await ingest(
                metering,
                [
                    event(f"{sender}-{n}-{k}", "sum", dimensions={"region": f"r{(n + k) % 5}"})
                    for k in range(1 + (sender * 7 + n * 3) % 12)
                ],
            )
            if seen.is_set():
                return

    asked = query("sum", group_by=["region"], with_values=True)
    readings: list[usage_event_pb2.Usage] = []
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(send(sender)) for sender in range(5)]
        # However slow the machine is: they go on until enough was read in between.
        while len({found.event_count for found in readings}) < READINGS and not all(each.done() for each in senders):
            readings.append(await usage(metering, asked))
        seen.set()
    for found in readings:
        assert found.quantity.value == str(found.through_position) == str(len(found.values))
        assert sum(Decimal(each.quantity.value) for each in found.groups) == found.through_position
    assert len({found.event_count for found in readings}) == READINGS, "nothing was read in between"


@pytest.mark.parametrize("seed", seeds(0, further=range(1, 4)))
async def test_every_answer_is_what_a_plain_recount_comes_to(metering: Any, meters: Sequence[str], seed: int) -> None:
    """Whatever was sent: each aggregation, group and value again, from the list of events, in another language."""
    chance = random.Random(seed)
    names = ["device", "region", "model"]
    sent = [
        event(
            chance.choice(WORDS[:-1]) + str(n),
            chance.choice(meters),
            f"{chance.choice([-1, 1, 1]) * Decimal(chance.randrange(10**6)) / 10 ** chance.randrange(7):f}",
            at=DECEMBER.start + chance.choice([0, 1, 1, 2, 700, 744]) * HOUR,
            source=chance.choice(["a", "B", "ä"]),
            customer=chance.choice([ANNA, ANNA, "anna", "crm 17", "bob"]),
            dimensions={
                name: chance.choice(WORDS) for name in chance.sample(names, chance.choice([0, 1, 2, len(names)]))
            },
        )
        for n in range(700)
    ]
    for start in range(0, len(sent), 100):
        await ingest(metering, sent[start : start + 100])
    periods = [DECEMBER, Period(DECEMBER.start + HOUR, DECEMBER.start + 2 * HOUR)]
    asked = [
        query(meter, period=period, external_id=key, names=names, group_by=group_by, with_values=with_values)
        for meter in meters
        for period in periods
        for key, names in (("", ()), ("anna", ()), ("", ("anna", "crm 17")))
        for group_by in ((), ("region",), ("device",), ("model", "region"), ("region", "model"), ("nowhere",))
        for with_values in (False, True)
    ]
    chance.shuffle(asked)
    answer = await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=asked))
    counted = 0
    lists: dict[tuple[Any, ...], list[usage_event_pb2.UsageEvent]] = {}
    for each, found in zip(asked, answer.usages, strict=True):
        # How usage is to be told is all the same to a list of its events: one way of each, by chance, is tried.
        whose = (each.meter, each.period.start_time.seconds, each.external_id, *each.names)
        if whose not in lists:
            lists[whose] = await listed(metering, each)
        events = lists[whose]
        counted += len(events)
        assert found.event_count == len(events)
        assert Decimal(found.quantity.value) == recount(
            each.meter, events, wire.parse_interval(each.period, field="period")
        )
        assert [value.value for value in found.values] == [one.value.value for one in events if each.with_values]
        apart: dict[tuple[str, ...], list[usage_event_pb2.UsageEvent]] = {}
        for one in events:
            if each.group_by:
                apart.setdefault(tuple(one.dimensions.get(name, "") for name in each.group_by), []).append(one)
        assert [(tuple(group.values), Decimal(group.quantity.value), group.event_count) for group in found.groups] == [
            (values, recount(each.meter, members, wire.parse_interval(each.period, field="period")), len(members))
            for values, members in sorted(apart.items())
        ]
    assert counted > len(sent), "hardly anything was compared"


def recount(aggregation: str, events: Sequence[usage_event_pb2.UsageEvent], period: Period) -> Decimal:
    """The contract's definitions of the aggregations, over events in any order."""
    values = [Decimal(each.value.value) for each in events]
    match aggregation:
        case "min":
            return min(values, default=Decimal(0))
        case "average":
            return quotient(sum(map(Fraction, values)), len(values)) if values else Decimal(0)
        case "weighted_sum":
            ends = period.end.timestamp()
            held = sum(
                Fraction(value) * (int(ends) - each.time.seconds) for value, each in zip(values, events, strict=True)
            )
            return quotient(held, int((period.end - period.start).total_seconds()))
        case "percentile":
            return sorted(values)[-(-len(values) * 875 // 1000) - 1] if values else Decimal(0)
        case "sum_of_max":
            hours: dict[int, Decimal] = {}
            for value, each in zip(values, events, strict=True):
                hour = each.time.seconds // 3600
                hours[hour] = max(hours.get(hour, value), value)
            return sum(hours.values(), Decimal(0))
        case "sum":
            return sum(values, Decimal(0))
        case "count":
            return Decimal(len(events))
        case "max":
            return max(values, default=Decimal(0))
        case "latest":
            places = [(each.time.seconds, each.time.nanos, each.source, each.id) for each in events]
            return values[places.index(max(places))] if places else Decimal(0)
        case "unique_count":
            return Decimal(len({each.dimensions["device"] for each in events if "device" in each.dimensions}))
    raise AssertionError(f"no aggregation {aggregation}")


def quotient(dividend: Fraction | int, divisor: int) -> Decimal:
    """At 12 decimals, halves away from zero."""
    scaled = abs(Fraction(dividend)) / divisor * 10**12
    whole = int(scaled + Fraction(1, 2))
    return Decimal(whole if dividend >= 0 else -whole).scaleb(-12, Context(prec=100))


async def listed(metering: Any, asked: pb.UsageQuery) -> list[usage_event_pb2.UsageEvent]:  # Any: a stub
    page = await metering.ListEvents(pb.ListEventsRequest(query=asked, page_size=1_000))
    assert not page.next_page_token
    events: list[usage_event_pb2.UsageEvent] = list(page.events)
    return events
