"""Knows how a service lives: composed once, one TaskGroup of server, relay, consumers and jobs, drained on SIGTERM.

Any task that fails brings the process down: crash, restart, resume; everything is idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from sqlalchemy import Select

from common import migrate, outbox
from common.auth import Identity, Verifier
from common.bus import Bus, BusUnavailable, JetStreamBus, StreamSpec
from common.caller import EVERY_SELLER, current_caller, service_caller
from common.clocks import Clocks
from common.consumer import Consumers, Handlers
from common.db import Answers, Database, DatabaseUnavailable, Tx
from common.jobs import Jobs, Scheduled
from common.operations import OperationsApi
from common.relay import Relay
from common.rpc import MESSAGE_BYTES_MAX, Desk, FoundByName, IncomingCalls, Neighbours
from common.settings import ServiceSettings
from common.telemetry import Telemetry
from common.vault import Vault
from saldo.operations.v1 import operations_service_pb2

YOUNG_OBJECTS_MAX: Final = 20_000
"""So many more may have been made than dropped until they are looked through for circles."""
START_TRIES: Final = 60
START_WAIT_SECONDS: Final = 0.5
MONITOR_SECONDS: Final = 5.0
KEEP: Final = timedelta(days=30)
PRUNE_ROWS: Final = 5_000
PRUNE_EVERY: Final = 720  # rounds of the monitor: an hour
PRUNED: Final = {
    "inbox": "create_time < $1",
    "requests": "create_time < $1",
    # What is still to be published stays, however long that takes.
    "outbox": "create_time < $1 AND NOT EXISTS (SELECT FROM outbox_waiting w WHERE w.position = outbox.position)",
    # Of rows that have long stopped being due; one that was given up stays given up.
    "job_failures": "next_try_time < $1 AND NOT dead",
}
REFUSAL_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.01

Mount = Callable[[grpc.aio.Server], None]


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


class Loop(Protocol):
    """Something that goes on beside the calls."""

    async def run(self) -> None:
        """Go on until told to stop."""

    def stop(self) -> None:
        """Finish what is under way, then return from `run`."""


class StoppedEarly(Exception):
    """The service was told to stop while it was still waiting for its servers."""


class Service:
    """One running service. `main.py` says what it is made of; this says how it lives."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        callers: Sequence[str] = (),
        neighbours: Mapping[type, str] | None = None,
        bus: Bus | None = None,
        vault: Vault | None = None,
        answers: Answers | None = None,
    ) -> None:
        """`callers` are the services that may call this one; `neighbours` the contracts it calls, with addresses.

        `vault` has the keys of the personal data that it keeps, `answers` keeps what was answered to commands.
        """
        self.name = name
        self.settings = settings
        self.telemetry = Telemetry(name, endpoint=settings.otlp_endpoint, level=settings.log_level)
        self.database = Database(
            settings.database_url.get_secret_value(),
            service=name,
            pool_size=settings.database_pool_size,
            vault=vault,
            answers=answers,
        )
        self.identity = Identity(name, settings.auth_key)
        self.neighbours = Neighbours(neighbours or {}, identity=self.identity, telemetry=self.telemetry)
        self.bus = bus or JetStreamBus(
            settings.nats_url,
            stream_bytes_max=settings.stream_bytes_max,
            ack_wait_seconds=settings.ack_wait_seconds,
        )
        self.address = ""
        self.operations: OperationsApi | None = None  # once it is running
        self._calls = IncomingCalls(
            name, verifier=Verifier(settings.auth_jwks), telemetry=self.telemetry, callers=callers
        )
        self._mounts: list[Mount] = []
        self._contracts: list[str] = []
        self._package = ""
        self._handlers: Handlers = {}
        self._jobs: Sequence[Scheduled] = ()
        self._loops: list[Loop] = []
        self._figures: dict[str, Select[int]] = {}
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._stopping = asyncio.Event()
        self._health = health_aio.HealthServicer()

    def desk(self) -> Desk:
        """Where an undecorated RPC works: for the caller of the call under way."""
        return Desk(self.database, current_caller.get(), self.neighbours)

    def serve(self, contract: Any, api: object) -> None:  # Any: a protobuf service descriptor
        """Answer a contract with an api object."""
        grpc_module = importlib.import_module(_grpc_module(contract))
        add = getattr(grpc_module, f"add_{contract.name}Servicer_to_server")
        self._mounts.append(lambda server: add(api, server))
        self._contracts.append(contract.full_name)

    def publish(self, events: ModuleType) -> None:
        """Announce the events of a contract's `events_pb2`."""
        self._package = events.DESCRIPTOR.package

    def consume(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def schedule(self, jobs: Sequence[Scheduled]) -> None:
        self._jobs = jobs

    def work(self, loop: Loop) -> None:
        """Keep a loop of the service's own going for as long as it serves; a failure of it brings the service down."""
        self._loops.append(loop)

    def watch(self, name: str, figure: Select[int]) -> None:
        """Show a figure of the service's own beside those of the chassis, as the gauge `saldo.<name>`."""
        self._figures[name] = figure

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close something that `main.py` opened, after everything that uses it has stopped."""
        self._closers.append(close)

    async def run(self) -> None:
        """Live until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        with contextlib.suppress(StoppedEarly):
            async with self.running():
                _rest_garbage()
                await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()

    async def stopped(self) -> None:
        """Wait until `stop` has been called."""
        await self._stopping.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Live for as long as the body does; gives the address. A task that fails cancels the body."""
        relay = Relay(
            self.database,
            self.bus,
            stream=outbox.stream_of_package(self._package),
            telemetry=self.telemetry,
            poll_seconds=self.settings.relay_poll_seconds,
        )
        consumers = Consumers(self.database, self.bus, self._handlers, telemetry=self.telemetry)
        jobs = Jobs(
            self.database,
            self._jobs,
            neighbours=self.neighbours,
            telemetry=self.telemetry,
            poll_seconds=self.settings.jobs_poll_seconds,
            concurrency=self.settings.jobs_concurrency,
        )
        clocks = Clocks(self.database, self._jobs, on_due=jobs.wake)
        self.operations = OperationsApi(self.database, relay=relay, consumers=consumers, jobs=jobs, clocks=clocks)
        raised: Exception | None = None
        try:
            await self._reach_servers(consumers)
            server = self._server(self.operations)
            await server.start()
            try:
                async with asyncio.TaskGroup() as group:
                    relaying = group.create_task(relay.run(), name="relay")
                    consuming = group.create_task(consumers.run(), name="consumers")
                    working = group.create_task(jobs.run(), name="jobs")
                    looping = [group.create_task(each.run(), name="loop") for each in self._loops]
                    monitor = group.create_task(self._monitor(self.operations), name="monitor")
                    self._ready()
                    try:
                        yield self.address
                    except Exception as error:
                        raised = error  # once the tasks are at an end, and not in a group with them
                    self.telemetry.log.info("stopping")
                    await self._drain(server)
                    # In the order of what they leave behind: what is announced last is published still.
                    consumers.stop()
                    jobs.stop()
                    for each in self._loops:
                        each.stop()
                    await self._end(consuming, working, *looping)
                    relay.stop()
                    await self._end(relaying)
                    monitor.cancel()
            except BaseExceptionGroup as failures:
                self.telemetry.log.error("failed", exc_info=failures)
                raise
            finally:
                await server.stop(0)
        finally:
            await self._close(consumers, clocks)
        if raised is not None:
            raise raised

    async def _drain(self, server: grpc.aio.Server) -> None:
        """Take no more calls, and finish those under way."""
        await self._health.enter_graceful_shutdown()
        await server.stop(self.settings.drain_seconds)
        # gRPC does not wait for calls that are being refused.
        for _ in range(int(REFUSAL_SECONDS / POLL_SECONDS)):
            if not self._calls.in_flight:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        """Wait for tasks that have been told to stop. What does not come to an end is rolled back, and done later."""
        _, slow = await asyncio.wait(tasks, timeout=self.settings.drain_seconds)
        for task in slow:
            self.telemetry.log.warning("cut short", task=task.get_name())
            task.cancel()
        if slow:
            await asyncio.wait(slow)

    async def _close(self, consumers: Consumers, clocks: Clocks) -> None:
        mine = (consumers.close, self.neighbours.close, self.bus.close)
        closing = (*mine, *self._closers, clocks.close, self.database.close)
        async with contextlib.AsyncExitStack() as stack:
            # The exporters wait for the network: not on the loop that others may be living on.
            stack.push_async_callback(asyncio.to_thread, self.telemetry.shutdown)
            for close in reversed(closing):
                stack.push_async_callback(close)

    async def _reach_servers(self, consumers: Consumers) -> None:
        """The servers may be starting too: wait for them, but not for ever."""
        for tries in range(1, START_TRIES + 1):
            if self._stopping.is_set():
                raise StoppedEarly(f"{self.name} was stopped before it was ready")
            try:
                await self.bus.connect()
                await self.bus.ensure_stream(
                    StreamSpec(name=outbox.stream_of_package(self._package), subjects=(f"{self._package}.>",))
                )
                await consumers.subscribe()
                await self._ping()
                return
            except (BusUnavailable, DatabaseUnavailable) as error:
                if tries == START_TRIES:
                    raise
                self.telemetry.log.warning(
                    "servers not reached", tries=tries, error=str(error), cause=repr(error.__cause__)
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(START_WAIT_SECONDS):
                        await self._stopping.wait()

    def _server(self, operations: OperationsApi) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
                ("grpc.max_concurrent_streams", 256),
            ],
            maximum_concurrent_rpcs=1_000,
        )
        self.serve(operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"], operations)
        methods: Any = FoundByName(server)  # Any: as much of a server as contracts ask for
        for mount in self._mounts:
            mount(methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)
        reflection.enable_server_reflection(
            (*self._contracts, reflection.SERVICE_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name),
            methods,
        )
        host = self.settings.listen.rpartition(":")[0]
        port = server.add_insecure_port(self.settings.listen)
        self.address = f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # what is listened on, told
        return server

    def _ready(self) -> None:
        self.telemetry.log.info("ready", address=self.address)
        if self.settings.ready_file is not None:
            # Renamed into place: whoever waits for it never reads half of it.
            unfinished = self.settings.ready_file.with_suffix(".part")
            unfinished.write_text(json.dumps({"service": self.name, "address": self.address, "pid": os.getpid()}))
            unfinished.rename(self.settings.ready_file)

    async def _monitor(self, operations: OperationsApi) -> None:
        """Health as the database sees it, the figures that say whether the suite is well, and the sweeping up."""
        gauges = {
            field: self.telemetry.meter.create_gauge(f"saldo.{field}")
            for field in ("outbox_count", "outbox_age_seconds", "consumer_backlog", "dead_letter_count", "due_count")
        }
        own = {name: self.telemetry.meter.create_gauge(f"saldo.{name}") for name in self._figures}
        rounds = 0
        while True:
            serving = True
            try:
                await self._ping()
                found = await operations.state()
                for field, gauge in gauges.items():
                    gauge.set(getattr(found, field))
                if own:
                    everybody = service_caller(self.name, EVERY_SELLER)
                    async with self.database.transaction(everybody, only_reads=True) as tx:
                        for name, gauge in own.items():
                            gauge.set((await tx.execute(self._figures[name])).scalar_one())
                if rounds % PRUNE_EVERY == 0:
                    await self._prune()
            except BusUnavailable as error:
                # Commands go on without it: what they announce waits in the outbox, whose age tells.
                self.telemetry.log.warning("bus away", error=str(error))
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                self.telemetry.log.warning("not healthy", error=str(error))
                serving = False
            status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set("", status)
            rounds += 1
            await asyncio.sleep(MONITOR_SECONDS)

    async def _prune(self) -> None:
        async with self.database.transaction(service_caller(self.name, EVERY_SELLER)) as tx:
            await forget(tx)

    async def _ping(self) -> None:
        async with self.database.transaction(service_caller(self.name, EVERY_SELLER), only_reads=True):
            pass


async def forget(tx: Tx) -> None:
    """Delete what nobody can ask about any more, a bounded number of rows at a time."""
    for table, forgotten in PRUNED.items():
        await tx.driver.execute(
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {forgotten} LIMIT $2))",
            tx.now - KEEP,
            PRUNE_ROWS,
        )


def main(build: Callable[[SettingsT], Service], settings: type[SettingsT], *, package: str) -> None:
    """The command of a service: `invoicing` serves, `invoicing migrate` brings its database up to date."""
    told = settings()  # type: ignore[call-arg] # pydantic reads the environment
    if sys.argv[1:] == ["migrate"]:
        asyncio.run(migrate.migrate(told.database_url.get_secret_value(), package))
    elif sys.argv[1:]:
        sys.exit(f"usage: {package} [migrate]")
    else:
        import uvloop

        async def live() -> None:
            await build(told).run()

        uvloop.run(live())


def _rest_garbage() -> None:
    """What there is by now stays for as long as the process: it need not be looked through for garbage again. And what
    one call makes and drops by the thousand is gone by itself: looking for circles in it every 700 objects would cost
    a third of the time in which usage events are read, and now and then a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)


def _grpc_module(contract: Any) -> str:  # Any: a protobuf service descriptor
    """`saldo/catalog/v1/catalog_service.proto` → `saldo.catalog.v1.catalog_service_pb2_grpc`."""
    name: str = contract.file.name
    return name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc"
