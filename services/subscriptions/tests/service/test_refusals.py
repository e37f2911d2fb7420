"""All that callers can ask of subscriptions against its rules: each is refused by name, and nothing is stored."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.errors import reason_of
from common.testing import Suite, refused
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from saldo.subscriptions.v1 import customers_service_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service.test_bad_input import (
    COUPON,
    NOBODY,
    NOTHING,
    Action,
    Call,
    Cancel,
    Pause,
    Spec,
    Subscription,
    add_item,
    day,
    is_refused,
    set_quantity,
)
from subscriptions import clients
from subscriptions.domain import subscription as subscription_module
from subscriptions.domain import timeline
from subscriptions.domain.states import LEGAL, REFUSALS, State, Verb

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.


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
