"""How many usage events a second metering stores for good: `make bench T=ingest`, or some of it: `T="ingest columns"`.

One service in a process of its own with everything around it as in production (tokens, row-level security, spans, WAL
flushed at every commit), and this process, which sends requests that are ready, several at a time. The ceiling is one
connection that copies the very same rows, ready as well, into a table without anything, 20,000 at a time. At the end
what was sent must be what is stored and what is counted. With `--shards N` N sellers send as much together, each in a
shard of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any, Final

import asyncpg
import grpc.aio
import psutil
import uvloop
from pydantic import SecretStr

import metering.main
from bench.figures import Figure, median_ratio, percentile_ms
from bench.senders import DECIMAL_PLACES, METERS, Sender, Shape, customer_of
from bench.stage import SELLER, Stage, stage
from common import clock, ids, wire
from common.caller import Role
from common.ids import SellerId
from common.period import Period
from common.rpc import MESSAGE_BYTES_MAX
from common.testing import SERVICES, Keys
from metering.log.sellers import shard_for
from metering.settings import Settings
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

INGEST: Final = "/saldo.metering.v1.MeteringService/IngestEvents"
CHANNEL: Final = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
EVENTS_UNDER_WAY: Final = 32_000
ROUNDS: Final = 3
ROUND_EVENTS: Final = 1_500_000
WARM_UP_EVENTS: Final = 200_000
HALF_SECONDS: Final = 6.0
CEILING_ROWS: Final = 20_000
CEILING_COPIES: Final = 60
RETRY_SECONDS: Final = 1.0
TRIES_MAX: Final = 30
PAIRS_COUNTED: Final = 50
AGED_PARTS: Final = 300
AGED_BYTES: Final = 2_500_000_000
MD5_LENGTH: Final = 32
NOBODY: Final = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))
BYTES_PER_MB: Final = 1 << 20
SEED: Final = 20_260_101

SHAPES: Final[dict[str, Shape]] = {
    "columns": Shape(),
    "columns-5000": Shape(batch=5_000),
    "flat": Shape(form="flat"),
    "rows": Shape(form="rows", dimensions=2),
    "duplicates": Shape(duplicates=10),
    "all-duplicates": Shape(duplicates=1_000, new_first=200),
    "few-customers": Shape(customers=5),
    "many-customers": Shape(customers=200_000),
    "long-ids": Shape(id_length=128),
    "dimensions": Shape(dimensions=8),
    "out-of-order": Shape(is_ordered=False),
}
GOALS: Final = {"columns": 250_000, "flat": 200_000, "rows": 100_000}
EVENTS: Final = {"rows": 500_000, "flat": 900_000}
"""In a round, where it takes long to make them."""
UNDER_WAY: Final = {"rows": 12_000, "flat": 20_000}
"""Where so many keep the service as busy; what is more only waits."""


@dataclass(slots=True)
class Scene:
    here: Stage
    keys: Keys
    settings: Settings
    address: str
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]
    connection: asyncpg.Connection
    process: psutil.Process
    outcomes: Counter[str] = field(default_factory=Counter)
    sent_units: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Of a customer and a meter, in all shapes that were sent."""
    others: list[Scene] = field(default_factory=list)
    """The same for other sellers, who are there when there are several shards."""

    @property
    def sellers(self) -> list[Scene]:
        return [self, *self.others]

    def cpu_seconds(self) -> Counter[str]:
        used = self.here.cpu_seconds()
        return Counter({"service": used["process 0"], "database": used["postgres"], "client": used["bench"]})


async def main(chosen: Sequence[str], events: int | None, shards: int) -> None:
    async with metering_scene(shards) as (scene, stub):
        for name in chosen:
            print((await measure(scene, stub, name, events or EVENTS.get(name, ROUND_EVENTS))).line(), flush=True)


@asynccontextmanager
async def metering_scene(shards: int = 1) -> AsyncIterator[tuple[Scene, Any]]:  # Any: grpc's stubs, compiled when run
    """A metering service of its own with a seller in each shard who has three meters, and a stub for calling it."""
    async with stage() as here:
        folder = here.folder / "keys of services"
        folder.mkdir()
        keys = Keys(folder, SERVICES)
        url = await here.databases.create("metering", migrated="metering")
        settings = Settings(
            nats_url=here.servers.nats_url,
            listen="127.0.0.1:0",
            log_level="warning",
            auth_jwks=keys.jwks,
            auth_key=keys.private("metering"),
            database_url=SecretStr(url),
            shards=shards,
        )
        address = here.start(["bench.ingest", "--serve"], here.environment(settings), core=None)
        tokens = [keys.token(role=Role.OWNER, seller_id=each) for each in sellers_of(shards)]
        traceparent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        metadata, *others = [(("authorization", f"Bearer {token}"), traceparent) for token in tokens]
        connection = await asyncpg.connect(here.as_administrator(url))
        try:
            async with grpc.aio.insecure_channel(address, options=CHANNEL) as channel:
                stub: Any = MeteringServiceStub(channel)
                for code in METERS:
                    request = pb.CreateMeterRequest(code=code, display_name=code, aggregation=Meter.SUM)
                    for each in (metadata, *others):
                        await stub.CreateMeter(request, metadata=each)
                await age(connection)
                process = psutil.Process(here.processes[-1].pid)
                scene = Scene(here, keys, settings, address, channel, metadata, connection, process)
                scene.others = [replace(scene, metadata=each, sent_units=Counter(), others=[]) for each in others]
                yield scene, stub
        finally:
            await connection.close()


def sellers_of(shards: int) -> list[SellerId]:
    """One who is new in each shard; the same one as ever if there is no other."""
    found = {shard_for(SELLER, shards=shards): SELLER}
    while len(found) < shards:
        another = SellerId(ids.mint(ids.SELLER, datetime(2026, 1, 1, tzinfo=UTC)))
        found.setdefault(shard_for(another, shards=shards), another)
    return list(found.values())


async def age(connection: asyncpg.Connection) -> None:
    """Let the server be one that has run for a while: the files of its write-ahead log are there to be used again. On a
    new one every 16 MB of it a commit waits for a file to be made.
    """
    for parts in (AGED_PARTS, 1):
        for number in range(parts):
            await connection.execute(
                "SELECT pg_logical_emit_message(false, '', $1 || repeat(md5(random()::text), $2))",
                str(number),
                AGED_BYTES // AGED_PARTS // MD5_LENGTH,
            )
        await connection.execute("CHECKPOINT")


async def measure(scene: Scene, stub: Any, name: str, events: int) -> Figure:  # Any: as above
    shape = SHAPES[name]
    start = int((clock.wall() - timedelta(days=31)).replace(microsecond=0).timestamp())
    sellers = scene.sellers
    senders = [Sender(shape, name[:12], start, random.Random(SEED + n)) for n in range(len(sellers))]
    scene.outcomes.clear()
    # The files of the write-ahead log that what ran before has filled are there to be used again, as they were for it.
    await scene.connection.execute("CHECKPOINT")
    before_rows = await scene.connection.fetchval("SELECT count(*) FROM usage_log")
    first_leaf = await scene.connection.fetchval("SELECT coalesce(min(leaf), 1) FROM usage_leaves WHERE state = 'OPEN'")
    callers = max(4, UNDER_WAY.get(name, EVENTS_UNDER_WAY) // shape.batch)
    each_callers = max(1, callers // len(sellers))
    warm_up = min(WARM_UP_EVENTS, events) // shape.batch // len(sellers)
    for seller, sender in zip(sellers, senders, strict=True):
        await send(seller, list(sender.requests(warm_up)), callers=callers)
    rates, ceilings, latencies = [], [], []
    used: Counter[str] = Counter()
    for _ in range(ROUNDS):
        requests = [list(sender.requests(events // shape.batch // len(sellers))) for sender in senders]
        before = scene.cpu_seconds()
        began = time.perf_counter()
        sending = [send(*each, callers=each_callers) for each in zip(sellers, requests, strict=True)]
        for seconds in await asyncio.gather(*sending):
            latencies += seconds
        rates.append(sum(map(len, requests)) * shape.batch / (time.perf_counter() - began))
        used += scene.cpu_seconds() - before
        ceilings.append(await copy_rows(scene))
    per_second = statistics.median(rates) / 2 / shape.batch / len(sellers)
    halves: list[list[float]] = []
    for _ in range(ROUNDS):
        sending = [
            send_at(seller, list(sender.requests(int(per_second * HALF_SECONDS))), per_second=per_second)
            for seller, sender in zip(sellers, senders, strict=True)
        ]
        halves.append([seconds for each in await asyncio.gather(*sending) for seconds in each])
    stored = await scene.connection.fetchval("SELECT count(*) FROM usage_log") - before_rows
    return Figure(
        bench=f"ingest/{name}",
        value=statistics.median(rates),
        unit="events/s",
        ceiling=statistics.median(ceilings),
        ratio=median_ratio(rates, ceilings),
        p50_ms=percentile_ms(latencies, 0.50),
        p99_ms=percentile_ms(latencies, 0.99),
        checked=await is_right(scene, stub, senders, stored, first_leaf=first_leaf),
        more={
            "rounds": [round(rate) for rate in rates],
            "half_load_p99_ms": _median_ms(halves, 0.99),
            "half_load_p50_ms": _median_ms(halves, 0.50),
            "half_load_p99_rounds": [_median_ms([each], 0.99) for each in halves],
            "overloaded": scene.outcomes["overloaded"],
            "goal": GOALS.get(name),
            "shards": len(sellers),
            "sent": sum(each.journal.events for each in senders),
            "stored": stored,
            "stored_in_all": before_rows + stored,
            "memory_mb": scene.process.memory_info().rss // BYTES_PER_MB,
            "cpu_us": {key: round(1e6 * seconds / (events * ROUNDS), 2) for key, seconds in used.items()},
            "load": round(os.getloadavg()[0], 1),
        },
    )


def _median_ms(rounds: Sequence[Sequence[float]], share: float) -> float:
    """Of what each round says, as of the rates."""
    return round(statistics.median(percentile_ms(each, share) or 0 for each in rounds), 1)


async def send(scene: Scene, requests: Iterable[bytes], *, callers: int) -> list[float]:
    """All of them, some at a time; how long each took."""
    call: Any = scene.channel.unary_unary(INGEST, response_deserializer=pb.IngestEventsResponse.FromString)
    waiting = iter(requests)
    seconds: list[float] = []

    async def caller() -> None:
        for request in waiting:
            began = time.perf_counter()
            note(scene, await call(request, metadata=scene.metadata))
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return seconds


async def send_at(scene: Scene, requests: Sequence[bytes], *, per_second: float) -> list[float]:
    """So many a second, however long each takes; how long each took since it was due."""
    call: Any = scene.channel.unary_unary(INGEST, response_deserializer=pb.IngestEventsResponse.FromString)
    seconds: list[float] = []
    began = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        for _ in range(TRIES_MAX):
            try:
                note(scene, await call(request, metadata=scene.metadata))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                scene.outcomes["overloaded"] += 1
                await asyncio.sleep(RETRY_SECONDS)
            else:
                seconds.append(time.perf_counter() - due)
                return
        raise RuntimeError("too much is waiting, for too long")

    async with asyncio.TaskGroup() as group:
        for n, request in enumerate(requests):
            due = began + n / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(request, due))
    return seconds


def note(scene: Scene, response: pb.IngestEventsResponse) -> None:
    # As long as no customer is known, all are; else those of a bench are not, and their usage is stored all the same.
    scene.outcomes["accepted"] += response.accepted_count + response.unmatched_count
    scene.outcomes["duplicate"] += response.duplicate_count
    scene.outcomes["rejected"] += response.rejected_count


async def copy_rows(scene: Scene) -> float:
    """Rows a second of one connection that has them ready."""
    columns = "seller_id, position, stream, source, time, key, value, dimensions, event_id"
    rows = BytesIO()
    await scene.connection.copy_from_query(
        f"SELECT {columns} FROM usage_log ORDER BY leaf DESC, position DESC LIMIT {CEILING_ROWS}",
        output=rows,
        format="binary",
    )
    ready = rows.getvalue()
    await scene.connection.execute(
        f"DROP TABLE IF EXISTS bare; CREATE TABLE bare AS SELECT {columns} FROM usage_log LIMIT 0"
    )

    async def stream() -> AsyncIterator[bytes]:
        yield ready

    began = time.perf_counter()
    for _ in range(CEILING_COPIES):
        await scene.connection.copy_to_table("bare", source=stream(), columns=columns.split(", "), format="binary")
    seconds = time.perf_counter() - began
    copied = await scene.connection.fetchval("SELECT count(*) FROM bare")
    await scene.connection.execute("DROP TABLE bare")
    if copied != CEILING_ROWS * CEILING_COPIES:
        raise RuntimeError(f"{copied} rows were copied")
    return CEILING_ROWS * CEILING_COPIES / seconds


async def is_right(  # Any: grpc's stubs
    scene: Scene, stub: Any, senders: Sequence[Sender], stored: int, *, first_leaf: int = 0
) -> bool:
    """Journals = answers = rows = identities = positions = usages. `senders` are one for each seller. Identities are
    looked at from a leaf on.
    """
    sent, distinct = sum(each.journal.events for each in senders), sum(each.journal.distinct for each in senders)
    outcomes = scene.outcomes
    found = await scene.connection.fetchrow(
        "SELECT count(*) AS events, count(DISTINCT key) AS keys, count(DISTINCT (seller_id, position)) AS positions"
        " FROM usage_log WHERE leaf >= $1",
        first_leaf,
    )
    told = await scene.connection.fetchrow(
        "SELECT (SELECT count(*) FROM usage_log) AS events, (SELECT sum(last) FROM positions) AS last,"
        " (SELECT sum(last) FROM (SELECT max(position) AS last FROM usage_log GROUP BY seller_id) e) AS highest"
    )
    assert found is not None
    assert told is not None
    counted = [await is_counted(*each, stub) for each in zip(scene.sellers, senders, strict=True)]
    return bool(
        stored == distinct == outcomes["accepted"]
        and outcomes["duplicate"] == sent - distinct
        and not outcomes["rejected"]
        and all(counted)
        and stored <= found["events"] == found["keys"] == found["positions"]
        and told["events"] == told["last"] == told["highest"]
    )


async def is_counted(scene: Scene, sender: Sender, stub: Any) -> bool:  # Any: grpc's stubs
    """Journal = usages, of one seller."""
    scene.sent_units += sender.journal.by_pair
    pairs = random.Random(SEED).sample(sorted(scene.sent_units), min(PAIRS_COUNTED, len(scene.sent_units)))
    now = clock.wall()
    period = wire.interval(Period(now - timedelta(days=62), now + timedelta(days=31)))
    queries = [
        pb.UsageQuery(customer_id=NOBODY, external_id=customer_of(customer), meter=METERS[meter], period=period)
        for customer, meter in pairs
    ]
    answer = await stub.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries), metadata=scene.metadata)
    counted = [Decimal(each.quantity.value) for each in answer.usages]
    return counted == [Decimal(scene.sent_units[pair]).scaleb(-DECIMAL_PLACES) for pair in pairs]


def serve() -> None:
    async def live() -> None:
        service = metering.main.build(Settings())  # type: ignore[call-arg] # pydantic reads the environment
        await service.run()

    uvloop.run(live())


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help="of usage events; all of them unless said")
    asked.add_argument("--events", type=int, help="in a round")
    asked.add_argument("--shards", type=int, default=1, help="with a seller in each")
    asked.add_argument("--serve", action="store_true", help="be the service")
    told = asked.parse_args()
    if told.serve:
        serve()
    else:
        uvloop.run(main(told.shapes or list(SHAPES), told.events, told.shards))
