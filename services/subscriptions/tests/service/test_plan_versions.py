"""Subscribing to the versions of a plan, and at prices that were negotiated, with the real catalog next door."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions import clients
from subscriptions.domain.terms import ITEMS_MAX

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STATE = subscription_pb2.Subscription.State
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)


async def negotiate(
    shop: Any, customer: customer_pb2.Customer, of: price_pb2.Price, *, timing: str = "IN_ADVANCE"
) -> price_pb2.Price:
    """The same at another price."""
    price = shop.price("negotiated", timing="IN_ARREARS" if of.meter else timing)
    price.meter = of.meter
    price.currency = of.currency
    price.per_unit.unit_price.value = "9.99"
    contract: price_pb2.Price = await shop.catalog.CreateContractPrice(
        catalog_service_pb2.CreateContractPriceRequest(list_price_id=of.id, customer_id=customer.id, price=price)
    )
    return contract


async def next_version(shop: Any, plan: plan_pb2.Plan, *, effective: datetime | None = None) -> plan_pb2.Plan:
    draft = await shop.catalog.CreatePlanVersion(catalog_service_pb2.CreatePlanVersionRequest(code=plan.code))
    published: plan_pb2.Plan = await shop.catalog.PublishPlan(
        catalog_service_pb2.PublishPlanRequest(
            id=draft.id, effective_time=wire.timestamp(effective) if effective else None
        )
    )
    return published


def prices_of(subscription: subscription_pb2.Subscription) -> list[str]:
    return [item.price_id for item in subscription.items]


async def test_a_negotiated_price_is_taken_by_name(shop: Any) -> None:
    """With all that was agreed about it, also where it differs from the list: it is billed by that."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"))
    seats, calls = plan.prices
    contract = await negotiate(shop, ada, seats, timing="IN_ARREARS")
    items = [
        subscription_pb2.ItemSpec(price_id=calls.id),
        subscription_pb2.ItemSpec(price_id=contract.id, quantity=decimal_pb2.Decimal(value="3")),
    ]
    subscription = await shop.subscribe(ada, plan, items=items)
    assert prices_of(subscription) == [calls.id, contract.id]
    assert subscription.items[1].quantity.value == "3"
    due = await shop.due(ada, through=FEB_1)
    assert [(period.price_id, period.bill_time) for period in due.periods] == [
        (calls.id, wire.timestamp(FEB_1)),
        (contract.id, wire.timestamp(FEB_1)),
    ]


async def test_a_negotiated_price_stands_for_the_lists_when_nothing_is_said(shop: Any) -> None:
    """The last one that was negotiated; for whom there is none, the list's. A subscription keeps what it began with."""
    ada, bob = await shop.customer(), await shop.customer()
    plan, other = await shop.plan(shop.price("seats"), shop.metered("calls")), await shop.plan(shop.price("seats"))
    seats, calls = plan.prices
    await negotiate(shop, bob, other.prices[0])
    first = await negotiate(shop, ada, calls)
    before = await shop.subscribe(ada, plan, request_id="before")
    assert prices_of(before) == [seats.id, first.id]
    second = await negotiate(shop, ada, calls)
    assert prices_of(await shop.subscribe(ada, plan)) == [seats.id, second.id]
    assert prices_of(await shop.subscribe(bob, plan)) == [seats.id, calls.id]
    assert await shop.subscribe(ada, plan, request_id="before") == before


async def test_what_was_negotiated_with_others_or_elsewhere_is_refused(shop: Any) -> None:
    """By the field of the item that is wrong, also where some of the ids are of no price at all."""
    ada, bob = await shop.customer(), await shop.customer()
    plan, other = await shop.plan(shop.price("seats"), shop.price("disk")), await shop.plan(shop.price("seats"))
    own = await negotiate(shop, ada, plan.prices[0])
    nowhere = ids.mint("price", JAN_1)
    for stranger in (
        (await negotiate(shop, bob, plan.prices[0])).id,
        (await negotiate(shop, ada, other.prices[0])).id,
        other.prices[0].id,
        nowhere,
    ):
        items = [subscription_pb2.ItemSpec(price_id=price_id) for price_id in (own.id, stranger, nowhere)]
        with refused("PRICE_NOT_IN_PLAN", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, items=items)
        assert refusal.field == "items[1].price_id"
        assert refusal.metadata == {"plan": plan.id, "price": stranger}
    many = [subscription_pb2.ItemSpec(price_id=ids.mint("price", JAN_1)) for _ in range(ITEMS_MAX - 1)]
    with refused("PRICE_NOT_IN_PLAN") as refusal:
        await shop.subscribe(ada, plan, items=[subscription_pb2.ItemSpec(price_id=own.id), *many])
    assert refusal.field == "items[1].price_id"


async def test_a_list_price_and_its_negotiated_price_exclude_one_another(shop: Any) -> None:
    """The same seats would be billed twice."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("seats"))
    contract = await negotiate(shop, ada, plan.prices[0])
    for pair in ((plan.prices[0].id, contract.id), (contract.id, plan.prices[0].id)):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, items=[subscription_pb2.ItemSpec(price_id=price_id) for price_id in pair])
        assert refusal.field == "items[1].price_id"
    # Nobody has to take what was negotiated.
    subscription = await shop.subscribe(ada, plan, items=[subscription_pb2.ItemSpec(price_id=plan.prices[0].id)])
    assert prices_of(subscription) == [plan.prices[0].id]


async def test_all_that_was_negotiated_is_looked_through_or_nothing(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negotiated price on a page that nobody turned to would be billed as the list says, without a word."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("seats"), shop.price("disk"), shop.price("support"))
    contracts = [await negotiate(shop, ada, price) for price in plan.prices]
    monkeypatch.setattr(clients, "PAGE_SIZE", 1)
    monkeypatch.setattr(clients, "PAGES_MAX", 3)
    assert prices_of(await shop.subscribe(ada, plan)) == [contract.id for contract in contracts]
    monkeypatch.setattr(clients, "PAGES_MAX", 2)
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await shop.subscribe(ada, plan)
    assert refusal.field == "items"
    named = await shop.subscribe(ada, plan, items=[subscription_pb2.ItemSpec(price_id=contracts[2].id)])
    assert prices_of(named) == [contracts[2].id]


async def test_a_version_can_be_subscribed_to_from_when_it_takes_effect(suite: Suite, shop: Any) -> None:
    """Not before; ahead of time only for a service that begins when it is there."""
    ada = await shop.customer()
    old = await shop.plan(shop.price("seats"))
    new = await next_version(shop, old, effective=FEB_1)
    for start in (None, wire.timestamp(FEB_1 - timedelta(seconds=1)), wire.timestamp(JAN_1 - timedelta(days=9))):
        with refused("PLAN_NOT_SUBSCRIBABLE", grpc.StatusCode.FAILED_PRECONDITION):
            await shop.subscribe(ada, new, start_time=start)
    ahead = await shop.subscribe(ada, new, start_time=wire.timestamp(FEB_1))
    assert (ahead.state, prices_of(ahead)) == (STATE.PENDING, [new.prices[0].id])
    # The version before it is still what is sold.
    assert (await shop.subscribe(ada, old)).state == STATE.ACTIVE
    await suite.travel(FEB_1)
    assert (await shop.subscribe(ada, new)).state == STATE.ACTIVE


async def test_service_may_have_begun_before_the_plan_was_written(shop: Any) -> None:
    """Who moves to Saldo brings customers who have been served for years."""
    plan = await shop.plan(shop.price("seats"))
    start = JAN_1 - timedelta(days=400)
    subscription = await shop.subscribe(await shop.customer(), plan, start_time=wire.timestamp(start))
    assert (subscription.state, subscription.start_time) == (STATE.ACTIVE, wire.timestamp(start))


async def test_who_subscribed_to_a_version_stays_with_it(suite: Suite, shop: Any) -> None:
    """The next version closes it to others; for its subscribers nothing changes, period after period."""
    ada, bob = await shop.customer(), await shop.customer()
    old = await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, old)
    new = await next_version(shop, old)
    with refused("PLAN_NOT_SUBSCRIBABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.subscribe(bob, old)
    assert prices_of(await shop.subscribe(bob, new)) == [new.prices[0].id] != prices_of(subscription)
    await suite.travel(FEB_1)
    kept = await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id))
    assert (kept.state, kept.plan_id, kept.items) == (STATE.ACTIVE, old.id, subscription.items)
    due = await shop.due(ada, through=FEB_1)
    assert [(period.price_id, period.bill_time) for period in due.periods] == [
        (old.prices[0].id, wire.timestamp(JAN_1)),
        (old.prices[0].id, wire.timestamp(FEB_1)),
    ]
