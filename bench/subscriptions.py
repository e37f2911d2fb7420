"""How fast subscriptions says what is to be billed, and announces what is over: `make bench T=subscriptions`.

Two figures, of one service in a process of its own with everything around it as in production. First the schedules of
10,000 customers through twelve months, asked for in batches by this process, which reads every answer; the ceiling is
a bare server that has the same answers ready. Then the ends of periods of thousands of subscriptions that are due at
once, with their events; the ceiling is one connection that writes the same rows. And whether a subscription among
100,000 costs as much as one among 1,000.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc.aio
import psutil
import uvloop
from pydantic import SecretStr

import catalog.main
import subscriptions.main
from bench.figures import Figure, median_ratio, percentile_ms
from bench.stage import SELLER, Stage, stage, tell_ready
from bench.subscribers import (
    CONTACT,
    CURRENCY,
    ZONES,
    Offer,
    Subscriber,
    Tables,
    create_offer,
    create_subscriber,
    expected_schedule,
    lives,
    subscriber,
)
from catalog.settings import Settings as CatalogSettings
from common import clock, ids, outbox, wire
from common.caller import Role
from common.rpc import MESSAGE_BYTES_MAX
from common.testing import SERVICES, Keys
from common.vault import Vault
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import (
    SubscriptionsServiceServicer,
    SubscriptionsServiceStub,
    add_SubscriptionsServiceServicer_to_server,
)
from subscriptions.settings import Settings
from tools.check.calendar import MICROSECOND

SIZES: Final = (1_000, 10_000, 100_000)
"""How many subscriptions there are in the table, one after the other."""

CUSTOMERS: Final = 10_000
CUSTOMERS_PER_CALL: Final = 500
CALLERS: Final = 2
MONTHS: Final = timedelta(days=365)
READ_ROUNDS: Final = 3
COMPARED_EVERY: Final = 20
PERIODS_GOAL: Final = 20_000

DUE: Final = 10_000
DUE_ROUNDS: Final = 3
DUE_WHATEVER_THE_SIZE: Final = 1_000
SIZE_ROUNDS: Final = 5
WARM_UP_ROUNDS: Final = 3
ADVANCE_GOAL: Final = 2_000
ADVANCE_SECONDS: Final = 60.0
ROWS_PER_COMMIT: Final = 500
BYTES_PER_MB: Final = 1 << 20

CUSTOMER: Final = pb.CreateCustomerRequest(
    contact=CONTACT, billing_profile=customer_pb2.BillingProfile(currency=CURRENCY, time_zone=ZONES[0])
)
"""Somebody who buys nothing."""

SUBJECT: Final = outbox.subject_of(events_pb2.BillingPeriodEnded)
CHANNEL: Final = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]


@dataclass(slots=True)
class Scene:
    """The service under test, and who asks it."""

    here: Stage
    stub: Any  # Any: grpc's stubs here and below, compiled when this runs
    metadata: Any
    connection: asyncpg.Connection
    process: psutil.Process
    tables: Tables
    now: datetime
    subscribers: list[Subscriber] = field(default_factory=list)
    rounds: int = 0

    @property
    def offer(self) -> Offer:
        return self.tables.offer

    def memory_mb(self) -> int:
        return round(self.process.memory_info().rss / BYTES_PER_MB)

    def cpu_seconds(self) -> Counter[str]:
        """What the service and the database have used so far: says more than a clock where others use the machine."""
        used = self.here.cpu_seconds()
        number = next(n for n, each in enumerate(self.here.processes) if each.pid == self.process.pid)
        return Counter({"service": used[f"process {number}"], "database": used["postgres"]})


async def main() -> None:
    async with stage() as here:
        folder = here.folder / "keys of services"
        folder.mkdir()
        keys = Keys(folder, SERVICES)
        settings: dict[str, Any] = {"nats_url": here.servers.nats_url, "listen": "127.0.0.1:0", "log_level": "warning"}
        urls = {name: await here.databases.create(name, migrated=name) for name in ("catalog", "subscriptions")}

        def told(name: str) -> dict[str, Any]:
            own = {"auth_jwks": keys.jwks, "auth_key": keys.private(name), "database_url": SecretStr(urls[name])}
            return settings | own

        shop = here.start(
            ["bench.subscriptions", "catalog"], here.environment(CatalogSettings(**told("catalog"))), core=None
        )
        served = here.start(
            ["bench.subscriptions", "serve"],
            here.environment(
                Settings(**told("subscriptions"), catalog_address=shop, master_keys=keys.master_keys),
            ),
            core=None,
        )
        metadata = (
            ("authorization", f"Bearer {keys.token(role=Role.OWNER, seller_id=SELLER)}"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        )
        connection = await asyncpg.connect(here.as_administrator(urls["subscriptions"]))
        try:
            async with (
                grpc.aio.insecure_channel(shop) as shop_channel,
                grpc.aio.insecure_channel(served, options=CHANNEL) as channel,
            ):
                offer = await create_offer(CatalogServiceStub(shop_channel), metadata)
                scene = await set_scene(here, SubscriptionsServiceStub(channel), metadata, connection, offer, keys)
                for figure in await measure(scene):
                    print(figure.line())
        finally:
            await connection.close()


async def set_scene(
    here: Stage, stub: Any, metadata: Any, connection: asyncpg.Connection, offer: Offer, keys: Keys
) -> Scene:
    """The first subscribers, made by the service, and what all others will be copies of."""
    now = clock.wall()
    made = [await create_subscriber(stub, metadata, offer, life) for life in islice(lives(now), len(ZONES))]
    await _until(connection, "SELECT NOT EXISTS (SELECT FROM subscriptions WHERE next_moment_time <= $1)", now)
    tables = Tables(
        connection=connection,
        vault=Vault.read(keys.master_keys),
        seller_id=SELLER,
        offer=offer,
        customer=dict(await connection.fetchrow("SELECT * FROM customers LIMIT 1") or {}),
        subscription=dict(await connection.fetchrow("SELECT * FROM subscriptions LIMIT 1") or {}),
    )
    if not await tables.is_as_written(made):
        raise RuntimeError("the service writes other rows than would be copied")
    process = psutil.Process(here.processes[-1].pid)
    return Scene(here, stub, metadata, connection, process, tables, now, made)


async def measure(scene: Scene) -> list[Figure]:
    source = lives(scene.now)
    per_size: dict[int, list[Advance]] = {}
    for size in SIZES:
        new = [subscriber(life, scene.now) for life in islice(source, size - len(scene.subscribers))]
        await scene.tables.fill(new)
        scene.subscribers += new
        for _ in range(WARM_UP_ROUNDS):
            await advance(scene, DUE_WHATEVER_THE_SIZE)
        per_size[size] = [await advance(scene, DUE_WHATEVER_THE_SIZE) for _ in range(SIZE_ROUNDS)]
    advances, ceilings = [], []
    for _ in range(DUE_ROUNDS):
        advances.append(await advance(scene, DUE))
        ceilings.append(await write_rows(scene, advances[-1]))
    return [await measure_schedules(scene), advance_figure(scene, advances, ceilings, per_size)]


# What is to be billed


async def measure_schedules(scene: Scene) -> Figure:
    chosen = scene.subscribers[:CUSTOMERS]
    calls = [chosen[first : first + CUSTOMERS_PER_CALL] for first in range(0, len(chosen), CUSTOMERS_PER_CALL)]
    reading = Reading(scene.offer, after=scene.now, through=scene.now + MONTHS)
    await reading.round(scene.stub, scene.metadata, calls[:2])
    answers = scene.here.folder / "answers"
    answers.mkdir()
    for number, answer in enumerate(await reading.answers(scene.stub, scene.metadata, calls)):
        (answers / f"{number}.bin").write_bytes(answer.SerializeToString())
    bare = scene.here.start(["bench.subscriptions", "bare", str(answers)], {}, core=None)
    rates, ceilings, used = [], [], Counter[str]()
    async with grpc.aio.insecure_channel(bare, options=CHANNEL) as channel:
        prebuilt = SubscriptionsServiceStub(channel)
        await reading.round(prebuilt, scene.metadata, calls)
        reading.seconds.clear()
        for _ in range(READ_ROUNDS):
            before = scene.cpu_seconds()
            rates.append(await reading.round(scene.stub, scene.metadata, calls))
            used += scene.cpu_seconds() - before
            latencies = list(reading.seconds)
            ceilings.append(await reading.round(prebuilt, scene.metadata, calls))
            reading.seconds = latencies
    one = await scene.stub.ListBillablePeriods(
        pb.ListBillablePeriodsRequest(
            customer_ids=[chosen[-1].customer_id], through_time=wire.timestamp(scene.now + MONTHS)
        ),
        metadata=scene.metadata,
    )
    return Figure(
        bench="subscriptions/schedules",
        value=statistics.median(rates),
        unit="periods/s",
        ceiling=statistics.median(ceilings),
        ratio=median_ratio(rates, ceilings),
        p50_ms=percentile_ms(reading.seconds, 0.50),
        p99_ms=percentile_ms(reading.seconds, 0.99),
        checked=reading.is_right and one.schedules[0].customer.contact == CONTACT,
        more={
            "rounds": [round(rate) for rate in rates],
            "periods": reading.periods,
            "subscriptions": len(scene.subscribers),
            "customers_per_call": CUSTOMERS_PER_CALL,
            "memory_mb": scene.memory_mb(),
            "goal": PERIODS_GOAL,
            "cpu_us": {
                name: round(1e6 * seconds / (reading.periods * READ_ROUNDS), 1) for name, seconds in used.items()
            },
            "per_core_of_the_service": round(reading.periods * READ_ROUNDS / used["service"]),
            "load": os.getloadavg()[0],
        },
    )


@dataclass(slots=True)
class Reading:
    """Asks for schedules, reads them, and remembers whether they were right."""

    offer: Offer
    after: datetime
    through: datetime
    seconds: list[float] = field(default_factory=list)
    periods: int = 0
    """In the last round."""
    is_right: bool = True

    async def round(self, stub: Any, metadata: Any, calls: Sequence[Sequence[Subscriber]]) -> float:
        """Periods a second, as many calls at a time as there are callers; a share of the answers is compared later."""
        began = time.perf_counter()
        answers = await self.answers(stub, metadata, calls)
        seconds = time.perf_counter() - began
        self.periods = sum(len(schedule.periods) for answer in answers for schedule in answer.schedules)
        for asked, answer in zip(calls, answers, strict=True):
            self._verify(asked, answer)
        return self.periods / seconds

    async def answers(self, stub: Any, metadata: Any, calls: Sequence[Sequence[Subscriber]]) -> list[Any]:
        found: dict[int, Any] = {}
        waiting = iter(enumerate(calls))

        async def ask() -> None:
            for number, asked in waiting:
                request = pb.BatchListBillablePeriodsRequest(
                    customer_ids=[each.customer_id for each in asked],
                    after_time=wire.timestamp(self.after),
                    through_time=wire.timestamp(self.through),
                )
                began = time.perf_counter()
                found[number] = await stub.BatchListBillablePeriods(request, metadata=metadata)
                self.seconds.append(time.perf_counter() - began)

        await asyncio.gather(*(ask() for _ in range(CALLERS)))
        return [found[number] for number in range(len(calls))]

    def _verify(self, asked: Sequence[Subscriber], answer: Any) -> None:
        self.is_right &= [each.customer_id for each in asked] == [each.customer_id for each in answer.schedules]
        keys = [(each.item_id, each.period.start_time.seconds) for told in answer.schedules for each in told.periods]
        self.is_right &= len(set(keys)) == len(keys)
        for who, schedule in list(zip(asked, answer.schedules, strict=True))[::COMPARED_EVERY]:
            expected = expected_schedule(who, self.offer, after=self.after, through=self.through)
            self.is_right &= schedule == expected


class Prebuilt(SubscriptionsServiceServicer):
    """Has the answers in memory, by the first customer of the question."""

    def __init__(self, folder: Path) -> None:
        found = [pb.BatchListBillablePeriodsResponse.FromString(path.read_bytes()) for path in folder.iterdir()]
        self._answers = {answer.schedules[0].customer_id: answer for answer in found}

    async def BatchListBillablePeriods(self, request: Any, context: object) -> Any:  # noqa: N802 # as in the contract
        return self._answers[request.customer_ids[0]]


async def serve_prebuilt(folder: Path) -> None:
    """What gRPC alone can do: each answer is encoded and sent, and nothing else."""
    server = grpc.aio.server()
    prebuilt = Prebuilt(folder)  # type: ignore[abstract] # one method is all that is asked of it
    add_SubscriptionsServiceServicer_to_server(prebuilt, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell_ready(f"127.0.0.1:{port}")
    await server.wait_for_termination()


# What is over


@dataclass(frozen=True, slots=True)
class Advance:
    """One round: how many periods' ends were due, and what it took to announce them."""

    count: int
    seconds: float
    cpu_seconds: Counter[str]
    events: Sequence[asyncpg.Record]
    is_right: bool


async def advance(scene: Scene, size: int) -> Advance:
    """Make the last periods of so many of them be not announced yet; until they are, all of them, each with its event.

    They are of all ages, so the table is full of other rows between them. Each round marks them for another instant:
    a row that is due for the same one again would be taken for one that the job has left as it was.
    """
    scene.rounds += 1
    # Between two ends of a month there is time to tidy up: a small table would be full of what is dead.
    await scene.connection.execute("VACUUM subscriptions, aggregate_sequences, outbox_waiting")
    step = len(scene.subscribers) // size
    due = scene.subscribers[::step][:size]
    mark = await scene.connection.fetchval("SELECT coalesce(max(position), 0) FROM outbox")
    used = scene.cpu_seconds()
    await scene.connection.execute(
        "UPDATE subscriptions s SET announced_through = t.before, next_moment_time = t.due"
        " FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS t (id, before, due)"
        " WHERE s.seller_id = $1 AND s.id = t.id",
        SELLER,
        [each.subscription_id for each in due],
        [each.life.ended.start for each in due],
        [each.life.ended.end - scene.rounds * MICROSECOND for each in due],
    )
    # Whoever commits wakes the jobs of his process: nothing is waited for but the work.
    began = time.perf_counter()
    waking = await scene.stub.CreateCustomer(CUSTOMER, metadata=scene.metadata)
    events_of_others = "FROM outbox WHERE position > $1 AND aggregate_id <> $2"
    await _until(scene.connection, f"SELECT count(*) >= $3 {events_of_others}", mark, waking.id, len(due))
    seconds = time.perf_counter() - began
    await _until(scene.connection, "SELECT NOT EXISTS (SELECT FROM outbox_waiting)")
    cpu_seconds = scene.cpu_seconds() - used
    events = await scene.connection.fetch(f"SELECT * {events_of_others} ORDER BY position", mark, waking.id)
    is_right = _announced_once(events, due) and await _is_as_before(scene)
    return Advance(len(due), seconds, cpu_seconds, events, is_right)


async def write_rows(scene: Scene, advanced: Advance) -> float:
    """The same rows as bare SQL, by one connection, in transactions of the same size; subscriptions a second."""
    named = {each.subscription_id: each for each in scene.subscribers}
    rows = [
        (event["aggregate_id"], ids.mint("evt", scene.now), number, event["time"], event["payload"])
        for number, event in enumerate(advanced.events)
    ]
    began = time.perf_counter()
    for first in range(0, len(rows), ROWS_PER_COMMIT):
        part = rows[first : first + ROWS_PER_COMMIT]
        async with scene.connection.transaction():
            await scene.connection.execute(
                "UPDATE subscriptions s SET announced_through = t.told, next_moment_time = t.due"
                " FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS t (id, told, due)"
                " WHERE s.seller_id = $1 AND s.id = t.id",
                SELLER,
                [row[0] for row in part],
                [named[row[0]].life.ended.end for row in part],
                [named[row[0]].life.under_way.end for row in part],
            )
            await scene.connection.execute(
                "INSERT INTO outbox (id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload)"
                " SELECT t.id, $1, $2, $3, t.sequence, t.time, '', t.payload"
                " FROM unnest($4::text[], $5::bigint[], $6::timestamptz[], $7::bytea[])"
                " AS t (id, sequence, time, payload)",
                SELLER,
                SUBJECT,
                f"bench {began}",
                *([row[column] for row in part] for column in (1, 2, 3, 4)),
            )
    return len(rows) / (time.perf_counter() - began)


def advance_figure(
    scene: Scene, advances: Sequence[Advance], ceilings: Sequence[float], per_size: dict[int, list[Advance]]
) -> Figure:
    rates = [each.count / each.seconds for each in advances]
    microseconds = {
        size: round(1e6 * statistics.median(each.seconds / each.count for each in found))
        for size, found in per_size.items()
    }
    cpu_microseconds = {
        size: round(1e6 * statistics.median(each.cpu_seconds.total() / each.count for each in found))
        for size, found in per_size.items()
    }
    used = sum((each.cpu_seconds for each in advances), Counter[str]())
    count = sum(each.count for each in advances)
    small, large = SIZES[0], SIZES[-1]
    everything = [*advances, *(each for found in per_size.values() for each in found)]
    return Figure(
        bench="subscriptions/period ends",
        value=statistics.median(rates),
        unit="subscriptions/s",
        ceiling=statistics.median(ceilings),
        ratio=median_ratio(rates, ceilings),
        p50_ms=None,
        p99_ms=None,
        checked=all(each.is_right for each in everything),
        more={
            "rounds": [round(rate) for rate in rates],
            "goal": ADVANCE_GOAL,
            "cpu_us": {name: round(1e6 * seconds / count) for name, seconds in used.items()},
            "per_core_of_the_service": round(count / used["service"]),
            "us_by_table_size": microseconds,
            "cost_at_100000_over_1000": round(microseconds[large] / microseconds[small], 2),
            "cpu_us_by_table_size": cpu_microseconds,
            "cpu_at_100000_over_1000": round(cpu_microseconds[large] / cpu_microseconds[small], 2),
            "memory_mb": scene.memory_mb(),
            "load": os.getloadavg()[0],
        },
    )


def _announced_once(events: Sequence[asyncpg.Record], due: Sequence[Subscriber]) -> bool:
    """The end of the right period of all items of each, once, and nothing else."""
    told = Counter((event["subject"], event["aggregate_id"]) for event in events)
    if told != Counter((SUBJECT, each.subscription_id) for each in due):
        return False
    named = {each.subscription_id: each for each in due}
    for row in events:
        event = events_pb2.BillingPeriodEnded.FromString(row["payload"])
        who = named[row["aggregate_id"]]
        span = who.life.ended
        if (
            event.subscription.id != who.subscription_id
            or event.subscription.customer_id != who.customer_id
            or tuple(event.item_ids) != who.item_ids
            or wire.parse_timestamp(event.period.start_time, field="start_time") != span.start
            or wire.parse_timestamp(event.period.end_time, field="end_time") != span.end
        ):
            return False
    return True


async def _is_as_before(scene: Scene) -> bool:
    """Everything is announced up to the last end, by the calendar, and the next end is what comes next, for all."""
    rows = await scene.connection.fetch("SELECT id, announced_through, next_moment_time FROM subscriptions")
    return {row["id"]: (row["announced_through"], row["next_moment_time"]) for row in rows} == {
        each.subscription_id: (each.life.ended.end, each.life.under_way.end) for each in scene.subscribers
    }


async def _until(connection: asyncpg.Connection, question: str, *arguments: object) -> None:
    deadline = time.monotonic() + ADVANCE_SECONDS
    while not await connection.fetchval(question, *arguments):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {ADVANCE_SECONDS} s: {question}")
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["catalog"]:
            sys.argv.pop()
            catalog.main.main()
        case ["serve"]:
            sys.argv.pop()
            subscriptions.main.main()
        case ["bare", folder]:
            uvloop.run(serve_prebuilt(Path(folder)))
        case _:
            uvloop.run(main())
