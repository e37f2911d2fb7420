"""What subscriptions does to many at once, by itself, does not get in its own way."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from google.type import decimal_pb2

from common.caller import current_caller, service_caller
from common.rpc import Desk
from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, product_pb2
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pm
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration
from saldo.subscriptions.v1.plan_migration_service_pb2_grpc import PlanMigrationServiceStub
from subscriptions import store
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import PlanId, SubscriptionId
from subscriptions.store import entitlements as stored
from subscriptions.usecases import advance, entitlements, plan_migrations, subscriptions

pytestmark = pytest.mark.own_services

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
JAN_1: Final = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOMERS: Final = 10
ROUNDS: Final = 8
SECONDS_MAX: Final = 20


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done by itself: the test says what is, and sees what it raises."""
    monkeypatch.setattr("subscriptions.schedule.JOBS", ())


def projects(limit: str) -> plan_pb2.PlanEntitlement:
    return plan_pb2.PlanEntitlement(feature="projects", limit=decimal_pb2.Decimal(value=limit))


class Together:
    """Customers who have a subscription that is moved from plan to plan, and others that come due every day."""

    def __init__(self, suite: Suite, shop: Any) -> None:
        self.shop = shop
        self.api: Any = suite.stub(PlanMigrationServiceStub, "subscriptions")  # Any: grpc stubs are generated
        service = suite.running["subscriptions"]
        caller = service_caller("subscriptions", suite.seller)
        current_caller.set(caller)
        self.desk = Desk(service.database, caller, service.neighbours)
        self.plans: list[plan_pb2.Plan] = []
        self.customers: list[str] = []
        self.moved: list[str] = []
        self.due: list[str] = []
        self.unpaid: list[list[str]] = []

    async def open(self) -> None:
        """Whoever comes first by the id of a subscription comes anywhere by the id of the customer."""
        await self.shop.catalog.CreateFeature(
            catalog_service_pb2.CreateFeatureRequest(
                code="projects", display_name="Projects", kind=product_pb2.Feature.LIMIT
            )
        )
        self.plans = [
            await self.shop.plan(self.shop.price("seats"), entitlements=[projects(limit)]) for limit in ("1", "2", "3")
        ]
        customers = [await self.shop.customer() for _ in range(CUSTOMERS)]
        self.customers = [each.id for each in customers]
        random.Random(1).shuffle(customers)
        for customer in customers:
            self.moved.append((await self.shop.subscribe(customer, self.plans[0])).id)
            due = await self.shop.subscribe(customer, self.plans[2])
            self.due.append(due.id)
            for number in range(ROUNDS):
                quantity = Action.SetQuantity(
                    item_id=due.items[0].id, quantity=decimal_pb2.Decimal(value=str(number + 2))
                )
                await self.shop.change(due, Action(set_quantity=quantity), at=JAN_1 + timedelta(days=number + 1))
        waiting = {"activation": subscription_pb2.Subscription.ON_FIRST_PAYMENT, "activation_hours": 8_760}
        for _ in range(ROUNDS):
            unpaid = [await self.shop.subscribe(customer, self.plans[2], **waiting) for customer in customers]
            self.unpaid.append([each.id for each in unpaid])

    async def migration(self, number: int) -> str:
        """There in one round and back in the next: its id, once it is started."""
        here, there = self.plans[number % 2], self.plans[1 - number % 2]
        made = await self.api.CreatePlanMigration(
            pm.CreatePlanMigrationRequest(from_plan_id=here.id, to_plan_id=there.id)
        )
        await plan_migrations.carry_on(self.desk, made.id)
        await self.api.StartPlanMigration(pm.StartPlanMigrationRequest(id=made.id))
        return str(made.id)

    async def pass_time(self, to: datetime) -> None:
        """For this service alone, and without waiting for what follows from it."""
        async with self.desk.transaction() as tx:
            await tx.driver.execute("UPDATE clocks SET time = $1 WHERE seller_id = $2", to, tx.seller_id)

    async def advance(self, subscription_ids: list[str]) -> None:
        async with self.desk.transaction() as tx:
            await advance.advance(tx, subscription_ids)

    async def pay(self, number: int) -> None:
        async with self.desk.transaction() as tx:
            await subscriptions.activate_paid(tx, [SubscriptionId(each) for each in self.unpaid[number]])

    async def refresh(self) -> None:
        for customer_id in self.customers:
            async with self.desk.transaction() as tx:
                await entitlements.refresh_customer(tx, customer_id)


async def test_batches_over_the_same_customers_wait_in_one_order(by_hand: None, suite: Suite, shop: Any) -> None:
    """Else two of them come to wait for each other, and the database ends one of them: all of it is to be done again.

    Each batch locks its subscriptions by id, and then what was told about their customers, by id.
    """
    together = Together(suite, shop)
    await together.open()
    migrations: list[str] = []
    for number in range(ROUNDS):
        await together.pass_time(JAN_1 + timedelta(days=number + 1))
        migrations.append(await together.migration(number))
        # Sometimes all the same subscriptions, mostly others of the same customers.
        due = together.due + (together.moved if number % 4 == 0 else [])
        async with asyncio.timeout(60):
            await asyncio.gather(
                plan_migrations.carry_on(together.desk, migrations[-1]),
                together.advance(due),
                together.pay(number),
                together.refresh(),
            )
    for migration_id in migrations:
        done = await together.api.GetPlanMigration(pm.GetPlanMigrationRequest(id=migration_id))
        assert (done.state, done.counts.migrated) == (PlanMigration.DONE, CUSTOMERS)
    for found in [await together.shop.find(subscription_pb2.Subscription(id=each)) for each in together.due]:
        assert found.items[0].quantity.value == str(ROUNDS + 1)
    states = [
        (await together.shop.find(subscription_pb2.Subscription(id=each))).state
        for several in together.unpaid
        for each in several
    ]
    assert states == [subscription_pb2.Subscription.ACTIVE] * (ROUNDS * CUSTOMERS)


async def test_asking_about_a_plan_does_not_wait_for_the_answer(by_hand: None, suite: Suite, shop: Any) -> None:
    """Who writes the answer down goes on to the customers that are locked by who asks."""
    together = Together(suite, shop)
    plan = await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(await shop.customer(), plan)
    plan_id, customer_id = PlanId(plan.id), CustomerId(subscription.customer_id)
    async with together.desk.transaction() as tx:
        await tx.driver.execute("UPDATE plan_entitlements SET entitlements = NULL")
    async with together.desk.transaction() as answering:
        async with together.desk.transaction() as asking:
            await stored.lock_announced(asking, [customer_id])
            await stored.remember_plans(answering, {plan_id: ()})
            going_on = asyncio.create_task(stored.refresh_subscribers(answering, plan_id))
            async with asyncio.timeout(SECONDS_MAX):
                await stored.ask_about_plans(asking, [plan_id])
            assert not going_on.done()
        await going_on


async def test_a_reactivation_takes_the_customer_first(by_hand: None, suite: Suite, shop: Any) -> None:
    """As a merge and an invitation do, which go on to the subscription then."""
    together = Together(suite, shop)
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    name = SubscriptionId(subscription.id)
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=name, timing=pb.CancelSubscriptionRequest.NOW))

    async def reactivate() -> None:
        async with together.desk.transaction() as tx:
            await subscriptions.reactivate(tx, name)

    async with together.desk.transaction() as merging:
        await store.customer(merging, CustomerId(subscription.customer_id), lock=True)
        reactivation = asyncio.create_task(reactivate())
        await asyncio.sleep(0.5)  # it waits for the customer by now
        assert not reactivation.done()
        async with asyncio.timeout(SECONDS_MAX):
            await store.subscription(merging, name, lock=True)
    await reactivation
    assert (await shop.find(subscription)).state == subscription_pb2.Subscription.ACTIVE
