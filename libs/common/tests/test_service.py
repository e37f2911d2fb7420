"""A service begins, drains and ends in order, and outlives every outage of its servers without being restarted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from common import wire
from common.bus import Bus, JetStreamBus, MemoryBus
from common.caller import EVERY_SELLER, service_caller
from common.clock import wall
from common.db import Tx
from common.service import PRUNE_ROWS, Service, forget
from common.testing import Databases, Keys, refused
from libs.common.tests.conftest import STREAM_BYTES_MAX, eventually
from libs.common.tests.notebook.api import NotebookApi
from libs.common.tests.notebook.contracts import archive_events_pb2, events_pb2, notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb
from libs.common.tests.notebook.house import House
from libs.common.tests.notebook.main import PACKAGE, build_notebook, on_note_written
from libs.common.tests.notebook.settings import Settings
from tools.stack import Stack

ROOT = Path(__file__).resolve().parents[3]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def stub_of(house: House, name: str = "notebook") -> Any:
    return house.stub(notebook_grpc.NotebookServiceStub, name)


async def health(house: House, name: str = "notebook") -> int:
    stub: Any = health_pb2_grpc.HealthStub(house.channel(name, token=""))
    status: int = (await stub.Check(health_pb2.HealthCheckRequest())).status
    return status


async def test_health_and_reflection_are_open_and_nothing_else_is(house: House) -> None:
    """Probes and command lines have no token. Whatever the service serves beside them asks for one."""
    await house.start("notebook")
    assert await health(house) == SERVING
    channel: Any = house.channel("notebook", token="")
    reflect: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflect.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {each.name for each in (await call.read()).list_services_response.service}
    await call.done_writing()
    assert listed == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "saldo.notebook.v1.NotebookService",
        "saldo.operations.v1.OperationsService",
    }
    from google.protobuf.descriptor_pool import Default

    for name in listed - {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}:
        for method in Default().FindServiceByName(name).methods:
            ask: Any = channel.unary_unary(f"/{name}/{method.name}")
            with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
                await ask(b"")


async def test_a_call_in_flight_is_finished_before_the_end(house: House) -> None:
    """Also what it announces: published before the service is gone."""
    service = await house.start("notebook")
    bus = service.bus
    assert isinstance(bus, MemoryBus)
    api = NotebookApi.instances[-1]
    call = asyncio.ensure_future(stub_of(house).SpoilNote(pb.SpoilNoteRequest(how="wait")))
    await asyncio.wait_for(api.entered.wait(), 10)
    life = house.lives["notebook"]
    service.stop()
    await asyncio.sleep(0.1)
    assert not life.done()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub_of(house).EchoNote(pb.EchoNoteRequest(text="too late"), timeout=2)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    api.proceed.set()
    assert (await call).text == "not spoilt"
    await asyncio.wait_for(life, 10)
    del house.running["notebook"]
    assert len(bus.published("NOTEBOOK")) == 1
    assert [row[0] for row in await house.rows("notebook", "SELECT count(*) FROM outbox_waiting")] == [0]


async def test_a_message_in_hand_is_finished_before_the_end(house: House) -> None:
    """And what its handler announces is published."""
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Tx, event: Any) -> None:
        begun.set()
        await proceed.wait()
        await on_note_written(tx, event)

    def build(settings: Settings, *, bus: Bus) -> Service:
        service = Service("archive", settings, bus=bus)
        service.publish(archive_events_pb2)
        service.consume({events_pb2.NoteWritten: slowly})
        return service

    await house.start("notebook")
    service = await house.start("archive", build=build)
    await stub_of(house).WriteNote(pb.WriteNoteRequest(text="x"))
    await asyncio.wait_for(begun.wait(), 10)
    service.stop()
    await asyncio.sleep(0.3)
    assert not house.lives["archive"].done()
    proceed.set()
    await asyncio.wait_for(house.lives["archive"], 10)
    del house.running["archive"]
    bus = service.bus
    assert isinstance(bus, MemoryBus)
    assert len(bus.published("ARCHIVE")) == 1
    assert [row[0] for row in await house.rows("archive", "SELECT count(*) FROM archived")] == [1]


async def test_a_call_that_takes_too_long_is_cut_off_and_undone(house: House) -> None:
    """A client that has gone must not leave half a command behind."""
    service = await house.start("notebook", drain_seconds=0.2)
    api = NotebookApi.instances[-1]
    call = asyncio.ensure_future(stub_of(house).SpoilNote(pb.SpoilNoteRequest(how="wait")))
    await asyncio.wait_for(api.entered.wait(), 10)
    service.stop()
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    await asyncio.wait_for(house.lives["notebook"], 10)
    del house.running["notebook"]
    assert await house.rows("notebook", "SELECT * FROM notes") == []


async def test_an_idle_service_ends_at_once(house: House) -> None:
    """A rolling restart should not wait for nothing."""
    await house.start("notebook", "archive")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await house.stop("notebook", "archive")
    assert loop.time() - began < 2


async def test_what_the_body_raises_comes_out_as_it_is(house: House) -> None:
    """Not in a group with whatever the tasks did."""
    await house.start("notebook")
    settings = house.settings("notebook")
    service = build_notebook(settings, bus=MemoryBus())
    with pytest.raises(ZeroDivisionError):
        async with service.running():
            raise ZeroDivisionError


async def test_a_task_that_fails_ends_the_service(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything closed, and the failure told: whoever runs it starts it again."""
    await house.start("notebook")
    service = build_notebook(house.settings("notebook", log_level="error"), bus=MemoryBus())

    async def broken(_: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(service, "_monitor", broken)
    with pytest.raises(ExceptionGroup) as raised:
        async with service.running():
            await asyncio.sleep(30)
    assert raised.group_contains(ZeroDivisionError)


async def test_a_service_that_may_not_begin_can_be_stopped(databases: Databases, note_keys: Keys) -> None:
    """While it waits for a database that is not there."""
    house = House(databases, note_keys, MemoryBus)
    house.urls["notebook"] = "postgresql+asyncpg://nobody@127.0.0.1:1/nowhere"
    service = build_notebook(house.settings("notebook", log_level="error"), bus=MemoryBus())
    life = asyncio.create_task(service.run())
    await asyncio.sleep(0.3)
    service.stop()
    await asyncio.wait_for(life, 5)


async def test_old_records_are_forgotten_a_bounded_number_at_a_time(house: House) -> None:
    """But never what still waits to be published, or what was given up."""
    service = await house.start("notebook")
    for text in ("old", "waits", "new"):
        await stub_of(house).WriteNote(pb.WriteNoteRequest(text=text, request_id=text))
    await house.quiet()
    month = "interval '31 days'"
    first, second, third = [row["position"] for row in await house.rows("notebook", "SELECT * FROM outbox ORDER BY 1")]
    await house.rows("notebook", f"UPDATE outbox SET create_time = create_time - {month} WHERE position <= {second}")
    await house.rows("notebook", f"UPDATE requests SET create_time = create_time - {month} WHERE request_id = 'old'")
    await house.rows(
        "notebook",
        f"INSERT INTO job_failures VALUES ('a', '1', '*', 1, now() - {month}, '', false),"
        f" ('a', '2', '*', 8, now() - {month}, '', true), ('a', '3', '*', 1, now(), '', false)",
    )
    async with service.database.transaction(service_caller("notebook", EVERY_SELLER)) as tx:
        # Within a transaction that is rolled back in the end, so that the relay does not see it.
        await tx.driver.execute("INSERT INTO outbox_waiting VALUES ($1, '*')", second)
        await forget(tx)
        found = [row["position"] for row in await tx.driver.fetch("SELECT position FROM outbox ORDER BY 1")]
        requests = [row["request_id"] for row in await tx.driver.fetch("SELECT request_id FROM requests ORDER BY 1")]
        failures = [row["id"] for row in await tx.driver.fetch("SELECT id FROM job_failures ORDER BY 1")]
        await tx.driver.execute("DELETE FROM outbox_waiting")
    assert found == [second, third]
    assert first not in found
    assert requests == ["new", "waits"]
    assert failures == ["2", "3"]
    assert PRUNE_ROWS < 10_000


# Outages


@pytest.fixture
async def real_house(servers: Stack, note_keys: Keys) -> AsyncIterator[tuple[House, Stack]]:
    """Both services on servers that may be killed."""
    found = servers.start()
    house = House(
        Databases(found.postgres_url),
        note_keys,
        lambda: JetStreamBus(found.nats_url, stream_bytes_max=STREAM_BYTES_MAX, timeout_seconds=1),
    )
    await house.start("notebook", "archive", log_level="error")
    try:
        yield house, servers
    finally:
        await house.close()


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """As a client would: what is unavailable is asked for again."""
    for _ in range(200):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)
    raise TimeoutError("unavailable for too long")


@pytest.mark.fault
@pytest.mark.parametrize("server", ["postgres", "nats"])
async def test_an_outage_of_a_server_is_outlived_in_place(real_house: tuple[House, Stack], server: Any) -> None:
    """Killed under load and brought back: relay, consumers and jobs go on within seconds, in the same process, and
    everything that was acknowledged has its effect, once."""
    house, servers = real_house
    stub = stub_of(house)
    acknowledged: list[str] = []
    lost = asyncio.Event()

    async def write(number: int) -> None:
        request = pb.WriteNoteRequest(text=f"note {number}", request_id=f"r{number}")
        # A sandbox's clock stands still: due at once, so that the jobs have their part in it.
        request.remind_time.CopyFrom(wire.timestamp(wall() - timedelta(days=1)))
        note = await patiently(lambda: stub.WriteNote(request))
        acknowledged.append(note.id)

    async def load() -> None:
        number = 0
        while not lost.is_set() or number % 20:
            await write(number)
            number += 1

    loading = [asyncio.create_task(load())]
    await eventually(lambda: _at_least(acknowledged, 10), seconds=20)
    await asyncio.to_thread(servers.kill, server)
    await asyncio.sleep(1.0)
    for number in range(1000, 1003):
        if server == "nats":
            await write(number)  # commands do not need the bus
    await asyncio.to_thread(servers.start_one, server)
    lost.set()
    await asyncio.wait_for(asyncio.gather(*loading), 60)

    async def settled() -> bool:
        kept = await house.rows("archive", "SELECT note_id, handled FROM archived")
        return {row["note_id"] for row in kept} >= set(acknowledged)

    await eventually(settled, seconds=40, what="every acknowledged note in the archive")
    rows = await house.rows("archive", "SELECT note_id FROM archived")
    assert len(rows) == len({row["note_id"] for row in rows})
    notes = await house.rows("notebook", "SELECT id FROM notes")
    assert len(notes) == len(set(acknowledged)) == len(acknowledged)
    assert all(not life.done() for life in house.lives.values()), "nobody had to be started again"
    for name in ("notebook", "archive"):
        await eventually(functools.partial(_healthy, house, name), seconds=20)
        assert await house.rows(name, "SELECT * FROM dead_letters") == []


@pytest.fixture
def brisk_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.service.MONITOR_SECONDS", 0.1)


async def test_health_follows_the_database_and_not_the_bus(
    brisk_monitor: None, real_house: tuple[House, Stack]
) -> None:
    """Without NATS commands are still carried out, so calls must still come; without PostgreSQL none can be."""
    house, servers = real_house
    await asyncio.to_thread(servers.kill, "nats")
    for _ in range(20):
        assert await health(house) == SERVING
        await asyncio.sleep(0.1)
    await stub_of(house).WriteNote(pb.WriteNoteRequest(text="x"))
    await asyncio.to_thread(servers.kill, "postgres")
    await eventually(functools.partial(_unhealthy, house), seconds=20)
    await asyncio.to_thread(servers.start_one, "postgres")
    await asyncio.to_thread(servers.start_one, "nats")
    await eventually(functools.partial(_healthy, house, "notebook"), seconds=20)


async def _unhealthy(house: House) -> bool:
    return await health(house) == NOT_SERVING


async def _at_least(found: list[str], count: int) -> bool:
    return len(found) >= count


async def _healthy(house: House, name: str) -> bool:
    return await health(house, name) == SERVING


# Processes


class Processes:
    """Services as processes of their own."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.folder = folder
        self.found: list[subprocess.Popen[bytes]] = []

    async def start(self, name: str, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
        if name not in self.house.urls:
            self.house.urls[name] = await self.house.databases.create(name, migrated=PACKAGE)
        settings = self.house.settings(name)
        ready = self.folder / f"{name}-{len(self.found)}.json"
        told = {
            "SALDO_DATABASE_URL": settings.database_url.get_secret_value(),
            "SALDO_NATS_URL": os.environ["SALDO_NATS_URL"],
            "SALDO_LISTEN": "127.0.0.1:0",
            "SALDO_AUTH_JWKS": str(settings.auth_jwks),
            "SALDO_AUTH_KEY": str(settings.auth_key),
            "SALDO_READY_FILE": str(ready),
            "SALDO_STREAM_BYTES_MAX": str(STREAM_BYTES_MAX),
            **environment,
        }
        process = self._spawn(name, {**os.environ, **told})
        self.found.append(process)
        async with asyncio.timeout(30):
            while not ready.exists() and process.poll() is None:  # noqa: ASYNC110 # a file cannot be awaited
                await asyncio.sleep(0.02)
        address = json.loads(ready.read_text())["address"] if ready.exists() else ""
        return process, address

    def _spawn(self, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}-{len(self.found)}.log").open("wb") as log:
            command = [sys.executable, "-m", f"{PACKAGE}.main", name]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def uses(self, process: subprocess.Popen[bytes], library: str) -> bool:
        return library in Path(f"/proc/{process.pid}/maps").read_text()

    def log(self, number: int = 0) -> list[dict[str, Any]]:
        (path,) = self.folder.glob(f"*-{number}.log")
        return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
async def processes(databases: Databases, note_keys: Keys, tmp_path: Path) -> AsyncIterator[Processes]:
    house = House(databases, note_keys, MemoryBus)
    found = Processes(house, tmp_path)
    yield found
    for process in found.found:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    await house.close()


async def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


@pytest.mark.fault
async def test_sigterm_finishes_the_call_under_way(processes: Processes) -> None:
    """A rolling restart costs no caller an answer. uvloop is what the process runs on."""
    process, address = await processes.start("notebook")
    assert processes.uses(process, "uvloop")
    token = processes.house.keys.token(seller_id=processes.house.seller)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = notebook_grpc.NotebookServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        call = asyncio.ensure_future(stub.SpoilNote(pb.SpoilNoteRequest(how="doze"), metadata=metadata))
        await eventually(lambda: _dozing(processes.house))
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert process.poll() is None
        assert (await call).text == "not spoilt"
    await eventually(lambda: _ended(process))
    assert process.returncode == 0
    assert [event["event"] for event in processes.log()] == ["ready", "stopping"]
    (row,) = await processes.house.rows("notebook", "SELECT count(*) FROM outbox_waiting")
    assert row[0] == 0


async def _dozing(house: House) -> bool:
    rows = await house.rows(
        "notebook",
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(1)%'"
        " AND state = 'active' AND pid <> pg_backend_pid()",
    )
    return bool(rows)


@pytest.mark.fault
@pytest.mark.parametrize(
    "crashpoint",
    [
        pytest.param("rpc.before_commit", marks=pytest.mark.thorough),
        "rpc.committed",
        pytest.param("relay.claimed", marks=pytest.mark.thorough),
        "relay.published",
        pytest.param("job.before_commit", marks=pytest.mark.thorough),
    ],
)
async def test_a_process_that_dies_at_the_worst_moment_loses_and_doubles_nothing(
    processes: Processes, crashpoint: str
) -> None:
    """The client repeats its request with the same id; the next process finishes what the first has left."""
    house = processes.house
    token = house.keys.token(seller_id=house.seller)
    metadata = (("authorization", f"Bearer {token}"),)
    request = pb.WriteNoteRequest(text="x", request_id="r1")
    request.remind_time.CopyFrom(wire.timestamp(wall() - timedelta(days=400)))
    process, address = await processes.start("notebook", SALDO_CRASHPOINT=crashpoint)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = notebook_grpc.NotebookServiceStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.WriteNote(request, metadata=metadata)
        await eventually(lambda: _ended(process))
    assert process.returncode == 137
    _, address = await processes.start("notebook")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = notebook_grpc.NotebookServiceStub(channel)
        note = await stub.WriteNote(request, metadata=metadata)
    await eventually(lambda: _all_announced(house))
    assert [row["id"] for row in await house.rows("notebook", "SELECT id FROM notes")] == [note.id]
    stored = await _stored(note.id)
    assert stored == [events_pb2.NoteWritten, events_pb2.NoteReminded]


async def _all_announced(house: House) -> bool:
    reminded = await house.rows("notebook", "SELECT 1 FROM notes WHERE reminder_count = 1")
    return bool(reminded) and not await house.rows("notebook", "SELECT 1 FROM outbox_waiting")


async def _stored(note_id: str) -> list[Any]:
    """The classes of a note's events, as the stream has them."""
    bus = JetStreamBus(os.environ["SALDO_NATS_URL"], stream_bytes_max=STREAM_BYTES_MAX)
    await bus.connect()
    kinds = {"NoteWritten": events_pb2.NoteWritten, "NoteReminded": events_pb2.NoteReminded}
    subscription = await bus.subscribe("NOTEBOOK", durable=f"all-{note_id}", subjects=["saldo.notebook.v1.>"])
    found: list[Any] = []
    while deliveries := await subscription.fetch(1_000, 0.5):
        for delivery in deliveries:
            if delivery.headers.get("ce-subject") == note_id:
                found.append(kinds[delivery.subject.rpartition(".")[2]])
            await delivery.ack()
    await subscription.close()
    await bus.close()
    return found


async def test_a_stopped_service_can_be_run_again_on_what_it_left(house: House) -> None:
    """State is in the database, nowhere else."""
    await house.start("notebook", "archive")
    note = await stub_of(house).WriteNote(pb.WriteNoteRequest(text="x"))
    await house.stop("notebook")
    await house.start("notebook")
    assert (await stub_of(house).GetNote(pb.GetNoteRequest(id=note.id))).text == "x"
    await house.quiet()
    service = house.running["archive"]
    async with service.database.transaction(service_caller("archive", EVERY_SELLER)) as tx:
        assert await tx.driver.fetchval("SELECT count(*) FROM archived") == 1
