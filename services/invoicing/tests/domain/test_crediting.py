"""What can be taken back of an invoice: never more than there is, and in the end all of it, to the cent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import CurrencyMismatch, Money, round_half_up, sum_money
from common.period import Period
from invoicing.domain.consolidation import Bill
from invoicing.domain.credit_note import (
    CreditNote,
    CreditNoteId,
    NoteKind,
    Preference,
    Reason,
    Settlement,
    Taken,
    check_creditable,
    check_settlement,
    left_of,
    settled_by,
)
from invoicing.domain.crediting import Part, taken_back
from invoicing.domain.errors import (
    CreditExceedsInvoice,
    CreditExceedsLine,
    CreditNoteNotPositive,
    LineNotFound,
    NothingLeftToCredit,
    RefundExceedsPayments,
    RefundExceedsPending,
    SettlementDiffersFromTotal,
    SettlementExceedsDebt,
)
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineDiscount, LineKind
from invoicing.domain.party import CollectionMethod, Customer, Party, Seller
from invoicing.domain.steps import flat_step
from invoicing.domain.tax import TaxLine

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = Period(JANUARY, JANUARY + timedelta(days=31))
CASES = Path(__file__).parents[4] / "tests" / "conformance" / "cases" / "invoice.jsonl"
CUSTOMER = Customer(
    party=Party(id="cus_1", display_name="Customer"),
    external_id="",
    currency="EUR",
    time_zone="UTC",
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)


def euros(text: str) -> Money:
    return Money.rounded(Decimal(text), "EUR")


def cents(minor: int) -> Money:
    return Money(minor, "EUR")


def line(number: int, minor: int, *, discount: int = 0, quantity: str = "1") -> Line:
    exact = cents(minor).amount
    return Line(
        id=f"line_{number}",
        description=f"Thing {number}",
        subscription_id="sub_1",
        item_id=f"subi_{number}",
        price_id="price_1",
        period=MONTH,
        full_period=MONTH,
        quantity=Decimal(quantity),
        unit_label="piece",
        amount=cents(minor),
        steps=(flat_step("Fixed price", exact),),
        exact_amount=exact,
        proration=Fraction(1),
        usage=None,
        correction=0,
        kind=LineKind.OWED if minor >= 0 else LineKind.CREDIT,
        discounts=(LineDiscount(discount_id="", description="Off", amount=cents(discount)),) if discount else (),
    )


def invoice(*lines: Line, percent: str = "0", is_included: bool = False, rounding: int = 0, paid: int = 0) -> Invoice:
    bill = Bill(currency="EUR", bill_time=JANUARY, lines=lines)
    draft = Invoice.draft(id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=JANUARY, grace=timedelta())
    net = sum(each.net_amount.minor for each in lines)
    rate = Fraction(Decimal(percent)) / 100
    tax = round_half_up(net * rate / (1 + rate) if is_included else net * rate)
    taxes = [
        TaxLine(
            name="VAT",
            category="S",
            percent=Decimal(percent),
            taxable=cents(net - tax if is_included else net),
            amount=cents(tax),
            is_included=is_included,
        )
    ]
    taxed = replace(draft, taxes=tuple(taxes) if rate else (), rounding=cents(rounding))
    seller = Seller(party=Party(id="sel_1", display_name="Seller"), invoice_number_prefix="INV")
    final = taxed.finalize(number="INV-000001", at=JANUARY, seller=seller, customer=CUSTOMER)
    return final.pay(cents(paid), at=JANUARY) if paid else final


def note(of: Invoice, taken: Taken, number: int, settlement: Settlement | None = None) -> CreditNote:
    made = CreditNote.of(
        of,
        taken,
        settlement or settled_by(of, taken, Preference.DEBT_FIRST),
        kind=NoteKind.CREDIT,
        reason=Reason.BILLING_ERROR,
        memo="",
        at=JANUARY,
    )
    return made.numbered(id=CreditNoteId(f"cn_{number}"), number=f"INV-CN-{number:06d}")


def credited(of: Invoice, *wanted: Sequence[Part]) -> list[CreditNote]:
    """One note after the other."""
    notes: list[CreditNote] = []
    for number, parts in enumerate(wanted, start=1):
        taken = taken_back(of, notes, parts)
        check_creditable(of, notes, taken)
        made = note(of, taken, number)
        of = of.credit(made.settlement.debt, at=JANUARY)
        notes.append(made)
    return notes


def part(number: int, amount: str) -> Part:
    return Part(line_id=f"line_{number}", amount=euros(amount))


# Whatever is taken in parts cancels in the end

amounts = st.integers(min_value=1, max_value=100_000)


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    lines = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        minor = draw(amounts)
        lines.append(line(number, minor, discount=draw(st.integers(0, minor)), quantity=str(draw(st.integers(1, 9)))))
    taken_off = -draw(st.integers(0, sum(each.net_amount.minor for each in lines)))
    if taken_off:
        lines.append(line(9, taken_off))
    percent = draw(st.sampled_from(["0", "5.5", "7", "19", "20", "23.33"]))
    return invoice(*lines, percent=percent, is_included=draw(st.booleans()), rounding=draw(st.integers(0, 4)))


@st.composite
def parts(draw: st.DrawFn, of: Invoice) -> list[Part]:
    """Any of its lines, in any of the ways to say how much; some of that cannot be."""
    found = []
    for each in draw(st.lists(st.sampled_from(of.lines), min_size=1, unique_by=lambda each: each.id)):
        way = draw(st.sampled_from(["amount", "quantity", "share", "rest"]))
        share = Fraction(draw(st.integers(1, 12)), 12)
        sign = -1 if each.amount.minor < 0 else 1
        found.append(
            Part(
                line_id=each.id,
                amount=cents(sign * max(1, abs(each.amount.minor) // draw(st.integers(1, 9))))
                if way == "amount"
                else None,
                quantity=Decimal(draw(st.integers(1, int(each.quantity)))) if way == "quantity" else None,
                share=share if way == "share" else None,
            )
        )
    return found


@given(st.data())
def test_any_parts_and_then_the_rest_cancel_to_nothing(data: st.DataObject) -> None:
    """Line by line, of discounts and taxes, and in total; and never more than there is on the way."""
    of = data.draw(invoices())
    notes: list[CreditNote] = []
    for _ in range(data.draw(st.integers(0, 6))):
        try:
            taken = taken_back(of, notes, data.draw(parts(of)))
            check_creditable(of, notes, taken)
        except (CreditExceedsLine, CreditExceedsInvoice, CreditNoteNotPositive):
            continue
        notes.append(note(of, taken, len(notes) + 1))
        assert left_of(of, notes).minor >= 0
    rest = taken_back(of, notes, ())
    everything = [*(each.taken for each in notes), rest]
    for each in of.lines:
        own = [found for taken in everything for found in taken.lines if found.line_id == each.id]
        assert sum_money((found.amount for found in own), "EUR") == each.amount
        assert sum_money((found.discount for found in own), "EUR") == each.discount
        assert all(found.discount.minor >= 0 for found in own)
    for tax in of.taxes:
        shares = [found for taken in everything for found in taken.taxes]
        assert sum_money((found.amount for found in shares), "EUR") == tax.amount
        assert sum_money((found.taxable for found in shares), "EUR") == tax.taxable
        assert all(found.amount.minor >= 0 for found in shares)
    assert sum_money((taken.total for taken in everything), "EUR") == of.total
    assert sum_money((taken.rounding for taken in everything), "EUR") == of.rounding
    assert taken_back(of, [*notes, note(of, rest, 99)], ()).lines == ()


@given(invoices(), st.booleans())
def test_the_parts_of_a_settlement_are_the_total(of: Invoice, refund_first: bool) -> None:
    """Nothing is lost between debt, credit and refund, whatever was paid."""
    paid = of.pay(cents(max(1, of.total.minor // 2)), at=JANUARY) if of.total.minor else of
    taken = taken_back(paid, (), ())
    settlement = settled_by(paid, taken, Preference.REFUND_FIRST if refund_first else Preference.DEBT_FIRST)
    assert settlement.total == taken.total
    assert settlement.debt <= paid.debt
    assert cents(0) <= settlement.refund <= paid.amount_paid
    if settlement.total.minor:
        assert check_settlement(paid, (), taken, settlement) == settlement


# Figures that others published


def published(case_id: str) -> tuple[dict[str, Any], dict[str, Any]]:  # Any: JSON
    for text in CASES.read_text("utf-8").splitlines():
        case = json.loads(text)
        if case["id"] == case_id:
            return case["input"], case["expected"]
    raise KeyError(case_id)


@pytest.mark.parametrize("case_id", ["invoice-lago-cn-2x6833", "invoice-lago-cn-coupon-seq"])
def test_lines_that_are_credited_one_after_the_other(case_id: str) -> None:
    """The last one takes the cent that rounding left."""
    told, expected = published(case_id)
    nets = [euros(each) for each in told["invoice_lines"]]
    shares = euros(told.get("coupon", "0")).allocate([each.minor for each in nets])
    lines = [
        line(n, each.minor, discount=share.minor) for n, (each, share) in enumerate(zip(nets, shares, strict=True), 1)
    ]
    of = invoice(*lines, percent=told["rate"])
    assert of.total == euros(expected["invoice_total"])
    notes = credited(of, *([part(n, each)] for n, each in enumerate(told["credit_nets"], start=1)))
    assert [each.taken.tax_total.amount for each in notes] == [Decimal(each) for each in expected["taxes"]]
    assert [each.total.amount for each in notes] == [Decimal(each) for each in expected["totals"]]
    discounts = [str(each.taken.discount_total.amount) for each in notes]
    assert discounts == expected.get("coupon_adjustments", ["0.00", "0.00"])


def test_the_tax_is_of_the_net_before_that_was_rounded() -> None:
    """Of 25.7057, not of 25.71."""
    told, expected = published("invoice-lago-cn-round-29")
    of = invoice(line(1, euros(told["fee"]).minor), percent=told["rate"])
    assert of.tax_total == euros(expected["invoice_tax"])
    share = Fraction(int(told["unused_days"]), int(told["of_days"]))
    [made] = credited(of, [Part(line_id="line_1", share=share)])
    assert made.taken.subtotal == euros(expected["net"])
    assert (made.taken.tax_total, made.total) == (euros(expected["tax"]), euros(expected["total"]))


@pytest.mark.parametrize("case", ["full", "part", "prev-cn", "coupon"])
def test_what_was_paid_for_what_is_not_used_goes_back(case: str) -> None:
    """The paid share less the used value; the rest is credit of the customer, or need not be paid any more."""
    told, expected = published(f"invoice-lago-term-{case}")
    discount = euros(told.get("fee_coupon", "0")).minor
    fee = euros(told["fee"]).minor
    of = invoice(line(1, fee, discount=discount), line(2, fee), percent=told["rate"])
    assert of.total == euros(told["invoice_total"])
    of = of.pay(euros(told["paid"]), at=JANUARY)
    notes = credited(of, [part(1, told["previous_credit_net"])]) if "previous_credit_net" in told else []
    unused = Fraction(int(told["unused_days"]), int(told["of_days"]))
    rest = Money.rounded(Fraction(Decimal(told["fee"])) * unused, "EUR") - sum_money(
        (each.taken.subtotal for each in notes), "EUR"
    )
    taken = taken_back(of, notes, [Part(line_id="line_1", amount=rest)])
    settlement = settled_by(of, taken, Preference.REFUND_FIRST)
    assert (taken.tax_total, taken.total) == (euros(expected["tax"]), euros(expected["total"]))
    assert settlement.refund == euros(expected["refund"])
    assert settlement.debt + settlement.customer_credit == euros(expected["credit"])
    assert taken.discount_total == euros(expected.get("coupon_adjustment", "0"))


# How much of a line


def test_quantities_take_a_share_and_the_last_one_the_rest() -> None:
    """Three times a third of 10.00 is 10.00."""
    of = invoice(line(1, 10_00, quantity="3"))
    one = [Part(line_id="line_1", quantity=Decimal(1))]
    notes = credited(of, one, one, one)
    assert [each.total for each in notes] == [euros("3.33"), euros("3.33"), euros("3.34")]
    assert [each.lines[0].quantity for each in notes] == [Decimal(1)] * 3


def test_after_an_amount_nobody_knows_how_many_are_left() -> None:
    """A quarter of the price is not one of four."""
    of = invoice(line(1, 10_00, quantity="4"))
    notes = credited(of, [part(1, "1.00")], [])
    assert (notes[1].lines[0].amount, notes[1].lines[0].quantity) == (euros("9.00"), None)
    with pytest.raises(CreditExceedsLine):
        credited(of, [part(1, "1.00")], [Part(line_id="line_1", quantity=Decimal(4))])


def test_a_tax_that_lines_include_is_taken_out_of_what_they_give_back() -> None:
    """Half of 119.00 with 19 % in it is 59.50, of which 9.50 is tax."""
    of = invoice(line(1, 119_00), percent="19", is_included=True)
    [half] = credited(of, [part(1, "59.50")])
    [tax] = half.taken.taxes
    assert (half.total, tax.amount, tax.taxable) == (euros("59.50"), euros("9.50"), euros("50.00"))
    assert half.taken.total_excluding_tax == euros("50.00")


def test_the_rounding_goes_with_the_last_that_is_left() -> None:
    """Nobody gets five cents of it for one line of two."""
    of = invoice(line(1, 10_01), line(2, 10_01), rounding=3)
    first, second = credited(of, [part(1, "10.01")], [])
    assert (first.taken.rounding, second.taken.rounding) == (euros("0"), euros("0.03"))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (part(1, "10.01"), CreditExceedsLine),
        (part(1, "-1.00"), CreditExceedsLine),
        (part(2, "-4.01"), CreditExceedsLine),
        (part(2, "1.00"), CreditExceedsLine),
        (part(3, "1.00"), LineNotFound),
        (Part(line_id="line_1", quantity=Decimal(3)), CreditExceedsLine),
        (Part(line_id="line_1", share=Fraction(1, 10_000)), CreditExceedsLine),
        (Part(line_id="line_1", amount=Money(1_00, "GBP")), CurrencyMismatch),
    ],
)
def test_what_is_not_a_part_of_a_line_is_refused(wanted: Part, error: type[Exception]) -> None:
    """Too much, the other way round, of another line, of nothing, of other money."""
    with pytest.raises(error):
        taken_back(invoice(line(1, 10_00, quantity="2"), line(2, -4_00)), (), [wanted])


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ([part(1, "10.00")], CreditExceedsInvoice),
        ([part(2, "-4.00")], CreditNoteNotPositive),
        ([part(1, "4.00"), part(2, "-4.00")], CreditNoteNotPositive),
    ],
)
def test_what_is_more_than_the_invoice_or_nothing_is_refused(wanted: list[Part], error: type[Exception]) -> None:
    """The line of 10.00 was billed with 4.00 taken off: nobody gets 10.00 back for it."""
    with pytest.raises(error):
        credited(invoice(line(1, 10_00), line(2, -4_00)), wanted)


def test_what_was_credited_is_not_credited_again() -> None:
    """All of it is all of it."""
    with pytest.raises(NothingLeftToCredit):
        credited(invoice(line(1, 10_00)), [], [])


# What becomes of it


def test_debt_comes_first_and_the_rest_is_to_the_customers_credit() -> None:
    """Nobody has credit and owes for the same thing."""
    of = invoice(line(1, 10_00), paid=7_00)
    [made] = credited(of, [part(1, "5.00")])
    assert made.settlement == Settlement(debt=euros("3"), customer_credit=euros("2"), refund=euros("0"))


def test_what_was_given_up_is_a_debt_as_well() -> None:
    """The loss was smaller than it was thought to be."""
    of = invoice(line(1, 10_00)).write_off(at=JANUARY)
    [made] = credited(of, [])
    assert made.settlement.debt == euros("10.00")


@pytest.mark.parametrize(
    ("debt", "credit", "refund", "error"),
    [
        ("3.00", "1.00", "0", SettlementDiffersFromTotal),
        ("4.00", "1.00", "0", SettlementExceedsDebt),
        ("0", "0", "8.00", SettlementDiffersFromTotal),
    ],
)
def test_a_settlement_that_cannot_be_is_refused(debt: str, credit: str, refund: str, error: type[Exception]) -> None:
    """Nothing is lost, and no debt is cancelled that nobody has."""
    of = invoice(line(1, 10_00), paid=7_00)
    wanted = Settlement(debt=euros(debt), customer_credit=euros(credit), refund=euros(refund))
    with pytest.raises(error):
        check_settlement(of, (), taken_back(of, (), [part(1, "5.00")]), wanted)


def test_no_more_is_refunded_than_was_paid() -> None:
    """Not by one note, and not by two."""
    of = invoice(line(1, 10_00), paid=7_00)
    taken = taken_back(of, (), [part(1, "4.00")])
    refund = Settlement(debt=euros("0"), customer_credit=euros("0"), refund=euros("4.00"))
    first = note(of, taken, 1, check_settlement(of, (), taken, refund))
    again = taken_back(of, [first], [part(1, "4.00")])
    with pytest.raises(RefundExceedsPayments):
        check_settlement(of, [first], again, refund)


def test_what_came_back_before_is_not_refundable_again() -> None:
    """Neither what was paid back, nor what became credit."""
    of = invoice(line(1, 10_00), line(2, 10_00), paid=20_00)
    first = taken_back(of, (), [part(1, "10.00")])
    assert first.refundable == euros("10.00")
    back = note(of, first, 1, settled_by(of, first, Preference.REFUND_FIRST))
    assert taken_back(of, [back], [part(2, "10.00")]).refundable == euros("10.00")
    kept = note(of, first, 1)
    assert kept.settlement.customer_credit == euros("10.00")
    assert taken_back(of, [kept], [part(2, "10.00")]).refundable == euros("10.00")


def test_a_refund_is_paid_back_bit_by_bit_and_not_beyond() -> None:
    """And never by less than nothing."""
    of = invoice(line(1, 10_00), paid=10_00)
    taken = taken_back(of, (), ())
    made = note(of, taken, 1, settled_by(of, taken, Preference.REFUND_FIRST))
    half = made.refund(euros("4.00"))
    assert (half.refunded, half.refund_pending, half.revision) == (euros("4.00"), euros("6.00"), 2)
    assert half.refund(euros("6.00")).refund_pending == euros("0")
    for amount in ("6.01", "0", "-1"):
        with pytest.raises(RefundExceedsPending):
            half.refund(euros(amount))
