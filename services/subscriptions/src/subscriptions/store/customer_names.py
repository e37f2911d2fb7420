"""Knows how it is kept for which periods usage under a key is whose: nothing of it is ever forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Label, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.customer_name import CustomerName, ordered
from subscriptions.store.tables import customer_names, customers

_STANDS = customer_names.c.remove_time.is_(None)


def names() -> Label[Any]:  # Any: JSON, for `stored_names`
    """A column beside those of `customers`."""
    name = func.jsonb_build_array(customer_names.c.key, customer_names.c.since_time, customer_names.c.until_time)
    return (
        select(func.jsonb_agg(name))
        .where(
            customer_names.c.seller_id == customers.c.seller_id,
            customer_names.c.customer_id == customers.c.id,
            _STANDS,
        )
        .correlate(customers)
        .scalar_subquery()
        .label("names")
    )


async def names_known(tx: Tx, customer_id: CustomerId, at: datetime) -> tuple[CustomerName, ...]:
    """What usage was known at an instant to call the customer. When a name ended is told as it is known now."""
    query = select(customer_names).where(
        customer_names.c.seller_id == tx.seller_id,
        customer_names.c.customer_id == customer_id,
        customer_names.c.add_time <= at,
        _STANDS | (customer_names.c.remove_time > at),
    )
    found = await tx.execute(query)
    return ordered(CustomerName(key=row.key, since=row.since_time, until=row.until_time) for row in found)


def stored_names(row: Row[Any]) -> list[CustomerName]:  # Any: a row with the column `names`
    return [
        CustomerName(key=key, since=_instant(since), until=_instant(until)) for key, since, until in row.names or ()
    ]


async def save_names(tx: Tx, customer: Customer) -> None:
    """Those that are new, or that have ended. The customer's row is locked, or new in this transaction."""
    rows = [
        {
            "seller_id": tx.seller_id,
            "customer_id": customer.id,
            "key": name.key,
            "since_time": name.since,
            "until_time": name.until,
            "add_time": tx.now,
        }
        for name in customer.names
    ]
    if rows:
        new = insert(customer_names).values(rows)
        await tx.execute(
            new.on_conflict_do_update(
                index_elements=["seller_id", "customer_id", "key"],
                index_where=_STANDS,
                set_={"until_time": new.excluded.until_time},
                where=customer_names.c.until_time.is_distinct_from(new.excluded.until_time),
            )
        )


async def take_back_names(tx: Tx, customer: Customer, keys: Iterable[str]) -> None:
    """They count for nothing any more."""
    await tx.execute(
        update(customer_names)
        .where(
            customer_names.c.seller_id == tx.seller_id,
            customer_names.c.customer_id == customer.id,
            customer_names.c.key.in_(list(keys)),
            _STANDS,
        )
        .values(remove_time=tx.now)
    )


async def free_since(tx: Tx, key: str) -> datetime | None:
    """Up to when usage under a key counts for customers that were merged; None if for none."""
    query = select(func.max(customer_names.c.until_time)).where(
        customer_names.c.seller_id == tx.seller_id,
        customer_names.c.key == key,
        customer_names.c.until_time.is_not(None),
        _STANDS,
    )
    found: datetime | None = (await tx.execute(query)).scalar_one()
    return found


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
