"""A running catalog, and what most of its tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub


@pytest_asyncio.fixture
async def catalog(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    await suite.start("catalog")
    yield suite.stub(CatalogServiceStub, "catalog")


@pytest_asyncio.fixture
async def seats(catalog: Any) -> product_pb2.Product:  # Any: as above
    product: product_pb2.Product = await catalog.CreateProduct(
        pb.CreateProductRequest(code="seats", display_name="Seats", unit_label="seat")
    )
    return product
