"""What the metering service does, one function each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final

from common import ids
from common.db import Tx
from common.errors import InvalidArgument
from common.period import Period
from metering import store
from metering.convert.freezes import PREFIX, late_usage_to_proto
from metering.convert.quotas import RESERVATION_PREFIX, reservation_to_proto
from metering.domain.archive import Leaf, LeafState, LoggedEvent, check_archivable
from metering.domain.entitlement import (
    Access,
    Entitlement,
    FeatureKind,
    QuotaPeriod,
    access_of,
    quota_access,
    quota_period,
)
from metering.domain.errors import ArchiveMismatch, LeafNotFound, LeafStillNeeded, MeterNotFound, UsageArchived
from metering.domain.freeze import (
    FrozenUsage,
    FrozenUsageId,
    LateUsage,
    Verification,
    check_freezable,
    check_replaces,
    freeze,
)
from metering.domain.meter import Meter
from metering.domain.reservation import (
    Found,
    Reservation,
    ReservationId,
    State,
    check_number_under_way,
    check_reservable,
)
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventPlace, UsageEvent
from metering.log import archives, copies
from metering.store import LOG, UsageStore
from saldo.metering.v1 import events_pb2 as events

LOOK_WAIT: Final = timedelta(minutes=5)
"""Between looks for late usage: nobody corrects an invoice sooner, and each reads what was stored since."""


async def query_usages(
    tx: Tx, queries: Sequence[UsageQuery], *, counting: UsageStore = LOG, complete: bool = True
) -> list[Usage]:
    """In the order asked, all from one snapshot of what was ingested."""
    if not queries:
        return []
    meters = await _existing_meters(tx, queries)
    versions = [meters[query.meter].counting(query.period, query.meter_version) for query in queries]
    return await counting.usages(tx, queries, versions=versions, complete=complete)


async def list_events(
    tx: Tx, query: UsageQuery, *, after: EventPlace, limit: int, counting: UsageStore = LOG
) -> list[UsageEvent]:
    meter = await store.meter_by_code(tx, query.meter)
    definition = meter.counting(query.period, query.meter_version).definition
    return await counting.list_events(tx, query, definition=definition, after=after, limit=limit, complete=False)


async def _existing_meters(tx: Tx, queries: Sequence[UsageQuery]) -> dict[str, Meter]:
    """Nobody is billed zero because of a misspelt meter."""
    codes = {query.meter for query in queries}
    meters = await store.meters_by_code(tx, codes)
    if missing := sorted(codes - meters.keys()):
        raise MeterNotFound(f"there is no meter {', '.join(missing)}", codes=",".join(missing))
    return meters


async def freeze_usage(
    tx: Tx, query: UsageQuery, *, replaces: FrozenUsageId | None, counting: UsageStore = LOG
) -> FrozenUsage:
    check_freezable(query, at=tx.now)
    if replaces is not None:
        check_replaces(query, await store.frozen_usage(tx, replaces))
    # A version that is made later finds what is frozen here.
    meter = await store.meter_by_code(tx, query.meter, hold=True)
    version = meter.counting(query.period, None)
    await store.LATE_LOOKS.hold(tx)
    # Of all that there is: looks have gone past it, and would find nothing late in what is not counted here.
    [usage] = await counting.usages(tx, [query], versions=[version], complete=True)
    frozen = freeze(usage, frozen_id=FrozenUsageId(tx.new_id(PREFIX)), replaces=replaces, at=tx.now)
    await store.add_frozen_usage(tx, frozen, counted_from=version.definition.counted(query.period).start)
    return frozen


async def late_usage(tx: Tx, frozen_id: FrozenUsageId, *, counting: UsageStore = LOG) -> LateUsage:
    [late] = await late_usages(tx, [await store.frozen_usage(tx, frozen_id)], counting=counting)
    return late


async def late_usages(tx: Tx, frozen: Sequence[FrozenUsage], *, counting: UsageStore = LOG) -> list[LateUsage]:
    """What came too late for each, counted now."""
    return (await _late_usages(tx, frozen, since=[], counting=counting))[0]


async def _late_usages(
    tx: Tx, frozen: Sequence[FrozenUsage], *, since: Sequence[UsageQuery], counting: UsageStore
) -> tuple[list[LateUsage], list[Usage]]:
    """And the answers to more questions, all of one snapshot."""
    meters = await store.meters_by_code(tx, {each.query.meter for each in frozen})
    anew = [each for each in frozen if each.is_counted_anew(meters[each.query.meter])]
    queries = [each.usage_now(fresh_after=each.through_position) for each in frozen]
    queries += [*since, *(each.usage_in_effect for each in anew)]
    answers = iter(await query_usages(tx, queries, counting=counting))
    counted = list(islice(answers, len(frozen)))
    others = list(islice(answers, len(since)))
    now = {each.id: usage for each, usage in zip(anew, answers, strict=True)}
    found = zip(frozen, counted, strict=True)
    return [LateUsage.of(each, usage, now.get(each.id, usage)) for each, usage in found], others


async def verify_frozen_usage(tx: Tx, frozen_id: FrozenUsageId, *, counting: UsageStore = LOG) -> Verification:
    frozen = await store.frozen_usage(tx, frozen_id)
    [counted] = await query_usages(tx, [frozen.query], counting=counting)
    return Verification(digest=frozen.digest, frozen=frozen, counted=counted)


async def verify_digest(tx: Tx, query: UsageQuery, *, digest: str, counting: UsageStore = LOG) -> Verification:
    [counted] = await query_usages(tx, [query], counting=counting)
    if counted.through_position != query.through_position:
        message = f"the last position is {counted.through_position}"
        raise InvalidArgument(message, field="query.through_position")
    return Verification(digest=digest, frozen=None, counted=counted)


async def look_for_late_usage(tx: Tx, seller_id: str) -> None:
    """Look through what was stored since the last time; a part of it, if it is much."""
    before = await store.LATE_LOOKS.lock(tx)
    assert before is not None, "only what stands in the table is due"
    reached = await store.look(tx, before)
    wait = timedelta(0) if reached.position == before.position else LOOK_WAIT
    await store.LATE_LOOKS.save(tx, reached, next_time=None if ids.is_sandbox(seller_id) else tx.now + wait)


async def announce_late_usages(tx: Tx, frozen_ids: Sequence[str], *, counting: UsageStore = LOG) -> None:
    overtaken = await store.lock_overtaken(tx, frozen_ids)
    frozen = await store.frozen_usages_by_id(tx, [each.frozen_id for each in overtaken])
    told = [each.announced_position or late.through_position for each, late in zip(overtaken, frozen, strict=True)]
    news = [each.usage_now(fresh_after=position) for each, position in zip(frozen, told, strict=True)]
    try:
        found, since = await _late_usages(tx, frozen, since=news, counting=counting)
    except UsageArchived as error:
        if len(frozen_ids) > 1:
            raise  # then each of them is tried by itself
        await store.wait_for_leaf(tx, frozen_ids[0], int(error.metadata["leaf"]))
        return
    for each, late, usage in zip(overtaken, found, since, strict=True):
        before = late.frozen.event_count + each.announced_count - each.announced_corrected_count
        # A meter may let fewer events through than have its code.
        if each.is_recounted or late.is_news(usage, counted_before=before):
            await tx.emit(events.LateUsageDetected(late_usage=late_usage_to_proto(late)))
    await store.save_announced(tx, found)


async def check_entitlement(tx: Tx, customer_id: str, feature: str, quantity: Decimal | None) -> Access:
    entitlement = await store.entitlement(tx, customer_id, feature)
    access = access_of(entitlement, quantity)
    if access.refusal is not None or access.kind is not FeatureKind.QUOTA:
        return access
    try:
        found, _, _ = await _quota_access(tx, entitlement, quantity, at=tx.now)
    except MeterNotFound as error:
        return replace(access, refusal=error)
    return found


async def acquire_quota(
    tx: Tx, customer_id: str, feature: str, quantity: Decimal, *, time_to_live: timedelta
) -> tuple[Reservation, Access]:
    """And what is left then. Whoever acquires for one customer and meter waits for those before."""
    entitlement = await store.entitlement(tx, customer_id, feature)
    entitlement.check_quota()
    turn = await store.take_turn(tx, customer_id, entitlement.meter, acquiring=True)
    meter = await store.meter_by_code(tx, entitlement.meter)
    for start in {span.start for span in _quota_periods(entitlement, turn.time)} or {turn.time}:
        check_reservable(meter.code, meter.in_effect(start).definition, quantity)
    access, number_under_way, through_position = await _quota_access(tx, entitlement, quantity, at=turn.time)
    check_number_under_way(number_under_way)
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
    of = await store.reservation(tx, reservation_id)
    turn = await store.take_turn(tx, of.customer_id, of.meter)
    before = await store.reservation(tx, reservation_id, lock=True)
    reservation = before.commit(quantity, dimensions, at=tx.now, turn=turn)
    if reservation is not before:
        await store.save_reservation(tx, reservation)
    return reservation


async def finish_commit(tx: Tx, reservation_id: ReservationId) -> Reservation:
    """Its usage event is stored."""
    of = await store.reservation(tx, reservation_id)
    turn = await store.take_turn(tx, of.customer_id, of.meter)
    before = await store.reservation(tx, reservation_id, lock=True)
    reservation = before.committed(at=tx.now, turn=turn)
    if reservation is not before:
        await store.save_reservation(tx, reservation)
    return reservation


async def release_quota(tx: Tx, reservation_id: ReservationId) -> Reservation:
    of = await store.reservation(tx, reservation_id)
    turn = await store.take_turn(tx, of.customer_id, of.meter)
    before = await store.reservation(tx, reservation_id, lock=True)
    reservation = before.release(at=tx.now, turn=turn)
    if reservation.state is State.RELEASED and before.state is State.OPEN:
        await store.save_reservation(tx, reservation)
    return reservation


async def end_expired_reservations(tx: Tx, reservation_ids: Sequence[str]) -> None:
    for before in await store.lock_reservations(tx, reservation_ids):
        reservation = before.as_of(tx.now)
        if reservation is not before:
            await store.save_reservation(tx, reservation)
            await tx.emit(events.QuotaReservationExpired(reservation=reservation_to_proto(reservation)))


async def _quota_access(
    tx: Tx, entitlement: Entitlement, quantity: Decimal | None, *, at: datetime
) -> tuple[Access, int, int]:
    """And how many reservations are under way, and how far was counted.

    First what is reserved, then what is used: what is committed in between is counted twice, and never not at all.
    """
    reserved, number = await store.reserved(tx, entitlement.names, entitlement.meter, at=at)
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
    usages = await query_usages(tx, queries)
    periods = tuple(
        QuotaPeriod(period=span, granted=quota.quota, used=usage.quantity, reserved=reserved)
        for span, quota, usage in zip(spans, entitlement.quotas, usages, strict=True)
    )
    access = quota_access(entitlement, quantity, periods=periods, reserved=reserved)
    return access, number, min((usage.through_position for usage in usages), default=0)


def _quota_periods(entitlement: Entitlement, at: datetime) -> list[Period]:
    return [quota_period(quota.reset_interval, entitlement.time_zone, at) for quota in entitlement.quotas]


async def archive_leaf(tx: Tx, number: int, *, event_count: int, digest: str, kept: timedelta, is_copied: bool) -> Leaf:
    """Take a leaf out of the log that somebody has a whole copy of; nothing more if that was done before."""
    leaf = await archives.lock_leaf(tx.driver, number)
    if leaf.state is LeafState.ARCHIVED:
        if (leaf.event_count, leaf.digest) != (event_count, digest):
            raise ArchiveMismatch(f"leaf {number} was archived with {leaf.event_count} other events", leaf=number)
        return leaf
    check_archivable(leaf, at=tx.now, kept=kept)
    if not await archives.is_looked_through(tx.driver, number):
        raise LeafStillNeeded(f"late usage is still to be looked for in leaf {number}", leaf=number)
    if await archives.is_corrected(tx.driver, number):
        raise LeafStillNeeded(f"usage events of leaf {number} were corrected, or correct others", leaf=number)
    if is_copied and not await copies.is_copied(tx.driver, number):
        raise LeafStillNeeded(f"leaf {number} is still to be copied", leaf=number)
    (await archives.content_of(tx.driver, number)).check(event_count, digest)
    await archives.archive(tx.driver, leaf, digest=digest)
    return replace(leaf, state=LeafState.ARCHIVED, digest=digest)


async def restore_events(tx: Tx, number: int, events: Sequence[LoggedEvent], *, from_beginning: bool) -> int:
    """Bring events of a leaf that is archived; how many of it have been brought."""
    await _archived_leaf(tx, number)
    if from_beginning:
        await archives.begin_restoring(tx.driver, number)
    return await archives.bring(tx.driver, number, events)


async def restore_leaf(tx: Tx, number: int) -> Leaf:
    leaf = await _archived_leaf(tx, number)
    (await archives.restored_content(tx.driver, number)).check(leaf.event_count, leaf.digest)
    await archives.restore(tx.driver, number)
    return replace(leaf, state=LeafState.SEALED, digest="")


async def _archived_leaf(tx: Tx, number: int) -> Leaf:
    leaf = await archives.lock_leaf(tx.driver, number)
    if leaf.state is not LeafState.ARCHIVED:
        raise LeafNotFound(f"leaf {number} is not archived", leaf=number)
    return leaf
