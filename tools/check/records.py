"""Knows where the data of every service is, and reads all of it: tables as they are, one snapshot per database."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import asyncpg

from common import clock, ids
from tools.check.journal import Entry, read_journal

SERVICES: Final = ("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
GATEWAY: Final = "simulated_gateway"
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 120

T = TypeVar("T")
Row = Mapping[str, Any]  # Any: whatever the columns of the tables hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where to read."""

    databases: Mapping[str, str]
    """The URL of each service's database, and of the simulated gateway's, by name."""
    journals: Sequence[Path] = ()
    """What clients wrote down of what they sent and what was acknowledged."""
    seller_id: str = ""
    """Only this seller's rows; empty means everything."""


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that was read."""

    tables: Mapping[str, Mapping[str, Sequence[Row]]]
    entries: Sequence[Entry]
    at: datetime
    """Wall time of the reading: what time it is for a live seller."""
    _indexes: dict[tuple[str, str, str], dict[Any, list[Row]]] = field(default_factory=dict)  # Any: values of a column
    _made: dict[str, Any] = field(default_factory=dict)  # Any: whatever is made of them

    def has(self, service: str) -> bool:
        return service in self.tables

    def rows(self, service: str, table: str) -> Sequence[Row]:
        return self.tables[service].get(table, ())

    def by(self, service: str, table: str, column: str) -> Mapping[Any, Sequence[Row]]:  # Any: values of the column
        """The rows of a table by the value of a column."""
        key = (service, table, column)
        if key not in self._indexes:
            index: dict[Any, list[Row]] = defaultdict(list)  # Any: as above
            for row in self.rows(service, table):
                index[row[column]].append(row)
            self._indexes[key] = dict(index)
        return self._indexes[key]

    def once(self, what: str, make: Callable[[], T]) -> T:
        """What several invariants need, made by the first of them."""
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made

    def now(self, service: str, seller_id: str) -> datetime:
        """What time it is for a seller in a service."""
        if not ids.is_sandbox(seller_id):
            return self.at
        told = self.by(service, "clocks", "seller_id").get(seller_id)
        time: datetime = told[0]["time"] if told else ids.instant_of(seller_id)
        return time


async def read_records(sources: Sources) -> Records:
    """All tables of all databases that are given."""
    async with Reader() as reader:
        return await reader.read(sources)


class Reader:
    """Reads the same databases again and again, with what the server has come to know of their tables."""

    def __init__(self) -> None:
        self._connections: dict[str, asyncpg.Connection] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        connections, self._connections = self._connections, {}
        await asyncio.gather(*(each.close(timeout=CONNECT_SECONDS) for each in connections.values()))

    async def read(self, sources: Sources) -> Records:
        """All tables of all databases that are given."""
        names = [name for name in (*SERVICES, GATEWAY) if name in sources.databases]
        read = await asyncio.gather(*(self._read(sources.databases[name], sources.seller_id) for name in names))
        entries = [
            entry
            for path in sources.journals
            for entry in read_journal(path)
            if sources.seller_id in ("", entry.seller_id)
        ]
        return Records(tables=dict(zip(names, read, strict=True)), entries=entries, at=clock.wall())

    async def _read(self, url: str, seller_id: str) -> dict[str, Sequence[Row]]:
        connection = self._connections.get(url)
        if connection is None:
            connection = self._connections[url] = await _connected(url)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await read_tables(connection, seller_id)


async def _connected(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        url.replace("postgresql+asyncpg://", "postgresql://", 1),
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        server_settings={"application_name": "saldo check", "timezone": "UTC"},
    )


async def read_tables(connection: asyncpg.Connection, seller_id: str = "") -> dict[str, Sequence[Row]]:
    """All tables of one database, as the transaction of the connection sees them."""
    # Row-level security shows nothing without a seller, and everything to this one.
    await connection.execute("SELECT set_config('saldo.seller', '*', true)")
    tables = await connection.fetch(_TABLES)
    return {row["name"]: await _rows(connection, row["name"], seller_id if row["of_sellers"] else "") for row in tables}


async def _rows(connection: asyncpg.Connection, table: str, seller_id: str) -> Sequence[Row]:
    query = f'SELECT * FROM "{table}"'  # a name from the catalog of the server itself
    found: Any = await (  # Any: asyncpg's rows are mappings that do not say so
        connection.fetch(f"{query} WHERE seller_id = $1", seller_id) if seller_id else connection.fetch(query)
    )
    rows: Sequence[Row] = found
    return rows


# Of the log of usage events the view that says it in words, and not what the service needs to write it.
_TABLES: Final = """
SELECT t.relname AS name,
       EXISTS (SELECT FROM pg_attribute c WHERE c.attrelid = t.oid AND c.attname = 'seller_id' AND NOT c.attisdropped)
       AS of_sellers
FROM pg_class t
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p', 'v') AND t.relname <> ALL (
    ARRAY['alembic_version', 'usage_log', 'usage_segments', 'usage_filters', 'usage_keys'])
"""
