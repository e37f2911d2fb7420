"""Customers that older releases wrote, as this one keeps them."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from common.testing import Databases

CREATED = datetime(2025, 3, 1, tzinfo=UTC)
OLDER_RELEASE = f"""
INSERT INTO customers VALUES
    ('sel_1', 'cus_ada', 'key', 'Ada', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}'),
    ('sel_1', 'cus_bob', NULL, 'Bob', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}'),
    ('sel_2', 'cus_eve', 'key', 'Eve', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}');
"""


async def upgraded_to(url: str, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", "subscriptions:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()

    engine = create_async_engine(url, poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


async def test_the_external_ids_of_every_seller_become_keys(databases: Databases) -> None:
    """Otherwise a key that is somebody's could be given to somebody else. All are active, and billed as before."""
    url = await databases.create("subscriptions_older_release")
    await upgraded_to(url, "0002")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(OLDER_RELEASE)
        await upgraded_to(url, "0003")
        keys = await connection.fetch("SELECT * FROM customer_keys ORDER BY seller_id")
        customers = await connection.fetch(
            "SELECT id, state, aliases, parent_id, payer_id, billing_day, delivery FROM customers ORDER BY id"
        )
        await connection.execute("SELECT set_config('saldo.seller', 'sel_2', false)")
        seen = await connection.fetch("SELECT seller_id FROM customer_keys")
    finally:
        await connection.close()
        await databases.drop(url)
    assert [tuple(row) for row in keys] == [
        ("sel_1", "key", "cus_ada", "EXTERNAL_ID"),
        ("sel_2", "key", "cus_eve", "EXTERNAL_ID"),
    ]
    assert [tuple(row) for row in customers] == [
        (customer, "ACTIVE", [], None, None, 0, "EMAIL") for customer in ("cus_ada", "cus_bob", "cus_eve")
    ]
    assert [row["seller_id"] for row in seen] == ["sel_2"]
