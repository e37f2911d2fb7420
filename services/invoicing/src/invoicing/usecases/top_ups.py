"""Buys customers more credit when a rule says so: an invoice first, and credit when that is paid."""

from __future__ import annotations

from dataclasses import replace

from common import ids
from common.crash import crashpoint, register
from common.db import Tx
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.credit import GrantId, HoldingKey
from invoicing.domain.errors import CreditTopUpRuleNotFound, CustomerIsPartOfAnother
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.party import Customer, Seller
from invoicing.domain.top_ups import DAY, Calendar, RuleId, TopUpRule
from invoicing.usecases import credit, issuing, wallets

TOPPED_UP = register("invoicing.topped_up", "a top-up has its invoice and nothing is committed")


async def set_rule(tx: Tx, new: TopUpRule) -> TopUpRule:
    """In the place of the one that there is, or as the first. It is looked at as soon as something may be to do. Fails
    with CUSTOMER_IS_PART_OF_ANOTHER.
    """
    wallet = await wallets.open_wallet(tx, new.key)
    if wallet.holding.merged_into_id:
        raise CustomerIsPartOfAnother(
            f"{new.customer_id} is part of {wallet.holding.merged_into_id}",
            customer=new.customer_id,
            merged_into=wallet.holding.merged_into_id,
        )
    before = await store.find_top_up_rule(tx, new.key, lock=True)
    is_due_later = isinstance(new.trigger, Calendar) and new.trigger.start_time < tx.now
    first = new.trigger.start_time if isinstance(new.trigger, Calendar) else tx.now
    rule = replace(new, next_time=new.after(tx.now) if is_due_later else first)
    if before is not None:
        rule = replace(rule, id=before.id, revision=before.revision + 1, create_time=before.create_time)
    await store.save_top_up_rule(tx, rule)
    return rule


async def rule_of(tx: Tx, key: HoldingKey) -> TopUpRule:
    """Fails with CREDIT_TOP_UP_RULE_NOT_FOUND."""
    return _must_be(await store.find_top_up_rule(tx, key), key)


async def delete_rule(tx: Tx, key: HoldingKey) -> TopUpRule:
    """Fails with CREDIT_TOP_UP_RULE_NOT_FOUND."""
    await store.lock_wallets(tx, [key.customer_id])
    rule = _must_be(await store.find_top_up_rule(tx, key, lock=True), key).deleted(at=tx.now)
    await store.save_top_up_rule(tx, rule)
    return rule


async def top_up(desk: Desk, rule_id: str) -> None:
    """Buy credit if it is wanted, and note when to look again."""
    async with desk.transaction() as tx:
        found = await store.top_up_rule(tx, RuleId(rule_id))
        now = tx.now
    if found.next_time is None or found.next_time > now:
        return
    customer = await clients.customer(desk, found.customer_id)
    seller = await clients.seller(desk)
    async with desk.transaction() as tx:
        locked = await store.lock_wallets(tx, [found.customer_id])
        rule = await store.top_up_rule(tx, found.id, lock=True)
        if rule.next_time is None or rule.next_time > tx.now:
            return  # somebody else was faster, or it was deleted
        decision = rule.decide(
            at=tx.now,
            available=locked[rule.key].available(tx.now),
            has_open=await store.has_open_top_up(tx, rule.key),
            bought=await store.bought_since(tx, rule.key, tx.now - DAY, limit=rule.per_day_max),
        )
        await store.save_top_up_rule(tx, rule.looked_at(decision.next_time))
        if decision.is_wanted:
            await _buy(tx, rule, customer=customer, seller=seller)
            crashpoint(TOPPED_UP)


async def settle(tx: Tx, paid: Invoice) -> None:
    """Of an invoice that was paid: if it bought credit, there it is."""
    if paid.top_up_rule_id and paid.amount_paid.minor:
        rule = await store.top_up_rule(tx, RuleId(paid.top_up_rule_id))
        grant_id = GrantId(tx.new_id("grant"))
        await credit.give(tx, rule.grant(id=grant_id, paid=paid.amount_paid, invoice_id=paid.id, at=tx.now))


async def _buy(tx: Tx, rule: TopUpRule, *, customer: Customer, seller: Seller) -> None:
    # Derived: a top-up that is lost, with all that came after a backup, and is wanted again is not collected again.
    bought = await store.count_top_ups(tx, rule)
    parts = (tx.seller_id, rule.id, str(bought))
    invoice_id = ids.derived("inv", rule.create_time, parts, nth=min(bought, ids.NTH_MAX))
    draft = rule.invoice(id=InvoiceId(invoice_id), line_id=tx.new_id("line"), customer=customer, at=tx.now)
    [invoice] = await issuing.issue(tx, [issuing.Ready(draft=draft, customer=customer)], seller=seller)
    await store.add_invoices(tx, [store.Draft(invoice, "")])


def _must_be(found: TopUpRule | None, key: HoldingKey) -> TopUpRule:
    if found is None:
        raise CreditTopUpRuleNotFound(
            f"nobody said when to buy credit for {key.customer_id} in {key.currency}",
            customer=key.customer_id,
            currency=key.currency,
        )
    return found
