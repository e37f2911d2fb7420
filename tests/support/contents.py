"""Knows whether anything was stored: one fingerprint over every row of a seller in one service's database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import asyncpg

# The clock row of a sandbox appears with its first call, whatever becomes of that.
_TABLES: Final = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name = 'seller_id' AND table_name <> 'clocks'
ORDER BY table_name
"""


class Contents:
    """Connections to the databases of the services, as somebody who sees every row."""

    def __init__(self, connections: Mapping[str, asyncpg.Connection], queries: Mapping[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    @classmethod
    async def open(cls, databases: Mapping[str, str]) -> Self:
        connections, queries = {}, {}
        for service, url in databases.items():
            connections[service] = connection = await asyncpg.connect(url)
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            tables = [row["table_name"] for row in await connection.fetch(_TABLES)]
            queries[service] = " UNION ALL ".join(
                f"SELECT '{table}' AS name, count(*) AS rows,"
                f" md5(string_agg(t::text, '' ORDER BY t::text)) AS digest FROM {table} t WHERE seller_id = $1"
                for table in tables
            )
        return cls(connections, queries)

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def of(self, service: str, seller_id: str) -> dict[str, tuple[int, str]]:
        """By table: how many rows the seller has, and their digest."""
        rows = await self._connections[service].fetch(self._queries[service], seller_id)
        return {row["name"]: (row["rows"], row["digest"]) for row in rows}
