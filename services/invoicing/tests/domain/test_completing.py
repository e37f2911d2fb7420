"""An invoice is completed by its lines and by what is known: the taxes it tells, and never less than nothing."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from invoicing.domain.completing import Terms, completed, fitted
from invoicing.domain.consolidation import Bill, payable
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineKind
from invoicing.domain.tax_rules import Scope, ScopeKey, TaxTerms

from .taxes import FEBRUARY, MARCH, customer, line, rate, rule, terms

STANDARD, REDUCED, NONE = rate("20"), rate("5.5"), rate("0")
BOOKS, FREE = ScopeKey(Scope.TAX_CODE, "books"), ScopeKey(Scope.TAX_CODE, "free")
KNOWN = terms([rule(STANDARD), rule(REDUCED, scope=BOOKS), rule(NONE, scope=FREE)], STANDARD, REDUCED, NONE)


def bill(*lines: Line) -> Bill:
    return Bill(currency="EUR", bill_time=FEBRUARY, lines=lines)


def invoice(*lines: Line, taxes: TaxTerms = KNOWN) -> Invoice:
    draft = Invoice.draft(id=InvoiceId("inv_1"), customer=customer(), bill=bill(*lines), at=MARCH, grace=timedelta())
    return completed(draft, Terms(customer=customer(), taxes=taxes))


def test_an_invoice_tells_its_taxes_and_each_line_its_rates() -> None:
    """For an e-invoice both are needed: the breakdown of the whole, and the category of each line."""
    found = invoice(line(100_00), line(50_00, tax_code="books"), line(10_00, tax_code="free"))
    assert [(tax.rate_id, tax.taxable.minor, tax.amount.minor) for tax in found.taxes] == [
        (STANDARD.id, 100_00, 20_00),
        (REDUCED.id, 50_00, 2_75),
        (NONE.id, 10_00, 0),
    ]
    assert [each.tax_rate_ids for each in found.lines] == [(STANDARD.id,), (REDUCED.id,), (NONE.id,)]
    assert (found.subtotal.minor, found.tax_total.minor, found.total.minor) == (160_00, 22_75, 182_75)
    assert found.tax_time == MARCH


def test_without_any_rule_there_are_no_taxes() -> None:
    """Sellers who declare nothing are billed for as before."""
    found = invoice(line(100_00), taxes=TaxTerms(as_of=MARCH))
    assert (found.taxes, found.total.minor, found.lines[0].tax_rate_ids) == ((), 100_00, ())


def test_what_is_included_is_not_added() -> None:
    """The customer pays the price that was advertised."""
    included = rate("25", is_inclusive=True)
    found = invoice(line(100_00), taxes=terms([rule(included)], included))
    assert (found.total.minor, found.tax_total.minor, found.total_excluding_tax.minor) == (100_00, 20_00, 80_00)


def test_completing_twice_changes_nothing() -> None:
    """A draft is completed each time that something joins it."""
    found = invoice(line(100_00), line(-30_00, kind=LineKind.CREDIT))
    assert completed(found, Terms(customer=customer(), taxes=KNOWN)) == found


def test_a_credit_takes_off_as_much_as_there_is_with_its_tax() -> None:
    """100.00 without tax are owed, 100.00 at 20 % are credited: 83.33 and 16.67 of tax are taken off."""
    found = invoice(line(100_00, tax_code="free"), line(-100_00, kind=LineKind.CREDIT))
    [owed, credit] = found.lines
    assert (owed.amount.minor, credit.amount.minor, found.total.minor) == (100_00, -83_33, 0)
    assert credit.exact_amount == credit.amount.amount
    assert "later" in credit.steps[-1].description


def test_the_last_credit_waits_first_and_a_correction_is_not_cut() -> None:
    """The oldest is taken off first, and half a correction would be found again by nobody."""
    lines = [
        line(100_00, tax_code="free"),
        line(-10_00, correction=1),
        line(-40_00, kind=LineKind.CREDIT),
        line(-50_00, kind=LineKind.CREDIT),
    ]
    found = fitted(bill(*lines), Terms(customer=customer(), taxes=KNOWN))
    assert [each.amount.minor for each in found.lines] == [100_00, -10_00, -40_00, -33_33]


def test_what_there_is_no_room_for_is_left_for_the_next_bill() -> None:
    """Corrections are taken off whole or not at all."""
    found = fitted(
        bill(line(100_00, tax_code="free"), line(-90_00, correction=1)), Terms(customer=customer(), taxes=KNOWN)
    )
    assert [each.amount.minor for each in found.lines] == [100_00]


codes = st.sampled_from(["", "books", "free"])
owed = st.builds(lambda minor, code: line(minor, tax_code=code), st.integers(0, 500_00), codes)
credited = st.builds(
    lambda minor, code: line(-minor, tax_code=code, kind=LineKind.CREDIT), st.integers(1, 500_00), codes
)
corrections = st.builds(lambda minor, code: line(-minor, tax_code=code, correction=1), st.integers(1, 99), codes)


@given(st.lists(owed, max_size=4), st.lists(st.one_of(credited, corrections), max_size=4))
def test_nobody_is_ever_owed_by_an_invoice(plus: list[Line], minus: list[Line]) -> None:
    """Whatever is credited at whatever rate, and as little of it is left waiting as can be."""
    lines = [each for each in payable([*plus, *minus]) if each is not None]
    found = invoice(*lines)
    assert found.total.minor >= 0
    cut = [each for each in found.lines if each.is_credit and each.steps and "later" in each.steps[-1].description]
    if cut:
        # No room for another cent of it: nothing is left to pay, or only taxes of what is left at another rate.
        assert found.total.minor <= 2 or found.subtotal.minor == 0
