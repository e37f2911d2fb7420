"""What every service answers about itself, and to whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common import operations as operations_module
from common.auth import Identity
from common.bus import MemoryBus
from common.caller import Role
from common.clock import wall
from common.consumer import FAILURES_MAX
from common.db import Tx
from common.ids import SellerId
from common.jobs import TRIES_MAX, dead_letter_id
from common.service import Service
from common.testing import refused
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import main, store
from libs.common.tests.notebook.contracts import archive_events_pb2, events_pb2, notebook_grpc, notebook_pb2
from libs.common.tests.notebook.house import START, House
from libs.common.tests.notebook.settings import Settings
from saldo.operations.v1 import operations_service_pb2 as pb
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub

DAY = timedelta(days=1)
FAILING = {"handler": True, "job": True}


async def picky(tx: Tx, event: Any) -> None:
    if FAILING["handler"]:
        raise ValueError("not yet")
    await store.archive(tx, note_id=event.note.id, text=event.note.text)


def build_picky_archive(settings: Settings, *, bus: MemoryBus) -> Service:
    service = Service("archive", settings, bus=bus)
    service.publish(archive_events_pb2)
    service.consume({events_pb2.NoteWritten: picky})
    return service


async def picky_reminder(tx: Tx, note_id: str) -> None:
    if FAILING["job"]:
        raise ValueError("not yet")
    await main.remind_of_note(tx, note_id)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.consumer.RETRY_SECONDS", (0.01,))
    monkeypatch.setattr("common.jobs.RETRY_SECONDS", (0.01,))
    FAILING.update(handler=True, job=True)


def operations(house: House, name: str = "notebook", **who: Any) -> Any:
    return house.stub(OperationsServiceStub, name, **who)


def platform(house: House, name: str = "notebook") -> Any:
    return operations(house, name, role=Role.PLATFORM)


async def write(house: House, *texts: str, remind_time: datetime | None = None) -> list[Any]:
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    requests = [notebook_pb2.WriteNoteRequest(text=text) for text in texts]
    for request in requests:
        if remind_time is not None:
            request.remind_time.CopyFrom(wire.timestamp(remind_time))
    return [await stub.WriteNote(request) for request in requests]


async def test_a_sandbox_begins_at_the_instant_of_its_id(house: House) -> None:
    """In every service, without one asking another."""
    await house.start("notebook", "archive")
    for name in ("notebook", "archive"):
        clock = await operations(house, name).GetClock(pb.GetClockRequest())
        assert clock.seller_id == house.seller
        assert clock.time.ToDatetime(UTC) == START
        assert clock.quiet
        assert not clock.HasField("next_due_time")


async def test_a_clock_moves_forward_only(house: House) -> None:
    """What was done at a later instant cannot be undone."""
    await house.start("notebook")
    stub = operations(house)
    later = pb.AdvanceClockRequest(time=wire.timestamp(START + DAY))
    assert (await stub.AdvanceClock(later)).time.ToDatetime(UTC) == START + DAY
    assert (await stub.AdvanceClock(later)).time.ToDatetime(UTC) == START + DAY
    with refused("CLOCK_BACKWARDS", grpc.StatusCode.FAILED_PRECONDITION):
        await stub.AdvanceClock(pb.AdvanceClockRequest(time=wire.timestamp(START)))
    assert (await stub.GetClock(pb.GetClockRequest())).time.ToDatetime(UTC) == START + DAY


async def test_two_who_move_a_clock_at_once_do_not_turn_it_back(house: House) -> None:
    """Whoever comes second finds the later time, and that stands."""
    await house.start("notebook")
    stub = operations(house)
    days = [pb.AdvanceClockRequest(time=wire.timestamp(START + number * DAY)) for number in range(1, 30)]
    answers = await asyncio.gather(*(stub.AdvanceClock(day) for day in reversed(days)), return_exceptions=True)
    assert any(isinstance(answer, pb.SandboxClock) for answer in answers)
    assert (await stub.GetClock(pb.GetClockRequest())).time.ToDatetime(UTC) == START + 29 * DAY


async def test_a_live_seller_has_no_clock_to_read_or_move(house: House) -> None:
    """Nobody shifts real time."""
    await house.start("notebook")
    live = SellerId(ids.mint(ids.SELLER, wall()))
    for who in ({"seller": live}, {"role": Role.PLATFORM}):
        stub = operations(house, **who)
        with refused("NOT_A_SANDBOX"):
            await stub.GetClock(pb.GetClockRequest())
        with refused("NOT_A_SANDBOX"):
            await stub.AdvanceClock(pb.AdvanceClockRequest(time=wire.timestamp(wall() + DAY)))


async def test_a_moment_that_is_none_is_refused(house: House) -> None:
    """A missing time would otherwise be 1970."""
    await house.start("notebook")
    request = pb.AdvanceClockRequest()
    request.time.seconds = 10**15
    with refused("INVALID_ARGUMENT") as refusal:
        await operations(house).AdvanceClock(request)
    assert refusal.field == "time"


async def test_the_clock_tells_what_is_due_and_what_is_under_way(house: House) -> None:
    """Whoever travels goes by this answer alone."""
    await house.start("notebook")
    stub = operations(house)
    before = await stub.GetClock(pb.GetClockRequest())
    await write(house, "x", remind_time=START + DAY)
    await house.quiet()
    clock = await stub.GetClock(pb.GetClockRequest())
    assert clock.next_due_time.ToDatetime(UTC) == START + DAY
    assert clock.progress > before.progress
    await stub.AdvanceClock(pb.AdvanceClockRequest(time=wire.timestamp(START + DAY)))
    await house.quiet()
    after = await stub.GetClock(pb.GetClockRequest())
    assert not after.HasField("next_due_time")
    assert after.progress > clock.progress
    assert [row["reminder_count"] for row in await house.rows("notebook", "SELECT * FROM notes")] == [1]


async def test_the_state_of_a_service(house: House) -> None:
    """What waits, for how long, and what has failed."""
    await house.start("notebook", "archive")
    await house.stop("archive")
    await house.start("archive", build=build_picky_archive)
    state = await platform(house).GetServiceState(pb.GetServiceStateRequest())
    assert state == pb.ServiceState(service="notebook")
    await write(house, "x")
    await eventually(lambda: _letters(house, 1))
    state = await platform(house, "archive").GetServiceState(pb.GetServiceStateRequest())
    assert (state.service, state.dead_letter_count, state.consumer_backlog) == ("archive", 1, 0)


async def test_events_that_wait_show_with_their_age(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that stands still must be seen before anyone misses the events."""
    service = await house.start("notebook")

    async def blocked(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(service.bus, "publish", blocked)
    await write(house, "1", "2", "3")
    await asyncio.sleep(1.1)
    state = await platform(house).GetServiceState(pb.GetServiceStateRequest())
    assert state.outbox_count == 3
    assert 1 <= state.outbox_age_seconds < 60
    clock = await operations(house).GetClock(pb.GetClockRequest())
    assert not clock.quiet, "a sandbox is not quiet before all of it is announced"
    service.settings.__dict__["drain_seconds"] = 0.2


async def _letters(house: House, count: int) -> bool:
    return len(await house.rows("archive", "SELECT id FROM dead_letters WHERE discard_time IS NULL")) == count


@pytest.fixture
async def given_up(house: House) -> list[Any]:
    """Seven notes whose events the archive could not take in."""
    await house.start("notebook")
    await house.start("archive", build=build_picky_archive)
    await write(house, *"abcdefg")
    await eventually(lambda: _letters(house, 7))
    answer = await platform(house, "archive").ListDeadLetters(pb.ListDeadLettersRequest())
    return list(answer.dead_letters)


async def test_dead_letters_are_listed_page_by_page(house: House, given_up: list[Any]) -> None:
    """There may be thousands after a bad night."""
    stub = platform(house, "archive")
    found, token = [], ""
    for _ in range(4):
        page = await stub.ListDeadLetters(pb.ListDeadLettersRequest(page_size=2, page_token=token))
        assert len(page.dead_letters) <= 2
        found += page.dead_letters
        token = page.next_page_token
    assert token == ""
    assert found == given_up
    times = [letter.create_time.ToDatetime(UTC) for letter in found]
    assert times == sorted(times)
    letter = found[0]
    assert (letter.seller_id, letter.subject) == (house.seller, "saldo.notebook.v1.NoteWritten")
    assert (letter.headers["ce-id"], letter.attempts) == (letter.id, FAILURES_MAX)
    assert events_pb2.NoteWritten.FromString(letter.payload).note.text in "abcdefg"
    assert "not yet" in letter.error
    with refused("INVALID_ARGUMENT"):
        await stub.ListDeadLetters(pb.ListDeadLettersRequest(page_token="garbage"))


async def test_a_dead_letter_is_requeued_once_it_works(house: House, given_up: list[Any]) -> None:
    """Until then it stays, with its last error; afterwards it is gone."""
    stub = platform(house, "archive")
    first = given_up[0]
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=first.id))
    assert await _letters(house, 7)
    FAILING["handler"] = False
    await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=first.id))
    assert await _letters(house, 6)
    kept = await house.rows("archive", "SELECT text FROM archived")
    assert [row["text"] for row in kept] == [events_pb2.NoteWritten.FromString(first.payload).note.text]
    with refused("DEAD_LETTER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=first.id))


async def test_a_dead_letter_is_discarded_with_a_reason(house: House, given_up: list[Any]) -> None:
    """The reason stays; the letter is out of the way, also for requeueing."""
    stub = platform(house, "archive")
    with refused("INVALID_ARGUMENT") as refusal:
        await stub.DiscardDeadLetter(pb.DiscardDeadLetterRequest(id=given_up[0].id))
    assert refusal.field == "reason"
    request = pb.DiscardDeadLetterRequest(id=given_up[0].id, reason="sent by mistake")
    await stub.DiscardDeadLetter(request)
    assert await _letters(house, 6)
    with refused("DEAD_LETTER_NOT_FOUND"):
        await stub.DiscardDeadLetter(request)
    with refused("DEAD_LETTER_NOT_FOUND"):
        await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=given_up[0].id))
    answer = await stub.ListDeadLetters(pb.ListDeadLettersRequest())
    assert list(answer.dead_letters) == given_up[1:]
    (row,) = await house.rows("archive", "SELECT discard_reason FROM dead_letters WHERE discard_time IS NOT NULL")
    assert row["discard_reason"] == "sent by mistake"


async def test_a_job_that_was_given_up_is_made_due_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop takes it up as if it had never failed."""
    monkeypatch.setattr("libs.common.tests.notebook.main.JOBS", [main.reminder(picky_reminder)])
    await house.start("notebook")
    (note,) = await write(house, "x", remind_time=START)
    letter = dead_letter_id("remind of notes", note.id)
    stub = platform(house)
    await eventually(lambda: _listed(stub, letter))
    (found,) = (await stub.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
    assert (found.subject, found.attempts, found.seller_id) == ("job remind of notes", TRIES_MAX, house.seller)
    FAILING["job"] = False
    await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=letter))
    await eventually(lambda: _reminded(house))
    with refused("DEAD_LETTER_NOT_FOUND"):
        await stub.RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=letter))


async def _listed(stub: Any, letter: str) -> bool:
    answer = await stub.ListDeadLetters(pb.ListDeadLettersRequest())
    return [each.id for each in answer.dead_letters] == [letter]


async def _reminded(house: House) -> bool:
    return [row["reminder_count"] for row in await house.rows("notebook", "SELECT * FROM notes")] == [1]


async def test_events_are_published_again_on_demand(house: House) -> None:
    """A consumer that lost its data gets them; one that has them does nothing."""
    await house.start("notebook", "archive")
    await write(house, *"abc")
    await house.quiet()
    positions = [row["position"] for row in await house.rows("notebook", "SELECT position FROM outbox ORDER BY 1")]
    request = pb.ReplayEventsRequest(from_position=positions[0], through_position=positions[-1])
    assert (await platform(house).ReplayEvents(request)).event_count == 3
    await house.quiet()
    assert [row["handled"] for row in await house.rows("archive", "SELECT handled FROM archived")] == [1, 1, 1]
    await house.rows("archive", "WITH lost AS (DELETE FROM inbox) DELETE FROM archived")
    assert (await platform(house).ReplayEvents(request)).event_count == 3
    await house.quiet()
    assert [row["handled"] for row in await house.rows("archive", "SELECT handled FROM archived")] == [1, 1, 1]


async def test_what_was_announced_since_a_time_is_published_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a backup was restored nobody knows positions, but when the backup was made. A part at a time."""
    await house.start("notebook", "archive")
    await write(house, "a")
    await house.quiet()
    [since] = [row["now"] for row in await house.rows("notebook", "SELECT clock_timestamp() AS now")]
    await write(house, *"bcd")
    await house.quiet()
    await house.rows("archive", "WITH lost AS (DELETE FROM inbox) DELETE FROM archived")
    monkeypatch.setattr(operations_module, "REPLAY_MAX", 1)
    first = await platform(house).ReplayEvents(pb.ReplayEventsRequest(since_time=wire.timestamp(since)))
    positions = [row["position"] for row in await house.rows("notebook", "SELECT position FROM outbox ORDER BY 1")]
    assert (first.event_count, first.next_position) == (2, positions[-1])
    rest = pb.ReplayEventsRequest(from_position=first.next_position, through_position=first.next_position + 1)
    last = await platform(house).ReplayEvents(rest)
    assert (last.event_count, last.next_position) == (1, 0)
    await house.quiet()
    assert [row["handled"] for row in await house.rows("archive", "SELECT handled FROM archived")] == [1, 1, 1]
    nothing = pb.ReplayEventsRequest(since_time=wire.timestamp(wall() + timedelta(minutes=1)))
    assert await platform(house).ReplayEvents(nothing) == pb.ReplayEventsResponse()


async def test_a_time_is_in_place_of_positions(house: House) -> None:
    """Both would be two beginnings."""
    await house.start("notebook")
    with refused("INVALID_ARGUMENT") as refusal:
        await platform(house).ReplayEvents(
            pb.ReplayEventsRequest(from_position=1, through_position=2, since_time=wire.timestamp(wall()))
        )
    assert refusal.field == "since_time"


@pytest.mark.parametrize("stretch", [(0, 5), (5, 4), (-1, 1), (1, 200_000)], ids=str)
async def test_a_stretch_must_be_one(house: House, stretch: tuple[int, int]) -> None:
    """A replay is bounded, and of positions that can be."""
    await house.start("notebook")
    first, last = stretch
    with refused("INVALID_ARGUMENT") as refusal:
        await platform(house).ReplayEvents(pb.ReplayEventsRequest(from_position=first, through_position=last))
    assert refusal.field in ("through_position", "from_position")


async def test_what_is_on_record_of_a_request(house: House) -> None:
    """A caller who lost an answer can find out whether the command was carried out."""
    await house.start("notebook")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    await stub.WriteNote(notebook_pb2.WriteNoteRequest(text="x", request_id="r1"))
    method = "/saldo.notebook.v1.NotebookService/WriteNote"
    record = await operations(house).GetRequestRecord(pb.GetRequestRecordRequest(method=method, request_id="r1"))
    assert (record.method, record.request_id, len(record.digest)) == (method, "r1", 64)
    assert abs(record.create_time.ToDatetime(UTC) - wall()) < timedelta(minutes=1)
    unknown = pb.GetRequestRecordRequest(method=method, request_id="r2")
    with refused("REQUEST_NOT_FOUND"):
        await operations(house).GetRequestRecord(unknown)
    other = SellerId(ids.mint(ids.SELLER, wall()))
    with refused("REQUEST_NOT_FOUND"):
        await operations(house, seller=other).GetRequestRecord(
            pb.GetRequestRecordRequest(method=method, request_id="r1")
        )


FOR_PLATFORMS = ("GetServiceState", "ListDeadLetters", "RequeueDeadLetter", "DiscardDeadLetter", "ReplayEvents")
FOR_OWNERS_TOO = ("GetClock", "AdvanceClock", "GetRequestRecord")


async def test_nobody_else_may_ask(house: House) -> None:
    """Not even a service that may call this one otherwise."""
    await house.start("notebook")
    contract = pb.DESCRIPTOR.services_by_name["OperationsService"]
    assert {method.name for method in contract.methods} == {*FOR_PLATFORMS, *FOR_OWNERS_TOO}
    tokens: dict[Role, str] = {
        role: house.keys.token(role=role, seller_id=house.seller) for role in Role if role is not Role.SERVICE
    }
    tokens[Role.SERVICE] = Identity("notebook", house.keys.private("notebook")).token(house.seller)
    for role, token in tokens.items():
        stub = house.raw_stub(OperationsServiceStub, "notebook", token=token)
        for method in contract.methods:
            request = getattr(pb, method.input_type.name)()
            allowed = role is Role.PLATFORM or (role is Role.OWNER and method.name in FOR_OWNERS_TOO)
            reason = ""
            try:
                await getattr(stub, method.name)(request)
            except grpc.aio.AioRpcError as error:
                reason = error.code().name
            assert (reason != "PERMISSION_DENIED") is allowed, (role, method.name)
