"""The books of one invoice: every entry balances, and what was billed in advance is earned day by day, to the cent."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period, civil_date
from invoicing.domain.consolidation import Bill
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.ledger import (
    MONTHS_MAX,
    DocumentKind,
    Entry,
    Event,
    LedgerAccount,
    Posting,
    entries_of_issue,
    entries_of_payment,
    schedule,
    shares,
)
from invoicing.domain.line import Line, LineDiscount, LineKind, Usage
from invoicing.domain.party import CollectionMethod, Customer, Party
from invoicing.domain.tax import TaxLine

ZONES = ("UTC", "Europe/London", "America/New_York", "Pacific/Apia", "Asia/Kolkata", "Pacific/Kiritimati")
RECEIVABLE, REVENUE, DEFERRED = LedgerAccount.RECEIVABLE, LedgerAccount.REVENUE, LedgerAccount.DEFERRED_REVENUE


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type] # year, month, day and so on


JANUARY = Period(at(2026, 1, 1), at(2026, 2, 1))
YEAR = Period(at(2026, 3, 15), at(2027, 3, 15))


def line(pence: int, period: Period = JANUARY, *, metered: bool = False, discount: int = 0) -> Line:
    usage = Usage(meter="kwh", quantity=Decimal(1), event_count=1, digest="d", through_position=1)
    taken_off = LineDiscount(discount_id="red_1", description="A little off", amount=Money(discount, "GBP"))
    return Line(
        id="line_1",
        description="Seats",
        subscription_id="sub_1",
        item_id="subi_1",
        price_id="price_1",
        period=period,
        full_period=period,
        quantity=Decimal(1),
        unit_label="",
        amount=Money(pence, "GBP"),
        steps=(),
        exact_amount=Money(pence, "GBP").amount,
        proration=Fraction(1),
        usage=usage if metered else None,
        correction=0,
        kind=LineKind.OWED if pence >= 0 else LineKind.CREDIT,
        discounts=(taken_off,) if discount else (),
    )


def invoice(*lines: Line, billed: datetime = JANUARY.start, zone: str = "UTC") -> Invoice:
    customer = Customer(
        party=Party(id="cus_1", display_name="Customer"),
        external_id="",
        currency="GBP",
        time_zone=zone,
        net_terms_days=14,
        collection_method=CollectionMethod.SEND_INVOICE,
    )
    bill = Bill(currency="GBP", bill_time=billed, lines=lines)
    return Invoice.draft(id=InvoiceId("inv_1"), customer=customer, bill=bill, at=billed, grace=timedelta())


def posted(*entries: Entry) -> list[tuple[Event, str, dict[LedgerAccount, int]]]:
    return [(each.event, each.effective_date.isoformat(), dict(each.postings)) for each in entries]


def balances(entries: tuple[Entry, ...], through: date = date.max) -> dict[LedgerAccount, int]:
    found: dict[LedgerAccount, int] = defaultdict(int)
    for entry in entries:
        if entry.effective_date <= through:
            for account, minor in entry.postings:
                found[account] += minor
    return {account: minor for account, minor in found.items() if minor}


# Entries


@pytest.mark.parametrize(
    "postings",
    [
        (),
        ((RECEIVABLE, 0), (REVENUE, 0)),
        ((RECEIVABLE, 1),),
        ((RECEIVABLE, 1), (REVENUE, -2)),
        ((RECEIVABLE, 1), (RECEIVABLE, -1)),
        ((RECEIVABLE, 1), (REVENUE, -1), (DEFERRED, 0)),
    ],
)
def test_what_does_not_balance_cannot_be_made(postings: tuple[tuple[LedgerAccount, int], ...]) -> None:
    """Nor what moves nothing, or from an account into itself."""
    with pytest.raises(ValueError, match=r"differ|nothing|different accounts"):
        Entry(
            customer_id="cus_1",
            document_kind=DocumentKind.INVOICE,
            document_id="inv_1",
            event=Event.ISSUED,
            invoice_id=InvoiceId("inv_1"),
            currency="GBP",
            effective_date=date(2026, 1, 1),
            postings=tuple(Posting(*each) for each in postings),
        )


# Invoices


def test_a_month_in_advance_is_earned_at_its_end_but_for_the_day_of_the_invoice() -> None:
    """The day that has come is earned; the thirty others are not yet."""
    assert posted(*entries_of_issue(invoice(line(31_00)))) == [
        (Event.ISSUED, "2026-01-01", {RECEIVABLE: 31_00, REVENUE: -1_00, DEFERRED: -30_00}),
        (Event.RECOGNIZED, "2026-01-31", {DEFERRED: 30_00, REVENUE: -30_00}),
    ]


def test_what_was_served_and_used_before_is_earned_with_the_invoice() -> None:
    """In arrears there is nothing to defer; nor is there for usage, whose period may not have ended."""
    february = at(2026, 2, 1)
    found = entries_of_issue(invoice(line(31_00), line(5_00, YEAR, metered=True), billed=february))
    assert posted(*found) == [(Event.ISSUED, "2026-02-01", {RECEIVABLE: 36_00, REVENUE: -36_00})]


def test_a_thing_of_one_day_is_earned_on_that_day() -> None:
    """A one-off product is billed for the civil day on which it begins."""
    day = Period(at(2026, 1, 1, 9), at(2026, 1, 2, 9))
    hour = Period(at(2026, 1, 1, 9), at(2026, 1, 1, 10))
    assert posted(*entries_of_issue(invoice(line(99), line(1, hour), line(50, day)))[:1])[0][2][REVENUE] == -(
        3 + 1 + 50
    )


def test_a_year_is_earned_in_thirteen_months_by_days() -> None:
    """From 15 March to 14 March: seventeen days of the first month, one with the invoice, and fourteen of the last."""
    found = entries_of_issue(invoice(line(365_00, YEAR), billed=YEAR.start))
    assert posted(*found)[0] == (
        Event.ISSUED, "2026-03-15", {RECEIVABLE: 365_00, REVENUE: -1_00, DEFERRED: -364_00}
    )  # fmt: skip
    recognized = [(day, moved[DEFERRED]) for event, day, moved in posted(*found) if event is Event.RECOGNIZED]
    assert [recognized[0], recognized[1], recognized[-1]] == [
        ("2026-03-31", 16_00), ("2026-04-30", 30_00), ("2027-03-31", 14_00)
    ]  # fmt: skip
    assert [entry.ordinal for entry in found[1:]] == list(range(1, 14))


def test_lines_are_earned_together() -> None:
    """One entry for each month, however many lines there are, each as far as it goes."""
    february = Period(JANUARY.end, at(2026, 3, 1))
    found = entries_of_issue(invoice(line(31_00), line(28_00, february), line(62_00)))
    assert posted(*found) == [
        (Event.ISSUED, "2026-01-01", {RECEIVABLE: 121_00, REVENUE: -3_00, DEFERRED: -118_00}),
        (Event.RECOGNIZED, "2026-01-31", {DEFERRED: 90_00, REVENUE: -90_00}),
        (Event.RECOGNIZED, "2026-02-28", {DEFERRED: 28_00, REVENUE: -28_00}),
    ]


def test_months_are_those_of_the_customer() -> None:
    """Midnight of 1 February in Auckland is still January in UTC."""
    period = Period(at(2026, 1, 31, 11), at(2026, 2, 28, 11))
    found = entries_of_issue(invoice(line(28_00, period), billed=period.start, zone="Pacific/Auckland"))
    assert [(day, moved[REVENUE]) for _, day, moved in posted(*found)] == [
        ("2026-02-01", -1_00),
        ("2026-02-28", -27_00),
    ]


def test_a_credit_takes_back_what_is_deferred_and_then_nothing_is_left() -> None:
    """A year, cancelled on 1 July: what had not been earned is not earned any more, month by month."""
    bought = entries_of_issue(invoice(line(365_00, YEAR), billed=YEAR.start))
    unused = Period(at(2026, 7, 1), YEAR.end)
    credit = entries_of_issue(invoice(line(-257_00, unused), billed=unused.start))
    assert posted(*credit)[0][2] == {RECEIVABLE: -257_00, REVENUE: 1_00, DEFERRED: 256_00}
    for end_of_month in (date(2026, 7, 31), date(2026, 12, 31), date(2027, 3, 31)):
        assert balances((*bought, *credit), end_of_month) == {RECEIVABLE: 108_00, REVENUE: -108_00}


def test_a_credit_that_comes_late_takes_back_what_was_earned_meanwhile() -> None:
    """It waited for an invoice with room until September: what July and August had earned goes off revenue at once."""
    unused = Period(at(2026, 7, 1), at(2027, 1, 1))
    late = entries_of_issue(invoice(line(-184_00, unused), billed=at(2026, 9, 1)))
    assert posted(*late)[0][2] == {RECEIVABLE: -184_00, REVENUE: 63_00, DEFERRED: 121_00}


def test_discounts_make_revenue_less() -> None:
    """What is earned is what the customer pays for, IFRS 15 paragraph 47: in each month its share."""
    found = entries_of_issue(invoice(line(62_00, discount=31_00)))
    assert [moved for *_, moved in posted(*found)] == [
        {RECEIVABLE: 31_00, REVENUE: -1_00, DEFERRED: -30_00},
        {DEFERRED: 30_00, REVENUE: -30_00},
    ]


def vat(pence: int, *, is_included: bool) -> TaxLine:
    return TaxLine(
        name="VAT",
        category="S",
        percent=Decimal(20),
        taxable=Money(31_00, "GBP"),
        amount=Money(pence, "GBP"),
        is_included=is_included,
    )


def test_tax_and_rounding_are_nobodys_revenue() -> None:
    """Tax that is added and what the total is rounded by have accounts of their own, and are not deferred."""
    taxed = replace(invoice(line(31_00)), taxes=(vat(6_20, is_included=False),), rounding=Money(-20, "GBP"))
    assert posted(*entries_of_issue(taxed))[0][2] == {
        RECEIVABLE: 37_00,
        REVENUE: -1_00,
        DEFERRED: -30_00,
        LedgerAccount.TAX_PAYABLE: -6_20,
        LedgerAccount.ROUNDING: 20,
    }


def test_tax_that_is_included_is_taken_off_every_month_alike() -> None:
    """The customer pays 37.20 for January; 31.00 of that is for the seller."""
    taxed = replace(invoice(line(37_20)), taxes=(vat(6_20, is_included=True),))
    assert [moved for *_, moved in posted(*entries_of_issue(taxed))] == [
        {RECEIVABLE: 37_20, REVENUE: -1_00, DEFERRED: -30_00, LedgerAccount.TAX_PAYABLE: -6_20},
        {DEFERRED: 30_00, REVENUE: -30_00},
    ]


def test_credit_that_is_taken_up_pays_as_money_does() -> None:
    """What was owed to the customer goes down, and so does what the customer owes."""
    found = entries_of_issue(replace(invoice(line(31_00)), credit_applied=Money(11_00, "GBP")))
    assert posted(*found)[1] == (
        Event.CREDIT_APPLIED, "2026-01-01", {LedgerAccount.CUSTOMER_CREDIT: 11_00, RECEIVABLE: -11_00}
    )  # fmt: skip
    assert balances(found)[RECEIVABLE] == 20_00


def test_what_moves_nothing_is_not_posted() -> None:
    """An invoice of nothing; and where a charge and a credit of the same days meet."""
    assert entries_of_issue(invoice(line(0))) == ()
    assert entries_of_issue(invoice(line(31_00), line(-31_00))) == ()


def test_what_lasts_longer_than_all_months_is_earned_with_the_last_of_them() -> None:
    """More than a hundred years: nothing is lost, and there is an end to the entries."""
    ages = Period(at(1970, 1, 1), at(2299, 1, 1))
    later = Period(at(1990, 1, 1), at(2299, 1, 1))
    found = entries_of_issue(invoice(line(100_000_00, ages), line(100_000_00, later), billed=ages.start))
    assert len(found) == 1 + MONTHS_MAX
    assert found[-1].effective_date == date(2069, 12, 31)
    assert balances(found) == {RECEIVABLE: 200_000_00, REVENUE: -200_000_00}


def test_a_payment_moves_what_was_owed_into_cash() -> None:
    """On the day on which it came in, where the customer is."""
    [entry] = entries_of_payment(
        invoice(line(31_00), zone="Asia/Kolkata"),
        payment_id="pay_1",
        amount=Money(10_00, "GBP"),
        at=at(2026, 1, 8, 19),
    )
    assert posted(entry) == [(Event.PAID, "2026-01-09", {LedgerAccount.CASH: 10_00, RECEIVABLE: -10_00})]
    assert (entry.document_kind, entry.document_id, entry.invoice_id) == (DocumentKind.PAYMENT, "pay_1", "inv_1")


# Whatever is billed

days = st.integers(min_value=-800, max_value=800)
periods = st.builds(
    lambda start, minutes: Period(at(2026, 1, 1) + start, at(2026, 1, 1) + start + minutes),
    st.timedeltas(min_value=timedelta(days=-800), max_value=timedelta(days=800)),
    st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=1_200)),
)
lines = st.builds(
    lambda pence, period, metered, share: line(pence, period, metered=metered, discount=max(pence, 0) * share // 100),
    st.integers(min_value=-(10**9), max_value=10**9),
    periods,
    st.booleans(),
    st.integers(min_value=0, max_value=100),
)
invoices = st.builds(
    lambda found, billed, zone: invoice(*found, billed=at(2026, 1, 1) + billed, zone=zone),
    st.lists(lines, min_size=1, max_size=6),
    st.timedeltas(min_value=timedelta(days=-800), max_value=timedelta(days=800)),
    st.sampled_from(ZONES),
)


@given(invoices)
def test_everything_deferred_is_earned_and_nothing_is_lost(issued: Invoice) -> None:
    """At the end of all months revenue is what the invoice came to, nothing is deferred, and every entry is one."""
    found = entries_of_issue(issued)
    total = issued.total.minor
    assert balances(found) == ({RECEIVABLE: total, REVENUE: -total} if total else {})
    places = [(entry.event, entry.ordinal) for entry in found]
    assert len(set(places)) == len(places)
    recognized = [entry for entry in found if entry.event is Event.RECOGNIZED]
    assert all(entry.effective_date > issued.invoice_date or entry.effective_date.day >= 28 for entry in recognized)
    assert [entry.effective_date for entry in recognized] == sorted({entry.effective_date for entry in recognized})


@given(invoices, st.integers(min_value=0, max_value=30), st.booleans())
def test_tax_is_never_earned(issued: Invoice, percent: int, is_included: bool) -> None:
    """Whatever the lines are: revenue is what is left without it, and in no month does any of it stay deferred."""
    tax = issued.total.minor * percent // (100 + percent if is_included else 100)
    taxed = replace(issued, taxes=(vat(tax, is_included=is_included),))
    net = taxed.total.minor - tax
    expected = {RECEIVABLE: taxed.total.minor, REVENUE: -net, LedgerAccount.TAX_PAYABLE: -tax}
    assert balances(entries_of_issue(taxed)) == {account: minor for account, minor in expected.items() if minor}


@given(invoices)
def test_at_the_end_of_every_month_what_was_earned_is_the_share_of_the_days(issued: Invoice) -> None:
    """By a count of the days one by one, to less than a minor unit for each month and line."""
    for_days = [each for each in issued.lines if each.usage is None]
    found = entries_of_issue(issued)
    for nth, entry in enumerate(each for each in found if each.event is Event.RECOGNIZED):
        exact = Fraction(sum(each.net_amount.minor for each in issued.lines if each.usage is not None))
        for each in for_days:
            start, end = (civil_date(moment, issued.time_zone) for moment in (each.period.start, each.period.end))
            whole = max((end - start).days, 1)
            through = max(entry.effective_date, issued.invoice_date)
            past = min(max((through - start).days + 1, 0), whole)
            exact += Fraction(each.net_amount.minor * past, whole)
        earned = -balances(found, entry.effective_date).get(REVENUE, 0)
        assert abs(earned - exact) < len(for_days) * (nth + 2)


@given(periods, st.sampled_from(ZONES), st.dates(min_value=date(2023, 1, 1), max_value=date(2030, 1, 1)))
def test_no_day_is_earned_twice_or_never(period: Period, zone: str, billed_on: date) -> None:
    """The days of a period are those before the invoice, and those of the months after it."""
    earned, months = schedule(period, zone, billed_on)
    start, end = civil_date(period.start, zone), civil_date(period.end, zone)
    assert earned + sum(month.days for month in months) == max((end - start).days, 1)
    assert all(month.days >= 1 and (month.end + timedelta(days=1)).day == 1 for month in months)
    assert all(month.end > billed_on - timedelta(days=1) for month in months)


@given(st.integers(min_value=-(10**6), max_value=10**6), st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=9))
def test_a_share_of_whatever_sign_loses_nothing(whole: int, parts: list[int]) -> None:
    """Also where charges and credits are mixed; and what is in proportion stays so."""
    found = shares(whole, parts)
    assert sum(found) == whole
    assert len(found) == len(parts)
    assert shares(sum(parts) * 3, parts) == [3 * part for part in parts] or not sum(parts)
