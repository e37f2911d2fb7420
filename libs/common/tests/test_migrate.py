"""A database gets its shape by migrations, whoever runs them how often, and the shape is the one the code speaks of."""

from __future__ import annotations

import asyncio

import asyncpg

from common import migrate
from common.migrate import CHASSIS_TABLES
from common.testing import Databases
from libs.common.tests.notebook import store
from libs.common.tests.notebook.main import PACKAGE


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in found}


async def test_a_migrated_database_is_what_the_code_speaks_of(url: str) -> None:
    """Tables in code and tables in the database are written separately."""
    assert await migrate.differences(url, store.metadata) == []
    assert await tables(url) == CHASSIS_TABLES | {table.name for table in store.metadata.sorted_tables}


async def test_a_difference_is_told(url: str) -> None:
    """Or the test above could not fail."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("ALTER TABLE notes DROP COLUMN text")
    await connection.close()
    assert "notes" in str(await migrate.differences(url, store.metadata))


async def test_migrating_again_changes_nothing(url: str) -> None:
    """Every replica migrates when it starts."""
    await migrate.migrate(url, PACKAGE)
    assert await migrate.differences(url, store.metadata) == []


async def test_replicas_that_start_together_migrate_once(databases: Databases) -> None:
    """All of them try; one does it, the others wait for it."""
    await databases.create("archive", migrated=PACKAGE)  # so that the role exists
    empty = databases.url("archive", "archive_empty")
    async with databases._admin() as admin:
        await admin.execute("DROP DATABASE IF EXISTS archive_empty")
        await admin.execute('CREATE DATABASE archive_empty OWNER "archive"')
    try:
        await asyncio.gather(*(migrate.migrate(empty, PACKAGE) for _ in range(3)))
        assert await migrate.differences(empty, store.metadata) == []
    finally:
        await databases.drop(empty)
