"""Knows how what a folder says is said to the services: one request each, with a key that is the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2, postal_address_pb2

from common import wire
from common.rpc import REQUEST_ID_LENGTH_MAX
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2, seller_pb2
from saldo.dunning.v1 import dunning_policy_pb2, dunning_service_pb2
from saldo.metering.v1 import usage_event_pb2
from saldo.payments.v1 import payments_service_pb2
from saldo.subscriptions.v1 import customer_pb2, subscriptions_service_pb2
from tools.demo.example import (
    Address,
    ContractPrice,
    Customer,
    DunningPolicy,
    PaymentMethod,
    Plan,
    Seller,
    Subscription,
    UsageRow,
)

COLLECTION: Final = customer_pb2.BillingProfile.CollectionMethod
FINAL_ACTION: Final = dunning_policy_pb2.DunningPolicy.FinalAction


def request_id(*parts: object) -> str:
    """The key of a command: the same command has the same key, whenever and however often it is sent."""
    key = ":".join(str(part) for part in parts)
    if len(key) <= REQUEST_ID_LENGTH_MAX and key.isprintable():
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def create_seller(seller: Seller, *, start: datetime, key: str) -> catalog_service_pb2.CreateSellerRequest:
    return catalog_service_pb2.CreateSellerRequest(
        mode=seller_pb2.Seller.SANDBOX,
        display_name=seller.display_name,
        address=_address(seller.address),
        tax_id=seller.tax_id,
        email=seller.email,
        payment_instructions=seller.payment_instructions,
        invoice_number_prefix=seller.invoice_number_prefix,
        invoice_numbering=seller_pb2.Seller.YEARLY if seller.is_numbered_yearly else seller_pb2.Seller.CONTINUOUS,
        sandbox_start_time=wire.timestamp(start),
        request_id=key,
    )


def apply_catalog(document: str, *, validate_only: bool) -> catalog_service_pb2.ApplyCatalogRequest:
    digest = hashlib.sha256(document.encode()).hexdigest()
    return catalog_service_pb2.ApplyCatalogRequest(
        document=document,
        validate_only=validate_only,
        request_id=request_id("validate-catalog" if validate_only else "catalog", digest),
    )


def get_plan(plan: Plan) -> catalog_service_pb2.GetPlanRequest:
    """As the folder says it: whatever was made of the plan since then is another version."""
    return catalog_service_pb2.GetPlanRequest(code=plan.code, version=1)


def create_policy(policy: DunningPolicy) -> dunning_service_pb2.CreateDunningPolicyRequest:
    return dunning_service_pb2.CreateDunningPolicyRequest(
        display_name=policy.display_name,
        retry_wait_days=policy.retry_wait_days,
        final_wait_days=policy.final_wait_days,
        final_action=FINAL_ACTION.Value(policy.final_action),
        request_id=request_id("dunning-policy"),
    )


def create_customer(customer: Customer) -> subscriptions_service_pb2.CreateCustomerRequest:
    return subscriptions_service_pb2.CreateCustomerRequest(
        external_id=customer.id,
        contact=customer_pb2.Contact(
            display_name=customer.display_name, email=customer.email, address=_address(customer.address)
        ),
        billing_profile=customer_pb2.BillingProfile(
            currency=customer.currency,
            time_zone=customer.time_zone,
            language_code=customer.language_code,
            net_terms_days=customer.net_terms_days,
            collection_method=COLLECTION.Value(customer.collection_method),
        ),
        request_id=request_id("customer", customer.id),
    )


def attach_payment_method(
    method: PaymentMethod, *, number: int, customer_id: str
) -> payments_service_pb2.AttachPaymentMethodRequest:
    return payments_service_pb2.AttachPaymentMethodRequest(
        customer_id=customer_id,
        gateway=method.gateway,
        token=method.token,
        display_name=method.display_name,
        request_id=request_id("payment-method", customer_id, number),
    )


def create_contract_price(
    contract: ContractPrice, *, number: int, customer_id: str, plan: plan_pb2.Plan
) -> catalog_service_pb2.CreateContractPriceRequest:
    price = price_pb2.Price(
        free_units=_number(contract.free_units),
        discount_percent=_number(contract.discount_percent),
        minimum_amount=_number(contract.minimum_amount),
        maximum_amount=_number(contract.maximum_amount),
    )
    if contract.per_unit is not None:
        price.per_unit.unit_price.CopyFrom(wire.decimal(contract.per_unit))
    if contract.flat is not None:
        price.flat.amount.CopyFrom(wire.decimal(contract.flat))
    return catalog_service_pb2.CreateContractPriceRequest(
        list_price_id=next(listed.id for listed in plan.prices if listed.code == contract.price),
        customer_id=customer_id,
        price=price,
        request_id=request_id("contract-price", customer_id, number),
    )


def create_subscription(
    subscription: Subscription,
    *,
    number: int,
    customer_id: str,
    plan: plan_pb2.Plan,
    negotiated: Mapping[str, str],
) -> subscriptions_service_pb2.CreateSubscriptionRequest:
    """`negotiated` are ids of prices by those of the list whose place they take."""
    prices = {price.code: negotiated.get(price.id, price.id) for price in plan.prices}
    request = subscriptions_service_pb2.CreateSubscriptionRequest(
        customer_id=customer_id,
        plan_id=plan.id,
        start_time=wire.timestamp(subscription.start),
        billing_day=subscription.billing_day,
        trial_days=subscription.trial_days,
        request_id=request_id("subscription", customer_id, number),
    )
    for item in subscription.items:
        spec = request.items.add(price_id=prices[item.price])
        if item.quantity is not None:
            spec.quantity.CopyFrom(wire.decimal(item.quantity))
    return request


def cancel_subscription(subscription_id: str, timing: str) -> subscriptions_service_pb2.CancelSubscriptionRequest:
    return subscriptions_service_pb2.CancelSubscriptionRequest(
        id=subscription_id,
        timing=subscriptions_service_pb2.CancelSubscriptionRequest.Timing.Value(timing),
        request_id=request_id("cancel", subscription_id),
    )


def usage_event(row: UsageRow) -> usage_event_pb2.UsageEvent:
    return usage_event_pb2.UsageEvent(
        id=row.id,
        source=row.source,
        customer=row.customer,
        meter=row.meter,
        time=wire.timestamp(row.time),
        value=wire.decimal(row.value),
        dimensions=row.dimensions,
    )


def _number(value: Decimal | None) -> decimal_pb2.Decimal | None:
    return None if value is None else wire.decimal(value)


def _address(address: Address | None) -> postal_address_pb2.PostalAddress | None:
    if address is None:
        return None
    return postal_address_pb2.PostalAddress(
        region_code=address.region_code,
        postal_code=address.postal_code,
        locality=address.locality,
        administrative_area=address.administrative_area,
        address_lines=address.address_lines,
    )
