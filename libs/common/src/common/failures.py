"""Knows the record of due rows that failed: how often, when each is tried again, and which were given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from common.due import DueRow


async def record(
    driver: asyncpg.Connection, rows: Sequence[DueRow], *, error: str, tries: int, next_try_time: datetime, dead: bool
) -> None:
    """Rows of one job and seller that failed together, or one alone."""
    first = rows[0]
    ids = [row.id for row in rows]
    await driver.execute(
        "INSERT INTO job_failures (job, id, seller_id, attempts, next_try_time, error, dead)"
        " SELECT $1, id, $3, $4, $5, $6, $7 FROM unnest($2::text[]) AS t (id)"
        " ON CONFLICT (job, id) DO UPDATE SET attempts = excluded.attempts,"
        " next_try_time = excluded.next_try_time, error = excluded.error, dead = excluded.dead",
        first.job,
        ids,
        first.seller_id,
        tries,
        next_try_time,
        error,
        dead,
    )
    if dead:
        await driver.execute(
            "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
            " SELECT id, $2, $3, '{}', '', $4, $5 FROM unnest($1::text[]) AS t (id)"
            " ON CONFLICT (id) DO UPDATE SET error = excluded.error",
            [dead_letter_id(first.job, row_id) for row_id in ids],
            first.seller_id,
            f"job {first.job}",
            error,
            tries,
        )


async def forget(driver: asyncpg.Connection, rows: Sequence[DueRow]) -> None:
    """Rows of one job that have been done after all."""
    await driver.execute(
        "DELETE FROM job_failures WHERE job = $1 AND id = ANY($2::text[])", rows[0].job, [row.id for row in rows]
    )


async def try_again(driver: asyncpg.Connection, job: str, ids: Sequence[str]) -> None:
    """Rows of one job, as if they had never failed: those that were given up, too."""
    await driver.execute("DELETE FROM job_failures WHERE job = $1 AND id = ANY($2::text[])", job, ids)
    letters = [dead_letter_id(job, row_id) for row_id in ids]
    await driver.execute("DELETE FROM dead_letters WHERE id = ANY($1::text[])", letters)


def dead_letter_id(job: str, row_id: str) -> str:
    return f"job:{job}:{row_id}"
