"""The notebook and the archive for every test of the chassis: databases, buses, and servers that may be killed."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from common import ids
from common.bus import Bus, JetStreamBus, MemoryBus, StreamSpec
from common.clock import wall
from common.db import Database
from common.ids import SellerId
from common.telemetry import Telemetry
from common.testing import Databases, Keys
from libs.common.tests.notebook.house import START, House
from libs.common.tests.notebook.main import PACKAGE
from tools.stack import Stack

STREAM_BYTES_MAX = 32 * 1024**2


@pytest.fixture(scope="session")
def note_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), ("notebook", "archive", "stranger"))


@pytest_asyncio.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    found = await databases.create("notebook", migrated=PACKAGE)
    yield found
    await databases.drop(found)


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    found = Database(url, service="notebook")
    yield found
    await found.close()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("notebook", level="error")


@pytest.fixture
def seller() -> SellerId:
    return SellerId(ids.mint(ids.SELLER, wall()))


@pytest.fixture
def sandbox() -> SellerId:
    return SellerId(ids.mint(ids.SANDBOX, START))


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.jobs.RETRY_SECONDS", (0.01,))
    monkeypatch.setattr("common.jobs.UNAVAILABLE_RETRY_SECONDS", 0.01)


@pytest_asyncio.fixture
async def house(databases: Databases, note_keys: Keys) -> AsyncIterator[House]:
    """Both services around one bus in memory."""
    bus = MemoryBus()
    found = House(databases, note_keys, lambda: bus)
    try:
        yield found
    finally:
        await found.close()


@pytest_asyncio.fixture(params=["memory", "jetstream"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Either bus, and streams that nobody else has."""
    if request.param == "memory":
        yield MemoryBus()
        return
    found = JetStreamBus(os.environ["SALDO_NATS_URL"], stream_bytes_max=STREAM_BYTES_MAX)
    await found.connect()
    yield found
    await found.close()


@pytest.fixture
def stream() -> str:
    return f"TEST_{uuid.uuid4().hex}"


@pytest.fixture
def spec() -> StreamSpec:
    name = uuid.uuid4().hex
    return StreamSpec(name=f"TEST_{name}", subjects=(f"test.{name}.>",))


@pytest.fixture
def servers() -> Iterator[Stack]:
    """A PostgreSQL and a NATS that a test may kill. Durable ones: what they acknowledge has to be there afterwards."""
    with tempfile.TemporaryDirectory(prefix="saldo-servers-") as name:
        os.chmod(name, 0o755)  # the servers' account has to reach its data
        stack = Stack(Path(name) / "servers", environment={})
        try:
            stack.start()
            yield stack
        finally:
            stack.discard()


async def eventually(
    holds: Callable[[], Awaitable[bool]], *, seconds: float = 15.0, what: str = "what was waited for"
) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await holds():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"{what} has not happened within {seconds} s")
        with suppress(TimeoutError):
            await asyncio.sleep(0.02)
