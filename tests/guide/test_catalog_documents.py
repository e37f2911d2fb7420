"""What the guide and examples/README.md say about a catalog as a document is what the catalog takes."""

from __future__ import annotations

import re
import textwrap
from typing import Final

from common.testing import Suite
from saldo.catalog.v1.catalog_service_pb2 import ApplyCatalogRequest, ExportCatalogRequest
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tests.architecture.sources import ROOT

BLOCK: Final = re.compile(r"^```yaml\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def _blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text())


def _models(block: str) -> dict[str, str]:
    """Each key of a block with all that stands under it."""
    parts = re.split(r"^(?=\w)", block, flags=re.MULTILINE)
    return {part.partition(":")[0]: part for part in parts if part}


def _with(catalog: str, said: str) -> str:
    """The catalog with one plan more, whose price says this."""
    price = textwrap.indent("code: model\nproduct: power\ncurrency: GBP\nmeter: power\n" + said, " " * 8)
    plan = f"  - code: model\n    display_name: Model\n    state: DRAFT\n    prices:\n      -\n{price}"
    return catalog.replace("coupons:", f"{plan}coupons:")


async def test_the_whole_reference_is_a_catalog(suite: Suite) -> None:
    """Somebody will copy it."""
    await suite.start("catalog")
    catalog = suite.stub(CatalogServiceStub, "catalog")
    document = next(block for block in _blocks("examples/README.md") if block.startswith("tax_codes:"))
    first = await catalog.ApplyCatalog(ApplyCatalogRequest(document=document))
    assert {change.resource for change in first.changes} == {"tax_code", "product", "feature", "plan", "coupon"}
    assert not (await catalog.ApplyCatalog(ApplyCatalogRequest(document=document))).changes
    exported = (await catalog.ExportCatalog(ExportCatalogRequest())).document
    assert not (await catalog.ApplyCatalog(ApplyCatalogRequest(document=exported))).changes


async def test_every_model_and_operator_of_the_reference_is_taken(suite: Suite) -> None:
    """One after the other, since a price has one model."""
    await suite.start("catalog")
    catalog = suite.stub(CatalogServiceStub, "catalog")
    document, models, operators, *_ = (
        block
        for block in _blocks("examples/README.md")
        if block.startswith(("tax_codes:", "flat:", "unit_conversion:"))
    )
    said = _models(models)
    assert len(said) == 9
    for model in [*said.values(), said["per_unit"] + operators]:
        request = ApplyCatalogRequest(document=_with(document, model), validate_only=True)
        assert (await catalog.ApplyCatalog(request)).changes


async def test_the_catalog_of_the_guide_is_taken(suite: Suite) -> None:
    """A first document should not be refused."""
    await suite.start("catalog")
    (document,) = _blocks("docs/guide.md")
    changes = (
        await suite.stub(CatalogServiceStub, "catalog").ApplyCatalog(ApplyCatalogRequest(document=document))
    ).changes
    assert [change.code for change in changes] == ["api", "team-api", "team-api"]
