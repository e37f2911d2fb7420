"""Metering's door for backfills: hand on, or parse, call, answer."""

from __future__ import annotations

from typing import Any

from common import wire
from common.db import Database, Tx
from common.rpc import transactional
from metering import store
from metering.backfills import Backfills
from metering.convert.backfills import (
    backfill_id,
    backfill_to_proto,
    expected_count,
    reason_from_proto,
    state_from_proto,
)
from metering.forwarding import CLOSE_BACKFILL, REVERT_BACKFILL, Call, Forwarding
from metering.turns import Turns
from saldo.metering.v1 import backfill_service_pb2 as pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceServicer


class BackfillsApi(BackfillServiceServicer):
    def __init__(self, database: Database, *, backfills: Backfills, forwarding: Forwarding) -> None:
        self.database = database
        self._backfills = backfills
        self._forwarding = forwarding
        self._turns = Turns("backfills")

    @transactional
    async def OpenBackfill(self, request: pb.OpenBackfillRequest, tx: Tx) -> pb.Backfill:
        return backfill_to_proto(await self._backfills.open(tx, reason=reason_from_proto(request)))

    async def CloseBackfill(self, request: pb.CloseBackfillRequest, context: Any) -> pb.Backfill:  # Any: grpc's context
        if (answered := await self._forwarding.answer(request, Call.of(context), CLOSE_BACKFILL)) is not None:
            return answered
        async with self._turns.one():
            return await self._CloseBackfill(request, context)

    @transactional
    async def _CloseBackfill(self, request: pb.CloseBackfillRequest, tx: Tx) -> pb.Backfill:
        closed = await self._backfills.close(tx, backfill_id(request.id), event_count=expected_count(request))
        return backfill_to_proto(closed)

    async def RevertBackfill(self, request: pb.RevertBackfillRequest, context: Any) -> pb.Backfill:  # Any: as above
        if (answered := await self._forwarding.answer(request, Call.of(context), REVERT_BACKFILL)) is not None:
            return answered
        async with self._turns.one():
            return await self._RevertBackfill(request, context)

    @transactional
    async def _RevertBackfill(self, request: pb.RevertBackfillRequest, tx: Tx) -> pb.Backfill:
        reverted = await self._backfills.revert(tx, backfill_id(request.id), reason=reason_from_proto(request))
        return backfill_to_proto(reverted)

    @transactional
    async def GetBackfill(self, request: pb.GetBackfillRequest, tx: Tx) -> pb.Backfill:
        return backfill_to_proto(await store.backfill(tx, backfill_id(request.id)))

    @transactional
    async def ListBackfills(self, request: pb.ListBackfillsRequest, tx: Tx) -> pb.ListBackfillsResponse:
        page = wire.page(request)
        found = await store.list_backfills(
            tx, state=state_from_proto(request), after=page.after[0] if page.after else "", limit=page.size + 1
        )
        return pb.ListBackfillsResponse(
            backfills=[backfill_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )
