"""Knows what subscriptions asks of the catalog: what a plan consists of."""

from __future__ import annotations

from common.period import Interval, Unit
from common.rpc import Desk, NeighbourRefused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from subscriptions.domain.errors import PlanNotFound
from subscriptions.domain.plan import Plan, Price
from subscriptions.domain.subscription import BillingTiming, PlanId, PriceId


async def get_plan(desk: Desk, plan_id: PlanId) -> Plan:
    """The plan as it is now, for the caller's seller."""
    try:
        plan = await desk.ask(CatalogServiceStub).GetPlan(catalog_service_pb2.GetPlanRequest(id=plan_id))
    except NeighbourRefused as refusal:
        if refusal.metadata.get("neighbour_reason") == "PLAN_NOT_FOUND":
            raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id) from refusal
        raise
    return Plan(
        id=PlanId(plan.id),
        is_active=plan.state == plan_pb2.Plan.ACTIVE,
        prices=tuple(_price(price) for price in plan.prices),
    )


def _price(price: price_pb2.Price) -> Price:
    unit = price_pb2.BillingInterval.Unit.Name(price.billing_interval.unit)
    return Price(
        id=PriceId(price.id),
        currency=price.currency,
        interval=Interval(Unit[unit], price.billing_interval.count),
        timing=BillingTiming[price_pb2.Price.BillingTiming.Name(price.billing_timing)],
        meter=price.meter,
    )
