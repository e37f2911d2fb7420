"""What only the catalog can say about a folder has its place and reason too, and is said before anything is loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from common.document import Malformed
from common.testing import SERVICES, Suite
from saldo.catalog.v1 import catalog_service_pb2, events_pb2
from saldo.metering.v1 import metering_service_pb2
from tests.demo.test_folder import CATALOG, CUSTOMERS, read
from tools.client import Client
from tools.demo.loading import load

MALFORMED = {
    "a bad code": (("{code: power, display", "{code: Power!, display"), "2:12: must be 1 to 64 of a-z"),
    "two of a code": (
        ("meters:", "  - {code: power, display_name: P}\nmeters:"),
        "3:5: there are two of product power",
    ),
    "a comma": (("0.14228", '"0,14228"'), "9:78: must be a decimal number, such as 12.50, not '0,14228'"),
    "an underscore": (("0.10", "1_000"), "10:59: must be a decimal number, such as 12.50, not '1_000'"),
    "base 60": (("0.10", "1:30"), "10:59: must be a decimal"),
    "infinite": (("0.10", ".inf"), "10:59: must be a decimal"),
    "negative": (("0.10", "-1"), "10:59: must not be negative"),
    "huge": (("0.10", "9" * 60), "10:59: must be at most 1000000000000000"),
    "too fine": (("0.10", "0.0000000000000000001"), "10:59: must have at most 18 decimals"),
    "no model": ((", flat: 0.10", ""), "10:9: must have exactly one of flat, per_unit, graduated, volume"),
    "two models": (("flat: 0.10", "flat: 1, per_unit: 1"), "10:9: must have exactly one of"),
    "an unknown product": (("base, product: power", "base, product: gas"), "10:31: there is no product 'gas'"),
    "an unknown currency": (("currency: GBP, flat", "currency: XXX, flat"), "10:48: must be an ISO 4217 currency code"),
    "metered in advance": (
        ("per_unit", "timing: IN_ADVANCE, per_unit"),
        "9:76: must be IN_ARREARS for a metered price",
    ),
    "tiers that descend": (
        ("flat: 0.10", "graduated: [{up_to: 5, unit_price: 1}, {up_to: 5, unit_price: 1}, {unit_price: 1}]"),
        "10:100: must be more than 5, where the tier before it ends",
    ),
    "a tier without an end": (
        ("flat: 0.10", "graduated: [{unit_price: 1}, {unit_price: 2}]"),
        "10:65: must have an end: only the last tier is open",
    ),
}


TODAY = CUSTOMERS.replace("2012", "2026")


@pytest_asyncio.fixture
async def client(suite: Suite) -> AsyncIterator[Client]:
    await suite.start(*SERVICES)
    async with Client(suite.addresses, suite.keys.token(seller_id=suite.seller)) as client:
        yield client


async def test_what_the_catalog_refuses_is_named_with_its_place(client: Client, tmp_path: Path) -> None:
    """An editor can jump there, and the reason says what to write instead."""
    for name, ((before, after), wanted) in MALFORMED.items():
        example = read(tmp_path, catalog=CATALOG.replace(before, after), customers=TODAY).example
        with pytest.raises(Malformed) as refusal:
            await load(client, example, lambda _: None)
        told = [str(fault) for fault in refusal.value.faults]
        assert any(each.startswith(f"catalog.yaml:{wanted}") for each in told), (name, told)
    exported = await client.catalog.ExportCatalog(catalog_service_pb2.ExportCatalogRequest())
    meters = await client.metering.ListMeters(metering_service_pb2.ListMetersRequest())
    assert exported.document == "{}\n"
    assert not meters.meters


async def test_loading_again_changes_nothing(suite: Suite, client: Client, tmp_path: Path) -> None:
    """A folder is played as often as somebody likes, and so are the requests that were lost on the way."""
    example = read(tmp_path, customers=TODAY).example
    first = await load(client, example, lambda _: None)
    assert await load(client, example, lambda _: None) == first
    await suite.quiet()
    assert len(suite.announced(events_pb2.PlanCreated)) == len(suite.announced(events_pb2.PlanPublished)) == 1


async def test_a_customer_gets_the_plan_that_the_folder_says(suite: Suite, client: Client, tmp_path: Path) -> None:
    """Somebody may have published the next version since: playing again is still playing the same."""
    example = read(tmp_path, customers=TODAY).example
    first = await load(client, example, lambda _: None)
    request = catalog_service_pb2.ApplyCatalogRequest(document=CATALOG.replace("0.14228", "0.15"))
    assert len((await client.catalog.ApplyCatalog(request)).changes) == 2
    assert await load(client, example, lambda _: None) == first
