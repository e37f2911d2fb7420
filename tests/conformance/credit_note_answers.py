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
from saldo.invoicing.v1.credit_note_pb2 import CreditNote
from saldo.invoicing.v1.invoice_pb2 import Fraction, GivenDiscount, Invoice
from saldo.invoicing.v1.manual_invoice_pb2 import ManualLine
from saldo.invoicing.v1.tax_pb2 import TaxRate, TaxScope
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

KINDS: Final = {"credit_note_unused", "credit_notes_sequence", "refund_split", "refund_tax"}

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


async def _issued(
    sandbox: Sandbox,
    currency: str,
    amounts: Sequence[str],
    *,
    rate: str,
    is_inclusive: bool = False,
    discount: str = "0",
) -> Invoice:
    """With a line of each amount, all taxed at one rate."""
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
    taken_off = [GivenDiscount(description="Coupon", amount=money(discount, currency))] if Decimal(discount) else []
    draft = await sandbox.client.manual_invoices.CreateInvoice(
        manual.CreateInvoiceRequest(
            customer_id=customer.id,
            currency=currency,
            lines=[
                ManualLine(description=f"Line {n}", amount=money(amount, currency))
                for n, amount in enumerate(amounts, start=1)
            ],
            discounts=taken_off,
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


def _told(note: CreditNote) -> dict[str, Decimal]:
    return {
        "net": decimal_of(note.total_excluding_tax),
        "tax": decimal_of(note.tax_total),
        "total": decimal_of(note.total),
    }
