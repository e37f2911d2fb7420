"""A document that cannot be applied is refused with every place that is wrong, and changes nothing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from saldo.catalog.v1 import catalog_service_pb2 as pb
from services.catalog.tests.service.test_documents import DOCUMENT, apply, export


async def faults(catalog: Any, document: str) -> list[str]:  # Any: grpc stubs are generated
    """Every place that a refusal names, and why."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await catalog.ApplyCatalog(pb.ApplyCatalogRequest(document=document))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(refusal.value)  # type: ignore[arg-type] # typed for the synchronous call only
    bad = error_details_pb2.BadRequest()
    assert status is not None
    assert any(detail.Unpack(bad) for detail in status.details)
    return [f"{each.field}: {each.description}" for each in bad.field_violations]


def at(document: str, text: str) -> str:
    """The place of something that stands there once."""
    before, found, after = document.partition(text)
    assert found
    assert text not in after
    return f"document:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


async def test_an_entitlement_fits_its_feature(catalog: Any) -> None:  # Any: as above
    """Five of what is on or off means nothing; in the document as in the catalog."""
    document = DOCUMENT.replace("members: 5, storage: {quota: 100, every: MONTH}", "members: true, storage: {quota: 9}")
    assert await faults(catalog, document) == [
        f"{at(document, 'true, storage')}: does not grant a LIMIT",
        f"{at(document, '{quota: 9}')}: is required: a quota is of an interval",
    ]
    await apply(catalog, DOCUMENT.split("plans:")[0])
    alone = "plans: [{code: x, display_name: X, state: DRAFT, entitlements: {members: true}}]"
    assert await faults(catalog, alone) == [f"{at(alone, 'true}')}: does not grant a LIMIT"]


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        (["", ""], "plan x stands before it, so it must say from when on it is effective"),
        (["effective: 2026-05-01", "effective: 2026-05-01"], "must be effective later than what stands before it"),
        (["state: DRAFT", ""], "there is a draft of plan x before it, which can only stand last"),
        (["", "state: ARCHIVED"], "plan x cannot be ARCHIVED and open"),
        (["state: DRAFT, effective: 2026-05-01"], "must be absent: what is DRAFT does not take effect"),
    ],
)
async def test_versions_stand_in_order_of_time(
    catalog: Any,  # Any: as above
    versions: list[str],
    reason: str,
) -> None:
    """Two that were open at once would be two prices for one plan."""
    price = "prices: [{code: p, product: calls, currency: EUR, flat: 1}]"
    plans = "".join(f"  - {{code: x, display_name: X, {version or 'kind: BASE'}, {price}}}\n" for version in versions)
    (fault,) = await faults(catalog, f"products: [{{code: calls, display_name: Calls}}]\nplans:\n{plans}")
    assert fault.startswith(f"document:{len(versions) + 2}:")
    assert reason in fault


async def test_what_cannot_change_is_refused_with_its_place(catalog: Any) -> None:  # Any: as above
    """A feature that plans grant, a discount that was redeemed, a plan that is published: others rely on them."""
    await apply(catalog, DOCUMENT)
    changed = (
        DOCUMENT.replace("Digital services", "Digital")
        .replace("Members, kind: LIMIT", "Members, kind: QUOTA, meter: members")
        .replace("members: 5", "members: {quota: 5, every: MONTH}")
        .replace("percent_off: 20", "percent_off: 25")
    )
    assert await faults(catalog, changed) == [
        f"{at(changed, 'Digital}')}: display_name cannot change: it is Digital services",
        f"{at(changed, 'QUOTA, meter: members')}: kind cannot change: it is LIMIT",
        f"{at(changed, 'members}')}: meter cannot change: it is absent",
        f"{at(changed, '25')}: percent_off cannot change: it is 20",
    ]


async def test_what_is_closed_or_published_stays_so(catalog: Any) -> None:  # Any: as above
    """A document that asks for what cannot be is refused, not understood as something else."""
    await apply(catalog, DOCUMENT)
    again = DOCUMENT.replace("Team\n", "Team\n    state: DRAFT # again\n")
    assert await faults(catalog, again) == [
        f"{at(again, 'DRAFT # again')}: plan team says this already, and what is published is no draft again"
    ]
    assert await apply(catalog, DOCUMENT.replace("Spring,", "Spring, state: ARCHIVED,")) == [
        "ARCHIVE coupon spring state: ACTIVE -> ARCHIVED;"
    ]
    assert await faults(catalog, DOCUMENT) == [
        f"{at(DOCUMENT, '{code: spring')}: coupon spring is ARCHIVED for good: offer another one"
    ]


async def test_every_place_that_is_wrong_is_named_at_once(catalog: Any) -> None:  # Any: as above
    """Shapes, prices, references and what does not fit together: one round of corrections."""
    await apply(catalog, "products: [{code: known, display_name: Known}]")
    document = """\
products:
  - {code: seats, display_name: Seats, tax_code: missing, colour: red}
meters: [{code: calls, aggregation: SUM}]
features: [{code: sso, display_name: SSO, kind: SWITCH}]
plans:
  - code: team
    display_name: Team
    entitlements: {sso: 5, gone: true}
    prices:
      - {code: a, product: known, currency: EUR, flat: one}
      - {code: c, product: gone, currency: EUR, meter: gas, per_unit: 1}
      - {code: d, product: seats, currency: EUR, volume: [{up_to: 5, unit_price: 1}, {up_to: 4}, {percent: 1}]}
  - {code: empty, display_name: Empty}
coupons:
  - {code: x, display_name: X, amount_off: {JPY: 1.5}, duration: ONCE, plans: [gone]}
"""
    assert await faults(catalog, document) == [
        f"{at(document, 'missing')}: there is no tax code 'missing'",
        f"{at(document, 'colour')}: unknown key 'colour'; known are"
        " code, display_name, description, unit_label, tax_code",
        f"{at(document, 'gone: true')}: there is no feature 'gone'",
        f"{at(document, 'one}')}: must be a decimal number, such as 12.50, not 'one'",
        f"{at(document, 'gone, currency')}: there is no product 'gone'",
        f"{at(document, 'gas')}: there is no meter 'gas'",
        f"{at(document, '4}')}: must be more than 5, where the tier before it ends",
        f"{at(document, '{code: empty')}: plan empty has no price",
        f"{at(document, '1.5}')}: has more decimals than JPY",
        f"{at(document, 'gone]')}: there is no plan 'gone'",
    ]
    assert await export(catalog) == "products:\n  - {code: known, display_name: Known}\n"


async def test_more_faults_than_can_travel_are_counted(catalog: Any) -> None:  # Any: as above
    """A refusal that is too large for the metadata of an answer would be no refusal that anybody could read."""
    document = "products:\n" + "".join(f"  - {{code: p{n}, name: Product}}\n" for n in range(900))
    found = await faults(catalog, document)
    assert found[0] == "document:2:5: display_name is missing"
    # Two faults in each line; as many as are kept of one document.
    assert found[-1].endswith(f": here and further on, {1_000 - len(found) + 1} more places are wrong")
    assert len(found) > 30


async def test_a_document_is_applied_as_a_whole_or_not_at_all(catalog: Any) -> None:  # Any: as above
    """Half of a catalog sells what nobody meant to sell."""
    await apply(catalog, DOCUMENT)
    broken = DOCUMENT.replace("flat: 9", "flat: 10").replace("per_unit: 12.5", "per_unit: -1")
    assert await faults(catalog, broken) == [f"{at(broken, '-1')}: must not be negative"]
    assert await export(catalog) == DOCUMENT
