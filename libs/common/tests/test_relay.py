"""What is committed is announced: in order, at least once, by one relay at a time, through crashes and outages."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from common.bus import Bus, BusUnavailable, Delivery, MemoryBus, Message, StreamSpec
from common.caller import EVERY_SELLER, service_caller
from common.db import Database
from common.ids import SellerId
from common.relay import BATCH_SIZE, BATCHES_PER_PASS, Relay
from common.telemetry import Telemetry
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook.contracts import events_pb2, note_pb2

EVERYBODY = service_caller("notebook", EVERY_SELLER)
SUBJECT = "saldo.notebook.v1.NoteWritten"


class Gate:
    """A bus whose publishing can be watched, held up and broken."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.failures = 0

    async def publish(self, stream: str, messages: Sequence[Message]) -> None:
        self.reached.set()
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("broken on purpose")
        self.batches.append([events_pb2.NoteWritten.FromString(each.data).note.text for each in messages])

    @property
    def published(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


def make_relay(database: Database, bus: Any, telemetry: Telemetry, stream: str = "NOTEBOOK") -> Relay:
    return Relay(database, bus, stream=stream, telemetry=telemetry, poll_seconds=0.05)


async def write(database: Database, seller: SellerId, *texts: str, note_id: str = "") -> None:
    async with database.transaction(service_caller("notebook", seller)) as tx:
        for text in texts:
            await tx.emit(events_pb2.NoteWritten(note=note_pb2.Note(id=note_id or f"note_{text[:20]}", text=text)))


async def waiting(database: Database) -> int:
    async with database.transaction(EVERYBODY) as tx:
        count: int = await tx.driver.fetchval("SELECT count(*) FROM outbox_waiting")
        return count


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        relay.stop()
        await asyncio.wait_for(task, 10)


async def arrivals(bus: Bus, stream: str, count: int) -> list[Delivery]:
    """Everything in the stream; one more than expected would be seen."""
    subscription = await bus.subscribe(stream, durable=f"everything-{uuid.uuid4().hex}", subjects=[SUBJECT])
    found: list[Delivery] = []
    while deliveries := await subscription.fetch(5_000, 0.3 if len(found) >= count else 10):
        found += deliveries
        for delivery in deliveries:
            await delivery.ack()
    await subscription.close()
    return found


@pytest.fixture
async def taken(bus: Bus) -> str:
    """A stream that takes the notebook's events; on a real server two must not take the same ones at a time."""
    await bus.ensure_stream(StreamSpec(name="NOTEBOOK", subjects=("saldo.notebook.v1.>",)))
    return "NOTEBOOK"


async def start_of(bus: Bus) -> int:
    """How many messages of earlier tests the stream holds; a stream of the suite is never deleted."""
    return len(await arrivals(bus, "NOTEBOOK", 0))


async def test_everything_arrives_in_order_with_its_envelope(
    database: Database, bus: Bus, taken: str, seller: SellerId, telemetry: Telemetry
) -> None:
    """Consumers read seller, id and trace from the headers."""
    before = await start_of(bus)
    await write(database, seller, "1", "2", note_id="note_a")
    await write(database, seller, "3", note_id="note_a")
    async with running(make_relay(database, bus, telemetry)):
        await eventually(lambda: _none_waits(database))
    found = (await arrivals(bus, taken, before + 3))[-3:]
    assert [events_pb2.NoteWritten.FromString(each.data).note.text for each in found] == ["1", "2", "3"]
    assert [each.headers["ce-sequence"] for each in found] == ["1", "2", "3"]
    async with database.transaction(EVERYBODY) as tx:
        rows = await tx.driver.fetch("SELECT * FROM outbox ORDER BY position")
    for row, delivery in zip(rows, found, strict=True):
        assert delivery.id == delivery.headers["ce-id"] == row["id"]
        assert delivery.subject == delivery.headers["ce-type"] == SUBJECT
        assert delivery.headers["ce-specversion"] == "1.0"
        assert delivery.headers["ce-source"] == "saldo/notebook"
        assert delivery.headers["ce-subject"] == "note_a"
        assert delivery.headers["ce-seller"] == seller
        assert delivery.headers["ce-time"].endswith("Z")
        assert delivery.headers["content-type"] == "application/protobuf"


async def _none_waits(database: Database) -> bool:
    return await waiting(database) == 0


async def test_a_crash_between_publishing_and_noting_it_doubles_nothing(
    database: Database, bus: Bus, taken: str, seller: SellerId, telemetry: Telemetry
) -> None:
    """The next relay publishes again; a batch with ids that the stream knows must neither be stored nor stop it."""
    before = await start_of(bus)
    await write(database, seller, *(str(number) for number in range(30)))
    async with database.session() as connection:
        # As the relay that died had it: everything read, a part of it stored.
        relay = make_relay(database, bus, telemetry)
        batch = await relay._read(connection, after=0, on_their_way=0)
        await bus.publish(taken, [each.message for each in batch[:20]])
    assert await waiting(database) == 30
    await write(database, seller, "30")
    async with running(make_relay(database, bus, telemetry)):
        await eventually(lambda: _none_waits(database))
    found = (await arrivals(bus, taken, before + 31))[before:]
    assert [events_pb2.NoteWritten.FromString(each.data).note.text for each in found] == [str(n) for n in range(31)]


async def test_an_event_that_is_too_large_is_buried_and_the_others_go_on(
    database: Database, bus: Bus, taken: str, seller: SellerId, telemetry: Telemetry
) -> None:
    """One mistake must not silence a whole service."""
    before = await start_of(bus)
    await write(database, seller, "1", "x" * 1_100_000, "2", "y" * 1_100_000, "3")
    async with running(make_relay(database, bus, Telemetry("notebook", level="error"))):
        await eventually(lambda: _none_waits(database))
    found = (await arrivals(bus, taken, before + 3))[before:]
    assert [events_pb2.NoteWritten.FromString(each.data).note.text for each in found] == ["1", "2", "3"]
    async with database.transaction(EVERYBODY) as tx:
        letters = await tx.driver.fetch(
            "SELECT d.seller_id, d.subject, d.payload = o.payload AS whole, d.error FROM dead_letters d"
            " JOIN outbox o ON d.id = 'outbox:' || o.id"
        )
    assert [(row["seller_id"], row["subject"], row["whole"]) for row in letters] == [(seller, SUBJECT, True)] * 2
    assert all("bytes" in row["error"] for row in letters)


async def test_more_than_a_pass_is_relayed_in_order(database: Database, seller: SellerId, telemetry: Telemetry) -> None:
    """After an outage there is more than one pass can carry."""
    gate = Gate()
    count = BATCH_SIZE * 3 + 17
    async with database.session() as connection:
        relay = make_relay(database, gate, telemetry)
        for first in range(0, count, 500):
            await write(database, seller, *(str(number) for number in range(first, min(first + 500, count))))
        assert await relay.relay_waiting(connection) == count
        assert await relay.relay_waiting(connection) == 0
    assert gate.published == [str(number) for number in range(count)]
    assert [len(batch) for batch in gate.batches] == [BATCH_SIZE] * 3 + [17]
    assert await waiting(database) == 0


async def test_a_pass_has_an_end(
    database: Database, seller: SellerId, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay has to notice that it should stop."""
    monkeypatch.setattr("common.relay.BATCH_SIZE", 2)
    gate = Gate()
    await write(database, seller, *(str(number) for number in range(2 * BATCHES_PER_PASS + 5)))
    async with database.session() as connection:
        relay = make_relay(database, gate, telemetry)
        assert await relay.relay_waiting(connection) == 2 * BATCHES_PER_PASS
        assert await relay.relay_waiting(connection) == 5
    assert gate.published == [str(number) for number in range(2 * BATCHES_PER_PASS + 5)]


async def test_a_late_commit_is_not_overtaken_by_what_follows_upon_it(
    database: Database, seller: SellerId, telemetry: Telemetry
) -> None:
    """Positions are handed out before a commit. While a batch is on its way, one with a lower position may become
    visible, and then one that builds upon it with a higher position: the relay must not take the second alone."""
    gate = Gate()
    gate.open.clear()
    async with database.session() as connection:
        # "late" takes its position now, before "early", and commits after it.
        late = database.transaction(service_caller("notebook", seller))
        tx = await late.__aenter__()
        await _write_now(tx.driver, seller, note_id="note_x", text="late")
        await write(database, seller, "early")
        relaying = asyncio.create_task(make_relay(database, gate, telemetry).relay_waiting(connection))
        await gate.reached.wait()
        # "early" is on its way, the relay is about to read on, or has done so.
        await late.__aexit__(None, None, None)
        await write(database, seller, "upon late", note_id="note_x")
        gate.open.set()
        await relaying
        await make_relay(database, gate, telemetry).relay_waiting(connection)
    assert gate.published == ["early", "late", "upon late"]
    assert await waiting(database) == 0


async def test_what_is_read_ahead_never_skips_a_late_commit(
    database: Database, seller: SellerId, telemetry: Telemetry
) -> None:
    """The same, with the reading done exactly when both are visible."""
    async with database.session() as connection:
        relay = make_relay(database, Gate(), telemetry)
        late = database.transaction(service_caller("notebook", seller))
        tx = await late.__aenter__()
        await _write_now(tx.driver, seller, note_id="note_x", text="late")
        await write(database, seller, "early")
        batch = await relay._read(connection, after=0, on_their_way=0)
        assert len(batch) == 1
        await late.__aexit__(None, None, None)
        await write(database, seller, "upon late", note_id="note_x")
        assert await relay._read(connection, after=batch[-1].row["position"], on_their_way=1) == []
        assert len(await relay._read(connection, after=0, on_their_way=0)) == 3


async def _write_now(driver: asyncpg.Connection, seller: SellerId, *, note_id: str, text: str) -> None:
    """What the commit of a transaction does last, but for the commit itself."""
    from common import outbox
    from common.clock import wall

    event = events_pb2.NoteWritten(note=note_pb2.Note(id=note_id, text=text))
    await outbox.write(driver, [outbox.emitted(event, seller_id=seller, at=wall())])


async def test_a_bus_that_is_away_is_waited_for(
    database: Database, seller: SellerId, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events wait in the outbox; nothing is lost and nobody is told to try again."""
    monkeypatch.setattr("common.relay.FAILURE_WAIT_SECONDS", 0.05)
    gate = Gate()
    gate.failures = 3
    await write(database, seller, "1", "2")
    async with running(make_relay(database, gate, telemetry)) as task:
        await eventually(lambda: _none_waits(database))
        assert not task.done()
    assert gate.published == ["1", "2"]


async def test_one_relay_leads_and_the_other_takes_over(
    database: Database, url: str, seller: SellerId, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas share a database, and two at once would mix up the order."""
    monkeypatch.setattr("common.relay.FOLLOWER_WAIT_SECONDS", 0.05)
    first_gate, second_gate = Gate(), Gate()
    first, second = (make_relay(database, gate, telemetry) for gate in (first_gate, second_gate))
    async with running(second):
        async with running(first):
            await eventually(lambda: _leader_exists(database))
            for number in range(20):
                await write(database, seller, str(number))
            await eventually(lambda: _none_waits(database))
            led = {bool(first_gate.published), bool(second_gate.published)}
            assert led == {True, False}, "one of them does all of it"
            leader = first if first_gate.published else second
            before = len(first_gate.published) + len(second_gate.published)
            assert before == 20
        if leader is first:
            await write(database, seller, "20")
            await eventually(lambda: _none_waits(database))
            assert second_gate.published == ["20"]


async def _leader_exists(database: Database) -> bool:
    async with database.transaction(EVERYBODY) as tx:
        count: int = await tx.driver.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return count == 1


async def test_a_follower_does_not_ask_at_every_commit(
    database: Database, seller: SellerId, telemetry: Telemetry
) -> None:
    """A replica that does not lead must leave the database in peace."""
    async with database.session() as leader:
        await leader.execute("SELECT pg_advisory_lock(7203156)")
        async with running(make_relay(database, Gate(), telemetry)):
            await asyncio.sleep(0.1)
            for number in range(30):
                await write(database, seller, str(number))
            asked = await leader.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid()"
                " AND query_start > clock_timestamp() - interval '50 milliseconds'"
            )
            assert asked == 0
            await leader.execute("SELECT pg_advisory_unlock(7203156)")


async def test_a_relay_that_loses_its_connection_takes_another(
    database: Database, seller: SellerId, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process lives on, also when it happens while a batch is on its way."""
    monkeypatch.setattr("common.relay.FAILURE_WAIT_SECONDS", 0.05)
    gate = Gate()
    async with running(make_relay(database, gate, telemetry)) as task:
        await eventually(lambda: _leader_exists(database))
        for number in range(3):
            gate.reached.clear()
            gate.open.clear()
            await write(database, seller, str(number))
            await gate.reached.wait()
            async with database.transaction(EVERYBODY) as tx:
                await tx.driver.fetch(
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                    " WHERE application_name = 'notebook loop' AND datname = current_database()"
                )
            gate.open.set()
            await eventually(lambda: _none_waits(database))
        assert not task.done()
    # What was on its way may have been published twice; the stream would have known the second by its id.
    assert list(dict.fromkeys(gate.published)) == ["0", "1", "2"]


async def test_a_stopping_relay_publishes_what_is_committed(
    database: Database, seller: SellerId, telemetry: Telemetry
) -> None:
    """What was just done should not wait for the next start."""
    gate = Gate()
    relay = make_relay(database, gate, telemetry)
    await write(database, seller, *(str(number) for number in range(5)))
    task = asyncio.create_task(relay.run())
    await gate.reached.wait()
    await write(database, seller, "last")
    relay.stop()
    await asyncio.wait_for(task, 5)
    assert gate.published == ["0", "1", "2", "3", "4", "last"]


async def test_what_is_committed_during_the_last_look_is_published(
    database: Database, seller: SellerId, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look was before it; whoever says stop afterwards has one more taken."""
    gate, looked, said = Gate(), asyncio.Event(), asyncio.Event()
    relay = make_relay(database, gate, telemetry)
    read = relay._read

    async def slowly(connection: asyncpg.Connection, **asked: int) -> Any:  # Any: what waits
        found = await read(connection, **asked)
        looked.set()
        await said.wait()
        return found

    monkeypatch.setattr(relay, "_read", slowly)
    task = asyncio.create_task(relay.run())
    await looked.wait()
    await write(database, seller, "last")
    relay.stop()
    said.set()
    await asyncio.wait_for(task, 5)
    assert gate.published == ["last"]


async def test_a_stretch_is_published_again_under_the_old_event_ids(
    database: Database, seller: SellerId, telemetry: Telemetry
) -> None:
    """For a consumer that lost its data. The stream must take them anew, though it knows the events."""
    bus = MemoryBus()
    await bus.ensure_stream(StreamSpec(name="NOTEBOOK", subjects=("saldo.notebook.v1.>",)))
    relay = make_relay(database, bus, telemetry)
    async with database.session() as connection:
        await write(database, seller, *(str(number) for number in range(6)))
        await relay.relay_waiting(connection)
        await write(database, seller, "not yet published")
        positions = [row["position"] for row in await connection.fetch("SELECT position FROM outbox ORDER BY 1")]
        assert await relay.replay(connection, positions[1], positions[-1]) == 5
        assert await relay.replay(connection, positions[-1] + 1, positions[-1] + 9) == 0
    stored = bus.published("NOTEBOOK")
    assert [message.headers["ce-id"] for message in stored[6:]] == [message.id for message in stored[1:6]]
    assert len({message.id for message in stored}) == 11
