"""Knows how everything but usage comes into the suite: through public calls, each of which changes nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import grpc.aio

from common.document import Malformed
from saldo.catalog.v1 import plan_pb2
from tools.client import Client
from tools.demo import requests
from tools.demo.example import Customer, Example
from tools.demo.folder import CATALOG
from tools.meters import create_meter
from tools.refusals import APPLY_SECONDS, faults_of

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
    """Catalog, customers, payment methods and subscriptions, as the folder has them at the beginning.

    Fails with Malformed, before anything is loaded, when the catalog finds something wrong with the document.
    """
    tell("catalog")
    await _apply_catalog(client, example, validate_only=True)
    for meter in example.catalog.meters:
        await client.metering.CreateMeter(create_meter(meter))
    await _apply_catalog(client, example, validate_only=False)
    plans: dict[str, plan_pb2.Plan] = {}
    for plan in example.catalog.plans:
        plans[plan.code] = await client.catalog.GetPlan(requests.get_plan(plan))
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
        negotiated: dict[str, str] = {}
        for number, contract in enumerate(customer.contract_prices):
            price = await client.catalog.CreateContractPrice(
                requests.create_contract_price(
                    contract, number=number, customer_id=created.id, plan=plans[contract.plan]
                )
            )
            negotiated[price.list_price_id] = price.id
        for number, subscription in enumerate(customer.subscriptions):
            request = requests.create_subscription(
                subscription,
                number=number,
                customer_id=created.id,
                plan=plans[subscription.plan],
                negotiated=negotiated,
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


async def _apply_catalog(client: Client, example: Example, *, validate_only: bool) -> None:
    request = requests.apply_catalog(example.catalog.document, validate_only=validate_only)
    try:
        await client.catalog.ApplyCatalog(request, timeout=APPLY_SECONDS)
    except grpc.aio.AioRpcError as error:
        if faults := faults_of(error, CATALOG):
            raise Malformed(faults) from None
        raise
