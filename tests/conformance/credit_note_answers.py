"""Answers the cases about credit notes: an invoice is issued, and what the case says is taken back of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from saldo.invoicing.v1 import credit_notes_service_pb2 as pb
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1 import tax_service_pb2 as taxes
from saldo.invoicing.v1.credit_note_pb2 import CreditNote, CreditNoteSettlement
from saldo.invoicing.v1.invoice_pb2 import Fraction, GivenDiscount, Invoice
from saldo.invoicing.v1.manual_invoice_pb2 import ManualLine
from saldo.invoicing.v1.tax_pb2 import TaxRate, TaxScope
from saldo.payments.v1 import payments_service_pb2 as payments
from saldo.payments.v1.payment_pb2 import OutsidePayment
from tests.conformance.agreements import customer_in
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.credit_answers import NOW
from tests.conformance.money_answers import decimal_of, money
from tests.conformance.rooms import Rooms
from tests.support.sandbox import Sandbox

UNUSED_FIELDS: Final = frozenset(["kind", "currency", "fee", "rate", "unused_days", "of_days"])
SEQUENCE_FIELDS: Final = frozenset(["kind", "currency", "invoice_lines", "coupon", "rate", "credit_nets"])
SPLIT_FIELDS: Final = frozenset(["kind", "currency", "subtotal", "tax", "tax_inclusive", "refund_total"])
TAX_FIELDS: Final = frozenset(["kind", "currency", "subtotal", "tax", "refund_net"])

ENDED_FIELDS: Final = frozenset(
    [
        *("kind", "currency", "fee", "fee_coupon", "rate", "used_days", "unused_days", "of_days"),
        *("invoice_total", "paid", "previous_credit_net"),
    ]
)

KINDS: Final = {"credit_note_unused", "credit_notes_sequence", "refund_split", "refund_tax", "termination_credit"}

_number = itertools.count(1)


async def answer(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    async with rooms.at(NOW) as sandbox:
        match given["kind"]:
            case "credit_note_unused":
                return await _unused(given, sandbox)
            case "credit_notes_sequence":
                return await _sequence(given, sandbox)
            case "refund_split":
                return await _split(given, sandbox)
            case "refund_tax":
                return await _taxed(given, sandbox)
            case "termination_credit":
                return await _ended(given, sandbox)
    raise Unsupported(given["kind"])


async def _unused(given: Json, sandbox: Sandbox) -> Answer:
    """The days that are left of a fee, as a share of its line."""
    check_fields(given, UNUSED_FIELDS)
    invoice = await _issued(sandbox, given["currency"], [given["fee"]], rate=given["rate"])
    part = pb.LineItemToCredit(share=Fraction(numerator=int(given["unused_days"]), denominator=int(given["of_days"])))
    note = await _credited(sandbox, invoice, 0, part)
    return {"invoice_tax": decimal_of(invoice.tax_total), **_told(note)}


async def _sequence(given: Json, sandbox: Sandbox) -> Answer:
    """A note for each line, one after the other, of the amount that the case names."""
    check_fields(given, SEQUENCE_FIELDS)
    currency = given["currency"]
    invoice = await _issued(
        sandbox, currency, given["invoice_lines"], rate=given["rate"], discount=given.get("coupon", "0")
    )
    notes = [
        await _credited(sandbox, invoice, n, pb.LineItemToCredit(amount=money(net, currency)))
        for n, net in enumerate(given["credit_nets"])
    ]
    told = [_told(note) for note in notes]
    return {
        "invoice_tax": decimal_of(invoice.tax_total),
        "invoice_total": decimal_of(invoice.total),
        "coupon_adjustments": [decimal_of(note.discount_total) for note in notes],
        "nets": [each["net"] for each in told],
        "taxes": [each["tax"] for each in told],
        "totals": [each["total"] for each in told],
        "sum": sum((decimal_of(note.total) for note in notes), Decimal(0)),
    }


async def _split(given: Json, sandbox: Sandbox) -> Answer:
    """What the line says is what was paid: the tax is in it."""
    check_fields(given, SPLIT_FIELDS)
    if not given["tax_inclusive"]:
        raise Unsupported("an amount with its tax, of a line without")
    currency, subtotal, tax = given["currency"], Decimal(given["subtotal"]), Decimal(given["tax"])
    rate = str(100 * tax / (subtotal - tax))
    invoice = await _issued(sandbox, currency, [given["subtotal"]], rate=rate, is_inclusive=True)
    if decimal_of(invoice.tax_total) != tax:
        raise Unsupported(f"a tax of {tax} that follows from no rate")
    part = pb.LineItemToCredit(amount=money(given["refund_total"], currency))
    return _told(await _credited(sandbox, invoice, 0, part))


async def _taxed(given: Json, sandbox: Sandbox) -> Answer:
    """The tax that goes back with a part of what it was added to."""
    check_fields(given, TAX_FIELDS)
    currency, tax = given["currency"], Decimal(given["tax"])
    rate = str(100 * tax / Decimal(given["subtotal"]))
    invoice = await _issued(sandbox, currency, [given["subtotal"]], rate=rate)
    if decimal_of(invoice.tax_total) != tax:
        raise Unsupported(f"a tax of {tax} that follows from no rate")
    part = pb.LineItemToCredit(amount=money(given["refund_net"], currency))
    return {"tax": _told(await _credited(sandbox, invoice, 0, part))["tax"]}


async def _ended(given: Json, sandbox: Sandbox) -> Answer:
    """Of two fees on an invoice that was paid so far, the days that are left of one, less what was credited before. How
    much of it is paid back Saldo says; the rest is credit because the case wants that, and not a debt that ends.
    """
    check_fields(given, ENDED_FIELDS)
    currency = given["currency"]
    invoice = await _issued(
        sandbox,
        currency,
        [given["fee"], given["fee"]],
        rate=given["rate"],
        line_discount=given.get("fee_coupon", "0"),
    )
    if decimal_of(invoice.total) != Decimal(given["invoice_total"]):
        raise Unsupported(f"another invoice than one of two fees, which comes to {decimal_of(invoice.total)}")
    await sandbox.client.payments.RecordPayment(
        payments.RecordPaymentRequest(
            invoice_id=invoice.id,
            amount=money(given["paid"], currency),
            means=OutsidePayment.BANK_TRANSFER,
            reference="case",
        )
    )
    await sandbox.quiet()
    part = pb.LineItemToCredit(share=Fraction(numerator=int(given["unused_days"]), denominator=int(given["of_days"])))
    before = Decimal(given.get("previous_credit_net", "0"))
    if before:
        await _credited(sandbox, invoice, 0, pb.LineItemToCredit(amount=money(str(before), currency)))
        unused = Decimal(given["fee"]) * int(given["unused_days"]) / int(given["of_days"])
        part = pb.LineItemToCredit(amount=money(str(unused - before), currency))
    part.line_item_id = invoice.line_items[0].id
    foreseen = await sandbox.client.credit_notes.PreviewCreditNote(
        pb.PreviewCreditNoteRequest(
            invoice_id=invoice.id, line_items=[part], preference=pb.CreateCreditNoteRequest.REFUND_FIRST
        )
    )
    refund = foreseen.settlement.refund_amount
    rest = money(str(decimal_of(foreseen.total) - decimal_of(refund)), currency)
    note = await sandbox.client.credit_notes.CreateCreditNote(
        pb.CreateCreditNoteRequest(
            invoice_id=invoice.id,
            line_items=[part],
            reason=CreditNote.ORDER_CHANGE,
            settlement=CreditNoteSettlement(refund_amount=refund, customer_credit_amount=rest),
        )
    )
    told = {
        **_told(note),
        "refund": decimal_of(note.settlement.refund_amount),
        "credit": decimal_of(note.settlement.customer_credit_amount),
    }
    return {**told, "coupon_adjustment": decimal_of(note.discount_total)} if "fee_coupon" in given else told


async def _issued(
    sandbox: Sandbox,
    currency: str,
    amounts: Sequence[str],
    *,
    rate: str,
    is_inclusive: bool = False,
    discount: str = "0",
    line_discount: str = "0",
) -> Invoice:
    """With a line of each amount, all taxed at one rate; the discount of a line is that of the first."""
    number = next(_number)
    customer = await customer_in(sandbox, zone="UTC", currency=currency)
    made = await sandbox.client.tax.CreateTaxRate(
        taxes.CreateTaxRateRequest(
            tax_rate=TaxRate(
                name=f"VAT {number}", category=TaxRate.S, percent=DecimalPb(value=rate), is_inclusive=is_inclusive
            )
        )
    )
    await sandbox.client.tax.SetTaxRule(
        taxes.SetTaxRuleRequest(scope=TaxScope(customer_id=customer.id), tax_rate_ids=[made.id])
    )
    draft = await sandbox.client.manual_invoices.CreateInvoice(
        manual.CreateInvoiceRequest(
            customer_id=customer.id,
            currency=currency,
            lines=[
                ManualLine(
                    description=f"Line {n}",
                    amount=money(amount, currency),
                    discounts=_coupon(line_discount if n == 1 else "0", currency),
                )
                for n, amount in enumerate(amounts, start=1)
            ],
            discounts=_coupon(discount, currency),
        )
    )
    invoice = await sandbox.client.invoicing.FinalizeInvoice(invoicing.FinalizeInvoiceRequest(id=draft.id))
    assert isinstance(invoice, Invoice)
    return invoice


async def _credited(sandbox: Sandbox, invoice: Invoice, line: int, part: pb.LineItemToCredit) -> CreditNote:
    part.line_item_id = invoice.line_items[line].id
    note = await sandbox.client.credit_notes.CreateCreditNote(
        pb.CreateCreditNoteRequest(invoice_id=invoice.id, line_items=[part], reason=CreditNote.ORDER_CHANGE)
    )
    assert isinstance(note, CreditNote)
    return note


def _coupon(amount: str, currency: str) -> list[GivenDiscount]:
    return [GivenDiscount(description="Coupon", amount=money(amount, currency))] if Decimal(amount) else []


def _told(note: CreditNote) -> dict[str, Decimal]:
    return {
        "net": decimal_of(note.total_excluding_tax),
        "tax": decimal_of(note.tax_total),
        "total": decimal_of(note.total),
    }
