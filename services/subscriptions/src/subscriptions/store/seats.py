"""Knows how seats are stored: tokens as digests, mail addresses sealed under the customer's key.

What keeps a count right is the lock of the subscription, which whoever assigns or frees a seat holds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, func, insert, or_, select, update

from common.db import Tx
from common.vault import DataKey
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import SeatNotFound
from subscriptions.domain.seat import SEATS_MAX, Assigned, RevokeReason, Seat, SeatId, State
from subscriptions.domain.terms import ItemId, SubscriptionId
from subscriptions.store.personal_data import data_key, find_data_key
from subscriptions.store.tables import seats

SEATS_DUE: Final = select(
    seats.c.seller_id, seats.c.id, seats.c.expire_time.label("due_time")
).where(seats.c.expire_time.is_not(None))  # fmt: skip


async def add_seat(tx: Tx, seat: Seat, *, token: str, customer_id: CustomerId) -> None:
    """The row of the customer under whose key the mail address is sealed is locked."""
    sealed = None
    if seat.email:
        sealed = (await data_key(tx, customer_id)).seal(seat.email.encode(), label=_label(seat.id))
    await tx.execute(
        insert(seats).values(
            seller_id=tx.seller_id,
            id=seat.id,
            subscription_id=seat.subscription_id,
            item_id=seat.item_id,
            holder=seat.holder,
            token_digest=_digest(token),
            sealed_email=sealed,
            sealed_for=customer_id if seat.email else None,
            invite_time=seat.invite_time,
            **_changing(seat),
        )
    )


async def seat(tx: Tx, seat_id: SeatId) -> Seat:
    found = await _one(tx, seats.c.id == seat_id)
    if found is None:
        raise SeatNotFound(f"there is no seat {seat_id}", seat=seat_id)
    return found


async def seat_by_token(tx: Tx, token: str) -> Seat:
    found = await _one(tx, seats.c.token_digest == _digest(token))
    if found is None:
        raise SeatNotFound("there is no seat with this token")
    return found


async def save_seats(tx: Tx, changed: Sequence[Seat]) -> None:
    """As they are now. What is no longer INVITED has no mail address any more."""
    for each in changed:
        await tx.execute(
            update(seats)
            .where(seats.c.seller_id == tx.seller_id, seats.c.id == each.id)
            .values(sealed_email=None, sealed_for=None, **_changing(each))
        )


async def holders_seat(tx: Tx, item_id: ItemId, holder: str) -> SeatId | None:
    """The seat of an item that somebody has."""
    query = select(seats.c.id).where(
        seats.c.seller_id == tx.seller_id,
        seats.c.item_id == item_id,
        seats.c.holder == holder,
        seats.c.state != State.REVOKED.name,
    )
    found = (await tx.execute(query)).scalar_one_or_none()
    return None if found is None else SeatId(found)


async def assigned(tx: Tx, subscription_id: SubscriptionId, *, at: datetime) -> dict[ItemId, Assigned]:
    """How many seats of each item are, without those whose invitation has expired by then."""
    query = (
        select(seats.c.item_id, seats.c.state, func.count().label("number"))
        .where(seats.c.seller_id == tx.seller_id, seats.c.subscription_id == subscription_id, _is_assigned(at))
        .group_by(seats.c.item_id, seats.c.state)
    )
    found: dict[ItemId, dict[str, int]] = defaultdict(dict)
    for row in await tx.execute(query):
        found[ItemId(row.item_id)][row.state] = row.number
    return {
        item_id: Assigned(invited=counts.get(State.INVITED.name, 0), claimed=counts.get(State.CLAIMED.name, 0))
        for item_id, counts in found.items()
    }


async def last_assigned(tx: Tx, item_id: ItemId, *, at: datetime, limit: int) -> list[Seat]:
    """The seats of an item that go first when there are too many: INVITED, then CLAIMED, the newest of each first."""
    query = (
        select(seats)
        .where(seats.c.seller_id == tx.seller_id, seats.c.item_id == item_id, _is_assigned(at))
        .order_by(seats.c.state == State.CLAIMED.name, seats.c.invite_time.desc(), seats.c.id.desc())
        .limit(limit)
    )
    return await _seats(tx, query)


async def expired_invitations(tx: Tx, item_id: ItemId, *, at: datetime) -> list[Seat]:
    query = (
        select(seats)
        .where(seats.c.seller_id == tx.seller_id, seats.c.item_id == item_id, seats.c.expire_time <= at)
        .order_by(seats.c.id)
        .limit(SEATS_MAX)
    )
    return await _seats(tx, query)


async def list_seats(
    tx: Tx, subscription_id: SubscriptionId, *, item_id: str, state: str, after: str, limit: int
) -> list[Seat]:
    """In order of id. An empty item or state is any."""
    query = (
        select(seats)
        .where(seats.c.seller_id == tx.seller_id, seats.c.subscription_id == subscription_id, seats.c.id > after)
        .order_by(seats.c.id)
        .limit(limit)
    )
    if item_id:
        query = query.where(seats.c.item_id == item_id)
    if state:
        query = query.where(seats.c.state == state)
    return await _seats(tx, query)


async def _one(tx: Tx, condition: ColumnElement[bool]) -> Seat | None:
    found = await _seats(tx, select(seats).where(seats.c.seller_id == tx.seller_id, condition))
    return found[0] if found else None


async def _seats(tx: Tx, query: Select[Any]) -> list[Seat]:  # Any: the columns of `seats`
    rows = (await tx.execute(query)).all()
    keys = await _keys(tx, rows)
    return [_seat(row, keys) for row in rows]


async def _keys(tx: Tx, rows: Iterable[Row[Any]]) -> dict[str, DataKey]:  # Any: rows of `seats`
    """Of the customers under whose keys something is sealed. The key of one that was erased is gone."""
    keys: dict[str, DataKey] = {}
    for customer_id in sorted({row.sealed_for for row in rows if row.sealed_for}):
        key = await find_data_key(tx, customer_id)
        if key is not None:
            keys[customer_id] = key
    return keys


def _is_assigned(at: datetime) -> ColumnElement[bool]:
    invited = and_(seats.c.state == State.INVITED.name, seats.c.expire_time > at)
    return or_(seats.c.state == State.CLAIMED.name, invited)


def _changing(each: Seat) -> dict[str, object]:
    return {
        "state": each.state.name,
        "expire_time": each.expire_time,
        "claim_time": each.claim_time,
        "revoke_time": each.revoke_time,
        "revoke_reason": each.revoke_reason.name if each.revoke_reason else None,
        "revision": each.revision,
    }


def _digest(token: str) -> bytes:
    # Long and random: nothing that could be tried out, so no salt.
    return hashlib.sha256(token.encode()).digest()


def _label(seat_id: str) -> str:
    return f"seat {seat_id}"


def _seat(row: Row[Any], keys: dict[str, DataKey]) -> Seat:  # Any: a row of `seats`
    key = keys.get(row.sealed_for) if row.sealed_for else None
    return Seat(
        id=SeatId(row.id),
        subscription_id=SubscriptionId(row.subscription_id),
        item_id=ItemId(row.item_id),
        holder=row.holder,
        email=key.open(row.sealed_email, label=_label(row.id)).decode() if key else "",
        state=State[row.state],
        invite_time=row.invite_time,
        expire_time=row.expire_time,
        claim_time=row.claim_time,
        revoke_time=row.revoke_time,
        revoke_reason=RevokeReason[row.revoke_reason] if row.revoke_reason else None,
        revision=row.revision,
    )
