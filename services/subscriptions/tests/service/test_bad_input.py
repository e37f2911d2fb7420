"""What is malformed in what callers ask of subscriptions: refused by its field, and nothing is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.testing import Suite, refused
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

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
        ({"bill_ahead_days": -1}, "bill_ahead_days"),
        ({"bill_ahead_days": 32}, "bill_ahead_days"),
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
