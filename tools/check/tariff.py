"""Knows how the catalog stores a price, and reads it into a tariff."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tools.check.rater import (
    NOTHING,
    Capacity,
    Conversion,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Package,
    Percentage,
    PerUnit,
    Simple,
    Size,
    Step,
    Tariff,
    Volume,
)
from tools.check.records import Records

Json = Mapping[str, Any]  # Any: JSON as the catalog stores it


def tariffs(records: Records) -> Mapping[str, tuple[str, Tariff]]:
    """The currency and the tariff of every price, negotiated or not."""
    return records.once("tariffs", lambda: _tariffs(records))


def _tariffs(records: Records) -> dict[str, tuple[str, Tariff]]:
    return {
        row["id"]: (
            row["currency"],
            tariff_of(
                json.loads(row["model"]),
                # Databases that are older than operators have no such column.
                json.loads(row.get("operators") or "{}"),
                metered=bool(row["meter"]),
                in_advance=row["timing"] == "IN_ADVANCE",
                meter=row["meter"],
            ),
        )
        for row in records.rows("catalog", "prices")
    }


def tariff_of(model: Json, operators: Json, *, metered: bool, in_advance: bool, meter: str = "") -> Tariff:
    """Of the columns of a price. Fails with ValueError or KeyError for what cannot be rated."""
    return Tariff(
        _model(model),
        conversion=_conversion(operators.get("unit_conversion")),
        free_units=_number(operators, "free_units"),
        discount_percent=_number(operators, "discount_percent"),
        minimum=_number(operators, "minimum_amount"),
        maximum=_optional(operators, "maximum_amount"),
        metered=metered,
        in_advance=in_advance,
        meter=meter,
    )


def _model(stored: Json) -> Model:
    match stored["model"]:
        case "FLAT":
            return Flat(Fraction(stored["amount"]))
        case "PERCENTAGE":
            return Percentage(
                percent=Fraction(stored["percent"]),
                fixed_fee=_number(stored, "fixed_fee"),
                free_transactions=stored.get("free_transactions", 0),
                free_amount=_optional(stored, "free_amount"),
                transaction_minimum=_number(stored, "transaction_minimum"),
                transaction_maximum=_optional(stored, "transaction_maximum"),
            )
        case "MATRIX":
            return Matrix(
                dimensions=stored["dimensions"],
                cells={tuple(cell["values"]): _simple(cell["tariff"]) for cell in stored["cells"]},
                default=_simple(stored["default_tariff"]),
            )
        case "DYNAMIC":
            return Dynamic(Fraction(stored.get("multiplier", 1)))
        case "CAPACITY":
            return Capacity([_size(tier) for tier in stored["tiers"]])
    return _simple(stored)


def _simple(stored: Json) -> Simple:
    match stored["model"]:
        case "PER_UNIT":
            return PerUnit(Fraction(stored["unit_price"]))
        case "GRADUATED":
            return Graduated([_step(tier) for tier in stored["tiers"]], stored.get("flat_without_usage", False))
        case "VOLUME":
            return Volume([_step(tier) for tier in stored["tiers"]], stored.get("flat_without_usage", False))
        case "PACKAGE":
            return Package(size=Fraction(stored["size"]), price=Fraction(stored["price"]))
    raise ValueError(f"the model {stored['model']}")


def _step(tier: Json) -> Step:
    return Step(
        up_to=_optional(tier, "up_to"),
        unit_price=_number(tier, "unit_price"),
        flat_amount=_number(tier, "flat_amount"),
        percent=_optional(tier, "percent"),
        package_size=_optional(tier, "package_size"),
    )


def _size(tier: Json) -> Size:
    limits = {limit["meter"]: Fraction(limit["up_to"]) for limit in tier.get("limits", ())}
    return Size(limits, Fraction(tier["amount"]))


def _conversion(stored: Json | None) -> Conversion:
    if stored is None:
        return Conversion()
    factor = Fraction(stored["multiply_by"]) if "multiply_by" in stored else 1 / Fraction(stored.get("divide_by", 1))
    return Conversion(factor=factor, rounding=stored.get("rounding", ""), decimals=stored.get("decimals", 0))


def _number(stored: Json, name: str) -> Fraction:
    """What is not there is nothing."""
    found = _optional(stored, name)
    return NOTHING if found is None else found


def _optional(stored: Json, name: str) -> Fraction | None:
    """What is not there does not limit."""
    return None if stored.get(name) is None else Fraction(stored[name])
