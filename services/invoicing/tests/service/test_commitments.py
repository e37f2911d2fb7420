"""Least amounts that are to be spent: what is missing is billed with the last part of the period, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from common import wire
from common.money import Money
from common.testing import Suite
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customers_service_pb2 import SetCustomerPayerRequest
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange

from .conftest import Business, flat, pence, per_unit, told, utc
from .test_coupons import REPEATING, coupon, percent

HOUR = timedelta(hours=1)
FEBRUARY, MARCH, APRIL = utc(2026, 2, 1), utc(2026, 3, 1), utc(2026, 4, 1)
COMMITTED = "Minimum commitment"
SINCE = "Minimum commitment – spent since"


async def committed(
    business: Business, pennies: int, *, months: int = 1, seats: str = "", billing_day: int = 1
) -> tuple[customer_pb2.Customer, subscription_pb2.Subscription]:
    """To usage at 0.10 and, if told, a monthly fee in advance."""
    await business.meter("kwh")
    prices = [await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10"))]
    prices += [await business.price("Fee", **flat(seats))] if seats else []
    plan = await business.plan(*prices)
    customer = await business.customer()
    request = subscriptions.CreateSubscriptionRequest(
        customer_id=customer.id,
        plan_id=plan.id,
        billing_day=billing_day,
        commitment=subscription_pb2.Commitment(minimum=wire.money(Money(pennies, "GBP")), months=months),
    )
    made: subscription_pb2.Subscription = await business.subscriptions.CreateSubscription(request)
    await business.suite.quiet()
    return customer, made


async def lines_at(business: Business, customer: customer_pb2.Customer, time: datetime) -> list[tuple[str, int]]:
    await business.suite.travel(time)
    return sorted(told((await business.invoices(customer))[-1]))


async def test_what_is_missing_is_a_line_of_its_own(suite: Suite, business: Business) -> None:
    """Computed anew with what came in the grace period; nothing where more was spent; all of it where nothing was."""
    customer, _ = await committed(business, 50_00)
    await business.use(customer, "kwh", "100", utc(2026, 1, 10))
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=customer.id))
    assert sorted(told(upcoming)) == [("Electricity", 0), (COMMITTED, 50_00)]
    assert await lines_at(business, customer, FEBRUARY) == [("Electricity", 10_00), (COMMITTED, 40_00)]
    await business.use(customer, "kwh", "50", FEBRUARY - HOUR)
    assert await lines_at(business, customer, FEBRUARY + HOUR) == [("Electricity", 15_00), (COMMITTED, 35_00)]
    [january] = await business.invoices(customer)
    assert (january.state, pence(january)) == (invoice_pb2.Invoice.OPEN, 50_00)
    [line] = [each for each in january.line_items if each.kind == invoice_pb2.LineItem.TRUE_UP]
    assert [step.amount.value for step in line.rating_steps] == ["50", "-15"]
    await business.use(customer, "kwh", "1000", MARCH - HOUR)
    assert await lines_at(business, customer, MARCH + HOUR) == [("Electricity", 100_00)]
    assert await lines_at(business, customer, APRIL + HOUR) == [("Electricity", 0), (COMMITTED, 50_00)]
    assert len(await business.invoices(customer)) == 3


async def test_what_late_usage_fills_up_is_taken_off_again(suite: Suite, business: Business) -> None:
    """The customer pays what was committed, and not what was missing on top."""
    customer, _ = await committed(business, 50_00)
    await suite.travel(FEBRUARY + HOUR)
    await business.use(customer, "kwh", "200", FEBRUARY - HOUR)
    await business.use(customer, "kwh", "600", FEBRUARY + 2 * HOUR)
    assert await lines_at(business, customer, MARCH + HOUR) == [
        ("Electricity", 60_00),
        ("Electricity – late usage", 20_00),
        (SINCE, -20_00),
    ]


async def test_a_commitment_over_months_counts_all_that_was_spent(suite: Suite, business: Business) -> None:
    """In advance and in arrears, on however many invoices."""
    customer, _ = await committed(business, 100_00, months=3, seats="20")
    await business.use(customer, "kwh", "100", utc(2026, 1, 10))
    assert await lines_at(business, customer, FEBRUARY + HOUR) == [("Electricity", 10_00), ("Fee", 20_00)]
    await suite.travel(MARCH + HOUR)
    # Three fees of 20.00 and 10.00 of usage; the fee of April does not count.
    assert await lines_at(business, customer, APRIL + HOUR) == [
        ("Electricity", 0),
        ("Fee", 20_00),
        (COMMITTED, 30_00),
    ]


async def test_a_part_of_a_period_is_committed_by_its_days(suite: Suite, business: Business) -> None:
    """Ended in the middle of February: 14 of 28 days of what was to be spent, less what was."""
    customer, subscription = await committed(business, 28_01)
    await suite.travel(FEBRUARY + HOUR)
    await business.use(customer, "kwh", "80", FEBRUARY + 2 * HOUR)
    await suite.travel(utc(2026, 2, 15))
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.NOW)
    )
    await suite.quiet()
    # 14.005 less 8.00
    assert await lines_at(business, customer, utc(2026, 2, 15) + HOUR) == [("Electricity", 8_00), (COMMITTED, 6_01)]
    await suite.travel(utc(2026, 6, 1))
    assert sum(pence(each) for each in await business.invoices(customer)) == 28_01 + 14_01


async def test_days_are_those_of_the_subscription(suite: Suite, business: Business) -> None:
    """Whoever pays lives in New York, where the month began on the day before."""
    customer, subscription = await committed(business, 62_00, seats="31")
    payer = await business.customer(time_zone="America/New_York")
    customers: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await customers.SetCustomerPayer(SetCustomerPayerRequest(id=customer.id, payer_id=payer.id))
    end = utc(2026, 1, 11, 6)
    await suite.travel(end)
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.NOW)
    )
    await suite.quiet()
    # 10 days of 31 of what is to be spent, and of the fee.
    missing = (COMMITTED, 20_00 - 10_00)
    assert await lines_at(business, payer, end) == [("Electricity", 0), missing]
    assert await lines_at(business, payer, end + HOUR) == [("Electricity", 0), missing]


async def test_a_commitment_comes_round_when_nothing_else_does(suite: Suite, business: Business) -> None:
    """A yearly fee in advance, and so much to be spent in every month: with a twelfth of the fee, by its days."""
    yearly = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1)
    plan = await business.plan(await business.price("Licence", billing_interval=yearly, **flat("365")))
    customer = await business.customer()
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            billing_day=1,
            commitment=subscription_pb2.Commitment(minimum=wire.money(Money(40_00, "GBP")), months=1),
        )
    )
    await suite.quiet()
    assert await lines_at(business, customer, FEBRUARY) == [(COMMITTED, 9_00)]
    assert await lines_at(business, customer, MARCH) == [(COMMITTED, 12_00)]
    assert len(await business.invoices(customer)) == 3


async def test_a_commitment_that_ends_is_no_more_trued_up(suite: Suite, business: Business) -> None:
    """The ten days that it was agreed for are; nothing after them."""
    customer, subscription = await committed(business, 31_00)
    await suite.travel(utc(2026, 1, 11))
    ended = SubscriptionAction(set_commitment=SubscriptionAction.SetCommitment())
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(id=subscription.id, actions=[ended], timing=SubscriptionChange.NOW)
    )
    await suite.travel(MARCH + HOUR)
    trued_up = [line for each in await business.invoices(customer) for line in told(each) if line[0] == COMMITTED]
    assert trued_up == [(COMMITTED, 10_00)]


async def test_what_somebody_else_paid_counts_however_long_ago(suite: Suite, business: Business) -> None:
    """For a commitment, and for a coupon of some periods: both are the subscription's, whoever got the invoice."""
    five_months = await coupon(business, "five", duration=REPEATING, duration_periods=5, **percent("50"))
    plan = await business.plan(await business.price("Fee", **flat("20")))
    payer, customer = await business.customer(), await business.customer()
    customers: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await customers.SetCustomerPayer(SetCustomerPayerRequest(id=customer.id, payer_id=payer.id))
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            billing_day=1,
            discounts=[SubscriptionAction.ApplyDiscount(coupon_id=five_months.id)],
            commitment=subscription_pb2.Commitment(minimum=wire.money(Money(200_00, "GBP")), months=6),
        )
    )
    await suite.quiet()
    await customers.SetCustomerPayer(SetCustomerPayerRequest(id=customer.id))
    await suite.travel(utc(2026, 7, 1) + HOUR)
    [january] = await business.invoices(payer)
    *months, july = await business.invoices(customer)
    assert (told(january), pence(january)) == ([("Fee", 20_00)], 10_00)
    assert [pence(each) for each in months] == [10_00, 10_00, 10_00, 10_00, 20_00]
    assert sorted(told(july)) == [("Fee", 20_00), (COMMITTED, 80_00)]


async def test_discounts_do_not_fill_or_lower_a_commitment(suite: Suite, business: Business) -> None:
    """What counts is what the lines cost before them, and the line itself is the whole of what is missing."""
    half = await coupon(business, "half", **percent("50"))
    plan = await business.plan(await business.price("Fee", **flat("20")))
    customer = await business.customer()
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            billing_day=1,
            discounts=[SubscriptionAction.ApplyDiscount(coupon_id=half.id)],
            commitment=subscription_pb2.Commitment(minimum=wire.money(Money(50_00, "GBP")), months=1),
        )
    )
    await suite.travel(FEBRUARY)
    last = (await business.invoices(customer))[-1]
    assert sorted(told(last)) == [("Fee", 20_00), (COMMITTED, 30_00)]
    assert pence(last) == 40_00
