"""Knows the way of time: whatever is due, by wall clock or a sandbox's own, is carried out, row by row or in batches.

A job says with a select which rows have a due moment (`seller_id`, `id`, `due_time`, and `traceparent` if the row was
made in a trace), whenever that is; the loop compares with each seller's clock, and the same select tells when a sandbox
has to act next. A row is claimed by an advisory lock, so that replicas share the work; the use case locks the row,
looks again, and leaves it no longer due.

The rows of a batch are claimed by the lane they are in: each seller's rows are spread over a few, always the same row
in the same one, so that replicas work on one seller's rows side by side and never on the same row.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import asyncpg
from opentelemetry.trace import SpanKind, Status, StatusCode

from common import clock, failures
from common.caller import current_caller, service_caller
from common.clocks import CLAIM_CLASS
from common.crash import crashpoint
from common.db import ONE_PLAN, Database, DatabaseUnavailable, is_lost
from common.due import (
    Batch,
    BatchErrand,
    DueRow,
    Errand,
    Job,
    Scheduled,
    due_for_batches,
    due_rows,
    forget_settled,
)
from common.errors import Unavailable
from common.failures import dead_letter_id
from common.ids import SellerId
from common.pace import Pace
from common.rpc import Desk, Neighbours
from common.telemetry import SECONDS, Telemetry

__all__ = ["Batch", "BatchErrand", "Errand", "Job", "JobLeftItsRowDue", "Jobs", "Scheduled", "dead_letter_id"]

ROWS_PER_SCAN: Final = 200
LANES: Final = 8
LINKS_MAX: Final = 8
SCAN_INTERVAL_SECONDS: Final = 0.02
SCAN_INTERVAL_SECONDS_MAX: Final = 0.5
SCAN_SHARE: Final = 4
FAILURE_WAIT_SECONDS: Final = 0.5
TRIES_MAX: Final = 8
RETRY_SECONDS: Final = (0.5, 1, 2, 5, 10, 30, 60)
UNAVAILABLE_RETRY_SECONDS: Final = 1
ERROR_LENGTH_MAX: Final = 4_000


class JobLeftItsRowDue(Exception):
    """The use case returned and its row is due as before: the loop would go round for ever."""


class Jobs:
    def __init__(
        self,
        database: Database,
        jobs: Sequence[Scheduled],
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
        self._batches = {job.name: job for job in jobs if isinstance(job, Batch | BatchErrand)}
        self._served: set[str] = set()  # sellers who filled the last scans: now it is the turn of the others
        singles = [job for job in jobs if job.name not in self._batches]
        questions = [f"({due_rows(singles, limit=ROWS_PER_SCAN)})"] if singles else []
        questions += [due_for_batches(list(self._batches.values()))] if self._batches else []
        self._scan_sql = " UNION ALL ".join(questions)
        self._remembered_max = 10 * ROWS_PER_SCAN + 3 * sum(job.rows_per_scan for job in self._batches.values())
        self._due_count_sql = f"SELECT count(*) FROM ({due_rows(jobs, limit=ROWS_PER_SCAN)}) d" if jobs else ""
        self._settled_sql = forget_settled(jobs) if jobs else ""
        database.on_commit(self._pace.wake)

    def wake(self) -> None:
        """Something may be due."""
        self._pace.wake()

    def stop(self) -> None:
        """Finish the rows in hand, then return from `run`."""
        self._pace.stop()

    async def run(self) -> None:
        while self._jobs and not self._pace.stopping:
            try:
                async with self._database.session() as connection:
                    await connection.execute(ONE_PLAN + (_IN_ORDER_OF_INDEX if self._batches else ""))
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
                if not self._served:
                    self._pace.listen()
                began = time.monotonic()
                self._ended.clear()
                found = await self._scan()
                # Commits come in swarms: one look for many of them. And where much is due, to look takes long: that
                # must be a small share of the time.
                interval = min(
                    max(SCAN_INTERVAL_SECONDS, SCAN_SHARE * (time.monotonic() - began)), SCAN_INTERVAL_SECONDS_MAX
                )
                for rows in self._handfuls(found):
                    await self._begin(rows)
                if not self._served:
                    await self._pace.pause(self._poll_seconds)
                await self._pace.rest(max(0.0, interval - (time.monotonic() - began)))
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

    def _handfuls(self, rows: Sequence[DueRow]) -> list[list[DueRow]]:
        """What is claimed and worked on together: one row, or those of a seller's lane that make up a batch."""
        handfuls: dict[tuple[str, str], list[DueRow]] = {}
        for row in sorted(rows, key=lambda row: row.due_time):
            handful = handfuls.setdefault(self._claim_key(row), [])
            if row.job not in self._batches or len(handful) < self._batches[row.job].size:
                handful.append(row)
        return list(handfuls.values())

    def _claim_key(self, row: DueRow) -> tuple[str, str]:
        if row.job in self._batches:
            return row.job, f"{row.seller_id}/{zlib.crc32(row.id.encode()) % LANES}"
        return row.job, row.id

    async def _begin(self, rows: Sequence[DueRow]) -> None:
        key = self._claim_key(rows[0])
        if key in self._running or key in self._ended:
            return
        await self._slots.acquire()
        if self._pace.stopping:
            self._slots.release()
            return
        self._running.add(key)
        self._tasks.add(asyncio.create_task(self._work(key, rows), name=f"job {rows[0].job}"))

    async def due_count(self) -> int:
        """Rows due now, of all sellers, up to the size of one scan."""
        if not self._jobs or self._claims is None:
            return 0
        counted = await self._ask(self._due_count_sql, clock.wall())
        return int(counted[0][0])

    async def _scan(self) -> list[DueRow]:
        found = await self._ask(self._scan_sql, clock.wall(), *([list(self._served)] if self._batches else ()))
        self._give_turn([row for row in found if row["job"] in self._batches])
        return [
            DueRow(
                row["job"],
                SellerId(row["seller_id"]),
                row["id"],
                row["due_time"],
                row["traceparent"] or "",
                row["tries"],
                row["failed"],
            )
            for row in found
        ]

    def _give_turn(self, found: Sequence[asyncpg.Record]) -> None:
        """Whoever has thousands of rows due must not keep others waiting, whose rows are younger, for all of them."""
        counts = Counter(row["job"] for row in found)
        full = {name for name, count in counts.items() if count >= self._batches[name].rows_per_scan}
        if full:
            self._served.update(row["seller_id"] for row in found if row["job"] in full)
        else:
            self._served.clear()

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

    async def _work(self, key: tuple[str, str], rows: Sequence[DueRow]) -> None:
        claimed = False
        try:
            claimed = await self._claim(key)
            if claimed:
                try:
                    await self._try_together(rows)
                finally:
                    await self._release(key)
        except DatabaseUnavailable as error:
            self._log.warning("job waits", job=rows[0].job, id=rows[0].id, error=str(error))
        finally:
            self._running.discard(key)
            self._ended.add(key)
            self._slots.release()
            if claimed:
                # Where one row was, there may be the next. Not when another replica has it: that would be a race.
                self._pace.wake()

    async def _try_together(self, rows: Sequence[DueRow]) -> None:
        """All at once, if they are several; one by one what has failed before, and all of a batch if that fails."""
        together = [row for row in rows if not row.tries and not self._is_left_due(row)]
        apart = [row for row in rows if row.tries or self._is_left_due(row)]
        if len(together) > 1:
            if isinstance(self._jobs[rows[0].job], BatchErrand):
                await self._try_in_halves(together)
                together = []
            elif await self._try(together):
                together = []
        for row in sorted(together + apart, key=lambda row: row.due_time):
            if len(rows) > 1 and self._pace.stopping:
                return
            await self._try([row])

    async def _try_in_halves(self, rows: Sequence[DueRow]) -> None:
        """Together, or in parts that get smaller around those that cannot be done."""
        if await self._try(rows):
            return
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            if self._pace.stopping:
                return
            await self._try_in_halves(half)

    async def _try(self, rows: Sequence[DueRow]) -> bool:
        """Whether that settled them: they are done, or it is on record when they are tried again."""
        started = time.perf_counter()
        outcome = "done"
        first = rows[0]
        alone = len(rows) == 1
        current_caller.set(service_caller(self._database.service, first.seller_id))
        what: dict[str, str | int] = {"id": first.id} if alone else {"count": len(rows)}
        fields: dict[str, object] = {"job": first.job, "seller_id": first.seller_id, **what}
        attributes = {f"job.{name}": value for name, value in what.items()} | {"seller.id": first.seller_id}
        parent = first.traceparent if alone else ""
        links = () if alone else tuple(islice({row.traceparent: None for row in rows if row.traceparent}, LINKS_MAX))
        # What is logged and recorded is inside the span, so that it carries the trace.
        with self._telemetry.span(
            first.job, SpanKind.INTERNAL, parent=parent, links=links, attributes=attributes
        ) as span:
            try:
                if self._is_left_due(first):
                    raise JobLeftItsRowDue(f"{first.job} left {first.id} due at {first.due_time.isoformat()}")
                await self._carry_out(rows)
                self._remember(rows)
                if failed := [row for row in rows if row.failed]:
                    async with self._database.transaction(current_caller.get()) as tx:
                        await failures.forget(tx.driver, failed)
            except Unavailable as error:
                outcome = "unavailable"
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                self._log.warning("job waits", **fields, error=str(error))
                await self._record_failure(rows, error, tries=first.tries, wait_seconds=UNAVAILABLE_RETRY_SECONDS)
            except Exception as error:  # whatever a job raises is settled here, or row by row
                outcome = "failed"
                tries = first.tries + 1
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                if alone:
                    self._log.error("job failed", **fields, tries=tries, exc_info=error)
                    await self._record_failure(
                        rows, error, tries=tries, wait_seconds=RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1]
                    )
                else:
                    self._log.warning("batch failed", **fields, exc_info=error)
            duration = time.perf_counter() - started
            self._duration.record(duration, {"job": first.job, "outcome": outcome})
            if outcome == "done":
                self._log.debug("job", **fields, duration_ms=round(duration * 1000, 2))
        return alone or outcome != "failed"

    async def _carry_out(self, rows: Sequence[DueRow]) -> None:
        job = self._jobs[rows[0].job]
        caller = current_caller.get()
        if isinstance(job, Errand | BatchErrand):
            crashpoint("errand.started")
            desk = Desk(self._database, caller, self._neighbours)
            if isinstance(job, Errand):
                await job.run(desk, rows[0].id)
            else:
                await job.run(desk, [row.id for row in rows])
        else:
            async with self._database.transaction(caller) as tx:
                if isinstance(job, Batch):
                    await job.run(tx, [row.id for row in rows])
                else:
                    await job.run(tx, rows[0].id)
                crashpoint("job.before_commit")
        crashpoint("job.committed")

    def _is_left_due(self, row: DueRow) -> bool:
        # In a sandbox, whose time stands still, only the trace tells a row that was marked anew for the same moment
        # from one that was left as it was.
        return self._done.get((row.job, row.id)) == (row.due_time, row.traceparent)

    def _remember(self, rows: Sequence[DueRow]) -> None:
        for row in rows:
            self._done[row.job, row.id] = (row.due_time, row.traceparent)
            self._done.move_to_end((row.job, row.id))
        while len(self._done) > self._remembered_max:
            self._done.popitem(last=False)

    async def _claim(self, key: tuple[str, str]) -> bool:
        answer = await self._ask(
            "SELECT pg_try_advisory_lock($1, $2) AND nextval('progress') > 0", CLAIM_CLASS, _hash(key)
        )
        return bool(answer[0][0])

    async def _release(self, key: tuple[str, str]) -> None:
        # When the connection is gone, the claims went with it.
        with suppress(DatabaseUnavailable):
            await self._ask("SELECT pg_advisory_unlock($1, $2)", CLAIM_CLASS, _hash(key))

    async def _record_failure(
        self, rows: Sequence[DueRow], error: Exception, *, tries: int, wait_seconds: float
    ) -> None:
        dead = tries >= TRIES_MAX
        if dead or not isinstance(error, JobLeftItsRowDue):
            # Otherwise the same again: to carry it out once more would look like a success.
            for row in rows:
                self._done.pop((row.job, row.id), None)
        async with self._database.transaction(service_caller(self._database.service, rows[0].seller_id)) as tx:
            await failures.record(
                tx.driver,
                rows,
                error=repr(error)[:ERROR_LENGTH_MAX].replace("\x00", "�"),
                tries=tries,
                next_try_time=clock.wall() + timedelta(seconds=wait_seconds),
                dead=dead,
            )


def _hash(key: tuple[str, str]) -> int:
    """A signed 32-bit number for what is claimed. Two that share one wait for each other."""
    return zlib.crc32("\n".join(key).encode()) - (1 << 31)


# Row-level security makes the planner expect a hundredth of the rows: it would read and sort all that are due, however
# many, where an index has the oldest first.
_IN_ORDER_OF_INDEX: Final = "SET enable_sort = off;"
