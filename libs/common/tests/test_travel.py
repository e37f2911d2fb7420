"""A sandbox's time passes in all services together, in the order in which it would have passed by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from common import wire
from common.db import Tx
from common.jobs import Job
from common.travel import NeverQuiet, Step, advance, quiet, travel
from libs.common.tests.notebook import main, store
from libs.common.tests.notebook.contracts import notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb
from libs.common.tests.notebook.house import START, House
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub

DAY = timedelta(days=1)


async def write(house: House, name: str, *moments: datetime) -> None:
    stub = house.stub(notebook_grpc.NotebookServiceStub, name)
    for moment in moments:
        request = pb.WriteNoteRequest(text=f"{name} {moment:%j}")
        request.remind_time.CopyFrom(wire.timestamp(moment))
        await stub.WriteNote(request)


async def now(house: House, name: str) -> datetime:
    clock = await house.stub(OperationsServiceStub, name).GetClock(operations.GetClockRequest())
    found: datetime = clock.time.ToDatetime(UTC)
    return found


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, datetime]]:
    """What was done, in which order, at what time of the sandbox."""
    found: list[tuple[str, datetime]] = []

    async def note(tx: Tx, note_id: str) -> None:
        row = await store.note_by_id(tx, note_id)
        assert row is not None
        await main.remind_of_note(tx, note_id)
        found.append((str(row.text), tx.now))

    monkeypatch.setattr(main, "JOBS", [main.reminder(note)])
    return found


@pytest.fixture
async def two(house: House, order: list[tuple[str, datetime]]) -> House:
    """Two services with jobs and databases of their own, and the archive, which only listens."""
    await house.start("notebook", "archive")
    house.urls["second"] = await house.databases.create("notebook", migrated=main.PACKAGE)
    await house.start("second", build=main.build_notebook, database_url=house.urls["second"],
                      auth_key=house.keys.private("notebook"))  # fmt: skip
    return house


async def test_what_is_due_happens_in_order_across_services(two: House, order: list[tuple[str, datetime]]) -> None:
    """Each at its own moment; what follows from one before the next."""
    await write(two, "notebook", START + 3 * DAY, START + 1 * DAY, START + 40 * DAY)
    await write(two, "second", START + 2 * DAY, START + 4 * DAY)
    seen: list[Step] = []

    async def on_step(step: Step) -> None:
        seen.append(step)

    steps = await travel(two.clocks(), START + 30 * DAY, on_step=on_step)
    days = [1, 2, 3, 4]
    assert order == [
        (f"{name} {START + day * DAY:%j}", START + day * DAY)
        for day, name in zip(days, ("notebook", "second", "notebook", "second"), strict=True)
    ]
    assert [step.time for step in seen] == [START, *(START + day * DAY for day in days), START + 30 * DAY]
    assert steps == len(seen) - 1
    for name in two.running:
        assert await now(two, name) == START + 30 * DAY
    handled = await two.rows("archive", "SELECT sum(handled - 1) FROM archived")
    assert handled[0][0] == 4, "and has been taken in everywhere"


async def test_to_travel_to_the_present_is_to_wait_for_quiet(two: House) -> None:
    """Which is how a story waits for what it has set off."""
    await write(two, "notebook", START)
    assert await travel(two.clocks(), START) == 0
    assert [row[0] for row in await two.rows("archive", "SELECT handled FROM archived")] == [2]


async def test_clocks_that_were_left_behind_catch_up_first(two: House, order: list[tuple[str, datetime]]) -> None:
    """A traveller that was interrupted has moved some of them."""
    await write(two, "second", START + 2 * DAY, START + 8 * DAY)
    ahead = two.stub(OperationsServiceStub, "notebook")
    await ahead.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(START + 5 * DAY)))
    await travel(two.clocks(), START + 10 * DAY)
    assert [moment for _, moment in order] == [START + 5 * DAY, START + 8 * DAY]
    for name in two.running:
        assert await now(two, name) == START + 10 * DAY


async def test_what_becomes_due_on_the_way_is_done_on_the_way(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A period ends and the next begins: nobody knew of its end before."""
    moments: list[datetime] = []

    async def every_month(tx: Tx, note_id: str) -> None:
        moments.append(tx.now)
        await store.remind(tx, note_id, again=tx.now + 30 * DAY)

    monkeypatch.setattr(main, "JOBS", [main.reminder(every_month)])
    await house.start("notebook")
    await write(house, "notebook", START + DAY)
    await travel(house.clocks(), START + 365 * DAY)
    assert moments == [START + DAY + number * 30 * DAY for number in range(13)]


async def test_other_sandboxes_stay_where_they_are(two: House) -> None:
    """Many stories play at once."""
    mine, two.seller = two.seller, type(two.seller)(two.seller[:-1] + ("a" if two.seller[-1] != "a" else "b"))
    await travel(two.clocks(), START + DAY)
    two.seller = mine
    assert await now(two, "notebook") == START


async def test_what_never_comes_to_rest_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the service and how many of its rows are failing."""

    async def fail(tx: Tx, note_id: str) -> None:
        raise ValueError("never")

    monkeypatch.setattr(main, "JOBS", [main.reminder(fail)])
    await house.start("notebook", "archive", log_level="error")
    await write(house, "notebook", START)
    with pytest.raises(NeverQuiet, match=r"notebook.*1"):
        await travel(house.clocks(), START + DAY, quiet_seconds=1.5)
    assert await now(house, "notebook") == START


async def test_a_row_that_was_given_up_does_not_stop_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a decision; the others go on."""

    async def fail(tx: Tx, note_id: str) -> None:
        raise ValueError("never")

    monkeypatch.setattr("common.jobs.RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(main, "JOBS", [Job(name="remind of notes", due=store.REMINDERS_DUE, run=fail)])
    await house.start("notebook", log_level="error")
    await write(house, "notebook", START)
    await travel(house.clocks(), START + DAY)
    assert await now(house, "notebook") == START + DAY


class Flaky:
    """A clock that is away for a while, as a service that is being restarted is."""

    def __init__(self, clock: Any, away: int) -> None:
        self._clock = clock
        self._away = away

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any, timeout: float) -> Any:
            if self._away:
                self._away -= 1
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "away"
                )
            return await getattr(self._clock, name)(request, timeout=timeout)

        return call


async def test_a_service_that_is_away_for_a_while_is_waited_for(house: House) -> None:
    """A restart in the middle costs time and nothing else."""
    await house.start("notebook")
    await write(house, "notebook", START + DAY)
    clocks = {name: Flaky(clock, away=3) for name, clock in house.clocks().items()}
    assert await travel(clocks, START + 2 * DAY) == 2
    assert await now(house, "notebook") == START + 2 * DAY


class Script:
    """A clock that says what it was told to say, the last thing for ever."""

    def __init__(self, *readings: tuple[bool, int]) -> None:
        self._readings = list(readings)
        self.asked = 0

    async def GetClock(self, request: Any, timeout: float) -> Any:
        quiet_, progress = self._readings[min(self.asked, len(self._readings) - 1)]
        self.asked += 1
        return operations.SandboxClock(quiet=quiet_, progress=progress)


async def test_two_readings_have_to_agree() -> None:
    """A message that left one service after it was asked, and reached the other before, shows in the progress."""
    moving = Script((True, 1), (True, 2), (True, 2))
    still = Script((True, 7))
    readings = await quiet({"moving": moving, "still": still})
    assert (moving.asked, readings["moving"].progress) == (3, 2)
    restless = Script((True, 1), (False, 1), (True, 1), (True, 1))
    await quiet({"restless": restless})
    assert restless.asked == 4


async def test_who_is_quiet_is_asked_again_when_all_are() -> None:
    """To wait for one service is no work for five others; what they did meanwhile shows in the last reading."""
    busy = Script((False, 1), (False, 1), (True, 2))
    still = Script((True, 7))
    await quiet({"busy": busy, "still": still})
    assert (busy.asked, still.asked) == (4, 2)
    busy = Script((False, 1), (False, 1), (True, 2))
    woken = Script((True, 7), (True, 8))
    readings = await quiet({"busy": busy, "woken": woken})
    assert (busy.asked, woken.asked, readings["woken"].progress) == (5, 3, 8)


async def test_what_a_clock_said_when_it_was_moved_is_a_first_reading() -> None:
    """It counts like any other: something has happened since, or not."""
    said = {"notebook": operations.SandboxClock(quiet=True, progress=1)}
    idle = Script((True, 1))
    await quiet({"notebook": idle}, first=said)
    assert idle.asked == 1
    moved = Script((True, 2))
    await quiet({"notebook": moved}, first=said)
    assert moved.asked == 2


class Told:
    """A clock that notes in a list of all when it is told what time it is, and whether it is held."""

    def __init__(self, name: str, told: list[tuple[str, bool]]) -> None:
        self._name = name
        self._told = told

    async def AdvanceClock(self, request: Any, timeout: float) -> Any:
        self._told.append((self._name, request.hold))
        return operations.SandboxClock(time=request.time)


@pytest.mark.parametrize(
    ("due", "told"),
    [
        ({}, [("a", False), ("b", False), ("c", False)]),
        ({"b": START + 2 * DAY}, [("a", False), ("b", False), ("c", False)]),
        ({"a": START + DAY}, [("b", False), ("c", False), ("a", False)]),
        ({"a": START + DAY, "c": START}, [("b", False), ("a", True), ("c", True), ("a", False), ("c", False)]),
    ],
)
async def test_nobody_acts_before_all_have_been_told(due: dict[str, datetime], told: list[tuple[str, bool]]) -> None:
    """Those with nothing to do by then cannot, and need not be held; nor can the only one that has, if it is last."""
    found: list[tuple[str, bool]] = []
    clocks = {name: Told(name, found) for name in "abc"}
    known = {name: operations.SandboxClock(quiet=True) for name in clocks}
    for name, moment in due.items():
        known[name].next_due_time.CopyFrom(wire.timestamp(moment))
    readings = await advance(clocks, START + DAY, known=known)
    assert found == told
    assert {name: reading.time.ToDatetime(UTC) for name, reading in readings.items()} == dict.fromkeys(
        "abc", START + DAY
    )


async def test_without_knowing_what_is_due_all_are_held() -> None:
    """Clocks that were left behind by somebody else may have anything to do."""
    found: list[tuple[str, bool]] = []
    await advance({name: Told(name, found) for name in "ab"}, START + DAY)
    assert found == [("a", True), ("b", True), ("a", False), ("b", False)]


async def test_quiet_is_more_than_a_quiet_moment(house: House) -> None:
    """Between a commit here and the message there nothing seems to happen: two readings have to agree."""
    await house.start("notebook", "archive")
    for number in range(20):
        stub = house.stub(notebook_grpc.NotebookServiceStub, "notebook")
        await asyncio.gather(*(stub.WriteNote(pb.WriteNoteRequest(text="x")) for _ in range(3)))
        await quiet(house.clocks())
        (row,) = await house.rows("archive", "SELECT count(*) FROM archived")
        assert row[0] == 3 * (number + 1)
