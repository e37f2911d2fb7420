"""Services under test go from one test to the next as long as nobody can tell, and not any longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
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


async def test_who_was_told_otherwise_is_another(databases: Databases, keys: Keys, spares: Spares) -> None:
    """Only what runs with the same settings is as good as new."""
    seen = []
    for settings in ({}, {"jobs_concurrency": 2}, {"jobs_concurrency": 3}, {"jobs_concurrency": 2}):
        suite = Suite(databases, keys, MemoryBus(), spares=spares)
        await suite.start("catalog", **settings)
        seen.append(suite.reading_urls["catalog"])
        await suite.close()
    assert seen[3] == seen[1]
    assert len(set(seen)) == 3


async def test_one_s_own_rows_may_be_read_and_those_of_others_do_not_show(
    databases: Databases, keys: Keys, spares: Spares
) -> None:
    """A look into the tables is no reason to start anew, as long as it is the same look after others were there."""
    seen = []
    for _ in range(2):
        suite = await _started(databases, keys, spares)
        await suite.stub(CatalogServiceStub, "catalog").CreateProduct(
            pb.CreateProductRequest(code="a", display_name="A")
        )
        await suite.quiet()
        async with suite.own_rows("catalog") as connection:
            assert await connection.fetchval("SELECT count(*) FROM products") == 1
        seen.append(suite.reading_urls["catalog"])
        await suite.close()
    assert seen[0] == seen[1]


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


async def test_what_was_used_often_is_ended(
    databases: Databases, keys: Keys, spares: Spares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much was left in its tables by then, and every question about what is due goes through it."""
    monkeypatch.setattr("common.ensemble.USES_MAX", 2)
    seen = []
    for _ in range(3):
        suite = await _started(databases, keys, spares)
        seen.append(suite.reading_urls["catalog"])
        await suite.close()
    assert seen[0] == seen[1] != seen[2]
