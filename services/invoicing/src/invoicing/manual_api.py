"""Answers `saldo.invoicing.v1.ManualInvoicesService`: parse, ask the neighbours, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import store
from invoicing.convert.invoice import invoice_to_proto
from invoicing.convert.manual import (
    currency_from_proto,
    pending_line_to_proto,
    written_invoice_from_proto,
    written_line_from_proto,
)
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.manual import WrittenInvoice, WrittenLine
from invoicing.usecases import manual
from invoicing.usecases.taxing import TaxProvider
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import manual_invoice_pb2 as written_pb
from saldo.invoicing.v1 import manual_invoices_service_pb2 as pb
from saldo.invoicing.v1.manual_invoices_service_pb2_grpc import ManualInvoicesServiceServicer


class ManualInvoicesApi(ManualInvoicesServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], *, taxes: TaxProvider) -> None:
        self.database = database
        self._desk = desk
        self._taxes = taxes

    async def CreateInvoice(self, request: pb.CreateInvoiceRequest, context: object) -> invoice_pb2.Invoice:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        told = written_invoice_from_proto(request)
        facts = await manual.pull(self._desk(), customer_id, told.lines, taxes=self._taxes)
        return await _Creating(self.database, told, facts).CreateInvoice(request, context)

    async def AddInvoiceLine(self, request: pb.AddInvoiceLineRequest, context: object) -> invoice_pb2.Invoice:
        invoice_id = _invoice_id(request.invoice_id, field="invoice_id")
        told = written_line_from_proto(request.line, field="line")
        facts = await manual.pull_for(self._desk(), invoice_id, [told], taxes=self._taxes)
        return await _Writing(self.database, told, facts).AddInvoiceLine(request, context)

    async def UpdateInvoiceLine(self, request: pb.UpdateInvoiceLineRequest, context: object) -> invoice_pb2.Invoice:
        invoice_id = _invoice_id(request.invoice_id, field="invoice_id")
        ids.check(request.line_id, "line", field="line_id")
        told = written_line_from_proto(request.line, field="line")
        facts = await manual.pull_for(self._desk(), invoice_id, [told], taxes=self._taxes)
        return await _Writing(self.database, told, facts).UpdateInvoiceLine(request, context)

    async def RemoveInvoiceLine(self, request: pb.RemoveInvoiceLineRequest, context: object) -> invoice_pb2.Invoice:
        invoice_id = _invoice_id(request.invoice_id, field="invoice_id")
        ids.check(request.line_id, "line", field="line_id")
        facts = await manual.pull_for(self._desk(), invoice_id, [], taxes=self._taxes)
        return await _Removing(self.database, facts).RemoveInvoiceLine(request, context)

    @transactional
    async def DeleteInvoice(self, request: pb.DeleteInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await manual.delete_invoice(tx, _invoice_id(request.id, field="id")))

    async def CreatePendingLine(self, request: pb.CreatePendingLineRequest, context: object) -> written_pb.PendingLine:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        told = written_line_from_proto(request.line, field="line")
        facts = await manual.pull(self._desk(), customer_id, [told], taxes=self._taxes)
        return await _Writing(self.database, told, facts).CreatePendingLine(request, context)

    @transactional
    async def ListPendingLines(self, request: pb.ListPendingLinesRequest, tx: Tx) -> pb.ListPendingLinesResponse:
        page = wire.page(request)
        found = await store.list_pending_lines(
            tx,
            customer_id=ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else "",
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        more = len(found) > page.size
        return pb.ListPendingLinesResponse(
            pending_lines=[pending_line_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].line.id) if more else "",
        )

    @transactional
    async def DeletePendingLine(self, request: pb.DeletePendingLineRequest, tx: Tx) -> written_pb.PendingLine:
        return pending_line_to_proto(await manual.delete_pending_line(tx, ids.check(request.id, "line")))


class _Creating:
    """The half of CreateInvoice that is a transaction, once the neighbours have been asked."""

    def __init__(self, database: Database, told: WrittenInvoice, facts: manual.Facts) -> None:
        self.database = database
        self._told = told
        self._facts = facts

    @transactional
    async def CreateInvoice(self, request: pb.CreateInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await manual.create_invoice(tx, self._told, self._facts))


class _Removing:
    """As _Creating, of RemoveInvoiceLine."""

    def __init__(self, database: Database, facts: manual.Facts) -> None:
        self.database = database
        self._facts = facts

    @transactional
    async def RemoveInvoiceLine(self, request: pb.RemoveInvoiceLineRequest, tx: Tx) -> invoice_pb2.Invoice:
        left = await manual.remove_line(tx, InvoiceId(request.invoice_id), request.line_id, self._facts)
        return invoice_to_proto(left)


class _Writing:
    """The halves that are transactions of those that write one line."""

    def __init__(self, database: Database, told: WrittenLine, facts: manual.Facts) -> None:
        self.database = database
        self._told = told
        self._facts = facts

    @transactional
    async def AddInvoiceLine(self, request: pb.AddInvoiceLineRequest, tx: Tx) -> invoice_pb2.Invoice:
        added = await manual.add_line(tx, InvoiceId(request.invoice_id), self._told, self._facts)
        return invoice_to_proto(added)

    @transactional
    async def UpdateInvoiceLine(self, request: pb.UpdateInvoiceLineRequest, tx: Tx) -> invoice_pb2.Invoice:
        updated = await manual.update_line(tx, InvoiceId(request.invoice_id), request.line_id, self._told, self._facts)
        return invoice_to_proto(updated)

    @transactional
    async def CreatePendingLine(self, request: pb.CreatePendingLineRequest, tx: Tx) -> written_pb.PendingLine:
        alone = request.bill_alone_time if request.HasField("bill_alone_time") else None
        pending = await manual.create_pending_line(
            tx,
            self._told,
            self._facts,
            currency=currency_from_proto(request.currency),
            bill_alone_time=None if alone is None else wire.parse_timestamp(alone, field="bill_alone_time"),
        )
        return pending_line_to_proto(pending)


def _invoice_id(text: str, *, field: str) -> InvoiceId:
    return InvoiceId(ids.check(text, "inv", field=field))
