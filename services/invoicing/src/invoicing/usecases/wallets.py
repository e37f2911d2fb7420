"""Closes wallets: saves what was done with them, announces it, posts it, and looks how they stand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from common.db import Tx
from invoicing import store
from invoicing.convert.credit import balance_to_proto, grant_to_proto
from invoicing.domain.credit import HoldingKey, Movement, MovementKind, Wallet
from invoicing.domain.credit_entries import entries_of_movements
from saldo.invoicing.v1 import events_pb2 as events


async def open_wallet(tx: Tx, key: HoldingKey) -> Wallet:
    """Locked until the commit; made, if the customer never had any credit in this currency."""
    await store.add_holding(tx, key)
    return (await store.lock_wallets(tx, [key.customer_id]))[key]


async def close(tx: Tx, wallets: Collection[Wallet]) -> None:
    """Of wallets that are locked. Whoever closes them has nothing left to do with them.

    What was reserved when its time was over, and is free again, is over at once.
    """
    moved = [wallet.expire(at=tx.now) for wallet in wallets if wallet.movements]
    await store.save_wallets(tx, moved)
    movements = [movement for wallet in moved for movement in wallet.movements]
    await store.add_entries(tx, entries_of_movements(movements, at=tx.now))
    for movement in movements:
        await _announce(tx, movement)
    for wallet in moved:
        await look_at(tx, wallet)
    # What has become free at a customer that was merged is another's.
    await store.want_moves(tx, [wallet.holding.key for wallet in moved if wallet.leaving(tx.now)])
    wanting = [wallet.holding.key for wallet in moved if wallet.wants_top_up(tx.now)]
    if wanting:
        await store.want_top_ups(tx, wanting)


async def look_at(tx: Tx, wallet: Wallet) -> None:
    """Tell when it has become low."""
    holding = wallet.moved(tx.now)
    if holding == wallet.holding:
        return
    await store.save_holding(tx, holding)
    if holding.low_count > wallet.holding.low_count:
        told = replace(wallet, holding=holding).balance(tx.now)
        await tx.emit(events.CreditBalanceLow(balance=balance_to_proto(told)))


async def _announce(tx: Tx, movement: Movement) -> None:
    """What an invoice or a reservation does with credit, these tell themselves."""
    match movement.kind:
        case MovementKind.GRANTED:
            await tx.emit(events.CreditGrantCreated(grant=grant_to_proto(movement.grant, at=tx.now)))
        case MovementKind.EXPIRED:
            await tx.emit(events.CreditGrantExpired(grant=grant_to_proto(movement.grant, at=tx.now)))
        case MovementKind.REVOKED:
            await tx.emit(events.CreditGrantRevoked(grant=grant_to_proto(movement.grant, at=tx.now)))
        case _:
            pass
