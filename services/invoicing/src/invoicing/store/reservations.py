"""Knows how reservations of credit are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Row, Text, any_, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.credit import HoldingKey
from invoicing.domain.errors import CreditReservationNotFound
from invoicing.domain.reservation import Reservation, ReservationId, ReservationState
from invoicing.store.credit_tables import credit_reservations

RESERVATIONS_EXPIRING: Final = select(
    credit_reservations.c.seller_id,
    credit_reservations.c.id,
    credit_reservations.c.expire_time.label("due_time"),
    credit_reservations.c.traceparent,
).where(credit_reservations.c.state == ReservationState.OPEN.name)


async def reservation(tx: Tx, reservation_id: ReservationId) -> Reservation:
    [*found] = await reservations(tx, [reservation_id])
    if not found:
        raise CreditReservationNotFound(f"there is no reservation {reservation_id}", reservation=reservation_id)
    return found[0]


async def reservations(tx: Tx, reservation_ids: Collection[str]) -> Sequence[Reservation]:
    """Those that there are. Whoever changes one has locked the wallet that it is of."""
    query = select(credit_reservations).where(
        credit_reservations.c.seller_id == tx.seller_id,
        credit_reservations.c.id == any_(literal(sorted(reservation_ids), ARRAY(Text))),
    )
    return [_reservation(row) for row in await tx.execute(query.order_by(credit_reservations.c.id))]


async def count_open_reservations(tx: Tx, key: HoldingKey) -> int:
    query = select(func.count()).where(
        credit_reservations.c.seller_id == tx.seller_id,
        credit_reservations.c.customer_id == key.customer_id,
        credit_reservations.c.currency == key.currency,
        credit_reservations.c.state == ReservationState.OPEN.name,
    )
    return int((await tx.execute(query)).scalar_one())


async def add_reservation(tx: Tx, new: Reservation) -> None:
    await tx.execute(
        insert(credit_reservations).values(
            seller_id=tx.seller_id,
            id=new.id,
            customer_id=new.customer_id,
            currency=new.amount.currency,
            amount_minor=new.amount.minor,
            expire_time=new.expire_time,
            reference=new.reference,
            create_time=new.create_time,
            traceparent=traceparent(),
            **_changing(new),
        )
    )


async def save_reservation(tx: Tx, changed: Reservation) -> None:
    await tx.execute(
        update(credit_reservations)
        .where(credit_reservations.c.seller_id == tx.seller_id, credit_reservations.c.id == changed.id)
        .values(_changing(changed))
    )


def _changing(reservation: Reservation) -> dict[str, object]:
    return {
        "committed_minor": reservation.committed.minor,
        "state": reservation.state.name,
        "end_time": reservation.end_time,
        "revision": reservation.revision,
    }


def _reservation(row: Row[Any]) -> Reservation:  # Any: a row of `credit_reservations`
    return Reservation(
        id=ReservationId(row.id),
        customer_id=row.customer_id,
        amount=Money(row.amount_minor, row.currency),
        committed=Money(row.committed_minor, row.currency),
        state=ReservationState[row.state],
        expire_time=row.expire_time,
        end_time=row.end_time,
        reference=row.reference,
        revision=row.revision,
        create_time=row.create_time,
    )
