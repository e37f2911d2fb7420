"""Knows how plan migrations are stored, which of them are to go on, and what each subscription has come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from common.db import Tx
from common.telemetry import traceparent
from subscriptions.domain.change import Proration, Timing, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import PlanMigrationNotFound
from subscriptions.domain.plan_migration import WALKING, Outcome, PlanMigration, PlanMigrationId, Result, State
from subscriptions.domain.subscription import Decision
from subscriptions.domain.terms import ChangeId, PlanId, PriceId, SubscriptionId
from subscriptions.store.tables import plan_migration_outcomes as outcomes
from subscriptions.store.tables import plan_migrations, subscriptions

PLAN_MIGRATIONS_DUE: Final = select(
    plan_migrations.c.seller_id, plan_migrations.c.id, plan_migrations.c.due_time, plan_migrations.c.traceparent
).where(plan_migrations.c.due_time.is_not(None))

_PREVIEWED: Final = (Result.WOULD_MIGRATE.name, Result.WOULD_SKIP.name)


class OutcomeSettled(Exception):
    """A subscription would have come to a second outcome: something walks over it that should not."""


def is_conflict(error: Exception) -> bool:
    """Whether a transaction failed because of others, and not because of what it was to store."""
    if isinstance(error, OutcomeSettled):
        return True
    return isinstance(error, DBAPIError) and not isinstance(error, IntegrityError)


async def add_plan_migration(tx: Tx, migration: PlanMigration) -> None:
    decision = migration.decision
    await tx.execute(
        insert(plan_migrations).values(
            seller_id=tx.seller_id,
            id=migration.id,
            from_plan_id=migration.from_plan_id,
            to_plan_id=migration.to_plan_id,
            timing=decision.timing.name,
            effective_time=decision.effective_time,
            proration=None if decision.proration is None else decision.proration.name,
            unused=decision.unused.name,
            successions=dict(migration.successions),
            customer_ids=list(migration.customer_ids),
            create_time=migration.create_time,
            **_changing(tx, migration),
        )
    )


async def plan_migration(tx: Tx, migration_id: PlanMigrationId, *, lock: bool = False) -> PlanMigration:
    query = select(plan_migrations).where(
        plan_migrations.c.seller_id == tx.seller_id, plan_migrations.c.id == migration_id
    )
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise PlanMigrationNotFound(f"there is no plan migration {migration_id}", plan_migration=migration_id)
    return _plan_migration(row)


async def save_plan_migration(tx: Tx, migration: PlanMigration) -> None:
    """As it is now; as long as it walks it is due anew, which in a sandbox only the trace tells."""
    await tx.execute(
        update(plan_migrations)
        .where(plan_migrations.c.seller_id == tx.seller_id, plan_migrations.c.id == migration.id)
        .values(_changing(tx, migration))
    )


async def next_to_migrate(tx: Tx, migration: PlanMigration, *, limit: int) -> list[SubscriptionId]:
    """The next that are on the plan or were when it was previewed, in order of id."""
    of_plan = (
        select(subscriptions.c.id)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.plan_id == migration.from_plan_id,
            subscriptions.c.id > migration.cursor,
            subscriptions.c.create_time <= migration.walk_time,
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    if migration.customer_ids:
        of_plan = of_plan.where(subscriptions.c.customer_id.in_(migration.customer_ids))
    previewed = (
        _of(tx, migration.id, outcomes.c.subscription_id)
        .where(outcomes.c.result.in_(_PREVIEWED), outcomes.c.subscription_id > migration.cursor)
        .order_by(outcomes.c.subscription_id)
        .limit(limit)
    )
    # Each part is read by its index, no further than needed.
    found = union(select(of_plan.subquery().c.id), select(previewed.subquery().c.subscription_id)).subquery()
    rows = await tx.execute(select(found.c.id).order_by(found.c.id).limit(limit))
    return [SubscriptionId(row.id) for row in rows]


async def next_to_revert(tx: Tx, migration: PlanMigration, *, limit: int) -> list[Outcome]:
    query = (
        _of(tx, migration.id, outcomes)
        .where(outcomes.c.result == Result.MIGRATED.name, outcomes.c.subscription_id > migration.cursor)
        .order_by(outcomes.c.subscription_id)
        .limit(limit)
    )
    return [_outcome(row) for row in await tx.execute(query)]


async def save_outcomes(tx: Tx, migration: PlanMigration, new: Sequence[Outcome]) -> None:
    """Of subscriptions that have none yet, or one that this kind of walk comes after."""
    if not new:
        return
    before = (Result.MIGRATED.name,) if migration.state is State.REVERTING else _PREVIEWED
    rows = insert(outcomes).values([_row(tx, migration.id, outcome) for outcome in new])
    saved = await tx.execute(
        rows.on_conflict_do_update(
            index_elements=["seller_id", "migration_id", "subscription_id"],
            set_={name: rows.excluded[name] for name in _CHANGING},
            where=outcomes.c.result.in_(before),
        )
    )
    if saved.rowcount != len(new):
        raise OutcomeSettled(f"subscriptions of plan migration {migration.id} have had their outcome")


async def list_outcomes(
    tx: Tx, migration_id: PlanMigrationId, *, result: Result | None, after: str, limit: int
) -> list[Outcome]:
    """Those with a result, or all when none is named."""
    query = (
        _of(tx, migration_id, outcomes)
        .where(outcomes.c.subscription_id > after)
        .order_by(outcomes.c.subscription_id)
        .limit(limit)
    )
    if result is not None:
        query = query.where(outcomes.c.result == result.name)
    return [_outcome(row) for row in await tx.execute(query)]


def _of(tx: Tx, migration_id: PlanMigrationId, *columns: Any) -> Any:  # Any: a select of whichever columns
    return select(*columns).where(outcomes.c.seller_id == tx.seller_id, outcomes.c.migration_id == migration_id)


def _changing(tx: Tx, migration: PlanMigration) -> dict[str, object]:
    return {
        "state": migration.state.name,
        "cursor": migration.cursor,
        "counts": {result.name: count for result, count in migration.counts.items()},
        "due_time": tx.now if migration.state in WALKING else None,
        "traceparent": traceparent(),
        "preview_time": migration.preview_time,
        "start_time": migration.start_time,
        "finish_time": migration.finish_time,
        "revert_time": migration.revert_time,
        "revision": migration.revision,
        "update_time": migration.update_time,
    }


def _plan_migration(row: Row[Any]) -> PlanMigration:  # Any: a row of `plan_migrations`
    return PlanMigration(
        id=PlanMigrationId(row.id),
        from_plan_id=PlanId(row.from_plan_id),
        to_plan_id=PlanId(row.to_plan_id),
        decision=Decision(
            timing=Timing[row.timing],
            effective_time=row.effective_time,
            proration=None if row.proration is None else Proration[row.proration],
            unused=Unused[row.unused],
        ),
        successions={PriceId(old): PriceId(new) for old, new in row.successions.items()},
        customer_ids=[CustomerId(each) for each in row.customer_ids],
        state=State[row.state],
        cursor=row.cursor,
        counts={Result[name]: count for name, count in row.counts.items()},
        preview_time=row.preview_time,
        start_time=row.start_time,
        finish_time=row.finish_time,
        revert_time=row.revert_time,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )


_CHANGING: Final = (
    *("result", "reason", "message", "change_id", "effective_time"),
    *("items_kept", "items_added", "items_removed", "revert_change_id", "update_time"),
)


def _row(tx: Tx, migration_id: PlanMigrationId, outcome: Outcome) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "migration_id": migration_id,
        "subscription_id": outcome.subscription_id,
        "result": outcome.result.name,
        "reason": outcome.reason,
        "message": outcome.message,
        "change_id": outcome.change_id,
        "effective_time": outcome.effective_time,
        "items_kept": outcome.items_kept,
        "items_added": outcome.items_added,
        "items_removed": outcome.items_removed,
        "revert_change_id": outcome.revert_change_id,
        "update_time": outcome.update_time,
    }


def _outcome(row: Row[Any]) -> Outcome:  # Any: a row of `plan_migration_outcomes`
    return Outcome(
        subscription_id=SubscriptionId(row.subscription_id),
        result=Result[row.result],
        reason=row.reason,
        message=row.message,
        change_id=None if row.change_id is None else ChangeId(row.change_id),
        effective_time=row.effective_time,
        items_kept=row.items_kept,
        items_added=row.items_added,
        items_removed=row.items_removed,
        revert_change_id=None if row.revert_change_id is None else ChangeId(row.revert_change_id),
        update_time=row.update_time,
    )
