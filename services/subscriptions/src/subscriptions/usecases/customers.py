"""What is done to customers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.db import Tx
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.customer import customer_for_events
from subscriptions.domain import hierarchy
from subscriptions.domain.contact_person import ContactId, ContactPerson
from subscriptions.domain.customer import BillingProfile, Contact, Customer, CustomerId
from subscriptions.domain.customer_name import CustomerName
from subscriptions.domain.merge import DEPENDENTS_MAX, check_merge_of_two, merge
from subscriptions.domain.payer import check_payer
from subscriptions.domain.tax_exemption import TaxExemption, TaxExemptionId
from subscriptions.usecases.subscriptions import check_payer_of, hand_over, readdress


async def create_customer(tx: Tx, *, external_id: str, contact: Contact, billing_profile: BillingProfile) -> Customer:
    customer = Customer(
        id=CustomerId(tx.new_id("cus")),
        external_id=external_id,
        contact=contact,
        billing_profile=billing_profile,
        revision=1,
        create_time=tx.now,
        update_time=tx.now,
    )
    await store.add_customer(tx, customer)
    if external_id:
        since = await store.take_external_id(tx, customer)
        customer = replace(customer, names=(CustomerName(key=external_id, since=since),))
        await store.save_names(tx, customer)
    await tx.emit(events.CustomerCreated(customer=customer_for_events(customer)))
    return customer


async def update_customer(
    tx: Tx, customer_id: CustomerId, *, contact: Contact | None, billing_profile: BillingProfile | None
) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.updated(contact=contact, billing_profile=billing_profile, at=tx.now))


async def set_parent(tx: Tx, customer_id: CustomerId, parent_id: CustomerId | None) -> Customer:
    await store.lock_hierarchy(tx)
    old = await store.customer(tx, customer_id, lock=True)
    customer = old.under(parent_id or "", at=tx.now)
    if parent_id and customer is not old:
        (await store.customer(tx, parent_id)).check_active()
        parent = await store.branch(tx, parent_id)
        hierarchy.check_parent(
            await store.branch(tx, customer_id),
            parent=parent,
            hierarchy_size=(await store.branch(tx, parent.root_id)).size,
        )
    return await _record(tx, old, customer)


async def set_payer(tx: Tx, customer_id: CustomerId, payer_id: CustomerId | None) -> Customer:
    # Two customers must not come to pay for each other, nor one be erased that is to pay. That changes rarely: the lock
    # of the hierarchy does for it too.
    await store.lock_hierarchy(tx)
    old = await store.customer(tx, customer_id, lock=True)
    customer = old.paid_by(payer_id or "", at=tx.now)
    if payer_id and customer is not old:
        payer = await store.customer(tx, payer_id)
        pays = await store.pays_for_others(tx, customer_id) or await store.is_named_by_others(tx, [customer_id])
        check_payer(old, payer, pays_for_others=pays)
    if customer is not old:
        await store.record_payers(tx, {customer_id: payer_id})
    return await _record(tx, old, customer)


async def add_alias(tx: Tx, customer_id: CustomerId, alias: str) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    customer = old.with_alias(alias, at=tx.now)
    if customer is not old:
        since = await store.take_alias(tx, customer_id, alias)
        customer = old.with_alias(alias, since=since, at=tx.now)
        await store.save_names(tx, customer)
    return await _record(tx, old, customer)


async def remove_alias(tx: Tx, customer_id: CustomerId, alias: str) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    customer = old.without_alias(alias, at=tx.now)
    await store.free_alias(tx, alias)
    await store.take_back_names(tx, customer, [alias])
    return await _record(tx, old, customer)


async def add_contact(tx: Tx, customer_id: CustomerId, contact: ContactPerson) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.with_contact(contact, at=tx.now))


async def update_contact(tx: Tx, customer_id: CustomerId, contact: ContactPerson) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.with_contact_updated(contact, at=tx.now))


async def remove_contact(tx: Tx, customer_id: CustomerId, contact_id: ContactId) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.without_contact(contact_id, at=tx.now))


async def add_tax_exemption(tx: Tx, customer_id: CustomerId, exemption: TaxExemption) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.with_tax_exemption(exemption, at=tx.now))


async def remove_tax_exemption(tx: Tx, customer_id: CustomerId, exemption_id: TaxExemptionId) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.without_tax_exemption(exemption_id, at=tx.now))


async def set_custom_fields(tx: Tx, customer_id: CustomerId, fields: Mapping[str, str]) -> Customer:
    old = await store.customer(tx, customer_id, lock=True)
    return await _record(tx, old, old.with_custom_fields(fields, at=tx.now))


async def merge_customers(tx: Tx, source_id: CustomerId, target_id: CustomerId) -> Customer:
    """The target, as it is with all that was the source's."""
    check_merge_of_two(source_id, target_id)
    await store.lock_hierarchy(tx)
    found = {each.id: each for each in await store.customers_by_id(tx, [source_id, target_id], lock=True)}
    source, target = found[source_id], found[target_id]
    below_source, below_target = await store.branch(tx, source_id), await store.branch(tx, target_id)
    merged = merge(
        source,
        target=target,
        # The target may be one of them, and it takes one more to see that there are too many.
        dependents=await store.lock_dependents(tx, source_id, limit=DEPENDENTS_MAX + 2),
        is_target_below=below_target.is_below(below_source),
        at=tx.now,
    )
    hierarchy.check_merge(
        below_source, target=below_target, hierarchy_size=(await store.branch(tx, below_target.root_id)).size
    )

    for customer in (merged.target, *merged.dependents):
        await store.save_customer(tx, customer)
        await tx.emit(events.CustomerUpdated(customer=customer_for_events(customer)))
    await store.hand_over_keys(tx, source, target_id)
    await store.save_customer(tx, merged.source)
    await store.take_back_names(tx, source, merged.forgotten_keys(source))
    for customer in (merged.source, merged.target):
        await store.save_names(tx, customer)
    await tx.emit(events.CustomerMerged(customer=customer_for_events(merged.source)))
    followers = [CustomerId(each.id) for each in merged.dependents if each.payer_id == target_id]
    paid = dict.fromkeys([*await store.customers_paid_by(tx, source_id), *followers], target_id)
    await store.record_payers(tx, {each: None if each == target_id else payer for each, payer in paid.items()})
    await check_payer_of(tx, merged.target, None)
    await hand_over(tx, source_id, target_id)
    await readdress(tx, source_id, merged.target)
    return merged.target


async def _record(tx: Tx, old: Customer, customer: Customer) -> Customer:
    """Keep and announce a change, if it is one."""
    if customer is not old:
        await store.save_customer(tx, customer)
        await tx.emit(events.CustomerUpdated(customer=customer_for_events(customer)))
    return customer
