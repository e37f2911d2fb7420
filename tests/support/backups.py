"""Knows how an operator makes a backup of one service's database and puts it back, in a suite that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from common.clock import wall
from tools.suite import Suite

EARLIER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The database of one service, as it was at a moment."""

    service: str
    name: str
    time: datetime
    """By the wall's clock, and a little before everything that is not in it."""


async def back_up(suite: Suite, service: str) -> Backup:
    backup = Backup(service=service, name=f"{service}_{wall():%H%M%S%f}", time=wall().astimezone(UTC) - EARLIER)
    async with _closed(suite, service) as admin:
        await admin.execute(f'CREATE DATABASE "{backup.name}" TEMPLATE "{service}" OWNER "{service}"')
    return backup


async def put_back(suite: Suite, backup: Backup) -> None:
    """Everything since then is gone, from the database and from the memory of whoever worked with it."""
    async with _closed(suite, backup.service) as admin:
        suite.kill(backup.service)
        await admin.execute(f'DROP DATABASE "{backup.service}" WITH (FORCE)')
        await admin.execute(f'ALTER DATABASE "{backup.name}" RENAME TO "{backup.service}"')
        await admin.execute(f'REVOKE ALL ON DATABASE "{backup.service}" FROM PUBLIC')
    suite.await_healthy()


@asynccontextmanager
async def _closed(suite: Suite, service: str) -> AsyncIterator[asyncpg.Connection]:
    """Nobody is connected to the database, and nobody can be."""
    servers = suite.stack.servers()
    assert servers is not None, "the suite runs"
    admin = await asyncpg.connect(servers.postgres_url)
    try:
        await admin.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", service)
        yield admin
        await admin.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS true')
    finally:
        await admin.close()
