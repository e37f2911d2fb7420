"""Whose usage is billed before its period ends in the world of the checker: once with the rest, once without it yet."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.type import decimal_pb2, money_pb2

from common import wire
from common.travel import quiet, travel
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import spend_threshold_pb2
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as pb
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.client import Client

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def begin_early_bills(client: Client, at: datetime) -> None:
    """Much is used in a week, and nothing after that."""
    await travel(client.operations, at)
    customer_id = await _subscriber(client, at)
    await client.spend_thresholds.SetSpendThreshold(
        pb.SetSpendThresholdRequest(
            scope=spend_threshold_pb2.SpendThreshold.CUSTOMER,
            scope_id=customer_id,
            amount=money_pb2.Money(currency_code="EUR", units=10),
        )
    )
    await travel(client.operations, at + HOUR)
    await _use(client, at + HOUR, "20")


async def go_on_with_early_bills(client: Client, at: datetime) -> None:
    """As much in the next week, and a little that is left, and was there two days ago by then."""
    for time, value in ((at + HOUR, "20"), (at + DAY + HOUR, "2")):
        await travel(client.operations, time)
        await _use(client, time, value)
    await travel(client.operations, at + 3 * DAY + 2 * HOUR)


async def _subscriber(client: Client, start: datetime) -> str:
    await client.metering.CreateMeter(
        metering.CreateMeterRequest(code="rain", display_name="Rain", aggregation=meter_pb2.Meter.SUM)
    )
    product = await client.catalog.CreateProduct(catalog.CreateProductRequest(code="rain", display_name="Rain"))
    price = price_pb2.Price(
        code="rain",
        product_id=product.id,
        meter="rain",
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.WEEK, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="1")),
    )
    plan = await client.catalog.CreatePlan(catalog.CreatePlanRequest(code="rain", display_name="Rain", prices=[price]))
    await client.catalog.PublishPlan(catalog.PublishPlanRequest(id=plan.id))
    customer = await client.subscriptions.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            external_id="rain",
            contact=customer_pb2.Contact(display_name="Rain"),
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
            customer_id=customer.id, plan_id=plan.id, start_time=wire.timestamp(start)
        )
    )
    await quiet(client.operations)
    return customer.id


async def _use(client: Client, at: datetime, value: str) -> None:
    rain = usage_event_pb2.UsageEvent(
        id=f"rain of {at}",
        source="early",
        customer="rain",
        meter="rain",
        time=wire.timestamp(at),
        value=decimal_pb2.Decimal(value=value),
    )
    await client.metering.IngestEvents(metering.IngestEventsRequest(events=[rain]))
    await quiet(client.operations)
