"""The catalog as a document through its door: exported, compared, applied; all of it or nothing."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from google.type import decimal_pb2
from grpc_status import rpc_status
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


async def faults(catalog: Any, document: str) -> list[str]:  # Any: as above
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


async def test_another_price_makes_another_version(catalog: Any) -> None:  # Any: as above
    """Who subscribed to the first one keeps it."""
    await apply(catalog, DOCUMENT)
    raised = DOCUMENT.replace("per_unit: 12.5", "per_unit: 13.50").replace("trial_days: 14", "trial_days: 0")
    assert await apply(catalog, raised) == [
        "CREATE_VERSION plan team trial_days: 14 -> ; prices.seats.per_unit: 12.5 -> 13.5;",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
    ]
    first, second = [await catalog.GetPlan(pb.GetPlanRequest(code="team", version=version)) for version in (1, 2)]
    assert (first.state, second.state) == (plan_pb2.Plan.ARCHIVED, plan_pb2.Plan.ACTIVE)
    assert (first.prices[0].per_unit.unit_price.value, second.prices[0].per_unit.unit_price.value) == ("12.5", "13.5")
    assert await apply(catalog, raised) == []


async def test_prices_are_told_apart_by_code(catalog: Any) -> None:  # Any: as above
    """A review shows what was added, taken away and moved, not two long lists."""
    await apply(catalog, DOCUMENT)
    seats = "      - {code: seats, product: seats, currency: EUR, every: MONTH, timing: IN_ADVANCE, per_unit: 12.5}\n"
    assert await apply(catalog, DOCUMENT.replace(seats, ""), validate_only=True) == [
        "CREATE_VERSION plan team prices.seats: "
        "{code: seats, product: seats, currency: EUR, every: MONTH, timing: IN_ADVANCE, per_unit: 12.5} -> ;",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
    ]
    moved = DOCUMENT.replace(seats, "").replace("coupons:", f"{seats}coupons:")
    assert (await apply(catalog, moved, validate_only=True))[0] == (
        "CREATE_VERSION plan team prices: [seats, calls] -> [calls, seats];"
    )


async def test_drafts_and_texts_are_changed_in_place(catalog: Any) -> None:  # Any: as above
    """Nobody relies on a draft; and a name is a name on the next invoice."""
    await apply(catalog, DOCUMENT)
    draft = await catalog.GetPlan(pb.GetPlanRequest(code="extra"))
    changed = DOCUMENT.replace("flat: 9", "flat: 10").replace("display_name: Seats,", "display_name: Places,")
    assert await apply(catalog, changed) == [
        "UPDATE product seats display_name: Seats -> Places;",
        "UPDATE plan extra prices.calls.flat: 9 -> 10;",
    ]
    after = await catalog.GetPlan(pb.GetPlanRequest(code="extra"))
    assert (after.id, after.version, after.prices[0].flat.amount.value) == (draft.id, 1, "10")
    assert await apply(catalog, changed.replace("    state: DRAFT\n", "")) == [
        "PUBLISH plan extra state: DRAFT -> ACTIVE;"
    ]
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="extra"))).state == plan_pb2.Plan.ACTIVE


async def test_a_draft_is_the_way_to_the_next_version(catalog: Any) -> None:  # Any: as above
    """Somebody writes it by hand: a document that says nothing of it lets it be, one that says more takes it."""
    await apply(catalog, DOCUMENT)
    draft = await catalog.CreatePlanVersion(pb.CreatePlanVersionRequest(code="team"))
    assert await apply(catalog, DOCUMENT, prune=True) == []
    assert await apply(catalog, DOCUMENT.replace("12.5", "14")) == [
        "UPDATE plan team prices.seats.per_unit: 12.5 -> 14;",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
    ]
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).id == draft.id


async def test_a_draft_that_is_to_be_closed_was_open_for_an_instant(catalog: Any) -> None:  # Any: as above
    """An archived plan is one that was published once; that is so for whoever gets it as a document, too."""
    await apply(catalog, DOCUMENT)
    closed = DOCUMENT.replace("state: DRAFT", "state: ARCHIVED").replace("flat: 9", "flat: 8")
    assert await apply(catalog, closed) == [
        "UPDATE plan extra prices.calls.flat: 9 -> 8;",
        "PUBLISH plan extra state: DRAFT -> ACTIVE;",
        "ARCHIVE plan extra state: ACTIVE -> ARCHIVED;",
    ]
    assert await apply(catalog, closed) == []
    assert await export(catalog) == closed


async def test_what_was_to_take_effect_long_ago_does_at_once(catalog: Any) -> None:  # Any: as above
    """A document is kept for years; a seller who gets it today did not exist then."""
    assert (await apply(catalog, DOCUMENT.replace("Team\n", "Team\n    effective: 1999-01-01\n")))[7] == (
        "PUBLISH plan team state: DRAFT -> ACTIVE;"
    )
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).state == plan_pb2.Plan.ACTIVE
    assert await export(catalog) == DOCUMENT


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


async def test_a_change_can_take_effect_later(suite: Suite, catalog: Any) -> None:  # Any: as above
    """A document that is kept says the new price from a day on, and means the same before and after that day."""
    await apply(catalog, DOCUMENT)
    i = DOCUMENT.index("  - code: team")
    j = DOCUMENT.index("coupons:")
    later = DOCUMENT[i:j].replace("12.5", "15").replace("Team\n", "Team\n    effective: 2026-03-01T00:00:00Z\n")
    both = DOCUMENT.replace("coupons:", f"{later}coupons:")
    assert await apply(catalog, both) == [
        "CREATE_VERSION plan team prices.seats.per_unit: 12.5 -> 15;",
        "PUBLISH plan team state: DRAFT -> ACTIVE; effective:  -> 2026-03-01T00:00:00Z;",
    ]
    assert await apply(catalog, both) == []
    assert await export(catalog) == both
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).version == 1
    await suite.travel(datetime(2026, 3, 2, tzinfo=UTC))
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).version == 2
    assert await apply(catalog, both) == []
    assert await export(catalog) == DOCUMENT.replace("12.5", "15")


async def test_what_was_to_come_makes_way_for_what_is_said_now(suite: Suite, catalog: Any) -> None:  # Any: as above
    """A change that is put off must not take effect on the old day, and one that is made at once not end on it."""
    await apply(catalog, DOCUMENT)
    i, j = DOCUMENT.index("  - code: team"), DOCUMENT.index("coupons:")
    later = DOCUMENT[i:j].replace("12.5", "15").replace("Team\n", "Team\n    effective: 2026-03-01T00:00:00Z\n")
    both = DOCUMENT.replace("coupons:", f"{later}coupons:")
    await apply(catalog, both)
    put_off = both.replace("2026-03-01", "2026-04-01")
    assert await apply(catalog, put_off) == [
        "ARCHIVE plan team state: ACTIVE -> ARCHIVED; effective: 2026-03-01T00:00:00Z -> ;",
        "CREATE_VERSION plan team",
        "PUBLISH plan team state: DRAFT -> ACTIVE; effective:  -> 2026-04-01T00:00:00Z;",
    ]
    assert await apply(catalog, put_off) == []
    await suite.travel(datetime(2026, 3, 2, tzinfo=UTC))
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).version == 1
    assert await apply(catalog, DOCUMENT.replace("12.5", "14")) == [
        "ARCHIVE plan team state: ACTIVE -> ARCHIVED; effective: 2026-04-01T00:00:00Z -> ;",
        "CREATE_VERSION plan team prices.seats.per_unit: 15 -> 14;",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
    ]
    await suite.travel(datetime(2026, 5, 1, tzinfo=UTC))
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).version == 4
    assert await export(catalog) == DOCUMENT.replace("12.5", "14")


async def test_what_was_to_come_and_is_said_no_more_does_not_come(suite: Suite, catalog: Any) -> None:
    # Any: as above
    """Whoever takes a price rise out of the file under review has taken it back."""
    await apply(catalog, DOCUMENT)
    i, j = DOCUMENT.index("  - code: team"), DOCUMENT.index("coupons:")
    later = DOCUMENT[i:j].replace("12.5", "15").replace("Team\n", "Team\n    effective: 2026-03-01T00:00:00Z\n")
    await apply(catalog, DOCUMENT.replace("coupons:", f"{later}coupons:"))
    assert await apply(catalog, DOCUMENT) == [
        "ARCHIVE plan team state: ACTIVE -> ARCHIVED; effective: 2026-03-01T00:00:00Z -> ;"
    ]
    assert await apply(catalog, DOCUMENT) == []
    assert await export(catalog) == DOCUMENT
    await suite.travel(datetime(2026, 3, 2, tzinfo=UTC))
    assert (await catalog.GetPlan(pb.GetPlanRequest(code="team"))).version == 1


async def test_what_is_no_longer_offered_is_archived(catalog: Any) -> None:  # Any: as above
    """Because the document says so, or, if it is to, because it does not say anything else."""
    await apply(catalog, DOCUMENT)
    closed = DOCUMENT.replace("Team\n", "Team\n    state: ARCHIVED\n")
    assert await apply(catalog, closed) == ["ARCHIVE plan team state: ACTIVE -> ARCHIVED;"]
    assert await apply(catalog, closed) == []
    assert await export(catalog) == closed
    assert await apply(catalog, DOCUMENT) == [
        "CREATE_VERSION plan team",
        "PUBLISH plan team state: DRAFT -> ACTIVE;",
    ]
    assert await apply(catalog, "{}") == []
    assert await apply(catalog, "{}", prune=True) == [
        "ARCHIVE plan team state: ACTIVE -> ARCHIVED;",
        "ARCHIVE coupon spring state: ACTIVE -> ARCHIVED;",
    ]
    assert await apply(catalog, "{}", prune=True) == []
    assert "ARCHIVED" in await export(catalog)


async def test_the_last_version_is_closed_first(suite: Suite, catalog: Any) -> None:  # Any: as above
    """A version that was to follow must not make the one before it stay open for ever."""
    await apply(catalog, DOCUMENT)
    i, j = DOCUMENT.index("  - code: team"), DOCUMENT.index("coupons:")
    later = DOCUMENT[i:j].replace("12.5", "15").replace("Team\n", "Team\n    effective: 2026-03-01\n")
    await apply(catalog, DOCUMENT.replace("coupons:", f"{later}coupons:"))
    assert await apply(catalog, "{}", prune=True) == [
        "ARCHIVE plan team state: ACTIVE -> ARCHIVED;",
        "ARCHIVE coupon spring state: ACTIVE -> ARCHIVED;",
    ]
    await suite.travel(datetime(2026, 3, 2, tzinfo=UTC))
    versions = [await catalog.GetPlan(pb.GetPlanRequest(code="team", version=version)) for version in (1, 2)]
    assert [version.state for version in versions] == [plan_pb2.Plan.ARCHIVED] * 2


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
