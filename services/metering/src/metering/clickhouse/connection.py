"""Knows how ClickHouse is reached, and the table it has the copy in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from metering.domain.errors import UsageStoreUnavailable

if TYPE_CHECKING:
    from clickhouse_connect.driver import AsyncClient

CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 30
"""As long as a statement of PostgreSQL may take."""
RETRY_SECONDS: Final = 5
QUERY_BYTES_MAX: Final = 8 << 20
"""Of a statement: who asks about thousands names them all."""

COLUMNS: Final = (
    "seller_id",
    "position",
    "stream",
    "source",
    "time",
    "value",
    "event_id",
    "corrects",
    "version",
    "told",
)
"""As they are inserted."""

# What is inserted again replaces itself: a row is the same one if all that it is sorted by is. Time is in microseconds
# since 1970: whole numbers hold every one of them.
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS usage_log (
    seller_id LowCardinality(String),
    stream Int64,
    time Int64 CODEC(Delta, ZSTD),
    position Int64 CODEC(Delta, ZSTD),
    source LowCardinality(String),
    event_id String CODEC(ZSTD),
    value Decimal(38, 12) CODEC(ZSTD),
    dimensions Map(LowCardinality(String), String)
        DEFAULT JSONExtract(if(empty(told), '{}', told), 'Map(String, String)'),
    corrects Int64 DEFAULT 0,
    version Int32 DEFAULT 0,
    told String EPHEMERAL
) ENGINE = ReplacingMergeTree ORDER BY (seller_id, stream, time, position)
"""


class Connection:
    """Opened by whoever asks first; a new one when the last was lost."""

    def __init__(self, url: str) -> None:
        """http:// or https://, with name and password if need be, and the database as its path."""
        self._url = url
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Before anybody asks: it takes a while."""
        await self._opened()

    async def rows(self, sql: str, parameters: Mapping[str, object]) -> Sequence[Sequence[Any]]:  # Any: of any type
        from clickhouse_connect.driver.exceptions import OperationalError

        client = await self._opened()
        try:
            return (await client.query(sql, parameters=dict(parameters), settings=_SETTINGS)).result_rows
        except (OperationalError, OSError, TimeoutError) as error:
            raise _unavailable() from error

    async def insert(self, block: bytes) -> None:
        """Rows of COLUMNS, as PostgreSQL writes them by COPY: ClickHouse calls that TabSeparated."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        client = await self._opened()
        try:
            await client.raw_insert("usage_log", list(COLUMNS), insert_block=block, fmt="TabSeparated")
        except (ClickHouseError, OSError, TimeoutError) as error:
            raise _unavailable() from error

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _opened(self) -> AsyncClient:
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def _open(self) -> AsyncClient:
        # A third of a second and ten megabytes, that only those are to have who use it.
        from clickhouse_connect import get_async_client
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            client = await get_async_client(
                dsn=self._url,
                connect_timeout=CONNECT_SECONDS,
                send_receive_timeout=ANSWER_SECONDS,
                autogenerate_session_id=False,
                query_retries=0,
            )
        except (ClickHouseError, OSError, TimeoutError) as error:
            raise _unavailable() from error
        try:
            await client.command(_TABLE)
        except (ClickHouseError, OSError, TimeoutError) as error:
            await client.close()
            raise _unavailable() from error
        return client


_SETTINGS: Final = {"max_query_size": QUERY_BYTES_MAX}


def _unavailable() -> UsageStoreUnavailable:
    return UsageStoreUnavailable("ClickHouse does not answer", retry_seconds=RETRY_SECONDS)
