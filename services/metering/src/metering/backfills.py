"""What metering does with backfills: open one, and have whoever writes the log close or revert it.

open ─► a row, and nothing else          close, revert ─► the log does it, and writes it down, in one commit
"""

from __future__ import annotations

from common import telemetry
from common.db import Database, Tx
from common.rpc import Desk
from metering import store
from metering.convert.backfills import PREFIX
from metering.domain.backfill import (
    EXPIRED,
    OPEN_TIME,
    Backfill,
    BackfillId,
    BackfillState,
    check_complete,
    check_number,
)
from metering.forwarding import Forwarding
from metering.log import Log
from metering.log.backfills import Settlement


class Backfills:
    def __init__(self, database: Database, *, log: Log, forwarding: Forwarding) -> None:
        self._database = database
        self._log = log
        self._forwarding = forwarding

    async def open(self, tx: Tx, *, reason: str) -> Backfill:
        await store.lock_backfills(tx)
        open_count, kept_count = await store.count_backfills(tx)
        check_number(open_count=open_count, kept_count=kept_count)
        return await store.add_backfill(
            tx, BackfillId(tx.new_id(PREFIX)), reason=reason, expire_time=tx.now + OPEN_TIME
        )

    async def close(self, tx: Tx, backfill_id: BackfillId, *, event_count: int | None) -> Backfill:
        backfill = await store.backfill(tx, backfill_id)
        if backfill.state is BackfillState.CLOSED:
            check_complete(backfill.event_count, event_count)
            return backfill
        backfill.check_open()
        return await self._settle(tx, backfill, is_revert=False, event_count=event_count)

    async def revert(self, tx: Tx, backfill_id: BackfillId, *, reason: str) -> Backfill:
        backfill = await store.backfill(tx, backfill_id)
        if backfill.state is BackfillState.REVERTED:
            return backfill
        return await self._settle(tx, backfill, is_revert=True, reason=reason)

    async def revert_expired(self, desk: Desk, row_id: str) -> None:
        """Nobody has closed it. Where usage events are not stored, it is left to the replica that stores them."""
        await self._forwarding.check_owned(desk.caller.seller_id)
        async with self._database.transaction(desk.caller) as tx:
            backfill = await store.backfill(tx, BackfillId(row_id))
            if backfill.state is BackfillState.OPEN and backfill.expire_time <= tx.now:
                await self._settle(tx, backfill, is_revert=True, reason=EXPIRED, only_open=True)

    async def _settle(
        self,
        tx: Tx,
        backfill: Backfill,
        *,
        is_revert: bool,
        event_count: int | None = None,
        reason: str = "",
        only_open: bool = False,
    ) -> Backfill:
        await self._log.settle(
            Settlement(
                seller_id=tx.seller_id,
                number=backfill.number,
                is_revert=is_revert,
                only_open=only_open,
                event_count=event_count,
                reason=reason,
                actor=tx.actor,
                time=tx.now,
                traceparent=telemetry.traceparent(),
            )
        )
        return await store.backfill(tx, backfill.id)
