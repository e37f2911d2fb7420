"""Whatever is ingested, voided and amended, in any order: every answer is what a recount says, of now and of then."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import asyncpg
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from tests.support.seeds import seeds

pytestmark = pytest.mark.own_services

METERS: Final = {
    "sum": meter_pb2.Meter.SUM,
    "count": meter_pb2.Meter.COUNT,
    "max": meter_pb2.Meter.MAX,
    "min": meter_pb2.Meter.MIN,
}
CUSTOMERS: Final = ("anna", "bert")
FIRST: Final = datetime(2025, 12, 20, tzinfo=UTC)
DAY: Final = timedelta(days=1)
STEPS: Final = 120
LEAF_ROWS: Final = 150


@dataclass(slots=True)
class Model:
    """What there must be, by the plainest means."""

    stored: list[tuple[int, int | None, UsageEvent]] = field(default_factory=list)
    """From which position on each counts, and up to which."""
    last: int = 0
    newest: dict[str, int] = field(default_factory=dict)
    """Of each event that is not voided the place of its newest version."""

    def add(self, event: UsageEvent) -> None:
        self.last += 1
        self.newest[event.id] = len(self.stored)
        self.stored.append((self.last, None, event))

    def take_away(self, event_id: str) -> None:
        self.last += 1
        place = self.newest.pop(event_id)
        start, _, event = self.stored[place]
        self.stored[place] = (start, self.last, event)

    def counted(self, query: metering_pb.UsageQuery) -> Iterator[UsageEvent]:
        through = query.through_position if query.HasField("through_position") else self.last
        period = wire.parse_interval(query.period, field="period")
        for start, end, event in self.stored:
            counts = start <= through and (end is None or end > through)
            time = wire.parse_timestamp(event.time, field="time")
            named = event.meter == query.meter and event.customer in (query.external_id, *query.names)
            if counts and named and period.start <= time < period.end:
                yield event


def quantity(meter: str, counted: Sequence[UsageEvent]) -> Decimal:
    values = [Decimal(event.value.value) for event in counted]
    if meter == "count":
        return Decimal(len(values))
    if meter == "sum":
        return sum(values, Decimal(0))
    return (max if meter == "max" else min)(values, default=Decimal(0))


def some_event(chance: random.Random, event_id: str) -> UsageEvent:
    at = FIRST + DAY * chance.randrange(3) + timedelta(hours=chance.randrange(24))
    value = f"{chance.randrange(-50, 500)}.{chance.randrange(10)}"
    return UsageEvent(
        id=event_id, source="s", customer=chance.choice(CUSTOMERS), meter=chance.choice(list(METERS)),
        time=wire.timestamp(at), value=decimal_pb2.Decimal(value=value),
    )  # fmt: skip


def some_query(chance: random.Random, last: int) -> metering_pb.UsageQuery:
    start, end = sorted(chance.sample(range(0, 4 * 24 + 1, 6), 2))
    return metering_pb.UsageQuery(
        customer_id=ids.mint("cus", SANDBOX_START),
        external_id=chance.choice(CUSTOMERS),
        names=chance.choice([[], list(CUSTOMERS)]),
        meter=chance.choice(list(METERS)),
        period=wire.interval(Period(FIRST + timedelta(hours=start), FIRST + timedelta(hours=end))),
        through_position=chance.choice([None, None, chance.randint(0, last)]),
    )


@pytest.mark.parametrize("seed", seeds(1, further=[2]))
async def test_every_answer_is_what_a_recount_says(
    suite: Suite, seed: int, sum_open: Callable[[], Awaitable[int]]
) -> None:
    """Over leaves that fill, are indexed and summed meanwhile, also in part, at every position there ever was."""
    chance, model = random.Random(seed), Model()
    await suite.start("metering", leaf_rows=LEAF_ROWS, shards=3)
    metering, fixing = suite.stub(MeteringServiceStub, "metering"), suite.stub(CorrectionServiceStub, "metering")
    for code, aggregation in METERS.items():
        await metering.CreateMeter(
            metering_pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation)
        )
    for step in range(STEPS):
        await change(chance, model, metering, fixing, step)
        if chance.random() < 0.1:
            await sum_open()
        if step % 6 == 5:
            await compare(metering, model, [some_query(chance, model.last) for _ in range(12)])
    assert len(model.stored) > 3 * LEAF_ROWS
    assert sum(end is not None for _, end, _ in model.stored) > 10
    assert await summed_days_with_corrections(suite) > 3


async def change(chance: random.Random, model: Model, metering: Any, fixing: Any, step: int) -> None:  # Any: stubs
    what = chance.random()
    if what < 0.4 or not model.newest:
        sent = [some_event(chance, f"{step}-{n}") for n in range(chance.randint(1, 25))]
        await metering.IngestEvents(metering_pb.IngestEventsRequest(events=sent))
        for each in sent:
            model.add(each)
        return
    event_id = chance.choice(sorted(model.newest))
    if what < 0.65:
        await fixing.VoidEvent(pb.VoidEventRequest(source="s", id=event_id, reason="wrong"))
        model.take_away(event_id)
        return
    amended = some_event(chance, event_id)
    await fixing.AmendEvent(pb.AmendEventRequest(event=amended, reason="wrong"))
    model.take_away(event_id)
    model.add(amended)


async def compare(metering: Any, model: Model, queries: list[metering_pb.UsageQuery]) -> None:  # Any: a stub
    short = []
    for query in queries:
        short.append(metering_pb.UsageQuery())
        short[-1].CopyFrom(query)
        short[-1].ClearField("through_position")
        short[-1].without_proof = True
    found = [
        *(await metering.BatchQueryUsage(metering_pb.BatchQueryUsageRequest(queries=queries))).usages,
        *(await metering.BatchQueryUsage(metering_pb.BatchQueryUsageRequest(queries=short))).usages,
    ]
    for query, answer in zip([*queries, *short], found, strict=True):
        counted = list(model.counted(query))
        assert (Decimal(answer.quantity.value), answer.event_count) == (quantity(query.meter, counted), len(counted))
    for query in queries[:3]:
        listed = (await metering.ListEvents(metering_pb.ListEventsRequest(query=query, page_size=1000))).events
        assert sorted(each.id for each in listed) == sorted(each.id for each in model.counted(query))


async def summed_days_with_corrections(suite: Suite) -> int:
    """Without them the test would have proven little."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        found: int = await connection.fetchval(
            "SELECT count(*) FROM usage_days d WHERE EXISTS"
            " (SELECT FROM usage_corrections c WHERE (c.stream, c.day) = (d.stream, d.day))"
        )
        return found
    finally:
        await connection.close()
