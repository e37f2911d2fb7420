"""What the invoicing service asks its neighbours, as functions; never inside a transaction."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from common import wire
from common.errors import InvalidArgument, Violation
from common.ids import SellerId
from common.period import EARLIEST
from common.rpc import Desk, NeighbourRefused, NeighbourUnavailable
from invoicing.clients.counting import reason_of
from invoicing.convert.neighbours import (
    billable_period_from_proto,
    committed_period_from_proto,
    coupon_from_proto,
    customer_from_proto,
    seller_from_proto,
)
from invoicing.convert.price import price_from_proto
from invoicing.domain.commitments import CommittedPeriod
from invoicing.domain.coupons import Coupon
from invoicing.domain.errors import (
    CouponNotFound,
    CustomerNotFound,
    PlanNotFound,
    PriceNotFound,
    SubscriptionNotFound,
)
from invoicing.domain.lines_due import BillablePeriod
from invoicing.domain.party import Customer, Seller
from invoicing.domain.price import Price
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import coupon_service_pb2, plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

PRICES_PER_CALL: Final = 1_000
CUSTOMERS_PER_CALL: Final = 100
ASKED_TOGETHER: Final = timedelta(days=7)
"""So much earlier than needed some are asked about at most, for the sake of few calls."""

CUSTOMERS_PER_READ: Final = 1_000
SUBSCRIPTIONS_PER_CALL: Final = 1_000
PRICES_CACHED_MAX: Final = 50_000
PRODUCT_TEXT_SECONDS: Final = 60
"""How long the name and the unit of a product are printed, and its tax code counts, as they were: a new one is for the
next invoices.
"""

CHECKED_PRICES_CACHED_MAX: Final = 500
CHECKED_PRICE_BYTES_MAX: Final = 20_000
"""Of one that is cached. What is larger is checked every time it comes."""

COUPONS_CACHED_MAX: Final = 5_000
PLANS_CACHED_MAX: Final = 5_000
VERSIONS_MAX: Final = 1_000
TAX_CODES_PER_CALL: Final = 1_000
TAX_CODE_PAGES_MAX: Final = 20
SCHEDULE_SHORTEST: Final = timedelta(hours=1)
"""What is too much for an answer about so little time is too much for ever. From all time, 20 halvings lead there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSchedule:
    """What is to be billed for a customer, who it is, and when the next time is."""

    customer: Customer
    periods: list[BillablePeriod]
    commitments: list[CommittedPeriod]
    through: datetime
    """Up to when it tells all; earlier than asked for when that would have been too much for one answer."""
    next_bill_time: datetime | None
    under_way: list[BillablePeriod] = field(default_factory=list)
    """What is metered, has begun by then and is billed later; only where it was asked for."""

    @property
    def all_periods(self) -> Sequence[BillablePeriod]:
        return [*self.periods, *self.under_way] if self.under_way else self.periods


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStart:
    """As much of a subscription as tells whether its customer may have been missed."""

    customer_id: str
    start_time: datetime
    create_time: datetime


async def schedule(
    desk: Desk, customer_id: str, *, after: datetime | None, through: datetime, with_under_way: bool = False
) -> CustomerSchedule:
    """Every period with a bill time in `[after, through]`, of all subscriptions; or CUSTOMER_NOT_FOUND.

    When that is too many for one answer, those of the first half of the time, or of the first quarter, and so on.
    """
    since = EARLIEST if after is None else max(after, EARLIEST)
    while True:
        request = subscriptions.ListBillablePeriodsRequest(
            customer_ids=[customer_id],
            after_time=_after(since),
            through_time=wire.timestamp(through),
            with_under_way=with_under_way,
        )
        try:
            answer = await desk.ask(SubscriptionsServiceStub).ListBillablePeriods(request)
        except NeighbourRefused as error:
            if reason_of(error) != "TOO_MANY_PERIODS" or through - since <= SCHEDULE_SHORTEST:
                raise _unless_customer(error, customer_id) from error
            through = since + (through - since) / 2
            continue
        [told] = answer.schedules
        return _schedule(told, through)


async def schedules(
    desk: Desk, since: Mapping[str, datetime | None], *, through: datetime, with_under_way: bool = False
) -> dict[str, CustomerSchedule]:
    """The same of many customers, each from a time of its own, in few calls; where that is too much, one by one."""
    found: dict[str, CustomerSchedule] = {}
    for customer_ids in _asked_together(since):
        together = {each: since[each] for each in customer_ids}
        told = await _told_together(desk, together, through=through, with_under_way=with_under_way)
        found |= told or {
            each: await schedule(desk, each, after=after, through=through, with_under_way=with_under_way)
            for each, after in together.items()
        }
    return found


async def schedules_through_next(
    desk: Desk, since: Mapping[str, datetime | None], *, at: datetime
) -> dict[str, CustomerSchedule]:
    """The same, through the first bill time of any of them after an instant; through that, if none is to come."""
    calls = list(_asked_together(since))
    if len(calls) == 1:
        [customer_ids] = calls
        together = {each: since[each] for each in customer_ids}
        told = await _told_together(desk, together, through=at, through_next=True)
        if told is not None:
            return told
    now = await schedules(desk, dict.fromkeys(since, at), through=at)
    to_come = [each.next_bill_time for each in now.values() if each.next_bill_time is not None]
    return await schedules(desk, since, through=min(to_come, default=at))


async def _told_together(
    desk: Desk,
    since: Mapping[str, datetime | None],
    *,
    through: datetime,
    with_under_way: bool = False,
    through_next: bool = False,
) -> dict[str, CustomerSchedule] | None:
    """In one call, the first of them looked back to the earliest; None when there is no such answer."""
    request = subscriptions.ListBillablePeriodsRequest(
        customer_ids=since,
        after_time=_after(next(iter(since.values()))),
        through_time=wire.timestamp(through),
        with_under_way=with_under_way,
        through_next_bill_time=through_next,
    )
    try:
        answer = await desk.ask(SubscriptionsServiceStub).ListBillablePeriods(request)
    except NeighbourRefused as error:
        if reason_of(error) == "TOO_MANY_PERIODS":
            return None
        raise _unless_customer(error, ", ".join(since)) from error
    if through_next:
        if not answer.HasField("through_time"):
            return None  # the release before knows nothing of it
        through = wire.parse_timestamp(answer.through_time, field="through_time")
    return {
        each: _schedule(told, through, since=after)
        for (each, after), told in zip(since.items(), answer.schedules, strict=True)
    }


def _asked_together(since: Mapping[str, datetime | None]) -> Iterator[list[str]]:
    """Those that are looked back to about the same time. The first of each is looked back to the earliest."""
    call: list[str] = []
    earliest = EARLIEST
    for back_to, customer_id in sorted((back_to or EARLIEST, each) for each, back_to in since.items()):
        if call and (len(call) == CUSTOMERS_PER_CALL or back_to - earliest > ASKED_TOGETHER):
            yield call
            call = []
        if not call:
            earliest = back_to
        call.append(customer_id)
    if call:
        yield call


def _after(since: datetime | None) -> Timestamp | None:
    return None if since is None or since <= EARLIEST else wire.timestamp(since)


def _schedule(
    told: subscriptions.CustomerSchedule, through: datetime, *, since: datetime | None = None
) -> CustomerSchedule:
    next_time = told.next_bill_time if told.HasField("next_bill_time") else None
    periods = [billable_period_from_proto(each) for each in told.periods]
    return CustomerSchedule(
        customer=customer_from_proto(told.customer),
        periods=periods if since is None else [each for each in periods if each.bill_time >= since],
        commitments=[
            each
            for each in (committed_period_from_proto(told) for told in told.commitments)
            if since is None or each.bill_time >= since
        ],
        through=through,
        next_bill_time=None if next_time is None else wire.parse_timestamp(next_time, field="next_bill_time"),
        under_way=[billable_period_from_proto(each) for each in told.under_way],
    )


async def customer(desk: Desk, customer_id: str) -> Customer:
    return (await customers(desk, [customer_id]))[customer_id]


async def customer_as_called(desk: Desk, customer_id: str, at: datetime | None) -> Customer:
    """With the names that were known at an instant; or CUSTOMER_NOT_FOUND."""
    request = subscriptions.GetCustomerRequest(
        id=customer_id, names_known_time=None if at is None else wire.timestamp(at)
    )
    try:
        return customer_from_proto(await desk.ask(SubscriptionsServiceStub).GetCustomer(request))
    except NeighbourRefused as error:
        raise _unless_customer(error, customer_id) from error


async def customers(desk: Desk, customer_ids: Collection[str]) -> dict[str, Customer]:
    """By id; or CUSTOMER_NOT_FOUND."""
    wanted = sorted(customer_ids)
    found: dict[str, Customer] = {}
    for first in range(0, len(wanted), CUSTOMERS_PER_READ):
        request = subscriptions.BatchGetCustomersRequest(ids=wanted[first : first + CUSTOMERS_PER_READ])
        try:
            answer = await desk.ask(SubscriptionsServiceStub).BatchGetCustomers(request)
        except NeighbourRefused as error:
            raise _unless_customer(error, ", ".join(request.ids)) from error
        found |= {each.id: customer_from_proto(each) for each in answer.customers}
    return found


async def customer_of_subscription(desk: Desk, subscription_id: str) -> str:
    """Whose it is now; or SUBSCRIPTION_NOT_FOUND."""
    try:
        found = await desk.ask(SubscriptionsServiceStub).GetSubscription(
            subscriptions.GetSubscriptionRequest(id=subscription_id)
        )
    except NeighbourRefused as error:
        if reason_of(error) == "SUBSCRIPTION_NOT_FOUND":
            raise SubscriptionNotFound(
                f"there is no subscription {subscription_id}", subscription=subscription_id
            ) from error
        raise
    return found.customer_id


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


@dataclass(frozen=True, slots=True)
class _Known:
    """A price, and when the catalog last told the texts of its product."""

    price: Price
    told_at: float


# Prices of published plans never change, so an answer is good for as long as the process lives. What their products
# are called may change.
_prices: Final[OrderedDict[tuple[SellerId, str], _Known]] = OrderedDict()
_seconds: Callable[[], float] = time.monotonic


async def prices(desk: Desk, price_ids: Iterable[str]) -> dict[str, Price]:
    """With texts as they were at most `PRODUCT_TEXT_SECONDS` ago, or longer while the catalog is away."""
    seller_id, now = desk.caller.seller_id, _seconds()
    wanted = sorted(set(price_ids))
    known = {each: _prices[seller_id, each] for each in wanted if (seller_id, each) in _prices}
    found = {each: there.price for each, there in known.items()}
    unsure = [each for each in wanted if each not in known or now - known[each].told_at >= PRODUCT_TEXT_SECONDS]
    try:
        for first in range(0, len(unsure), PRICES_PER_CALL):
            request = catalog.BatchGetPricesRequest(ids=unsure[first : first + PRICES_PER_CALL])
            answer = await desk.ask(CatalogServiceStub).BatchGetPrices(request)
            for told in answer.prices:
                each = _told(told, known.get(told.price.id))
                found[each.id] = each
                _prices[seller_id, each.id] = _Known(each, now)
    except NeighbourUnavailable:
        if known.keys() != set(wanted):
            raise
    while len(_prices) > PRICES_CACHED_MAX:
        _prices.popitem(last=False)
    return found


def _told(told: catalog.PricedProduct, known: _Known | None) -> Price:
    """Of a price that is known, only the texts are new: what was prepared for it is found by it."""
    if known is None:
        return price_from_proto(told)
    product = told.product
    if (known.price.product, known.price.unit_label, known.price.tax_code) == (
        product.display_name,
        product.unit_label,
        product.tax_code,
    ):
        return known.price
    return replace(known.price, product=product.display_name, unit_label=product.unit_label, tax_code=product.tax_code)


async def price(desk: Desk, price_id: str) -> Price:
    try:
        return (await prices(desk, [price_id]))[price_id]
    except NeighbourRefused as error:
        if reason_of(error) == "PRICE_NOT_FOUND":
            raise PriceNotFound(f"there is no price {price_id}", price=price_id) from error
        raise


async def prices_that_exist(desk: Desk, price_ids: Iterable[str]) -> dict[str, Price]:
    """Those that there are. The catalog names some of the ids that are unknown to it at a time, at least one."""
    wanted = set(price_ids)
    while True:
        try:
            return await prices(desk, wanted)
        except NeighbourRefused as error:
            unknown = wanted & set(error.metadata.get("ids", "").split(","))
            if reason_of(error) != "PRICE_NOT_FOUND" or not unknown:
                raise
            wanted -= unknown


# A price that is sound once is sound for ever, and who rates at a price of his own does so many times.
_checked_prices: Final[OrderedDict[tuple[SellerId, bytes], Price]] = OrderedDict()


async def checked_price(desk: Desk, told: price_pb2.Price, *, field: str) -> Price:
    """A price that may not exist yet, if the catalog finds it sound; else what it finds wrong with the `field`."""
    key = desk.caller.seller_id, told.SerializeToString(deterministic=True)
    known = _checked_prices.get(key)
    if known is not None:
        _checked_prices.move_to_end(key)
        return known
    try:
        answer = await desk.ask(CatalogServiceStub).CheckPrice(catalog.CheckPriceRequest(price=told))
    except NeighbourRefused as error:
        if not error.violations:
            raise
        raise InvalidArgument.of(
            Violation(field + each.field.removeprefix("price"), each.description) for each in error.violations
        ) from error
    checked = price_from_proto(catalog.PricedProduct(price=answer))
    if len(key[1]) <= CHECKED_PRICE_BYTES_MAX:
        _checked_prices[key] = checked
    while len(_checked_prices) > CHECKED_PRICES_CACHED_MAX:
        _checked_prices.popitem(last=False)
    return checked


async def plan(desk: Desk, plan_id: str) -> plan_pb2.Plan:
    try:
        return await desk.ask(CatalogServiceStub).GetPlan(catalog.GetPlanRequest(id=plan_id))
    except NeighbourRefused as error:
        if reason_of(error) == "PLAN_NOT_FOUND":
            raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id) from error
        raise


# What a coupon takes off never changes, nor what a plan is called.
_coupons: Final[OrderedDict[tuple[SellerId, str], Coupon]] = OrderedDict()
_plan_codes: Final[OrderedDict[tuple[SellerId, str], str]] = OrderedDict()


async def coupons(desk: Desk, coupon_ids: Iterable[str]) -> dict[str, Coupon]:
    """Those with these ids, or COUPON_NOT_FOUND. There are few, and each is asked for once."""
    seller_id = desk.caller.seller_id
    found: dict[str, Coupon] = {}
    for each in sorted(set(coupon_ids)):
        known = _coupons.get((seller_id, each))
        if known is None:
            try:
                request = coupon_service_pb2.GetCouponRequest(id=each)
                known = coupon_from_proto(await desk.ask(CouponServiceStub).GetCoupon(request))
            except NeighbourRefused as error:
                if reason_of(error) == "COUPON_NOT_FOUND":
                    raise CouponNotFound(f"there is no coupon {each}", coupon=each) from error
                raise
            _coupons[seller_id, each] = known
        found[each] = known
    while len(_coupons) > COUPONS_CACHED_MAX:
        _coupons.popitem(last=False)
    return found


async def plan_codes(desk: Desk, plan_ids: Iterable[str]) -> dict[str, str]:
    """What these plans are called."""
    seller_id = desk.caller.seller_id
    found: dict[str, str] = {}
    for each in sorted({plan_id for plan_id in plan_ids if plan_id}):
        if (seller_id, each) not in _plan_codes:
            _plan_codes[seller_id, each] = (await plan(desk, each)).code
        found[each] = _plan_codes[seller_id, each]
    while len(_plan_codes) > PLANS_CACHED_MAX:
        _plan_codes.popitem(last=False)
    return found


async def plan_versions(desk: Desk, code: str) -> list[plan_pb2.Plan]:
    """All of a plan's versions, from the first; each one's number is one more than that of the one before."""
    found: list[plan_pb2.Plan] = []
    while len(found) < VERSIONS_MAX:
        request = catalog.GetPlanRequest(code=code, version=len(found) + 1)
        try:
            found.append(await desk.ask(CatalogServiceStub).GetPlan(request))
        except NeighbourRefused as error:
            if reason_of(error) != "PLAN_NOT_FOUND":
                raise
            break
    return found


async def has_tax_code(desk: Desk, code: str) -> bool:
    token = ""
    for _ in range(TAX_CODE_PAGES_MAX):
        request = catalog.ListTaxCodesRequest(page_size=TAX_CODES_PER_CALL, page_token=token)
        answer = await desk.ask(CatalogServiceStub).ListTaxCodes(request)
        if any(each.code == code for each in answer.tax_codes):
            return True
        token = answer.next_page_token
        if not token:
            break
    return False


async def contract_prices(desk: Desk, *, page_token: str) -> tuple[list[price_pb2.Price], str]:
    """A page of the prices negotiated with all customers, and the token of the next one."""
    request = catalog.ListContractPricesRequest(page_size=PRICES_PER_CALL, page_token=page_token)
    answer = await desk.ask(CatalogServiceStub).ListContractPrices(request)
    return list(answer.prices), answer.next_page_token


def _unless_customer(error: NeighbourRefused, customer_id: str) -> Exception:
    if reason_of(error) == "CUSTOMER_NOT_FOUND":
        return CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    return error
