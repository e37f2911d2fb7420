"""Coupons on invoices: what is applied to a subscription is taken off what it is billed, and goes back with credits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from common import wire
from common.money import Money
from common.testing import SANDBOX_START, Suite
from saldo.catalog.v1 import coupon_pb2, coupon_service_pb2, plan_pb2
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange

from .conftest import Business, decimal, flat, pence, per_unit, told, utc

HOUR = timedelta(hours=1)
FEBRUARY, MARCH, APRIL = utc(2026, 2, 1), utc(2026, 3, 1), utc(2026, 4, 1)
ONCE, REPEATING, FOREVER = coupon_pb2.Coupon.ONCE, coupon_pb2.Coupon.REPEATING, coupon_pb2.Coupon.FOREVER


def percent(share: str) -> dict[str, Any]:  # Any: fields of a message
    return {"percent_off": coupon_pb2.PercentOff(percent=decimal(share))}


def amount(pennies: int) -> dict[str, Any]:  # Any: as above
    return {"amount_off": coupon_pb2.AmountOff(amounts=[wire.money(Money(pennies, "GBP"))])}


async def coupon(business: Business, code: str, **fields: Any) -> coupon_pb2.Coupon:  # Any: as above
    stub: Any = business.suite.stub(CouponServiceStub, "catalog")  # Any: grpc stubs are generated
    wanted = coupon_pb2.Coupon(code=code, display_name=code.title(), **{"duration": FOREVER, **fields})
    made: coupon_pb2.Coupon = await stub.CreateCoupon(coupon_service_pb2.CreateCouponRequest(coupon=wanted))
    return made


async def subscribe(
    business: Business,
    customer: customer_pb2.Customer,
    plan: plan_pb2.Plan,
    *applied: coupon_pb2.Coupon,
    periods: int = 0,
    quantity: str = "",
) -> subscription_pb2.Subscription:
    items = [
        subscription_pb2.ItemSpec(price_id=price.id, quantity=decimal(quantity) if quantity else None)
        for price in plan.prices
    ]
    request = subscriptions.CreateSubscriptionRequest(
        customer_id=customer.id,
        plan_id=plan.id,
        items=items if quantity else [],
        billing_day=1,
        discounts=[SubscriptionAction.ApplyDiscount(coupon_id=each.id, periods=periods) for each in applied],
    )
    made: subscription_pb2.Subscription = await business.subscriptions.CreateSubscription(request)
    await business.suite.quiet()
    return made


def shares(lines: Sequence[invoice_pb2.LineItem]) -> list[list[tuple[str, int]]]:
    """Of each line what was taken off it, in pence."""
    return [
        [(each.description, wire.parse_money(each.amount, field="amount").minor) for each in line.discounts]
        for line in lines
    ]


async def totals(business: Business, customer: customer_pb2.Customer) -> list[int]:
    return [pence(each) for each in await business.invoices(customer)]


async def test_coupons_take_off_what_they_were_applied_to(suite: Suite, business: Business) -> None:
    """In the order of their award, each on what is left, spread over the lines of the subscription and no other."""
    plan = await business.plan(await business.price("Seats", **per_unit("1")), await business.price("Fee", **flat("2")))
    other = await business.plan(await business.price("Other", **flat("7")))
    customer = await business.customer()
    tenth = await coupon(business, "tenth", **percent("10"))
    two = await coupon(business, "two", **amount(1_00), duration=ONCE)
    await subscribe(business, customer, other)
    await subscribe(business, customer, plan, two, tenth)
    first = (await business.invoices(customer))[-1]
    assert told(first) == [("Seats", 1_00), ("Fee", 2_00)]
    # 1.00 over 1.00 and 2.00, then a tenth of the 2.00 that are left, over 0.67 and 1.33.
    assert shares(first.line_items) == [[("Two", 33), ("Tenth", 7)], [("Two", 67), ("Tenth", 13)]]
    assert pence(first) == 1_80
    assert [each.discount_id for each in first.line_items[0].discounts] == [two.id, tenth.id]
    assert list(first.line_items[0].coupon_ids) == [two.id, tenth.id]
    assert wire.parse_money(first.discount_total, field="discount").minor == 1_20
    await suite.travel(FEBRUARY)
    last = (await business.invoices(customer))[-1]
    assert sorted(told(last)) == [("Fee", 2_00), ("Other", 7_00), ("Seats", 1_00)]
    assert pence(last) == 10_00 - 30


async def test_an_amount_is_used_up_over_invoices(suite: Suite, business: Business) -> None:
    """What one invoice had no room for stays for the next, and is never given twice."""
    plan = await business.plan(await business.price("Seats", **flat("10")))
    customer = await business.customer()
    await subscribe(business, customer, plan, await coupon(business, "welcome", **amount(25_00), duration=ONCE))
    for month in (FEBRUARY, MARCH, APRIL):
        await suite.travel(month)
    assert await totals(business, customer) == [0, 0, 5_00, 10_00]
    paid = await business.invoices(customer)
    assert [each.state for each in paid[:2]] == [invoice_pb2.Invoice.PAID] * 2


async def test_an_amount_is_given_to_a_customer_once(business: Business) -> None:
    """Applied to two subscriptions it is still one coupon."""
    plan = await business.plan(await business.price("Seats", **flat("10")))
    customer = await business.customer()
    welcome = await coupon(business, "welcome", **amount(15_00), duration=ONCE)
    await subscribe(business, customer, plan, welcome)
    await subscribe(business, customer, plan, welcome)
    assert await totals(business, customer) == [0, 5_00]


async def test_discounts_end_with_their_periods(suite: Suite, business: Business) -> None:
    """As many as the subscription says, and never more than the coupon does."""
    plan = await business.plan(await business.price("Seats", **flat("10")))
    by_agreement, by_coupon, by_amount, once = [await business.customer() for _ in range(4)]
    half = await coupon(business, "half", **percent("50"))
    two_months = await coupon(business, "two-months", **percent("50"), duration=REPEATING, duration_periods=2)
    each_month = await coupon(business, "each", **amount(4_00), duration=REPEATING, duration_periods=2)
    first_only = await coupon(business, "first", **percent("50"), duration=ONCE)
    await subscribe(business, by_agreement, plan, half, periods=1)
    await subscribe(business, by_coupon, plan, two_months)
    await subscribe(business, by_amount, plan, each_month)
    await subscribe(business, once, plan, first_only)
    for month in (FEBRUARY, MARCH):
        await suite.travel(month)
    assert await totals(business, by_agreement) == [5_00, 10_00, 10_00]
    assert await totals(business, by_coupon) == [5_00, 5_00, 10_00]
    assert await totals(business, by_amount) == [6_00, 6_00, 10_00]
    assert await totals(business, once) == [5_00, 10_00, 10_00]


async def test_a_coupon_is_for_its_products_and_plans(business: Business) -> None:
    """What it is not for it leaves alone, beside coupons that are for other things."""
    seats, fee = await business.price("Seats", **flat("10")), await business.price("Fee", **flat("20"))
    plan = await business.plan(seats, fee)
    customer = await business.customer()
    of_seats = await coupon(business, "seats", **percent("50"), products=[seats.code])
    of_plan = await coupon(business, "plan", **amount(3_00), plans=[plan.code])
    elsewhere = await business.plan(await business.price("Else", **flat("1")))
    of_others = await coupon(business, "others", **percent("50"), plans=[elsewhere.code])
    await subscribe(business, customer, plan, of_seats, of_plan, of_others)
    [invoice] = await business.invoices(customer)
    assert shares(invoice.line_items) == [[("Seats", 5_00), ("Plan", 60)], [("Plan", 2_40)]]


async def test_usage_is_discounted_when_it_is_counted(suite: Suite, business: Business) -> None:
    """The draft is discounted anew with what came late; so is the correction, and what it takes off goes back."""
    await business.meter("kwh")
    plan = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    customer = await business.customer()
    await subscribe(business, customer, plan, await coupon(business, "tenth", **percent("10")))
    await business.use(customer, "kwh", "100", utc(2026, 1, 10))
    await suite.travel(utc(2026, 1, 11))
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=customer.id))
    assert (told(upcoming), pence(upcoming)) == ([("Electricity", 10_00)], 9_00)
    await suite.travel(FEBRUARY)
    assert await totals(business, customer) == [9_00]
    await business.use(customer, "kwh", "100", FEBRUARY - HOUR)
    await suite.travel(FEBRUARY + HOUR)
    assert await totals(business, customer) == [18_00]
    await business.use(customer, "kwh", "50", FEBRUARY - HOUR)
    await business.use(customer, "kwh", "1000", FEBRUARY + HOUR)
    await suite.travel(MARCH + HOUR)
    march = (await business.invoices(customer))[-1]
    assert sorted(told(march)) == [("Electricity", 100_00), ("Electricity – late usage", 5_00)]
    assert pence(march) == 94_50
    await business.use(customer, "kwh", "-500", MARCH - HOUR)
    await business.use(customer, "kwh", "1000", MARCH + HOUR)
    await suite.travel(APRIL + HOUR)
    april = (await business.invoices(customer))[-1]
    by_name = dict(zip([line.description for line in april.line_items], shares(april.line_items), strict=True))
    assert by_name["Electricity – late usage"] == [("Tenth", -5_00)]
    assert pence(april) == 100_00 - 10_00 - (50_00 - 5_00)


async def change(business: Business, subscription: subscription_pb2.Subscription, quantity: str, at: datetime) -> None:
    await business.suite.travel(at)
    action = SubscriptionAction(
        set_quantity=SubscriptionAction.SetQuantity(item_id=subscription.items[0].id, quantity=decimal(quantity))
    )
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=subscription.id, actions=[action], timing=SubscriptionChange.NOW, unused=SubscriptionChange.CREDIT
        )
    )
    await business.suite.quiet()


async def test_a_credit_takes_its_share_of_the_discount_back(suite: Suite, business: Business) -> None:
    """What is credited is what was really paid for the rest of the month, and the rest is discounted anew."""
    plan = await business.plan(await business.price("Seats", **per_unit("31")))
    customer = await business.customer()
    tenth = await coupon(business, "tenth", **percent("10"))
    subscription = await subscribe(business, customer, plan, tenth, quantity="1")
    await change(business, subscription, "2", utc(2026, 1, 16))
    first, second = await business.invoices(customer)
    assert pence(first) == 27_90
    # 16 of 31 days: 32.00 for two seats, less the 16.00 for one.
    assert sorted(told(second)) == [("Seats", 32_00), ("Seats – unused", -16_00)]
    assert sorted(shares(second.line_items)) == [[("Tenth", -1_60)], [("Tenth", 3_20)]]
    assert pence(second) == 14_40


async def test_what_a_credit_takes_back_of_an_amount_can_be_used_again(suite: Suite, business: Business) -> None:
    """A change of mind in the middle of a month costs nobody a coupon, and gives nobody a second one."""
    plan = await business.plan(await business.price("Seats", **per_unit("31")))
    customer = await business.customer()
    welcome = await coupon(business, "welcome", **amount(10_00), duration=ONCE)
    monthly = await coupon(business, "monthly", **amount(6_20))
    one = await subscribe(business, customer, plan, welcome, quantity="1")
    other = await business.customer()
    two = await subscribe(business, other, plan, monthly, quantity="1")
    await change(business, one, "2", utc(2026, 1, 16))
    first, second = await business.invoices(customer)
    # 5.16 of the 10.00 come back with 16 of 31 days, and go to what is billed instead.
    assert (pence(first), pence(second)) == (21_00, 16_00)
    assert sorted(shares(second.line_items)) == [[("Welcome", -5_16)], [("Welcome", 5_16)]]
    await change(business, two, "2", utc(2026, 1, 16))
    await suite.travel(FEBRUARY)
    # Once for each month: 3.20 of the 6.20 come back, and go to the 32.00 less 16.00.
    assert await totals(business, other) == [24_80, 16_00, 55_80]


async def test_a_free_month_leaves_nothing_to_take_back(suite: Suite, business: Business) -> None:
    """All of it was given: the credit of the rest is nothing, and the rest is free again."""
    plan = await business.plan(await business.price("Seats", **per_unit("31")))
    customer = await business.customer()
    free = await coupon(business, "free", **percent("100"))
    subscription = await subscribe(business, customer, plan, free, quantity="1")
    await change(business, subscription, "2", utc(2026, 1, 16))
    await suite.travel(FEBRUARY)
    assert set(await totals(business, customer)) == {0}


async def test_a_credit_of_what_is_still_a_draft_waits(suite: Suite, business: Business) -> None:
    """How a coupon is spread over a draft is only certain when it is final."""
    await business.meter("kwh")
    plan = await business.plan(
        await business.price("Seats", **per_unit("31")),
        await business.price("Electricity", "kWh", meter="kwh", **per_unit("1")),
    )
    customer = await business.customer()
    welcome = await coupon(business, "welcome", **amount(4_00))
    items = [subscription_pb2.ItemSpec(price_id=price.id) for price in plan.prices]
    subscription = await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            items=items,
            billing_day=1,
            discounts=[SubscriptionAction.ApplyDiscount(coupon_id=welcome.id)],
        )
    )
    await suite.quiet()
    await business.use(customer, "kwh", "31", SANDBOX_START)
    await suite.travel(FEBRUARY)
    [_, draft] = await business.invoices(customer)
    assert draft.state == invoice_pb2.Invoice.DRAFT
    await change(business, subscription, "2", FEBRUARY + HOUR / 2)
    descriptions = [line.description for each in await business.invoices(customer) for line in each.line_items]
    assert "Seats – unused" not in descriptions
    await suite.travel(MARCH + HOUR)
    lines = [line for each in await business.invoices(customer) for line in each.line_items]
    [credit] = [line for line in lines if line.description == "Seats – unused"]
    assert wire.parse_money(credit.amount, field="amount").minor < 0
