"""Knows how what the catalog holds looks on the wire, and what callers may ask for."""

from __future__ import annotations

from decimal import Decimal

from google.type import decimal_pb2, postal_address_pb2

from catalog.domain.plan import Plan, PlanId
from catalog.domain.price import (
    BillingTiming,
    Flat,
    Graduated,
    Model,
    PerUnit,
    Price,
    PriceId,
    Tier,
    check_amount,
    check_tiers,
    check_timing,
)
from catalog.domain.product import Product, ProductId, check_code
from catalog.domain.seller import Seller
from common import ids, wire
from common.errors import InvalidArgument
from common.money import minor_units
from common.period import Interval, Unit
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2, seller_pb2

NAME_LENGTH_MAX = 200
TEXT_LENGTH_MAX = 1000
UNIT_LABEL_LENGTH_MAX = 32
INTERVAL_COUNT_MAX = 366


def seller_to_proto(seller: Seller) -> seller_pb2.Seller:
    return seller_pb2.Seller(
        id=seller.id,
        mode=seller_pb2.Seller.Mode.Value(seller.mode.name),
        display_name=seller.display_name,
        address=postal_address_pb2.PostalAddress.FromString(seller.address),
        tax_id=seller.tax_id,
        email=seller.email,
        payment_instructions=seller.payment_instructions,
        invoice_number_prefix=seller.invoice_number_prefix,
        revision=seller.revision,
        create_time=wire.timestamp(seller.create_time),
        update_time=wire.timestamp(seller.update_time),
    )


def product_to_proto(product: Product) -> product_pb2.Product:
    return product_pb2.Product(
        id=product.id,
        code=product.code,
        display_name=product.display_name,
        description=product.description,
        unit_label=product.unit_label,
        revision=product.revision,
        create_time=wire.timestamp(product.create_time),
    )


def plan_to_proto(plan: Plan) -> plan_pb2.Plan:
    return plan_pb2.Plan(
        id=plan.id,
        code=plan.code,
        display_name=plan.display_name,
        state=plan_pb2.Plan.State.Value(plan.state.name),
        prices=[price_to_proto(price, plan.id) for price in plan.prices],
        revision=plan.revision,
        create_time=wire.timestamp(plan.create_time),
        publish_time=wire.timestamp(plan.publish_time) if plan.publish_time else None,
    )


def price_to_proto(price: Price, plan_id: PlanId) -> price_pb2.Price:
    proto = price_pb2.Price(
        id=price.id,
        code=price.code,
        plan_id=plan_id,
        product_id=price.product_id,
        currency=price.currency,
        billing_interval=price_pb2.BillingInterval(
            unit=price_pb2.BillingInterval.Unit.Value(price.interval.unit.name), count=price.interval.count
        ),
        billing_timing=price_pb2.Price.BillingTiming.Value(price.timing.name),
        meter=price.meter,
    )
    match price.model:
        case Flat(amount=amount):
            proto.flat.amount.CopyFrom(wire.decimal(amount))
        case PerUnit(unit_price=unit_price):
            proto.per_unit.unit_price.CopyFrom(wire.decimal(unit_price))
        case Graduated(tiers=tiers):
            proto.graduated.tiers.extend(_tier_to_proto(tier) for tier in tiers)
    return proto


def _tier_to_proto(tier: Tier) -> price_pb2.Tier:
    return price_pb2.Tier(
        up_to=None if tier.up_to is None else wire.decimal(tier.up_to),
        unit_price=wire.decimal(tier.unit_price),
        flat_amount=wire.decimal(tier.flat_amount),
    )


def priced_product_to_proto(plan_id: PlanId, price: Price, product: Product) -> pb.PricedProduct:
    return pb.PricedProduct(price=price_to_proto(price, plan_id), product=product_to_proto(product))


def price_from_proto(proto: price_pb2.Price, *, price_id: PriceId, field: str) -> Price:
    """A sound price, or what is wrong with it by field."""
    meter = check_code(proto.meter, field=f"{field}.meter") if proto.meter else ""
    timing_name = wire.enum_name(price_pb2.Price.BillingTiming, proto.billing_timing, field=f"{field}.billing_timing")
    timing = BillingTiming[timing_name]
    check_timing(timing, meter=meter, field=f"{field}.billing_timing")
    minor_units(proto.currency, field=f"{field}.currency")
    return Price(
        id=price_id,
        code=check_code(proto.code, field=f"{field}.code"),
        product_id=ProductId(ids.check(proto.product_id, "prod", field=f"{field}.product_id")),
        currency=proto.currency,
        interval=_interval(proto.billing_interval, field=f"{field}.billing_interval"),
        timing=timing,
        meter=meter,
        model=_model(proto, field=field),
    )


def _interval(proto: price_pb2.BillingInterval, *, field: str) -> Interval:
    unit = Unit[wire.enum_name(price_pb2.BillingInterval.Unit, proto.unit, field=f"{field}.unit")]
    if not 1 <= proto.count <= INTERVAL_COUNT_MAX:
        raise InvalidArgument(f"must be 1 to {INTERVAL_COUNT_MAX}", field=f"{field}.count")
    try:
        return Interval(unit, proto.count)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field=f"{field}.count") from None


def _model(proto: price_pb2.Price, *, field: str) -> Model:
    match proto.WhichOneof("model"):
        case "flat":
            return Flat(amount=_amount(proto.flat.amount, field=f"{field}.flat.amount"))
        case "per_unit":
            return PerUnit(unit_price=_amount(proto.per_unit.unit_price, field=f"{field}.per_unit.unit_price"))
        case "graduated":
            where = f"{field}.graduated.tiers"
            tiers = [_tier(tier, field=f"{where}[{n}]") for n, tier in enumerate(proto.graduated.tiers)]
            return Graduated(tiers=check_tiers(tuple(tiers), field=where))
        case _:
            raise InvalidArgument("must say how a quantity becomes an amount", field=f"{field}.model")


def _tier(proto: price_pb2.Tier, *, field: str) -> Tier:
    up_to = wire.parse_decimal(proto.up_to, field=f"{field}.up_to", minimum=0) if proto.HasField("up_to") else None
    flat = _amount(proto.flat_amount, field=f"{field}.flat_amount") if proto.HasField("flat_amount") else Decimal(0)
    return Tier(up_to=up_to, unit_price=_amount(proto.unit_price, field=f"{field}.unit_price"), flat_amount=flat)


def _amount(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return check_amount(wire.parse_decimal(proto, field=field, minimum=0), field=field)


def address_bytes(proto: postal_address_pb2.PostalAddress, *, field: str = "address") -> bytes:
    """An address as it is stored and printed; each part is checked as text."""
    if len(proto.region_code) != 2 or not proto.region_code.isascii() or not proto.region_code.isupper():
        raise InvalidArgument("must be a two-letter country code (ISO 3166)", field=f"{field}.region_code")
    for part in ("postal_code", "locality", "administrative_area", "organization", "sorting_code", "sublocality"):
        wire.text(getattr(proto, part), field=f"{field}.{part}", max_length=NAME_LENGTH_MAX, required=False)
    for part in ("address_lines", "recipients"):
        lines = getattr(proto, part)
        if len(lines) > 10:
            raise InvalidArgument("must have at most 10 lines", field=f"{field}.{part}")
        for n, line in enumerate(lines):
            wire.text(line, field=f"{field}.{part}[{n}]", max_length=NAME_LENGTH_MAX)
    return proto.SerializeToString(deterministic=True)
