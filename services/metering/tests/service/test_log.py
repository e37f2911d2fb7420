"""Every usage event is stored once, for ever: across forms, restarts, leaves, and owners of the log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import asyncpg
import numpy as np
import pytest
from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.db import Database
from common.period import Period
from common.telemetry import Telemetry
from common.testing import SANDBOX_START, Suite, refused
from metering.domain.errors import IngestMoving, IngestOverloaded
from metering.log import Batch, Log, leaves, shard
from metering.log.batch import as_keys
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import DimensionSet, EventColumns, EventResult, FlatEvent, UsageEvent
from services.metering.tests.domain.test_memory import bits_of_one_block

pytestmark = pytest.mark.own_services

ACCEPTED, DUPLICATE = EventResult.ACCEPTED, EventResult.DUPLICATE
REJECTED, UNMATCHED = EventResult.REJECTED, EventResult.UNMATCHED
LEAF_ROWS: Final = 1_000
SELLER: Final = "sel_01h455vb4pex5vsknk084sn02q"


def columns(ids: Sequence[str], *, meter: str = "kwh", units: int = 1) -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(
        columns=EventColumns(
            strings=["source", "customer", meter],
            ids="".join(ids).encode(),
            id_lengths=[len(each.encode()) for each in ids],
            sources=[0],
            customers=[1],
            meters=[2],
            times_micros=[int(SANDBOX_START.timestamp()) * 1_000_000],
            units=[units],
        )
    )


def outcomes(response: pb.IngestEventsResponse) -> list[EventResult.Outcome.ValueType]:
    return [each.outcome for each in response.results]


async def stored(suite: Suite, what: str = "event_id", **values: object) -> list[Any]:  # Any: one column
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        rows = await connection.fetch(f"SELECT {what} FROM usage_events ORDER BY position", *values.values())
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def sealed(suite: Suite, count: int) -> None:
    """Wait until so many leaves have their indexes."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        for _ in range(500):
            if await connection.fetchval("SELECT count(*) FROM usage_leaves WHERE state = 'SEALED'") >= count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the leaves get no indexes")
    finally:
        await connection.close()


# Three forms, one meaning


async def test_the_three_forms_store_the_same(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Also one after the other: what was sent in one form is a duplicate in the others."""
    time = SANDBOX_START - timedelta(microseconds=1)
    micros = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    row = UsageEvent(
        id="é-1", source="s", customer="c", meter="kwh", time=wire.timestamp(time),
        value=DecimalPb(value="-12.345"), dimensions={"region": "eu", "tier": "ä"},
    )  # fmt: skip
    flat = FlatEvent(
        id="é-2", source="s", customer="c", meter="kwh", time_micros=micros, units=-12345, decimal_places=3,
        dimensions=["tier", "ä", "region", "eu"],
    )  # fmt: skip
    packed = EventColumns(
        strings=["kwh", "c", "s"], ids="é-3".encode(), id_lengths=[4], sources=[2], customers=[1], meters=[0],
        times_micros=[micros], units=[-12345], decimal_places=3,
        dimension_sets=[DimensionSet(), DimensionSet(dimensions={"region": "eu", "tier": "ä"})], dimensions=[2],
    )  # fmt: skip
    requests = [
        pb.IngestEventsRequest(events=[row]),
        pb.IngestEventsRequest(flat_events=[flat]),
        pb.IngestEventsRequest(columns=packed),
    ]
    for request in requests:
        assert outcomes(await metering.IngestEvents(request)) == [ACCEPTED]
    assert await stored(suite) == ["é-1", "é-2", "é-3"]
    what = "(source, customer, meter, time, value, dimensions::text)::text"
    assert len(set(await stored(suite, what))) == 1
    assert await stored(suite, "value") == [Decimal("-12.345")] * 3
    again = FlatEvent(id="é-1", source="s", customer="c", meter="kwh", time_micros=micros)
    assert outcomes(await metering.IngestEvents(pb.IngestEventsRequest(flat_events=[again]))) == [DUPLICATE]


async def test_every_value_is_stored_as_it_is(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Numbers of every size, with up to twelve decimals, in every form that can tell them."""
    chance = random.Random(7)
    numbers = [Decimal(0), Decimal("0.000000000001"), Decimal("-0.5"), Decimal(9999), Decimal(10_000), Decimal("1E+25")]
    for _ in range(300):
        digits, decimals = chance.randint(1, 38), chance.randint(0, 12)
        number = Decimal(chance.randrange(10**digits)).scaleb(-decimals)
        if number < 10**26:
            numbers.append(number if chance.random() < 0.5 else -number)
    events = [event(f"row-{n}", f"{number:f}") for n, number in enumerate(numbers)]
    await metering.IngestEvents(pb.IngestEventsRequest(events=events))
    assert await stored(suite, "value") == numbers
    ends = [-(2**63), 2**63 - 1, 0, 1, -1, *(chance.randrange(-(2**63), 2**63) for _ in range(200))]
    for decimals in (0, 1, 4, 11, 12):
        packed = EventColumns(
            strings=["s", "c", "kwh"], ids="".join(f"{decimals:02}{n:04}" for n in range(len(ends))).encode(),
            id_lengths=[6], sources=[0], customers=[1], meters=[2], times_micros=[1_000_000], units=ends,
            decimal_places=decimals,
        )  # fmt: skip
        await metering.IngestEvents(pb.IngestEventsRequest(columns=packed))
        assert (await stored(suite, "value"))[-len(ends) :] == [Decimal(each).scaleb(-decimals) for each in ends]


async def test_only_exceptions_are_told_where_only_they_are_asked_for(metering: Any, kwh: meter_pb2.Meter) -> None:
    """With the place of each in the request: what is not there was accepted."""
    request = columns(["a", "b", "", "a", "c"])
    request.exceptions_only = True
    answer = await metering.IngestEvents(request)
    assert [(each.index, each.id, each.outcome) for each in answer.results] == [(2, "", REJECTED), (3, "a", DUPLICATE)]
    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (3, 1, 1)


async def test_what_no_meter_counts_is_kept_and_counted_later(metering: Any, kwh: meter_pb2.Meter) -> None:
    """A misspelt meter is told at once, and nothing is lost: it counts once there is a meter of that code."""
    sent = columns(["a", "b"], meter="gas", units=3)
    answer = await metering.IngestEvents(sent)
    assert [(each.outcome, each.reason, each.field) for each in answer.results] == [
        (UNMATCHED, "UNKNOWN_METER", "meter")
    ] * 2
    assert (answer.accepted_count, answer.unmatched_count) == (0, 2)
    assert outcomes(await metering.IngestEvents(sent)) == [DUPLICATE] * 2
    await metering.CreateMeter(pb.CreateMeterRequest(code="gas", display_name="Gas", aggregation=meter_pb2.Meter.SUM))
    query = pb.UsageQuery(
        customer_id="cus_01h455vb4pex5vsknk084sn02q", external_id="customer", meter="gas", period=_year()
    )
    assert (await metering.QueryUsage(pb.QueryUsageRequest(query=query))).quantity.value == "6"
    assert outcomes(await metering.IngestEvents(columns(["c"], meter="gas"))) == [ACCEPTED]


BROKEN = [
    ("a column is too short", {"times_micros": [1, 1]}, "columns.times_micros"),
    ("a column is missing", {"sources": []}, "columns.sources"),
    ("the ids are cut off", {"ids": b"abcd"}, "columns.ids"),
    ("a string that there is not", {"customers": [3]}, "columns.customers"),
    ("dimensions that there are not", {"dimensions": [1]}, "columns.dimensions"),
    ("too many decimals", {"decimal_places": 13}, "columns.decimal_places"),
]


@pytest.mark.parametrize(("what", "change", "field"), BROKEN, ids=[what for what, *_ in BROKEN])
async def test_columns_that_do_not_fit_are_refused_whole(
    metering: Any, kwh: meter_pb2.Meter, what: str, change: dict[str, Any], field: str
) -> None:
    """Nobody can say which event is at fault where columns do not fit together; nothing of them is stored."""
    request = columns(["a", "b", "c"])
    for name, value in change.items():
        request.columns.ClearField(name)  # type: ignore[arg-type] # one of its fields
        if isinstance(value, list):
            getattr(request.columns, name).extend(value)
        else:
            setattr(request.columns, name, value)
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.IngestEvents(request)
    assert refusal.field == field, what


async def test_one_form_at_a_time(metering: Any, kwh: meter_pb2.Meter) -> None:
    """An order between forms that nobody wrote down would be an order all the same."""
    request = columns(["a"])
    request.flat_events.add(id="b")
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.IngestEvents(request)
    assert refusal.field == "columns"


async def test_each_bad_event_of_columns_is_told(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Like those that come one by one: the rest of the columns is stored."""
    request = pb.IngestEventsRequest(
        columns=EventColumns(
            strings=["s", "c", "kwh", "Not A Code", " edge", "x" * 129],
            ids=b"ok" + b"\xff\xfe" + b"\x00\x01" + b"aa" + b"bb" + b"cc" + b"dd" + b"ee" + b"ff" + b" g",
            id_lengths=[2],
            sources=[0, 0, 0, 0, 5, 0, 0, 0, 0, 0],
            customers=[1, 1, 1, 4, 1, 1, 1, 1, 1, 1],
            meters=[2, 2, 2, 2, 2, 3, 2, 2, 2, 2],
            times_micros=[1, 1, 1, 1, 1, 1, 0, -1, 1 << 62, 1],
        )
    )
    answer = await metering.IngestEvents(request)
    assert [(each.outcome, each.field) for each in answer.results] == [
        (ACCEPTED, ""),
        *((REJECTED, field) for field in ("id", "id", "customer", "source", "meter", "time", "time", "time", "id")),
    ]


async def test_a_stream_answers_batch_by_batch_in_order(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Whoever waits for each answer gets it, and whoever does not may have several under way."""
    call = metering.StreamEvents()
    for n in range(3):
        await call.write(pb.StreamEventsRequest(batch=columns([f"one-{n}"])))
        assert outcomes((await call.read()).batch) == [ACCEPTED]
    for n in range(40):
        await call.write(pb.StreamEventsRequest(batch=columns([f"many-{n}", "one-0"])))
    await call.done_writing()
    answers = [each.batch async for each in call]
    assert [[each.id for each in answer.results] for answer in answers] == [[f"many-{n}", "one-0"] for n in range(40)]
    assert all(outcomes(each) == [ACCEPTED, DUPLICATE] for each in answers)
    assert len(await stored(suite)) == 43


async def test_a_stream_ends_with_the_first_batch_that_is_refused(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """With the reason that a single call would give; what was answered before is stored."""
    call = metering.StreamEvents()
    await call.write(pb.StreamEventsRequest(batch=columns(["a"])))
    assert outcomes((await call.read()).batch) == [ACCEPTED]
    await call.write(pb.StreamEventsRequest())
    with refused("INVALID_ARGUMENT") as refusal:
        await call.read()
    assert refusal.field == "events"
    assert await stored(suite) == ["a"]


# For ever


async def test_a_repeat_is_known_after_restarts_and_leaves_and_filters(suite: Suite) -> None:
    """20,000 events in leaves of 1,000, so that there are filters; then every one again, through crashes, also when the
    release before had kept a filter.
    """
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.CreateMeter(pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=meter_pb2.Meter.SUM))
    ids = [f"{n:06}" for n in range(20_000)]
    parts = [ids[n : n + 500] for n in range(0, len(ids), 500)]
    for part in parts:
        assert (await metering.IngestEvents(columns(part))).accepted_count == 500
    await sealed(suite, 18)
    for crash in (False, True, True):
        if crash:
            await keep_as_before(suite)
            await suite.crash("metering")
            await suite.start("metering", leaf_rows=LEAF_ROWS)
            metering = suite.stub(MeteringServiceStub, "metering")
        for part in parts:
            mixed = [*part, *(f"new {crash} {each}"[:10] for each in part[:1])]
            assert (await metering.IngestEvents(columns(mixed))).duplicate_count >= 500
    assert (await stored(suite))[:20_000] == ids
    assert await stored(suite, "position") == [*range(1, 1 + len(await stored(suite)))]


async def keep_as_before(suite: Suite) -> None:
    async with suite.running["metering"].database.session() as connection:
        rows = await connection.fetch("SELECT key FROM usage_log JOIN usage_leaves USING (leaf) WHERE generation = 0")
        bits = bits_of_one_block(as_keys([row["key"].bytes for row in rows]), keys_max=len(rows))
        changed = await connection.execute(
            "UPDATE usage_filters SET blocks = 1, bits = $1 WHERE generation = 0 AND piece = 0", bits
        )
        assert changed == "UPDATE 1"


async def test_no_leaf_is_begun_twice(suite: Suite) -> None:
    """Two look for the next leaf: who fills one, and who prepares one ahead. They must never come to the same: its keys
    would be forgotten, and with them that its events had been stored."""
    ready_leaf = leaves.ready_leaf

    async def slow(connection: asyncpg.Connection, number: int) -> int:
        found = await ready_leaf(connection, number)
        await asyncio.sleep(0.02)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaves, "ready_leaf", slow)
        await suite.start("metering", leaf_rows=10)
        metering = suite.stub(MeteringServiceStub, "metering")
        parts = [[f"{n}-{k}" for k in range(10)] for n in range(30)]
        for part in parts:
            await metering.IngestEvents(columns(part))
            assert (await metering.IngestEvents(columns(part))).duplicate_count == 10
        for part in parts:
            assert (await metering.IngestEvents(columns(part))).duplicate_count == 10
        await suite.stop("metering")
    assert await stored(suite) == [each for part in parts for each in part]


async def test_queries_see_every_leaf(suite: Suite) -> None:
    """Whether an event is in a leaf with indexes or in the one that is being written makes no difference."""
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.CreateMeter(pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=meter_pb2.Meter.SUM))
    for n in range(7):
        await metering.IngestEvents(columns([f"{n}-{k:04}" for k in range(500)], units=2))
    await sealed(suite, 2)
    query = pb.UsageQuery(
        customer_id="cus_01h455vb4pex5vsknk084sn02q", external_id="customer", meter="kwh", period=_year()
    )
    found = await metering.QueryUsage(pb.QueryUsageRequest(query=query))
    assert (found.quantity.value, found.event_count, found.through_position) == ("7000", 3_500, 3_500)
    listed = await metering.ListEvents(pb.ListEventsRequest(query=query, page_size=1000))
    assert len(listed.events) == 1_000


# One owner at a time


@asynccontextmanager
async def replica(suite: Suite) -> AsyncIterator[Log]:
    """The log as another replica has it."""
    database = Database(suite.urls["metering"], service="metering")
    log = Log(database, leaf_rows=LEAF_ROWS, telemetry=Telemetry("metering"))
    running = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        log.stop()
        await running
        await database.close()


def batch(ids: Sequence[str], seller_id: str = SELLER) -> Batch:
    ones = np.ones(len(ids), dtype=np.int64)
    return Batch(
        seller_id=seller_id,  # type: ignore[arg-type] # a new type of text
        time=SANDBOX_START,
        traceparent="",
        ids=[each.encode() for each in ids],
        strings=["s", "c", "kwh"],
        sources=ones * 0,
        customers=ones,
        meters=ones * 2,
        times=ones,
        units=ones,
        decimals=ones * 0,
        wide={},
        dimension_sets=[],
        dimensions=ones * 0,
    )


async def test_another_replica_takes_over_when_the_owner_is_gone(suite: Suite, metering: Any) -> None:
    """And knows what the first one stored; meanwhile it refuses rather than guess."""
    await metering.IngestEvents(columns(["a", "b"]))
    async with replica(suite) as other:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shard, "OWNER_SECONDS_MAX", 0.2)
            with pytest.raises(IngestMoving):
                await other.append(batch(["c"]))
        await suite.stop("metering")
        found = await other.append(batch(["b", "c"], suite.seller))
    assert found.fresh is None, "another source"
    assert await stored(suite) == ["a", "b", "b", "c"]


async def test_an_owner_that_was_fenced_stores_nothing_more(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Its connection and its memory are still there: only the epoch tells that it is not the owner any more."""
    await metering.IngestEvents(columns(["a"]))
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("UPDATE shards SET epoch = epoch + 1")
    finally:
        await connection.close()
    with refused("INGEST_MOVING"):
        await metering.IngestEvents(columns(["b"]))
    # It fences itself and reads the log anew; what was refused may be sent again.
    assert outcomes(await metering.IngestEvents(columns(["a", "b"]))) == [DUPLICATE, ACCEPTED]
    assert await stored(suite) == ["a", "b"]


async def test_a_lost_connection_costs_no_event_and_doubles_none(suite: Suite, metering: Any) -> None:
    """PostgreSQL ends all connections again and again while two senders send the same, each until it is answered."""
    ids = [f"{n:05}" for n in range(4_000)]
    parts = [ids[n : n + 50] for n in range(0, len(ids), 50)]
    accepted: list[int] = []

    async def send(order: Iterator[list[str]]) -> None:
        for part in order:
            while True:
                try:
                    answer = await metering.IngestEvents(columns(part))
                except Exception:
                    await asyncio.sleep(0.05)
                    continue
                accepted.append(answer.accepted_count)
                break

    async def strike() -> None:
        admin = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
        try:
            for _ in range(8):
                await asyncio.sleep(0.1)
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND backend_type = 'client backend'"
                )
        finally:
            await admin.close()

    async with asyncio.timeout(60):
        await asyncio.gather(send(iter(parts)), send(iter(parts[::-1])), strike())
    assert sorted(await stored(suite)) == ids
    assert sum(accepted) <= len(ids)
    assert await stored(suite, "position") == [*range(1, 1 + len(ids))]


async def test_too_much_is_refused_before_it_is_taken(suite: Suite, metering: Any) -> None:
    """And one seller who sends too much leaves room for the others."""
    await suite.stop("metering")
    async with replica(suite) as log:
        await log.append(batch(["first"]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shard, "WAITING_EVENTS_MAX", 100)
            many = [asyncio.create_task(log.append(batch([f"{n}-{k}" for k in range(10)]))) for n in range(6)]
            other = asyncio.create_task(log.append(batch([f"o{k}" for k in range(10)], SELLER[:-1] + "r")))
            found = await asyncio.gather(*many, return_exceptions=True)
            assert [type(each) for each in found].count(IngestOverloaded) == 1
            assert (await other).fresh is None


def event(event_id: str, value: str) -> UsageEvent:
    return UsageEvent(
        id=event_id, source="s", customer="c", meter="kwh", time=wire.timestamp(SANDBOX_START),
        value=DecimalPb(value=value),
    )  # fmt: skip


def _year() -> Any:  # Any: an interval of google.type
    return wire.interval(Period(SANDBOX_START - timedelta(days=365), SANDBOX_START + timedelta(days=1)))
