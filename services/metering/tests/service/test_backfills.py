"""Usage that is loaded as a backfill counts as a whole from one position on, or not at all."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal

from common import ids, wire
from common.caller import Role
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from metering.domain import backfill as domain
from metering.log import Log, leaves, memory, owner, settling
from saldo.metering.v1 import backfill_service_pb2 as pb
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import events_pb2, meter_pb2
from saldo.metering.v1 import freeze_service_pb2 as freezes
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import usage_threshold_service_pb2 as threshold_pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventColumns, EventResult, FlatEvent, Usage, UsageEvent
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub

pytestmark = pytest.mark.own_services

ANNA: Final = ids.mint("cus", SANDBOX_START)
DECEMBER: Final = Period(datetime(2025, 12, 1, tzinfo=UTC), SANDBOX_START)
NOON: Final = DECEMBER.start + timedelta(hours=12)
SEED: Final = 20_260_105
HOUR: Final = timedelta(hours=1)
ACCEPTED, DUPLICATE, REJECTED = EventResult.ACCEPTED, EventResult.DUPLICATE, EventResult.REJECTED
OPEN, CLOSED, REVERTED = pb.Backfill.OPEN, pb.Backfill.CLOSED, pb.Backfill.REVERTED


class Room:
    """A service with the meters `kwh`, `peak` and `seats`, and what is done in it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.connect()

    def connect(self) -> None:
        self.metering = self.suite.stub(MeteringServiceStub, "metering")
        self.backfills = self.suite.stub(BackfillServiceStub, "metering")
        self.corrections = self.suite.stub(CorrectionServiceStub, "metering")
        self.freezes = self.suite.stub(FreezeServiceStub, "metering")

    async def open(self) -> str:
        opened: pb.Backfill = await self.backfills.OpenBackfill(pb.OpenBackfillRequest(reason="the meter was offline"))
        return opened.id

    async def close(self, backfill_id: str) -> pb.Backfill:
        closed: pb.Backfill = await self.backfills.CloseBackfill(pb.CloseBackfillRequest(id=backfill_id))
        return closed

    async def revert(self, backfill_id: str) -> pb.Backfill:
        request = pb.RevertBackfillRequest(id=backfill_id, reason="the wrong file")
        reverted: pb.Backfill = await self.backfills.RevertBackfill(request)
        return reverted

    async def get(self, backfill_id: str) -> pb.Backfill:
        found: pb.Backfill = await self.backfills.GetBackfill(pb.GetBackfillRequest(id=backfill_id))
        return found

    async def send(self, *events: UsageEvent, into: str = "") -> list[EventResult.Outcome.ValueType]:
        request = metering_pb.IngestEventsRequest(events=events, backfill_id=into)
        return [each.outcome for each in (await self.metering.IngestEvents(request)).results]

    async def backfilled(self, *events: UsageEvent) -> pb.Backfill:
        """One that is closed."""
        backfill_id = await self.open()
        if events:
            assert await self.send(*events, into=backfill_id) == [ACCEPTED] * len(events)
        return await self.close(backfill_id)

    async def usage(self, meter: str = "kwh", *, period: Period = DECEMBER, **query: Any) -> Usage:
        """Which must not depend on whether its proof is asked for, and must be that of the events listed."""
        asked = metering_pb.UsageQuery(customer_id=ANNA, meter=meter, period=wire.interval(period), **query)
        short = metering_pb.UsageQuery()
        short.CopyFrom(asked)
        short.without_proof = True
        batch = metering_pb.BatchQueryUsageRequest(queries=[asked])
        [found] = (await self.metering.BatchQueryUsage(batch)).usages
        quick = await self.metering.QueryUsage(metering_pb.QueryUsageRequest(query=short))
        assert (quick.quantity, quick.event_count) == (found.quantity, found.event_count)
        listed = await self.metering.ListEvents(metering_pb.ListEventsRequest(query=asked, page_size=1_000))
        assert len(listed.events) == min(found.event_count, 1_000)
        answer: Usage = found
        return answer

    async def figures(self, meter: str = "kwh", **query: Any) -> tuple[str, int, int]:  # Any: fields of the query
        found = await self.usage(meter, **query)
        return found.quantity.value, found.event_count, found.through_position

    async def void(self, event_id: str) -> None:
        request = corrections.VoidEventRequest(source="s", id=event_id, reason="wrong")
        await self.corrections.VoidEvent(request)

    async def freeze(self, meter: str = "kwh") -> Any:  # Any: a frozen usage
        query = metering_pb.UsageQuery(customer_id=ANNA, meter=meter, period=wire.interval(DECEMBER))
        return await self.freezes.FreezeUsage(freezes.FreezeUsageRequest(query=query))

    async def late(self) -> list[tuple[str, str, int, int]]:
        """What was announced: of which frozen usage, by how much it changed, what was late, and what was taken away."""
        await self.suite.travel(await self.now() + HOUR)
        await self.suite.quiet()
        return [
            (
                each.late_usage.frozen_usage.id,
                each.late_usage.difference.value,
                each.late_usage.event_count,
                each.late_usage.corrected_count,
            )
            for each in self.suite.announced(events_pb2.LateUsageDetected)
        ]

    async def now(self) -> datetime:
        [(time,)] = await self.sql("SELECT coalesce(max(time), timestamptz '2026-01-01Z') FROM clocks")
        found: datetime = time
        return found

    async def sql(self, statement: str) -> list[tuple[Any, ...]]:  # Any: columns
        connection = await asyncpg.connect(self.suite.urls["metering"].replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def restart(self, *, crashing: bool = False) -> None:
        await (self.suite.crash("metering") if crashing else self.suite.stop("metering"))
        await self.suite.start("metering", leaf_rows=40, shards=3)
        self.connect()


@pytest_asyncio.fixture
async def room(suite: Suite) -> Room:
    await suite.start("metering", leaf_rows=40, shards=3)
    room = Room(suite)
    for code, aggregation, carries_over in (
        ("kwh", meter_pb2.Meter.SUM, False),
        ("peak", meter_pb2.Meter.MAX, False),
        ("seats", meter_pb2.Meter.SUM, True),
    ):
        await room.metering.CreateMeter(
            metering_pb.CreateMeterRequest(
                code=code, display_name=code, aggregation=aggregation, carries_over=carries_over
            )
        )
    return room


def event(event_id: str, value: str, *, meter: str = "kwh", at: datetime = NOON, **more: Any) -> UsageEvent:
    fields: dict[str, Any] = {"id": event_id, "source": "s", "customer": ANNA, "meter": meter}
    return UsageEvent(**(fields | more), time=wire.timestamp(at), value=Decimal(value=value))


def many(prefix: str, count: int, meter: str = "kwh") -> list[UsageEvent]:
    """Over three days, of 1, 2, 3, …"""
    return [
        event(f"{prefix}{n}", f"{n + 1}", meter=meter, at=DECEMBER.start + n * timedelta(days=3) / count)
        for n in range(count)
    ]


# What counts, and from where on


async def test_nothing_counts_until_it_is_closed_and_then_all_of_it(room: Room) -> None:
    """By whatever is asked; and who, when and why is told."""
    await room.send(event("a", "1"), event("b", "2"))
    backfill_id = await room.open()
    loaded = await room.send(event("c", "4"), event("d", "8"), event("e", "100", meter="nobodys"), into=backfill_id)
    assert loaded == [ACCEPTED, ACCEPTED, EventResult.UNMATCHED]
    assert await room.figures() == ("3", 2, 2)
    unmatched = metering_pb.ListUnmatchedUsageRequest()
    assert not (await room.metering.ListUnmatchedUsage(unmatched)).unmatched_usages
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.void("c")
    opened = await room.get(backfill_id)
    assert (opened.state, opened.event_count, opened.reason) == (OPEN, 3, "the meter was offline")
    assert (opened.opened_by, opened.first_position, opened.closed_by) == ("tester", 0, "")
    assert opened.expire_time.ToDatetime(UTC) - opened.create_time.ToDatetime(UTC) == timedelta(days=30)
    closed = await room.close(backfill_id)
    assert (closed.state, closed.event_count) == (CLOSED, 3)
    assert (closed.first_position, closed.last_position, closed.closed_by) == (3, 5, "tester")
    assert closed.HasField("close_time")
    assert closed == await room.get(backfill_id)
    assert await room.figures() == ("15", 4, 5)
    assert await room.figures(through_position=4) == ("15", 4, 4)
    assert await room.figures(through_position=2) == ("3", 2, 2)
    [found] = (await room.metering.ListUnmatchedUsage(unmatched)).unmatched_usages
    assert (found.meter, found.event_count, found.first_position) == ("nobodys", 1, 5)
    await room.send(event("f", "16"))
    assert await room.figures() == ("31", 5, 6)


async def test_a_reverted_one_counts_no_more(room: Room) -> None:
    """From a position of its own on; through earlier ones it is told as before."""
    await room.send(event("a", "1"))
    closed = await room.backfilled(event("b", "2"), event("p", "70", meter="peak"))
    await room.send(event("c", "4"), event("q", "7", meter="peak"))
    before = await room.usage()
    assert await room.figures("peak") == ("70", 2, 5)
    reverted = await room.revert(closed.id)
    assert (reverted.state, reverted.revert_position, reverted.revert_reason) == (REVERTED, 6, "the wrong file")
    assert (reverted.reverted_by, reverted.first_position, reverted.last_position) == ("tester", 2, 3)
    assert await room.figures() == ("5", 2, 6)
    assert await room.figures("peak") == ("7", 1, 6)
    again = await room.usage(through_position=5)
    assert (again.digest, again.quantity, again.event_count) == (before.digest, before.quantity, 3)
    assert await room.figures(through_position=3) == ("3", 2, 3)
    await room.send(event("d", "8"))
    assert await room.figures() == ("13", 3, 7)


async def test_an_open_one_is_discarded(room: Room) -> None:
    """As if it had never been, and its ids are free."""
    backfill_id = await room.open()
    await room.send(event("a", "1"), event("b", "2"), into=backfill_id)
    assert await room.send(event("a", "5")) == [DUPLICATE]
    reverted = await room.revert(backfill_id)
    assert (reverted.state, reverted.event_count, reverted.revert_position) == (REVERTED, 2, 0)
    assert await room.figures() == ("0", 0, 0)
    assert await room.send(event("a", "5")) == [ACCEPTED]
    assert await room.figures() == ("5", 1, 1)
    assert await room.sql("SELECT 1 FROM pg_tables WHERE schemaname = 'leaves' AND tablename LIKE 'backfill%'") == []


async def test_sums_of_days_are_those_of_the_events(room: Room) -> None:
    """Leaves that are summed, backfills and what was reverted of them: each meter is counted the short way and the
    long way, over whole days and parts of them, with corrections in between."""
    hours = ((0, 744), (5, 50), (24, 48))
    asked = [
        metering_pb.UsageQuery(
            customer_id=ANNA,
            meter=meter,
            period=wire.interval(Period(DECEMBER.start + first * HOUR, DECEMBER.start + last * HOUR)),
        )
        for meter in ("kwh", "peak", "seats")
        for first, last in hours
    ]

    async def agree() -> list[str]:
        found = [
            await room.metering.BatchQueryUsage(metering_pb.BatchQueryUsageRequest(queries=queries))
            for queries in (asked, [metering_pb.UsageQuery(**_fields(each), without_proof=True) for each in asked])
        ]
        whole, quick = ([(each.quantity.value, each.event_count) for each in answer.usages] for answer in found)
        assert whole == quick
        return [quantity for quantity, _ in whole]

    await room.send(*many("a", 60), *many("m", 60, "peak"), *many("s", 20, "seats"))
    first = await room.backfilled(*many("b", 30), *many("n", 90, "peak"))
    second = await room.backfilled(*many("c", 45), *many("t", 5, "seats"))
    whole = await agree()
    assert whole[:1] + whole[3:4] == ["3330", "90"]
    await room.void("b7")
    corrected = await agree()
    assert corrected[0] == "3322"
    await room.revert(first.id)
    assert [(await agree())[n] for n in (0, 3)] == ["2865", "60"]
    await room.revert(second.id)
    left = await agree()
    assert (left[0], left[3], left[6]) == ("1830", "60", "210")
    await room.restart(crashing=True)
    assert await agree() == left


# Identity


async def test_three_forms_mean_the_same(room: Room) -> None:
    """And each says of a repeat that it is one."""
    backfill_id = await room.open()
    micros = int(NOON.timestamp()) * 1_000_000
    flat = [
        FlatEvent(id=name, source="s", customer=ANNA, meter="kwh", time_micros=micros, units=4) for name in ("b", "a")
    ]
    columns = EventColumns(
        ids=b"cab",
        id_lengths=[1],
        strings=["s", ANNA, "kwh"],
        sources=[0],
        customers=[1],
        meters=[2],
        times_micros=[micros],
        units=[2],
    )
    found = [
        await room.metering.IngestEvents(metering_pb.IngestEventsRequest(backfill_id=backfill_id, **form))
        for form in ({"events": [event("a", "1")]}, {"flat_events": flat}, {"columns": columns})
    ]
    outcomes = [[each.outcome for each in answer.results] for answer in found]
    assert outcomes == [[ACCEPTED], [ACCEPTED, DUPLICATE], [ACCEPTED, DUPLICATE, DUPLICATE]]
    assert (await room.close(backfill_id)).event_count == 3
    assert await room.figures() == ("7", 3, 3)


async def test_a_repeat_is_one_on_whatever_side(room: Room) -> None:
    """In the backfill, in another one, and outside; before it is closed, after that, and after a restart."""
    await room.send(event("outside", "1"))
    one, other = await room.open(), await room.open()
    assert await room.send(event("a", "1"), event("a", "2"), event("outside", "3"), into=one) == [
        ACCEPTED,
        DUPLICATE,
        DUPLICATE,
    ]
    both = [event("a", "9"), event("bad", "NaN")]
    assert await room.send(*both, into=one) == [DUPLICATE, REJECTED]
    assert await room.send(*both, into=other) == [DUPLICATE, REJECTED]
    assert await room.send(*both) == [DUPLICATE, REJECTED]
    await room.restart(crashing=True)
    assert await room.send(event("a", "9")) == [DUPLICATE]
    assert await room.send(event("a", "9"), event("b", "4"), into=one) == [DUPLICATE, ACCEPTED]
    await room.close(one)
    assert await room.send(event("a", "9"), event("b", "9"), into=other) == [DUPLICATE, DUPLICATE]
    await room.restart()
    assert await room.send(event("a", "9"), event("b", "9")) == [DUPLICATE, DUPLICATE]
    assert (await room.get(other)).event_count == 0
    assert await room.figures() == ("6", 3, 3)


async def test_the_same_ids_at_once_are_stored_once(room: Room) -> None:
    """Ordinary usage and two backfills want them: whoever is first has each, and nobody else."""
    one, other = await room.open(), await room.open()
    batches = [many("x", 40)[n : n + 20] for n in (0, 5, 10, 15, 20)]
    sent = [room.send(*batch, into=into) for batch in batches for into in ("", one, other)]
    outcomes = [outcome for answer in await asyncio.gather(*sent) for outcome in answer]
    assert outcomes.count(ACCEPTED) == 40
    await room.close(one)
    await room.close(other)
    assert await room.figures() == ("820", 40, 40)


@pytest.mark.parametrize("many_keys", [1, leaves.MANY_KEYS])
async def test_reverted_ids_are_given_back(room: Room, monkeypatch: pytest.MonkeyPatch, many_keys: int) -> None:
    """To the same file, repaired; also after a restart, when they are known from filters and indexes only. What was
    corrected keeps its own for ever, whether its leaf is looked into as a whole or not."""
    monkeypatch.setattr(leaves, "MANY_KEYS", many_keys)
    wrong = await room.backfilled(*many("a", 50), event("voided", "3"))
    await room.void("voided")
    await room.revert(wrong.id)
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.void("a3")
    await room.restart(crashing=True)
    repaired = await room.open()
    assert await room.send(*many("a", 50), event("voided", "3"), into=repaired) == [*[ACCEPTED] * 50, DUPLICATE]
    assert await room.send(*many("a", 2), event("voided", "3")) == [DUPLICATE, DUPLICATE, DUPLICATE]
    await room.close(repaired)
    assert (await room.figures())[:2] == ("1275", 50)
    asked = corrections.GetEventRequest(source="s", id="a3")
    history = await room.corrections.GetEvent(asked)
    assert [each.position for each in history.versions] == [(await room.get(repaired)).first_position + 3]
    await room.void("a3")
    assert (await room.figures())[:2] == ("1271", 49)
    assert (await room.usage(through_position=wrong.last_position)).event_count == 51


async def test_a_leaf_that_has_given_back_all_is_not_looked_into(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a million that is loaded again would be looked for there. What shares a leaf keeps its own."""
    monkeypatch.setattr(leaves, "MANY_KEYS", 1)
    kept, wrong = await room.backfilled(*many("a", 5)), await room.backfilled(*many("b", 5))
    await room.revert(wrong.id)
    again = await room.open()
    assert await room.send(*many("a", 5), *many("b", 5), into=again) == [DUPLICATE] * 5 + [ACCEPTED] * 5
    await room.revert(again)
    await room.revert(kept.id)
    await room.restart(crashing=True)
    monkeypatch.setattr(leaves, "_KNOWN", "SELECT key FROM usage_log WHERE leaf = ANY ($1) AND key = ANY ($2)")
    assert await room.send(*many("a", 5), *many("b", 5)) == [ACCEPTED] * 10


async def test_filters_of_backfills_are_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full ones stand for their keys then, also after a crash; what is reverted is still given back, exactly."""
    monkeypatch.setattr(memory, "BACKFILLED_KEYS", 30)
    monkeypatch.setattr(leaves, "BACKFILLED_KEYS", 30)
    closed = [await room.backfilled(*many(name, 14)) for name in "abcde"]
    for _ in range(500):
        if await room.sql("SELECT generation FROM usage_filters ORDER BY generation") == [(-2,), (-1,)]:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("no filter is kept")
    kept = await room.sql("SELECT generation, count(*) FROM usage_leaves WHERE generation < 0 GROUP BY 1 ORDER BY 1")
    assert kept == [(-3, 1), (-2, 1), (-1, 1)]
    await room.restart(crashing=True)
    everything = [each for name in "abcde" for each in many(name, 14)]
    assert await room.send(*everything) == [DUPLICATE] * 70
    await room.revert(closed[1].id)
    assert (await room.send(*everything)).count(ACCEPTED) == 14
    assert (await room.figures())[:2] == ("525", 70)


async def test_a_correction_that_a_revert_beats_finds_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the event of a reverted backfill would be voided, and its id taken from what is sent instead."""
    closed = await room.backfilled(event("a", "1"))
    has_looked, may_write = asyncio.Event(), asyncio.Event()
    append = Log.append

    async def late(*args: Any, **named: Any) -> Any:  # Any: whatever it is called with
        has_looked.set()
        await may_write.wait()
        return await append(*args, **named)

    monkeypatch.setattr(Log, "append", late)
    voiding = asyncio.create_task(room.void("a"))
    await has_looked.wait()
    monkeypatch.undo()
    await room.revert(closed.id)
    may_write.set()
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await voiding
    assert await room.send(event("a", "5")) == [ACCEPTED]
    await room.void("a")
    assert (await room.figures())[:2] == ("0", 0)


# All at one instant


async def test_it_is_closed_at_one_instant(room: Room) -> None:
    """While everybody asks and sends, also the seller whose usage waits: no answer counts a part of it, and all agree
    about which positions are whose."""
    await room.send(*many("a", 30))
    backfill_id = await room.open()
    for n in range(0, 2_000, 500):
        await room.send(*many(f"b{n}-", 500), into=backfill_id)
    begun, ended = asyncio.Event(), asyncio.Event()
    seen: set[int] = set()

    async def ask(*, short: bool) -> None:
        query = metering_pb.UsageQuery(
            customer_id=ANNA, meter="kwh", period=wire.interval(DECEMBER), without_proof=short
        )
        while not ended.is_set():
            found = await room.metering.QueryUsage(metering_pb.QueryUsageRequest(query=query))
            assert found.event_count == found.through_position, "every position so far is of an event that counts"
            seen.add(found.event_count)
            begun.set()

    async def send() -> None:
        for n in range(20):
            assert await room.send(event(f"c{n}", "1")) == [ACCEPTED]

    asking = [asyncio.create_task(ask(short=short)) for short in (True, False)]
    await begun.wait()
    sending = asyncio.create_task(send())
    closed = await room.close(backfill_id)
    await sending
    ended.set()
    await asyncio.gather(*asking)
    found = await room.usage()
    assert (found.event_count, found.through_position) == (2_050, 2_050)
    assert closed.last_position - closed.first_position == 1_999
    assert min(seen) < 100
    assert max(seen) >= 2_030
    assert not [count for count in seen if 50 < count < 2_030]
    assert (await room.usage(through_position=closed.first_position - 1)).event_count == closed.first_position - 1


async def test_each_is_closed_once(room: Room) -> None:
    """However many ask at once, and whatever is asked afterwards."""
    backfill_id = await room.open()
    await room.send(event("a", "1"), into=backfill_id)
    closed = await asyncio.gather(*(room.close(backfill_id) for _ in range(3)))
    assert closed[0] == closed[1] == closed[2]
    assert await room.figures() == ("1", 1, 1)
    reverted = await asyncio.gather(*(room.revert(backfill_id) for _ in range(3)))
    assert reverted[0] == reverted[1] == reverted[2]
    assert await room.figures() == ("0", 0, 2)
    with refused("BACKFILL_NOT_OPEN"):
        await room.close(backfill_id)


# Late usage


async def test_what_it_changes_in_frozen_usage_is_late_usage(room: Room) -> None:
    """When it is closed, and the other way round when it is reverted. Frozen usages stay true of their positions."""
    await room.send(event("a", "1"))
    first = await room.freeze()
    backfill_id = await room.open()
    await room.send(event("b", "2"), event("c", "4"), into=backfill_id)
    assert await room.late() == []
    closed = await room.close(backfill_id)
    assert await room.late() == [(first.id, "6", 2, 0)]
    request = freezes.FreezeUsageRequest(query=first.query, replaces=first.id)
    request.query.ClearField("through_position")
    request.query.ClearField("meter_version")
    second = await room.freezes.FreezeUsage(request)
    assert (second.quantity.value, second.through_position) == ("7", 3)
    await room.send(event("z", "9", at=SANDBOX_START))
    await room.revert(closed.id)
    assert await room.late() == [(first.id, "6", 2, 0), (second.id, "-6", 0, 2)]
    for frozen in (first, second):
        verdict = await room.freezes.VerifyDigest(freezes.VerifyDigestRequest(frozen_usage_id=frozen.id))
        assert verdict.verdict == freezes.VerifyDigestResponse.VALID
    listed = await room.metering.ListEvents(metering_pb.ListEventsRequest(query=second.query))
    assert [each.id for each in listed.events] == ["a", "b", "c"]


async def test_thresholds_hear_of_it(room: Room) -> None:
    """Of what was closed, and that it was reverted; and of nothing before."""
    thresholds = room.suite.stub(UsageThresholdServiceStub, "metering")
    january = Period(SANDBOX_START, SANDBOX_START + timedelta(days=31))
    await thresholds.CreateUsageThreshold(
        threshold_pb.CreateUsageThresholdRequest(
            meter="kwh", customer_id=ANNA, interval=wire.interval(january), value=Decimal(value="5")
        )
    )
    backfill_id = await room.open()
    await room.send(event("a", "7", at=SANDBOX_START), into=backfill_id)
    await room.suite.quiet()
    assert room.suite.announced(events_pb2.UsageThresholdReached) == []
    await room.close(backfill_id)
    await room.suite.quiet()
    [reached] = room.suite.announced(events_pb2.UsageThresholdReached)
    assert reached.usage_alert.quantity.value == "7"
    await room.revert(backfill_id)
    await room.suite.quiet()
    assert len(room.suite.announced(events_pb2.UsageThresholdRecovered)) == 1


# What is refused


async def test_an_amended_event_must_be_voided_first(room: Room) -> None:
    """What it says since is no part of the backfill, and would go on counting."""
    closed = await room.backfilled(event("a", "1"), event("b", "2"))
    await room.corrections.AmendEvent(corrections.AmendEventRequest(event=event("a", "5"), reason="read wrongly"))
    with refused("BACKFILL_AMENDED") as refusal:
        await room.revert(closed.id)
    assert (refusal.metadata["source"], refusal.metadata["id"]) == ("s", "a")
    assert await room.figures() == ("7", 2, 4)
    await room.void("a")
    await room.revert(closed.id)
    assert (await room.figures())[:2] == ("0", 0)
    assert (await room.figures(through_position=4))[:2] == ("7", 2)


async def test_only_an_open_one_is_loaded(room: Room) -> None:
    """And only one of the seller's."""
    with refused("BACKFILL_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.send(event("a", "1"), into=ids.mint("bkf", SANDBOX_START))
    with refused("INVALID_ARGUMENT") as refusal:
        await room.send(event("a", "1"), into="nonsense")
    assert refusal.field == "backfill_id"
    closed = await room.backfilled()
    assert (closed.state, closed.last_position) == (CLOSED, 0)
    with refused("BACKFILL_NOT_OPEN"):
        await room.send(event("a", "1"), into=closed.id)
    assert (await room.revert(closed.id)).revert_position == 0
    with refused("BACKFILL_NOT_OPEN"):
        await room.send(event("a", "1"), into=closed.id)
    assert await room.send(event("a", "1")) == [ACCEPTED]


async def test_whoever_comes_too_late_is_refused_by_the_log(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was open when somebody looked, and is not when it is to be stored: nothing of the batch is."""
    backfill_id = await room.open()
    opened = await room.get(backfill_id)
    await room.send(event("a", "1"), into=backfill_id)
    await room.close(backfill_id)
    monkeypatch.setattr("metering.domain.backfill.Backfill.check_open", lambda _: None)
    with refused("BACKFILL_NOT_OPEN"):
        await room.send(event("b", "1"), into=opened.id)
    assert await room.send(event("b", "1")) == [ACCEPTED]


async def test_no_more_than_there_may_be(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of one and of all, open ones, and all of them: each limit is told, and what is a repeat fits always."""
    monkeypatch.setattr(owner, "EVENTS_MAX", 3)
    backfill_id = await room.open()
    assert await room.send(*many("a", 2), into=backfill_id) == [ACCEPTED, ACCEPTED]
    with refused("BACKFILL_FULL") as refusal:
        await room.send(*many("b", 2), into=backfill_id)
    assert refusal.metadata["event_count"] == "2"
    assert await room.send(*many("a", 2), event("c", "1"), into=backfill_id) == [DUPLICATE, DUPLICATE, ACCEPTED]
    assert await room.send(*many("a", 2), into=backfill_id) == [DUPLICATE, DUPLICATE]
    monkeypatch.setattr(owner, "LOADING_EVENTS_MAX", 3)
    other = await room.open()
    with refused("INGEST_OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED):
        await room.send(event("d", "1"), into=other)
    assert await room.send(event("b0", "1")) == [ACCEPTED]
    monkeypatch.setattr(domain, "OPEN_MAX", 2)
    with refused("TOO_MANY_BACKFILLS"):
        await room.open()
    await room.close(other)
    await room.open()
    monkeypatch.setattr(domain, "BACKFILLS_MAX", 3)
    monkeypatch.setattr(domain, "OPEN_MAX", 3)
    with refused("TOO_MANY_BACKFILLS"):
        await room.open()
    monkeypatch.setattr(settling, "WAITING_MAX", 0)
    with refused("INGEST_OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED):
        await room.close(backfill_id)


async def test_it_is_closed_only_when_it_is_complete(room: Room) -> None:
    """If whoever loads it says how much there is."""
    backfill_id = await room.open()
    await room.send(event("a", "1"), into=backfill_id)
    with refused("BACKFILL_INCOMPLETE") as refusal:
        await room.backfills.CloseBackfill(pb.CloseBackfillRequest(id=backfill_id, event_count=2))
    assert refusal.metadata["event_count"] == "1"
    request = pb.CloseBackfillRequest(id=backfill_id, event_count=1, request_id="r")
    closed = await room.backfills.CloseBackfill(request)
    assert closed.state == CLOSED
    assert await room.backfills.CloseBackfill(request) == closed
    with refused("BACKFILL_INCOMPLETE"):
        await room.backfills.CloseBackfill(pb.CloseBackfillRequest(id=backfill_id, event_count=2))
    with refused("INVALID_ARGUMENT") as refusal:
        await room.backfills.CloseBackfill(pb.CloseBackfillRequest(id=backfill_id, event_count=-1))
    assert refusal.field == "event_count"


async def test_they_are_listed(room: Room) -> None:
    """Page by page, of one state or all; whoever reads may ask, and not write."""
    first, second = await room.open(), await room.open()
    third = (await room.backfilled(event("a", "1"))).id
    page = await room.backfills.ListBackfills(pb.ListBackfillsRequest(page_size=2))
    more = await room.backfills.ListBackfills(pb.ListBackfillsRequest(page_token=page.next_page_token))
    assert [each.id for each in (*page.backfills, *more.backfills)] == [first, second, third]
    opened = await room.backfills.ListBackfills(pb.ListBackfillsRequest(state=OPEN))
    assert [each.id for each in opened.backfills] == [first, second]
    viewer = room.suite.stub(BackfillServiceStub, "metering", role=Role.VIEWER)
    assert (await viewer.GetBackfill(pb.GetBackfillRequest(id=third))).state == CLOSED
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.RevertBackfill(pb.RevertBackfillRequest(id=third, reason="x"))
    with refused("BACKFILL_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.get(ids.mint("bkf", SANDBOX_START))


async def test_what_is_left_open_is_reverted(room: Room) -> None:
    """After 30 days, by the seller's time: its ids are not taken for ever by what nobody will close."""
    backfill_id = await room.open()
    await room.send(event("a", "1"), into=backfill_id)
    kept = await room.backfilled(event("b", "2"))
    await room.suite.travel(SANDBOX_START + timedelta(days=29))
    assert (await room.get(backfill_id)).state == OPEN
    await room.suite.travel(SANDBOX_START + timedelta(days=31))
    reverted = await room.get(backfill_id)
    assert (reverted.state, reverted.revert_reason) == (REVERTED, "expired")
    assert (await room.get(kept.id)).state == CLOSED
    assert await room.send(event("a", "1")) == [ACCEPTED]


async def test_what_a_meter_does_not_accept_any_more_may_be_backfilled(room: Room) -> None:
    """The limit is for what comes by itself."""
    await room.metering.CreateMeter(
        metering_pb.CreateMeterRequest(
            code="fresh", display_name="Fresh", aggregation=meter_pb2.Meter.SUM, accepts_days=3
        )
    )
    assert await room.send(event("old", "1", meter="fresh")) == [REJECTED]
    await room.backfilled(event("old", "1", meter="fresh"))
    assert (await room.figures("fresh"))[:2] == ("1", 1)


def _fields(query: metering_pb.UsageQuery) -> dict[str, Any]:  # Any: their values
    return {field.name: value for field, value in query.ListFields()}


class _Model:
    """What should count, kept by hand: at which position each usage event began to, and where it ended."""

    def __init__(self) -> None:
        self.last = 0
        self.taken: dict[str, str] = {}
        """Ids, each with what it was loaded into."""
        self.values: dict[str, dict[str, int]] = {}
        """Of backfills that are open."""
        self.rows: list[list[Any]] = []  # Any: value, start, end, id, what it came with

    def send(self, event_id: str, value: int, into: str) -> EventResult.Outcome.ValueType:
        if event_id in self.taken:
            return DUPLICATE
        self.taken[event_id] = into
        if into:
            self.values.setdefault(into, {})[event_id] = value
        else:
            self._count(event_id, value, "")
        return ACCEPTED

    def close(self, backfill_id: str) -> None:
        for event_id, value in self.values.pop(backfill_id, {}).items():
            self._count(event_id, value, backfill_id)

    def revert(self, backfill_id: str) -> None:
        self.values.pop(backfill_id, None)
        came_with = [row for row in self.rows if row[4] == backfill_id]
        voided = {row[3] for row in came_with if row[2] is not None}
        self.taken = {name: into for name, into in self.taken.items() if into != backfill_id or name in voided}
        if came_with:
            self.last += 1
            for row in came_with:
                row[2] = row[2] or self.last

    def void(self, event_id: str) -> None:
        self.last += 1
        [row] = [row for row in self.rows if row[3] == event_id and row[2] is None]
        row[2] = self.last

    def counted(self, through: int) -> tuple[int, int]:
        found = [value for value, start, end, *_ in self.rows if start <= through and (end is None or end > through)]
        return sum(found), len(found)

    def _count(self, event_id: str, value: int, into: str) -> None:
        self.last += 1
        self.rows.append([value, self.last, None, event_id, into])


async def test_whatever_happens_it_is_as_counted_by_hand(room: Room) -> None:
    """Usage, backfills, voids and crashes in any order: every answer of now, and of every position before."""
    chance, model = random.Random(SEED), _Model()
    opened: list[str] = []
    closed: list[str] = []
    for turn in range(60):
        match chance.choice(("send", "send", "load", "load", "load", "open", "close", "revert", "void", "crash")):
            case "open" if len(opened) < 3:
                opened.append(await room.open())
            case "close" if opened:
                backfill_id = opened.pop(chance.randrange(len(opened)))
                await room.close(backfill_id)
                model.close(backfill_id)
                closed.append(backfill_id)
            case "revert" if opened or closed:
                some = chance.choice([each for each in (opened, closed) if each])
                backfill_id = some.pop(chance.randrange(len(some)))
                await room.revert(backfill_id)
                model.revert(backfill_id)
            case "void" if standing := [row[3] for row in model.rows if row[2] is None]:
                name = chance.choice(standing)
                await room.void(name)
                model.void(name)
            case "crash" if turn % 3 == 0:
                await room.restart(crashing=True)
            case _:
                into = chance.choice(["", *opened])
                events = [
                    event(f"{chance.randrange(80)}", f"{chance.randrange(1, 9)}", at=NOON + n * HOUR)
                    for n in range(chance.randrange(1, 25))
                ]
                due = [model.send(each.id, int(each.value.value), into) for each in events]
                assert await room.send(*events, into=into) == due
    for through in (model.last, *(chance.randrange(model.last + 1) for _ in range(8))):
        quantity, count, _ = await room.figures(through_position=through)
        assert (int(quantity), count) == model.counted(through)
    quantity, count, last = await room.figures()
    assert ((int(quantity), count), last) == (model.counted(model.last), model.last)
