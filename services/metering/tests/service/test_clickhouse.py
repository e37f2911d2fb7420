"""The copy of the log in ClickHouse: complete, every row once, the same answers; and what is answered without it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal as DecimalPb

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from metering.clickhouse import comparing
from metering.clickhouse.connection import Connection
from metering.clickhouse.copying import BLOCKS_AGAIN
from metering.clickhouse.question import micros
from metering.log.copies import COPIER_CLASS
from saldo.metering.v1 import backfill_service_pb2 as backfills_pb
from saldo.metering.v1 import corrections_service_pb2, freeze_service_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventFilter, Meter
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import FlatEvent, UsageEvent
from services.metering.tests.service.test_shards import seller_in

pytestmark = pytest.mark.own_services

ANNA: Final = ids.mint("cus", SANDBOX_START)
DAY: Final = timedelta(days=1)
START: Final = SANDBOX_START - 40 * DAY
MONTH: Final = Period(START, START + 30 * DAY)
LEAF_ROWS: Final = 100
NOWHERE: Final = "http://127.0.0.1:9/default"
"""Where nobody listens."""
VALID: Final = freeze_service_pb2.VerifyDigestResponse.VALID
IN_EUROPE: Final = DimensionMatch(dimension="region", values=["eu"])
METERS: Final[dict[str, dict[str, Any]]] = {  # Any: fields of the request
    "sum": {"aggregation": Meter.SUM},
    "largest": {"aggregation": Meter.MAX, "filter": EventFilter(match=[IN_EUROPE])},
    "level": {"aggregation": Meter.WEIGHTED_SUM, "carries_over": True},
    "cost": {"aggregation": Meter.AVERAGE, "value_expression": "value * price / 7"},
    "wide": {"aggregation": Meter.LATEST, "value_expression": "value * price * price * price"},
}


class Room:
    """A service that copies its log, with some usage of several meters."""

    def __init__(self, suite: Suite, url: str) -> None:
        self.suite = suite
        self.url = url
        self.sent: list[UsageEvent] = []

    async def start(self, *, by: str = "clickhouse", wait_seconds: float = 20, **more: object) -> None:
        await self.suite.start(
            "metering",
            usage_store=by,
            clickhouse_url=self.url,
            clickhouse_wait_seconds=wait_seconds,
            clickhouse_pause_seconds=0.01,
            **{"leaf_rows": LEAF_ROWS, **more},
        )
        self.connect()

    def connect(self) -> None:
        self.metering = self.suite.stub(MeteringServiceStub, "metering")
        self.backfills = self.suite.stub(BackfillServiceStub, "metering")
        self.fixing = self.suite.stub(CorrectionServiceStub, "metering")
        self.freezes = self.suite.stub(FreezeServiceStub, "metering")

    async def meters(self, *codes: str) -> None:
        for code in codes or METERS:
            await self.metering.CreateMeter(pb.CreateMeterRequest(code=code, display_name=code, **METERS[code]))

    async def use(self, events: Sequence[UsageEvent]) -> None:
        for first in range(0, len(events), 40):
            part = events[first : first + 40]
            answer = await self.metering.IngestEvents(pb.IngestEventsRequest(events=part))
            assert answer.accepted_count == len(part)
        self.sent += events

    async def quantity(self, meter: str = "sum", **more: int) -> str:
        found = await self.metering.QueryUsage(pb.QueryUsageRequest(query=query(meter, **more)))
        return str(found.quantity.value)

    async def verdict(self, frozen_id: str) -> int:
        told = freeze_service_pb2.VerifyDigestRequest(frozen_usage_id=frozen_id)
        return int((await self.freezes.VerifyDigest(told)).verdict)

    async def sql(self, statement: str) -> Any:  # Any: one value
        async with self.connection() as connection:
            return await connection.fetchval(statement)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.suite.urls["metering"].replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            yield connection
        finally:
            await connection.close()


@pytest.fixture
def room(suite: Suite, clickhouse_url: str) -> Room:
    return Room(suite, clickhouse_url)


def event(chance: random.Random, event_id: str, meter: str) -> UsageEvent:
    return UsageEvent(
        id=event_id,
        source=chance.choice(["gateway", "Ä"]),
        customer=chance.choice([ANNA, "anna", "bob"]),
        meter=meter,
        time=wire.timestamp(START + timedelta(microseconds=chance.randrange(35 * 86_400 * 10**6))),
        value=DecimalPb(value=f"{chance.randrange(-(10**6), 10**9)}.{chance.randrange(10**9)}"),
        dimensions={"region": chance.choice(["eu", "us", 'a"\\Ä']), "price": chance.choice(["0.07", "3", "none"])},
    )


def some_events(chance: random.Random, count: int, *, since: int = 0) -> list[UsageEvent]:
    return [event(chance, str(n), chance.choice(list(METERS))) for n in range(since, since + count)]


def one(event_id: str, value: str = "1") -> UsageEvent:
    time = wire.timestamp(START + DAY)
    return UsageEvent(id=event_id, source="s", customer=ANNA, meter="sum", time=time, value=DecimalPb(value=value))


def query(meter: str, **more: Any) -> pb.UsageQuery:  # Any: fields of the query
    return pb.UsageQuery(customer_id=ANNA, names=["anna"], meter=meter, period=wire.interval(MONTH), **more)


async def answers(room: Room, frozen: Sequence[str], *, last: int) -> list[Message]:
    """To all kinds of questions about all meters, of now and of then."""
    queries = [
        query(meter, **more)
        for meter in METERS
        for more in (
            {},
            {"without_proof": True},
            {"with_values": True, "group_by": ["region", "price"]},
            {"window": "WEEK", "time_zone": "Europe/Berlin", "through_position": last // 2},
        )
    ]
    found: list[Message] = list(
        (await room.metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
    )
    for meter in METERS:
        page = pb.ListEventsRequest(query=query(meter, through_position=last - 3), page_size=7)
        for _ in range(2):
            listed = await room.metering.ListEvents(page)
            found.append(listed)
            page.page_token = listed.next_page_token
    for frozen_id in frozen:
        assert await room.verdict(frozen_id) == VALID
        found.append(await room.freezes.GetLateUsage(freeze_service_pb2.GetLateUsageRequest(id=frozen_id)))
    return found


async def test_cutting_over_changes_no_answer(room: Room) -> None:
    """Quantity, digest, groups, windows, values, lists, late usage: to the byte, whichever store counts, and froze."""
    chance = random.Random(5)
    await room.start()
    await room.meters()
    await room.use(some_events(chance, 250))
    frozen = await freeze_all(room)
    corrected = chance.sample(room.sent, 12)
    for each in corrected[:6]:
        void = corrections_service_pb2.VoidEventRequest(source=each.source, id=each.id, reason="twice")
        await room.fixing.VoidEvent(void)
    for each in corrected[6:]:
        amended = event(chance, each.id, chance.choice([each.meter, *METERS]))
        amended.source = each.source
        await room.fixing.AmendEvent(corrections_service_pb2.AmendEventRequest(event=amended, reason="misread"))
    await room.use(some_events(chance, 60, since=1_000))
    last = await room.sql("SELECT max(last) FROM positions")
    counted_there = await answers(room, frozen, last=last)
    await room.suite.stop("metering")
    await room.start(by="postgresql")
    frozen_here = await freeze_all(room)
    assert await answers(room, frozen, last=last) == counted_there
    await room.suite.stop("metering")
    await room.start()
    for frozen_id in frozen_here:
        assert await room.verdict(frozen_id) == VALID
    assert await room.sql("SELECT count(*) FROM usage_leaves WHERE copied_count = row_count") >= 2


async def freeze_all(room: Room) -> list[str]:
    asked = [freeze_service_pb2.FreezeUsageRequest(query=query(meter)) for meter in METERS]
    return [(await room.freezes.FreezeUsage(each)).id for each in asked]


async def test_what_is_copied_again_counts_once(room: Room) -> None:
    """A process that dies between sending and noting sends the same again; so does one that noted nothing at all."""
    await room.start()
    await room.meters("sum")
    await room.use([one(str(n)) for n in range(250)])
    assert await room.quantity() == "250"
    await room.suite.stop("metering")
    await room.sql("WITH forgotten AS (DELETE FROM usage_copies) UPDATE usage_leaves SET copied_count = NULL")
    await room.start()
    assert await room.quantity() == "250"
    await room.use([one(str(n)) for n in range(250, 260)])
    assert await room.quantity() == "260"


async def test_backfills_count_there_from_their_close_until_they_are_reverted(room: Room) -> None:
    """Two that share a leaf, which comes after the one being written; and what came before, in between and after."""
    await room.start()
    await room.meters("sum")
    await room.use([one("before")])
    backfills: list[backfills_pb.Backfill] = []
    for name in ("first", "second"):
        opened = await room.backfills.OpenBackfill(backfills_pb.OpenBackfillRequest(reason="the meter was offline"))
        loading = [one(f"{name}-{n}") for n in range(30)]
        await room.metering.IngestEvents(pb.IngestEventsRequest(events=loading, backfill_id=opened.id))
        assert await room.quantity() == str(1 + 31 * len(backfills))
        backfills.append(await room.backfills.CloseBackfill(backfills_pb.CloseBackfillRequest(id=opened.id)))
        await room.use([one(f"after {name}")])
        assert await room.quantity() == str(1 + 31 * len(backfills))
    reverting = backfills_pb.RevertBackfillRequest(id=backfills[0].id, reason="twice")
    reverted = await room.backfills.RevertBackfill(reverting)
    assert await room.quantity() == "33"
    assert await room.quantity(through_position=reverted.revert_position - 1) == "63"
    await room.use([one("first-7", "1000"), one("last")])
    assert await room.quantity() == "1034"
    await room.suite.stop("metering")
    await room.start(by="postgresql")
    assert await room.quantity() == "1034"
    assert await room.quantity(through_position=reverted.revert_position - 1) == "63"


async def test_what_joins_a_leaf_while_that_is_copied_is_copied_too(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small backfills share a leaf, and the second may be closed when the rows of the first have just been read."""
    await room.start()
    await room.meters("sum")
    opened = []
    for name in ("first", "second"):
        each = await room.backfills.OpenBackfill(backfills_pb.OpenBackfillRequest(reason="the meter was offline"))
        loading = [one(f"{name}-{n}") for n in range(30)]
        await room.metering.IngestEvents(pb.IngestEventsRequest(events=loading, backfill_id=each.id))
        opened.append(each.id)
    insert = Connection.insert
    late, closed = opened[1:], asyncio.Event()

    async def then_close(connection: Connection, block: bytes) -> None:
        await insert(connection, block)
        if b"first-7" in block and late:
            await room.backfills.CloseBackfill(backfills_pb.CloseBackfillRequest(id=late.pop()))
            closed.set()

    monkeypatch.setattr(Connection, "insert", then_close)
    await room.backfills.CloseBackfill(backfills_pb.CloseBackfillRequest(id=opened[0]))
    async with asyncio.timeout(20):
        await closed.wait()
    assert await room.quantity() == "60"


async def test_days_are_compared(room: Room) -> None:
    """Before anybody cuts over: a row that is missing in the copy is found, and so is one that says something else."""
    await room.start()
    await room.meters()
    await room.use(some_events(random.Random(3), 120))
    await room.fixing.VoidEvent(
        corrections_service_pb2.VoidEventRequest(source=room.sent[7].source, id=room.sent[7].id, reason="twice")
    )
    await room.quantity()
    urls = (room.suite.urls["metering"], room.url)
    lines, is_same = await comparing.compare(*urls)
    assert is_same
    assert lines[0].endswith("121 rows are the same, 0 days are different")
    async with room.connection() as connection:
        await connection.execute(
            "UPDATE usage_log SET value = value + 1 WHERE position = 20;"
            'UPDATE usage_log SET dimensions = dimensions || \'{"region": "asia"}\' WHERE position = 30'
        )
    lines, is_same = await comparing.compare(*urls, [room.suite.seller])
    assert not is_same
    assert [line.split(": ")[1].split(",")[0] for line in lines[:-1]] == ["DIFFERENT"] * 2
    lines, is_same = await comparing.compare(*urls, ["sel_of_nobody"])
    assert (lines, is_same) == (["0 days with 0 rows are the same, 0 days are different"], True)


async def test_every_shard_is_copied(room: Room) -> None:
    """By whoever owns it: the leaves of one say nothing about another's, and a seller's answer is from its own."""
    await room.start(shards=3)
    own = room.suite.seller
    sellers = [seller_in(shard, shards=3) for shard in range(3)]
    for n, seller_id in enumerate(sellers):
        room.suite.seller = seller_id
        room.connect()
        await room.meters("sum")
        await room.use([one(f"{k}") for k in range((n + 1) * LEAF_ROWS)])
        assert await room.quantity() == f"{(n + 1) * LEAF_ROWS}"
    room.suite.seller = own
    lines, is_same = await comparing.compare(room.suite.urls["metering"], room.url)
    assert is_same
    assert lines == [f"3 days with {6 * LEAF_ROWS} rows are the same, 0 days are different"]
    assert await room.sql(UNCOPIED) == 0


async def test_rows_are_found_wherever_they_lie(room: Room) -> None:
    """PostgreSQL may put later rows before earlier ones: a gap in the positions shows that some were not seen."""
    await room.start(leaf_rows=100_000)
    await room.meters("sum")
    time = micros(START + DAY)
    many = [
        FlatEvent(id=str(n), source="s", customer=ANNA, meter="sum", time_micros=time, units=1) for n in range(8_000)
    ]
    await room.metering.IngestEvents(pb.IngestEventsRequest(flat_events=many))
    assert await room.quantity() == "8000"
    assert await room.sql("SELECT pg_relation_size('leaves.usage_1') / 8192") > 2 * BLOCKS_AGAIN
    # As if they had not been seen: the next look begins behind them.
    await room.sql("UPDATE usage_copies SET position = 5")
    assert await room.quantity() == "8000"
    assert await room.sql("SELECT position FROM usage_copies") == 8_000


async def test_many_may_be_asked_about_at_once(room: Room) -> None:
    """A thousand customers of eleven names each are more than ClickHouse reads unless it is told to."""
    await room.start(leaf_rows=100_000)
    await room.meters("sum")
    time = micros(START + DAY)
    used = [
        FlatEvent(id=str(n), source="s", customer=f"c{n}", meter="sum", time_micros=time, units=n) for n in range(9_000)
    ]
    await room.metering.IngestEvents(pb.IngestEventsRequest(flat_events=used))
    queries = [
        pb.UsageQuery(
            customer_id=ANNA, names=[f"c{n + 1_000 * each}" for each in range(11)], meter="sum",
            period=wire.interval(MONTH), without_proof=True,
        )
        for n in range(1_000)
    ]  # fmt: skip
    found = (await room.metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=queries))).usages
    assert [each.quantity.value for each in found] == [str(9 * n + 36_000) for n in range(1_000)]


async def test_two_replicas_copy_in_turn(room: Room) -> None:
    """One has the lock; as soon as it is gone the other goes on."""
    await room.start(wait_seconds=0)
    await room.meters("sum")
    async with held_up(room):
        await room.use([one("a")])
        assert await room.quantity() == "0"
        # Nothing is decided by a part; and what is asked through a position is not answered through another.
        with refused("USAGE_COPY_BEHIND", grpc.StatusCode.UNAVAILABLE) as refusal:
            await room.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query("sum")))
        assert refusal.metadata == {"through_position": "0"}
        with refused("USAGE_COPY_BEHIND"):
            await room.metering.QueryUsage(pb.QueryUsageRequest(query=query("sum", through_position=1)))
        assert await room.sql(UNCOPIED) == 1
    await eventually(room.quantity, "1")
    assert await room.sql(UNCOPIED) == 0


async def test_without_clickhouse_events_are_stored_and_not_counted(room: Room) -> None:
    """Nobody loses an event because somebody else cannot count; who asks is told to ask again."""
    room.url = NOWHERE
    await room.start(wait_seconds=0)
    await room.meters("sum")
    await room.use([one("a"), one("b")])
    with refused("USAGE_STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE):
        await room.quantity()
    assert await room.sql(UNCOPIED) == 2
    await room.suite.stop("metering")
    await room.start(by="postgresql")
    assert await room.quantity() == "2"


UNCOPIED: Final = (
    "SELECT sum(p.last - coalesce(c.position, 0)) FROM positions p LEFT JOIN usage_copies c USING (seller_id)"
)


@asynccontextmanager
async def held_up(room: Room) -> AsyncIterator[None]:
    """Somebody else copies, and has not come to it yet."""
    async with room.connection() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
            " AND pid <> pg_backend_pid()",
            COPIER_CLASS,
        )
        await connection.execute("SELECT pg_advisory_lock($1, $2)", COPIER_CLASS, 0)
        yield


async def eventually(ask: Callable[[], Awaitable[str]], answer: str) -> None:
    for _ in range(2_000):
        if await ask() == answer:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never was {answer}")
