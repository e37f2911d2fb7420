"""Usage through the door: ingested exactly once, counted exactly, whatever is sent and whatever breaks."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb

ANNA = ids.mint("cus", SANDBOX_START)
DECEMBER = Period(datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
HOUR = timedelta(hours=1)
ACCEPTED, DUPLICATE, REJECTED = 1, 2, 3
TRACEPARENT = "00-{:032x}-00000000000000aa-01"


def event(event_id: str, value: str = "", **changes: Any) -> usage_event_pb2.UsageEvent:  # Any: fields of the message
    fields: dict[str, Any] = {
        "id": event_id,
        "source": "meter-1",
        "customer": ANNA,
        "meter": "kwh",
        "time": wire.timestamp(DECEMBER.start),
        "value": decimal_pb2.Decimal(value=value) if value else None,
    }
    return usage_event_pb2.UsageEvent(**(fields | changes))


def batch(*events: usage_event_pb2.UsageEvent) -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(events=events)


def query(
    period: Period = DECEMBER,
    *,
    customer_id: str = ANNA,
    meter: str = "kwh",
    external_id: str = "",
    names: Sequence[str] = (),
) -> pb.UsageQuery:
    return pb.UsageQuery(
        customer_id=customer_id, external_id=external_id, meter=meter, period=wire.interval(period), names=names
    )


async def usage(metering: Any, asked: pb.UsageQuery | None = None) -> usage_event_pb2.Usage:  # Any: a stub
    answer: usage_event_pb2.Usage = await metering.QueryUsage(pb.QueryUsageRequest(query=asked or query()))
    return answer


def outcomes(answer: pb.IngestEventsResponse) -> list[int]:
    return [result.outcome for result in answer.results]


async def rows(suite: Suite, *, customers: Sequence[str] = (ANNA,)) -> list[asyncpg.Record]:
    """What is stored, read past the service."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        found: list[asyncpg.Record] = await connection.fetch(
            "SELECT source, event_id, value FROM usage_events WHERE customer = ANY ($1)", list(customers)
        )
        return found
    finally:
        await connection.close()


def digest(found: Sequence[asyncpg.Record]) -> str:
    """The definition again, in another language than the service computes it in."""
    lines = sorted((row["source"], row["event_id"], wire.decimal(row["value"]).value) for row in found)
    return hashlib.sha256("\n".join("\x1f".join(line) for line in lines).encode()).hexdigest()


@pytest.mark.own_services
async def test_usage_is_the_exact_sum_with_its_proof(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """The main job. Neither the order of keys beyond ASCII nor trailing zeros may make a difference to the digest."""
    answer = await metering.IngestEvents(
        batch(
            event("b", "0.10"),
            event("B", "0.20"),
            event("é", "-0.05"),
            event("z", "1e3"),
            event("a", source="Zähler"),
        )
    )
    assert outcomes(answer) == [ACCEPTED] * 5
    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (5, 0, 0)
    found = await usage(metering)
    assert found.quantity.value == "1001.25"
    assert found.event_count == 5
    assert found.digest == digest(await rows(suite))
    assert found.through_position == 5
    assert wire.parse_interval(found.period, field="period") == DECEMBER


async def test_no_usage_is_zero(metering: Any, kwh: meter_pb2.Meter) -> None:
    """A customer who used nothing is billed nothing, with the same kind of proof."""
    found = await usage(metering)
    assert (found.quantity.value, found.event_count, found.through_position) == ("0", 0, 0)
    assert found.digest == hashlib.sha256(b"").hexdigest()
    assert list(found.traceparents) == []


async def test_a_sum_loses_no_digit(metering: Any, kwh: meter_pb2.Meter) -> None:
    """38 digits beside 12 decimals: neither a float nor Python's usual 28 digits would hold it."""
    large, small = "9" * 26, "0.000000000001"
    await metering.IngestEvents(batch(*(event(f"l{n}", large) for n in range(3)), event("s", small)))
    assert (await usage(metering)).quantity.value == f"{3 * Decimal(large):f}{small[1:]}"


async def test_a_count_counts_events(metering: Any) -> None:
    """Whatever their values say."""
    await metering.CreateMeter(
        pb.CreateMeterRequest(code="calls", display_name="Calls", aggregation=meter_pb2.Meter.COUNT)
    )
    await metering.IngestEvents(batch(event("a", "7", meter="calls"), event("b", "-7", meter="calls")))
    assert (await usage(metering, query(meter="calls"))).quantity.value == "2"


async def test_a_period_is_half_open(metering: Any, kwh: meter_pb2.Meter) -> None:
    """An event at midnight belongs to the new period, and to no other."""
    await metering.IngestEvents(
        batch(
            event("before", "1", time=wire.timestamp(DECEMBER.start - timedelta(microseconds=1))),
            event("first", "10", time=wire.timestamp(DECEMBER.start)),
            event("last", "100", time=wire.timestamp(DECEMBER.end - timedelta(microseconds=1))),
            event("after", "1000", time=wire.timestamp(DECEMBER.end)),
        )
    )
    assert (await usage(metering)).quantity.value == "110"
    november = Period(DECEMBER.start - 30 * 24 * HOUR, DECEMBER.start)
    january = Period(DECEMBER.end, DECEMBER.end + 31 * 24 * HOUR)
    assert (await usage(metering, query(november))).quantity.value == "1"
    assert (await usage(metering, query(january))).quantity.value == "1000"


@pytest.mark.own_services
async def test_a_customer_is_counted_under_both_names(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Senders know either our id or the seller's own; nobody else's usage comes in."""
    await metering.IngestEvents(
        batch(event("a", "1"), event("b", "2", customer="anna"), event("c", "4", customer="bob"))
    )
    both = await usage(metering, query(external_id="anna"))
    assert both.quantity.value == "3"
    assert both.digest == digest(await rows(suite, customers=[ANNA, "anna"]))
    assert (await usage(metering)).quantity.value == "1"
    assert (await usage(metering, query(external_id=ANNA))).quantity.value == "1"


@pytest.mark.own_services
async def test_every_name_of_a_customer_counts_and_no_other(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Each event once, though a name is told twice; in one batch each query has as many names as it has."""
    old = ids.mint("cus", SANDBOX_START)
    called = [ANNA, "anna", "crm 17", old, "Анна", "a,b", "{}"]
    await metering.IngestEvents(
        batch(*(event(f"e{n}", str(2**n), customer=name) for n, name in enumerate([*called, "bob", "crm", "17"])))
    )
    twice = query(external_id="anna", names=["anna", old, "crm 17", old, ANNA, "a,b", "{}", "Анна"])
    found = await usage(metering, twice)
    assert (found.quantity.value, found.event_count) == (str(2 ** len(called) - 1), len(called))
    assert found.digest == digest(await rows(suite, customers=called))
    asked = [query(), twice, query(names=["crm 17"]), query(names=[*(f"none {n}" for n in range(199)), "bob"])]
    several = await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=asked))
    assert [each.quantity.value for each in several.usages] == ["1", "127", "5", "129"]
    listed = await metering.ListEvents(pb.ListEventsRequest(query=twice))
    assert sorted(each.id for each in listed.events) == [f"e{n}" for n in range(len(called))]


async def test_a_repeat_is_a_duplicate_whatever_else_it_says(metering: Any, kwh: meter_pb2.Meter) -> None:
    """What was accepted is immutable: neither a correction nor garbage under its identity changes it."""
    assert outcomes(await metering.IngestEvents(batch(event("a", "1"), event("a", "2")))) == [ACCEPTED, DUPLICATE]
    again = batch(event("a", "1"), event("a", "3"), event("a", "x"), event("a", meter="gas"), event("b", "x"))
    answer = await metering.IngestEvents(again)
    assert outcomes(answer) == [DUPLICATE] * 4 + [REJECTED]
    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (0, 4, 1)
    assert all(not result.reason for result in answer.results[:4])
    found = await usage(metering)
    assert (found.quantity.value, found.event_count, found.through_position) == ("1", 1, 1)


async def test_the_same_id_from_another_source_is_another_event(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Devices number their readings each for itself."""
    await metering.IngestEvents(batch(event("1", "1"), event("1", "2", source="meter-2")))
    assert (await usage(metering)).quantity.value == "3"


BAD = [
    (event(""), "INVALID_ARGUMENT", "id"),
    (event("x" * 129), "INVALID_ARGUMENT", "id"),
    (event("nul\x00"), "INVALID_ARGUMENT", "id"),
    (event("a", source=""), "INVALID_ARGUMENT", "source"),
    (event("a", source="unit\x1fseparator"), "INVALID_ARGUMENT", "source"),
    (event("a", customer=""), "INVALID_ARGUMENT", "customer"),
    (event("a", customer="line\nbreak"), "INVALID_ARGUMENT", "customer"),
    (event("a", meter="Not A Code"), "INVALID_ARGUMENT", "meter"),
    (event("a", time=None), "INVALID_ARGUMENT", "time"),
    (event("a", time=wire.timestamp(SANDBOX_START + 25 * HOUR)), "EVENT_IN_FUTURE", "time"),
    (event("a", "many"), "INVALID_ARGUMENT", "value"),
    (event("a", "NaN"), "INVALID_ARGUMENT", "value"),
    (event("a", "1e400"), "INVALID_ARGUMENT", "value"),
    (event("a", "0.0000000000001"), "INVALID_ARGUMENT", "value"),
    (event("a", "1" + "0" * 26), "INVALID_ARGUMENT", "value"),
    (event("a", dimensions={"Region": "eu"}), "INVALID_ARGUMENT", "dimensions"),
    (event("a", dimensions={"region": ""}), "INVALID_ARGUMENT", "dimensions"),
    (event("a", dimensions={"region": "x" * 129}), "INVALID_ARGUMENT", "dimensions"),
    (event("a", dimensions={"region": "line\nbreak"}), "INVALID_ARGUMENT", "dimensions"),
    (event("a", dimensions={f"d{n}": "x" for n in range(17)}), "INVALID_ARGUMENT", "dimensions"),
]


async def test_a_bad_event_harms_no_other(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Every kind of garbage in one batch with good events around it: each is told what is wrong with it."""
    bad = [each for each, _, _ in BAD]
    answer = await metering.IngestEvents(batch(event("good-1", "1"), *bad, event("good-2", "2")))
    assert outcomes(answer) == [ACCEPTED, *[REJECTED] * len(BAD), ACCEPTED]
    told = [(result.id, result.reason, result.field) for result in answer.results[1:-1]]
    assert told == [(each.id[:128], reason, field) for each, reason, field in BAD]
    assert all(result.message for result in answer.results[1:-1])
    assert (await usage(metering)).quantity.value == "3"
    repaired = await metering.IngestEvents(batch(event("a", "4")))
    assert outcomes(repaired) == [ACCEPTED]


async def test_clocks_may_differ_by_a_day(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Measured by the seller's own time, which for a sandbox stands still."""
    day = wire.timestamp(SANDBOX_START + 24 * HOUR)
    later = wire.timestamp(SANDBOX_START + 24 * HOUR + timedelta(seconds=1))
    assert outcomes(await metering.IngestEvents(batch(event("a", time=day), event("b", time=later)))) == [
        ACCEPTED,
        REJECTED,
    ]
    await suite.travel(SANDBOX_START + HOUR)
    assert outcomes(await metering.IngestEvents(batch(event("b", time=later)))) == [ACCEPTED]


@pytest.mark.parametrize("size", [0, 10_001])
async def test_a_batch_has_a_size(metering: Any, kwh: meter_pb2.Meter, size: int) -> None:
    """The only refusal of a whole batch: nothing of it is stored."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await metering.IngestEvents(batch(*(event(f"e{n}") for n in range(size))))
    assert refusal.field == "events"
    assert (await usage(metering)).event_count == 0


@pytest.mark.own_services
async def test_the_largest_batch_is_stored_at_once(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """10,000 usage events, in a few statements; the proof is that of an independent recount."""
    answer = await metering.IngestEvents(batch(*(event(f"e{n:05}", "0.001") for n in range(10_000))))
    assert answer.accepted_count == 10_000
    found = await usage(metering)
    assert (found.quantity.value, found.event_count, found.through_position) == ("10", 10_000, 10_000)
    assert found.digest == digest(await rows(suite))


async def test_twins_at_once_count_once(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Two senders repeat each other's batches at the same moment, in opposite order: nobody waits for ever."""
    for n in range(5):
        events = [event(f"{n}-{k}", "1") for k in range(2_000)]
        first, second = await asyncio.gather(
            metering.IngestEvents(batch(*events)), metering.IngestEvents(batch(*reversed(events)))
        )
        assert first.accepted_count + second.accepted_count == 2_000
        assert first.duplicate_count + second.duplicate_count == 2_000
    found = await usage(metering)
    assert (found.quantity.value, found.event_count) == ("10000", 10_000)


async def test_a_position_says_what_was_considered(metering: Any, kwh: meter_pb2.Meter) -> None:
    """While many ingest at once: every event up to the position is in the quantity, and none beyond it."""

    async def send(sender: int) -> None:
        for n in range(15):
            size = 1 + (sender * 7 + n * 3) % 12
            await metering.IngestEvents(
                batch(*(event(f"{n}-{k}", "1", source=f"sender-{sender}") for k in range(size)))
            )

    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(send(sender)) for sender in range(6)]
        readings = [await usage(metering)]
        while not all(sender.done() for sender in senders):
            readings.append(await usage(metering))
    readings.append(await usage(metering))
    assert [found.through_position for found in readings] == [found.event_count for found in readings]
    counts = [found.event_count for found in readings]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2, "nothing was read in between"


async def test_a_leaf_that_comes_meanwhile_is_not_missed(
    metering: Any, kwh: meter_pb2.Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned when there was no such leaf would count without it, and say that it counted all: it is asked
    anew, and not for ever."""
    await metering.IngestEvents(batch(event("a", "1")))
    assert (await usage(metering)).event_count == 1
    counting = importlib.import_module("metering.store.usages")
    monkeypatch.setattr(counting, "LOOK", counting.LOOK.replace("max(l.leaf)", "max(l.leaf) - 1"))
    with refused("CONCURRENT_UPDATE", grpc.StatusCode.ABORTED):
        await usage(metering)
    monkeypatch.undo()
    assert (await usage(metering)).event_count == 1


async def test_usage_names_the_newest_ingests(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Where the trace of an amount begins: those that contributed, newest first, four at most."""
    for n in range(1, 7):
        meta = (("traceparent", TRACEPARENT.format(n)),)
        customer = "bob" if n == 5 else ANNA
        await metering.IngestEvents(batch(event(f"e{n}", "1", customer=customer)), metadata=meta)
    await metering.IngestEvents(batch(event("e1", "1")), metadata=(("traceparent", TRACEPARENT.format(9)),))
    traces = [int(each.split("-")[1], 16) for each in (await usage(metering)).traceparents]
    assert traces == [6, 4, 3, 2]


@pytest.mark.own_services
async def test_a_sender_that_repeats_until_answered_is_counted_once(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """While connections to the database are cut at any moment, also between a commit and its answer."""
    unanswered = 0

    async def send(n: int) -> None:
        for part in range(10):
            await answered(batch(*(event(f"{n}-{part}-{k}", "0.5") for k in range(10))))

    async def answered(request: pb.IngestEventsRequest) -> None:
        nonlocal unanswered
        for _ in range(200):
            try:
                await metering.IngestEvents(request)
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                unanswered += 1
                await asyncio.sleep(0.01)
        raise AssertionError("never answered")

    admin = await asyncpg.connect(os.environ["SALDO_POSTGRES_URL"])
    try:
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(send(n)) for n in range(20)]
            chance = random.Random(5)
            await asyncio.sleep(0.02)
            for _ in range(40):
                await cut_connections(admin, suite)
                # A shard is owned again a fifth of a second later: sooner there is nothing to break off.
                await asyncio.sleep(chance.uniform(0.2, 0.35))
                if all(sender.done() for sender in senders):
                    break
    finally:
        await admin.close()
    assert unanswered, "no connection was cut while it mattered"
    found = await usage(metering)
    assert (found.quantity.value, found.event_count, found.through_position) == ("1000", 2000, 2000)
    assert found.digest == digest(await rows(suite))


async def cut_connections(admin: asyncpg.Connection, suite: Suite) -> None:
    await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = $1 AND state <> 'idle' AND application_name LIKE 'metering%'",
        suite.urls["metering"].rpartition("/")[2],
    )
