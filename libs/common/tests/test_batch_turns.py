"""Batches in their thousands take turns: replicas, sellers and jobs share the time, and to look takes little of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from common import ids as minting
from common.caller import service_caller
from common.clock import wall
from common.db import Database, Tx
from common.due import BATCHES_PER_SCAN, due_for_batches
from common.ids import SellerId
from common.jobs import LANES, Batch, Job
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.test_batches import Run, add_many, announced, batch, remind_all
from libs.common.tests.test_jobs import EVERYBODY, PAST, add, all_reminded, failures, make_jobs, reminders, running


async def test_replicas_share_the_rows_of_a_seller(database: Database, url: str, seller: SellerId) -> None:
    """The use case here does not look again, so that nothing but the claims keeps two replicas from one row."""
    other = Database(url, service="notebook")
    added = await add_many(database, seller, PAST, 2_000)
    at_work: set[str] = set()
    doubled: set[str] = set()
    worked: list[set[str]] = [set(), set()]

    def run(replica: int) -> Run:
        async def remind(tx: Tx, ids: Sequence[str]) -> None:
            doubled.update(at_work.intersection(ids))
            at_work.update(ids)
            await asyncio.sleep(0.05)
            worked[replica].update(await remind_all(tx, ids))
            at_work.difference_update(ids)

        return remind

    first, second = (
        make_jobs(each, batch(run(number), size=100), concurrency=2) for number, each in enumerate((database, other))
    )
    async with running(first), running(second):
        await eventually(lambda: all_reminded(database))
    assert await reminders(database) == await announced(database) == dict.fromkeys(added, 1)
    assert doubled == set()
    assert min(len(each) for each in worked) > len(added) / 4, "neither waits for the other"
    assert await failures(database) == []
    await other.close()


@pytest.mark.parametrize("hogs", [1, 3])
async def test_a_seller_with_many_rows_does_not_keep_others_waiting(
    database: Database, seller: SellerId, hogs: int
) -> None:
    """Though all of those are older than the other's single row: sellers take turns."""
    size = 40
    for _ in range(hogs):
        await add_many(database, SellerId(minting.mint(minting.SELLER, wall())), PAST, 4_000)
    (single,) = await add(database, seller, wall() - timedelta(days=1))
    before = 0
    done = asyncio.Event()

    async def note(tx: Tx, ids: Sequence[str]) -> None:
        nonlocal before
        before += not done.is_set()
        await remind_all(tx, ids)
        if single in ids:
            done.set()

    async with running(make_jobs(database, batch(note, size=size))):
        await asyncio.wait_for(done.wait(), 15)
    assert before <= hogs * 2 * LANES
    assert before * size < hogs * 4_000 / 2, "it did not have to wait for what was older"


async def test_rows_in_thousands_do_not_keep_another_job_waiting(database: Database, seller: SellerId) -> None:
    """What is done one by one has a place in every scan."""
    size, count = 40, 4_000
    await add_many(database, seller, PAST, count)
    async with database.transaction(service_caller("notebook", seller)) as tx:
        single = await store.add_note(tx, text="one by one", remind_time=wall() - timedelta(days=1))
    before = 0
    done = asyncio.Event()

    async def note(tx: Tx, ids: Sequence[str]) -> None:
        nonlocal before
        before += not done.is_set()
        await remind_all(tx, ids)

    async def alone(tx: Tx, note_id: str) -> None:
        assert note_id == single
        await store.remind(tx, note_id)
        done.set()

    alike = store.REMINDERS_DUE.where(store.notes.c.text == "x")
    other = store.REMINDERS_DUE.where(store.notes.c.text != "x")
    jobs = make_jobs(
        database,
        Batch(name="remind all", due=alike, run=note, size=size),
        Job(name="remind", due=other, run=alone),
    )
    async with running(jobs):
        await asyncio.wait_for(done.wait(), 15)
    assert before <= 2 * LANES < count / size


async def test_rows_that_fill_scan_after_scan_are_not_accused(database: Database, seller: SellerId) -> None:
    """Lists that are out of date by the time they are worked through name rows that have been done meanwhile."""
    added = await add_many(database, seller, PAST, 3_000)

    async def slowly(tx: Tx, ids: Sequence[str]) -> None:
        await remind_all(tx, ids)
        await asyncio.sleep(0.002)

    async with running(make_jobs(database, batch(slowly, size=30), concurrency=3)):
        for _ in range(10):
            await asyncio.sleep(0.02)
            added += await add_many(database, seller, PAST, 10)
        await eventually(lambda: all_reminded(database), seconds=30)
    assert await failures(database) == []
    assert await reminders(database) == dict.fromkeys(added, 1)


async def test_the_question_what_is_due_in_thousands_can_use_an_index(database: Database, seller: SellerId) -> None:
    """It is asked for every few batches, and takes no more than those."""
    await add_many(database, seller, PAST, 500)
    wanted = batch(size=10)
    async with database.transaction(EVERYBODY) as tx:
        await tx.driver.execute("SET LOCAL enable_seqscan = off")
        query = due_for_batches([wanted])
        plan = "\n".join(row[0] for row in await tx.driver.fetch(f"EXPLAIN {query}", wall(), [seller]))
        found = await tx.driver.fetch(query, wall(), [])
        assert await tx.driver.fetch(query, wall(), [seller]) == []
    assert "notes_remind_time" in plan
    assert len(found) == wanted.rows_per_scan == BATCHES_PER_SCAN * 10


async def test_to_look_takes_a_small_share_of_the_time(
    database: Database, seller: SellerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hundred thousand rows due the question is a slow one, and every commit is a reason to ask it."""
    await add_many(database, seller, PAST, 100)
    jobs = make_jobs(database, batch())
    scan, scans = jobs._scan, 0

    async def slow_scan() -> Any:  # Any: rows, passed on
        nonlocal scans
        scans += 1
        await asyncio.sleep(0.1)
        jobs._pace.wake()
        return await scan()

    monkeypatch.setattr(jobs, "_scan", slow_scan)
    async with running(jobs):
        await asyncio.sleep(1.7)
    assert await all_reminded(database)
    assert 2 <= scans <= 5
