"""The books of what is taken back: the mirror image of what was billed, and every part of it where it belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from invoicing.domain.credit_note import CreditNote, Settlement
from invoicing.domain.crediting import Part, taken_back
from invoicing.domain.invoice import Invoice
from invoicing.domain.ledger import (
    DocumentKind,
    Entry,
    Event,
    LedgerAccount,
    entries_of_credit_note,
    entries_of_issue,
    entries_of_payment,
    entries_of_refund,
    entries_of_write_off,
)

from .test_crediting import JANUARY, cents, credited, euros, invoice, invoices, line, note, part

NOON = JANUARY + timedelta(days=14, hours=12)


def balances(entries: Iterable[Entry], *, until: date = date.max) -> dict[str, int]:
    """By account, of entries through a day; accounts without a balance are left out."""
    found: Counter[str] = Counter()
    for entry in entries:
        if entry.effective_date <= until:
            for posting in entry.postings:
                found[posting.account.name] += posting.minor
    return {account: minor for account, minor in found.items() if minor}


def on(made: CreditNote, at: datetime) -> CreditNote:
    return replace(made, issue_time=at)


@given(invoices(), st.integers(0, 40))
def test_what_is_taken_back_in_full_leaves_nothing(of: Invoice, days: int) -> None:
    """On whichever day: in the end nothing is earned, deferred, owed to an authority, or owed by the customer."""
    if not of.total.minor:
        return
    [made] = credited(of, [])
    entries = [*entries_of_issue(of), *entries_of_credit_note(of, on(made, JANUARY + timedelta(days=days)))]
    assert balances(entries) == {}


def test_of_days_to_come_what_is_deferred_and_of_days_past_what_was_earned() -> None:
    """31.00 for January, in advance; on the 15th all of it is taken back: 15 days were earned."""
    of = invoice(line(1, 31_00))
    [made] = credited(of, [])
    credit, months = entries_of_credit_note(of, on(made, NOON))
    assert (credit.document_kind, credit.event, credit.effective_date) == (
        DocumentKind.CREDIT_NOTE,
        Event.CREDITED,
        date(2026, 1, 15),
    )
    assert balances([credit]) == {"REVENUE": 15_00, "DEFERRED_REVENUE": 16_00, "RECEIVABLE": -31_00}
    assert (months.event, months.effective_date) == (Event.RECOGNIZED, date(2026, 1, 31))
    assert balances([months]) == {"REVENUE": 16_00, "DEFERRED_REVENUE": -16_00}


def test_every_part_is_where_it_belongs() -> None:
    """12.00 with their tax: some need not be paid, some the customer has to its credit, some is paid back."""
    of = invoice(line(1, 20_00), percent="20", paid=15_00)
    taken = taken_back(of, (), [Part(line_id="line_1", share=Fraction(1, 2))])
    parts = Settlement(debt=euros("9"), customer_credit=euros("1"), refund=euros("2"))
    made = on(note(of, taken, 1, parts), JANUARY + timedelta(days=40))
    [credit] = entries_of_credit_note(of, made)
    assert balances([credit]) == {
        "REVENUE": 10_00,
        "TAX_PAYABLE": 2_00,
        "RECEIVABLE": -9_00,
        "CUSTOMER_CREDIT": -1_00,
        "REFUNDS_PAYABLE": -2_00,
    }
    half = made.refund(euros("1.50"))
    [first] = entries_of_refund(of, half, amount=euros("1.50"), at=NOON)
    [second] = entries_of_refund(of, half.refund(euros("0.50")), amount=euros("0.50"), at=NOON)
    assert (first.ordinal, second.ordinal, first.event) == (1, 2, Event.REFUNDED)
    assert balances([credit, first, second])["CASH"] == -2_00
    assert LedgerAccount.REFUNDS_PAYABLE.name not in balances([credit, first, second])


def test_what_was_given_up_and_came_in_after_all_is_no_loss() -> None:
    """10.00 are given up; 4.00 of them are paid, 1.00 is credited, and 5.00 are lost."""
    of = invoice(line(1, 10_00))
    given_up = of.write_off(at=NOON)
    paid = given_up.pay(euros("4"), at=NOON)
    recovered = given_up.amount_written_off - paid.amount_written_off
    [made] = credited(paid, [part(1, "1.00")])
    entries = [
        *entries_of_issue(of),
        *entries_of_write_off(given_up, at=NOON),
        *entries_of_payment(paid, payment_id="pay_1", amount=euros("4"), at=NOON, recovered=recovered),
        *entries_of_credit_note(paid, made),
    ]
    assert balances(entries) == {"CASH": 4_00, "WRITE_OFFS": 5_00, "REVENUE": -9_00}
    assert paid.credit(euros("1"), at=NOON).amount_written_off == cents(5_00)
