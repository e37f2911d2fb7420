"""Sellers are divided among shards, and shards among replicas: each seller's events are counted once, for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import grpc.aio
import pytest

from common import ids
from common.caller import service_caller
from common.db import Database
from common.ids import SellerId
from common.telemetry import Telemetry
from common.testing import SANDBOX_START, Suite, refused
from metering.forwarding import FORWARDED
from metering.log import Log, shard, sharing
from metering.log.sellers import Sellers, shard_for
from metering.store.alerts import THRESHOLD_LOOKS
from metering.store.looks import LEAVES_PER_LOOK, Look, stretch
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import FlatEvent
from services.metering.tests.replicas import beside
from services.metering.tests.service.test_log import SELLER, batch

SHARDS: Final = 4
LEAF_ROWS: Final = 100
WAIT_SECONDS: Final = 20


def seller_in(shard: int, *, shards: int = SHARDS) -> SellerId:
    """One who is new belongs there."""
    while shard_for(seller_id := ids.mint(ids.SELLER, datetime(2026, 1, 1, tzinfo=UTC)), shards=shards) != shard:
        pass
    return SellerId(seller_id)


def request(event_ids: Sequence[str], *, backfill_id: str = "") -> pb.IngestEventsRequest:
    micros = int(SANDBOX_START.timestamp()) * 1_000_000
    return pb.IngestEventsRequest(
        backfill_id=backfill_id,
        flat_events=[
            FlatEvent(id=each, source="s", customer="c", meter="kwh", time_micros=micros) for each in event_ids
        ],
    )


async def logged(suite: Suite, question: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        return list(await connection.fetch(question, *values))
    finally:
        await connection.close()


class Replica:
    """One of several that are there at the same time."""

    def __init__(self, suite: Suite, address: str, channel: grpc.aio.Channel) -> None:
        self._suite = suite
        self.address = address
        self.channel = channel

    def metadata(self, seller_id: SellerId) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._suite.keys.token(seller_id=seller_id)}")]

    async def ask(  # Any: grpc stubs are generated
        self, stub: Any, method: str, asked: Any, seller_id: SellerId, *, marked: bool = False
    ) -> Any:
        metadata = self.metadata(seller_id) + ([(FORWARDED, "1")] if marked else [])
        return await getattr(stub(self.channel), method)(asked, metadata=metadata, timeout=WAIT_SECONDS)

    async def send(
        self, seller_id: SellerId, asked: pb.IngestEventsRequest, *, marked: bool = False
    ) -> tuple[int, int]:
        answer = await self.ask(MeteringServiceStub, "IngestEvents", asked, seller_id, marked=marked)
        return answer.accepted_count, answer.duplicate_count


@asynccontextmanager
async def replica(suite: Suite, *, shards: int = SHARDS) -> AsyncIterator[Replica]:
    async with beside(suite, leaf_rows=LEAF_ROWS, shards=shards) as (address, channel):
        yield Replica(suite, address, channel)


@contextmanager
def quick() -> Iterator[None]:
    """Shards are divided anew as soon as there is anybody to divide them among."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "SETTLED_SECONDS", 0.3)
        patch.setattr(sharing, "STEP_SECONDS", 0.1)
        yield


async def owners(suite: Suite) -> dict[int, str]:
    """Whoever owns each shard now, by its address."""
    rows = await logged(
        suite,
        "SELECT s.shard, s.address FROM shards s JOIN pg_locks l ON l.objid = s.shard AND l.objsubid = 2"
        " WHERE l.locktype = 'advisory' AND l.classid = 7203158"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    return {row["shard"]: row["address"] for row in rows}


async def until_owned(suite: Suite, counts: Mapping[str, int]) -> dict[int, str]:
    """Wait until each of the replicas owns so many shards."""
    found: dict[int, str] = {}
    for _ in range(WAIT_SECONDS * 20):
        found = await owners(suite)
        if {each: [*found.values()].count(each) for each in counts} == counts:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it stays at {found}")


async def create_meter(of: Replica, seller_id: SellerId) -> None:
    meter = pb.CreateMeterRequest(code="kwh", display_name="kWh", aggregation=meter_pb2.Meter.SUM)
    await of.ask(MeteringServiceStub, "CreateMeter", meter, seller_id)


@pytest.fixture
def sellers() -> list[SellerId]:
    """Two in each shard."""
    return [seller_in(shard) for shard in (*range(SHARDS), *range(SHARDS))]


async def test_each_replica_owns_some_and_all_take_what_is_sent(suite: Suite, sellers: Sequence[SellerId]) -> None:
    """What is sent to the wrong replica is stored by the right one, each event once however often it is sent to either;
    and so is what corrects, and what is loaded in a backfill. When one goes, the other knows all that it stored."""
    suite.urls["metering"] = await suite.databases.create("metering", migrated="metering")
    async with AsyncExitStack() as stack:
        stack.enter_context(quick())
        first = await stack.enter_async_context(AsyncExitStack())
        one = await first.enter_async_context(replica(suite))
        await until_owned(suite, {one.address: SHARDS})
        for seller_id in sellers:
            await create_meter(one, seller_id)
        moved = asyncio.Event()
        sending = [asyncio.create_task(_go_on_sending(one, seller_id, moved)) for seller_id in sellers]
        two = await stack.enter_async_context(replica(suite))
        owner = await until_owned(suite, {one.address: SHARDS // 2, two.address: SHARDS // 2})
        moved.set()
        sent = await asyncio.gather(*sending)
        parts = [[f"{part}-{n}" for n in range(40)] for part in range(4)]
        for part in parts:
            asked = request(part)
            answers = await asyncio.gather(
                *(each.send(seller_id, asked) for seller_id in sellers for each in (one, two, two, one))
            )
            for n, seller_id in enumerate(sellers):
                own = sorted(answers[4 * n : 4 * n + 4])
                assert own == [(0, 40), (0, 40), (0, 40), (40, 0)], seller_id
        wrong = {
            seller_id: two if owner[shard_for(seller_id, shards=SHARDS)] == one.address else one
            for seller_id in sellers
        }
        assert set(wrong.values()) == {one, two}
        for seller_id, other in wrong.items():
            with refused("INGEST_MOVING"):
                await other.send(seller_id, request(["x"]), marked=True)
            await _correct_and_load(other, seller_id)
        await first.aclose()
        await until_owned(suite, {two.address: SHARDS})
        for seller_id in sellers:
            assert await two.send(seller_id, request([*parts[0], "0-0", "late", "loaded"])) == (1, 42)
        assert {*await owners(suite)} == {*range(SHARDS)}
    for seller_id, moving in zip(sellers, sent, strict=True):
        await _is_sound(suite, seller_id, count=moving + 4 * 40 + 1 + 1 + 1)


async def _go_on_sending(to: Replica, seller_id: SellerId, moved: asyncio.Event) -> int:
    """While shards change hands, and nobody is refused; how many events."""
    count = 0
    while not moved.is_set():
        assert await to.send(seller_id, request([f"moving-{count}"])) == (1, 0)
        count += 1
    return count


async def _correct_and_load(at: Replica, seller_id: SellerId) -> None:
    """At a replica that does not own the seller's shard."""
    void = corrections.VoidEventRequest(source="s", id="0-0", reason="wrong")
    assert (await at.ask(CorrectionServiceStub, "VoidEvent", void, seller_id)).is_voided
    opened = await at.ask(
        BackfillServiceStub, "OpenBackfill", backfills.OpenBackfillRequest(reason="was offline"), seller_id
    )
    assert await at.send(seller_id, request(["loaded", "0-1"], backfill_id=opened.id)) == (1, 1)
    close = backfills.CloseBackfillRequest(id=opened.id, event_count=1)
    closed = await at.ask(BackfillServiceStub, "CloseBackfill", close, seller_id)
    assert closed.state == backfills.Backfill.CLOSED


async def test_what_is_on_its_way_to_a_shard_that_is_given_up_is_stored(suite: Suite) -> None:
    """It was let in while this replica was the owner, and would else wait in vain for it to be that again."""
    suite.urls["metering"] = await suite.databases.create("metering", migrated="metering")
    database = Database(suite.urls["metering"], service="metering")
    log = Log(database, leaf_rows=LEAF_ROWS, telemetry=Telemetry("metering"))
    running = asyncio.create_task(log.run())
    try:
        await log.append(batch(["a"]))
        given_up = await log.shard_of(SELLER)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shard, "LINGER_SECONDS", 1.0)
            given_up.give_up()
            await asyncio.sleep(0.2)
            assert (await log.append(batch(["b", "a"]))).fresh is not None
            assert log.owned_shards == [], "new requests are not let in"
        async with asyncio.timeout(WAIT_SECONDS):
            await given_up.owned.wait()
        assert (await log.append(batch(["b", "c"]))).fresh is not None
    finally:
        log.stop()
        await running
        await database.close()
    rows = await logged(suite, "SELECT event_id FROM usage_events ORDER BY position")
    assert [row["event_id"] for row in rows] == ["a", "b", "c"]


async def _is_sound(suite: Suite, seller_id: SellerId, *, count: int) -> None:
    """Positions without a gap, each event once, and all of a seller in leaves of one shard."""
    question = "SELECT e.*, l.shard FROM usage_events e JOIN usage_leaves l USING (leaf) WHERE e.seller_id = $1"
    own = await logged(suite, question, seller_id)
    assert sorted(row["position"] for row in own) == [*range(1, count + 1)]
    assert len({(row["event_id"], row["corrects"]) for row in own}) == count
    assert {row["shard"] for row in own} == {shard_for(seller_id, shards=SHARDS)}


async def test_a_seller_stays_in_its_shard_whatever_is_set(suite: Suite) -> None:
    """More shards are for new sellers; with fewer, those that have sellers are owned as before. The database refuses to
    move anybody."""
    await suite.start("metering", leaf_rows=LEAF_ROWS, shards=2)
    before = [seller_in(shard, shards=2) for shard in (0, 1)]
    for shards, new in ((2, before), (4, [seller_in(3)]), (1, [seller_in(3)])):
        await suite.stop("metering")
        await suite.start("metering", leaf_rows=LEAF_ROWS, shards=shards)
        for seller_id in {*before, *new}:
            metering = suite.stub(MeteringServiceStub, "metering", seller=seller_id)
            answer = await metering.IngestEvents(request(["a", f"{shards}"]))
            stored = answer.unmatched_count, answer.duplicate_count
            assert stored == ((2, 0) if seller_id in new else (1, 1)), shards
        before = [*before, *(each for each in new if each not in before)]
    rows = await logged(suite, "SELECT seller_id, shard FROM positions")
    found = {row["seller_id"]: row["shard"] for row in rows}
    assert [found[each] for each in before] == [0, 1, 3, 0]
    assert {*await owners(suite)} >= {0, 1, 3}
    # As a replica would that took a seller for another shard's, or knows of no other than the first.
    for change in ("shard = 1 WHERE shard = 3", "shard = 3 WHERE shard = 0", "last = last + 1 WHERE shard = 3"):
        with pytest.raises(asyncpg.RaiseError, match="another shard"):
            await logged(suite, f"UPDATE positions SET {change}")


async def test_two_replicas_never_put_a_seller_in_two_shards(suite: Suite) -> None:
    """While a setting is rolled out they would decide differently: whose row is first is right for both."""
    await suite.start("metering")
    database = Database(suite.urls["metering"], service="metering")
    try:
        few, many = Sellers(database, shards=1), Sellers(database, shards=8)
        new = [f"sel_{n}" for n in range(40)]
        asked = [(each, seller_id) for seller_id in new for each in (few, many)]
        random.Random(3).shuffle(asked)
        told = await asyncio.gather(*(each.shard_of(seller_id) for each, seller_id in asked))
    finally:
        await database.close()
    rows = await logged(suite, "SELECT p.seller_id, p.shard FROM positions p JOIN shards USING (shard)")
    decided = {row["seller_id"]: row["shard"] for row in rows}
    assert [decided[seller_id] for _, seller_id in asked] == told
    assert len(set(told)) > 1, "each of them was first for somebody"


async def test_a_look_goes_through_the_leaves_of_its_sellers_shard(suite: Suite) -> None:
    """And through no other: a shard in which nothing happens would else hold up, and one that is busy keep busy,
    whoever looks for what came late."""
    await suite.start("metering", leaf_rows=LEAF_ROWS, shards=2)
    calm, busy, new = seller_in(0, shards=2), seller_in(1, shards=2), seller_in(0, shards=2)
    database = Database(suite.urls["metering"], service="metering")
    try:
        async with database.transaction(service_caller("metering", new)) as tx:
            await THRESHOLD_LOOKS.hold(tx)
        for n in range(8):
            for seller_id in (calm, busy) if n == 4 else (busy,):
                metering = suite.stub(MeteringServiceStub, "metering", seller=seller_id)
                await metering.IngestEvents(request([f"{n}-{k}" for k in range(LEAF_ROWS)]))
        await suite.stub(MeteringServiceStub, "metering", seller=new).IngestEvents(request(["a"]))
        rows = await logged(
            suite, "SELECT e.seller_id, e.leaf, l.shard FROM usage_events e JOIN usage_leaves l USING (leaf)"
        )
        looked: list[int] = []
        async with database.transaction(service_caller("metering", busy)) as tx:
            reached = Look(leaf=0, position=0)
            while reached.position < 8 * LEAF_ROWS:
                part = await stretch(tx, reached)
                assert len(part.leaves) <= LEAVES_PER_LOOK + 1
                looked += part.leaves
                reached = part.reached
        async with database.transaction(service_caller("metering", new)) as tx:
            held = await THRESHOLD_LOOKS.lock(tx)
    finally:
        await database.close()
    leaves = {row["leaf"]: row["shard"] for row in rows}
    assert {row["leaf"] for row in rows if row["seller_id"] == busy} <= set(looked)
    assert {leaves[leaf] for leaf in set(looked) & leaves.keys()} == {1}
    assert len(looked) == len(set(looked)), "and each once"
    assert reached.leaf >= max(leaf for leaf, shard in leaves.items() if shard == 1)
    assert held is not None
    assert held.leaf <= min(row["leaf"] for row in rows if row["seller_id"] == new)
