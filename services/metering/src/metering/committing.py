"""Knows how a commit of quota that was decided comes to its end: its usage event is stored, then it is closed."""

from __future__ import annotations

from typing import Final

from common.caller import Caller
from common.crash import crashpoint, register
from common.db import Database
from common.rpc import Desk
from metering import store, usecases_quotas
from metering.convert.quotas import reservation_to_proto, usage_of
from metering.domain.errors import IngestMoving
from metering.domain.reservation import ReservationId
from metering.forwarding import COMMIT_QUOTA, Call, Forwarding
from metering.ingesting import Ingesting
from saldo.metering.v1 import quota_pb2
from saldo.metering.v1 import quota_service_pb2 as pb

RETRY_SECONDS: Final = 1

BEGUN: Final = register("quota.begun", "a commit of quota is decided and its usage event not stored")
STORED: Final = register("quota.stored", "the usage event of a commit of quota is stored and the commit not finished")


class Committing:
    def __init__(self, database: Database, *, ingesting: Ingesting, forwarding: Forwarding) -> None:
        self._database = database
        self._ingesting = ingesting
        self._forwarding = forwarding

    async def finish(
        self, request: pb.CommitQuotaRequest, begun: quota_pb2.QuotaReservation, call: Call
    ) -> quota_pb2.QuotaReservation:
        """How it stands then. Until the usage event counts by itself, it counts as reserved.

        Handed on is the commit and not its usage event, whose source nobody may send: whoever owns the log finds that
        it is decided, and stores that event itself.
        """
        if begun.state != quota_pb2.QuotaReservation.COMMITTING:
            return begun
        if (answered := await self._forwarding.answer(request, call, COMMIT_QUOTA)) is not None:
            return answered
        return await self._finish(begun, call.caller)

    async def finish_broken_off(self, desk: Desk, row_id: str) -> None:
        """Nobody has come back to it. Where usage events are not stored, it is left to the replica that stores them."""
        async with self._database.transaction(desk.caller) as tx:
            begun = reservation_to_proto(await store.reservation(tx, ReservationId(row_id)))
        call = Call(caller=desk.caller, authorization="", is_forwarded=True)
        await self.finish(pb.CommitQuotaRequest(id=row_id), begun, call)

    async def _finish(self, begun: quota_pb2.QuotaReservation, caller: Caller) -> quota_pb2.QuotaReservation:
        crashpoint(BEGUN)
        answered = await self._ingesting.store(usage_of(begun), caller, of_commits=True)
        if answered.rejected_count:
            # It was checked before; but the clock of the replica that stores may be behind ours.
            message = f"the usage event was not taken: {answered.results[0].message}"
            raise IngestMoving(message, retry_seconds=RETRY_SECONDS)
        crashpoint(STORED)
        async with self._database.transaction(caller) as tx:
            return reservation_to_proto(await usecases_quotas.finish_commit(tx, ReservationId(begun.id)))
