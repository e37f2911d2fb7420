"""Answers `saldo.invoicing.v1.BillRunsService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import store
from invoicing.convert.bill_run import (
    bill_run_to_proto,
    parked_to_proto,
    parse_bill_run_id,
    parse_order,
    parse_outcome,
    result_to_proto,
    state_to_proto,
)
from invoicing.usecases import bill_runs
from saldo.invoicing.v1 import bill_run_pb2
from saldo.invoicing.v1 import bill_runs_service_pb2 as pb
from saldo.invoicing.v1.bill_runs_service_pb2_grpc import BillRunsServiceServicer


class BillRunsApi(BillRunsServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self._desk = desk

    async def CreateBillRun(self, request: pb.CreateBillRunRequest, context: object) -> bill_run_pb2.BillRun:
        _, customer_ids = parse_order(request)
        await bill_runs.check_customers(self._desk(), customer_ids)
        return await _Creating(self.database).CreateBillRun(request, context)

    @transactional
    async def GetBillRun(self, request: pb.GetBillRunRequest, tx: Tx) -> bill_run_pb2.BillRun:
        return bill_run_to_proto(await store.bill_run(tx, parse_bill_run_id(request.id)))

    @transactional
    async def ListBillRuns(self, request: pb.ListBillRunsRequest, tx: Tx) -> pb.ListBillRunsResponse:
        page = wire.page(request)
        found = await store.list_bill_runs(tx, before=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListBillRunsResponse(
            bill_runs=[bill_run_to_proto(each, is_told_whole=False) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def ListBillRunResults(self, request: pb.ListBillRunResultsRequest, tx: Tx) -> pb.ListBillRunResultsResponse:
        run_id, outcome, page = parse_bill_run_id(request.id), parse_outcome(request.outcome), wire.page(request)
        await store.check_bill_run(tx, run_id)
        after = page.after[0] if page.after else ""
        found = await store.list_results(tx, run_id, outcome=outcome, after=after, limit=page.size + 1)
        return pb.ListBillRunResultsResponse(
            results=[result_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].customer_id) if len(found) > page.size else "",
        )

    @transactional
    async def RetryBillRun(self, request: pb.RetryBillRunRequest, tx: Tx) -> bill_run_pb2.BillRun:
        return bill_run_to_proto(await bill_runs.retry_bill_run(tx, parse_bill_run_id(request.id)))

    @transactional
    async def CancelBillRun(self, request: pb.CancelBillRunRequest, tx: Tx) -> bill_run_pb2.BillRun:
        return bill_run_to_proto(await bill_runs.cancel_bill_run(tx, parse_bill_run_id(request.id)))

    @transactional
    async def ListParkedCustomers(
        self, request: pb.ListParkedCustomersRequest, tx: Tx
    ) -> pb.ListParkedCustomersResponse:
        page = wire.page(request)
        found = await store.list_parked(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListParkedCustomersResponse(
            parked_customers=[parked_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].customer_id) if len(found) > page.size else "",
        )

    @transactional
    async def GetBillingState(self, request: pb.GetBillingStateRequest, tx: Tx) -> pb.BillingState:
        return state_to_proto(await store.billing_state(tx))


class _Creating:
    """The half of CreateBillRun that is a transaction, once its customers are known to exist."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def CreateBillRun(self, request: pb.CreateBillRunRequest, tx: Tx) -> bill_run_pb2.BillRun:
        return bill_run_to_proto(await bill_runs.create_bill_run(tx, *parse_order(request)))
