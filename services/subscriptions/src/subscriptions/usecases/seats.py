"""What is done to seats. Whoever assigns or frees one holds the lock of the subscription."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.db import Tx
from saldo.subscriptions.v1 import events_pb2 as events
from subscriptions import store
from subscriptions.convert.seat import seat_for_events
from subscriptions.domain.customer import Customer, CustomerId
from subscriptions.domain.errors import SeatHolderTaken, SeatsAssigned, SeatsExhausted, SubscriptionMoved
from subscriptions.domain.seat import (
    Assigned,
    RevokeReason,
    Seat,
    SeatId,
    seat_count,
    seat_counts,
    terms_with_seats,
)
from subscriptions.domain.states import Verb
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId, SubscriptionId, Terms
from subscriptions.store import seats

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class OfCustomer:
    """A seat, and whose subscription it is one of."""

    seat: Seat
    customer_id: CustomerId


@dataclass(frozen=True, slots=True)
class Usage:
    terms: Terms
    assigned: Assigned


async def invite(
    tx: Tx, subscription_id: SubscriptionId, item_id: ItemId, *, holder: str, email: str, expire_days: int
) -> tuple[OfCustomer, str]:
    """The seat, and the token that claims it."""
    customer = await _lock_customer(tx, subscription_id)
    customer.check_not_erased()
    subscription, at = await _lock(tx, subscription_id)
    if subscription.as_of(at).customer_id != customer.id:
        raise SubscriptionMoved(f"subscription {subscription_id} was transferred", subscription=subscription_id)
    subscription.check(Verb.CHANGE, at)
    there_are = seat_count(terms_with_seats(subscription, item_id, at=at))
    expired = await seats.expired_invitations(tx, item_id, at=at)
    await _revoke(tx, expired, RevokeReason.EXPIRED, customer_id=customer.id, at=at)
    taken = await seats.holders_seat(tx, item_id, holder)
    if taken is not None:
        raise SeatHolderTaken(f"the holder has seat {taken} of item {item_id}", item=item_id, seat=taken)
    if (await seats.assigned(tx, subscription_id, at=at)).get(item_id, Assigned()).count >= there_are:
        raise SeatsExhausted(f"all seats of item {item_id} are assigned", item=item_id, seats=there_are)
    invited = Seat.invited(
        SeatId(tx.new_id("seat")),
        subscription_id,
        item_id,
        holder=holder,
        email=email,
        expire_days=expire_days,
        at=at,
    )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await seats.add_seat(tx, invited, token=token, customer_id=customer.id)
    await tx.emit(events.SeatInvited(seat=seat_for_events(invited, customer.id)))
    return OfCustomer(invited, customer.id), token


async def claim(tx: Tx, token: str) -> OfCustomer:
    found = await seats.seat_by_token(tx, token)
    subscription, at = await _lock(tx, found.subscription_id)
    claimed = (await seats.seat(tx, found.id)).claim(at=at)
    subscription.check(Verb.CHANGE, at)
    customer_id = subscription.as_of(at).customer_id
    await seats.save_seats(tx, [claimed])
    await tx.emit(events.SeatClaimed(seat=seat_for_events(claimed, customer_id)))
    return OfCustomer(claimed, customer_id)


async def revoke(tx: Tx, seat_id: SeatId) -> OfCustomer:
    found = await seats.seat(tx, seat_id)
    subscription, at = await _lock(tx, found.subscription_id)
    customer_id = subscription.as_of(at).customer_id
    seat = await seats.seat(tx, seat_id)
    [revoked] = await _revoke(tx, [seat], RevokeReason.REQUESTED, customer_id=customer_id, at=at)
    return OfCustomer(revoked, customer_id)


async def free_expired(tx: Tx, seat_id: str) -> None:
    """Nobody has claimed it in time."""
    found = await seats.seat(tx, SeatId(seat_id))
    subscription, at = await _lock(tx, found.subscription_id)
    seat = await seats.seat(tx, found.id)
    if seat.is_expired(at):
        await _revoke(tx, [seat], RevokeReason.EXPIRED, customer_id=subscription.as_of(at).customer_id, at=at)


async def usage(tx: Tx, subscription_id: SubscriptionId, item_id: ItemId) -> Usage:
    subscription = await store.subscription(tx, subscription_id)
    at = subscription.recorded_time(tx.now)
    terms = terms_with_seats(subscription, item_id, at=at)
    return Usage(terms, (await seats.assigned(tx, subscription_id, at=at)).get(item_id, Assigned()))


async def check_room(tx: Tx, before: Subscription, after: Subscription) -> None:
    """Whether a change of a subscription that is locked leaves a seat for everybody who has one."""
    at = after.recorded_time(tx.now)
    there_were, there_are = seat_counts(before, at=at), seat_counts(after, at=at)
    fewer = {item_id for item_id, count in there_were.items() if there_are.get(item_id, 0) < count}
    if not fewer:
        return
    for item_id, assigned in (await seats.assigned(tx, after.id, at=at)).items():
        left = there_are.get(item_id, 0)
        if item_id in fewer and assigned.count > left:
            raise SeatsAssigned(
                f"{assigned.count} seats of item {item_id} are assigned, {left} would be left",
                item=item_id,
                assigned=assigned.count,
                left=left,
            )


async def revoke_surplus(tx: Tx, subscription: Subscription) -> None:
    """A change that was decided before has taken effect: who has come last has no seat any more."""
    at = subscription.recorded_time(tx.now)
    there_are = seat_counts(subscription, at=at)
    customer_id = subscription.as_of(at).customer_id
    for item_id, assigned in (await seats.assigned(tx, subscription.id, at=at)).items():
        surplus = assigned.count - there_are.get(item_id, 0)
        if surplus > 0:
            last = await seats.last_assigned(tx, item_id, at=at, limit=surplus)
            await _revoke(tx, last, RevokeReason.QUANTITY_REDUCED, customer_id=customer_id, at=at)


async def _lock_customer(tx: Tx, subscription_id: SubscriptionId) -> Customer:
    """Whose subscription it is: the answer and the mail address are sealed under its key. Before the subscription, as a
    merge does.
    """
    subscription = await store.subscription(tx, subscription_id)
    customer_id = subscription.as_of(subscription.recorded_time(tx.now)).customer_id
    return await store.customer(tx, customer_id, lock=True)


async def _lock(tx: Tx, subscription_id: SubscriptionId) -> tuple[Subscription, datetime]:
    """The subscription, and the time: not before anything that is known about it."""
    subscription = await store.subscription(tx, subscription_id, lock=True)
    return subscription, subscription.recorded_time(tx.now)


async def _revoke(
    tx: Tx, assigned: Iterable[Seat], reason: RevokeReason, *, customer_id: CustomerId, at: datetime
) -> list[Seat]:
    revoked = [seat.revoke(reason, at=at) for seat in assigned]
    await seats.save_seats(tx, revoked)
    for seat in revoked:
        await tx.emit(events.SeatRevoked(seat=seat_for_events(seat, customer_id)))
    return revoked
