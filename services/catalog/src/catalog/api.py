"""The catalog's door: parse, call, answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from catalog import store
from catalog.convert import (
    NAME_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    UNIT_LABEL_LENGTH_MAX,
    address_bytes,
    checked_price,
    contract_price_from_proto,
    feature_to_proto,
    numbering_from_proto,
    place,
    plan_terms_from_proto,
    plan_to_proto,
    price_from_proto,
    price_to_proto,
    priced_product_to_proto,
    product_to_proto,
    seller_to_proto,
    shown,
    tax_code_to_proto,
)
from catalog.document.changes import change_to_proto
from catalog.domain.feature import Kind, check_meter
from catalog.domain.plan import PlanId
from catalog.domain.price import Price, PriceId
from catalog.domain.product import ProductId, check_code
from catalog.domain.seller import check_number_prefix
from catalog.usecases import documents, features, plans, prices, products, sellers
from catalog.usecases.products import ProductTexts
from catalog.usecases.sellers import Imprint
from common import ids, wire
from common.auth import EVERYONE, PLATFORM, READERS, RoleNotAllowed
from common.caller import EVERY_SELLER
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import open_to, transactional
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2, seller_pb2
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
        seller = await sellers.create_seller(
            tx,
            imprint=Imprint(
                display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
                address=address_bytes(request.address),
                tax_id=wire.text(request.tax_id, field="tax_id", max_length=NAME_LENGTH_MAX, required=False),
                email=wire.text(request.email, field="email", max_length=NAME_LENGTH_MAX, required=False),
                payment_instructions=_instructions(request.payment_instructions),
                invoice_numbering=numbering_from_proto(request.invoice_numbering),
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
        return seller_to_proto(await sellers.get_seller(tx, seller_id))

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
            invoice_numbering=numbering_from_proto(request.invoice_numbering),
        )
        return seller_to_proto(await sellers.update_seller(tx, imprint))

    @transactional
    async def CreateProduct(self, request: pb.CreateProductRequest, tx: Tx) -> product_pb2.Product:
        product = await products.create_product(
            tx,
            code=check_code(request.code),
            display_name=_name(request.display_name),
            description=_description(request.description),
            unit_label=_unit_label(request.unit_label),
            tax_code=_tax_code(request.tax_code),
        )
        return product_to_proto(product)

    @transactional
    async def UpdateProduct(self, request: pb.UpdateProductRequest, tx: Tx) -> product_pb2.Product:
        texts = ProductTexts(
            display_name=_name(request.display_name) if request.HasField("display_name") else None,
            description=_description(request.description) if request.HasField("description") else None,
            unit_label=_unit_label(request.unit_label) if request.HasField("unit_label") else None,
            tax_code=_tax_code(request.tax_code) if request.HasField("tax_code") else None,
        )
        return product_to_proto(await products.update_product(tx, ProductId(ids.check(request.id, "prod")), texts))

    @transactional
    async def GetProduct(self, request: pb.GetProductRequest, tx: Tx) -> product_pb2.Product:
        return product_to_proto(await store.product(tx, ProductId(ids.check(request.id, "prod"))))

    @transactional
    async def ListProducts(self, request: pb.ListProductsRequest, tx: Tx) -> pb.ListProductsResponse:
        page = wire.page(request)
        found = await store.list_products(tx, after=place(page, "prod"), limit=page.size + 1)
        return pb.ListProductsResponse(
            products=[product_to_proto(product) for product in found[: page.size]],
            next_page_token=_next([product.id for product in found], page.size),
        )

    @transactional
    async def CreateTaxCode(self, request: pb.CreateTaxCodeRequest, tx: Tx) -> product_pb2.TaxCode:
        tax_code = await products.create_tax_code(
            tx,
            code=check_code(request.code),
            display_name=_name(request.display_name),
            description=_description(request.description),
        )
        return tax_code_to_proto(tax_code)

    @transactional
    async def ListTaxCodes(self, request: pb.ListTaxCodesRequest, tx: Tx) -> pb.ListTaxCodesResponse:
        page = wire.page(request)
        found = await store.list_tax_codes(tx, after=place(page, "taxcode"), limit=page.size + 1)
        return pb.ListTaxCodesResponse(
            tax_codes=[tax_code_to_proto(tax_code) for tax_code in found[: page.size]],
            next_page_token=_next([tax_code.id for tax_code in found], page.size),
        )

    @transactional
    async def CreateFeature(self, request: pb.CreateFeatureRequest, tx: Tx) -> product_pb2.Feature:
        kind = Kind[wire.enum_name(product_pb2.Feature.Kind, request.kind, field="kind")]
        meter = check_code(request.meter, field="meter") if request.meter else ""
        check_meter(kind, meter, field="meter")
        feature = await features.create_feature(
            tx,
            code=check_code(request.code),
            display_name=_name(request.display_name),
            kind=kind,
            meter=meter,
            unit_label=_unit_label(request.unit_label),
        )
        return feature_to_proto(feature)

    @transactional
    async def ListFeatures(self, request: pb.ListFeaturesRequest, tx: Tx) -> pb.ListFeaturesResponse:
        page = wire.page(request)
        found = await store.list_features(tx, after=place(page, "feat"), limit=page.size + 1)
        return pb.ListFeaturesResponse(
            features=[feature_to_proto(feature) for feature in found[: page.size]],
            next_page_token=_next([feature.id for feature in found], page.size),
        )

    @transactional
    async def CreatePlan(self, request: pb.CreatePlanRequest, tx: Tx) -> plan_pb2.Plan:
        terms = plan_terms_from_proto(request, _prices(tx, request.prices))
        return plan_to_proto(await plans.create_plan(tx, code=check_code(request.code), terms=terms))

    @transactional
    async def CreatePlanVersion(self, request: pb.CreatePlanVersionRequest, tx: Tx) -> plan_pb2.Plan:
        return plan_to_proto(await plans.create_plan_version(tx, check_code(request.code)))

    @transactional
    async def UpdatePlan(self, request: pb.UpdatePlanRequest, tx: Tx) -> plan_pb2.Plan:
        terms = plan_terms_from_proto(request, _prices(tx, request.prices))
        return plan_to_proto(await plans.update_plan(tx, _plan_id(request.id), terms))

    @transactional
    async def CreatePrice(self, request: pb.CreatePriceRequest, tx: Tx) -> plan_pb2.Plan:
        plan_id = _plan_id(request.plan_id, field="plan_id")
        return plan_to_proto(await plans.create_price(tx, plan_id, _price(tx, request.price, field="price")))

    @transactional
    async def PublishPlan(self, request: pb.PublishPlanRequest, tx: Tx) -> plan_pb2.Plan:
        plan_id, effective_time = _plan_id(request.id), None
        if request.HasField("effective_time"):
            effective_time = wire.parse_timestamp(request.effective_time, field="effective_time")
        return plan_to_proto(await plans.publish_plan(tx, plan_id, effective_time=effective_time))

    @transactional
    async def ArchivePlan(self, request: pb.ArchivePlanRequest, tx: Tx) -> plan_pb2.Plan:
        return plan_to_proto(await plans.archive_plan(tx, _plan_id(request.id)))

    @transactional
    async def GetPlan(self, request: pb.GetPlanRequest, tx: Tx) -> plan_pb2.Plan:
        if bool(request.id) == bool(request.code):
            raise InvalidArgument("must be given, or a code instead", field="id")
        if request.version < 0 or (request.version and not request.code):
            raise InvalidArgument("must be 0, or count a version of the plan of a code", field="version")
        if request.version:
            return plan_to_proto(await store.plan_version(tx, check_code(request.code), request.version))
        if request.code:
            return plan_to_proto(await store.plan_by_code(tx, check_code(request.code)))
        return plan_to_proto(await store.plan(tx, _plan_id(request.id)))

    @transactional
    async def ListPlans(self, request: pb.ListPlansRequest, tx: Tx) -> pb.ListPlansResponse:
        page = wire.page(request)
        found = await store.list_plans(tx, after=place(page, "plan"), limit=page.size + 1)
        listed = shown((plan_to_proto(plan) for plan in found), page.size)
        return pb.ListPlansResponse(plans=listed, next_page_token=_next([plan.id for plan in found], len(listed)))

    @transactional
    async def CreateContractPrice(self, request: pb.CreateContractPriceRequest, tx: Tx) -> price_pb2.Price:
        customer_id = ids.check(request.customer_id, "cus", field="customer_id")
        list_price_id = PriceId(ids.check(request.list_price_id, "price", field="list_price_id"))
        plan_id, listed = await prices.list_price(tx, list_price_id)
        price = contract_price_from_proto(
            request.price,
            listed=listed,
            customer_id=customer_id,
            price_id=PriceId(tx.new_id("price")),
            field="price",
        )
        price = replace(price, create_time=tx.now)
        await prices.create_contract_price(tx, plan_id, price)
        return price_to_proto(price, plan_id)

    @transactional
    async def ListContractPrices(self, request: pb.ListContractPricesRequest, tx: Tx) -> pb.ListContractPricesResponse:
        page = wire.page(request)
        customer_id = ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else ""
        found = await store.list_contract_prices(
            tx, customer_id=customer_id, after=place(page, "price"), limit=page.size + 1
        )
        listed = shown((price_to_proto(price, plan_id) for plan_id, price in found), page.size)
        return pb.ListContractPricesResponse(
            prices=listed, next_page_token=_next([price.id for _, price in found], len(listed))
        )

    @transactional
    async def CheckPrice(self, request: pb.CheckPriceRequest, tx: Tx) -> price_pb2.Price:
        price = checked_price(request.price, field="price")
        if price.product_id:
            await store.product(tx, ProductId(price.product_id))
        return price

    @transactional
    async def GetPrice(self, request: pb.GetPriceRequest, tx: Tx) -> pb.PricedProduct:
        [found] = await prices.priced_products(tx, [PriceId(ids.check(request.id, "price"))])
        return priced_product_to_proto(*found)

    @transactional
    async def BatchGetPrices(self, request: pb.BatchGetPricesRequest, tx: Tx) -> pb.BatchGetPricesResponse:
        if not 1 <= len(request.ids) <= PRICE_IDS_MAX:
            raise InvalidArgument(f"must have 1 to {PRICE_IDS_MAX} ids", field="ids")
        wanted = {PriceId(ids.check(each, "price", field=f"ids[{n}]")) for n, each in enumerate(request.ids)}
        found = await prices.priced_products(tx, wanted)
        return pb.BatchGetPricesResponse(prices=[priced_product_to_proto(*each) for each in found])

    @open_to(READERS)
    @transactional
    async def ExportCatalog(self, _: pb.ExportCatalogRequest, tx: Tx) -> pb.ExportCatalogResponse:
        return pb.ExportCatalogResponse(document=await documents.export_catalog(tx))

    @transactional
    async def ApplyCatalog(self, request: pb.ApplyCatalogRequest, tx: Tx) -> pb.ApplyCatalogResponse:
        changes = await documents.apply_catalog(
            tx, request.document, validate_only=request.validate_only, prune=request.prune
        )
        return pb.ApplyCatalogResponse(changes=[change_to_proto(change) for change in changes])


def _plan_id(text: str, *, field: str = "id") -> PlanId:
    return PlanId(ids.check(text, "plan", field=field))


def _prices(tx: Tx, protos: Iterable[price_pb2.Price]) -> tuple[Price, ...]:
    return tuple(_price(tx, proto, field=f"prices[{n}]") for n, proto in enumerate(protos))


def _price(tx: Tx, proto: price_pb2.Price, *, field: str) -> Price:
    price = price_from_proto(proto, price_id=PriceId(tx.new_id("price")), field=field)
    return replace(price, create_time=tx.now)


def _name(text: str) -> str:
    return wire.text(text, field="display_name", max_length=NAME_LENGTH_MAX)


def _description(text: str) -> str:
    return wire.text(text, field="description", max_length=TEXT_LENGTH_MAX, required=False)


def _unit_label(text: str) -> str:
    return wire.text(text, field="unit_label", max_length=UNIT_LABEL_LENGTH_MAX, required=False)


def _tax_code(code: str) -> str:
    return check_code(code, field="tax_code") if code else ""


def _instructions(text: str) -> str:
    return wire.text(text, field="payment_instructions", max_length=TEXT_LENGTH_MAX, required=False, multiline=True)


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when more was found than the page shows."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
