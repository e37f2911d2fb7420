"""What a commit begins with goes to the database as a text: nothing in it is ever read as anything but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from common.db import DatabaseUnavailable
from common.testing import Suite
from metering.log import commits
from metering.log.commits import Ingest

AT = datetime(2026, 3, 29, 1, 30, 0, 123_456, tzinfo=UTC)
HOSTILE = [
    "'",
    "''; DROP TABLE ingests; --",
    '"',
    '\\"',
    "\\",
    "\\'}",
    "{}",
    "{a,b}",
    "NULL",
    " blank ",
    "",
    "$1",
    "$$",
    "%s",
    "é € 🜚",
    "new\nline",
    "U&'\\0041'",
    "E'\\x41'",
]


@pytest.fixture
async def connection(suite: Suite, metering: Any) -> asyncpg.Connection:  # Any: grpc's stubs
    """Of a database whose shard somebody owns."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    await connection.execute("SELECT set_config('saldo.seller', '*', false)")
    await commits.prepare(connection)
    return connection


def begin(*, shard: int = 0, epoch: int, traceparents: list[str]) -> str:
    ingests = [
        Ingest(seller_id="sel_01h455vb4pex5vsknk084sn02q", position=n, traceparent=each, time=AT)
        for n, each in enumerate(traceparents, 1)
    ]
    keys = bytes(range(256)) * 2
    return commits.begin(shard=shard, epoch=epoch, leaf=1, sequence=10**15, keys=keys, lasts=[], ingests=ingests)


async def test_texts_of_any_kind_are_kept_as_they_came(connection: asyncpg.Connection) -> None:
    """Quotes, backslashes, braces and what SQL gives a meaning; and keys with every byte there is."""
    try:
        epoch = await connection.fetchval("SELECT epoch FROM shards WHERE shard = 0")
        await commits.start(connection, begin(epoch=epoch, traceparents=HOSTILE))
        rows = await connection.fetch("SELECT traceparent, create_time FROM ingests ORDER BY position")
        keys = await connection.fetchval("SELECT keys FROM usage_segments WHERE sequence = $1", 10**15)
        await connection.execute("ROLLBACK")
    finally:
        await connection.close()
    assert [row["traceparent"] for row in rows] == HOSTILE
    assert {row["create_time"] for row in rows} == {AT}
    assert keys == bytes(range(256)) * 2


@pytest.mark.parametrize("is_whole", [True, False], ids=["in one message", "step by step"])
async def test_who_does_not_own_the_shard_is_told_so(connection: asyncpg.Connection, is_whole: bool) -> None:
    """Nothing of it is stored, and the rows that were sent along are passed over."""
    try:
        epoch = await connection.fetchval("SELECT epoch FROM shards WHERE shard = 0")
        text = begin(epoch=epoch + 1, traceparents=["a"])
        with pytest.raises(DatabaseUnavailable, match="another replica owns the shard now"):
            await (
                commits.commit_rows(connection, text, 1, [b"never read"] * 10_000)
                if is_whole
                else commits.start(connection, text)
            )
        await connection.execute("ROLLBACK")
        assert await connection.fetchval("SELECT count(*) FROM ingests") == 0
    finally:
        await connection.close()
