"""Every fact has its effect once: through duplicates, failures, outages and messages that nobody can read."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from common import ids
from common.bus import Bus, BusUnavailable, JetStreamBus, MemoryBus, StreamSpec
from common.bus import Message as BusMessage
from common.caller import EVERY_SELLER, current_caller, service_caller
from common.clock import wall
from common.consumer import (
    ATTEMPTS_MAX,
    FAILURES_MAX,
    Consumers,
    DeadLetterNotFound,
    DeadLetterUnreadable,
    Handlers,
    batched,
)
from common.db import Database, DatabaseUnavailable, Tx
from common.errors import Unavailable
from common.ids import SellerId
from common.telemetry import Telemetry
from libs.common.tests.conftest import STREAM_BYTES_MAX, eventually
from libs.common.tests.notebook import store
from libs.common.tests.notebook.contracts import events_pb2, note_pb2

EVERYBODY = service_caller("notebook", EVERY_SELLER)
WRITTEN = "saldo.notebook.v1.NoteWritten"
REMINDED = "saldo.notebook.v1.NoteReminded"


@dataclass(slots=True)
class Arrived:
    """A delivery, and what became of it."""

    id: str
    subject: str
    headers: Mapping[str, str]
    data: bytes
    attempt: int = 1
    sequence: int = 1
    settled: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.settled.append("ack")

    async def retry(self, delay_seconds: float) -> None:
        self.settled.append(f"retry {delay_seconds:g}")

    async def working(self) -> None:
        self.settled.append("working")

    async def terminate(self, reason: str) -> None:
        self.settled.append("terminate")


def event(note_id: str, text: str = "x", kind: Any = events_pb2.NoteWritten) -> Any:
    return kind(note=note_pb2.Note(id=note_id, text=text))


def arrived(
    note_id: str, seller: SellerId, *, event_id: str = "", attempt: int = 1, subject: str = WRITTEN, **more: Any
) -> Arrived:
    event_id = event_id or ids.mint("evt", wall())
    kind = events_pb2.NoteReminded if subject == REMINDED else events_pb2.NoteWritten
    headers = {"ce-id": event_id, "ce-seller": seller, "traceparent": ""}
    told: dict[str, Any] = {"headers": headers, "data": event(note_id, kind=kind).SerializeToString()} | more
    return Arrived(id=event_id, subject=subject, attempt=attempt, **told)


async def keep(tx: Tx, happened: Any) -> None:
    await store.archive(tx, note_id=happened.note.id, text=happened.note.text)


def consumers(database: Database, handlers: Handlers | None = None, bus: Bus | None = None) -> Consumers:
    handlers = handlers or {events_pb2.NoteWritten: keep}
    return Consumers(database, bus or MemoryBus(), handlers, telemetry=Telemetry("notebook", level="error"))


async def kept(database: Database) -> list[str]:
    async with database.transaction(EVERYBODY) as tx:
        return [row["note_id"] for row in await tx.driver.fetch("SELECT note_id FROM archived ORDER BY note_id")]


async def letters(database: Database) -> list[asyncpg.Record]:
    async with database.transaction(EVERYBODY) as tx:
        found: list[asyncpg.Record] = await tx.driver.fetch("SELECT * FROM dead_letters ORDER BY id")
        return found


async def inbox(database: Database) -> int:
    async with database.transaction(EVERYBODY) as tx:
        count: int = await tx.driver.fetchval("SELECT count(*) FROM inbox")
        return count


async def test_an_event_has_its_effect_once(database: Database, seller: SellerId) -> None:
    """However often it is delivered; and it is acknowledged each time."""
    found = consumers(database)
    deliveries = [arrived("note_1", seller, event_id="evt_1", attempt=number) for number in (1, 2, 3)]
    for delivery in deliveries:
        await found.handle([delivery])
    assert await kept(database) == ["note_1"]
    assert await inbox(database) == 1
    assert [delivery.settled for delivery in deliveries] == [["ack"]] * 3


async def test_a_duplicate_within_a_batch_is_recognised(database: Database, seller: SellerId) -> None:
    """The unique constraint of the effect would break the whole batch."""
    order: list[str] = []

    async def note(tx: Tx, happened: Any) -> None:
        order.append(happened.note.id)
        await keep(tx, happened)

    batch = [
        arrived("note_1", seller, event_id="evt_1"),
        arrived("note_2", seller, event_id="evt_2"),
        arrived("note_1", seller, event_id="evt_1", attempt=2),
        arrived("note_3", seller, event_id="evt_3"),
    ]
    await consumers(database, {events_pb2.NoteWritten: note}).handle(batch)
    assert order == ["note_1", "note_2", "note_3"]
    assert await kept(database) == ["note_1", "note_2", "note_3"]
    assert all(delivery.settled == ["ack"] for delivery in batch)


async def test_two_replicas_with_the_same_event_do_it_once(database: Database, seller: SellerId) -> None:
    """The second waits at the inbox for the first."""
    running = 0
    at_once = 0

    async def slow(tx: Tx, happened: Any) -> None:
        nonlocal running, at_once
        running += 1
        at_once = max(at_once, running)
        await asyncio.sleep(0.1)
        await keep(tx, happened)
        running -= 1

    first, second = (arrived("note_1", seller, event_id="evt_1") for _ in range(2))
    handlers = {events_pb2.NoteWritten: slow}
    await asyncio.gather(consumers(database, handlers).handle([first]), consumers(database, handlers).handle([second]))
    assert await kept(database) == ["note_1"]
    assert at_once == 1
    assert first.settled == second.settled == ["ack"]


async def test_one_bad_message_harms_no_other(database: Database, seller: SellerId) -> None:
    """Nor does it leave half an effect."""

    async def picky(tx: Tx, happened: Any) -> None:
        await keep(tx, happened)
        if happened.note.id == "note_7":
            raise ValueError("not this one")

    batch = [arrived(f"note_{number}", seller) for number in range(20)]
    await consumers(database, {events_pb2.NoteWritten: picky}).handle(batch)
    assert await kept(database) == sorted(f"note_{number}" for number in range(20) if number != 7)
    assert await inbox(database) == 19
    assert [delivery.settled for delivery in batch] == [["ack"]] * 7 + [["retry 0.1"]] + [["ack"]] * 12
    assert await letters(database) == []


async def test_sellers_are_handled_each_in_its_own_name(database: Database) -> None:
    """Row-level security is the second net only if each transaction has one seller."""
    sellers = [SellerId(ids.mint(ids.SELLER, wall())) for _ in range(3)]
    seen: list[tuple[str, str, str]] = []

    async def look(tx: Tx, happened: Any) -> None:
        seen.append((tx.seller_id, current_caller.get().seller_id, tx.actor))
        assert await tx.driver.fetchval("SELECT count(*) FROM inbox WHERE seller_id <> $1", tx.seller_id) == 0

    batch = [arrived(f"note_{number}", sellers[number % 3]) for number in range(9)]
    await consumers(database, {events_pb2.NoteWritten: look}).handle(batch)
    assert sorted(seen) == sorted([(seller, seller, "service:notebook") for seller in sellers] * 3)


async def test_what_never_works_ends_as_a_dead_letter(database: Database, seller: SellerId) -> None:
    """After a bounded number of failures, with everything one needs to decide about it, and acknowledged."""

    async def never(tx: Tx, happened: Any) -> None:
        await keep(tx, happened)
        raise ValueError("never \x00 works")

    found = consumers(database, {events_pb2.NoteWritten: never})
    settled = []
    for attempt in range(1, FAILURES_MAX + 1):
        delivery = arrived("note_1", seller, event_id="evt_1", attempt=attempt)
        await found.handle([delivery])
        settled += delivery.settled
    delays = [float(each.removeprefix("retry ")) for each in settled[:-1]]
    assert delays == sorted(delays)
    assert len(delays) == FAILURES_MAX - 1
    assert settled[-1] == "ack"
    (letter,) = await letters(database)
    assert (letter["id"], letter["seller_id"], letter["subject"]) == ("evt_1", seller, WRITTEN)
    assert (letter["payload"], letter["attempts"]) == (event("note_1").SerializeToString(), FAILURES_MAX)
    assert letter["headers"]["ce-seller"] == seller
    assert "never" in letter["error"]
    assert await kept(database) == []
    assert await inbox(database) == 0


async def test_what_is_not_the_messages_fault_does_not_count(database: Database, seller: SellerId) -> None:
    """However long it takes: a dead letter needs failures of its own."""
    fault: list[Exception] = [Unavailable("later")] * 30 + [ValueError("broken")] * 3

    async def later(tx: Tx, happened: Any) -> None:
        if fault:
            raise fault.pop(0)
        await keep(tx, happened)

    found = consumers(database, {events_pb2.NoteWritten: later})
    for attempt in range(1, 35):
        delivery = arrived("note_1", seller, event_id="evt_1", attempt=attempt)
        await found.handle([delivery])
        assert delivery.settled[0].startswith("retry") is (attempt < 34)
    assert await kept(database) == ["note_1"]
    assert await letters(database) == []


async def test_before_the_bus_gives_a_message_up_it_is_a_dead_letter(database: Database, seller: SellerId) -> None:
    """The bus stops delivering at some point and says so to nobody; nothing may be lost that way."""

    async def never(tx: Tx, happened: Any) -> None:
        raise Unavailable("still not")

    delivery = arrived("note_1", seller, event_id="evt_1", attempt=ATTEMPTS_MAX)
    await consumers(database, {events_pb2.NoteWritten: never}).handle([delivery])
    assert delivery.settled == ["ack"]
    assert [letter["attempts"] for letter in await letters(database)] == [ATTEMPTS_MAX]


@pytest.mark.parametrize(
    "broken",
    [
        {"data": b"\xff\xff\xff"},
        {"headers": {"ce-id": "evt_1", "ce-seller": "nobody"}},
        {"headers": {"ce-id": "evt_1"}},
        {"headers": {"ce-seller": "sel_01h455vb4pex5vsknk084sn02q"}},
        {"headers": {"ce-id": "evt\x001", "ce-seller": "a\x00b", "x\x00": "\x00"}},
    ],
    ids=["payload", "seller", "no seller", "no id", "characters"],
)
async def test_what_cannot_be_read_is_a_dead_letter_at_once(
    database: Database, seller: SellerId, broken: dict[str, Any]
) -> None:
    """Reading it again would not help; and it must not hold up those behind it."""
    bad = arrived("note_1", seller, event_id="evt_1", **broken)
    good = arrived("note_2", seller)
    await consumers(database).handle([bad, good])
    assert bad.settled == good.settled == ["ack"]
    (letter,) = await letters(database)
    assert letter["error"].startswith("unreadable")
    assert letter["payload"] == bad.data
    assert await kept(database) == ["note_2"]


async def test_an_event_that_nobody_here_knows_is_passed_over(database: Database, seller: SellerId) -> None:
    """A newer publisher knows more than we do: deployments come in any order."""
    unknown = arrived("note_1", seller, subject="saldo.notebook.v1.NotePainted")
    await consumers(database).handle([unknown])
    assert unknown.settled == ["ack"]
    assert await letters(database) == []
    assert await inbox(database) == 0


async def test_handlers_that_take_many_get_what_came_together(database: Database, seller: SellerId) -> None:
    """In runs of one class, so that the order across classes is kept."""
    calls: list[tuple[str, list[str]]] = []

    @batched
    async def written(tx: Tx, happened: list[Any]) -> None:
        calls.append(("written", [each.note.id for each in happened]))

    async def reminded(tx: Tx, happened: Any) -> None:
        calls.append(("reminded", [happened.note.id]))

    batch = [
        arrived("note_1", seller, event_id="evt_1"),
        arrived("note_2", seller),
        arrived("note_1", seller, event_id="evt_1"),
        arrived("note_2", seller, subject=REMINDED),
        arrived("note_1", seller, subject=REMINDED),
        arrived("note_3", seller),
    ]
    await consumers(database, {events_pb2.NoteWritten: written, events_pb2.NoteReminded: reminded}).handle(batch)
    assert calls == [
        ("written", ["note_1", "note_2"]), ("reminded", ["note_2"]), ("reminded", ["note_1"]), ("written", ["note_3"]),
    ]  # fmt: skip


async def test_while_the_database_is_away_messages_are_kept_in_hand(
    database: Database, seller: SellerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handing them back would use up their deliveries; and none of it is a failure of theirs."""
    monkeypatch.setattr("common.consumer.UNAVAILABLE_RETRY_SECONDS", 0.01)
    outage = 5

    async def through_an_outage(tx: Tx, happened: Any) -> None:
        nonlocal outage
        if outage:
            outage -= 1
            raise DatabaseUnavailable("away")
        await keep(tx, happened)

    found = consumers(database, {events_pb2.NoteWritten: through_an_outage})
    batch = [arrived(f"note_{number}", seller) for number in range(3)]
    await found._handle_patiently(batch)
    assert await kept(database) == ["note_0", "note_1", "note_2"]
    assert all(delivery.settled == ["ack"] for delivery in batch)


async def test_a_consumer_that_stops_in_an_outage_hands_back_what_it_has(database: Database, seller: SellerId) -> None:
    """Another replica need not wait until the messages are given up on."""

    async def away(tx: Tx, happened: Any) -> None:
        raise DatabaseUnavailable("away")

    found = consumers(database, {events_pb2.NoteWritten: away})
    delivery = arrived("note_1", seller)
    handling = asyncio.create_task(found._handle_patiently([delivery]))
    await asyncio.sleep(0.05)
    found.stop()
    await asyncio.wait_for(handling, 1)
    assert delivery.settled == ["retry 1"]


async def test_a_dead_letter_is_handled_again_on_demand(database: Database, seller: SellerId) -> None:
    """It leaves only with its effect, and only once."""
    works = False

    async def sometimes(tx: Tx, happened: Any) -> None:
        assert current_caller.get().seller_id == tx.seller_id == seller
        if not works:
            raise ValueError("not yet")
        await keep(tx, happened)

    found = consumers(database, {events_pb2.NoteWritten: sometimes})
    for attempt in range(1, FAILURES_MAX + 1):
        await found.handle([arrived("note_1", seller, event_id="evt_1", attempt=attempt)])
    assert len(await letters(database)) == 1
    with pytest.raises(ValueError, match="not yet"):
        await found.handle_again("evt_1")
    assert len(await letters(database)) == 1
    works = True
    await found.handle_again("evt_1")
    assert await letters(database) == []
    assert await kept(database) == ["note_1"]
    with pytest.raises(DeadLetterNotFound):
        await found.handle_again("evt_1")
    # A late duplicate from the bus is recognised, too.
    await found.handle([arrived("note_1", seller, event_id="evt_1")])
    assert await kept(database) == ["note_1"]


async def test_what_cannot_be_read_cannot_be_handled_again(database: Database, seller: SellerId) -> None:
    """The operator learns that only discarding is left."""
    found = consumers(database)
    await found.handle([arrived("note_1", seller, event_id="evt_1", data=b"\xff\xff\xff")])
    with pytest.raises(DeadLetterUnreadable):
        await found.handle_again("evt_1")
    assert len(await letters(database)) == 1


# Through a bus


@asynccontextmanager
async def listening(found: Consumers) -> AsyncIterator[asyncio.Task[None]]:
    await found.subscribe()
    task = asyncio.create_task(found.run())
    try:
        yield task
    finally:
        found.stop()
        await asyncio.wait_for(task, 10)
        await found.close()


def message(note_id: str, seller: SellerId) -> BusMessage:
    event_id = ids.mint("evt", wall())
    return BusMessage(
        id=event_id,
        subject=WRITTEN,
        headers={"ce-id": event_id, "ce-seller": seller, "traceparent": ""},
        data=event(note_id).SerializeToString(),
    )


@pytest.mark.parametrize("kind", ["memory", "unkind memory", "jetstream"])
async def test_everything_published_is_handled_once(
    database: Database, seller: SellerId, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a bus may do to its messages."""
    bus: Bus
    if kind == "jetstream":
        bus = JetStreamBus(os.environ["SALDO_NATS_URL"], stream_bytes_max=STREAM_BYTES_MAX)
        await bus.connect()
    elif kind == "memory":
        bus = MemoryBus()
    else:
        bus = MemoryBus(seed=7, duplicate=0.2, reorder=0.5, lose=0.1, ack_loss=0.2, ack_wait_seconds=0.2)
    # The stream is shared by all tests, and so is a durable of one name.
    database.service = f"reader-{uuid.uuid4().hex}"
    ours = {f"note_{number:03}" for number in range(300)}

    async def keep_ours(tx: Tx, happened: Any) -> None:
        if tx.seller_id == seller:
            await keep(tx, happened)

    found = consumers(database, {events_pb2.NoteWritten: keep_ours}, bus)
    async with listening(found):
        messages = [message(note_id, seller) for note_id in sorted(ours)]
        for first in range(0, 300, 50):
            await bus.publish("NOTEBOOK", messages[first : first + 50])
        await eventually(lambda: _all_kept(database, ours))
        await eventually(lambda: _nothing_left(found))
    assert await letters(database) == []
    await bus.close()


async def _all_kept(database: Database, expected: set[str]) -> bool:
    return set(await kept(database)) == expected


async def _nothing_left(found: Consumers) -> bool:
    return await found.backlog() == 0


async def test_an_idle_consumer_stops_at_once(database: Database) -> None:
    """A rolling restart must not wait for messages that nobody sends."""
    loop = asyncio.get_running_loop()
    async with listening(consumers(database)):
        await asyncio.sleep(0.1)
        began = loop.time()
    assert loop.time() - began < 1


async def test_a_bus_that_is_away_is_waited_for(
    database: Database, seller: SellerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the consumer of this stream nor its neighbours may end over it."""
    monkeypatch.setattr("common.consumer.UNAVAILABLE_RETRY_SECONDS", 0.01)
    bus = MemoryBus()
    await bus.ensure_stream(StreamSpec(name="NOTEBOOK", subjects=("saldo.notebook.v1.>",)))
    found = consumers(database, bus=bus)
    await found.subscribe()
    (subscription,) = found._subscriptions.values()
    fetch, away = subscription.fetch, [3]

    async def flaky(limit: int, timeout_seconds: float) -> Any:
        if away[0]:
            away[0] -= 1
            raise BusUnavailable("away")
        return await fetch(limit, timeout_seconds)

    monkeypatch.setattr(subscription, "fetch", flaky)
    task = asyncio.create_task(found.run())
    await bus.publish("NOTEBOOK", [message("note_1", seller)])
    await eventually(lambda: _all_kept(database, {"note_1"}))
    found.stop()
    await asyncio.wait_for(task, 5)
    assert away == [0]
