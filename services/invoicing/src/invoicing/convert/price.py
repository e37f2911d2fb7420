"""Knows how the catalog's prices look on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Operators,
    Package,
    Percentage,
    PerUnit,
    Price,
    Rounding,
    Size,
    Tariff,
    Tier,
    UnitConversion,
    Volume,
)
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2 as pb

UNIT_PRICE_PLACES_MAX: Final = 18


def price_from_proto(proto: catalog.PricedProduct) -> Price:
    price = proto.price
    return Price(
        id=price.id,
        currency=price.currency,
        model=_model(price),
        product=proto.product.display_name,
        unit_label=proto.product.unit_label,
        code=price.code,
        product_id=price.product_id,
        meter=price.meter,
        is_metered=bool(price.meter),
        in_arrears=price.billing_timing == pb.Price.IN_ARREARS,
        operators=_operators(price),
        tax_code=proto.product.tax_code,
        customer_id=price.customer_id,
        product_code=proto.product.code,
    )


def _model(proto: pb.Price) -> Model:
    match proto.WhichOneof("model"):
        case "flat":
            return Flat(amount=_unit_price(proto.flat.amount, field="flat.amount"))
        case "per_unit" | "graduated" | "volume" | "package":
            return _tariff(proto)
        case "percentage":
            return _percentage(proto.percentage)
        case "matrix":
            return _matrix(proto.matrix)
        case "dynamic":
            told = proto.dynamic.HasField("multiplier")
            return Dynamic(
                multiplier=_unit_price(proto.dynamic.multiplier, field="dynamic.multiplier") if told else Decimal(1)
            )
        case "capacity":
            return Capacity(sizes=tuple(_size(tier) for tier in proto.capacity.tiers))
        case _:
            # A newer contract may know more: better not billed yet than billed wrong.
            raise InvalidArgument(f"price {proto.id} has a model that is not known here", field="model")


def _tariff(proto: pb.Price | pb.Tariff) -> Tariff:
    """A model that may also stand in a cell of a matrix."""
    match proto.WhichOneof("model"):
        case "per_unit":
            return _per_unit(proto.per_unit)
        case "graduated":
            return _graduated(proto.graduated)
        case "volume":
            return _volume(proto.volume)
        case "package":
            return _package(proto.package)
        case _:
            raise InvalidArgument("a cell has a tariff that is not known here", field="matrix")


def _per_unit(proto: pb.PerUnitModel) -> PerUnit:
    return PerUnit(unit_price=_unit_price(proto.unit_price, field="per_unit.unit_price"))


def _graduated(proto: pb.GraduatedModel) -> Graduated:
    return Graduated(tiers=_tiers(proto.tiers), flat_without_usage=proto.flat_without_usage)


def _volume(proto: pb.VolumeModel) -> Volume:
    return Volume(tiers=_tiers(proto.tiers), flat_without_usage=proto.flat_without_usage)


def _tiers(protos: Iterable[pb.Tier]) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            up_to=_optional(proto, "up_to"),
            unit_price=_unit_price(proto.unit_price, field="unit_price")
            if proto.HasField("unit_price")
            else Decimal(0),
            flat_amount=_optional(proto, "flat_amount") or Decimal(0),
            percent=_optional(proto, "percent"),
            package_size=_optional(proto, "package_size"),
        )
        for proto in protos
    )


def _package(proto: pb.PackageModel) -> Package:
    return Package(
        size=_number(proto.size, field="package.size"), price=_unit_price(proto.price, field="package.price")
    )


def _percentage(proto: pb.PercentageModel) -> Percentage:
    return Percentage(
        percent=_number(proto.percent, field="percentage.percent"),
        fixed_fee=_optional(proto, "fixed_fee") or Decimal(0),
        free_transactions=proto.free_transactions,
        free_amount=_optional(proto, "free_amount"),
        transaction_minimum=_optional(proto, "transaction_minimum") or Decimal(0),
        transaction_maximum=_optional(proto, "transaction_maximum"),
    )


def _matrix(proto: pb.MatrixModel) -> Matrix:
    return Matrix(
        dimensions=tuple(proto.dimensions),
        cells={tuple(cell.values): _tariff(cell.tariff) for cell in proto.cells},
        default=_tariff(proto.default_tariff),
    )


def _size(proto: pb.CapacityTier) -> Size:
    return Size(
        limits={limit.meter: _number(limit.up_to, field="capacity.up_to") for limit in proto.limits},
        amount=_unit_price(proto.amount, field="capacity.amount"),
    )


def _operators(proto: pb.Price) -> Operators:
    return Operators(
        unit_conversion=_conversion(proto.unit_conversion) if proto.HasField("unit_conversion") else None,
        free_units=_optional(proto, "free_units"),
        discount_percent=_optional(proto, "discount_percent"),
        minimum_amount=_optional(proto, "minimum_amount"),
        maximum_amount=_optional(proto, "maximum_amount"),
    )


def _conversion(proto: pb.UnitConversion) -> UnitConversion:
    rounding = None
    if proto.rounding:
        rounding = Rounding[
            wire.enum_name(pb.UnitConversion.Rounding, proto.rounding, field="unit_conversion.rounding")
        ]
    return UnitConversion(
        divide_by=_optional(proto, "divide_by"),
        multiply_by=_optional(proto, "multiply_by"),
        rounding=rounding,
        decimals=proto.decimals,
        unit_label=proto.unit_label,
    )


def _optional(proto: pb.Price | pb.Tier | pb.PercentageModel | pb.UnitConversion, name: str) -> Decimal | None:
    """A number that may be absent, which is not the same as 0."""
    told: decimal_pb2.Decimal = getattr(proto, name)
    return _number(told, field=name) if proto.HasField(name) else None  # type: ignore[arg-type] # one of its fields


def _number(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field)


def _unit_price(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field, places_max=UNIT_PRICE_PLACES_MAX)
