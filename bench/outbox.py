"""How fast facts travel, from a commit to their effect in another service's database: `make bench T=outbox`.

Everything is durable: PostgreSQL with fsync, JetStream with `sync_interval: always`. Three figures: the relay alone
against publishing batches that were put together beforehand; the same relay, publishing one by one; and the whole way,
with the publisher in this process and the consumer in another.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import asyncpg
import uvloop

from bench.figures import Figure, median_ratio, percentile_ms
from bench.stage import ARCHIVE, NOTEBOOK, SELLER, Stage, stage
from common import clock, ids, outbox
from common.bus import JetStreamBus, Message, StreamSpec
from common.caller import service_caller
from common.consumer import batched
from common.db import Database, Tx
from common.relay import Relay, message_of, source_of
from common.service import Service
from common.service import main as run
from common.telemetry import Telemetry
from libs.common.tests.notebook.contracts import archive_events_pb2, events_pb2, note_pb2
from libs.common.tests.notebook.main import PACKAGE, build_notebook
from libs.common.tests.notebook.settings import Settings

STREAM: Final = "NOTEBOOK"
SUBJECT: Final = "saldo.notebook.v1.NoteWritten"
TEXT: Final = "x" * 200

TRAVELLING_EVENTS: Final = 30_000
EVENTS_PER_COMMIT: Final = 100
COMMITTERS: Final = 4
SHARED_NOTES: Final = 200
TRAVEL_SECONDS: Final = 60.0
HALF_LOAD_SECONDS: Final = 3.0
GOAL: Final = 10_000

ROUNDS: Final = 5
RELAYED_EVENTS: Final = 10_000
SINGLE_EVENTS: Final = 400
BATCH: Final = 1_000


async def main() -> None:
    async with stage() as here:
        travelling = await measure_travelling(here)
        here.clear()  # or the consumer would take in what the relay alone is measured with
        figures = await measure_relay(here)
    ceiling = figures[0].ceiling
    figures.append(replace(travelling, ceiling=ceiling, ratio=travelling.value / ceiling))
    for figure in figures:
        print(figure.line())


# The whole way


@dataclass(slots=True)
class Journal:
    """What the publisher knows to be committed: the mark of each event, and when its commit was over."""

    commit_times: dict[str, datetime] = field(default_factory=dict)


async def measure_travelling(here: Stage) -> Figure:
    urls = {NOTEBOOK: await here.database(NOTEBOOK), ARCHIVE: await here.database(ARCHIVE)}
    here.start(["bench.outbox", "archive"], here.environment(here.settings(ARCHIVE, urls[ARCHIVE])), core=None)
    service = build_notebook(here.settings(NOTEBOOK, urls[NOTEBOOK]))
    full, half = Journal(), Journal()
    archive = await asyncpg.connect(here.as_administrator(urls[ARCHIVE]))
    try:
        async with service.running():
            shared = [ids.mint("note", clock.wall()) for _ in range(SHARED_NOTES)]
            await commit_events(service.database, Journal(), shared, EVENTS_PER_COMMIT, prefix="warm")
            await arrived(archive, EVENTS_PER_COMMIT)

            used, began = here.cpu_seconds(), time.perf_counter()
            await asyncio.gather(
                *(
                    commit_events(service.database, full, shared, TRAVELLING_EVENTS // COMMITTERS, prefix=f"full{each}")
                    for each in range(COMMITTERS)
                )
            )
            committed = time.perf_counter() - began
            total = EVENTS_PER_COMMIT + len(full.commit_times)
            await arrived(archive, total)
            rate = len(full.commit_times) / (time.perf_counter() - began)
            cpu = {name: seconds - used.get(name, 0.0) for name, seconds in here.cpu_seconds().items()}

            await commit_events(
                service.database, half, shared, int(rate / 2 * HALF_LOAD_SECONDS), prefix="half", rate=rate / 2
            )
            total += len(half.commit_times)
            await arrived(archive, total)
        latencies = await latencies_seconds(archive, half)
        checked = await verify_travelling(here, urls, full, half, total)
    finally:
        await archive.close()
    events = len(full.commit_times)
    microseconds = {name: round(1e6 * seconds / events, 1) for name, seconds in cpu.items()}
    return Figure(
        bench="outbox/commit to effect",
        value=rate,
        unit="events/s",
        ceiling=math.nan,  # what the bus alone can take, measured below
        ratio=math.nan,
        p50_ms=percentile_ms(latencies, 0.50),
        p99_ms=percentile_ms(latencies, 0.99),
        checked=checked,
        more={
            "committed_per_second": round(events / committed),
            "cpu_us_per_event": microseconds,
            # What two cores reach that have nothing else to do.
            "two_idle_cores": round(2e6 / sum(microseconds.values())),
            "goal": GOAL,
        },
    )


async def commit_events(
    database: Database, journal: Journal, shared: list[str], count: int, *, prefix: str, rate: float | None = None
) -> None:
    """Notes and their events, a hundred a transaction; one in ten is about a note that others write about too."""
    caller = service_caller(NOTEBOOK, SELLER)
    began = time.perf_counter()
    for first in range(0, count, EVENTS_PER_COMMIT):
        if rate is not None:
            await asyncio.sleep(max(began + first / rate - time.perf_counter(), 0))
        marks = [f"{prefix}-{number}" for number in range(first, min(first + EVENTS_PER_COMMIT, count))]
        async with database.transaction(caller) as tx:
            fresh = [tx.new_id("note") for _ in marks]
            await tx.driver.execute(
                "INSERT INTO notes (seller_id, id, text, reminder_count, traceparent)"
                " SELECT $1, t.id, $3, 0, '' FROM unnest($2::text[]) AS t (id)",
                tx.seller_id,
                fresh,
                TEXT,
            )
            for number, (note_id, mark) in enumerate(zip(fresh, marks, strict=True)):
                about = random.choice(shared) if number % 10 == 0 else note_id
                await tx.emit(events_pb2.NoteWritten(note=note_pb2.Note(id=about, text=f"{mark} {TEXT}")))
        now = clock.wall()
        journal.commit_times.update(dict.fromkeys(marks, now))


async def arrived(archive: asyncpg.Connection, count: int) -> None:
    deadline = time.monotonic() + TRAVEL_SECONDS
    while await archive.fetchval("SELECT count(*) FROM archived") < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} events have not arrived within {TRAVEL_SECONDS} s")
        await asyncio.sleep(0.02)


async def latencies_seconds(archive: asyncpg.Connection, journal: Journal) -> list[float]:
    """From the end of the commit to the statement that has the effect, by one and the same clock."""
    rows = await archive.fetch("SELECT note_id, archive_time FROM archived WHERE note_id LIKE 'half%'")
    return [max((row["archive_time"] - journal.commit_times[row["note_id"]]).total_seconds(), 0.0) for row in rows]


async def verify_travelling(here: Stage, urls: dict[str, str], full: Journal, half: Journal, total: int) -> bool:
    """Each committed event has had its effect, once; the stream has each once, every aggregate's in order, no gap."""
    archive = await asyncpg.connect(here.as_administrator(urls[ARCHIVE]))
    notebook = await asyncpg.connect(here.as_administrator(urls[NOTEBOOK]))
    try:
        marks = [row["note_id"] for row in await archive.fetch("SELECT note_id FROM archived WHERE handled = 1")]
        inbox = await archive.fetchval("SELECT count(*) FROM inbox")
        waiting = await notebook.fetchval("SELECT count(*) FROM outbox_waiting")
        announced = {row["id"] for row in await notebook.fetch("SELECT id FROM outbox")}
    finally:
        await archive.close()
        await notebook.close()
    expected = {*full.commit_times, *half.commit_times, *(f"warm-{n}" for n in range(EVENTS_PER_COMMIT))}
    async with connected(here) as bus:
        stream = await read_stream(bus, total)
    sequences: dict[str, list[int]] = defaultdict(list)
    for message in stream:
        sequences[message.headers["ce-subject"]].append(int(message.headers["ce-sequence"]))
    return (
        len(marks) == len(set(marks)) == inbox == total
        and set(marks) == expected
        and waiting == 0
        and len(stream) == total
        and {message.headers["ce-id"] for message in stream} == announced
        and all(found == list(range(1, len(found) + 1)) for found in sequences.values())
    )


async def read_stream(bus: JetStreamBus, count: int) -> list[Any]:  # Any: deliveries
    """Everything in the stream, through a durable of its own."""
    subscription = await bus.subscribe(STREAM, durable=f"check-{uuid.uuid4().hex}", subjects=[SUBJECT])
    found: list[Any] = []  # Any: as said
    try:
        while deliveries := await subscription.fetch(5_000, 0.5 if len(found) >= count else 5.0):
            found += deliveries
            for delivery in deliveries:
                await delivery.ack()
    finally:
        await subscription.close()
    return found


@batched
async def keep_notes(tx: Tx, events: list[Any]) -> None:  # Any: compiled when this runs
    """The effect: a row for each event. A second one of the same mark would violate the unique constraint."""
    await tx.driver.execute(
        "INSERT INTO archived (seller_id, note_id, text, handled)"
        " SELECT $1, t.mark, t.text, 1 FROM unnest($2::text[], $3::text[]) AS t (mark, text)",
        tx.seller_id,
        [event.note.text.partition(" ")[0] for event in events],
        [event.note.text for event in events],
    )


def build_archive(settings: Settings) -> Service:
    service = Service("archive", settings)
    service.publish(archive_events_pb2)
    service.consume({events_pb2.NoteWritten: keep_notes})
    return service


# The relay alone


async def measure_relay(here: Stage) -> list[Figure]:
    url = await here.database(NOTEBOOK)
    database = Database(url, service=NOTEBOOK)
    telemetry = Telemetry(NOTEBOOK, level="warning")
    rates: dict[str, list[float]] = {"relay": [], "one by one": [], "prebuilt": []}
    before = 0
    async with connected(here) as bus, connected(here, atomic=False) as single_bus:
        before = len(await read_stream(bus, 0))
        relay = Relay(database, bus, stream=STREAM, telemetry=telemetry, poll_seconds=1)
        single = Relay(database, single_bus, stream=STREAM, telemetry=telemetry, poll_seconds=1)
        prebuilt = 0
        relayed = 0
        async with database.session() as connection:
            for round_ in range(ROUNDS + 1):
                measured = round_ > 0  # the first one warms up
                rate_before = await publish_prebuilt(bus, RELAYED_EVENTS // 2)
                await fill(connection, RELAYED_EVENTS)
                rate = await relay_all(relay, connection, RELAYED_EVENTS)
                rate_after = await publish_prebuilt(bus, RELAYED_EVENTS // 2)
                await fill(connection, SINGLE_EVENTS)
                single_rate = await relay_all(single, connection, SINGLE_EVENTS)
                prebuilt += RELAYED_EVENTS
                relayed += RELAYED_EVENTS + SINGLE_EVENTS
                if measured:
                    rates["prebuilt"].append((rate_before + rate_after) / 2)
                    rates["relay"].append(rate)
                    rates["one by one"].append(single_rate)
            announced = [row["id"] for row in await connection.fetch("SELECT id FROM outbox ORDER BY position")]
            waiting = await connection.fetchval("SELECT count(*) FROM outbox_waiting")
        stored = [each.id for each in await read_stream(bus, before + prebuilt + relayed)][before:]
    await database.close()
    ours = set(announced)
    checked = (
        waiting == 0
        and len(announced) == relayed
        and len(stored) == len(set(stored)) == prebuilt + relayed
        and [each for each in stored if each in ours] == announced
    )
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return [
        Figure(
            bench="outbox/relay against prebuilt batches",
            value=medians["relay"],
            unit="events/s",
            ceiling=medians["prebuilt"],
            ratio=median_ratio(rates["relay"], rates["prebuilt"]),
            p50_ms=None,
            p99_ms=None,
            checked=checked,
            more={"rounds": _ratios(rates["relay"], rates["prebuilt"])},
        ),
        Figure(
            bench="outbox/relay against one by one",
            value=medians["relay"],
            unit="events/s",
            ceiling=medians["one by one"],
            ratio=median_ratio(rates["relay"], rates["one by one"]),
            p50_ms=None,
            p99_ms=None,
            checked=checked,
            more={"rounds": _ratios(rates["relay"], rates["one by one"])},
        ),
    ]


async def fill(connection: asyncpg.Connection, count: int) -> None:
    """Events that wait, as many commits would have left them."""
    event = events_pb2.NoteWritten(note=note_pb2.Note(id=ids.mint("note", clock.wall()), text=TEXT))
    identities = [ids.mint("evt", clock.wall()) for _ in range(count)]
    await connection.execute(
        "WITH announced AS ("
        " INSERT INTO outbox (id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload)"
        " SELECT t.id, $2, $3, t.id, 1, clock_timestamp(), $4, $5"
        " FROM unnest($1::text[]) WITH ORDINALITY AS t (id, nth) ORDER BY nth"
        " RETURNING position, seller_id"
        ") INSERT INTO outbox_waiting (position, seller_id) SELECT position, seller_id FROM announced",
        identities,
        SELLER,
        SUBJECT,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        event.SerializeToString(),
    )


async def relay_all(relay: Relay, connection: asyncpg.Connection, count: int) -> float:
    began = time.perf_counter()
    moved = 0
    while moved < count:
        moved += await relay.relay_waiting(connection)
    return count / (time.perf_counter() - began)


async def publish_prebuilt(bus: JetStreamBus, count: int) -> float:
    """Only what goes over the wire, put together before the clock starts; batch by batch, each acknowledged."""
    batches = [_prebuilt_batch() for _ in range(count // BATCH)]
    began = time.perf_counter()
    client = bus._connected()
    for wire, last, headers in batches:
        await client._send_command(wire)
        answer = await client.request(last.subject, last.data, timeout=5, headers=headers)
        if f'"count":{BATCH}'.encode() not in answer.data.replace(b" ", b""):
            raise RuntimeError(f"a batch was not stored: {answer.data!r}")
    return count / (time.perf_counter() - began)


def _prebuilt_batch() -> tuple[bytes, Message, dict[str, str]]:
    event = events_pb2.NoteWritten(note=note_pb2.Note(id=ids.mint("note", clock.wall()), text=TEXT))
    row = {
        "subject": SUBJECT,
        "aggregate_id": event.note.id,
        "sequence": 1,
        "seller_id": SELLER,
        "time": clock.wall(),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "payload": event.SerializeToString(),
    }
    batch_id = uuid.uuid4().hex
    messages = [
        message_of({**row, "id": ids.mint("evt", clock.wall())}, source=source_of(NOTEBOOK)) for _ in range(BATCH)
    ]
    parts = []
    for place, message in enumerate(messages[:-1], start=1):
        lines = "".join(f"{name}: {value}\r\n" for name, value in _headers(message, batch_id, place).items())
        header = f"NATS/1.0\r\n{lines}\r\n".encode()
        size = len(header) + len(message.data)
        parts += [f"HPUB {message.subject}  {len(header)} {size}\r\n".encode(), header, message.data, b"\r\n"]
    last = messages[-1]
    return b"".join(parts), last, {**_headers(last, batch_id, BATCH), "Nats-Batch-Commit": "1"}


def _headers(message: Message, batch_id: str, place: int) -> dict[str, str]:
    return {
        "Nats-Msg-Id": message.id,
        **message.headers,
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(place),
    }


def _ratios(values: list[float], ceilings: list[float]) -> list[float]:
    return [round(value / ceiling, 2) for value, ceiling in zip(values, ceilings, strict=True)]


@asynccontextmanager
async def connected(here: Stage, *, atomic: bool = True) -> AsyncIterator[JetStreamBus]:
    bus = JetStreamBus(here.servers.nats_url, atomic=atomic)
    await bus.connect()
    try:
        await bus.ensure_stream(StreamSpec(name=STREAM, subjects=("saldo.notebook.v1.>",)))
        yield bus
    finally:
        await bus.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["archive"]:
        sys.argv.pop()
        run(build_archive, Settings, package=PACKAGE)
    else:
        assert outbox.subject_of(events_pb2.NoteWritten) == SUBJECT
        uvloop.run(main())
