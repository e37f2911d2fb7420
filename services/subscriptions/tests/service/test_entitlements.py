"""What customers are entitled to, through the door, with the real catalog next door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2, product_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import entitlement_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import entitlement_service_pb2 as entitlements
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
NOW, PERIOD_END = pb.CancelSubscriptionRequest.NOW, pb.CancelSubscriptionRequest.PERIOD_END
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
FEB_1, MAR_1 = JAN_1 + timedelta(days=31), JAN_1 + timedelta(days=59)
BASE, ADD_ON, OVERRIDE = (
    entitlement_pb2.EntitlementOrigin.BASE,
    entitlement_pb2.EntitlementOrigin.ADD_ON,
    entitlement_pb2.EntitlementOrigin.OVERRIDE,
)
MONTH = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1)
DAY = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.DAY, count=1)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def sso(enabled: bool = True) -> plan_pb2.PlanEntitlement:
    return plan_pb2.PlanEntitlement(feature="sso", enabled=enabled)


def projects(limit: str) -> plan_pb2.PlanEntitlement:
    return plan_pb2.PlanEntitlement(feature="projects", limit=decimal(limit))


def calls(quota: str, interval: price_pb2.BillingInterval = MONTH) -> plan_pb2.PlanEntitlement:
    return plan_pb2.PlanEntitlement(feature="calls", quota=decimal(quota), reset_interval=interval)


def limit_of(text: str) -> entitlement_pb2.EntitlementGrant:
    return entitlement_pb2.EntitlementGrant(limit=decimal(text))


class Grants:
    """A shop whose plans entitle to something."""

    def __init__(self, suite: Suite, shop: Any) -> None:
        self.suite = suite
        self.shop = shop
        self.api: Any = suite.stub(EntitlementServiceStub, "subscriptions")  # Any: grpc stubs are generated

    async def features(self) -> None:
        for code, kind, meter in (("sso", "SWITCH", ""), ("projects", "LIMIT", ""), ("calls", "QUOTA", "api_calls")):
            await self.shop.catalog.CreateFeature(
                catalog_service_pb2.CreateFeatureRequest(
                    code=code, display_name=code, kind=product_pb2.Feature.Kind.Value(kind), meter=meter
                )
            )

    async def plan(
        self, code: str, *granted: plan_pb2.PlanEntitlement, kind: plan_pb2.Plan.Kind.ValueType = plan_pb2.Plan.BASE
    ) -> plan_pb2.Plan:
        product = await self.shop.catalog.CreateProduct(
            catalog_service_pb2.CreateProductRequest(code=f"{code}-product", display_name="Product")
        )
        price = self.shop.price(code)
        price.product_id = product.id
        plan = await self.shop.catalog.CreatePlan(
            catalog_service_pb2.CreatePlanRequest(
                code=code, display_name=code, prices=[price], entitlements=granted, kind=kind
            )
        )
        published: plan_pb2.Plan = await self.shop.catalog.PublishPlan(
            catalog_service_pb2.PublishPlanRequest(id=plan.id)
        )
        return published

    async def of(self, customer_id: str, at: datetime | None = None) -> dict[str, entitlement_pb2.Entitlement]:
        answer = await self.api.ListEntitlements(
            entitlements.ListEntitlementsRequest(
                customer_id=customer_id, effective_time=wire.timestamp(at) if at else None
            )
        )
        return {each.feature: each for each in answer.entitlements}

    async def told(self, customer_id: str) -> list[tuple[int, dict[str, list[entitlement_pb2.EntitlementGrant]]]]:
        """What was announced: revisions, and the grants by feature."""
        await self.suite.quiet()
        return [
            (each.revision, {one.feature: list(one.grants) for one in each.entitlements})
            for event in self.suite.announced(events_pb2.CustomerEntitlementsChanged)
            if (each := event.customer_entitlements).id == customer_id
        ]

    async def override(
        self, customer_id: str, feature: str, grant: entitlement_pb2.EntitlementGrant, **changes: Any
    ) -> entitlement_pb2.Entitlement:  # Any: fields of the request
        answer: entitlement_pb2.Entitlement = await self.api.SetEntitlementOverride(
            entitlements.SetEntitlementOverrideRequest(
                customer_id=customer_id, feature=feature, grant=grant, reason="agreed by mail", **changes
            )
        )
        return answer


@pytest_asyncio.fixture
async def grants(suite: Suite, shop: Any) -> Grants:
    return Grants(suite, shop)


def limits(entitlement: entitlement_pb2.Entitlement) -> list[str]:
    return [grant.limit.value for grant in entitlement.grants]


async def change(
    shop: Any, subscription: subscription_pb2.Subscription, *actions: dict[str, Any], **timing: Any
) -> None:  # Any: fields of the request
    request = pb.ChangeSubscriptionRequest(
        id=subscription.id, actions=[subscription_pb2.SubscriptionAction(**each) for each in actions], **timing
    )
    await shop.api.ChangeSubscription(request)


async def test_a_plan_and_an_add_on_add_up_and_say_where_from(grants: Grants) -> None:
    """The main job: what a customer may, and why, from the moment of the agreement."""
    await grants.features()
    plan = await grants.plan("team", sso(False), projects("5"), calls("1000"))
    add_on = await grants.plan("more", sso(), projects("2.5"), calls("10", DAY), kind=plan_pb2.Plan.ADD_ON)
    ada = await grants.shop.customer()
    subscription = await grants.shop.subscribe(
        ada, plan, add_ons=[subscription_pb2.SubscriptionAction.AddAddOn(plan_id=add_on.id)]
    )
    found = await grants.of(ada.id)
    assert list(found) == ["calls", "projects", "sso"]
    assert found["sso"].grants[0].enabled
    assert limits(found["projects"]) == ["7.5"]
    assert [(each.quota.value, each.reset_interval.unit) for each in found["calls"].grants] == [
        ("10", entitlement_pb2.ResetInterval.DAY),
        ("1000", entitlement_pb2.ResetInterval.MONTH),
    ]
    assert list(found["projects"].origins) == [
        entitlement_pb2.EntitlementOrigin(
            kind=kind,
            subscription_id=subscription.id,
            plan_id=plan_id,
            grant=limit_of(limit),
            start_time=wire.timestamp(JAN_1),
        )
        for kind, plan_id, limit in [(BASE, plan.id, "5"), (ADD_ON, add_on.id, "2.5")]
    ]
    one = await grants.api.GetEntitlement(entitlements.GetEntitlementRequest(customer_id=ada.id, feature="projects"))
    assert one == found["projects"]
    [(revision, told)] = await grants.told(ada.id)
    assert (revision, told) == (1, {feature: list(each.grants) for feature, each in found.items()})


async def test_a_customer_without_anything_has_nothing(grants: Grants) -> None:
    """No plan, a plan that grants nothing, or a feature that there is not: an answer, and no event."""
    ada = await grants.shop.customer()
    await grants.shop.subscribe(ada, await grants.shop.plan(grants.shop.price("seats")))
    assert await grants.of(ada.id) == {}
    nothing = await grants.api.GetEntitlement(entitlements.GetEntitlementRequest(customer_id=ada.id, feature="sso"))
    assert nothing == entitlement_pb2.Entitlement(feature="sso")
    assert await grants.told(ada.id) == []
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await grants.of(ids.mint("cus", JAN_1))


async def test_service_is_what_entitles(grants: Grants) -> None:
    """Pause, resumption, cancellation at the period's end and reactivation: each told once, at its moment."""
    await grants.features()
    ada, plan = await grants.shop.customer(), await grants.plan("team", projects("5"))
    api, subscription = grants.shop.api, await grants.shop.subscribe(ada, plan)
    has, has_not = {"projects": [limit_of("5")]}, dict[str, list[entitlement_pb2.EntitlementGrant]]()
    billing = pb.PauseSubscriptionRequest.BILLING
    await api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id, scope=billing))
    await api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    assert await grants.told(ada.id) == [(1, has)]
    await api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    assert await grants.told(ada.id) == [(1, has), (2, has_not)]
    await grants.suite.travel(JAN_1 + timedelta(days=5))
    await api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    [origin] = (await grants.of(ada.id))["projects"].origins
    assert origin.start_time == wire.timestamp(JAN_1 + timedelta(days=5))
    await api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=PERIOD_END))
    assert await grants.told(ada.id) == [(1, has), (2, has_not), (3, has)]
    await grants.suite.travel(FEB_1)
    assert await grants.of(ada.id) == {}
    await api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=subscription.id))
    assert [revision for revision, _ in await grants.told(ada.id)] == [1, 2, 3, 4, 5]
    assert (await grants.told(ada.id))[-2:] == [(4, has_not), (5, has)]


async def test_what_begins_later_entitles_later(grants: Grants) -> None:
    """By the job that begins it, and through the trial as after it; no period's end is a change."""
    await grants.features()
    ada, plan = await grants.shop.customer(), await grants.plan("team", projects("5"))
    await grants.shop.subscribe(ada, plan, start_time=wire.timestamp(FEB_1), trial_days=14)
    assert await grants.of(ada.id) == {}
    assert limits((await grants.of(ada.id, FEB_1))["projects"]) == ["5"]
    await grants.suite.travel(FEB_1)
    assert limits((await grants.of(ada.id))["projects"]) == ["5"]
    await grants.suite.travel(JAN_1 + timedelta(days=200))
    assert [revision for revision, _ in await grants.told(ada.id)] == [1]
    assert len(grants.suite.announced(events_pb2.BillingPeriodEnded)) == 5


async def test_plans_and_add_ons_change(grants: Grants) -> None:
    """Now or at a date; what does not change what is granted is not told, though its origin is new."""
    await grants.features()
    team, same = await grants.plan("team", projects("5")), await grants.plan("same", projects("5"))
    big = await grants.plan("big", projects("50"), sso())
    more = await grants.plan("more", projects("1"), kind=plan_pb2.Plan.ADD_ON)
    ada = await grants.shop.customer()
    subscription = await grants.shop.subscribe(ada, team)
    later = {"timing": subscription_pb2.SubscriptionChange.AT_TIME, "effective_time": wire.timestamp(FEB_1)}
    await change(grants.shop, subscription, {"change_plan": {"plan_id": big.id}}, **later)
    await change(grants.shop, subscription, {"add_add_on": {"plan_id": more.id}})
    assert limits((await grants.of(ada.id))["projects"]) == ["6"]
    assert limits((await grants.of(ada.id, FEB_1))["projects"]) == ["51"]
    await grants.suite.travel(FEB_1)
    found = await grants.of(ada.id)
    assert [(each.plan_id, each.start_time) for each in found["projects"].origins] == [
        (big.id, wire.timestamp(FEB_1)),
        (more.id, wire.timestamp(JAN_1)),
    ]
    await grants.suite.travel(FEB_1 + timedelta(days=1))
    await change(
        grants.shop, subscription, {"change_plan": {"plan_id": team.id}}, {"remove_add_on": {"plan_id": more.id}}
    )
    await change(grants.shop, subscription, {"change_plan": {"plan_id": same.id}})
    assert [each.plan_id for each in (await grants.of(ada.id))["projects"].origins] == [same.id]
    assert await grants.told(ada.id) == [
        (1, {"projects": [limit_of("5")]}),
        (2, {"projects": [limit_of("6")]}),
        (3, {"projects": [limit_of("51")], "sso": [entitlement_pb2.EntitlementGrant(enabled=True)]}),
        (4, {"projects": [limit_of("5")]}),
    ]
    # What was is still known.
    assert limits((await grants.of(ada.id, JAN_1))["projects"]) == ["6"]


async def test_a_transfer_takes_entitlements_along(grants: Grants) -> None:
    """Both customers are told, and who had it before is still known to have had it."""
    await grants.features()
    ada, bob = await grants.shop.customer(), await grants.shop.customer()
    subscription = await grants.shop.subscribe(ada, await grants.plan("team", projects("5")))
    await grants.suite.travel(JAN_1 + timedelta(days=9))
    await grants.shop.api.TransferSubscription(pb.TransferSubscriptionRequest(id=subscription.id, customer_id=bob.id))
    assert await grants.of(ada.id) == {}
    [origin] = (await grants.of(bob.id))["projects"].origins
    assert origin.start_time == wire.timestamp(JAN_1 + timedelta(days=9))
    assert limits((await grants.of(ada.id, JAN_1 + timedelta(days=3)))["projects"]) == ["5"]
    assert await grants.of(bob.id, JAN_1 + timedelta(days=3)) == {}
    assert await grants.told(ada.id) == [(1, {"projects": [limit_of("5")]}), (2, {})]
    assert await grants.told(bob.id) == [(1, {"projects": [limit_of("5")]})]


async def test_a_merge_hands_entitlements_over(grants: Grants) -> None:
    """Several subscriptions at once are one change."""
    await grants.features()
    ada, bob, plan = (
        await grants.shop.customer(),
        await grants.shop.customer(),
        await grants.plan("team", projects("5")),
    )
    for _ in range(3):
        await grants.shop.subscribe(ada, plan)
    await grants.shop.customers.MergeCustomers(customers_pb.MergeCustomersRequest(source_id=ada.id, target_id=bob.id))
    assert await grants.told(bob.id) == [(1, {"projects": [limit_of("15")]})]
    assert (await grants.told(ada.id))[-1] == (4, {})


async def test_an_override_is_the_last_word_until_it_ends(grants: Grants) -> None:
    """Replaced by a newer one, ended by itself and by hand, each with what comes of it; the past stays."""
    await grants.features()
    ada = await grants.shop.customer()
    await grants.shop.subscribe(ada, await grants.plan("team", projects("5")))
    first = await grants.override(ada.id, "projects", limit_of("100"))
    assert limits(first) == ["100"]
    assert [each.kind for each in first.origins] == [OVERRIDE, BASE]
    await grants.suite.travel(JAN_1 + timedelta(days=1))
    end = wire.timestamp(FEB_1)
    unlimited = entitlement_pb2.EntitlementGrant(unlimited=True)
    second = await grants.override(ada.id, "projects", unlimited, end_time=end, request_id="r1")
    assert list(second.grants) == [unlimited]
    assert second.origins[0] == entitlement_pb2.EntitlementOrigin(
        kind=OVERRIDE,
        grant=unlimited,
        start_time=wire.timestamp(JAN_1 + timedelta(days=1)),
        end_time=end,
        reason="agreed by mail",
    )
    assert await grants.override(ada.id, "projects", unlimited, end_time=end, request_id="r1") == second
    assert limits((await grants.of(ada.id, JAN_1))["projects"]) == ["100"]
    assert limits((await grants.of(ada.id, FEB_1))["projects"]) == ["5"]
    await grants.suite.travel(FEB_1)
    assert limits((await grants.of(ada.id))["projects"]) == ["5"]
    remove = entitlements.RemoveEntitlementOverrideRequest(customer_id=ada.id, feature="projects")
    with refused("ENTITLEMENT_OVERRIDE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await grants.api.RemoveEntitlementOverride(remove)
    await grants.override(ada.id, "projects", limit_of("0"))
    assert limits(await grants.api.RemoveEntitlementOverride(remove)) == ["5"]
    assert await grants.told(ada.id) == [
        (1, {"projects": [limit_of("5")]}),
        (2, {"projects": [limit_of("100")]}),
        (3, {"projects": [unlimited]}),
        (4, {"projects": [limit_of("5")]}),
        (5, {"projects": [limit_of("0")]}),
        (6, {"projects": [limit_of("5")]}),
    ]


async def test_an_override_is_checked(grants: Grants) -> None:
    """A feature that there is, in its own way, for a customer that there is, and nothing stored otherwise."""
    await grants.features()
    ada, bob = await grants.shop.customer(), await grants.shop.customer()
    on, nothing = entitlement_pb2.EntitlementGrant(enabled=True), entitlement_pb2.EntitlementGrant()
    month = entitlement_pb2.ResetInterval(unit=entitlement_pb2.ResetInterval.MONTH, count=1)
    long = entitlement_pb2.ResetInterval(unit=entitlement_pb2.ResetInterval.YEAR, count=11)
    grant = entitlement_pb2.EntitlementGrant
    with refused("FEATURE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await grants.override(ada.id, "yachts", on)
    for feature, given, changes, field in [
        ("projects", on, {}, "grant"),
        ("sso", limit_of("1"), {}, "grant"),
        ("projects", grant(quota=decimal("1"), reset_interval=month), {}, "grant"),
        ("projects", nothing, {}, "grant"),
        ("projects", limit_of("-1"), {}, "grant.limit"),
        ("projects", grant(limit=decimal("1"), reset_interval=month), {}, "grant.reset_interval"),
        ("projects", grant(unlimited=False), {}, "grant.unlimited"),
        ("calls", grant(quota=decimal("1")), {}, "grant.reset_interval.unit"),
        ("calls", grant(quota=decimal("1"), reset_interval=long), {}, "grant.reset_interval.count"),
        ("projects", limit_of("1"), {"end_time": wire.timestamp(JAN_1)}, "end_time"),
        ("", on, {}, "feature"),
    ]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await grants.override(ada.id, feature, given, **changes)
        assert refusal.field == field
    with refused("CUSTOMER_NOT_FOUND"):
        await grants.override(ids.mint("cus", JAN_1), "sso", on)
    await grants.shop.customers.MergeCustomers(customers_pb.MergeCustomersRequest(source_id=bob.id, target_id=ada.id))
    with refused("CUSTOMER_MERGED", grpc.StatusCode.FAILED_PRECONDITION):
        await grants.override(bob.id, "sso", on)
    assert await grants.of(ada.id) == {}
    assert await grants.told(ada.id) == []


async def test_the_list_has_pages(grants: Grants) -> None:
    """By feature code, from where the last one ended."""
    await grants.features()
    ada = await grants.shop.customer()
    await grants.shop.subscribe(ada, await grants.plan("team", sso(), projects("5"), calls("1")))
    seen: list[str] = []
    request = entitlements.ListEntitlementsRequest(customer_id=ada.id, page_size=2)
    for _ in range(2):
        answer = await grants.api.ListEntitlements(request)
        seen += [each.feature for each in answer.entitlements]
        request.page_token = answer.next_page_token
    assert (seen, request.page_token) == (["calls", "projects", "sso"], "")


async def test_two_at_once_are_both_in_what_is_told_last(grants: Grants) -> None:
    """Who is second sees what the first has done: otherwise the last word about a customer would be wrong for ever."""
    await grants.features()
    ada, plan = await grants.shop.customer(), await grants.plan("team", projects("1"))
    subscribed = [await grants.shop.subscribe(ada, plan) for _ in range(8)]
    pauses = [pb.PauseSubscriptionRequest(id=each.id) for each in subscribed]
    await asyncio.gather(*(grants.shop.api.PauseSubscription(each) for each in pauses))
    told = await grants.told(ada.id)
    assert [revision for revision, _ in told] == list(range(1, 17))
    of_projects = [grant["projects"][0].limit.value if grant else "" for _, grant in told]
    assert of_projects == [*"12345678", *"7654321", ""]


@pytest.mark.own_services
@pytest.mark.parametrize(
    "forgotten", ["UPDATE plan_entitlements SET entitlements = NULL", "DELETE FROM plan_entitlements"]
)
async def test_plans_from_before_are_asked_about(grants: Grants, forgotten: str) -> None:
    """As the migration leaves them, or an older release beside this one: a job asks, and everybody is told."""
    await grants.features()
    ada, plan = await grants.shop.customer(), await grants.plan("team", projects("5"))
    subscription = await grants.shop.subscribe(ada, plan)
    await grants.suite.quiet()
    await grants.suite.stop("catalog")
    connection = await asyncpg.connect(grants.suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        # The owner of the tables sees only the rows of a seller, too.
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("DELETE FROM customer_entitlements")
        await connection.execute(forgotten)
    finally:
        await connection.close()
    with refused("ENTITLEMENTS_UNKNOWN", grpc.StatusCode.UNAVAILABLE) as refusal:
        await grants.of(ada.id)
    assert refusal.metadata == {"plan": plan.id}
    # Nobody waits for the catalog, nor is told anything that is not known.
    await grants.shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id))
    await grants.shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    await grants.suite.start("catalog")
    found = await _until_available(lambda: grants.of(ada.id))
    assert limits(found["projects"]) == ["5"]
    # Told before all this, and again by those who had forgotten.
    assert await grants.told(ada.id) == [(1, {"projects": [limit_of("5")]})] * 2


async def _until_available(call: Callable[[], Awaitable[Any]]) -> Any:  # Any: the answer of the call
    """Services that were away are found again, and jobs have their turn, in a moment."""
    for _ in range(400):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)
    raise AssertionError("never available")
