"""The catalog as a document through its door: exported, compared, applied; by whoever may, and by several at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2
from hypothesis import HealthCheck, given, settings

from catalog.document.changes import Change
from catalog.document.diff import changes
from common import ids
from common.caller import Role
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2, plan_pb2, price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from services.catalog.tests.catalogs import DOCUMENTS

DOCUMENT = """\
tax_codes:
  - {code: digital, display_name: Digital services}
products:
  - {code: calls, display_name: Calls, unit_label: call, tax_code: digital}
  - {code: seats, display_name: Seats, tax_code: digital}
features:
  - {code: members, display_name: Members, kind: LIMIT}
  - {code: storage, display_name: Storage, kind: QUOTA, meter: storage, unit_label: GB}
plans:
  - code: extra
    display_name: Extra calls
    state: DRAFT
    kind: ADD_ON
    prices:
      - {code: calls, product: calls, currency: EUR, every: ONCE, timing: IN_ADVANCE, flat: 9}
  - code: team
    display_name: Team
    trial_days: 14
    entitlements: {members: 5, storage: {quota: 100, every: MONTH}}
    prices:
      - {code: seats, product: seats, currency: EUR, every: MONTH, timing: IN_ADVANCE, per_unit: 12.5}
      - code: calls
        product: calls
        currency: EUR
        every: MONTH
        timing: IN_ARREARS
        meter: calls
        graduated: [{up_to: 1000, unit_price: 0}, {unit_price: 0.002, flat_amount: 5}]
        minimum_amount: 1
coupons:
  - {code: spring, display_name: Spring, percent_off: 20, duration: REPEATING, periods: 3, plans: [team]}
"""
"""In the one way in which it is exported."""


async def apply(
    catalog: Any,  # Any: grpc stubs are generated
    document: str,
    *,
    validate_only: bool = False,
    prune: bool = False,
) -> list[str]:
    """What was changed, in short."""
    request = pb.ApplyCatalogRequest(document=document, validate_only=validate_only, prune=prune)
    answer = await catalog.ApplyCatalog(request)
    return [
        " ".join(
            [
                pb.CatalogChange.Action.Name(change.action),
                change.resource,
                change.code,
                *(f"{field.path}: {field.before} -> {field.after};" for field in change.fields),
            ]
        )
        for change in answer.changes
    ]


async def export(catalog: Any) -> str:  # Any: as above
    return str((await catalog.ExportCatalog(pb.ExportCatalogRequest())).document)


async def test_a_catalog_is_made_of_a_document(suite: Suite, catalog: Any) -> None:  # Any: as above
    """In the order in which things need one another, and announced as if it had been done by hand."""
    assert await apply(catalog, DOCUMENT) == [
        "CREATE tax_code digital",
        "CREATE product calls",
        "CREATE product seats",
        "CREATE feature members",
        "CREATE feature storage",
        "CREATE plan extra",
        "CREATE plan team",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
        "CREATE coupon spring",
    ]
    team = await catalog.GetPlan(pb.GetPlanRequest(code="team"))
    assert (team.state, team.version, team.trial_days) == (plan_pb2.Plan.ACTIVE, 1, 14)
    assert [price.code for price in team.prices] == ["seats", "calls"]
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="extra"))).state == plan_pb2.Plan.DRAFT
    await suite.quiet()
    assert [event.product.code for event in suite.announced(events_pb2.ProductCreated)] == ["calls", "seats"]
    assert [event.plan for event in suite.announced(events_pb2.PlanPublished)] == [team]
    assert [event.coupon.code for event in suite.announced(events_pb2.CouponCreated)] == ["spring"]


async def test_applying_again_changes_nothing(catalog: Any) -> None:  # Any: as above
    """A document under review is applied on every change of anything; what stays the same must stay."""
    await apply(catalog, DOCUMENT)
    assert await apply(catalog, DOCUMENT) == []
    assert await export(catalog) == DOCUMENT


async def test_validating_tells_the_changes_and_makes_none(suite: Suite, catalog: Any) -> None:  # Any: as above
    """What a review shows must be what happens, and must not happen yet."""
    wanted = await apply(catalog, DOCUMENT, validate_only=True)
    assert await export(catalog) == "{}\n"
    assert wanted == await apply(catalog, DOCUMENT)
    await suite.quiet()
    assert len(suite.announced(events_pb2.PlanCreated)) == 2


async def test_two_who_apply_at_once_take_turns(
    suite: Suite,
    catalog: Any,  # Any: as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two pipelines of one team make one catalog, not two halves or a failure, however long it takes to compare."""

    def slow(*arguments: Any, **keywords: Any) -> list[Change]:  # Any: whatever is compared
        time.sleep(0.2)
        return changes(*arguments, **keywords)

    monkeypatch.setattr("catalog.usecases.documents.changes", slow)
    assert await export(catalog) == "{}\n"  # the first call of a sandbox makes its clock, and others wait for it
    told = await asyncio.gather(*(apply(catalog, DOCUMENT) for _ in range(4)))
    assert sorted(map(len, told)) == [0, 0, 0, 9]
    await suite.quiet()
    assert len(suite.announced(events_pb2.PlanPublished)) == 1


async def test_a_request_id_stands_for_one_command(catalog: Any) -> None:  # Any: as above
    """An answer that was lost is answered again; to validate is another command than to apply."""
    request = pb.ApplyCatalogRequest(document=DOCUMENT, request_id="deploy-1")
    first = await catalog.ApplyCatalog(request)
    assert await catalog.ApplyCatalog(request) == first
    assert len(first.changes) == 9
    with refused("REQUEST_ID_REUSED"):
        await catalog.ApplyCatalog(pb.ApplyCatalogRequest(document=DOCUMENT, request_id="deploy-1", validate_only=True))


async def test_a_viewer_exports_and_does_not_apply(suite: Suite, catalog: Any) -> None:  # Any: as above
    """Reading is for everybody who may read; the catalog is changed by who may change it."""
    await apply(catalog, DOCUMENT)
    viewer = suite.stub(CatalogServiceStub, "catalog", role=Role.VIEWER)
    assert await export(viewer) == DOCUMENT
    with refused("ROLE_NOT_ALLOWED"):
        await viewer.ApplyCatalog(pb.ApplyCatalogRequest(document="{}", validate_only=True))


async def test_what_was_done_by_hand_is_exported(catalog: Any, seats: product_pb2.Product) -> None:  # Any: as above
    """A catalog that has grown through single calls can be kept under review from today on."""
    price = price_pb2.Price(
        code="seat",
        product_id=seats.id,
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.QUARTER, count=1),
        billing_timing=price_pb2.Price.IN_ADVANCE,
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="1e1")),
    )
    draft = await catalog.CreatePlan(pb.CreatePlanRequest(code="hand", display_name="Made: by hand", prices=[price]))
    await catalog.PublishPlan(pb.PublishPlanRequest(id=draft.id))
    await catalog.CreatePlanVersion(pb.CreatePlanVersionRequest(code="hand"))
    document = """\
products:
  - {code: seats, display_name: Seats, unit_label: seat}
plans:
  - code: hand
    display_name: "Made: by hand"
    prices:
      - {code: seat, product: seats, currency: EUR, every: QUARTER, timing: IN_ADVANCE, per_unit: 10}
  - code: hand
    display_name: "Made: by hand"
    state: DRAFT
    prices:
      - {code: seat, product: seats, currency: EUR, every: QUARTER, timing: IN_ADVANCE, per_unit: 10}
"""
    assert await export(catalog) == document
    assert await apply(catalog, document) == []


async def test_a_catalog_with_more_entries_than_a_document_may_have_is_refused(
    catalog: Any,  # Any: as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told to be too large, not told in part."""
    await apply(catalog, DOCUMENT)
    monkeypatch.setattr("catalog.usecases.documents.ENTRIES_MAX", 11)
    assert await export(catalog) == DOCUMENT
    monkeypatch.setattr("catalog.usecases.documents.ENTRIES_MAX", 10)
    with refused("CATALOG_TOO_LARGE", grpc.StatusCode.FAILED_PRECONDITION):
        await export(catalog)
    with refused("CATALOG_TOO_LARGE"):
        await apply(catalog, DOCUMENT)


async def test_a_catalog_of_many_plans_is_read_in_parts(
    suite: Suite,
    catalog: Any,  # Any: as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A part that was read twice, or not at all, would be a plan that is made twice or archived by mistake."""
    monkeypatch.setattr("catalog.usecases.documents.PLANS_AT_ONCE", 2)
    plans = "".join(f"  - {{code: p{n}, display_name: P, state: DRAFT}}\n" for n in range(5))
    assert len(await apply(catalog, f"plans:\n{plans}")) == 5
    assert await export(catalog) == f"plans:\n{plans}"
    assert await apply(catalog, f"plans:\n{plans}") == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(document=DOCUMENTS)
async def test_any_catalog_is_the_same_for_another_seller(
    suite: Suite,
    catalog: Any,  # Any: as above
    document: str,
) -> None:
    """What was tried in a sandbox is what goes live, to the last byte; and going live twice is going live once."""
    assert catalog is not None
    first, second = (
        suite.stub(CatalogServiceStub, "catalog", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START)))
        for _ in range(2)
    )
    await apply(first, document)
    assert await apply(first, document) == []
    exported = await export(first)
    assert await apply(first, exported, prune=True) == []
    assert await export(first) == exported
    await apply(second, exported)
    assert await export(second) == exported
