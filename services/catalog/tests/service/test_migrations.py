"""What older releases wrote, as this one reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg

from catalog import store
from catalog.domain.plan import Kind, PlanId, State
from catalog.domain.price import PriceId
from catalog.domain.tariff import Graduated, PerUnit
from common import ids
from common.caller import service_caller
from common.db import Database
from common.ids import SellerId
from common.migrate import migrate
from common.testing import SANDBOX_START, Databases

SELLER = SellerId(ids.mint(ids.SELLER, SANDBOX_START))
CREATED = datetime(2025, 3, 1, tzinfo=UTC)
PUBLISHED = CREATED + timedelta(days=1)
FIRST_RELEASE = f"""
INSERT INTO products VALUES ('{SELLER}', 'prod_1', 'seats', 'Seats', '', 'seat', 1, '{CREATED}');
INSERT INTO plans VALUES
    ('{SELLER}', 'plan_draft', 'draft', 'Draft', 'DRAFT', 1, '{CREATED}', NULL),
    ('{SELLER}', 'plan_team', 'team', 'Team', 'DRAFT', 1, '{CREATED}', NULL),
    ('{SELLER}', 'plan_old', 'old', 'Old', 'ARCHIVED', 3, '{CREATED}', '{PUBLISHED}');
INSERT INTO prices VALUES
    ('{SELLER}', 'price_1', 'plan_team', 0, 'seat', 'prod_1', 'EUR', 'MONTH', 1, 'IN_ADVANCE', '',
     '{{"model": "PER_UNIT", "unit_price": "12.50"}}'),
    ('{SELLER}', 'price_2', 'plan_team', 1, 'tiers', 'prod_1', 'EUR', 'MONTH', 1, 'IN_ARREARS', 'calls',
     '{{"model": "GRADUATED", "tiers": [{{"up_to": "10", "unit_price": "1", "flat_amount": "0"}},
                                        {{"up_to": null, "unit_price": "0.5", "flat_amount": "2"}}]}}');
UPDATE plans SET state = 'ACTIVE', revision = 2, publish_time = '{PUBLISHED}' WHERE id = 'plan_team';
"""


async def test_plans_of_the_first_release_are_first_versions(databases: Databases) -> None:
    """They go on being sold as before, at the same prices, and were so from their publication on."""
    url = await databases.create("catalog_first_release")
    await migrate(url, "catalog", revision="0001")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute(FIRST_RELEASE)
        await migrate(url, "catalog")
        stored = await connection.fetch("SELECT id, version, effective_time, kind, trial_days FROM plans ORDER BY id")
    finally:
        await connection.close()
    assert [tuple(row) for row in stored] == [
        ("plan_draft", 1, None, "BASE", 0),
        ("plan_old", 1, PUBLISHED, "BASE", 0),
        ("plan_team", 1, PUBLISHED, "BASE", 0),
    ]
    database = Database(url, service="catalog")
    try:
        async with database.transaction(service_caller("catalog", SELLER)) as tx:
            team = await store.plan_by_code(tx, "team")
            priced = await store.prices_by_id(tx, [PriceId("price_1"), PriceId("price_2")])
    finally:
        await database.close()
        await databases.drop(url)
    assert (team.id, team.state, team.terms.kind, team.superseded_time) == ("plan_team", State.ACTIVE, Kind.BASE, None)
    assert [(plan_id, price) for plan_id, price in priced] == [(PlanId("plan_team"), each) for each in team.prices]
    [seat, tiers] = team.prices
    assert seat.model == PerUnit(unit_price=Decimal("12.50"))
    assert isinstance(tiers.model, Graduated)
    assert [(tier.up_to, tier.unit_price, tier.flat_amount) for tier in tiers.model.tiers] == [
        (Decimal(10), Decimal(1), Decimal(0)),
        (None, Decimal("0.5"), Decimal(2)),
    ]
    assert (seat.customer_id, seat.list_price_id, seat.create_time) == ("", "", None)
