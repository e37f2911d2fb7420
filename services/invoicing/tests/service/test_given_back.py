"""What was billed in advance and is given back, by a person and because of a change: never twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.testing import Suite, refused
from saldo.invoicing.v1 import credit_notes_service_pb2 as notes
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1 import proof_service_pb2 as proof
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange
from tools.check import billing, credit_notes, discounts, ledger
from tools.check.report import Tally

from .conftest import NEIGHBOURS, Business, dead_letters, decimal, flat, per_unit, replayed, told, utc
from .test_credit_notes import WRONG, credit, gbp, part, stub
from .test_holding import declare
from .test_invoices import FEBRUARY, HOUR
from .test_voiding import void

MARCH = utc(2026, 3, 1)
ELEVENTH = utc(2026, 1, 11)
CONTRACT = ("Contract", 50_00)


class Ada:
    """Who pays 31.00 for January in advance, by the seat, and a contract beside."""

    def __init__(self, business: Business) -> None:
        self.business = business
        self.customer = customer_pb2.Customer()
        self.seats = subscription_pb2.Subscription()
        self.january = invoice_pb2.Invoice()

    async def subscribe(self, *, each: str = "31", quantity: str = "1") -> None:
        business = self.business
        self.customer = await business.customer()
        plan = await business.plan(await business.price("Seats", **per_unit(each)))
        self.seats = await business.subscribe(self.customer, plan, quantities=[quantity])
        [self.january] = await business.invoices()
        contract = await business.plan(await business.price("Contract", **flat("50")))
        await business.subscribe(self.customer, contract, start=FEBRUARY)

    async def cancel(self) -> None:
        await self.business.subscriptions.CancelSubscription(
            subscriptions.CancelSubscriptionRequest(
                id=self.seats.id,
                timing=subscriptions.CancelSubscriptionRequest.NOW,
                unused=SubscriptionChange.CREDIT,
            )
        )
        await self.business.suite.quiet()

    async def keep(self, quantity: str) -> None:
        set_quantity = SubscriptionAction.SetQuantity(item_id=self.seats.items[0].id, quantity=decimal(quantity))
        await self.business.subscriptions.ChangeSubscription(
            subscriptions.ChangeSubscriptionRequest(
                id=self.seats.id,
                actions=[SubscriptionAction(set_quantity=set_quantity)],
                timing=SubscriptionChange.NOW,
                unused=SubscriptionChange.CREDIT,
            )
        )
        await self.business.suite.quiet()

    async def billed(self) -> list[list[tuple[str, int]]]:
        """On each invoice but that of January."""
        found = await self.business.invoices(self.customer)
        return [sorted(told(each)) for each in found if each.id != self.january.id]


async def all_holds(business: Business) -> None:
    """By the checker, which knows of what was billed what every credit is of."""
    records = await business.records()
    for each in (*billing.INVARIANTS, *credit_notes.INVARIANTS, *discounts.INVARIANTS, *ledger.INVARIANTS):
        if {*each.needs} <= {*NEIGHBOURS, "invoicing"}:
            tally = Tally()
            each.verify(records, tally)
            assert not tally.offending, (each.name, tally.offenders)


@pytest.fixture
def ada(business: Business) -> Ada:
    return Ada(business)


async def test_what_a_note_gave_back_in_full_is_not_credited(suite: Suite, ada: Ada) -> None:
    """There is no line at all, now or later, and nobody waits for one."""
    await ada.subscribe()
    await credit(ada.business, ada.january)
    await suite.travel(ELEVENTH)
    await ada.cancel()
    await suite.travel(MARCH + HOUR)
    assert await ada.billed() == [[CONTRACT], [CONTRACT]]
    await replayed(ada.business)
    await all_holds(ada.business)


async def test_a_credit_is_of_what_a_note_has_left(suite: Suite, ada: Ada) -> None:
    """It says what it leaves out, and what was to come says the same; then nothing is left of the line."""
    await ada.subscribe()
    await credit(ada.business, ada.january, part(ada.january, 15_00))
    await suite.travel(ELEVENTH)
    await ada.cancel()
    upcoming = await ada.business.invoicing.GetUpcomingInvoice(
        pb.GetUpcomingInvoiceRequest(customer_id=ada.customer.id)
    )
    both = [CONTRACT, ("Seats – unused", -16_00)]
    assert sorted(told(upcoming)) == both
    await suite.travel(MARCH + HOUR)
    assert await ada.billed() == [both, [CONTRACT]]
    february = (await ada.business.invoices())[1]
    [line] = [line for line in february.line_items if line.kind == line.CREDIT]
    api: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    trace = await api.TraceLine(proof.TraceLineRequest(invoice_id=february.id, line_id=line.id))
    assert trace.sentences[-1] == "Given back before: -21.00 GBP + 5.00 GBP = -16.00 GBP."
    await replayed(ada.business)
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(ada.business, ada.january, part(ada.january, 1))
    assert (refusal.metadata["line"], refusal.metadata["left"]) == (ada.january.line_items[0].id, "0.00 GBP")
    await all_holds(ada.business)


async def test_what_was_taken_off_is_not_given_back_by_a_note(suite: Suite, ada: Ada) -> None:
    """Only the rest is; a void of the invoice that took it off has it given back by a note, and then by no other."""
    await ada.subscribe()
    await suite.travel(ELEVENTH)
    await ada.cancel()
    await suite.travel(FEBRUARY + HOUR)
    assert await ada.billed() == [[CONTRACT, ("Seats – unused", -21_00)]]
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(ada.business, ada.january)
    assert refusal.metadata["left"] == "10.00 GBP"
    preview = notes.PreviewCreditNoteRequest(invoice_id=ada.january.id)
    with refused("CREDIT_EXCEEDS_LINE"):
        await stub(ada.business).PreviewCreditNote(preview)
    await credit(ada.business, ada.january, part(ada.january, 4_00))
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(ada.business, ada.january, part(ada.january, 6_01))
    assert refusal.metadata["left"] == "6.00 GBP"
    [_, february] = await ada.business.invoices()
    await void(ada.business, february)
    await credit(ada.business, ada.january)
    await suite.travel(MARCH + HOUR)
    assert (await ada.billed())[1:] == [[CONTRACT, CONTRACT]]
    await replayed(ada.business)
    await all_holds(ada.business)


async def test_an_invoice_without_room_leaves_the_rest_to_the_next(suite: Suite, ada: Ada) -> None:
    """Of a credit that a note made less, and that waits, a later note takes more; the next invoice takes the rest."""
    await ada.subscribe(each="124", quantity="1")
    await suite.travel(ELEVENTH)
    await ada.cancel()  # 84.00 of 124.00
    await credit(ada.business, ada.january, part(ada.january, 50_00))  # leaves 74.00
    await suite.travel(FEBRUARY + HOUR)
    await credit(ada.business, ada.january, part(ada.january, 10_00))
    await suite.travel(utc(2026, 4, 1) + HOUR)
    assert await ada.billed() == [
        [CONTRACT, ("Seats – unused", -50_00)],
        [CONTRACT, ("Seats – unused", -14_00)],
        [CONTRACT],
    ]
    await replayed(ada.business)
    await all_holds(ada.business)


async def test_each_line_has_its_own_credit(suite: Suite, ada: Ada) -> None:
    """Three become fewer after a note: what it gave back is of the first bill, and not of what came in its place."""
    await ada.subscribe(each="31", quantity="3")
    await credit(ada.business, ada.january, part(ada.january, 40_00))  # of 93.00
    await suite.travel(ELEVENTH)
    await ada.keep("2")
    await suite.travel(utc(2026, 1, 21))
    await ada.keep("1")
    await suite.travel(FEBRUARY + HOUR)
    lines = [line for invoice in await ada.billed() for line in invoice]
    # Of three for 21 days the note has left 53.00 of 63.00, on two invoices; of two for 11 days all is taken off.
    taken_off = [("Seats – unused", minor) for minor in (-42_00, -11_00, -22_00)]
    assert sorted(lines) == sorted([*taken_off, ("Seats", 42_00), ("Seats", 11_00), ("Seats", 31_00), CONTRACT])
    await replayed(ada.business)
    await all_holds(ada.business)


async def test_a_draft_that_takes_it_off_leaves_the_rest_to_notes(suite: Suite, ada: Ada) -> None:
    """Before it is final, and while it becomes so."""
    business = ada.business
    await ada.subscribe()
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", meter="kwh", **per_unit("0.10")))
    await business.subscribe(ada.customer, power)
    await business.use(ada.customer, "kwh", "500", utc(2026, 1, 5))
    await suite.travel(ELEVENTH)
    await ada.cancel()
    await suite.travel(FEBRUARY)
    draft = next(each for each in await business.invoices() if each.state == each.DRAFT)
    assert ("Seats – unused", -21_00) in told(draft)
    with refused("CREDIT_EXCEEDS_LINE") as refusal:
        await credit(business, ada.january)
    assert refusal.metadata["left"] == "10.00 GBP"
    wanted = notes.CreateCreditNoteRequest(
        invoice_id=ada.january.id,
        line_items=[notes.LineItemToCredit(line_item_id=ada.january.line_items[0].id, amount=gbp(10_01))],
        reason=WRONG,
    )
    answers = await asyncio.gather(
        business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id)),
        stub(business).CreateCreditNote(wanted),
        return_exceptions=True,
    )
    assert [isinstance(each, BaseException) for each in answers] == [False, True]
    await credit(business, ada.january, part(ada.january, 10_00))
    await suite.travel(FEBRUARY + HOUR)
    assert ("Seats – unused", -21_00) in [line for each in await ada.billed() for line in each]
    await replayed(business)
    await all_holds(business)


async def test_a_note_and_a_bill_run_at_once_give_it_back_once(suite: Suite, ada: Ada) -> None:
    """Whoever comes second finds what the first has left."""
    business = ada.business
    await ada.subscribe()
    await suite.travel(ELEVENTH)
    await ada.cancel()
    wanted = notes.CreateCreditNoteRequest(invoice_id=ada.january.id, reason=WRONG)
    noted = asyncio.ensure_future(stub(business).CreateCreditNote(wanted))
    await asyncio.gather(suite.travel(FEBRUARY + HOUR), noted, return_exceptions=True)
    [february] = await ada.billed()
    taken_off = [("Seats – unused", -21_00)] if noted.exception() else []
    assert february == [CONTRACT, *taken_off]
    await replayed(business)
    await all_holds(business)


async def test_what_is_made_anew_may_have_been_taken_off_since(suite: Suite, ada: Ada) -> None:
    """An invoice that was paid is credited in full because usage came late: its fee is billed once more, of which the
    credit is then.
    """
    business = ada.business
    await declare(business, meter_late_usage={"kwh": pb.IssuingPolicy.REISSUE})
    await business.meter("kwh")
    await ada.subscribe(each="28")
    power = await business.plan(await business.price("Electricity", meter="kwh", **per_unit("0.10")))
    await business.subscribe(ada.customer, power)
    await business.use(ada.customer, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    [_, february] = await business.invoices()
    assert sorted(told(february)) == [CONTRACT, ("Electricity", 10_00), ("Seats", 28_00)]
    await business.pay(february, payment_id="pay_1")
    await suite.travel(utc(2026, 2, 11))
    await ada.cancel()
    await suite.travel(MARCH + HOUR)
    march = [CONTRACT, ("Electricity", 0), ("Seats – unused", -18_00)]
    assert (await ada.billed())[-1] == march
    await business.use(ada.customer, "kwh", "10", utc(2026, 1, 6))
    await suite.travel(utc(2026, 3, 5))
    assert (await ada.billed())[1:] == [march, [CONTRACT, ("Electricity", 11_00), ("Seats", 28_00)]]
    assert not await dead_letters(suite)
    await replayed(business)
    await all_holds(business)
