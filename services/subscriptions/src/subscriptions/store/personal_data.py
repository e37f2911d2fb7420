"""Knows how personal data of customers is stored: sealed under a key of each one's own, for as long as there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.type import postal_address_pb2
from sqlalchemy import ColumnElement, Row, Select, and_, delete, insert, literal, or_, select, update

from common.db import Tx
from common.vault import DataKey, WrappedKey
from saldo.subscriptions.v1 import customer_pb2
from subscriptions.convert.customer_parts import contact_person_to_proto
from subscriptions.domain.contact_person import ContactId, ContactPerson, Role
from subscriptions.domain.customer import Contact, Customer, CustomerId
from subscriptions.store.customer_names import names
from subscriptions.store.tables import certificates_unsealed, customers, data_keys, subscriptions

LABEL: Final = "personal data"
CERTIFICATES_LABEL: Final = "tax certificates"
STATES_OVER: Final = ("CANCELLED",)

UNSEALED: Final = select(
    customers.c.seller_id, customers.c.id, customers.c.create_time.label("due_time")
).where(customers.c.display_name != "")  # fmt: skip


CERTIFICATES_UNSEALED: Final = select(
    customers.c.seller_id, customers.c.id, customers.c.create_time.label("due_time")
).where(certificates_unsealed)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    contact: Contact
    contacts: tuple[ContactPerson, ...]
    custom_fields: dict[str, str]
    certificate_numbers: dict[str, str]
    """Of the exemptions with these ids; whatever else stands beside them was not sealed yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionTimes:
    """What the export says of a subscription."""

    id: str
    state: str
    create_time: datetime
    start_time: datetime
    end_time: datetime | None


def personal_data(tx: Tx, row: Row[Any]) -> PersonalData:  # Any: a row of `read_customers`
    if row.erase_time is not None:
        remaining = what_remains(row.retained_country or "")
        return PersonalData(contact=remaining, contacts=(), custom_fields={}, certificate_numbers={})
    # Not sealed yet, or written since by the release before, which knows of nothing but the contact.
    plain = Contact(display_name=row.display_name, email=row.email, address=row.address) if row.display_name else None
    if plain is not None and row.sealed_personal_data is None:
        return PersonalData(contact=plain, contacts=(), custom_fields={}, certificate_numbers={})
    key = tx.vault.unwrap(WrappedKey(row.master_key_id, row.wrapped_key), subject=subject_of(tx, row.id))
    stored = customer_pb2.Customer.FromString(key.open(row.sealed_personal_data, label=LABEL))
    return PersonalData(
        contact=plain
        or Contact(
            display_name=stored.contact.display_name,
            email=stored.contact.email,
            address=(
                stored.contact.address.SerializeToString(deterministic=True)
                if stored.contact.HasField("address")
                else b""
            ),
        ),
        contacts=tuple(_person(each) for each in stored.contacts),
        custom_fields=dict(stored.custom_fields),
        certificate_numbers=_certificate_numbers(key, row.sealed_certificates),
    )


async def read_customers(tx: Tx, query: Select[Any], *, lock: bool = False) -> Sequence[Row[Any]]:  # Any: as above
    """Rows for `customer_of`. Locked first, then read: no key is older than the row that it opens."""
    if lock:
        locked = await tx.execute(query.with_only_columns(customers.c.id).with_for_update())
        query = query.where(customers.c.id.in_([row.id for row in locked]))
    return (await tx.execute(_with_key_and_names(query))).all()


async def personal_values(tx: Tx, customer: Customer) -> dict[str, object]:
    """The columns with personal data. The customer's row is locked, or new in this transaction."""
    values: dict[str, object] = {"display_name": "", "email": "", "address": b"", "erase_time": customer.erase_time}
    if customer.erase_time is not None:
        country = country_of(customer.contact)
        values |= {"sealed_personal_data": None, "sealed_certificates": None}
        return {**values, "retained_country": country or None}
    key = await data_key(tx, customer.id)
    plain = _stored(customer).SerializeToString(deterministic=True)
    values |= {"sealed_personal_data": key.seal(plain, label=LABEL), "sealed_certificates": None}
    if certificates := _stored_certificates(customer):
        # Apart: the release before writes everything else anew, and does not know of these.
        values["sealed_certificates"] = key.seal(certificates, label=CERTIFICATES_LABEL)
    return {**values, "retained_country": None}


async def data_key(tx: Tx, customer_id: CustomerId) -> DataKey:
    """The customer's key, made if there is none. The customer's row is locked, or new in this transaction."""
    key = await find_data_key(tx, customer_id)
    if key is None:
        key, wrapped = tx.vault.new_key(subject=subject_of(tx, customer_id))
        await tx.execute(
            insert(data_keys).values(
                seller_id=tx.seller_id,
                customer_id=customer_id,
                master_key_id=wrapped.master_key_id,
                wrapped_key=wrapped.sealed,
                create_time=tx.now,
            )
        )
    return key


async def find_data_key(tx: Tx, customer_id: str) -> DataKey | None:
    row = (await tx.execute(select(data_keys).where(*_own(tx, customer_id)))).one_or_none()
    if row is None:
        return None
    return tx.vault.unwrap(WrappedKey(row.master_key_id, row.wrapped_key), subject=subject_of(tx, customer_id))


async def rewrap_data_key(tx: Tx, customer_id: str) -> None:
    """Under the current master key, if it is not."""
    row = (await tx.execute(select(data_keys).where(*_own(tx, customer_id)).with_for_update())).one_or_none()
    if row is None or row.master_key_id == tx.vault.current:
        return
    old = WrappedKey(row.master_key_id, row.wrapped_key)
    new = tx.vault.rewrap(old, subject=subject_of(tx, customer_id))
    await tx.execute(
        update(data_keys).where(*_own(tx, customer_id)).values(master_key_id=new.master_key_id, wrapped_key=new.sealed)
    )


def wrapped_by_others(master_key_id: str) -> Select[Any]:  # Any: the columns of a job, see `common.jobs`
    """The data keys under other master keys than this one. Not `<>`, which no index answers."""
    return select(
        data_keys.c.seller_id, data_keys.c.customer_id.label("id"), data_keys.c.create_time.label("due_time")
    ).where(or_(data_keys.c.master_key_id < master_key_id, data_keys.c.master_key_id > master_key_id))


async def is_unsealed(tx: Tx, customer_id: CustomerId) -> bool:
    query = select(literal(True)).where(
        customers.c.seller_id == tx.seller_id,
        customers.c.id == customer_id,
        or_(customers.c.display_name != "", certificates_unsealed),
    )
    return (await tx.execute(query)).one_or_none() is not None


async def shred(
    tx: Tx, customer_id: CustomerId, *, answer: bytes, exemption_ids: Sequence[str], exemption_answer: bytes
) -> None:
    """Delete the customer's key; what was answered in plain before it was sealed becomes an `answer` without it."""
    await tx.execute(delete(data_keys).where(*_own(tx, customer_id)))
    for exemption_id in exemption_ids:
        await tx.driver.execute(
            "UPDATE requests SET response = $3 WHERE seller_id = $1 AND method = 'AddTaxExemption'"
            " AND position($2::bytea IN response) > 0 AND substr(response, 1, 1) <> '\\x00'::bytea",
            tx.seller_id,
            exemption_id.encode(),
            exemption_answer,
        )
    await tx.driver.execute(
        "UPDATE requests SET response = $3 WHERE seller_id = $1 AND method IN ('CreateCustomer', 'UpdateCustomer')"
        " AND position($2::bytea IN response) > 0 AND substr(response, 1, 1) <> '\\x00'::bytea",
        tx.seller_id,
        customer_id.encode(),
        answer,
    )


async def has_subscriptions(tx: Tx, customer_ids: Sequence[str]) -> bool:
    """Whether a subscription of one of them has not ended."""
    query = (
        select(subscriptions.c.id)
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.customer_id.in_(customer_ids),
            subscriptions.c.state.not_in(STATES_OVER),
        )
        .limit(1)
    )
    return (await tx.execute(query)).one_or_none() is not None


async def subscription_times(tx: Tx, customer_id: CustomerId, *, limit: int) -> list[SubscriptionTimes]:
    query = (
        select(
            subscriptions.c.id,
            subscriptions.c.state,
            subscriptions.c.create_time,
            subscriptions.c.start_time,
            subscriptions.c.end_time,
        )
        .where(
            subscriptions.c.seller_id == tx.seller_id,
            subscriptions.c.customer_id == customer_id,
        )
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    return [
        SubscriptionTimes(
            id=row.id,
            state=row.state,
            create_time=row.create_time,
            start_time=row.start_time,
            end_time=row.end_time,
        )
        for row in await tx.execute(query)
    ]


def what_remains(country: str) -> Contact:
    """Of the contact of an erased customer: the country, which tax needs."""
    address = postal_address_pb2.PostalAddress(region_code=country)
    return Contact(display_name="", email="", address=address.SerializeToString(deterministic=True))


def country_of(contact: Contact) -> str:
    return postal_address_pb2.PostalAddress.FromString(contact.address).region_code


def subject_of(tx: Tx, customer_id: str) -> str:
    return f"{tx.seller_id}/{customer_id}"


def _with_key_and_names(query: Select[Any]) -> Select[Any]:  # Any: whatever columns the question has
    own = and_(data_keys.c.seller_id == customers.c.seller_id, data_keys.c.customer_id == customers.c.id)
    return query.outerjoin(data_keys, own).add_columns(data_keys.c.master_key_id, data_keys.c.wrapped_key, names())


def _own(tx: Tx, customer_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return data_keys.c.seller_id == tx.seller_id, data_keys.c.customer_id == customer_id


def _stored(customer: Customer) -> customer_pb2.Customer:
    contact = customer_pb2.Contact(display_name=customer.contact.display_name, email=customer.contact.email)
    if customer.contact.address:
        contact.address.ParseFromString(customer.contact.address)
    return customer_pb2.Customer(
        contact=contact,
        contacts=[contact_person_to_proto(each) for each in customer.contacts],
        custom_fields=customer.custom_fields,
    )


def _stored_certificates(customer: Customer) -> bytes:
    """Empty where there are none."""
    numbers = [
        customer_pb2.TaxExemption(id=each.id, certificate_number=each.certificate_number)
        for each in customer.tax_exemptions
        if each.certificate_number
    ]
    return customer_pb2.Customer(tax_exemptions=numbers).SerializeToString(deterministic=True)


def _certificate_numbers(key: DataKey, sealed: bytes | None) -> dict[str, str]:
    if sealed is None:
        return {}
    stored = customer_pb2.Customer.FromString(key.open(sealed, label=CERTIFICATES_LABEL))
    return {each.id: each.certificate_number for each in stored.tax_exemptions}


def _person(stored: customer_pb2.ContactPerson) -> ContactPerson:
    return ContactPerson(
        id=ContactId(stored.id),
        display_name=stored.display_name,
        email=stored.email,
        phone=stored.phone,
        roles=tuple(Role[customer_pb2.ContactPerson.Role.Name(role)] for role in stored.roles),
    )
