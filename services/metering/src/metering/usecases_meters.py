"""What the metering service does about meters, one function each."""

from __future__ import annotations

from common.db import Tx
from common.period import EARLIEST
from metering import store
from metering.convert.meters import meter_to_proto, version_to_proto
from metering.domain.errors import AggregationHasNoThreshold
from metering.domain.meter import Aggregation, Definition, Meter, MeterId, MeterVersion
from metering.domain.meter_update import MeterUpdate, is_counted_anew
from metering.domain.unmatched import Missing
from metering.usecases_unmatched import match
from saldo.metering.v1 import events_pb2 as events


async def create_meter(
    tx: Tx, *, code: str, display_name: str, definition: Definition, unit_label: str, accepts_days: int
) -> Meter:
    definition.check()
    first = MeterVersion(
        number=1,
        definition=definition,
        accepts_days=accepts_days,
        effective_time=EARLIEST,
        create_time=tx.now,
    )
    meter = Meter(
        id=MeterId(tx.new_id("meter")),
        code=code,
        display_name=display_name,
        unit_label=unit_label,
        revision=1,
        create_time=tx.now,
        versions=(first,),
    )
    await store.hold_unmatched(tx)
    await store.add_meter(tx, meter)
    await match(tx, Missing.METER, [code])
    # What names it may name a customer that there is not.
    await store.look_again(tx)
    await tx.emit(events.MeterCreated(meter=meter_to_proto(meter, meter.in_effect(tx.now))))
    return meter


async def update_meter(tx: Tx, meter_id: MeterId, update: MeterUpdate) -> Meter:
    """What is counted otherwise from now on is marked in the same commit; whoever freezes or sets a threshold waits."""
    before = await store.meter(tx, meter_id, lock=True)
    meter = update.of(before, at=tx.now)
    if meter is before:
        return before
    is_anew = is_counted_anew(before, meter)
    if is_anew:
        await _check_countable(tx, meter)
    if update.validate_only:
        return meter
    await store.save_meter(tx, meter, before=before)
    if is_anew:
        await _count_anew(tx, meter)
    made = meter.last is not before.last
    await tx.emit(
        events.MeterUpdated(
            meter=meter_to_proto(meter, meter.in_effect(tx.now)),
            version=version_to_proto(meter, meter.last) if made else None,
        )
    )
    return meter


async def _check_countable(tx: Tx, meter: Meter) -> None:
    """Whether the last version can take the place of what was in effect."""
    version = meter.last
    if version.definition.aggregation is Aggregation.MIN and await store.is_watched(tx, meter.code):
        raise AggregationHasNoThreshold(f"{meter.code} would take the smallest value", meter=meter.code)
    if version.effective_time < tx.now:
        await store.check_recountable(tx, meter.code, version.effective_time)


async def _count_anew(tx: Tx, meter: Meter) -> None:
    """Whatever the last version counts otherwise, and was counted already."""
    if meter.last.effective_time > tx.now:
        return
    # In the order of whoever sweeps.
    await store.THRESHOLD_LOOKS.lock(tx)
    await store.look_through_again(tx, meter.code)
    await store.mark_recounted(tx, meter)
