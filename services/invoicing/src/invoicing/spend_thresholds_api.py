"""Answers `saldo.invoicing.v1.SpendThresholdsService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import store
from invoicing.convert.spend_threshold import (
    early_line_to_proto,
    parse_declaration,
    parse_scope,
    parse_threshold_id,
    spend_to_proto,
    threshold_to_proto,
)
from invoicing.usecases import early, spend_thresholds
from saldo.invoicing.v1 import spend_threshold_pb2
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as pb
from saldo.invoicing.v1.spend_thresholds_service_pb2_grpc import SpendThresholdsServiceServicer


class SpendThresholdsApi(SpendThresholdsServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self._desk = desk

    async def SetSpendThreshold(
        self, request: pb.SetSpendThresholdRequest, context: object
    ) -> spend_threshold_pb2.SpendThreshold:
        scope, scope_id, _ = parse_declaration(request)
        customer_id = await spend_thresholds.customer_concerned(self._desk(), scope, scope_id)
        return await _Declaring(self.database, customer_id).SetSpendThreshold(request, context)

    @transactional
    async def GetSpendThreshold(
        self, request: pb.GetSpendThresholdRequest, tx: Tx
    ) -> spend_threshold_pb2.SpendThreshold:
        return threshold_to_proto(await store.threshold(tx, parse_threshold_id(request.id)))

    @transactional
    async def ListSpendThresholds(
        self, request: pb.ListSpendThresholdsRequest, tx: Tx
    ) -> pb.ListSpendThresholdsResponse:
        page = wire.page(request)
        scope = parse_scope(request.scope) if request.scope else None
        after = page.after[0] if page.after else ""
        found = await store.list_thresholds(tx, scope=scope, after=after, limit=page.size + 1)
        return pb.ListSpendThresholdsResponse(
            thresholds=[threshold_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def RemoveSpendThreshold(
        self, request: pb.RemoveSpendThresholdRequest, tx: Tx
    ) -> spend_threshold_pb2.SpendThreshold:
        return threshold_to_proto(await store.end_threshold(tx, parse_threshold_id(request.id)))

    async def GetUnbilledSpend(self, request: pb.GetUnbilledSpendRequest, context: object) -> pb.UnbilledSpends:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        found = await early.unbilled_spend(self._desk(), customer_id)
        return pb.UnbilledSpends(spends=[spend_to_proto(each) for each in found])

    @transactional
    async def ListEarlyLines(self, request: pb.ListEarlyLinesRequest, tx: Tx) -> pb.ListEarlyLinesResponse:
        page = wire.page(request)
        if request.customer_id:
            ids.check(request.customer_id, "cus", field="customer_id")
        after = page.after[0] if page.after else ""
        found = await store.list_early_lines(tx, customer_id=request.customer_id, after=after, limit=page.size + 1)
        return pb.ListEarlyLinesResponse(
            lines=[early_line_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].line_id) if len(found) > page.size else "",
        )


class _Declaring:
    """The half of SetSpendThreshold that is a transaction, once it is known whom it is about."""

    def __init__(self, database: Database, customer_id: str) -> None:
        self.database = database
        self._customer_id = customer_id

    @transactional
    async def SetSpendThreshold(
        self, request: pb.SetSpendThresholdRequest, tx: Tx
    ) -> spend_threshold_pb2.SpendThreshold:
        declared = await spend_thresholds.declare(tx, *parse_declaration(request), customer_id=self._customer_id)
        return threshold_to_proto(declared)
