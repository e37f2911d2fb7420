"""Knows how new events are committed: what they change, and their rows, in one message to the database.

    BEGIN; whose shard it is, keys, positions, requests; COPY ─► rows ─► COMMIT                      one way and back
    the same, corrections and backfills, each by itself, COMMIT                                      one each

Each way is a wait for a processor that something else may have. With four of them a commit took two to three times as
long while a leaf got its indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg

from common.db import DatabaseUnavailable
from metering.log.correction import Correction
from metering.log.rows import COLUMNS, CORRECTION_COLUMNS, copy, framed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """What one request added to the log."""

    seller_id: str
    position: int
    """Of the last of its events."""
    traceparent: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What one correction added to the log."""

    seller_id: str
    correction: Correction
    position: int
    """Of the row that takes an event away. That of the event as it is amended follows."""
    is_amended: bool
    stream: int
    day: date
    """Of UTC, of the event that is taken away."""
    rows: bytes
    create_time: datetime


async def prepare(connection: asyncpg.Connection) -> None:
    """Once for a connection by which is committed."""
    await connection.execute(_PREPARE)


def begin(
    *,
    shard: int,
    epoch: int,
    leaf: int,
    sequence: int,
    keys: bytes,
    lasts: Sequence[tuple[str, int]],
    ingests: Sequence[Ingest],
) -> str:
    """What a commit of new events begins with, as a text: parameters could not go together with what follows."""
    values = (
        str(shard),
        str(epoch),
        str(leaf),
        str(sequence),
        f"'\\x{keys.hex()}'",
        _array([seller_id for seller_id, _ in lasts]),
        _array([str(last) for _, last in lasts]),
        _array([each.seller_id for each in ingests]),
        _array([str(each.position) for each in ingests]),
        _array([each.traceparent for each in ingests]),
        _array([each.time.isoformat() for each in ingests]),
    )
    return f"BEGIN; EXECUTE ingest ({', '.join(values)})"


async def commit_rows(connection: asyncpg.Connection, begin: str, leaf: int, parts: Iterable[bytes]) -> None:
    """Commit what has nothing but rows. Fails with DatabaseUnavailable when the shard is not ours any more."""
    copying = f"COPY leaves.usage_{leaf} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
    with _fenced():
        # The library's own way to copy takes one statement and waits for nothing before it sends the rows: it does so
        # with several as well. When one of them fails, the database does none after it, and passes over the rows.
        ended = await connection._copy_in(f"{begin}; {copying}; COMMIT", framed(parts), None)  # type: ignore[attr-defined]
    if ended != "COMMIT":
        raise DatabaseUnavailable(f"what was committed ended with {ended}")


async def start(connection: asyncpg.Connection, begin: str) -> None:
    """Begin a commit that has more than rows; fails as `commit_rows` does."""
    with _fenced():
        await connection.execute(begin)


async def commit(connection: asyncpg.Connection) -> None:
    await connection.execute("COMMIT")


async def write(connection: asyncpg.Connection, leaf: int, parts: Sequence[bytes]) -> None:
    await copy(connection, f"usage_{leaf}", parts, columns=COLUMNS, schema="leaves")


async def write_corrections(connection: asyncpg.Connection, leaf: int, corrected: Sequence[Corrected]) -> None:
    """Their rows; who corrected what, and why; and by what is counted, that something was corrected there."""
    parts = [each.rows for each in corrected]
    await copy(connection, f"usage_{leaf}", parts, columns=CORRECTION_COLUMNS, schema="leaves")
    await connection.executemany(
        "INSERT INTO usage_corrections (seller_id, corrects, position, amended_position, source, event_id, number,"
        " stream, day, reason, actor, request_id, create_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        [
            (
                each.seller_id,
                each.correction.corrects,
                each.position,
                each.position + 1 if each.is_amended else None,
                each.correction.source,
                each.correction.event_id,
                each.correction.number,
                each.stream,
                each.day,
                each.correction.reason,
                each.correction.actor,
                each.correction.request_id,
                each.create_time,
            )
            for each in corrected
        ],
    )


def _array(values: Iterable[str]) -> str:
    """Texts as one literal of an array. What comes from a caller is among them."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''") for value in values)
    return "'{" + ",".join(f'"{each}"' for each in quoted) + "}'"


@contextmanager
def _fenced() -> Iterator[None]:
    """There was no shard of that epoch, and so none for the keys."""
    try:
        yield
    except asyncpg.NotNullViolationError as error:
        if error.table_name != "usage_segments":
            raise
        raise DatabaseUnavailable("another replica owns the shard now") from error


# The row of the shard is held until the commit: a new owner waits for it, and comes after it.
_PREPARE: Final = """
PREPARE ingest (integer, bigint, integer, bigint, bytea, text[], bigint[], text[], bigint[], text[], timestamptz[]) AS
WITH owner AS (
    SELECT shard FROM shards WHERE shard = $1 AND epoch = $2 FOR SHARE
), reached AS (
    UPDATE positions p SET last = n.last FROM unnest($6, $7) AS n (seller_id, last), owner
    WHERE p.seller_id = n.seller_id
), recorded AS (
    INSERT INTO ingests (seller_id, position, traceparent, create_time)
    SELECT n.* FROM unnest($8, $9, $10, $11) AS n (seller_id, position, traceparent, create_time), owner
)
INSERT INTO usage_segments (shard, sequence, leaf, keys) VALUES ((SELECT shard FROM owner), $4, $3, $5)
"""
