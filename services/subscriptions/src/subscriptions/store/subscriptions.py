"""Knows how subscriptions are stored, what is due of them, and the questions asked of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import Interval, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import SubscriptionNotFound
from subscriptions.domain.period_ends import next_ends
from subscriptions.domain.subscription import (
    BillingTiming,
    Item,
    ItemId,
    Notice,
    Pause,
    PlanId,
    PriceId,
    State,
    Subscription,
    SubscriptionId,
)
from subscriptions.store.tables import dunning_campaigns, pauses, subscription_items, subscriptions

ONCE: Final = "ONCE"
"""The unit of an interval that there is not."""

STARTS_DUE = select(subscriptions.c.seller_id, subscriptions.c.id, subscriptions.c.start_time.label("due_time")).where(
    subscriptions.c.state == State.PENDING.name
)
# One that is to end by then is cancelled instead.
TRIAL_ENDS_DUE = select(
    subscriptions.c.seller_id, subscriptions.c.id, subscriptions.c.trial_end_time.label("due_time")
).where(
    subscriptions.c.state == State.TRIALING.name,
    subscriptions.c.cancel_time.is_(None) | (subscriptions.c.cancel_time > subscriptions.c.trial_end_time),
)
PERIOD_ENDS_DUE = select(
    subscriptions.c.seller_id, subscriptions.c.id, subscriptions.c.next_period_end_time.label("due_time")
).where(subscriptions.c.next_period_end_time.is_not(None))
CANCELLATIONS_DUE = select(
    subscriptions.c.seller_id, subscriptions.c.id, subscriptions.c.cancel_time.label("due_time")
).where(subscriptions.c.cancel_time.is_not(None), subscriptions.c.state != State.CANCELLED.name)


async def add_subscription(tx: Tx, subscription: Subscription) -> None:
    await tx.execute(insert(subscriptions).values({"seller_id": tx.seller_id, **_subscription_values(subscription)}))
    rows = [_item_row(tx, subscription.id, position, item) for position, item in enumerate(subscription.items)]
    await tx.execute(insert(subscription_items).values(rows))


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


async def subscriptions_not_over(
    tx: Tx, customer_ids: Collection[CustomerId], *, at: datetime, limit: int
) -> list[Subscription]:
    """Those of the customers that had not ended before `at`, oldest first; the first `limit` of them."""
    query = (
        select(subscriptions)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.customer_id.in_(customer_ids),
            subscriptions.c.end_time.is_(None) | (subscriptions.c.end_time >= at),
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    return await _subscriptions(tx, (await tx.execute(query)).all())


async def save_subscription(tx: Tx, subscription: Subscription) -> None:
    await tx.execute(
        update(subscriptions)
        .where(subscriptions.c.seller_id == tx.seller_id, subscriptions.c.id == subscription.id)
        .values(_subscription_values(subscription))
    )


async def save_last_pause(tx: Tx, subscription: Subscription) -> None:
    """The pause that began, ended, or took no time and so has not been: none before it can have changed."""
    of_it = (pauses.c.seller_id == tx.seller_id, pauses.c.subscription_id == subscription.id)
    await tx.execute(delete(pauses).where(*of_it, pauses.c.end_time.is_(None)))
    if subscription.pauses:
        last = subscription.pauses[-1]
        await tx.execute(
            insert(pauses)
            .values(
                seller_id=tx.seller_id,
                subscription_id=subscription.id,
                start_time=last.start,
                end_time=last.end,
            )
            .on_conflict_do_nothing(index_elements=["seller_id", "subscription_id", "start_time"])
        )


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


async def _subscriptions(tx: Tx, rows: Iterable[Row[Any]]) -> list[Subscription]:  # Any: rows of `subscriptions`
    rows = list(rows)
    if not rows:
        return []
    wanted = [row.id for row in rows]
    items: dict[str, list[Item]] = defaultdict(list)
    item_query = (
        select(subscription_items)
        .where(subscription_items.c.seller_id == tx.seller_id, subscription_items.c.subscription_id.in_(wanted))
        .order_by(subscription_items.c.subscription_id, subscription_items.c.position)
    )
    for row in await tx.execute(item_query):
        items[row.subscription_id].append(_item(row))
    breaks: dict[str, list[Pause]] = defaultdict(list)
    pause_query = (
        select(pauses)
        .where(pauses.c.seller_id == tx.seller_id, pauses.c.subscription_id.in_(wanted))
        .order_by(pauses.c.subscription_id, pauses.c.start_time)
    )
    for row in await tx.execute(pause_query):
        breaks[row.subscription_id].append(Pause(row.start_time, row.end_time))
    return [_subscription(row, tuple(items[row.id]), tuple(breaks[row.id])) for row in rows]


def _subscription_values(subscription: Subscription) -> dict[str, object]:
    notice = subscription.notice
    ends = next_ends(subscription)
    return {
        "id": subscription.id,
        "customer_id": subscription.customer_id,
        "plan_id": subscription.plan_id,
        "state": subscription.state.name,
        "currency": subscription.currency,
        "time_zone": subscription.time_zone,
        "start_time": subscription.start_time,
        "trial_end_time": subscription.trial_end_time,
        "billing_anchor": subscription.billing_anchor,
        "notice_time": notice.given if notice else None,
        "cancel_time": notice.cancel_time if notice else None,
        "end_time": subscription.end_time,
        "periods_ended_through": subscription.periods_ended_through,
        "next_period_end_time": ends[0].period.end if ends else None,
        "revision": subscription.revision,
        "create_time": subscription.create_time,
        "update_time": subscription.update_time,
    }


def _subscription(row: Row[Any], items: tuple[Item, ...], breaks: tuple[Pause, ...]) -> Subscription:
    # Any: a row of `subscriptions`
    return Subscription(
        id=SubscriptionId(row.id),
        customer_id=CustomerId(row.customer_id),
        plan_id=PlanId(row.plan_id),
        state=State[row.state],
        items=items,
        currency=row.currency,
        time_zone=row.time_zone,
        start_time=row.start_time,
        trial_end_time=row.trial_end_time,
        billing_anchor=row.billing_anchor,
        notice=Notice(row.notice_time, row.cancel_time) if row.notice_time else None,
        end_time=row.end_time,
        pauses=breaks,
        periods_ended_through=row.periods_ended_through,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )


def _item_row(tx: Tx, subscription_id: SubscriptionId, position: int, item: Item) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": item.id,
        "subscription_id": subscription_id,
        "position": position,
        "price_id": item.price_id,
        "interval_unit": item.interval.unit.name if item.interval else ONCE,
        "interval_count": item.interval.count if item.interval else 1,
        "billing_timing": item.timing.name,
        "meter": item.meter,
        "quantity": item.quantity,
    }


def _item(row: Row[Any]) -> Item:  # Any: a row of `subscription_items`
    return Item(
        id=ItemId(row.id),
        price_id=PriceId(row.price_id),
        interval=None if row.interval_unit == ONCE else Interval(Unit[row.interval_unit], row.interval_count),
        timing=BillingTiming[row.billing_timing],
        meter=row.meter,
        quantity=row.quantity,
    )
