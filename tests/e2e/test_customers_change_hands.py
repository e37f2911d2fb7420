"""Customers are sold, merged and split up; what they agreed to goes on, and nobody pays for another's time."""

from __future__ import annotations

from datetime import UTC, datetime

from google.type import money_pb2

from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as credit
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.changes import Billed, all_billed
from tests.support.sandbox import Sandbox, flat, per_unit, usage


def day(month: int, of_month: int) -> datetime:
    return datetime(2026, month, of_month, tzinfo=UTC)


async def test_a_subscription_is_transferred(sandbox: Sandbox) -> None:
    """On 16 June Ada's contract becomes Bob's: she is credited her half, he pays for his, and usage is whose it was."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("suite", flat("fee", "30"), per_unit("calls", "1", meter="calls"))
    other = await sandbox.plan("other", flat("fee", "100"))
    ada = await sandbox.customer("ada", token="sim:ok")
    bob = await sandbox.customer("bob", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan)
    await sandbox.travel(day(6, 10))
    await sandbox.subscribe(ada, other)
    await sandbox.use(usage(ada, "calls", day(6, 9), "3", event_id="hers"))
    await sandbox.travel(day(6, 16))
    await sandbox.client.subscriptions.TransferSubscription(
        subscriptions.TransferSubscriptionRequest(id=agreed.id, customer_id=bob.id)
    )
    await sandbox.travel(day(6, 20))
    await sandbox.use(usage(bob, "calls", day(6, 20), "5", event_id="his"))
    await sandbox.travel(day(7, 11))

    of_ada, of_bob = all_billed(await sandbox.invoices(ada)), all_billed(await sandbox.invoices(bob))
    assert of_bob == [
        Billed("2026-06-16", "2026-07-01", "1", "1/2", "15.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "1", "1/1", "30.00 EUR"),
        Billed("2026-06-16", "2026-07-01", "5", "1/1", "5.00 EUR"),
    ]
    taken_off = [line.amount for line in of_ada if line.kind]
    assert taken_off == ["-3.00 EUR", "-12.00 EUR"]
    assert Billed("2026-06-01", "2026-06-16", "3", "1/1", "3.00 EUR") in of_ada
    assert not [line for line in of_ada if line.start >= "2026-06-16" and line.amount.startswith(("15", "30", "5"))]


async def test_what_a_later_change_settles_is_asked_of_whoever_had_it(sandbox: Sandbox) -> None:
    """Bob's billing day cuts the period short in which Ada used something: she is billed then, not in July."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("suite", per_unit("calls", "1", meter="calls"))
    ada = await sandbox.customer("ada", token="sim:ok")
    bob = await sandbox.customer("bob", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan)
    await sandbox.use(usage(ada, "calls", day(6, 1), "3", event_id="hers"))
    await sandbox.travel(day(6, 16))
    moved = await sandbox.client.subscriptions.TransferSubscription(
        subscriptions.TransferSubscriptionRequest(id=agreed.id, customer_id=bob.id)
    )
    assert (moved.customer_id, list(moved.former_customer_ids)) == (bob.id, [ada.id])
    await sandbox.travel(day(6, 18))
    await sandbox.client.subscriptions.AlignSubscriptions(
        subscriptions.AlignSubscriptionsRequest(customer_id=bob.id, billing_day=20)
    )
    await sandbox.travel(day(6, 22))
    assert [each.amount for each in all_billed(await sandbox.invoices(ada))] == ["3.00 EUR"]


async def test_two_customers_become_one(sandbox: Sandbox) -> None:
    """From then on one invoice has both contracts, and takes up what the one had to its credit; what it had paid lasts,
    and its names still find its usage.
    """
    await sandbox.meter("calls")
    plan = await sandbox.plan("suite", flat("fee", "30"), per_unit("calls", "1", meter="calls"))
    other = await sandbox.plan("other", flat("fee", "100"))
    shop = await sandbox.customer("shop", token="sim:ok")
    group = await sandbox.customer("group", token="sim:ok")
    await sandbox.travel(day(6, 1))
    await sandbox.subscribe(shop, plan)
    await sandbox.subscribe(group, other)
    await sandbox.travel(day(6, 16))
    await sandbox.use(usage(shop, "calls", day(6, 3), "3", event_id="before"))
    await sandbox.client.credit.GrantCredit(
        credit.GrantCreditRequest(
            customer_id=shop.id,
            amount=money_pb2.Money(currency_code="EUR", units=7),
            kind=credit_pb2.CreditGrant.PROMOTIONAL,
        )
    )
    merged = await sandbox.client.customers.MergeCustomers(
        customers.MergeCustomersRequest(source_id=shop.id, target_id=group.id)
    )
    assert merged.id == group.id
    found = await sandbox.client.customers.LookupCustomer(customers.LookupCustomerRequest(key="shop"))
    assert found.id == group.id
    gone = await sandbox.client.subscriptions.GetCustomer(subscriptions.GetCustomerRequest(id=shop.id))
    assert gone.state == Customer.MERGED
    await sandbox.travel(day(6, 20))
    await sandbox.use(usage(shop, "calls", day(6, 20), "5", event_id="after"))
    await sandbox.travel(day(7, 2))

    invoices = await sandbox.invoices(group)
    july = [invoice for invoice in invoices if invoice.bill_time.ToDatetime(UTC) == day(7, 1)]
    assert sorted(all_billed(july)) == sorted(
        [
            Billed("2026-07-01", "2026-08-01", "1", "1/1", "100.00 EUR"),
            Billed("2026-07-01", "2026-08-01", "1", "1/1", "30.00 EUR"),
            Billed("2026-06-16", "2026-07-01", "5", "1/1", "5.00 EUR"),
        ]
    )
    of_shop = await sandbox.invoices(shop)
    assert all_billed(of_shop) == [
        Billed("2026-06-01", "2026-07-01", "1", "1/1", "30.00 EUR"),
        Billed("2026-06-01", "2026-06-16", "3", "1/1", "3.00 EUR"),
    ]
    assert [invoice.credit_applied.units for invoice in july] == [7]
    assert all(invoice.state == Invoice.PAID for invoice in (*invoices, *of_shop))
