"""What is done to personal data: sealed, handed out, and erased."""

from __future__ import annotations

from common.db import Tx
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.customer import customer_for_events
from subscriptions.convert.personal_data import Kept
from subscriptions.convert.tax_id import tax_id_for_events
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.errors import CustomerHasSubscriptions, CustomerPaysForOthers, PersonalDataTooLarge
from subscriptions.domain.tax_id import TAX_IDS_MAX
from subscriptions.store import personal_data, tax_ids
from subscriptions.store.answers import erased_answer

SUBSCRIPTIONS_MAX = 10_000


async def erase_personal_data(tx: Tx, customer_id: CustomerId) -> Customer:
    """Of the customer, and of those that turned out to be the same."""
    # Who pays for whom changes under this lock alone.
    await store.lock_hierarchy(tx)
    found = [each for each in await _with_merged(tx, customer_id, lock=True) if each.erase_time is None]
    if await personal_data.has_subscriptions(tx, [each.id for each in found]):
        raise CustomerHasSubscriptions(f"a subscription of customer {customer_id} has not ended", customer=customer_id)
    if await store.pays_for_subscriptions(tx, [each.id for each in found]):
        raise CustomerPaysForOthers(
            f"customer {customer_id} pays for another's subscription that has not ended", customer=customer_id
        )
    for customer in found:
        await _erase(tx, customer)
    return await store.customer(tx, customer_id)


async def kept_of(tx: Tx, customer_id: CustomerId) -> list[Kept]:
    """Everything that is kept, the customer's own first."""
    return [
        Kept(
            customer=customer,
            tax_ids=await tax_ids.list_tax_ids(tx, customer.id, after="", limit=TAX_IDS_MAX),
            subscriptions=await _subscription_times(tx, customer.id),
        )
        for customer in await _with_merged(tx, customer_id, lock=False)
    ]


async def seal_personal_data(tx: Tx, customer_id: str) -> None:
    """What was stored in plain before there were keys. It is no change of the customer."""
    customer = await store.customer(tx, CustomerId(customer_id), lock=True)
    if await personal_data.is_unsealed(tx, customer.id):
        await store.save_customer(tx, customer)


async def rewrap_data_key(tx: Tx, customer_id: str) -> None:
    await personal_data.rewrap_data_key(tx, customer_id)


async def _erase(tx: Tx, customer: Customer) -> None:
    remaining = personal_data.what_remains(personal_data.country_of(customer.contact))
    erased = customer.erased(remaining=remaining, at=tx.now)
    for tax_id in await tax_ids.list_tax_ids(tx, customer.id, after="", limit=TAX_IDS_MAX, lock=True):
        await tax_ids.remove_tax_id(tx, tax_id.id)
        await tx.emit(events.TaxIdRemoved(tax_id=tax_id_for_events(tax_id)))
    await store.save_customer(tx, erased)
    announced = customer_for_events(erased)
    await personal_data.shred(
        tx,
        customer.id,
        answer=announced.SerializeToString(),
        exemption_ids=[each.id for each in customer.tax_exemptions],
        exemption_answer=erased_answer(customer.id),
    )
    await tx.emit(events.CustomerPersonalDataErased(customer=announced))


async def _with_merged(tx: Tx, customer_id: CustomerId, *, lock: bool) -> list[Customer]:
    customer = await store.customer(tx, customer_id, lock=lock)
    if not customer.merged_ids:
        return [customer]
    merged = await store.customers_by_id(tx, [CustomerId(each) for each in customer.merged_ids], lock=lock)
    return [customer, *merged]


async def _subscription_times(tx: Tx, customer_id: CustomerId) -> list[personal_data.SubscriptionTimes]:
    found = await personal_data.subscription_times(tx, customer_id, limit=SUBSCRIPTIONS_MAX + 1)
    if len(found) > SUBSCRIPTIONS_MAX:
        raise PersonalDataTooLarge(
            f"customer {customer_id} has more than {SUBSCRIPTIONS_MAX} subscriptions", customer=customer_id
        )
    return found
