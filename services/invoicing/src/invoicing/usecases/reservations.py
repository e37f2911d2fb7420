"""Sets credit aside before something is done that uses it, and settles what became of it: exact among all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from common.db import Tx
from common.money import Money
from invoicing import store
from invoicing.convert.credit import reservation_to_proto
from invoicing.domain.credit import HoldingKey, Use
from invoicing.domain.errors import CreditBalanceNotFound, TooManyCreditReservations
from invoicing.domain.reservation import Reservation, ReservationId, ReservationState
from invoicing.usecases import wallets
from saldo.invoicing.v1 import events_pb2 as events

OPEN_MAX: Final = 1_000
"""Of a customer in one currency."""


async def reserve(
    tx: Tx, customer_id: str, amount: Money, *, use: Use, time_to_live: timedelta, reference: str
) -> Reservation:
    """Fails with CREDIT_BALANCE_NOT_FOUND, INSUFFICIENT_CREDIT or TOO_MANY_CREDIT_RESERVATIONS."""
    key = HoldingKey(customer_id, amount.currency)
    wallet = (await store.lock_wallets(tx, [customer_id])).get(key)
    if wallet is None:
        raise CreditBalanceNotFound(
            f"{customer_id} never had credit in {key.currency}", customer=customer_id, currency=key.currency
        )
    open_count = await store.count_open_reservations(tx, key)
    if open_count >= OPEN_MAX:
        raise TooManyCreditReservations(
            f"{open_count} reservations of {customer_id} are open", retry_seconds=1, customer=customer_id
        )
    reservation = Reservation(
        id=ReservationId(tx.new_id("cres")),
        customer_id=customer_id,
        amount=amount,
        committed=Money.zero(key.currency),
        state=ReservationState.OPEN,
        expire_time=tx.now + time_to_live,
        end_time=None,
        reference=reference,
        revision=1,
        create_time=tx.now,
    )
    wallet = wallet.reserve(amount, use=use, document_id=reservation.id, at=tx.now)
    await store.add_reservation(tx, reservation)
    await wallets.close(tx, [wallet])
    return reservation


async def commit(tx: Tx, reservation_id: ReservationId, amount: Money | None) -> Reservation:
    """It was used, all of it or a part. Said again it changes nothing."""
    found = await _locked(tx, reservation_id)
    if found.is_committed_with(amount):
        return found
    committed = found.commit(amount, at=tx.now)
    await _settle(tx, [committed])
    return committed


async def release(tx: Tx, reservation_id: ReservationId) -> Reservation:
    """Nothing was used. Said again it changes nothing."""
    found = await _locked(tx, reservation_id)
    released = found.release(at=tx.now)
    if released != found:
        await _settle(tx, [released])
    return released


async def expire(tx: Tx, reservation_ids: Sequence[str]) -> None:
    """Let go of what nobody said anything about in time."""
    found = await store.reservations(tx, reservation_ids)
    await store.lock_wallets(tx, {each.customer_id for each in found})
    locked = await store.reservations(tx, reservation_ids)
    expired = [after for before in locked if (after := before.expire(at=tx.now)) != before]
    await _settle(tx, expired)
    for each in expired:
        await tx.emit(events.CreditReservationExpired(reservation=reservation_to_proto(each)))


async def _locked(tx: Tx, reservation_id: ReservationId) -> Reservation:
    """Fails with CREDIT_RESERVATION_NOT_FOUND. Whoever has the wallet decides what becomes of its reservations."""
    found = await store.reservation(tx, reservation_id)
    await store.lock_wallets(tx, [found.customer_id])
    return await store.reservation(tx, reservation_id)


async def _settle(tx: Tx, ended: Sequence[Reservation]) -> None:
    """Of wallets that are locked."""
    if not ended:
        return
    parts = await store.reserved_by(tx, {each.id for each in ended})
    locked = await store.lock_wallets(tx, {each.customer_id for each in ended})
    for each in ended:
        own = [(part.grant_id, part.amount) for part in parts[each.id]]
        locked[each.key] = locked[each.key].commit(own, each.committed, document_id=each.id)
        await store.save_reservation(tx, each)
    await wallets.close(tx, list(locked.values()))
