"""The catalog through its door: real PostgreSQL, real gRPC."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import decimal_pb2, postal_address_pb2

from catalog.store import metadata
from common import ids, wire
from common.caller import Role
from common.migrate import differences
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2, plan_pb2, price_pb2, product_pb2, seller_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub

BERLIN = postal_address_pb2.PostalAddress(region_code="DE", locality="Berlin", address_lines=["Torstraße 1"])
MONTHLY = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def seat_price(product: product_pb2.Product, **changes: Any) -> price_pb2.Price:  # Any: fields of the message
    price = price_pb2.Price(
        code="seat",
        product_id=product.id,
        currency="EUR",
        billing_interval=MONTHLY,
        billing_timing=price_pb2.Price.IN_ADVANCE,
        per_unit=price_pb2.PerUnitModel(unit_price=decimal("12.50")),
    )
    price.MergeFrom(price_pb2.Price(**changes))
    return price


def graduated(*tiers: tuple[str | None, str]) -> price_pb2.GraduatedModel:
    return price_pb2.GraduatedModel(
        tiers=[
            price_pb2.Tier(up_to=decimal(up_to) if up_to else None, unit_price=decimal(unit)) for up_to, unit in tiers
        ]
    )


async def test_a_plan_is_written_published_and_announced(
    suite: Suite, catalog: Any, seats: product_pb2.Product
) -> None:
    """The main job: a draft with a price becomes open to subscriptions, and everyone hears of it once."""
    draft = await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=[seat_price(seats)]))
    assert draft.state == plan_pb2.Plan.DRAFT
    published = await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))
    assert published.state == plan_pb2.Plan.ACTIVE
    assert published.publish_time.ToDatetime(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert await catalog.GetPlan(pb.GetPlanRequest(code="team")) == published
    await suite.quiet()
    assert [event.plan for event in suite.announced(events_pb2.PlanPublished)] == [published]


@pytest.mark.own_services
async def test_what_is_published_never_changes(suite: Suite, catalog: Any, seats: product_pb2.Product) -> None:
    """Subscribers rely on the prices they agreed to, whatever code runs: the table itself refuses."""
    draft = await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=[seat_price(seats)]))
    await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))
    with refused("PLAN_NOT_DRAFT", grpc.StatusCode.FAILED_PRECONDITION):
        await catalog.CreatePrice(pb.CreatePriceRequest(plan_id=draft.id, price=seat_price(seats, code="more")))
    with refused("PLAN_NOT_DRAFT"):
        await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))
    connection = await asyncpg.connect(suite.urls["catalog"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        with pytest.raises(asyncpg.RaiseError, match="never change"):
            await connection.execute("UPDATE prices SET model = '{}'")
    finally:
        await connection.close()


async def test_an_empty_plan_cannot_be_published(catalog: Any) -> None:
    """It would sell nothing."""
    draft = await catalog.CreatePlan(pb.CreatePlanRequest(code="empty", display_name="Empty"))
    with refused("PLAN_EMPTY"):
        await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))


async def test_an_archived_plan_stays_archived(suite: Suite, catalog: Any, seats: product_pb2.Product) -> None:
    """Closing is for good; a draft cannot be closed."""
    draft = await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=[seat_price(seats)]))
    with refused("PLAN_NOT_ACTIVE"):
        await catalog.ArchivePlan(pb.ArchivePlanRequest(id=draft.id))
    await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))
    archived = await catalog.ArchivePlan(pb.ArchivePlanRequest(id=draft.id))
    assert archived.state == plan_pb2.Plan.ARCHIVED
    with refused("PLAN_NOT_ACTIVE"):
        await catalog.ArchivePlan(pb.ArchivePlanRequest(id=draft.id))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "XXX"}, "prices[0].currency"),
        ({"currency": "EURO"}, "prices[0].currency"),
        ({"code": "Seat!"}, "prices[0].code"),
        ({"meter": "api_calls"}, "prices[0].billing_timing"),
        ({"product_id": "prod_nonsense"}, "prices[0].product_id"),
        ({"billing_interval": price_pb2.BillingInterval(count=400)}, "prices[0].billing_interval.count"),
        ({"billing_interval": price_pb2.BillingInterval(count=121)}, "prices[0].billing_interval.count"),
        ({"per_unit": price_pb2.PerUnitModel(unit_price=decimal("-1"))}, "prices[0].per_unit.unit_price"),
        ({"per_unit": price_pb2.PerUnitModel(unit_price=decimal("1e999"))}, "prices[0].per_unit.unit_price"),
        ({"per_unit": price_pb2.PerUnitModel(unit_price=decimal("NaN"))}, "prices[0].per_unit.unit_price"),
        ({"per_unit": price_pb2.PerUnitModel(unit_price=decimal(f"0.{'0' * 18}1"))}, "prices[0].per_unit.unit_price"),
        ({"graduated": graduated()}, "prices[0].graduated.tiers"),
        ({"graduated": graduated(("10", "1"), ("5", "2"), (None, "3"))}, "prices[0].graduated.tiers[1].up_to"),
        ({"graduated": graduated(("10", "1"), ("10", "2"), (None, "3"))}, "prices[0].graduated.tiers[1].up_to"),
        ({"graduated": graduated((None, "1"), (None, "3"))}, "prices[0].graduated.tiers[0].up_to"),
        ({"graduated": graduated(("10", "1"))}, "prices[0].graduated.tiers[0].up_to"),
        ({"graduated": graduated(("0", "1"), (None, "1"))}, "prices[0].graduated.tiers[0].up_to"),
    ],
)
async def test_a_bad_price_is_refused_with_its_field(
    catalog: Any, seats: product_pb2.Product, changes: dict[str, Any], field: str
) -> None:
    """Whoever writes a catalog must see at once which line is wrong; a bad price must never reach an invoice."""
    request = pb.CreatePlanRequest(code="team", display_name="Team", prices=[seat_price(seats, **changes)])
    reason = "UNKNOWN_CURRENCY" if "currency" in changes else "INVALID_ARGUMENT"
    with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await catalog.CreatePlan(request)
    assert refusal.field == field
    with refused("PLAN_NOT_FOUND"):
        await catalog.GetPlan(pb.GetPlanRequest(code="team"))


async def test_codes_are_unique_and_products_exist(catalog: Any, seats: product_pb2.Product) -> None:
    """A code names one thing; a price of nothing cannot be billed."""
    with refused("PRODUCT_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS):
        await catalog.CreateProduct(pb.CreateProductRequest(code="seats", display_name="Others"))
    twice = [seat_price(seats), seat_price(seats)]
    with refused("PRICE_CODE_TAKEN"):
        await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=twice))
    stranger = seat_price(seats, product_id=ids.mint("prod", datetime(2026, 1, 1, tzinfo=UTC)))
    with refused("PRODUCT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=[stranger]))
    await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team"))
    with refused("PLAN_CODE_TAKEN"):
        await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team"))


async def test_a_repeated_request_is_carried_out_once(suite: Suite, catalog: Any) -> None:
    """Callers repeat what they are not sure of; ten at once make one product and one event."""
    request = pb.CreateProductRequest(code="support", display_name="Support", request_id="r1")
    answers = await asyncio.gather(*(catalog.CreateProduct(request) for _ in range(10)))
    assert len({answer.id for answer in answers}) == 1
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await catalog.CreateProduct(pb.CreateProductRequest(code="support", display_name="Another", request_id="r1"))
    await suite.quiet()
    assert len(suite.announced(events_pb2.ProductCreated)) == 1


async def test_prices_come_with_their_products(catalog: Any, seats: product_pb2.Product) -> None:
    """Invoicing asks for many at once and prints product names."""
    plan = await catalog.CreatePlan(
        pb.CreatePlanRequest(
            code="team",
            display_name="Team",
            prices=[
                seat_price(seats),
                seat_price(seats, code="tiers", graduated=graduated(("10", "1.5"), (None, "0.75"))),
                seat_price(seats, code="flat", flat=price_pb2.FlatModel(amount=decimal("99"))),
            ],
        )
    )
    wanted = [price.id for price in plan.prices]
    found = await catalog.BatchGetPrices(pb.BatchGetPricesRequest(ids=[*wanted, wanted[0]]))
    assert [each.price for each in found.prices] == sorted(plan.prices, key=lambda price: price.id)
    assert {each.product.display_name for each in found.prices} == {"Seats"}
    unknown = ids.mint("price", datetime(2026, 1, 1, tzinfo=UTC))
    with refused("PRICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
        await catalog.BatchGetPrices(pb.BatchGetPricesRequest(ids=[*wanted, unknown]))
    assert refusal.metadata["ids"] == unknown


async def test_lists_are_paged(catalog: Any) -> None:
    """Every page, in order, once."""
    made = [
        (await catalog.CreateProduct(pb.CreateProductRequest(code=f"p{n}", display_name=f"P{n}"))).id for n in range(5)
    ]
    seen, token = [], ""
    for _ in range(3):
        answer = await catalog.ListProducts(pb.ListProductsRequest(page_size=2, page_token=token))
        seen += [product.id for product in answer.products]
        token = answer.next_page_token
    assert (seen, token) == (made, "")
    with refused("INVALID_ARGUMENT") as refusal:
        await catalog.ListProducts(pb.ListProductsRequest(page_token="nonsense"))
    assert refusal.field == "page_token"


async def test_a_platform_creates_sellers(suite: Suite, catalog: Any) -> None:
    """A sandbox's clock begins where it was told to, in its id, and its owner sees it; a live seller has wall time."""
    platform = suite.stub(CatalogServiceStub, "catalog", role=Role.PLATFORM)
    start = datetime(2012, 1, 1, tzinfo=UTC)
    request = pb.CreateSellerRequest(
        mode=seller_pb2.Seller.SANDBOX,
        display_name="Acme",
        address=BERLIN,
        sandbox_start_time=wire.timestamp(start),
        request_id="acme",
    )
    sandbox = await platform.CreateSeller(request)
    assert await platform.CreateSeller(request) == sandbox
    assert ids.is_sandbox(sandbox.id)
    assert ids.instant_of(sandbox.id) == sandbox.create_time.ToDatetime(UTC) == start
    owner = suite.stub(CatalogServiceStub, "catalog", seller=sandbox.id)
    assert await owner.GetSeller(pb.GetSellerRequest()) == sandbox
    renamed = await owner.UpdateSeller(pb.UpdateSellerRequest(display_name="Acme Ltd"))
    assert (renamed.display_name, renamed.address, renamed.revision) == ("Acme Ltd", BERLIN, 2)
    assert sandbox.invoice_numbering == renamed.invoice_numbering == seller_pb2.Seller.CONTINUOUS
    yearly = await owner.UpdateSeller(pb.UpdateSellerRequest(invoice_numbering=seller_pb2.Seller.YEARLY))
    assert (yearly.invoice_numbering, yearly.display_name) == (seller_pb2.Seller.YEARLY, "Acme Ltd")
    assert (await owner.GetSeller(pb.GetSellerRequest())).invoice_numbering == seller_pb2.Seller.YEARLY
    with refused("INVALID_ARGUMENT") as refusal:
        unknown = 9
        await owner.UpdateSeller(pb.UpdateSellerRequest(invoice_numbering=unknown))  # type: ignore[arg-type] # on purpose
    assert refusal.field == "invoice_numbering"
    live = await platform.CreateSeller(
        pb.CreateSellerRequest(mode=seller_pb2.Seller.LIVE, display_name="Acme", address=BERLIN)
    )
    assert live.id.startswith("sel_0")
    with refused("INVALID_ARGUMENT"):
        await platform.CreateSeller(pb.CreateSellerRequest(mode=seller_pb2.Seller.SANDBOX, display_name="Acme"))
    await suite.quiet()
    assert [event.seller.id for event in suite.announced(events_pb2.SellerCreated)] == [sandbox.id, live.id]


async def test_sellers_do_not_see_one_another(suite: Suite, catalog: Any, seats: product_pb2.Product) -> None:
    """The ids of another seller are as unknown as ids that never were."""
    other = suite.stub(
        CatalogServiceStub, "catalog", seller=ids.SellerId(ids.mint(ids.SANDBOX, datetime(2026, 1, 1, tzinfo=UTC)))
    )
    plan = await catalog.CreatePlan(pb.CreatePlanRequest(code="team", display_name="Team", prices=[seat_price(seats)]))
    with refused("PLAN_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.GetPlan(pb.GetPlanRequest(id=plan.id))
    with refused("PLAN_NOT_FOUND"):
        await other.PublishPlan(pb.PublishPlanRequest(id=plan.id))
    with refused("PRODUCT_NOT_FOUND"):
        await other.CreatePlan(pb.CreatePlanRequest(code="x", display_name="X", prices=[seat_price(seats)]))
    with refused("PRICE_NOT_FOUND"):
        await other.BatchGetPrices(pb.BatchGetPricesRequest(ids=[plan.prices[0].id]))
    with refused("SELLER_NOT_FOUND"):
        await other.GetSeller(pb.GetSellerRequest(id=suite.seller))
    assert not (await other.ListPlans(pb.ListPlansRequest())).plans


async def test_roles_and_tokens(suite: Suite, catalog: Any) -> None:
    """Nobody without a token, viewers only read, owners create no sellers."""
    anonymous = suite.raw_stub(CatalogServiceStub, "catalog", token="")
    with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
        await anonymous.ListPlans(pb.ListPlansRequest())
    viewer = suite.stub(CatalogServiceStub, "catalog", role=Role.VIEWER)
    await viewer.ListPlans(pb.ListPlansRequest())
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.CreateProduct(pb.CreateProductRequest(code="x", display_name="X"))
    with refused("ROLE_NOT_ALLOWED"):
        await catalog.CreateSeller(pb.CreateSellerRequest())


@pytest.mark.own_services
async def test_migrations_and_tables_agree(suite: Suite, catalog: Any) -> None:
    """What store.py says is what a migrated database has."""
    assert await differences(suite.urls["catalog"], metadata) == []
