"""Knows what customers are called beside their ids: the one place that gives a key to one customer of a seller only."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Select, case, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.errors import AliasTaken, CustomerNotFound, ExternalIdTaken
from subscriptions.store.customer_names import free_since
from subscriptions.store.customers import customer_of
from subscriptions.store.personal_data import read_customers
from subscriptions.store.tables import customer_keys, customers


class Kind(Enum):
    EXTERNAL_ID = "EXTERNAL_ID"
    ALIAS = "ALIAS"
    MERGED_ID = "MERGED_ID"


async def customer_by_key(tx: Tx, key: str) -> Customer:
    """By id, external id or alias; for one that was merged the customer it is part of."""
    found = await _first(tx, _called(tx, key), _with_id(tx, key), _with_external_id(tx, key))
    if found is None:
        raise CustomerNotFound(f"there is no customer {key}", key=key)
    return found


async def customer_by_external_id(tx: Tx, external_id: str) -> Customer:
    """By external id or alias."""
    called = _called(tx, external_id).where(customer_keys.c.kind != Kind.MERGED_ID.name)
    found = await _first(tx, called, _with_external_id(tx, external_id))
    if found is None:
        raise CustomerNotFound(f"there is no customer {external_id}", external_id=external_id)
    return found


async def take_external_id(tx: Tx, customer: Customer) -> datetime | None:
    """From when on usage under it can count; None means for all time."""
    if not await _take(tx, customer.external_id, customer.id, Kind.EXTERNAL_ID):
        raise ExternalIdTaken(f"there is a customer {customer.external_id} already", external_id=customer.external_id)
    return await free_since(tx, customer.external_id)


async def take_alias(tx: Tx, customer_id: CustomerId, alias: str) -> datetime | None:
    """From when on usage under it can count; None means for all time."""
    is_external_id = (await tx.execute(_with_external_id(tx, alias))).one_or_none() is not None
    if is_external_id or not await _take(tx, alias, customer_id, Kind.ALIAS):
        raise AliasTaken(f"there is a customer {alias} already", alias=alias)
    return await free_since(tx, alias)


async def free_alias(tx: Tx, alias: str) -> None:
    await tx.execute(
        delete(customer_keys).where(customer_keys.c.seller_id == tx.seller_id, customer_keys.c.key == alias)
    )


async def hand_over_keys(tx: Tx, source: Customer, target_id: CustomerId) -> None:
    """All that the source is called names the target, its id included."""
    kind = case((customer_keys.c.kind == Kind.EXTERNAL_ID.name, Kind.ALIAS.name), else_=customer_keys.c.kind)
    await tx.execute(
        update(customer_keys)
        .where(customer_keys.c.seller_id == tx.seller_id, customer_keys.c.customer_id == source.id)
        .values(customer_id=target_id, kind=kind)
    )
    await _take(tx, source.id, target_id, Kind.MERGED_ID)
    if source.external_id:
        await _take(tx, source.external_id, target_id, Kind.ALIAS)


async def _take(tx: Tx, key: str, customer_id: CustomerId, kind: Kind) -> bool:
    new = insert(customer_keys).values(seller_id=tx.seller_id, key=key, customer_id=customer_id, kind=kind.name)
    return bool((await tx.execute(new.on_conflict_do_nothing())).rowcount)


async def _first(tx: Tx, *queries: Select[Any]) -> Customer | None:  # Any: selects of `customers`
    for query in queries:
        for row in await read_customers(tx, query):
            return customer_of(tx, row)
    return None


def _called(tx: Tx, key: str) -> Select[Any]:  # Any: as above
    held = (customer_keys.c.seller_id == customers.c.seller_id) & (customer_keys.c.customer_id == customers.c.id)
    return (
        select(customers)
        .join(customer_keys, held)
        .where(customer_keys.c.seller_id == tx.seller_id, customer_keys.c.key == key)
    )


def _with_external_id(tx: Tx, key: str) -> Select[Any]:  # Any: as above
    """Their own column knows external ids too, also those that a release without a table of keys gave."""
    return select(customers).where(customers.c.seller_id == tx.seller_id, customers.c.external_id == key)


def _with_id(tx: Tx, key: str) -> Select[Any]:  # Any: as above
    return select(customers).where(customers.c.seller_id == tx.seller_id, customers.c.id == key)
