"""Whose credit becomes another's in the world of the checker, because the two turned out to be one."""

from __future__ import annotations

from google.type.money_pb2 import Money

from common.travel import quiet
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as credit
from saldo.subscriptions.v1 import customer_pb2, customers_service_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from tools.client import Client


async def merge_with_credit(client: Client) -> None:
    """A part of it when it is free again."""
    source, target = [await _customer(client, name) for name in ("half of one", "the other half")]
    terms = {"customer_id": source, "kind": credit_pb2.CreditGrant.PROMOTIONAL, "priority": 3}
    await client.credit.GrantCredit(
        credit.GrantCreditRequest(amount=Money(currency_code="EUR", units=6), **terms)  # type: ignore[arg-type] # fields
    )
    reserved = await client.credit.ReserveCredit(
        credit.ReserveCreditRequest(
            customer_id=source, amount=Money(currency_code="EUR", units=2), time_to_live_seconds=3_600
        )
    )
    await client.customers.MergeCustomers(
        customers_service_pb2.MergeCustomersRequest(source_id=source, target_id=target)
    )
    await quiet(client.operations)
    await client.credit.ReleaseCreditReservation(credit.ReleaseCreditReservationRequest(id=reserved.id))
    await quiet(client.operations)


async def _customer(client: Client, name: str) -> str:
    made = await client.subscriptions.CreateCustomer(
        subscriptions.CreateCustomerRequest(
            external_id=name,
            contact=customer_pb2.Contact(display_name=name),
            billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="UTC", net_terms_days=30),
        )
    )
    return made.id
