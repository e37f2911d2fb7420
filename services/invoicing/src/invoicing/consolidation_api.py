"""Answers `saldo.invoicing.v1.ConsolidationService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import MESSAGE_BYTES_MAX, Desk, transactional
from invoicing import store
from invoicing.convert.consolidation import (
    explanation_to_proto,
    parse_declaration,
    parse_policy_id,
    parse_scope,
    policy_to_proto,
)
from invoicing.convert.invoice import invoice_to_proto, parse_invoice_id
from invoicing.domain.errors import PreviewTooLong
from invoicing.usecases import consolidation, upcoming
from invoicing.usecases.taxing import TaxProvider
from saldo.invoicing.v1 import consolidation_policy_pb2
from saldo.invoicing.v1 import consolidation_service_pb2 as pb
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceServicer

AHEAD_MAX: Final = timedelta(days=3 * 366)


class ConsolidationApi(ConsolidationServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], *, taxes: TaxProvider) -> None:
        self.database = database
        self._desk = desk
        self._taxes = taxes

    async def SetConsolidationPolicy(
        self, request: pb.SetConsolidationPolicyRequest, context: object
    ) -> consolidation_policy_pb2.ConsolidationPolicy:
        scope, scope_id, _ = parse_declaration(request)
        await consolidation.check_scope(self._desk(), scope, scope_id)
        return await _Declaring(self.database).SetConsolidationPolicy(request, context)

    @transactional
    async def GetConsolidationPolicy(
        self, request: pb.GetConsolidationPolicyRequest, tx: Tx
    ) -> consolidation_policy_pb2.ConsolidationPolicy:
        return policy_to_proto(await store.policy(tx, parse_policy_id(request.id)))

    @transactional
    async def ListConsolidationPolicies(
        self, request: pb.ListConsolidationPoliciesRequest, tx: Tx
    ) -> pb.ListConsolidationPoliciesResponse:
        page = wire.page(request)
        scope = parse_scope(request.scope) if request.scope else None
        after = page.after[0] if page.after else ""
        found = await store.list_policies(tx, scope=scope, after=after, limit=page.size + 1)
        return pb.ListConsolidationPoliciesResponse(
            policies=[policy_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def RemoveConsolidationPolicy(
        self, request: pb.RemoveConsolidationPolicyRequest, tx: Tx
    ) -> consolidation_policy_pb2.ConsolidationPolicy:
        return policy_to_proto(await store.remove_policy(tx, parse_policy_id(request.id)))

    async def ExplainConsolidation(
        self, request: pb.ExplainConsolidationRequest, context: object
    ) -> pb.ConsolidationExplanation:
        match request.WhichOneof("subject"):
            case "invoice_id":
                async with self._desk().transaction() as tx:
                    found = await consolidation.explain_invoice(
                        tx, parse_invoice_id(request.invoice_id, field="invoice_id")
                    )
            case "customer_id":
                customer_id = ids.check(request.customer_id, "cus", field="customer_id")
                found = await consolidation.explain_upcoming(self._desk(), customer_id)
            case _:
                raise InvalidArgument("must be an invoice_id or a customer_id", field="subject")
        return explanation_to_proto(found.invoice, found.others)

    async def PreviewInvoices(self, request: pb.PreviewInvoicesRequest, context: object) -> pb.PreviewInvoicesResponse:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        through = wire.parse_timestamp(request.until_time, field="until_time")
        async with self._desk().transaction() as tx:
            if not tx.now < through <= tx.now + AHEAD_MAX:
                raise InvalidArgument(f"must be later than now, by at most {AHEAD_MAX.days} days", field="until_time")
        invoices, next_bill_time = await upcoming.invoices_until(
            self._desk(), customer_id, through=through, taxes=self._taxes
        )
        answer = pb.PreviewInvoicesResponse(
            invoices=[invoice_to_proto(each) for each in invoices],
            next_bill_time=None if next_bill_time is None else wire.timestamp(next_bill_time),
        )
        if answer.ByteSize() > MESSAGE_BYTES_MAX:
            raise PreviewTooLong(f"{len(invoices)} invoices are too much for one answer", limit=MESSAGE_BYTES_MAX)
        return answer


class _Declaring:
    """The half of SetConsolidationPolicy that is a transaction, once what it is declared for is known to exist."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def SetConsolidationPolicy(
        self, request: pb.SetConsolidationPolicyRequest, tx: Tx
    ) -> consolidation_policy_pb2.ConsolidationPolicy:
        return policy_to_proto(await consolidation.declare(tx, *parse_declaration(request)))
