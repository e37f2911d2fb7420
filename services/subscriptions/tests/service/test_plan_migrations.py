"""Moving many subscriptions from one plan to another: previewed, and carried out as it was previewed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.testing import refused
from saldo.catalog.v1 import catalog_service_pb2, price_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import events_pb2 as events
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pm
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration, PlanMigrationOutcome
from services.subscriptions.tests.migrating import Migrating

pytestmark = pytest.mark.patched_when_used

Action = subscription_pb2.SubscriptionAction
Change = subscription_pb2.SubscriptionChange
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
JAN_11 = datetime(2026, 1, 11, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)
MAR_1 = datetime(2026, 3, 1, tzinfo=UTC)
MANY = 300
DONE = {PlanMigrationOutcome.WOULD_MIGRATE: "MIGRATED", PlanMigrationOutcome.WOULD_SKIP: "SKIPPED"}


def counts(migration: PlanMigration) -> dict[str, int]:
    return {field.name: value for field, value in migration.counts.ListFields()}


def items(subscription: subscription_pb2.Subscription) -> dict[str, str]:
    return {item.id: item.price_id for item in subscription.items}


def brief(outcomes: Sequence[PlanMigrationOutcome]) -> dict[str, tuple[str, str, int, int, int]]:
    """Each without whether it is done already."""
    return {
        each.subscription_id: (
            DONE.get(each.result, PlanMigrationOutcome.Result.Name(each.result)),
            each.reason,
            each.items_kept,
            each.items_added,
            each.items_removed,
        )
        for each in outcomes
    }


async def test_three_hundred_subscriptions_come_to_what_was_previewed(migrating: Migrating) -> None:
    """Each obstacle costs the one that has it, and is told beforehand by the reason that a change of that one has."""
    shop, old = migrating.shop, migrating.old
    plain = await migrating.subscribe(MANY - 8)
    abroad = await migrating.subscribe(2, currency="USD")
    over, ending, leaving, conflicting = [await migrating.subscribe(count) for count in (2, 2, 1, 1)]
    for each in over:
        await shop.api.CancelSubscription(
            pb.CancelSubscriptionRequest(id=each.id, timing=pb.CancelSubscriptionRequest.NOW)
        )
    for each in ending:
        await shop.api.CancelSubscription(
            pb.CancelSubscriptionRequest(id=each.id, timing=pb.CancelSubscriptionRequest.PERIOD_END)
        )
    other = await shop.plan(migrating.price("seats"))
    away = Action(change_plan=Action.ChangePlan(plan_id=other.id))
    await shop.change(leaving[0], away, at=JAN_11)
    disk = next(item for item in conflicting[0].items if item.price_id == old.prices[2].id)
    await shop.change(conflicting[0], Action(remove_item=Action.RemoveItem(item_id=disk.id)), at=MAR_1)

    stored = await shop.stored()
    previewed = await migrating.preview(timing=Change.PERIOD_END)
    assert await shop.stored() == stored, "a preview changed something"
    foretold = await migrating.outcomes(previewed)
    assert counts(previewed) == {"would_migrate": MANY - 8, "would_skip": 8}
    assert {each.reason for each in foretold} == {
        "",
        "CURRENCY_NOT_OFFERED",
        "SUBSCRIPTION_NOT_CHANGEABLE",
        "CHANGE_AFTER_END",
        "NOT_ON_PLAN",
        "CHANGE_CONFLICTS",
    }

    await migrating.start(previewed)
    await migrating.suite.quiet()
    done = await migrating.get(previewed)
    outcomes = await migrating.outcomes(done)
    assert done.state == PlanMigration.DONE
    assert counts(done) == {"would_migrate": MANY - 8, "would_skip": 8, "migrated": MANY - 8, "skipped": 8}
    assert brief(outcomes) == brief(foretold)
    assert brief(outcomes)[plain[0].id] == ("MIGRATED", "", 2, 1, 1)
    assert [each.subscription_id for each in outcomes] == sorted(
        each.id for each in [*plain, *abroad, *over, *ending, *leaving, *conflicting]
    )
    assert {each.effective_time.ToDatetime(UTC) for each in outcomes if each.change_id} == {FEB_1}
    assert len(await migrating.outcomes(done, "SKIPPED")) == 8
    announced = {each.change.id for each in migrating.suite.announced(events.SubscriptionChanged)}
    assert {each.change_id for each in outcomes if each.change_id} <= announced
    (finished,) = migrating.suite.announced(events.PlanMigrationFinished)
    assert finished.plan_migration == done


async def test_items_go_on_in_their_periods(migrating: Migrating) -> None:
    """A migration is a change in place: nothing begins anew but what is new."""
    taken = zip(migrating.old.prices, ("7", "", "2"), strict=False)
    (before,) = await migrating.subscribe(items=[_spec(price, quantity) for price, quantity in taken])
    seats, calls, disk = before.items
    await migrating.suite.travel(JAN_11)
    done = await migrating.migrate()
    after = await migrating.shop.find(before)
    new_seats, new_calls, support = migrating.new.prices
    assert counts(done)["migrated"] == 1
    assert items(after) == {seats.id: new_seats.id, calls.id: new_calls.id} | {
        item.id: support.id for item in after.items if item.id not in (seats.id, calls.id, disk.id)
    }
    assert len(after.items) == 3
    assert after.items[0].quantity.value == "7"
    assert after.billing_anchor == before.billing_anchor
    customer = customer_pb2.Customer(id=before.customer_id)
    due = (await migrating.shop.due(customer, after=JAN_11, through=FEB_1)).periods
    assert migrating.shop.billed(due, seats) == [
        "CREDIT 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 7 × 2026-01-11..2026-02-01 21/31 on 2026-01-11",
        "OWED 7 × 2026-02-01..2026-03-01 1/1 on 2026-02-01",
    ]
    assert migrating.shop.billed(due, disk) == ["CREDIT 2 × 2026-01-11..2026-02-01 21/31 on 2026-01-11"]


async def test_prices_can_be_named_that_products_do_not_tell(migrating: Migrating) -> None:
    """Disk becomes support: the item is the same, also where the price was negotiated on either side."""
    shop, disk, support = migrating.shop, migrating.old.prices[2], migrating.new.prices[2]
    (plain,) = await migrating.subscribe()
    dan, eve = await shop.customer(), await shop.customer()
    for customer, price in ((dan, disk), (eve, support)):
        await negotiate(shop, customer, price)
    negotiated_before = await shop.subscribe(dan, migrating.old)
    negotiated_after = await shop.subscribe(eve, migrating.old)
    succession = PlanMigration.PriceSuccession(from_price_id=disk.id, to_price_id=support.id)
    done = await migrating.migrate(prices=[succession])
    assert done.prices == [succession]
    assert {line[2:] for line in brief(await migrating.outcomes(done)).values()} == {(3, 0, 0)}
    for before in (plain, negotiated_before, negotiated_after):
        after = await shop.find(before)
        assert [item.id for item in after.items] == [item.id for item in before.items]
    assert (await shop.find(negotiated_before)).items[2].price_id == support.id
    assert (await shop.find(negotiated_after)).items[2].price_id not in (disk.id, support.id)


async def negotiate(shop: Any, customer: customer_pb2.Customer, of: price_pb2.Price) -> None:  # Any: as in Migrating
    price = shop.price(f"negotiated-{of.code}")
    price.per_unit.unit_price.value = "9.99"
    await shop.catalog.CreateContractPrice(
        catalog_service_pb2.CreateContractPriceRequest(list_price_id=of.id, customer_id=customer.id, price=price)
    )


async def test_what_was_negotiated_is_found_one_by_one_where_it_is_much(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seller with thousands of negotiated prices is not asked for all of them, and nobody loses theirs."""
    monkeypatch.setattr("subscriptions.clients.PAGE_SIZE", 1)
    shop, seats = migrating.shop, migrating.new.prices[0]
    (plain,) = await migrating.subscribe()
    dan, eve = await shop.customer(), await shop.customer()
    for customer in (dan, eve):
        await negotiate(shop, customer, seats)
    negotiated, again = [await shop.subscribe(customer, migrating.old) for customer in (dan, eve)]
    await migrating.migrate(customer_ids=[plain.customer_id, dan.id])
    assert (await shop.find(plain)).items[0].price_id == seats.id
    assert (await shop.find(negotiated)).items[0].price_id != seats.id
    monkeypatch.setattr("subscriptions.clients.PAGES_MAX", 0)
    done = await migrating.migrate(customer_ids=[eve.id])
    assert await migrating.outcome(done) == ("SKIPPED", "INVALID_ARGUMENT")
    assert not await migrating.on_new_plan(again)


def _spec(price: price_pb2.Price, quantity: str) -> subscription_pb2.ItemSpec:
    return subscription_pb2.ItemSpec(
        price_id=price.id, quantity=decimal_pb2.Decimal(value=quantity) if quantity else None
    )


async def test_only_some_customers_and_only_who_was_there(migrating: Migrating) -> None:
    """Who comes after the preview and before the start is moved; who is not meant, or comes later, is not."""
    ada, bob = await migrating.shop.customer(), await migrating.shop.customer()
    first = await migrating.shop.subscribe(ada, migrating.old)
    others = await migrating.shop.subscribe(bob, migrating.old)
    previewed = await migrating.preview(customer_ids=[ada.id, ada.id])
    assert (list(previewed.customer_ids), counts(previewed)) == ([ada.id], {"would_migrate": 1})
    await migrating.suite.travel(JAN_1 + timedelta(hours=1))
    second = await migrating.shop.subscribe(ada, migrating.old)
    await migrating.start(previewed)
    await migrating.suite.quiet()
    await migrating.suite.travel(JAN_1 + timedelta(hours=2))
    third = await migrating.shop.subscribe(ada, migrating.old)
    await migrating.suite.quiet()
    moved = [await migrating.on_new_plan(each) for each in (first, second, third, others)]
    assert moved == [True, True, False, False]
    assert counts(await migrating.get(previewed)) == {"would_migrate": 1, "migrated": 2}


async def test_who_left_after_the_preview_is_told_of(migrating: Migrating) -> None:
    """Whoever was promised in the preview has an outcome in the end."""
    (left,) = await migrating.subscribe()
    previewed = await migrating.preview()
    other = await migrating.shop.plan(migrating.price("seats"))
    await migrating.shop.change(left, Action(change_plan=Action.ChangePlan(plan_id=other.id)))
    await migrating.start(previewed)
    await migrating.suite.quiet()
    assert await migrating.outcome(previewed) == ("SKIPPED", "NOT_ON_PLAN")
    assert (await migrating.shop.find(left)).plan_id == other.id


async def test_every_state_has_its_verbs(migrating: Migrating) -> None:
    """A preview is started once, a stopped one never, and there is nothing to take back of what was not done."""
    await migrating.subscribe()
    previewed = await migrating.preview(request_id="once")
    with refused("PLAN_MIGRATION_NOT_REVERTIBLE", grpc.StatusCode.FAILED_PRECONDITION):
        await migrating.revert(previewed)
    assert (await migrating.cancel(previewed)).state == PlanMigration.CANCELLED
    assert not migrating.suite.announced(events.PlanMigrationFinished)
    with refused("PLAN_MIGRATION_NOT_PREVIEWED", grpc.StatusCode.FAILED_PRECONDITION):
        await migrating.start(previewed)
    with refused("PLAN_MIGRATION_NOT_REVERTIBLE"):
        await migrating.revert(previewed)
    with refused("PLAN_MIGRATION_NOT_CANCELLABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await migrating.cancel(previewed)
    done = await migrating.migrate()
    with refused("PLAN_MIGRATION_NOT_PREVIEWED"):
        await migrating.start(done)
    with refused("PLAN_MIGRATION_NOT_CANCELLABLE"):
        await migrating.cancel(done)
    reverted = await migrating.revert(done)
    with refused("PLAN_MIGRATION_NOT_REVERTIBLE"):
        await migrating.revert(reverted)
    nowhere = PlanMigration(id=ids.mint("pmig", JAN_1))
    with refused("PLAN_MIGRATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await migrating.get(nowhere)
    with refused("PLAN_MIGRATION_NOT_FOUND"):
        await migrating.outcomes(nowhere)


async def test_what_makes_no_sense_is_refused_by_name(migrating: Migrating) -> None:
    """Before anything is stored."""
    old, new = migrating.old, migrating.new
    succession = PlanMigration.PriceSuccession
    wrong: list[tuple[str, str, dict[str, Any]]] = [  # Any: fields of the request
        ("INVALID_ARGUMENT", "to_plan_id", {"to_plan_id": old.id}),
        ("INVALID_ARGUMENT", "from_plan_id", {"from_plan_id": "plan"}),
        ("PLAN_NOT_FOUND", "", {"to_plan_id": ids.mint("plan", JAN_1)}),
        ("PLAN_NOT_FOUND", "", {"from_plan_id": ids.mint("plan", JAN_1)}),
        ("CUSTOMER_NOT_FOUND", "", {"customer_ids": [ids.mint("cus", JAN_1)]}),
        ("INVALID_ARGUMENT", "customer_ids[0]", {"customer_ids": ["ada"]}),
        ("INVALID_ARGUMENT", "customer_ids", {"customer_ids": [ids.mint("cus", JAN_1)] * 1_001}),
        ("INVALID_ARGUMENT", "effective_time", {"timing": Change.AT_TIME}),
        ("INVALID_ARGUMENT", "effective_time", {"effective_time": wire.timestamp(FEB_1)}),
        ("INVALID_ARGUMENT", "unused", {"unused": Change.REFUND}),
        (
            "PRICE_NOT_IN_PLAN",
            "prices[0].from_price_id",
            {"prices": [succession(from_price_id=new.prices[0].id, to_price_id=new.prices[0].id)]},
        ),
        (
            "PRICE_NOT_IN_PLAN",
            "prices[0].to_price_id",
            {"prices": [succession(from_price_id=old.prices[0].id, to_price_id=old.prices[0].id)]},
        ),
        (
            "INVALID_ARGUMENT",
            "prices[0].to_price_id",
            {"prices": [succession(from_price_id=old.prices[3].id, to_price_id=new.prices[0].id)]},
        ),
        (
            "INVALID_ARGUMENT",
            "prices[1].from_price_id",
            {"prices": [succession(from_price_id=old.prices[0].id, to_price_id=new.prices[0].id)] * 2},
        ),
    ]
    for reason, field, told in wrong:
        asked = {"from_plan_id": old.id, "to_plan_id": new.id} | told
        with refused(reason) as refusal:
            await migrating.api.CreatePlanMigration(pm.CreatePlanMigrationRequest(**asked))
        assert refusal.field == field, told


async def test_a_plan_that_is_closed_is_an_outcome(migrating: Migrating) -> None:
    """The preview says so before anybody is hurt; a repeated request begins no second one."""
    await migrating.subscribe()
    await migrating.shop.catalog.ArchivePlan(catalog_service_pb2.ArchivePlanRequest(id=migrating.new.id))
    previewed = await migrating.preview(request_id="once")
    assert await migrating.outcome(previewed) == ("WOULD_SKIP", "PLAN_NOT_SUBSCRIBABLE")
    again = await migrating.api.CreatePlanMigration(
        pm.CreatePlanMigrationRequest(from_plan_id=migrating.old.id, to_plan_id=migrating.new.id, request_id="once")
    )
    assert again.id == previewed.id
