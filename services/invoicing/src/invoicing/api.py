"""Answers `saldo.invoicing.v1.InvoicingService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import store
from invoicing.convert.credit_note import parse_credit_reason, parse_memo
from invoicing.convert.invoice import invoice_to_proto, parse_invoice_id, parse_layout, parse_numbering
from invoicing.convert.issuing_policy import parse_reason, policy_from_proto, policy_to_proto
from invoicing.convert.series import ordinal_after, parse_series, series_to_proto, verification_to_proto
from invoicing.documents.document import Printer
from invoicing.domain.credit_note import Reason
from invoicing.domain.party import Customer
from invoicing.usecases import documents, drafts, holding, issuing, upcoming, voiding
from invoicing.usecases.taxing import TaxProvider
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceServicer


class InvoicingApi(InvoicingServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], printer: Printer, *, taxes: TaxProvider) -> None:
        self.database = database
        self._desk = desk
        self._printer = printer
        self._taxes = taxes

    @transactional
    async def GetInvoice(self, request: pb.GetInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await store.invoice(tx, parse_invoice_id(request.id)))

    @transactional
    async def ListInvoices(self, request: pb.ListInvoicesRequest, tx: Tx) -> pb.ListInvoicesResponse:
        page = wire.page(request)
        customer_id = ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else ""
        found, after = await store.list_invoices(
            tx,
            customer_id=customer_id,
            is_numbered=parse_numbering(request.numbering),
            after=page.after[0] if page.after else "",
            limit=page.size,
        )
        return pb.ListInvoicesResponse(
            invoices=[invoice_to_proto(invoice) for invoice in found],
            next_page_token=wire.encode_page_token(after) if after else "",
        )

    async def GetUpcomingInvoice(self, request: pb.GetUpcomingInvoiceRequest, context: object) -> invoice_pb2.Invoice:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        return invoice_to_proto(await upcoming.upcoming_invoice(self._desk(), customer_id, taxes=self._taxes))

    async def FinalizeInvoice(self, request: pb.FinalizeInvoiceRequest, context: object) -> invoice_pb2.Invoice:
        facts = await drafts.pull(self._desk(), [parse_invoice_id(request.id)], taxes=self._taxes)
        return await _Finalizing(self.database, facts).FinalizeInvoice(request, context)

    @transactional
    async def HoldInvoice(self, request: pb.HoldInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        held = await holding.hold_invoice(tx, parse_invoice_id(request.id), parse_reason(request.reason))
        return invoice_to_proto(held)

    @transactional
    async def ReleaseInvoice(self, request: pb.ReleaseInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await holding.release_invoice(tx, parse_invoice_id(request.id)))

    @transactional
    async def GetIssuingPolicy(self, request: pb.GetIssuingPolicyRequest, tx: Tx) -> pb.IssuingPolicy:
        return policy_to_proto(await store.issuing_policy(tx))

    @transactional
    async def SetIssuingPolicy(self, request: pb.SetIssuingPolicyRequest, tx: Tx) -> pb.IssuingPolicy:
        return policy_to_proto(await holding.declare_policy(tx, policy_from_proto(request.policy)))

    @transactional
    async def VoidInvoice(self, request: pb.VoidInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await voiding.void_invoice(tx, parse_invoice_id(request.id), _why(request)))

    async def ReissueInvoice(self, request: pb.ReissueInvoiceRequest, context: object) -> invoice_pb2.Invoice:
        customer = await voiding.pull(self._desk(), parse_invoice_id(request.id))
        return await _Reissuing(self.database, customer).ReissueInvoice(request, context)

    @transactional
    async def MarkInvoiceUncollectible(
        self, request: pb.MarkInvoiceUncollectibleRequest, tx: Tx
    ) -> invoice_pb2.Invoice:
        return invoice_to_proto(await voiding.mark_uncollectible(tx, parse_invoice_id(request.id)))

    async def GetInvoiceDocument(self, request: pb.GetInvoiceDocumentRequest, context: object) -> pb.InvoiceDocument:
        async with self._desk().transaction() as tx:
            invoice = await store.invoice(tx, parse_invoice_id(request.id))
            since = await documents.since_issued(tx, invoice) if request.as_it_stands else None
        # Outside the transaction: typesetting needs no connection.
        document = await self._printer.print(invoice, layout=parse_layout(request.layout), since=since)
        return pb.InvoiceDocument(
            file_name=document.file_name, content_type=document.content_type, content=document.content
        )

    @transactional
    async def ListNumberSeries(self, request: pb.ListNumberSeriesRequest, tx: Tx) -> pb.ListNumberSeriesResponse:
        page = wire.page(request)
        found = await issuing.list_series(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListNumberSeriesResponse(
            series=[series_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].last.series) if len(found) > page.size else "",
        )

    @transactional
    async def VerifySeries(self, request: pb.VerifySeriesRequest, tx: Tx) -> pb.VerifySeriesResponse:
        page = wire.page(request)
        found = await issuing.verify_series(
            tx, parse_series(request.series), after=ordinal_after(page), limit=page.size
        )
        return verification_to_proto(found)


class _Finalizing:
    """The half of FinalizeInvoice that is a transaction, once the neighbours have been asked."""

    def __init__(self, database: Database, facts: drafts.Facts | None) -> None:
        self.database = database
        self._facts = facts

    @transactional
    async def FinalizeInvoice(self, request: pb.FinalizeInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        return invoice_to_proto(await drafts.finalize_draft(tx, parse_invoice_id(request.id), self._facts))


class _Reissuing:
    """The half of ReissueInvoice that is a transaction, once the neighbours have been asked."""

    def __init__(self, database: Database, customer: Customer | None) -> None:
        self.database = database
        self._customer = customer

    @transactional
    async def ReissueInvoice(self, request: pb.ReissueInvoiceRequest, tx: Tx) -> invoice_pb2.Invoice:
        invoice_id = parse_invoice_id(request.id)
        invoice = await voiding.reissue_invoice(tx, invoice_id, _why(request), customer=self._customer)
        return invoice_to_proto(invoice)


def _why(request: pb.VoidInvoiceRequest | pb.ReissueInvoiceRequest) -> voiding.Why:
    reason = parse_credit_reason(request.reason)
    return voiding.Why(reason=reason, memo=parse_memo(request.memo, required=reason is Reason.OTHER))
