"""Versions of a plan through the door: edited as drafts, scheduled, each giving way to the next when its time comes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import decimal_pb2

from catalog import store
from catalog.domain.plan import PlanId, State
from catalog.domain.product import ProductId
from catalog.usecases import plans, products
from catalog.usecases.products import ProductTexts
from common import ids, wire
from common.caller import service_caller
from common.db import Database
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import events_pb2, plan_pb2, price_pb2, product_pb2

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def archived(suite: Suite) -> list[int]:
    return [event.plan.version for event in suite.announced(events_pb2.PlanArchived)]


async def test_the_next_version_says_what_the_last_one_says(suite: Suite, shop: Any) -> None:
    """One edits what is sold, and does not write it anew; who subscribed to the first has prices of the first."""
    await shop.api.CreateFeature(
        pb.CreateFeatureRequest(code="sso", display_name="Single sign-on", kind=product_pb2.Feature.SWITCH)
    )
    first = await shop.published(
        prices=[shop.price(), shop.price("99", code="support")],
        kind=plan_pb2.Plan.ADD_ON,
        entitlements=[plan_pb2.PlanEntitlement(feature="sso", enabled=True)],
        trial_days=14,
    )
    second = await shop.next_version()
    assert (first.version, second.version, second.state) == (1, 2, plan_pb2.Plan.DRAFT)
    assert (second.code, second.display_name, second.kind) == ("team", "Team", plan_pb2.Plan.ADD_ON)
    assert (second.entitlements, second.trial_days) == (first.entitlements, 14)
    assert not {price.id for price in first.prices} & {price.id for price in second.prices}
    for price in [*first.prices, *second.prices]:
        price.ClearField("id")
        price.ClearField("plan_id")
    assert first.prices == second.prices
    await suite.quiet()
    assert [event.plan.version for event in suite.announced(events_pb2.PlanCreated)] == [1, 2]


async def test_there_is_one_draft_at_most(shop: Any) -> None:
    """Two would say different things about what is sold next."""
    with refused("PLAN_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.next_version()
    await shop.draft()
    with refused("PLAN_HAS_DRAFT", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.next_version()
    with refused("PLAN_CODE_TAKEN"):
        await shop.draft()


async def test_two_who_ask_for_the_next_version_get_one(shop: Any) -> None:
    """The database decides between them; the other one is told why."""
    await shop.published()
    answers = await asyncio.gather(*(shop.next_version() for _ in range(6)), return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, plan_pb2.Plan)]
    assert [plan.version for plan in made] == [2]
    for answer in answers:
        if not isinstance(answer, plan_pb2.Plan):
            with refused("PLAN_HAS_DRAFT"):
                raise answer


async def test_two_who_publish_make_one_promise(suite: Suite, shop: Any) -> None:
    """And the version before is archived once."""
    await shop.published()
    second = await shop.next_version()
    answers = await asyncio.gather(*(shop.publish(second) for _ in range(6)), return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, plan_pb2.Plan)]
    assert [plan.state for plan in made] == [plan_pb2.Plan.ACTIVE]
    for answer in answers:
        if not isinstance(answer, plan_pb2.Plan):
            with refused("PLAN_NOT_DRAFT"):
                raise answer
    await suite.quiet()
    assert archived(suite) == [1]
    assert await shop.states() == ["ARCHIVED", "ACTIVE"]


async def test_a_version_published_at_once_takes_the_place_of_the_last(
    suite: Suite,
    shop: Any,
) -> None:
    """From then on nobody new gets the old one; who has it is not asked."""
    first = await shop.published()
    second = await shop.publish(await shop.next_version())
    assert second.effective_time == second.publish_time
    assert await shop.states() == ["ARCHIVED", "ACTIVE"]
    assert await shop.on_sale() == second
    old = await shop.api.GetPlan(pb.GetPlanRequest(id=first.id))
    assert (old.prices, old.effective_time) == (first.prices, first.effective_time)
    await suite.quiet()
    assert [event.plan for event in suite.announced(events_pb2.PlanArchived)] == [old]


async def test_scheduled_versions_take_effect_one_after_the_other(
    suite: Suite,
    shop: Any,
) -> None:
    """A price rise is announced before it comes, and the one after it too."""
    await shop.published()
    for days in (10, 20):
        await shop.publish(await shop.next_version(), SANDBOX_START + days * DAY)
    assert await shop.states() == ["ACTIVE", "ACTIVE", "ACTIVE"]
    assert (await shop.on_sale()).version == 1
    await suite.travel(SANDBOX_START + 10 * DAY - SECOND)
    await suite.quiet()
    assert ((await shop.on_sale()).version, archived(suite)) == (1, [])
    await suite.travel(SANDBOX_START + 10 * DAY)
    await suite.quiet()
    assert ((await shop.on_sale()).version, archived(suite)) == (2, [1])
    assert await shop.states() == ["ARCHIVED", "ACTIVE", "ACTIVE"]
    await suite.travel(SANDBOX_START + 40 * DAY)
    await suite.quiet()
    assert ((await shop.on_sale()).version, archived(suite)) == (3, [1, 2])
    assert await shop.states() == ["ARCHIVED", "ARCHIVED", "ACTIVE"]


async def test_several_versions_whose_time_came_on_one_journey(suite: Suite, shop: Any) -> None:
    """Time may pass over several instants at once; each is lived through."""
    await shop.published()
    for days in (1, 2, 3):
        await shop.publish(await shop.next_version(), SANDBOX_START + days * DAY)
    await suite.travel(SANDBOX_START + 30 * DAY)
    await suite.quiet()
    assert (await shop.states(), archived(suite)) == (["ARCHIVED", "ARCHIVED", "ARCHIVED", "ACTIVE"], [1, 2, 3])


@pytest.mark.parametrize(
    ("effective_time", "reason"),
    [
        (SANDBOX_START + 10 * DAY, "PLAN_EFFECTIVE_TOO_EARLY"),
        (SANDBOX_START + 9 * DAY, "PLAN_EFFECTIVE_TOO_EARLY"),
        (None, "PLAN_EFFECTIVE_TOO_EARLY"),
        (SANDBOX_START - SECOND, "INVALID_ARGUMENT"),
    ],
)
async def test_a_version_cannot_take_effect_before_the_one_before(
    shop: Any,
    effective_time: datetime | None,
    reason: str,
) -> None:
    """Nor in the past, which is billed already. What was refused is still a draft."""
    await shop.published()
    await shop.publish(await shop.next_version(), SANDBOX_START + 10 * DAY)
    third = await shop.next_version()
    with refused(reason) as refusal:
        await shop.publish(third, effective_time)
    assert refusal.field == ("effective_time" if reason == "INVALID_ARGUMENT" else "")
    assert await shop.states() == ["ACTIVE", "ACTIVE", "DRAFT"]


async def test_a_withdrawn_version_never_takes_effect(suite: Suite, shop: Any) -> None:
    """The version before it stays on sale, until another one comes."""
    await shop.published()
    second = await shop.publish(await shop.next_version(), SANDBOX_START + 10 * DAY)
    await shop.publish(await shop.next_version(), SANDBOX_START + 20 * DAY)
    await shop.api.ArchivePlan(pb.ArchivePlanRequest(id=second.id))
    await suite.travel(SANDBOX_START + 15 * DAY)
    await suite.quiet()
    assert ((await shop.on_sale()).version, await shop.states()) == (1, ["ACTIVE", "ARCHIVED", "ACTIVE"])
    await suite.travel(SANDBOX_START + 20 * DAY)
    await suite.quiet()
    assert ((await shop.on_sale()).version, await shop.states()) == (3, ["ARCHIVED", "ARCHIVED", "ACTIVE"])


async def test_a_plan_without_an_open_version_answers_its_last(shop: Any) -> None:
    """Who asks by code learns what there is; versions are also asked for by number."""
    draft = await shop.draft()
    assert await shop.on_sale() == draft
    first = await shop.publish(draft)
    second = await shop.next_version()
    assert await shop.on_sale() == first
    await shop.api.ArchivePlan(pb.ArchivePlanRequest(id=first.id))
    assert await shop.on_sale() == second
    assert await shop.api.GetPlan(pb.GetPlanRequest(code="team", version=2)) == second
    assert (await shop.api.GetPlan(pb.GetPlanRequest(code="team", version=1))).id == first.id
    with refused("PLAN_NOT_FOUND"):
        await shop.api.GetPlan(pb.GetPlanRequest(code="team", version=3))
    for request in (pb.GetPlanRequest(code="team", version=-1), pb.GetPlanRequest(id=first.id, version=1)):
        with refused("INVALID_ARGUMENT") as refusal:
            await shop.api.GetPlan(request)
        assert refusal.field == "version"


async def test_a_scheduled_first_version_is_not_on_sale_before(suite: Suite, shop: Any) -> None:
    """It is answered, with the instant from which it can be subscribed to."""
    start = SANDBOX_START + 10 * DAY
    plan = await shop.publish(await shop.draft(), start)
    assert (plan.state, plan.effective_time.ToDatetime(UTC)) == (plan_pb2.Plan.ACTIVE, start)
    assert plan.publish_time.ToDatetime(UTC) == SANDBOX_START
    assert await shop.on_sale() == plan
    await suite.travel(start + DAY)
    await suite.quiet()
    assert (await shop.on_sale(), archived(suite)) == (plan, [])


async def test_a_draft_is_rewritten(suite: Suite, shop: Any) -> None:
    """All of it is replaced. Whoever was told of a price of the draft may go on relying on what was said about it."""
    draft = await shop.draft(prices=[shop.price("10"), shop.price("20", code="support")])
    told = await shop.api.BatchGetPrices(pb.BatchGetPricesRequest(ids=[price.id for price in draft.prices]))
    await shop.api.CreateFeature(
        pb.CreateFeatureRequest(
            code="calls", display_name="Calls", kind=product_pb2.Feature.QUOTA, meter="calls", unit_label="call"
        )
    )
    quota = plan_pb2.PlanEntitlement(
        feature="calls",
        quota=decimal_pb2.Decimal(value="1000.5"),
        reset_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.QUARTER, count=1),
    )
    rewritten = await shop.api.UpdatePlan(
        pb.UpdatePlanRequest(
            id=draft.id,
            display_name="Team Plus",
            prices=[shop.price("15"), shop.price("25", code="onboarding")],
            kind=plan_pb2.Plan.ADD_ON,
            entitlements=[quota],
            trial_days=30,
        )
    )
    assert (rewritten.display_name, rewritten.kind, rewritten.trial_days) == ("Team Plus", plan_pb2.Plan.ADD_ON, 30)
    assert (rewritten.id, rewritten.revision, rewritten.version) == (draft.id, 2, 1)
    assert [price.code for price in rewritten.prices] == ["seat", "onboarding"]
    assert rewritten.entitlements[0].quota.value == "1000.5"
    assert rewritten.entitlements[0].reset_interval == price_pb2.BillingInterval(
        unit=price_pb2.BillingInterval.MONTH, count=3
    )
    assert not {price.id for price in draft.prices} & {price.id for price in rewritten.prices}
    assert await shop.on_sale() == rewritten
    published = await shop.publish(draft)
    assert published.prices == rewritten.prices
    assert await shop.api.BatchGetPrices(pb.BatchGetPricesRequest(ids=[price.id for price in draft.prices])) == told
    await suite.quiet()
    assert [event.plan for event in suite.announced(events_pb2.PlanUpdated)] == [rewritten]


async def test_a_price_added_to_a_draft_is_announced(suite: Suite, shop: Any) -> None:
    """The draft as it is then; also after it was rewritten, when older prices keep its places."""
    draft = await shop.draft()
    await shop.api.UpdatePlan(pb.UpdatePlanRequest(id=draft.id, display_name="Team", prices=[shop.price("15")]))
    plan = await shop.api.CreatePrice(pb.CreatePriceRequest(plan_id=draft.id, price=shop.price(code="support")))
    assert [(price.code, price.plan_id) for price in plan.prices] == [("seat", draft.id), ("support", draft.id)]
    assert {price.create_time.ToDatetime(UTC) for price in plan.prices} == {SANDBOX_START}
    with refused("PRICE_CODE_TAKEN"):
        await shop.api.CreatePrice(pb.CreatePriceRequest(plan_id=draft.id, price=shop.price(code="support")))
    await suite.quiet()
    assert [event.plan for event in suite.announced(events_pb2.PlanUpdated)][-1] == plan


async def test_what_is_refused_leaves_a_draft_as_it_was(shop: Any) -> None:
    """Every way to be wrong, by its reason; a published plan is never rewritten."""
    draft = await shop.draft()
    unknown = ids.mint("prod", SANDBOX_START)
    nothing = plan_pb2.PlanEntitlement(feature="sso", enabled=True)
    for changes, reason in (
        ({"prices": [shop.price(), shop.price()]}, "PRICE_CODE_TAKEN"),
        ({"prices": [shop.price(product_id=unknown)]}, "PRODUCT_NOT_FOUND"),
        ({"entitlements": [nothing]}, "FEATURE_NOT_FOUND"),
        ({"entitlements": [nothing, nothing]}, "INVALID_ARGUMENT"),
        ({"trial_days": 731}, "INVALID_ARGUMENT"),
        ({"display_name": ""}, "INVALID_ARGUMENT"),
        ({"kind": 7}, "INVALID_ARGUMENT"),
        ({"id": ids.mint("plan", SANDBOX_START)}, "PLAN_NOT_FOUND"),
    ):
        with refused(reason):
            await shop.api.UpdatePlan(pb.UpdatePlanRequest(**{"id": draft.id, "display_name": "Other", **changes}))
    assert await shop.on_sale() == draft
    await shop.publish(draft)
    with refused("PLAN_NOT_DRAFT", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.UpdatePlan(pb.UpdatePlanRequest(id=draft.id, display_name="Other"))


@pytest.mark.own_services
async def test_the_tables_themselves_keep_prices_and_drafts(suite: Suite, shop: Any) -> None:
    """Whatever code runs: no price is ever changed or deleted, and no plan has two drafts."""
    draft = await shop.draft()
    connection = await asyncpg.connect(suite.urls["catalog"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        with pytest.raises(asyncpg.RaiseError, match="never changes"):
            await connection.execute("UPDATE prices SET position = NULL, currency = 'USD'")
        with pytest.raises(asyncpg.RaiseError, match="never deleted"):
            await connection.execute("DELETE FROM prices")
        with pytest.raises(asyncpg.UniqueViolationError, match="plans_draft"):
            await connection.execute(
                "INSERT INTO plans (seller_id, id, code, version, display_name, state, revision, create_time)"
                f" SELECT seller_id, 'plan_x', code, 2, display_name, state, 1, create_time FROM plans"
                f" WHERE id = '{draft.id}'"
            )
        await shop.publish(draft)
        with pytest.raises(asyncpg.RaiseError, match="never change"):
            await connection.execute("UPDATE prices SET position = NULL")
    finally:
        await connection.close()


async def test_a_bad_entitlement_is_refused_with_its_field(shop: Any) -> None:
    """Whoever writes a catalog must see at once which line is wrong."""
    await shop.api.CreateFeature(
        pb.CreateFeatureRequest(code="members", display_name="Members", kind=product_pb2.Feature.LIMIT)
    )
    once = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.ONCE, count=1)
    for entitlement, field in (
        (plan_pb2.PlanEntitlement(feature="members"), "grant"),
        (plan_pb2.PlanEntitlement(feature="members", enabled=True), "grant"),
        (plan_pb2.PlanEntitlement(feature="members", unlimited=False), "unlimited"),
        (plan_pb2.PlanEntitlement(feature="members", limit=decimal_pb2.Decimal(value="-1")), "limit"),
        (plan_pb2.PlanEntitlement(feature="members", limit=decimal_pb2.Decimal(value="0.0000000000001")), "limit"),
        (plan_pb2.PlanEntitlement(feature="members", quota=decimal_pb2.Decimal(value="x")), "quota"),
        (plan_pb2.PlanEntitlement(feature="Members!", unlimited=True), "feature"),
        (plan_pb2.PlanEntitlement(feature="members", unlimited=True, reset_interval=once), "reset_interval.unit"),
    ):
        with refused("INVALID_ARGUMENT") as refusal:
            await shop.draft(entitlements=[entitlement])
        assert refusal.field == f"entitlements[0].{field}"
    plan = await shop.draft(entitlements=[plan_pb2.PlanEntitlement(feature="members", unlimited=True)])
    assert plan.entitlements[0].WhichOneof("grant") == "unlimited"


@pytest.mark.own_services
async def test_a_job_that_comes_too_late_does_nothing(suite: Suite, shop: Any) -> None:
    """Between its finding the row and its turn, the next version may have been withdrawn."""
    first = await shop.published()
    second = await shop.publish(await shop.next_version(), SANDBOX_START + 10 * DAY)
    database = Database(suite.urls["catalog"], service="catalog")
    try:
        for plan in (first, second):
            async with database.transaction(service_caller("catalog", suite.seller)) as tx:
                await plans.archive_superseded(tx, plan.id)
    finally:
        await database.close()
    assert await shop.states() == ["ACTIVE", "ACTIVE"]


@pytest.mark.own_services
async def test_an_older_release_may_still_publish(suite: Suite, shop: Any) -> None:
    """While replicas are replaced one by one, the old ones say nothing of when a plan takes effect: at once."""
    draft = await shop.draft()
    connection = await asyncpg.connect(suite.urls["catalog"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        published = "UPDATE plans SET state = 'ACTIVE', publish_time = $1, revision = 2"
        await connection.execute(published, SANDBOX_START)
    finally:
        await connection.close()
    plan = await shop.on_sale()
    assert (plan.id, plan.effective_time) == (draft.id, wire.timestamp(SANDBOX_START))
    second = await shop.next_version()
    assert (await shop.on_sale()).id == draft.id
    await shop.publish(second)
    assert await shop.states() == ["ARCHIVED", "ACTIVE"]


@pytest.mark.own_services
async def test_a_version_whose_time_is_over_is_not_sold_until_the_job_comes(suite: Suite, shop: Any) -> None:
    """The job may be late. When the version after it is closed meanwhile, that must not bring the old one back."""
    first = await shop.published()
    second = await shop.publish(await shop.next_version(), SANDBOX_START + DAY)
    await suite.stop("catalog")  # and the job with it
    connection = await asyncpg.connect(suite.urls["catalog"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        await connection.execute("UPDATE clocks SET time = $1", SANDBOX_START + 2 * DAY)
    finally:
        await connection.close()
    database = Database(suite.urls["catalog"], service="catalog")
    try:
        async with database.transaction(service_caller("catalog", suite.seller)) as tx:
            assert (await store.plan_by_code(tx, "team")).id == second.id
            await plans.archive_plan(tx, PlanId(second.id))
            assert (await store.plan(tx, PlanId(first.id))).state is State.ACTIVE
            assert (await store.plan_by_code(tx, "team")).id == second.id
    finally:
        await database.close()


@pytest.mark.own_services
async def test_prices_are_written_while_their_product_is_changed(suite: Suite, shop: Any) -> None:
    """What only refers to a product does not wait for it: with a catalog applied at the same time that would be a
    deadlock, the one holding the product and wanting the plan, the other the plan and wanting the product.
    """
    draft = await shop.draft()
    database = Database(suite.urls["catalog"], service="catalog")
    texts = ProductTexts(display_name="Places", description=None, unit_label=None, tax_code=None)
    try:
        async with database.transaction(service_caller("catalog", suite.seller)) as tx:
            await products.update_product(tx, ProductId(shop.seats.id), texts)
            changed = await asyncio.wait_for(
                shop.api.UpdatePlan(pb.UpdatePlanRequest(id=draft.id, display_name="Team", prices=[shop.price("9")])),
                timeout=5,
            )
    finally:
        await database.close()
    assert changed.revision == draft.revision + 1


@pytest.mark.own_services
async def test_an_older_release_may_still_write(suite: Suite, shop: Any) -> None:
    """While replicas are replaced one by one, the old ones write rows without what came later: first versions, of base
    plans, at prices of the list; and a code that is taken is taken for them, too.
    """
    await shop.draft("solo")
    connection = await asyncpg.connect(suite.urls["catalog"].replace("+asyncpg", ""))
    plan_id, price_id = ids.mint("plan", SANDBOX_START), ids.mint("price", SANDBOX_START)
    plan = (
        "INSERT INTO plans (seller_id, id, code, display_name, state, revision, create_time, publish_time)"
        " VALUES ($1, $2, $3, 'Team', 'DRAFT', 1, $4, NULL) ON CONFLICT DO NOTHING"
    )
    price = (
        "INSERT INTO prices (seller_id, id, plan_id, position, code, product_id, currency, interval_unit,"
        " interval_count, timing, meter, model)"
        " VALUES ($1, $2, $3, 0, 'seat', $4, 'EUR', 'MONTH', 1, 'IN_ADVANCE', '', $5)"
    )
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        other_id = ids.mint("plan", SANDBOX_START)
        assert await connection.execute(plan, suite.seller, other_id, "solo", SANDBOX_START) == "INSERT 0 0"
        assert await connection.execute(plan, suite.seller, plan_id, "team", SANDBOX_START) == "INSERT 0 1"
        model = '{"model": "PER_UNIT", "unit_price": "12.50"}'
        await connection.execute(price, suite.seller, price_id, plan_id, shop.seats.id, model)
    finally:
        await connection.close()
    draft = await shop.api.GetPlan(pb.GetPlanRequest(id=plan_id))
    assert (draft.version, draft.kind, draft.trial_days) == (1, plan_pb2.Plan.BASE, 0)
    [seat] = draft.prices
    assert (seat.id, seat.per_unit.unit_price.value, seat.HasField("create_time")) == (price_id, "12.5", False)
    rewritten = await shop.api.UpdatePlan(
        pb.UpdatePlanRequest(id=plan_id, display_name="Team", prices=[shop.price("9")])
    )
    assert [each.id for each in rewritten.prices] != [price_id]
    published = await shop.publish(rewritten)
    assert (await shop.on_sale()).id == published.id == plan_id
