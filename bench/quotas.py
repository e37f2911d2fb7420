"""What it costs to reserve use of a quota and commit it, all for one customer and meter: `make bench T=quotas`.

They take turns, so this is the slowest there is; "spread" is the same for many customers. The ceiling is what
PostgreSQL takes of the least that could do: a row locked and a row added in one durable commit, one after the other
over one connection. Afterwards what was committed must be what is used, once each, and nobody gets more than granted.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import grpc.aio
import uvloop
from google.type import decimal_pb2

from bench.figures import Figure, median_ratio, percentile_ms
from bench.ingest import SEED, Scene, metering_scene
from bench.senders import METERS
from bench.stage import SELLER
from common import clock, ids
from common.rpc import error_info
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub

ROUNDS: Final = 5
ROUND_SECONDS: Final = 3.0
WARM_UP_SECONDS: Final = 1.5
CEILING_SECONDS: Final = 1.0
CALLERS: Final = 16
CUSTOMERS: Final = 1_000
SHORT: Final = 20
"""What one customer has in the end: as many are acquired, whoever else asks."""
GRANTED: Final = 1_000_000_000
FEATURE: Final = "bench"
EXCEEDED: Final = "QUOTA_EXCEEDED"

Any_ = Any  # Any: grpc's stubs, compiled when this runs


@dataclass(slots=True)
class Case:
    name: str
    customers: Sequence[str]
    rates: list[float] = field(default_factory=list)
    ceilings: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    committed: int = 0


async def main() -> None:
    async with metering_scene() as (scene, _):
        stub: Any_ = QuotaServiceStub(scene.channel)
        customers = [ids.mint("cus", clock.wall()) for _ in range(CUSTOMERS + 2)]
        await entitle(scene, customers[:-1], GRANTED)
        await entitle(scene, customers[-1:], SHORT)
        await bare(scene, WARM_UP_SECONDS)
        for case in (Case("one", customers[:1]), Case("spread", customers[1:-1])):
            await turn(scene, stub, case, WARM_UP_SECONDS)
            case.latencies.clear()
            for _ in range(ROUNDS):
                case.ceilings.append(await bare(scene, CEILING_SECONDS))
                case.rates.append(await turn(scene, stub, case, ROUND_SECONDS))
            checked = await is_right(scene, stub, case) and await nobody_gets_more(scene, stub, customers[-1])
            print(figure(case, checked=checked).line(), flush=True)


def figure(case: Case, *, checked: bool) -> Figure:
    return Figure(
        bench=f"quotas/{case.name}",
        value=statistics.median(case.rates),
        unit="acquired and committed/s",
        ceiling=statistics.median(case.ceilings),
        ratio=median_ratio(case.rates, case.ceilings),
        p50_ms=percentile_ms(case.latencies, 0.50),
        p99_ms=percentile_ms(case.latencies, 0.99),
        checked=checked,
        more={
            "rounds": [round(rate) for rate in case.rates],
            "callers": CALLERS,
            "load": round(os.getloadavg()[0], 1),
        },
    )


async def entitle(scene: Scene, customers: Sequence[str], granted: int) -> None:
    """As if subscriptions and the catalog had announced it."""
    grants = f'{{"{FEATURE}": [{{"quota": "{granted}", "reset_unit": "YEAR", "reset_count": 10}}]}}'
    await scene.connection.execute(
        "INSERT INTO features (seller_id, code, kind, meter) VALUES ($1, $2, 'QUOTA', $3) ON CONFLICT DO NOTHING",
        SELLER,
        FEATURE,
        METERS[0],
    )
    await scene.connection.executemany(
        "INSERT INTO customer_entitlements (seller_id, customer_id, revision, grants)"
        " VALUES ($1, $2, 1, $3::text::jsonb)",
        [(SELLER, each, grants) for each in customers],
    )


async def turn(scene: Scene, stub: Any_, case: Case, seconds: float) -> float:
    """What all callers together get done, a second."""
    began = time.perf_counter()
    before = case.committed
    chance = random.Random(SEED)

    async def caller() -> None:
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            acquired = await acquire(scene, stub, chance.choice(case.customers))
            await stub.CommitQuota(pb.CommitQuotaRequest(id=acquired.reservation.id), metadata=scene.metadata)
            case.latencies.append(time.perf_counter() - asked)
            case.committed += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (case.committed - before) / (time.perf_counter() - began)


async def acquire(scene: Scene, stub: Any_, customer: str) -> pb.AcquireQuotaResponse:
    request = pb.AcquireQuotaRequest(
        customer_id=customer, feature=FEATURE, quantity=decimal_pb2.Decimal(value="1"), time_to_live_seconds=600
    )
    answer: pb.AcquireQuotaResponse = await stub.AcquireQuota(request, metadata=scene.metadata)
    return answer


async def bare(scene: Scene, seconds: float) -> float:
    """Rows a second that are added by whoever has another row to itself, each durable before the next."""
    await scene.connection.execute(
        "CREATE TABLE IF NOT EXISTS bare_turns (id integer PRIMARY KEY, number bigint);"
        "CREATE TABLE IF NOT EXISTS bare_reservations (number bigint PRIMARY KEY, quantity numeric);"
        "INSERT INTO bare_turns VALUES (1, 0) ON CONFLICT DO NOTHING"
    )
    began = time.perf_counter()
    done = 0
    while time.perf_counter() - began < seconds:
        await scene.connection.execute(
            "WITH turn AS (UPDATE bare_turns SET number = number + 1 WHERE id = 1 RETURNING number)"
            " INSERT INTO bare_reservations SELECT number, 1 FROM turn"
        )
        done += 1
    return done / (time.perf_counter() - began)


async def is_right(scene: Scene, stub: Any_, case: Case) -> bool:
    """Journal = what is stored = what is counted; of one customer also what the door says of it."""
    found = await scene.connection.fetchrow(
        "SELECT count(*) AS reservations, count(*) FILTER (WHERE state = 'COMMITTED') AS committed,"
        " (SELECT count(*) FROM usage_events e WHERE e.source = 'saldo.quota' AND e.customer = ANY ($1)) AS events,"
        " (SELECT count(DISTINCT e.event_id) FROM usage_events e WHERE e.customer = ANY ($1)) AS distinct_events"
        " FROM quota_reservations WHERE customer_id = ANY ($1)",
        list(case.customers),
    )
    assert found is not None
    request = pb.CheckEntitlementRequest(customer_id=case.customers[0], feature=FEATURE)
    told = await stub.CheckEntitlement(request, metadata=scene.metadata)
    is_told = len(case.customers) > 1 or Decimal(told.used.value) == case.committed
    return bool(is_told and not Decimal(told.reserved.value) and set(found.values()) == {case.committed})


async def nobody_gets_more(scene: Scene, stub: Any_, customer: str) -> bool:
    """More than are granted ask at once. The second time none is left."""
    before = await scene.connection.fetchval("SELECT count(*) FROM quota_reservations WHERE customer_id = $1", customer)

    async def attempt() -> bool:
        try:
            await acquire(scene, stub, customer)
        except grpc.aio.AioRpcError as error:
            info = error_info(error)
            if info is None or info.reason != EXCEEDED:
                raise
            return False
        return True

    return bool(sum(await asyncio.gather(*(attempt() for _ in range(2 * SHORT)))) == SHORT - before)


if __name__ == "__main__":
    uvloop.run(main())
