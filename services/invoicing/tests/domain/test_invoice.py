"""The life of an invoice: every verb in every state moves it or raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from common.errors import FailedPrecondition
from common.money import Money
from common.period import Period
from invoicing.domain.consolidation import Bill
from invoicing.domain.errors import (
    InvoiceHasPayments,
    InvoiceHeld,
    InvoiceIsVoid,
    InvoiceNotDraft,
    InvoiceNotFinalized,
    InvoiceNotHeld,
    InvoiceNotOpen,
    InvoiceNotOverdue,
    InvoiceNotOwed,
    InvoiceWithoutNumber,
    NegativeTotal,
    PaymentExceedsRemaining,
    PaymentNotPositive,
)
from invoicing.domain.invoice import OVERDUE_AFTER, Invoice, InvoiceId, State
from invoicing.domain.issuing_policy import IssuingPolicy
from invoicing.domain.line import Line, LineDiscount, Usage
from invoicing.domain.party import CollectionMethod, Customer, Party, Seller
from invoicing.domain.steps import flat_step

# Midnight of 1 April in London, an hour before it is in UTC.
BILL_TIME = datetime(2026, 3, 31, 23, tzinfo=UTC)
LATER = BILL_TIME + timedelta(hours=1)
SELLER = Seller(party=Party(id="sel_1", display_name="Seller"), invoice_number_prefix="INV")
CUSTOMER = Customer(
    party=Party(id="cus_1", display_name="Customer"),
    external_id="",
    currency="GBP",
    time_zone="Europe/London",
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)


def line(pence: int, *, metered: bool = False) -> Line:
    period = Period(datetime(2026, 3, 1, tzinfo=UTC), BILL_TIME)
    usage = Usage(meter="kwh", quantity=Decimal(1), event_count=1, digest="d", through_position=1)
    exact = Money(pence, "GBP").amount
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
        steps=(flat_step("Fixed price", exact),),
        exact_amount=exact,
        proration=Fraction(1),
        usage=usage if metered else None,
        correction=0,
    )


def draft(*lines: Line) -> Invoice:
    bill = Bill(currency="GBP", bill_time=BILL_TIME, lines=lines)
    return Invoice.draft(id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=BILL_TIME, grace=timedelta(hours=1))


def finalized(*lines: Line) -> Invoice:
    return draft(*lines).finalize(number="INV-000001", at=LATER, seller=SELLER, customer=CUSTOMER)


def in_state(state: State) -> Invoice:
    if state is State.DRAFT:
        return draft(line(10_00))
    if state is State.PAID:
        return finalized(line(10_00)).pay(Money(10_00, "GBP"), at=LATER)
    invoice = finalized(line(10_00))
    if state is State.VOID:
        return invoice.void(at=LATER)
    return invoice.write_off(at=LATER) if state is State.UNCOLLECTIBLE else invoice


def test_an_invoice_is_dated_in_the_customers_zone() -> None:
    """Billed for midnight in London, it is dated the first, though it is still the 31st in UTC."""
    assert draft(line(1)).invoice_date == date(2026, 4, 1)


def test_only_usage_is_worth_waiting_for() -> None:
    """A draft without metered lines would only be sent later; one with them waits for the slowest of its meters."""
    hour, day = timedelta(hours=1), timedelta(days=1)
    power = line(2, metered=True)
    water = replace(power, usage=replace(power.usage, meter="water") if power.usage else None)
    policy = IssuingPolicy(grace=hour, meter_graces={"water": day, "kwh": timedelta()})
    assert policy.grace_of([line(1)], otherwise=day) == timedelta()
    assert policy.grace_of([line(1), power], otherwise=day) == timedelta()
    assert policy.grace_of([power, water], otherwise=hour) == day
    assert IssuingPolicy(grace=hour).grace_of([power], otherwise=day) == hour
    assert IssuingPolicy().grace_of([power], otherwise=day) == day
    assert IssuingPolicy(grace=timedelta()).grace_of([power], otherwise=day) == timedelta()


def test_a_draft_that_is_held_is_not_finalized() -> None:
    """Until it is released; what is final is held no more."""
    held = draft(line(1)).hold("Under review")
    assert (held.hold_reason, held.revision, held.is_waiting) == ("Under review", 2, True)
    with pytest.raises(InvoiceHeld):
        held.finalize(number="INV-000001", at=LATER, seller=SELLER, customer=CUSTOMER)
    released = held.release()
    assert released.finalize(number="INV-000001", at=LATER, seller=SELLER, customer=CUSTOMER).state is State.OPEN
    with pytest.raises(InvoiceNotHeld):
        released.release()
    for final in (finalized(line(1)), in_state(State.PAID)):
        for verb in (lambda invoice: invoice.hold("Too late"), Invoice.release):
            with pytest.raises(InvoiceNotDraft):
                verb(final)


def test_finalizing_freezes_parties_terms_and_total() -> None:
    """What was agreed when it was sent stays on it, whoever moves house later."""
    invoice = finalized(line(10_00), line(2_50))
    assert (invoice.state, invoice.number, invoice.total) == (State.OPEN, "INV-000001", Money(12_50, "GBP"))
    assert (invoice.seller, invoice.customer) == (SELLER.party, CUSTOMER.party)
    assert invoice.finalize_time == LATER
    assert invoice.due_time == LATER + timedelta(days=14)
    assert invoice.revision == 2


def test_what_is_of_nothing_may_do_without_a_number() -> None:
    """Not what cancels out, nor what a discount or credit pays for: that was sold. Nor what somebody wrote."""
    gift = LineDiscount(discount_id="disc_1", description="A gift", amount=Money(5, "GBP"))
    assert draft(line(0), line(0)).is_of_nothing
    assert draft().is_of_nothing
    assert not draft(line(5), line(-5)).is_of_nothing
    assert not draft(replace(line(5), discounts=(gift,))).is_of_nothing
    assert not draft(line(5)).with_credit(Money(5, "GBP")).is_of_nothing
    assert not replace(draft(line(0)), is_manual=True).is_of_nothing
    invoice = draft(line(0)).finalize(number="", at=LATER, seller=SELLER, customer=CUSTOMER)
    assert (invoice.state, invoice.number, invoice.paid_time) == (State.PAID, "", LATER)
    with pytest.raises(InvoiceWithoutNumber):
        invoice.check_document()
    with pytest.raises(AssertionError):
        draft(line(1)).finalize(number="", at=LATER, seller=SELLER, customer=CUSTOMER)


def test_a_zero_invoice_is_paid_when_finalized() -> None:
    """Nobody should be dunned for nothing."""
    invoice = finalized(line(0))
    assert invoice.state is State.PAID
    assert invoice.paid_time == LATER
    assert invoice.overdue_from is None


def test_an_invoice_never_owes_the_customer() -> None:
    """That would be a credit note."""
    with pytest.raises(NegativeTotal):
        finalized(line(5), line(-6))


def test_paying_in_parts_settles_at_the_last() -> None:
    """PAID means that nothing remains, and not before."""
    once = finalized(line(10_00)).pay(Money(4_00, "GBP"), at=LATER)
    assert (once.state, once.amount_remaining, once.paid_time) == (State.OPEN, Money(6_00, "GBP"), None)
    twice = once.pay(Money(6_00, "GBP"), at=LATER)
    assert (twice.state, twice.amount_remaining, twice.paid_time) == (State.PAID, Money.zero("GBP"), LATER)


@pytest.mark.parametrize("paid", [0, 10_00])
def test_too_much_is_refused(paid: int) -> None:
    """Money that belongs to nothing is somebody's to look at, not to be swallowed."""
    invoice = finalized(line(10_00))
    if paid:
        invoice = invoice.pay(Money(paid, "GBP"), at=LATER)
    with pytest.raises(PaymentExceedsRemaining):
        invoice.pay(Money(10_01 - paid, "GBP"), at=LATER)


def test_an_invoice_takes_of_a_payment_what_is_owed() -> None:
    """The rest is the customer's; of what should not have existed nothing is owed, and a draft is owed by nobody."""
    invoice = finalized(line(10_00))
    assert invoice.takes_of(Money(12_00, "GBP")) == Money(10_00, "GBP")
    assert invoice.takes_of(Money(9_00, "GBP")) == Money(9_00, "GBP")
    assert in_state(State.PAID).takes_of(Money(1, "GBP")) == Money.zero("GBP")
    assert in_state(State.VOID).takes_of(Money(1, "GBP")) == Money.zero("GBP")
    with pytest.raises(InvoiceNotOwed):
        in_state(State.DRAFT).takes_of(Money(1, "GBP"))
    with pytest.raises(PaymentNotPositive):
        invoice.takes_of(Money.zero("GBP"))


def test_what_credit_covers_is_paid() -> None:
    """Only a draft is covered, and what is left is due."""
    covered = draft(line(10_00)).with_credit(Money(10_00, "GBP"))
    paid = covered.finalize(number="INV-000001", at=LATER, seller=SELLER, customer=CUSTOMER)
    assert (paid.state, paid.amount_due, paid.amount_remaining) == (State.PAID, Money.zero("GBP"), Money.zero("GBP"))
    part = draft(line(10_00)).with_credit(Money(4_00, "GBP"))
    owed = part.finalize(number="INV-000001", at=LATER, seller=SELLER, customer=CUSTOMER)
    assert (owed.state, owed.amount_due) == (State.OPEN, Money(6_00, "GBP"))
    with pytest.raises(InvoiceNotDraft):
        owed.with_credit(Money(1, "GBP"))


@pytest.mark.parametrize("pence", [0, -1])
def test_a_payment_brings_something_in(pence: int) -> None:
    """A payment of less than nothing would raise what is owed."""
    with pytest.raises(PaymentNotPositive):
        finalized(line(10_00)).pay(Money(pence, "GBP"), at=LATER)


def test_it_is_overdue_a_day_after_it_was_due_and_once() -> None:
    """Derived and noted, not a state: it can still be paid."""
    invoice = finalized(line(10_00))
    assert invoice.due_time is not None
    late = invoice.due_time + OVERDUE_AFTER
    with pytest.raises(InvoiceNotOverdue):
        invoice.mark_overdue(at=late - timedelta(microseconds=1))
    marked = invoice.mark_overdue(at=late)
    assert (marked.state, marked.overdue_time) == (State.OPEN, late)
    with pytest.raises(InvoiceNotOverdue):
        marked.mark_overdue(at=late)
    assert marked.pay(Money(10_00, "GBP"), at=late).state is State.PAID


def test_what_is_credited_need_not_be_paid() -> None:
    """When nothing is owed any more, it is paid, whoever paid how much of it."""
    part = finalized(line(10_00)).credit(Money(4_00, "GBP"), at=LATER)
    assert (part.state, part.amount_credited, part.amount_remaining) == (
        State.OPEN,
        Money(4_00, "GBP"),
        Money(6_00, "GBP"),
    )
    assert part.pay(Money(6_00, "GBP"), at=LATER).state is State.PAID
    rest = part.credit(Money(6_00, "GBP"), at=LATER)
    assert (rest.state, rest.paid_time, rest.amount_paid) == (State.PAID, LATER, Money.zero("GBP"))
    assert part.credit(Money.zero("GBP"), at=LATER) is part


def test_what_is_given_up_still_counts_when_it_is_paid() -> None:
    """Nothing remains to be collected, but whatever comes in makes the loss smaller."""
    given_up = finalized(line(10_00)).pay(Money(1_00, "GBP"), at=LATER).write_off(at=LATER)
    assert (given_up.amount_written_off, given_up.amount_remaining) == (Money(9_00, "GBP"), Money.zero("GBP"))
    assert given_up.overdue_from is None
    part = given_up.pay(Money(4_00, "GBP"), at=LATER)
    assert (part.state, part.amount_written_off) == (State.UNCOLLECTIBLE, Money(5_00, "GBP"))
    credited = part.credit(Money(2_00, "GBP"), at=LATER)
    assert (credited.state, credited.amount_written_off) == (State.UNCOLLECTIBLE, Money(3_00, "GBP"))
    whole = credited.pay(Money(3_00, "GBP"), at=LATER)
    assert (whole.state, whole.amount_written_off, whole.paid_time) == (State.PAID, Money.zero("GBP"), LATER)
    assert whole.uncollectible_time == LATER


def test_what_is_annulled_is_owed_by_nobody() -> None:
    """Also what was given up before, and what came to nothing."""
    void = finalized(line(10_00)).write_off(at=LATER).void(at=LATER)
    assert (void.state, void.debt, void.amount_credited) == (State.VOID, Money.zero("GBP"), Money(10_00, "GBP"))
    assert void.void_time == LATER
    nothing = finalized(line(0)).void(at=LATER)
    assert (nothing.state, nothing.paid_time) == (State.VOID, LATER)
    with pytest.raises(InvoiceHasPayments):
        finalized(line(10_00)).pay(Money(1, "GBP"), at=LATER).void(at=LATER)


FOR_EVER = datetime(2100, 1, 1, tzinfo=UTC)
VERBS: dict[str, Callable[[Invoice], Invoice]] = {
    "add": lambda invoice: invoice.add([line(1)]),
    "with_lines": lambda invoice: invoice.with_lines([line(1)]),
    "finalize": lambda invoice: invoice.finalize(number="INV-1", at=LATER, seller=SELLER, customer=CUSTOMER),
    "pay": lambda invoice: invoice.pay(Money(10_00, "GBP"), at=LATER),
    "mark_overdue": lambda invoice: invoice.mark_overdue(at=FOR_EVER),
    "credit": lambda invoice: invoice.credit(invoice.debt, at=LATER),
    "void": lambda invoice: invoice.void(at=LATER),
    "write_off": lambda invoice: invoice.write_off(at=LATER),
}
MOVES = {
    ("add", State.DRAFT): State.DRAFT,
    ("with_lines", State.DRAFT): State.DRAFT,
    ("finalize", State.DRAFT): State.OPEN,
    ("pay", State.OPEN): State.PAID,
    ("pay", State.UNCOLLECTIBLE): State.PAID,  # given up, and paid after all
    ("mark_overdue", State.OPEN): State.OPEN,
    ("credit", State.OPEN): State.PAID,
    ("credit", State.UNCOLLECTIBLE): State.PAID,
    ("credit", State.PAID): State.PAID,
    ("void", State.OPEN): State.VOID,
    ("void", State.UNCOLLECTIBLE): State.VOID,
    ("write_off", State.OPEN): State.UNCOLLECTIBLE,
}
REFUSALS: dict[str, type[FailedPrecondition]] = {
    "add": InvoiceNotDraft,
    "with_lines": InvoiceNotDraft,
    "finalize": InvoiceNotDraft,
    "pay": InvoiceNotOwed,
    "mark_overdue": InvoiceNotOverdue,
    "credit": InvoiceIsVoid,
    "void": InvoiceIsVoid,
    "write_off": InvoiceNotOpen,
}
PARTICULAR: dict[tuple[str, State], type[FailedPrecondition]] = {
    ("pay", State.PAID): PaymentExceedsRemaining,
    ("credit", State.DRAFT): InvoiceNotFinalized,
    ("void", State.DRAFT): InvoiceNotFinalized,
    ("void", State.PAID): InvoiceHasPayments,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_moves_or_raises(verb: str, state: State) -> None:
    """There is no combination that nobody has thought about."""
    if (verb, state) in MOVES:
        assert VERBS[verb](in_state(state)).state is MOVES[verb, state]
    else:
        with pytest.raises(PARTICULAR.get((verb, state), REFUSALS[verb])):
            VERBS[verb](in_state(state))
