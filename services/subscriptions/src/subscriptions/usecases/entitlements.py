"""What is done about entitlements: worked out, announced when they change, overridden."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from common.db import Tx
from common.errors import InvalidArgument
from common.rpc import Desk
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import clients, store
from subscriptions.convert.entitlement import customer_entitlements_to_proto
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import (
    OVERRIDES_MAX,
    Entitlement,
    Grant,
    Override,
    OverrideId,
    PlanEntitlement,
    Source,
    effective_set,
    plans_of,
    sources,
)
from subscriptions.domain.errors import (
    EntitlementOverrideNotFound,
    EntitlementsUnknown,
    PlanNotFound,
    TooManyEntitlementOverrides,
    TooManySubscriptions,
)
from subscriptions.domain.plan import Plan
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import PlanId
from subscriptions.store import entitlements

SUBSCRIPTIONS_MAX: Final = 20_000
"""Looked at together."""


async def remember(tx: Tx, plans: Mapping[PlanId, Plan]) -> None:
    """Keep what plans entitle to that are in use from now on."""
    # Asked first: everybody who subscribes to a plan would wait for the others to commit.
    unknown = plans.keys() - (await entitlements.plans_known(tx, plans.keys())).keys()
    if unknown:
        await entitlements.remember_plans(tx, {plan_id: plans[plan_id].entitlements for plan_id in unknown})


async def refresh_of(tx: Tx, changed: Iterable[Subscription]) -> None:
    """After subscriptions have changed: announce what their customers are entitled to, where it is something else."""
    by_plans = {subscription.id: (plans_of(subscription), subscription.customer_ids) for subscription in changed}
    named = {plan_id for plans, _ in by_plans.values() for plan_id in plans}
    if not named:
        return
    known = await entitlements.plans_known(tx, named)
    granting = {plan_id for plan_id in named if known.get(plan_id, True)}
    await refresh(tx, {each for plans, customers in by_plans.values() if plans & granting for each in customers})


async def refresh(tx: Tx, customer_ids: Collection[CustomerId]) -> None:
    """Announce what customers are entitled to, where that is not what was announced last.

    Their rows are locked before anything is read: of two who change things of one customer, the second sees both.
    """
    if not customer_ids:
        return
    announced = await entitlements.lock_announced(tx, customer_ids)
    found = await store.subscriptions_not_ended(tx, customer_ids, limit=SUBSCRIPTIONS_MAX + 1)
    _check_number(found)
    having: dict[CustomerId, list[Source]] = defaultdict(list)
    for subscription in found:
        for customer_id in announced.keys() & subscription.customer_ids:
            having[customer_id] += sources(subscription, customer_id, at=announced[customer_id].through)
    overrides: dict[CustomerId, list[Override]] = defaultdict(list)
    for override in await entitlements.overrides_from(tx, customer_ids, at=tx.now):
        overrides[override.customer_id].append(override)
    named = {source.plan_id for each in having.values() for source in each}
    plans = await entitlements.plans_known(tx, named)
    if named - plans.keys():
        # Of subscriptions that a release made which kept none of it.
        await entitlements.ask_about_plans(tx, named - plans.keys())
    for customer_id in sorted(announced):
        before, decided = announced[customer_id], overrides[customer_id]
        after = replace(
            before,
            refresh_time=min(
                (each.end_time for each in decided if each.end_time is not None and each.end_time > before.through),
                default=None,
            ),
        )
        # What the catalog has not said yet is announced when it has.
        if all(source.plan_id in plans for source in having[customer_id]):
            in_force = [each for each in decided if each.is_in_force(before.through)]
            now = effective_set(having[customer_id], in_force, plans)
            digest = entitlements.digest_of(now)
            if digest != before.digest:
                after = replace(after, revision=before.revision + 1, digest=digest)
                await tx.emit(
                    events.CustomerEntitlementsChanged(
                        customer_entitlements=customer_entitlements_to_proto(customer_id, now, revision=after.revision)
                    )
                )
        if after != before:
            await entitlements.save_announced(tx, customer_id, after)


async def refresh_customer(tx: Tx, customer_id: str) -> None:
    """Something has ended by itself."""
    await refresh(tx, [CustomerId(customer_id)])


async def learn_plan(desk: Desk, plan_id: str) -> None:
    """Ask the catalog about a plan from before there were entitlements, and look at everybody who has it."""
    known = PlanId(plan_id)
    granted: tuple[PlanEntitlement, ...] = ()
    try:
        granted = await clients.get_plan_entitlements(desk, known)
    except PlanNotFound:
        # Nobody can be told what it was; and asking again would not help.
        granted = ()
    async with desk.transaction() as tx:
        await entitlements.remember_plans(tx, {known: granted})
        await entitlements.refresh_subscribers(tx, known)


async def entitlements_of(tx: Tx, customer_id: CustomerId, *, at: datetime) -> list[Entitlement]:
    """What a customer is entitled to at a moment, by feature code."""
    if at == tx.now:
        found = await store.subscriptions_not_ended(tx, [customer_id], limit=SUBSCRIPTIONS_MAX + 1)
    else:
        found = await store.subscriptions_not_over(tx, [customer_id], at=at, limit=SUBSCRIPTIONS_MAX + 1)
    _check_number(found)
    having = [source for subscription in found for source in sources(subscription, customer_id, at=at)]
    plans = await entitlements.plans_known(tx, {source.plan_id for source in having})
    if unknown := sorted({source.plan_id for source in having} - plans.keys()):
        raise EntitlementsUnknown(f"what plan {unknown[0]} entitles to is not known yet", plan=unknown[0])
    overrides = await entitlements.overrides_from(tx, [customer_id], at=at)
    return effective_set(having, [each for each in overrides if each.is_in_force(at)], plans)


async def entitlement_of(tx: Tx, customer_id: CustomerId, feature: str, *, at: datetime) -> Entitlement:
    """Of one feature, and be it nothing."""
    for entitlement in await entitlements_of(tx, customer_id, at=at):
        if entitlement.feature == feature:
            return entitlement
    return Entitlement(feature=feature, grants=(), origins=())


async def set_override(
    tx: Tx, customer_id: CustomerId, feature: str, grant: Grant, *, end_time: datetime | None, reason: str
) -> Entitlement:
    # First the customer, then what was announced: as a merge does.
    (await store.customer(tx, customer_id, lock=True)).check_active()
    at = (await entitlements.lock_announced(tx, [customer_id]))[customer_id].through
    if end_time is not None and end_time <= at:
        raise InvalidArgument("must be later than now", field="end_time")
    decided = await entitlements.overrides_from(tx, [customer_id], at=at)
    if len({each.feature for each in decided} - {feature}) >= OVERRIDES_MAX:
        raise TooManyEntitlementOverrides(
            f"{OVERRIDES_MAX} features are overridden for customer {customer_id}",
            customer=customer_id,
            maximum=OVERRIDES_MAX,
        )
    for each in decided:
        if each.feature == feature:
            await entitlements.end_override(tx, each, at=at)
    override = Override(
        id=OverrideId(tx.new_id("eov")),
        customer_id=customer_id,
        feature=feature,
        grant=grant,
        reason=reason,
        start_time=at,
        end_time=end_time,
    )
    await entitlements.add_override(tx, override)
    await refresh(tx, [customer_id])
    return await entitlement_of(tx, customer_id, feature, at=at)


async def remove_override(tx: Tx, customer_id: CustomerId, feature: str) -> Entitlement:
    await store.customer(tx, customer_id)
    at = (await entitlements.lock_announced(tx, [customer_id]))[customer_id].through
    decided = await entitlements.overrides_from(tx, [customer_id], at=at)
    override = next((each for each in decided if each.feature == feature), None)
    if override is None:
        raise EntitlementOverrideNotFound(
            f"feature {feature} is not overridden for customer {customer_id}", customer=customer_id, feature=feature
        )
    await entitlements.end_override(tx, override, at=at)
    await refresh(tx, [customer_id])
    return await entitlement_of(tx, customer_id, feature, at=at)


def _check_number(found: Collection[Subscription]) -> None:
    if len(found) > SUBSCRIPTIONS_MAX:
        raise TooManySubscriptions(f"there are more than {SUBSCRIPTIONS_MAX} subscriptions", limit=SUBSCRIPTIONS_MAX)
