"""An invoice is proved: a line is traced to its usage events, the whole is made once more and is the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest_asyncio

from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import proof_service_pb2 as pb
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions

from .conftest import Business, decimal, per_unit, utc
from .test_invoices import drafted
from .test_metered_models import SIZES
from .test_series import forge


@pytest_asyncio.fixture
async def proof(suite: Suite, business: Business) -> Any:  # Any: grpc stubs are generated
    return suite.stub(ProofServiceStub, "invoicing")


async def metered(business: Business) -> tuple[invoice_pb2.Invoice, invoice_pb2.Invoice]:
    """January with five reports, and February, on which late usage of January is corrected; late by any clock."""
    await business.meter("kwh", "kWh")
    plan = await business.plan(
        await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")),
        await business.price("Fee", **per_unit("5")),
    )
    ada = await business.customer()
    await business.subscribe(ada, plan)
    for day in range(1, 6):
        await business.use(ada, "kwh", str(day), utc(2026, 1, day), id=f"january-{day}")
    await business.suite.travel(utc(2026, 2, 2))
    await business.use(ada, "kwh", "30", utc(2026, 1, 20), id="late")
    await business.suite.travel(utc(2026, 3, 2))
    _, january, february = await business.invoices()
    return january, february


async def events_of(proof: Any, invoice: invoice_pb2.Invoice, line: invoice_pb2.LineItem) -> list[str]:
    """The ids of all events that the line counted, two by two."""
    found: list[str] = []
    token = ""
    while True:
        request = pb.TraceLineRequest(invoice_id=invoice.id, line_id=line.id, page_size=2, page_token=token)
        page = await proof.TraceLine(request)
        assert page.is_counted_alike
        found += [event.id for event in page.events]
        token = page.next_page_token
        if not token:
            return found


def line_of(invoice: invoice_pb2.Invoice, description: str) -> invoice_pb2.LineItem:
    return next(line for line in invoice.line_items if line.description == description)


async def test_a_line_is_traced_to_exactly_the_events_it_counted(business: Business, proof: Any) -> None:
    """What came later is not among them, though it is of the same period; the correction has counted both."""
    january, february = await metered(business)
    power = line_of(january, "Electricity")
    assert await events_of(proof, january, power) == [f"january-{day}" for day in range(1, 6)]
    late = line_of(february, "Electricity – late usage")
    assert await events_of(proof, february, late) == [*(f"january-{day}" for day in range(1, 6)), "late"]
    trace = await proof.TraceLine(pb.TraceLineRequest(invoice_id=february.id, line_id=late.id))
    assert trace.invoice_number == february.number
    assert trace.line_item == late
    assert trace.price_code.startswith("product-")
    assert [event.value for event in trace.events][-1] == decimal("30")
    assert [(each.invoice_id, each.line_id, each.correction) for each in trace.earlier_lines] == [
        (january.id, power.id, 0)
    ]
    assert trace.counted_again.digest == late.usage.digest
    assert trace.sentences
    assert trace.traceparent


async def test_a_line_without_usage_is_traced_to_its_price(business: Business, proof: Any) -> None:
    """It has no events, and no meter that could be asked about."""
    january, _ = await metered(business)
    fee = line_of(january, "Fee")
    trace = await proof.TraceLine(pb.TraceLineRequest(invoice_id=january.id, line_id=fee.id))
    assert (list(trace.events), trace.HasField("counted_again")) == ([], False)
    assert trace.sentences
    with refused("METER_NOT_COUNTED") as refusal:
        await proof.TraceLine(pb.TraceLineRequest(invoice_id=january.id, line_id=fee.id, meter="kwh"))
    assert refusal.field == "meter"


async def test_each_meter_of_a_price_is_traced(business: Business, proof: Any) -> None:
    """A price that looks at two meters has two lists of events."""
    for meter in ("disk", "seats"):
        await business.meter(meter)
    plan = await business.plan(await business.price("Server", meter="disk", **SIZES))
    ada = await business.customer()
    await business.subscribe(ada, plan)
    await business.use(ada, "disk", "50", utc(2026, 1, 5), id="on-disk")
    await business.use(ada, "seats", "10", utc(2026, 1, 6), id="taken")
    await business.suite.travel(utc(2026, 2, 2))
    [invoice] = await business.invoices()
    [line] = invoice.line_items
    for meter, ids in (("", ["on-disk"]), ("disk", ["on-disk"]), ("seats", ["taken"])):
        trace = await proof.TraceLine(pb.TraceLineRequest(invoice_id=invoice.id, line_id=line.id, meter=meter))
        assert ([event.id for event in trace.events], trace.is_counted_alike) == (ids, True)
    replay = await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=invoice.id))
    assert replay.is_identical, replay.differences


async def test_an_invoice_is_made_once_more_to_the_byte(suite: Suite, business: Business, proof: Any) -> None:
    """Also when usage was taken back since, and its product has another name."""
    january, february = await metered(business)
    before = [await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=each.id)) for each in (january, february)]
    api = suite.stub(CorrectionServiceStub, "metering")
    await api.VoidEvent(corrections.VoidEventRequest(source="test", id="january-3", reason="A mistake"))
    [product, *_] = (await business.catalog.ListProducts(catalog.ListProductsRequest())).products
    await business.catalog.UpdateProduct(catalog.UpdateProductRequest(id=product.id, display_name="Power"))
    for invoice, first in zip((january, february), before, strict=True):
        replay = await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=invoice.id))
        assert (replay.is_identical, list(replay.differences)) == (True, [])
        assert (replay.number, replay.issued_hash, replay.manifest) == (
            invoice.number,
            replay.replayed_hash,
            first.manifest,
        )
        assert replay.manifest_hash == hashlib.sha256(replay.manifest.encode()).hexdigest()
    told_of = json.loads(before[1].manifest)
    late = next(line for line in told_of["lines"] if line["correction"] == "1")
    assert late["billed_before_minor"] == "150"
    assert "amount_minor" not in late


async def test_credits_and_their_parts_are_made_once_more(suite: Suite, business: Business, proof: Any) -> None:
    """A credit that an invoice has no room for is taken off in parts: each of them follows from those before."""
    plan = await business.plan(await business.price("Seats", "seat", **per_unit("10")))
    ada = await business.customer()
    made = await business.subscribe(ada, plan, quantities=["10"])
    await suite.travel(utc(2026, 1, 11))
    fewer = subscription_pb2.SubscriptionAction.SetQuantity(item_id=made.items[0].id, quantity=decimal("1"))
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=made.id, actions=[subscription_pb2.SubscriptionAction(set_quantity=fewer)]
        )
    )
    await suite.travel(utc(2026, 4, 2))
    invoices = await business.invoices()
    parts = [line for invoice in invoices for line in invoice.line_items if line.kind == invoice_pb2.LineItem.CREDIT]
    assert [line.correction for line in parts] == [0, 1, 2, 3]
    for invoice in invoices:
        replay = await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=invoice.id))
        assert replay.is_identical, replay.differences
    last = next(each for each in invoices if parts[-1] in each.line_items)
    trace = await proof.TraceLine(pb.TraceLineRequest(invoice_id=last.id, line_id=parts[-1].id))
    assert [each.line_id for each in trace.earlier_lines] == [line.id for line in parts[:-1]]
    assert [each.amount for each in trace.earlier_lines] == [line.amount for line in parts[:-1]]


async def test_what_was_forged_is_told_by_its_place(business: Business, proof: Any) -> None:
    """The forged figure beside the one that follows from price and usage."""
    january, _ = await metered(business)
    for column, path in (("amount_minor", "lines[0].amount_minor"), ("usage_quantity", "lines[0].usage.quantity")):
        forged = (
            f"UPDATE invoice_lines SET {column} = {column} + {{}} WHERE meter <> '' AND invoice_id = '{january.id}'"
        )
        await forge(business, forged.format("1"))
        replay = await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=january.id))
        await forge(business, forged.format("-1"))
        assert not replay.is_identical
        assert replay.issued_hash == replay.replayed_hash
        assert path in [each.path for each in replay.differences]


async def test_a_draft_is_traced_and_not_replayed(business: Business, proof: Any) -> None:
    """It says nothing yet that could be said once more."""
    [draft] = await drafted(business)
    trace = await proof.TraceLine(pb.TraceLineRequest(invoice_id=draft.id, line_id=draft.line_items[0].id))
    assert (trace.invoice_number, trace.is_counted_alike) == ("", True)
    with refused("INVOICE_NOT_FINALIZED"):
        await proof.ReplayInvoice(pb.ReplayInvoiceRequest(invoice_id=draft.id))
