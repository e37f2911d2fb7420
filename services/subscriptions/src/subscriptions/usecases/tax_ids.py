"""What is done to tax ids: added, removed, and asked about. No question to an authority is inside a transaction."""

from __future__ import annotations

from common.db import Tx
from common.rpc import Desk
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.tax_id import tax_id_for_events
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TooManyTaxIds
from subscriptions.domain.tax_id import TAX_IDS_MAX, TaxId, TaxIdId, TaxNumber
from subscriptions.store import tax_ids
from subscriptions.tax_authorities import AuthorityUnavailable, Inquiry, TaxAuthorities


async def add_tax_id(tx: Tx, customer_id: CustomerId, number: TaxNumber) -> TaxId:
    customer = await store.customer(tx, customer_id, lock=True)
    customer.check_active()
    customer.check_not_erased()
    added = TaxId.added(TaxIdId(tx.new_id("txid")), customer_id, number, at=tx.now)
    await tax_ids.add_tax_id(tx, added)
    if await tax_ids.count_tax_ids(tx, customer_id) > TAX_IDS_MAX:
        raise TooManyTaxIds(
            f"customer {customer_id} has {TAX_IDS_MAX} tax ids already", customer=customer_id, maximum=TAX_IDS_MAX
        )
    await tx.emit(events.TaxIdAdded(tax_id=tax_id_for_events(added)))
    return added


async def remove_tax_id(tx: Tx, tax_id_id: TaxIdId) -> TaxId:
    removed = await tax_ids.tax_id(tx, tax_id_id, lock=True)
    await tax_ids.remove_tax_id(tx, tax_id_id)
    await tx.emit(events.TaxIdRemoved(tax_id=tax_id_for_events(removed)))
    return removed


async def ask(desk: Desk, authorities: TaxAuthorities, tax_id: TaxId) -> bool | None:
    """Whether the number is in force; None if the authority does not say."""
    inquiry = Inquiry(tax_id=tax_id.id, number=tax_id.number, tries=tax_id.tries)
    try:
        return await authorities.of(desk.caller.seller_id).is_valid(inquiry)
    except AuthorityUnavailable:
        return None


async def record_answer(tx: Tx, tax_id_id: TaxIdId, is_valid: bool | None, *, by_schedule: bool) -> TaxId:
    old = await tax_ids.tax_id(tx, tax_id_id, lock=True)
    if is_valid is None:
        new = old.unanswered(by_schedule=by_schedule, at=tx.now)
    else:
        new = old.answered(is_valid=is_valid, at=tx.now)
    if new != old:
        await tax_ids.save_tax_id(tx, new)
    if new.revision != old.revision:
        await tx.emit(events.TaxIdVerified(tax_id=tax_id_for_events(new)))
    return new


async def verify_due_tax_id(authorities: TaxAuthorities, desk: Desk, tax_id_id: str) -> None:
    """Ask about a tax id whose time has come, if it still has one."""
    async with desk.transaction() as tx:
        found = await tax_ids.find_tax_id(tx, TaxIdId(tax_id_id))
        is_due = found is not None and found.next_try_time is not None and found.next_try_time <= tx.now
    if found is None or not is_due:
        return
    is_valid = await ask(desk, authorities, found)
    async with desk.transaction() as tx:
        # It may have been removed meanwhile, or its owner erased.
        if await tax_ids.find_tax_id(tx, found.id, lock=True) is not None:
            await record_answer(tx, found.id, is_valid, by_schedule=True)
