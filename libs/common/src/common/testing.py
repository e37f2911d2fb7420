"""Knows how to run services for tests: real PostgreSQL, real gRPC, an in-memory bus, one fresh sandbox per test.

A pytest plugin. Services are started by name, from their own `main.build`, so that a test of one may have its real
neighbours without importing them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg
import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import Select

from common import clocks, ids, jobs, migrate, outbox
from common.auth import jwk, sign
from common.bus import MemoryBus, StreamSpec
from common.bus import Message as BusMessage
from common.caller import EVERY_SELLER, Caller, Role, service_actor
from common.due import Scheduled, due_for_batches, due_moments, due_rows, forget_settled
from common.ensemble import Ensemble, Nearby, Spares, handed_on, live
from common.ids import SellerId
from common.relay import message_of, source_of
from common.rpc import error_info
from common.service import YOUNG_OBJECTS_MAX, Service
from common.travel import quiet, travel
from common.vault import new_master_key
from saldo.operations.v1.operations_service_pb2 import GetServiceStateRequest

SERVICES: Final = ("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
SANDBOX_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER: Final = "test"
TESTER: Final = "tester"
PASSWORD: Final = "test"  # of roles in a server that lives as long as the test run
DECLARATIONS_MAX: Final = 256
OUTBOX_POLLS: Final = 1_000
OUTBOX_POLL_SECONDS: Final = 0.01
LOST: Final = "Internal error from Core"
"""What gRPC's asyncio client tells instead of a refusal that came while it was still sending (grpc/grpc#36066)."""

TRIES_MAX: Final = 5
MessageT = TypeVar("MessageT", bound=Message)


class Keys:
    """A key pair for everyone, and a key set with all of them."""

    def __init__(self, folder: Path, services: Sequence[str]) -> None:
        self.folder = folder
        self.jwks = folder / "jwks.json"
        self.issuer = Ed25519PrivateKey.generate()
        entries = [jwk(self.issuer.public_key(), kid=ISSUER)]
        for service in services:
            key = Ed25519PrivateKey.generate()
            self.private(service).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            entries.append(jwk(key.public_key(), kid=service_actor(service)))
        self.jwks.write_text(json.dumps({"keys": entries}))
        self.master_keys = folder / "master-keys"
        self.master_keys.write_text(new_master_key("test"))

    def private(self, service: str) -> Path:
        return self.folder / f"{service}.pem"

    def token(self, *, role: Role = Role.OWNER, seller_id: SellerId | None, actor: str = TESTER) -> str:
        return sign(self.issuer, kid=ISSUER, actor=actor, role=role, seller_id=seller_id, lifetime=timedelta(hours=1))


class Databases:
    """Databases made from a migrated template in a few milliseconds each."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._templates: dict[str, str] = {}
        self._count = 0

    async def create(self, service: str, *, migrated: str | None = None) -> str:
        """The URL of a new database for a service, migrated by the package named."""
        template = self._templates.get(service)
        if template is None:
            template = await self._template(service, migrated)
            self._templates[service] = template
        self._count += 1
        name = f"{service}_{os.getpid()}_{self._count}"
        async with self._admin() as admin:
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{service}" STRATEGY FILE_COPY')
        return self.url(service, name)

    async def drop(self, url: str) -> None:
        async with self._admin() as admin:
            await admin.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def url(self, role: str, database: str) -> str:
        server = urlsplit(self._admin_url)
        return f"postgresql+asyncpg://{role}:{PASSWORD}@{server.hostname}:{server.port}/{database}"

    async def _template(self, service: str, package: str | None) -> str:
        name = f"{service}_template_{os.getpid()}"
        async with self._admin() as admin:
            # Several test processes may share the server: one creates the role.
            await admin.execute("SELECT pg_advisory_lock(7203157)")
            if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", service):
                await admin.execute(f"CREATE ROLE \"{service}\" LOGIN PASSWORD '{PASSWORD}'")
            await admin.execute("SELECT pg_advisory_unlock(7203157)")
            await admin.execute(f'CREATE DATABASE "{name}" OWNER "{service}"')
        if package is not None:
            await migrate.migrate(self.url(service, name), package)
        return name

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._admin_url)
        try:
            yield connection
        finally:
            await connection.close()


class Suite:
    """Services in this process, around one in-memory bus, with a sandbox to play in."""

    def __init__(
        self, databases: Databases, keys: Keys, bus: MemoryBus, *, otlp_endpoint: str = "", spares: Spares | None = None
    ) -> None:
        """With `spares`, what another test has left as good as new is taken over instead of started anew."""
        self.keys = keys
        self.databases = databases
        self.seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
        self._spares = spares
        self._is_spare = spares is not None
        self._otlp_endpoint = otlp_endpoint
        self._ensemble = Ensemble.on_free_ports(bus, SERVICES)
        self._published_before: dict[str, int] = {}
        self._stack = AsyncExitStack()

    @property
    def bus(self) -> MemoryBus:
        return self._touched().bus

    @bus.setter
    def bus(self, bus: MemoryBus) -> None:
        self._touched().bus = bus

    @property
    def running(self) -> dict[str, Service]:
        return self._touched().running

    @property
    def urls(self) -> dict[str, str]:
        return self._touched().urls

    @property
    def reading_urls(self) -> dict[str, str]:
        """The same for who only reads what belongs to this suite's sandbox."""
        return dict(self._ensemble.urls)

    @asynccontextmanager
    async def own_rows(self, service: str, *, seller: SellerId | None = None) -> AsyncIterator[asyncpg.Connection]:
        """The tables as this suite's sandbox, or a seller that a test has made, sees and changes them: nobody else's
        rows show, as if the service were new."""
        connection = await asyncpg.connect(self._ensemble.urls[service].replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', $1, false)", seller or self.seller)
            yield connection
        finally:
            await connection.close()

    @property
    def addresses(self) -> dict[str, str]:
        """Where every service listens once it has been started."""
        return dict(self._touched().addresses)

    @property
    def calling_addresses(self) -> dict[str, str]:
        """The same for who only calls what runs, on behalf of this suite's sandbox."""
        return dict(self._ensemble.addresses)

    def _touched(self) -> Ensemble:
        """Whoever reaches behind the contracts may have changed something there: no other test takes it over."""
        self._is_spare = False
        return self._ensemble

    async def start(self, *names: str, **overrides: object) -> None:
        """Start services by name, each with a database of its own, or again with the one it had."""
        is_first = self._is_spare and not self._ensemble.urls
        settings = repr(sorted(overrides.items())) if overrides else ""
        if is_first and self._spares and (spare := self._spares.take(names, settings)):
            self._ensemble.give_back_ports()
            self._ensemble = spare
            self._published_before = spare.bus.published_counts()
            return
        ensemble = self._touched()
        ensemble.settings = settings
        for name in names:
            if name not in ensemble.urls:
                ensemble.urls[name] = await self.databases.create(name, migrated=name)
            if name == "payments" and "simulated_gateway" not in ensemble.urls:
                ensemble.urls["simulated_gateway"] = await self.databases.create("simulated_gateway")
            service = self._build(name, overrides)
            ready = asyncio.Event()
            ensemble.lives[name] = asyncio.create_task(live(service, ready), name=name)
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({ensemble.lives[name], waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                waiting.cancel()
                await ensemble.lives.pop(name)
                raise RuntimeError(f"{name} stopped before it was ready")
            ensemble.running[name] = service
        self._is_spare = is_first

    async def stop(self, *names: str) -> None:
        await self._touched().stop(*names)

    async def crash(self, name: str) -> None:
        """End a service in the middle of whatever it is doing; `start` brings it back."""
        ensemble = self._touched()
        del ensemble.running[name]
        life = ensemble.lives.pop(name)
        life.cancel()
        await asyncio.wait({life})
        if not life.cancelled() and (failure := life.exception()):
            raise failure

    async def close(self) -> None:
        is_kept = self._spares is not None and self._is_spare and await self._is_as_new()
        await self._stack.aclose()
        if is_kept and self._spares is not None:
            await self._spares.keep(self._ensemble)
            return
        await self._ensemble.end(self.databases.drop)

    async def _is_as_new(self) -> bool:
        """Nothing is under way, and nothing has failed: whatever this sandbox has left, no other will see."""
        if not self._ensemble.running or any(life.done() for life in self._ensemble.lives.values()):
            return False
        operators = self._operators()
        for _ in range(2):  # what one sends while another is being asked shows the second time
            for found in await asyncio.gather(*(each.GetServiceState(GetServiceStateRequest()) for each in operators)):
                if found.outbox_count or found.consumer_backlog or found.dead_letter_count or found.due_count:
                    return False
        return True

    def stub(  # Any: grpc stubs are generated
        self, stub: type[Any], service: str, *, role: Role = Role.OWNER, seller: SellerId | None = None
    ) -> Any:
        """A client of a service: for this suite's sandbox, as its owner, unless said otherwise."""
        on_behalf_of = seller if role is Role.PLATFORM else seller or self.seller
        return self.raw_stub(stub, service, token=self.keys.token(role=role, seller_id=on_behalf_of))

    def raw_stub(self, stub: type[Any], service: str, *, token: str) -> Any:  # Any: as above
        """A client with any token, or with none."""
        if not self._ensemble.urls:
            self._touched()  # its address is told: it must not be another by the time it is called
        interceptors: list[grpc.aio.ClientInterceptor] = []
        if token:
            interceptors += [_WithToken(token), _StreamWithToken(token)]
        channel = grpc.aio.insecure_channel(self._ensemble.addresses[service], interceptors=interceptors)
        self._stack.push_async_callback(channel.close)
        return stub(channel)

    async def travel(self, to: datetime) -> int:
        """Let the sandbox's time pass in every running service."""
        return await travel(self._clocks(), to)

    async def quiet(self) -> None:
        """Wait until everything that follows from what was done has happened, and been announced."""
        await quiet(self._clocks())
        # The sandbox's clock knows the sandbox only; a test may have done something for another seller.
        operators = self._operators()
        for _ in range(OUTBOX_POLLS):
            found = await asyncio.gather(*(each.GetServiceState(GetServiceStateRequest()) for each in operators))
            if not any(each.outbox_count for each in found):
                return
            await asyncio.sleep(OUTBOX_POLL_SECONDS)
        raise TimeoutError("events of some other seller are not being published")

    def announced(self, kind: type[MessageT]) -> list[MessageT]:
        """The events of a class that have been published since the start, oldest first; call `quiet` before."""
        messages = self.published(outbox.stream_of(kind))
        return [kind.FromString(each.data) for each in messages if each.subject == outbox.subject_of(kind)]

    def published(self, stream: str) -> Sequence[BusMessage]:
        """What has come upon a stream since the start, oldest first."""
        return self._ensemble.bus.published(stream)[self._published_before.get(stream, 0) :]

    async def announce(self, event: Message, *, source: str, at: datetime = SANDBOX_START) -> None:
        """Publish an event as the relay of a service that is not running here would have; each call anew."""
        bus = self._ensemble.bus if self._ensemble.urls else self._touched().bus
        emitted = outbox.emitted(event, seller_id=self.seller, at=at)
        stream = outbox.stream_of(type(event))
        await bus.ensure_stream(StreamSpec(name=stream, subjects=(f"{event.DESCRIPTOR.file.package}.>",)))
        sequence = 1 + sum(each.headers["ce-subject"] == emitted.aggregate_id for each in bus.published(stream))
        row = {**asdict(emitted), "sequence": sequence}
        await bus.publish(stream, [message_of(row, source=source_of(source))])

    def _operators(self) -> list[Nearby]:
        caller = Caller(seller_id=EVERY_SELLER, actor=TESTER, role=Role.PLATFORM)
        return [Nearby(service, caller) for service in self._ensemble.running.values()]

    def _clocks(self) -> dict[str, Nearby]:
        caller = Caller(seller_id=self.seller, actor=TESTER, role=Role.OWNER)
        return {name: Nearby(service, caller) for name, service in self._ensemble.running.items()}

    def _build(self, name: str, overrides: dict[str, object]) -> Service:
        main = importlib.import_module(f"{name}.main")
        settings_class = importlib.import_module(f"{name}.settings").Settings
        told: dict[str, object] = {
            "database_url": self._ensemble.urls[name],
            "listen": self._ensemble.addresses[name],
            "auth_jwks": self.keys.jwks,
            "auth_key": self.keys.private(name),
            "otlp_endpoint": self._otlp_endpoint,
            "log_level": "warning",
            "drain_seconds": 0.5,
        }
        if "master_keys" in settings_class.model_fields:
            told["master_keys"] = self.keys.master_keys
        for other in SERVICES:
            if f"{other}_address" in settings_class.model_fields:
                told[f"{other}_address"] = self._ensemble.addresses[other]
        if "simulated_gateway_url" in settings_class.model_fields:
            told["simulated_gateway_url"] = self._ensemble.urls["simulated_gateway"]
        service: Service = main.build(settings_class(**(told | overrides)), bus=self._ensemble.bus)
        return service


async def answered(
    method: Any, request: Message, **options: Any
) -> Any:  # Any: a method of a stub, what grpc lets one say, and what the method answers
    """The answer, or the first one of a stream that is sent one request; again, if gRPC lost it."""
    if not isinstance(method, grpc.aio.StreamStreamMultiCallable):
        return await method(request, **options)

    async def requests() -> AsyncIterator[Message]:
        yield request

    for tries in range(1, TRIES_MAX + 1):
        try:
            async for each in method(requests(), **options):
                return each
        except grpc.aio.AioRpcError as error:
            if error.details() != LOST or tries == TRIES_MAX:
                raise
        else:
            break
    raise AssertionError("a stream ends with an answer or an error")


class _Details:
    """What is told with every call: the token, and how long it may take."""

    def __init__(self, token: str) -> None:
        self._token = token

    def told(self, details: Any) -> Any:  # Any: grpc's details of a call
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {self._token}"))
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout or 20, metadata, details.credentials, details.wait_for_ready
        )


class _WithToken(_Details, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, details: Any, request: Any
    ) -> Any:  # Any: grpc's signature
        return await continuation(self.told(details), request)


class _StreamWithToken(_Details, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, details: Any, requests: Any
    ) -> Any:  # Any: grpc's signature
        return await continuation(self.told(details), requests)


class Refusal:
    """What a call was refused with."""

    reason = ""
    field = ""
    metadata: dict[str, str]
    message = ""


@contextmanager
def refused(reason: str, code: grpc.StatusCode | None = None) -> Iterator[Refusal]:
    """The body must be refused for this reason (and with this code)."""
    refusal = Refusal()
    try:
        yield refusal
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        if info is None or info.reason != reason or code not in (None, error.code()):
            found = info.reason if info else "no reason"
            raise AssertionError(f"refused with {found}, {error.code()}, {error.details()}; not {reason}") from error
        refusal.reason = info.reason
        refusal.metadata = dict(info.metadata)
        refusal.message = error.details() or ""
        refusal.field = _violated_field(error)
        return
    raise AssertionError(f"was not refused with {reason}")


def _violated_field(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
            return str(bad.field_violations[0].field)
    return ""


def _asked_once(question: Callable[..., str]) -> Callable[..., str]:
    """What a service asks about its jobs follows from what they declare to be due. To word it takes longer than many a
    test, and hundreds of tests start the same service."""
    worded: dict[object, str] = {}

    def answer(jobs: Sequence[Scheduled], **named: int) -> str:
        key = (tuple((type(job), job.name, _text(job.due), getattr(job, "size", 0)) for job in jobs), *named.items())
        if key not in worded:
            worded[key] = question(jobs, **named)
        return worded[key]

    return answer


@lru_cache(maxsize=DECLARATIONS_MAX)
def _text(due: Select[Any]) -> str:  # Any: as in Job
    return str(due.compile(compile_kwargs={"literal_binds": True}))


def pytest_collection_finish() -> None:
    """Garbage is looked for as seldom as in a service."""
    gc.set_threshold(YOUNG_OBJECTS_MAX)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), SERVICES)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with pytest.MonkeyPatch.context() as patch:
        for question in (due_rows, due_for_batches, forget_settled):
            patch.setattr(jobs, question.__name__, _asked_once(question))
        patch.setattr(clocks, due_moments.__name__, _asked_once(due_moments))
        yield Databases(os.environ["SALDO_POSTGRES_URL"])


@pytest_asyncio.fixture(scope="module")
async def spares(databases: Databases) -> AsyncIterator[Spares]:
    """What the tests of one module take over from one another; those of a folder whose conftest.py says so."""
    async with handed_on(databases.drop) as found:
        yield found


@pytest.fixture(scope="module")
def swept() -> Iterator[None]:
    """Services end in circles of few objects, which hold very much memory: nobody would come to look for them."""
    yield
    gc.collect()


@pytest_asyncio.fixture
async def suite(
    databases: Databases, keys: Keys, spares: Spares, swept: None, request: pytest.FixtureRequest
) -> AsyncIterator[Suite]:
    """Start what the test needs: `await suite.start("catalog", "subscriptions")`.

    It may be running already. Not so for a test that is marked as one that looks at more than its own sandbox, or that
    patches something: a service may look at it when it starts. Unless it is marked as one that knows better.
    """
    marked = {mark.name for mark in request.node.iter_markers()}
    is_alone = "own_services" in marked or ("monkeypatch" in request.fixturenames and "patched_when_used" not in marked)
    found = Suite(databases, keys, MemoryBus(), spares=None if is_alone else spares)
    try:
        yield found
    finally:
        await found.close()
