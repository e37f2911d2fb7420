"""Gives customers credit, applies it to invoices, takes it back from those that are annulled, and lets it expire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from common.db import Tx
from common.money import Money
from invoicing import store
from invoicing.domain.credit import (
    EVERYTHING,
    Balance,
    Grant,
    GrantId,
    GrantKind,
    Holding,
    HoldingKey,
    Source,
    Wallet,
)
from invoicing.domain.errors import CreditBalanceNotFound, TooManyCreditGrants
from invoicing.domain.invoice import Invoice
from invoicing.usecases import wallets

GRANTS_MAX: Final = 1_000
"""Open ones of a customer in one currency: all of them are looked at for every invoice. By hand nobody gives more."""

PRIORITY: Final = 100
"""Of what comes by itself, and of what nobody said anything about."""


async def give(tx: Tx, grant: Grant) -> Grant:
    """As it stands then. Fails with TOO_MANY_CREDIT_GRANTS when somebody gives too many by hand."""
    key = HoldingKey(grant.customer_id, grant.amount.currency)
    wallet = await wallets.open_wallet(tx, key)
    if grant.source is Source.MANUAL and len(wallet.grants) >= GRANTS_MAX:
        raise TooManyCreditGrants(
            f"{len(wallet.grants)} grants of {key.customer_id} in {key.currency} are open",
            retry_seconds=None,
            customer=key.customer_id,
        )
    wallet = wallet.grant(grant)
    await wallets.close(tx, [wallet])
    return wallet.movements[-1].grant


async def give_overpaid(tx: Tx, invoice: Invoice, amount: Money, *, payment_id: str) -> Grant:
    """What a payment brought beyond what was owed."""
    return await give(tx, _paid(tx, invoice.customer_id, amount, source=Source.OVERPAYMENT, document_id=payment_id))


async def give_credited(tx: Tx, invoice: Invoice, amount: Money, *, credit_note_id: str, annuls: bool = False) -> None:
    """What a credit note leaves the customer, to be taken off later invoices. If it annuls the invoice, what that had
    taken up of it goes back to where it came from.
    """
    if annuls:
        await take_back(tx, [invoice])
        amount = amount - min(amount, invoice.credit_applied)
    if amount.minor:
        await give(tx, _paid(tx, invoice.customer_id, amount, source=Source.CREDIT_NOTE, document_id=credit_note_id))


async def revoke(tx: Tx, grant_id: GrantId) -> Grant:
    """Take away what is left of a grant. Fails with CREDIT_GRANT_NOT_FOUND or CREDIT_GRANT_ENDED."""
    found = await store.credit_grant(tx, grant_id)
    locked = await store.lock_wallets(tx, [found.customer_id], grant_ids=[grant_id])
    wallet = locked[HoldingKey(found.customer_id, found.amount.currency)].revoke(grant_id, at=tx.now)
    await wallets.close(tx, [wallet])
    return wallet.movements[-1].grant


async def take_up(tx: Tx, drafts: Sequence[Invoice]) -> list[Invoice]:
    """The same, each covered as far as its customer's credit goes, in the order given. They are to be finalized in this
    transaction: the credit is gone, and whoever needs the same wallets waits from here to the commit.
    """
    locked = await store.lock_wallets(tx, {draft.customer_id for draft in drafts})
    covered: list[Invoice] = []
    for draft in drafts:
        key = HoldingKey(draft.customer_id, draft.currency)
        if key in locked:
            locked[key], applied = locked[key].apply(draft, at=tx.now)
            covered.append(draft.with_credit(applied))
        else:
            covered.append(draft)
    await wallets.close(tx, list(locked.values()))
    return covered


def look_ahead(wallets: Mapping[HoldingKey, Wallet], drafts: Sequence[Invoice], *, at: datetime) -> list[Invoice]:
    """The same as they would be covered by what there is, at an instant. Nothing is stored."""
    found = dict(wallets)
    covered: list[Invoice] = []
    for draft in drafts:
        key = HoldingKey(draft.customer_id, draft.currency)
        applied = Money.zero(draft.currency)
        if key in found:
            found[key], applied = found[key].apply(draft, at=at)
        covered.append(draft.with_credit(applied))
    return covered


async def take_back(tx: Tx, annulled: Sequence[Invoice]) -> None:
    """What invoices had taken up that should not have existed. Once: what is back is not looked for again."""
    covered = [invoice for invoice in annulled if invoice.credit_applied.minor]
    if not covered:
        return
    customer_ids = {invoice.customer_id for invoice in covered}
    # First the locks: then nobody else gives the same back.
    await store.lock_wallets(tx, customer_ids)
    applied = await store.applied_to(tx, {invoice.id for invoice in covered})
    grant_ids = [part.grant_id for parts in applied.values() for part in parts]
    locked = await store.lock_wallets(tx, customer_ids, grant_ids=grant_ids)
    for invoice in covered:
        key = HoldingKey(invoice.customer_id, invoice.currency)
        if invoice.id in applied:
            locked[key] = locked[key].take_back(applied[invoice.id], document_id=invoice.id, at=tx.now)
    await wallets.close(tx, list(locked.values()))


async def expire(tx: Tx, grant_ids: Sequence[str]) -> None:
    """Let go of what is over of the customers who have these grants."""
    locked = await store.lock_wallets(tx, await store.owners_of(tx, grant_ids))
    await wallets.close(tx, [wallet.expire(at=tx.now) for wallet in locked.values()])


async def balance(tx: Tx, key: HoldingKey) -> Balance:
    """Fails with CREDIT_BALANCE_NOT_FOUND if there never was anything."""
    found = (await store.look_at_wallets(tx, [key.customer_id])).get(key)
    if found is None:
        raise CreditBalanceNotFound(
            f"{key.customer_id} never had credit in {key.currency}", customer=key.customer_id, currency=key.currency
        )
    return found.balance(tx.now)


async def balances(tx: Tx, *, customer_id: str, after: HoldingKey | None, limit: int) -> list[Balance]:
    found = await store.list_wallets(tx, customer_id=customer_id, after=after, limit=limit)
    return [wallet.balance(tx.now) for wallet in found]


async def watch(tx: Tx, key: HoldingKey, threshold: Money | None) -> Balance:
    """Tell when what can be used falls below a threshold; at once, if it is below."""
    wallet = await wallets.open_wallet(tx, key)
    holding: Holding = wallet.holding.watching(threshold)
    await store.save_holding(tx, holding)
    watched: Wallet = replace(wallet, holding=holding)
    await wallets.look_at(tx, watched)
    return replace(watched, holding=watched.moved(tx.now)).balance(tx.now)


def _paid(tx: Tx, customer_id: str, amount: Money, *, source: Source, document_id: str) -> Grant:
    """The customer's own money, for anything and for ever."""
    return Grant(
        id=GrantId(tx.new_id("grant")),
        customer_id=customer_id,
        amount=amount,
        kind=GrantKind.PAID,
        priority=PRIORITY,
        effective_time=tx.now,
        expire_time=None,
        scope=EVERYTHING,
        source=source,
        document_id=document_id,
        note="",
        remaining=amount,
        reserved=Money.zero(amount.currency),
        expired_time=None,
        expire_count=0,
        revoked_time=None,
        revision=1,
        create_time=tx.now,
    )
