"""Answers `saldo.invoicing.v1.LedgerService`: parse, call, answer."""

from __future__ import annotations

from common import ids, wire
from common.db import Database, Tx
from common.money import minor_units
from common.period import civil_date
from common.rpc import transactional
from invoicing import store
from invoicing.convert.ledger import (
    KEYS,
    balance_to_proto,
    check_days,
    place_after,
    recorded_to_proto,
    statement_to_proto,
    token_of,
    wanted_of,
)
from invoicing.usecases import ledger
from saldo.invoicing.v1 import ledger_service_pb2 as pb
from saldo.invoicing.v1.ledger_service_pb2_grpc import LedgerServiceServicer


class LedgerApi(LedgerServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def ListLedgerEntries(self, request: pb.ListLedgerEntriesRequest, tx: Tx) -> pb.ListLedgerEntriesResponse:
        page = wire.page(request, keys=KEYS)
        found = await store.list_entries(tx, wanted_of(request), after=place_after(page), limit=page.size + 1)
        return pb.ListLedgerEntriesResponse(
            entries=[recorded_to_proto(each) for each in found[: page.size]],
            next_page_token=token_of(found[page.size - 1]) if len(found) > page.size else "",
        )

    @transactional
    async def GetTrialBalance(self, request: pb.GetTrialBalanceRequest, tx: Tx) -> pb.TrialBalance:
        if request.currency:
            minor_units(request.currency, field="currency")
        today = civil_date(tx.now, "UTC")
        as_of = wire.parse_date(request.as_of_date, field="as_of_date") if request.HasField("as_of_date") else today
        found = await store.trial_balance(tx, as_of=as_of, currency=request.currency)
        return pb.TrialBalance(as_of_date=wire.date(as_of), balances=[balance_to_proto(each) for each in found])

    @transactional
    async def GetCustomerStatement(self, request: pb.GetCustomerStatementRequest, tx: Tx) -> pb.CustomerStatement:
        page = wire.page(request, keys=KEYS)
        minor_units(request.currency, field="currency")
        start = wire.parse_date(request.start_date, field="start_date")
        end = wire.parse_date(request.end_date, field="end_date")
        check_days(start, end)
        found = await ledger.customer_statement(
            tx,
            customer_id=ids.check(request.customer_id, "cus", field="customer_id"),
            currency=request.currency,
            start=start,
            end=end,
            after=place_after(page),
            limit=page.size,
        )
        return statement_to_proto(found)
