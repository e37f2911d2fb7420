"""Knows what subscriptions asks of the catalog: what a plan consists of, what was negotiated about it, which features
and coupons there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC
from decimal import Decimal
from typing import Final

from common.errors import InvalidArgument
from common.period import Interval, Unit
from common.rpc import Desk, NeighbourRefused
from saldo.catalog.v1 import catalog_service_pb2, coupon_pb2, coupon_service_pb2, plan_pb2, price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from subscriptions.domain.coupon import Coupon
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import Enabled, FeatureKind, Grant, Limit, PlanEntitlement, Quota, Unlimited
from subscriptions.domain.errors import CouponNotFound, FeatureNotFound, PlanNotFound
from subscriptions.domain.plan import ContractPrice, Plan, Price
from subscriptions.domain.terms import BillingTiming, CouponId, PlanId, PriceId, ProductId

PAGE_SIZE: Final = 1000
PAGES_MAX: Final = 10
FEATURE_PAGES_MAX: Final = 100


async def get_plans(
    desk: Desk, wanted: Mapping[PlanId, Collection[PriceId]], *, customer_id: CustomerId
) -> dict[PlanId, Plan]:
    """Several plans, each with the negotiated prices that matter."""
    return {
        plan_id: await get_plan(desk, plan_id, customer_id=customer_id, wanted=price_ids)
        for plan_id, price_ids in wanted.items()
    }


async def get_plan(desk: Desk, plan_id: PlanId, *, customer_id: CustomerId, wanted: Collection[PriceId]) -> Plan:
    """The plan as it is now, for the caller's seller, with the negotiated prices that matter.

    Those are the wanted ones that are not of its list; when none are wanted, all that the customer has.
    """
    catalog = desk.ask(CatalogServiceStub)
    plan = await _plan(catalog, plan_id)
    unlisted = set(wanted) - {PriceId(price.id) for price in plan.prices}
    if not wanted:
        negotiated = await _prices_of_customer(catalog, customer_id)
    else:
        negotiated = await _prices_by_id(catalog, unlisted)
    return _with_negotiated(plan, negotiated)


async def get_listed_plan(desk: Desk, plan_id: PlanId) -> Plan:
    """The plan as it offers itself to everyone."""
    return _with_negotiated(await _plan(desk.ask(CatalogServiceStub), plan_id), ())


async def get_plan_for_each(
    desk: Desk, plan_id: PlanId, customer_ids: Collection[CustomerId]
) -> dict[CustomerId, Plan | InvalidArgument]:
    """The plan with all that was negotiated with each of some customers, or why that cannot be told."""
    catalog = desk.ask(CatalogServiceStub)
    plan = await _plan(catalog, plan_id)
    everybodys = await catalog.ListContractPrices(catalog_service_pb2.ListContractPricesRequest(page_size=PAGE_SIZE))
    if not everybodys.next_page_token:  # one question for all, while there are few
        return dict.fromkeys(customer_ids, _with_negotiated(plan, everybodys.prices))
    found: dict[CustomerId, Plan | InvalidArgument] = {}
    for customer_id in customer_ids:
        try:
            found[customer_id] = _with_negotiated(plan, await _prices_of_customer(catalog, customer_id))
        except InvalidArgument as refusal:
            found[customer_id] = refusal
    return found


def _with_negotiated(plan: plan_pb2.Plan, negotiated: Collection[price_pb2.Price]) -> Plan:
    return Plan(
        id=PlanId(plan.id),
        code=plan.code,
        is_add_on=plan.kind == plan_pb2.Plan.ADD_ON,
        is_active=plan.state == plan_pb2.Plan.ACTIVE,
        effective_time=plan.effective_time.ToDatetime(UTC) if plan.HasField("effective_time") else None,
        trial_days=plan.trial_days,
        prices=tuple(_price(price) for price in plan.prices),
        contract_prices=tuple(_contract_price(price) for price in negotiated),
        entitlements=_entitlements(plan),
    )


async def get_plan_entitlements(desk: Desk, plan_id: PlanId) -> tuple[PlanEntitlement, ...]:
    """What the plan entitles to."""
    return _entitlements(await _plan(desk.ask(CatalogServiceStub), plan_id))


async def get_feature_kind(desk: Desk, code: str) -> FeatureKind:
    """How a feature is granted, which never changes. Features are looked up by going through all of them."""
    catalog = desk.ask(CatalogServiceStub)
    request = catalog_service_pb2.ListFeaturesRequest(page_size=PAGE_SIZE)
    for _ in range(FEATURE_PAGES_MAX):
        page = await catalog.ListFeatures(request)
        for feature in page.features:
            if feature.code == code:
                return FeatureKind[product_pb2.Feature.Kind.Name(feature.kind)]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    raise FeatureNotFound(f"there is no feature {code}", feature=code)


async def get_coupons(
    desk: Desk, coupon_ids: Collection[CouponId], *, customer_id: CustomerId
) -> dict[CouponId, Coupon]:
    """Several coupons, each with whether the customer has redeemed it."""
    catalog = desk.ask(CouponServiceStub)
    return {coupon_id: await _coupon(catalog, coupon_id, customer_id) for coupon_id in dict.fromkeys(coupon_ids)}


async def _coupon(catalog: CouponServiceStub, coupon_id: CouponId, customer_id: CustomerId) -> Coupon:
    try:
        coupon = await catalog.GetCoupon(coupon_service_pb2.GetCouponRequest(id=coupon_id))
    except NeighbourRefused as refusal:
        if refusal.metadata.get("neighbour_reason") == "COUPON_NOT_FOUND":
            raise CouponNotFound(f"there is no coupon {coupon_id}", coupon=coupon_id) from refusal
        raise
    return Coupon(
        id=coupon_id,
        is_active=coupon.state == coupon_pb2.Coupon.ACTIVE,
        is_used_up=0 < coupon.redemptions_max <= coupon.redemption_count,
        valid_from_time=coupon.valid_from_time.ToDatetime(UTC) if coupon.HasField("valid_from_time") else None,
        valid_until_time=coupon.valid_until_time.ToDatetime(UTC) if coupon.HasField("valid_until_time") else None,
        currencies=frozenset(amount.currency_code for amount in coupon.amount_off.amounts),
        redeemed_by=customer_id if await _has_redeemed(catalog, coupon_id, customer_id) else None,
    )


async def _has_redeemed(catalog: CouponServiceStub, coupon_id: CouponId, customer_id: CustomerId) -> bool:
    """Whether there is a redemption that was not taken back."""
    request = coupon_service_pb2.ListRedemptionsRequest(
        coupon_id=coupon_id, customer_id=customer_id, page_size=PAGE_SIZE
    )
    for _ in range(PAGES_MAX):
        page = await catalog.ListRedemptions(request)
        if any(not redemption.HasField("release_time") for redemption in page.redemptions):
            return True
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    return False


async def _plan(catalog: CatalogServiceStub, plan_id: PlanId) -> plan_pb2.Plan:
    try:
        return await catalog.GetPlan(catalog_service_pb2.GetPlanRequest(id=plan_id))
    except NeighbourRefused as refusal:
        if refusal.metadata.get("neighbour_reason") == "PLAN_NOT_FOUND":
            raise PlanNotFound(f"there is no plan {plan_id}", plan=plan_id) from refusal
        raise


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
    once = price.billing_interval.unit == price_pb2.BillingInterval.ONCE
    return Price(
        id=PriceId(price.id),
        product_id=ProductId(price.product_id),
        currency=price.currency,
        interval=None if once else _interval(price.billing_interval),
        timing=BillingTiming[price_pb2.Price.BillingTiming.Name(price.billing_timing)],
        meter=price.meter,
    )


def _entitlements(plan: plan_pb2.Plan) -> tuple[PlanEntitlement, ...]:
    return tuple(PlanEntitlement(each.feature, _grant(each)) for each in plan.entitlements)


def _grant(granted: plan_pb2.PlanEntitlement) -> Grant:
    match granted.WhichOneof("grant"):
        case "enabled":
            return Enabled(granted.enabled)
        case "limit":
            return Limit(Decimal(granted.limit.value))
        case "quota":
            return Quota(Decimal(granted.quota.value), _interval(granted.reset_interval))
        case _:
            return Unlimited()


def _interval(interval: price_pb2.BillingInterval) -> Interval:
    return Interval(Unit[price_pb2.BillingInterval.Unit.Name(interval.unit)], interval.count)
