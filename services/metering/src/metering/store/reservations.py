"""Knows how reservations of quota are stored, and how those of one customer and meter take turns."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, and_, delete, literal_column, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.period import Period
from metering.domain.errors import QuotaReservationNotFound
from metering.domain.reservation import (
    COMMIT_PATIENCE,
    KEPT,
    UNDER_WAY,
    Found,
    Reservation,
    ReservationId,
    Reserved,
    State,
    Turn,
)
from metering.store.tables import FORGET_TIME, Instant, quota_reservations, quota_turns

EXPIRING: Final = select(
    quota_reservations.c.seller_id,
    quota_reservations.c.id,
    quota_reservations.c.expire_time.label("due_time"),
).where(quota_reservations.c.state == State.OPEN.name)

_DONE_BY: Final = f"commit_time + interval '{COMMIT_PATIENCE // timedelta(seconds=1)} seconds'"

BROKEN_OFF: Final = select(
    quota_reservations.c.seller_id,
    quota_reservations.c.id,
    literal_column(_DONE_BY, Instant).label("due_time"),
).where(quota_reservations.c.state == State.COMMITTING.name)

FORGOTTEN: Final = select(
    quota_reservations.c.seller_id,
    quota_reservations.c.id,
    literal_column(FORGET_TIME, Instant).label("due_time"),
).where(quota_reservations.c.end_time.is_not(None))


async def take_turn(tx: Tx, customer_id: str, meter: str) -> Turn:
    """Wait until nobody else acquires for the customer and the meter. What is asked after this sees what they did."""
    row = await tx.driver.fetchrow(_TAKE_TURN, tx.seller_id, customer_id, meter, tx.now)
    assert row is not None, "what is inserted or updated is returned"
    return Turn(row["number"], row["time"])


async def reserved(tx: Tx, customer_ids: Collection[str], meter: str, *, at: datetime) -> Reserved:
    """What is set aside."""
    row = await tx.driver.fetchrow(_RESERVED, tx.seller_id, list(customer_ids), meter, at)
    assert row is not None, "what is aggregated has a row"
    return Reserved(quantity=Decimal(row["quantity"]), number=row["number"], expired=tuple(row["expired"]))


async def lock_reservation(tx: Tx, reservation_id: ReservationId) -> tuple[Reservation, Turn]:
    """And the last turn that was taken: whoever has one now may end it only by waiting for us, or did so before."""
    query = (
        select(quota_reservations, quota_turns.c.number.label("turn_number"), quota_turns.c.time.label("turn_time"))
        .join(
            quota_turns,
            and_(
                quota_turns.c.seller_id == quota_reservations.c.seller_id,
                quota_turns.c.customer_id == quota_reservations.c.customer_id,
                quota_turns.c.meter == quota_reservations.c.meter,
            ),
        )
        .where(quota_reservations.c.seller_id == tx.seller_id, quota_reservations.c.id == reservation_id)
        .with_for_update(of=quota_reservations)
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _not_found(reservation_id)
    return _reservation(row), Turn(row.turn_number, row.turn_time)


async def add_reservation(tx: Tx, reservation: Reservation) -> None:
    found = reservation.found
    await tx.execute(
        insert(quota_reservations).values(
            seller_id=tx.seller_id,
            id=reservation.id,
            customer_id=reservation.customer_id,
            feature=reservation.feature,
            meter=reservation.meter,
            quantity=reservation.quantity,
            granted=found.granted,
            period_start=found.period.start if found.period else None,
            period_end=found.period.end if found.period else None,
            through_position=found.through_position,
            names=list(found.names),
            number=reservation.number,
            create_time=reservation.create_time,
            expire_time=reservation.expire_time,
            **_changing(reservation),
        )
    )


async def save_reservation(tx: Tx, reservation: Reservation) -> None:
    await tx.execute(
        update(quota_reservations)
        .where(quota_reservations.c.seller_id == tx.seller_id, quota_reservations.c.id == reservation.id)
        .values(**_changing(reservation))
    )


async def reservation(tx: Tx, reservation_id: ReservationId) -> Reservation:
    query = select(quota_reservations).where(
        quota_reservations.c.seller_id == tx.seller_id, quota_reservations.c.id == reservation_id
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _not_found(reservation_id)
    return _reservation(row)


async def lock_reservations(tx: Tx, reservation_ids: Collection[str]) -> list[Reservation]:
    """Those that exist, oldest first."""
    query = (
        select(quota_reservations)
        .where(quota_reservations.c.seller_id == tx.seller_id, quota_reservations.c.id.in_(reservation_ids))
        .order_by(quota_reservations.c.id)
        .with_for_update()
    )
    return [_reservation(row) for row in await tx.execute(query)]


async def forget_reservations(tx: Tx, reservation_ids: Collection[str]) -> None:
    """Those that ended so long ago that nobody asks any more."""
    await tx.execute(
        delete(quota_reservations).where(
            quota_reservations.c.seller_id == tx.seller_id,
            quota_reservations.c.id.in_(reservation_ids),
            quota_reservations.c.end_time <= tx.now - KEPT,
        )
    )


async def list_reservations(tx: Tx, *, customer_id: str, under_way: bool, after: str, limit: int) -> list[Reservation]:
    query = (
        select(quota_reservations)
        .where(quota_reservations.c.seller_id == tx.seller_id, quota_reservations.c.id > after)
        .order_by(quota_reservations.c.id)
        .limit(limit)
    )
    if customer_id:
        query = query.where(quota_reservations.c.customer_id == customer_id)
    if under_way:
        query = query.where(
            quota_reservations.c.state.in_([state.name for state in UNDER_WAY]),
            or_(quota_reservations.c.state != State.OPEN.name, quota_reservations.c.expire_time > tx.now),
        )
    return [_reservation(row) for row in await tx.execute(query)]


_TAKE_TURN: Final = """
INSERT INTO quota_turns AS t (seller_id, customer_id, meter, number, time) VALUES ($1, $2, $3, 1, $4)
ON CONFLICT (seller_id, customer_id, meter)
DO UPDATE SET number = t.number + 1, time = greatest(t.time, excluded.time) RETURNING number, time
"""
_RESERVED: Final = """
SELECT coalesce(sum(quantity) FILTER (WHERE aside), 0) AS quantity, count(*) FILTER (WHERE aside) AS number,
       coalesce(array_agg(id) FILTER (WHERE NOT aside), '{}') AS expired
FROM (
    SELECT id, quantity, state = 'COMMITTING' OR expire_time > $4 AS aside FROM quota_reservations
    WHERE seller_id = $1 AND customer_id = ANY ($2::text[]) AND meter = $3 AND (state = 'OPEN' OR state = 'COMMITTING')
) under_way
"""


def _not_found(reservation_id: ReservationId) -> QuotaReservationNotFound:
    return QuotaReservationNotFound(f"there is no reservation {reservation_id}", quota_reservation=reservation_id)


def _changing(reservation: Reservation) -> dict[str, object]:
    """The columns that are not the same for ever."""
    return {
        "state": reservation.state.name,
        "committed_quantity": reservation.committed_quantity,
        "commit_time": reservation.commit_time,
        "dimensions": dict(reservation.dimensions) or null(),
        "end_time": reservation.end_time,
        "end_number": reservation.end_number,
    }


def _reservation(row: Row[Any]) -> Reservation:  # Any: a row of `quota_reservations`
    return Reservation(
        id=ReservationId(row.id),
        customer_id=row.customer_id,
        feature=row.feature,
        meter=row.meter,
        quantity=row.quantity,
        found=Found(
            granted=row.granted,
            period=Period(row.period_start, row.period_end) if row.period_start else None,
            through_position=row.through_position,
            names=tuple(row.names),
        ),
        number=row.number,
        state=State[row.state],
        create_time=row.create_time,
        expire_time=row.expire_time,
        committed_quantity=row.committed_quantity,
        commit_time=row.commit_time,
        dimensions=row.dimensions or {},
        end_time=row.end_time,
        end_number=row.end_number,
    )
