"""Plans that subscriptions had before anybody asked what they entitle to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg

from common.migrate import migrate
from common.testing import Databases

CREATED = datetime(2025, 3, 1, tzinfo=UTC)
LATER = CREATED + timedelta(days=9)
BEFORE = f"""
INSERT INTO customers (
    seller_id, id, display_name, email, address, currency, time_zone, language_code, net_terms_days, collection_method,
    revision, create_time, update_time
)
SELECT seller_id, 'cus_1', '', '', '', 'EUR', 'UTC', 'en', 0, 'SEND_INVOICE', 1, '{CREATED}', '{CREATED}'
FROM (VALUES ('sel_1'), ('sel_2')) s (seller_id);
INSERT INTO subscriptions (
    seller_id, id, customer_id, plan_id, state, currency, time_zone, start_time, revision, create_time, update_time,
    opening, plan_code, is_followed_up, announced_through
)
SELECT seller_id, id, 'cus_1', plan_id, 'ACTIVE', 'EUR', 'UTC', time, 1, time, time,
       jsonb_build_object('plan_id', first_plan_id), '', false, time
FROM (VALUES
    ('sel_1', 'sub_1', 'plan_b', 'plan_a', '{CREATED}'::timestamptz),
    ('sel_1', 'sub_2', 'plan_b', 'plan_b', '{LATER}'::timestamptz),
    ('sel_2', 'sub_3', 'plan_a', 'plan_a', '{LATER}'::timestamptz)
) s (seller_id, id, plan_id, first_plan_id, time);
INSERT INTO subscription_changes (
    seller_id, id, subscription_id, position, recorded_time, effective_time, proration, unused, actions
) VALUES (
    'sel_1', 'chg_1', 'sub_1', 0, '{LATER}', '{LATER}', 'BY_DAY', 'KEEP',
    '[{{"action": "SET_PLAN", "plan_id": "plan_b"}}, {{"action": "SET_ADD_ON", "plan_id": "plan_c", "is_taken": true}}]'
), (
    'sel_1', 'chg_2', 'sub_1', 1, '{LATER}', '{LATER}', 'BY_DAY', 'KEEP', '[{{"action": "END", "reason": "REQUESTED"}}]'
);
"""


async def test_every_plan_is_to_be_asked_about_once(databases: Databases) -> None:
    """The first one, the present one and add-ons, of each seller: due by a time that every clock has reached."""
    url = await databases.create("subscriptions_before_entitlements")
    await migrate(url, "subscriptions", revision="0005")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(BEFORE)
        await migrate(url, "subscriptions", revision="0006")
        rows = await connection.fetch(
            "SELECT seller_id, plan_id, entitlements, create_time FROM plan_entitlements ORDER BY seller_id, plan_id"
        )
    finally:
        await connection.close()
        await databases.drop(url)
    assert [tuple(row) for row in rows] == [
        ("sel_1", "plan_a", None, CREATED),
        ("sel_1", "plan_b", None, CREATED),
        ("sel_1", "plan_c", None, LATER),
        ("sel_2", "plan_a", None, LATER),
    ]
