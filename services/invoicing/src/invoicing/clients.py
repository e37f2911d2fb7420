"""What the invoicing service asks its neighbours, as functions; never inside a transaction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common import wire
from common.ids import SellerId
from common.period import EARLIEST
from common.rpc import Desk, NeighbourRefused
from invoicing.convert import (
    billable_period_from_proto,
    customer_from_proto,
    price_from_proto,
    seller_from_proto,
    usage_from_proto,
)
from invoicing.domain.errors import CustomerNotFound
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import BillablePeriod, UsageKey
from invoicing.domain.party import Customer, Seller
from invoicing.domain.price import Price
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

PRICES_PER_CALL: Final = 1_000
QUERIES_PER_CALL: Final = 1_000
SUBSCRIPTIONS_PER_CALL: Final = 1_000
PRICES_CACHED_MAX: Final = 50_000
SCHEDULE_SHORTEST: Final = timedelta(hours=1)
"""What is too much for an answer about so little time is too much for ever. From all time, 20 halvings lead there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSchedule:
    """What is to be billed for a customer, who it is, and when the next time is."""

    customer: Customer
    periods: list[BillablePeriod]
    through: datetime
    """Up to when it tells all; earlier than asked for when that would have been too much for one answer."""
    next_bill_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStart:
    """As much of a subscription as tells whether its customer may have been missed."""

    customer_id: str
    start_time: datetime
    create_time: datetime


async def schedule(desk: Desk, customer_id: str, *, after: datetime | None, through: datetime) -> CustomerSchedule:
    """Every period with a bill time in `[after, through]`, of all subscriptions; or CUSTOMER_NOT_FOUND.

    When that is too many for one answer, those of the first half of the time, or of the first quarter, and so on.
    """
    since = EARLIEST if after is None else max(after, EARLIEST)
    while True:
        request = subscriptions.ListBillablePeriodsRequest(
            customer_ids=[customer_id],
            after_time=wire.timestamp(since) if since > EARLIEST else None,
            through_time=wire.timestamp(through),
        )
        try:
            answer = await desk.ask(SubscriptionsServiceStub).ListBillablePeriods(request)
        except NeighbourRefused as error:
            if _reason(error) != "TOO_MANY_PERIODS" or through - since <= SCHEDULE_SHORTEST:
                raise _unless_customer(error, customer_id) from error
            through = since + (through - since) / 2
            continue
        return _schedule(answer, through)


def _schedule(answer: subscriptions.ListBillablePeriodsResponse, through: datetime) -> CustomerSchedule:
    [found] = answer.schedules
    next_time = found.next_bill_time if found.HasField("next_bill_time") else None
    return CustomerSchedule(
        customer=customer_from_proto(found.customer),
        periods=[billable_period_from_proto(each) for each in found.periods],
        through=through,
        next_bill_time=None if next_time is None else wire.parse_timestamp(next_time, field="next_bill_time"),
    )


async def customer(desk: Desk, customer_id: str) -> Customer:
    try:
        request = subscriptions.GetCustomerRequest(id=customer_id)
        return customer_from_proto(await desk.ask(SubscriptionsServiceStub).GetCustomer(request))
    except NeighbourRefused as error:
        raise _unless_customer(error, customer_id) from error


async def subscription_starts(desk: Desk, *, page_token: str) -> tuple[list[SubscriptionStart], str]:
    """A page of all the seller's subscriptions, and the token of the next one."""
    request = subscriptions.ListSubscriptionsRequest(page_size=SUBSCRIPTIONS_PER_CALL, page_token=page_token)
    answer = await desk.ask(SubscriptionsServiceStub).ListSubscriptions(request)
    starts = [
        SubscriptionStart(
            customer_id=each.customer_id,
            start_time=wire.parse_timestamp(each.start_time, field="start_time"),
            create_time=wire.parse_timestamp(each.create_time, field="create_time"),
        )
        for each in answer.subscriptions
    ]
    return starts, answer.next_page_token


async def seller(desk: Desk) -> Seller:
    return seller_from_proto(await desk.ask(CatalogServiceStub).GetSeller(catalog.GetSellerRequest()))


# Prices of published plans never change, so an answer is good for as long as the process lives.
_prices: Final[OrderedDict[tuple[SellerId, str], Price]] = OrderedDict()


async def prices(desk: Desk, price_ids: Iterable[str]) -> dict[str, Price]:
    seller_id = desk.caller.seller_id
    wanted = sorted(set(price_ids))
    found = {each: _prices[seller_id, each] for each in wanted if (seller_id, each) in _prices}
    missing = [each for each in wanted if each not in found]
    for first in range(0, len(missing), PRICES_PER_CALL):
        request = catalog.BatchGetPricesRequest(ids=missing[first : first + PRICES_PER_CALL])
        answer = await desk.ask(CatalogServiceStub).BatchGetPrices(request)
        for each in answer.prices:
            found[each.price.id] = _prices[seller_id, each.price.id] = price_from_proto(each)
    while len(_prices) > PRICES_CACHED_MAX:
        _prices.popitem(last=False)
    return found


async def usages(desk: Desk, customer: Customer, keys: Collection[UsageKey]) -> dict[UsageKey, Usage]:
    """What the customer used, on all these meters in all these periods."""
    wanted = sorted(set(keys), key=lambda key: (key.meter, key.period.start, key.period.end))
    found: dict[UsageKey, Usage] = {}
    for first in range(0, len(wanted), QUERIES_PER_CALL):
        asked = wanted[first : first + QUERIES_PER_CALL]
        answer = await desk.ask(MeteringServiceStub).BatchQueryUsage(
            metering.BatchQueryUsageRequest(queries=[_query(customer, key) for key in asked])
        )
        found.update(zip(asked, (usage_from_proto(usage) for usage in answer.usages), strict=True))
    return found


def _query(customer: Customer, key: UsageKey) -> metering.UsageQuery:
    return metering.UsageQuery(
        customer_id=customer.party.id,
        external_id=customer.external_id,
        meter=key.meter,
        period=wire.interval(key.period),
    )


def _unless_customer(error: NeighbourRefused, customer_id: str) -> Exception:
    if _reason(error) == "CUSTOMER_NOT_FOUND":
        return CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    return error


def _reason(error: NeighbourRefused) -> str:
    return error.metadata.get("neighbour_reason", "")
