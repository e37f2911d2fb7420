"""Knows how the operators around a model look on the wire."""

from __future__ import annotations

from catalog.convert.limits import UNIT_LABEL_LENGTH_MAX
from catalog.convert.number import number_to_proto, optional_number
from catalog.domain.operators import Operators, Rounding, UnitConversion
from common import wire
from saldo.catalog.v1 import price_pb2


def operators_to_proto(operators: Operators, into: price_pb2.Price) -> None:
    around = price_pb2.Price(
        free_units=number_to_proto(operators.free_units),
        discount_percent=number_to_proto(operators.discount_percent),
        minimum_amount=number_to_proto(operators.minimum_amount),
        maximum_amount=number_to_proto(operators.maximum_amount),
    )
    if operators.unit_conversion is not None:
        around.unit_conversion.CopyFrom(_conversion_to_proto(operators.unit_conversion))
    into.MergeFrom(around)


def operators_from_proto(proto: price_pb2.Price, *, field: str) -> Operators:
    conversion = None
    if proto.HasField("unit_conversion"):
        conversion = _conversion(proto.unit_conversion, field=f"{field}.unit_conversion")
    return Operators(
        unit_conversion=conversion,
        free_units=optional_number(proto, "free_units", field=field),
        discount_percent=optional_number(proto, "discount_percent", field=field),
        minimum_amount=optional_number(proto, "minimum_amount", field=field),
        maximum_amount=optional_number(proto, "maximum_amount", field=field),
    )


def _conversion_to_proto(conversion: UnitConversion) -> price_pb2.UnitConversion:
    rounding = conversion.rounding.name if conversion.rounding else "ROUNDING_UNSPECIFIED"
    return price_pb2.UnitConversion(
        divide_by=number_to_proto(conversion.divide_by),
        multiply_by=number_to_proto(conversion.multiply_by),
        rounding=price_pb2.UnitConversion.Rounding.Value(rounding),
        decimals=conversion.decimals,
        unit_label=conversion.unit_label,
    )


def _conversion(proto: price_pb2.UnitConversion, *, field: str) -> UnitConversion:
    rounding = None
    if proto.rounding:
        rounding = Rounding[
            wire.enum_name(price_pb2.UnitConversion.Rounding, proto.rounding, field=f"{field}.rounding")
        ]
    return UnitConversion(
        divide_by=optional_number(proto, "divide_by", field=field),
        multiply_by=optional_number(proto, "multiply_by", field=field),
        rounding=rounding,
        decimals=proto.decimals,
        unit_label=wire.text(
            proto.unit_label, field=f"{field}.unit_label", max_length=UNIT_LABEL_LENGTH_MAX, required=False
        ),
    )
