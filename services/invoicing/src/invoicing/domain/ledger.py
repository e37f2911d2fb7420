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
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import Enum
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from common.money import Money, round_half_up
from common.period import Period, civil_date
from invoicing.domain.credit_note import CreditNote
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import LineDiscount

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
    CREDIT_TRANSFERS = "CREDIT_TRANSFERS"
    """Nothing, over all customers: credit of one that was merged goes to the other by way of it."""


class DocumentKind(Enum):
    """What an entry was made for."""

    INVOICE = "INVOICE"
    PAYMENT = "PAYMENT"
    CREDIT_GRANT = "CREDIT_GRANT"
    CREDIT_NOTE = "CREDIT_NOTE"


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
    CREDIT_MOVED = "CREDIT_MOVED"
    """It went to the customer that its own was merged into."""
    CREDITED = "CREDITED"
    """It took back what was billed."""
    REFUNDED = "REFUNDED"
    """Money was paid back for it."""
    WRITTEN_OFF = "WRITTEN_OFF"
    """What remained was given up."""
    RECOVERED = "RECOVERED"
    """It brought in what had been given up."""


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


def entries_of_payment(
    invoice: Invoice, *, payment_id: str, amount: Money, at: datetime, recovered: Money | None = None
) -> tuple[Entry, ...]:
    """What a payment of an invoice posts, on the civil day on which it was taken in. `recovered`: how much of it had
    been given up, so that it is owed once more, and paid.
    """
    document = DocumentKind.PAYMENT, payment_id
    day = civil_date(at, invoice.time_zone)
    back = 0 if recovered is None else recovered.minor
    return (
        *_entries(
            invoice,
            Event.RECOVERED,
            [(day, {LedgerAccount.RECEIVABLE: back, LedgerAccount.WRITE_OFFS: -back})],
            document=document,
        ),
        *_entries(
            invoice,
            Event.PAID,
            [(day, {LedgerAccount.CASH: amount.minor, LedgerAccount.RECEIVABLE: -amount.minor})],
            document=document,
        ),
    )


def entries_of_credit_note(invoice: Invoice, note: CreditNote) -> tuple[Entry, ...]:
    """What a credit note posts, on its date: of days to come it takes off what is deferred, and what would have been
    earned at the end of each month; of days that have passed, what was earned. The `invoice` as it was before.
    """
    document = DocumentKind.CREDIT_NOTE, note.id
    day = max(note.issue_date, invoice.invoice_date)
    # Credit that was to be bought has earned nothing, so that there is only what was deferred to take back.
    bought = note.taken.total.minor if invoice.top_up_rule_id else 0
    earned, deferred = (0, []) if bought else _earned(_taken_back(invoice, note), billed_on=day)
    given_up = max(note.settlement.debt.minor - invoice.amount_remaining.minor, 0)
    moved = {
        LedgerAccount.REVENUE: earned,
        LedgerAccount.DEFERRED_REVENUE: bought + sum(minor for _, minor in deferred),
        LedgerAccount.TAX_PAYABLE: note.taken.tax_total.minor,
        LedgerAccount.ROUNDING: note.taken.rounding.minor,
        LedgerAccount.RECEIVABLE: given_up - note.settlement.debt.minor,
        LedgerAccount.WRITE_OFFS: -given_up,
        LedgerAccount.CUSTOMER_CREDIT: -note.settlement.customer_credit.minor,
        LedgerAccount.REFUNDS_PAYABLE: -note.settlement.refund.minor,
    }
    months = [(end, {LedgerAccount.REVENUE: minor, LedgerAccount.DEFERRED_REVENUE: -minor}) for end, minor in deferred]
    return (
        *_entries(invoice, Event.CREDITED, [(day, moved)], document=document),
        *_entries(invoice, Event.RECOGNIZED, months, document=document),
    )


def entries_of_refund(invoice: Invoice, note: CreditNote, *, amount: Money, at: datetime) -> tuple[Entry, ...]:
    """What paying money back posts. The `note` as it is afterwards: each time it was revised."""
    day = civil_date(at, note.time_zone)
    moved = {LedgerAccount.REFUNDS_PAYABLE: amount.minor, LedgerAccount.CASH: -amount.minor}
    document = DocumentKind.CREDIT_NOTE, note.id
    return tuple(_entries(invoice, Event.REFUNDED, [(day, moved)], document=document, first=note.revision - 1))


def entries_of_write_off(invoice: Invoice, *, at: datetime) -> tuple[Entry, ...]:
    """What giving up what remained posts."""
    minor = invoice.amount_written_off.minor
    moved = {LedgerAccount.WRITE_OFFS: minor, LedgerAccount.RECEIVABLE: -minor}
    return tuple(_entries(invoice, Event.WRITTEN_OFF, [(civil_date(at, invoice.time_zone), moved)]))


def _taken_back(invoice: Invoice, note: CreditNote) -> Invoice:
    """An invoice over what a credit note takes back."""
    taken = {line.line_id: line for line in note.lines}
    lines = tuple(
        replace(
            line,
            amount=taken[line.id].amount,
            discounts=(LineDiscount(discount_id="", description="", amount=taken[line.id].discount),),
        )
        for line in invoice.lines
        if line.id in taken
    )
    return replace(invoice, lines=lines, taxes=note.taken.taxes)


def _entries(
    invoice: Invoice,
    event: Event,
    moves: Iterable[tuple[date, Mapping[LedgerAccount, int]]],
    *,
    document: tuple[DocumentKind, str] | None = None,
    first: int = 1,
) -> Iterator[Entry]:
    """One for each day on which something moves, numbered; of the invoice, unless it is of another document."""
    kind, document_id = document or (DocumentKind.INVOICE, invoice.id)
    ordinal = first - 1
    for day, moved in moves:
        postings = tuple(Posting(account, minor) for account, minor in moved.items() if minor)
        if not postings:
            continue
        ordinal += 1
        yield Entry(
            customer_id=invoice.customer_id,
            document_kind=kind,
            document_id=document_id,
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
