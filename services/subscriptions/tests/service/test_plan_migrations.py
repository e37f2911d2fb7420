"""Moving many subscriptions from one plan to another: previewed, carried out whatever happens, taken back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.crash import crashpoint
from common.db import Tx
from common.errors import InvalidArgument
from common.rpc import Desk
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import events_pb2 as events
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pm
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration, PlanMigrationOutcome
from saldo.subscriptions.v1.plan_migration_service_pb2_grpc import PlanMigrationServiceStub
from subscriptions import clients
from subscriptions.domain.change import Action as Wanted
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import Plan
from subscriptions.domain.plan_migration import Outcome
from subscriptions.domain.plan_migration import PlanMigration as Migration
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import PlanId
from subscriptions.store import plan_migrations as store
from subscriptions.usecases import plan_migrations as usecases
from subscriptions.usecases import subscriptions

Action = subscription_pb2.SubscriptionAction
Change = subscription_pb2.SubscriptionChange
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
JAN_11 = datetime(2026, 1, 11, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)
MAR_1 = datetime(2026, 3, 1, tzinfo=UTC)
MANY = 300
AT_ONCE = 20
FEW = 10
DONE = {PlanMigrationOutcome.WOULD_MIGRATE: "MIGRATED", PlanMigrationOutcome.WOULD_SKIP: "SKIPPED"}


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


@pytest_asyncio.fixture
async def migrating(shop: Any) -> AsyncIterator[Migrating]:
    yield await Migrating(shop).open()


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


@pytest.mark.parametrize("point", ["before commit", "after commit"])
async def test_a_service_that_dies_goes_on_where_it_was(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Killed between the second handful and the third, before or after it is on record: each is moved exactly once."""
    monkeypatch.setattr(usecases, "HANDFUL", FEW)
    made = await migrating.subscribe(2 * FEW + 5)
    previewed = await migrating.preview()
    reached, gone = asyncio.Event(), asyncio.Event()
    walks = 0
    save = store.save_outcomes

    async def save_and_die(tx: Tx, migration: Migration, new: Sequence[Outcome]) -> None:
        nonlocal walks
        await save(tx, migration, new)
        walks += 1
        if walks == 2 and point == "before commit":
            reached.set()
            await gone.wait()
            raise asyncio.CancelledError

    def die_at(name: str) -> None:
        if name == "job.committed" and walks == 2 and point == "after commit":
            reached.set()
            raise ConnectionResetError("the process is gone")
        crashpoint(name)

    monkeypatch.setattr(store, "save_outcomes", save_and_die)
    monkeypatch.setattr("common.jobs.crashpoint", die_at)
    await migrating.start(previewed)
    async with asyncio.timeout(20):
        await reached.wait()
    crash = asyncio.create_task(migrating.suite.crash("subscriptions"))
    await asyncio.sleep(0.1)
    gone.set()
    await crash
    stored = (await migrating.changes()).total()
    assert stored == FEW if point == "before commit" else stored in (2 * FEW, len(made))
    monkeypatch.undo()
    await migrating.suite.start("subscriptions")
    await migrating.suite.quiet()
    done = await migrating.get(previewed)
    assert (done.state, done.counts.migrated, done.counts.skipped) == (PlanMigration.DONE, len(made), 0)
    assert await migrating.changes() == Counter({each.id: 1 for each in made})
    changed = Counter(each.subscription.id for each in migrating.suite.announced(events.SubscriptionChanged))
    assert changed == Counter({each.id: 1 for each in made})
    assert len(migrating.suite.announced(events.PlanMigrationFinished)) == 1


async def test_one_that_cannot_be_stored_costs_only_itself(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its outcome says so, the operators are told once, and everybody else is moved."""
    made = await migrating.subscribe(5)
    previewed = await migrating.preview()
    carry_out = subscriptions.carry_out

    async def fails_for_one(
        tx: Tx, before: Subscription, actions: Sequence[Wanted], decision: Decision
    ) -> Subscription:
        if before.id == made[2].id:
            raise ZeroDivisionError("out of the blue")
        return await carry_out(tx, before, actions, decision)

    monkeypatch.setattr(subscriptions, "carry_out", fails_for_one)
    await migrating.start(previewed)
    await migrating.suite.quiet()
    done = await migrating.get(previewed)
    assert (done.state, done.counts.migrated, done.counts.skipped) == (PlanMigration.DONE, 4, 1)
    (skipped,) = await migrating.outcomes(done, "SKIPPED")
    assert (skipped.subscription_id, skipped.reason) == (made[2].id, "INTERNAL")
    assert "out of the blue" not in skipped.message
    told = capsys.readouterr().out
    assert "job failed" in told
    assert "out of the blue" in told
    assert [await migrating.on_new_plan(each) for each in made] == [True, True, False, True, True]


async def test_the_catalog_may_be_away_for_a_while(migrating: Migrating) -> None:
    """A migration waits for it, and skips nobody."""
    await migrating.subscribe(3)
    previewed = await migrating.preview()
    await migrating.suite.stop("catalog")
    await migrating.start(previewed)
    await asyncio.sleep(0.3)
    assert counts(await migrating.get(previewed)) == {"would_migrate": 3}
    await migrating.suite.start("catalog")
    await migrating.suite.quiet()
    assert (await migrating.get(previewed)).counts.migrated == 3


async def test_what_happens_while_the_catalog_is_asked(migrating: Migrating, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was transferred meanwhile is asked about again, and a migration that was stopped does nothing more."""
    monkeypatch.setattr(usecases, "HANDFUL", 2)
    ask = clients.get_plan_for_each
    made = await migrating.subscribe(7)
    previewed = await migrating.preview()
    questions = 0

    async def asked(
        desk: Desk, plan_id: PlanId, customer_ids: Collection[CustomerId]
    ) -> dict[CustomerId, Plan | InvalidArgument]:
        nonlocal questions
        questions += 1
        if questions == 1:
            return {}  # as if all of them were other customers' by now
        if questions == 4:
            await migrating.cancel(previewed)
        return await ask(desk, plan_id, customer_ids)

    monkeypatch.setattr(clients, "get_plan_for_each", asked)
    await migrating.start(previewed)
    await migrating.suite.quiet()
    stopped = await migrating.get(previewed)
    assert (questions, stopped.state) == (4, PlanMigration.CANCELLED)
    assert (stopped.counts.migrated, stopped.counts.skipped) == (4, 0)
    moved = [await migrating.on_new_plan(each) for each in sorted(made, key=lambda each: each.id)]
    assert moved == [True] * 4 + [False] * 3


async def test_who_comes_while_it_runs_is_not_meant(migrating: Migrating, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never end otherwise, where people subscribe as fast as they are moved."""
    monkeypatch.setattr(usecases, "HANDFUL", 1)
    ask = clients.get_plan_for_each
    (first,) = await migrating.subscribe()
    await migrating.suite.travel(JAN_11)
    previewed = await migrating.preview()
    late: list[subscription_pb2.Subscription] = []

    async def asked(
        desk: Desk, plan_id: PlanId, customer_ids: Collection[CustomerId]
    ) -> dict[CustomerId, Plan | InvalidArgument]:
        if not late:
            # Time stands still here: the start is made earlier instead, so that this comes later.
            await migrating.begin_earlier(previewed)
            late.extend(await migrating.subscribe())
        return await ask(desk, plan_id, customer_ids)

    monkeypatch.setattr(clients, "get_plan_for_each", asked)
    await migrating.start(previewed)
    await migrating.suite.quiet()
    assert [await migrating.on_new_plan(each) for each in (first, *late)] == [True, False]
    assert (await migrating.get(previewed)).counts.migrated == len(late) == 1


async def test_changes_of_others_meet_the_migration_one_after_the_other(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs, callers change quantities and cancel: nothing is lost, and nobody gets an error for it."""
    monkeypatch.setattr(usecases, "HANDFUL", FEW)
    made = await migrating.subscribe(6 * FEW)
    previewed = await migrating.preview()
    await migrating.start(previewed)
    more = decimal_pb2.Decimal(value="9")
    busy, gone = made[::4], made[1::4]
    await asyncio.gather(
        *(
            migrating.shop.change(
                each, Action(set_quantity=Action.SetQuantity(item_id=each.items[0].id, quantity=more))
            )
            for each in busy
        ),
        *(
            migrating.shop.api.CancelSubscription(
                pb.CancelSubscriptionRequest(id=each.id, timing=pb.CancelSubscriptionRequest.NOW)
            )
            for each in gone
        ),
    )
    await migrating.suite.quiet()
    done = await migrating.get(previewed)
    assert done.state == PlanMigration.DONE
    outcomes = brief(await migrating.outcomes(done))
    for each in busy:
        after = await migrating.shop.find(each)
        assert (after.plan_id, after.items[0].quantity.value) == (migrating.new.id, "9")
    for each in made:
        expected = {("MIGRATED", "")} | ({("SKIPPED", "SUBSCRIPTION_NOT_CHANGEABLE")} if each in gone else set())
        assert outcomes[each.id][:2] in expected
        assert await migrating.on_new_plan(each) == (outcomes[each.id][0] == "MIGRATED")


async def test_a_stopped_migration_stays_half_done_and_can_be_taken_back(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done stays done until somebody reverts it; nothing happens to the rest."""
    monkeypatch.setattr(usecases, "HANDFUL", 2)
    made = await migrating.subscribe(7)
    previewed = await migrating.preview(timing=Change.PERIOD_END)
    save = store.save_outcomes
    first, go_on = asyncio.Event(), asyncio.Event()

    async def save_slowly(tx: Tx, migration: Migration, new: Sequence[Outcome]) -> None:
        await save(tx, migration, new)
        first.set()
        await go_on.wait()

    monkeypatch.setattr(store, "save_outcomes", save_slowly)
    await migrating.start(previewed)
    async with asyncio.timeout(20):
        await first.wait()
    stopping = asyncio.create_task(migrating.cancel(previewed))
    await asyncio.sleep(0.2)
    assert not stopping.done(), "it did not wait for those that are being worked on"
    go_on.set()
    stopped = await stopping
    await migrating.suite.quiet()
    assert stopped.state == PlanMigration.CANCELLED
    assert counts(await migrating.get(stopped)) == counts(stopped)
    assert 2 <= stopped.counts.migrated < len(made)
    left = await migrating.outcomes(stopped, "WOULD_MIGRATE")
    assert len(left) == len(made) - stopped.counts.migrated
    (finished,) = migrating.suite.announced(events.PlanMigrationFinished)
    assert finished.plan_migration == stopped
    reverted = await migrating.revert(stopped)
    assert (reverted.state, reverted.counts.reverted) == (PlanMigration.REVERTED, stopped.counts.migrated)
    assert not await migrating.changes()


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
