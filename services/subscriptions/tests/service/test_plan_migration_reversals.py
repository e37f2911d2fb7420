"""Plan migrations that are taken back: as if they had never been, except for what is billed or was agreed since."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.type import decimal_pb2

from saldo.catalog.v1 import catalog_service_pb2
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import events_pb2 as events
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration
from services.subscriptions.tests.migrating import Migrating
from services.subscriptions.tests.service.test_plan_migrations import (
    FEB_1,
    JAN_11,
    MAR_1,
    Action,
    Change,
    counts,
    items,
)

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.


async def test_what_is_only_scheduled_is_revoked(migrating: Migrating) -> None:
    """Before the period ends nothing has happened, and after the reversal nothing will."""
    (before,) = await migrating.subscribe()
    done = await migrating.migrate(timing=Change.PERIOD_END)
    assert await migrating.outcome(done) == ("MIGRATED", "")
    reverted = await migrating.revert(done)
    assert (reverted.state, await migrating.outcome(done)) == (PlanMigration.REVERTED, ("REVERTED", ""))
    (change,) = await migrating.shop.log(before)
    assert change.state == Change.REVOKED
    await migrating.suite.travel(MAR_1)
    after = await migrating.shop.find(before)
    assert (after.plan_id, items(after)) == (migrating.old.id, items(before))
    (announced,) = migrating.suite.announced(events.PlanMigrationReverted)
    assert announced.plan_migration == reverted


async def test_what_is_billed_stays(migrating: Migrating) -> None:
    """As soon as the period has begun by the new prices, its invoice may be on the way."""
    (before,) = await migrating.subscribe()
    done = await migrating.migrate(timing=Change.PERIOD_END)
    await migrating.suite.travel(FEB_1)
    reverted = await migrating.revert(done)
    assert (reverted.state, await migrating.outcome(done)) == (PlanMigration.REVERTED, ("NOT_REVERTED", "BILLED"))
    assert counts(reverted) == {"would_migrate": 1, "migrated": 1, "not_reverted": 1}
    assert await migrating.on_new_plan(before)


@pytest.mark.parametrize("proration", [Change.BY_DAY, Change.NONE])
async def test_what_is_in_effect_and_not_billed_is_switched_back(shop: Any, proration: Any) -> None:
    """In arrears, or where the change counts from the next period on only: the bills are as if it had never been.

    The old plan is closed by then, as the older version of a plan is; items are the same ones, removed ones as well.
    """
    timing = "IN_ARREARS" if proration == Change.BY_DAY else "IN_ADVANCE"
    migrating = await Migrating(shop).open(timing=timing)
    before, stays = await migrating.subscribe(2)
    customer = customer_pb2.Customer(id=before.customer_id)
    expected = (await shop.due(customer, through=MAR_1)).periods
    await migrating.suite.travel(JAN_11)
    done = await migrating.migrate(proration=proration)
    assert await migrating.on_new_plan(before)
    await shop.catalog.ArchivePlan(catalog_service_pb2.ArchivePlanRequest(id=migrating.old.id))
    await migrating.suite.travel(JAN_11 + timedelta(days=5))
    reverted = await migrating.revert(done)
    assert counts(reverted) == {"would_migrate": 2, "migrated": 2, "reverted": 2}
    after = await shop.find(before)
    assert (after.plan_id, items(after)) == (migrating.old.id, items(before))
    migrated, back = await shop.log(before)
    assert migrated.state == back.state == Change.IN_EFFECT
    assert back.id in {each.revert_change_id for each in await migrating.outcomes(reverted)}
    assert [await migrating.on_new_plan(each) for each in (before, stays)] == [False, False]
    due = (await shop.due(customer, through=MAR_1)).periods
    assert sorted(shop.billed(due)) == sorted(shop.billed(expected))
    assert {(each.item_id, each.price_id) for each in due} == {(each.item_id, each.price_id) for each in expected}


async def test_what_was_agreed_since_is_not_taken_away(shop: Any) -> None:
    """A quantity set since stays when the plan goes back; what the old plan does not have stands in the way."""
    migrating = await Migrating(shop).open(timing="IN_ARREARS")
    grown, richer, gone = await migrating.subscribe(3)
    done = await migrating.migrate()
    more = decimal_pb2.Decimal(value="4")
    await shop.change(grown, Action(set_quantity=Action.SetQuantity(item_id=grown.items[0].id, quantity=more)))
    another = Action(add_item=Action.AddItem(price_id=migrating.new.prices[2].id))
    await shop.change(richer, another)
    other = await shop.plan(migrating.price("seats", timing="IN_ARREARS"))
    await shop.change(gone, Action(change_plan=Action.ChangePlan(plan_id=other.id)))
    reverted = await migrating.revert(done)
    found = {each.subscription_id: each.reason for each in await migrating.outcomes(reverted)}
    assert found == {grown.id: "", richer.id: "CHANGED_SINCE", gone.id: "NOT_ON_PLAN"}
    after = await shop.find(grown)
    assert (after.plan_id, after.items[0].quantity.value) == (migrating.old.id, "4")
    assert await migrating.on_new_plan(richer)
