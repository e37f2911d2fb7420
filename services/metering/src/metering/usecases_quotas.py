"""What the metering service does about quotas, one function each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from common.db import Tx
from common.period import Period
from metering import store
from metering.convert.quotas import RESERVATION_PREFIX, reservation_to_proto
from metering.domain.entitlement import (
    Access,
    Entitlement,
    FeatureKind,
    QuotaPeriod,
    access_of,
    quota_access,
    quota_period,
)
from metering.domain.errors import MeterNotFound
from metering.domain.meter import Meter
from metering.domain.reservation import (
    Found,
    Reservation,
    ReservationId,
    Reserved,
    State,
    Turn,
    check_number_under_way,
    check_reservable,
)
from metering.domain.usage import UsageQuery
from metering.usecases_usages import count_usages
from saldo.metering.v1 import events_pb2 as events


async def check_entitlement(tx: Tx, customer_id: str, feature: str, quantity: Decimal | None) -> Access:
    entitlement = await store.entitlement(tx, customer_id, feature)
    access = access_of(entitlement, quantity)
    if access.refusal is not None or access.kind is not FeatureKind.QUOTA:
        return access
    try:
        meters = [await store.meter_by_code(tx, entitlement.meter)] if entitlement.quotas else []
    except MeterNotFound as error:
        return replace(access, refusal=error)
    reserved = await store.reserved(tx, entitlement.names, entitlement.meter, at=tx.now)
    found, _ = await _quota_access(tx, entitlement, meters, quantity, reserved, at=tx.now)
    return found


async def acquire_quota(
    tx: Tx, customer_id: str, feature: str, quantity: Decimal, *, time_to_live: timedelta
) -> tuple[Reservation, Access]:
    """And what is left then. Whoever acquires for one customer and meter waits for those before."""
    entitlement = await store.entitlement(tx, customer_id, feature)
    entitlement.check_quota()
    turn = await store.take_turn(tx, customer_id, entitlement.meter)
    meter = await store.meter_by_code(tx, entitlement.meter)
    for start in {span.start for span in _quota_periods(entitlement, turn.time)} or {turn.time}:
        check_reservable(meter.code, meter.in_effect(start).definition, quantity)
    reserved = await _what_is_reserved(tx, entitlement, turn)
    access, through_position = await _quota_access(tx, entitlement, [meter], quantity, reserved, at=turn.time)
    check_number_under_way(reserved.number)
    if access.refusal is not None:
        raise access.refusal
    best = access.best
    reservation = Reservation(
        id=ReservationId(tx.new_id(RESERVATION_PREFIX)),
        customer_id=customer_id,
        feature=feature,
        meter=entitlement.meter,
        quantity=quantity,
        found=Found(
            granted=best.granted if best else None,
            period=best.period if best else None,
            through_position=through_position,
            names=entitlement.names,
        ),
        number=turn.number,
        state=State.OPEN,
        create_time=turn.time,
        expire_time=turn.time + time_to_live,
        dimensions={},
    )
    await store.add_reservation(tx, reservation)
    return reservation, access.after(quantity)


async def begin_commit(
    tx: Tx, reservation_id: ReservationId, quantity: Decimal | None, dimensions: Mapping[str, str]
) -> Reservation:
    """From here on it is only a matter of time: what was used is stored next, and then it is committed."""
    before, turn = await store.lock_reservation(tx, reservation_id)
    reservation = before.commit(quantity, dimensions, at=tx.now, turn=turn.seen(tx.now))
    if reservation is not before:
        await store.save_reservation(tx, reservation)
    return reservation


async def finish_commit(tx: Tx, reservation_id: ReservationId) -> Reservation:
    """Its usage event is stored."""
    before, turn = await store.lock_reservation(tx, reservation_id)
    reservation = before.committed(at=tx.now, turn=turn)
    if reservation is not before:
        await store.save_reservation(tx, reservation)
    return reservation


async def release_quota(tx: Tx, reservation_id: ReservationId) -> Reservation:
    before, turn = await store.lock_reservation(tx, reservation_id)
    reservation = before.release(at=tx.now, turn=turn.seen(tx.now))
    if reservation.state is State.RELEASED and before.state is State.OPEN:
        await store.save_reservation(tx, reservation)
    return reservation


async def end_expired_reservations(tx: Tx, reservation_ids: Sequence[str]) -> None:
    await _end_expired(tx, reservation_ids, at=tx.now)


async def _end_expired(tx: Tx, reservation_ids: Sequence[str], *, at: datetime) -> None:
    for before in await store.lock_reservations(tx, reservation_ids):
        reservation = before.as_of(at)
        if reservation is not before:
            await store.save_reservation(tx, reservation)
            await tx.emit(events.QuotaReservationExpired(reservation=reservation_to_proto(reservation)))


async def _what_is_reserved(tx: Tx, entitlement: Entitlement, turn: Turn) -> Reserved:
    """At a turn, and by what stays so: who commits or releases takes none, and may be doing so now.

    What has expired is written down by whoever gives it to somebody else. Its row is locked by that and by a commit, so
    that either it was committed before, and is set aside, or it cannot be committed any more, whatever clocks say.
    """
    reserved = await store.reserved(tx, entitlement.names, entitlement.meter, at=turn.time)
    if reserved.expired:
        await _end_expired(tx, reserved.expired, at=turn.time)
        reserved = await store.reserved(tx, entitlement.names, entitlement.meter, at=turn.time)
    return reserved


async def _quota_access(
    tx: Tx,
    entitlement: Entitlement,
    meters: Sequence[Meter],
    quantity: Decimal | None,
    reserved: Reserved,
    *,
    at: datetime,
) -> tuple[Access, int]:
    """And how far was counted.

    What is reserved was looked up first, and now what is used: what is committed in between is counted twice, and never
    not at all.
    """
    spans = _quota_periods(entitlement, at)
    queries = [
        UsageQuery(
            customer_id=entitlement.customer_id,
            external_id="",
            meter=entitlement.meter,
            period=span,
            names=entitlement.names,
            without_proof=True,
        )
        for span in spans
    ]
    usages = await count_usages(tx, queries, meters={meter.code: meter for meter in meters})
    periods = tuple(
        QuotaPeriod(
            period=span,
            granted=quota.quota,
            used=usage.quantity,
            reserved=reserved.quantity,
            meter_version=usage.meter_version,
        )
        for span, quota, usage in zip(spans, entitlement.quotas, usages, strict=True)
    )
    access = quota_access(entitlement, quantity, periods=periods, reserved=reserved.quantity)
    return access, min((usage.through_position for usage in usages), default=0)


def _quota_periods(entitlement: Entitlement, at: datetime) -> list[Period]:
    return [quota_period(quota.reset_interval, entitlement.time_zone, at) for quota in entitlement.quotas]
