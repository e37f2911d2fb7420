"""Whatever is killed under full load, what was answered is stored once, and what was not is stored at most once."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import grpc.aio
import pytest

from common import ids
from common.ids import SellerId
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from tests.support.senders import Sender, prepare, verify
from tools.client import CHANNEL_OPTIONS
from tools.suite import Suite, running_suite

pytestmark = pytest.mark.fault

SHARDS: Final = "2"
LEAF_ROWS: Final = "10000"
"""Small, so that leaves fill up, get their indexes and are remembered by filters between any two kills."""
LOAD_SECONDS: Final = (0.3, 1.8)
BACK_SECONDS_MAX: Final = 60.0
SEED: Final = 20_261_120
_LOG: Final = logging.getLogger(__name__)
"""Seen with `-o log_cli=true --log-cli-level=info`."""
VICTIMS: Final = (("metering",), ("postgres",), ("metering", "postgres"))


@pytest.fixture
def metering() -> Iterator[Suite]:
    """Alone with its servers, which write to the disk before they answer."""
    with running_suite(
        volatile=False, services=("metering",), settings={"SALDO_LEAF_ROWS": LEAF_ROWS, "SALDO_SHARDS": SHARDS}
    ) as suite:
        yield suite


async def test_killed_at_random_under_full_load(metering: Suite, kills: int) -> None:
    """Four senders that never rest, two of them on streams; the journal, the log and the usage agree in the end."""
    chance = random.Random(SEED)
    seller_id = SellerId(ids.mint(ids.SELLER, datetime(2026, 1, 1, tzinfo=UTC)))
    token = metering.keys.token(seller_id=seller_id)
    address = metering.addresses()["metering"]
    await prepare(address, token)
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = MeteringServiceStub(channel)
        senders = [
            Sender(f"sender-{n}", stub, token, random.Random(chance.random()), streams=n % 2 == 1) for n in range(4)
        ]
        sending = [asyncio.create_task(each.run()) for each in senders]
        away: list[float] = []
        for victims in itertools.islice(itertools.cycle(VICTIMS), kills):
            await asyncio.sleep(chance.uniform(*LOAD_SECONDS))
            away.append(await _kill(metering, victims, senders, sending))
        for each in senders:
            each.stop()
        async with asyncio.timeout(BACK_SECONDS_MAX):
            await asyncio.gather(*sending)
        count = await verify(
            stub,
            token,
            database_url=metering.database_urls()["metering"],
            seller_id=seller_id,
            journals={each.source: [each.journal] for each in senders},
        )
    _LOG.info("%d kills, %d usage events, answered again after %s s", kills, count, [f"{each:.1f}" for each in away])
    assert len(away) == kills
    assert any(sent.tries > 1 for each in senders for sent in each.journal), "nothing was under way when it died"


async def _kill(
    suite: Suite, victims: tuple[str, ...], senders: list[Sender], sending: list[asyncio.Task[None]]
) -> float:
    """Until every sender has been answered anew; the seconds that took."""
    supervisor = suite.roster.supervisor
    assert supervisor is not None
    supervisor.signal(signal.SIGHUP)  # it would count the deaths, and give up
    killed = time.monotonic()
    if "metering" in victims:
        suite.kill("metering")
    if "postgres" in victims:
        await asyncio.to_thread(suite.kill_server, "postgres")
    gone = time.monotonic()
    while min(each.answered_time for each in senders) <= gone:
        for task in sending:
            if task.done():
                task.result()
        assert time.monotonic() < gone + BACK_SECONDS_MAX, f"not back after {victims} had been killed"
        await asyncio.sleep(0.02)
    return time.monotonic() - killed
