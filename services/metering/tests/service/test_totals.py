"""A quantity without proof is put together of days and events, and is what a full count says."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite
from metering.log import sums
from metering.store import settled
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.corrections_service_pb2 import VoidEventRequest
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import FlatEvent

pytestmark = pytest.mark.own_services

LEAF_ROWS: Final = 400
METERS: Final = {
    "sum": meter_pb2.Meter.SUM,
    "count": meter_pb2.Meter.COUNT,
    "max": meter_pb2.Meter.MAX,
    "min": meter_pb2.Meter.MIN,
}
CUSTOMERS: Final = ("anna", "bert")
FIRST: Final = SANDBOX_START - timedelta(days=8)
DAY: Final = timedelta(days=1)


async def test_days_and_events_make_the_quantity_of_a_full_count(
    suite: Suite, sum_open: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over leaves that are summed, leaves that are not, and the open one; over periods that begin and end anywhere."""
    chance = random.Random(11)
    await suite.start("metering", leaf_rows=LEAF_ROWS, shards=3)
    metering = suite.stub(MeteringServiceStub, "metering")
    for code, aggregation in METERS.items():
        await metering.CreateMeter(pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation))
    for part in range(12):
        # Every other leaf has events of so many days and customers that summing it would make nothing shorter.
        sparse = part % 4 == 3
        request = pb.IngestEventsRequest(flat_events=[event(f"{part}-{n}", chance, sparse) for n in range(300)])
        assert (await metering.IngestEvents(request)).accepted_count == 300
        if part in (1, 4, 5, 8, 10):
            await sum_open()
    await suite.quiet()
    states = await leaves(suite)
    assert {(state, summed) for state, summed in states} >= {("SEALED", True), ("SEALED", False), ("OPEN", False)}
    instants = sorted(
        [FIRST + n * DAY for n in range(10)]
        + [FIRST + timedelta(microseconds=chance.randrange(9 * 86_400 * 10**6)) for _ in range(12)]
    )
    queries = []
    for _ in range(60):
        start, end = sorted(chance.sample(instants, 2))
        queries.append(
            pb.UsageQuery(
                customer_id=ids.mint("cus", SANDBOX_START),
                external_id=chance.choice(CUSTOMERS),
                meter=chance.choice(list(METERS)),
                period=wire.interval(Period(start, end)),
                names=chance.choice([[], list(CUSTOMERS)]),
            )
        )
    full = (await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
    for query in queries:
        query.without_proof = True
    short = (await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
    figures = [(each.quantity.value, each.event_count, each.through_position) for each in short]
    assert figures == [(each.quantity.value, each.event_count, each.through_position) for each in full]
    # Of few streams it is found in another way, and parts of days are remembered.
    monkeypatch.setattr(settled, "EVENTS_MIN", 1)
    for _ in range(2):
        one_by_one = [await metering.QueryUsage(pb.QueryUsageRequest(query=query)) for query in queries]
        assert [(each.quantity.value, each.event_count, each.through_position) for each in one_by_one] == figures
    assert len({quantity for quantity, *_ in figures}) > 10
    assert not any(each.digest or each.traceparents for each in short)
    assert all(each.digest for each in full)


async def test_nothing_is_counted_twice_while_it_is_summed(
    suite: Suite, sum_open: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor not at all: whoever asks meanwhile is told of all that had come, once."""
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.CreateMeter(pb.CreateMeterRequest(code="count", display_name="c", aggregation=METERS["count"]))
    asked = pb.QueryUsageRequest(
        query=pb.UsageQuery(
            customer_id=ids.mint("cus", SANDBOX_START),
            external_id="anna",
            meter="count",
            period=wire.interval(Period(FIRST, FIRST + 8 * DAY)),
            without_proof=True,
        )
    )

    async def ask() -> None:
        for _ in range(9):
            found = await metering.QueryUsage(asked)
            assert found.event_count == found.through_position

    chance = random.Random(5)
    for part in range(9):
        events = [event(f"{part}-{n}", chance, sparse=False) for n in range(110)]
        for each in events:
            each.customer, each.meter = "anna", "count"
        await asyncio.gather(
            metering.IngestEvents(pb.IngestEventsRequest(flat_events=events)), ask(), sum_open(), ask(), sum_open()
        )
    assert (await metering.QueryUsage(asked)).event_count == 990
    # Also when a leaf is summed in part between the look at the leaves and the count.
    counting = importlib.import_module("metering.store.totals")
    marked = "ARRAY(SELECT s.leaf FROM usage_summed s WHERE s.seller_id = $1 ORDER BY s.leaf)"
    assert marked in counting._PLACES
    monkeypatch.setattr(counting, "_PLACES", counting._PLACES.replace(marked, "'{}'::integer[]"))
    assert await sum_open() == 0
    assert (await metering.QueryUsage(asked)).event_count == 990


async def test_what_is_remembered_of_a_day_is_what_is_counted(
    suite: Suite, sum_open: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes late, is summed, voided or taken back since, and however many hours have gone by."""
    monkeypatch.setattr(settled, "EVENTS_MIN", 1)
    monkeypatch.setattr(settled, "REMEMBERED_MAX", 5)
    await suite.start("metering", leaf_rows=1_000)
    metering = suite.stub(MeteringServiceStub, "metering")
    for code, aggregation in METERS.items():
        await metering.CreateMeter(pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation))
    chance = random.Random(12)
    count = 0

    async def send() -> None:
        """To the first day, which is had in part, to the whole one after it, and to the one that is under way."""
        nonlocal count
        events = [event(f"{count + n}", chance, sparse=False) for n in range(150)]
        for each in events:
            each.time_micros += chance.randrange(2) * DAY // timedelta(microseconds=1)
        assert (await metering.IngestEvents(pb.IngestEventsRequest(flat_events=events))).accepted_count == 150
        count += 150

    async def check(hour: int) -> None:
        """What is asked for the first time and then again is what a full count says."""
        queries = [
            pb.UsageQuery(
                customer_id=ids.mint("cus", SANDBOX_START),
                external_id="anna",
                meter=meter,
                period=wire.interval(Period(FIRST + start, FIRST + 2 * DAY + timedelta(hours=hour, minutes=40))),
            )
            for meter, start in itertools.product(("sum", "min"), (timedelta(hours=5), timedelta(hours=9, minutes=7)))
        ]
        full = (await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
        for query in queries:
            query.without_proof = True
        for _ in range(3):
            short = (await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
            assert [each.quantity.value for each in short] == [each.quantity.value for each in full]
            assert [each.event_count for each in short] == [each.event_count for each in full]

    for part in range(10):
        await send()
        await check(min(part, 4))
        await send()
        if part < 3:
            await sum_open()
        await check(min(part, 4))
        await check(min(part + 1, 4))
    assert max(len(each) for each in settled._remembered.values()) == 5
    # Also what is summed between the look at the leaves and the count.
    counting = importlib.import_module("metering.store.totals")
    through = counting._SEEN["through"]
    assert through in counting._PLACES
    with monkeypatch.context() as patched:
        patched.setattr(counting, "_PLACES", counting._PLACES.replace(through, "'{0}'::bigint[]"))
        for _ in range(4):
            await send()
            await sum_open()
            await check(4)
    # Each connection remembers by itself: whichever is asked after the voids shall know what was before.
    await asyncio.gather(*(check(4) for _ in range(8)))
    corrections = suite.stub(CorrectionServiceStub, "metering")
    for n in range(20):
        await corrections.VoidEvent(VoidEventRequest(source="s", id=f"{n}", reason="never happened"))
    await check(4)


async def test_what_comes_first_of_a_customer_is_counted_or_is_not_there_yet(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it comes between the look at the names and the count."""
    await suite.start("metering")
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.CreateMeter(pb.CreateMeterRequest(code="count", display_name="c", aggregation=METERS["count"]))
    chance = random.Random(6)
    events = [event(f"{n}", chance, sparse=False) for n in range(10)]
    for each in events:
        each.customer, each.meter = "anna", "count"
    await metering.IngestEvents(pb.IngestEventsRequest(flat_events=events))
    counting = importlib.import_module("metering.store.totals")
    seen = counting._PLACES
    named = seen[seen.index("(SELECT n.stream") : seen.index("\n        FROM unnest")]
    at_first = seen.replace(named, "NULL::bigint").replace(f"{counting._POSITION} AS position", "0::bigint AS position")
    assert at_first.count("NULL::bigint") == at_first.count("0::bigint AS position") == 1
    monkeypatch.setattr(counting, "_PLACES", at_first)
    query = pb.UsageQuery(
        customer_id=ids.mint("cus", SANDBOX_START),
        external_id="anna",
        meter="count",
        period=wire.interval(Period(FIRST, FIRST + 8 * DAY)),
        without_proof=True,
    )
    found = await metering.QueryUsage(pb.QueryUsageRequest(query=query))
    assert (found.event_count, found.through_position) == (10, 10)


@pytest.mark.parametrize("is_known", [True, False], ids=["by who wrote it", "by who came after"])
async def test_a_full_leaf_comes_to_what_is_in_it(
    suite: Suite, sum_open: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """Whoever wrote a leaf knows it by days without reading it again; also what is left of one that is summed in part.
    A replica that takes over in between reads it.
    """
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    metering = suite.stub(MeteringServiceStub, "metering")
    chance = random.Random(7)

    async def send(part: int) -> None:
        # Some lie before 2000, where days are counted from, and have more decimals than others.
        events = [event(f"{part}-{n}", chance, sparse=False) for n in range(150)]
        for n, each in enumerate(events[:20]):
            each.time_micros -= 40 * 365 * 86_400 * 10**6
            each.decimal_places = n % 7
        assert (await metering.IngestEvents(pb.IngestEventsRequest(flat_events=events))).unmatched_count == 150

    await send(0)
    assert await sum_open() == 0
    await send(1)
    if not is_known:
        await suite.stop("metering")
        await suite.start("metering", leaf_rows=LEAF_ROWS)
    read: list[int] = []
    rest = sums._sum_rest

    async def sum_rest(connection: asyncpg.Connection, leaf: int, *, is_begun: bool) -> tuple[int, int]:
        read.append(leaf)
        return await rest(connection, leaf, is_begun=is_begun)

    monkeypatch.setattr(sums, "_sum_rest", sum_rest)
    await send(2)
    await send(3)
    assert ("SEALED", True) in await leaves(suite)
    assert read == ([] if is_known else [1])
    async with suite.running["metering"].database.session() as connection:
        found = await connection.fetch(_DAYS)
        assert found == await connection.fetch(_ROWS)
    assert len(found) > 20


_DAYS: Final = """
SELECT seller_id, stream, day, event_count, value_sum, value_min, value_max FROM usage_days
WHERE event_count > 0 ORDER BY stream, day
"""
_ROWS: Final = """
SELECT seller_id, stream, (time AT TIME ZONE 'UTC')::date AS day, count(*), sum(value), min(value), max(value)
FROM usage_log WHERE leaf = 1 GROUP BY seller_id, stream, day ORDER BY stream, day
"""


def event(event_id: str, chance: random.Random, sparse: bool) -> FlatEvent:
    time = FIRST + timedelta(microseconds=chance.randrange(8 * 86_400 * 10**6))
    if not sparse:
        time = datetime.combine(FIRST.date() + DAY * chance.randrange(2), time.time(), UTC)
    return FlatEvent(
        id=event_id,
        source="s",
        customer=f"customer-{chance.randrange(1000)}" if sparse else chance.choice(CUSTOMERS),
        meter=chance.choice(list(METERS)),
        time_micros=(time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
        units=chance.randrange(-1_000, 100_000),
        decimal_places=3,
    )


async def leaves(suite: Suite) -> list[Any]:  # Any: a row
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        rows: list[Any] = []
        for _ in range(200):
            rows = await connection.fetch("SELECT state, is_summed FROM usage_leaves ORDER BY leaf")
            if not any(row["state"] == "FULL" for row in rows):
                break
            await asyncio.sleep(0.05)
        return rows
    finally:
        await connection.close()
