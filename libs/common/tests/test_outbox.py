"""Events are numbered per aggregate without a gap, in the order in which their transactions commit."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import asyncpg
import pytest
from opentelemetry.trace import SpanKind

from common import ids, outbox, telemetry
from common.caller import EVERY_SELLER, service_caller
from common.clock import wall
from common.db import Database
from common.ids import SellerId
from common.outbox import Answer
from common.telemetry import Telemetry
from libs.common.tests.notebook.contracts import events_pb2, note_pb2, notebook_pb2

EVERYBODY = service_caller("notebook", EVERY_SELLER)


def written(note_id: str, text: str = "x") -> Any:
    return events_pb2.NoteWritten(note=note_pb2.Note(id=note_id, text=text))


async def rows(database: Database) -> list[asyncpg.Record]:
    async with database.transaction(EVERYBODY) as tx:
        found: list[asyncpg.Record] = await tx.driver.fetch("SELECT * FROM outbox ORDER BY position")
        return found


def test_names_come_from_the_message() -> None:
    """The class is the declaration: nothing is registered anywhere."""
    event = written("note_1")
    assert outbox.subject_of(type(event)) == "saldo.notebook.v1.NoteWritten"
    assert outbox.stream_of(type(event)) == "NOTEBOOK"
    assert outbox.aggregate_of(event) == "note_1"


@pytest.mark.parametrize(
    "event",
    [events_pb2.NoteWritten(), written(""), notebook_pb2.GetNoteRequest(id="note_1")],
    ids=["no resource", "no id", "no event"],
)
def test_an_event_without_its_resource_is_a_mistake(event: Any) -> None:
    """Nobody could say which aggregate it belongs to."""
    with pytest.raises(ValueError, match="resource"):
        outbox.aggregate_of(event)


async def test_an_event_is_written_as_it_was_emitted(database: Database, seller: SellerId) -> None:
    """The outbox is the record of what was announced."""
    tracer = Telemetry("notebook")
    async with database.transaction(service_caller("notebook", seller)) as tx:
        with tracer.span("a call", SpanKind.SERVER):
            around = telemetry.traceparent()
            await tx.emit(written("note_1", "Zażółć"))
        now = tx.now
    (row,) = await rows(database)
    assert row["id"].startswith("evt_")
    assert row["traceparent"] == around != ""
    assert (row["seller_id"], row["subject"]) == (seller, "saldo.notebook.v1.NoteWritten")
    assert (row["aggregate_id"], row["sequence"], row["time"]) == ("note_1", 1, now)
    assert events_pb2.NoteWritten.FromString(row["payload"]) == written("note_1", "Zażółć")


async def test_events_of_one_transaction_keep_their_order(database: Database, seller: SellerId) -> None:
    """A reader takes created before changed."""
    about = ["a", "b", "a", "c", "a", "b"]
    async with database.transaction(service_caller("notebook", seller)) as tx:
        for number, note_id in enumerate(about):
            await tx.emit(written(note_id, str(number)))
    async with database.transaction(service_caller("notebook", seller)) as tx:
        for number, note_id in enumerate(["b", "d", "b"]):
            await tx.emit(written(note_id, str(len(about) + number)))
    found = await rows(database)
    assert [events_pb2.NoteWritten.FromString(row["payload"]).note.text for row in found] == [str(n) for n in range(9)]
    assert [(row["aggregate_id"], row["sequence"]) for row in found] == [
        ("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3), ("b", 2), ("b", 3), ("d", 1), ("b", 4),
    ]  # fmt: skip


async def test_sellers_have_their_own_numbers(database: Database) -> None:
    """An id that two sellers happen to use is two aggregates."""
    sellers = [SellerId(ids.mint(ids.SELLER, wall())) for _ in range(2)]
    for seller in (*sellers, sellers[0]):
        async with database.transaction(service_caller("notebook", seller)) as tx:
            await tx.emit(written("note_1"))
    assert [(row["seller_id"], row["sequence"]) for row in await rows(database)] == [
        (sellers[0], 1), (sellers[1], 1), (sellers[0], 2),
    ]  # fmt: skip


async def test_many_writers_leave_no_gap_and_no_inversion(database: Database, seller: SellerId) -> None:
    """For each aggregate positions grow with sequences, however transactions overlap; and nothing deadlocks."""
    chance = random.Random(20261120)
    notes = [f"note_{number}" for number in range(6)]
    kept: dict[str, int] = defaultdict(int)

    async def write() -> None:
        for _ in range(12):
            about = [chance.choice(notes) for _ in range(chance.randrange(1, 5))]
            fails = chance.random() < 0.2
            pause = chance.random() / 200
            try:
                async with database.transaction(service_caller("notebook", seller)) as tx:
                    for note_id in about:
                        await tx.emit(written(note_id))
                    await asyncio.sleep(pause)
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                continue
            for note_id in about:
                kept[note_id] += 1

    await asyncio.gather(*(write() for _ in range(8)))
    found: dict[str, list[int]] = defaultdict(list)
    for row in await rows(database):
        found[row["aggregate_id"]].append(row["sequence"])
    assert found == {note_id: list(range(1, count + 1)) for note_id, count in kept.items()}


async def test_an_answer_is_written_with_the_events(database: Database, seller: SellerId) -> None:
    """Whether there are none, one or many of them."""
    for number in range(3):
        async with database.transaction(service_caller("notebook", seller)) as tx:
            await tx.driver.execute(
                "INSERT INTO requests (seller_id, method, request_id, digest) VALUES ($1, 'WriteNote', $2, '')",
                seller,
                f"r{number}",
            )
            for note in range(number):
                await tx.emit(written(f"note_{number}_{note}"))
            tx.remember(
                Answer(seller_id=seller, method="WriteNote", request_id=f"r{number}", response=b"answer %d" % number)
            )
    async with database.transaction(EVERYBODY) as tx:
        answers = await tx.driver.fetch("SELECT request_id, response FROM requests ORDER BY request_id")
    assert [tuple(row) for row in answers] == [("r0", b"answer 0"), ("r1", b"answer 1"), ("r2", b"answer 2")]
    assert len(await rows(database)) == 3
