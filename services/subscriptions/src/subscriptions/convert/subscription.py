"""Knows how subscriptions and their changes look on the wire, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from google.type import decimal_pb2

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money
from saldo.subscriptions.v1 import subscription_pb2
from subscriptions.domain import change as does
from subscriptions.domain.change import Action, Change, Commitment, Proration, Renewal, Term, Timing, Unused
from subscriptions.domain.plan import ItemSpec
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import (
    QUANTITY_MAX,
    QUANTITY_PLACES_MAX,
    CouponId,
    ItemId,
    PriceId,
    Terms,
)
from subscriptions.domain.timeline import Activation, TrialEnd

PREFIX_OF_ITEM = "subi"
TERM_MONTHS_MAX = 120
NOTICE_DAYS_MAX = 365
DISCOUNT_PERIODS_MAX = 1_200

_Change = subscription_pb2.SubscriptionChange
_Subscription = subscription_pb2.Subscription
_Term = subscription_pb2.Term


def subscription_to_proto(subscription: Subscription, *, at: datetime) -> subscription_pb2.Subscription:
    """As it is, or was, at a moment."""
    then, opening = subscription.as_of(at), subscription.opening
    whole = subscription.timeline
    end = then.last_end
    scheduled = subscription.scheduled_end
    trial_end_time, state = then.trial_end_time, subscription.state_at(at)
    service_pause = then.service_breaks[-1] if then.service_breaks and then.service_breaks[-1].end is None else None
    billing_pause = then.billing_breaks[-1] if then.billing_breaks and then.billing_breaks[-1].end is None else None
    pauses = {pause.closed_by.change_id for pause in (service_pause, billing_pause) if pause}
    resume = next(
        (
            each
            for each in subscription.scheduled(at)
            # What was decided with another pause ends that one.
            if each.has(does.Resume) and (not pauses or each.decided_with is None or each.decided_with in pauses)
        ),
        None,
    )
    proto = subscription_pb2.Subscription(
        id=subscription.id,
        customer_id=then.customer_id,
        plan_id=then.plan_id,
        state=_Subscription.State.Value(state.name),
        items=[_item_to_proto(item_id, terms) for item_id, terms in then.items.items()],
        currency=opening.currency,
        time_zone=opening.time_zone,
        start_time=wire.timestamp(then.start_time),
        billing_anchor=wire.timestamp(then.anchor),
        cancel_time=wire.timestamp(scheduled.effective_time) if scheduled else None,
        end_time=wire.timestamp(end[0].start) if end else None,
        pause_time=wire.timestamp(service_pause.start) if service_pause and state is State.PAUSED else None,
        billing_pause_time=wire.timestamp(billing_pause.start) if billing_pause else None,
        resume_time=wire.timestamp(resume.effective_time) if resume else None,
        revision=subscription.revision,
        create_time=wire.timestamp(subscription.create_time),
        update_time=wire.timestamp(subscription.update_time),
        trial_end_time=wire.timestamp(trial_end_time) if trial_end_time else None,
        billing_day=then.billing_day,
        bill_ahead_days=opening.bill_ahead_days,
        former_customer_ids=subscription.former_customer_ids(at),
        proration=_Change.Proration.Value(opening.proration.name),
        activation=_Subscription.Activation.Value(opening.activation.name),
        trial_end=_Subscription.TrialEnd.Value(opening.trial_end.name),
        payer_id=then.payer_id or "",
        add_ons=[
            subscription_pb2.AddOn(plan_id=plan_id, start_time=wire.timestamp(since))
            for plan_id, since in then.add_ons.items()
        ],
    )
    deadline = subscription.activation_deadline
    if deadline is not None:
        proto.activation_deadline.CopyFrom(wire.timestamp(deadline))
    last = whole.last_end
    if last is not None:
        proto.end_reason = _Subscription.EndReason.Value(last[1].name)
    if then.term is not None:
        proto.term.CopyFrom(_term_to_proto(then.term))
        period = subscription.term_period(at)
        if period is not None:
            proto.term.period.CopyFrom(wire.interval(period))
    commitment = subscription.commitments_at(at)
    if commitment is not None:
        proto.commitment.CopyFrom(_commitment_to_proto(commitment[1]))
        proto.commitment.start_time.CopyFrom(wire.timestamp(commitment[0]))
    for discount in then.discounts:
        ends = subscription.discount_end(discount)
        if ends is not None and ends <= at:
            continue
        proto.discounts.append(
            subscription_pb2.AppliedDiscount(
                coupon_id=discount.coupon_id,
                start_time=wire.timestamp(discount.start),
                periods=discount.periods,
                end_time=wire.timestamp(ends) if ends else None,
                periods_left=subscription.discount_left(discount, at),
            )
        )
    return proto


def change_to_proto(change: Change, subscription: Subscription, *, at: datetime) -> subscription_pb2.SubscriptionChange:
    state = "SCHEDULED" if change.effective_time > at else "IN_EFFECT"
    return subscription_pb2.SubscriptionChange(
        id=change.id,
        subscription_id=subscription.id,
        state=_Change.State.Value("REVOKED" if change.revoked_time is not None else state),
        effective_time=wire.timestamp(change.effective_time),
        create_time=wire.timestamp(change.recorded_time),
        revoke_time=wire.timestamp(change.revoked_time) if change.revoked_time else None,
        actions=[_action_to_proto(action) for action in change.actions],
        proration=_Change.Proration.Value(change.proration.name),
        unused=_Change.Unused.Value(change.unused.name),
        after_months=change.after_months or 0,
    )


def _item_to_proto(item_id: ItemId, terms: Terms) -> subscription_pb2.SubscriptionItem:
    return subscription_pb2.SubscriptionItem(
        id=item_id,
        price_id=terms.price_id,
        quantity=None if terms.quantity is None else wire.decimal(terms.quantity),
        meter=terms.meter,
        plan_id=terms.plan_id,
    )


def _action_to_proto(action: Action) -> subscription_pb2.SubscriptionAction:
    proto = subscription_pb2.SubscriptionAction()
    match action:
        case does.AddItem(item):
            proto.add_item.price_id, proto.add_item.item_id = item.terms.price_id, item.id
            proto.add_item.plan_id = item.terms.plan_id
            if item.terms.quantity is not None:
                proto.add_item.quantity.CopyFrom(wire.decimal(item.terms.quantity))
        case does.RemoveItem(item_id):
            proto.remove_item.item_id = item_id
        case does.SetQuantity(item_id, quantity):
            proto.set_quantity.item_id = item_id
            proto.set_quantity.quantity.CopyFrom(wire.decimal(quantity))
        case does.SetPrice(item_id, terms):
            proto.set_price.item_id, proto.set_price.price_id = item_id, terms.price_id
        case does.SetPlan(plan_id):
            proto.change_plan.plan_id = plan_id
        case does.SetAddOn(plan_id, is_taken):
            (proto.add_add_on if is_taken else proto.remove_add_on).plan_id = plan_id
        case does.SetBillingDay(billing_day):
            proto.set_billing_day.billing_day = billing_day
            proto.set_billing_day.SetInParent()
        case does.ApplyDiscount(coupon_id, periods):
            proto.apply_discount.coupon_id, proto.apply_discount.periods = coupon_id, periods
        case does.RemoveDiscount(coupon_id):
            proto.remove_discount.coupon_id = coupon_id
        case does.SetCommitment(commitment):
            proto.set_commitment.SetInParent()
            if commitment is not None:
                proto.set_commitment.commitment.CopyFrom(_commitment_to_proto(commitment))
        case does.SetTerm(term):
            proto.set_term.SetInParent()
            if term is not None:
                proto.set_term.term.CopyFrom(_term_to_proto(term))
        case does.SetPayer(payer_id):
            proto.set_payer.SetInParent()
            proto.set_payer.payer_id = payer_id or ""
        case does.Pause(service, billing):
            proto.pause.service, proto.pause.billing = service, billing
        case does.Resume(service, billing):
            proto.resume.service, proto.resume.billing = service, billing
        case does.End(reason):
            proto.end.reason = _Subscription.EndReason.Value(reason.name)
        case does.Reactivate():
            proto.reactivate.SetInParent()
        case does.Activate():
            proto.activate.SetInParent()
        case does.BeginBilling():
            proto.begin_billing.SetInParent()
        case does.SetTrialEnd(trial_end_time):
            proto.set_trial_end.trial_end_time.CopyFrom(wire.timestamp(trial_end_time))
        case does.Transfer(customer_id):
            proto.transfer.customer_id = customer_id
    return proto


def _term_to_proto(term: Term) -> subscription_pb2.Term:
    return subscription_pb2.Term(
        months=term.months, renewal=_Term.Renewal.Value(term.renewal.name), notice_days=term.notice_days
    )


def _commitment_to_proto(commitment: Commitment) -> subscription_pb2.Commitment:
    return subscription_pb2.Commitment(minimum=wire.money(commitment.minimum), months=commitment.months)


def item_specs_from_proto(protos: Sequence[subscription_pb2.ItemSpec], *, field: str = "items") -> list[ItemSpec]:
    return [item_spec_from_proto(proto, field=f"{field}[{n}]") for n, proto in enumerate(protos)]


def item_spec_from_proto(
    proto: subscription_pb2.ItemSpec | subscription_pb2.SubscriptionAction.AddItem, *, field: str
) -> ItemSpec:
    return ItemSpec(
        price_id=PriceId(ids.check(proto.price_id, "price", field=f"{field}.price_id")),
        quantity=quantity_from_proto(proto.quantity, field=f"{field}.quantity") if proto.HasField("quantity") else None,
    )


def quantity_from_proto(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    quantity = wire.parse_decimal(proto, field=field, minimum=0, places_max=QUANTITY_PLACES_MAX)
    if quantity > QUANTITY_MAX:
        raise InvalidArgument(f"must be at most {QUANTITY_MAX}", field=field)
    return quantity


def term_from_proto(proto: subscription_pb2.Term, *, field: str) -> Term:
    if not 1 <= proto.months <= TERM_MONTHS_MAX:
        raise InvalidArgument(f"must be 1 to {TERM_MONTHS_MAX}", field=f"{field}.months")
    if not 0 <= proto.notice_days <= NOTICE_DAYS_MAX:
        raise InvalidArgument(f"must be 0 to {NOTICE_DAYS_MAX}", field=f"{field}.notice_days")
    renewal = "RENEW"
    if proto.renewal:
        renewal = wire.enum_name(_Term.Renewal, proto.renewal, field=f"{field}.renewal")
    return Term(months=proto.months, renewal=Renewal[renewal], notice_days=proto.notice_days)


def commitment_from_proto(proto: subscription_pb2.Commitment, *, field: str) -> Commitment:
    if not 1 <= proto.months <= TERM_MONTHS_MAX:
        raise InvalidArgument(f"must be 1 to {TERM_MONTHS_MAX}", field=f"{field}.months")
    minimum: Money = wire.parse_money(proto.minimum, field=f"{field}.minimum")
    if minimum.minor <= 0:
        raise InvalidArgument("must be more than zero", field=f"{field}.minimum")
    return Commitment(minimum=minimum, months=proto.months)


def discount_from_proto(proto: subscription_pb2.SubscriptionAction.ApplyDiscount, *, field: str) -> does.ApplyDiscount:
    if not 0 <= proto.periods <= DISCOUNT_PERIODS_MAX:
        raise InvalidArgument(f"must be 0 to {DISCOUNT_PERIODS_MAX}", field=f"{field}.periods")
    return does.ApplyDiscount(CouponId(ids.check(proto.coupon_id, "coup", field=f"{field}.coupon_id")), proto.periods)


def decision_from_proto(
    *,
    timing: subscription_pb2.SubscriptionChange.Timing.ValueType,
    time: datetime | None,
    proration: subscription_pb2.SubscriptionChange.Proration.ValueType,
    unused: subscription_pb2.SubscriptionChange.Unused.ValueType,
    default: Unused,
    time_field: str,
) -> Decision:
    """When and at whose expense. A time without AT_TIME, or the other way round, is refused."""
    when = Timing.NOW
    if timing:
        when = Timing[wire.enum_name(_Change.Timing, timing, field="timing")]
    if (when is Timing.AT_TIME) != (time is not None):
        raise InvalidArgument("must be given with the timing AT_TIME, and only then", field=time_field)
    return Decision(
        timing=when,
        effective_time=time,
        proration=proration_from_proto(proration),
        unused=unused_from_proto(unused, default=default),
    )


def proration_from_proto(value: subscription_pb2.SubscriptionChange.Proration.ValueType) -> Proration | None:
    return Proration[wire.enum_name(_Change.Proration, value, field="proration")] if value else None


def unused_from_proto(value: subscription_pb2.SubscriptionChange.Unused.ValueType, *, default: Unused) -> Unused:
    return Unused[wire.enum_name(_Change.Unused, value, field="unused")] if value else default


def activation_from_proto(value: subscription_pb2.Subscription.Activation.ValueType) -> Activation:
    return (
        Activation[wire.enum_name(_Subscription.Activation, value, field="activation")]
        if value
        else (Activation.ON_START)
    )


def trial_end_from_proto(value: subscription_pb2.Subscription.TrialEnd.ValueType) -> TrialEnd:
    return TrialEnd[wire.enum_name(_Subscription.TrialEnd, value, field="trial_end")] if value else TrialEnd.CONTINUE
