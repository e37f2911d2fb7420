"""Knows how the books of a seller become a file for beancount, which proves them with its own arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from google.type import date_pb2

from common import wire
from common.money import Money
from saldo.invoicing.v1 import ledger_service_pb2 as pb
from saldo.invoicing.v1.ledger_pb2 import LedgerAccount, LedgerEntry
from tools.client import Client, pages

ENTRIES_PER_PAGE: Final = 1_000
PAGES_MAX: Final = 100_000
"""A hundred million entries."""
DAY: Final = timedelta(days=1)

NAMES: Final = {
    LedgerAccount.RECEIVABLE: "Assets:Receivable",
    LedgerAccount.CASH: "Assets:Cash",
    LedgerAccount.REVENUE: "Income:Revenue",
    LedgerAccount.DEFERRED_REVENUE: "Liabilities:DeferredRevenue",
    LedgerAccount.DISCOUNTS: "Income:Discounts",
    LedgerAccount.TAX_PAYABLE: "Liabilities:TaxPayable",
    LedgerAccount.CUSTOMER_CREDIT: "Liabilities:CustomerCredit",
    LedgerAccount.REFUNDS_PAYABLE: "Liabilities:RefundsPayable",
    LedgerAccount.PROMOTIONAL_CREDIT: "Expenses:PromotionalCredit",
    LedgerAccount.WRITE_OFFS: "Expenses:WriteOffs",
    LedgerAccount.ROUNDING: "Expenses:Rounding",
    LedgerAccount.CREDIT_TRANSFERS: "Equity:CreditTransfers",
}
OF_CUSTOMERS: Final = (LedgerAccount.RECEIVABLE, LedgerAccount.CUSTOMER_CREDIT)
"""Of each customer on its own, below the account of all."""


class BooksMoved(Exception):
    """Something was posted while the books were read, so that entries and balances are not of one moment."""


async def today(client: Client) -> date:
    """The day of the books: that of a sandbox is its own."""
    found = await client.ledger.GetTrialBalance(pb.GetTrialBalanceRequest())
    return parse_day(found.as_of_date)


async def beancount(client: Client, *, start: date | None, end: date) -> AsyncIterator[str]:
    """The file, line by line: every entry of these days, both included, after what all accounts held before, and the
    trial balance of the last day for beancount to check. Fails with BooksMoved.
    """
    file = _File(start)
    yield "; The books of a seller, as of " + end.isoformat()
    request = pb.ListLedgerEntriesRequest(end_date=wire.date(end), page_size=ENTRIES_PER_PAGE)
    answer = pb.ListLedgerEntriesResponse
    async for page in pages(client.ledger.ListLedgerEntries, request, answer, pages_max=PAGES_MAX):
        for entry in page.entries:
            for text in file.entry(entry):
                yield text
    for text in file.opening(end):
        yield text
    trial = await client.ledger.GetTrialBalance(pb.GetTrialBalanceRequest(as_of_date=wire.date(end)))
    for balance in trial.balances:
        for text in file.balance(balance.account, wire.parse_money(balance.balance, field="balance"), end):
            yield text
    if file.unproven:
        raise BooksMoved(f"{', '.join(sorted(file.unproven))} changed while the books were read: export them again")


@dataclass(slots=True)
class _File:
    start: date | None
    held: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """What accounts hold when the first day begins, by currency."""
    sums: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    opened: set[str] = field(default_factory=set)
    unproven: set[str] = field(default_factory=set)
    is_open: bool = False

    def entry(self, entry: LedgerEntry) -> Iterator[str]:
        day = parse_day(entry.effective_date)
        postings = [
            (_name(posting.account, entry.customer_id), wire.parse_money(posting.amount, field="amount"))
            for posting in entry.postings
        ]
        for posting, (_, amount) in zip(entry.postings, postings, strict=True):
            self.sums[NAMES[posting.account], amount.currency] += amount.minor
        if self.start is not None and day < self.start:
            for name, amount in postings:
                self.held[name, amount.currency] += amount.minor
            return
        yield from self.opening(day)
        words = f"{LedgerEntry.DocumentKind.Name(entry.document_kind)} {LedgerEntry.Event.Name(entry.event)}"
        narration = f"{words} {entry.invoice_number}".strip()
        link = f" ^{entry.invoice_id}" if entry.invoice_id else ""
        yield from self._transaction(day, f"{_quoted(entry.customer_id)} {_quoted(narration)}{link}", postings, entry)

    def opening(self, day: date) -> Iterator[str]:
        """What was held before, once, on the first day or the first on which there is something."""
        if self.is_open:
            return
        self.is_open = True
        held = [(name, Money(minor, currency)) for (name, currency), minor in sorted(self.held.items()) if minor]
        if held:
            yield from self._transaction(self.start or day, '"Opening balances"', held)

    def balance(self, account: LedgerAccount.ValueType, balance: Money, end: date) -> Iterator[str]:
        """To be found when the day after begins, to the last digit: beancount is content with less by default."""
        name = NAMES[account]
        if self.sums[name, balance.currency] != balance.minor:
            self.unproven.add(name)
        yield from self._open(name, end)
        yield f"{(end + DAY).isoformat()} balance {name}  {balance.amount:f} ~ 0 {balance.currency}"

    def _transaction(
        self, day: date, words: str, postings: list[tuple[str, Money]], entry: LedgerEntry | None = None
    ) -> Iterator[str]:
        for name, _ in postings:
            yield from self._open(name, day)
        yield ""
        yield f"{day.isoformat()} * {words}"
        if entry is not None:
            yield f"  entry: {_quoted(entry.id)}"
            yield f"  document: {_quoted(entry.document_id)}"
        for name, amount in postings:
            yield f"  {name}  {amount.amount:f} {amount.currency}"

    def _open(self, name: str, day: date) -> Iterator[str]:
        """An account, and the one above it, which has balances too."""
        above = ":".join(name.split(":")[:2])
        for each in (above, name):
            if each not in self.opened:
                self.opened.add(each)
                yield f"{day.isoformat()} open {each}"


def parse_day(day: date_pb2.Date) -> date:
    return wire.parse_date(day, field="date")


def _name(account: LedgerAccount.ValueType, customer_id: str) -> str:
    """`cus_01h4…` is `CUS-01H4…`: the words of an account begin with a capital, and have no underscore."""
    if account not in OF_CUSTOMERS or not customer_id:
        return NAMES[account]
    return f"{NAMES[account]}:{customer_id.upper().replace('_', '-')}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
