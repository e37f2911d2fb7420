"""What leaves the log is known for ever, is never missing in silence, and comes back as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.caller import Role
from common.period import Period
from common.testing import Suite, refused
from metering.clickhouse import comparing
from metering.log import archives, copies
from saldo.metering.v1 import archive_service_pb2 as pb
from saldo.metering.v1 import (
    backfill_service_pb2,
    corrections_service_pb2,
    events_pb2,
    freeze_service_pb2,
    meter_pb2,
    metering_service_pb2,
)
from saldo.metering.v1.archive_service_pb2_grpc import ArchiveServiceStub
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, UsageEvent

pytestmark = pytest.mark.own_services

LEAF_ROWS: Final = 200
DAY: Final = timedelta(days=1)
OLD: Final = datetime(2023, 3, 1, 22, tzinfo=UTC)
"""When the events of the first leaves began to happen."""
RECENT: Final = datetime(2025, 12, 1, tzinfo=UTC)
BEFORE: Final = wire.timestamp(datetime(2024, 1, 1, tzinfo=UTC))
CUSTOMER: Final = "cus_01h455vb4pex5vsknk084sn02q"
CODES: Final = {"kwh": meter_pb2.Meter.SUM, "peak": meter_pb2.Meter.MAX, "calls": meter_pb2.Meter.COUNT}


class Room:
    """A service whose log has three leaves of old usage, and some recent usage in the open one."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.sent: list[UsageEvent] = []
        self.connect()

    def connect(self) -> None:
        self.metering = self.suite.stub(MeteringServiceStub, "metering")
        self.freezes = self.suite.stub(FreezeServiceStub, "metering")
        self.archives = self.suite.stub(ArchiveServiceStub, "metering", role=Role.PLATFORM)

    async def fill(self) -> None:
        for code, aggregation in CODES.items():
            await self.metering.CreateMeter(
                metering_service_pb2.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation)
            )
        await self.metering.CreateMeter(
            metering_service_pb2.CreateMeterRequest(
                code="seats", display_name="Seats", aggregation=meter_pb2.Meter.SUM, carries_over=True
            )
        )
        codes = [*CODES, "seats", "nobodys"]
        for leaf, start in enumerate((OLD, OLD + 3 * DAY, OLD + 5 * DAY)):
            await self.send([event(f"{leaf}-{n}", codes[n % 5], start + n * timedelta(hours=1), n) for n in range(200)])
        await self.send([event(f"new-{n}", codes[n % 5], RECENT + n * timedelta(hours=1), n) for n in range(50)])
        await self.sealed(3)

    async def send(self, events: Sequence[UsageEvent]) -> list[EventResult.Outcome.ValueType]:
        answer = await self.metering.IngestEvents(metering_service_pb2.IngestEventsRequest(events=events))
        self.sent += events
        return [each.outcome for each in answer.results]

    async def again(self) -> set[EventResult.Outcome.ValueType]:
        """What everything is that was sent before."""
        request = metering_service_pb2.IngestEventsRequest(events=list(self.sent))
        return {each.outcome for each in (await self.metering.IngestEvents(request)).results}

    async def sealed(self, count: int) -> None:
        for _ in range(500):
            states = await self.sql("SELECT state FROM usage_leaves WHERE state IN ('SEALED', 'ARCHIVED')")
            if len(states) >= count:
                return
            await self.suite.quiet()
        raise AssertionError("the leaves get no indexes")

    async def sql(self, statement: str) -> list[Any]:  # Any: rows
        connection = await asyncpg.connect(self.suite.urls["metering"].replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            rows: list[Any] = await connection.fetch(statement)  # Any: as above
            return rows
        finally:
            await connection.close()

    async def now(self) -> datetime:
        [row] = await self.sql("SELECT coalesce(max(time), timestamptz '2026-01-01Z') AS time FROM clocks")
        found: datetime = row["time"]
        return found

    async def listed(self, leaf: int) -> list[pb.LoggedEvent]:
        found: list[pb.LoggedEvent] = []
        request = pb.ListLeafEventsRequest(leaf=leaf, page_size=70)
        while True:
            page = await self.archives.ListLeafEvents(request)
            found += page.events
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def archive(self, leaf: int) -> list[pb.LoggedEvent]:
        found = await self.listed(leaf)
        await self.archives.ArchiveLeaf(pb.ArchiveLeafRequest(leaf=leaf, event_count=len(found), digest=digest(found)))
        return found

    async def restore(self, leaf: int, events: Sequence[pb.LoggedEvent]) -> None:
        request = pb.RestoreEventsRequest(leaf=leaf, events=events, from_beginning=True)
        assert (await self.archives.RestoreEvents(request)).event_count == len(events)
        await self.archives.RestoreLeaf(pb.RestoreLeafRequest(leaf=leaf))

    async def usage(self, **query: Any) -> Any:  # Any: fields of a query, and a usage
        asked = metering_service_pb2.UsageQuery(customer_id=CUSTOMER, external_id="anna", **query)
        return await self.metering.QueryUsage(metering_service_pb2.QueryUsageRequest(query=asked))

    async def answers(self) -> list[Any]:  # Any: whatever is answered
        """All that can be asked, with proof."""
        period = wire.interval(Period(OLD, RECENT + DAY))
        found = [await self.usage(meter=code, period=period) for code in (*CODES, "seats")]
        query = metering_service_pb2.UsageQuery(customer_id=CUSTOMER, external_id="anna", meter="kwh", period=period)
        found.append(
            await self.metering.ListEvents(metering_service_pb2.ListEventsRequest(query=query, page_size=1_000))
        )
        return found


@pytest_asyncio.fixture
async def room(suite: Suite) -> Room:
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    room = Room(suite)
    await room.fill()
    return room


def event(event_id: str, meter: str, time: datetime, value: int) -> UsageEvent:
    return UsageEvent(
        id=event_id,
        source="s",
        customer="anna",
        meter=meter,
        time=wire.timestamp(time),
        value=DecimalPb(value=f"{value}.50"),
        dimensions={"tier": "ä", "region": f"r{value % 3}"} if value % 2 else {},
    )


def digest(events: Sequence[pb.LoggedEvent]) -> str:
    """As the contract says it, in other words than the service."""
    found = hashlib.sha256()
    for logged in events:
        sent = logged.event
        told = sorted(f"{name}={value}" for name, value in sent.dimensions.items())
        fields = [
            logged.seller_id, str(logged.position), sent.source, sent.id, sent.customer, sent.meter,
            str(sent.time.seconds * 10**6 + sent.time.nanos // 1000), sent.value.value, "\x1e".join(told),
            logged.key.hex(),
        ]  # fmt: skip
        found.update(("\x1f".join(fields) + "\n").encode())
    return found.hexdigest()


def days(first: int, last: int) -> Any:  # Any: an interval
    start = OLD.replace(hour=0)
    return wire.interval(Period(start + first * DAY, start + last * DAY))


async def test_leaves_are_listed_that_are_old_and_full(room: Room) -> None:
    """What is recent, or not full, is nothing for an archive; nor is what happened less long ago than is kept."""
    found = await room.archives.ListArchivableLeaves(pb.ListArchivableLeavesRequest(before_time=BEFORE, page_size=2))
    more = await room.archives.ListArchivableLeaves(
        pb.ListArchivableLeavesRequest(before_time=BEFORE, page_token=found.next_page_token)
    )
    assert [each.leaf for each in (*found.leaves, *more.leaves)] == [1, 2, 3]
    assert [each.event_count for each in found.leaves] == [200, 200]
    assert found.leaves[0].start_time == wire.timestamp(OLD)
    with refused("INVALID_ARGUMENT") as refusal:
        await room.archives.ListArchivableLeaves(
            pb.ListArchivableLeavesRequest(before_time=wire.timestamp(datetime(2999, 1, 1, tzinfo=UTC)))
        )
    assert refusal.field == "before_time"


async def test_what_is_archived_comes_back_as_it_was(room: Room) -> None:
    """Every answer, to the byte of its proof; meanwhile none is less than it should be."""
    before = await room.answers()
    first, second = await room.archive(1), await room.archive(2)
    assert (len(first), len(second)) == (200, 200)
    with refused("USAGE_ARCHIVED"):
        await room.answers()
    await room.restore(1, list(reversed(first)))
    with refused("USAGE_ARCHIVED"):
        await room.answers()
    await room.restore(2, second)
    assert await room.answers() == before
    assert await room.listed(1) == first
    assert await room.again() == {EventResult.DUPLICATE}


async def test_a_repeat_of_what_is_archived_is_known_for_ever(room: Room) -> None:
    """Exactly: also after a crash, when nothing is remembered but what is stored; and what is new is new."""
    for leaf in (1, 2, 3):
        await room.archive(leaf)
    for _ in range(2):
        assert await room.again() == {EventResult.DUPLICATE}
        await room.suite.crash("metering")
        await room.suite.start("metering", leaf_rows=LEAF_ROWS)
        room.connect()
    assert await room.again() == {EventResult.DUPLICATE}
    assert await room.send([event("0-200", "kwh", OLD, 1)]) == [EventResult.ACCEPTED]
    [row] = await room.sql("SELECT count(*) AS rows, sum(cardinality(keys)) AS keys FROM usage_keys")
    assert (row["rows"], row["keys"]) == (3 * -(-LEAF_ROWS // archives.KEYS_PER_ROW), 3 * LEAF_ROWS)


async def test_sums_of_whole_days_are_what_they_were(room: Room) -> None:
    """They are kept of every leaf, few or many events to a day; the parts of days at either end are not."""
    asked: list[dict[str, Any]] = [
        {"meter": code, "period": days(first, first + 3), "without_proof": True}
        for code in CODES
        for first in range(12)
    ]
    before = [await room.usage(**each) for each in asked]
    for leaf in (1, 2, 3):
        await room.archive(leaf)
    assert [await room.usage(**each) for each in asked] == before
    assert len({each.quantity.value for each in before}) > 10
    part = wire.interval(Period(OLD.replace(hour=23), OLD + 2 * DAY))
    with refused("USAGE_ARCHIVED") as refusal:
        await room.usage(meter="kwh", period=part, without_proof=True)
    assert "2023-03-" in refusal.message
    # A part of a day on which nothing happened lacks nothing.
    empty = wire.interval(Period(OLD - 2 * DAY, OLD.replace(hour=0)))
    assert (await room.usage(meter="kwh", period=empty, without_proof=True)).event_count == 0


async def test_what_needs_the_events_is_refused_and_nothing_else(room: Room) -> None:
    """Never a figure that is silently less: it has a name, and says until when."""
    period = days(0, 4)
    query = metering_service_pb2.UsageQuery(customer_id=CUSTOMER, external_id="anna", meter="kwh", period=period)
    frozen = await room.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query))
    await room.suite.quiet()
    positions = [each.position for each in await room.archive(1)]
    for call in (
        room.metering.ListEvents(metering_service_pb2.ListEventsRequest(query=query)),
        room.freezes.VerifyDigest(freeze_service_pb2.VerifyDigestRequest(frozen_usage_id=frozen.id)),
        room.freezes.GetLateUsage(freeze_service_pb2.GetLateUsageRequest(id=frozen.id)),
        room.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query)),
        room.usage(meter="kwh", period=period, group_by=["region"]),
        room.usage(meter="kwh", period=period, window=metering_service_pb2.UsageQuery.DAY),
        room.usage(meter="kwh", period=period, with_values=True),
    ):
        with refused("USAGE_ARCHIVED"):
            await call
    # What is frozen stands; another customer, a later time and an earlier position need nothing of it.
    assert (await room.freezes.GetFrozenUsage(freeze_service_pb2.GetFrozenUsageRequest(id=frozen.id))) == frozen
    other = metering_service_pb2.UsageQuery(customer_id=CUSTOMER, meter="kwh", period=period)
    await room.metering.QueryUsage(metering_service_pb2.QueryUsageRequest(query=other))
    recent = wire.interval(Period(RECENT, RECENT + 9 * DAY))
    assert (await room.usage(meter="kwh", period=recent)).event_count == 10
    assert (await room.usage(meter="kwh", period=period, through_position=min(positions) - 1)).event_count == 0


async def test_a_day_without_events_needs_nothing_of_what_is_archived(suite: Suite) -> None:
    """Days of a busy stream get their places together, in one page: an empty one is as if it were not there."""
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    room = Room(suite)
    await room.metering.CreateMeter(
        metering_service_pb2.CreateMeterRequest(code="kwh", display_name="kwh", aggregation=meter_pb2.Meter.SUM)
    )
    start = OLD.replace(hour=0)
    for day in (0, 2):
        await room.send(
            [event(f"{day}-{n}", "kwh", start + day * DAY + n * timedelta(minutes=1), 1) for n in range(100)]
        )
    await room.send([event("new", "kwh", RECENT, 1)])
    await room.sealed(1)
    places = await room.sql("SELECT day, event_count, (ctid::text::point)[0] AS page FROM usage_days ORDER BY day")
    assert [row["event_count"] for row in places] == [0, 100, 0, 100, 0, 0, 0, 0]
    assert places[1]["day"] == start.date()
    assert len({row["page"] for row in places}) == 1
    await room.archive(1)
    for without_proof in (False, True):
        empty = await room.usage(meter="kwh", period=days(1, 2), without_proof=without_proof)
        assert (empty.quantity.value, empty.event_count) == ("0", 0)
    with refused("USAGE_ARCHIVED"):
        await room.usage(meter="kwh", period=days(0, 1), group_by=["region"])
    assert (await room.usage(meter="kwh", period=days(0, 3), without_proof=True)).event_count == 200


async def test_what_is_late_for_an_archived_period_is_told_when_that_is_restored(room: Room) -> None:
    """It cannot be counted until then: nobody is told too little, and nothing fails again and again."""
    query = metering_service_pb2.UsageQuery(customer_id=CUSTOMER, external_id="anna", meter="kwh", period=days(0, 4))
    frozen = await room.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query))
    query.period.CopyFrom(days(20, 24))
    other = await room.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query))
    await room.suite.quiet()
    gone = await room.archive(1)
    await room.send([event("late", "kwh", OLD + DAY, 7), event("also late", "kwh", OLD + 22 * DAY, 5)])
    await room.suite.travel(await room.now() + timedelta(hours=1))
    told = [each.late_usage.frozen_usage.id for each in room.suite.announced(events_pb2.LateUsageDetected)]
    assert told == [other.id]
    assert [row["archived_leaf"] for row in await room.sql("SELECT archived_leaf FROM late_usages ORDER BY 1")] == [
        1,
        None,
    ]
    assert not await room.sql("SELECT FROM job_failures")
    await room.restore(1, gone)
    await room.suite.travel(await room.now() + timedelta(hours=1))
    told = [each.late_usage.frozen_usage.id for each in room.suite.announced(events_pb2.LateUsageDetected)]
    assert told == [other.id, frozen.id]
    assert room.suite.announced(events_pb2.LateUsageDetected)[-1].late_usage.difference.value == "7.5"


async def test_what_is_still_to_be_counted_stays(room: Room) -> None:
    """Every later period of a meter that carries over counts it; what is nobody's may become anybody's."""
    everything = wire.interval(Period(OLD, RECENT + 9 * DAY))
    seats = await room.usage(meter="seats", period=everything)
    unmatched = await room.metering.ListUnmatchedUsage(metering_service_pb2.ListUnmatchedUsageRequest())
    for leaf in (1, 2, 3):
        await room.archive(leaf)
    assert await room.usage(meter="seats", period=everything) == seats
    assert await room.metering.ListUnmatchedUsage(metering_service_pb2.ListUnmatchedUsageRequest()) == unmatched
    await room.metering.CreateMeter(
        metering_service_pb2.CreateMeterRequest(code="nobodys", display_name="x", aggregation=meter_pb2.Meter.COUNT)
    )
    assert (await room.usage(meter="nobodys", period=everything)).event_count == 130
    assert {row["meter"] for row in await room.sql("SELECT DISTINCT meter FROM usage_events WHERE leaf <= 3")} == {
        "seats",
        "nobodys",
    }


async def test_what_was_corrected_stays(room: Room) -> None:
    """A file of events says nothing of corrections. And a day in which something was corrected is counted from all of
    its events, whichever leaf they are in."""
    corrections = room.suite.stub(CorrectionServiceStub, "metering")
    asked: dict[str, Any] = {"period": days(0, 12), "without_proof": True}
    calls = await room.usage(meter="calls", **asked)
    await corrections.VoidEvent(corrections_service_pb2.VoidEventRequest(source="s", id="0-120", reason="wrong"))
    with refused("LEAF_STILL_NEEDED"):
        await room.archive(1)
    await room.archive(2)
    with refused("USAGE_ARCHIVED"):
        await room.usage(meter="kwh", **asked)
    assert (await room.usage(meter="calls", **asked)).quantity == calls.quantity
    with refused("USAGE_EVENT_NOT_FOUND"):
        await corrections.VoidEvent(corrections_service_pb2.VoidEventRequest(source="s", id="1-0", reason="wrong"))


async def test_what_is_archived_is_not_counted_anew(room: Room) -> None:
    """What a meter made of it was billed, and what it would come to nobody could tell; what came later can be."""
    await room.archive(1)
    meter = await room.metering.GetMeter(metering_service_pb2.GetMeterRequest(code="kwh"))
    twice = metering_service_pb2.UpdateMeterRequest(id=meter.id, value_expression="value * 2", recount=True)
    twice.effective_time.CopyFrom(wire.timestamp(OLD))
    with refused("USAGE_ARCHIVED"):
        await room.metering.UpdateMeter(twice)
    last = (await room.metering.GetMeter(metering_service_pb2.GetMeterRequest(code="kwh"))).last_version
    twice.effective_time.CopyFrom(days(60, 61).end_time)
    assert (await room.metering.UpdateMeter(twice)).last_version == last + 1


async def test_only_who_has_all_of_a_leaf_may_archive_it(room: Room) -> None:
    """A file that lacks an event, or has another one, must not be all that is left."""
    events = await room.listed(1)
    for count, told in ((199, digest(events)), (200, digest(events[1:])), (200, "")):
        with refused("ARCHIVE_MISMATCH"):
            await room.archives.ArchiveLeaf(pb.ArchiveLeafRequest(leaf=1, event_count=count, digest=told))
    assert await room.listed(1) == events
    await room.archive(1)
    request = pb.ArchiveLeafRequest(leaf=1, event_count=200, digest=digest(events))
    assert (await room.archives.ArchiveLeaf(request)).state == pb.Leaf.ARCHIVED
    with refused("LEAF_NOT_FOUND"):
        await room.listed(1)
    with refused("ARCHIVE_MISMATCH"):
        await room.restore(1, [*events[1:], _at(events[0], position=1_000)])
    await room.restore(1, events)


async def test_a_leaf_that_is_still_needed_stays(room: Room) -> None:
    """One that late usage was not looked for in; one that is young; one that is not full; one that there is not."""
    await room.sql(
        "INSERT INTO late_looks (seller_id, leaf, position, next_time)"
        " SELECT seller_id, 2, last - 400, '2999-01-01' FROM positions"
    )
    with refused("LEAF_STILL_NEEDED"):
        await room.archive(2)
    await room.archive(1)
    await room.send([event(f"young-{n}", "kwh", datetime(2026, 1, 1, tzinfo=UTC), n) for n in range(200)])
    await room.sealed(4)
    with refused("LEAF_STILL_NEEDED"):
        await room.archive(4)
    for leaf in (5, 6, -1):
        with refused("LEAF_NOT_FOUND"):
            await room.archives.ArchiveLeaf(pb.ArchiveLeafRequest(leaf=leaf, event_count=1, digest="x"))


async def test_a_reader_keeps_the_leaf_until_it_has_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what it reads and the look at what is archived nothing changes hands; and nobody waits for ever."""
    monkeypatch.setattr(archives, "SWAP_TRIES_MAX", 2)
    connection = await asyncpg.connect(room.suite.urls["metering"].replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.fetch("SELECT count(*) FROM usage_log")
            with refused("LOG_BUSY"):
                await room.archive(1)
    finally:
        await connection.close()
    assert len(await room.archive(1)) == LEAF_ROWS


@pytest.mark.parametrize("counting", ["clickhouse"], indirect=True)
async def test_the_copy_has_what_was_archived_after_it_was_copied(
    room: Room, clickhouse_url: str, counting: dict[str, object]
) -> None:
    """What it lacks it does not answer, until that is restored and copied; what it has is archived without a loss."""
    before = await room.answers()
    first = await room.archive(1)
    await room.suite.stop("metering")
    holder = await asyncpg.connect(room.suite.urls["metering"].replace("+asyncpg", ""))
    await holder.execute("SELECT pg_advisory_lock($1, $2)", copies.COPIER_CLASS, 0)
    await room.suite.start("metering", leaf_rows=LEAF_ROWS, **counting)
    room.connect()
    with refused("LEAF_STILL_NEEDED"):
        await room.archive(2)
    await holder.close()
    with refused("USAGE_ARCHIVED"):
        await room.answers()
    await room.restore(1, first)
    assert await room.answers() == before
    await room.archive(2)
    assert await room.answers() == before
    lines, is_same = await comparing.compare(room.suite.urls["metering"], clickhouse_url)
    assert is_same
    assert lines[0].endswith("ARCHIVED")
    await room.suite.stop("metering")
    await room.suite.start("metering", leaf_rows=LEAF_ROWS)
    room.connect()
    with refused("USAGE_ARCHIVED"):
        await room.answers()


def _at(logged: pb.LoggedEvent, *, position: int) -> pb.LoggedEvent:
    found = pb.LoggedEvent()
    found.CopyFrom(logged)
    found.position = position
    return found


async def test_a_backfill_is_archived_and_comes_back(room: Room) -> None:
    """As what it is: archived it cannot be reverted, restored it can, and its ids are given back. What is reverted is
    not archived: answers through earlier positions need it.
    """
    backfills = room.suite.stub(BackfillServiceStub, "metering")
    period = wire.interval(Period(OLD, RECENT))
    before = await room.usage(meter="kwh", period=period)
    opened = await backfills.OpenBackfill(backfill_service_pb2.OpenBackfillRequest(reason="was offline"))
    sent = [event(f"old-{n}", "kwh", OLD, n) for n in range(5)]
    await room.metering.IngestEvents(metering_service_pb2.IngestEventsRequest(events=sent, backfill_id=opened.id))
    closed = await backfills.CloseBackfill(backfill_service_pb2.CloseBackfillRequest(id=opened.id))
    after = await room.usage(meter="kwh", period=period)
    assert after.event_count == before.event_count + 5
    [row] = await room.sql("SELECT leaf FROM usage_backfills")
    gone = await room.archive(row["leaf"])
    revert = backfill_service_pb2.RevertBackfillRequest(id=opened.id, reason="wrong")
    with refused("USAGE_ARCHIVED"):
        await backfills.RevertBackfill(revert)
    with refused("USAGE_ARCHIVED"):
        await room.usage(meter="kwh", period=period)
    await room.restore(row["leaf"], gone)
    assert await room.usage(meter="kwh", period=period) == after
    reverted = await backfills.RevertBackfill(revert)
    assert reverted.revert_position == closed.last_position + 1
    assert (await room.usage(meter="kwh", period=period)).digest == before.digest
    again = await backfills.OpenBackfill(backfill_service_pb2.OpenBackfillRequest(reason="was offline"))
    answer = await room.metering.IngestEvents(
        metering_service_pb2.IngestEventsRequest(events=sent, backfill_id=again.id)
    )
    assert answer.accepted_count == 5
    await backfills.CloseBackfill(backfill_service_pb2.CloseBackfillRequest(id=again.id))
    assert (await room.usage(meter="kwh", period=period)).digest == after.digest
    with refused("LEAF_STILL_NEEDED"):
        await room.archive(row["leaf"])
