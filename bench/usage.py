"""How fast metering says what was used, out of millions of usage events: `make bench T=usage`, or T="usage --events N".

Usage events of 5,000 customers on three meters, spread over a month in order of time, are stored by the service.
Then quantities without proof are asked for: of one customer and meter for the month, one after the other; and of
thousands of pairs in batches, by two callers. The ceiling of the first is the same question to a table that has the
answers ready, over one connection; that of the second is the same, a thousand at a time. Every answer is compared with
what one scan of all events says. With `--ingest`, how fast others are stored when these are there, beside a database
that is empty.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import uvloop

from bench.figures import Figure, median_ratio, percentile_ms
from bench.ingest import EVENTS_UNDER_WAY, Scene, measure, metering_scene, send
from bench.senders import DECIMAL_PLACES, METERS, MICROS, MONTH_SECONDS, SOURCE, customer_of
from common import clock, ids, wire
from common.period import Period
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import EventColumns

EVENTS: Final = 10_000_000
BATCH: Final = 5_000
CUSTOMERS: Final = 5_000
FIRST_CUSTOMER: Final = 500_000
"""`bench.ingest` has others."""
PAIRS: Final = CUSTOMERS * len(METERS)
ONE_BY_ONE: Final = 2_000
PER_CALL: Final = 1_000
ROUNDS: Final = 3
CALLERS: Final = 2
INGESTED: Final = 1_000_000
OF_EMPTY_GOAL: Final = 0.8
ONE_GOAL_MS: Final = 5
PAIRS_GOAL: Final = 20_000
REST_SECONDS: Final = 10
RESTLESS_SECONDS_MAX: Final = 300

Pair = tuple[int, int]


async def main(events: int, *, ingest: bool) -> None:
    empty: Figure | None = None
    if ingest:
        async with metering_scene() as (scene, stub):
            empty = await measure(scene, stub, "columns", INGESTED)
            print(empty.line(), flush=True)
    async with metering_scene() as (scene, stub):
        start = datetime.combine((clock.wall() - timedelta(days=32)).date(), datetime.min.time(), UTC)
        began = time.perf_counter()
        chance = np.random.default_rng(7)
        await send(scene, requests(events, start, chance), callers=EVENTS_UNDER_WAY // BATCH)
        seconds = time.perf_counter() - began
        await _at_rest(scene)
        month = Period(start, start + timedelta(seconds=MONTH_SECONDS))
        truth = await scan(scene)
        more: dict[str, object] = {"events": events, "stored_per_second": round(events / seconds), "pairs": len(truth)}
        print((await one_by_one(scene, stub, month, truth, more)).line(), flush=True)
        print((await in_batches(scene, stub, month, truth, more)).line(), flush=True)
        if empty is not None:
            full = await measure(scene, stub, "columns", INGESTED)
            full.more["of_empty"], full.more["goal_of_empty"] = round(full.value / empty.value, 2), OF_EMPTY_GOAL
            print(full.line(), flush=True)


def requests(events: int, start: datetime, chance: np.random.Generator) -> Iterator[bytes]:
    """In order of time over the month; the ids are numbers."""
    strings = [SOURCE, *METERS, *(customer_of(FIRST_CUSTOMER + n) for n in range(CUSTOMERS))]
    first = int(start.timestamp()) * MICROS
    step = MONTH_SECONDS * MICROS // events
    for number in range(0, events, BATCH):
        size = min(BATCH, events - number)
        columns = EventColumns(
            strings=strings,
            ids=b"".join(b"%020d" % n for n in range(number, number + size)),
            id_lengths=[20],
            sources=[0],
            customers=(1 + len(METERS) + chance.integers(0, CUSTOMERS, size)).tolist(),
            meters=(1 + chance.integers(0, len(METERS), size)).tolist(),
            times_micros=range(first + number * step, first + (number + size) * step, step),
            units=chance.integers(1, 10_000, size).tolist(),
            decimal_places=DECIMAL_PLACES,
        )
        yield pb.IngestEventsRequest(columns=columns, exceptions_only=True).SerializeToString()


async def scan(scene: Scene) -> dict[Pair, Decimal]:
    """What one look at every event says."""
    rows = await scene.connection.fetch(
        "SELECT n.customer, n.meter, sum(e.value) AS quantity FROM usage_log e JOIN usage_streams n USING (stream)"
        " GROUP BY n.customer, n.meter"
    )
    return {(int(row["customer"][-6:]), METERS.index(row["meter"])): row["quantity"] for row in rows}


async def one_by_one(
    scene: Scene, stub: Any, month: Period, truth: dict[Pair, Decimal], more: dict[str, object]
) -> Figure:
    chosen = random.Random(1).choices(sorted(truth), k=ONE_BY_ONE)
    seconds, right = [], True
    for pair in chosen:
        request = pb.QueryUsageRequest(query=query(pair, month))
        began = time.perf_counter()
        found = await stub.QueryUsage(request, metadata=scene.metadata)
        seconds.append(time.perf_counter() - began)
        right &= Decimal(found.quantity.value) == truth[pair]
    ready = await _ready(scene, truth)
    bare = []
    for pair in chosen:
        began = time.perf_counter()
        await ready([pair])
        bare.append(time.perf_counter() - began)
    return Figure(
        bench="usage/one",
        value=1 / statistics.mean(seconds),
        unit="queries/s",
        ceiling=1 / statistics.mean(bare),
        ratio=statistics.mean(bare) / statistics.mean(seconds),
        p50_ms=percentile_ms(seconds, 0.50),
        p99_ms=percentile_ms(seconds, 0.99),
        checked=right,
        more={"goal_p99_ms": ONE_GOAL_MS, **more, "load": round(os.getloadavg()[0], 1)},
    )


async def in_batches(
    scene: Scene, stub: Any, month: Period, truth: dict[Pair, Decimal], more: dict[str, object]
) -> Figure:
    pairs = sorted(truth)
    random.Random(2).shuffle(pairs)
    calls = [pairs[n : n + PER_CALL] for n in range(0, len(pairs), PER_CALL)]
    ready = await _ready(scene, truth)
    rates, ceilings, seconds, right = [], [], [], True
    for _ in range(ROUNDS):
        waiting = iter(calls)

        async def caller(waiting: Iterator[Sequence[Pair]] = waiting) -> bool:
            agree = True
            for part in waiting:
                request = pb.BatchQueryUsageRequest(queries=[query(pair, month) for pair in part])
                began = time.perf_counter()
                found = await stub.BatchQueryUsage(request, metadata=scene.metadata)
                seconds.append(time.perf_counter() - began)
                agree &= [Decimal(each.quantity.value) for each in found.usages] == [truth[pair] for pair in part]
            return agree

        began = time.perf_counter()
        right &= all(await asyncio.gather(*(caller() for _ in range(CALLERS))))
        rates.append(len(pairs) / (time.perf_counter() - began))
        began = time.perf_counter()
        for part in calls:
            await ready(part)
        ceilings.append(len(pairs) / (time.perf_counter() - began))
    return Figure(
        bench="usage/batches",
        value=statistics.median(rates),
        unit="pairs/s",
        ceiling=statistics.median(ceilings),
        ratio=median_ratio(rates, ceilings),
        p50_ms=percentile_ms(seconds, 0.50),
        p99_ms=percentile_ms(seconds, 0.99),
        checked=right,
        more={"goal": PAIRS_GOAL, "rounds": [round(rate) for rate in rates], **more},
    )


def query(pair: Pair, month: Period) -> pb.UsageQuery:
    customer, meter = pair
    return pb.UsageQuery(
        customer_id=CUSTOMER,
        external_id=customer_of(customer),
        meter=METERS[meter],
        period=wire.interval(month),
        without_proof=True,
    )


async def _ready(scene: Scene, truth: dict[Pair, Decimal]) -> Any:  # Any: an async function of pairs
    """The answers in a table, and how they are read from it."""
    await scene.connection.execute(
        "DROP TABLE IF EXISTS ready; CREATE TABLE ready (pair integer PRIMARY KEY, quantity numeric)"
    )
    rows = [(customer * len(METERS) + meter, quantity) for (customer, meter), quantity in truth.items()]
    await scene.connection.copy_records_to_table("ready", records=rows)
    await scene.connection.execute("ANALYZE ready")
    read = await scene.connection.prepare("SELECT pair, quantity FROM ready WHERE pair = ANY ($1::integer[])")

    async def look(pairs: Sequence[Pair]) -> None:
        found = await read.fetch([customer * len(METERS) + meter for customer, meter in pairs])
        if len(found) != len(pairs):
            raise RuntimeError("an answer is missing")

    return look


async def _at_rest(scene: Scene) -> None:
    """Wait until the database has nothing left to do with what came: no indexes to make, nothing to sum or to sweep.
    How soon is counted what has just come is what `bench.freshness` asks.
    """
    quiet = 0
    for _ in range(RESTLESS_SECONDS_MAX):
        quiet = 0 if await scene.connection.fetchval(_IS_RESTLESS) else quiet + 1
        if quiet == REST_SECONDS:
            return
        await asyncio.sleep(1)
    raise RuntimeError("the database does not come to rest")


_IS_RESTLESS: Final = """
SELECT EXISTS (SELECT FROM usage_leaves WHERE state = 'FULL') OR EXISTS (
    SELECT FROM pg_stat_activity
    WHERE state = 'active' AND pid <> pg_backend_pid() AND clock_timestamp() - query_start > interval '100 ms'
)
"""
CUSTOMER: Final = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))

if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--events", type=int, default=EVENTS)
    asked.add_argument("--ingest", action="store_true", help="also store others before and after")
    told = asked.parse_args()
    uvloop.run(main(told.events, ingest=told.ingest))
