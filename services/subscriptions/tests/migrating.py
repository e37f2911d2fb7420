"""A shop that moves its subscriptions from one plan to another, and what is asked about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from common.testing import Suite
from saldo.catalog.v1 import plan_pb2, price_pb2
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pm
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration, PlanMigrationOutcome
from saldo.subscriptions.v1.plan_migration_service_pb2_grpc import PlanMigrationServiceStub

AT_ONCE = 20


class Migrating:
    """A shop with an old plan and a new one: seats and calls go on, disk ends, support is new."""

    def __init__(self, shop: Any) -> None:  # Any: the class of the fixture `shop` cannot be imported here
        self.shop = shop
        self.suite: Suite = shop.suite
        self.api: Any = shop.suite.stub(PlanMigrationServiceStub, "subscriptions")  # Any: grpc stubs are generated
        self.old = plan_pb2.Plan()
        self.new = plan_pb2.Plan()
        self._products: dict[str, str] = {}

    async def open(self, *, timing: str = "IN_ADVANCE") -> Migrating:
        self._products = {name: await self.shop.product() for name in ("seats", "calls", "disk", "support")}
        dollars = self.price("seats", code="seats-usd", currency="USD")
        self.old = await self.shop.plan(
            self.price("seats", timing=timing), self.price("calls"), self.price("disk", timing=timing), dollars
        )
        self.new = await self.shop.plan(
            self.price("seats", timing=timing), self.price("calls"), self.price("support", timing=timing)
        )
        return self

    def price(self, name: str, *, code: str = "", **more: Any) -> price_pb2.Price:  # Any: of a price
        price: price_pb2.Price = (
            self.shop.metered(code or name) if name == "calls" else self.shop.price(code or name, **more)
        )
        price.product_id = self._products[name]
        return price

    async def subscribe(self, count: int = 1, **more: Any) -> list[subscription_pb2.Subscription]:  # Any: of a request
        ada = await self.shop.customer()
        made: list[subscription_pb2.Subscription] = []
        for _ in range(0, count, AT_ONCE):
            some = range(min(AT_ONCE, count - len(made)))
            made += await asyncio.gather(*(self.shop.subscribe(ada, self.old, **more) for _ in some))
        return made

    async def preview(self, **more: Any) -> PlanMigration:  # Any: fields of the request
        request = pm.CreatePlanMigrationRequest(from_plan_id=self.old.id, to_plan_id=self.new.id)
        request.MergeFrom(pm.CreatePlanMigrationRequest(**more))
        made: PlanMigration = await self.api.CreatePlanMigration(request)
        assert made.state == PlanMigration.PREVIEWING
        await self.suite.quiet()
        previewed = await self.get(made)
        assert previewed.state == PlanMigration.PREVIEWED
        return previewed

    async def start(self, migration: PlanMigration) -> PlanMigration:
        started: PlanMigration = await self.api.StartPlanMigration(pm.StartPlanMigrationRequest(id=migration.id))
        return started

    async def migrate(self, **more: Any) -> PlanMigration:  # Any: fields of the request
        migration = await self.start(await self.preview(**more))
        await self.suite.quiet()
        return await self.get(migration)

    async def revert(self, migration: PlanMigration) -> PlanMigration:
        await self.api.RevertPlanMigration(pm.RevertPlanMigrationRequest(id=migration.id))
        await self.suite.quiet()
        return await self.get(migration)

    async def cancel(self, migration: PlanMigration) -> PlanMigration:
        cancelled: PlanMigration = await self.api.CancelPlanMigration(pm.CancelPlanMigrationRequest(id=migration.id))
        return cancelled

    async def get(self, migration: PlanMigration) -> PlanMigration:
        found: PlanMigration = await self.api.GetPlanMigration(pm.GetPlanMigrationRequest(id=migration.id))
        return found

    async def outcomes(self, migration: PlanMigration, result: str = "") -> list[PlanMigrationOutcome]:
        request = pm.ListPlanMigrationOutcomesRequest(
            migration_id=migration.id,
            result=PlanMigrationOutcome.Result.Value(result or "RESULT_UNSPECIFIED"),
            page_size=70,
        )
        found: list[PlanMigrationOutcome] = []
        while True:
            answer = await self.api.ListPlanMigrationOutcomes(request)
            found.extend(answer.outcomes)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def outcome(self, migration: PlanMigration) -> tuple[str, str]:
        """Of a migration of one."""
        (found,) = await self.outcomes(migration)
        return PlanMigrationOutcome.Result.Name(found.result), found.reason

    async def begin_earlier(self, migration: PlanMigration) -> None:
        async with self.suite.own_rows("subscriptions") as connection:
            await connection.execute(
                "UPDATE plan_migrations SET start_time = start_time - interval '1 hour' WHERE id = $1", migration.id
            )

    async def on_new_plan(self, subscription: subscription_pb2.Subscription) -> bool:
        return bool((await self.shop.find(subscription)).plan_id == self.new.id)

    async def changes(self) -> Counter[str]:
        """How many changes each subscription has that were not revoked."""
        async with self.suite.own_rows("subscriptions") as connection:
            rows = await connection.fetch("SELECT subscription_id FROM subscription_changes WHERE revoked_time IS NULL")
        return Counter(row[0] for row in rows)
