"""Who is billed with taxes in the world of the checker: added to the price and included in it, one of them exempt."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.type import date_pb2, decimal_pb2, postal_address_pb2

from common.travel import quiet, travel
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import tax_pb2
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.client import Client

HOME = postal_address_pb2.PostalAddress(region_code="FR", locality="Lyon", address_lines=["1 rue de la Paix"])


async def bill_with_taxes(client: Client, at: datetime) -> None:
    """One who pays two taxes beside the price, one whose price includes them, and one who is exempt in France."""
    await client.catalog.CreateTaxCode(catalog.CreateTaxCodeRequest(code="books", display_name="Books"))
    vat = await _rate(client, "VAT", "20")
    levy = await _rate(client, "Levy", "1.5")
    included = await _rate(client, "VAT", "20", is_inclusive=True)
    included_levy = await _rate(client, "Levy", "1.5", is_inclusive=True)
    await _rule(client, tax_pb2.TaxScope(tax_code="books"), vat, levy)
    prices = [await _price(client, code, amount) for code, amount in (("novels", "19.99"), ("comics", "7.49"))]
    plan = await client.catalog.CreatePlan(catalog.CreatePlanRequest(code="books", display_name="Books", prices=prices))
    await client.catalog.PublishPlan(catalog.PublishPlanRequest(id=plan.id))
    beside, inside, exempt = [await _customer(client, name) for name in ("beside", "inside", "exempt")]
    await _rule(client, tax_pb2.TaxScope(customer_id=inside.id), included, included_levy)
    await client.customers.AddTaxExemption(
        customers.AddTaxExemptionRequest(
            customer_id=exempt.id,
            tax_exemption=customer_pb2.TaxExemption(
                country="FR", reason_code="RESALE", start_date=date_pb2.Date(year=2020, month=1, day=1)
            ),
        )
    )
    # The next day, so that there is no doubt about what was known.
    await travel(client.operations, at)
    for customer in (beside, inside, exempt):
        await client.subscriptions.CreateSubscription(
            subscriptions.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id)
        )
    await quiet(client.operations)


async def _rate(client: Client, name: str, percent: str, **more: Any) -> str:  # Any: fields of the message
    rate = tax_pb2.TaxRate(name=name, category=tax_pb2.TaxRate.S, percent=decimal_pb2.Decimal(value=percent), **more)
    made = await client.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=rate))
    return str(made.id)


async def _rule(client: Client, scope: tax_pb2.TaxScope, *rate_ids: str) -> None:
    await client.tax.SetTaxRule(pb.SetTaxRuleRequest(scope=scope, tax_rate_ids=rate_ids))


async def _price(client: Client, code: str, amount: str) -> price_pb2.Price:
    product = await client.catalog.CreateProduct(
        catalog.CreateProductRequest(code=code, display_name=code.title(), tax_code="books")
    )
    return price_pb2.Price(
        code=code,
        product_id=product.id,
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1),
        billing_timing=price_pb2.Price.IN_ADVANCE,
        flat=price_pb2.FlatModel(amount=decimal_pb2.Decimal(value=amount)),
    )


async def _customer(client: Client, name: str) -> customer_pb2.Customer:
    made: customer_pb2.Customer = await client.subscriptions.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            external_id=name,
            contact=customer_pb2.Contact(display_name=name.title(), address=HOME),
            billing_profile=customer_pb2.BillingProfile(
                currency="EUR",
                net_terms_days=30,
                collection_method=customer_pb2.BillingProfile.SEND_INVOICE,
            ),
        )
    )
    return made
