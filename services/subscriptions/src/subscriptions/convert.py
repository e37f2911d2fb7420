"""Knows how customers and subscriptions look on the wire, and what callers may ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from google.type import postal_address_pb2

from common import ids, wire
from common.errors import InvalidArgument
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.domain.billable_periods import BillablePeriod, Schedule
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer
from subscriptions.domain.plan import QUANTITY_PLACES_MAX, ItemSpec
from subscriptions.domain.subscription import Item, PriceId, Subscription

NAME_LENGTH_MAX = 200
EMAIL_LENGTH_MAX = 254
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
    return proto


def customer_for_events(customer: Customer) -> customer_pb2.Customer:
    """Without personal data: what is announced is kept by others, for longer than we could promise."""
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
        ),
        revision=customer.revision,
        create_time=wire.timestamp(customer.create_time),
        update_time=wire.timestamp(customer.update_time),
    )


def subscription_to_proto(subscription: Subscription) -> subscription_pb2.Subscription:
    cancel_time, end_time, pause_time = subscription.cancel_time, subscription.end_time, subscription.pause_time
    trial_end_time = subscription.trial_end_time
    return subscription_pb2.Subscription(
        id=subscription.id,
        customer_id=subscription.customer_id,
        plan_id=subscription.plan_id,
        state=subscription_pb2.Subscription.State.Value(subscription.state.name),
        items=[_item_to_proto(item) for item in subscription.items],
        currency=subscription.currency,
        time_zone=subscription.time_zone,
        start_time=wire.timestamp(subscription.start_time),
        billing_anchor=wire.timestamp(subscription.billing_anchor),
        cancel_time=wire.timestamp(cancel_time) if cancel_time else None,
        end_time=wire.timestamp(end_time) if end_time else None,
        pause_time=wire.timestamp(pause_time) if pause_time else None,
        revision=subscription.revision,
        create_time=wire.timestamp(subscription.create_time),
        update_time=wire.timestamp(subscription.update_time),
        trial_end_time=wire.timestamp(trial_end_time) if trial_end_time else None,
    )


def _item_to_proto(item: Item) -> subscription_pb2.SubscriptionItem:
    return subscription_pb2.SubscriptionItem(
        id=item.id,
        price_id=item.price_id,
        quantity=None if item.quantity is None else wire.decimal(item.quantity),
        meter=item.meter,
    )


def schedule_to_proto(customer: Customer, schedule: Schedule) -> pb.CustomerSchedule:
    return pb.CustomerSchedule(
        customer=customer_to_proto(customer),
        periods=[_billable_to_proto(billable) for billable in schedule.periods],
        next_bill_time=wire.timestamp(schedule.next_bill_time) if schedule.next_bill_time else None,
    )


def _billable_to_proto(billable: BillablePeriod) -> subscription_pb2.BillablePeriod:
    item = billable.item
    return subscription_pb2.BillablePeriod(
        subscription_id=billable.subscription_id,
        item_id=item.id,
        customer_id=billable.customer_id,
        price_id=item.price_id,
        quantity=None if item.quantity is None else wire.decimal(item.quantity),
        meter=item.meter,
        period=wire.interval(billable.period),
        full_period=wire.interval(billable.full_period),
        proration=_fraction(billable.proration),
        bill_time=wire.timestamp(billable.bill_time),
        currency=billable.currency,
    )


def _fraction(value: Fraction) -> subscription_pb2.Fraction:
    return subscription_pb2.Fraction(numerator=value.numerator, denominator=value.denominator)


def contact_from_proto(proto: customer_pb2.Contact) -> Contact:
    email = wire.text(proto.email, field="contact.email", max_length=EMAIL_LENGTH_MAX, required=False)
    local, at, domain = email.rpartition("@")
    if email and not (local and at and domain and " " not in email):
        raise InvalidArgument("must be an email address", field="contact.email")
    return Contact(
        display_name=wire.text(proto.display_name, field="contact.display_name", max_length=NAME_LENGTH_MAX),
        email=email,
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
    return BillingProfile(
        currency=proto.currency,
        time_zone=proto.time_zone or TIME_ZONE_DEFAULT,
        language_code=proto.language_code or LANGUAGE_CODE_DEFAULT,
        net_terms_days=proto.net_terms_days,
        collection_method=method,
    )


def item_specs_from_proto(protos: Sequence[pb.ItemSpec]) -> list[ItemSpec]:
    return [
        ItemSpec(
            price_id=PriceId(ids.check(proto.price_id, "price", field=f"items[{n}].price_id")),
            quantity=(
                wire.parse_decimal(
                    proto.quantity, field=f"items[{n}].quantity", minimum=0, places_max=QUANTITY_PLACES_MAX
                )
                if proto.HasField("quantity")
                else None
            ),
        )
        for n, proto in enumerate(protos)
    ]


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
