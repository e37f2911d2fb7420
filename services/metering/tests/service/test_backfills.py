"""Usage that is loaded as a backfill counts as a whole from one position on, or not at all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
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
from saldo.metering.v1.usage_event_pb2 import EventResult, Usage, UsageEvent
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub

pytestmark = pytest.mark.own_services

ANNA: Final = ids.mint("cus", SANDBOX_START)
DECEMBER: Final = Period(datetime(2025, 12, 1, tzinfo=UTC), SANDBOX_START)
NOON: Final = DECEMBER.start + timedelta(hours=12)
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


def _fields(query: metering_pb.UsageQuery) -> dict[str, Any]:  # Any: their values
    return {field.name: value for field, value in query.ListFields()}


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
