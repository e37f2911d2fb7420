"""What may happen while subscriptions are moved from plan to plan: nobody is forgotten, and nobody moved twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence

import pytest
from google.type import decimal_pb2

from common.crash import crashpoint
from common.db import Tx
from common.errors import InvalidArgument
from common.rpc import Desk
from saldo.subscriptions.v1 import events_pb2 as events
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration
from services.subscriptions.tests.migrating import Migrating
from services.subscriptions.tests.service.test_plan_migrations import JAN_11, Action, Change, brief, counts
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

pytestmark = pytest.mark.patched_when_used

FEW = 10


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
