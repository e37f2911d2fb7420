"""Knows how to run the notebook and the archive in a test: around one bus, each with a database of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc.aio

from common import ids
from common.bus import Bus
from common.caller import Role
from common.db import Database
from common.ids import SellerId
from common.service import Service
from common.testing import Databases, Keys
from common.travel import quiet
from libs.common.tests.notebook.main import BUILDERS, PACKAGE
from libs.common.tests.notebook.settings import Settings
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub

START = datetime(2026, 1, 1, tzinfo=UTC)
READY_SECONDS = 30

Build = Callable[..., Service]


class House:
    def __init__(self, databases: Databases, keys: Keys, bus: Callable[[], Bus]) -> None:
        self.databases = databases
        self.keys = keys
        self.seller = SellerId(ids.mint(ids.SANDBOX, START))
        self.running: dict[str, Service] = {}
        self.lives: dict[str, asyncio.Task[None]] = {}
        self.urls: dict[str, str] = {}
        self._bus = bus
        self._stack = AsyncExitStack()

    async def start(self, *names: str, build: Build | None = None, kind: str = "", **overrides: Any) -> Service:
        """Start services, which are of the kind they are called after unless said otherwise; returns the last one.

        Two of one name on one database are replicas: `await house.start("notebook-2", kind="notebook")`.
        """
        service: Service | None = None
        for name in names:
            of = kind or name
            if of not in self.urls:
                self.urls[of] = await self.databases.create(of, migrated=PACKAGE)
            service = (build or BUILDERS[of])(self.settings(of, **overrides), bus=self._bus())
            ready = asyncio.Event()
            self.lives[name] = asyncio.create_task(_live(service, ready), name=name)
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({self.lives[name], waiting}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                waiting.cancel()
                await self.lives.pop(name)
                raise RuntimeError(f"{name} stopped before it was ready")
            self.running[name] = service
        assert service is not None
        return service

    def settings(self, kind: str, **overrides: Any) -> Settings:
        told: dict[str, Any] = {
            "database_url": self.urls[kind],
            "listen": "127.0.0.1:0",
            "auth_jwks": self.keys.jwks,
            "auth_key": self.keys.private(kind),
            "log_level": "warning",
            "drain_seconds": 5,
            "jobs_poll_seconds": 0.05,
            "relay_poll_seconds": 0.05,
        }
        return Settings(**(told | overrides))

    async def stop(self, *names: str) -> None:
        for name in names:
            self.running.pop(name).stop()
            await self.lives.pop(name)

    async def close(self) -> None:
        await self._stack.aclose()
        await self.stop(*self.running)
        for url in self.urls.values():
            await self.databases.drop(url)

    def stub(self, stub: type[Any], name: str, *, role: Role = Role.OWNER, seller: SellerId | None = None) -> Any:
        on_behalf_of = seller if role is Role.PLATFORM else seller or self.seller
        return self.raw_stub(stub, name, token=self.keys.token(role=role, seller_id=on_behalf_of))

    def raw_stub(self, stub: type[Any], name: str, *, token: str) -> Any:
        return stub(self.channel(name, token=token))

    def channel(self, name: str, *, token: str) -> grpc.aio.Channel:
        interceptors = [_WithToken(token)] if token else []
        channel = grpc.aio.insecure_channel(self.running[name].address, interceptors=interceptors)
        self._stack.push_async_callback(channel.close)
        return channel

    def clocks(self) -> dict[str, Any]:
        return {name: self.stub(OperationsServiceStub, name) for name in self.running}

    async def quiet(self) -> None:
        await quiet(self.clocks())

    async def rows(self, kind: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """What is in a service's database, whichever seller it belongs to."""
        database = Database(self.urls[kind], service=kind)
        async with database.session() as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        await database.close()
        return found


async def _live(service: Service, ready: asyncio.Event) -> None:
    async with service.running():
        ready.set()
        await service.stopped()


class _WithToken(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {self._token}"))
        return await continuation(
            grpc.aio.ClientCallDetails(
                details.method, details.timeout or 20, metadata, details.credentials, details.wait_for_ready
            ),
            request,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
