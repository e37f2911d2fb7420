"""Knows how subscriptions are stored, what is due of them, and the questions asked of them.

What was agreed and every change are kept as they were; what a subscription is now stands beside them for those who look
for some of many, and the terms of its items over time where the database can refuse an overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Row, Text, any_, delete, literal, select, union, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from subscriptions.domain.change import Change, Proration, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import SubscriptionNotFound
from subscriptions.domain.moments import next_moment
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ChangeId, SubscriptionId
from subscriptions.store.agreements import action_from_json, action_to_json, opening_from_json, opening_to_json
from subscriptions.store.payers import save_named_payers
from subscriptions.store.tables import (
    dunning_campaigns,
    payment_methods_on_file,
    subscription_changes,
    subscription_terms,
    subscriptions,
)

MOMENTS_DUE: Final = select(
    subscriptions.c.seller_id, subscriptions.c.id, subscriptions.c.next_moment_time.label("due_time")
).where(subscriptions.c.next_moment_time.is_not(None))


async def add_subscription(tx: Tx, subscription: Subscription, *, plan_code: str) -> None:
    values = _values(subscription, at=tx.now)
    await tx.execute(
        insert(subscriptions).values(
            seller_id=tx.seller_id,
            id=subscription.id,
            currency=subscription.opening.currency,
            time_zone=subscription.opening.time_zone,
            opening=opening_to_json(subscription.opening),
            plan_code=plan_code,
            create_time=subscription.create_time,
            **values,
        )
    )
    await _save_changes(tx, subscription, known=())
    await _save_terms(tx, subscription)
    await save_named_payers(tx, subscription, before=None)


async def save_subscription(tx: Tx, subscription: Subscription, *, before: Subscription) -> None:
    """As it is now, with the changes that came to its log or were revoked."""
    await tx.execute(
        update(subscriptions)
        .where(subscriptions.c.seller_id == tx.seller_id, subscriptions.c.id == subscription.id)
        .values(_values(subscription, at=tx.now))
    )
    if subscription.changes != before.changes:
        await _save_changes(tx, subscription, known=before.changes)
        await _save_terms(tx, subscription)
        await save_named_payers(tx, subscription, before=before)


async def save_announced(tx: Tx, moved: Sequence[Subscription]) -> None:
    """Many of which something was announced; their logs are as before."""
    if moved:
        rows = [{"id": each.id} | _values(each, at=tx.now) for each in moved]
        columns = ([row[name] for row in rows] for name in _ANNOUNCED)
        await tx.driver.execute(_SAVE_ANNOUNCED, tx.seller_id, *columns)


async def subscription(tx: Tx, subscription_id: SubscriptionId, *, lock: bool = False) -> Subscription:
    found = await find_subscription(tx, subscription_id, lock=lock)
    if found is None:
        raise SubscriptionNotFound(f"there is no subscription {subscription_id}", subscription=subscription_id)
    return found


async def find_subscription(tx: Tx, subscription_id: SubscriptionId, *, lock: bool) -> Subscription | None:
    query = select(subscriptions).where(
        subscriptions.c.seller_id == tx.seller_id, subscriptions.c.id == subscription_id
    )
    rows = (await tx.execute(query.with_for_update() if lock else query)).all()
    return next(iter(await _subscriptions(tx, rows)), None)


async def lock_subscriptions(tx: Tx, subscription_ids: Collection[str]) -> list[Subscription]:
    """Those of them that there are, in order of id."""
    query = (
        select(subscriptions)
        .where(subscriptions.c.seller_id == tx.seller_id, _is_one_of(subscriptions.c.id, subscription_ids))
        .order_by(subscriptions.c.id)
        .with_for_update()
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def subscriptions_by_id(tx: Tx, subscription_ids: Collection[str]) -> list[Subscription]:
    """Those of them that there are, in order of id, for whoever changes nothing."""
    query = (
        select(subscriptions)
        .where(subscriptions.c.seller_id == tx.seller_id, subscriptions.c.id.in_(subscription_ids))
        .order_by(subscriptions.c.id)
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def list_subscriptions(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[Subscription]:
    """Of one customer, or of all when `customer_id` is empty."""
    query = (
        select(subscriptions)
        .where(subscriptions.c.seller_id == tx.seller_id, subscriptions.c.id > after)
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    if customer_id:
        query = query.where(subscriptions.c.customer_id == customer_id)
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def living_subscriptions(tx: Tx, customer_id: CustomerId, *, limit: int) -> list[Subscription]:
    """Those of a customer that have not ended, oldest first, locked."""
    query = (
        select(subscriptions)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.customer_id == customer_id,
            subscriptions.c.state != "CANCELLED",
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
        .with_for_update()
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def subscriptions_not_over(
    tx: Tx, customer_ids: Collection[CustomerId], *, at: datetime, limit: int
) -> list[Subscription]:
    """Those that are or were the customers' and were not closed before `at`, oldest first; at most `limit` of them."""
    # Two questions, each with an index of its own: asked as one, the whole table would be read for the answer.
    are_theirs = select(subscriptions.c.id).where(
        subscriptions.c.seller_id == tx.seller_id, _is_one_of(subscriptions.c.customer_id, customer_ids)
    )
    were_theirs = select(subscription_terms.c.subscription_id).where(
        subscription_terms.c.seller_id == tx.seller_id, _is_one_of(subscription_terms.c.customer_id, customer_ids)
    )
    query = (
        select(subscriptions)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.id.in_(union(are_theirs, were_theirs)),
            subscriptions.c.closed_time.is_(None) | (subscriptions.c.closed_time >= at),
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def subscriptions_not_ended(tx: Tx, customer_ids: Collection[CustomerId], *, limit: int) -> list[Subscription]:
    """Those that are the customers' now, oldest first; at most `limit` of them."""
    query = (
        select(subscriptions)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.customer_id.in_(customer_ids),
            subscriptions.c.state != "CANCELLED",
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def has_had_trial(tx: Tx, customer_ids: Collection[str], *, plan_code: str) -> bool:
    """Whether a subscription to any version of the plan began with a trial for one of these customers."""
    query = (
        select(subscriptions.c.id)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.opening["customer_id"].as_string().in_(customer_ids),
            subscriptions.c.plan_code == plan_code,
            subscriptions.c.opening["trial_days"].as_integer() > 0,
        )
        .limit(1)
    )
    return (await tx.execute(query)).first() is not None


async def record_campaign(
    tx: Tx, subscription_id: SubscriptionId, *, campaign_id: str, revision: int, is_open: bool
) -> bool:
    """Whether this is news: campaigns are told in any order, and only the newest word about one counts."""
    new = insert(dunning_campaigns).values(
        seller_id=tx.seller_id,
        subscription_id=subscription_id,
        id=campaign_id,
        revision=revision,
        is_open=is_open,
    )
    result = await tx.execute(
        new.on_conflict_do_update(
            index_elements=["seller_id", "subscription_id", "id"],
            set_={"revision": new.excluded.revision, "is_open": new.excluded.is_open},
            where=dunning_campaigns.c.revision < new.excluded.revision,
        )
    )
    return bool(result.rowcount)


async def is_followed_up(tx: Tx, subscription_id: SubscriptionId) -> bool:
    """Whether an invoice of the subscription is being followed up."""
    query = (
        select(dunning_campaigns.c.id)
        .where(
            dunning_campaigns.c.seller_id == tx.seller_id,
            dunning_campaigns.c.subscription_id == subscription_id,
            dunning_campaigns.c.is_open,
        )
        .limit(1)
    )
    return (await tx.execute(query)).first() is not None


async def record_payment_method(tx: Tx, customer_id: CustomerId) -> None:
    """The customer has one, now or before."""
    await tx.execute(
        insert(payment_methods_on_file).values(seller_id=tx.seller_id, customer_id=customer_id).on_conflict_do_nothing()
    )


async def has_payment_method(tx: Tx, customer_id: CustomerId) -> bool:
    query = select(payment_methods_on_file.c.customer_id).where(
        payment_methods_on_file.c.seller_id == tx.seller_id, payment_methods_on_file.c.customer_id == customer_id
    )
    return (await tx.execute(query)).first() is not None


async def _subscriptions(tx: Tx, rows: Iterable[Row[Any]]) -> list[Subscription]:  # Any: rows of `subscriptions`
    rows = list(rows)
    if not rows:
        return []
    changes: dict[str, list[Change]] = defaultdict(list)
    query = (
        select(subscription_changes)
        .where(
            subscription_changes.c.seller_id == tx.seller_id,
            _is_one_of(subscription_changes.c.subscription_id, [row.id for row in rows]),
        )
        .order_by(subscription_changes.c.subscription_id, subscription_changes.c.position)
    )
    for row in await tx.execute(query):
        changes[row.subscription_id].append(_change(row))
    return [_subscription(row, tuple(changes[row.id])) for row in rows]


async def _save_changes(tx: Tx, subscription: Subscription, *, known: Sequence[Change]) -> None:
    new = subscription.changes[len(known) :]
    if new:
        rows = [_change_row(tx, subscription.id, len(known) + n, change) for n, change in enumerate(new)]
        await tx.execute(insert(subscription_changes).values(rows))
    for before, after in zip(known, subscription.changes, strict=False):
        if before.revoked_time != after.revoked_time:
            await tx.execute(
                update(subscription_changes)
                .where(subscription_changes.c.seller_id == tx.seller_id, subscription_changes.c.id == after.id)
                .values(revoked_time=after.revoked_time, revoked_after=after.revoked_after)
            )


async def _save_terms(tx: Tx, subscription: Subscription) -> None:
    await tx.execute(
        delete(subscription_terms).where(
            subscription_terms.c.seller_id == tx.seller_id, subscription_terms.c.subscription_id == subscription.id
        )
    )
    rows = [
        {
            "seller_id": tx.seller_id,
            "subscription_id": subscription.id,
            "item_id": track.item_id,
            "start_time": segment.start,
            "end_time": segment.end,
            "customer_id": segment.customer_id,
            "plan_id": segment.terms.plan_id,
            "price_id": segment.terms.price_id,
            "quantity": segment.terms.quantity,
        }
        for track in subscription.tracks
        for segment in track.segments
        if segment.terms is not None
    ]
    if rows:
        await tx.execute(insert(subscription_terms).values(rows))


def _is_one_of(column: Column[str], values: Collection[str]) -> ColumnElement[bool]:
    """As one array: the statement is the same, and prepared already, however many there are."""
    return column == any_(literal(list(values), ARRAY(Text)))


def _values(subscription: Subscription, *, at: datetime) -> dict[str, object]:
    now, moment, end = subscription.as_of(at), next_moment(subscription), subscription.timeline.last_end
    scheduled = subscription.scheduled_end
    return {
        "customer_id": now.customer_id,
        "plan_id": now.plan_id,
        "state": subscription.state_at(at).name,
        "start_time": subscription.timeline.start_time,
        "cancel_time": scheduled.effective_time if scheduled else None,
        "end_time": end[0].start if end and end[0].start <= at else None,
        "closed_time": max(end[0].start, end[0].closed_by.recorded_time) if end else None,
        "is_followed_up": subscription.is_followed_up,
        "announced_through": subscription.announced_through,
        "next_moment_time": moment.time if moment else None,
        "revision": subscription.revision,
        "update_time": subscription.update_time,
    }


_ANNOUNCED: Final = {
    "id": "text",
    "customer_id": "text",
    "plan_id": "text",
    "state": "text",
    "end_time": "timestamptz",
    "announced_through": "timestamptz",
    "next_moment_time": "timestamptz",
    "revision": "bigint",
    "update_time": "timestamptz",
}
_SAVE_ANNOUNCED: Final = f"""
UPDATE subscriptions s SET {", ".join(f"{name} = t.{name}" for name in _ANNOUNCED if name != "id")}
FROM unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_ANNOUNCED.values(), start=2))})
    AS t ({", ".join(_ANNOUNCED)})
WHERE s.seller_id = $1 AND s.id = t.id
"""


def _subscription(row: Row[Any], changes: tuple[Change, ...]) -> Subscription:  # Any: a row of `subscriptions`
    return Subscription(
        id=SubscriptionId(row.id),
        opening=opening_from_json(row.opening, currency=row.currency, time_zone=row.time_zone),
        changes=changes,
        is_followed_up=row.is_followed_up,
        announced_through=row.announced_through,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        kept=len(changes),
    )


def _change_row(tx: Tx, subscription_id: SubscriptionId, position: int, change: Change) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": change.id,
        "subscription_id": subscription_id,
        "position": position,
        "recorded_time": change.recorded_time,
        "effective_time": change.effective_time,
        "revoked_time": change.revoked_time,
        "revoked_after": None if change.revoked_time is None else change.revoked_after,
        "decided_with": change.decided_with,
        "after_months": change.after_months,
        "proration": change.proration.name,
        "unused": change.unused.name,
        "actions": [action_to_json(action) for action in change.actions],
    }


def _change(row: Row[Any]) -> Change:  # Any: a row of `subscription_changes`
    return Change(
        id=ChangeId(row.id),
        recorded_time=row.recorded_time,
        effective_time=row.effective_time,
        revoked_time=row.revoked_time,
        revoked_after=row.revoked_after or 0,
        decided_with=None if row.decided_with is None else ChangeId(row.decided_with),
        after_months=row.after_months,
        proration=Proration[row.proration],
        unused=Unused[row.unused],
        actions=tuple(action_from_json(each) for each in row.actions),
    )
