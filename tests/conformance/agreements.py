"""Knows how a case agrees on something with Saldo, by the public calls: a customer, a plan and a subscription."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal as DecimalPb
from google.type.interval_pb2 import Interval

from common import wire
from common.money import Money, round_half_up, sum_money
from common.period import Period
from saldo.catalog.v1.price_pb2 import BillingInterval, Price
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import rating_service_pb2 as rating
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem, RatingStep
from saldo.invoicing.v1.rating_pb2 import UsageToRate
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import (
    BillablePeriod,
    ItemSpec,
    Subscription,
    SubscriptionAction,
    SubscriptionChange,
)
from tests.conformance.case import Unsupported
from tests.support.sandbox import Sandbox

BY_DAY: Final = SubscriptionChange.BY_DAY
BY_SECOND: Final = SubscriptionChange.BY_SECOND
UNITS: Final = {
    "D": BillingInterval.DAY,
    "W": BillingInterval.WEEK,
    "M": BillingInterval.MONTH,
    "Y": BillingInterval.YEAR,
}
TERMS_DAYS: Final = 365
"""Nobody pays in these stories, and none of them is about being late."""

_number = itertools.count(1)


# Times


def instant_of(text: str, zone: str = "UTC") -> datetime:
    """Dates are midnights in the zone, times without an offset are the zone's."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def time_of(timestamp: Timestamp) -> datetime:
    return wire.parse_timestamp(timestamp, field="time")


def period_of(interval: Interval) -> Period:
    return Period(time_of(interval.start_time), time_of(interval.end_time))


def date_of(time: datetime, zone: str = "UTC") -> date:
    return time.astimezone(ZoneInfo(zone)).date()


def interval_of(text: str, times: int = 1) -> BillingInterval:
    """`P3M`, or so many of them."""
    return BillingInterval(unit=UNITS[text[-1]], count=int(text[1:-1]) * times)


def interval_between(start: datetime, end: datetime) -> BillingInterval:
    """A month or a year if it is one, else as many days as it has."""
    if start.day == end.day and (end.year - start.year) * 12 + end.month - start.month == 1:
        return BillingInterval(unit=BillingInterval.MONTH, count=1)
    if (start.day, start.month) == (end.day, end.month) and end.year - start.year == 1:
        return BillingInterval(unit=BillingInterval.YEAR, count=1)
    return BillingInterval(unit=BillingInterval.DAY, count=(end - start) // timedelta(days=1))


# Agreeing


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A customer's subscription to a plan that nobody else has."""

    sandbox: Sandbox
    customer: Customer
    subscription: Subscription
    prices: Mapping[str, str]
    """The id of each price of the plan by its code."""

    async def schedule(self, through: datetime, *, after: datetime | None = None) -> pb.CustomerSchedule:
        return await schedule_of(self.sandbox, self.customer, through, after=after)

    async def end(self, at: datetime, *, unused: SubscriptionChange.Unused.ValueType = SubscriptionChange.KEEP) -> None:
        request = pb.CancelSubscriptionRequest(
            id=self.subscription.id,
            timing=pb.CancelSubscriptionRequest.AT_TIME,
            cancel_time=wire.timestamp(at),
            unused=unused,
        )
        await self.sandbox.client.subscriptions.CancelSubscription(request)

    async def pause(self, until: datetime) -> None:
        """Now, crediting what is paid for the time."""
        request = pb.PauseSubscriptionRequest(
            id=self.subscription.id, resume_time=wire.timestamp(until), unused=SubscriptionChange.CREDIT
        )
        await self.sandbox.client.subscriptions.PauseSubscription(request)

    async def coming_lines(self) -> Sequence[LineItem]:
        """Of the next invoice, as it would be now."""
        request = invoicing.GetUpcomingInvoiceRequest(customer_id=self.customer.id)
        upcoming = await self.sandbox.client.invoicing.GetUpcomingInvoice(request)
        assert isinstance(upcoming, Invoice)
        return upcoming.line_items


def plan_code() -> str:
    """That no other plan has."""
    return f"plan-{next(_number)}"


async def customer_in(sandbox: Sandbox, *, zone: str, currency: str) -> Customer:
    number = next(_number)
    return await sandbox.customer(
        f"case-{number}", currency=currency, time_zone=zone, net_terms_days=TERMS_DAYS, by_hand=True
    )


async def agree(
    sandbox: Sandbox,
    *prices: Price,
    start: datetime,
    zone: str = "UTC",
    billing_day: int = 0,
    trial_days: int = 0,
    proration: SubscriptionChange.Proration.ValueType = BY_DAY,
    quantities: Mapping[str, str] | None = None,
    customer: Customer | None = None,
    coupons: Sequence[str] = (),
) -> Agreement:
    """On all of these prices, or on those named with how many of each; with somebody new, unless said otherwise."""
    for price in prices:
        price.currency = price.currency or "USD"
        price.code = price.code or "price"
    plan = await sandbox.plan(plan_code(), *prices)
    customer = customer or await customer_in(sandbox, zone=zone, currency=prices[0].currency)
    ids = {price.code: price.id for price in plan.prices}
    subscription = await sandbox.client.subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            items=[
                ItemSpec(price_id=ids[code], quantity=DecimalPb(value=quantity))
                for code, quantity in (quantities or {}).items()
            ],
            start_time=wire.timestamp(start),
            billing_day=billing_day,
            trial_days=trial_days,
            proration=proration,
            discounts=[SubscriptionAction.ApplyDiscount(coupon_id=coupon_id) for coupon_id in coupons],
        )
    )
    return Agreement(sandbox=sandbox, customer=customer, subscription=subscription, prices=ids)


def flat_price(
    amount: str,
    interval: BillingInterval,
    *,
    code: str = "",
    currency: str = "",
    discount_percent: str = "",
    in_arrears: bool = False,
) -> Price:
    price = _price(interval, code, currency, discount_percent, in_arrears=in_arrears)
    price.flat.amount.value = amount
    return price


def unit_price(
    amount: str, interval: BillingInterval, *, code: str = "", currency: str = "", discount_percent: str = ""
) -> Price:
    price = _price(interval, code, currency, discount_percent)
    price.per_unit.unit_price.value = amount
    return price


def minimum_price(amount: str, interval: BillingInterval, *, currency: str = "") -> Price:
    """Nothing for what there is, and at least so much."""
    price = _price(interval, "", currency, "")
    price.per_unit.unit_price.value = "0"
    price.minimum_amount.value = amount
    return price


def _price(
    interval: BillingInterval, code: str, currency: str, discount_percent: str, *, in_arrears: bool = False
) -> Price:
    return Price(
        code=code,
        currency=currency,
        billing_interval=interval,
        billing_timing=Price.IN_ARREARS if in_arrears else Price.IN_ADVANCE,
        discount_percent=DecimalPb(value=discount_percent) if discount_percent else None,
    )


# What is billed


async def schedule_of(
    sandbox: Sandbox, customer: Customer, through: datetime, *, after: datetime | None = None
) -> pb.CustomerSchedule:
    request = pb.ListBillablePeriodsRequest(
        customer_ids=[customer.id],
        after_time=wire.timestamp(after) if after is not None else None,
        through_time=wire.timestamp(through),
    )
    [found] = (await sandbox.client.subscriptions.ListBillablePeriods(request)).schedules
    assert isinstance(found, pb.CustomerSchedule)
    return found


def share_of(billable: BillablePeriod) -> Fraction:
    return Fraction(billable.proration.numerator, billable.proration.denominator)


def days_of(billable: BillablePeriod, zone: str = "UTC") -> tuple[int, int]:
    """As people say it: so many of so many days."""
    full = period_of(billable.full_period)
    whole = (date_of(full.end, zone) - date_of(full.start, zone)).days
    days = share_of(billable) * whole
    if days.denominator != 1:
        raise Unsupported("a share that is not of days")
    return int(days), whole


async def amount_of(sandbox: Sandbox, billable: BillablePeriod) -> Money:
    """What invoicing makes of a period: the price for the quantity, the share of it, rounded once."""
    request = rating.RateRequest(price_id=billable.price_id, usage=UsageToRate(quantity=billable.quantity))
    rated = await sandbox.client.rating.Rate(request)
    owed = Money.rounded(Fraction(Decimal(rated.exact_amount.value)) * share_of(billable), billable.currency)
    return owed if billable.kind == BillablePeriod.OWED else -owed


def whole_amount(line: LineItem) -> Money:
    """The amount of a line, with what of a credit its invoice had no room for."""
    amount = wire.parse_money(line.amount, field="amount")
    put_off = [step for step in line.rating_steps if step.kind == RatingStep.CREDITED_LATER]
    later = [Money.rounded(Decimal(step.amount.value), amount.currency) for step in put_off]
    return amount - sum_money(later, amount.currency)


def as_published(exact: Fraction, published: str) -> Decimal:
    """To as many decimals as the other figure has."""
    return round_half_up(exact, len(str(published).partition(".")[2]))
