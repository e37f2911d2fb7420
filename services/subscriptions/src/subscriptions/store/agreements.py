"""Knows how what was agreed and decided is written down: as JSON, every number as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from common.money import Money
from common.period import Interval, Unit
from subscriptions.domain import change as does
from subscriptions.domain.change import Action, Commitment, EndReason, Proration, Renewal, Term
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import BillingTiming, CouponId, Item, ItemId, PlanId, PriceId, ProductId, Terms
from subscriptions.domain.timeline import Activation, Opening, TrialEnd

Json = dict[str, Any]  # Any: JSON of many shapes, one per action

ONCE: Final = "ONCE"
"""The unit of an interval that there is not."""


def opening_to_json(opening: Opening) -> Json:
    return {
        "customer_id": opening.customer_id,
        "plan_id": opening.plan_id,
        "items": [_item_to_json(item) for item in opening.items],
        "start_time": _time_to_json(opening.start_time),
        "billing_day": opening.billing_day,
        "trial_days": opening.trial_days,
        "proration": opening.proration.name,
        "activation": opening.activation.name,
        "activation_deadline": (
            None if opening.activation_deadline is None else _time_to_json(opening.activation_deadline)
        ),
        "trial_end": opening.trial_end.name,
        "payer_id": opening.payer_id,
        "recorded_time": _time_to_json(opening.recorded_time),
        "bill_ahead_days": opening.bill_ahead_days,
    }


def opening_from_json(json: Json, *, currency: str, time_zone: str) -> Opening:
    deadline = json["activation_deadline"]
    return Opening(
        customer_id=CustomerId(json["customer_id"]),
        plan_id=PlanId(json["plan_id"]),
        items=tuple(_item(each) for each in json["items"]),
        currency=currency,
        time_zone=time_zone,
        start_time=_time(json["start_time"]),
        billing_day=json["billing_day"],
        trial_days=json["trial_days"],
        proration=Proration[json["proration"]],
        activation=Activation[json["activation"]],
        activation_deadline=None if deadline is None else _time(deadline),
        trial_end=TrialEnd[json["trial_end"]],
        payer_id=None if json["payer_id"] is None else CustomerId(json["payer_id"]),
        recorded_time=_time(json["recorded_time"]),
        # What was agreed before there was such a thing says nothing about it.
        bill_ahead_days=json.get("bill_ahead_days", 0),
    )


def action_to_json(action: Action) -> Json:
    return {"action": _NAMES[type(action)], **_content(action)}


def action_from_json(json: Json) -> Action:
    return _READERS[json["action"]](json)


def _content(action: Action) -> Json:
    match action:
        case does.AddItem(item):
            return {"item": _item_to_json(item)}
        case does.RemoveItem(item_id):
            return {"item_id": item_id}
        case does.SetQuantity(item_id, quantity):
            return {"item_id": item_id, "quantity": _decimal_to_json(quantity)}
        case does.SetPrice(item_id, terms):
            return {"item_id": item_id, "terms": _terms_to_json(terms)}
        case does.SetPlan(plan_id):
            return {"plan_id": plan_id}
        case does.SetAddOn(plan_id, is_taken):
            return {"plan_id": plan_id, "is_taken": is_taken}
        case does.SetBillingDay(billing_day):
            return {"billing_day": billing_day}
        case does.ApplyDiscount(coupon_id, periods):
            return {"coupon_id": coupon_id, "periods": periods}
        case does.RemoveDiscount(coupon_id):
            return {"coupon_id": coupon_id}
        case does.SetCommitment(commitment):
            return {"commitment": None if commitment is None else _commitment_to_json(commitment)}
        case does.SetTerm(term):
            return {"term": None if term is None else _term_to_json(term)}
        case does.SetPayer(payer_id):
            return {"payer_id": payer_id}
        case does.Pause(service, billing) | does.Resume(service, billing):
            return {"service": service, "billing": billing}
        case does.End(reason):
            return {"reason": reason.name}
        case does.SetTrialEnd(trial_end_time):
            return {"trial_end_time": _time_to_json(trial_end_time)}
        case does.Transfer(customer_id):
            return {"customer_id": customer_id}
        case does.Reactivate() | does.Activate() | does.BeginBilling():
            return {}


def _item_to_json(item: Item) -> Json:
    return {"id": item.id, **_terms_to_json(item.terms)}


def _item(json: Json) -> Item:
    return Item(id=ItemId(json["id"]), terms=_terms(json))


def _terms_to_json(terms: Terms) -> Json:
    return {
        "plan_id": terms.plan_id,
        "price_id": terms.price_id,
        "product_id": terms.product_id,
        "interval_unit": ONCE if terms.interval is None else terms.interval.unit.name,
        "interval_count": 1 if terms.interval is None else terms.interval.count,
        "billing_timing": terms.timing.name,
        "meter": terms.meter,
        "quantity": None if terms.quantity is None else _decimal_to_json(terms.quantity),
    }


def _terms(json: Json) -> Terms:
    unit, quantity = json["interval_unit"], json["quantity"]
    return Terms(
        plan_id=PlanId(json["plan_id"]),
        price_id=PriceId(json["price_id"]),
        product_id=ProductId(json["product_id"]),
        interval=None if unit == ONCE else Interval(Unit[unit], json["interval_count"]),
        timing=BillingTiming[json["billing_timing"]],
        meter=json["meter"],
        quantity=None if quantity is None else Decimal(quantity),
    )


def _term_to_json(term: Term) -> Json:
    return {"months": term.months, "renewal": term.renewal.name, "notice_days": term.notice_days}


def _commitment_to_json(commitment: Commitment) -> Json:
    minimum = commitment.minimum
    return {"minor": str(minimum.minor), "currency": minimum.currency, "months": commitment.months}


def _commitment(json: Json | None) -> Commitment | None:
    if json is None:
        return None
    return Commitment(minimum=Money(int(json["minor"]), json["currency"]), months=json["months"])


def _term(json: Json | None) -> Term | None:
    if json is None:
        return None
    return Term(months=json["months"], renewal=Renewal[json["renewal"]], notice_days=json["notice_days"])


def _decimal_to_json(value: Decimal) -> str:
    return f"{value:f}"


def _time_to_json(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


_READERS: Final[Mapping[str, Callable[[Json], Action]]] = {
    "ADD_ITEM": lambda json: does.AddItem(_item(json["item"])),
    "REMOVE_ITEM": lambda json: does.RemoveItem(ItemId(json["item_id"])),
    "SET_QUANTITY": lambda json: does.SetQuantity(ItemId(json["item_id"]), Decimal(json["quantity"])),
    "SET_PRICE": lambda json: does.SetPrice(ItemId(json["item_id"]), _terms(json["terms"])),
    "SET_PLAN": lambda json: does.SetPlan(PlanId(json["plan_id"])),
    "SET_ADD_ON": lambda json: does.SetAddOn(PlanId(json["plan_id"]), json["is_taken"]),
    "SET_BILLING_DAY": lambda json: does.SetBillingDay(json["billing_day"]),
    "APPLY_DISCOUNT": lambda json: does.ApplyDiscount(CouponId(json["coupon_id"]), json["periods"]),
    "REMOVE_DISCOUNT": lambda json: does.RemoveDiscount(CouponId(json["coupon_id"])),
    "SET_COMMITMENT": lambda json: does.SetCommitment(_commitment(json["commitment"])),
    "SET_TERM": lambda json: does.SetTerm(_term(json["term"])),
    "SET_PAYER": lambda json: does.SetPayer(None if json["payer_id"] is None else CustomerId(json["payer_id"])),
    "PAUSE": lambda json: does.Pause(json["service"], json["billing"]),
    "RESUME": lambda json: does.Resume(json["service"], json["billing"]),
    "END": lambda json: does.End(EndReason[json["reason"]]),
    "REACTIVATE": lambda _: does.Reactivate(),
    "ACTIVATE": lambda _: does.Activate(),
    "BEGIN_BILLING": lambda _: does.BeginBilling(),
    "SET_TRIAL_END": lambda json: does.SetTrialEnd(_time(json["trial_end_time"])),
    "TRANSFER": lambda json: does.Transfer(CustomerId(json["customer_id"])),
}

_NAMES: Final[Mapping[type[Action], str]] = {
    does.AddItem: "ADD_ITEM",
    does.RemoveItem: "REMOVE_ITEM",
    does.SetQuantity: "SET_QUANTITY",
    does.SetPrice: "SET_PRICE",
    does.SetPlan: "SET_PLAN",
    does.SetAddOn: "SET_ADD_ON",
    does.SetBillingDay: "SET_BILLING_DAY",
    does.ApplyDiscount: "APPLY_DISCOUNT",
    does.RemoveDiscount: "REMOVE_DISCOUNT",
    does.SetCommitment: "SET_COMMITMENT",
    does.SetTerm: "SET_TERM",
    does.SetPayer: "SET_PAYER",
    does.Pause: "PAUSE",
    does.Resume: "RESUME",
    does.End: "END",
    does.Reactivate: "REACTIVATE",
    does.Activate: "ACTIVATE",
    does.BeginBilling: "BEGIN_BILLING",
    does.SetTrialEnd: "SET_TRIAL_END",
    does.Transfer: "TRANSFER",
}
