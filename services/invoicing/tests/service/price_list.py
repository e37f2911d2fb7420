"""Stands in for the catalog: answers with the prices and plans it was given, and counts how often it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from google.type import decimal_pb2

from common import ids
from common.auth import Verifier
from common.errors import InvalidArgument, NotFound, Violation
from common.rpc import MESSAGE_BYTES_MAX, IncomingCalls
from common.telemetry import Telemetry
from common.testing import SANDBOX_START, Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceServicer, add_CatalogServiceServicer_to_server

MONTHLY = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1)
NAMED_MAX = 10


# Its name is the reason that the catalog gives; invoicing has a class of the same name, and is told by the reason only.
class PriceNotFound(NotFound):
    """As the catalog says it."""


class PlanNotFound(NotFound):
    """As the catalog says it."""


class PriceList(CatalogServiceServicer):
    """The catalog as invoicing needs it for rating. Of an inline price it minds only a negative unit price."""

    def __init__(self) -> None:
        self.prices: dict[str, price_pb2.Price] = {}
        self.product = product_pb2.Product()
        """Of every price."""
        self.plans: list[plan_pb2.Plan] = []
        self.contract_prices: list[price_pb2.Price] = []
        self.asked: Counter[str] = Counter()

    def price(self, **fields: object) -> price_pb2.Price:
        """A new one, in EUR and monthly unless said otherwise."""
        made = price_pb2.Price(id=ids.mint("price", SANDBOX_START), currency="EUR", billing_interval=MONTHLY)
        made.MergeFrom(price_pb2.Price(**fields))  # type: ignore[arg-type] # fields of the message
        self.prices[made.id] = made
        return made

    def plan(self, *prices: price_pb2.Price, code: str = "pro") -> plan_pb2.Plan:
        """The next version of the plan."""
        version = 1 + sum(each.code == code for each in self.plans)
        made = plan_pb2.Plan(id=ids.mint("plan", SANDBOX_START), code=code, version=version, prices=prices)
        self.plans.append(made)
        return made

    async def BatchGetPrices(self, request: pb.BatchGetPricesRequest, context: object) -> pb.BatchGetPricesResponse:
        self.asked["BatchGetPrices"] += 1
        missing = [each for each in request.ids if each not in self.prices]
        if missing:
            raise PriceNotFound("there is no such price", ids=",".join(missing[:NAMED_MAX]))
        return pb.BatchGetPricesResponse(prices=[self._priced(each) for each in request.ids])

    async def GetPrice(self, request: pb.GetPriceRequest, context: object) -> pb.PricedProduct:
        self.asked["GetPrice"] += 1
        if request.id not in self.prices:
            raise PriceNotFound("there is no such price", ids=request.id)
        return self._priced(request.id)

    def _priced(self, price_id: str) -> pb.PricedProduct:
        return pb.PricedProduct(price=self.prices[price_id], product=self.product)

    async def CheckPrice(self, request: pb.CheckPriceRequest, context: object) -> price_pb2.Price:
        self.asked["CheckPrice"] += 1
        if request.price.per_unit.unit_price.value.startswith("-"):
            raise InvalidArgument.of(
                [
                    Violation("price.per_unit.unit_price", "must not be negative"),
                    Violation("price.meter", "is required"),
                ]
            )
        if request.price.product_id:
            raise NotFound("there is no such product")
        return request.price

    async def GetPlan(self, request: pb.GetPlanRequest, context: object) -> plan_pb2.Plan:
        for plan in self.plans:
            if plan.id == request.id or (plan.code == request.code and plan.version == request.version):
                return plan
        raise PlanNotFound("there is no such plan")

    async def ListContractPrices(
        self, request: pb.ListContractPricesRequest, context: object
    ) -> pb.ListContractPricesResponse:
        """One to a page, so that there are pages."""
        first = int(request.page_token or 0)
        return pb.ListContractPricesResponse(
            prices=self.contract_prices[first : first + 1],
            next_page_token=str(first + 1) if first + 1 < len(self.contract_prices) else "",
        )


@asynccontextmanager
async def serving(suite: Suite) -> AsyncIterator[PriceList]:
    """Where the catalog of the suite would be."""
    telemetry = Telemetry("catalog", level="error")
    calls = IncomingCalls("catalog", verifier=Verifier(suite.keys.jwks), telemetry=telemetry, callers=("invoicing",))
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    server = grpc.aio.server(interceptors=[calls], options=options)
    found = PriceList()  # type: ignore[abstract] # what is not asked for here is answered as not implemented
    add_CatalogServiceServicer_to_server(found, server)
    server.add_insecure_port(suite.addresses["catalog"])
    await server.start()
    try:
        yield found
    finally:
        await server.stop(0)
        telemetry.shutdown()


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)
