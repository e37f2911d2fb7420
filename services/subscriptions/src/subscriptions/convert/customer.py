"""Knows how customers look on the wire, and what may be said of them."""

from __future__ import annotations

import re

from google.type import postal_address_pb2

from common import wire
from common.errors import InvalidArgument
from saldo.subscriptions.v1 import customer_pb2
from subscriptions.convert.customer_parts import (
    NAME_LENGTH_MAX,
    contact_person_to_proto,
    email,
    tax_exemption_to_proto,
)
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, Delivery
from subscriptions.domain.customer_name import CustomerName

PURCHASE_ORDER_LENGTH_MAX = 100
ADDRESS_LINES_MAX = 10
TIME_ZONE_DEFAULT = "UTC"
LANGUAGE_CODE_DEFAULT = "en"


def customer_to_proto(customer: Customer) -> customer_pb2.Customer:
    proto = customer_for_events(customer)
    proto.contact.CopyFrom(
        customer_pb2.Contact(
            display_name=customer.contact.display_name,
            email=customer.contact.email,
            address=(
                postal_address_pb2.PostalAddress.FromString(customer.contact.address)
                if customer.contact.address
                else None
            ),
        )
    )
    proto.contacts.extend(contact_person_to_proto(each) for each in customer.contacts)
    proto.tax_exemptions.extend(tax_exemption_to_proto(each) for each in customer.tax_exemptions)
    proto.custom_fields.update(customer.custom_fields)
    return proto


def customer_for_events(customer: Customer) -> customer_pb2.Customer:
    """Without what is or may be personal data: others keep what is announced, for longer than we could promise."""
    profile = customer.billing_profile
    return customer_pb2.Customer(
        id=customer.id,
        external_id=customer.external_id,
        billing_profile=customer_pb2.BillingProfile(
            currency=profile.currency,
            time_zone=profile.time_zone,
            language_code=profile.language_code,
            net_terms_days=profile.net_terms_days,
            collection_method=customer_pb2.BillingProfile.CollectionMethod.Value(profile.collection_method.name),
            billing_day=profile.billing_day,
            delivery=customer_pb2.BillingProfile.Delivery.Value(profile.delivery.name),
            purchase_order=profile.purchase_order,
        ),
        revision=customer.revision,
        create_time=wire.timestamp(customer.create_time),
        update_time=wire.timestamp(customer.update_time),
        erase_time=wire.timestamp(customer.erase_time) if customer.erase_time else None,
        state=customer_pb2.Customer.State.Value(customer.state.name),
        merged_into_id=customer.merged_into_id,
        aliases=customer.aliases,
        merged_ids=customer.merged_ids,
        names=[_name_to_proto(name) for name in customer.names],
        parent_id=customer.parent_id,
        payer_id=customer.payer_id,
    )


def _name_to_proto(name: CustomerName) -> customer_pb2.CustomerName:
    return customer_pb2.CustomerName(
        key=name.key,
        since_time=wire.timestamp(name.since) if name.since else None,
        until_time=wire.timestamp(name.until) if name.until else None,
    )


def contact_from_proto(proto: customer_pb2.Contact) -> Contact:
    return Contact(
        display_name=wire.text(proto.display_name, field="contact.display_name", max_length=NAME_LENGTH_MAX),
        email=email(proto.email, field="contact.email"),
        address=_address(proto.address, field="contact.address") if proto.HasField("address") else b"",
    )


def billing_profile_from_proto(proto: customer_pb2.BillingProfile) -> BillingProfile:
    method = CollectionMethod.CHARGE_AUTOMATICALLY
    if proto.collection_method:
        method = CollectionMethod[
            wire.enum_name(
                customer_pb2.BillingProfile.CollectionMethod,
                proto.collection_method,
                field="billing_profile.collection_method",
            )
        ]
    delivery = Delivery.EMAIL
    if proto.delivery:
        delivery = Delivery[
            wire.enum_name(customer_pb2.BillingProfile.Delivery, proto.delivery, field="billing_profile.delivery")
        ]
    return BillingProfile(
        currency=proto.currency,
        time_zone=proto.time_zone or TIME_ZONE_DEFAULT,
        language_code=proto.language_code or LANGUAGE_CODE_DEFAULT,
        net_terms_days=proto.net_terms_days,
        collection_method=method,
        billing_day=proto.billing_day,
        delivery=delivery,
        purchase_order=wire.text(
            proto.purchase_order,
            field="billing_profile.purchase_order",
            max_length=PURCHASE_ORDER_LENGTH_MAX,
            required=False,
        ),
    )


def _address(proto: postal_address_pb2.PostalAddress, *, field: str) -> bytes:
    """An address as it is stored and printed; each part is checked as text."""
    if not _REGION_CODE.fullmatch(proto.region_code):
        raise InvalidArgument("must be a two-letter country code (ISO 3166)", field=f"{field}.region_code")
    for part in _ADDRESS_TEXTS:
        wire.text(getattr(proto, part), field=f"{field}.{part}", max_length=NAME_LENGTH_MAX, required=False)
    for part in ("address_lines", "recipients"):
        lines = getattr(proto, part)
        if len(lines) > ADDRESS_LINES_MAX:
            raise InvalidArgument(f"must have at most {ADDRESS_LINES_MAX} lines", field=f"{field}.{part}")
        for n, line in enumerate(lines):
            wire.text(line, field=f"{field}.{part}[{n}]", max_length=NAME_LENGTH_MAX)
    known = postal_address_pb2.PostalAddress()
    known.CopyFrom(proto)
    known.DiscardUnknownFields()
    return known.SerializeToString(deterministic=True)


_REGION_CODE = re.compile(r"[A-Z]{2}")
_ADDRESS_TEXTS = (
    "postal_code", "locality", "administrative_area", "organization", "sorting_code", "sublocality", "language_code",
)  # fmt: skip
