"""Knows how customers are stored, and the questions asked of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from subscriptions.domain.customer import (
    BillingProfile,
    CollectionMethod,
    Customer,
    CustomerId,
    Delivery,
    State,
)
from subscriptions.domain.customer_name import names_of
from subscriptions.domain.errors import CustomerNotFound, ExternalIdTaken
from subscriptions.domain.tax_exemption import TaxExemption
from subscriptions.store.customer_names import stored_names
from subscriptions.store.personal_data import personal_data, personal_values, read_customers
from subscriptions.store.tables import customers


async def add_customer(tx: Tx, customer: Customer) -> None:
    values = _customer_values(customer) | await personal_values(tx, customer)
    new = insert(customers).values({"seller_id": tx.seller_id, **values})
    if not (await tx.execute(new.on_conflict_do_nothing())).rowcount:
        raise ExternalIdTaken(f"there is a customer {customer.external_id} already", external_id=customer.external_id)


async def customer(tx: Tx, customer_id: CustomerId, *, lock: bool = False) -> Customer:
    query = select(customers).where(customers.c.seller_id == tx.seller_id, customers.c.id == customer_id)
    rows = await read_customers(tx, query, lock=lock)
    if not rows:
        raise CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    return customer_of(tx, rows[0])


async def customers_by_id(tx: Tx, customer_ids: Collection[CustomerId], *, lock: bool = False) -> list[Customer]:
    """All of them, in order of id; CUSTOMER_NOT_FOUND if one does not exist."""
    query = (
        select(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id.in_(customer_ids))
        .order_by(customers.c.id)
    )
    found = [customer_of(tx, row) for row in await read_customers(tx, query, lock=lock)]
    _check_all(customer_ids, {each.id for each in found})
    return found


async def check_customers(tx: Tx, customer_ids: Collection[CustomerId]) -> None:
    """CUSTOMER_NOT_FOUND if one of them does not exist; nobody's personal data is opened for that."""
    query = select(customers.c.id).where(customers.c.seller_id == tx.seller_id, customers.c.id.in_(customer_ids))
    _check_all(customer_ids, {row.id for row in await tx.execute(query)})


async def list_customers(tx: Tx, *, after: str, limit: int) -> list[Customer]:
    query = (
        select(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id > after)
        .order_by(customers.c.id)
        .limit(limit)
    )
    return [customer_of(tx, row) for row in await read_customers(tx, query)]


async def save_customer(tx: Tx, customer: Customer) -> None:
    await tx.execute(
        update(customers)
        .where(customers.c.seller_id == tx.seller_id, customers.c.id == customer.id)
        .values(_customer_values(customer) | await personal_values(tx, customer))
    )


def _check_all(customer_ids: Collection[CustomerId], found: Collection[str]) -> None:
    if missing := sorted(set(customer_ids) - set(found)):
        named = missing[:10]
        raise CustomerNotFound(f"there is no customer {', '.join(named)}", ids=",".join(named))


def _customer_values(customer: Customer) -> dict[str, object]:
    profile = customer.billing_profile
    return {
        "id": customer.id,
        "external_id": customer.external_id or None,
        "currency": profile.currency,
        "time_zone": profile.time_zone,
        "language_code": profile.language_code,
        "net_terms_days": profile.net_terms_days,
        "collection_method": profile.collection_method.name,
        "revision": customer.revision,
        "create_time": customer.create_time,
        "update_time": customer.update_time,
        "state": customer.state.name,
        "merged_into_id": customer.merged_into_id or None,
        "aliases": customer.aliases,
        "merged_ids": customer.merged_ids,
        "parent_id": customer.parent_id or None,
        "payer_id": customer.payer_id or None,
        "tax_exemptions": [_exemption_document(each) for each in customer.tax_exemptions],
        "billing_day": profile.billing_day,
        "delivery": profile.delivery.name,
        "purchase_order": profile.purchase_order,
    }


def customer_of(tx: Tx, row: Row[Any]) -> Customer:  # Any: a row of `read_customers`
    personal = personal_data(tx, row)
    exemptions = tuple(_exemption(each, personal.certificate_numbers) for each in row.tax_exemptions)
    if row.erase_time is not None:
        # What the release before left there of a certificate when it erased the rest is not read any more.
        exemptions = tuple(each.without_certificate for each in exemptions)
    return Customer(
        id=CustomerId(row.id),
        external_id=row.external_id or "",
        contact=personal.contact,
        billing_profile=BillingProfile(
            currency=row.currency,
            time_zone=row.time_zone,
            language_code=row.language_code,
            net_terms_days=row.net_terms_days,
            collection_method=CollectionMethod[row.collection_method],
            billing_day=row.billing_day,
            delivery=Delivery[row.delivery],
            purchase_order=row.purchase_order,
        ),
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        state=State[row.state],
        merged_into_id=row.merged_into_id or "",
        aliases=tuple(row.aliases),
        merged_ids=tuple(row.merged_ids),
        # An older release creates customers without the name.
        names=names_of([row.external_id or ""], stored_names(row)),
        parent_id=row.parent_id or "",
        payer_id=row.payer_id or "",
        contacts=personal.contacts,
        tax_exemptions=exemptions,
        custom_fields=personal.custom_fields,
        erase_time=row.erase_time,
    )


def _exemption_document(exemption: TaxExemption) -> dict[str, object]:
    return {
        "id": exemption.id,
        "country": exemption.country,
        "region": exemption.region,
        "reason_code": exemption.reason_code,
        "certificate_number": "",  # sealed, with the personal data; the release before wants to read something
        "start_date": exemption.start_date.isoformat() if exemption.start_date else None,
        "end_date": exemption.end_date.isoformat() if exemption.end_date else None,
    }


def _exemption(document: dict[str, Any], numbers: Mapping[str, str]) -> TaxExemption:  # Any: as it was written
    dates = {
        name: date.fromisoformat(document[name]) if document[name] else None for name in ("start_date", "end_date")
    }
    number = numbers.get(document["id"]) or document["certificate_number"]
    return TaxExemption(**(document | dates | {"certificate_number": number}))
