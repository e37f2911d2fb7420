"""A call is answered once and explained when refused: nothing leaks, nothing half done is left, nothing said twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from common import ids
from common.auth import Identity
from common.caller import EVERY_SELLER, Caller, Role, current_caller, service_caller
from common.clock import wall
from common.db import Answers, DatabaseUnavailable, Tx
from common.errors import Violation
from common.ids import SellerId
from common.neighbours import NeighbourRefused, error_info
from common.testing import refused
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook.api import NotebookApi
from libs.common.tests.notebook.contracts import events_pb2, notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb
from libs.common.tests.notebook.house import House

Code = grpc.StatusCode


@pytest.fixture
async def notebook(house: House) -> Any:
    await house.start("notebook")
    return house.stub(notebook_grpc.NotebookServiceStub, "notebook")


def api_of(house: House) -> NotebookApi:
    """The one object behind the RPCs of the service that was started last."""
    return NotebookApi.instances[-1]


def details(error: grpc.aio.AioRpcError) -> list[Message]:
    """Everything the status carries, unpacked."""
    found: list[Message] = []
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only
    for packed in status.details if status else ():
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.append(message)
    return found


def info(reason: str, **metadata: str) -> Message:
    return error_details_pb2.ErrorInfo(reason=reason, domain="saldo.notebook", metadata=metadata)


def retry(seconds: int) -> Message:
    found = error_details_pb2.RetryInfo()
    found.retry_delay.seconds = seconds
    return found


def violations(**descriptions: str) -> Message:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field.replace("__", "[1]."), description=description)
            for field, description in descriptions.items()
        ]
    )


REFUSALS = {
    "not found": (Code.NOT_FOUND, [info("NOTE_NOT_FOUND", id="note_1")]),
    "several fields": (
        Code.INVALID_ARGUMENT,
        [info("INVALID_ARGUMENT"), violations(text="must not be empty", items__count="must be positive")],
    ),
    "full": (Code.RESOURCE_EXHAUSTED, [info("NOTEBOOK_FULL"), retry(7)]),
    "full for ever": (Code.RESOURCE_EXHAUSTED, [info("NOTEBOOK_FULL")]),
    "gone": (Code.FAILED_PRECONDITION, [info("NOTE_GONE", page="12")]),
    "away": (Code.UNAVAILABLE, [info("NOTEBOOK_AWAY"), retry(3)]),
    "denied": (Code.PERMISSION_DENIED, [info("PERMISSION_DENIED")]),
    "exists": (Code.ALREADY_EXISTS, [info("ALREADY_EXISTS")]),
    "aborted": (Code.ABORTED, [info("ABORTED")]),
    "lock": (Code.ABORTED, [info("CONCURRENT_UPDATE")]),
    "slow": (Code.UNAVAILABLE, [info("UNAVAILABLE"), retry(1)]),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_each_kind_of_error_has_its_status_and_says_why(house: House, notebook: Any, how: str) -> None:
    """And leaves nothing behind."""
    if how == "lock":
        async with house.running["notebook"].database.session() as other:
            await other.execute("SELECT pg_advisory_lock(1)")
            error = await _refusal(notebook, how)
    else:
        error = await _refusal(notebook, how)
    code, expected = REFUSALS[how]
    assert error.code() is code
    assert details(error) == expected
    assert await _traces_left(house) == (0, 0, 0)


async def _refusal(notebook: Any, how: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await notebook.SpoilNote(pb.SpoilNoteRequest(how=how, request_id=f"spoil {how}"))
    return raised.value


async def _traces_left(house: House) -> tuple[int, int, int]:
    (row,) = await house.rows(
        "notebook",
        "SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM outbox), (SELECT count(*) FROM requests)",
    )
    notes, events, requests = row
    return notes, events, requests


@pytest.mark.parametrize("how", ["bug", "bad sql", "swallowed", "file", "two at once"])
async def test_a_mistake_of_ours_is_told_without_detail(
    capsys: pytest.CaptureFixture[str], house: House, notebook: Any, how: str
) -> None:
    """The caller gets the trace to ask about; what it was is in the log, once, with the same trace."""
    capsys.readouterr()
    error = await _refusal(notebook, how)
    assert error.code() is Code.INTERNAL
    assert details(error) == []
    prefix, _, trace = (error.details() or "").rpartition(" ")
    assert prefix == "internal error; trace"
    assert len(trace) == 32
    (event,) = _requests_logged(capsys)
    assert (event["level"], event["code"], event["trace_id"]) == ("error", "INTERNAL", trace)
    assert "Traceback" in event["exception"]
    assert await _traces_left(house) == (0, 0, 0)


def _requests_logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [event for event in map(json.loads, lines) if event["event"] == "request"]


async def test_a_refused_call_is_logged_once(capsys: pytest.CaptureFixture[str], house: House) -> None:
    """With who, what and why as fields; and one that is answered is not worth a line."""
    await house.start("notebook", log_level="info")
    notebook = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    nobody = house.raw_stub(notebook_grpc.NotebookServiceStub, "notebook", token="")
    capsys.readouterr()
    await notebook.EchoNote(pb.EchoNoteRequest(text="x"))
    with refused("NOTE_NOT_FOUND", Code.NOT_FOUND):
        await notebook.GetNote(pb.GetNoteRequest(id="note_1"))
    with refused("UNAUTHENTICATED", Code.UNAUTHENTICATED):
        await nobody.GetNote(pb.GetNoteRequest(id="note_1"))
    await eventually(lambda: _nothing_in_flight(house))
    first, second = _requests_logged(capsys)
    assert first["method"] == "/saldo.notebook.v1.NotebookService/GetNote"
    assert (first["code"], first["reason"], first["level"]) == ("NOT_FOUND", "NOTE_NOT_FOUND", "info")
    assert (first["seller_id"], first["actor"], first["service"]) == (house.seller, "tester", "notebook")
    assert len(first["trace_id"]) == 32
    assert first["duration_ms"] > 0
    assert (second["code"], second["reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert "seller_id" not in second


async def _nothing_in_flight(house: House) -> bool:
    return house.running["notebook"]._calls.in_flight == 0


async def test_a_call_that_the_caller_gave_up_is_not_told_as_a_success(
    capsys: pytest.CaptureFixture[str], house: House
) -> None:
    """It is undone, its connection is free again, and the log says what it was."""
    await house.start("notebook", log_level="info", database_pool_size=2)
    notebook = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    capsys.readouterr()
    call = notebook.SpoilNote(pb.SpoilNoteRequest(how="wait"))
    await asyncio.wait_for(api_of(house).entered.wait(), 10)
    call.cancel()
    await eventually(lambda: _nothing_in_flight(house))
    (event,) = _requests_logged(capsys)
    assert event["code"] == "CANCELLED"
    assert await _traces_left(house) == (0, 0, 0)
    await asyncio.gather(*(notebook.JotNote(pb.JotNoteRequest(text="x")) for _ in range(5)))


async def test_a_request_that_is_none_is_the_callers_fault(house: House) -> None:
    """Bytes that are no message: refused like any other, but only to those who may call at all."""
    await house.start("notebook")
    method = "/saldo.notebook.v1.NotebookService/WriteNote"
    allowed: Any = house.channel("notebook", token=house.keys.token(seller_id=house.seller)).unary_unary(method)
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await allowed(b"\xff\xff\xff")
    assert refusal.field == "request"
    nobody: Any = house.channel("notebook", token="").unary_unary(method)
    with refused("UNAUTHENTICATED", Code.UNAUTHENTICATED):
        await nobody(b"\xff\xff\xff")


async def test_no_caller_reaches_the_database_without_a_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers must not be able to use up its connections."""
    service = await house.start("notebook")
    stubs = {
        "none": house.raw_stub(notebook_grpc.NotebookServiceStub, "notebook", token=""),
        "garbage": house.raw_stub(notebook_grpc.NotebookServiceStub, "notebook", token="x.y.z"),
        "viewer": house.stub(notebook_grpc.NotebookServiceStub, "notebook", role=Role.VIEWER),
    }

    transaction = service.database.transaction

    def reached(caller: Caller, *, only_reads: bool = False) -> Any:
        if caller.role is Role.SERVICE:
            return transaction(caller, only_reads=only_reads)  # its own loops
        raise AssertionError("the database was asked")

    monkeypatch.setattr(service.database, "transaction", reached)
    for who, stub in stubs.items():
        reason = "ROLE_NOT_ALLOWED" if who == "viewer" else "UNAUTHENTICATED"
        with refused(reason):
            await stub.WriteNote(pb.WriteNoteRequest(text="x"))


async def test_the_scheme_of_the_token_is_bearer(house: House) -> None:
    """A password in its place is not looked at."""
    await house.start("notebook")
    good = house.keys.token(seller_id=house.seller)
    channel = house.channel("notebook", token="")
    stub = notebook_grpc.NotebookServiceStub(channel)
    for value, right in ((f"Bearer {good}", True), (f"bearer {good}", True), (good, False), (f"Basic {good}", False)):
        call = stub.EchoNote(pb.EchoNoteRequest(text="x"), metadata=(("authorization", value),))
        if right:
            assert (await call).text == "x"
        else:
            with refused("UNAUTHENTICATED"):
                await call


# AIP-155


async def test_a_repeated_request_is_answered_like_the_first(house: House, notebook: Any) -> None:
    """Its effect and its event happen once."""
    request = pb.WriteNoteRequest(text="once", request_id="r1")
    first = await notebook.WriteNote(request)
    assert [await notebook.WriteNote(request) for _ in range(3)] == [first] * 3
    assert await _traces_left(house) == (1, 1, 1)


class _Backwards(Answers):
    """Keeps answers in a way of its own."""

    async def kept(self, tx: Tx, request: Message, response: Message) -> bytes:
        assert tx.seller_id
        assert type(request).__name__ == "WriteNoteRequest"
        return response.SerializeToString()[::-1]

    async def told(self, tx: Tx, kept: bytes) -> bytes:
        assert tx.seller_id
        return kept[::-1]


async def test_a_service_keeps_its_answers_as_it_likes(house: House) -> None:
    """Who keeps personal data must not keep it in plain a second time, and answers the same all the same."""
    service = await house.start("notebook")
    service.database.answers = _Backwards()
    notebook = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    request = pb.WriteNoteRequest(text="once", request_id="r1")
    first = await notebook.WriteNote(request)
    assert await notebook.WriteNote(request) == first
    [row] = await house.rows("notebook", "SELECT response FROM requests")
    assert row["response"] == first.SerializeToString()[::-1]


async def test_twins_at_the_same_moment_are_one(house: House, notebook: Any) -> None:
    """The second waits for the first and gets its answer."""
    request = pb.WriteNoteRequest(text="once", request_id="r1")
    answers = await asyncio.gather(*(notebook.WriteNote(request) for _ in range(12)))
    assert answers == [answers[0]] * 12
    assert await _traces_left(house) == (1, 1, 1)


async def test_a_twin_of_one_that_fails_is_carried_out(house: House, notebook: Any) -> None:
    """What failed is not on record; it may work the next time."""
    first = asyncio.ensure_future(notebook.SpoilNote(pb.SpoilNoteRequest(how="wait", request_id="r1")))
    await asyncio.wait_for(api_of(house).entered.wait(), 10)
    second = asyncio.ensure_future(notebook.SpoilNote(pb.SpoilNoteRequest(how="wait", request_id="r1")))
    await asyncio.sleep(0.1)
    assert not second.done()
    first.cancel()
    api_of(house).proceed.set()
    assert (await second).text == "not spoilt"
    assert await _traces_left(house) == (1, 1, 1)


async def test_a_failed_command_is_not_on_record(house: House, notebook: Any) -> None:
    """The same request may succeed once its cause is repaired."""
    with refused("NOTE_NOT_FOUND"):
        await notebook.SpoilNote(pb.SpoilNoteRequest(how="not found", request_id="r1"))
    assert (await notebook.SpoilNote(pb.SpoilNoteRequest(how="", request_id="r1"))).text == "not spoilt"


async def test_one_id_stands_for_one_command(house: House, notebook: Any) -> None:
    """Two commands under one key are a mistake of the caller, better told than guessed."""
    await notebook.WriteNote(pb.WriteNoteRequest(text="one", request_id="r1"))
    with refused("REQUEST_ID_REUSED", Code.FAILED_PRECONDITION) as refusal:
        await notebook.WriteNote(pb.WriteNoteRequest(text="two", request_id="r1"))
    assert refusal.metadata == {"request_id": "r1"}
    # Another method, and another seller, have ids of their own.
    await notebook.SpoilNote(pb.SpoilNoteRequest(how="", request_id="r1"))
    other = SellerId(ids.mint(ids.SELLER, wall()))
    stranger = house.stub(notebook_grpc.NotebookServiceStub, "notebook", seller=other)
    await stranger.WriteNote(pb.WriteNoteRequest(text="two", request_id="r1"))
    assert await _traces_left(house) == (3, 3, 3)


async def test_platforms_have_ids_of_their_own(house: House, notebook: Any) -> None:
    """A caller for all sellers is none of them: its request is on record under nobody's name but its own."""
    platform = house.stub(notebook_grpc.NotebookServiceStub, "notebook", role=Role.PLATFORM)
    first = await platform.SpoilNote(pb.SpoilNoteRequest(how="", request_id="r1"))
    assert await platform.SpoilNote(pb.SpoilNoteRequest(how="", request_id="r1")) == first
    await notebook.SpoilNote(pb.SpoilNoteRequest(how="", request_id="r1"))
    assert {row["seller_id"] for row in await house.rows("notebook", "SELECT seller_id FROM requests")} == {
        "*", house.seller,
    }  # fmt: skip


@pytest.mark.parametrize("request_id", ["x" * 129, "a\nb", "a\x00b", "\x7f", " "], ids=repr)
async def test_an_id_must_be_something_one_can_read_in_a_log(notebook: Any, request_id: str) -> None:
    """It is what a caller asks about when something went wrong."""
    if request_id == " ":
        await notebook.WriteNote(pb.WriteNoteRequest(text="x", request_id=request_id))
        return
    with refused("INVALID_ARGUMENT") as refusal:
        await notebook.WriteNote(pb.WriteNoteRequest(text="x", request_id=request_id))
    assert refusal.field == "request_id"


async def test_without_an_id_every_call_is_a_command_of_its_own(house: House, notebook: Any) -> None:
    """The key is an offer, and not guessed from the content."""
    await notebook.WriteNote(pb.WriteNoteRequest(text="x"))
    await notebook.WriteNote(pb.WriteNoteRequest(text="x"))
    assert await _traces_left(house) == (2, 2, 0)


# Asking others


async def test_a_neighbour_is_asked_in_the_name_of_the_service(house: House) -> None:
    """For the seller of the call; with a trace that goes on."""
    await house.start("notebook")
    await house.start("notebook-2", kind="notebook", notebook_address=house.running["notebook"].address)
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook-2")
    note = await stub.ForwardNote(pb.ForwardNoteRequest(text="over there"))
    (row,) = await house.rows("notebook", "SELECT seller_id, traceparent FROM outbox")
    assert row["seller_id"] == house.seller
    own = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    assert (await own.GetNote(pb.GetNoteRequest(id=note.id))).text == "over there"


async def test_a_neighbour_that_is_away_makes_us_unavailable(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The caller may repeat: nothing was stored."""
    await house.start("notebook", notebook_address="127.0.0.1:1")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    with refused("NEIGHBOUR_UNAVAILABLE", Code.UNAVAILABLE) as refusal:
        await stub.ForwardNote(pb.ForwardNoteRequest(text="x"))
    assert refusal.metadata == {"method": "/saldo.notebook.v1.NotebookService/WriteNote"}
    await asyncio.sleep(0.05)
    assert caplog.records == [], "nothing may be complained about behind our back"


async def test_what_a_neighbour_refuses_is_passed_on_with_its_reason(house: House) -> None:
    """Whoever looks for the cause finds it in one answer."""
    await house.start("notebook")
    await house.start("notebook-2", kind="notebook", notebook_address=house.running["notebook"].address)
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook-2")
    with refused("NEIGHBOUR_REFUSED", Code.FAILED_PRECONDITION) as refusal:
        await stub.ForwardNote(pb.ForwardNoteRequest(text=""))
    assert refusal.metadata["neighbour_reason"] == "INVALID_ARGUMENT"
    assert refusal.metadata["method"] == "/saldo.notebook.v1.NotebookService/WriteNote"


async def test_what_a_neighbour_found_wrong_is_kept(house: House) -> None:
    """Who hands a caller's value on to a neighbour can then say which field of it was wrong."""
    await house.start("notebook")
    service = await house.start("notebook-2", kind="notebook", notebook_address=house.running["notebook"].address)
    current_caller.set(service_caller("notebook", house.seller))
    stub: Any = service.neighbours.stub(notebook_grpc.NotebookServiceStub)  # Any: grpc stubs are generated
    with pytest.raises(NeighbourRefused) as refusal:
        await stub.SpoilNote(pb.SpoilNoteRequest(how="several fields"))
    assert refusal.value.metadata["neighbour_reason"] == "INVALID_ARGUMENT"
    assert refusal.value.violations == (
        Violation("text", "must not be empty"),
        Violation("items[1].count", "must be positive"),
    )
    with pytest.raises(NeighbourRefused) as refusal:
        await stub.SpoilNote(pb.SpoilNoteRequest(how="not found"))
    assert refusal.value.violations == ()


async def test_a_service_that_is_no_caller_is_refused(house: House) -> None:
    """The graph of calls is declared; a good token of another service is not enough."""
    await house.start("notebook")
    stranger = Identity("stranger", house.keys.private("stranger")).token(house.seller)
    stub = house.raw_stub(notebook_grpc.NotebookServiceStub, "notebook", token=stranger)
    with refused("SERVICE_NOT_ALLOWED", Code.PERMISSION_DENIED):
        await stub.WriteNote(pb.WriteNoteRequest(text="x"))
    friend = Identity("notebook", house.keys.private("notebook")).token(house.seller)
    await house.raw_stub(notebook_grpc.NotebookServiceStub, "notebook", token=friend).WriteNote(
        pb.WriteNoteRequest(text="x")
    )


async def test_who_only_reads_wakes_no_jobs(house: House) -> None:
    """They look for what is due after every commit that may have made something due; most calls only ask."""
    service = await house.start("notebook")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
    note = await stub.WriteNote(pb.WriteNoteRequest(text="x"))
    everybody = service_caller("notebook", EVERY_SELLER)
    woken: list[Caller] = []
    service.database.on_commit(lambda: woken.append(current_caller.get(everybody)))

    def by_the_seller() -> list[str]:
        """Not by the service itself, which forgets what is old once it has started."""
        return [caller.actor for caller in woken if caller.seller_id == house.seller]

    await stub.GetNote(pb.GetNoteRequest(id=note.id))
    assert by_the_seller() == []
    await stub.WriteNote(pb.WriteNoteRequest(text="y"))
    assert by_the_seller() == ["tester"]


async def test_an_outage_of_the_database_is_one_of_ours(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears UNAVAILABLE and repeats, not what PostgreSQL said."""
    service = await house.start("notebook")
    stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")

    def away(_: Caller, *, only_reads: bool) -> Any:  # as it is called
        raise DatabaseUnavailable("no connection")

    monkeypatch.setattr(service.database, "transaction", away)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.JotNote(pb.JotNoteRequest(text="x"))
    assert raised.value.code() is Code.UNAVAILABLE
    found = error_info(raised.value)
    assert found is not None
    assert (found.reason, found.domain) == ("DATABASE_UNAVAILABLE", "saldo.notebook")


async def test_an_error_without_details_has_no_reason(house: House) -> None:
    """One from gRPC itself: there is nothing to read in it."""
    await house.start("notebook")
    channel = house.channel("notebook", token=house.keys.token(seller_id=house.seller))
    burn: Any = channel.unary_unary("/saldo.notebook.v1.NotebookService/BurnNotebook")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await burn(b"")
    assert raised.value.code() is Code.UNIMPLEMENTED
    assert error_info(raised.value) is None


def test_events_of_the_tests_are_made_when_they_run() -> None:
    """The contract of the notebook is compiled by the tests: its messages must behave like those of a service."""
    assert events_pb2.NoteWritten.DESCRIPTOR.full_name == "saldo.notebook.v1.NoteWritten"
