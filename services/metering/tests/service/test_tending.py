"""The leaf that is being written stays readable, and those who write do not wait for that."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from common.testing import Suite
from metering.log import leaves, owner, tending
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from services.metering.tests.service.test_log import columns, sealed, stored

pytestmark = pytest.mark.own_services


@asynccontextmanager
async def connected(suite: Suite) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


async def indexed(connection: asyncpg.Connection) -> None:
    """Wait until the first leaf is found by stream."""
    for _ in range(500):
        if await leaves.is_indexed(connection, 1):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the leaf gets no index")


async def test_the_open_leaf_has_an_index_while_little_comes_in(suite: Suite) -> None:
    """And goes on being written with it; what is sealed later has it already."""
    await suite.start("metering", leaf_rows=8_000)
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.CreateMeter(pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=meter_pb2.Meter.SUM))
    for n in range(12):
        await metering.IngestEvents(columns([f"{n}-{k:03}" for k in range(500)]))
    async with connected(suite) as connection:
        await indexed(connection)
    for n in range(12, 20):
        assert (await metering.IngestEvents(columns([f"{n}-{k:03}" for k in range(500)]))).accepted_count == 500
    await sealed(suite, 1)
    assert len(await stored(suite)) == 10_000


async def test_who_writes_much_takes_the_index_away_before_writing_on(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else finds a moment in which nothing is written, and writing lasts the longer for the index."""
    monkeypatch.setattr(tending, "BARE_EVENTS", 100)
    monkeypatch.setattr(tending, "BUSY_EVENTS", 400)
    await suite.start("metering", leaf_rows=50_000)
    metering = suite.stub(MeteringServiceStub, "metering")
    await metering.IngestEvents(columns([f"first-{k:03}" for k in range(200)]))
    async with connected(suite) as connection:
        await indexed(connection)
        # Whoever tends the leaf looks once more, and then not again for a minute.
        monkeypatch.setattr(tending, "TEND_SECONDS", 60)
        await asyncio.sleep(0.6)
        await metering.IngestEvents(columns([f"then-{k:03}" for k in range(500)]))
        assert not await leaves.is_indexed(connection, 1)
    assert len(await stored(suite)) == 700


async def test_while_much_comes_in_a_stream_is_found_by_the_pages_of_its_batches(suite: Suite) -> None:
    """Not by all pages of the leaf: the rows of a batch lie in order of their streams, and pages say what they have."""
    await suite.start("metering", leaf_rows=50_000)
    metering = suite.stub(MeteringServiceStub, "metering")
    chance = random.Random(3)
    for n in range(4):
        request = columns([f"{n}-{k:04}" for k in range(1_000)])
        names = [f"customer-{k}" for k in range(100)]
        request.columns.strings[:] = ["source", "kwh", *names]
        request.columns.meters[:] = [1]
        request.columns.customers[:] = [2 + chance.randrange(len(names)) for _ in range(1_000)]
        assert (await metering.IngestEvents(request)).unmatched_count == 1_000
    async with connected(suite) as connection:
        assert await leaves.tell_pages(connection, 1)
        [leaf] = await connection.fetch("SELECT pg_relation_size('leaves.usage_1') / 8192 AS pages")
        await connection.execute("SET enable_seqscan = off; DROP INDEX IF EXISTS leaves.usage_1_stream")
        [[plan]] = await connection.fetch(
            "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM leaves.usage_1 WHERE stream ="
            " (SELECT stream FROM leaves.usage_1 LIMIT 1)"
        )
        scan = json.loads(plan)[0]["Plan"]
    assert scan["Node Type"] == "Bitmap Heap Scan"
    assert scan["Actual Rows"] > 0
    assert 4 <= scan["Lossy Heap Blocks"] <= leaf["pages"] // 3


async def test_full_leaves_wait_for_senders_who_wait_but_not_for_ever(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any wait is too long here, for a minute. Who reads must not pay for that without end."""
    monkeypatch.setattr(owner, "SENDERS_SECONDS", 0)
    monkeypatch.setattr(owner, "CALM_SECONDS", 60)
    await suite.start("metering", leaf_rows=500)
    metering = suite.stub(MeteringServiceStub, "metering")
    for n in range(owner.PUT_OFF_MAX):
        await metering.IngestEvents(columns([f"{n}-{k:03}" for k in range(500)]))
    async with connected(suite) as connection:
        count = "SELECT count(*) FROM usage_leaves WHERE state = $1"
        await asyncio.sleep(1.5 * owner.LOOK_SECONDS)
        assert (await connection.fetchval(count, "FULL"), await connection.fetchval(count, "SEALED")) == (3, 0)
        await metering.IngestEvents(columns([f"more-{k:03}" for k in range(500)]))
        await sealed(suite, 1)
        assert await connection.fetchval(count, "FULL") == 3
        monkeypatch.setattr(owner, "SENDERS_SECONDS", 60)
        await sealed(suite, owner.PUT_OFF_MAX + 1)
