"""Several replicas of metering on one database: each shard one of them stores, all of them answer, and each may die."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio

from common import ids
from common.ids import SellerId
from common.testing import Databases, Keys
from metering.log.sellers import shard_for
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from tests.support.senders import BATCH_EVENTS, Sender, prepare, verify
from tools.client import CHANNEL_OPTIONS

pytestmark = pytest.mark.fault

LEAF_ROWS: Final = "5000"
SHARDS: Final = 2
READY_SECONDS_MAX: Final = 60.0
TAKEOVER_SECONDS_MAX: Final = 20.0
SENDING_SECONDS_MAX: Final = 60.0
LOAD_SECONDS: Final = 1.0
BATCHES: Final = 150
_LOG: Final = logging.getLogger(__name__)
"""Seen with `-o log_cli=true --log-cli-level=info`."""


class Replica:
    """A process of metering, at an address of its own that it keeps when it is started again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    async def start(self) -> None:
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        process = self._launch(ready)
        give_up = time.monotonic() + READY_SECONDS_MAX
        while not ready.exists():
            assert process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < give_up, "it is never ready"
            await asyncio.sleep(0.02)
        self.address = json.loads(ready.read_text())["address"]

    def _launch(self, ready: Path) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from metering.main import main; main()"],
                env=self._environment | {"SALDO_READY_FILE": str(ready), "SALDO_LISTEN": self.address or "127.0.0.1:0"},
                stdout=log,
                stderr=log,
            )
        return self._process

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(READY_SECONDS_MAX)


class Scene:
    """Replicas, a database, and sellers whose usage they take in, one in each shard."""

    def __init__(self, replicas: Sequence[Replica], url: str, sellers: Mapping[SellerId, str]) -> None:
        """`sellers` are with their tokens."""
        self.replicas = replicas
        self.url = url
        self.sellers = sellers
        self.channels = AsyncExitStack()

    async def stub(self, replica: Replica) -> Any:  # Any: grpc stubs are generated
        channel = grpc.aio.insecure_channel(replica.address, options=CHANNEL_OPTIONS)
        return MeteringServiceStub(await self.channels.enter_async_context(channel))

    async def sender(
        self, replica: Replica, seller_id: SellerId, source: str, *, streams: bool = False, batches: int = 0
    ) -> Sender:
        return Sender(
            source,
            await self.stub(replica),
            self.sellers[seller_id],
            random.Random(source),
            streams=streams,
            batches=batches,
            # What a replica hands on to an owner that dies it sends again by itself, to the next one.
            is_alone=False,
        )

    async def owner(self) -> Replica:
        """Who stores what is in the first shard, by what stands in the database."""
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            address = await connection.fetchval("SELECT address FROM shards WHERE shard = 0")
        finally:
            await connection.close()
        [owner] = [each for each in self.replicas if each.address == address]
        return owner

    async def verify(self, replica: Replica, senders: Sequence[Sender]) -> list[int]:
        """How many usage events each seller has."""
        counts = []
        for seller_id, token in self.sellers.items():
            own = [each for each in senders if each.token == token]
            journals = {
                source: [each.journal for each in own if each.source == source]
                for source in {each.source for each in own}
            }
            stub = await self.stub(replica)
            counts.append(await verify(stub, token, database_url=self.url, seller_id=seller_id, journals=journals))
        return counts


@pytest_asyncio.fixture(scope="module")
async def replicas(
    databases: Databases, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, Sequence[Replica]]]:
    """The URL of their database, and they."""
    url = await databases.create("metering", migrated="metering")
    environment = os.environ | {
        "SALDO_DATABASE_URL": url,
        "SALDO_AUTH_JWKS": str(keys.jwks),
        "SALDO_AUTH_KEY": str(keys.private("metering")),
        "SALDO_LEAF_ROWS": LEAF_ROWS,
        "SALDO_SHARDS": str(SHARDS),
        "SALDO_DRAIN_SECONDS": "1",
    }
    found = [Replica(tmp_path_factory.mktemp(name), environment) for name in ("one", "two")]
    try:
        for each in found:
            await each.start()
        yield url, found
    finally:
        for each in found:
            each.stop()
        await databases.drop(url)


@pytest_asyncio.fixture
async def scene(replicas: tuple[str, Sequence[Replica]], keys: Keys) -> AsyncIterator[Scene]:
    url, running = replicas
    sellers = [_seller_in(shard) for shard in range(SHARDS)]
    found = Scene(running, url, {seller_id: keys.token(seller_id=seller_id) for seller_id in sellers})
    for token in found.sellers.values():
        await prepare(running[0].address, token)
    async with found.channels:
        yield found


async def test_one_stream_fed_twice_to_each_of_two_replicas_is_counted_once(scene: Scene) -> None:
    """Of each seller four senders of the same events at the same time; and nobody is turned away, whoever stores."""
    groups = [
        [
            await scene.sender(replica, seller_id, "the same", streams=streams, batches=BATCHES // SHARDS)
            for replica in scene.replicas
            for streams in (False, True)
        ]
        for seller_id in scene.sellers
    ]
    senders = [each for group in groups for each in group]
    async with asyncio.timeout(SENDING_SECONDS_MAX):
        await asyncio.gather(*(each.run() for each in senders))
    assert await scene.verify(scene.replicas[0], senders) == [BATCHES // SHARDS * BATCH_EVENTS] * SHARDS
    for group in groups:
        for answers in zip(*(each.journal for each in group), strict=True):
            assert [sent.is_new for sent in answers].count(True) == 1, answers
            assert [sent.tries for sent in answers] == [1] * 4, "somebody was refused"


async def test_the_other_replica_takes_over_when_the_owner_is_killed(scene: Scene) -> None:
    """Within five seconds, with all that was stored in all shards; the one that was killed comes back and hands on."""
    senders = {
        replica: [
            await scene.sender(replica, seller_id, f"{name} {streams}", streams=streams)
            for seller_id, streams in zip(scene.sellers, order, strict=True)
        ]
        for name, replica, order in zip(("one", "two"), scene.replicas, ((False, True), (True, False)), strict=True)
    }
    everybody = [each for group in senders.values() for each in group]
    sending = [asyncio.create_task(each.run()) for each in everybody]
    owners, waits = [await scene.owner()], []
    for _ in range(2):
        await asyncio.sleep(LOAD_SECONDS)
        owners[-1].kill()
        [other] = [each for each in scene.replicas if each is not owners[-1]]
        waits.append(await _answered(senders[other], sending))
        await owners[-1].start()
        await _answered(everybody, sending)
        owners.append(await scene.owner())
    for sender in everybody:
        sender.stop()
    async with asyncio.timeout(SENDING_SECONDS_MAX):
        await asyncio.gather(*sending)
    counts = await scene.verify(owners[0], everybody)
    assert owners[0] is owners[2] is not owners[1]
    _LOG.info("%d usage events, taken over after %s s", sum(counts), [f"{each:.2f}" for each in waits])


def _seller_in(shard: int) -> SellerId:
    """One who is new belongs there."""
    while shard_for(seller_id := ids.mint(ids.SELLER, datetime(2026, 1, 1, tzinfo=UTC)), shards=SHARDS) != shard:
        pass
    return SellerId(seller_id)


async def _answered(senders: Sequence[Sender], sending: Sequence[asyncio.Task[None]]) -> float:
    """Until each of them has been answered what it sent from now on; the seconds that takes."""
    begin = time.monotonic()
    while min(each.answered_time for each in senders) <= begin:
        for each in sending:
            if each.done():  # who gave up for a reason of its own says it here
                each.result()
        assert time.monotonic() < begin + TAKEOVER_SECONDS_MAX, "nobody takes over"
        await asyncio.sleep(0.01)
    return time.monotonic() - begin
