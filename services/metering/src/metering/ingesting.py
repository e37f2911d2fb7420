"""Knows the one way of usage events into the log: here, or at the replica that stores, each answered for itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from common import clock, ids, telemetry
from common.caller import Caller
from common.db import Database
from common.ids import SellerId
from metering import store
from metering.convert.age import recent_enough
from metering.convert.answers import answer
from metering.convert.backfills import backfill_id
from metering.convert.ingest import sent_from_proto
from metering.convert.sent import Clock
from metering.customers import Customers
from metering.domain.backfill import Backfill
from metering.forwarding import INGEST, Call, Forwarding
from metering.log import Log
from metering.meters import Meters
from saldo.metering.v1 import metering_service_pb2 as pb


class Ingesting:
    def __init__(self, database: Database, *, log: Log, forwarding: Forwarding, ahead_max: timedelta) -> None:
        self._database = database
        self._log = log
        self._forwarding = forwarding
        self._ahead_max = ahead_max
        self._meters = Meters(database)
        self._customers = Customers(database)

    async def ingest(self, request: pb.IngestEventsRequest, call: Call) -> pb.IngestEventsResponse:
        """Store a batch; answered means durable."""
        if (answered := await self._forwarding.answer(request, call, INGEST)) is not None:
            return answered
        return await self.store(request, call.caller)

    async def store(
        self, request: pb.IngestEventsRequest, caller: Caller, *, of_commits: bool = False
    ) -> pb.IngestEventsResponse:
        """The same here and nowhere else; `of_commits` if they are those of commits of quota."""
        seller_id = SellerId(caller.seller_id)
        backfill = await self._open_backfill(caller, request.backfill_id) if request.backfill_id else None
        now = await self._now(caller)
        sent = sent_from_proto(
            request,
            seller_id=seller_id,
            clock=Clock(now=now, ahead_max=self._ahead_max),
            traceparent=telemetry.traceparent(),
            of_commits=of_commits,
        )
        named = sent.meters
        meters = await self._meters.of(caller, named)
        if backfill is not None:
            sent.batch.backfill = backfill.number
        elif limits := meters.limits(named, now):
            sent = recent_enough(sent, limits, now=now)
        stored = await self._log.append(sent.batch, sent.asked)
        return answer(
            sent,
            stored,
            meters=meters.codes,
            strangers=await self._customers.unknown(caller, sent.customers),
            exceptions_only=request.exceptions_only,
        )

    async def _open_backfill(self, caller: Caller, told: str) -> Backfill:
        """As far as it can be seen: whoever stores what is sent looks again."""
        async with self._database.transaction(caller) as tx:
            backfill = await store.backfill(tx, backfill_id(told, field="backfill_id"))
        backfill.check_open()
        return backfill

    async def _now(self, caller: Caller) -> datetime:
        """The time of a live seller is everybody's, and needs no question."""
        if not ids.is_sandbox(caller.seller_id):
            return clock.wall()
        async with self._database.transaction(caller) as tx:
            return tx.now
