"""What is committed of a reservation is usage, stored once, and gives away nothing that others were given."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from common.testing import SANDBOX_START, Suite, refused
from metering import committing
from metering.domain.usage_event import QUOTA_SOURCE
from saldo.metering.v1 import backfill_service_pb2 as backfills_pb
from saldo.metering.v1 import corrections_service_pb2 as corrections_pb
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, UsageEvent
from services.metering.tests.service import test_quotas
from services.metering.tests.service.test_quotas import ANN, Door, State, decimal, figures, grant, quota, usage

door = test_quotas.door


async def stored(suite: Suite) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        found: list[asyncpg.Record] = await connection.fetch(
            "SELECT source, event_id, customer, time, value, dimensions FROM usage_events ORDER BY position"
        )
        return found
    finally:
        await connection.close()


async def test_commits_and_others_between_give_nothing_away(suite: Suite, door: Door) -> None:
    """While some commit what they have, others acquire: at no moment is what is used neither used nor reserved."""
    await grant(suite, ANN, energy=[quota(12)])

    async def work(n: int) -> int:
        done = 0
        for _ in range(3):
            try:
                acquired = await door.acquire()
            except grpc.aio.AioRpcError:
                continue
            if n % 3:
                await door.commit(acquired.reservation.id)
                done += 1
            else:
                await door.release(acquired.reservation.id)
        return done

    done = sum(await asyncio.gather(*(work(n) for n in range(9))))
    assert done <= 12
    assert await usage(suite) == str(done)
    assert figures(await door.check()) == ("12", str(done), "0", str(12 - done))


@pytest.mark.own_services
async def test_a_commit_is_usage_like_any_other(suite: Suite, door: Door) -> None:
    """One usage event, of the reservation's id, at the time of the commit; what was not used is free again."""
    await grant(suite, ANN, energy=[quota(10)])
    reservation = (await door.acquire(8)).reservation
    await suite.travel(SANDBOX_START + timedelta(seconds=30))
    done = await door.commit(reservation.id, "2.5", region="eu")
    assert (done.state, done.committed_quantity.value, dict(done.dimensions)) == (
        State.COMMITTED,
        "2.5",
        {"region": "eu"},
    )
    [event] = await stored(suite)
    assert (event["source"], event["event_id"], event["customer"]) == (QUOTA_SOURCE, reservation.id, ANN)
    assert (event["time"], str(event["value"])) == (SANDBOX_START + timedelta(seconds=30), "2.5")
    assert figures(await door.check()) == ("10", "2.5", "0", "7.5")


@pytest.mark.own_services
@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_commit_that_was_broken_off_is_finished(
    suite: Suite, door: Door, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """By itself half a minute later, or by a repeat; until then it counts, and longer than it was reserved for."""
    await grant(suite, ANN, energy=[quota(10)])
    held = [(await door.acquire(4, seconds=5)).reservation.id for _ in range(2)]

    class Dead(Exception):
        pass

    def die(name: str) -> None:
        if name == (committing.BEGUN if point == "before" else committing.STORED):
            raise Dead

    with monkeypatch.context() as patch:
        patch.setattr(committing, "crashpoint", die)
        for each in held:
            with pytest.raises(grpc.aio.AioRpcError):
                await door.commit(each, request_id=f"commit {each}")
    assert (await door.get(held[0])).state == State.COMMITTING
    with refused("QUOTA_RESERVATION_ENDED"):
        await door.release(held[0])
    await suite.travel(SANDBOX_START + timedelta(seconds=29))
    # Counted at least once: by the reservation, and by the usage event if that is there.
    assert (await door.check(3)).reason == "QUOTA_EXCEEDED"
    repeated = await door.commit(held[0], request_id=f"commit {held[0]}")
    assert (repeated.state, repeated.commit_time.ToDatetime(UTC)) == (State.COMMITTED, SANDBOX_START)
    await suite.travel(SANDBOX_START + timedelta(seconds=30))
    assert (await door.get(held[1])).state == State.COMMITTED
    assert [event["event_id"] for event in await stored(suite)] == held
    assert figures(await door.check()) == ("10", "8", "0", "2")


async def test_a_commit_that_could_not_be_stored_is_refused_first(suite: Suite, door: Door) -> None:
    """Otherwise it would be tried for ever."""
    await grant(suite, ANN, energy=[quota(10)])
    held = (await door.acquire(2)).reservation.id
    for quantity, dimensions, field in ((3, {}, "quantity"), (0, {}, "quantity"), (1, {"Ü": "x"}, "dimensions")):
        with refused("INVALID_ARGUMENT") as refusal:
            await door.commit(held, quantity, **dimensions)
        assert refusal.field == field
    assert (await door.get(held)).state == State.OPEN


async def test_nobody_else_sends_what_a_commit_stores(suite: Suite, metering: Any, door: Door) -> None:
    """Otherwise a reservation could be used up that was never committed; what is stored is corrected like all usage."""
    await grant(suite, ANN, energy=[quota(10)])
    held = (await door.acquire(4)).reservation
    forged = UsageEvent(
        id=held.id, source=QUOTA_SOURCE, customer=ANN, meter="kwh", time=held.create_time, value=decimal(1)
    )
    backfills = suite.stub(BackfillServiceStub, "metering")
    opened = await backfills.OpenBackfill(backfills_pb.OpenBackfillRequest(reason="forged"))
    for backfill_id in ("", opened.id):
        for _ in range(2):
            answer = await metering.IngestEvents(
                metering_pb.IngestEventsRequest(events=[forged], backfill_id=backfill_id)
            )
            [told] = answer.results
            assert (told.outcome, told.reason, told.field) == (EventResult.REJECTED, "SOURCE_RESERVED", "source")
    corrections = suite.stub(CorrectionServiceStub, "metering")
    amendment = corrections_pb.AmendEventRequest(event=forged, reason="less was used")
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await corrections.AmendEvent(amendment)
    await door.commit(held.id)
    # What is stored is still nobody's to send.
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=[forged]))
    assert answer.results[0].reason == "SOURCE_RESERVED"
    await corrections.AmendEvent(amendment)
    assert figures(await door.check()) == ("10", "1", "0", "9")
    assert (await door.get(held.id)).committed_quantity.value == "4"


async def test_commits_wait_for_nobody_who_acquires(suite: Suite, door: Door) -> None:
    """Only those who acquire for one customer and meter take turns; what is committed or released is free for them."""
    await grant(suite, ANN, energy=[quota(10)])
    held = [(await door.acquire(4)).reservation.id for _ in range(2)]
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        async with connection.transaction():
            await connection.execute("SELECT FROM quota_turns FOR UPDATE")
            waiting = asyncio.create_task(door.acquire(6))
            async with asyncio.timeout(10):
                assert (await door.commit(held[0], 1)).state == State.COMMITTED
                assert (await door.release(held[1])).state == State.RELEASED
            assert not waiting.done()
    finally:
        await connection.close()
    assert (await waiting).remaining.value == "3"


async def test_what_others_were_given_is_not_committed_by_a_clock_that_is_behind(suite: Suite, door: Door) -> None:
    """Of two replicas the one whose clock is ahead has found it expired: that is written down, and told, at once."""
    await grant(suite, ANN, energy=[quota(5)])
    lost = (await door.acquire(5, seconds=60)).reservation
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("UPDATE quota_turns SET time = time + interval '60 seconds'")
        given = (await door.acquire(5)).reservation
        # As if nobody knew of the clock that was ahead.
        await connection.execute("UPDATE quota_turns SET time = time - interval '60 seconds'")
    finally:
        await connection.close()
    assert (await door.get(lost.id)).state == State.EXPIRED
    with refused("QUOTA_RESERVATION_EXPIRED"):
        await door.commit(lost.id)
    await door.commit(given.id)
    assert await usage(suite) == "5"
    await suite.quiet()
    assert [each.reservation.id for each in suite.announced(events.QuotaReservationExpired)] == [lost.id]
