"""Knows how customers.yaml is written: who is billed, from what, and for which subscriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tools.demo.catalog_file import check_unique, parse_address
from tools.demo.document import Value, gathered
from tools.demo.example import (
    Cancellation,
    Catalog,
    Customer,
    DunningPolicy,
    Item,
    PaymentMethod,
    Plan,
    Subscription,
)
from tools.demo.faults import Malformed

COLLECTION_METHODS: Final = ("CHARGE_AUTOMATICALLY", "SEND_INVOICE")
GATEWAYS: Final = ("simulated", "stripe")
FINAL_ACTIONS: Final = ("NONE", "PAUSE_SUBSCRIPTION", "CANCEL_SUBSCRIPTION")
CANCEL_TIMINGS: Final = ("NOW", "PERIOD_END")

_STEP: Final = r"(?:delay=[0-9]{1,5}\+)?(?:ok|decline(?:=[a-z_]{1,64})?|lost|timeout)"
_SIMULATED: Final = re.compile(rf"sim:{_STEP}(?:,{_STEP}){{0,49}}")


def parse_customers(document: Value, catalog: Catalog) -> tuple[tuple[Customer, ...], DunningPolicy | None]:
    fields = document.fields(required=["customers"], optional=["dunning_policy"])
    plans = {plan.code: plan for plan in catalog.plans}
    entries = fields["customers"].items()
    customers = gathered(entries, lambda entry: _customer(entry, plans))
    check_unique(entries, [customer.id for customer in customers], "customer")
    policy = _policy(fields["dunning_policy"]) if "dunning_policy" in fields else None
    return tuple(customers), policy


def _customer(value: Value, plans: Mapping[str, Plan]) -> Customer:
    fields = value.fields(
        required=["id", "display_name", "currency"],
        optional=[
            "email",
            "address",
            "time_zone",
            "language_code",
            "net_terms_days",
            "collection_method",
            "payment_methods",
            "subscriptions",
        ],
    )
    zone = fields["time_zone"].time_zone() if "time_zone" in fields else "UTC"
    currency = fields["currency"].currency()
    methods = (
        fields["payment_methods"].each(lambda each: _payment_method(each, zone)) if "payment_methods" in fields else []
    )
    subscriptions = (
        fields["subscriptions"].each(lambda each: _subscription(each, plans, zone, currency))
        if "subscriptions" in fields
        else []
    )
    return Customer(
        id=fields["id"].text(max_length=128),
        display_name=fields["display_name"].text(),
        email=fields["email"].text() if "email" in fields else "",
        address=parse_address(fields["address"]) if "address" in fields else None,
        currency=currency,
        time_zone=zone,
        language_code=fields["language_code"].text(max_length=35) if "language_code" in fields else "",
        net_terms_days=fields["net_terms_days"].whole(0, 365) if "net_terms_days" in fields else 0,
        collection_method=fields["collection_method"].choice(COLLECTION_METHODS)
        if "collection_method" in fields
        else COLLECTION_METHODS[0],
        payment_methods=tuple(methods),
        subscriptions=tuple(subscriptions),
    )


def _payment_method(value: Value, zone: str) -> PaymentMethod:
    fields = value.fields(required=["token"], optional=["gateway", "display_name", "at"])
    gateway = fields["gateway"].choice(GATEWAYS) if "gateway" in fields else GATEWAYS[0]
    token = fields["token"].text(max_length=255)
    if gateway == GATEWAYS[0] and not _SIMULATED.fullmatch(token):
        raise fields["token"].fault("must be sim: and steps like ok, decline, decline=expired_card, lost, timeout")
    return PaymentMethod(
        gateway=gateway,
        token=token,
        display_name=fields["display_name"].text() if "display_name" in fields else "",
        at=fields["at"].moment(zone) if "at" in fields else None,
    )


def _subscription(value: Value, plans: Mapping[str, Plan], zone: str, currency: str) -> Subscription:
    fields = value.fields(required=["plan", "start"], optional=["billing_day", "items", "cancel"])
    plan = plans[fields["plan"].reference(plans, "plan")]
    offered = {price.code for price in plan.prices if price.currency == currency}
    if not offered:
        raise fields["plan"].fault(f"plan {plan.code} has no price in {currency}, which the customer is billed in")
    metered = {price.code for price in plan.prices if price.meter}
    items = fields["items"].each(lambda each: _item(each, offered, metered)) if "items" in fields else []
    if items:
        check_unique(fields["items"].items(), [item.price for item in items], "item for price")
    return Subscription(
        plan=plan.code,
        start=fields["start"].moment(zone),
        billing_day=fields["billing_day"].whole(0, 31) if "billing_day" in fields else 0,
        items=tuple(items),
        cancel=_cancellation(fields["cancel"], zone) if "cancel" in fields else None,
    )


def _item(value: Value, offered: set[str], metered: set[str]) -> Item:
    fields = value.fields(required=["price"], optional=["quantity"])
    price = fields["price"].reference(offered, "price of the plan in the customer's currency")
    if "quantity" in fields and price in metered:
        raise fields["quantity"].fault("must be absent: the quantity of a metered price is its usage")
    return Item(price=price, quantity=fields["quantity"].decimal() if "quantity" in fields else None)


def _cancellation(value: Value, zone: str) -> Cancellation:
    fields = value.fields(required=["at"], optional=["timing"])
    timing = fields["timing"].choice(CANCEL_TIMINGS) if "timing" in fields else CANCEL_TIMINGS[0]
    return Cancellation(at=fields["at"].moment(zone), timing=timing)


def _policy(value: Value) -> DunningPolicy:
    fields = value.fields(required=["retry_wait_days", "final_action"], optional=["display_name", "final_wait_days"])
    waits = fields["retry_wait_days"].each(lambda each: each.whole(0, 365))
    if len(waits) > 20:
        raise Malformed(fields["retry_wait_days"].fault("must be at most 20 waits").faults)
    return DunningPolicy(
        display_name=fields["display_name"].text() if "display_name" in fields else "Dunning",
        retry_wait_days=tuple(waits),
        final_wait_days=fields["final_wait_days"].whole(1, 365) if "final_wait_days" in fields else 1,
        final_action=fields["final_action"].choice(FINAL_ACTIONS),
    )
