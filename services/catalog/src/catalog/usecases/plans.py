"""Writes plans, publishes and archives them."""

from __future__ import annotations

from datetime import datetime

from catalog import store
from catalog.convert import announceable, plan_to_proto
from catalog.domain.plan import Plan, PlanId, State, Terms, draft
from catalog.domain.price import Price, PriceId
from catalog.usecases.features import check_entitlements
from catalog.usecases.prices import check_products
from common.db import Tx
from saldo.catalog.v1 import events_pb2 as events


async def create_plan(tx: Tx, *, code: str, terms: Terms) -> Plan:
    plan = draft(PlanId(tx.new_id("plan")), code, terms, at=tx.now)
    await _check_terms(tx, terms)
    await store.add_plan(tx, plan)
    await tx.emit(events.PlanCreated(plan=announceable(plan_to_proto(plan), field="prices")))
    return plan


async def create_plan_version(tx: Tx, code: str) -> Plan:
    last = await store.lock_last_version(tx, code)
    price_ids = [PriceId(tx.new_id("price")) for _ in last.prices]
    plan = last.next_version(PlanId(tx.new_id("plan")), price_ids, at=tx.now)
    await store.add_plan(tx, plan)
    await tx.emit(events.PlanCreated(plan=plan_to_proto(plan)))
    return plan


async def update_plan(tx: Tx, plan_id: PlanId, terms: Terms) -> Plan:
    plan = (await store.lock_plan(tx, plan_id)).rewrite(terms)
    await _check_terms(tx, terms)
    await store.save_rewritten(tx, plan)
    await tx.emit(events.PlanUpdated(plan=announceable(plan_to_proto(plan), field="prices")))
    return plan


async def create_price(tx: Tx, plan_id: PlanId, price: Price) -> Plan:
    plan = (await store.lock_plan(tx, plan_id)).add(price)
    await check_products(tx, [price])
    await store.save_plan(tx, plan, new_prices=[price])
    await tx.emit(events.PlanUpdated(plan=announceable(plan_to_proto(plan), field="price")))
    return plan


async def publish_plan(tx: Tx, plan_id: PlanId, *, effective_time: datetime | None) -> Plan:
    """Open a version to subscriptions, and let the one before it end where this one begins."""
    written = await store.lock_plan(tx, plan_id)
    before = await store.active_version_before(tx, written)
    plan = written.publish(at=tx.now, effective_time=effective_time, before=before)
    await store.save_plan(tx, plan)
    await tx.emit(events.PlanPublished(plan=plan_to_proto(plan)))
    if before is not None:
        await _supersede(tx, before, from_time=plan.effective_time)
    return plan


async def archive_plan(tx: Tx, plan_id: PlanId) -> Plan:
    """Close a version. One that was never to be subscribed to yet does not end the one before it."""
    active = await store.lock_plan(tx, plan_id)
    plan = active.archive()
    await _save_archived(tx, plan)
    if active.takes_effect_after(tx.now):
        before = await store.active_version_before(tx, active)
        if before is not None:
            await _supersede(tx, before, from_time=active.superseded_time)
    return plan


async def archive_superseded(tx: Tx, plan_id: str) -> None:
    """The next version takes effect."""
    plan = await store.lock_plan(tx, PlanId(plan_id))
    if plan.state is State.ACTIVE and plan.is_superseded(tx.now):
        await _save_archived(tx, plan.archive())


async def _supersede(tx: Tx, before: Plan, *, from_time: datetime | None) -> None:
    plan = before.supersede(from_time=from_time, at=tx.now)
    if plan.state is State.ARCHIVED:
        await _save_archived(tx, plan)
    else:
        await store.save_plan(tx, plan)


async def _save_archived(tx: Tx, plan: Plan) -> None:
    await store.save_plan(tx, plan)
    await tx.emit(events.PlanArchived(plan=plan_to_proto(plan)))


async def _check_terms(tx: Tx, terms: Terms) -> None:
    await check_products(tx, terms.prices)
    await check_entitlements(tx, terms.entitlements)
