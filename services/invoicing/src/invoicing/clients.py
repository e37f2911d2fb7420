"""What the invoicing service asks its neighbours, as functions; never inside a transaction."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from common import wire
from common.errors import InvalidArgument, Violation
from common.ids import SellerId
from common.period import EARLIEST, Period
from common.rpc import Desk, NeighbourRefused, NeighbourUnavailable
from invoicing.convert.neighbours import (
    billable_period_from_proto,
    customer_from_proto,
    seller_from_proto,
    usage_from_proto,
)
from invoicing.convert.price import price_from_proto
from invoicing.domain.errors import (
    CustomerNotFound,
    PlanNotFound,
    PriceNotFound,
    UsageTooDetailed,
)
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import BillablePeriod, UsageKey
from invoicing.domain.party import Customer, Seller
from invoicing.domain.price import Price
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub

PRICES_PER_CALL: Final = 1_000
QUERIES_PER_CALL: Final = 1_000

NAMES_PER_CALL: Final = 10_000
"""Of customers, in all queries of a call: 5 MB if they are as long as names can be."""

SUBSCRIPTIONS_PER_CALL: Final = 1_000
PRICES_CACHED_MAX: Final = 50_000
PRODUCT_TEXT_SECONDS: Final = 60
"""How long the name and the unit of a product are printed as they were: a new one is printed on the next invoices."""

CHECKED_PRICES_CACHED_MAX: Final = 500
CHECKED_PRICE_BYTES_MAX: Final = 20_000
"""Of one that is cached. What is larger is checked every time it comes."""

VERSIONS_MAX: Final = 1_000
SCHEDULE_SHORTEST: Final = timedelta(hours=1)
"""What is too much for an answer about so little time is too much for ever. From all time, 20 halvings lead there."""

VALUES_MAX: Final = 500_000
"""Of one period: they are gone through at once. When as many are held, no other period is asked for."""

VALUES_SHORTEST: Final = timedelta(milliseconds=1)
"""No period is halved further for its values. From a year, 35 halvings lead there."""

"""Of values that do not fit into one answer, as long as usage comes in between the answers."""


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
    product, unit_label = told.product.display_name, told.product.unit_label
    if (known.price.product, known.price.unit_label) == (product, unit_label):
        return known.price
    return replace(known.price, product=product, unit_label=unit_label)


async def price(desk: Desk, price_id: str) -> Price:
    try:
        return (await prices(desk, [price_id]))[price_id]
    except NeighbourRefused as error:
        if _reason(error) == "PRICE_NOT_FOUND":
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
            if _reason(error) != "PRICE_NOT_FOUND" or not unknown:
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
        if _reason(error) == "PLAN_NOT_FOUND":
            raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id) from error
        raise


async def plan_versions(desk: Desk, code: str) -> list[plan_pb2.Plan]:
    """All of a plan's versions, from the first; each one's number is one more than that of the one before."""
    found: list[plan_pb2.Plan] = []
    while len(found) < VERSIONS_MAX:
        request = catalog.GetPlanRequest(code=code, version=len(found) + 1)
        try:
            found.append(await desk.ask(CatalogServiceStub).GetPlan(request))
        except NeighbourRefused as error:
            if _reason(error) != "PLAN_NOT_FOUND":
                raise
            break
    return found


async def contract_prices(desk: Desk, *, page_token: str) -> tuple[list[price_pb2.Price], str]:
    """A page of the prices negotiated with all customers, and the token of the next one."""
    request = catalog.ListContractPricesRequest(page_size=PRICES_PER_CALL, page_token=page_token)
    answer = await desk.ask(CatalogServiceStub).ListContractPrices(request)
    return list(answer.prices), answer.next_page_token


async def usages(
    desk: Desk, customer: Customer, keys: Collection[UsageKey], *, proven: bool = True
) -> dict[UsageKey, Usage]:
    """What the customer used in all these periods, on all these meters, told as each key needs it.

    Without a proof of what was counted it takes a fraction of the time: where it is only shown.
    What is told in detail may be too much to hold all of it. Then some keys are missing, those of the latest periods.
    """
    wanted = sorted(set(keys), key=lambda key: (key.meter, key.period.start, key.period.end, key.needs.other_meters))
    found: dict[UsageKey, Usage] = {}
    for asked in _calls(customer, [key for key in wanted if not _in_detail(key)]):
        plain = [_plain(key, meter) for key in asked for meter in key.meters]
        answers = iter(await _batch(desk, customer, plain, proven=proven))
        for key in asked:
            own, *others = [next(answers) for _ in key.meters]
            found[key] = own.beside(others)
    held = 0
    for key in sorted((key for key in wanted if _in_detail(key)), key=lambda key: key.period.start):
        if held > VALUES_MAX:
            break
        found[key] = await _detailed(desk, customer, key)
        held += len(found[key].values) + len(found[key].groups)
    return found


def _in_detail(key: UsageKey) -> bool:
    return bool(key.needs.group_by) or key.needs.with_values


def _plain(key: UsageKey, meter: str) -> UsageKey:
    return UsageKey(meter, key.period)


def _calls(customer: Customer, keys: Iterable[UsageKey]) -> Iterator[list[UsageKey]]:
    """As many keys as one call answers. The meters of one key stay together: they are counted at the same moment."""
    call: list[UsageKey] = []
    size = names = 0
    for key in keys:
        more_names = len(key.meters) * len(customer.names_from(key.period.start))
        if call and (size + len(key.meters) > QUERIES_PER_CALL or names + more_names > NAMES_PER_CALL):
            yield call
            call, size, names = [], 0, 0
        call.append(key)
        size += len(key.meters)
        names += more_names
    if call:
        yield call


async def _batch(
    desk: Desk,
    customer: Customer,
    keys: Sequence[UsageKey],
    *,
    part_of: UsageKey | None = None,
    whole: Usage | None = None,
    proven: bool = True,
) -> list[Usage]:
    """`part_of`: what the customer is called depends on when the whole period begins, not on when a part of it does.
    `whole`: how far was counted, and by which version of the meter, was decided when that was asked for.
    """
    queries = [
        _query(
            customer,
            key,
            begins=(part_of or key).period.start,
            whole=whole,
            proven=proven,
        )
        for key in keys
    ]
    answer = await desk.ask(MeteringServiceStub).BatchQueryUsage(metering.BatchQueryUsageRequest(queries=queries))
    return [usage_from_proto(each, group_by=key.needs.group_by) for key, each in zip(keys, answer.usages, strict=True)]


def _query(
    customer: Customer, key: UsageKey, *, begins: datetime, whole: Usage | None, proven: bool
) -> metering.UsageQuery:
    names = customer.names_from(begins)
    return metering.UsageQuery(
        customer_id=customer.party.id,
        # Also by itself: the release before knows of no other names.
        external_id=customer.external_id if customer.external_id in names else "",
        names=names,
        meter=key.meter,
        period=wire.interval(key.period),
        group_by=key.needs.group_by,
        with_values=key.needs.with_values,
        through_position=whole.through_position if whole else None,
        meter_version=whole.meter_versions.get(key.meter, 0) if whole else 0,
        without_proof=not proven,
    )


async def _detailed(desk: Desk, customer: Customer, key: UsageKey) -> Usage:
    """In a call of its own: its answer may be as large as an answer can be, and would make those of others late."""
    try:
        [usage] = await _batch(desk, customer, [key])
    except NeighbourRefused as error:
        if _reason(error) == "TOO_MANY_VALUES":
            return await _valued_in_parts(desk, customer, key)
        if _reason(error) == "TOO_MANY_GROUPS":
            raise _too_detailed(error, customer, key) from error
        raise
    return usage


async def _valued_in_parts(desk: Desk, customer: Customer, key: UsageKey) -> Usage:
    """With values that are too many for one answer: those that were counted in the whole, whatever comes meanwhile."""
    [whole] = await _batch(desk, customer, [_plain(key, key.meter)])
    if whole.event_count > VALUES_MAX:
        raise UsageTooDetailed(
            f"{key.meter} has {whole.event_count} values, more than {VALUES_MAX}, in {key.period}",
            customer=customer.party.id,
            meter=key.meter,
        )
    return replace(whole, values=tuple(await _values(desk, customer, key, whole=whole)))


async def _values(desk: Desk, customer: Customer, key: UsageKey, *, whole: Usage) -> list[Decimal]:
    """In order of time: of the halves of the period, of their halves, and so on."""
    found: list[Decimal] = []
    parts = _halves(key.period)
    while parts:
        part = key._replace(period=parts.pop())
        try:
            [usage] = await _batch(desk, customer, [part], part_of=key, whole=whole)
        except NeighbourRefused as error:
            if _reason(error) != "TOO_MANY_VALUES":
                raise
            if part.period.end - part.period.start <= VALUES_SHORTEST:
                raise _too_detailed(error, customer, part) from error
            parts += _halves(part.period)
            continue
        found += usage.values
    return found


def _halves(period: Period) -> list[Period]:
    """The later one first."""
    middle = period.start + (period.end - period.start) / 2
    return [Period(middle, period.end), Period(period.start, middle)]


def _too_detailed(error: NeighbourRefused, customer: Customer, key: UsageKey) -> UsageTooDetailed:
    """As metering says it, and of whom and when."""
    return UsageTooDetailed(
        f"{_reason(error)}: {error.message}, in {key.period}",
        customer=customer.party.id,
        meter=key.meter,
        neighbour_reason=_reason(error),
    )


def _unless_customer(error: NeighbourRefused, customer_id: str) -> Exception:
    if _reason(error) == "CUSTOMER_NOT_FOUND":
        return CustomerNotFound(f"there is no customer {customer_id}", customer=customer_id)
    return error


def _reason(error: NeighbourRefused) -> str:
    return error.metadata.get("neighbour_reason", "")
