"""Knows how everything but usage comes into the suite: through public calls, each of which changes nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from saldo.catalog.v1 import plan_pb2
from tools.client import Client
from tools.demo import requests
from tools.demo.example import Customer, Example

Tell = Callable[[str], None]
"""Is told, in a few words, what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The ids under which the suite knows what the folder calls by its own names."""

    customers: dict[str, str]
    """By external id."""
    subscriptions: dict[tuple[str, int], str]
    """By external id of the customer, and which of its subscriptions."""


async def load(client: Client, example: Example, tell: Tell) -> Loaded:
    """Catalog, customers, payment methods and subscriptions, as the folder has them at the beginning."""
    tell("catalog")
    products: dict[str, str] = {}
    for product in example.catalog.products:
        products[product.code] = (await client.catalog.CreateProduct(requests.create_product(product))).id
    for meter in example.catalog.meters:
        await client.metering.CreateMeter(requests.create_meter(meter))
    plans: dict[str, plan_pb2.Plan] = {}
    for plan in example.catalog.plans:
        draft = await client.catalog.CreatePlan(requests.create_plan(plan, products=products))
        plans[plan.code] = await client.catalog.PublishPlan(requests.publish_plan(draft))
    if example.policy is not None:
        await client.dunning.CreateDunningPolicy(requests.create_policy(example.policy))
    customers: dict[str, str] = {}
    subscriptions: dict[tuple[str, int], str] = {}
    for customer in example.customers:
        tell(f"customer {customer.id}")
        created = await client.subscriptions.CreateCustomer(requests.create_customer(customer))
        customers[customer.id] = created.id
        # The means to pay come first: the first invoice may be due at once.
        await attach_payment_methods(client, customer, created.id, until=None)
        for number, subscription in enumerate(customer.subscriptions):
            request = requests.create_subscription(
                subscription, number=number, customer_id=created.id, plan=plans[subscription.plan]
            )
            answer = await client.subscriptions.CreateSubscription(request)
            subscriptions[customer.id, number] = answer.id
    return Loaded(customers=customers, subscriptions=subscriptions)


async def attach_payment_methods(
    client: Client, customer: Customer, customer_id: str, *, until: datetime | None
) -> None:
    """Those of the beginning, and those whose time has come."""
    for number, method in enumerate(customer.payment_methods):
        if method.at is None or (until is not None and method.at <= until):
            await client.payments.AttachPaymentMethod(
                requests.attach_payment_method(method, number=number, customer_id=customer_id)
            )
