"""What the metering service does about usage thresholds, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import compress
from operator import not_
from typing import Final

from common import ids
from common.db import Tx
from common.period import Period
from metering import store
from metering.convert.thresholds import PREFIX, alert_to_proto, threshold_to_proto
from metering.domain.errors import CustomerNotFound, TooManyUsageThresholds
from metering.domain.filter import EventFilter
from metering.domain.meter import MeterVersion
from metering.domain.naming import CustomerName
from metering.domain.threshold import (
    THRESHOLDS_MAX,
    AlertState,
    Rhythm,
    ThresholdId,
    ThresholdState,
    UsageAlert,
    UsageThreshold,
)
from metering.domain.unmatched import Missing
from metering.domain.usage import Usage, UsageQuery
from metering.usecases_unmatched import match
from saldo.metering.v1 import events_pb2 as events

GROWTH_LOOK_WAIT: Final = timedelta(seconds=30)
"""Between looks for what grew: a live seller hears of it so late, and a moment later."""


async def create_threshold(
    tx: Tx,
    *,
    meter: str,
    customer_id: str,
    rhythm: Rhythm | None,
    interval: Period | None,
    value: Decimal,
    warning_value: Decimal | None,
    only: EventFilter,
) -> UsageThreshold:
    threshold = UsageThreshold(
        id=ThresholdId(tx.new_id(PREFIX)),
        meter=meter,
        customer_id=customer_id,
        rhythm=rhythm,
        interval=interval,
        value=value,
        warning_value=warning_value,
        filter=only,
        create_time=tx.now,
    )
    # Nobody makes the meter count otherwise, and sees no threshold, before this one stands.
    counting = (await store.meter_by_code(tx, meter, hold=True)).in_effect_from(tx.now)
    for version in counting:
        threshold.check(version.definition, at=tx.now)
    if customer_id and not await store.is_customer(tx, customer_id):
        raise CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    # What grows from now on is found by looks, what there is by then by the sweep.
    await store.THRESHOLD_LOOKS.hold(tx)
    if await store.active_count(tx, limit=THRESHOLDS_MAX) >= THRESHOLDS_MAX:
        raise TooManyUsageThresholds(f"there are {THRESHOLDS_MAX} active thresholds", limit=THRESHOLDS_MAX)
    await store.add_threshold(tx, threshold)
    await tx.emit(events.UsageThresholdCreated(usage_threshold=threshold_to_proto(threshold)))
    return threshold


async def archive_threshold(tx: Tx, threshold_id: ThresholdId) -> UsageThreshold:
    # In the order of whoever sweeps.
    await store.THRESHOLD_LOOKS.lock(tx)
    threshold = await store.threshold(tx, threshold_id, lock=True)
    if threshold.state is ThresholdState.ARCHIVED:
        return threshold
    archived = threshold.archived(at=tx.now)
    await store.archive_threshold(tx, archived)
    if not await store.active_count(tx, limit=1):
        await store.THRESHOLD_LOOKS.end(tx)
    await tx.emit(events.UsageThresholdArchived(usage_threshold=threshold_to_proto(archived)))
    return archived


async def hear_of_customer(
    tx: Tx, customer_id: str, names: Sequence[CustomerName], *, time_zone: str, revision: int, ahead: timedelta
) -> None:
    """What somebody is called. Usage that is his only now counts for thresholds from now on."""
    await store.hold_unmatched(tx)
    changed = await store.keep_customer(tx, customer_id, names, time_zone=time_zone, revision=revision)
    if changed:
        await match(tx, Missing.CUSTOMER, [each.name for each in names])
    # A look that goes on later sees the names; of one that was before, the log's pairs are there now.
    if changed and await store.THRESHOLD_LOOKS.hold_begun(tx):
        await store.mark_customer(tx, customer_id, await store.active_rhythms(tx), ahead=ahead)


async def look_for_growth(tx: Tx, seller_id: str, *, ahead: timedelta) -> None:
    """Look through what was stored since the last time; a part of it, if it is much."""
    before = await store.THRESHOLD_LOOKS.lock(tx)
    if before is None:
        return
    reached = await store.mark_grown(tx, before, await store.active_rhythms(tx), ahead=ahead)
    wait = timedelta(0) if reached.position == before.position else GROWTH_LOOK_WAIT
    await store.THRESHOLD_LOOKS.save(tx, reached, next_time=None if ids.is_sandbox(seller_id) else tx.now + wait)


async def sweep(tx: Tx, threshold_id: str, *, ahead: timedelta) -> None:
    """Go through what there is of a threshold's meter, a part of it if it is much: when the threshold is new, and if
    usage is carried over, whenever a period begins.
    """
    await store.THRESHOLD_LOOKS.lock(tx)
    threshold = await store.threshold(tx, ThresholdId(threshold_id), lock=True)
    if threshold.state is ThresholdState.ARCHIVED:
        return
    last = await store.mark_part(tx, threshold, after=await store.sweep_place(tx, threshold.id), ahead=ahead)
    meter = await store.meter_by_code(tx, threshold.meter)
    next_time = threshold.next_start(tx.now) if meter.carries_over else None
    await store.save_sweep(tx, threshold.id, after=last, next_time=next_time)


async def settle_alerts(tx: Tx, numbers: Sequence[str]) -> None:
    """Count what is marked, see what is over, and announce what changed."""
    alerts = await store.lock_alerts(tx, [int(number) for number in numbers])
    thresholds = await store.thresholds_by_id(tx, {alert.threshold_id for alert in alerts})
    over: list[UsageAlert] = []
    open_alerts: list[UsageAlert] = []
    for alert in alerts:
        threshold = thresholds[alert.threshold_id]
        if threshold.state is ThresholdState.ARCHIVED:
            over.append(alert)
        elif tx.now >= threshold.closes(alert.period):
            over.append(alert)
            await _announce(tx, alert, alert.settled(threshold, at=tx.now), threshold)
        else:
            open_alerts.append(alert)
    settled = []
    for before, counted in zip(open_alerts, await _counted(tx, open_alerts, thresholds), strict=True):
        threshold = thresholds[before.threshold_id]
        after = counted.settled(threshold, at=tx.now)
        await _announce(tx, before, after, threshold)
        settled.append((after, threshold))
    await store.save_alerts(tx, settled)
    await store.remove_alerts(tx, [alert.number for alert in over])


async def _announce(tx: Tx, before: UsageAlert, after: UsageAlert, threshold: UsageThreshold) -> None:
    if after.state is before.state:
        return
    told, alert = threshold_to_proto(threshold), alert_to_proto(after)
    match after.state:
        case AlertState.OK:
            await tx.emit(events.UsageThresholdRecovered(usage_threshold=told, usage_alert=alert))
        case AlertState.WARNING:
            await tx.emit(events.UsageThresholdWarned(usage_threshold=told, usage_alert=alert))
        case AlertState.REACHED:
            await tx.emit(events.UsageThresholdReached(usage_threshold=told, usage_alert=alert))


async def _counted(
    tx: Tx, alerts: Sequence[UsageAlert], thresholds: dict[ThresholdId, UsageThreshold]
) -> list[UsageAlert]:
    """In the same order; what is not marked as it is."""
    marked = [alert for alert in alerts if alert.is_marked]
    names = await store.names_counted(tx, [(alert.customer_id, alert.period.start) for alert in marked])
    queries = [
        UsageQuery(
            customer_id=alert.customer_id,
            external_id="",
            meter=alert.meter,
            period=alert.period,
            names=tuple(called),
            filter=thresholds[alert.threshold_id].filter,
            without_proof=True,
        )
        for alert, called in zip(marked, names, strict=True)
    ]
    found = {
        alert.number: alert.counted(
            usage.quantity, through_position=usage.through_position, meter_version=usage.meter_version
        )
        for alert, usage in zip(marked, await _usages(tx, queries), strict=True)
    }
    return [found.get(alert.number, alert) for alert in alerts]


async def _usages(tx: Tx, queries: Sequence[UsageQuery]) -> list[Usage]:
    """In the order asked: those that are put together of days, and all others."""
    meters = await store.meters_by_code(tx, {query.meter for query in queries})
    asked = [(query, meters[query.meter].counting(query.period, query.meter_version)) for query in queries]
    are_short = [query.is_short and version.definition.is_summed for query, version in asked]
    short = list(compress(asked, are_short))
    others = list(compress(asked, map(not_, are_short)))
    summed = await store.totals(tx, *_apart(short)) if short else []
    if summed is None:
        queries, versions = _apart(short)
        summed = await store.usages(tx, queries, versions=versions)
    totals = iter(summed)
    queries, versions = _apart(others)
    usages = iter(await store.usages(tx, queries, versions=versions) if others else ())
    return [next(totals) if is_short else next(usages) for is_short in are_short]


def _apart(asked: Sequence[tuple[UsageQuery, MeterVersion]]) -> tuple[list[UsageQuery], list[MeterVersion]]:
    return [query for query, _ in asked], [version for _, version in asked]
