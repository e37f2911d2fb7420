"""Knows how what the neighbours answer in looks on the wire: periods, usage, parties."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from google.type import decimal_pb2, postal_address_pb2

from common import wire
from invoicing.domain.commitments import CommittedPeriod
from invoicing.domain.coupons import Coupon, Duration
from invoicing.domain.discount import AmountOff, PercentOff
from invoicing.domain.line import LineKind, Usage
from invoicing.domain.lines_due import BillablePeriod
from invoicing.domain.party import Address, CollectionMethod, Customer, CustomerName, Party, Seller, TaxExemption
from invoicing.domain.usage import UsageGroup
from saldo.catalog.v1 import coupon_pb2, seller_pb2
from saldo.metering.v1 import usage_event_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2

PARTS_KEPT: Final = 1_000
DIGITS_MAX: Final = 100
"""Of a sum of very many very large values."""


def billable_period_from_proto(proto: subscription_pb2.BillablePeriod) -> BillablePeriod:
    return BillablePeriod(
        subscription_id=proto.subscription_id,
        item_id=proto.item_id,
        price_id=proto.price_id,
        quantity=None if proto.meter else _decimal(proto.quantity, field="quantity"),
        meter=proto.meter,
        period=wire.parse_interval(proto.period, field="period"),
        full_period=wire.parse_interval(proto.full_period, field="full_period"),
        proration=_fraction(proto.proration.numerator, proto.proration.denominator),
        bill_time=wire.parse_timestamp(proto.bill_time, field="bill_time"),
        kind=_line_kind(proto.kind),
        change_id=proto.change_id,
        customer_id=proto.customer_id,
        payer_id=proto.payer_id,
        plan_id=proto.plan_id,
        coupon_ids=tuple(proto.coupon_ids),
    )


# The same few come with every period of every customer.
_fraction: Final = functools.lru_cache(maxsize=PARTS_KEPT)(Fraction)


@functools.lru_cache(maxsize=PARTS_KEPT)
def _line_kind(told: subscription_pb2.BillablePeriod.Kind.ValueType) -> LineKind:
    return LineKind[wire.enum_name(subscription_pb2.BillablePeriod.Kind, told, field="kind")]


def committed_period_from_proto(proto: subscription_pb2.CommittedPeriod) -> CommittedPeriod:
    return CommittedPeriod(
        subscription_id=proto.subscription_id,
        period=wire.parse_interval(proto.period, field="period"),
        full_period=wire.parse_interval(proto.full_period, field="full_period"),
        proration=Fraction(proto.proration.numerator, proto.proration.denominator),
        minimum=wire.parse_money(proto.minimum, field="minimum"),
        bill_time=wire.parse_timestamp(proto.bill_time, field="bill_time"),
        time_zone=proto.time_zone,
    )


def coupon_from_proto(proto: coupon_pb2.Coupon) -> Coupon:
    benefit: PercentOff | AmountOff | None
    match proto.WhichOneof("benefit"):
        case "percent_off":
            benefit = PercentOff(percent=_decimal(proto.percent_off.percent, field="percent_off.percent"))
        case "amount_off":
            amounts = (wire.parse_money(each, field="amount_off.amounts") for each in proto.amount_off.amounts)
            benefit = AmountOff(amounts=tuple(amounts))
        case _:
            benefit = None
    return Coupon(
        id=proto.id,
        display_name=proto.display_name,
        benefit=benefit,
        duration=Duration[wire.enum_name(coupon_pb2.Coupon.Duration, proto.duration, field="duration")],
        duration_periods=proto.duration_periods,
        products=frozenset(proto.products),
        plans=frozenset(proto.plans),
    )


def usage_from_proto(proto: usage_event_pb2.Usage, *, group_by: Sequence[str]) -> Usage:
    """`group_by` are the dimensions that were asked for: an answer tells only their values."""
    return Usage(
        meter=proto.meter,
        quantity=_decimal(proto.quantity, field="quantity"),
        event_count=proto.event_count,
        digest=proto.digest,
        through_position=proto.through_position,
        traceparents=tuple(proto.traceparents),
        # A release of metering that knows of no versions has only first ones.
        meter_versions={proto.meter: proto.meter_version or 1},
        values=tuple(_decimal(value, field="values") for value in proto.values),
        groups=tuple(
            UsageGroup(
                dimensions=dict(zip(group_by, group.values, strict=True)),
                quantity=_decimal(group.quantity, field="groups.quantity"),
            )
            for group in proto.groups
        ),
    )


def seller_from_proto(proto: seller_pb2.Seller) -> Seller:
    return Seller(
        party=Party(
            id=proto.id,
            display_name=proto.display_name,
            address=_address(proto.address) if proto.HasField("address") else None,
            tax_id=proto.tax_id,
            email=proto.email,
            payment_instructions=proto.payment_instructions,
        ),
        invoice_number_prefix=proto.invoice_number_prefix,
        is_numbered_yearly=proto.invoice_numbering == seller_pb2.Seller.YEARLY,
    )


def customer_from_proto(proto: customer_pb2.Customer) -> Customer:
    profile = proto.billing_profile
    method = wire.enum_name(
        customer_pb2.BillingProfile.CollectionMethod, profile.collection_method, field="collection_method"
    )
    return Customer(
        party=Party(
            id=proto.id,
            display_name=proto.contact.display_name,
            address=_address(proto.contact.address) if proto.contact.HasField("address") else None,
            email=proto.contact.email,
        ),
        external_id=proto.external_id,
        currency=profile.currency,
        time_zone=profile.time_zone,
        net_terms_days=profile.net_terms_days,
        collection_method=CollectionMethod[method],
        names=_names(proto),
        payer_id=proto.payer_id,
        purchase_order=profile.purchase_order,
        custom_fields=dict(proto.custom_fields),
        tax_exemptions=tuple(_exemption(each) for each in proto.tax_exemptions),
    )


def _exemption(proto: customer_pb2.TaxExemption) -> TaxExemption:
    return TaxExemption(
        country=proto.country,
        region=proto.region,
        reason_code=proto.reason_code,
        start=wire.parse_date(proto.start_date, field="start_date") if proto.HasField("start_date") else None,
        end=wire.parse_date(proto.end_date, field="end_date") if proto.HasField("end_date") else None,
    )


def _names(proto: customer_pb2.Customer) -> tuple[CustomerName, ...]:
    told = tuple(
        CustomerName(
            key=name.key,
            since=wire.parse_timestamp(name.since_time, field="since_time") if name.HasField("since_time") else None,
            until=wire.parse_timestamp(name.until_time, field="until_time") if name.HasField("until_time") else None,
        )
        for name in proto.names
    )
    # The release before knows of nothing but an external id.
    if proto.external_id and all(name.key != proto.external_id for name in told):
        return (CustomerName(key=proto.external_id), *told)
    return told


def _address(proto: postal_address_pb2.PostalAddress) -> Address:
    return Address(
        region_code=proto.region_code,
        language_code=proto.language_code,
        postal_code=proto.postal_code,
        sorting_code=proto.sorting_code,
        administrative_area=proto.administrative_area,
        locality=proto.locality,
        sublocality=proto.sublocality,
        address_lines=tuple(proto.address_lines),
        recipients=tuple(proto.recipients),
        organization=proto.organization,
    )


def _decimal(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field, digits_max=DIGITS_MAX)
