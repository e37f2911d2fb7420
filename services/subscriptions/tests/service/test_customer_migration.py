"""Customers that older releases wrote, as this one keeps them."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg

from common.migrate import migrate
from common.testing import Databases

CREATED = datetime(2025, 3, 1, tzinfo=UTC)
OLDER_RELEASE = f"""
INSERT INTO customers VALUES
    ('sel_1', 'cus_ada', 'key', 'Ada', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}'),
    ('sel_1', 'cus_bob', NULL, 'Bob', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}'),
    ('sel_2', 'cus_eve', 'key', 'Eve', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}');
"""


async def test_the_external_ids_of_every_seller_become_keys(databases: Databases) -> None:
    """Otherwise a key that is somebody's could be given to somebody else. All are active, and billed as before."""
    url = await databases.create("subscriptions_older_release")
    await migrate(url, "subscriptions", revision="0002")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(OLDER_RELEASE)
        await migrate(url, "subscriptions", revision="0003")
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
