"""Knows when something is due: what a service declares about its time, and the questions that follow from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from common.db import Tx
from common.ids import SANDBOX, SellerId
from common.neighbours import Desk

BATCH_SIZE: Final = 500
BATCH_SIZE_MAX: Final = 1_000
BATCHES_PER_SCAN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something done to a row when its time has come, in one transaction: `run(tx, id)`."""

    name: str
    due: Select[Any]  # Any: the columns are by convention, see `common.jobs`
    run: Callable[[Tx, str], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A job that asks others on the way and opens its own transactions: `run(desk, id)`."""

    name: str
    due: Select[Any]  # Any: as in Job
    run: Callable[[Desk, str], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InBatches:
    """What is done for up to `size` rows of one seller together, because they come due in thousands."""

    name: str
    due: Select[Any]  # Any: as in Job
    size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        if not 1 <= self.size <= BATCH_SIZE_MAX:
            raise ValueError(f"a batch is of 1 to {BATCH_SIZE_MAX} rows")

    @property
    def rows_per_scan(self) -> int:
        return BATCHES_PER_SCAN * self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(InBatches):
    """A job for many rows at once, in one transaction: `run(tx, ids)`.

    Locks the rows, in one order, and looks again, like a job; a row may have several due moments behind it, and `run`
    settle only some of them. When it raises, each row is carried out by itself: then `ids` is one id.
    """

    run: Callable[[Tx, Sequence[str]], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchErrand(InBatches):
    """An errand for many rows at once: `run(desk, ids)`.

    When it raises, each half of the rows is carried out by itself, and so on: one that can never be done costs the
    others that they are done in smaller batches, once.
    """

    run: Callable[[Desk, Sequence[str]], Awaitable[object]]


Scheduled = Job | Errand | Batch | BatchErrand


@dataclass(frozen=True, slots=True)
class DueRow:
    """A row whose time has come, and how it has fared so far."""

    job: str
    seller_id: SellerId
    id: str
    due_time: datetime
    traceparent: str
    tries: int
    failed: bool


_clocks = sql_table(
    "clocks",
    sql_column("seller_id", String),
    sql_column("time", TIMESTAMP(timezone=True)),
    sql_column("hold_until", TIMESTAMP(timezone=True)),  # by wall time
)

_failures = sql_table(
    "job_failures",
    sql_column("job", String),
    sql_column("id", String),
    sql_column("attempts", Integer),
    sql_column("next_try_time", TIMESTAMP(timezone=True)),
    sql_column("dead", Boolean),
)

_OLDEST: Final = "SELECT * FROM ({rows}) d ORDER BY due_time, job, id LIMIT {limit}"

_SELLER_AGENDA: Final = """
SELECT count(*) FILTER (WHERE d.due_time <= $2 AND f.dead IS NOT TRUE),
       count(*) FILTER (WHERE f.dead IS FALSE),
       min(d.due_time) FILTER (WHERE d.due_time > $2 AND f.dead IS NOT TRUE)
FROM ({rows}) d LEFT JOIN job_failures f ON f.job = d.job AND f.id = d.id
"""


_SETTLED: Final = """
DELETE FROM job_failures f
WHERE NOT f.dead AND NOT EXISTS (SELECT FROM ({rows}) d WHERE d.job = f.job AND d.id = f.id)
"""


def due_rows(jobs: Sequence[Scheduled], *, limit: int) -> str:
    """What is due now, the oldest first: one query for all jobs, each part able to use an index on its due time.

    Live sellers are compared with wall time ($1), sandboxes with their own.
    """
    return _due(jobs, limit=limit)


def due_for_batches(batches: Sequence[Batch | BatchErrand]) -> str:
    """The same, as much of each as one scan may take, of all sellers but some ($2)."""
    others: ColumnElement[bool] = literal_column("r.seller_id <> ALL($2::text[])")
    parts = [f"({_due([batch], others, limit=batch.rows_per_scan)})" for batch in batches]
    return " UNION ALL ".join(parts)


def _due(jobs: Sequence[Scheduled], *conditions: ColumnElement[bool], limit: int) -> str:
    parts = []
    wall: ColumnElement[datetime] = literal_column("$1::timestamptz")
    any_sandbox: ColumnElement[bool] = literal_column("EXISTS (SELECT FROM clocks)")  # or nothing is read
    for job in jobs:
        rows = job.due.subquery("r")
        due = rows.c.due_time
        live = not_(func.starts_with(rows.c.seller_id, f"{SANDBOX}_"))
        in_sandbox = _columns(job, rows).join(_clocks, _clocks.c.seller_id == rows.c.seller_id)
        free = or_(_clocks.c.hold_until.is_(None), _clocks.c.hold_until <= wall)
        for part in (
            _columns(job, rows).where(live, due <= wall),
            in_sandbox.where(any_sandbox, due <= _clocks.c.time, free),
        ):
            known = and_(_failures.c.job == job.name, _failures.c.id == rows.c.id)
            ready = or_(_failures.c.id.is_(None), and_(not_(_failures.c.dead), _failures.c.next_try_time <= wall))
            tried = part.join(_failures, known, isouter=True).add_columns(
                func.coalesce(_failures.c.attempts, 0).label("tries"), _failures.c.id.is_not(None).label("failed")
            )
            # Ordered and limited here already, by time alone: an index on it is read no further than needed.
            parts.append(tried.where(ready, *conditions).order_by(due).limit(limit))
    return _OLDEST.format(rows=_sql(parts), limit=limit)


def due_moments(jobs: Sequence[Scheduled]) -> str:
    """All that has a due moment for one seller ($1), now or later ($2 is now)."""
    seller: ColumnElement[str] = literal_column("$1::text")
    parts = []
    for job in jobs:
        rows = job.due.subquery()
        parts.append(_columns(job, rows).where(rows.c.seller_id == seller))
    return _SELLER_AGENDA.format(rows=_sql(parts))


def forget_settled(jobs: Sequence[Scheduled]) -> str:
    """Failures of rows with nothing due any more: somebody died after doing them, before forgetting how they failed."""
    return _SETTLED.format(rows=_sql([_columns(job, job.due.subquery()) for job in jobs]))


def _columns(job: Scheduled, rows: Any) -> Select[Any]:  # Any: a subquery of columns known by convention
    traceparent = rows.c.traceparent if "traceparent" in rows.c else literal("")
    return select(
        literal(job.name).label("job"),
        rows.c.seller_id,
        rows.c.id,
        rows.c.due_time,
        traceparent.label("traceparent"),
    ).select_from(rows)


def _sql(parts: Sequence[Select[Any]]) -> str:  # Any: as in Job
    """The text of a union, its constants written out, for a connection without SQLAlchemy around it."""
    dialect = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves its dialects untyped
    return str(union_all(*parts).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
