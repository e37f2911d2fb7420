"""Knows when something is due: what a service declares about its time, and the questions that follow from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, String, func, literal, literal_column, not_, or_, select, union_all
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from common.db import Tx
from common.ids import SANDBOX
from common.neighbours import Desk


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


_clocks = sql_table(
    "clocks",
    sql_column("seller_id", String),
    sql_column("time", TIMESTAMP(timezone=True)),
    sql_column("hold_until", TIMESTAMP(timezone=True)),  # by wall time
)

_RANKED: Final = """
SELECT d.job, d.seller_id, d.id, d.due_time, d.traceparent, coalesce(f.attempts, 0) AS tries, f.id IS NOT NULL AS failed
FROM ({rows}) d LEFT JOIN job_failures f ON f.job = d.job AND f.id = d.id
WHERE f.id IS NULL OR (NOT f.dead AND f.next_try_time <= $1)
ORDER BY d.due_time, d.job, d.id LIMIT {limit}
"""

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


def due_rows(jobs: Sequence[Job | Errand], *, limit: int) -> str:
    """What is due now: one query for all jobs, each part able to use an index on its due time.

    Live sellers are compared with wall time ($1), sandboxes with their own.
    """
    parts = []
    wall: ColumnElement[datetime] = literal_column("$1::timestamptz")
    for job in jobs:
        rows = job.due.subquery()
        due = rows.c.due_time
        live = not_(func.starts_with(rows.c.seller_id, f"{SANDBOX}_"))
        parts.append(_columns(job, rows).where(live, due <= wall))
        in_sandbox = _columns(job, rows).join(_clocks, _clocks.c.seller_id == rows.c.seller_id)
        free = or_(_clocks.c.hold_until.is_(None), _clocks.c.hold_until <= wall)
        parts.append(in_sandbox.where(due <= _clocks.c.time, free))
    return _RANKED.format(rows=_sql(parts), limit=limit)


def due_moments(jobs: Sequence[Job | Errand]) -> str:
    """All that has a due moment for one seller ($1), now or later ($2 is now)."""
    seller: ColumnElement[str] = literal_column("$1::text")
    parts = []
    for job in jobs:
        rows = job.due.subquery()
        parts.append(_columns(job, rows).where(rows.c.seller_id == seller))
    return _SELLER_AGENDA.format(rows=_sql(parts))


def forget_settled(jobs: Sequence[Job | Errand]) -> str:
    """Failures of rows with nothing due any more: somebody died after doing them, before forgetting how they failed."""
    return _SETTLED.format(rows=_sql([_columns(job, job.due.subquery()) for job in jobs]))


def _columns(job: Job | Errand, rows: Any) -> Select[Any]:  # Any: a subquery of columns known by convention
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
