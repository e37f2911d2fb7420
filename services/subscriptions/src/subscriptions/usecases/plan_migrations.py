"""What is done to plan migrations: previewed, carried out and reverted, some subscriptions at a time.

Each walk is an errand that does one handful and is due again: it asks the catalog first, and then stores the outcomes
together with the changes that they tell of, and how far it has come. Whatever ends it in the middle, it goes on there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.db import Tx
from common.errors import Aborted, InvalidArgument, SaldoError, Unavailable
from common.rpc import Desk
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import clients, store
from subscriptions.convert.plan_migration import Asked, plan_migration_to_proto
from subscriptions.domain import verbs
from subscriptions.domain.change import Action, Change
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import Billed, SubscriptionMoved
from subscriptions.domain.plan import Plan
from subscriptions.domain.plan_migration import (
    WALKING,
    Outcome,
    PlanMigration,
    PlanMigrationId,
    Result,
    State,
    check_on_plan,
    is_billed,
    moved,
    reversal,
    reversal_decision,
)
from subscriptions.domain.states import Verb
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import SubscriptionId
from subscriptions.store import plan_migrations
from subscriptions.usecases import amendments, entitlements, seats, subscriptions

HANDFUL: Final = 100
"""How many subscriptions are locked and changed in one transaction."""
INTERNAL: Final = "INTERNAL"

Plans = Mapping[CustomerId, Plan | InvalidArgument]
Step = Callable[[], Awaitable[Outcome]]
"""What was decided about a subscription, still to be carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handful:
    """What a walk comes to next: subscriptions in order of id, with the outcomes they have if it reverts."""

    subscription_ids: Sequence[SubscriptionId]
    outcomes: Mapping[SubscriptionId, Outcome]
    is_last: bool

    def apart(self) -> list[Handful]:
        """Each by itself."""
        return [
            replace(self, subscription_ids=[each], is_last=self.is_last and each == self.subscription_ids[-1])
            for each in self.subscription_ids
        ]


async def create_plan_migration(tx: Tx, asked: Asked) -> PlanMigration:
    await store.customers_by_id(tx, asked.customer_ids)
    migration = PlanMigration.previewing(
        id=PlanMigrationId(tx.new_id("pmig")),
        from_plan_id=asked.from_plan_id,
        to_plan_id=asked.to_plan_id,
        decision=asked.decision,
        successions=asked.successions,
        customer_ids=asked.customer_ids,
        at=tx.now,
    )
    await plan_migrations.add_plan_migration(tx, migration)
    return migration


async def start(tx: Tx, migration_id: PlanMigrationId) -> PlanMigration:
    migration = (await plan_migrations.plan_migration(tx, migration_id, lock=True)).started(tx.now)
    await plan_migrations.save_plan_migration(tx, migration)
    await tx.emit(events.PlanMigrationStarted(plan_migration=plan_migration_to_proto(migration)))
    return migration


async def cancel(tx: Tx, migration_id: PlanMigrationId) -> PlanMigration:
    before = await plan_migrations.plan_migration(tx, migration_id, lock=True)
    migration = before.cancelled(tx.now)
    await plan_migrations.save_plan_migration(tx, migration)
    if before.state is State.RUNNING:
        await tx.emit(events.PlanMigrationFinished(plan_migration=plan_migration_to_proto(migration)))
    return migration


async def revert(tx: Tx, migration_id: PlanMigrationId) -> PlanMigration:
    migration = (await plan_migrations.plan_migration(tx, migration_id, lock=True)).reverting(tx.now)
    await plan_migrations.save_plan_migration(tx, migration)
    return migration


async def carry_on(desk: Desk, migration_id: str) -> None:
    """The next handful of a walk that is under way.

    When it cannot be stored, each is tried by itself, so that one costs only itself: its outcome says so, and its
    error is raised when all the others are done, for the operators to see.
    """
    async with desk.transaction() as tx:
        migration = await plan_migrations.plan_migration(tx, PlanMigrationId(migration_id))
        if migration.state not in WALKING:
            return
        handful = await _next(tx, migration)
        found = await store.subscriptions_by_id(tx, handful.subscription_ids)
        customer_ids = list(dict.fromkeys(each for subscription in found for each in subscription.customer_ids))
    plans: Plans = {}
    if customer_ids and migration.state is not State.REVERTING:
        plans = await clients.get_plan_for_each(desk, migration.to_plan_id, customer_ids)
    try:
        async with desk.transaction() as tx:
            await _walk(tx, migration, handful, plans)
            return
    except Exception as error:
        if _is_of_all(error) or not handful.subscription_ids:
            raise
    failures: list[Exception] = []
    walked: PlanMigration | None = migration
    for one in handful.apart():
        if walked is None:
            break
        try:
            async with desk.transaction() as tx:
                after = await _walk(tx, walked, one, plans)
        except Exception as error:
            if _is_of_all(error):
                raise
            failures.append(error)
            async with desk.transaction() as tx:
                after = await _walk(tx, walked, one, plans, failure=error)
        walked = after
    if failures:
        raise failures[0]


def _is_of_all(error: Exception) -> bool:
    """Whether it is not because of one subscription: somebody else was faster, or somebody is away."""
    return isinstance(error, Unavailable | Aborted) or plan_migrations.is_conflict(error)


async def _next(tx: Tx, migration: PlanMigration) -> Handful:
    if migration.state is State.REVERTING:
        outcomes = await plan_migrations.next_to_revert(tx, migration, limit=HANDFUL)
        return Handful(
            subscription_ids=[outcome.subscription_id for outcome in outcomes],
            outcomes={outcome.subscription_id: outcome for outcome in outcomes},
            is_last=len(outcomes) < HANDFUL,
        )
    found = await plan_migrations.next_to_migrate(tx, migration, limit=HANDFUL)
    return Handful(subscription_ids=found, outcomes={}, is_last=len(found) < HANDFUL)


async def _walk(
    tx: Tx, seen: PlanMigration, handful: Handful, plans: Plans, *, failure: Exception | None = None
) -> PlanMigration | None:
    """The outcomes of a handful, or that it could not be stored; None if the migration was stopped meanwhile."""
    migration = await plan_migrations.plan_migration(tx, seen.id, lock=True)
    if (migration.revision, migration.cursor) != (seen.revision, seen.cursor):
        return None
    read = store.subscriptions_by_id if migration.state is State.PREVIEWING else store.lock_subscriptions
    outcomes: list[Outcome] = []
    changed: list[Subscription] = []
    for before in await read(tx, handful.subscription_ids):
        had = handful.outcomes.get(before.id)
        if failure is None:
            outcomes.append(await _outcome(tx, migration, before, had, plans, changed))
        else:
            # What went wrong is told to the operators, in the log of the job.
            reason = failure.reason if isinstance(failure, SaldoError) else INTERNAL
            message = failure.message if isinstance(failure, SaldoError) else "an internal error"
            outcomes.append(_refused(tx, migration, before, had, reason, message))
    await entitlements.refresh_of(tx, changed)
    await plan_migrations.save_outcomes(tx, migration, outcomes)
    through = handful.subscription_ids[-1] if handful.subscription_ids else migration.cursor
    migration = migration.walked(outcomes, through=through, is_end=handful.is_last, at=tx.now)
    await plan_migrations.save_plan_migration(tx, migration)
    match migration.state:
        case State.DONE:
            await tx.emit(events.PlanMigrationFinished(plan_migration=plan_migration_to_proto(migration)))
        case State.REVERTED:
            await tx.emit(events.PlanMigrationReverted(plan_migration=plan_migration_to_proto(migration)))
        case _:
            pass
    return migration


async def _outcome(
    tx: Tx,
    migration: PlanMigration,
    before: Subscription,
    had: Outcome | None,
    plans: Plans,
    changed: list[Subscription],
) -> Outcome:
    """What becomes of one, which is then among the changed if it was.

    A refusal of what is decided is an outcome, as nothing is stored by then. What fails later fails the transaction.
    """
    try:
        if had is None:
            step: Step = await _migration(tx, migration, before, plans, changed)
        else:
            step = await _reversal(tx, migration, before, had, changed)
    except Aborted:
        raise
    except SaldoError as refusal:
        return _refused(tx, migration, before, had, refusal.reason, refusal.message)
    return await step()


async def _migration(
    tx: Tx, migration: PlanMigration, before: Subscription, plans: Plans, changed: list[Subscription]
) -> Step:
    before.check(Verb.CHANGE, tx.now)
    effective = before.effective_time(migration.decision, tx.now)
    check_on_plan(before, migration.from_plan_id, at=effective)
    customer_id = before.as_of(effective).customer_id
    plan = plans.get(customer_id)
    if plan is None:
        message = f"subscription {before.id} is another customer's than the catalog was asked about"
        raise SubscriptionMoved(message, subscription=before.id)
    if isinstance(plan, InvalidArgument):
        raise plan
    actions = await amendments.actions(tx, before, [migration.wish], {plan.id: plan}, migration.decision, {})
    foretold = await _tried(tx, before, actions, migration.decision)

    async def step() -> Outcome:
        if migration.state is State.PREVIEWING:
            return moved(before.id, Result.WOULD_MIGRATE, actions, _new(before, foretold), at=tx.now)
        after = await subscriptions.carry_out(tx, before, actions, migration.decision)
        changed.append(after)
        return moved(before.id, Result.MIGRATED, actions, _new(before, after), at=tx.now)

    return step


async def _reversal(
    tx: Tx, migration: PlanMigration, before: Subscription, had: Outcome, changed: list[Subscription]
) -> Step:
    change = next(each for each in before.changes if each.id == had.change_id)
    reverted = replace(had, result=Result.REVERTED, update_time=tx.now)
    actions: list[Action] = []
    decision = reversal_decision(before, change, at=tx.now)
    is_scheduled = change.effective_time > tx.now
    if change.revoked_time is None and is_scheduled:
        verbs.revoke(before, change.id, at=tx.now)
    elif change.revoked_time is None:
        if is_billed(before, change, migration.to_plan_id, at=tx.now):
            raise Billed(f"something that change {change.id} made due has been billed", change=change.id)
        actions = reversal(before, change, migration.to_plan_id, at=tx.now)
        await _tried(tx, before, actions, decision)

    async def step() -> Outcome:
        if change.revoked_time is not None:
            return reverted  # somebody else was faster
        if is_scheduled:
            await subscriptions.revoke_change(tx, before.id, change.id)
            return reverted
        after = await subscriptions.carry_out(tx, before, actions, decision)
        changed.append(after)
        return replace(reverted, revert_change_id=_new(before, after).id)

    return step


async def _tried(tx: Tx, before: Subscription, actions: Sequence[Action], decision: Decision) -> Subscription:
    """What would come of a change, if it is not refused."""
    after = subscriptions.decided(tx, before, actions, decision)
    await seats.check_room(tx, before, after)
    return after


def _new(before: Subscription, after: Subscription) -> Change:
    return after.changes[len(before.changes)]


def _refused(
    tx: Tx, migration: PlanMigration, before: Subscription, had: Outcome | None, reason: str, message: str
) -> Outcome:
    if had is not None:
        return replace(had, result=Result.NOT_REVERTED, reason=reason, message=message, update_time=tx.now)
    result = Result.WOULD_SKIP if migration.state is State.PREVIEWING else Result.SKIPPED
    return Outcome(subscription_id=before.id, result=result, reason=reason, message=message, update_time=tx.now)
