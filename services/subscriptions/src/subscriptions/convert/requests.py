"""Knows what callers may ask of subscriptions: requests into what the domain calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from common import ids, wire
from common.errors import InvalidArgument
from common.money import minor_units
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.convert.subscription import (
    activation_from_proto,
    commitment_from_proto,
    decision_from_proto,
    discount_from_proto,
    item_spec_from_proto,
    item_specs_from_proto,
    proration_from_proto,
    quantity_from_proto,
    term_from_proto,
    trial_end_from_proto,
    unused_from_proto,
)
from subscriptions.domain import change as does
from subscriptions.domain.amendment import LeaveAddOn, SwitchPlan, SwitchPrice, TakeAddOn, TakePrice, Wish
from subscriptions.domain.change import ACTIONS_MAX, Proration, Timing, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.order import Order, RampStep
from subscriptions.domain.subscription import Decision
from subscriptions.domain.terms import CouponId, ItemId, PlanId, PriceId

ADD_ONS_MAX: Final = 20
DISCOUNTS_MAX: Final = 20
RAMP_STEPS_MAX: Final = 50
RAMP_MONTHS_MAX: Final = 120
ACTIVATION_HOURS_MAX: Final = 8_760
ACTIVATION_HOURS_DEFAULT: Final = 24
BILLING_DAY_MAX: Final = 31
BILL_AHEAD_DAYS_MAX: Final = 31

_Action = subscription_pb2.SubscriptionAction


def order_from_proto(request: pb.CreateSubscriptionRequest) -> Order:
    for name, given, most in (
        ("add_ons", request.add_ons, ADD_ONS_MAX),
        ("discounts", request.discounts, DISCOUNTS_MAX),
        ("ramp", request.ramp, RAMP_STEPS_MAX),
    ):
        if len(given) > most:
            raise InvalidArgument(f"must be at most {most}", field=name)
    if request.activation_hours and not 0 < request.activation_hours <= ACTIVATION_HOURS_MAX:
        raise InvalidArgument(f"must be 1 to {ACTIVATION_HOURS_MAX}", field="activation_hours")
    if not 0 <= request.bill_ahead_days <= BILL_AHEAD_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {BILL_AHEAD_DAYS_MAX}", field="bill_ahead_days")
    proration = proration_from_proto(request.proration) or Proration.BY_DAY
    if proration is Proration.NONE:
        raise InvalidArgument("must be BY_DAY or BY_SECOND", field="proration")
    if request.currency:
        minor_units(request.currency, field="currency")
    customer_id = CustomerId(ids.check(request.customer_id, "cus", field="customer_id"))
    return Order(
        customer_id=customer_id,
        items=item_specs_from_proto(request.items),
        start_time=_time(request, "start_time"),
        billing_day=request.billing_day,
        trial_days=request.trial_days if request.HasField("trial_days") else None,
        currency=request.currency,
        align_to_customer=request.align_to_customer,
        proration=proration,
        activation=activation_from_proto(request.activation),
        activation_within=timedelta(hours=request.activation_hours or ACTIVATION_HOURS_DEFAULT),
        trial_end=trial_end_from_proto(request.trial_end),
        payer_id=CustomerId(ids.check(request.payer_id, "cus", field="payer_id")) if request.payer_id else None,
        bill_ahead_days=request.bill_ahead_days,
        term=term_from_proto(request.term, field="term") if request.HasField("term") else None,
        commitment=(
            commitment_from_proto(request.commitment, field="commitment") if request.HasField("commitment") else None
        ),
        discounts=[discount_from_proto(proto, field=f"discounts[{n}]") for n, proto in enumerate(request.discounts)],
        add_ons=[_take_add_on(proto, field=f"add_ons[{n}]") for n, proto in enumerate(request.add_ons)],
        ramp=[_ramp_step(proto, field=f"ramp[{n}]") for n, proto in enumerate(request.ramp)],
    )


def wishes_from_proto(protos: Sequence[subscription_pb2.SubscriptionAction]) -> list[Wish]:
    """What a change is to do; not what has an RPC of its own."""
    if not 1 <= len(protos) <= ACTIONS_MAX:
        raise InvalidArgument(f"must be 1 to {ACTIONS_MAX} actions", field="actions")
    wishes: list[Wish] = []
    for n, proto in enumerate(protos):
        name = proto.WhichOneof("action")
        read = _WISHES.get(name or "")
        if read is None:
            message = "must be given" if name is None else f"has an RPC of its own: {name}"
            raise InvalidArgument(message, field=f"actions[{n}]")
        wishes.append(read(proto, f"actions[{n}].{name}"))
    return wishes


def change_decision(request: pb.ChangeSubscriptionRequest) -> Decision:
    unused = unused_from_proto(request.unused, default=Unused.CREDIT)
    if unused is Unused.REFUND:
        raise InvalidArgument("must be CREDIT or KEEP: only a cancellation is refunded", field="unused")
    return decision_from_proto(
        timing=request.timing,
        time=_time(request, "effective_time"),
        proration=request.proration,
        unused=request.unused,
        default=Unused.CREDIT,
        time_field="effective_time",
    )


def cancel_decision(request: pb.CancelSubscriptionRequest) -> Decision:
    timing = wire.enum_name(pb.CancelSubscriptionRequest.Timing, request.timing, field="timing")
    time = _time(request, "cancel_time")
    if (timing == "AT_TIME") != (time is not None):
        raise InvalidArgument("must be given with the timing AT_TIME, and only then", field="cancel_time")
    return Decision(
        timing=Timing[timing],
        effective_time=time,
        proration=_measured(request.proration),
        unused=unused_from_proto(request.unused, default=Unused.KEEP),
    )


def pause_decision(request: pb.PauseSubscriptionRequest) -> Decision:
    decision = decision_from_proto(
        timing=request.timing,
        time=_time(request, "pause_time"),
        proration=subscription_pb2.SubscriptionChange.PRORATION_UNSPECIFIED,
        unused=request.unused,
        default=Unused.KEEP,
        time_field="pause_time",
    )
    if decision.unused is Unused.REFUND:
        raise InvalidArgument("must be CREDIT or KEEP: only a cancellation is refunded", field="unused")
    return decision


def pause_scope(request: pb.PauseSubscriptionRequest) -> tuple[bool, bool]:
    """Whether service stops, and whether billing does."""
    scope = "BOTH"
    if request.scope:
        scope = wire.enum_name(pb.PauseSubscriptionRequest.Scope, request.scope, field="scope")
    return scope != "BILLING", scope != "SERVICE"


def resume_scope(request: pb.ResumeSubscriptionRequest) -> tuple[bool | None, bool | None]:
    """Whether service goes on, and whether billing does; None for each means as far as they are paused."""
    if not request.scope:
        return None, None
    scope = wire.enum_name(pb.PauseSubscriptionRequest.Scope, request.scope, field="scope")
    return scope != "BILLING", scope != "SERVICE"


def transfer_unused(request: pb.TransferSubscriptionRequest) -> Unused:
    unused = unused_from_proto(request.unused, default=Unused.CREDIT)
    if unused is Unused.REFUND:
        raise InvalidArgument("must be CREDIT or KEEP: only a cancellation is refunded", field="unused")
    return unused


def _measured(value: subscription_pb2.SubscriptionChange.Proration.ValueType) -> Proration | None:
    proration = proration_from_proto(value)
    if proration is Proration.NONE:
        message = (
            "must be BY_DAY or BY_SECOND, or unspecified for what the subscription says: it measures the part that is "
            "credited or refunded; to give nothing back, say KEEP as `unused`"
        )
        raise InvalidArgument(message, field="proration")
    return proration


def _take_add_on(proto: subscription_pb2.SubscriptionAction.AddAddOn, field: str) -> TakeAddOn:
    return TakeAddOn(_plan_id(proto.plan_id, field), item_specs_from_proto(proto.items, field=f"{field}.items"))


def _ramp_step(proto: pb.RampStep, *, field: str) -> RampStep:
    if not 1 <= proto.after_months <= RAMP_MONTHS_MAX:
        raise InvalidArgument(f"must be 1 to {RAMP_MONTHS_MAX}", field=f"{field}.after_months")
    return RampStep(
        after_months=proto.after_months,
        quantities=item_specs_from_proto(proto.quantities, field=f"{field}.quantities"),
        prices=[
            (
                PriceId(ids.check(each.from_price_id, "price", field=f"{field}.prices[{n}].from_price_id")),
                PriceId(ids.check(each.to_price_id, "price", field=f"{field}.prices[{n}].to_price_id")),
            )
            for n, each in enumerate(proto.prices)
        ],
        commitment=(
            commitment_from_proto(proto.commitment, field=f"{field}.commitment")
            if proto.HasField("commitment")
            else None
        ),
    )


def _set_quantity(proto: subscription_pb2.SubscriptionAction, field: str) -> Wish:
    if not proto.set_quantity.HasField("quantity"):
        raise InvalidArgument("must be given", field=f"{field}.quantity")
    return does.SetQuantity(
        _item_id(proto.set_quantity.item_id, field),
        quantity_from_proto(proto.set_quantity.quantity, field=f"{field}.quantity"),
    )


def _set_billing_day(proto: subscription_pb2.SubscriptionAction, field: str) -> Wish:
    if not 0 <= proto.set_billing_day.billing_day <= BILLING_DAY_MAX:
        raise InvalidArgument(f"must be 1 to {BILLING_DAY_MAX}, or 0", field=f"{field}.billing_day")
    return does.SetBillingDay(proto.set_billing_day.billing_day)


def _set_payer(proto: subscription_pb2.SubscriptionAction, field: str) -> Wish:
    payer_id = proto.set_payer.payer_id
    return does.SetPayer(CustomerId(ids.check(payer_id, "cus", field=f"{field}.payer_id")) if payer_id else None)


def _set_term(proto: subscription_pb2.SubscriptionAction, field: str) -> Wish:
    has_term = proto.set_term.HasField("term")
    return does.SetTerm(term_from_proto(proto.set_term.term, field=f"{field}.term") if has_term else None)


def _set_commitment(proto: subscription_pb2.SubscriptionAction, field: str) -> Wish:
    if not proto.set_commitment.HasField("commitment"):
        return does.SetCommitment(None)
    return does.SetCommitment(commitment_from_proto(proto.set_commitment.commitment, field=f"{field}.commitment"))


_WISHES: Final[dict[str, Callable[[subscription_pb2.SubscriptionAction, str], Wish]]] = {
    "add_item": lambda proto, field: TakePrice(item_spec_from_proto(proto.add_item, field=field)),
    "remove_item": lambda proto, field: does.RemoveItem(_item_id(proto.remove_item.item_id, field)),
    "set_quantity": _set_quantity,
    "set_price": lambda proto, field: SwitchPrice(
        _item_id(proto.set_price.item_id, field), _price_id(proto.set_price.price_id, field)
    ),
    "change_plan": lambda proto, field: SwitchPlan(
        _plan_id(proto.change_plan.plan_id, field),
        item_specs_from_proto(proto.change_plan.items, field=f"{field}.items"),
    ),
    "add_add_on": lambda proto, field: _take_add_on(proto.add_add_on, field),
    "remove_add_on": lambda proto, field: LeaveAddOn(_plan_id(proto.remove_add_on.plan_id, field)),
    "set_billing_day": _set_billing_day,
    "apply_discount": lambda proto, field: discount_from_proto(proto.apply_discount, field=field),
    "remove_discount": lambda proto, field: does.RemoveDiscount(
        CouponId(ids.check(proto.remove_discount.coupon_id, "coup", field=f"{field}.coupon_id"))
    ),
    "set_commitment": _set_commitment,
    "set_term": _set_term,
    "set_payer": _set_payer,
}


def _item_id(text: str, field: str) -> ItemId:
    return ItemId(ids.check(text, "subi", field=f"{field}.item_id"))


def _price_id(text: str, field: str) -> PriceId:
    return PriceId(ids.check(text, "price", field=f"{field}.price_id"))


def _plan_id(text: str, field: str) -> PlanId:
    return PlanId(ids.check(text, "plan", field=f"{field}.plan_id"))


def _time(
    request: pb.CreateSubscriptionRequest
    | pb.ChangeSubscriptionRequest
    | pb.CancelSubscriptionRequest
    | pb.PauseSubscriptionRequest,
    name: str,
) -> datetime | None:
    if not any(field.name == name for field, _ in request.ListFields()):
        return None
    time: Timestamp = getattr(request, name)
    return wire.parse_timestamp(time, field=name)
