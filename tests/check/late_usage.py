"""Whose usage comes late in the world of the checker: one is billed for it, and then not any more, one billed anew, and
one is given back what was not used after all.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.type import decimal_pb2

from common import wire
from common.travel import quiet, travel
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import credit_note_pb2, credit_notes_service_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.metering.v1 import corrections_service_pb2, meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.client import Client

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = timedelta(days=2)
"""After which what is looked for every day was found, and is final."""


async def settle_late_usage(client: Client, at: datetime) -> None:
    """Each of them was billed for March before."""
    await travel(client.operations, at)
    await _declare(client, steam=pb.IssuingPolicy.CORRECT, mist=pb.IssuingPolicy.REISSUE)
    steam, mist = [await _subscriber(client, meter) for meter in ("steam", "mist")]
    await travel(client.operations, at + DAYS)
    await _use(client, steam, mist, day=9)
    await travel(client.operations, at + 2 * DAYS)
    await _declare(client, steam=pb.IssuingPolicy.REFUSE)
    await _use(client, steam, day=10)
    await travel(client.operations, at + 3 * DAYS)
    await _give_back(client)


async def _give_back(client: Client) -> None:
    """What was used and billed, by a credit note; then half of it turns out not to have been used at all."""
    fog = await _subscriber(client, "fog")
    await _use(client, fog, day=9)
    await _use(client, fog, day=10)
    listed = await client.subscriptions.ListCustomers(subscriptions.ListCustomersRequest(page_size=1000))
    (customer_id,) = [each.id for each in listed.customers if each.external_id == fog]
    (draft,) = (await client.invoicing.ListInvoices(pb.ListInvoicesRequest(customer_id=customer_id))).invoices
    await client.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    await client.credit_notes.CreateCreditNote(
        credit_notes_service_pb2.CreateCreditNoteRequest(
            invoice_id=draft.id, reason=credit_note_pb2.CreditNote.BILLING_ERROR
        )
    )
    void = corrections_service_pb2.VoidEventRequest(source="late", id="fog of day 9", reason="of somebody else")
    await client.corrections.VoidEvent(void)
    await quiet(client.operations)


async def _declare(client: Client, **policies: pb.IssuingPolicy.LateUsage.ValueType) -> None:
    policy = pb.IssuingPolicy(meter_late_usage=policies)
    await client.invoicing.SetIssuingPolicy(pb.SetIssuingPolicyRequest(policy=policy))


async def _subscriber(client: Client, meter: str) -> str:
    await client.metering.CreateMeter(
        metering.CreateMeterRequest(code=meter, display_name=meter.title(), aggregation=meter_pb2.Meter.SUM)
    )
    product = await client.catalog.CreateProduct(catalog.CreateProductRequest(code=meter, display_name=meter.title()))
    price = price_pb2.Price(
        code=meter,
        product_id=product.id,
        meter=meter,
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="1.50")),
    )
    plan = await client.catalog.CreatePlan(catalog.CreatePlanRequest(code=meter, display_name=meter, prices=[price]))
    await client.catalog.PublishPlan(catalog.PublishPlanRequest(id=plan.id))
    customer = await client.subscriptions.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            external_id=meter,
            contact=customer_pb2.Contact(display_name=meter.title()),
            billing_profile=customer_pb2.BillingProfile(
                currency="EUR",
                time_zone="UTC",
                net_terms_days=60,
                collection_method=customer_pb2.BillingProfile.SEND_INVOICE,
            ),
        )
    )
    await client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id, plan_id=plan.id, billing_day=1, start_time=wire.timestamp(MARCH)
        )
    )
    await quiet(client.operations)
    return meter


async def _use(client: Client, *meters: str, day: int) -> None:
    """Of a day of March, as only becomes known now."""
    await client.metering.IngestEvents(
        metering.IngestEventsRequest(
            events=[
                usage_event_pb2.UsageEvent(
                    id=f"{meter} of day {day}",
                    source="late",
                    customer=meter,
                    meter=meter,
                    time=wire.timestamp(MARCH + timedelta(days=day)),
                    value=decimal_pb2.Decimal(value="4"),
                )
                for meter in meters
            ]
        )
    )
    await quiet(client.operations)
