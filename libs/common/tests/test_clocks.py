"""The clock of a sandbox: read and moved by whoever travels, thousands of times, on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from common.clock import ClockBackwards
from common.clocks import Clocks
from common.db import Database, DatabaseUnavailable
from common.ids import SellerId
from common.jobs import Errand, Scheduled
from common.rpc import Desk
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.test_jobs import EVERYBODY, START, add, make_jobs, reminder, running

DAY = timedelta(days=1)


class Kept:
    """Clocks of a service with one job, and how often it was told that something is due."""

    def __init__(self, database: Database) -> None:
        self.told = 0
        self.entered, self.proceed = asyncio.Event(), asyncio.Event()
        self.job: Scheduled = Errand(name="wait", due=store.REMINDERS_DUE, run=self._wait)
        self.clocks = Clocks(database, [self.job], on_due=self._tell)

    def _tell(self) -> None:
        self.told += 1

    async def _wait(self, desk: Desk, note_id: str) -> None:
        async with desk.transaction() as tx:
            await store.remind(tx, note_id)
        self.entered.set()
        await self.proceed.wait()


@pytest_asyncio.fixture
async def kept(database: Database) -> AsyncIterator[Kept]:
    found = Kept(database)
    yield found
    await found.clocks.close()


async def test_it_begins_where_its_id_says_and_only_moves_forward(kept: Kept, sandbox: SellerId) -> None:
    """Whoever reads it first, or moves it first. What is refused leaves it usable, and where it was."""
    assert (await kept.clocks.read(sandbox)).time == START
    moved = await kept.clocks.move(sandbox, START + DAY, hold_until=None)
    assert (moved.time, moved.due_count) == (START + DAY, 0)
    with pytest.raises(ClockBackwards) as refused:
        await kept.clocks.move(sandbox, START + DAY - timedelta(microseconds=1), hold_until=None)
    assert (START + DAY).isoformat() in str(refused.value)
    assert (await kept.clocks.move(sandbox, START + DAY, hold_until=None)).time == START + DAY
    assert (await kept.clocks.read(sandbox)).time == START + DAY


async def test_a_clock_that_nobody_has_read_can_be_moved(kept: Kept, sandbox: SellerId) -> None:
    """A service may hear of a sandbox only when it is told the time."""
    assert (await kept.clocks.move(sandbox, START + DAY, hold_until=None)).time == START + DAY


async def test_jobs_are_woken_where_something_is_due(database: Database, kept: Kept, sandbox: SellerId) -> None:
    """And left alone by all other steps of a journey."""
    await add(database, sandbox, START + 2 * DAY)
    before = await kept.clocks.move(sandbox, START + DAY, hold_until=None)
    assert (before.next_due_time, kept.told) == (START + 2 * DAY, 0)
    due = await kept.clocks.move(sandbox, START + 2 * DAY, hold_until=None)
    assert (due.due_count, due.next_due_time, kept.told) == (1, None, 1)


async def test_what_was_claimed_since_nothing_was_shows(database: Database, kept: Kept, sandbox: SellerId) -> None:
    """Claims are looked for only when there was one: each time, and until it is let go."""
    assert (await kept.clocks.read(sandbox)).running_count == 0
    await add(database, sandbox, START)
    async with running(make_jobs(database, kept.job)):
        await asyncio.wait_for(kept.entered.wait(), 10)
        for _ in range(2):
            found = await kept.clocks.read(sandbox)
            assert (found.due_count, found.running_count) == (0, 1)
        kept.proceed.set()

        async def is_idle() -> bool:
            return (await kept.clocks.read(sandbox)).running_count == 0

        await eventually(is_idle)
        kept.entered.clear()
        await add(database, sandbox, START)
        await asyncio.wait_for(kept.entered.wait(), 10)
        await eventually(is_idle)


async def test_a_connection_that_the_server_has_dropped_harms_nobody(
    database: Database, kept: Kept, sandbox: SellerId
) -> None:
    """It was restarted, say: whoever asks next gets another connection, and what was known of claims is forgotten."""
    await kept.clocks.read(sandbox)
    connection = kept.clocks._connection
    assert connection is not None
    await _drop(database)

    async def is_noticed() -> bool:
        return connection.is_closed()

    await eventually(is_noticed)
    assert (await kept.clocks.read(sandbox)).time == START
    assert kept.clocks._connection is not connection


async def test_a_connection_that_is_lost_on_the_way_is_told(database: Database, kept: Kept, sandbox: SellerId) -> None:
    """Whether the clock was moved is unknown then; to ask again is safe, and works."""
    await kept.clocks.move(sandbox, START, hold_until=None)
    async with database.transaction(EVERYBODY) as tx:
        # The row is held: whoever moves the clock waits, and loses the connection while waiting.
        await tx.driver.execute("SELECT FROM clocks WHERE seller_id = $1 FOR UPDATE", sandbox)
        moving = asyncio.create_task(kept.clocks.move(sandbox, START + DAY, hold_until=None))

        async def is_waiting() -> bool:
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            return bool(await tx.driver.fetchval(waits))

        await eventually(is_waiting)
        await _drop(database)
        with pytest.raises(DatabaseUnavailable):
            await moving
    assert (await kept.clocks.move(sandbox, START + DAY, hold_until=None)).time == START + DAY


async def _drop(database: Database) -> None:
    async with database.transaction(EVERYBODY) as tx:
        await tx.driver.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE '% loop'"
        )


async def test_a_service_without_jobs_has_clocks_too(database: Database, sandbox: SellerId) -> None:
    """Nothing is ever due there."""
    clocks = Clocks(database, [], on_due=lambda: None)
    try:
        found = await clocks.move(sandbox, START + DAY, hold_until=None)
    finally:
        await clocks.close()
    assert (found.time, found.due_count, found.next_due_time) == (START + DAY, 0, None)


async def test_readers_at_once_wait_for_each_other(database: Database, sandbox: SellerId) -> None:
    """There is one connection for all of them."""
    clocks = Clocks(database, [reminder()], on_due=lambda: None)
    try:
        found = await asyncio.gather(*(clocks.read(sandbox) for _ in range(20)))
    finally:
        await clocks.close()
    assert {each.time for each in found} == {START}
