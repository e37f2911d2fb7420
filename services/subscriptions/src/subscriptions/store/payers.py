"""Knows who pays for whom since when: a log for customers, and what follows from their logs for subscriptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    any_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.payer import PayerLog, named_payers
from subscriptions.domain.subscription import Subscription
from subscriptions.store.payer_tables import customer_payers, subscription_payers
from subscriptions.store.tables import customers, subscription_terms, subscriptions


async def payer_logs(tx: Tx, customer_ids: Collection[CustomerId]) -> dict[CustomerId, PayerLog]:
    """Of those of the customers whose invoices ever went to somebody else."""
    found: dict[CustomerId, list[tuple[datetime, CustomerId | None]]] = defaultdict(list)
    query = (
        select(customer_payers)
        .where(
            customer_payers.c.seller_id == tx.seller_id,
            customer_payers.c.customer_id == any_(literal(list(customer_ids), ARRAY(Text))),
        )
        .order_by(customer_payers.c.customer_id, customer_payers.c.since_time)
    )
    for row in await tx.execute(query):
        payer_id = None if row.payer_id is None else CustomerId(row.payer_id)
        found[CustomerId(row.customer_id)].append((row.since_time, payer_id))
    return {customer_id: PayerLog(tuple(entries)) for customer_id, entries in found.items()}


async def record_payers(tx: Tx, payers: Mapping[CustomerId, CustomerId | None]) -> None:
    """Who pays for these customers from now on. Their rows are locked."""
    logs = await payer_logs(tx, payers)
    new = {each: payer for each, payer in payers.items() if logs.get(each, PayerLog()).latest != payer}
    if not new:
        return
    billed = await _billed(tx, new)
    rows = [
        {
            "seller_id": tx.seller_id,
            "customer_id": each,
            "since_time": logs.get(each, PayerLog()).next_since(tx.now, is_billed=each in billed),
            "payer_id": payer_id,
        }
        for each, payer_id in new.items()
    ]
    said = insert(customer_payers).values(rows)
    # Of what is said in one moment the last counts: nothing was due in between.
    await tx.execute(
        said.on_conflict_do_update(
            index_elements=["seller_id", "customer_id", "since_time"], set_={"payer_id": said.excluded.payer_id}
        )
    )


async def customers_paid_by(tx: Tx, payer_id: CustomerId) -> list[CustomerId]:
    """Also those that were merged: something may still be to be billed to them."""
    query = _paid_as_a_whole(tx).where(customer_payers.c.payer_id == payer_id)
    return [CustomerId(row.customer_id) for row in await tx.execute(query)]


async def list_paid_customers(
    tx: Tx,
    *,
    payer_ids: Collection[CustomerId],
    customer_ids: Collection[CustomerId],
    after: tuple[str, ...],
    limit: int,
) -> list[tuple[CustomerId, CustomerId]]:
    """Customers, each with who pays for it or for a subscription of it, in order: all pairs with one of these on either
    side. `after` is the last pair seen.
    """
    payers, paid = (any_(literal(list(each), ARRAY(Text))) for each in (payer_ids, customer_ids))
    whole, in_part = _paid_as_a_whole(tx), _paid_in_part(tx, subscriptions, subscriptions.c.id)
    # Also who had it until it was transferred: something of it may still come back to them.
    before = _paid_in_part(tx, subscription_terms, subscription_terms.c.subscription_id)
    by_payers = (
        whole.where(customer_payers.c.payer_id == payers),
        in_part.where(subscription_payers.c.payer_id == payers),
        before.where(subscription_payers.c.payer_id == payers),
    )
    by_customers = (
        whole.where(customer_payers.c.customer_id == paid),
        in_part.where(subscriptions.c.customer_id == paid),
        before.where(subscription_terms.c.customer_id == paid),
    )
    found = union(*(by_payers if payer_ids else ()), *(by_customers if customer_ids else ())).subquery()
    query = select(found).order_by(found.c.customer_id, found.c.payer_id).limit(limit)
    if after:
        query = query.where(tuple_(found.c.customer_id, found.c.payer_id) > tuple_(*after))
    return [(CustomerId(row.customer_id), CustomerId(row.payer_id)) for row in await tx.execute(query)]


async def save_named_payers(tx: Tx, subscription: Subscription, *, before: Subscription | None) -> None:
    """Whom the subscription names, if that is not what it named before."""
    named = named_payers(subscription)
    if named == ([] if before is None else named_payers(before)):
        return
    await tx.execute(
        delete(subscription_payers).where(
            subscription_payers.c.seller_id == tx.seller_id, subscription_payers.c.subscription_id == subscription.id
        )
    )
    rows = [
        {
            "seller_id": tx.seller_id,
            "subscription_id": subscription.id,
            "start_time": each.start,
            "end_time": each.end,
            "payer_id": each.payer_id,
        }
        for each in named
    ]
    if rows:
        await tx.execute(insert(subscription_payers).values(rows))


async def to_be_readdressed(tx: Tx, source_id: CustomerId, target_id: CustomerId, *, limit: int) -> list[str]:
    """The ids of living subscriptions that name the source, or the target for what is its own, from now on."""
    is_own = and_(subscription_payers.c.payer_id == target_id, subscriptions.c.customer_id == target_id)
    query = (
        _naming(tx)
        .where(
            subscription_payers.c.payer_id.in_([source_id, target_id]),
            or_(subscription_payers.c.payer_id == source_id, is_own),
        )
        .distinct()
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    return [row.id for row in await tx.execute(query)]


async def is_named_by_others(tx: Tx, customer_ids: Collection[CustomerId]) -> bool:
    """Whether a living subscription of somebody else names one of them as its payer, now or from some time on."""
    query = _naming(tx).where(
        subscription_payers.c.payer_id.in_(customer_ids), subscriptions.c.customer_id.not_in(customer_ids)
    )
    return (await tx.execute(query.limit(1))).first() is not None


async def pays_for_subscriptions(tx: Tx, customer_ids: Collection[CustomerId]) -> bool:
    """Whether one of them pays, now or from some time on, for a living subscription of somebody else."""
    if await is_named_by_others(tx, customer_ids):
        return True
    of_it = and_(
        subscription_payers.c.seller_id == subscriptions.c.seller_id,
        subscription_payers.c.subscription_id == subscriptions.c.id,
    )
    names_nobody = or_(
        ~exists().where(of_it), exists().where(of_it, subscription_payers.c.payer_id.is_(None), _lasts(tx))
    )
    owner = and_(customers.c.seller_id == subscriptions.c.seller_id, customers.c.id == subscriptions.c.customer_id)
    query = (
        select(subscriptions.c.id)
        .join(customers, owner)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.state != "CANCELLED",
            customers.c.seller_id == tx.seller_id,
            customers.c.payer_id.in_(customer_ids),
            customers.c.id.not_in(customer_ids),
            names_nobody,
        )
        .limit(1)
    )
    return (await tx.execute(query)).first() is not None


def _paid_as_a_whole(tx: Tx) -> Select[Any]:  # Any: a customer and its payer
    """Customers whose invoices go to somebody else, by what was said last."""
    later = customer_payers.alias()
    return select(customer_payers.c.customer_id, customer_payers.c.payer_id).where(
        customer_payers.c.seller_id == tx.seller_id,
        customer_payers.c.payer_id.is_not(None),
        ~exists().where(
            later.c.seller_id == customer_payers.c.seller_id,
            later.c.customer_id == customer_payers.c.customer_id,
            later.c.since_time > customer_payers.c.since_time,
        ),
    )


def _paid_in_part(tx: Tx, whose: Table, subscription_id: ColumnElement[str]) -> Select[Any]:  # Any: as above
    """Customers with a subscription, by a table that tells `whose` it is, that names somebody else, now or from some
    time on.
    """
    of_it = and_(
        subscription_payers.c.seller_id == whose.c.seller_id, subscription_payers.c.subscription_id == subscription_id
    )
    return (
        select(whose.c.customer_id, subscription_payers.c.payer_id)
        .join(subscription_payers, of_it)
        .where(
            subscription_payers.c.seller_id == tx.seller_id,
            whose.c.seller_id == tx.seller_id,
            subscription_payers.c.payer_id.is_not(None),
            whose.c.customer_id != subscription_payers.c.payer_id,
            _lasts(tx),
        )
    )


def _naming(tx: Tx) -> Select[Any]:  # Any: one column, an id
    """Living subscriptions with what each names now or later."""
    of_it = and_(
        subscription_payers.c.seller_id == subscriptions.c.seller_id,
        subscription_payers.c.subscription_id == subscriptions.c.id,
    )
    return (
        select(subscriptions.c.id)
        .join(subscription_payers, of_it)
        .where(
            subscription_payers.c.seller_id == tx.seller_id,
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.state != "CANCELLED",
            _lasts(tx),
        )
    )


def _lasts(tx: Tx) -> ColumnElement[bool]:
    return func.coalesce(subscription_payers.c.end_time > tx.now, True)


async def _billed(tx: Tx, customer_ids: Collection[CustomerId]) -> set[str]:
    """Those of the customers who have, or had, a subscription."""
    wanted = any_(literal(list(customer_ids), ARRAY(Text)))
    now = select(subscriptions.c.customer_id).where(
        subscriptions.c.seller_id == tx.seller_id, subscriptions.c.customer_id == wanted
    )
    once = select(subscription_terms.c.customer_id).where(
        subscription_terms.c.seller_id == tx.seller_id, subscription_terms.c.customer_id == wanted
    )
    return {row.customer_id for row in await tx.execute(now.union(once))}
