"""Everything that callers can ask wrongly of subscriptions: each is refused by name, and nothing is stored."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.errors import reason_of
from common.testing import Suite, refused
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from saldo.subscriptions.v1 import customers_service_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions import clients
from subscriptions.domain import subscription as subscription_module
from subscriptions.domain import timeline
from subscriptions.domain.states import LEGAL, REFUSALS, State, Verb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Cancel = pb.CancelSubscriptionRequest
Change = subscription_pb2.SubscriptionChange
Item = subscription_pb2.SubscriptionItem
Pause = pb.PauseSubscriptionRequest
Spec = subscription_pb2.ItemSpec
Subscription = subscription_pb2.Subscription
Call = Callable[[], Awaitable[Any]]  # Any: whatever the RPC answers
NOBODY: Final = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))
NOTHING: Final = "sub_" + "0" * 26
COUPON: Final = "coup_" + "0" * 26
FUZZ_CALLS: Final = 200


def day(month: int, number: int = 1, *, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, tzinfo=UTC)


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def set_quantity(item_id: str, quantity: str = "2") -> Action:
    return Action(set_quantity=Action.SetQuantity(item_id=item_id, quantity=decimal(quantity)))


def add_item(price_id: str, quantity: str = "1") -> Action:
    return Action(add_item=Action.AddItem(price_id=price_id, quantity=decimal(quantity)))


async def is_refused(shop: Any, call: Call, reason: str, *, field: str = "") -> None:
    """And leaves every table as it was."""
    before = await shop.stored()
    with refused(reason) as refusal:
        await call()
    assert refusal.field == field or not field
    assert await shop.stored() == before, reason


async def test_every_refusal_of_a_new_subscription(shop: Any, suite: Suite) -> None:
    """By its reason; nothing is agreed, and nothing announced."""
    ada, merged, into = [await shop.customer() for _ in range(3)]
    await shop.customers.MergeCustomers(
        customers_service_pb2.MergeCustomersRequest(source_id=merged.id, target_id=into.id)
    )
    plan, draft = await shop.plan(shop.price("seats")), await shop.plan(shop.price("seats"), published=False)
    extra = await shop.plan(shop.price("extra"), add_on=True)
    dollars = await shop.plan(shop.price("seats", currency="USD"))
    ada_id, plan_id, seats = ada.id, plan.id, plan.prices[0].id
    for reason, changes in (
        ("CUSTOMER_NOT_FOUND", {"customer_id": NOBODY}),
        ("CUSTOMER_NOT_FOUND", {"payer_id": NOBODY}),
        ("CUSTOMER_MERGED", {"customer_id": merged.id}),
        ("CUSTOMER_MERGED", {"payer_id": merged.id}),
        ("PLAN_NOT_FOUND", {"plan_id": ids.mint("plan", day(1))}),
        ("PLAN_NOT_SUBSCRIBABLE", {"plan_id": draft.id}),
        ("PLAN_NOT_SUBSCRIBABLE", {"plan_id": extra.id}),
        ("PLAN_NOT_SUBSCRIBABLE", {"add_ons": [Action.AddAddOn(plan_id=plan_id)]}),
        ("PLAN_NOT_FOUND", {"add_ons": [Action.AddAddOn(plan_id=ids.mint("plan", day(1)))]}),
        ("ADD_ON_TAKEN", {"add_ons": [Action.AddAddOn(plan_id=extra.id), Action.AddAddOn(plan_id=extra.id)]}),
        ("CURRENCY_NOT_OFFERED", {"plan_id": dollars.id}),
        ("CURRENCY_NOT_OFFERED", {"currency": "USD"}),
        ("UNKNOWN_CURRENCY", {"currency": "euro"}),
        ("PRICE_NOT_IN_PLAN", {"items": [Spec(price_id=extra.prices[0].id)]}),
        ("PRICE_NOT_IN_PLAN", {"add_ons": [Action.AddAddOn(plan_id=extra.id, items=[Spec(price_id=seats)])]}),
        ("BILLING_DAY_NOT_SET", {"align_to_customer": True}),
    ):
        request = pb.CreateSubscriptionRequest(**{"customer_id": ada_id, "plan_id": plan_id, **changes})
        await is_refused(shop, partial(shop.api.CreateSubscription, request), reason)
    assert not (await shop.api.ListSubscriptions(pb.ListSubscriptionsRequest())).subscriptions


async def test_every_refusal_of_what_is_done_to_a_subscription(
    suite: Suite, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its reason, with every table as it was."""
    ada, merged, into = [await shop.customer() for _ in range(3)]
    await shop.customers.MergeCustomers(
        customers_service_pb2.MergeCustomersRequest(source_id=merged.id, target_id=into.id)
    )
    plan = await shop.plan(shop.price("seats"), shop.price("disk"), shop.price("dollars", currency="USD"))
    extra = await shop.plan(shop.price("extra"), add_on=True)
    seats, disk, dollars = (price.id for price in plan.prices)
    one = await shop.subscribe(ada, plan, items=[Spec(price_id=seats)])
    [item] = one.items
    await suite.travel(day(2, 10))
    await shop.change(one, add_item(disk), at=day(2, 20))
    later = (await shop.find(one, effective_time=day(2, 20))).items[1]
    await shop.change(one, set_quantity(later.id, "5"), at=day(2, 25))
    scheduled, _ = await shop.log(one)
    going = await shop.subscribe(ada, plan)
    await shop.api.CancelSubscription(Cancel(id=going.id, timing=Cancel.PERIOD_END))
    preview = await shop.preview(one, set_quantity(item.id))
    transfer = pb.TransferSubscriptionRequest(id=one.id)
    revoke = pb.RevokeSubscriptionChangeRequest(subscription_id=one.id)

    def transferred_to(customer_id: str) -> Call:
        return lambda: shop.api.TransferSubscription(
            pb.TransferSubscriptionRequest(id=transfer.id, customer_id=customer_id)
        )

    def revoked(change_id: str) -> Call:
        return lambda: shop.api.RevokeSubscriptionChange(
            pb.RevokeSubscriptionChangeRequest(subscription_id=revoke.subscription_id, change_id=change_id)
        )

    def changed(*actions: Action, subscription: Any = one, **more: Any) -> Call:  # Any: fields of the request
        return lambda: shop.change(subscription, *actions, **more)

    nothing = Subscription(id=NOTHING)
    refusals: list[tuple[str, Call]] = [
        ("SUBSCRIPTION_NOT_FOUND", changed(set_quantity(item.id), subscription=nothing)),
        ("SUBSCRIPTION_NOT_FOUND", lambda: shop.preview(nothing, set_quantity(item.id))),
        ("SUBSCRIPTION_NOT_FOUND", lambda: shop.log(nothing)),
        ("ITEM_NOT_FOUND", changed(set_quantity(ids.mint("subi", day(1))))),
        ("ITEM_NOT_FOUND", changed(set_quantity(later.id))),
        (
            "ITEM_NOT_FOUND",
            changed(Action(set_price=Action.SetPrice(item_id=going.items[0].id, price_id=disk))),
        ),
        ("NO_ITEMS_LEFT", changed(Action(remove_item=Action.RemoveItem(item_id=item.id)))),
        ("PRICE_NOT_IN_PLAN", changed(add_item(extra.prices[0].id))),
        (
            "PRICE_NOT_IN_PLAN",
            changed(Action(set_price=Action.SetPrice(item_id=item.id, price_id=extra.prices[0].id))),
        ),
        ("INVALID_ARGUMENT", changed(add_item(dollars))),
        ("PLAN_NOT_FOUND", changed(Action(change_plan=Action.ChangePlan(plan_id=ids.mint("plan", day(1)))))),
        ("PLAN_NOT_FOUND", changed(Action(add_add_on=Action.AddAddOn(plan_id=ids.mint("plan", day(1)))))),
        ("PLAN_NOT_SUBSCRIBABLE", changed(Action(add_add_on=Action.AddAddOn(plan_id=plan.id)))),
        ("ADD_ON_NOT_FOUND", changed(Action(remove_add_on=Action.RemoveAddOn(plan_id=extra.id)))),
        ("DISCOUNT_NOT_APPLIED", changed(Action(remove_discount=Action.RemoveDiscount(coupon_id=COUPON)))),
        ("COUPON_NOT_FOUND", changed(Action(apply_discount=Action.ApplyDiscount(coupon_id=COUPON)))),
        ("CUSTOMER_NOT_FOUND", changed(Action(set_payer=Action.SetPayer(payer_id=NOBODY)))),
        ("CUSTOMER_MERGED", changed(Action(set_payer=Action.SetPayer(payer_id=merged.id)))),
        ("CHANGE_TOO_EARLY", changed(set_quantity(item.id), at=day(1, 31))),
        ("CHANGE_AFTER_END", changed(set_quantity(going.items[0].id), subscription=going, at=day(4))),
        ("CHANGE_CONFLICTS", revoked(scheduled.id)),
        ("CHANGE_NOT_FOUND", revoked(ids.mint("chg", day(1)))),
        ("PREVIEW_OUTDATED", changed(set_quantity(item.id, "3"), preview_token=preview.token)),
        ("PREVIEW_OUTDATED", changed(set_quantity(item.id), at=day(2, 11), preview_token=preview.token)),
        ("CUSTOMER_NOT_FOUND", transferred_to(NOBODY)),
        ("CUSTOMER_MERGED", transferred_to(merged.id)),
        ("INVALID_ARGUMENT", transferred_to(ada.id)),
    ]
    for reason, call in refusals:
        await is_refused(shop, call, reason)
    monkeypatch.setattr(timeline, "ITEMS_MAX", 2)
    await is_refused(shop, changed(add_item(disk), add_item(disk), at=day(2, 12)), "TOO_MANY_ITEMS")
    monkeypatch.setattr(subscription_module, "CHANGES_MAX", 2)
    await is_refused(shop, changed(set_quantity(item.id)), "TOO_MANY_CHANGES")
    await is_refused(shop, lambda: shop.api.PauseSubscription(Pause(id=one.id)), "TOO_MANY_CHANGES")
    # It can still be cancelled.
    cancelled = await shop.api.CancelSubscription(Cancel(id=one.id, timing=Cancel.NOW))
    assert cancelled.state == Subscription.CANCELLED


async def test_a_plan_that_changes_while_the_catalog_is_asked(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told to ask again; nothing is taken from a plan that is no longer the subscription's."""
    plan, other = await shop.plan(shop.price("seats"), shop.price("disk")), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(await shop.customer(), plan, items=[Spec(price_id=plan.prices[0].id)])
    ask = clients.get_plans

    async def slowly(*args: Any, **kwargs: Any) -> Any:  # Any: as the function it stands for
        answer = await ask(*args, **kwargs)
        monkeypatch.setattr(clients, "get_plans", ask)
        await shop.change(subscription, Action(change_plan=Action.ChangePlan(plan_id=other.id)))
        return answer

    monkeypatch.setattr(clients, "get_plans", slowly)
    with refused("SUBSCRIPTION_MOVED", grpc.StatusCode.ABORTED):
        await shop.change(subscription, add_item(plan.prices[1].id))
    assert len(await shop.log(subscription)) == 1


async def test_every_illegal_verb_in_every_state(suite: Suite, shop: Any) -> None:
    """The door keeps to the table of states and verbs: what is illegal is refused with its error, and not stored."""
    ada, bob, plan = await shop.customer(), await shop.customer(), await shop.plan(shop.price("seats"))
    by_state = {
        State.PENDING: await shop.subscribe(ada, plan, start_time=wire.timestamp(day(6))),
        State.TRIALING: await shop.subscribe(ada, plan, trial_days=100),
        State.ACTIVE: await shop.subscribe(ada, plan),
        State.PAST_DUE: await shop.subscribe(ada, plan),
        State.PAUSED: await shop.subscribe(ada, plan),
        State.CANCELLED: await shop.subscribe(ada, plan),
    }
    campaign = dunning_campaign_pb2.DunningCampaign(
        id="dcam_1",
        subscription_ids=[by_state[State.PAST_DUE].id],
        revision=1,
        state=dunning_campaign_pb2.DunningCampaign.ACTIVE,
    )
    await suite.announce(dunning.DunningCampaignStarted(dunning_campaign=campaign), source="dunning")
    await suite.travel(day(1, 10))
    await shop.api.PauseSubscription(Pause(id=by_state[State.PAUSED].id))
    await shop.api.CancelSubscription(Cancel(id=by_state[State.CANCELLED].id, timing=Cancel.NOW))
    later = wire.timestamp(day(5, 20))

    def calls(subscription: Any) -> dict[Verb, Call]:  # Any: a Subscription
        api, name = shop.api, subscription.id
        return {
            Verb.ACTIVATE: lambda: api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=name)),
            Verb.CHANGE: lambda: shop.change(subscription, set_quantity(subscription.items[0].id)),
            Verb.EXTEND_TRIAL: lambda: api.ExtendTrial(pb.ExtendTrialRequest(id=name, trial_end_time=later)),
            Verb.END_TRIAL: lambda: api.EndTrial(pb.EndTrialRequest(id=name)),
            Verb.PAUSE: lambda: api.PauseSubscription(Pause(id=name)),
            Verb.RESUME: lambda: api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=name)),
            Verb.TRANSFER: lambda: api.TransferSubscription(
                pb.TransferSubscriptionRequest(id=name, customer_id=bob.id)
            ),
            Verb.CANCEL: lambda: api.CancelSubscription(Cancel(id=name, timing=Cancel.NOW)),
            Verb.REVOKE_CANCELLATION: lambda: api.RevokeCancellation(pb.RevokeCancellationRequest(id=name)),
            Verb.REACTIVATE: lambda: api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=name)),
        }

    tried = 0
    for state, subscription in by_state.items():
        found = await shop.find(subscription)
        assert found.state == Subscription.State.Value(state.name)
        by_verb = calls(found)
        assert by_verb.keys() == set(Verb)
        for verb, call in by_verb.items():
            if state not in LEGAL[verb]:
                await is_refused(shop, call, reason_of(REFUSALS[verb]))
                tried += 1
    assert tried == sum(len(State) - len(legal) for legal in LEGAL.values())


@pytest.mark.parametrize(
    ("action", "field"),
    [
        (Action(), "actions[0]"),
        (Action(pause=Action.Pause(service=True)), "actions[0]"),
        (Action(end=Action.End(reason=Subscription.REQUESTED)), "actions[0]"),
        (Action(transfer=Action.Transfer(customer_id=NOBODY)), "actions[0]"),
        (Action(set_trial_end=Action.SetTrialEnd()), "actions[0]"),
        (Action(add_item=Action.AddItem()), "actions[0].add_item.price_id"),
        (Action(add_item=Action.AddItem(price_id="sub_x")), "actions[0].add_item.price_id"),
        (add_item("price_" + "0" * 26, "-1"), "actions[0].add_item.quantity"),
        (add_item("price_" + "0" * 26, "1000000000000.5"), "actions[0].add_item.quantity"),
        (Action(remove_item=Action.RemoveItem()), "actions[0].remove_item.item_id"),
        (set_quantity(""), "actions[0].set_quantity.item_id"),
        (
            Action(set_quantity=Action.SetQuantity(item_id="subi_" + "0" * 26)),
            "actions[0].set_quantity.quantity",
        ),
        (set_quantity("subi_" + "0" * 26, "-0.1"), "actions[0].set_quantity.quantity"),
        (set_quantity("subi_" + "0" * 26, "NaN"), "actions[0].set_quantity.quantity"),
        (set_quantity("subi_" + "0" * 26, ""), "actions[0].set_quantity.quantity"),
        (set_quantity("subi_" + "0" * 26, "1e13"), "actions[0].set_quantity.quantity"),
        (set_quantity("subi_" + "0" * 26, "0.0000000000001"), "actions[0].set_quantity.quantity"),
        (Action(set_price=Action.SetPrice(price_id="price_" + "0" * 26)), "actions[0].set_price.item_id"),
        (Action(set_price=Action.SetPrice(item_id="subi_" + "0" * 26)), "actions[0].set_price.price_id"),
        (Action(change_plan=Action.ChangePlan()), "actions[0].change_plan.plan_id"),
        (
            Action(change_plan=Action.ChangePlan(plan_id="plan_" + "0" * 26, items=[Spec(price_id="x")])),
            "actions[0].change_plan.items[0].price_id",
        ),
        (Action(add_add_on=Action.AddAddOn(plan_id="x")), "actions[0].add_add_on.plan_id"),
        (Action(remove_add_on=Action.RemoveAddOn()), "actions[0].remove_add_on.plan_id"),
        (Action(set_billing_day=Action.SetBillingDay(billing_day=32)), "actions[0].set_billing_day.billing_day"),
        (Action(set_billing_day=Action.SetBillingDay(billing_day=-1)), "actions[0].set_billing_day.billing_day"),
        (Action(apply_discount=Action.ApplyDiscount()), "actions[0].apply_discount.coupon_id"),
        (
            Action(apply_discount=Action.ApplyDiscount(coupon_id=COUPON, periods=-1)),
            "actions[0].apply_discount.periods",
        ),
        (
            Action(apply_discount=Action.ApplyDiscount(coupon_id=COUPON, periods=1201)),
            "actions[0].apply_discount.periods",
        ),
        (Action(remove_discount=Action.RemoveDiscount()), "actions[0].remove_discount.coupon_id"),
        (
            Action(set_commitment=Action.SetCommitment(commitment=subscription_pb2.Commitment(months=0))),
            "actions[0].set_commitment.commitment.months",
        ),
        (
            Action(
                set_commitment=Action.SetCommitment(
                    commitment=subscription_pb2.Commitment(
                        months=1, minimum=money_pb2.Money(currency_code="EUR", units=-1)
                    )
                )
            ),
            "actions[0].set_commitment.commitment.minimum",
        ),
        (Action(set_term=Action.SetTerm(term=subscription_pb2.Term())), "actions[0].set_term.term.months"),
        (
            Action(set_term=Action.SetTerm(term=subscription_pb2.Term(months=1, notice_days=366))),
            "actions[0].set_term.term.notice_days",
        ),
        (
            Action(set_term=Action.SetTerm(term=subscription_pb2.Term(months=1, renewal=9))),  # type: ignore[arg-type] # no such value
            "actions[0].set_term.term.renewal",
        ),
        (Action(set_payer=Action.SetPayer(payer_id="ada")), "actions[0].set_payer.payer_id"),
    ],
)
async def test_malformed_actions_are_refused_by_field(shop: Any, action: Action, field: str) -> None:
    """Before anything is read or anyone is asked: there is no such subscription."""
    nothing = Subscription(id=NOTHING)
    for call in (shop.change, shop.preview):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await call(nothing, action)
        assert refusal.field == field


async def test_malformed_requests_are_refused_by_field(suite: Suite, shop: Any) -> None:
    """Whatever is wrong about when, how or what, of an existing subscription; nothing is stored."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    one = await shop.subscribe(ada, plan)
    name, at = one.id, wire.timestamp(day(2))
    good = set_quantity(one.items[0].id)
    wrong_kind: Any = 99  # no value of any enum
    changes: list[tuple[dict[str, Any], str]] = [  # Any: fields of the request
        ({"actions": []}, "actions"),
        ({"actions": [good] * 101}, "actions"),
        ({"timing": Change.AT_TIME}, "effective_time"),
        ({"effective_time": at}, "effective_time"),
        ({"timing": Change.PERIOD_END, "effective_time": at}, "effective_time"),
        ({"timing": wrong_kind}, "timing"),
        ({"proration": wrong_kind}, "proration"),
        ({"unused": wrong_kind}, "unused"),
        ({"unused": Change.REFUND}, "unused"),
        ({"timing": Change.AT_TIME, "effective_time": timestamp_pb2.Timestamp(seconds=-1)}, "effective_time"),
        ({"timing": Change.AT_TIME, "effective_time": timestamp_pb2.Timestamp(nanos=-1)}, "effective_time"),
        ({"timing": Change.AT_TIME, "effective_time": timestamp_pb2.Timestamp(seconds=10**11)}, "effective_time"),
        ({"preview_token": "§"}, "preview_token"),
        ({"request_id": "x" * 129}, "request_id"),
    ]
    for fields, field in changes:
        request = pb.ChangeSubscriptionRequest(**{"id": name, "actions": [good], **fields})
        await is_refused(shop, partial(shop.api.ChangeSubscription, request), "INVALID_ARGUMENT", field=field)
    many = [Action.ApplyDiscount(coupon_id=COUPON)] * 21
    created: list[tuple[dict[str, Any], str]] = [  # Any: fields of the request
        ({"discounts": many}, "discounts"),
        ({"add_ons": [Action.AddAddOn(plan_id=plan.id)] * 21}, "add_ons"),
        ({"ramp": [pb.RampStep(after_months=1)] * 51}, "ramp"),
        ({"activation_hours": -1}, "activation_hours"),
        ({"activation_hours": 8761}, "activation_hours"),
        ({"activation": wrong_kind}, "activation"),
        ({"trial_end": wrong_kind}, "trial_end"),
        ({"proration": Change.NONE}, "proration"),
        ({"payer_id": "ada"}, "payer_id"),
        ({"term": subscription_pb2.Term(months=121)}, "term.months"),
        ({"term": subscription_pb2.Term(months=1, notice_days=-1)}, "term.notice_days"),
        ({"commitment": subscription_pb2.Commitment(months=0)}, "commitment.months"),
        (
            {
                "commitment": subscription_pb2.Commitment(
                    months=1, minimum=money_pb2.Money(currency_code="USD", units=1)
                )
            },
            "commitment.minimum",
        ),
        ({"discounts": [Action.ApplyDiscount(coupon_id="x")]}, "discounts[0].coupon_id"),
        ({"add_ons": [Action.AddAddOn(plan_id="x")]}, "add_ons[0].plan_id"),
    ]
    for fields, field in created:
        order = pb.CreateSubscriptionRequest(customer_id=ada.id, plan_id=plan.id, **fields)
        call = partial(shop.api.CreateSubscription, order)
        await is_refused(shop, call, "INVALID_ARGUMENT", field=field)
    lists: list[tuple[str, Any, str]] = [  # Any: any request
        ("ListSubscriptionChanges", pb.ListSubscriptionChangesRequest(subscription_id="x"), "subscription_id"),
        ("ListSubscriptionChanges", pb.ListSubscriptionChangesRequest(subscription_id=name, state=wrong_kind), "state"),
        ("ListSubscriptionChanges", pb.ListSubscriptionChangesRequest(subscription_id=name, page_size=-1), "page_size"),
        (
            "ListSubscriptionChanges",
            pb.ListSubscriptionChangesRequest(subscription_id=name, page_token=wire.encode_page_token("-1")),
            "page_token",
        ),
        (
            "ListSubscriptionChanges",
            pb.ListSubscriptionChangesRequest(subscription_id=name, page_token=wire.encode_page_token("²")),
            "page_token",
        ),
        ("RevokeSubscriptionChange", pb.RevokeSubscriptionChangeRequest(change_id=name), "subscription_id"),
        ("RevokeSubscriptionChange", pb.RevokeSubscriptionChangeRequest(subscription_id=name), "change_id"),
        ("ExtendTrial", pb.ExtendTrialRequest(id=name), "trial_end_time"),
        (
            "GetSubscription",
            pb.GetSubscriptionRequest(id=name, known_time=timestamp_pb2.Timestamp(seconds=-1)),
            "known_time",
        ),
        (
            "GetSubscription",
            pb.GetSubscriptionRequest(id=name, effective_time=timestamp_pb2.Timestamp(seconds=10**11)),
            "effective_time",
        ),
        ("PauseSubscription", Pause(id=name, scope=wrong_kind), "scope"),
        ("TransferSubscription", pb.TransferSubscriptionRequest(id=name, customer_id="x"), "customer_id"),
        ("AlignSubscriptions", pb.AlignSubscriptionsRequest(customer_id="x", billing_day=1), "customer_id"),
        ("BatchListBillablePeriods", pb.BatchListBillablePeriodsRequest(), "customer_ids"),
        ("BatchListBillablePeriods", pb.BatchListBillablePeriodsRequest(customer_ids=[ada.id]), "through_time"),
        (
            "BatchListBillablePeriods",
            pb.BatchListBillablePeriodsRequest(customer_ids=[ada.id] * 1001, through_time=at),
            "customer_ids",
        ),
        (
            "BatchListBillablePeriods",
            pb.BatchListBillablePeriodsRequest(
                customer_ids=[ada.id], after_time=wire.timestamp(day(3)), through_time=at
            ),
            "after_time",
        ),
        ("PreviewChange", pb.PreviewChangeRequest(), "actions"),
    ]
    for method, read, field in lists:
        await is_refused(
            shop,
            partial(getattr(shop.api, method), read),
            "INVALID_ARGUMENT",
            field=field,
        )


class Garbage:
    """Requests of every sort, sensible and not, the same for the same seed."""

    def __init__(
        self, seed: int, *, subscriptions: list[Any], customers: list[Any], plans: list[Any], coupon_id: str
    ) -> None:
        self._random = random.Random(seed)
        self._subscriptions = [each.id for each in subscriptions]
        self._items = [item.id for each in subscriptions for item in each.items]
        self._customers = [each.id for each in customers]
        self._plans = [each.id for each in plans]
        self._prices = [price.id for each in plans for price in each.prices]
        self._coupon_id = coupon_id
        self.tokens = [""]

    def request(self) -> tuple[str, Any]:  # Any: whatever the RPC asks
        name = self._random.choice(self._subscriptions)
        change = pb.ChangeSubscriptionRequest(
            id=name,
            actions=[self._action() for _ in range(self._random.choice((1, 1, 1, 2, 4)))],
            timing=self._number(),
            effective_time=self._time(),
            proration=self._number(),
            unused=self._number(),
            preview_token=self._random.choice(self.tokens[-3:]),
        )
        requests = [
            *[("ChangeSubscription", change)] * 8,
            *[("PreviewChange", pb.PreviewChangeRequest(change=change, through_time=self._time()))] * 3,
            (
                "CancelSubscription",
                Cancel(
                    id=name,
                    timing=self._number(),
                    cancel_time=self._time(),
                    unused=self._number(),
                    proration=self._number(),
                ),
            ),
            (
                "PauseSubscription",
                Pause(
                    id=name,
                    scope=self._number(),
                    timing=self._number(),
                    pause_time=self._time(),
                    resume_time=self._time(),
                    unused=self._number(),
                ),
            ),
            ("ResumeSubscription", pb.ResumeSubscriptionRequest(id=name)),
            ("ReactivateSubscription", pb.ReactivateSubscriptionRequest(id=name)),
            ("RevokeCancellation", pb.RevokeCancellationRequest(id=name)),
            ("ExtendTrial", pb.ExtendTrialRequest(id=name, trial_end_time=self._time())),
            (
                "TransferSubscription",
                pb.TransferSubscriptionRequest(id=name, customer_id=self._of(self._customers), unused=self._number()),
            ),
            (
                "AlignSubscriptions",
                pb.AlignSubscriptionsRequest(customer_id=self._of(self._customers), billing_day=self._number(31)),
            ),
        ]
        return self._random.choice(requests)

    def _action(self) -> Action:
        spec = Spec(price_id=self._of(self._prices), quantity=self._quantity())
        specs = [spec] if self._random.random() < 0.3 else []
        item_id, plan_id = self._of(self._items), self._of(self._plans)
        return self._random.choice(
            [
                Action(),
                Action(add_item=Action.AddItem(price_id=spec.price_id, quantity=spec.quantity)),
                Action(remove_item=Action.RemoveItem(item_id=item_id)),
                Action(set_quantity=Action.SetQuantity(item_id=item_id, quantity=self._quantity())),
                Action(set_quantity=Action.SetQuantity(item_id=item_id, quantity=self._quantity())),
                Action(set_price=Action.SetPrice(item_id=item_id, price_id=spec.price_id)),
                Action(set_price=Action.SetPrice(item_id=item_id, price_id=spec.price_id)),
                Action(change_plan=Action.ChangePlan(plan_id=plan_id, items=specs)),
                Action(add_add_on=Action.AddAddOn(plan_id=plan_id, items=specs)),
                Action(remove_add_on=Action.RemoveAddOn(plan_id=plan_id)),
                Action(set_billing_day=Action.SetBillingDay(billing_day=self._number(31))),
                Action(apply_discount=Action.ApplyDiscount(coupon_id=self._coupon_id, periods=self._number(5))),
                Action(remove_discount=Action.RemoveDiscount(coupon_id=self._coupon_id)),
                Action(
                    set_commitment=Action.SetCommitment(
                        commitment=subscription_pb2.Commitment(
                            months=self._number(120),
                            minimum=money_pb2.Money(
                                currency_code=self._random.choice(["EUR", "EUR", "USD", "", "JPY"]),
                                units=self._random.choice([0, 1, -1, 2**62, 100]),
                                nanos=self._random.choice([0, 0, 1, 10_000_000, -1, 2**31 - 1]),
                            ),
                        )
                    )
                ),
                Action(
                    set_term=Action.SetTerm(
                        term=subscription_pb2.Term(
                            months=self._number(120), renewal=self._number(2), notice_days=self._number(365)
                        )
                    )
                ),
                Action(set_term=Action.SetTerm()),
                Action(set_commitment=Action.SetCommitment()),
                Action(set_payer=Action.SetPayer(payer_id=self._of(["", *self._customers]))),
                Action(end=Action.End()),
            ]
        )

    def _of(self, known: list[str]) -> str:
        """Mostly one that there is."""
        if self._random.random() < 0.85:
            return self._random.choice(known)
        return self._random.choice(["", "x", "sub_", "price_\x00", "é" * 300, NOBODY, NOTHING, known[0].upper()])

    def _number(self, usual: int = 3) -> Any:  # Any: also for enums, of which it may be no value
        if self._random.random() < 0.85:
            return self._random.randint(0, usual)
        return self._random.choice([-1, 99, usual + 1, 2**31 - 1, -(2**31)])

    def _quantity(self) -> decimal_pb2.Decimal | None:
        texts = ["1", "2", "0", "7.5", "1e3", "", "-1", "NaN", "1e999999", "0x1", "9" * 50, "1e12", "0.000000000001"]
        return self._random.choice([None, *map(decimal, texts)])

    def _time(self) -> timestamp_pb2.Timestamp | None:
        usual = wire.timestamp(day(1) + timedelta(hours=self._random.randint(-1_000, 3_000)))
        odd = timestamp_pb2.Timestamp(
            seconds=self._random.choice([0, -1, 10**10, 10**18, 253402300799]),
            nanos=self._random.choice([0, -1, 10**9]),
        )
        last = wire.timestamp(datetime(2299, 12, 31, tzinfo=UTC))
        return self._random.choice([None, None, usual, usual, usual, last, odd])


@pytest.mark.parametrize("seed", [1, 2])
async def test_garbage_is_never_our_error(suite: Suite, shop: Any, seed: int) -> None:
    """Whatever is asked, in whatever order: it is done, or refused by name and not stored; and what was billed by then
    is in every later schedule as it was.
    """
    customers = [await shop.customer() for _ in range(2)]
    product = await shop.product()
    prices = [
        shop.price("seats"),
        shop.price("yearly", unit="YEAR"),
        shop.price("weekly", unit="WEEK", timing="IN_ARREARS"),
        shop.price("setup", unit="ONCE"),
        shop.metered("calls"),
        shop.price("dollars", currency="USD"),
    ]
    others = [shop.price("seats"), shop.metered("calls")]
    for price in (prices[0], others[0]):
        price.product_id = product
    plans = [
        await shop.plan(*prices),
        await shop.plan(*others),
        await shop.plan(shop.price("extra"), add_on=True),
        await shop.plan(shop.price("draft"), published=False),
    ]
    subscriptions = [
        await shop.subscribe(customers[0], plans[0]),
        await shop.subscribe(customers[0], plans[0], trial_days=20),
        await shop.subscribe(customers[1], plans[1], start_time=wire.timestamp(day(2))),
    ]
    garbage = Garbage(
        seed, subscriptions=subscriptions, customers=customers, plans=plans, coupon_id=await shop.coupon()
    )
    window = pb.BatchListBillablePeriodsRequest(
        customer_ids=[each.id for each in customers], through_time=wire.timestamp(day(6, year=2027))
    )
    done, refused_by = 0, set()
    now, before, told = day(1), await shop.stored(), await _schedules(shop, window)
    for n in range(FUZZ_CALLS):
        if n % 40 == 39:
            now = day(1) + timedelta(days=n // 4)
            await suite.travel(now)
            before = await shop.stored()
            told = await _schedules(shop, window)
        method, request = garbage.request()
        try:
            answer = await getattr(shop.api, method)(request)
        except grpc.aio.AioRpcError as error:
            refused_by.add((error.code(), "" if error.code() in REFUSED else f"{method}({request})"))
            assert await shop.stored() == before, (method, request)
            continue
        done += 1
        await suite.quiet()  # what is due by it at once
        after = await shop.stored()
        if method == "PreviewChange":
            garbage.tokens.append(answer.token)
            assert after == before, request
        elif after != before:
            told, was_told = await _schedules(shop, window), {each for each, at in told.items() if at <= now}
            assert was_told <= told.keys(), (method, request)
        before = after
    assert refused_by <= {(code, "") for code in REFUSED}
    assert FUZZ_CALLS // 20 < done < FUZZ_CALLS


async def _schedules(shop: Any, window: pb.BatchListBillablePeriodsRequest) -> dict[bytes, datetime]:
    """Every period, of which each can be told from every other, and when it is billed."""
    found = await shop.api.BatchListBillablePeriods(window)
    periods = [each for schedule in found.schedules for each in schedule.periods]
    keys = {
        (each.item_id, each.price_id, each.period.start_time.ToNanoseconds(), each.kind, each.change_id)
        for each in periods
    }
    assert len(keys) == len(periods) > 0
    return {each.SerializeToString(deterministic=True): each.bill_time.ToDatetime(UTC) for each in periods}


REFUSED: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
}
