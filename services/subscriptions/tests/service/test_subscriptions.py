"""Subscriptions through the door, with the real catalog next door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.caller import Role
from common.migrate import differences
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from subscriptions.store import metadata

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STATE = subscription_pb2.Subscription.State
NOW, PERIOD_END = pb.CancelSubscriptionRequest.NOW, pb.CancelSubscriptionRequest.PERIOD_END
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


async def test_a_customer_subscribes_to_a_plan(suite: Suite, shop: Any) -> None:
    """The main job: what was agreed is stored for ever and announced once."""
    ada = await shop.customer(billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="Europe/Berlin"))
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"), shop.price("dollars", currency="USD"))
    seats, calls, _ = plan.prices
    items = [
        subscription_pb2.ItemSpec(price_id=seats.id, quantity=decimal("2.50")),
        subscription_pb2.ItemSpec(price_id=calls.id),
    ]
    subscription = await shop.subscribe(ada, plan, items=items)
    assert ids.prefix_of(subscription.id) == "sub"
    assert (subscription.customer_id, subscription.plan_id) == (ada.id, plan.id)
    assert (subscription.state, subscription.currency, subscription.time_zone) == (STATE.ACTIVE, "EUR", "Europe/Berlin")
    assert subscription.start_time == subscription.billing_anchor == wire.timestamp(JAN_1)
    assert [(item.price_id, item.quantity.value, item.meter) for item in subscription.items] == [
        (seats.id, "2.5", ""),
        (calls.id, "", "api_calls"),
    ]
    assert not subscription.items[1].HasField("quantity")
    assert await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id)) == subscription
    await suite.quiet()
    assert [event.subscription for event in suite.announced(events_pb2.SubscriptionCreated)] == [subscription]


async def test_nothing_said_is_everything_in_the_customers_currency(shop: Any) -> None:
    """And one of each."""
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"), shop.price("dollars", currency="USD"))
    subscription = await shop.subscribe(await shop.customer(), plan)
    assert [item.price_id for item in subscription.items] == [price.id for price in plan.prices[:2]]
    assert subscription.items[0].quantity.value == "1"


async def test_only_a_published_plan_can_be_subscribed_to(shop: Any) -> None:
    """A draft may still change, an archived plan is closed, and there must be one."""
    ada = await shop.customer()
    draft = await shop.plan(shop.price("seats"), published=False)
    with refused("PLAN_NOT_SUBSCRIBABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.subscribe(ada, draft)
    plan = await shop.plan(shop.price("seats"))
    before = await shop.subscribe(ada, plan, request_id="before")
    await shop.catalog.ArchivePlan(catalog_service_pb2.ArchivePlanRequest(id=plan.id))
    with refused("PLAN_NOT_SUBSCRIBABLE"):
        await shop.subscribe(ada, plan)
    # What was agreed stays agreed, and a repeated request is answered as it was.
    assert await shop.subscribe(ada, plan, request_id="before") == before
    plan.id = ids.mint("plan", JAN_1)
    with refused("PLAN_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.subscribe(ada, plan)


async def test_the_customer_must_exist_and_be_billed_in_the_plans_currency(shop: Any) -> None:
    """Nobody is billed in money they do not have."""
    plan = await shop.plan(shop.price("seats"))
    ada = await shop.customer(billing_profile=customer_pb2.BillingProfile(currency="JPY"))
    with refused("CURRENCY_NOT_OFFERED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await shop.subscribe(ada, plan)
    assert refusal.metadata == {"plan": plan.id, "currency": "JPY"}
    ada.id = ids.mint("cus", JAN_1)
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await shop.subscribe(ada, plan)


async def test_items_are_checked_by_field(shop: Any) -> None:
    """Usage is not agreed beforehand, a price is taken once, and it is one of the plan's."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"), shop.price("dollars", currency="USD"))
    seats, calls, dollars = (price.id for price in plan.prices)
    stranger = ids.mint("price", JAN_1)
    for items, field, reason in [
        ([subscription_pb2.ItemSpec(price_id=calls, quantity=decimal("1"))], "items[0].quantity", "INVALID_ARGUMENT"),
        (
            [subscription_pb2.ItemSpec(price_id=seats), subscription_pb2.ItemSpec(price_id=seats)],
            "items[1].price_id",
            "INVALID_ARGUMENT",
        ),
        ([subscription_pb2.ItemSpec(price_id=dollars)], "items[0].price_id", "INVALID_ARGUMENT"),
        ([subscription_pb2.ItemSpec(price_id=stranger)], "items[0].price_id", "PRICE_NOT_IN_PLAN"),
        ([subscription_pb2.ItemSpec()], "items[0].price_id", "INVALID_ARGUMENT"),
        ([subscription_pb2.ItemSpec(price_id=seats, quantity=decimal("-1"))], "items[0].quantity", "INVALID_ARGUMENT"),
        (
            [subscription_pb2.ItemSpec(price_id=seats, quantity=decimal("1e13"))],
            "items[0].quantity",
            "INVALID_ARGUMENT",
        ),
        (
            [subscription_pb2.ItemSpec(price_id=seats, quantity=decimal("0.0000000000001"))],
            "items[0].quantity",
            "INVALID_ARGUMENT",
        ),
        ([subscription_pb2.ItemSpec(price_id=seats, quantity=decimal("NaN"))], "items[0].quantity", "INVALID_ARGUMENT"),
    ]:
        with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, items=items)
        assert refusal.field == field
    assert not (await shop.api.ListSubscriptions(pb.ListSubscriptionsRequest())).subscriptions


async def test_times_are_checked_by_field(shop: Any) -> None:
    """A start within ten years, a day that a month has, and only where months are what is billed."""
    ada = await shop.customer()
    monthly, weekly = await shop.plan(shop.price("a")), await shop.plan(shop.price("a"), shop.price("b", unit="WEEK"))
    far = wire.timestamp(JAN_1 + timedelta(days=3_654))
    long_ago = wire.timestamp(JAN_1 - timedelta(days=3_654))
    cases: list[tuple[plan_pb2.Plan, dict[str, Any], str]] = [  # Any: fields of the request
        (monthly, {"start_time": far}, "start_time"),
        (monthly, {"start_time": long_ago}, "start_time"),
        (monthly, {"start_time": {"seconds": -1}}, "start_time"),
        (monthly, {"billing_day": 32}, "billing_day"),
        (monthly, {"billing_day": -1}, "billing_day"),
        (weekly, {"billing_day": 1}, "billing_day"),
    ]
    for plan, changes, field in cases:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.subscribe(ada, plan, **changes)
        assert refusal.field == field


async def test_a_billing_day_is_of_the_customers_zone(shop: Any) -> None:
    """Tokyo's first of February begins in UTC's January."""
    ada = await shop.customer(billing_profile=customer_pb2.BillingProfile(currency="EUR", time_zone="Asia/Tokyo"))
    plan = await shop.plan(shop.price("seats"))
    start = wire.timestamp(datetime(2026, 1, 10, tzinfo=UTC))
    subscription = await shop.subscribe(ada, plan, start_time=start, billing_day=1)
    assert subscription.billing_anchor.ToDatetime(UTC) == datetime(2026, 1, 31, 15, tzinfo=UTC)
    assert subscription.state == STATE.PENDING


async def test_a_repeated_request_subscribes_once(suite: Suite, shop: Any) -> None:
    """Ten at once make one subscription and one event, although each of them asks the catalog."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    answers = await asyncio.gather(*(shop.subscribe(ada, plan, request_id="r1") for _ in range(10)))
    assert len({answer.id for answer in answers}) == 1
    with refused("REQUEST_ID_REUSED"):
        await shop.subscribe(ada, plan, request_id="r1", billing_day=5)
    cancel = pb.CancelSubscriptionRequest(id=answers[0].id, timing=NOW, request_id="r2")
    cancelled = await asyncio.gather(*(shop.api.CancelSubscription(cancel) for _ in range(5)))
    assert len({answer.revision for answer in cancelled}) == 1
    await suite.quiet()
    assert len(suite.announced(events_pb2.SubscriptionCreated)) == 1
    assert len(suite.announced(events_pb2.SubscriptionCancelled)) == 1


async def test_without_the_catalog_nobody_can_subscribe(suite: Suite, shop: Any) -> None:
    """The caller is told to try again, and everything else goes on."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    before = await shop.subscribe(ada, plan)
    await suite.stop("catalog")
    with refused("NEIGHBOUR_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE):
        await shop.subscribe(ada, plan, request_id="r1")
    paused = await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=before.id))
    assert paused.state == STATE.PAUSED
    await suite.start("catalog")
    assert (await _until_available(lambda: shop.subscribe(ada, plan, request_id="r1"))).id != before.id


async def _until_available(call: Callable[[], Awaitable[Any]]) -> Any:  # Any: the answer of the call
    """As a caller would: the channel to a service that was away takes a moment to find it again."""
    for _ in range(100):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("never available")


async def test_pausing_and_resuming(suite: Suite, shop: Any) -> None:
    """Each once; the time without service is what lies between, and nothing when it took none."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    name = subscription.id
    with refused("SUBSCRIPTION_NOT_PAUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=name))
    resumed = subscription
    for _ in range(2):  # the sandbox's clock stands still: no pause takes any time
        paused = await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=name))
        assert (paused.state, paused.pause_time) == (STATE.PAUSED, wire.timestamp(JAN_1))
        with refused("SUBSCRIPTION_NOT_ACTIVE", grpc.StatusCode.FAILED_PRECONDITION):
            await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=name))
        resumed = await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=name))
        assert (resumed.state, resumed.HasField("pause_time")) == (STATE.ACTIVE, False)
    assert resumed.revision == 5
    await suite.quiet()
    assert [event.subscription.revision for event in suite.announced(events_pb2.SubscriptionPaused)] == [2, 4]
    assert [event.subscription.revision for event in suite.announced(events_pb2.SubscriptionResumed)] == [3, 5]


async def test_cancelling_now(suite: Suite, shop: Any) -> None:
    """At once and for good."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    request = pb.CancelSubscriptionRequest(id=subscription.id, timing=NOW)
    cancelled = await shop.api.CancelSubscription(request)
    assert (cancelled.state, cancelled.end_time) == (STATE.CANCELLED, wire.timestamp(JAN_1))
    assert not cancelled.HasField("cancel_time")
    with refused("SUBSCRIPTION_CANCELLED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.CancelSubscription(request)
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id))
    assert refusal.field == "timing"
    await suite.quiet()
    assert [event.subscription for event in suite.announced(events_pb2.SubscriptionCancelled)] == [cancelled]


async def test_subscriptions_are_listed_in_pages(shop: Any) -> None:
    """Of one customer or of all, every page, in order, once."""
    plan, customers = await shop.plan(shop.price("seats")), [await shop.customer(), await shop.customer()]
    made = [(await shop.subscribe(customers[n % 2], plan)).id for n in range(5)]
    for customer_id, expected in (("", made), (customers[0].id, made[::2]), (customers[1].id, made[1::2])):
        seen, token = [], ""
        for _ in range(5):
            page = await shop.api.ListSubscriptions(
                pb.ListSubscriptionsRequest(customer_id=customer_id, page_size=2, page_token=token)
            )
            seen += [subscription.id for subscription in page.subscriptions]
            token = page.next_page_token
            if not token:
                break
        assert seen == expected
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.ListSubscriptions(pb.ListSubscriptionsRequest(customer_id="ada"))
    assert refusal.field == "customer_id"


async def test_sellers_do_not_see_one_another(suite: Suite, shop: Any) -> None:
    """The ids of another seller are as unknown as ids that never were, in every RPC."""
    ada, plan = await shop.customer(external_id="ada"), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan)
    stranger = ids.SellerId(ids.mint(ids.SANDBOX, JAN_1))
    other = suite.stub(SubscriptionsServiceStub, "subscriptions", seller=stranger)
    through = wire.timestamp(JAN_1)
    calls = {
        "CUSTOMER_NOT_FOUND": [
            other.GetCustomer(pb.GetCustomerRequest(id=ada.id)),
            other.GetCustomer(pb.GetCustomerRequest(external_id="ada")),
            other.UpdateCustomer(pb.UpdateCustomerRequest(id=ada.id, contact=ada.contact)),
            other.BatchGetCustomers(pb.BatchGetCustomersRequest(ids=[ada.id])),
            other.ListBillablePeriods(pb.ListBillablePeriodsRequest(customer_ids=[ada.id], through_time=through)),
        ],
        "PLAN_NOT_FOUND": [
            other.CreateSubscription(pb.CreateSubscriptionRequest(customer_id=ada.id, plan_id=plan.id)),
        ],
        "SUBSCRIPTION_NOT_FOUND": [
            other.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id)),
            other.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=NOW)),
            other.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=PERIOD_END)),
            other.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id)),
            other.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id)),
        ],
    }
    for reason, attempts in calls.items():
        for attempt in attempts:
            with refused(reason, grpc.StatusCode.NOT_FOUND):
                await attempt
    assert not (await other.ListCustomers(pb.ListCustomersRequest())).customers
    assert not (await other.ListSubscriptions(pb.ListSubscriptionsRequest())).subscriptions
    listed = await other.ListSubscriptions(pb.ListSubscriptionsRequest(customer_id=ada.id))
    assert not listed.subscriptions
    created = await other.CreateCustomer(
        pb.CreateCustomerRequest(external_id="ada", contact=ada.contact, billing_profile=ada.billing_profile)
    )
    assert created.id != ada.id


async def test_roles_and_tokens(suite: Suite, shop: Any) -> None:
    """Nobody without a token; viewers read everything and change nothing; a stranger among the services is refused."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan)
    name, through = subscription.id, wire.timestamp(JAN_1)
    payer = subscription_pb2.SubscriptionAction(set_payer=subscription_pb2.SubscriptionAction.SetPayer())
    reads = {
        "GetCustomer": pb.GetCustomerRequest(id=ada.id),
        "BatchGetCustomers": pb.BatchGetCustomersRequest(ids=[ada.id]),
        "ListCustomers": pb.ListCustomersRequest(),
        "GetSubscription": pb.GetSubscriptionRequest(id=subscription.id),
        "ListSubscriptions": pb.ListSubscriptionsRequest(),
        "ListBillablePeriods": pb.ListBillablePeriodsRequest(customer_ids=[ada.id], through_time=through),
        "BatchListBillablePeriods": pb.BatchListBillablePeriodsRequest(customer_ids=[ada.id], through_time=through),
        "ListSubscriptionChanges": pb.ListSubscriptionChangesRequest(subscription_id=subscription.id),
        "PreviewChange": pb.PreviewChangeRequest(change=pb.ChangeSubscriptionRequest(id=name, actions=[payer])),
    }
    writes = {
        "CreateCustomer": pb.CreateCustomerRequest(),
        "UpdateCustomer": pb.UpdateCustomerRequest(id=ada.id),
        "CreateSubscription": pb.CreateSubscriptionRequest(customer_id=ada.id, plan_id=plan.id),
        "CancelSubscription": pb.CancelSubscriptionRequest(id=subscription.id, timing=NOW),
        "PauseSubscription": pb.PauseSubscriptionRequest(id=subscription.id),
        "ResumeSubscription": pb.ResumeSubscriptionRequest(id=subscription.id),
        "ChangeSubscription": pb.ChangeSubscriptionRequest(id=name, actions=[payer]),
        "RevokeSubscriptionChange": pb.RevokeSubscriptionChangeRequest(subscription_id=name),
        "ActivateSubscription": pb.ActivateSubscriptionRequest(id=name),
        "ExtendTrial": pb.ExtendTrialRequest(id=name),
        "EndTrial": pb.EndTrialRequest(id=name),
        "RevokeCancellation": pb.RevokeCancellationRequest(id=name),
        "ReactivateSubscription": pb.ReactivateSubscriptionRequest(id=name),
        "TransferSubscription": pb.TransferSubscriptionRequest(id=name, customer_id=ada.id),
        "AlignSubscriptions": pb.AlignSubscriptionsRequest(customer_id=ada.id, billing_day=1),
    }
    contract = pb.DESCRIPTOR.services_by_name["SubscriptionsService"]
    assert reads.keys() | writes.keys() == {method.name for method in contract.methods}
    anonymous = suite.raw_stub(SubscriptionsServiceStub, "subscriptions", token="")
    viewer = suite.stub(SubscriptionsServiceStub, "subscriptions", role=Role.VIEWER)
    for name, request in {**reads, **writes}.items():
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await getattr(anonymous, name)(request)
    for name, request in reads.items():
        assert await getattr(viewer, name)(request) == await getattr(shop.api, name)(request)
    for name, request in writes.items():
        with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
            await getattr(viewer, name)(request)
    assert await shop.api.GetSubscription(pb.GetSubscriptionRequest(id=subscription.id)) == subscription


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetCustomer", pb.GetCustomerRequest(id="cus_x"), "id"),
        ("UpdateCustomer", pb.UpdateCustomerRequest(id="sub_x"), "id"),
        ("CreateSubscription", pb.CreateSubscriptionRequest(plan_id="plan_x"), "plan_id"),
        ("GetSubscription", pb.GetSubscriptionRequest(id=""), "id"),
        ("CancelSubscription", pb.CancelSubscriptionRequest(id="x", timing=NOW), "id"),
        ("PauseSubscription", pb.PauseSubscriptionRequest(id="sub_"), "id"),
        ("ResumeSubscription", pb.ResumeSubscriptionRequest(id="sub_" + "z" * 26), "id"),
        ("ListBillablePeriods", pb.ListBillablePeriodsRequest(), "customer_ids"),
        ("ListCustomers", pb.ListCustomersRequest(page_size=-1), "page_size"),
        ("ListSubscriptions", pb.ListSubscriptionsRequest(page_size=-1), "page_size"),
    ],
)
async def test_garbage_is_refused_by_field(shop: Any, method: str, request_: object, field: str) -> None:
    """Before anything is read or anyone is asked."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await getattr(shop.api, method)(request_)
    assert refusal.field == field


@pytest.mark.own_services
async def test_migrations_and_tables_agree(suite: Suite, shop: Any) -> None:
    """What the store says is what a migrated database has."""
    assert await differences(suite.urls["subscriptions"], metadata) == []


@pytest.mark.own_services
async def test_the_tables_themselves_refuse_what_must_never_be(suite: Suite, shop: Any) -> None:
    """Whatever code runs: two terms of an item at a time, a gap in the log, a change taken back after its effect, an
    ended subscription without an end, another's rows.
    """
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    item = subscription.items[0]
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    days = [JAN_1 + timedelta(days=n) for n in range(5)]
    terms = (
        "INSERT INTO subscription_terms SELECT seller_id, item_id, $1, $2, subscription_id, customer_id, plan_id,"
        " price_id, quantity FROM subscription_terms WHERE item_id = $3 LIMIT 1"
    )
    change = (
        "INSERT INTO subscription_changes (seller_id, id, subscription_id, position, recorded_time, effective_time,"
        " revoked_time, proration, unused, actions)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, 'BY_DAY', 'CREDIT', '[{\"action\": \"ACTIVATE\"}]')"
    )
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        # What is there lasts for ever, so whatever comes beside it overlaps it.
        for start, end in ((days[0] - timedelta(days=1), days[1]), (days[1], days[2]), (days[3], None)):
            with pytest.raises(asyncpg.ExclusionViolationError):
                await connection.execute(terms, start, end, item.id)
        await connection.execute("UPDATE subscription_terms SET end_time = $1", days[1])
        await connection.execute(terms, days[1], days[2], item.id)
        with pytest.raises(asyncpg.ExclusionViolationError):
            await connection.execute(
                "UPDATE subscription_terms SET end_time = $1 WHERE end_time = $2", days[3], days[1]
            )
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(terms, days[3], days[3], item.id)

        seller, name = suite.seller, subscription.id
        await connection.execute(change, seller, "chg_1", name, 0, days[1], days[3], days[2])
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(change, seller, "chg_2", name, 0, days[1], days[3], None)
        for revoked in (days[0], days[4]):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(change, seller, "chg_3", name, 1, days[1], days[3], revoked)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(change, seller, "chg_4", name, -1, days[1], days[3], None)
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute(change, seller, "chg_5", "sub_none", 0, days[1], days[3], None)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE subscriptions SET state = 'CANCELLED'")
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE subscriptions SET next_moment_time = announced_through")
        stranger = ids.mint(ids.SANDBOX, JAN_1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE subscriptions SET seller_id = $1", stranger)
        await connection.execute(f"SELECT set_config('saldo.seller', '{stranger}', false)")
        for table in ("subscriptions", "subscription_changes", "subscription_terms"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    finally:
        await connection.close()


async def test_an_add_on_is_taken_beside_another_subscription(shop: Any) -> None:
    """Alone it would be an extra to nothing."""
    add_on = await shop.plan(shop.price("extra"), add_on=True)
    ada = await shop.customer()
    with refused("PLAN_NOT_SUBSCRIBABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.subscribe(ada, add_on)
    await shop.subscribe(ada, await shop.plan(shop.price("seats")))
    assert (await shop.subscribe(ada, add_on)).plan_id == add_on.id
