"""Rows that come due in thousands are done in batches, each once and by its seller's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from common import ids as minting
from common.caller import service_caller
from common.clock import wall
from common.db import Database, Tx
from common.ids import SellerId
from common.jobs import LANES, Batch, Scheduled
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.notebook.contracts import events_pb2, note_pb2
from libs.common.tests.test_jobs import (
    EVERYBODY,
    PAST,
    START,
    agenda,
    all_reminded,
    failures,
    make_jobs,
    reminders,
    running,
)

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
    job = batch(wait)
    before = await agenda(database, job, sandbox)
    assert (before.due_count, before.running_count) == (50, 0)
    async with running(make_jobs(database, job, concurrency=1)):
        await asyncio.wait_for(entered.wait(), 10)
        found = await agenda(database, job, sandbox)
        assert (found.due_count, found.running_count) == (50, 1)
        proceed.set()
        await eventually(lambda: _is_idle(database, job, sandbox))
    after = await agenda(database, job, sandbox)
    assert (after.due_count, after.failing_count, after.next_due_time) == (0, 0, None)
    assert after.progress > found.progress > before.progress


async def _is_idle(database: Database, job: Scheduled, seller: SellerId) -> bool:
    found = await agenda(database, job, seller)
    return not (found.running_count or found.due_count)


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
