"""Every rule of a sound price, by an example that breaks it: where it is told, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from catalog.convert.price import checked_price, price_from_proto, price_to_proto
from catalog.domain.plan import PlanId
from catalog.domain.price import PriceId
from common import ids
from common.errors import InvalidArgument
from common.money import UnknownCurrency
from saldo.catalog.v1 import price_pb2
from tests.support.prices import sound_prices

PRODUCT = ids.mint("prod", datetime(2026, 1, 1, tzinfo=UTC))


def number(text: str) -> dict[str, str]:
    return {"value": text}


def tier(**fields: str) -> dict[str, dict[str, str]]:
    return {name: number(text) for name, text in fields.items()}


def volume(*tiers: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    return {"volume": {"tiers": tiers}}


def percentage(**fields: Any) -> dict[str, Any]:  # Any: JSON
    return {"percentage": {"percent": number("1"), **fields}}


def matrix(*cells: dict[str, Any], **fields: Any) -> dict[str, Any]:  # Any: JSON
    return {"matrix": {"dimensions": ["region"], "cells": cells, "default_tariff": UNITS, **fields}}


def cell(*values: str, **tariff: Any) -> dict[str, Any]:  # Any: JSON
    return {"values": values, "tariff": tariff or UNITS}


def size(amount: str = "1", **limits: str) -> dict[str, Any]:  # Any: JSON
    return {
        "limits": [{"meter": meter, "up_to": number(up_to)} for meter, up_to in limits.items()],
        "amount": number(amount),
    }


def capacity(*tiers: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    return {"capacity": {"tiers": tiers}}


def units(**around: Any) -> dict[str, Any]:  # Any: JSON
    return {**UNITS, **around}


UNITS = {"per_unit": {"unit_price": number("1")}}
MANY_TIERS: dict[str, Any] = {  # Any: JSON
    "graduated": {
        "tiers": [tier(up_to=str(n), unit_price="1") for n in range(1, 100)] + [tier(unit_price="1")],
    }
}
"""As many as one tariff may have."""
OPEN = tier(unit_price="1")

BROKEN: list[tuple[dict[str, Any], str, str]] = [  # Any: JSON
    # Numbers, wherever they stand.
    ({"flat": {}}, "flat.amount", "is required"),
    ({"flat": {"amount": number("")}}, "flat.amount", "must be a decimal number, such as 12.50"),
    ({"flat": {"amount": number("NaN")}}, "flat.amount", "must be a decimal number, such as 12.50"),
    ({"flat": {"amount": number("١٢")}}, "flat.amount", "must be a decimal number, such as 12.50"),
    ({"flat": {"amount": number("-0.01")}}, "flat.amount", "must not be negative"),
    ({"flat": {"amount": number("1000000000000000.1")}}, "flat.amount", "must be at most 1000000000000000"),
    ({"flat": {"amount": number("1e999")}}, "flat.amount", "must be at most 1000000000000000"),
    ({"flat": {"amount": number("1e-19")}}, "flat.amount", "must have at most 18 decimals"),
    ({"per_unit": {"unit_price": number("1e-19")}}, "per_unit.unit_price", "must have at most 18 decimals"),
    ({"dynamic": {"multiplier": number("1e-19")}}, "dynamic.multiplier", "must have at most 18 decimals"),
    (units(minimum_amount=number("1e-13")), "minimum_amount", "must have at most 12 decimals"),
    (units(minimum_amount=number("1e-999")), "minimum_amount", "must have at most 12 decimals"),
    # Tiers.
    (volume(), "volume.tiers", "must have 1 to 100 tiers"),
    (
        volume(*(tier(up_to=str(n), unit_price="1") for n in range(1, 101)), OPEN),
        "volume.tiers",
        "must have 1 to 100 tiers",
    ),
    (volume(OPEN, OPEN), "volume.tiers[0].up_to", "must have an end: only the last tier is open"),
    (volume(tier(up_to="5", unit_price="1")), "volume.tiers[0].up_to", "must be absent: the last tier has no end"),
    (
        volume(tier(up_to="0", unit_price="1"), OPEN),
        "volume.tiers[0].up_to",
        "must be more than 0, where the tier before it ends",
    ),
    (
        volume(tier(up_to="10", unit_price="1"), tier(up_to="10.0", unit_price="1"), OPEN),
        "volume.tiers[1].up_to",
        "must be more than 10, where the tier before it ends",
    ),
    (
        volume(tier(up_to="1e1", unit_price="1"), tier(up_to="9", unit_price="1"), OPEN),
        "volume.tiers[1].up_to",
        "must be more than 10, where the tier before it ends",
    ),
    (volume({}), "volume.tiers[0]", "must say a unit_price, a percent or a flat_amount"),
    (volume(tier(package_size="10")), "volume.tiers[0]", "must say a unit_price, a percent or a flat_amount"),
    (volume(tier(unit_price="1", package_size="0")), "volume.tiers[0].package_size", "must be more than 0"),
    (volume(tier(flat_amount="1e-13")), "volume.tiers[0].flat_amount", "must have at most 12 decimals"),
    (volume(tier(percent="100.1")), "volume.tiers[0].percent", "must be at most 100"),
    (
        volume(tier(percent="1", unit_price="1")),
        "volume.tiers[0].percent",
        "must be absent beside a unit_price or a package_size",
    ),
    (
        volume(tier(percent="1", package_size="1")),
        "volume.tiers[0].percent",
        "must be absent beside a unit_price or a package_size",
    ),
    (
        {"graduated": {"tiers": [tier(up_to="5", percent="1"), OPEN]}},
        "graduated.tiers[0].percent",
        "must be absent: other tiers have a unit_price or a package_size",
    ),
    # The other models.
    ({}, "model", "must say how a quantity becomes an amount"),
    ({"package": {"size": number("0"), "price": number("1")}}, "package.size", "must be more than 0"),
    ({"package": {"size": number("1e-13"), "price": number("1")}}, "package.size", "must have at most 12 decimals"),
    ({"package": {"size": number("1")}}, "package.price", "is required"),
    ({"percentage": {}}, "percentage.percent", "is required"),
    (percentage(percent=number("101")), "percentage.percent", "must be at most 100"),
    (percentage(fixed_fee=number("-1")), "percentage.fixed_fee", "must not be negative"),
    (percentage(free_transactions=-1), "percentage.free_transactions", "must be 0 to 1000000"),
    (percentage(free_transactions=1_000_001), "percentage.free_transactions", "must be 0 to 1000000"),
    (percentage(free_amount=number("1e-13")), "percentage.free_amount", "must have at most 12 decimals"),
    (
        percentage(transaction_minimum=number("2"), transaction_maximum=number("1.99")),
        "percentage.transaction_maximum",
        "must be at least the transaction_minimum, 2",
    ),
    (matrix(), "matrix.cells", "must have 1 to 1000 cells"),
    (matrix(*(cell(str(n)) for n in range(1001))), "matrix.cells", "must have 1 to 1000 cells"),
    (matrix(cell("eu"), dimensions=[]), "matrix.dimensions", "must have 1 to 2 dimensions"),
    (matrix(cell("a", "b", "c"), dimensions=["x", "y", "z"]), "matrix.dimensions", "must have 1 to 2 dimensions"),
    (matrix(cell("eu"), dimensions=["Region"]), "matrix.dimensions[0]", "must be 1 to 64 of a-z, 0-9, _ and -"),
    (matrix(cell("a", "b"), dimensions=["x", "x"]), "matrix.dimensions[1]", "must not be named twice"),
    (matrix(cell("eu"), cell("eu", "xl")), "matrix.cells[1].values", "must have 1, one for each dimension"),
    (matrix(cell("eu"), cell("us"), cell("eu")), "matrix.cells[2].values", "must not be those of a cell before it"),
    (matrix(*(cell(f"r{n}", **MANY_TIERS) for n in range(20))), "matrix.cells", "must have at most 2000 tiers in all"),
    (matrix(cell("x" * 129)), "matrix.cells[0].values[0]", "must have at most 128 characters"),
    (matrix(cell("e\x00u")), "matrix.cells[0].values[0]", "must not contain control characters"),
    (matrix({"values": ["eu"]}), "matrix.cells[0].tariff", "must say how a quantity becomes an amount"),
    (
        matrix(cell("eu"), default_tariff={}),
        "matrix.default_tariff",
        "must say how a quantity becomes an amount",
    ),
    (
        matrix(*(cell(str(n)) for n in range(3)), cell("x", **volume(tier(up_to="5", unit_price="1"), OPEN, OPEN))),
        "matrix.cells[3].tariff.volume.tiers[1].up_to",
        "must have an end: only the last tier is open",
    ),
    (
        matrix(cell("eu"), default_tariff={"package": {"size": number("0"), "price": number("1")}}),
        "matrix.default_tariff.package.size",
        "must be more than 0",
    ),
    (capacity(), "capacity.tiers", "must have 1 to 100 tiers"),
    (capacity(size(calls="1")), "capacity.tiers[0].limits", "must be absent: the last tier has no limits"),
    (capacity(size(), size()), "capacity.tiers[0].limits", "must have 1 to 10 limits: only the last tier has none"),
    (
        capacity(size(**{f"m{n}": "1" for n in range(11)}), size()),
        "capacity.tiers[0].limits",
        "must have 1 to 10 limits: only the last tier has none",
    ),
    (
        capacity(size(calls="1", storage="1"), size(calls="2"), size()),
        "capacity.tiers[1].limits",
        "must limit the same meters in every tier: calls, storage",
    ),
    (
        capacity(size(calls="2", storage="1"), size(calls="3", storage="0.9"), size()),
        "capacity.tiers[1].limits[1].up_to",
        "must be at least 1, as in the tier before it",
    ),
    (
        capacity(size(calls="1", storage="1"), size(storage="1.0", calls="1"), size()),
        "capacity.tiers[1].limits",
        "must have a limit that is higher than in the tier before it",
    ),
    (
        {"capacity": {"tiers": [{**size(calls="1"), "limits": size(calls="1")["limits"] * 2}, size()]}},
        "capacity.tiers[0].limits[1].meter",
        "must not be limited twice",
    ),
    (
        capacity(size(**{"Calls!": "1"}), size()),
        "capacity.tiers[0].limits[0].meter",
        "must be 1 to 64 of a-z, 0-9, _ and -",
    ),
    (capacity(size(calls="1e-13"), size()), "capacity.tiers[0].limits[0].up_to", "must have at most 12 decimals"),
    (capacity({"limits": []}), "capacity.tiers[0].amount", "is required"),
    (
        {**capacity(size(storage="1"), size()), "meter": "calls"},
        "meter",
        "must be among the meters of capacity.tiers[0].limits",
    ),
    # Operators.
    (
        units(unit_conversion={"divide_by": number("2"), "multiply_by": number("2")}),
        "unit_conversion.multiply_by",
        "must be absent beside a divide_by",
    ),
    (units(unit_conversion={}), "unit_conversion", "must divide, multiply or round"),
    (units(unit_conversion={"divide_by": number("0")}), "unit_conversion.divide_by", "must be more than 0"),
    (units(unit_conversion={"multiply_by": number("0")}), "unit_conversion.multiply_by", "must be more than 0"),
    (
        units(unit_conversion={"divide_by": number("3600")}),
        "unit_conversion.divide_by",
        "must have no prime factors but 2 and 5 without a rounding: the quotient would have no last decimal",
    ),
    (
        units(unit_conversion={"multiply_by": number("2"), "decimals": 2}),
        "unit_conversion.decimals",
        "must be absent without a rounding",
    ),
    (
        units(unit_conversion={"divide_by": number("1000"), "decimals": -1}),
        "unit_conversion.decimals",
        "must be absent without a rounding",
    ),
    (units(unit_conversion={"rounding": "UP", "decimals": 13}), "unit_conversion.decimals", "must be -12 to 12"),
    (units(unit_conversion={"rounding": "UP", "decimals": -13}), "unit_conversion.decimals", "must be -12 to 12"),
    (units(unit_conversion={"rounding": 4}), "unit_conversion.rounding", "must be one of UP, DOWN, HALF_UP"),
    (units(free_units=number("-1")), "free_units", "must not be negative"),
    (units(discount_percent=number("0")), "discount_percent", "must be more than 0"),
    (units(discount_percent=number("100.1")), "discount_percent", "must be at most 100"),
    (
        units(minimum_amount=number("10"), maximum_amount=number("9.99")),
        "maximum_amount",
        "must be at least the minimum_amount, 10",
    ),
    *(
        ({**model, "free_units": number("1")}, "free_units", f"must be absent: {name} does not price one quantity")
        for name, model in {
            "FLAT": {"flat": {"amount": number("1")}},
            "PERCENTAGE": percentage(),
            "DYNAMIC": {"dynamic": {}},
            "CAPACITY": capacity(size()),
            "MATRIX": matrix(cell("eu")),
        }.items()
    ),
    *(
        (
            {**model, "unit_conversion": {"rounding": "UP"}},
            "unit_conversion",
            f"must be absent: {name} does not price one quantity",
        )
        for name, model in {
            "FLAT": {"flat": {"amount": number("1")}},
            "PERCENTAGE": percentage(),
            "DYNAMIC": {"dynamic": {}},
            "CAPACITY": capacity(size()),
        }.items()
    ),
    # When it is billed, and for what.
    (units(meter="API calls"), "meter", "must be 1 to 64 of a-z, 0-9, _ and -"),
    (
        units(meter="calls", billing_timing="IN_ADVANCE"),
        "billing_timing",
        "must be IN_ARREARS for a metered price",
    ),
    ({"dynamic": {}, "billing_timing": "IN_ADVANCE"}, "billing_timing", "must be IN_ARREARS for a metered price"),
    (units(billing_timing=7), "billing_timing", "must be one of IN_ADVANCE, IN_ARREARS"),
    (units(billing_interval={"unit": "QUARTER", "count": 41}), "billing_interval.count", "must be 1 to 120 months"),
    (units(billing_interval={"unit": "YEAR", "count": 11}), "billing_interval.count", "must be 1 to 10 years"),
    (units(billing_interval={"unit": "DAY", "count": 367}), "billing_interval.count", "must be 1 to 366"),
    (units(billing_interval={"unit": "ONCE", "count": 2}), "billing_interval.count", "must be 1 beside ONCE"),
    (
        units(billing_interval={"unit": "ONCE", "count": 1}, billing_timing="IN_ARREARS"),
        "billing_timing",
        "must be IN_ADVANCE for a price that is billed once",
    ),
    (
        units(billing_interval={"unit": "ONCE", "count": 1}, meter="calls"),
        "billing_interval.unit",
        "must not be ONCE for a metered price",
    ),
    (units(code="Seat"), "code", "must be 1 to 64 of a-z, 0-9, _ and -"),
    (units(product_id="prod_1"), "product_id", "must be an id like prod_01h455vb4pex5vsknk084sn02q"),
]


@pytest.mark.parametrize(
    ("definition", "field", "message"), BROKEN, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_broken_rule_is_told_where_and_how(definition: dict[str, Any], field: str, message: str) -> None:  # Any: JSON
    """Whoever wrote the price repairs it without asking anybody."""
    price = ParseDict({"currency": "EUR", **definition}, price_pb2.Price())
    with pytest.raises(InvalidArgument) as refusal:
        checked_price(price, field="price")
    assert [(each.field, each.description) for each in refusal.value.violations] == [(f"price.{field}", message)]


@pytest.mark.parametrize("currency", ["", "eur", "XXX", "XAU", "EURO", "ЕUR"])
def test_a_currency_is_one_of_iso_4217_with_minor_units(currency: str) -> None:
    """Amounts are rounded to them."""
    price = ParseDict({**UNITS, "currency": currency}, price_pb2.Price())
    with pytest.raises(UnknownCurrency) as refusal:
        checked_price(price, field="price")
    assert refusal.value.field == "price.currency"


@pytest.mark.parametrize("price", sound_prices(), ids=lambda price: price.WhichOneof("model"))
def test_sound_prices_are_accepted_wherever_they_are_sent(price: price_pb2.Price) -> None:
    """Every model and operator, in a plan and to be checked; nothing that was said is left out of the answer."""
    price.product_id = PRODUCT
    assert checked_price(price, field="price") == price
    kept = price_to_proto(price_from_proto(price, price_id=PriceId(""), field="price"), PlanId(""))
    assert kept == price


@pytest.mark.parametrize("model", ["percentage", "matrix", "dynamic", "capacity"])
def test_what_prices_usage_needs_a_meter_in_a_plan(model: str) -> None:
    """There would be nothing to count; to look at amounts, none is needed."""
    price = next(each for each in sound_prices() if each.WhichOneof("model") == model)
    price.product_id = PRODUCT
    price.meter = ""
    with pytest.raises(InvalidArgument) as refusal:
        price_from_proto(price, price_id=PriceId(""), field="prices[4]")
    assert [(each.field, each.description) for each in refusal.value.violations] == [
        ("prices[4].meter", f"is required: {model.upper()} prices usage")
    ]
    assert checked_price(price, field="price").meter == ""


@pytest.mark.parametrize("name", ["code", "product_id", "billing_interval", "billing_timing"])
def test_a_plan_needs_what_a_check_does_not(name: str) -> None:
    """What does not matter for an amount may be missing in a check, and is not made up in the answer."""
    price = sound_prices()[0]
    price.product_id = PRODUCT
    price.ClearField(name)  # type: ignore[arg-type] # typed for literals only
    with pytest.raises(InvalidArgument) as refusal:
        price_from_proto(price, price_id=PriceId(""), field="price")
    assert refusal.value.field.startswith(f"price.{name}")
    assert name not in {field.name for field, _ in checked_price(price, field="price").ListFields()}


def test_what_is_billed_once_may_leave_out_when() -> None:
    """There is only one time at which it can be."""
    price = ParseDict(units(currency="EUR", billing_interval={"unit": "ONCE", "count": 1}), price_pb2.Price())
    assert checked_price(price, field="price") == price


def test_a_part_of_an_interval_is_not_made_up() -> None:
    """Who says every month, but not how many, has not left the interval out."""
    price = ParseDict(units(currency="EUR", billing_interval={"unit": "MONTH"}), price_pb2.Price())
    with pytest.raises(InvalidArgument) as refusal:
        checked_price(price, field="price")
    assert refusal.value.field == "price.billing_interval.count"
