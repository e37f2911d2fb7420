"""How soon metering is back after a crash, and what it remembers: `make bench T=restart`, or T="restart --events N".

Usage events are stored by the service; then it is killed in the middle of more of them, and started again. Measured is
the time from its start until it has stored a new event, and what its memory grew by for every million events there
are. Afterwards the first, the last and some other batches are sent again: every event of them must be a duplicate, and
of those that were under way none may be stored twice. The ceiling is reading the same keys from the database, by one
connection that does nothing with them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc.aio
import numpy as np
import psutil
import uvloop

from bench.figures import Figure
from bench.ingest import BYTES_PER_MB, CHANNEL, EVENTS_UNDER_WAY, INGEST, Scene, metering_scene, send
from bench.usage import BATCH, requests
from common import clock
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

EVENTS: Final = 50_000_000
UNDER_WAY_EVENTS: Final = 1_000_000
KILLED_AFTER_SECONDS: Final = 1.0
REPEATED: Final = 40
TRIES_MAX: Final = 600
RETRY_SECONDS: Final = 0.05
GOAL_SECONDS: Final = 10
PAGE_SEGMENTS: Final = 200


async def main(events: int) -> None:
    async with metering_scene() as (scene, _):
        start = datetime.combine((clock.wall() - timedelta(days=32)).date(), datetime.min.time(), UTC)
        empty = scene.process.memory_info().rss
        every = requests(events + UNDER_WAY_EVENTS, start, np.random.default_rng(7))
        kept = set(random.Random(7).sample(range(events // BATCH), REPEATED)) | {0, events // BATCH - 1}
        repeated: list[bytes] = []

        def stored_first() -> Any:  # Any: an iterator of requests
            for number in range(events // BATCH):
                request = next(every)
                if number in kept:
                    repeated.append(request)
                yield request

        await send(scene, stored_first(), callers=EVENTS_UNDER_WAY // BATCH)
        full = scene.process.memory_info().rss
        interrupted = list(every)
        with suppress(grpc.aio.AioRpcError):
            await asyncio.gather(_killed(scene.process), send(scene, interrupted, callers=EVENTS_UNDER_WAY // BATCH))
        began = time.perf_counter()
        address = scene.here.start(["bench.ingest", "--serve"], scene.here.environment(scene.settings), core=None)
        async with grpc.aio.insecure_channel(address, options=CHANNEL) as channel:
            await _first_answer(MeteringServiceStub(channel), scene)
            seconds = time.perf_counter() - began
            process = psutil.Process(scene.here.processes[-1].pid)
            back = process.memory_info().rss
            duplicates = await _outcomes(channel, scene, repeated)
            await _outcomes(channel, scene, interrupted)
        bare = await _read_keys(scene)
        found = await scene.connection.fetchrow("SELECT count(*) AS events, count(DISTINCT key) AS keys FROM usage_log")
        assert found is not None, "a count always has a row"
        expected = events + len(interrupted) * BATCH + 1
        print(
            Figure(
                bench="restart",
                value=seconds,
                unit="s",
                ceiling=bare,
                ratio=bare / seconds,
                p50_ms=None,
                p99_ms=None,
                checked=duplicates == len(repeated) * BATCH and found["events"] == found["keys"] == expected,
                more={
                    "events": events,
                    "goal": GOAL_SECONDS,
                    "memory_mb": [each // BYTES_PER_MB for each in (empty, full, back)],
                    "bytes_per_event": round((back - empty) / events, 2),
                    "load": round(os.getloadavg()[0], 1),
                },
            ).line()
        )


async def _killed(process: psutil.Process) -> None:
    await asyncio.sleep(KILLED_AFTER_SECONDS)
    process.kill()


async def _first_answer(stub: Any, scene: Scene) -> None:  # Any: grpc's stubs, compiled when this runs
    event = pb.IngestEventsRequest()
    event.flat_events.add(
        id="first", source="restart", customer="nobody", meter="calls", time_micros=_now_micros(), units=1
    )
    for _ in range(TRIES_MAX):
        try:
            await stub.IngestEvents(event, metadata=scene.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return
    raise RuntimeError("the service does not come back")


def _now_micros() -> int:
    return int(clock.wall().timestamp() * 1_000_000)


async def _outcomes(channel: grpc.aio.Channel, scene: Scene, batches: Sequence[bytes]) -> int:
    """How many duplicates there are among them."""
    call: Any = channel.unary_unary(INGEST, response_deserializer=pb.IngestEventsResponse.FromString)
    duplicates = 0
    for batch in batches:
        response = await call(batch, metadata=scene.metadata)
        duplicates += response.duplicate_count
    return duplicates


async def _read_keys(scene: Scene) -> float:
    """The seconds it takes to read what the service reads: filters, and the keys that are in none."""
    began = time.perf_counter()
    await scene.connection.fetch("SELECT bits FROM usage_filters ORDER BY shard, generation, piece")
    after = 0
    while rows := await scene.connection.fetch(
        "SELECT sequence, keys FROM usage_segments WHERE sequence > $1 ORDER BY sequence LIMIT $2", after, PAGE_SEGMENTS
    ):
        after = rows[-1]["sequence"]
    return time.perf_counter() - began


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--events", type=int, default=EVENTS)
    uvloop.run(main(asked.parse_args().events))
