"""What the metering service does about frozen usages, and about what comes too late for them, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Final

from common import ids
from common.db import Tx
from common.errors import InvalidArgument
from metering import store
from metering.convert.freezes import PREFIX, late_usage_to_proto
from metering.domain.errors import UsageArchived
from metering.domain.freeze import (
    FrozenUsage,
    FrozenUsageId,
    LateUsage,
    Verification,
    check_freezable,
    check_replaces,
    freeze,
)
from metering.domain.usage import Usage, UsageQuery
from metering.store import LOG, UsageStore
from metering.usecases_usages import query_usages
from saldo.metering.v1 import events_pb2 as events

LOOK_WAIT: Final = timedelta(minutes=5)
"""Between looks for late usage: nobody corrects an invoice sooner, and each reads what was stored since."""


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
