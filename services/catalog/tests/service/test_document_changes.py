"""What a document changes in a catalog: versions and drafts of plans, at once or later, and what is archived."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2
from services.catalog.tests.service.test_documents import DOCUMENT, apply, export


async def test_another_price_makes_another_version(catalog: Any) -> None:  # Any: grpc stubs are generated
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
