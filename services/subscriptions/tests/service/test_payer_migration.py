"""Who paid for whom when that was not kept yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg

from common.migrate import migrate
from common.testing import Databases

CREATED = datetime(2025, 3, 1, tzinfo=UTC)
LATER, LAST = CREATED + timedelta(days=9), CREATED + timedelta(days=20)
BEFORE = f"""
INSERT INTO customers (
    seller_id, id, display_name, email, address, currency, time_zone, language_code, net_terms_days, collection_method,
    revision, create_time, update_time
)
SELECT seller_id, id, '', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{LATER}'
FROM (VALUES ('sel_1'), ('sel_2')) s (seller_id), (VALUES ('cus_ada'), ('cus_eve')) c (id);
UPDATE customers SET payer_id = 'cus_eve' WHERE id = 'cus_ada';
INSERT INTO subscriptions (
    seller_id, id, customer_id, plan_id, state, currency, time_zone, start_time, revision, create_time, update_time,
    opening, plan_code, is_followed_up, announced_through
)
SELECT 'sel_1', id, 'cus_ada', 'plan', 'ACTIVE', 'EUR', 'UTC', '{CREATED}', 1, '{CREATED}', '{CREATED}',
       jsonb_build_object('payer_id', payer_id, 'start_time', start_time::timestamptz, 'recorded_time', '{CREATED}'),
       '', false, '{CREATED}'
FROM (VALUES
    ('sub_named', 'cus_eve', '{CREATED}'), ('sub_later', NULL, '{CREATED}'), ('sub_never', NULL, '{CREATED}'),
    ('sub_ahead', 'cus_eve', '{LAST}')
) s (id, payer_id, start_time);
INSERT INTO subscription_changes (
    seller_id, id, subscription_id, position, recorded_time, effective_time, revoked_time, proration, unused, actions
)
SELECT 'sel_1', id, subscription_id, position, '{LATER}', effective::timestamptz, revoked::timestamptz, 'BY_DAY',
       'KEEP', actions::jsonb
FROM (VALUES
    ('c1', 'sub_named', 0, '{LAST}', NULL, '[{{"action": "SET_PAYER", "payer_id": null}}]'),
    ('c2', 'sub_later', 0, '{LAST}', '{LATER}', '[{{"action": "SET_PAYER", "payer_id": "cus_gone"}}]'),
    ('c3', 'sub_later', 1, '{LAST}', NULL, '[{{"action": "SET_PAYER", "payer_id": "cus_eve"}}]'),
    ('c4', 'sub_later', 2, '{LATER}', NULL,
        '[{{"action": "SET_PAYER", "payer_id": "cus_one"}}, {{"action": "SET_PAYER", "payer_id": "cus_two"}}]'),
    ('c5', 'sub_never', 0, '{LATER}', NULL, '[{{"action": "SET_BILLING_DAY", "billing_day": 3}}]'),
    ('c6', 'sub_ahead', 0, '{LATER}', NULL, '[{{"action": "SET_PAYER", "payer_id": null}}]')
) c (id, subscription_id, position, effective, revoked, actions);
"""


async def test_who_pays_always_has(databases: Databases) -> None:
    """Of each seller's customers; what subscriptions name follows from their logs, in the order of time."""
    url = await databases.create("subscriptions_before_payers")
    await migrate(url, "subscriptions", revision="0008")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(BEFORE)
        await migrate(url, "subscriptions", revision="0009")
        paid = await connection.fetch("SELECT * FROM customer_payers ORDER BY seller_id")
        named = await connection.fetch(
            "SELECT subscription_id, start_time, end_time, payer_id FROM subscription_payers"
            " ORDER BY subscription_id, start_time"
        )
        await connection.execute("SELECT set_config('saldo.seller', 'sel_2', false)")
        seen = [await connection.fetch(f"SELECT FROM {table}") for table in ("customer_payers", "subscription_payers")]
    finally:
        await connection.close()
        await databases.drop(url)
    assert [tuple(row) for row in paid] == [(seller, "cus_ada", CREATED, "cus_eve") for seller in ("sel_1", "sel_2")]
    assert [tuple(row) for row in named] == [
        ("sub_ahead", CREATED, LATER, "cus_eve"),
        ("sub_ahead", LATER, None, None),
        ("sub_later", CREATED, LATER, None),
        ("sub_later", LATER, LAST, "cus_two"),
        ("sub_later", LAST, None, "cus_eve"),
        ("sub_named", CREATED, LAST, "cus_eve"),
        ("sub_named", LAST, None, None),
    ]
    assert [len(rows) for rows in seen] == [1, 0]
