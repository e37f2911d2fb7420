"""The catalog's door: parse, call, answer."""

from __future__ import annotations

from collections.abc import Sequence

from catalog import store, usecases
from catalog.convert import (
    NAME_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    UNIT_LABEL_LENGTH_MAX,
    address_bytes,
    plan_to_proto,
    price_from_proto,
    priced_product_to_proto,
    product_to_proto,
    seller_to_proto,
)
from catalog.domain.plan import PlanId
from catalog.domain.price import PriceId
from catalog.domain.product import ProductId, check_code
from catalog.domain.seller import check_number_prefix
from catalog.usecases import Imprint
from common import ids, wire
from common.auth import EVERYONE, PLATFORM, RoleNotAllowed
from common.caller import EVERY_SELLER
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import open_to, transactional
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, product_pb2, seller_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceServicer

PRICE_IDS_MAX = 1000


class CatalogApi(CatalogServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @open_to(PLATFORM)
    @transactional
    async def CreateSeller(self, request: pb.CreateSellerRequest, tx: Tx) -> seller_pb2.Seller:
        if tx.seller_id != EVERY_SELLER:
            raise RoleNotAllowed("only a platform caller that speaks for no seller may create one")
        mode = wire.enum_name(seller_pb2.Seller.Mode, request.mode, field="mode")
        start = None
        if mode == "SANDBOX":
            start = wire.parse_timestamp(request.sandbox_start_time, field="sandbox_start_time")
        elif request.HasField("sandbox_start_time"):
            raise InvalidArgument("must be absent: a live seller has wall time", field="sandbox_start_time")
        if start is not None and start.microsecond % 1000:
            raise InvalidArgument("must be in whole milliseconds", field="sandbox_start_time")
        seller = await usecases.create_seller(
            tx,
            imprint=Imprint(
                display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
                address=address_bytes(request.address),
                tax_id=wire.text(request.tax_id, field="tax_id", max_length=NAME_LENGTH_MAX, required=False),
                email=wire.text(request.email, field="email", max_length=NAME_LENGTH_MAX, required=False),
                payment_instructions=_instructions(request.payment_instructions),
            ),
            invoice_number_prefix=check_number_prefix(request.invoice_number_prefix, field="invoice_number_prefix"),
            sandbox_start=start,
        )
        return seller_to_proto(seller)

    @open_to(EVERYONE)
    @transactional
    async def GetSeller(self, request: pb.GetSellerRequest, tx: Tx) -> seller_pb2.Seller:
        if not request.id and tx.seller_id == EVERY_SELLER:
            raise InvalidArgument("is required for a platform caller", field="id")
        seller_id = ids.check_seller(request.id, field="id") if request.id else tx.seller_id
        return seller_to_proto(await usecases.get_seller(tx, seller_id))

    @transactional
    async def UpdateSeller(self, request: pb.UpdateSellerRequest, tx: Tx) -> seller_pb2.Seller:
        imprint = Imprint(
            display_name=(
                wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX)
                if request.HasField("display_name")
                else None
            ),
            address=address_bytes(request.address) if request.HasField("address") else None,
            tax_id=(
                wire.text(request.tax_id, field="tax_id", max_length=NAME_LENGTH_MAX, required=False)
                if request.HasField("tax_id")
                else None
            ),
            email=(
                wire.text(request.email, field="email", max_length=NAME_LENGTH_MAX, required=False)
                if request.HasField("email")
                else None
            ),
            payment_instructions=(
                _instructions(request.payment_instructions) if request.HasField("payment_instructions") else None
            ),
        )
        return seller_to_proto(await usecases.update_seller(tx, imprint))

    @transactional
    async def CreateProduct(self, request: pb.CreateProductRequest, tx: Tx) -> product_pb2.Product:
        product = await usecases.create_product(
            tx,
            code=check_code(request.code),
            display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
            description=wire.text(request.description, field="description", max_length=TEXT_LENGTH_MAX, required=False),
            unit_label=wire.text(
                request.unit_label, field="unit_label", max_length=UNIT_LABEL_LENGTH_MAX, required=False
            ),
        )
        return product_to_proto(product)

    @transactional
    async def GetProduct(self, request: pb.GetProductRequest, tx: Tx) -> product_pb2.Product:
        return product_to_proto(await store.product(tx, ProductId(ids.check(request.id, "prod"))))

    @transactional
    async def ListProducts(self, request: pb.ListProductsRequest, tx: Tx) -> pb.ListProductsResponse:
        page = wire.page(request)
        found = await store.list_products(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListProductsResponse(
            products=[product_to_proto(product) for product in found[: page.size]],
            next_page_token=_next([product.id for product in found], page.size),
        )

    @transactional
    async def CreatePlan(self, request: pb.CreatePlanRequest, tx: Tx) -> plan_pb2.Plan:
        prices = [
            price_from_proto(price, price_id=PriceId(tx.new_id("price")), field=f"prices[{n}]")
            for n, price in enumerate(request.prices)
        ]
        plan = await usecases.create_plan(
            tx,
            code=check_code(request.code),
            display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
            prices=prices,
        )
        return plan_to_proto(plan)

    @transactional
    async def CreatePrice(self, request: pb.CreatePriceRequest, tx: Tx) -> plan_pb2.Plan:
        plan_id = PlanId(ids.check(request.plan_id, "plan", field="plan_id"))
        price = price_from_proto(request.price, price_id=PriceId(tx.new_id("price")), field="price")
        return plan_to_proto(await usecases.create_price(tx, plan_id, price))

    @transactional
    async def PublishPlan(self, request: pb.PublishPlanRequest, tx: Tx) -> plan_pb2.Plan:
        return plan_to_proto(await usecases.publish_plan(tx, PlanId(ids.check(request.id, "plan"))))

    @transactional
    async def ArchivePlan(self, request: pb.ArchivePlanRequest, tx: Tx) -> plan_pb2.Plan:
        return plan_to_proto(await usecases.archive_plan(tx, PlanId(ids.check(request.id, "plan"))))

    @transactional
    async def GetPlan(self, request: pb.GetPlanRequest, tx: Tx) -> plan_pb2.Plan:
        if bool(request.id) == bool(request.code):
            raise InvalidArgument("must be given, or a code instead", field="id")
        if request.code:
            return plan_to_proto(await store.plan_by_code(tx, check_code(request.code)))
        return plan_to_proto(await store.plan(tx, PlanId(ids.check(request.id, "plan"))))

    @transactional
    async def ListPlans(self, request: pb.ListPlansRequest, tx: Tx) -> pb.ListPlansResponse:
        page = wire.page(request)
        found = await store.list_plans(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListPlansResponse(
            plans=[plan_to_proto(plan) for plan in found[: page.size]],
            next_page_token=_next([plan.id for plan in found], page.size),
        )

    @transactional
    async def BatchGetPrices(self, request: pb.BatchGetPricesRequest, tx: Tx) -> pb.BatchGetPricesResponse:
        if not 1 <= len(request.ids) <= PRICE_IDS_MAX:
            raise InvalidArgument(f"must have 1 to {PRICE_IDS_MAX} ids", field="ids")
        wanted = {PriceId(ids.check(each, "price", field=f"ids[{n}]")) for n, each in enumerate(request.ids)}
        found = await usecases.priced_products(tx, wanted)
        return pb.BatchGetPricesResponse(prices=[priced_product_to_proto(*each) for each in found])


def _instructions(text: str) -> str:
    return wire.text(text, field="payment_instructions", max_length=TEXT_LENGTH_MAX, required=False, multiline=True)


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when one row more than the page was found."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
