"""Knows how to show that the database keeps what was written, also from the service itself."""

from __future__ import annotations

import asyncpg
import pytest


async def each_refused(connection: asyncpg.Connection, *statements: str, because: str) -> None:
    """By a trigger of the table, with these words."""
    for statement in statements:
        with pytest.raises(asyncpg.RaiseError, match=because):
            await connection.execute(statement)
