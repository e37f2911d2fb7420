"""Knows how customers.yaml is written: who is billed, from what, and for which subscriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from common.document import Malformed, Value, check_unique, gathered
from tools.demo.catalog_file import parse_address
from tools.demo.example import (
    Cancellation,
    Catalog,
    ContractPrice,
    Customer,
    DunningPolicy,
    Item,
    PaymentMethod,
    Plan,
    Subscription,
)

COLLECTION_METHODS: Final = ("CHARGE_AUTOMATICALLY", "SEND_INVOICE")
GATEWAYS: Final = ("simulated", "stripe")
FINAL_ACTIONS: Final = ("NONE", "PAUSE_SUBSCRIPTION", "CANCEL_SUBSCRIPTION")
CANCEL_TIMINGS: Final = ("NOW", "PERIOD_END")
CONTRACT_MODELS: Final = ("per_unit", "flat")
CONTRACT_OPERATORS: Final = ("free_units", "discount_percent", "minimum_amount", "maximum_amount")
OFFERED: Final = "price of the plan in the customer's currency"

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
            "contract_prices",
            "subscriptions",
        ],
    )
    zone = fields["time_zone"].time_zone() if "time_zone" in fields else "UTC"
    currency = fields["currency"].currency()
    methods = (
        fields["payment_methods"].each(lambda each: _payment_method(each, zone)) if "payment_methods" in fields else []
    )
    contract_prices = (
        fields["contract_prices"].each(lambda each: _contract_price(each, plans, currency))
        if "contract_prices" in fields
        else []
    )
    if contract_prices:
        names = [f"{each.plan}/{each.price}" for each in contract_prices]
        check_unique(fields["contract_prices"].items(), names, "contract price in the place of")
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
        contract_prices=tuple(contract_prices),
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


def _contract_price(value: Value, plans: Mapping[str, Plan], currency: str) -> ContractPrice:
    """Written as in catalog.yaml, as far as most negotiations go. What is not said is as in the list."""
    fields = value.fields(required=["plan", "price"], optional=[*CONTRACT_MODELS, *CONTRACT_OPERATORS])
    plan = plans[fields["plan"].reference(plans, "plan")]
    offered = _offered(plan, currency, fields["plan"])
    if sum(name in fields for name in CONTRACT_MODELS) != 1:
        raise value.fault(f"must have exactly one of {' and '.join(CONTRACT_MODELS)}")
    numbers = {name: fields[name].decimal() for name in (*CONTRACT_MODELS, *CONTRACT_OPERATORS) if name in fields}
    return ContractPrice(
        plan=plan.code,
        price=fields["price"].reference(offered, OFFERED),
        per_unit=numbers.get("per_unit"),
        flat=numbers.get("flat"),
        free_units=numbers.get("free_units"),
        discount_percent=numbers.get("discount_percent"),
        minimum_amount=numbers.get("minimum_amount"),
        maximum_amount=numbers.get("maximum_amount"),
    )


def _offered(plan: Plan, currency: str, value: Value) -> set[str]:
    """The codes of the prices that the customer can have."""
    offered = {price.code for price in plan.prices if price.currency == currency}
    if not offered:
        raise value.fault(f"plan {plan.code} has no price in {currency}, which the customer is billed in")
    return offered


def _subscription(value: Value, plans: Mapping[str, Plan], zone: str, currency: str) -> Subscription:
    fields = value.fields(required=["plan", "start"], optional=["billing_day", "trial_days", "items", "cancel"])
    plan = plans[fields["plan"].reference(plans, "plan")]
    offered = _offered(plan, currency, fields["plan"])
    metered = {price.code for price in plan.prices if price.meter}
    items = fields["items"].each(lambda each: _item(each, offered, metered)) if "items" in fields else []
    if items:
        check_unique(fields["items"].items(), [item.price for item in items], "item for price")
    return Subscription(
        plan=plan.code,
        start=fields["start"].moment(zone),
        billing_day=fields["billing_day"].whole(0, 31) if "billing_day" in fields else 0,
        trial_days=fields["trial_days"].whole(0, 730) if "trial_days" in fields else None,
        items=tuple(items),
        cancel=_cancellation(fields["cancel"], zone) if "cancel" in fields else None,
    )


def _item(value: Value, offered: set[str], metered: set[str]) -> Item:
    fields = value.fields(required=["price"], optional=["quantity"])
    price = fields["price"].reference(offered, OFFERED)
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
