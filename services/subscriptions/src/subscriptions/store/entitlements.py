"""Knows how entitlements are stored: what plans say, what sellers decided, and what was announced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, delete, func, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import Interval, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import (
    Enabled,
    Entitlement,
    Grant,
    Limit,
    Override,
    OverrideId,
    PlanEntitlement,
    Quota,
    Unlimited,
)
from subscriptions.domain.terms import PlanId
from subscriptions.store.tables import (
    customer_entitlements,
    entitlement_overrides,
    plan_entitlements,
    subscription_changes,
    subscriptions,
)

Json = dict[str, Any]  # Any: JSON of many shapes, one per grant

PLANS_UNKNOWN: Final = select(
    plan_entitlements.c.seller_id,
    plan_entitlements.c.plan_id.label("id"),
    plan_entitlements.c.create_time.label("due_time"),
).where(plan_entitlements.c.entitlements.is_(None))

CUSTOMERS_DUE: Final = select(
    customer_entitlements.c.seller_id,
    customer_entitlements.c.customer_id.label("id"),
    customer_entitlements.c.refresh_time.label("due_time"),
).where(customer_entitlements.c.refresh_time.is_not(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What was told last about a customer: how often by then, what, and up to when everything was in it."""

    revision: int
    digest: bytes
    through: datetime
    refresh_time: datetime | None


async def remember_plans(tx: Tx, plans: Mapping[PlanId, Sequence[PlanEntitlement]]) -> None:
    """What versions of plans entitle to. What is known stays: they never change."""
    rows = [
        {
            "seller_id": tx.seller_id,
            "plan_id": plan_id,
            "entitlements": [{"feature": each.feature, **_grant_to_json(each.grant)} for each in plans[plan_id]],
            "create_time": tx.now,
        }
        for plan_id in sorted(plans)
    ]
    new = insert(plan_entitlements).values(rows)
    await tx.execute(
        new.on_conflict_do_update(
            index_elements=["seller_id", "plan_id"],
            set_={"entitlements": new.excluded.entitlements},
            where=plan_entitlements.c.entitlements.is_(None),
        )
    )


async def ask_about_plans(tx: Tx, plan_ids: Iterable[PlanId]) -> None:
    """Have the job ask the catalog about plans that nothing is known of.

    A row that is there is left alone: who writes it now is about to wait for the customers that are locked here.
    """
    wanted = set(plan_ids)
    query = select(plan_entitlements.c.plan_id).where(
        plan_entitlements.c.seller_id == tx.seller_id, plan_entitlements.c.plan_id.in_(wanted)
    )
    wanted -= {PlanId(row.plan_id) for row in await tx.execute(query)}
    if wanted:
        rows = [
            {"seller_id": tx.seller_id, "plan_id": plan_id, "entitlements": null(), "create_time": tx.now}
            for plan_id in sorted(wanted)
        ]
        await tx.execute(insert(plan_entitlements).values(rows).on_conflict_do_nothing())


async def plans_known(tx: Tx, plan_ids: Collection[PlanId]) -> dict[PlanId, tuple[PlanEntitlement, ...]]:
    """What the plans entitle to, as far as the catalog was asked."""
    query = select(plan_entitlements.c.plan_id, plan_entitlements.c.entitlements).where(
        plan_entitlements.c.seller_id == tx.seller_id,
        plan_entitlements.c.plan_id.in_(plan_ids),
        plan_entitlements.c.entitlements.is_not(None),
    )
    return {
        PlanId(row.plan_id): tuple(PlanEntitlement(each["feature"], _grant(each)) for each in row.entitlements)
        for row in await tx.execute(query)
    }


async def refresh_subscribers(tx: Tx, plan_id: PlanId) -> None:
    """Have the job look at everybody who has or had a subscription with the plan."""
    changed = select(subscription_changes.c.subscription_id).where(
        subscription_changes.c.seller_id == tx.seller_id,
        subscription_changes.c.actions.contains([{"plan_id": plan_id}]),
    )
    subscribers = (
        select(
            subscriptions.c.seller_id,
            subscriptions.c.customer_id,
            literal(0),
            literal(NOTHING),
            literal(tx.now),
            literal(tx.now),
        )
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            or_(subscriptions.c.plan_id == plan_id, subscriptions.c.id.in_(changed)),
        )
        .distinct()
        .order_by(subscriptions.c.customer_id)
    )
    names = ["seller_id", "customer_id", "revision", "digest", "through_time", "refresh_time"]
    new = insert(customer_entitlements).from_select(names, subscribers)
    await tx.execute(
        new.on_conflict_do_update(
            index_elements=["seller_id", "customer_id"], set_={"refresh_time": new.excluded.refresh_time}
        )
    )


async def lock_announced(tx: Tx, customer_ids: Iterable[CustomerId]) -> dict[CustomerId, Announced]:
    """What was announced about each. Until the commit nobody else announces anything about them.

    Whoever waits here sees afterwards what the other one has done, in this transaction's next questions.
    """
    rows = [
        {
            "seller_id": tx.seller_id,
            "customer_id": customer_id,
            "revision": 0,
            "digest": NOTHING,
            "through_time": tx.now,
        }
        for customer_id in sorted(customer_ids)
    ]
    new = insert(customer_entitlements).values(rows)
    locked = new.on_conflict_do_update(
        index_elements=["seller_id", "customer_id"],
        set_={"through_time": func.greatest(customer_entitlements.c.through_time, new.excluded.through_time)},
    ).returning(
        customer_entitlements.c.customer_id,
        customer_entitlements.c.revision,
        customer_entitlements.c.digest,
        customer_entitlements.c.through_time,
        customer_entitlements.c.refresh_time,
    )
    return {
        CustomerId(row.customer_id): Announced(
            revision=row.revision, digest=row.digest, through=row.through_time, refresh_time=row.refresh_time
        )
        for row in await tx.execute(locked)
    }


async def save_announced(tx: Tx, customer_id: CustomerId, announced: Announced) -> None:
    await tx.execute(
        update(customer_entitlements)
        .where(customer_entitlements.c.seller_id == tx.seller_id, customer_entitlements.c.customer_id == customer_id)
        .values(revision=announced.revision, digest=announced.digest, refresh_time=announced.refresh_time)
    )


async def overrides_from(tx: Tx, customer_ids: Collection[CustomerId], *, at: datetime) -> list[Override]:
    """Those that are there at a moment or come later, by feature."""
    query = (
        select(entitlement_overrides)
        .where(
            entitlement_overrides.c.seller_id == tx.seller_id,
            entitlement_overrides.c.customer_id.in_(customer_ids),
            or_(entitlement_overrides.c.end_time.is_(None), entitlement_overrides.c.end_time > at),
        )
        .order_by(entitlement_overrides.c.feature, entitlement_overrides.c.start_time)
    )
    return [_override(row) for row in await tx.execute(query)]


async def add_override(tx: Tx, override: Override) -> None:
    await tx.execute(
        insert(entitlement_overrides).values(
            seller_id=tx.seller_id,
            id=override.id,
            customer_id=override.customer_id,
            feature=override.feature,
            granted=_grant_to_json(override.grant),
            reason=override.reason,
            start_time=override.start_time,
            end_time=override.end_time,
        )
    )


async def end_override(tx: Tx, override: Override, *, at: datetime) -> None:
    """An override that took no time has not been."""
    own = (entitlement_overrides.c.seller_id == tx.seller_id, entitlement_overrides.c.id == override.id)
    if at <= override.start_time:
        await tx.execute(delete(entitlement_overrides).where(*own))
    else:
        await tx.execute(update(entitlement_overrides).where(*own).values(end_time=at))


def digest_of(entitlements: Iterable[Entitlement]) -> bytes:
    """The same for the same grants, wherever they come from."""
    grants = [[each.feature, [_grant_to_json(grant) for grant in each.grants]] for each in entitlements]
    return hashlib.sha256(json.dumps(grants, sort_keys=True).encode()).digest()


NOTHING: Final = digest_of([])


def _override(row: Row[Any]) -> Override:  # Any: a row of `entitlement_overrides`
    return Override(
        id=OverrideId(row.id),
        customer_id=CustomerId(row.customer_id),
        feature=row.feature,
        grant=_grant(row.granted),
        reason=row.reason,
        start_time=row.start_time,
        end_time=row.end_time,
    )


# Decimals are text in JSON: a JSON number would be read as a float.
def _grant_to_json(grant: Grant) -> Json:
    match grant:
        case Enabled(enabled):
            return {"enabled": enabled}
        case Limit(limit):
            return {"limit": _plain(limit)}
        case Quota(quota, interval):
            return {"quota": _plain(quota), "reset_unit": interval.unit.name, "reset_count": interval.count}
        case Unlimited():
            return {"unlimited": True}


def _plain(number: Decimal) -> str:
    """Written the same for the same number."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _grant(stored: Json) -> Grant:
    if "enabled" in stored:
        return Enabled(stored["enabled"])
    if "limit" in stored:
        return Limit(Decimal(stored["limit"]))
    if "quota" in stored:
        return Quota(Decimal(stored["quota"]), Interval(Unit[stored["reset_unit"]], stored["reset_count"]))
    return Unlimited()
