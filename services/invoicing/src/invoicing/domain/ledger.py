"""Knows the books: what every document moves between which accounts, and when what was billed in advance is earned.

    an invoice of 31.00 for January, dated the 1st, and its payment on the 9th
    1 January     ISSUED        RECEIVABLE       31.00    REVENUE      -1.00    DEFERRED_REVENUE  -30.00
    31 January    RECOGNIZED    DEFERRED_REVENUE 30.00    REVENUE     -30.00
    9 January     PAID          CASH             31.00    RECEIVABLE  -31.00

Debits are positive, credits negative, and an entry adds up to nothing. Revenue is recognized over the time that it is
paid for, as IFRS 15 (paragraphs 35 and 39) and ASC 606 (606-10-25-27 and 25-31) want it of what a customer receives
and consumes day by day: straight-line, by civil days in the time zone of the invoice. The days through the date of the
invoice are earned with it, and so is usage, which is billed after it happened. The rest is deferred, and earned at the
end of each civil month. These entries are made with the invoice and dated ahead, so the books of any day are the
entries up to it, and nothing has to run at the end of a month. A credit is the mirror image of what it takes back:
of days to come it takes off what is deferred, of days that have passed what was earned.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from common.money import Money, round_half_up
from common.period import Period, civil_date
from invoicing.domain.invoice import Invoice, InvoiceId

MONTHS_MAX: Final = 1_200
"""Of one invoice: what is paid for more than a hundred years in advance is earned with the last of them."""
_SCHEDULES_MAX: Final = 1_000
_DAY: Final = timedelta(days=1)


class LedgerAccount(Enum):
    """The chart of accounts. It is fixed; beside each stands where it normally has its balance."""

    RECEIVABLE = "RECEIVABLE"
    """Debit. What customers owe: of each customer by the entries that are its own."""
    CASH = "CASH"
    """Debit. Money that payments told of, until the books of the bank take it over."""
    REVENUE = "REVENUE"
    """Credit. What was earned, less discounts, without tax."""
    DEFERRED_REVENUE = "DEFERRED_REVENUE"
    """Credit. What was billed and is not earned yet."""
    DISCOUNTS = "DISCOUNTS"
    """Debit, against revenue. For discounts that come after the invoice: those that are on it make its revenue less."""
    TAX_PAYABLE = "TAX_PAYABLE"
    """Credit. Tax that was billed and is owed to an authority."""
    CUSTOMER_CREDIT = "CUSTOMER_CREDIT"
    """Credit. What customers have to their credit: of each as RECEIVABLE."""
    REFUNDS_PAYABLE = "REFUNDS_PAYABLE"
    """Credit. What is to be paid back and has not been."""
    PROMOTIONAL_CREDIT = "PROMOTIONAL_CREDIT"
    """Debit. Credit that was given away: an expense."""
    WRITE_OFFS = "WRITE_OFFS"
    """Debit. What was owed and is given up: an expense."""
    ROUNDING = "ROUNDING"
    """Either. What totals were rounded by to an amount that can be paid."""


class DocumentKind(Enum):
    """What an entry was made for."""

    INVOICE = "INVOICE"
    PAYMENT = "PAYMENT"
    CREDIT_GRANT = "CREDIT_GRANT"


class Event(Enum):
    """What happened to the document."""

    ISSUED = "ISSUED"
    CREDIT_APPLIED = "CREDIT_APPLIED"
    """It took up credit of the customer when it was issued."""
    RECOGNIZED = "RECOGNIZED"
    """Some of what it deferred is earned."""
    PAID = "PAID"
    CREDIT_GRANTED = "CREDIT_GRANTED"
    CREDIT_COMMITTED = "CREDIT_COMMITTED"
    """Credit that was set aside was used, for what no invoice billed."""
    CREDIT_EXPIRED = "CREDIT_EXPIRED"
    CREDIT_REVOKED = "CREDIT_REVOKED"


class Posting(NamedTuple):
    account: LedgerAccount
    minor: int
    """In the minor units of the entry's currency: a debit positive, a credit negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one document moved on one day. One that does not add up to nothing cannot be made."""

    customer_id: str
    document_kind: DocumentKind
    document_id: str
    event: Event
    ordinal: int = 1
    """Of several that a document has with the same event, from 1."""
    invoice_id: InvoiceId
    """The invoice that it concerns."""
    currency: str
    effective_date: date
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        accounts = {posting.account for posting in self.postings}
        if len(self.postings) < 2 or len(accounts) < len(self.postings):
            raise ValueError(f"an entry moves something between different accounts: {self.postings}")
        if any(posting.minor == 0 for posting in self.postings):
            raise ValueError(f"a posting of nothing: {self.postings}")
        if sum(posting.minor for posting in self.postings) != 0:
            raise ValueError(f"debits and credits differ: {self.postings}")

    @property
    def moved(self) -> Owed:
        """By how much more the customer owes, and has to its credit."""
        by_account = dict(self.postings)
        return Owed(
            Money(by_account.get(LedgerAccount.RECEIVABLE, 0), self.currency),
            Money(-by_account.get(LedgerAccount.CUSTOMER_CREDIT, 0), self.currency),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An entry as it stands in the books."""

    id: str
    entry: Entry
    number: str
    """The number of the invoice that it concerns; empty if it concerns none."""
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account in one currency, on some day."""

    account: LedgerAccount
    debits: Money
    credits: Money
    """Told as a positive amount, as debits are."""

    @property
    def balance(self) -> Money:
        """A debit balance is positive, a credit balance negative: over all accounts of a currency they are nothing."""
        return self.debits - self.credits


class Owed(NamedTuple):
    """How a customer stands in one currency."""

    receivable: Money
    credit: Money
    """What the customer has to its credit."""

    def after(self, entry: Entry) -> Owed:
        return Owed(self.receivable + entry.moved.receivable, self.credit + entry.moved.credit)


class Movement(NamedTuple):
    """What changed what a customer owes, and how the customer stands after it."""

    recorded: Recorded
    owed: Owed


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A page of the movements of a customer between two days; the balances are those of all pages."""

    opening: Owed
    closing: Owed
    movements: tuple[Movement, ...]
    is_end: bool


def entries_of_issue(invoice: Invoice) -> tuple[Entry, ...]:
    """What issuing an invoice posts, on its date and at the end of each month that it bills in advance."""
    day = invoice.invoice_date
    # Credit that is bought earns nothing: when it is paid, what was deferred becomes credit.
    bought = invoice.total.minor if invoice.top_up_rule_id else 0
    earned, deferred = (0, []) if bought else _earned(invoice, billed_on=day)
    moved = {
        LedgerAccount.RECEIVABLE: invoice.total.minor,
        LedgerAccount.REVENUE: -earned,
        LedgerAccount.DEFERRED_REVENUE: -bought - sum(minor for _, minor in deferred),
        LedgerAccount.TAX_PAYABLE: -sum(tax.amount.minor for tax in invoice.taxes),
        LedgerAccount.ROUNDING: -invoice.rounding.minor,
    }
    credit = invoice.credit_applied.minor
    return (
        *_entries(invoice, Event.ISSUED, [(day, moved)]),
        *_entries(
            invoice,
            Event.CREDIT_APPLIED,
            [(day, {LedgerAccount.CUSTOMER_CREDIT: credit, LedgerAccount.RECEIVABLE: -credit})],
        ),
        *_entries(
            invoice,
            Event.RECOGNIZED,
            [(end, {LedgerAccount.DEFERRED_REVENUE: minor, LedgerAccount.REVENUE: -minor}) for end, minor in deferred],
        ),
    )


def entries_of_payment(invoice: Invoice, *, payment_id: str, amount: Money, at: datetime) -> tuple[Entry, ...]:
    """What a payment of an invoice posts, on the civil day on which it was taken in."""
    return (
        Entry(
            customer_id=invoice.customer_id,
            document_kind=DocumentKind.PAYMENT,
            document_id=payment_id,
            event=Event.PAID,
            invoice_id=invoice.id,
            currency=amount.currency,
            effective_date=civil_date(at, invoice.time_zone),
            postings=(Posting(LedgerAccount.CASH, amount.minor), Posting(LedgerAccount.RECEIVABLE, -amount.minor)),
        ),
    )


def _entries(
    invoice: Invoice, event: Event, moves: Iterable[tuple[date, Mapping[LedgerAccount, int]]]
) -> Iterator[Entry]:
    """One for each day on which something moves, numbered."""
    ordinal = 0
    for day, moved in moves:
        postings = tuple(Posting(account, minor) for account, minor in moved.items() if minor)
        if not postings:
            continue
        ordinal += 1
        yield Entry(
            customer_id=invoice.customer_id,
            document_kind=DocumentKind.INVOICE,
            document_id=invoice.id,
            event=event,
            ordinal=ordinal,
            invoice_id=invoice.id,
            currency=invoice.currency,
            effective_date=day,
            postings=postings,
        )


def _earned(invoice: Invoice, *, billed_on: date) -> tuple[int, list[tuple[date, int]]]:
    """Minor units of all lines without tax: those earned with the invoice, and the others by the last day of the month
    that earns them, in order.
    """
    earned = 0
    by_month: dict[date, int] = defaultdict(int)
    for line in invoice.lines:
        net = line.amount.minor - sum(each.amount.minor for each in line.discounts)
        days, months = schedule(line.period, invoice.time_zone, billed_on) if line.usage is None else (0, ())
        if not months:
            earned += net
            continue
        first, *others = Money(net, invoice.currency).allocate([days, *(month.days for month in months)])
        earned += first.minor
        for month, share in zip(months, others, strict=True):
            by_month[month.end] += share.minor
    deferred = _bounded(sorted(by_month.items()))
    included = sum(tax.amount.minor for tax in invoice.taxes if tax.is_included)
    if not included:
        return earned, deferred
    tax, *taxes = shares(included, [earned, *(minor for _, minor in deferred)])
    return earned - tax, [(end, minor - tax) for (end, minor), tax in zip(deferred, taxes, strict=True)]


def _bounded(months: list[tuple[date, int]]) -> list[tuple[date, int]]:
    """Every line keeps within the bound by itself, but they need not begin together."""
    kept, rest = months[:MONTHS_MAX], months[MONTHS_MAX:]
    if rest:
        end, minor = kept[-1]
        kept[-1] = (end, minor + sum(more for _, more in rest))
    return kept


def shares(whole: int, parts: Sequence[int]) -> list[int]:
    """A whole in proportion to parts of either sign; all of it to the first if they add up to nothing.

    What the parts up to one come to is rounded, not each part: nothing is lost, and no sum is off by more than half.
    """
    total = sum(parts)
    if not total:
        return [whole, *(0 for _ in parts[1:])]
    marks = [round_half_up(Fraction(whole * through, total)) for through in accumulate(parts)]
    return [mark - before for before, mark in pairwise([0, *marks])]


class Month(NamedTuple):
    """A civil month, and how many days of a period are earned in it."""

    end: date
    """Its last day."""
    days: int


@functools.lru_cache(maxsize=_SCHEDULES_MAX)
def schedule(period: Period, zone: str, billed_on: date) -> tuple[int, tuple[Month, ...]]:
    """How many civil days of a period are earned on the day that it is billed, and how many in each month after that.

    A period inside of one civil day is that day.
    """
    start = civil_date(period.start, zone)
    end = max(civil_date(period.end, zone), start + _DAY)
    earned = min(max((billed_on - start).days + 1, 0), (end - start).days)
    day = start + timedelta(days=earned)
    months: list[Month] = []
    while day < end:
        after = _month_after(day)
        until = min(after, end) if len(months) < MONTHS_MAX - 1 else end
        months.append(Month(after - _DAY, (until - day).days))
        day = until
    return earned, tuple(months)


def _month_after(day: date) -> date:
    """The first day of the month after that of `day`."""
    return (day.replace(day=1) + 32 * _DAY).replace(day=1)
