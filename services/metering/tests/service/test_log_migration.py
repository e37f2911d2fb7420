"""What was stored before there was a log is in it, and is known there."""

from __future__ import annotations

import asyncio

import asyncpg

from common import ids
from common.db import Database
from common.migrate import migrate
from common.telemetry import Telemetry
from common.testing import SANDBOX_START, Databases
from metering.log import Log
from services.metering.tests.service.test_log import batch

SELLER = ids.mint(ids.SANDBOX, SANDBOX_START)
BEFORE = f"""
INSERT INTO positions (seller_id, last) VALUES ('{SELLER}', 3), ('sel_other', 1);
INSERT INTO ingests (seller_id, id, position, traceparent, create_time) VALUES
    ('{SELLER}', 7, 2, 'first', '{SANDBOX_START}'), ('{SELLER}', 8, 3, 'second', '{SANDBOX_START}'),
    ('sel_other', 9, 1, '', '{SANDBOX_START}');
INSERT INTO usage_events (seller_id, source, event_id, customer, meter, time, value, ingest_id, dimensions) VALUES
    ('{SELLER}', 's', 'c', 'cus', 'kwh', '{SANDBOX_START}', 1.50, 8, NULL),
    ('{SELLER}', 's', 'b', 'cus', 'kwh', '{SANDBOX_START}', -2, 7, '{{"region": "ä"}}'),
    ('{SELLER}', 'r', 'b', 'key', 'gas', '{SANDBOX_START}', 3, 7, NULL),
    ('sel_other', 's', 'b', 'cus', 'kwh', '{SANDBOX_START}', 4, 9, NULL);
"""


async def test_what_was_stored_before_is_the_first_leaf_of_the_log(databases: Databases) -> None:
    """Every event as it was, at a position of its ingest; and a repeat of it is one, also by the log's own memory."""
    url = await databases.create("metering_before_the_log")
    await migrate(url, "metering", revision="0002")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(BEFORE)
        await migrate(url, "metering")
        rows = await connection.fetch(
            "SELECT position, source, event_id, customer, meter, time, value, dimensions::text FROM usage_events"
            " WHERE seller_id = $1 ORDER BY position",
            SELLER,
        )
        assert [tuple(row) for row in rows] == [
            (1, "r", "b", "key", "gas", SANDBOX_START, 3, None),
            (2, "s", "b", "cus", "kwh", SANDBOX_START, -2, '{"region": "ä"}'),
            (3, "s", "c", "cus", "kwh", SANDBOX_START, rows[2]["value"], None),
        ]
        assert str(rows[2]["value"]) == "1.50"
        assert await connection.fetchval("SELECT count(*) FROM usage_events") == 4
        database = Database(url, service="metering")
        log = Log(database, leaf_rows=1_000, telemetry=Telemetry("metering"))
        running = asyncio.create_task(log.run())
        stored = await log.append(batch(["b", "c", "d"], SELLER))
        log.stop()
        await running
        await database.close()
        assert stored.fresh is not None
        assert stored.fresh.tolist() == [False, False, True]
        assert await connection.fetchval("SELECT last FROM positions WHERE seller_id = $1", SELLER) == 4
    finally:
        await connection.close()
