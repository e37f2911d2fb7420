"""Rows that come due in thousands are done in batches, and each of them fares as if it had been alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common import ids as minting
from common.caller import service_caller
from common.clock import wall
from common.crash import arm
from common.db import Database, Tx
from common.due import BATCHES_PER_SCAN, due_for_batches
from common.errors import Unavailable
from common.ids import SellerId
from common.jobs import LANES, TRIES_MAX, Batch, Job
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.notebook.contracts import events_pb2, note_pb2
from libs.common.tests.test_jobs import (
    EVERYBODY,
    PAST,
    START,
    add,
    agenda,
    all_reminded,
    failures,
    make_jobs,
    reminders,
    running,
)

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[[Tx, Sequence[str]], Awaitable[object]]


async def remind_all(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Locks, looks again, moves the rows on and announces: what a use case for batches does."""
    rows = await tx.driver.fetch(
        "SELECT id FROM notes WHERE seller_id = $1 AND id = ANY($2::text[]) AND remind_time <= $3"
        " ORDER BY id FOR UPDATE",
        tx.seller_id,
        ids,
        tx.now,
    )
    found = [row["id"] for row in rows]
    await tx.driver.execute(
        "UPDATE notes SET remind_time = NULL, reminder_count = reminder_count + 1"
        " WHERE seller_id = $1 AND id = ANY($2::text[])",
        tx.seller_id,
        found,
    )
    for note_id in found:
        await tx.emit(events_pb2.NoteReminded(note=note_pb2.Note(id=note_id)))
    return found


def batch(run: Run = remind_all, *, size: int = 500) -> Batch:
    return Batch(name="remind", due=store.REMINDERS_DUE, run=run, size=size)


async def add_many(
    database: Database, seller: SellerId, due: datetime, count: int, *, apart: timedelta = timedelta(seconds=1)
) -> list[str]:
    """Notes with due moments one after the other, in the order of the ids returned."""
    ids = [minting.mint("note", wall()) for _ in range(count)]
    async with database.transaction(service_caller("notebook", seller)) as tx:
        await tx.driver.execute(
            "INSERT INTO notes (seller_id, id, text, remind_time, reminder_count, traceparent)"
            " SELECT $1, id, 'x', moment, 0, '' FROM unnest($2::text[], $3::timestamptz[]) AS t (id, moment)",
            seller,
            ids,
            [due + number * apart for number in range(count)],
        )
    return ids


async def announced(database: Database) -> dict[str, int]:
    """How many events there are about each note."""
    async with database.transaction(EVERYBODY) as tx:
        rows = await tx.driver.fetch("SELECT aggregate_id, count(*) FROM outbox GROUP BY 1")
    return {row["aggregate_id"]: row["count"] for row in rows}


async def test_rows_of_a_seller_are_done_in_batches(database: Database, seller: SellerId) -> None:
    """Each once, the oldest of a batch first, with one event each, in a small part of as many transactions."""
    batches: list[list[str]] = []

    async def note(tx: Tx, ids: Sequence[str]) -> None:
        assert tx.seller_id == seller
        batches.append(list(ids))
        await remind_all(tx, ids)

    added = await add_many(database, seller, PAST, 2_000)
    async with running(make_jobs(database, batch(note))):
        await eventually(lambda: all_reminded(database))
    assert await reminders(database) == await announced(database) == dict.fromkeys(added, 1)
    place = {note_id: number for number, note_id in enumerate(added)}
    assert all(ids == sorted(ids, key=place.__getitem__) for ids in batches)
    assert len(batches) <= 2 * LANES
    assert await failures(database) == []


async def test_a_batch_is_of_one_seller_and_of_its_size(database: Database, seller: SellerId) -> None:
    """So that row-level security and a sandbox's clock hold, and no transaction grows without limit."""
    other = SellerId(minting.mint(minting.SELLER, wall()))
    owner = dict.fromkeys(await add_many(database, seller, PAST, 300), seller)
    owner |= dict.fromkeys(await add_many(database, other, PAST, 300), other)
    seen: list[tuple[SellerId, set[SellerId], int]] = []

    async def note(tx: Tx, ids: Sequence[str]) -> None:
        seen.append((tx.seller_id, {owner[note_id] for note_id in ids}, len(ids)))
        await remind_all(tx, ids)

    async with running(make_jobs(database, batch(note, size=20))):
        await eventually(lambda: all_reminded(database))
    assert all(owners == {acting} for acting, owners, _ in seen)
    assert max(size for _, _, size in seen) <= 20
    assert set((await reminders(database)).values()) == {1}


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_has_a_limit(size: int) -> None:
    """A transaction with all of a seller's rows would hold their locks for minutes."""
    with pytest.raises(ValueError, match="1 to 1000"):
        batch(size=size)


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


async def _nothing_failed(database: Database) -> bool:
    return not await failures(database)


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


async def test_a_sandbox_s_rows_are_due_by_its_clock(database: Database, seller: SellerId, sandbox: SellerId) -> None:
    """And not while the traveller holds it: the clocks of other services are still on their way."""
    later = START + timedelta(days=1)
    live = await add_many(database, seller, PAST, 20)
    now = await add_many(database, sandbox, START, 20, apart=timedelta(0))
    then = await add_many(database, sandbox, later, 20, apart=timedelta(0))
    times: set[datetime] = set()

    async def look(tx: Tx, ids: Sequence[str]) -> None:
        if tx.seller_id == sandbox:
            times.add(tx.now)
        await remind_all(tx, ids)

    async with running(make_jobs(database, batch(look))):
        done = dict.fromkeys(live + now, 1)
        await eventually(lambda: _counts(database, done | dict.fromkeys(then, 0)))
        async with database.transaction(service_caller("notebook", sandbox)) as tx:
            await tx.driver.execute("UPDATE clocks SET time = $1, hold_until = $2", later, wall() + timedelta(hours=1))
        await asyncio.sleep(0.2)
        assert await reminders(database) == done | dict.fromkeys(then, 0)
        assert times == {START}
        async with database.transaction(service_caller("notebook", sandbox)) as tx:
            await tx.driver.execute("UPDATE clocks SET hold_until = NULL")
        await eventually(lambda: _counts(database, done | dict.fromkeys(then, 1)))
    assert times == {START, later}


async def _counts(database: Database, expected: dict[str, int]) -> bool:
    return await reminders(database) == expected


async def test_a_batch_under_way_shows_as_running(database: Database, sandbox: SellerId) -> None:
    """Nor is its sandbox quiet before it is committed."""
    entered, proceed = asyncio.Event(), asyncio.Event()

    async def wait(tx: Tx, ids: Sequence[str]) -> None:
        entered.set()
        await proceed.wait()
        await remind_all(tx, ids)

    await add_many(database, sandbox, START, 50, apart=timedelta(0))
    jobs = make_jobs(database, batch(wait), concurrency=1)
    before = await agenda(database, jobs, sandbox)
    assert (before.due_count, before.running_count) == (50, 0)
    async with running(jobs):
        await asyncio.wait_for(entered.wait(), 10)
        found = await agenda(database, jobs, sandbox)
        assert (found.due_count, found.running_count) == (50, 1)
        proceed.set()
        await eventually(lambda: _is_idle(database, jobs, sandbox))
    after = await agenda(database, jobs, sandbox)
    assert (after.due_count, after.failing_count, after.next_due_time) == (0, 0, None)
    assert after.progress > found.progress > before.progress


async def _is_idle(database: Database, jobs: Any, seller: SellerId) -> bool:
    found = await agenda(database, jobs, seller)
    return not (found.running_count or found.due_count)


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


async def test_a_stopping_loop_finishes_its_batch(database: Database, seller: SellerId) -> None:
    """And begins no other; what it has not begun, nobody holds."""
    begun = asyncio.Event()
    sizes: list[int] = []

    async def slow(tx: Tx, ids: Sequence[str]) -> None:
        sizes.append(len(ids))
        begun.set()
        await asyncio.sleep(0.3)
        await remind_all(tx, ids)

    await add_many(database, seller, PAST, 500)
    jobs = make_jobs(database, batch(slow, size=50), concurrency=1)
    task = asyncio.create_task(jobs.run())
    await begun.wait()
    jobs.stop()
    await asyncio.wait_for(task, 5)
    assert len(sizes) == 1
    assert sum((await reminders(database)).values()) == sizes[0]
    async with database.transaction(EVERYBODY) as tx:
        held = await tx.driver.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7203"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    assert held == 0


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


async def test_rows_with_several_due_moments_behind_them_catch_up(database: Database, seller: SellerId) -> None:
    """After an outage of months a run settles some moments of a row, and the next run more: that is no loop."""
    added = await add_many(database, seller, PAST, 200, apart=timedelta(0))
    end = PAST + timedelta(days=10)

    async def some_moments(tx: Tx, ids: Sequence[str]) -> None:
        await tx.driver.execute(
            "UPDATE notes SET reminder_count = reminder_count + 1,"
            " remind_time = CASE WHEN remind_time < $2 THEN remind_time + interval '2 days' END"
            " WHERE id = ANY($1::text[])",
            ids,
            end,
        )

    async with running(make_jobs(database, batch(some_moments))):
        await eventually(lambda: _counts(database, dict.fromkeys(added, 6)))
    assert await failures(database) == []


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


async def test_a_batch_is_told_and_measured_once(
    database: Database, seller: SellerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the number of its rows: a line for each would drown everything else at the end of a month."""
    lines: list[dict[str, Any]] = []  # Any: fields of a log
    measured: list[dict[str, str]] = []

    class Log:
        def debug(self, event: str, **fields: Any) -> None:  # Any: as above
            lines.append({"event": event, **fields})

    class Histogram:
        def record(self, amount: float, attributes: dict[str, str]) -> None:
            assert amount > 0
            measured.append(attributes)

    await add_many(database, seller, PAST, 500)
    jobs = make_jobs(database, batch())
    monkeypatch.setattr(jobs, "_log", Log())
    monkeypatch.setattr(jobs, "_duration", Histogram())
    async with running(jobs):
        await eventually(lambda: all_reminded(database))
    assert sum(line["count"] for line in lines) == 500
    assert {(line["event"], line["job"], line["seller_id"]) for line in lines} == {("job", "remind", seller)}
    assert measured == [{"job": "remind", "outcome": "done"}] * len(lines)
    assert len(lines) == LANES


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
