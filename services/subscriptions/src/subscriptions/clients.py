"""Knows what subscriptions asks of the catalog: what a plan consists of, and what was negotiated about it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC
from typing import Final

from common.errors import InvalidArgument
from common.period import Interval, Unit
from common.rpc import Desk, NeighbourRefused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import PlanNotFound
from subscriptions.domain.plan import ContractPrice, Plan, Price
from subscriptions.domain.subscription import BillingTiming, PlanId, PriceId

PAGE_SIZE: Final = 1000
PAGES_MAX: Final = 10


async def get_plan(desk: Desk, plan_id: PlanId, *, customer_id: CustomerId, wanted: Collection[PriceId]) -> Plan:
    """The plan as it is now, for the caller's seller, with the negotiated prices that matter.

    Those are the wanted ones that are not of its list; when none are wanted, all that the customer has.
    """
    catalog = desk.ask(CatalogServiceStub)
    try:
        plan = await catalog.GetPlan(catalog_service_pb2.GetPlanRequest(id=plan_id))
    except NeighbourRefused as refusal:
        if refusal.metadata.get("neighbour_reason") == "PLAN_NOT_FOUND":
            raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id) from refusal
        raise
    unlisted = set(wanted) - {PriceId(price.id) for price in plan.prices}
    if not wanted:
        negotiated = await _prices_of_customer(catalog, customer_id)
    else:
        negotiated = await _prices_by_id(catalog, unlisted)
    return Plan(
        id=PlanId(plan.id),
        is_active=plan.state == plan_pb2.Plan.ACTIVE,
        effective_time=plan.effective_time.ToDatetime(UTC) if plan.HasField("effective_time") else None,
        trial_days=plan.trial_days,
        prices=tuple(_price(price) for price in plan.prices),
        contract_prices=tuple(_contract_price(price) for price in negotiated),
    )


async def _prices_of_customer(catalog: CatalogServiceStub, customer_id: CustomerId) -> list[price_pb2.Price]:
    """All that were negotiated with a customer, oldest first. One that is not seen would be billed at the list's price:
    a customer with more than can be gone through must say what is wanted.
    """
    found: list[price_pb2.Price] = []
    request = catalog_service_pb2.ListContractPricesRequest(customer_id=customer_id, page_size=PAGE_SIZE)
    for _ in range(PAGES_MAX):
        page = await catalog.ListContractPrices(request)
        found.extend(page.prices)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
    message = f"must be given: more than {PAGES_MAX * PAGE_SIZE} prices were negotiated with the customer"
    raise InvalidArgument(message, field="items")


async def _prices_by_id(catalog: CatalogServiceStub, price_ids: Collection[PriceId]) -> list[price_pb2.Price]:
    """Those that exist."""
    wanted = set(price_ids)
    while wanted:  # each refusal names at least one more that does not exist
        try:
            answer = await catalog.BatchGetPrices(catalog_service_pb2.BatchGetPricesRequest(ids=sorted(wanted)))
        except NeighbourRefused as refusal:
            missing = wanted.intersection(refusal.metadata.get("ids", "").split(","))
            if refusal.metadata.get("neighbour_reason") != "PRICE_NOT_FOUND" or not missing:
                raise
            wanted -= missing
        else:
            return [each.price for each in answer.prices]
    return []


def _contract_price(price: price_pb2.Price) -> ContractPrice:
    return ContractPrice(
        price=_price(price),
        customer_id=CustomerId(price.customer_id),
        list_price_id=PriceId(price.list_price_id),
    )


def _price(price: price_pb2.Price) -> Price:
    unit, count = price.billing_interval.unit, price.billing_interval.count
    once = unit == price_pb2.BillingInterval.ONCE
    return Price(
        id=PriceId(price.id),
        currency=price.currency,
        interval=None if once else Interval(Unit[price_pb2.BillingInterval.Unit.Name(unit)], count),
        timing=BillingTiming[price_pb2.Price.BillingTiming.Name(price.billing_timing)],
        meter=price.meter,
    )
