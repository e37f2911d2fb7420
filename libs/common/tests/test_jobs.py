"""What is due is done: once, at its time by the right clock, tried again when it fails, and never round in circles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from common.caller import EVERY_SELLER, Role, current_caller, service_caller
from common.clock import wall
from common.clocks import Agenda, Clocks
from common.db import Database, Tx
from common.errors import Unavailable
from common.ids import SellerId
from common.jobs import TRIES_MAX, Errand, Job, Jobs, Scheduled, dead_letter_id
from common.rpc import Desk, Neighbours
from common.telemetry import Telemetry
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store

EVERYBODY = service_caller("notebook", EVERY_SELLER)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
Run = Callable[[Tx, str], Awaitable[object]]
NO_NEIGHBOURS: Any = Neighbours({}, identity=None, telemetry=Telemetry("notebook"))  # type: ignore[arg-type] # asks nobody


def make_jobs(database: Database, *jobs: Scheduled, concurrency: int = 4) -> Jobs:
    return Jobs(
        database,
        jobs,
        neighbours=NO_NEIGHBOURS,
        telemetry=Telemetry("notebook", level="error"),
        poll_seconds=0.05,
        concurrency=concurrency,
    )


def reminder(run: Run = store.remind) -> Job:
    return Job(name="remind", due=store.REMINDERS_DUE, run=run)


@asynccontextmanager
async def running(jobs: Jobs) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(jobs.run())
    try:
        yield task
    finally:
        jobs.stop()
        await asyncio.wait_for(task, 15)


async def add(database: Database, seller: SellerId, due: datetime | None, *, count: int = 1) -> list[str]:
    async with database.transaction(service_caller("notebook", seller)) as tx:
        return [await store.add_note(tx, text="x", remind_time=due) for _ in range(count)]


async def reminders(database: Database) -> dict[str, int]:
    async with database.transaction(EVERYBODY) as tx:
        rows = await tx.driver.fetch("SELECT id, reminder_count FROM notes")
    return {row["id"]: row["reminder_count"] for row in rows}


async def failures(database: Database) -> list[asyncpg.Record]:
    async with database.transaction(EVERYBODY) as tx:
        found: list[asyncpg.Record] = await tx.driver.fetch("SELECT * FROM job_failures")
        return found


async def agenda(database: Database, job: Scheduled, seller: SellerId) -> Agenda:
    clocks = Clocks(database, [job], on_due=lambda: None)
    try:
        return await clocks.read(seller)
    finally:
        await clocks.close()


async def all_reminded(database: Database) -> bool:
    return all(count for count in (await reminders(database)).values())


async def test_rows_are_due_by_the_clock_of_their_seller(
    database: Database, seller: SellerId, sandbox: SellerId
) -> None:
    """A sandbox's future is not due because wall time says so, nor a live seller's because a sandbox's clock does."""
    (live_past,) = await add(database, seller, PAST)
    (live_future,) = await add(database, seller, wall() + timedelta(hours=1))
    (sandbox_past,) = await add(database, sandbox, START)
    (sandbox_future,) = await add(database, sandbox, START + timedelta(seconds=1))
    await add(database, seller, None)
    async with running(make_jobs(database, reminder())):
        await eventually(lambda: _counts(database, {live_past: 1, sandbox_past: 1}))
        await asyncio.sleep(0.2)
        found = await reminders(database)
        assert (found[live_future], found[sandbox_future]) == (0, 0)
        async with database.transaction(service_caller("notebook", sandbox)) as tx:
            await tx.driver.execute("UPDATE clocks SET time = $1", START + timedelta(seconds=1))
        await eventually(lambda: _counts(database, {sandbox_future: 1}))
        assert (await reminders(database))[live_future] == 0


async def _counts(database: Database, expected: dict[str, int]) -> bool:
    found = await reminders(database)
    return all(found[note_id] == count for note_id, count in expected.items())


async def test_the_oldest_is_done_first(database: Database, seller: SellerId) -> None:
    """After an outage, what has waited longest has waited long enough."""
    moments = [PAST + timedelta(days=days) for days in (3, 1, 2)]
    added = {(await add(database, seller, moment))[0]: moment for moment in moments}
    order: list[str] = []

    async def note(tx: Tx, note_id: str) -> None:
        order.append(note_id)
        await store.remind(tx, note_id)

    async with running(make_jobs(database, reminder(note), concurrency=1)):
        await eventually(lambda: all_reminded(database))
    assert order == sorted(added, key=lambda note_id: added[note_id])


async def test_a_job_acts_as_its_service_for_the_seller_of_the_row(database: Database, sandbox: SellerId) -> None:
    """Nobody called: the records still say who did it, and for whom."""
    seen: list[tuple[Any, ...]] = []

    async def look(tx: Tx, note_id: str) -> None:
        who = current_caller.get()
        seen.append((tx.seller_id, tx.actor, tx.now, who.seller_id, who.role))
        await store.remind(tx, note_id)

    await add(database, sandbox, START)
    async with running(make_jobs(database, reminder(look))):
        await eventually(lambda: all_reminded(database))
    assert seen == [(sandbox, "service:notebook", START, sandbox, Role.SERVICE)]


async def test_an_errand_opens_its_own_transactions(database: Database, seller: SellerId) -> None:
    """There is none around it: it is for asking others in between."""
    desks: list[Desk] = []

    async def run(desk: Desk, note_id: str) -> None:
        desks.append(desk)
        async with desk.transaction() as tx:
            row = await store.note_by_id(tx, note_id)
            assert row is not None
        async with desk.transaction() as tx:
            await store.remind(tx, note_id)

    await add(database, seller, PAST)
    async with running(make_jobs(database, Errand(name="run", due=store.REMINDERS_DUE, run=run))):
        await eventually(lambda: all_reminded(database))
    assert [desk.caller for desk in desks] == [service_caller("notebook", seller)]


async def test_replicas_do_each_row_once(database: Database, url: str, seller: SellerId) -> None:
    """And share the work. The use case here does not look again, so that nothing but the claims keeps them apart."""
    others = [Database(url, service="notebook") for _ in range(2)]
    await add(database, seller, PAST, count=60)
    at_work: dict[str, int] = {}
    doubled: list[str] = []
    worked = [0, 0, 0]

    def run(replica: int) -> Run:
        async def remind(tx: Tx, note_id: str) -> None:
            at_work[note_id] = at_work.get(note_id, 0) + 1
            if at_work[note_id] > 1:
                doubled.append(note_id)
            worked[replica] += 1
            await asyncio.sleep(0.01)
            row = await store.note_by_id(tx, note_id, lock=True)
            assert row is not None
            if row.remind_time is not None:
                await store.remind(tx, note_id)
            at_work[note_id] -= 1

        return remind

    replicas = [make_jobs(each, reminder(run(n))) for n, each in enumerate((database, *others))]
    async with running(replicas[0]), running(replicas[1]), running(replicas[2]):
        await eventually(lambda: all_reminded(database))
    assert set((await reminders(database)).values()) == {1}
    assert doubled == []
    assert all(worked), "all of them had something to do"
    for other in others:
        await other.close()


async def test_a_failure_is_tried_again_later_and_then_forgotten(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """Nothing is left of the tries that failed, neither effects nor a record."""
    tries = 0

    async def third_time(tx: Tx, note_id: str) -> None:
        nonlocal tries
        tries += 1
        await store.remind(tx, note_id)
        if tries < 3:
            raise ValueError("not yet")

    await add(database, seller, PAST)
    async with running(make_jobs(database, reminder(third_time))):
        await eventually(lambda: all_reminded(database))
        await eventually(lambda: _no_failures(database))
    assert tries == 3
    assert list((await reminders(database)).values()) == [1]


async def _no_failures(database: Database) -> bool:
    return not await failures(database)


async def test_failures_wait_longer_and_longer(database: Database, seller: SellerId) -> None:
    """What is broken is not asked ten times a second."""

    async def never(tx: Tx, note_id: str) -> None:
        raise ValueError("never \x00")

    await add(database, seller, PAST)
    async with running(make_jobs(database, reminder(never))):
        await eventually(lambda: _attempts(database, 2))
        (failure,) = await failures(database)
    assert timedelta(seconds=0.5) < failure["next_try_time"] - wall() <= timedelta(seconds=1)
    assert "never" in failure["error"]


async def _attempts(database: Database, count: int) -> bool:
    return [row["attempts"] for row in await failures(database)] == [count]


async def test_what_never_works_ends_as_a_dead_letter(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """A bounded number of tries; after that somebody has to decide. Others are not held up."""
    (bad,) = await add(database, seller, PAST)
    (good,) = await add(database, seller, PAST + timedelta(days=1))
    tries = 0

    async def picky(tx: Tx, note_id: str) -> None:
        nonlocal tries
        if note_id == bad:
            tries += 1
            raise ValueError("never")
        await store.remind(tx, note_id)

    jobs = make_jobs(database, reminder(picky))
    async with running(jobs):
        await eventually(lambda: _is_dead(database))
        await asyncio.sleep(0.2)
        assert tries == TRIES_MAX
        assert await reminders(database) == {bad: 0, good: 1}
    async with database.transaction(EVERYBODY) as tx:
        (letter,) = await tx.driver.fetch("SELECT * FROM dead_letters")
    assert (letter["id"], letter["seller_id"]) == (dead_letter_id("remind", bad), seller)
    assert (letter["subject"], letter["attempts"]) == ("job remind", TRIES_MAX)


async def _is_dead(database: Database) -> bool:
    return [row["dead"] for row in await failures(database)] == [True]


async def test_a_row_that_stays_due_is_a_mistake_and_not_a_loop(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """A use case that forgets its row must not bill it for ever."""
    runs = 0

    async def nothing(tx: Tx, note_id: str) -> None:
        nonlocal runs
        runs += 1

    await add(database, seller, PAST)
    async with running(make_jobs(database, reminder(nothing))):
        await eventually(lambda: _is_dead(database))
        assert "JobLeftItsRowDue" in (await failures(database))[0]["error"]
        await asyncio.sleep(0.2)
    assert runs <= TRIES_MAX + 1


async def test_a_row_that_is_due_again_at_another_time_is_none(database: Database, seller: SellerId) -> None:
    """A period ends, and the next one; only the same moment twice is suspicious."""

    async def every_day(tx: Tx, note_id: str) -> None:
        row = await store.note_by_id(tx, note_id, lock=True)
        assert row is not None
        again = row.remind_time + timedelta(days=1) if row.reminder_count < 9 else None
        await store.remind(tx, note_id, again=again)

    (note_id,) = await add(database, seller, PAST)
    async with running(make_jobs(database, reminder(every_day))):
        await eventually(lambda: _counts(database, {note_id: 10}))
    assert await failures(database) == []


async def test_a_look_at_the_table_that_is_out_of_date_accuses_nobody(database: Database, seller: SellerId) -> None:
    """Rows that are done while a scan is being worked through are still on its list."""
    await add(database, seller, PAST, count=80)

    async def slowly(tx: Tx, note_id: str) -> None:
        row = await store.note_by_id(tx, note_id, lock=True)
        assert row is not None
        if row.remind_time is not None:
            await store.remind(tx, note_id)
        await asyncio.sleep(0.005)

    async with running(make_jobs(database, reminder(slowly), concurrency=2)):
        for _ in range(20):
            await asyncio.sleep(0.02)
            await add(database, seller, PAST)
        await eventually(lambda: all_reminded(database))
    assert await failures(database) == []
    assert set((await reminders(database)).values()) == {1}


async def test_a_row_that_was_done_while_the_look_was_under_way_is_not_accused(
    database: Database, seller: SellerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, at the very moment at which it matters."""
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Tx, note_id: str) -> None:
        begun.set()
        await proceed.wait()
        await store.remind(tx, note_id)

    await add(database, seller, PAST)
    jobs = make_jobs(database, reminder(slowly))
    scan, stale = jobs._scan, 0

    async def scan_that_is_overtaken() -> Any:
        nonlocal stale
        rows = await scan()
        if rows and begun.is_set() and not proceed.is_set():
            proceed.set()
            while jobs._running:  # noqa: ASYNC110 # nothing tells when a row is done
                await asyncio.sleep(0.01)
            stale += 1
        return rows

    monkeypatch.setattr(jobs, "_scan", scan_that_is_overtaken)
    async with running(jobs):
        await eventually(lambda: all_reminded(database))
        await asyncio.sleep(0.2)
    assert stale == 1
    assert await failures(database) == []


async def test_what_is_not_available_is_tried_for_as_long_as_it_takes(
    database: Database, seller: SellerId, quick_retries: None
) -> None:
    """A neighbour's outage must not kill a job that has done nothing wrong."""
    tries = 0

    async def later(desk: Desk, note_id: str) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3 * TRIES_MAX:
            raise Unavailable("the gateway is away")
        async with desk.transaction() as tx:
            await store.remind(tx, note_id)

    await add(database, seller, PAST)
    async with running(make_jobs(database, Errand(name="later", due=store.REMINDERS_DUE, run=later))):
        await eventually(lambda: all_reminded(database), seconds=30)
        await eventually(lambda: _no_failures(database))
    assert tries == 3 * TRIES_MAX + 1


async def test_a_sandbox_knows_what_is_due_next(database: Database, sandbox: SellerId, quick_retries: None) -> None:
    """Time travel goes from one of these moments to the next."""

    async def never(tx: Tx, note_id: str) -> None:
        raise ValueError("never")

    job = reminder(never)
    assert (await agenda(database, job, sandbox)).next_due_time is None
    later, latest = START + timedelta(days=2), START + timedelta(days=3)
    await add(database, sandbox, latest)
    await add(database, sandbox, later)
    await add(database, sandbox, START)
    found = await agenda(database, job, sandbox)
    assert (found.due_count, found.failing_count, found.running_count, found.next_due_time) == (1, 0, 0, later)
    async with running(make_jobs(database, job)):
        await eventually(lambda: _is_dead(database))
    found = await agenda(database, job, sandbox)
    assert (found.due_count, found.failing_count, found.next_due_time) == (0, 0, later)


async def test_a_claimed_row_shows_as_running(database: Database, sandbox: SellerId) -> None:
    """A sandbox is not quiet while something is under way, though its row may no longer be due for others to see."""
    entered, proceed = asyncio.Event(), asyncio.Event()

    async def wait(desk: Desk, note_id: str) -> None:
        async with desk.transaction() as tx:
            await store.remind(tx, note_id)
        entered.set()
        await proceed.wait()

    await add(database, sandbox, START)
    job = Errand(name="wait", due=store.REMINDERS_DUE, run=wait)
    async with running(make_jobs(database, job)):
        before = await agenda(database, job, sandbox)
        await asyncio.wait_for(entered.wait(), 10)
        found = await agenda(database, job, sandbox)
        assert (found.due_count, found.running_count) == (0, 1)
        proceed.set()
        await eventually(lambda: _nothing_runs(database, job, sandbox))
        assert (await agenda(database, job, sandbox)).progress >= before.progress


async def _nothing_runs(database: Database, job: Scheduled, seller: SellerId) -> bool:
    return (await agenda(database, job, seller)).running_count == 0


async def test_a_stopping_loop_finishes_what_it_has_begun(database: Database, seller: SellerId) -> None:
    """And begins nothing else."""
    begun = asyncio.Event()

    async def slow(tx: Tx, note_id: str) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        await store.remind(tx, note_id)

    await add(database, seller, PAST, count=10)
    jobs = make_jobs(database, reminder(slow), concurrency=2)
    task = asyncio.create_task(jobs.run())
    await begun.wait()
    jobs.stop()
    await asyncio.wait_for(task, 5)
    done = sum((await reminders(database)).values())
    assert 1 <= done <= 4
    async with database.transaction(EVERYBODY) as tx:
        held = await tx.driver.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7203"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert held == 0


async def test_claims_that_are_lost_are_taken_up_again(database: Database, seller: SellerId) -> None:
    """In place, also when it happens in the middle of the work; no row is done twice for it."""
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx, note_id: str) -> None:
        begun.set()
        await proceed.wait()
        row = await store.note_by_id(tx, note_id, lock=True)
        assert row is not None
        if row.remind_time is not None:
            await store.remind(tx, note_id)

    await add(database, seller, PAST, count=5)
    async with running(make_jobs(database, reminder(slow), concurrency=3)) as task:
        await begun.wait()
        async with database.transaction(EVERYBODY) as tx:
            gone = await tx.driver.fetch(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE application_name = 'notebook loop' AND datname = current_database()"
            )
        assert len(gone) == 1
        proceed.set()
        await eventually(lambda: all_reminded(database))
        await add(database, seller, PAST)
        await eventually(lambda: all_reminded(database))
        assert not task.done()
    assert set((await reminders(database)).values()) == {1}
    assert await failures(database) == []


async def test_an_outage_is_not_met_with_haste(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that was just woken must still wait between two attempts to reach a database that is not there."""
    database._url = database._url.rpartition("@")[0] + "@127.0.0.1:1/nowhere"
    attempts = 0
    session = database.session

    def counting() -> Any:
        nonlocal attempts
        attempts += 1
        return session()

    monkeypatch.setattr(database, "session", counting)
    jobs = make_jobs(database, reminder())
    jobs._pace.wake()
    async with running(jobs):
        await asyncio.sleep(0.7)
    assert attempts <= 3


async def test_two_jobs_of_one_name_are_refused(database: Database) -> None:
    """Claims and failures are kept by name."""
    with pytest.raises(ValueError, match="same name"):
        make_jobs(database, reminder(), reminder())
