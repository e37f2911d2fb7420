"""Knows a credit note: what it takes back of one invoice, and what becomes of that money.

    its lines             parts of lines of the invoice
    - discount_total      the share of their discounts, which is not given back
    + tax                 that the lines do not include
    + rounding            of the invoice, with the last that is left of it
    = total
    = debt                that need not be paid any more
    + customer_credit     that the customer has from then on
    + refund              that is paid back: all at once or bit by bit, by whoever moves money

All are positive where they take back something that was owed. Only what became of the refund ever changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import NewType, Self

from common.money import Money, sum_money
from common.period import civil_date
from invoicing.domain.errors import (
    CreditExceedsInvoice,
    CreditNoteNotPositive,
    NothingLeftToCredit,
    RefundExceedsPayments,
    RefundExceedsPending,
    SettlementDiffersFromTotal,
    SettlementExceedsDebt,
)
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.party import Party
from invoicing.domain.tax import TaxLine

CreditNoteId = NewType("CreditNoteId", str)


class NoteKind(Enum):
    CREDIT = "CREDIT"
    VOID = "VOID"
    """The invoice should not have been: all that is left of it is taken back."""


class Reason(Enum):
    DUPLICATE = "DUPLICATE"
    ORDER_CHANGE = "ORDER_CHANGE"
    PRODUCT_UNSATISFACTORY = "PRODUCT_UNSATISFACTORY"
    FRAUDULENT = "FRAUDULENT"
    BILLING_ERROR = "BILLING_ERROR"
    LATE_USAGE = "LATE_USAGE"
    OTHER = "OTHER"


class Preference(Enum):
    """Where the money goes, when nobody says it to the cent."""

    DEBT_FIRST = "DEBT_FIRST"
    REFUND_FIRST = "REFUND_FIRST"
    """What was paid for it goes back, as far as it is worth more than what the customer keeps; then as DEBT_FIRST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditLine:
    """What is taken back of one line of the invoice."""

    line_id: str
    description: str
    quantity: Decimal | None
    """None where it is an amount, or a share."""
    unit_label: str
    amount: Money
    """Of the amount of the line, before discounts; below zero for a line that was."""
    discount: Money
    """The share of its discounts."""

    @property
    def net_amount(self) -> Money:
        return self.amount - self.discount


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What is taken back of an invoice, before anybody has decided what becomes of it."""

    lines: tuple[CreditLine, ...]
    taxes: tuple[TaxLine, ...]
    rounding: Money
    refundable: Money
    """How much of it can be paid back, at most, as REFUND_FIRST wants it."""

    @property
    def currency(self) -> str:
        return self.rounding.currency

    @property
    def subtotal(self) -> Money:
        return sum_money((line.amount for line in self.lines), self.currency)

    @property
    def discount_total(self) -> Money:
        return sum_money((line.discount for line in self.lines), self.currency)

    @property
    def tax_total(self) -> Money:
        """Of all taxes, whether the lines include them or not."""
        return sum_money((tax.amount for tax in self.taxes), self.currency)

    @property
    def total(self) -> Money:
        added = sum_money((tax.amount for tax in self.taxes if not tax.is_included), self.currency)
        return self.subtotal - self.discount_total + added + self.rounding

    @property
    def total_excluding_tax(self) -> Money:
        return self.total - self.rounding - self.tax_total


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of the total of a credit note."""

    debt: Money
    customer_credit: Money
    refund: Money

    @property
    def total(self) -> Money:
        return self.debt + self.customer_credit + self.refund


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    id: CreditNoteId
    """Empty, as the number, in one that is only looked ahead to."""
    number: str
    kind: NoteKind
    invoice_id: InvoiceId
    invoice_number: str
    customer_id: str
    seller: Party
    customer: Party
    """The parties as they are on the invoice."""
    reason: Reason
    memo: str
    taken: Taken
    settlement: Settlement
    refunded: Money
    """How much of the refund has been paid back."""
    time_zone: str
    issue_time: datetime
    revision: int

    @classmethod
    def of(
        cls,
        invoice: Invoice,
        taken: Taken,
        settlement: Settlement,
        *,
        kind: NoteKind,
        reason: Reason,
        memo: str,
        at: datetime,
    ) -> Self:
        """Without an id and a number."""
        assert invoice.seller is not None, "only what is finalized is credited"
        assert invoice.customer is not None, "as above"
        return cls(
            id=CreditNoteId(""),
            number="",
            kind=kind,
            invoice_id=invoice.id,
            invoice_number=invoice.number,
            customer_id=invoice.customer_id,
            seller=invoice.seller,
            customer=invoice.customer,
            reason=reason,
            memo=memo,
            taken=taken,
            settlement=settlement,
            refunded=Money.zero(invoice.currency),
            time_zone=invoice.time_zone,
            issue_time=at,
            revision=1,
        )

    @property
    def currency(self) -> str:
        return self.taken.currency

    @property
    def lines(self) -> tuple[CreditLine, ...]:
        return self.taken.lines

    @property
    def total(self) -> Money:
        return self.taken.total

    @property
    def refund_pending(self) -> Money:
        return self.settlement.refund - self.refunded

    @property
    def issue_date(self) -> date:
        return civil_date(self.issue_time, self.time_zone)

    def numbered(self, *, id: CreditNoteId, number: str) -> Self:  # noqa: A002
        return replace(self, id=id, number=number)

    def refund(self, amount: Money) -> Self:
        """Money was paid back."""
        if not amount.minor > 0 or amount > self.refund_pending:
            raise RefundExceedsPending(
                f"{amount} is not of the {self.refund_pending} that {self.id} has left to be paid back",
                credit_note=self.id,
                amount=amount,
                pending=self.refund_pending,
            )
        return replace(self, refunded=self.refunded + amount, revision=self.revision + 1)


def check_creditable(invoice: Invoice, earlier: Sequence[CreditNote], taken: Taken) -> None:
    """Whether so much may be taken back: something, and not more than the invoice came to."""
    if not taken.lines:
        raise NothingLeftToCredit(f"nothing is left to be credited of invoice {invoice.id}", invoice=invoice.id)
    if taken.total.minor <= 0:
        raise CreditNoteNotPositive(f"the credit note would come to {taken.total}", invoice=invoice.id)
    left = left_of(invoice, earlier)
    if taken.total > left:
        raise CreditExceedsInvoice(
            f"{taken.total} is more than the {left} left of invoice {invoice.id}", invoice=invoice.id, left=left
        )


def left_of(invoice: Invoice, earlier: Sequence[CreditNote]) -> Money:
    """What earlier notes have left of the total of an invoice."""
    return invoice.total - sum_money((note.total for note in earlier), invoice.currency)


def settled_by(invoice: Invoice, taken: Taken, preference: Preference) -> Settlement:
    """What becomes of it when nobody says so to the cent."""
    nothing = Money.zero(invoice.currency)
    refund = min(taken.refundable, taken.total) if preference is Preference.REFUND_FIRST else nothing
    debt = min(taken.total - refund, invoice.debt)
    return Settlement(debt=debt, customer_credit=taken.total - refund - debt, refund=refund)


def check_settlement(
    invoice: Invoice, earlier: Sequence[CreditNote], taken: Taken, settlement: Settlement
) -> Settlement:
    """What somebody wants to become of it, if that can be."""
    if settlement.total != taken.total:
        raise SettlementDiffersFromTotal(
            f"the parts add up to {settlement.total}, the credit note to {taken.total}", total=taken.total
        )
    if settlement.debt > invoice.debt:
        raise SettlementExceedsDebt(
            f"{settlement.debt} is more than the {invoice.debt} owed of invoice {invoice.id}",
            invoice=invoice.id,
            debt=invoice.debt,
        )
    refunds = sum_money((note.settlement.refund for note in earlier), invoice.currency)
    if settlement.refund > invoice.amount_paid - refunds:
        raise RefundExceedsPayments(
            f"{settlement.refund} is more than the {invoice.amount_paid - refunds} that was paid for {invoice.id}",
            invoice=invoice.id,
            left=invoice.amount_paid - refunds,
        )
    return settlement
