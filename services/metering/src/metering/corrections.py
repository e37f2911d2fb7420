"""What metering does to correct usage events: look at what there is, and write down what is to be instead.

history ─► the next correction of the event ─► log ─► stored? answered : another one was first, look again
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from common import telemetry
from common.db import Tx
from common.rpc import ConcurrentUpdate
from metering import store
from metering.convert.corrections import correction_batch
from metering.domain.correction import EventHistory, EventVersion
from metering.domain.errors import UsageEventNotFound
from metering.domain.usage_event import Identity, UsageEvent
from metering.log import Log
from metering.log.correction import Correction, version_identity

TRIES_MAX: Final = 10


class Corrections:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def history(self, tx: Tx, identity: Identity) -> EventHistory:
        corrections = await store.corrections_of(tx, identity)
        amended = [correction.number for correction in corrections if correction.amended_position is not None]
        keys = await self._log.keys()
        asked = [
            UUID(bytes=keys.of(tx.seller_id, identity.source, version_identity(identity.id.encode(), version)))
            for version in (0, *amended)
        ]
        versions = await store.versions_of(tx, identity, asked)
        if not versions:
            raise UsageEventNotFound(f"there is no {identity.id} of {identity.source}", **identity._asdict())
        return EventHistory(versions=tuple(versions), corrections=tuple(corrections))

    async def void(self, tx: Tx, identity: Identity, *, reason: str, request_id: str) -> EventHistory:
        for _ in range(TRIES_MAX):
            history = await self.history(tx, identity)
            if history.is_voided:
                return history
            if made := await self._write(tx, history, None, reason=reason, request_id=request_id):
                return made
        raise _too_many_at_once(identity)

    async def amend(self, tx: Tx, event: UsageEvent, *, reason: str, request_id: str) -> EventHistory:
        for _ in range(TRIES_MAX):
            history = await self.history(tx, event.identity)
            if history.is_amended_already(event, request_id=request_id):
                return history
            history.check_amendable()
            if made := await self._write(tx, history, event, reason=reason, request_id=request_id):
                return made
        raise _too_many_at_once(event.identity)

    async def _write(
        self, tx: Tx, history: EventHistory, amended: UsageEvent | None, *, reason: str, request_id: str
    ) -> EventHistory | None:
        """What it makes of the history. None if another correction of the event was first: then nothing is written."""
        newest = history.newest
        correction = Correction(
            source=newest.event.identity.source,
            event_id=newest.event.identity.id,
            number=len(history.corrections) + 1,
            corrects=newest.position,
            reason=reason,
            actor=tx.actor,
            request_id=request_id,
        )
        batch = correction_batch(
            correction, newest.event, amended, seller_id=tx.seller_id, at=tx.now, traceparent=telemetry.traceparent()
        )
        stored = await self._log.append(batch)
        if stored.fresh is not None:
            return None
        # Others may have followed already.
        corrections = (await store.corrections_of(tx, newest.event.identity))[: correction.number]
        versions, position = history.versions, corrections[-1].amended_position
        if amended is not None and position is not None:
            versions += (EventVersion(event=amended, position=position),)
        return EventHistory(versions=versions, corrections=tuple(corrections))


def _too_many_at_once(identity: Identity) -> ConcurrentUpdate:
    return ConcurrentUpdate(f"{identity.id} of {identity.source} is being corrected by others")
