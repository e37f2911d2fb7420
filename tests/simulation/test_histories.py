"""Histories from seeds, on a bus that loses, repeats and reorders, with services that crash: the books are right.

Every choice comes from the seed; how the services' tasks interleave does not, so a failure may need a few repetitions.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from common.bus import MemoryBus
from common.caller import Role
from common.ids import SellerId
from common.testing import Databases, Keys, Suite
from tests.simulation.history import START, History
from tests.support.sandbox import Sandbox
from tools.stack import SERVICES

pytestmark = pytest.mark.simulation

CRASH_SECONDS: Final = (0.3, 2.0)
ACK_WAIT_SECONDS: Final = 0.3
RESTART_SECONDS_MAX: Final = 30.0
HISTORY_SECONDS_MAX: Final = 300.0


async def test_the_books_are_right_whatever_happened(
    seed: int, databases: Databases, keys: Keys, tmp_path: Path
) -> None:
    """After every history: everything billed once, collected at most once, announced, and at rest."""
    try:
        async with asyncio.timeout(HISTORY_SECONDS_MAX):
            await _simulate(seed, databases, keys, tmp_path)
    except BaseException as error:
        error.add_note(f"again: .venv/bin/pytest tests/simulation --first-seed {seed} --seeds 1")
        raise


async def _simulate(seed: int, databases: Databases, keys: Keys, journals: Path) -> None:
    chance = random.Random(-seed)
    bus = MemoryBus(
        seed=seed,
        duplicate=chance.choice([0.0, 0.1, 0.3]),
        reorder=chance.choice([0.0, 0.2, 0.5]),
        lose=chance.choice([0.0, 0.05, 0.1]),
        ack_loss=chance.choice([0.0, 0.05, 0.1]),
        ack_wait_seconds=ACK_WAIT_SECONDS,
    )

    def token(role: Role, seller_id: SellerId | None) -> str:
        return keys.token(role=role, seller_id=seller_id)

    suite = Suite(databases, keys, bus)
    try:
        await suite.start(*SERVICES)
        async with await Sandbox.open(suite.addresses, token, journals=journals, start=START) as sandbox:
            async with _crashes(suite, chance):
                history = History(seed, sandbox)
                await history.live()
            await sandbox.verify(suite.urls)
            assert history.sent, "a history in which nothing is used shows nothing"
            assert len(await sandbox.invoices()) > 1
    finally:
        await suite.close()


@asynccontextmanager
async def _crashes(suite: Suite, chance: random.Random) -> AsyncIterator[None]:
    """One service after the other is torn down in the middle of its work, and comes back at once."""
    over = asyncio.Event()

    async def strike() -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(chance.uniform(*CRASH_SECONDS)):
                    await over.wait()
                return
            name = chance.choice(SERVICES)
            async with asyncio.timeout(RESTART_SECONDS_MAX):
                await suite.crash(name)
                await suite.start(name)

    striking = asyncio.create_task(strike())
    try:
        yield
    finally:
        over.set()
        await striking
