"""Everything that may happen to what one customer owes: its statement, the books and the papers say the same of it."""

from __future__ import annotations

import io
import re
from typing import Final

from pypdf import PdfReader

from common.testing import Suite
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import credit_notes_service_pb2 as credit_notes
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

from .conftest import Business
from .test_credit_notes import credit, found, gbp, minor, part, settled, stub
from .test_invoices import FEBRUARY, billed_for_seats
from .test_ledger import balances, day, statement
from .test_voiding import MARCH, of, reissue, void

OPEN, PAID, VOID = invoice_pb2.Invoice.OPEN, invoice_pb2.Invoice.PAID, invoice_pb2.Invoice.VOID
LEFT: Final = re.compile(r"LEFT TO PAY ON [^\n]+\n([\d,]+\.\d\d) GBP")
CREDITED: Final = re.compile(r"CREDITED\n([\d,]+\.\d\d) GBP")


async def test_statement_books_and_paper_agree(suite: Suite, business: Business) -> None:
    """Two credit notes, a partial refund, an invoice annulled and one issued anew, credit left over and taken up."""
    january = await billed_for_seats(business)
    customer_id = january.customer_id
    await business.pay(january, payment_id="pay_1")
    refunded = await credit(
        business,
        january,
        part(january, 4_00),
        settlement=notes.CreditNoteSettlement(refund_amount=gbp(3_00), customer_credit_amount=gbp(1_00)),
    )
    await stub(business).RecordRefund(credit_notes.RecordRefundRequest(id=refunded.id, reference="re_1"))
    kept = await credit(business, await found(business, january), part(january, 2_00))
    assert (settled(refunded), settled(kept)) == ((0, 1_00, 3_00), (0, 2_00, 0))
    await agreed(business, customer_id, left=0, credit_left=3_00)

    await suite.travel(FEBRUARY)
    *_, february = await of(business, customer_id)
    assert (minor(february.credit_applied), minor(february.amount_remaining)) == (3_00, 7_00)
    await agreed(business, customer_id, left=7_00, credit_left=0)
    await reissue(business, february)
    _, annulled, again = await of(business, customer_id)
    assert (annulled.state, again.state, minor(again.amount_remaining)) == (VOID, OPEN, 7_00)
    await agreed(business, customer_id, left=7_00, credit_left=0)
    await business.pay(again, payment_id="pay_2", pence=5_00)
    await agreed(business, customer_id, left=2_00, credit_left=0)

    await suite.travel(MARCH)
    *_, march = await of(business, customer_id)
    await void(business, march)
    await agreed(business, customer_id, left=2_00, credit_left=0)
    await credit(business, await found(business, again), part(again, 2_00))
    states = [each.state for each in await of(business, customer_id)]
    assert states == [PAID, VOID, PAID, VOID]
    await agreed(business, customer_id, left=0, credit_left=0)


async def agreed(business: Business, customer_id: str, *, left: int, credit_left: int) -> None:
    """What is left to pay, and the credit that is left, by everyone who is asked."""
    invoices = await of(business, customer_id)
    told = await statement(business, customer_id, day(2026, 1, 1), day(2026, 12, 31))
    books = await balances(business)
    assert sum(minor(each.amount_remaining) for each in invoices) == left
    assert [left, credit_left] == [minor(told.closing_balance), minor(told.closing_credit_balance)]
    assert [left, credit_left] == [books.get("RECEIVABLE", 0), -books.get("CUSTOMER_CREDIT", 0)]
    assert minor(told.opening_balance) + sum(minor(each.amount) for each in told.movements) == left
    papers = [await paper(business, each) for each in invoices]
    assert [pence(LEFT, each) for each in papers] == [minor(each.amount_remaining) for each in invoices]
    for each, text in zip(invoices, papers, strict=True):
        assert each.number in text
        for note in await notes_on(business, each):
            assert pence(CREDITED, await note_paper(business, note)) == minor(note.total)
            assert (note.number in text) == bool(minor(note.settlement.debt_amount))


async def notes_on(business: Business, invoice: invoice_pb2.Invoice) -> list[notes.CreditNote]:
    request = credit_notes.ListCreditNotesRequest(invoice_id=invoice.id)
    return list((await stub(business).ListCreditNotes(request)).credit_notes)


async def paper(business: Business, invoice: invoice_pb2.Invoice) -> str:
    request = pb.GetInvoiceDocumentRequest(id=invoice.id, as_it_stands=True)
    return text_of((await business.invoicing.GetInvoiceDocument(request)).content)


async def note_paper(business: Business, note: notes.CreditNote) -> str:
    request = credit_notes.GetCreditNoteDocumentRequest(id=note.id)
    return text_of((await stub(business).GetCreditNoteDocument(request)).content)


def text_of(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def pence(wanted: re.Pattern[str], text: str) -> int:
    match = wanted.search(text)
    assert match is not None, text
    return int(match[1].replace(",", "").replace(".", ""))
