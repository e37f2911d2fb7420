"""Knows the life of an invoice: assembled as a draft, finalized, paid, or ended otherwise.

DRAFT ──finalize──► OPEN ──pay, credit──► PAID   what leaves nothing to pay is paid when it is finalized
                     │ │                   ▲
                     │ └─ write_off ──► UNCOLLECTIBLE ──pay, credit──► PAID
                     │
                     ├─ void ──► VOID            as long as no money came in, also from the other states
                     └─ mark_overdue             a note on it, not a state

    subtotal              what the lines come to
    - discount_total      what was taken off them, before tax
    + tax                 that the lines do not include
    + rounding            of the payable amount, where cash or a buyer wants it rounded (BT-114 of EN 16931)
    = total
    - credit_applied      the customer's credit that it took up when it was finalized
    = amount_due
    - amount_paid
    - amount_credited     the debt that credit notes cancelled
    - amount_written_off
    = amount_remaining
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Final, NewType

from common.money import Money, sum_money
from common.period import civil_date
from invoicing.domain.consolidation import Bill
from invoicing.domain.consolidation_policy import Consolidation
from invoicing.domain.discount import GivenDiscount
from invoicing.domain.errors import (
    InvoiceHasPayments,
    InvoiceHeld,
    InvoiceIsVoid,
    InvoiceNotDraft,
    InvoiceNotFinalized,
    InvoiceNotHeld,
    InvoiceNotManual,
    InvoiceNotOpen,
    InvoiceNotOverdue,
    InvoiceNotOwed,
    InvoiceTooLong,
    InvoiceWithoutNumber,
    NegativeTotal,
    NoLines,
    PaymentExceedsRemaining,
    PaymentNotPositive,
    TooManyLines,
)
from invoicing.domain.line import Line
from invoicing.domain.party import CollectionMethod, Customer, Party, Seller
from invoicing.domain.sections import Section, is_divided, named, sections
from invoicing.domain.tax import TaxLine

InvoiceId = NewType("InvoiceId", str)

OVERDUE_AFTER: Final = timedelta(days=1)
"""Money that is on its way on the last day is not late."""

LINES_MAX: Final = 10_000
"""On one invoice, whoever pays for however many: as many as an event can tell of, each in the fewest words."""

LINES_WRITTEN_MAX: Final = 1_000
"""On an invoice that somebody writes by hand."""


class State(Enum):
    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    VOID = "VOID"
    UNCOLLECTIBLE = "UNCOLLECTIBLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    id: InvoiceId
    number: str
    """Empty in a draft, and in an invoice of nothing that is no document."""
    state: State
    customer_id: str
    seller: Party | None
    customer: Party | None
    """The parties as they were when it was finalized; None in a draft."""
    currency: str
    lines: tuple[Line, ...]
    taxes: tuple[TaxLine, ...] = ()
    tax_time: datetime | None = None
    """As of when its taxes were asked for; None for what was made before there were any."""
    given_discounts: tuple[GivenDiscount, ...] = ()
    """What was given by hand off all lines together."""
    rounding: Money
    credit_applied: Money
    amount_paid: Money
    amount_credited: Money
    amount_written_off: Money
    collection_method: CollectionMethod
    time_zone: str
    bill_time: datetime
    finalize_time: datetime | None
    """When it will be finalized, or was; None for one that is only looked ahead to, or that waits for somebody."""
    due_time: datetime | None
    paid_time: datetime | None
    overdue_time: datetime | None
    void_time: datetime | None = None
    uncollectible_time: datetime | None = None
    """When it was given up, also if the money came in after all."""
    revision: int
    create_time: datetime
    hold_reason: str = ""
    """Why the draft is not finalized, though its time may have come; empty if nothing holds it."""
    consolidation: Consolidation | None = None
    """Why its lines are together; None for one of before that was kept."""
    top_up_rule_id: str = ""
    """The rule that wanted it, of an invoice that buys credit; empty in all others."""
    is_manual: bool = False
    """Whether somebody wrote it: no bill run adds to it, and its draft waits for somebody."""
    net_terms_days: int | None = None
    """How long it may take to be paid, if that is not as with the customer."""
    memo: str = ""
    purchase_order: str = ""
    section_names: Mapping[str, str] = field(default_factory=dict)
    """What its sections are called, by id: in a draft the subscriptions, finalized also the customers it was paid for.
    Empty where it takes no sections to tell what a line is about, and of before names were kept.
    """

    @classmethod
    def draft(
        cls,
        *,
        id: InvoiceId,  # noqa: A002
        customer: Customer,
        bill: Bill,
        at: datetime,
        grace: timedelta,
        hold_reason: str = "",
        names: Mapping[str, str] | None = None,
    ) -> Invoice:
        """`names` are those of subscriptions, by id."""
        nothing = Money.zero(bill.currency)
        _check_length(len(bill.lines), customer.party.id)
        return cls(
            id=id,
            number="",
            state=State.DRAFT,
            customer_id=customer.party.id,
            seller=None,
            customer=None,
            currency=bill.currency,
            lines=bill.lines,
            rounding=nothing,
            credit_applied=nothing,
            amount_paid=nothing,
            amount_credited=nothing,
            amount_written_off=nothing,
            collection_method=customer.collection_method,
            time_zone=customer.time_zone,
            bill_time=bill.bill_time,
            finalize_time=at + grace,
            due_time=None,
            paid_time=None,
            overdue_time=None,
            revision=1,
            create_time=at,
            hold_reason=hold_reason,
            consolidation=bill.consolidation,
            section_names=named(bill.lines, names or {}),
        )

    @property
    def subtotal(self) -> Money:
        return sum_money((line.amount for line in self.lines), self.currency)

    @property
    def discount_total(self) -> Money:
        return sum_money((line.discount for line in self.lines if line.discounts), self.currency)

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

    @property
    def amount_due(self) -> Money:
        """What the document asks for."""
        return self.total - self.credit_applied

    @property
    def amount_remaining(self) -> Money:
        return self.amount_due - self.amount_paid - self.amount_credited - self.amount_written_off

    @property
    def is_of_nothing(self) -> bool:
        """Whether each of its lines comes to nothing. Lines that cancel out, and a price that a discount took off, are
        to be seen on a document; what somebody wrote is wanted as one.
        """
        return not self.is_manual and not any(line.amount.minor for line in self.lines) and not self.total.minor

    @property
    def consolidation_key(self) -> str:
        """The same for the same declared keys and values: drafts of one moment are told apart by it."""
        return "" if self.consolidation is None else self.consolidation.fingerprint

    @property
    def sections(self) -> tuple[Section, ...]:
        names = self.section_names
        if self.customer is not None:
            names = {**names, self.customer_id: self.customer.display_name}
        return sections(self.lines, customer_id=self.customer_id, currency=self.currency, names=names)

    @property
    def debt(self) -> Money:
        """What the customer owes by law: also what was given up."""
        return self.amount_remaining + self.amount_written_off

    @property
    def invoice_date(self) -> date:
        """The civil date it was billed for, also when it is finalized later."""
        return civil_date(self.bill_time, self.time_zone)

    @property
    def overdue_from(self) -> datetime | None:
        """When it is to be marked overdue; None when there is no reason to."""
        if self.state is not State.OPEN or self.due_time is None or self.overdue_time is not None:
            return None
        return self.due_time + OVERDUE_AFTER

    @property
    def is_waiting(self) -> bool:
        """Whether a draft that is made has something to wait for: late usage, or somebody's word."""
        assert self.finalize_time is not None, "only what is looked ahead to, or waits for somebody, has none"
        return self.state is State.DRAFT and (self.finalize_time > self.create_time or self.hold_reason != "")

    def used_by(self, line: Line) -> str:
        """Which customer a line is about."""
        return line.customer_id or self.customer_id

    def add(
        self,
        lines: Sequence[Line],
        *,
        because: Consolidation | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Invoice:
        """Bill more things with it, which have the same keys."""
        self._must_be_draft()
        _check_length(len(self.lines) + len(lines), self.customer_id)
        both = self.consolidation.beside(because) if self.consolidation and because else self.consolidation
        lines = (*self.lines, *lines)
        return replace(
            self,
            lines=lines,
            consolidation=both,
            section_names=named(lines, {**self.section_names, **(names or {})}),
            revision=self.revision + 1,
        )

    def hold(self, reason: str) -> Invoice:
        """Keep it from being finalized until it is released; the reason may be given anew."""
        self._must_be_draft()
        return replace(self, hold_reason=reason, revision=self.revision + 1)

    def release(self) -> Invoice:
        """Let it be finalized when its time comes, or has come."""
        self._must_be_draft()
        if not self.hold_reason:
            raise InvoiceNotHeld(f"nothing holds invoice {self.id}", invoice=self.id)
        return replace(self, hold_reason="", revision=self.revision + 1)

    def with_lines(self, lines: Sequence[Line]) -> Invoice:
        """The same things, computed anew."""
        self._must_be_draft()
        return replace(self, lines=tuple(lines))

    def with_taxes(self, lines: Sequence[Line], taxes: Sequence[TaxLine], *, as_of: datetime) -> Invoice:
        """The lines with the rates that they carry, and what those come to."""
        self._must_be_draft()
        return replace(self, lines=tuple(lines), taxes=tuple(taxes), tax_time=as_of)

    def with_credit(self, amount: Money) -> Invoice:
        """Covered by the customer's credit, as far as there is any."""
        self._must_be_draft()
        return replace(self, credit_applied=amount)

    def rewritten(self, lines: Sequence[Line]) -> Invoice:
        """Other lines than before, as somebody wants them."""
        self._must_be_draft()
        if not self.is_manual:
            raise InvoiceNotManual(f"the lines of {self.id} follow from what was agreed and used", invoice=self.id)
        if len(lines) > LINES_WRITTEN_MAX:
            raise TooManyLines(f"{self.id} would have more than {LINES_WRITTEN_MAX} lines", limit=LINES_WRITTEN_MAX)
        return replace(self, lines=tuple(lines), revision=self.revision + 1)

    def looked_ahead(self, names: Mapping[str, str]) -> Invoice:
        """What is not stored is never finalized either. Its sections are called as they will be then, by the names of
        customers and subscriptions.
        """
        called = named(self.lines, names) if is_divided(self.lines) else {}
        return replace(self, finalize_time=None, section_names={**called, self.customer_id: names[self.customer_id]})

    def dated(self, at: datetime) -> Invoice:
        """What somebody wrote is dated by the day on which it is issued, all else by what it bills."""
        return replace(self, bill_time=at) if self.is_manual else self

    def finalize(
        self,
        *,
        number: str,
        at: datetime,
        seller: Seller,
        customer: Customer,
        users: Mapping[str, str] | None = None,
    ) -> Invoice:
        """Freeze lines, parties and terms, and make the total due. What leaves nothing to pay is paid on the spot. Only
        what is of nothing may do without a number.

        What somebody wrote is on the terms that were written. `users` are what those are called that it is paid for.
        """
        self._must_be_draft()
        if self.hold_reason:
            raise InvoiceHeld(f"invoice {self.id} is held: {self.hold_reason}", invoice=self.id)
        if self.is_manual and not self.lines:
            raise NoLines(f"invoice {self.id} has no lines", invoice=self.id)
        if self.total.minor < 0:
            raise NegativeTotal(f"the lines of {self.id} add up to {self.total}", invoice=self.id, total=self.total)
        assert number or self.is_of_nothing, "whatever is owed stands on a document"
        settled = self.amount_due.minor == 0
        return replace(
            self,
            number=number,
            state=State.PAID if settled else State.OPEN,
            seller=seller.party,
            customer=customer.party,
            collection_method=self.collection_method if self.is_manual else customer.collection_method,
            finalize_time=at,
            due_time=at + self._net_terms(customer),
            section_names=named(self.lines, {**self.section_names, **(users or {})}) if is_divided(self.lines) else {},
            paid_time=at if settled else None,
            revision=self.revision + 1,
        )

    def takes_of(self, payment: Money) -> Money:
        """As much of a payment as is owed: nothing of what is void. The rest becomes the customer's credit."""
        if self.state is State.DRAFT:
            raise InvoiceNotOwed(f"invoice {self.id} is {self.state.name}", invoice=self.id, state=self.state)
        if payment.minor <= 0:
            raise PaymentNotPositive(f"{payment} is not a payment", invoice=self.id, amount=payment)
        nothing = Money.zero(self.currency)
        return nothing if self.state is State.VOID else min(payment, max(self.debt, nothing))

    def _net_terms(self, customer: Customer) -> timedelta:
        days = customer.net_terms_days if self.net_terms_days is None else self.net_terms_days
        return timedelta(days=days)

    def pay(self, amount: Money, *, at: datetime) -> Invoice:
        """Take in money, also of what was given up. When nothing is owed any more, the invoice is paid."""
        if self.state in (State.DRAFT, State.VOID):
            raise InvoiceNotOwed(f"invoice {self.id} is {self.state.name}", invoice=self.id, state=self.state)
        if amount.minor <= 0:
            raise PaymentNotPositive(f"{amount} is not a payment", invoice=self.id, amount=amount)
        if amount > self.debt:
            raise PaymentExceedsRemaining(
                f"{amount} is more than the {self.debt} that remain of {self.id}",
                invoice=self.id,
                amount=amount,
                remaining=self.debt,
            )
        return self._less_owed(amount, at=at, amount_paid=self.amount_paid + amount)

    def credit(self, amount: Money, *, at: datetime) -> Invoice:
        """A credit note cancels so much of the debt, or none of it."""
        self.check_issued()
        if not amount.minor:
            return self
        return self._less_owed(amount, at=at, amount_credited=self.amount_credited + amount)

    def void(self, *, at: datetime) -> Invoice:
        """It should not have been: a credit note takes all of it back, and cancels what is owed."""
        self.check_issued()
        if self.amount_paid.minor:
            raise InvoiceHasPayments(f"{self.amount_paid} was paid for invoice {self.id}", invoice=self.id)
        return replace(
            self,
            state=State.VOID,
            amount_credited=self.amount_credited + self.debt,
            amount_written_off=Money.zero(self.currency),
            void_time=at,
            revision=self.revision + 1,
        )

    def write_off(self, *, at: datetime) -> Invoice:
        """Give up what remains."""
        if self.state is not State.OPEN:
            raise InvoiceNotOpen(f"invoice {self.id} is {self.state.name}", invoice=self.id, state=self.state)
        return replace(
            self,
            state=State.UNCOLLECTIBLE,
            amount_written_off=self.amount_remaining,
            uncollectible_time=at,
            revision=self.revision + 1,
        )

    def check_issued(self) -> None:
        """Whether there is something to take back of it."""
        if self.state is State.DRAFT:
            raise InvoiceNotFinalized(f"invoice {self.id} is a draft", invoice=self.id)
        if self.state is State.VOID:
            raise InvoiceIsVoid(f"invoice {self.id} was annulled", invoice=self.id)

    def check_document(self) -> None:
        """Whether it is a document, which can be printed and corrected."""
        if self.state is State.DRAFT:
            raise InvoiceNotFinalized(f"invoice {self.id} is a draft", invoice=self.id)
        if not self.number:
            raise InvoiceWithoutNumber(f"invoice {self.id} is of nothing, and no document", invoice=self.id)

    def mark_overdue(self, *, at: datetime) -> Invoice:
        """Note, once, that it is past its due time."""
        if self.overdue_from is None or at < self.overdue_from:
            raise InvoiceNotOverdue(f"invoice {self.id} is {self.state.name} and not overdue", invoice=self.id)
        return replace(self, overdue_time=at, revision=self.revision + 1)

    def _less_owed(self, amount: Money, *, at: datetime, **changes: Money) -> Invoice:
        """What remains first, then what was given up: of an invoice only one of them is ever more than nothing."""
        settled = amount == self.debt
        given_up = max(amount - self.amount_remaining, Money.zero(self.currency))
        return replace(
            self,
            state=State.PAID if settled else self.state,
            amount_written_off=self.amount_written_off - given_up,
            paid_time=at if settled else None,
            revision=self.revision + 1,
            **changes,  # type: ignore[arg-type] # fields of an amount
        )

    def _must_be_draft(self) -> None:
        if self.state is not State.DRAFT:
            raise InvoiceNotDraft(f"invoice {self.id} is {self.state.name}", invoice=self.id, state=self.state)


def _check_length(line_count: int, customer_id: str) -> None:
    if line_count > LINES_MAX:
        message = f"an invoice of customer {customer_id} would have {line_count} lines"
        raise InvoiceTooLong(message, customer=customer_id, limit=LINES_MAX)
