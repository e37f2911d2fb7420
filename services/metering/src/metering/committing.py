"""Knows how a commit of quota that was decided comes to its end: its usage event is stored, then it is closed."""

from __future__ import annotations

from typing import Final

from common.crash import crashpoint, register
from common.db import Database
from common.rpc import Desk
from metering import store, usecases
from metering.convert.quotas import usage_of
from metering.domain.errors import IngestMoving
from metering.domain.reservation import Reservation, ReservationId, State
from metering.forwarding import Call
from metering.ingesting import Ingesting

RETRY_SECONDS: Final = 1

BEGUN: Final = register("quota.begun", "a commit of quota is decided and its usage event not stored")
STORED: Final = register("quota.stored", "the usage event of a commit of quota is stored and the commit not finished")


class Committing:
    def __init__(self, database: Database, *, ingesting: Ingesting) -> None:
        self._database = database
        self._ingesting = ingesting

    async def finish(self, of: ReservationId, call: Call) -> Reservation:
        """How it stands then. Until the usage event counts by itself, it counts as reserved."""
        async with self._database.transaction(call.caller) as tx:
            reservation = await store.reservation(tx, of)
        if reservation.state is not State.COMMITTING:
            return reservation
        crashpoint(BEGUN)
        answered = await self._ingesting.ingest(usage_of(reservation), call)
        if answered.rejected_count:
            # It was checked before; but the clock of the replica that stores may be behind ours.
            message = f"the usage event was not taken: {answered.results[0].message}"
            raise IngestMoving(message, retry_seconds=RETRY_SECONDS)
        crashpoint(STORED)
        async with self._database.transaction(call.caller) as tx:
            return await usecases.finish_commit(tx, of)

    async def finish_broken_off(self, desk: Desk, row_id: str) -> None:
        """Nobody has come back to it. Where usage events are not stored, it is left to the replica that stores them."""
        await self.finish(ReservationId(row_id), Call(caller=desk.caller, authorization="", is_forwarded=True))
