"""Knows how models and operators are stored as JSON: named as in the contract, what is absent left out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from catalog.domain.capacity import Capacity, CapacityLimit, CapacityTier
from catalog.domain.matrix import Matrix, MatrixCell
from catalog.domain.model import Dynamic, Flat, Model, Percentage
from catalog.domain.operators import Operators, Rounding, UnitConversion
from catalog.domain.tariff import Graduated, Package, PerUnit, Tariff, Volume
from catalog.domain.tier import Tier


def model_to_json(model: Model) -> dict[str, object]:
    match model:
        case Flat(amount=amount):
            return {"model": model.name, **_numbers(amount=amount)}
        case Percentage():
            return {
                "model": model.name,
                **_numbers(
                    percent=model.percent,
                    fixed_fee=model.fixed_fee,
                    free_amount=model.free_amount,
                    transaction_minimum=model.transaction_minimum,
                    transaction_maximum=model.transaction_maximum,
                ),
                **({"free_transactions": model.free_transactions} if model.free_transactions else {}),
            }
        case Matrix():
            return {
                "model": model.name,
                "dimensions": list(model.dimensions),
                "cells": [
                    {"values": list(cell.values), "tariff": _tariff_to_json(cell.tariff)} for cell in model.cells
                ],
                "default_tariff": _tariff_to_json(model.default_tariff),
            }
        case Dynamic(multiplier=multiplier):
            return {"model": model.name, **_numbers(multiplier=multiplier)}
        case Capacity(tiers=tiers):
            return {"model": model.name, "tiers": [_size_to_json(tier) for tier in tiers]}
        case _:
            return _tariff_to_json(model)


def model_from_json(stored: dict[str, Any]) -> Model:  # Any: JSON as `model_to_json` wrote it
    match stored["model"]:
        case Flat.name:
            return Flat(amount=Decimal(stored["amount"]))
        case Percentage.name:
            return Percentage(
                percent=Decimal(stored["percent"]),
                fixed_fee=_number(stored, "fixed_fee"),
                free_transactions=stored.get("free_transactions", 0),
                free_amount=_number(stored, "free_amount"),
                transaction_minimum=_number(stored, "transaction_minimum"),
                transaction_maximum=_number(stored, "transaction_maximum"),
            )
        case Matrix.name:
            return Matrix(
                dimensions=tuple(stored["dimensions"]),
                cells=tuple(
                    MatrixCell(values=tuple(cell["values"]), tariff=_tariff_from_json(cell["tariff"]))
                    for cell in stored["cells"]
                ),
                default_tariff=_tariff_from_json(stored["default_tariff"]),
            )
        case Dynamic.name:
            return Dynamic(multiplier=_number(stored, "multiplier"))
        case Capacity.name:
            return Capacity(tiers=tuple(_size_from_json(tier) for tier in stored["tiers"]))
        case _:
            return _tariff_from_json(stored)


def operators_to_json(operators: Operators) -> dict[str, object]:
    stored: dict[str, object] = {}
    if (conversion := operators.unit_conversion) is not None:
        stored["unit_conversion"] = {
            **_numbers(divide_by=conversion.divide_by, multiply_by=conversion.multiply_by),
            **({"rounding": conversion.rounding.name} if conversion.rounding else {}),
            **({"decimals": conversion.decimals} if conversion.decimals else {}),
            **({"unit_label": conversion.unit_label} if conversion.unit_label else {}),
        }
    return stored | _numbers(
        free_units=operators.free_units,
        discount_percent=operators.discount_percent,
        minimum_amount=operators.minimum_amount,
        maximum_amount=operators.maximum_amount,
    )


def operators_from_json(stored: dict[str, Any]) -> Operators:  # Any: JSON as `operators_to_json` wrote it
    conversion = stored.get("unit_conversion")
    return Operators(
        unit_conversion=None if conversion is None else _conversion_from_json(conversion),
        free_units=_number(stored, "free_units"),
        discount_percent=_number(stored, "discount_percent"),
        minimum_amount=_number(stored, "minimum_amount"),
        maximum_amount=_number(stored, "maximum_amount"),
    )


def _tariff_to_json(tariff: Tariff) -> dict[str, object]:
    match tariff:
        case PerUnit(unit_price=unit_price):
            return {"model": tariff.name, **_numbers(unit_price=unit_price)}
        case Graduated() | Volume():
            return {
                "model": tariff.name,
                "tiers": _tiers_to_json(tariff.tiers),
                **({"flat_without_usage": True} if tariff.flat_without_usage else {}),
            }
        case Package(size=size, price=price):
            return {"model": tariff.name, **_numbers(size=size, price=price)}


def _tariff_from_json(stored: dict[str, Any]) -> Tariff:  # Any: as above
    match stored["model"]:
        case PerUnit.name:
            return PerUnit(unit_price=Decimal(stored["unit_price"]))
        case Graduated.name:
            return Graduated(
                tiers=_tiers_from_json(stored["tiers"]), flat_without_usage=stored.get("flat_without_usage", False)
            )
        case Volume.name:
            return Volume(
                tiers=_tiers_from_json(stored["tiers"]), flat_without_usage=stored.get("flat_without_usage", False)
            )
        case _:
            return Package(size=Decimal(stored["size"]), price=Decimal(stored["price"]))


def _tiers_to_json(tiers: Sequence[Tier]) -> list[dict[str, str]]:
    return [
        _numbers(
            up_to=tier.up_to,
            unit_price=tier.unit_price,
            flat_amount=tier.flat_amount,
            percent=tier.percent,
            package_size=tier.package_size,
        )
        for tier in tiers
    ]


def _tiers_from_json(stored: list[dict[str, Any]]) -> tuple[Tier, ...]:  # Any: as above
    return tuple(
        Tier(
            up_to=_number(tier, "up_to"),
            unit_price=_number(tier, "unit_price"),
            flat_amount=_number(tier, "flat_amount"),
            percent=_number(tier, "percent"),
            package_size=_number(tier, "package_size"),
        )
        for tier in stored
    )


def _size_to_json(tier: CapacityTier) -> dict[str, object]:
    return {
        "limits": [{"meter": limit.meter, **_numbers(up_to=limit.up_to)} for limit in tier.limits],
        **_numbers(amount=tier.amount),
    }


def _size_from_json(stored: dict[str, Any]) -> CapacityTier:  # Any: as above
    return CapacityTier(
        limits=tuple(CapacityLimit(meter=each["meter"], up_to=Decimal(each["up_to"])) for each in stored["limits"]),
        amount=Decimal(stored["amount"]),
    )


def _conversion_from_json(stored: dict[str, Any]) -> UnitConversion:  # Any: as above
    rounding = stored.get("rounding")
    return UnitConversion(
        divide_by=_number(stored, "divide_by"),
        multiply_by=_number(stored, "multiply_by"),
        rounding=None if rounding is None else Rounding[rounding],
        decimals=stored.get("decimals", 0),
        unit_label=stored.get("unit_label", ""),
    )


def _numbers(**numbers: Decimal | None) -> dict[str, str]:
    """Those that are there. As text, for a JSON number would be read as a float, and without an exponent."""
    return {name: f"{number:f}" for name, number in numbers.items() if number is not None}


def _number(stored: dict[str, Any], name: str) -> Decimal | None:  # Any: as above
    # Rows of the first version say null where there is no end.
    text = stored.get(name)
    return None if text is None else Decimal(text)
