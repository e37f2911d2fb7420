"""Knows how plans are stored, each version a row, and which of them can be subscribed to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, ScalarSelect, Select, and_, func, not_, select, update

from catalog.domain.errors import PlanCodeTaken, PlanNotFound
from catalog.domain.plan import Kind, Plan, PlanId, State, Terms
from catalog.domain.price import Price
from catalog.store.entitlements import entitlements_from_json, entitlements_to_json
from catalog.store.prices import add_prices, discard_prices, prices_of_plans
from catalog.store.rows import inserted
from catalog.store.tables import plans
from common.db import Tx

SUPERSEDED_DUE: Final = select(plans.c.seller_id, plans.c.id, plans.c.superseded_time.label("due_time")).where(
    plans.c.state == State.ACTIVE.name, plans.c.superseded_time.is_not(None)
)

# A replica of the release before this one publishes without saying from when on.
_EFFECTIVE: Final = func.coalesce(plans.c.effective_time, plans.c.publish_time)


async def add_plan(tx: Tx, plan: Plan) -> None:
    if not await inserted(tx, plans, _row(tx, plan)):
        raise PlanCodeTaken(f"there is a plan {plan.code} already", code=plan.code)
    await add_prices(tx, plan.id, plan.prices, first=0)


async def save_plan(tx: Tx, plan: Plan, *, new_prices: Sequence[Price] = ()) -> None:
    await tx.execute(
        update(plans).where(plans.c.seller_id == tx.seller_id, plans.c.id == plan.id).values(_row(tx, plan))
    )
    await add_prices(tx, plan.id, new_prices, first=len(plan.prices) - len(new_prices))


async def save_rewritten(tx: Tx, plan: Plan) -> None:
    """A draft, and other prices instead of those it had."""
    await discard_prices(tx, plan.id)
    await save_plan(tx, plan, new_prices=plan.prices)


async def plan(tx: Tx, plan_id: PlanId) -> Plan:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.id == plan_id)
    return await _one(tx, query, PlanNotFound(f"there is no plan {plan_id}", plan=plan_id))


async def lock_plan(tx: Tx, plan_id: PlanId) -> Plan:
    """The plan, none of whose versions anybody else changes, adds or publishes until this transaction ends."""
    code = select(plans.c.code).where(plans.c.seller_id == tx.seller_id, plans.c.id == plan_id).scalar_subquery()
    await _lock_versions(tx, code)
    return await plan(tx, plan_id)


async def lock_last_version(tx: Tx, code: str) -> Plan:
    """As `lock_plan`, for a new version to follow."""
    await _lock_versions(tx, code)
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.code == code)
    query = query.order_by(plans.c.version.desc()).limit(1)
    return await _one(tx, query, PlanNotFound(f"there is no plan {code}", code=code))


async def active_version_before(tx: Tx, plan: Plan) -> Plan | None:
    """The one that this one takes the place of, or took, or was to take."""
    query = (
        select(plans)
        .where(
            plans.c.seller_id == tx.seller_id,
            plans.c.code == plan.code,
            plans.c.version < plan.version,
            plans.c.state == State.ACTIVE.name,
        )
        .order_by(plans.c.version.desc())
        .limit(1)
    )
    found = await plans_of(tx, await tx.execute(query))
    return found[0] if found else None


async def plan_by_code(tx: Tx, code: str) -> Plan:
    """The version that can be subscribed to now, else the last one."""
    # The job that archives a version may come a moment after its time.
    superseded = and_(plans.c.superseded_time.is_not(None), plans.c.superseded_time <= tx.now)
    is_open = and_(plans.c.state == State.ACTIVE.name, tx.now >= _EFFECTIVE, not_(superseded))
    query = (
        select(plans)
        .where(plans.c.seller_id == tx.seller_id, plans.c.code == code)
        .order_by(is_open.desc().nulls_last(), plans.c.version.desc())
        .limit(1)
    )
    return await _one(tx, query, PlanNotFound(f"there is no plan {code}", code=code))


async def plan_version(tx: Tx, code: str, version: int) -> Plan:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.code == code, plans.c.version == version)
    return await _one(
        tx, query, PlanNotFound(f"there is no version {version} of a plan {code}", code=code, version=version)
    )


async def list_plans(tx: Tx, *, after: str, limit: int) -> list[Plan]:
    query = select(plans).where(plans.c.seller_id == tx.seller_id, plans.c.id > after).order_by(plans.c.id).limit(limit)
    return await plans_of(tx, await tx.execute(query))


async def _lock_versions(tx: Tx, code: str | ScalarSelect[str]) -> None:
    """Every plan has a first version, and keeps it: who changes any of them waits here."""
    await tx.execute(
        select(plans.c.id)
        .where(plans.c.seller_id == tx.seller_id, plans.c.code == code, plans.c.version == 1)
        .with_for_update(key_share=True)
    )


async def _one(tx: Tx, query: Select[Any], missing: PlanNotFound) -> Plan:  # Any: a row of `plans`
    found = await plans_of(tx, await tx.execute(query))
    if not found:
        raise missing
    return found[0]


async def plans_of(tx: Tx, rows: Iterable[Row[Any]]) -> list[Plan]:  # Any: as above
    rows = list(rows)
    of_plan = await prices_of_plans(tx, [row.id for row in rows]) if rows else {}
    return [
        Plan(
            id=PlanId(row.id),
            code=row.code,
            version=row.version,
            terms=Terms(
                display_name=row.display_name,
                kind=Kind[row.kind],
                prices=tuple(of_plan.get(row.id, ())),
                entitlements=entitlements_from_json(row.entitlements),
                trial_days=row.trial_days,
            ),
            state=State[row.state],
            revision=row.revision,
            create_time=row.create_time,
            publish_time=row.publish_time,
            effective_time=row.effective_time or row.publish_time,
            superseded_time=row.superseded_time,
        )
        for row in rows
    ]


def _row(tx: Tx, plan: Plan) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": plan.id,
        "code": plan.code,
        "version": plan.version,
        "display_name": plan.terms.display_name,
        "kind": plan.terms.kind.name,
        "entitlements": entitlements_to_json(plan.terms.entitlements),
        "trial_days": plan.terms.trial_days,
        "state": plan.state.name,
        "revision": plan.revision,
        "create_time": plan.create_time,
        "publish_time": plan.publish_time,
        "effective_time": plan.effective_time,
        "superseded_time": plan.superseded_time,
    }
