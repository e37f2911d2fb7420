"""What was billed wrongly: credit notes, a refund, an invoice annulled and issued anew; all accounts of it agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.type.money_pb2 import Money as MoneyPb

from common import wire
from common.money import Money, sum_money
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import credit_notes_service_pb2 as credit_notes
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import ledger_service_pb2 as ledger
from saldo.invoicing.v1.credit_note_pb2 import CreditNote, CreditNoteSettlement
from saldo.invoicing.v1.invoice_pb2 import Fraction, Invoice
from saldo.invoicing.v1.ledger_pb2 import LedgerAccount
from saldo.payments.v1.payment_pb2 import Payment
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tests.support.sandbox import Sandbox, flat, text

JANUARY: Final = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY: Final = datetime(2026, 2, 1, tzinfo=UTC)
MARCH: Final = datetime(2026, 3, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)


def eur(minor: int) -> MoneyPb:
    return wire.money(Money(minor, "EUR"))


async def notes(sandbox: Sandbox, customer: Customer) -> list[CreditNote]:
    request = credit_notes.ListCreditNotesRequest(customer_id=customer.id, page_size=1000)
    return list((await sandbox.client.credit_notes.ListCreditNotes(request)).credit_notes)


async def test_two_credit_notes_a_refund_a_void_and_a_reissue(sandbox: Sandbox) -> None:
    """What was billed, less what was taken back, is what was paid, less what was paid back, and what is still owed."""
    plan = await sandbox.plan("basic", flat("fee", "31.00"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.subscribe(ada, plan, start=JANUARY, billing_day=1)
    await sandbox.quiet()
    (january,) = await sandbox.invoices(ada)
    assert january.state == Invoice.PAID

    # Six of 31 days were no service: they are paid back. Then 5.00 out of good will.
    six_days = credit_notes.LineItemToCredit(
        line_item_id=january.line_items[0].id, share=Fraction(numerator=6, denominator=31)
    )
    first = await sandbox.client.credit_notes.CreateCreditNote(
        credit_notes.CreateCreditNoteRequest(
            invoice_id=january.id,
            line_items=[six_days],
            reason=CreditNote.PRODUCT_UNSATISFACTORY,
            preference=credit_notes.CreateCreditNoteRequest.REFUND_FIRST,
        )
    )
    assert (text(first.total), text(first.settlement.refund_amount)) == ("6.00 EUR", "6.00 EUR")
    five = credit_notes.LineItemToCredit(line_item_id=january.line_items[0].id, amount=eur(5_00))
    second = await sandbox.client.credit_notes.CreateCreditNote(
        credit_notes.CreateCreditNoteRequest(
            invoice_id=january.id,
            line_items=[five],
            reason=CreditNote.OTHER,
            memo="For your patience",
            settlement=CreditNoteSettlement(refund_amount=eur(5_00)),
        )
    )
    # A part of what is to be paid back has been.
    first = await sandbox.client.credit_notes.RecordRefund(
        credit_notes.RecordRefundRequest(id=first.id, amount=eur(4_00), reference="re_1")
    )
    assert text(first.refund_pending_amount) == "2.00 EUR"

    # February is collected by hand from a card that refuses; the invoice was wrong, and is issued anew.
    await sandbox.card(ada, "sim:decline,ok")
    await sandbox.travel(FEBRUARY)
    february = (await sandbox.invoices(ada))[-1]
    assert (february.state, february.number) == (Invoice.OPEN, "INV-000002")
    void = await sandbox.client.invoicing.ReissueInvoice(
        invoicing.ReissueInvoiceRequest(id=february.id, reason=CreditNote.BILLING_ERROR)
    )
    assert void.state == Invoice.VOID
    await sandbox.travel(FEBRUARY + DAY)
    again = (await sandbox.invoices(ada))[-1]
    assert (again.number, again.state, again.invoice_date) == ("INV-000003", Invoice.PAID, february.invoice_date)

    invoices, taken = await sandbox.invoices(ada), await notes(sandbox, ada)
    assert [note.number for note in taken] == ["INV-CN-000001", "INV-CN-000002", "INV-CN-000003"]
    assert [note.kind for note in taken] == [CreditNote.CREDIT, CreditNote.CREDIT, CreditNote.VOID]
    payments = await sandbox.payments(ada)
    assert [payment.state for payment in payments] == [Payment.SUCCEEDED, Payment.CANCELLED, Payment.SUCCEEDED]

    def total(*amounts: MoneyPb) -> Money:
        return sum_money((wire.parse_money(each, field="amount") for each in amounts), "EUR")

    billed = total(*(each.total for each in invoices)) - total(*(note.total for note in taken))
    paid = total(*(each.amount_paid for each in invoices))
    back = total(*(note.settlement.refund_amount for note in taken))
    owed = total(*(each.amount_remaining for each in invoices))
    assert (billed, paid, back, owed) == (Money(51_00, "EUR"), Money(62_00, "EUR"), Money(11_00, "EUR"), total())
    assert billed == paid - back + owed
    captured = total(*(payment.amount for payment in payments if payment.state == Payment.SUCCEEDED))
    assert captured == paid
    statement = await sandbox.client.ledger.GetCustomerStatement(
        ledger.GetCustomerStatementRequest(
            customer_id=ada.id, currency="EUR", start_date=wire.date(JANUARY.date()), end_date=wire.date(MARCH.date())
        )
    )
    assert total(statement.closing_balance) == owed
    trial = await sandbox.client.ledger.GetTrialBalance(
        ledger.GetTrialBalanceRequest(as_of_date=wire.date(MARCH.date()), currency="EUR")
    )
    books = {each.account: total(each.balance) for each in trial.balances}
    assert books[LedgerAccount.CASH] == paid - Money(4_00, "EUR")
    assert books[LedgerAccount.REFUNDS_PAYABLE] == Money(4_00, "EUR") - back
    assert books[LedgerAccount.REVENUE] == -billed
    for note in (*taken, second):
        document = await sandbox.client.credit_notes.GetCreditNoteDocument(
            credit_notes.GetCreditNoteDocumentRequest(id=note.id)
        )
        assert document.file_name == f"{note.number}.pdf"
        assert document.content.startswith(b"%PDF-")
    for name in ("INV", "INV-CN"):
        verified = await sandbox.client.invoicing.VerifySeries(invoicing.VerifySeriesRequest(series=name))
        assert (verified.count, list(verified.faults)) == (3, [])


async def test_only_what_remains_is_collected_and_followed_up(sandbox: Sandbox) -> None:
    """After a credit note the next retry asks for less; when the invoice is annulled, nobody asks for anything."""
    await sandbox.policy(3, 3, final_action=DunningPolicy.CANCEL_SUBSCRIPTION)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    bob = await sandbox.customer("bob", token="sim:decline,ok#bob")
    eve = await sandbox.customer("eve", token="sim:decline#eve")
    for each in (bob, eve):
        await sandbox.subscribe(each, plan)
    await sandbox.travel(JANUARY + 2 * DAY)
    ((of_bob,), (of_eve,)) = [await sandbox.invoices(each) for each in (bob, eve)]
    part = credit_notes.LineItemToCredit(line_item_id=of_bob.line_items[0].id, amount=eur(7_50))
    await sandbox.client.credit_notes.CreateCreditNote(
        credit_notes.CreateCreditNoteRequest(
            invoice_id=of_bob.id, line_items=[part], reason=CreditNote.PRODUCT_UNSATISFACTORY
        )
    )
    await sandbox.client.invoicing.MarkInvoiceUncollectible(invoicing.MarkInvoiceUncollectibleRequest(id=of_eve.id))
    await sandbox.travel(JANUARY + 20 * DAY)

    (paid,) = await sandbox.invoices(bob)
    assert (paid.state, text(paid.amount_paid), text(paid.amount_credited)) == (Invoice.PAID, "12.50 EUR", "7.50 EUR")
    (payment,) = await sandbox.payments(bob)
    assert [text(attempt.amount) for attempt in payment.attempts] == ["20.00 EUR", "12.50 EUR"]
    assert text(payment.amount) == "12.50 EUR"
    (campaign,) = await sandbox.campaigns(bob)
    assert campaign.state == DunningCampaign.RECOVERED

    (given_up,) = await sandbox.invoices(eve)
    assert (given_up.state, text(given_up.amount_written_off)) == (Invoice.UNCOLLECTIBLE, "20.00 EUR")
    (payment,) = await sandbox.payments(eve)
    assert (payment.state, len(payment.attempts)) == (Payment.CANCELLED, 1)
    (campaign,) = await sandbox.campaigns(eve)
    assert campaign.state == DunningCampaign.CANCELLED
    (subscription,) = await sandbox.subscriptions(eve)
    assert subscription.state == Subscription.ACTIVE
