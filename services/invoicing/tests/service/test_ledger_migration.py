"""Sellers who had invoices before there were books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg

from common import ids
from common.migrate import migrate
from common.testing import SANDBOX_START, Databases

LIVE, SANDBOX = ids.mint("sel", SANDBOX_START), ids.mint(ids.SANDBOX, SANDBOX_START)
BEFORE = f"""
INSERT INTO invoices (
    seller_id, id, state, customer_id, currency, line_count, total_minor, amount_paid_minor, collection_method,
    time_zone, bill_time, finalize_time, revision, create_time, traceparent
)
SELECT seller_id, 'inv_' || nth, 'DRAFT', 'cus_1', 'EUR', 0, 0, 0, 'SEND_INVOICE', 'UTC', at, at, 1, at, ''
FROM (VALUES ('{LIVE}'), ('{SANDBOX}')) s (seller_id),
     (VALUES (1, timestamptz '2026-01-05'), (2, '2026-01-07'), (3, '2026-01-06')) i (nth, at)
"""


async def test_whoever_has_invoices_is_noted(databases: Databases) -> None:
    """An hour later nobody bills without books any more; in a sandbox, whose time is its own, at once."""
    url = await databases.create("invoicing_before_books")
    await migrate(url, "invoicing", revision="0007")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(BEFORE)
        began = await connection.fetchval("SELECT now()")
        await migrate(url, "invoicing", revision="0008")
        noted = {row["seller_id"]: row for row in await connection.fetch("SELECT * FROM ledger_backfills")}
        await connection.execute(f"SELECT set_config('saldo.seller', '{LIVE}', false)")
        seen = await connection.fetch("SELECT seller_id FROM ledger_backfills")
    finally:
        await connection.close()
        await databases.drop(url)
    assert {seller_id: row["after_id"] for seller_id, row in noted.items()} == {LIVE: "", SANDBOX: ""}
    assert noted[SANDBOX]["next_time"] == datetime(2026, 1, 7, tzinfo=UTC)
    waits = noted[LIVE]["next_time"] - began
    assert timedelta(hours=1) <= waits < timedelta(hours=1, minutes=5)
    assert [row["seller_id"] for row in seen] == [LIVE]
