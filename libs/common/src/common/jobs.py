"""Knows the way of time: whatever is due, by wall clock or by a sandbox's own, is carried out, one row at a time.

A job says with a select which rows have a due moment (`seller_id`, `id`, `due_time`, and `traceparent` if the row was
made in a trace), whenever that is; the loop compares with each seller's clock, and the same select tells when a sandbox
has to act next. A row is claimed by an advisory lock, so that replicas share the work; the use case locks the row,
looks again, and leaves it no longer due.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from opentelemetry.trace import SpanKind, Status, StatusCode

from common import clock
from common.caller import current_caller, service_caller
from common.crash import crashpoint
from common.db import Database, DatabaseUnavailable, is_lost
from common.due import Errand, Job, due_moments, due_rows, forget_settled
from common.errors import Unavailable
from common.ids import SellerId
from common.pace import Pace
from common.rpc import Desk, Neighbours
from common.telemetry import SECONDS, Telemetry

__all__ = ["Errand", "Job", "JobLeftItsRowDue", "Jobs", "dead_letter_id"]

CLAIM_CLASS: Final = 7_203
ROWS_PER_SCAN: Final = 200
SCAN_INTERVAL_SECONDS: Final = 0.02
FAILURE_WAIT_SECONDS: Final = 0.5
TRIES_MAX: Final = 8
RETRY_SECONDS: Final = (0.5, 1, 2, 5, 10, 30, 60)
UNAVAILABLE_RETRY_SECONDS: Final = 1
ERROR_LENGTH_MAX: Final = 4_000


class JobLeftItsRowDue(Exception):
    """The use case returned and its row is due as before: the loop would go round for ever."""


@dataclass(frozen=True, slots=True)
class _Row:
    job: str
    seller_id: SellerId
    id: str
    due_time: datetime
    traceparent: str
    tries: int
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What a sandbox has to do in this service."""

    due_count: int
    failing_count: int
    running_count: int
    next_due_time: datetime | None
    progress: int


class Jobs:
    def __init__(
        self,
        database: Database,
        jobs: Sequence[Job | Errand],
        *,
        neighbours: Neighbours,
        telemetry: Telemetry,
        poll_seconds: float,
        concurrency: int,
    ) -> None:
        names = [job.name for job in jobs]
        if len(set(names)) != len(names):
            raise ValueError("two jobs have the same name")
        self._database = database
        self._jobs = {job.name: job for job in jobs}
        self._neighbours = neighbours
        self._telemetry = telemetry
        self._log = telemetry.log
        self._duration = telemetry.meter.create_histogram(
            "saldo.job.duration", unit="s", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._poll_seconds = poll_seconds
        self._slots = asyncio.Semaphore(concurrency)
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[tuple[str, str]] = set()
        self._ended: set[tuple[str, str]] = set()  # since the last scan began, which may still list them
        self._done: OrderedDict[tuple[str, str], tuple[datetime, str]] = OrderedDict()
        self._claims: asyncpg.Connection | None = None
        self._claims_lock = asyncio.Lock()
        self._scan_sql = due_rows(jobs, limit=ROWS_PER_SCAN) if jobs else ""
        self._agenda_sql = due_moments(jobs) if jobs else ""
        self._settled_sql = forget_settled(jobs) if jobs else ""
        database.on_commit(self._pace.wake)

    def stop(self) -> None:
        """Finish the rows in hand, then return from `run`."""
        self._pace.stop()

    async def run(self) -> None:
        while self._jobs and not self._pace.stopping:
            try:
                async with self._database.session() as connection:
                    self._claims = connection
                    await self._loop()
            except DatabaseUnavailable as error:
                self._log.warning("jobs wait", error=str(error))
                await self._pace.rest(FAILURE_WAIT_SECONDS)
            finally:
                self._claims = None

    async def _loop(self) -> None:
        await self._ask(self._settled_sql)
        try:
            while not self._pace.stopping:
                self._pace.listen()
                began = time.monotonic()
                self._ended.clear()
                for row in await self._scan():
                    await self._begin(row)
                await self._pace.pause(self._poll_seconds)
                # Commits come in swarms: one look for many of them.
                await asyncio.sleep(max(0.0, SCAN_INTERVAL_SECONDS - (time.monotonic() - began)))
                for task in [task for task in self._tasks if task.done()]:
                    self._tasks.discard(task)
                    task.result()
        finally:
            # What has begun is finished while the claims are still held.
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
            for failure in ended:
                if isinstance(failure, Exception):
                    raise failure

    async def _begin(self, row: _Row) -> None:
        key = (row.job, row.id)
        if key in self._running or key in self._ended or self._pace.stopping:
            return
        await self._slots.acquire()
        self._running.add(key)
        self._tasks.add(asyncio.create_task(self._work(row), name=f"job {row.job}"))

    async def agenda(self, driver: asyncpg.Connection, seller_id: SellerId, now: datetime) -> Agenda:
        """What is due, running and to come for a sandbox, read in the caller's transaction."""
        progress, running = await driver.fetchrow(_PROGRESS, CLAIM_CLASS) or (0, 0)
        if not self._jobs:
            return Agenda(due_count=0, failing_count=0, running_count=running, next_due_time=None, progress=progress)
        due, failing, next_due_time = await driver.fetchrow(self._agenda_sql, seller_id, now) or (0, 0, None)
        return Agenda(
            due_count=due,
            failing_count=failing,
            running_count=running,
            next_due_time=next_due_time,
            progress=progress,
        )

    async def due_count(self) -> int:
        """Rows due now, of all sellers, up to the size of one scan."""
        if not self._jobs or self._claims is None:
            return 0
        return len(await self._scan())

    async def _scan(self) -> list[_Row]:
        rows = await self._ask(self._scan_sql, clock.wall())
        return [
            _Row(
                row["job"],
                SellerId(row["seller_id"]),
                row["id"],
                row["due_time"],
                row["traceparent"] or "",
                row["tries"],
                row["failed"],
            )
            for row in rows
        ]

    async def _ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """On the connection that holds the claims, one question at a time."""
        async with self._claims_lock:
            claims = self._claims
            if claims is None:
                raise DatabaseUnavailable("the claims are being taken up again")
            try:
                return await claims.fetch(query, *arguments)
            except Exception as error:
                if is_lost(error, claims):
                    raise DatabaseUnavailable("the claims are lost with their connection") from error
                raise

    async def _work(self, row: _Row) -> None:
        claimed = False
        try:
            claimed = await self._claim(row)
            if claimed:
                try:
                    await self._try(row)
                finally:
                    await self._release(row)
        except DatabaseUnavailable as error:
            self._log.warning("job waits", job=row.job, id=row.id, error=str(error))
        finally:
            self._running.discard((row.job, row.id))
            self._ended.add((row.job, row.id))
            self._slots.release()
            if claimed:
                # Where one row was, there may be the next. Not when another replica has it: that would be a race.
                self._pace.wake()

    async def _try(self, row: _Row) -> None:
        started = time.perf_counter()
        outcome = "done"
        current_caller.set(service_caller(self._database.service, row.seller_id))
        attributes = {"job.id": row.id, "seller.id": row.seller_id}
        fields: dict[str, object] = {"job": row.job, "id": row.id, "seller_id": row.seller_id}
        # What is logged and recorded is inside the span, so that it carries the trace.
        with self._telemetry.span(row.job, SpanKind.INTERNAL, parent=row.traceparent, attributes=attributes) as span:
            try:
                # In a sandbox, whose time stands still, only the trace tells a row that was marked anew for the same
                # moment from one that was left as it was.
                if self._done.get((row.job, row.id)) == (row.due_time, row.traceparent):
                    raise JobLeftItsRowDue(f"{row.job} left {row.id} due at {row.due_time.isoformat()}")
                await self._carry_out(row)
                self._remember(row)
                if row.failed:
                    await self._forget_failure(row)
            except Unavailable as error:
                outcome = "unavailable"
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                self._log.warning("job waits", **fields, error=str(error))
                await self._record_failure(row, error, tries=row.tries, wait_seconds=UNAVAILABLE_RETRY_SECONDS)
            except Exception as error:  # whatever a job raises is settled here
                outcome = "failed"
                tries = row.tries + 1
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                self._log.error("job failed", **fields, tries=tries, exc_info=error)
                await self._record_failure(
                    row, error, tries=tries, wait_seconds=RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1]
                )
            duration = time.perf_counter() - started
            self._duration.record(duration, {"job": row.job, "outcome": outcome})
            if outcome == "done":
                self._log.debug("job", **fields, duration_ms=round(duration * 1000, 2))

    async def _carry_out(self, row: _Row) -> None:
        job = self._jobs[row.job]
        caller = current_caller.get()
        if isinstance(job, Errand):
            crashpoint("errand.started")
            await job.run(Desk(self._database, caller, self._neighbours), row.id)
        else:
            async with self._database.transaction(caller) as tx:
                await job.run(tx, row.id)
                crashpoint("job.before_commit")
        crashpoint("job.committed")

    def _remember(self, row: _Row) -> None:
        self._done[row.job, row.id] = (row.due_time, row.traceparent)
        self._done.move_to_end((row.job, row.id))
        while len(self._done) > 10 * ROWS_PER_SCAN:
            self._done.popitem(last=False)

    async def _claim(self, row: _Row) -> bool:
        answer = await self._ask(
            "SELECT pg_try_advisory_lock($1, $2) AND nextval('progress') > 0", CLAIM_CLASS, _hash(row)
        )
        return bool(answer[0][0])

    async def _release(self, row: _Row) -> None:
        # When the connection is gone, the claims went with it.
        with suppress(DatabaseUnavailable):
            await self._ask("SELECT pg_advisory_unlock($1, $2)", CLAIM_CLASS, _hash(row))

    async def _forget_failure(self, row: _Row) -> None:
        async with self._database.transaction(service_caller(self._database.service, row.seller_id)) as tx:
            await tx.driver.execute("DELETE FROM job_failures WHERE job = $1 AND id = $2", row.job, row.id)

    async def _record_failure(self, row: _Row, error: Exception, *, tries: int, wait_seconds: float) -> None:
        dead = tries >= TRIES_MAX
        text = repr(error)[:ERROR_LENGTH_MAX].replace("\x00", "�")
        if dead or not isinstance(error, JobLeftItsRowDue):
            # Otherwise the same again: to carry it out once more would look like a success.
            self._done.pop((row.job, row.id), None)
        async with self._database.transaction(service_caller(self._database.service, row.seller_id)) as tx:
            await tx.driver.execute(
                "INSERT INTO job_failures (job, id, seller_id, attempts, next_try_time, error, dead)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (job, id) DO UPDATE SET attempts = excluded.attempts,"
                " next_try_time = excluded.next_try_time, error = excluded.error, dead = excluded.dead",
                row.job,
                row.id,
                row.seller_id,
                tries,
                clock.wall() + timedelta(seconds=wait_seconds),
                text,
                dead,
            )
            if dead:
                await tx.driver.execute(
                    "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
                    " VALUES ($1, $2, $3, '{}', '', $4, $5) ON CONFLICT (id) DO UPDATE SET error = excluded.error",
                    dead_letter_id(row.job, row.id),
                    row.seller_id,
                    f"job {row.job}",
                    text,
                    tries,
                )


def dead_letter_id(job: str, row_id: str) -> str:
    return f"job:{job}:{row_id}"


def _hash(row: _Row) -> int:
    """A signed 32-bit number for the row. Two rows that share one wait for each other."""
    return zlib.crc32(f"{row.job}\n{row.id}".encode()) - (1 << 31)


_PROGRESS: Final = """
SELECT coalesce(pg_sequence_last_value('progress'), 0)
     + coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')), 0),
       (SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = $1 AND objsubid = 2 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
