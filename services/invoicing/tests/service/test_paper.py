"""What is on paper: of whose use an invoice is, as it was called when it was finalized; and how it stands now."""

from __future__ import annotations

import io
from typing import Any

import grpc
import pytest
from pypdf import PdfReader

from common import wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import plan_pb2, price_pb2
from saldo.invoicing.v1 import consolidation_service_pb2 as consolidation
from saldo.invoicing.v1 import events_pb2 as events
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1 import proof_service_pb2 as proof_pb
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceStub
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

from .conftest import Business, flat, per_unit, utc

FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)


async def plan(business: Business, name: str, *prices: Any) -> plan_pb2.Plan:  # Any: prices
    draft = await business.catalog.CreatePlan(
        catalog.CreatePlanRequest(code=name.lower(), display_name=name, prices=prices)
    )
    published: plan_pb2.Plan = await business.catalog.PublishPlan(catalog.PublishPlanRequest(id=draft.id))
    return published


async def child_of(business: Business, payer: customer_pb2.Customer, name: str) -> customer_pb2.Customer:
    child = await business.customer()
    await called(business, child, name)
    api: Any = business.suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await api.SetCustomerPayer(customers.SetCustomerPayerRequest(id=child.id, payer_id=payer.id))
    return child


async def called(business: Business, customer: customer_pb2.Customer, name: str) -> None:
    await business.subscriptions.UpdateCustomer(
        subscriptions.UpdateCustomerRequest(id=customer.id, contact=customer_pb2.Contact(display_name=name))
    )


def names(invoice: invoice_pb2.Invoice) -> list[tuple[str, list[str]]]:
    return [(each.display_name, [part.display_name for part in each.subscriptions]) for each in invoice.sections]


async def pages(business: Business, invoice: invoice_pb2.Invoice, **how: Any) -> list[str]:  # Any: of the request
    document = await business.invoicing.GetInvoiceDocument(pb.GetInvoiceDocumentRequest(id=invoice.id, **how))
    return [page.extract_text() for page in PdfReader(io.BytesIO(document.content)).pages]


async def test_sections_keep_the_names_of_the_day_they_were_issued(suite: Suite, business: Business) -> None:
    """Of a draft that waits for late usage, those of the day it is finalized: the subscriptions', and the people's
    then. Renamed, nothing changes any more, and the replay comes to the same bytes.
    """
    payer = await business.customer()
    await business.meter("m3")
    gas = await plan(business, "Gas", await business.price("Gas", "m³", meter="m3", **per_unit("3.20")))
    web = await plan(
        business, "Web", await business.price("Broadband", billing_timing=price_pb2.Price.IN_ARREARS, **flat("20"))
    )
    ben = await child_of(business, payer, "Ben Byron")
    clara = await child_of(business, payer, "Clara Byron")
    for child, plans in ((ben, (gas, web)), (clara, (gas,))):
        for each in plans:
            await business.subscribe(child, each)
    await business.use(ben, "m3", "3", utc(2026, 1, 5))
    await suite.travel(FEBRUARY)
    [draft] = await business.invoices()
    assert draft.state == invoice_pb2.Invoice.DRAFT
    assert sorted(part for _, parts in names(draft) for part in parts) == ["Gas", "Gas", "Web"]
    assert {name for name, _ in names(draft)} == {""}
    await called(business, ben, "Benedict Byron")
    invoice = await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    assert sorted((name, sorted(parts)) for name, parts in names(invoice)) == [
        ("Benedict Byron", ["Gas", "Web"]),
        ("Clara Byron", ["Gas"]),
    ]
    first = await pages(business, invoice)
    await called(business, ben, "Somebody Else")
    assert await pages(business, invoice) == first
    assert "Total Benedict Byron" in "".join(first)
    summary = await pages(business, invoice, layout=pb.GetInvoiceDocumentRequest.SUMMARY_FIRST)
    assert "Amount due by" in summary[0]
    assert "Total Benedict Byron" in summary[1]
    api: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: grpc stubs are generated
    replay = await api.ReplayInvoice(proof_pb.ReplayInvoiceRequest(invoice_id=invoice.id))
    assert (replay.is_identical, list(replay.differences)) == (True, [])
    assert "Benedict Byron" in replay.manifest


async def test_what_is_final_at_once_is_named_too(suite: Suite, business: Business) -> None:
    """The payer by its own name; as it is in a look ahead. Events tell of no people."""
    payer = await business.customer()
    web = await plan(
        business, "Web", await business.price("Broadband", billing_timing=price_pb2.Price.IN_ARREARS, **flat("20"))
    )
    ben = await child_of(business, payer, "Ben Byron")
    await business.subscribe(payer, web)
    await business.subscribe(ben, web)
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=payer.id))
    api: Any = suite.stub(ConsolidationServiceStub, "invoicing")  # Any: as above
    preview = await api.PreviewInvoices(
        consolidation.PreviewInvoicesRequest(customer_id=payer.id, until_time=wire.timestamp(FEBRUARY))
    )
    await suite.travel(FEBRUARY)
    [invoice] = await business.invoices()
    for each in (upcoming, *preview.invoices, invoice):
        assert names(each) == [("Ada Byron", ["Web"]), ("Ben Byron", ["Web"])]
    assert len(preview.invoices) == 1
    [event] = suite.announced(events.InvoiceFinalized)
    assert names(event.invoice) == [("", ["Web"]), ("", ["Web"])]
    assert b"Byron" not in event.SerializeToString()


async def test_of_one_subscription_nothing_is_kept(suite: Suite, business: Business) -> None:
    """Nor asked: what is plain stays plain."""
    web = await plan(business, "Web", await business.price("Broadband", **flat("20")))
    customer = await business.customer()
    await business.subscribe(customer, web)
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=customer.id))
    assert names(upcoming) == [("Ada Byron", [""])]
    [invoice] = await business.invoices()
    assert names(invoice) == [("Ada Byron", [""])]
    assert "Web" not in "".join(await pages(business, invoice))


async def test_as_it_stands_it_tells_what_was_paid(suite: Suite, business: Business) -> None:
    """And as it was issued it does not, though it is the same invoice."""
    web = await plan(business, "Web", await business.price("Broadband", **flat("20")))
    await business.subscribe(await business.customer(), web)
    [invoice] = await business.invoices()
    await business.pay(invoice, payment_id="pay_1", pence=5_00)
    [page] = await pages(business, invoice, as_it_stands=True)
    assert "Paid on 1 Jan 2026" in page
    assert "Left to pay on 1 Jan 2026" in page
    assert "15.00 GBP" in page
    assert "Paid on" not in "".join(await pages(business, invoice))


@pytest.mark.parametrize("layout", [7, -1])
async def test_a_layout_that_nobody_knows_is_refused(business: Business, layout: int) -> None:
    """By the name of its field."""
    web = await plan(business, "Web", await business.price("Broadband", **flat("20")))
    await business.subscribe(await business.customer(), web)
    [invoice] = await business.invoices()
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await pages(business, invoice, layout=layout)
    assert refusal.field == "layout"
