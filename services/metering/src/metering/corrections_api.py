"""Metering's door for corrections: hand on, or parse, call, answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from common import wire
from common.db import Database, Tx
from common.rpc import transactional
from metering import store
from metering.convert.corrections import (
    correction_to_proto,
    event_from_proto,
    history_to_proto,
    identity_from_proto,
    place_token,
    position_after,
    reason_from_proto,
)
from metering.convert.sent import Clock
from metering.corrections import Corrections
from metering.forwarding import AMEND, VOID, Call, Forwarding
from metering.log import Log
from metering.turns import Turns
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceServicer


class CorrectionsApi(CorrectionServiceServicer):
    def __init__(self, database: Database, *, log: Log, forwarding: Forwarding, ahead_max: timedelta) -> None:
        self.database = database
        self._log = log
        self._corrections = Corrections(log)
        self._forwarding = forwarding
        self._ahead_max = ahead_max
        self._turns = Turns("corrections")

    async def VoidEvent(self, request: pb.VoidEventRequest, context: Any) -> pb.EventHistory:  # Any: grpc's context
        if (answered := await self._forwarding.answer(request, Call.of(context), VOID)) is not None:
            return answered
        async with self._turn():
            return await self._VoidEvent(request, context)

    @transactional
    async def _VoidEvent(self, request: pb.VoidEventRequest, tx: Tx) -> pb.EventHistory:
        history = await self._corrections.void(
            tx, identity_from_proto(request), reason=reason_from_proto(request), request_id=request.request_id
        )
        return history_to_proto(history)

    async def AmendEvent(self, request: pb.AmendEventRequest, context: Any) -> pb.EventHistory:  # Any: as above
        if (answered := await self._forwarding.answer(request, Call.of(context), AMEND)) is not None:
            return answered
        async with self._turn():
            return await self._AmendEvent(request, context)

    @transactional
    async def _AmendEvent(self, request: pb.AmendEventRequest, tx: Tx) -> pb.EventHistory:
        clock = Clock(now=tx.now, ahead_max=self._ahead_max)
        history = await self._corrections.amend(
            tx,
            event_from_proto(request.event, seller_id=tx.seller_id, clock=clock),
            reason=reason_from_proto(request),
            request_id=request.request_id,
        )
        return history_to_proto(history)

    async def GetEvent(self, request: pb.GetEventRequest, context: Any) -> pb.EventHistory:  # Any: as above
        await self._log.keys()  # now, and not while a connection is held
        return await self._GetEvent(request, context)

    @transactional
    async def _GetEvent(self, request: pb.GetEventRequest, tx: Tx) -> pb.EventHistory:
        return history_to_proto(await self._corrections.history(tx, identity_from_proto(request)))

    @transactional
    async def ListCorrections(self, request: pb.ListCorrectionsRequest, tx: Tx) -> pb.ListCorrectionsResponse:
        page = wire.page(request)
        found = await store.list_corrections(tx, after=position_after(page), limit=page.size + 1)
        return pb.ListCorrectionsResponse(
            corrections=[correction_to_proto(correction) for correction in found[: page.size]],
            next_page_token=place_token(found[page.size - 1]) if len(found) > page.size else "",
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        await self._log.keys()  # now, and not while a connection is held
        async with self._turns.one():
            yield
