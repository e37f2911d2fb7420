"""A batch that fails, waits, forgets a row or dies with its process costs no other row anything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from common.crash import arm
from common.db import Database, Tx
from common.errors import Unavailable
from common.ids import SellerId
from common.jobs import LANES, TRIES_MAX, BatchErrand
from common.neighbours import Desk
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.test_batches import add_many, announced, batch, remind_all
from libs.common.tests.test_jobs import EVERYBODY, PAST, all_reminded, failures, make_jobs, reminders, running

ROOT = Path(__file__).resolve().parents[3]


async def test_a_bad_row_costs_only_itself(database: Database, seller: SellerId, quick_retries: None) -> None:
    """The others of its batch are done, one by one; it is tried again alone, and at last set aside."""
    added = await add_many(database, seller, PAST, 400)
    bad = added[123]
    tries: list[int] = []

    async def picky(tx: Tx, ids: Sequence[str]) -> None:
        await remind_all(tx, ids)
        if bad in ids:
            tries.append(len(ids))
            raise ValueError("never")

    async with running(make_jobs(database, batch(picky))):
        await eventually(lambda: _is_dead(database, bad))
        await asyncio.sleep(0.2)
    assert tries[0] > 1
    assert tries[1:] == [1] * TRIES_MAX
    expected = dict.fromkeys(added, 1) | {bad: 0}
    assert await reminders(database) == expected
    assert await announced(database) == {note_id: 1 for note_id, count in expected.items() if count}
    async with database.transaction(EVERYBODY) as tx:
        (letter,) = await tx.driver.fetch("SELECT * FROM dead_letters")
    assert (letter["id"], letter["attempts"]) == (f"job:remind:{bad}", TRIES_MAX)


async def _is_dead(database: Database, note_id: str) -> bool:
    return [(row["id"], row["dead"]) for row in await failures(database)] == [(note_id, True)]


async def test_a_batch_that_has_to_wait_stays_together(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """A neighbour's outage is nobody's fault: not a try, and no reason to go on row by row."""
    calls: list[int] = []

    async def later(tx: Tx, ids: Sequence[str]) -> None:
        calls.append(len(ids))
        if len(calls) <= 3 * TRIES_MAX:
            raise Unavailable("away")
        await remind_all(tx, ids)

    added = await add_many(database, seller, PAST, 400)
    async with running(make_jobs(database, batch(later))):
        await eventually(lambda: all_reminded(database))
        await eventually(lambda: _nothing_failed(database))
    assert await reminders(database) == dict.fromkeys(added, 1)
    assert min(calls) > 1


async def test_what_cannot_be_done_is_found_by_halves(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """An errand for many asks others on the way: to go on row by row would be as many questions as there are rows."""
    added = await add_many(database, seller, PAST, 400)
    bad = added[123]
    sizes: list[int] = []
    tries: list[int] = []

    async def picky(desk: Desk, ids: Sequence[str]) -> None:
        sizes.append(len(ids))
        if bad in ids:
            tries.append(len(ids))
            raise ValueError("never")
        async with desk.transaction() as tx:
            await remind_all(tx, ids)

    async with running(make_jobs(database, errand(picky))):
        await eventually(lambda: _is_dead(database, bad))
        await asyncio.sleep(0.2)
    together = [size for size in tries if size > 1]
    assert together == sorted(together, reverse=True)
    assert all(half in (whole // 2, whole - whole // 2) for whole, half in pairwise([*together, 1]))
    assert tries[len(together) :] == [1] * TRIES_MAX
    assert len(sizes) < 2 * LANES + 2 * len(together) + TRIES_MAX
    assert await reminders(database) == dict.fromkeys(added, 1) | {bad: 0}


async def test_an_errand_for_many_waits_for_others_together(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """A neighbour's outage is nobody's fault: no half is tried, and no try is counted."""
    calls: list[int] = []

    async def later(desk: Desk, ids: Sequence[str]) -> None:
        calls.append(len(ids))
        if len(calls) <= 3 * TRIES_MAX:
            raise Unavailable("away")
        async with desk.transaction() as tx:
            await remind_all(tx, ids)

    added = await add_many(database, seller, PAST, 400)
    async with running(make_jobs(database, errand(later))):
        await eventually(lambda: all_reminded(database))
        await eventually(lambda: _nothing_failed(database))
    assert await reminders(database) == dict.fromkeys(added, 1)
    assert min(calls) > 1


async def test_a_stopping_loop_tries_no_other_half(database: Database, seller: SellerId) -> None:
    """What is left is done by the next process."""
    calls: list[int] = []

    async def fail_together(desk: Desk, ids: Sequence[str]) -> None:
        calls.append(len(ids))
        if len(ids) > 2:
            raise ValueError("not together")
        jobs.stop()
        async with desk.transaction() as tx:
            await remind_all(tx, ids)

    await add_many(database, seller, PAST, 200)
    jobs = make_jobs(database, errand(fail_together), concurrency=1)
    await asyncio.wait_for(jobs.run(), 15)
    assert calls[-1] <= 2
    assert sum((await reminders(database)).values()) == calls[-1]
    assert await failures(database) == []


def errand(run: Callable[[Desk, Sequence[str]], Awaitable[object]]) -> BatchErrand:
    return BatchErrand(name="remind", due=store.REMINDERS_DUE, run=run)


async def _nothing_failed(database: Database) -> bool:
    return not await failures(database)


async def test_a_stopping_loop_does_not_go_on_row_by_row(database: Database, seller: SellerId) -> None:
    """After a batch that failed there may be hundreds left, and a grace of seconds."""
    calls: list[int] = []

    async def fail_together(tx: Tx, ids: Sequence[str]) -> None:
        calls.append(len(ids))
        if len(ids) > 1:
            raise ValueError("not together")
        jobs.stop()
        await remind_all(tx, ids)

    await add_many(database, seller, PAST, 200)
    jobs = make_jobs(database, batch(fail_together), concurrency=1)
    await asyncio.wait_for(jobs.run(), 15)
    assert calls[0] > 1
    assert calls[1:] == [1]
    assert sum((await reminders(database)).values()) == 1
    assert await failures(database) == []


async def test_a_row_of_a_batch_that_stays_due_is_noticed(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """The use case forgets one of its rows: that one is set aside and does not go round for ever."""
    added = await add_many(database, seller, PAST, 300)
    forgotten = added[7]
    runs = 0

    async def forgetful(tx: Tx, ids: Sequence[str]) -> None:
        nonlocal runs
        runs += forgotten in ids
        await remind_all(tx, [note_id for note_id in ids if note_id != forgotten])

    async with running(make_jobs(database, batch(forgetful))):
        await eventually(lambda: _is_dead(database, forgotten))
        await asyncio.sleep(0.2)
    assert "JobLeftItsRowDue" in (await failures(database))[0]["error"]
    assert runs == 1
    assert await reminders(database) == dict.fromkeys(added, 1) | {forgotten: 0}


@pytest.mark.parametrize("where", ["job.before_commit", "job.committed"])
async def test_a_process_that_dies_in_a_batch_loses_and_doubles_nothing(
    database: Database, url: str, seller: SellerId, where: str
) -> None:
    """The batch is done or it is not; the next process goes on from there."""
    added = await add_many(database, seller, PAST, 600)
    script = f"from {__name__} import remind_until_killed; remind_until_killed({url!r}, {where!r})"
    process = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], cwd=ROOT, timeout=30, check=False)
    assert process.returncode == 137
    left = sum(not count for count in (await reminders(database)).values())
    assert left == 600 if where == "job.before_commit" else 0 < left < 600
    async with running(make_jobs(database, batch())):
        await eventually(lambda: all_reminded(database))
    assert await reminders(database) == await announced(database) == dict.fromkeys(added, 1)
    assert await failures(database) == []


def remind_until_killed(url: str, where: str) -> None:
    """What the process does that dies."""
    arm(where)
    asyncio.run(make_jobs(Database(url, service="notebook"), batch(), concurrency=1).run())
