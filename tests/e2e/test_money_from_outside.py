"""Money that no gateway has collected: a transfer, cash, or a cheque; all of what is owed, a part, or too much."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type.money_pb2 import Money
from pypdf import PdfReader

from common import wire
from common.testing import refused
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import credit_notes_service_pb2 as notes
from saldo.invoicing.v1 import credit_service_pb2 as credit
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1.credit_note_pb2 import CreditNote
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.manual_invoice_pb2 import ManualLine
from saldo.payments.v1 import payments_service_pb2 as pb
from saldo.payments.v1.payment_pb2 import OutsidePayment, Payment, PaymentAttempt
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox, flat, text

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
TRANSFER = OutsidePayment.BANK_TRANSFER


def euros(units: int, cents: int = 0) -> Money:
    return Money(currency_code="EUR", units=units, nanos=cents * 10_000_000)


def received(invoice: Invoice, amount: Money, reference: str, **changes: Any) -> pb.RecordPaymentRequest:
    # Any: fields of the message
    told = {"invoice_id": invoice.id, "amount": amount, "means": TRANSFER, "reference": reference, **changes}
    return pb.RecordPaymentRequest(**told)


async def record(sandbox: Sandbox, request: pb.RecordPaymentRequest) -> Payment:
    recorded = await sandbox.client.payments.RecordPayment(request)
    await sandbox.quiet()
    assert isinstance(recorded, Payment)
    return recorded


async def credit_of(sandbox: Sandbox, customer: Customer) -> list[str]:
    found = await sandbox.client.credit.ListCreditBalances(credit.ListCreditBalancesRequest(customer_id=customer.id))
    return [text(each.available) for each in found.balances]


async def owing(sandbox: Sandbox, name: str, **how: Any) -> tuple[Customer, Invoice]:  # Any: of a customer
    plan = await sandbox.plan(f"plan-{name}", flat("fee", "20.00"))
    customer = await sandbox.customer(name, **how)
    await sandbox.subscribe(customer, plan)
    await sandbox.quiet()
    (invoice,) = await sandbox.invoices(customer)
    return customer, invoice


async def test_a_transfer_pays_a_part_and_another_too_much(sandbox: Sandbox) -> None:
    """What is left is owed on; what is too much is the customer's credit. Told twice is recorded once."""
    ada, invoice = await owing(sandbox, "ada", by_hand=True)
    await sandbox.travel(JANUARY + timedelta(days=5))
    paid = wire.timestamp(JANUARY + timedelta(days=3))
    first = await record(sandbox, received(invoice, euros(8), "RF18", paid_time=paid))
    assert (first.state, first.customer_id, list(first.attempts)) == (Payment.SUCCEEDED, ada.id, [])
    assert first.outside == OutsidePayment(means=TRANSFER, reference="RF18", paid_time=paid)
    (open_,) = await sandbox.invoices(ada)
    assert (open_.state, text(open_.amount_remaining)) == (Invoice.OPEN, "12.00 EUR")
    assert await record(sandbox, received(invoice, euros(8), "RF18")) == first
    with refused("PAYMENT_ALREADY_RECORDED", grpc.StatusCode.ALREADY_EXISTS):
        await record(sandbox, received(invoice, euros(9), "RF18"))
    document = await sandbox.client.invoicing.GetInvoiceDocument(
        invoicing.GetInvoiceDocumentRequest(id=invoice.id, as_it_stands=True)
    )
    [page] = PdfReader(io.BytesIO(document.content)).pages
    assert "Paid on 4 Jan 2026" in page.extract_text()
    second = await record(sandbox, received(invoice, euros(15), "RF19", means=OutsidePayment.CASH))
    (settled,) = await sandbox.invoices(ada)
    assert (settled.state, text(settled.amount_paid)) == (Invoice.PAID, "20.00 EUR")
    assert await credit_of(sandbox, ada) == ["3.00 EUR"]
    assert sorted(await sandbox.payments(ada), key=lambda each: each.outside.reference) == [first, second]
    assert await sandbox.client.payments.GetPayment(pb.GetPaymentRequest(id=second.id)) == second


async def test_a_card_is_asked_only_for_what_is_left(sandbox: Sandbox) -> None:
    """Dunning tries again, for less, and recovers the rest."""
    await sandbox.policy(3, final_action=DunningPolicy.NONE)
    bob, invoice = await owing(sandbox, "bob", token="sim:decline,ok")
    await sandbox.travel(JANUARY + timedelta(days=2))
    await record(sandbox, received(invoice, euros(5, 50), "cash-1", means=OutsidePayment.CASH))
    (failed,) = [each for each in await sandbox.payments(bob) if each.attempts]
    assert (failed.state, text(failed.amount)) == (Payment.FAILED, "14.50 EUR")
    await sandbox.travel(JANUARY + timedelta(days=10))
    (collected,) = [each for each in await sandbox.payments(bob) if each.attempts]
    assert (collected.state, text(collected.attempts[-1].amount)) == (Payment.SUCCEEDED, "14.50 EUR")
    (paid,) = await sandbox.invoices(bob)
    assert (paid.state, text(paid.amount_paid)) == (Invoice.PAID, "20.00 EUR")
    (campaign,) = await sandbox.campaigns(bob)
    assert campaign.state == DunningCampaign.RECOVERED
    assert await credit_of(sandbox, bob) == []


async def test_what_is_paid_in_full_is_not_collected_at_all(sandbox: Sandbox) -> None:
    """The payment is cancelled, and dunning has nothing left to ask for."""
    await sandbox.policy(3, final_action=DunningPolicy.CANCEL_SUBSCRIPTION)
    kim, invoice = await owing(sandbox, "kim", token="sim:decline,ok")
    await sandbox.travel(JANUARY + timedelta(days=2))
    await record(sandbox, received(invoice, euros(20), "RF20"))
    await sandbox.travel(JANUARY + timedelta(days=20))
    (cancelled,) = [each for each in await sandbox.payments(kim) if each.attempts]
    assert (cancelled.state, len(cancelled.attempts)) == (Payment.CANCELLED, 1)
    (paid,) = await sandbox.invoices(kim)
    assert paid.state == Invoice.PAID
    (campaign,) = await sandbox.campaigns(kim)
    assert campaign.state == DunningCampaign.RECOVERED


async def test_money_is_not_taken_in_beside_an_attempt_without_an_outcome(sandbox: Sandbox) -> None:
    """The card may have paid: as long as nobody knows, the same money would be taken in twice unknowingly. Afterwards
    it is taken in, and is the customer's credit."""
    eve, invoice = await owing(sandbox, "eve", token="sim:lost,ok")
    (unknown,) = await sandbox.payments(eve)
    assert [each.state for each in unknown.attempts] == [PaymentAttempt.UNKNOWN]
    with refused("ATTEMPT_UNSETTLED", grpc.StatusCode.FAILED_PRECONDITION):
        await sandbox.client.payments.RecordPayment(received(invoice, euros(20), "RF21"))
    assert await sandbox.payments(eve) == [unknown]
    await sandbox.travel(JANUARY + timedelta(days=1))
    (settled,) = await sandbox.payments(eve)
    assert settled.state == Payment.SUCCEEDED
    await record(sandbox, received(invoice, euros(20), "RF21"))
    assert await credit_of(sandbox, eve) == ["20.00 EUR"]


async def test_a_credit_leaves_as_much_to_collect_as_it_should(sandbox: Sandbox) -> None:
    """Whichever came first: money from outside and a credit note both leave less."""
    mia, invoice = await owing(sandbox, "mia", token="sim:decline,ok")
    part = notes.LineItemToCredit(line_item_id=invoice.line_items[0].id, amount=euros(3))
    await sandbox.client.payments.RecordPayment(received(invoice, euros(5), "RF22"))
    await sandbox.client.credit_notes.CreateCreditNote(
        notes.CreateCreditNoteRequest(invoice_id=invoice.id, line_items=[part], reason=CreditNote.BILLING_ERROR)
    )
    await sandbox.quiet()
    (left,) = [each for each in await sandbox.payments(mia) if each.attempts]
    assert (left.state, text(left.amount)) == (Payment.FAILED, "12.00 EUR")


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"amount": euros(0)}, "INVALID_ARGUMENT", "amount"),
        ({"amount": euros(-1)}, "INVALID_ARGUMENT", "amount"),
        ({"means": 0}, "INVALID_ARGUMENT", "means"),
        ({"reference": ""}, "INVALID_ARGUMENT", "reference"),
        ({"reference": "x" * 101}, "INVALID_ARGUMENT", "reference"),
        ({"reference": "4242 4242 4242 4242"}, "CARD_NUMBER_REFUSED", "reference"),
        ({"paid_time": wire.timestamp(datetime(2027, 1, 1, tzinfo=UTC))}, "INVALID_ARGUMENT", "paid_time"),
        ({"amount": Money(currency_code="GBP", units=1)}, "INVOICE_IN_ANOTHER_CURRENCY", ""),
        ({"invoice_id": "inv_01kdvdna00eq6961jxy4ezgzae"}, "INVOICE_NOT_FOUND", ""),
        ({"invoice_id": "inv"}, "INVALID_ARGUMENT", "invoice_id"),
    ],
)
async def test_what_makes_no_sense_is_not_recorded(
    sandbox: Sandbox, changes: dict[str, Any], reason: str, field: str
) -> None:
    """By its name, and nothing is stored."""
    ada, invoice = await owing(sandbox, "ada", by_hand=True)
    with refused(reason) as refusal:
        await sandbox.client.payments.RecordPayment(
            received(invoice, **{"amount": euros(1), "reference": "x", **changes})
        )
    assert refusal.field == field
    assert await sandbox.payments(ada) == []


async def test_nothing_comes_in_for_a_draft(sandbox: Sandbox) -> None:
    """Nothing is owed for it yet."""
    ada = await sandbox.customer("ada", by_hand=True)
    draft = await sandbox.client.manual_invoices.CreateInvoice(
        manual.CreateInvoiceRequest(customer_id=ada.id, lines=[ManualLine(description="Work", amount=euros(1))])
    )
    with refused("INVOICE_NOT_ISSUED", grpc.StatusCode.FAILED_PRECONDITION):
        await sandbox.client.payments.RecordPayment(received(draft, euros(1), "x"))
