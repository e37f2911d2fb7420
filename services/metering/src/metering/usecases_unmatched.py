"""What the metering service does about usage that nobody counts: tell of it once, and of when somebody does."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from common import ids
from common.db import Tx
from metering import store
from metering.convert.unmatched import PREFIX, unmatched_name_to_proto
from metering.domain.unmatched import OPEN_MAX, Missing, UnmatchedName
from saldo.metering.v1 import events_pb2 as events

LOOK_WAIT: Final = timedelta(seconds=30)
FOUND_TOGETHER: Final = 100


async def look_for_unmatched(tx: Tx, seller_id: str) -> None:
    """Tell of names that nobody has told of; some of them, if they are many."""
    await store.hold_unmatched(tx, looking=True)
    # First how far, then what: what is stored in between is looked at again.
    position = await store.last_position(tx)
    room = min(FOUND_TOGETHER, OPEN_MAX - await store.open_count(tx))
    found = await store.find_unmatched(tx, limit=room) if room > 0 else []
    names = [
        UnmatchedName(id=tx.new_id(PREFIX), missing=missing, name=name, found_time=tx.now)
        if before is None
        else before.found_again(at=tx.now)
        for missing, name, before in found
    ]
    await store.save_unmatched(tx, names)
    for each in names:
        await tx.emit(events.UnmatchedNameDetected(unmatched_name=unmatched_name_to_proto(each)))
    is_partial = len(found) == FOUND_TOGETHER
    next_time = None if ids.is_sandbox(seller_id) else tx.now + LOOK_WAIT
    await store.save_unmatched_look(tx, 0 if is_partial else position, next_time=next_time)


async def match(tx: Tx, missing: Missing, names: Collection[str]) -> None:
    """They are there: whoever makes them holds off those who look, before."""
    matched = [each.matched(at=tx.now) for each in await store.unmatched_names_of(tx, missing, names)]
    await store.save_unmatched(tx, matched)
    for each in matched:
        await tx.emit(events.UnmatchedNameMatched(unmatched_name=unmatched_name_to_proto(each)))
