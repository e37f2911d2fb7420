"""Services under test go from one test to the next as long as nobody can tell, and not any longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from common.bus import MemoryBus
from common.ensemble import SPARES_MAX, Spares
from common.testing import Databases, Keys, Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub


@pytest_asyncio.fixture
async def spares(databases: Databases) -> AsyncIterator[Spares]:
    """Of one test, and not of the module."""
    found = Spares(databases.drop)
    yield found
    await found.close()


async def _started(databases: Databases, keys: Keys, spares: Spares) -> Suite:
    suite = Suite(databases, keys, MemoryBus(), spares=spares)
    await suite.start("catalog")
    return suite


async def test_what_was_left_at_rest_is_taken_over_and_looks_new(
    databases: Databases, keys: Keys, spares: Spares
) -> None:
    """The next test has a sandbox of its own, in which nothing is and of which nothing was announced."""
    first = await _started(databases, keys, spares)
    product = pb.CreateProductRequest(code="seats", display_name="Seats")
    await first.stub(CatalogServiceStub, "catalog").CreateProduct(product)
    await first.quiet()
    assert len(first.announced(events_pb2.ProductCreated)) == 1
    await first.close()
    second = await _started(databases, keys, spares)
    assert second.reading_urls == first.reading_urls
    assert second.announced(events_pb2.ProductCreated) == []
    created = await second.stub(CatalogServiceStub, "catalog").CreateProduct(product)
    await second.quiet()
    assert [each.product for each in second.announced(events_pb2.ProductCreated)] == [created]
    await second.close()


async def test_what_somebody_reached_into_is_not_taken_over(databases: Databases, keys: Keys, spares: Spares) -> None:
    """Whoever had its database, its bus or the service itself in hand may have changed it."""
    seen = []
    for behind in ("urls", "bus", "running"):
        suite = await _started(databases, keys, spares)
        seen.append(suite.reading_urls["catalog"])
        assert getattr(suite, behind)
        await suite.close()
    restarted = await _started(databases, keys, spares)
    seen.append(restarted.reading_urls["catalog"])
    await restarted.stop("catalog")
    await restarted.start("catalog")
    await restarted.close()
    assert len(set(seen)) == len(seen)


async def test_few_are_kept(databases: Databases, keys: Keys, spares: Spares) -> None:
    """Each has connections and polls; the latest are the likeliest to be wanted."""
    names = ("catalog", "dunning", "metering")[: SPARES_MAX + 1]
    for name in names:
        suite = Suite(databases, keys, MemoryBus(), spares=spares)
        await suite.start(name)
        await suite.close()
    kept = {name: spares.take([name]) for name in names}
    assert [name for name, ensemble in kept.items() if ensemble is None] == ["catalog"]
    for ensemble in kept.values():
        if ensemble is not None:
            await ensemble.end(databases.drop)
