"""Products, how they are taxed, and the features that plans entitle to, through the door."""

from __future__ import annotations

from typing import Any

import grpc

from common import ids
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2, product_pb2

# `catalog` is a stub and grpc stubs are generated: Any.


async def test_what_is_said_about_a_product_changes(suite: Suite, catalog: Any, seats: product_pb2.Product) -> None:
    """From the next invoice on; what is not said anew stays, and what is said to be nothing is nothing."""
    await catalog.CreateTaxCode(pb.CreateTaxCodeRequest(code="saas", display_name="Software as a service"))
    changed = await catalog.UpdateProduct(
        pb.UpdateProductRequest(id=seats.id, display_name="Places", tax_code="saas", request_id="r1")
    )
    expected = product_pb2.Product()
    expected.CopyFrom(seats)
    expected.MergeFrom(product_pb2.Product(display_name="Places", tax_code="saas", revision=2))
    assert changed == await catalog.GetProduct(pb.GetProductRequest(id=seats.id)) == expected
    again = await catalog.UpdateProduct(
        pb.UpdateProductRequest(id=seats.id, description="A place for one.", unit_label="", tax_code="")
    )
    assert (again.display_name, again.description, again.unit_label) == ("Places", "A place for one.", "")
    assert (again.tax_code, again.revision, again.code) == ("", 3, "seats")
    await suite.quiet()
    assert [event.product for event in suite.announced(events_pb2.ProductUpdated)] == [changed, again]


async def test_a_bad_change_of_a_product_is_refused(catalog: Any, seats: product_pb2.Product) -> None:
    """What cannot be printed, or means nothing to whoever computes taxes."""
    for changes, reason, field in (
        ({"display_name": ""}, "INVALID_ARGUMENT", "display_name"),
        ({"unit_label": "x" * 33}, "INVALID_ARGUMENT", "unit_label"),
        ({"description": "x" * 1001}, "INVALID_ARGUMENT", "description"),
        ({"tax_code": "No Code"}, "INVALID_ARGUMENT", "tax_code"),
        ({"tax_code": "unknown"}, "TAX_CODE_NOT_FOUND", ""),
        ({"id": ids.mint("prod", SANDBOX_START)}, "PRODUCT_NOT_FOUND", ""),
    ):
        with refused(reason) as refusal:
            await catalog.UpdateProduct(pb.UpdateProductRequest(**{"id": seats.id, **changes}))
        assert refusal.field == field
    assert await catalog.GetProduct(pb.GetProductRequest(id=seats.id)) == seats


async def test_products_name_tax_codes_that_exist(suite: Suite, catalog: Any) -> None:
    """A code names one class of products."""
    with refused("TAX_CODE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await catalog.CreateProduct(pb.CreateProductRequest(code="books", display_name="Books", tax_code="print"))
    codes = [
        await catalog.CreateTaxCode(
            pb.CreateTaxCodeRequest(code=code, display_name=code.title(), description=f"For {code}.")
        )
        for code in ("print", "audio", "video")
    ]
    with refused("TAX_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS):
        await catalog.CreateTaxCode(pb.CreateTaxCodeRequest(code="print", display_name="Others"))
    product = await catalog.CreateProduct(pb.CreateProductRequest(code="books", display_name="Books", tax_code="print"))
    assert product.tax_code == "print"
    first = await catalog.ListTaxCodes(pb.ListTaxCodesRequest(page_size=2))
    rest = await catalog.ListTaxCodes(pb.ListTaxCodesRequest(page_size=2, page_token=first.next_page_token))
    assert ([*first.tax_codes, *rest.tax_codes], rest.next_page_token) == (codes, "")
    await suite.quiet()
    assert [event.tax_code for event in suite.announced(events_pb2.TaxCodeCreated)] == codes


async def test_features_are_created_and_listed(suite: Suite, catalog: Any) -> None:
    """A code names one feature, of a kind that never changes, so that programs may ask for it by that code."""
    kinds = product_pb2.Feature
    requests = [
        pb.CreateFeatureRequest(code="sso", display_name="Single sign-on", kind=kinds.SWITCH),
        pb.CreateFeatureRequest(code="members", display_name="Members", kind=kinds.LIMIT, unit_label="member"),
        pb.CreateFeatureRequest(code="calls", display_name="Calls", kind=kinds.QUOTA, meter="api_calls"),
    ]
    features = [await catalog.CreateFeature(request) for request in requests]
    assert [(each.code, each.kind, each.meter) for each in features] == [
        ("sso", kinds.SWITCH, ""),
        ("members", kinds.LIMIT, ""),
        ("calls", kinds.QUOTA, "api_calls"),
    ]
    with refused("FEATURE_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS):
        await catalog.CreateFeature(requests[0])
    first = await catalog.ListFeatures(pb.ListFeaturesRequest(page_size=2))
    rest = await catalog.ListFeatures(pb.ListFeaturesRequest(page_size=2, page_token=first.next_page_token))
    assert ([*first.features, *rest.features], rest.next_page_token) == (features, "")
    await suite.quiet()
    assert [event.feature for event in suite.announced(events_pb2.FeatureCreated)] == features


async def test_a_bad_feature_is_refused(catalog: Any) -> None:
    """What counts needs a meter, and what does not count has none."""
    kinds = product_pb2.Feature
    for changes, field in (
        ({"kind": kinds.KIND_UNSPECIFIED}, "kind"),
        ({"kind": kinds.QUOTA}, "meter"),
        ({"kind": kinds.QUOTA, "meter": "API calls"}, "meter"),
        ({"kind": kinds.SWITCH, "meter": "calls"}, "meter"),
        ({"kind": kinds.LIMIT, "meter": "calls"}, "meter"),
        ({"code": "Calls"}, "code"),
        ({"display_name": ""}, "display_name"),
    ):
        sound: dict[str, Any] = {"code": "calls", "display_name": "Calls", "kind": kinds.SWITCH}  # Any: fields
        with refused("INVALID_ARGUMENT") as refusal:
            await catalog.CreateFeature(pb.CreateFeatureRequest(**{**sound, **changes}))
        assert refusal.field == field
    assert not (await catalog.ListFeatures(pb.ListFeaturesRequest())).features
