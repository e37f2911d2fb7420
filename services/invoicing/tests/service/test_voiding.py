"""Invoices that should not have been, that are issued anew, and that are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from common.caller import current_caller, service_caller
from common.testing import SANDBOX_START, Suite, refused
from invoicing import store
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.line import LineKind
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import credit_notes_service_pb2 as credit_notes
from saldo.invoicing.v1 import events_pb2, invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tests.support.tables import each_refused

from .conftest import Business, civil, dead_letters, decimal, flat, pence, per_unit, told
from .test_credit_notes import credit, found, minor, part, stub
from .test_invoices import DAY, FEBRUARY, HOUR, billed_for_seats, drafted

DRAFT, OPEN, PAID = invoice_pb2.Invoice.DRAFT, invoice_pb2.Invoice.OPEN, invoice_pb2.Invoice.PAID
VOID, UNCOLLECTIBLE = invoice_pb2.Invoice.VOID, invoice_pb2.Invoice.UNCOLLECTIBLE
WRONG = notes.CreditNote.BILLING_ERROR
MARCH = FEBRUARY + 28 * DAY


async def void(business: Business, invoice: invoice_pb2.Invoice, **changes: Any) -> invoice_pb2.Invoice:
    # Any: fields of the request
    answer: invoice_pb2.Invoice = await business.invoicing.VoidInvoice(
        pb.VoidInvoiceRequest(**{"id": invoice.id, "reason": WRONG, **changes})
    )
    await business.suite.quiet()
    return answer


async def reissue(business: Business, invoice: invoice_pb2.Invoice) -> invoice_pb2.Invoice:
    answer: invoice_pb2.Invoice = await business.invoicing.ReissueInvoice(
        pb.ReissueInvoiceRequest(id=invoice.id, reason=WRONG)
    )
    await business.suite.quiet()
    return answer


async def give_up(business: Business, invoice: invoice_pb2.Invoice) -> invoice_pb2.Invoice:
    answer: invoice_pb2.Invoice = await business.invoicing.MarkInvoiceUncollectible(
        pb.MarkInvoiceUncollectibleRequest(id=invoice.id)
    )
    await business.suite.quiet()
    return answer


async def notes_of(business: Business, invoice: invoice_pb2.Invoice) -> list[notes.CreditNote]:
    request = credit_notes.ListCreditNotesRequest(invoice_id=invoice.id)
    return list((await stub(business).ListCreditNotes(request)).credit_notes)


async def of(business: Business, customer_id: str) -> list[invoice_pb2.Invoice]:
    return [each for each in await business.invoices() if each.customer_id == customer_id]


# Void


async def test_a_void_invoice_is_owed_by_nobody(business: Business) -> None:
    """Its number stays, and a credit note takes all of it back."""
    owed = await billed_for_seats(business)
    annulled = await void(business, owed, memo="Sent to the wrong person.")
    assert (annulled.state, annulled.number, minor(annulled.amount_remaining)) == (VOID, owed.number, 0)
    assert annulled.HasField("void_time")
    [note] = await notes_of(business, owed)
    assert (note.kind, note.memo, minor(note.total)) == (notes.CreditNote.VOID, "Sent to the wrong person.", 10_00)
    assert minor(note.settlement.debt_amount) == 10_00
    [event] = business.suite.announced(events_pb2.InvoiceVoided)
    assert event.invoice.id == owed.id
    assert not business.suite.announced(events_pb2.InvoiceCredited)
    assert len(business.suite.announced(events_pb2.CreditNoteIssued)) == 1


async def test_what_a_void_invoice_billed_is_billed_by_the_next_bill_run(business: Business) -> None:
    """Whenever that comes: until then somebody may put right what was wrong. And only once."""
    owed = await billed_for_seats(business)
    await void(business, owed)
    assert [each.state for each in await of(business, owed.customer_id)] == [VOID]
    await business.suite.travel(FEBRUARY)
    [_, both] = await of(business, owed.customer_id)
    assert told(both) == [("Seats", 10_00), ("Seats", 10_00)]
    await business.suite.travel(MARCH)
    assert [pence(each) for each in await of(business, owed.customer_id)] == [10_00, 20_00, 10_00]


async def test_what_was_ended_before_is_not_billed_anew(business: Business) -> None:
    """The facts are those of now: whoever never wanted it pays nothing for it."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    customer = await business.customer()
    subscription = await business.subscribe(customer, plan)
    [owed] = await business.invoices(customer)
    await void(business, owed)
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=subscription.id,
            timing=subscriptions.CancelSubscriptionRequest.NOW,
            unused=subscription_pb2.SubscriptionChange.CREDIT,
        )
    )
    await business.suite.travel(FEBRUARY)
    assert [(each.state, pence(each)) for each in await business.invoices(customer)] == [(VOID, 10_00), (PAID, 0)]


async def test_the_last_invoice_of_a_customer_is_billed_anew_at_once(business: Business) -> None:
    """No bill run would come for somebody who has nothing left to be billed."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    customer = await business.customer()
    subscription = await business.subscribe(customer, plan)
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.PERIOD_END
        )
    )
    await business.suite.travel(FEBRUARY + DAY)
    [owed] = await business.invoices(customer)
    await void(business, owed)
    assert [each.state for each in await business.invoices(customer)] == [VOID, OPEN]


async def test_an_invoice_over_nothing_can_be_annulled(business: Business) -> None:
    """It was paid the moment it was issued, but no money came in."""
    plan = await business.plan(await business.price("Trial", **flat("0")))
    customer = await business.customer()
    await business.subscribe(customer, plan)
    [free] = await business.invoices(customer)
    assert free.state == PAID
    annulled = await void(business, free)
    assert (annulled.state, annulled.HasField("paid_time")) == (VOID, True)
    [note] = await notes_of(business, free)
    assert (minor(note.total), list(note.lines)) == (0, [])


async def test_after_a_credit_note_the_rest_is_annulled(business: Business) -> None:
    """Both together are all of it."""
    owed = await billed_for_seats(business)
    await credit(business, owed, part(owed, 3_00))
    await void(business, owed)
    assert [minor(note.total) for note in await notes_of(business, owed)] == [3_00, 7_00]


async def test_many_void_it_once(business: Business) -> None:
    """One note, one number."""
    owed = await billed_for_seats(business)
    answers = await asyncio.gather(*(void(business, owed) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, invoice_pb2.Invoice) for answer in answers) == 1
    assert len(await notes_of(business, owed)) == 1


async def test_a_line_that_was_corrected_since_is_not_annulled_alone(business: Business) -> None:
    """Whose difference would it be then? The later invoice first, and then all is counted anew."""
    [draft] = await drafted(business)
    customer = await business.subscriptions.GetCustomer(subscriptions.GetCustomerRequest(id=draft.customer_id))
    await business.suite.travel(FEBRUARY + HOUR)
    await business.use(customer, "kwh", "50", SANDBOX_START)
    await business.suite.travel(MARCH + HOUR)
    first, correction = await of(business, draft.customer_id)
    assert sorted((line.correction, minor(line.amount)) for line in correction.line_items) == [(0, 0), (1, 5_00)]
    with refused("INVOICE_CORRECTED_SINCE") as refusal:
        await void(business, first)
    assert refusal.metadata["corrected_by"] == correction.id
    await void(business, correction)
    await reissue(business, first)
    await business.suite.travel(MARCH + 3 * HOUR)
    again = [each for each in await of(business, draft.customer_id) if each.state == OPEN]
    assert sorted(line for each in again for line in told(each)) == [("Electricity", 0), ("Electricity", 15_00)]


# Reissue


async def test_a_reissued_invoice_is_replaced_at_once(business: Business) -> None:
    """The same periods, another number, the day it was billed for."""
    owed = await billed_for_seats(business)
    annulled = await reissue(business, owed)
    assert annulled.state == VOID
    first, second = await of(business, owed.customer_id)
    assert (first.id, first.state, second.state) == (owed.id, VOID, OPEN)
    assert (second.number, civil(second), told(second)) == ("NL-000002", civil(owed), told(owed))
    assert second.line_items[0].period == owed.line_items[0].period
    again = await reissue(business, second)
    assert again.state == VOID
    assert [each.state for each in await of(business, owed.customer_id)] == [VOID, VOID, OPEN]


async def test_a_reissued_invoice_is_by_the_facts_of_now(business: Business) -> None:
    """Usage that came in since is counted, in a draft that waits for more, as any does."""
    [draft] = await drafted(business)
    await business.suite.travel(FEBRUARY + HOUR)
    [owed] = await of(business, draft.customer_id)
    customer = await business.subscriptions.GetCustomer(subscriptions.GetCustomerRequest(id=draft.customer_id))
    await business.use(customer, "kwh", "50", SANDBOX_START)
    await reissue(business, owed)
    assert [each.state for each in await of(business, owed.customer_id)] == [VOID, DRAFT]
    await business.suite.travel(FEBRUARY + 3 * HOUR)
    [_, second] = await of(business, owed.customer_id)
    assert told(second) == [("Electricity", 15_00)]


async def test_a_credit_that_was_on_a_void_invoice_is_taken_off_the_next(business: Business) -> None:
    """Fewer seats from the 16th of January: what was paid for them comes back, also after a reissue."""
    plan = await business.plan(await business.price("Seats", "seat", **per_unit("31")))
    customer = await business.customer()
    subscription = await business.subscribe(customer, plan, quantities=["2"])
    await business.suite.travel(SANDBOX_START + 15 * DAY)
    fewer = subscription_pb2.SubscriptionAction.SetQuantity(item_id=subscription.items[0].id, quantity=decimal("1"))
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=subscription.id,
            actions=[subscription_pb2.SubscriptionAction(set_quantity=fewer)],
            unused=subscription_pb2.SubscriptionChange.CREDIT,
        )
    )
    await business.suite.travel(FEBRUARY)
    before = [(told(each), pence(each)) for each in await business.invoices(customer)]
    last = (await business.invoices(customer))[-1]
    assert any(line.kind == invoice_pb2.LineItem.CREDIT for line in last.line_items)
    await reissue(business, last)
    after = [(told(each), pence(each)) for each in await business.invoices(customer) if each.state != VOID]
    assert sorted(after) == sorted(before)


@pytest.mark.own_services
async def test_manual_lines_become_a_draft(suite: Suite, business: Business) -> None:
    """No bill run knows of them: they are held until somebody has looked at them once more."""
    owed = await billed_for_seats(business)
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    async with desk.transaction() as tx:
        [line] = (await store.invoice(tx, InvoiceId(owed.id))).lines
        draft = replace(
            await store.invoice(tx, InvoiceId(owed.id)),
            id=InvoiceId(tx.new_id("inv")),
            number="",
            state=State.DRAFT,
            seller=None,
            customer=None,
            due_time=None,
            bill_time=tx.now + HOUR,
            lines=(
                replace(
                    line,
                    id=tx.new_id("line"),
                    description="Setup",
                    kind=LineKind.MANUAL,
                    subscription_id="",
                    item_id="",
                    price_id="",
                ),
            ),
        )
        await store.add_invoices(tx, [store.Draft(draft, "")])
    await suite.quiet()
    manual = await business.invoicing.GetInvoice(pb.GetInvoiceRequest(id=draft.id))
    assert (manual.state, told(manual)) == (OPEN, [("Setup", 10_00)])
    await reissue(business, manual)
    [new] = [each for each in await of(business, owed.customer_id) if each.state == DRAFT]
    assert (told(new), new.hold_reason != "") == ([("Setup", 10_00)], True)
    assert new.line_items[0].id != manual.line_items[0].id
    [seats] = [each for each in await of(business, owed.customer_id) if each.state == OPEN]
    assert seats.id == owed.id


# Given up


async def test_what_is_given_up_is_not_collected_and_still_counts_when_paid(business: Business) -> None:
    """In parts, and with a credit note between them."""
    owed = await billed_for_seats(business, net_terms_days=3)
    given_up = await give_up(business, owed)
    assert (given_up.state, minor(given_up.amount_written_off), minor(given_up.amount_remaining)) == (
        UNCOLLECTIBLE,
        10_00,
        0,
    )
    assert given_up.HasField("uncollectible_time")
    assert len(business.suite.announced(events_pb2.InvoiceMarkedUncollectible)) == 1
    await business.suite.travel(SANDBOX_START + 10 * DAY)
    assert not (await found(business, owed)).HasField("overdue_time")
    await business.pay(owed, payment_id="pay_1", pence=4_00)
    part_paid = await found(business, owed)
    assert (part_paid.state, minor(part_paid.amount_written_off)) == (UNCOLLECTIBLE, 6_00)
    await credit(business, owed, part(owed, 2_00))
    await business.pay(owed, payment_id="pay_2", pence=4_00)
    paid = await found(business, owed)
    assert (paid.state, minor(paid.amount_written_off), minor(paid.amount_credited)) == (PAID, 0, 2_00)
    assert await dead_letters(business.suite) == []


# Every verb in every state


async def in_state(business: Business, state: invoice_pb2.Invoice.State.ValueType) -> invoice_pb2.Invoice:
    if state == DRAFT:
        [draft] = await drafted(business)
        return draft
    owed = await billed_for_seats(business)
    if state == PAID:
        await business.pay(owed, payment_id="pay_1")
    elif state == VOID:
        await void(business, owed)
    elif state == UNCOLLECTIBLE:
        await give_up(business, owed)
    return owed


VERBS: dict[str, Callable[[Business, invoice_pb2.Invoice], Awaitable[object]]] = {
    "void": void,
    "reissue": reissue,
    "give up": give_up,
    "credit": lambda business, invoice: credit(
        business, invoice, preference=credit_notes.CreateCreditNoteRequest.REFUND_FIRST
    ),
}
REFUSALS = {
    **{(verb, DRAFT): "INVOICE_NOT_FINALIZED" for verb in ("void", "reissue", "credit")},
    **{(verb, PAID): "INVOICE_HAS_PAYMENTS" for verb in ("void", "reissue")},
    **{(verb, VOID): "INVOICE_IS_VOID" for verb in ("void", "reissue", "credit")},
    **{("give up", state): "INVOICE_NOT_OPEN" for state in (DRAFT, PAID, VOID, UNCOLLECTIBLE)},
}


@pytest.mark.parametrize("state", [DRAFT, OPEN, PAID, VOID, UNCOLLECTIBLE], ids=invoice_pb2.Invoice.State.Name)
async def test_every_verb_moves_or_is_refused_by_name(
    business: Business, state: invoice_pb2.Invoice.State.ValueType
) -> None:
    """And what is refused changes nothing."""
    refused_here = [verb for verb in VERBS if (verb, state) in REFUSALS]
    if refused_here:
        invoice = await found(business, await in_state(business, state))
        for verb in refused_here:
            with refused(REFUSALS[verb, state], grpc.StatusCode.FAILED_PRECONDITION):
                await VERBS[verb](business, invoice)
        assert await found(business, invoice) == invoice


@pytest.mark.parametrize(
    ("verb", "state", "after"),
    [
        ("void", OPEN, VOID),
        ("void", UNCOLLECTIBLE, VOID),
        ("reissue", UNCOLLECTIBLE, VOID),
        ("give up", OPEN, UNCOLLECTIBLE),
        ("credit", OPEN, PAID),
        ("credit", PAID, PAID),
        ("credit", UNCOLLECTIBLE, PAID),
    ],
)
async def test_every_verb_that_moves_leads_where_it_should(
    business: Business,
    verb: str,
    state: invoice_pb2.Invoice.State.ValueType,
    after: invoice_pb2.Invoice.State.ValueType,
) -> None:
    """Together with what is refused: there is no combination that nobody has thought about."""
    assert (verb, state) not in REFUSALS
    invoice = await in_state(business, state)
    await VERBS[verb](business, invoice)
    assert (await found(business, invoice)).state == after


# What the database refuses


async def test_lines_that_count_are_not_changed(business: Business) -> None:
    """Nor can they be made not to count while the invoice does."""
    await billed_for_seats(business)
    async with business.suite.own_rows("invoicing") as connection:
        await each_refused(
            connection,
            "UPDATE invoice_lines SET voided = true",
            "UPDATE invoice_lines SET description = 'No'",
            "DELETE FROM invoice_lines",
            because="the lines of a finalized invoice never change",
        )


async def test_lines_of_a_void_invoice_are_not_changed_either(business: Business) -> None:
    """They are still what was sent to somebody."""
    await void(business, await billed_for_seats(business))
    async with business.suite.own_rows("invoicing") as connection:
        await each_refused(
            connection,
            "UPDATE invoice_lines SET voided = false",
            "UPDATE invoice_lines SET description = 'No'",
            because="the lines of a finalized invoice never change",
        )
