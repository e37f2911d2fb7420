"""Invoices that somebody writes by hand through their door, and lines that wait for the next bill run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.money import Money
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import events_pb2, invoice_pb2, manual_invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import manual_invoices_service_pb2 as pb
from saldo.invoicing.v1 import rating_service_pb2 as rating
from saldo.invoicing.v1.manual_invoices_service_pb2_grpc import ManualInvoicesServiceStub
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub
from saldo.subscriptions.v1 import customer_pb2

from .conftest import Business, civil, decimal, flat, pence, per_unit, told, utc

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FEBRUARY = utc(2026, 2, 1)


class Desk:
    """The door for what is written by hand, for one customer."""

    def __init__(self, business: Business, customer: customer_pb2.Customer) -> None:
        self.business = business
        self.customer = customer
        self.manual: Any = business.suite.stub(ManualInvoicesServiceStub, "invoicing")  # Any: grpc stubs are generated

    @classmethod
    async def open(cls, business: Business, **profile: Any) -> Desk:  # Any: fields of the message
        return cls(business, await business.customer(**profile))

    async def create(
        self,
        *lines: manual_invoice_pb2.ManualLine,
        **fields: Any,  # Any: fields of the message
    ) -> invoice_pb2.Invoice:
        request = pb.CreateInvoiceRequest(customer_id=self.customer.id, lines=lines, **fields)
        made: invoice_pb2.Invoice = await self.manual.CreateInvoice(request)
        return made

    async def pending(
        self,
        line: manual_invoice_pb2.ManualLine,
        **fields: Any,  # Any: as above
    ) -> manual_invoice_pb2.PendingLine:
        request = pb.CreatePendingLineRequest(customer_id=self.customer.id, line=line, **fields)
        made: manual_invoice_pb2.PendingLine = await self.manual.CreatePendingLine(request)
        return made

    async def waiting(self) -> list[str]:
        found = await self.manual.ListPendingLines(pb.ListPendingLinesRequest(customer_id=self.customer.id))
        return [each.line_item.description for each in found.pending_lines]

    async def finalize(self, invoice: invoice_pb2.Invoice) -> invoice_pb2.Invoice:
        request = invoicing.FinalizeInvoiceRequest(id=invoice.id)
        final: invoice_pb2.Invoice = await self.business.invoicing.FinalizeInvoice(request)
        return final


def work(unit_price: str = "80", quantity: str = "2", **fields: Any) -> manual_invoice_pb2.ManualLine:  # Any: as above
    return manual_invoice_pb2.ManualLine(
        description="Work", unit_label="hour", quantity=decimal(quantity), unit_price=decimal(unit_price), **fields
    )


def costing(amount: int, description: str = "Parts", **fields: Any) -> manual_invoice_pb2.ManualLine:  # Any: as above
    return manual_invoice_pb2.ManualLine(description=description, amount=wire.money(Money(amount, "GBP")), **fields)


def off(description: str, **benefit: Any) -> invoice_pb2.GivenDiscount:  # Any: as above
    return invoice_pb2.GivenDiscount(description=description, **benefit)


def shares(invoice: invoice_pb2.Invoice) -> list[list[tuple[str, int]]]:
    """Of each line what was taken off it, in pence."""
    return [
        [(each.description, wire.parse_money(each.amount, field="amount").minor) for each in line.discounts]
        for line in invoice.line_items
    ]


# One-off invoices


async def test_what_somebody_writes_waits_until_somebody_finalizes_it(suite: Suite, business: Business) -> None:
    """Drafted today, changed, finalized next week: dated, numbered and owed from that day on its own terms."""
    desk = await Desk.open(business, net_terms_days=14)
    draft = await desk.create(
        work(), costing(12_50), net_terms_days=30, memo="As agreed\non the phone", purchase_order="PO-7"
    )
    assert (draft.state, draft.number, draft.is_manual) == (invoice_pb2.Invoice.DRAFT, "", True)
    assert told(draft) == [("Work", 160_00), ("Parts", 12_50)]
    assert [line.kind for line in draft.line_items] == [invoice_pb2.LineItem.MANUAL] * 2
    assert not draft.HasField("finalize_time")
    await suite.travel(utc(2026, 1, 9))
    [waiting] = await business.invoices(desk.customer)
    assert waiting == draft
    final = await desk.finalize(draft)
    assert (final.number, final.state, civil(final)) == ("NL-000001", invoice_pb2.Invoice.OPEN, "2026-01-09")
    assert wire.parse_timestamp(final.due_time, field="due") == utc(2026, 2, 8)
    assert (final.memo, final.purchase_order, pence(final)) == ("As agreed\non the phone", "PO-7", 172_50)
    # A line says when it was supplied: on the day it was written, if nothing else was said.
    period = wire.parse_interval(final.line_items[0].period, field="period")
    assert period == Period(SANDBOX_START, SANDBOX_START + DAY)
    await suite.quiet()
    [event] = suite.announced(events_pb2.InvoiceFinalized)
    assert event.invoice.id == final.id
    with refused("INVOICE_NOT_DRAFT", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.manual.AddInvoiceLine(pb.AddInvoiceLineRequest(invoice_id=final.id, line=work()))
    with refused("INVOICE_NOT_DRAFT"):
        await desk.manual.DeleteInvoice(pb.DeleteInvoiceRequest(id=final.id))


async def test_a_repeated_request_drafts_once(business: Business) -> None:
    """Whoever asks again because no answer came has one draft."""
    desk = await Desk.open(business)
    first = await desk.create(work(), request_id="one")
    assert await desk.create(work(), request_id="one") == first
    assert len(await business.invoices(desk.customer)) == 1


async def test_a_draft_may_finalize_itself(suite: Suite, business: Business) -> None:
    """On the terms of the customer when nothing else was said."""
    desk = await Desk.open(business, net_terms_days=14)
    await desk.create(work(), finalize_time=wire.timestamp(SANDBOX_START + DAY))
    await suite.travel(SANDBOX_START + DAY)
    [final] = await business.invoices(desk.customer)
    assert final.state == invoice_pb2.Invoice.OPEN
    assert wire.parse_timestamp(final.due_time, field="due") == SANDBOX_START + 15 * DAY


async def test_lines_of_a_draft_are_added_written_anew_and_removed(business: Business) -> None:
    """And discounts of all lines together are spread anew each time."""
    desk = await Desk.open(business)
    ten = off("Goodwill", amount=wire.money(Money(10_00, "GBP")))
    draft = await desk.create(costing(10_00, "A"), costing(30_00, "B"), discounts=[ten])
    assert shares(draft) == [[("Goodwill", 2_50)], [("Goodwill", 7_50)]]
    assert (pence(draft), wire.parse_money(draft.discount_total, field="discount").minor) == (30_00, 10_00)
    half = costing(60_00, "C", discounts=[off("C", percent=decimal("50"))])
    added = await desk.manual.AddInvoiceLine(pb.AddInvoiceLineRequest(invoice_id=draft.id, line=half))
    assert shares(added) == [[("Goodwill", 1_43)], [("Goodwill", 4_29)], [("C", 30_00), ("Goodwill", 4_28)]]
    b = added.line_items[1]
    updated = await desk.manual.UpdateInvoiceLine(
        pb.UpdateInvoiceLineRequest(invoice_id=draft.id, line_id=b.id, line=costing(0, "B for free"))
    )
    assert told(updated) == [("A", 10_00), ("B for free", 0), ("C", 60_00)]
    assert updated.line_items[1].id == b.id
    assert shares(updated) == [[("Goodwill", 2_50)], [], [("C", 30_00), ("Goodwill", 7_50)]]
    removed = await desk.manual.RemoveInvoiceLine(
        pb.RemoveInvoiceLineRequest(invoice_id=draft.id, line_id=added.line_items[2].id)
    )
    assert told(removed) == [("A", 10_00), ("B for free", 0)]
    assert pence(removed) == 0
    assert removed.revision == 4
    assert await desk.business.invoicing.GetInvoice(invoicing.GetInvoiceRequest(id=draft.id)) == removed
    for verb, request in {
        "UpdateInvoiceLine": pb.UpdateInvoiceLineRequest(
            invoice_id=draft.id, line_id=added.line_items[2].id, line=work()
        ),
        "RemoveInvoiceLine": pb.RemoveInvoiceLineRequest(invoice_id=draft.id, line_id=added.line_items[2].id),
    }.items():
        with refused("LINE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await getattr(desk.manual, verb)(request)


async def test_a_draft_is_thrown_away_and_leaves_no_gap(business: Business) -> None:
    """It had no number yet: the next invoice has the first one."""
    desk = await Desk.open(business)
    draft = await desk.create(work())
    assert (await desk.manual.DeleteInvoice(pb.DeleteInvoiceRequest(id=draft.id))).id == draft.id
    assert await business.invoices(desk.customer) == []
    with refused("INVOICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.manual.DeleteInvoice(pb.DeleteInvoiceRequest(id=draft.id))
    assert (await desk.finalize(await desk.create(work()))).number == "NL-000001"


async def test_a_line_is_rated_by_a_price_of_the_catalog(business: Business) -> None:
    """With its steps, the name of the product and its unit; a price negotiated with somebody else is nobody's."""
    price = await business.price("Cable", "m", **per_unit("1.255"))
    plan = await business.plan(price)
    desk = await Desk.open(business)
    line = manual_invoice_pb2.ManualLine(price_id=plan.prices[0].id, quantity=decimal("10"), description="Cable, red")
    draft = await desk.create(line, manual_invoice_pb2.ManualLine(price_id=plan.prices[0].id))
    assert told(draft) == [("Cable, red", 12_55), ("Cable", 1_26)]
    assert [each.unit_label for each in draft.line_items] == ["m", "m"]
    assert draft.line_items[0].rating_steps[0].unit_price.value == "1.255"
    other = await business.customer()
    negotiated = await business.catalog.CreateContractPrice(
        catalog.CreateContractPriceRequest(list_price_id=plan.prices[0].id, customer_id=other.id, price=price)
    )
    with refused("PRICE_OF_ANOTHER_CUSTOMER", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.create(manual_invoice_pb2.ManualLine(price_id=negotiated.id))
    with refused("PRICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.create(manual_invoice_pb2.ManualLine(price_id=ids.mint("price", SANDBOX_START)))
    with refused("LINE_IN_ANOTHER_CURRENCY"):
        await desk.create(manual_invoice_pb2.ManualLine(price_id=plan.prices[0].id), currency="EUR")


async def test_nothing_to_pay_is_paid_and_no_lines_are_no_invoice(business: Business) -> None:
    """A gift is an invoice too; a blank sheet is none."""
    desk = await Desk.open(business)
    free = await desk.finalize(await desk.create(work(discounts=[off("Gift", percent=decimal("100"))])))
    assert (free.state, pence(free)) == (invoice_pb2.Invoice.PAID, 0)
    empty = await desk.create()
    with refused("NO_LINES", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.finalize(empty)


async def test_a_bill_run_keeps_off_what_somebody_writes(suite: Suite, business: Business) -> None:
    """Two drafts for one moment: what is due goes on an invoice of its own, and nobody writes on that."""
    await business.meter("kwh")
    plan = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    desk = await Desk.open(business)
    await business.subscribe(desk.customer, plan)
    await business.use(desk.customer, "kwh", "100", SANDBOX_START)
    await suite.travel(FEBRUARY)
    written = await desk.create(work())
    [billed] = [each for each in await business.invoices(desk.customer) if not each.is_manual]
    assert (told(billed), told(written)) == ([("Electricity", 10_00)], [("Work", 160_00)])
    for verb, request in {
        "AddInvoiceLine": pb.AddInvoiceLineRequest(invoice_id=billed.id, line=work()),
        "RemoveInvoiceLine": pb.RemoveInvoiceLineRequest(invoice_id=billed.id, line_id=billed.line_items[0].id),
        "DeleteInvoice": pb.DeleteInvoiceRequest(id=billed.id),
    }.items():
        with refused("INVOICE_NOT_MANUAL", grpc.StatusCode.FAILED_PRECONDITION):
            await getattr(desk.manual, verb)(request)
    await suite.travel(FEBRUARY + HOUR)
    states = {each.is_manual: each.state for each in await business.invoices(desk.customer)}
    assert states == {True: invoice_pb2.Invoice.DRAFT, False: invoice_pb2.Invoice.OPEN}


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("lines[0].description", manual_invoice_pb2.ManualLine(unit_price=decimal("1"))),
        ("lines[0].unit_price", manual_invoice_pb2.ManualLine(description="A")),
        ("lines[0].unit_price", work(unit_price="-1")),
        ("lines[0].quantity", work(quantity="-1")),
        ("lines[0].quantity", work(quantity="1000000000001")),
        ("lines[0].amount", costing(-1)),
        ("lines[0].discounts[0].percent", work(discounts=[off("A")])),
        ("lines[0].discounts[0].percent", work(discounts=[off("A", percent=decimal("100.1"))])),
        ("lines[0].discounts[0].amount", work(discounts=[off("A", amount=wire.money(Money(0, "GBP")))])),
        ("lines[0].discounts[0].description", work(discounts=[off("", percent=decimal("1"))])),
        ("lines[0].discounts", work(discounts=[off("A", percent=decimal("1"))] * 21)),
    ],
)
async def test_a_line_that_makes_no_sense_is_refused(
    business: Business, field: str, line: manual_invoice_pb2.ManualLine
) -> None:
    """By its field, and no draft is left behind."""
    desk = await Desk.open(business)
    with refused("INVALID_ARGUMENT") as refusal:
        await desk.create(line)
    assert refusal.field == field
    assert await business.invoices(desk.customer) == []


async def test_amounts_are_in_the_currency_of_the_invoice(business: Business) -> None:
    """Lines and discounts alike; another currency is another invoice."""
    desk = await Desk.open(business)
    euros = wire.money(Money(1_00, "EUR"))
    for line in (
        manual_invoice_pb2.ManualLine(description="A", amount=euros),
        work(discounts=[off("A", amount=euros)]),
    ):
        with refused("LINE_IN_ANOTHER_CURRENCY"):
            await desk.create(line)
    with refused("LINE_IN_ANOTHER_CURRENCY"):
        await desk.create(work(), discounts=[off("A", amount=euros)])
    assert told(await desk.create(work(), currency="EUR")) == [("Work", 160_00)]


# Lines that wait


async def test_a_line_waits_for_the_next_invoice(suite: Suite, business: Business) -> None:
    """It joins it under its own id, once, whatever comes later; and what is taken back does not."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    desk = await Desk.open(business)
    await business.subscribe(desk.customer, plan)
    waiting = await desk.pending(work(discounts=[off("Friends", percent=decimal("10"))]))
    unwanted = await desk.pending(costing(5_00, "Mistake"))
    await suite.quiet()
    assert await desk.waiting() == ["Work", "Mistake"]
    taken_back = await desk.manual.DeletePendingLine(pb.DeletePendingLineRequest(id=unwanted.id))
    assert taken_back.id == unwanted.id
    upcoming = await business.invoicing.GetUpcomingInvoice(
        invoicing.GetUpcomingInvoiceRequest(customer_id=desk.customer.id)
    )
    assert told(upcoming) == [("Seats", 10_00), ("Work", 160_00)]
    await suite.travel(FEBRUARY)
    _, february = await business.invoices(desk.customer)
    assert told(february) == [("Seats", 10_00), ("Work", 160_00)]
    assert shares(february) == [[], [("Friends", 16_00)]]
    assert pence(february) == 154_00
    assert (civil(february), february.line_items[1].id) == ("2026-02-01", waiting.id)
    assert await desk.waiting() == []
    await suite.travel(utc(2026, 3, 1))
    assert told((await business.invoices(desk.customer))[-1]) == [("Seats", 10_00)]
    with refused("PENDING_LINE_BILLED", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.manual.DeletePendingLine(pb.DeletePendingLineRequest(id=waiting.id))
    with refused("PENDING_LINE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.manual.DeletePendingLine(pb.DeletePendingLineRequest(id=unwanted.id))


async def test_a_line_waits_for_an_invoice_in_its_currency_or_for_its_time(suite: Suite, business: Business) -> None:
    """Also of a customer who has no subscription, and was never billed before."""
    desk = await Desk.open(business)
    await desk.pending(work(), bill_alone_time=wire.timestamp(SANDBOX_START + 3 * DAY))
    await desk.pending(work(unit_price="1"), currency="EUR")
    await suite.travel(SANDBOX_START + 3 * DAY - HOUR)
    assert await business.invoices(desk.customer) == []
    await suite.travel(SANDBOX_START + 3 * DAY)
    [alone] = await business.invoices(desk.customer)
    assert (told(alone), civil(alone), alone.is_manual) == ([("Work", 160_00)], "2026-01-04", False)
    assert await desk.waiting() == ["Work"]
    await desk.pending(costing(1_00), bill_alone_time=wire.timestamp(SANDBOX_START + 3 * DAY))
    await suite.quiet()
    assert told((await business.invoices(desk.customer))[-1]) == [("Parts", 1_00)]


async def test_pending_lines_are_listed_in_pages(business: Business) -> None:
    """In the order in which they came, of one customer or of all."""
    desk = await Desk.open(business)
    other = await Desk.open(business)
    for n in range(3):
        await desk.pending(costing(n, f"Line {n}"))
    await other.pending(costing(9, "Of another"))
    first = await desk.manual.ListPendingLines(pb.ListPendingLinesRequest(customer_id=desk.customer.id, page_size=2))
    second = await desk.manual.ListPendingLines(
        pb.ListPendingLinesRequest(customer_id=desk.customer.id, page_size=2, page_token=first.next_page_token)
    )
    listed = [each.line_item.description for page in (first, second) for each in page.pending_lines]
    assert (listed, second.next_page_token) == (["Line 0", "Line 1", "Line 2"], "")
    everybody = await desk.manual.ListPendingLines(pb.ListPendingLinesRequest())
    assert len(everybody.pending_lines) == 4


async def test_lines_that_wait_join_a_draft_and_stay_on_it(suite: Suite, business: Business) -> None:
    """A draft that is counted anew keeps what somebody wrote."""
    await business.meter("kwh")
    plan = await business.plan(
        await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")),
        await business.price("Standing charge", **flat("5")),
    )
    desk = await Desk.open(business)
    await business.subscribe(desk.customer, plan)
    await business.use(desk.customer, "kwh", "100", SANDBOX_START)
    await desk.pending(work(discounts=[off("Friends", percent=decimal("10"))]))
    await suite.travel(FEBRUARY)
    await business.use(desk.customer, "kwh", "10", FEBRUARY - HOUR)
    await suite.travel(FEBRUARY + HOUR)
    final = (await business.invoices(desk.customer))[-1]
    assert sorted(told(final)) == [("Electricity", 11_00), ("Standing charge", 5_00), ("Work", 160_00)]
    assert (final.state, pence(final)) == (invoice_pb2.Invoice.OPEN, 160_00)


async def test_a_line_written_by_hand_is_explained(business: Business) -> None:
    """With a price or without."""
    desk = await Desk.open(business)
    draft = await desk.create(work(unit_price="1.255", quantity="10"))
    stub: Any = business.suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated
    line = rating.InvoiceLine(invoice_id=draft.id, line_id=draft.line_items[0].id)
    explained = await stub.ExplainRating(rating.ExplainRatingRequest(line=line))
    assert "10 × 1.255 GBP = 12.55 GBP" in explained.sentences[0]
