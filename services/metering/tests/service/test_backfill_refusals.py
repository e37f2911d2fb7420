"""What cannot be loaded, closed or reverted is refused; what is left open is reverted, and all are listed."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from common import ids
from common.caller import Role
from common.testing import SANDBOX_START, refused
from metering.domain import backfill as domain
from metering.log import owner, settling
from saldo.metering.v1 import backfill_service_pb2 as pb
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from services.metering.tests.service import test_backfills
from services.metering.tests.service.test_backfills import (
    ACCEPTED,
    CLOSED,
    DUPLICATE,
    OPEN,
    REJECTED,
    REVERTED,
    Room,
    event,
    many,
)

pytestmark = pytest.mark.own_services

room = test_backfills.room


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
