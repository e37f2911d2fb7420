"""Answers `saldo.invoicing.v1.TaxService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import Desk, transactional
from invoicing.convert.tax import (
    parse_document,
    parse_rate,
    parse_rate_id,
    parse_rate_ids,
    parse_rule_id,
    parse_scope,
    rate_to_proto,
    rule_to_proto,
    totals_to_proto,
)
from invoicing.store import tax as store
from invoicing.usecases import taxing
from invoicing.usecases.taxing import TaxProvider
from saldo.invoicing.v1 import tax_pb2
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.invoicing.v1.tax_service_pb2_grpc import TaxServiceServicer


class TaxApi(TaxServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], taxes: TaxProvider) -> None:
        self.database = database
        self._desk = desk
        self._taxes = taxes

    @transactional
    async def CreateTaxRate(self, request: pb.CreateTaxRateRequest, tx: Tx) -> tax_pb2.TaxRate:
        rate = parse_rate(request.tax_rate, rate_id=tx.new_id("taxrate"), at=tx.now, field="tax_rate.")
        return rate_to_proto(await taxing.create_tax_rate(tx, rate))

    @transactional
    async def GetTaxRate(self, request: pb.GetTaxRateRequest, tx: Tx) -> tax_pb2.TaxRate:
        return rate_to_proto(await store.tax_rate(tx, parse_rate_id(request.id)))

    @transactional
    async def ListTaxRates(self, request: pb.ListTaxRatesRequest, tx: Tx) -> pb.ListTaxRatesResponse:
        page = wire.page(request)
        found = await store.list_tax_rates(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListTaxRatesResponse(
            tax_rates=[rate_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def ArchiveTaxRate(self, request: pb.ArchiveTaxRateRequest, tx: Tx) -> tax_pb2.TaxRate:
        return rate_to_proto(await taxing.archive_tax_rate(tx, parse_rate_id(request.id)))

    async def SetTaxRule(self, request: pb.SetTaxRuleRequest, context: object) -> tax_pb2.TaxRule:
        await taxing.check_scope(self._desk(), parse_scope(request.scope))
        return await _Setting(self.database).SetTaxRule(request, context)

    @transactional
    async def ListTaxRules(self, request: pb.ListTaxRulesRequest, tx: Tx) -> pb.ListTaxRulesResponse:
        page = wire.page(request)
        scope = parse_scope(request.scope) if request.HasField("scope") else None
        after = page.after[0] if page.after else ""
        found = await store.list_tax_rules(tx, scope=scope, after=after, limit=page.size + 1)
        return pb.ListTaxRulesResponse(
            tax_rules=[rule_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def DeleteTaxRule(self, request: pb.DeleteTaxRuleRequest, tx: Tx) -> tax_pb2.TaxRule:
        return rule_to_proto(await taxing.delete_tax_rule(tx, parse_rule_id(request.id)))

    async def CalculateTax(self, request: pb.CalculateTaxRequest, context: object) -> pb.CalculateTaxResponse:
        document = parse_document(request)
        customer_id = ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else ""
        at = wire.parse_timestamp(request.bill_time, field="bill_time") if request.HasField("bill_time") else None
        totals = await taxing.calculate(self._desk(), self._taxes, document, customer_id=customer_id, at=at)
        return totals_to_proto(totals)


class _Setting:
    """The half of SetTaxRule that is a transaction, once the neighbours have been asked."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def SetTaxRule(self, request: pb.SetTaxRuleRequest, tx: Tx) -> tax_pb2.TaxRule:
        rate_ids = parse_rate_ids(request.tax_rate_ids, field="tax_rate_ids")
        if not rate_ids:
            raise InvalidArgument("must be at least one", field="tax_rate_ids")
        start = wire.parse_timestamp(request.start_time, field="start_time") if request.HasField("start_time") else None
        return rule_to_proto(await taxing.set_tax_rule(tx, parse_scope(request.scope), rate_ids, start_time=start))
