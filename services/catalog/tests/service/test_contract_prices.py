"""Prices negotiated with one customer, through the door."""

from __future__ import annotations

from typing import Any

import grpc
from google.type import decimal_pb2

from common import ids
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2, plan_pb2, price_pb2

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.

ADA = ids.mint("cus", SANDBOX_START)
BOB = ids.mint("cus", SANDBOX_START)


def per_unit(amount: str) -> price_pb2.Price:
    return price_pb2.Price(per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value=amount)))


async def negotiate(
    shop: Any, listed: price_pb2.Price, price: price_pb2.Price, customer_id: str = ADA
) -> price_pb2.Price:
    request = pb.CreateContractPriceRequest(list_price_id=listed.id, customer_id=customer_id, price=price)
    negotiated: price_pb2.Price = await shop.api.CreateContractPrice(request)
    return negotiated


async def test_a_negotiated_price_says_only_what_differs(suite: Suite, shop: Any) -> None:
    """The rest is that of the list; it can be billed like any other price, and the plan offers it to nobody else."""
    plan = await shop.published()
    [listed] = plan.prices
    negotiated = await negotiate(shop, listed, per_unit("9"))
    expected = price_pb2.Price()
    expected.CopyFrom(listed)
    expected.MergeFrom(per_unit("9"))
    expected.MergeFrom(price_pb2.Price(id=negotiated.id, customer_id=ADA, list_price_id=listed.id))
    assert negotiated == expected
    assert negotiated.id != listed.id
    found = await shop.api.GetPrice(pb.GetPriceRequest(id=negotiated.id))
    assert (found.price, found.product.id) == (negotiated, shop.seats.id)
    assert await shop.on_sale() == plan
    await suite.quiet()
    assert [event.price for event in suite.announced(events_pb2.PriceNegotiated)] == [negotiated]


async def test_a_negotiated_price_may_be_of_another_kind(shop: Any) -> None:
    """Two parties may agree on anything that can be billed, but the product and the currency."""
    plan = await shop.published()
    yearly = price_pb2.Price(
        code="ada",
        flat=price_pb2.FlatModel(amount=decimal_pb2.Decimal(value="1000")),
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        minimum_amount=decimal_pb2.Decimal(value="1200"),
    )
    negotiated = await negotiate(shop, plan.prices[0], yearly)
    assert (negotiated.code, negotiated.billing_interval, negotiated.billing_timing, negotiated.flat) == (
        yearly.code,
        yearly.billing_interval,
        yearly.billing_timing,
        yearly.flat,
    )
    assert negotiated.minimum_amount.value == "1200"


async def test_a_metered_price_stays_metered(shop: Any) -> None:
    """What goes without saying is what the list says, its meter too."""
    metered = shop.price(meter="api_calls")
    metered.billing_timing = price_pb2.Price.IN_ARREARS
    plan = await shop.published(prices=[metered])
    negotiated = await negotiate(shop, plan.prices[0], per_unit("0.01"))
    assert (negotiated.meter, negotiated.billing_timing) == ("api_calls", price_pb2.Price.IN_ARREARS)
    in_advance = per_unit("0.01")
    in_advance.billing_timing = price_pb2.Price.IN_ADVANCE
    with refused("INVALID_ARGUMENT") as refusal:
        await negotiate(shop, plan.prices[0], in_advance)
    assert refusal.field == "price.billing_timing"


async def test_a_contract_is_about_a_price_of_the_list(shop: Any) -> None:
    """One that everybody can see, in a plan that can be subscribed to."""
    with refused("PRICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await negotiate(shop, price_pb2.Price(id=ids.mint("price", SANDBOX_START)), per_unit("9"))
    draft = await shop.draft()
    with refused("PLAN_NOT_ACTIVE", grpc.StatusCode.FAILED_PRECONDITION):
        await negotiate(shop, draft.prices[0], per_unit("9"))
    plan = await shop.api.UpdatePlan(pb.UpdatePlanRequest(id=draft.id, display_name="Team", prices=[shop.price("15")]))
    await shop.publish(plan)
    with refused("PRICE_NOT_OF_LIST", grpc.StatusCode.FAILED_PRECONDITION):
        await negotiate(shop, draft.prices[0], per_unit("9"))
    negotiated = await negotiate(shop, plan.prices[0], per_unit("9"))
    with refused("PRICE_NOT_OF_LIST"):
        await negotiate(shop, negotiated, per_unit("8"))
    await shop.api.ArchivePlan(pb.ArchivePlanRequest(id=plan.id))
    with refused("PLAN_NOT_ACTIVE"):
        await negotiate(shop, plan.prices[0], per_unit("7"))


async def test_a_bad_negotiated_price_is_refused_with_its_field(shop: Any) -> None:
    """It is checked like any other, and it is for the same product in the same currency."""
    plan: plan_pb2.Plan = await shop.published()
    other = await shop.api.CreateProduct(pb.CreateProductRequest(code="other", display_name="Other"))
    for changes, customer_id, field in (
        ({"product_id": other.id}, ADA, "price.product_id"),
        ({"currency": "USD"}, ADA, "price.currency"),
        ({"code": "Not a code"}, ADA, "price.code"),
        ({"meter": "calls"}, ADA, "price.billing_timing"),
        ({"per_unit": price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="-1"))}, ADA, None),
        ({}, "Ada", "customer_id"),
        ({}, plan.id, "customer_id"),
    ):
        price = per_unit("9")
        price.MergeFrom(price_pb2.Price(**changes))
        with refused("INVALID_ARGUMENT") as refusal:
            await negotiate(shop, plan.prices[0], price, customer_id)
        assert refusal.field == (field or "price.per_unit.unit_price")
    with refused("INVALID_ARGUMENT") as refusal:
        await negotiate(shop, plan.prices[0], price_pb2.Price())
    assert refusal.field == "price.model"
    assert not (await shop.api.ListContractPrices(pb.ListContractPricesRequest())).prices


async def test_negotiated_prices_are_listed(shop: Any) -> None:
    """Of one customer, or of all, page by page, oldest first."""
    plan = await shop.published(prices=[shop.price(), shop.price(code="support")])
    made = []
    for customer_id in (ADA, BOB, ADA):
        for listed in plan.prices:
            made.append(await negotiate(shop, listed, per_unit("9"), customer_id))
    seen: list[price_pb2.Price] = []
    token = ""
    for _ in range(2):
        answer = await shop.api.ListContractPrices(pb.ListContractPricesRequest(page_size=4, page_token=token))
        seen += answer.prices
        token = answer.next_page_token
    assert (seen, token) == (made, "")
    of_bob = await shop.api.ListContractPrices(pb.ListContractPricesRequest(customer_id=BOB))
    assert list(of_bob.prices) == made[2:4]
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.ListContractPrices(pb.ListContractPricesRequest(customer_id="bob"))
    assert refusal.field == "customer_id"


async def test_a_version_has_no_negotiated_prices(shop: Any) -> None:
    """The next version of a plan offers what the list says, not what somebody else agreed to."""
    plan = await shop.published()
    await negotiate(shop, plan.prices[0], per_unit("9"))
    second = await shop.next_version()
    assert [(price.code, price.customer_id) for price in second.prices] == [("seat", "")]
