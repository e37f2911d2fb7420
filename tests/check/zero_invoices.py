"""Who owes nothing in the world of the checker, where the seller wants no documents of that: as it is, and annulled."""

from __future__ import annotations

from google.type import decimal_pb2

from common.travel import quiet
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import credit_note_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.client import Client


async def bill_for_nothing(client: Client) -> None:
    """Two, one of whom is billed anew."""
    policy = pb.IssuingPolicy(zero_invoices=pb.IssuingPolicy.WITHOUT_NUMBER)
    await client.invoicing.SetIssuingPolicy(pb.SetIssuingPolicyRequest(policy=policy))
    product = await client.catalog.CreateProduct(catalog.CreateProductRequest(code="free", display_name="Free"))
    price = price_pb2.Price(
        code="free",
        product_id=product.id,
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
        billing_timing=price_pb2.Price.IN_ADVANCE,
        flat=price_pb2.FlatModel(amount=decimal_pb2.Decimal(value="0")),
    )
    plan = await client.catalog.CreatePlan(catalog.CreatePlanRequest(code="free", display_name="Free", prices=[price]))
    await client.catalog.PublishPlan(catalog.PublishPlanRequest(id=plan.id))
    await _subscriber(client, "free", plan.id)
    customer_id = await _subscriber(client, "free and billed anew", plan.id)
    request = pb.ListInvoicesRequest(customer_id=customer_id, numbering=pb.ListInvoicesRequest.WITHOUT_NUMBER)
    (invoice,) = (await client.invoicing.ListInvoices(request)).invoices
    duplicate = credit_note_pb2.CreditNote.DUPLICATE
    await client.invoicing.ReissueInvoice(pb.ReissueInvoiceRequest(id=invoice.id, reason=duplicate))
    await quiet(client.operations)


async def _subscriber(client: Client, name: str, plan_id: str) -> str:
    customer = await client.subscriptions.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            external_id=name,
            contact=customer_pb2.Contact(display_name=name),
            billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="UTC", net_terms_days=30),
        )
    )
    await client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan_id)
    )
    await quiet(client.operations)
    return customer.id
