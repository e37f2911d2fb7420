"""Answers `saldo.invoicing.v1.CreditNotesService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import store
from invoicing.convert.credit_note import (
    credit_note_to_preview,
    credit_note_to_proto,
    parse_credit_note_id,
    parse_credit_reason,
    parse_memo,
    parse_parts,
    parse_positive,
    parse_preference,
    parse_reference,
    parse_settlement,
)
from invoicing.convert.invoice import parse_invoice_id
from invoicing.documents.document import Printer
from invoicing.domain.credit_note import Reason
from invoicing.usecases import credit_notes
from saldo.invoicing.v1 import credit_note_pb2
from saldo.invoicing.v1 import credit_notes_service_pb2 as pb
from saldo.invoicing.v1.credit_notes_service_pb2_grpc import CreditNotesServiceServicer


class CreditNotesApi(CreditNotesServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], printer: Printer) -> None:
        self.database = database
        self._desk = desk
        self._printer = printer

    @transactional
    async def CreateCreditNote(self, request: pb.CreateCreditNoteRequest, tx: Tx) -> credit_note_pb2.CreditNote:
        order = _order(request, reason=parse_credit_reason(request.reason))
        return credit_note_to_proto(await credit_notes.create_credit_note(tx, order))

    @transactional
    async def PreviewCreditNote(self, request: pb.PreviewCreditNoteRequest, tx: Tx) -> credit_note_pb2.CreditNote:
        # Whoever only looks need not say why.
        reason = parse_credit_reason(request.reason) if request.reason else None
        return credit_note_to_preview(await credit_notes.preview_credit_note(tx, _order(request, reason=reason)))

    @transactional
    async def GetCreditNote(self, request: pb.GetCreditNoteRequest, tx: Tx) -> credit_note_pb2.CreditNote:
        return credit_note_to_proto(await store.credit_note(tx, parse_credit_note_id(request.id)))

    @transactional
    async def ListCreditNotes(self, request: pb.ListCreditNotesRequest, tx: Tx) -> pb.ListCreditNotesResponse:
        page = wire.page(request)
        found, after = await store.list_credit_notes(
            tx,
            customer_id=ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else "",
            invoice_id=ids.check(request.invoice_id, "inv", field="invoice_id") if request.invoice_id else "",
            after=page.after[0] if page.after else "",
            limit=page.size,
        )
        return pb.ListCreditNotesResponse(
            credit_notes=[credit_note_to_proto(note) for note in found],
            next_page_token=wire.encode_page_token(after) if after else "",
        )

    async def GetCreditNoteDocument(
        self, request: pb.GetCreditNoteDocumentRequest, context: object
    ) -> pb.CreditNoteDocument:
        async with self._desk().transaction() as tx:
            note = await store.credit_note(tx, parse_credit_note_id(request.id))
            of = await store.invoice(tx, note.invoice_id)
        # Outside the transaction: typesetting needs no connection.
        document = await self._printer.print_credit_note(note, of)
        return pb.CreditNoteDocument(
            file_name=document.file_name, content_type=document.content_type, content=document.content
        )

    @transactional
    async def RecordRefund(self, request: pb.RecordRefundRequest, tx: Tx) -> credit_note_pb2.CreditNote:
        note = await credit_notes.record_refund(
            tx,
            parse_credit_note_id(request.id),
            amount=parse_positive(request.amount, field="amount") if request.HasField("amount") else None,
            reference=parse_reference(request.reference),
        )
        return credit_note_to_proto(note)


def _order(
    request: pb.CreateCreditNoteRequest | pb.PreviewCreditNoteRequest, *, reason: Reason | None
) -> credit_notes.Order:
    return credit_notes.Order(
        invoice_id=parse_invoice_id(request.invoice_id, field="invoice_id"),
        parts=parse_parts(request.line_items),
        reason=reason or Reason.OTHER,
        memo=parse_memo(request.memo, required=reason is Reason.OTHER),
        settlement=parse_settlement(request.settlement) if request.HasField("settlement") else None,
        preference=parse_preference(request.preference),
    )
