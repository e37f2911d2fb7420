"""Knows how a price is written in a document. Whether it is sound, the catalog's own rules say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from catalog.convert import UNIT_LABEL_LENGTH_MAX, price_from_proto
from catalog.document.entries import PriceEntry
from catalog.document.places import INT32_MAX, Places, interval, only_one
from catalog.domain.price import PriceId
from common.document import Value
from common.errors import InvalidArgument
from saldo.catalog.v1 import price_pb2

TIMINGS: Final = ("IN_ADVANCE", "IN_ARREARS")
ROUNDINGS: Final = ("UP", "DOWN", "HALF_UP")
TARIFFS: Final = ("per_unit", "graduated", "volume", "package")
MODELS: Final = ("flat", *TARIFFS, "percentage", "matrix", "dynamic", "capacity")
OPERATORS: Final = ("free_units", "discount_percent", "minimum_amount", "maximum_amount")

ONCE: Final = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.ONCE, count=1)

# Which product is meant is not known before the document is compared with what is stored.
_SOME_PRODUCT: Final = f"prod_{'0' * 26}"


def read_price(value: Value) -> PriceEntry:
    fields = value.fields(
        required=["code", "product", "currency"],
        optional=["every", "timing", "meter", *MODELS, "unit_conversion", *OPERATORS],
    )
    places = Places(value)
    proto = price_pb2.Price(
        code=places.note("code", fields["code"]).scalar("a code"),
        product_id=_SOME_PRODUCT,
        currency=places.note("currency", fields["currency"]).scalar("a currency"),
        billing_timing=price_pb2.Price.IN_ARREARS,
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
    )
    if "every" in fields:
        proto.billing_interval.CopyFrom(_every(places.note("billing_interval", fields["every"])))
        if proto.billing_interval.unit == ONCE.unit:
            proto.billing_timing = price_pb2.Price.IN_ADVANCE
    if "timing" in fields:
        timing = places.note("billing_timing", fields["timing"]).choice(TIMINGS)
        proto.billing_timing = price_pb2.Price.BillingTiming.Value(timing)
    if "meter" in fields:
        proto.meter = places.note("meter", fields["meter"]).scalar("the code of a meter")
    _read_model(proto, fields, value, places)
    _read_operators(proto, fields, places)
    try:
        price = price_from_proto(proto, price_id=PriceId(""), field="")
    except InvalidArgument as error:
        raise places.malformed(error) from None
    return PriceEntry(product=fields["product"].scalar("the code of a product"), price=price)


def _every(value: Value) -> price_pb2.BillingInterval:
    return ONCE if value.written == "ONCE" else interval(value)


def _read_model(proto: price_pb2.Price, fields: Mapping[str, Value], value: Value, places: Places) -> None:
    name = only_one(value, fields, MODELS)
    model = places.note(f".{name}", fields[name])
    match name:
        case "flat":
            places.number(proto.flat, "amount", model, path=".flat.amount")
        case "percentage":
            _read_percentage(proto.percentage, model, places)
        case "matrix":
            _read_matrix(proto.matrix, model, places)
        case "dynamic":
            _read_dynamic(proto.dynamic, model, places)
        case "capacity":
            _read_capacity(proto.capacity, model, places)
        case _:
            _read_tariff(proto, name, model, places, path="")


def _read_tariff(
    proto: price_pb2.Price | price_pb2.Tariff, name: str, value: Value, places: Places, *, path: str
) -> None:
    path = f"{path}.{name}"
    places.note(path, value)
    match name:
        case "per_unit":
            places.number(proto.per_unit, "unit_price", value, path=f"{path}.unit_price")
        case "graduated":
            _read_tiers(proto.graduated, value, places, path=path)
        case "volume":
            _read_tiers(proto.volume, value, places, path=path)
        case _:
            fields = value.fields(required=["size", "price"])
            for key, number in fields.items():
                places.number(proto.package, key, number, path=f"{path}.{key}")


def _read_tiers(
    proto: price_pb2.GraduatedModel | price_pb2.VolumeModel, value: Value, places: Places, *, path: str
) -> None:
    """A list of tiers; or, with what holds for all of them, `{tiers: […], flat_without_usage: true}`."""
    # A message without any field set is absent from a oneof, unless it is said to be there.
    proto.SetInParent()
    tiers = value
    if value.is_mapping:
        fields = value.fields(required=["tiers"], optional=["flat_without_usage"])
        tiers = fields["tiers"]
        proto.flat_without_usage = "flat_without_usage" in fields and fields["flat_without_usage"].boolean()
    places.note(f"{path}.tiers", tiers)
    for n, tier in enumerate(tiers.items()):
        where = f"{path}.tiers[{n}]"
        places.note(where, tier)
        fields = tier.fields(optional=["up_to", "unit_price", "flat_amount", "percent", "package_size"])
        added = proto.tiers.add()
        for key, number in fields.items():
            places.number(added, key, number, path=f"{where}.{key}")


def _read_percentage(proto: price_pb2.PercentageModel, value: Value, places: Places) -> None:
    numbers = ["fixed_fee", "free_amount", "transaction_minimum", "transaction_maximum"]
    fields = value.fields(required=["percent"], optional=[*numbers, "free_transactions"])
    for key, each in fields.items():
        if key == "free_transactions":
            proto.free_transactions = places.note(f".percentage.{key}", each).whole(0, INT32_MAX)
        else:
            places.number(proto, key, each, path=f".percentage.{key}")


def _read_matrix(proto: price_pb2.MatrixModel, value: Value, places: Places) -> None:
    fields = value.fields(required=["dimensions", "cells", "default"])
    places.note(".matrix.dimensions", fields["dimensions"])
    for n, dimension in enumerate(fields["dimensions"].items()):
        proto.dimensions.append(places.note(f".matrix.dimensions[{n}]", dimension).scalar("the name of a dimension"))
    places.note(".matrix.cells", fields["cells"])
    for n, each in enumerate(fields["cells"].items()):
        where = f".matrix.cells[{n}]"
        cell = places.note(where, each).fields(required=["values"], optional=TARIFFS)
        added = proto.cells.add()
        places.note(f"{where}.values", cell["values"])
        for m, text in enumerate(cell["values"].items()):
            added.values.append(places.note(f"{where}.values[{m}]", text).scalar("a value of the dimension"))
        name = only_one(each, cell, TARIFFS)
        _read_tariff(added.tariff, name, cell[name], places, path=f"{where}.tariff")
    default = places.note(".matrix.default_tariff", fields["default"])
    tariffs = default.fields(optional=TARIFFS)
    name = only_one(default, tariffs, TARIFFS)
    _read_tariff(proto.default_tariff, name, tariffs[name], places, path=".matrix.default_tariff")


def _read_dynamic(proto: price_pb2.DynamicModel, value: Value, places: Places) -> None:
    """`true`, or `{multiplier: 1.2}`."""
    proto.SetInParent()
    if not value.is_mapping:
        if not value.boolean():
            raise value.fault("must be true or {multiplier: …}")
        return
    for key, number in value.fields(required=["multiplier"]).items():
        places.number(proto, key, number, path=f".dynamic.{key}")


def _read_capacity(proto: price_pb2.CapacityModel, value: Value, places: Places) -> None:
    proto.SetInParent()
    places.note(".capacity.tiers", value)
    for n, each in enumerate(value.items()):
        where = f".capacity.tiers[{n}]"
        fields = places.note(where, each).fields(required=["amount"], optional=["limits"])
        tier = proto.tiers.add()
        places.number(tier, "amount", fields["amount"], path=f"{where}.amount")
        if "limits" in fields:
            places.note(f"{where}.limits", fields["limits"])
            for m, (meter, up_to) in enumerate(fields["limits"].entries()):
                limit = tier.limits.add(meter=places.note(f"{where}.limits[{m}].meter", meter).written)
                places.number(limit, "up_to", up_to, path=f"{where}.limits[{m}].up_to")


def _read_operators(proto: price_pb2.Price, fields: Mapping[str, Value], places: Places) -> None:
    for key in OPERATORS:
        if key in fields:
            places.number(proto, key, fields[key], path=f".{key}")
    if "unit_conversion" not in fields:
        return
    conversion = proto.unit_conversion
    conversion.SetInParent()
    value = places.note(".unit_conversion", fields["unit_conversion"])
    parts = value.fields(optional=["divide_by", "multiply_by", "rounding", "decimals", "unit_label"])
    for key in ("divide_by", "multiply_by"):
        if key in parts:
            places.number(conversion, key, parts[key], path=f".unit_conversion.{key}")
    if "rounding" in parts:
        rounding = places.note(".unit_conversion.rounding", parts["rounding"]).choice(ROUNDINGS)
        conversion.rounding = price_pb2.UnitConversion.Rounding.Value(rounding)
    if "decimals" in parts:
        decimals = places.note(".unit_conversion.decimals", parts["decimals"])
        conversion.decimals = decimals.whole(-INT32_MAX, INT32_MAX)
    if "unit_label" in parts:
        label = places.note(".unit_conversion.unit_label", parts["unit_label"])
        conversion.unit_label = label.text(max_length=UNIT_LABEL_LENGTH_MAX)
