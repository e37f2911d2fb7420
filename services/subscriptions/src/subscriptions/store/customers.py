"""Knows how customers are stored, and the questions asked of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId
from subscriptions.domain.errors import CustomerNotFound, ExternalIdTaken
from subscriptions.store.tables import customers


async def add_customer(tx: Tx, customer: Customer) -> None:
    new = insert(customers).values({"seller_id": tx.seller_id, **_customer_values(customer)})
    if not (await tx.execute(new.on_conflict_do_nothing())).rowcount:
        raise ExternalIdTaken(f"there is a customer {customer.external_id} already", external_id=customer.external_id)


async def customer(tx: Tx, customer_id: CustomerId, *, lock: bool = False) -> Customer:
    query = select(customers).where(customers.c.seller_id == tx.seller_id, customers.c.id == customer_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    return _customer(row)


async def customer_by_external_id(tx: Tx, external_id: str) -> Customer:
    query = select(customers).where(customers.c.seller_id == tx.seller_id, customers.c.external_id == external_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise CustomerNotFound(f"there is no customer {external_id}", external_id=external_id)
    return _customer(row)


async def customers_by_id(tx: Tx, customer_ids: Collection[CustomerId]) -> list[Customer]:
    """All of them, in order of id; CUSTOMER_NOT_FOUND if one does not exist."""
    query = (
        select(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id.in_(customer_ids))
        .order_by(customers.c.id)
    )
    found = [_customer(row) for row in await tx.execute(query)]
    if missing := sorted(set(customer_ids) - {each.id for each in found}):
        named = missing[:10]
        raise CustomerNotFound(f"there is no customer {', '.join(named)}", ids=",".join(named))
    return found


async def list_customers(tx: Tx, *, after: str, limit: int) -> list[Customer]:
    query = (
        select(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id > after)
        .order_by(customers.c.id)
        .limit(limit)
    )
    return [_customer(row) for row in await tx.execute(query)]


async def save_customer(tx: Tx, customer: Customer) -> None:
    await tx.execute(
        update(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id == customer.id)
        .values(_customer_values(customer))
    )


def _customer_values(customer: Customer) -> dict[str, object]:
    profile = customer.billing_profile
    return {
        "id": customer.id,
        "external_id": customer.external_id or None,
        "display_name": customer.contact.display_name,
        "email": customer.contact.email,
        "address": customer.contact.address,
        "currency": profile.currency,
        "time_zone": profile.time_zone,
        "language_code": profile.language_code,
        "net_terms_days": profile.net_terms_days,
        "collection_method": profile.collection_method.name,
        "revision": customer.revision,
        "create_time": customer.create_time,
        "update_time": customer.update_time,
    }


def _customer(row: Row[Any]) -> Customer:  # Any: a row of `customers`
    return Customer(
        id=CustomerId(row.id),
        external_id=row.external_id or "",
        contact=Contact(display_name=row.display_name, email=row.email, address=row.address),
        billing_profile=BillingProfile(
            currency=row.currency,
            time_zone=row.time_zone,
            language_code=row.language_code,
            net_terms_days=row.net_terms_days,
            collection_method=CollectionMethod[row.collection_method],
        ),
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )
