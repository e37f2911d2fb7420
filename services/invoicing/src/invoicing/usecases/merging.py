"""Gives what a customer has to its credit to the one that it was merged into: now, and whatever it still gets."""

from __future__ import annotations

from common.db import Tx
from invoicing import store
from invoicing.domain.credit import GrantId, HoldingKey
from invoicing.usecases import wallets


async def take_note_of_merge(tx: Tx, customer_id: str, into_id: str) -> None:
    """Once, however often it is said. Nothing more is bought for the customer, and nobody told that it has little."""
    await store.hold_customer(tx, customer_id)
    if not await store.remember_merge(tx, customer_id, into_id):
        return
    locked = await store.lock_wallets(tx, [customer_id])
    for key, wallet in locked.items():
        await store.save_holding(tx, wallet.holding.merged(into_id))
        rule = await store.find_top_up_rule(tx, key, lock=True)
        if rule is not None:
            await store.save_top_up_rule(tx, rule.deleted(at=tx.now))
    await store.want_moves(tx, locked)


async def move_credit(tx: Tx, move_id: str) -> None:
    """Empty a wallet: grant by grant, each as it could be used. What is reserved stays until it is free, or used."""
    key = await store.wanted_move(tx, move_id)
    if key is None:
        return
    target_key = HoldingKey(await store.merged_into(tx, key.customer_id), key.currency)
    await store.add_holding(tx, target_key)
    locked = await store.lock_wallets(tx, [key.customer_id, target_key.customer_id])
    if not await store.end_move(tx, move_id):
        return
    source, target = locked[key], locked[target_key]
    for grant in source.leaving(tx.now):
        moved = grant.moved_to(target_key.customer_id, id=GrantId(tx.new_id("grant")), at=tx.now)
        source, target = source.move(grant.id, to=moved), target.grant(moved)
    await wallets.close(tx, [source, target])
