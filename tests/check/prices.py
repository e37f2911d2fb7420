"""Prices and quantities made up for comparing two that rate them: nasty ones are as likely as ordinary ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, Final

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

Json = Mapping[str, Any]  # Any: JSON as the catalog stores it

CURRENCIES: Final = ("EUR", "EUR", "JPY", "KWD", "CLF")
DIMENSIONS: Final = ("region", "model")
VALUES: Final = ("eu", "us", "")
METERS: Final = ("cpu", "disk")
SIMPLE: Final = ("PER_UNIT", "GRADUATED", "VOLUME", "PACKAGE")
OF_QUANTITY: Final = ("FLAT", *SIMPLE)
OF_USAGE: Final = ("PERCENTAGE", "MATRIX", "DYNAMIC", "CAPACITY")
LAST: Final = Decimal("0.000000000001")
"""As close as two quantities can be."""


def number(random: Random, most: int, *, least: int = 0, places: int = 12) -> Decimal:
    """A whole one, one with few decimals, half a cent more or less, or one with as many decimals as there can be."""
    decimals = random.choice([0, 0, 1, 2, places])
    drawn = Decimal(random.randint(least * 10**decimals, most * 10**decimals)).scaleb(-decimals)
    return drawn + Decimal("0.005") if random.random() < 0.2 else drawn


def model_of(random: Random, name: str) -> Json:
    """As the catalog stores it."""
    match name:
        case "FLAT":
            return {"model": name, "amount": _text(random, 500, places=18)}
        case "PERCENTAGE":
            return _percentage(random)
        case "MATRIX":
            dimensions = DIMENSIONS[: random.randint(1, 2)]
            cells = {tuple(random.choice(VALUES) for _ in dimensions) for _ in range(random.randint(0, 4))}
            tariffs = [_simple_model(random, random.choice(SIMPLE)) for _ in range(len(cells) + 1)]
            return {
                "model": name,
                "dimensions": list(dimensions),
                "cells": [{"values": list(values), "tariff": tariffs.pop()} for values in sorted(cells)],
                "default_tariff": tariffs.pop(),
            }
        case "DYNAMIC":
            return {"model": name, **_maybe(random, multiplier=_unit_price(random))}
        case "CAPACITY":
            return _capacity(random)
    return _simple_model(random, name)


def operators_of(random: Random, name: str) -> Json:
    """What the catalog allows beside a model; often nothing, because much of it hides what the model does."""
    found: dict[str, Any] = {}  # Any: JSON
    if random.random() < 0.5:
        return found
    if name in SIMPLE:
        found |= _maybe(random, free_units=_text(random, 100))
    if name in (*SIMPLE, "MATRIX") and random.random() < 0.5:
        found["unit_conversion"] = _conversion(random)
    minimum = number(random, 100)
    found |= _maybe(random, discount_percent=f"{number(random, 99) + LAST:f}", minimum_amount=f"{minimum:f}")
    if random.random() < 0.3:
        found["maximum_amount"] = f"{minimum + number(random, 2000):f}"
    return found


def quantity_of(random: Random, model: Json, operators: Json, *, metered: bool) -> Decimal:
    """One at which something ends, or next to it, is as likely as any other; of what is metered some are below zero."""
    if random.random() < 0.5:
        return number(random, 300, least=-100 if metered and random.random() < 0.2 else 0)
    ends = _ends(model)
    near = random.choice(ends) + random.choice([-LAST, Decimal(0), Decimal(0), LAST])
    conversion = operators.get("unit_conversion", {})
    near = (near + Decimal(operators.get("free_units", 0))) * Decimal(conversion.get("divide_by", 1))
    return max(near.quantize(LAST), Decimal(0))


def _ends(model: Json) -> Sequence[Decimal]:
    """Quantities at which something ends: where comparisons go wrong."""
    cells = [cell["tariff"] for cell in model.get("cells", ())]
    tariffs = [model, *cells, model.get("default_tariff", {})]
    tiers = [tier for tariff in tariffs for tier in tariff.get("tiers", ())]
    sizes = [Decimal(told["size"]) for told in tariffs if "size" in told]
    sizes += [Decimal(tier["package_size"]) for tier in tiers if "package_size" in tier]
    limits = [Decimal(limit["up_to"]) for tier in tiers for limit in tier.get("limits", ())]
    free = Decimal(model.get("free_amount", 0))
    return [
        Decimal(0),
        *(Decimal(tier["up_to"]) for tier in tiers if "up_to" in tier),
        *(packages * size for size in sizes for packages in (1, 2)),
        *limits,
        *(free * part for part in (Decimal(1), Decimal("0.5"))),
    ]


def _simple_model(random: Random, name: str) -> Json:
    if name == "PER_UNIT":
        return {"model": name, "unit_price": _unit_price(random)}
    if name == "PACKAGE":
        return {"model": name, "size": _size(random), "price": _unit_price(random)}
    bounds = sorted({number(random, 200) + LAST * random.randint(1, 2) for _ in range(random.randint(0, 3))})
    tiers = [_tier(random, f"{bound:f}") for bound in bounds]
    found: dict[str, Any] = {"model": name, "tiers": [*tiers, _tier(random, None)]}  # Any: JSON
    if random.random() < 0.5:
        found["flat_without_usage"] = random.random() < 0.5
    return found


def _tier(random: Random, up_to: str | None) -> Json:
    priced: Json = random.choice(
        [
            {"unit_price": _unit_price(random)},
            {"unit_price": _unit_price(random)},
            {"unit_price": _unit_price(random), "package_size": _size(random)},
            {"percent": _text(random, 100)},
            {},
        ]
    )
    flat = {"flat_amount": _text(random, 20)} if not priced or random.random() < 0.5 else {}
    return {**({} if up_to is None else {"up_to": up_to}), **priced, **flat}


def _percentage(random: Random) -> Json:
    minimum = number(random, 10)
    found: dict[str, Any] = {  # Any: JSON
        "model": "PERCENTAGE",
        "percent": _text(random, 20),
        **_maybe(
            random,
            fixed_fee=_text(random, 5),
            free_transactions=random.randint(0, 3),
            free_amount=_text(random, 300),
            transaction_minimum=f"{minimum:f}",
        ),
    }
    if random.random() < 0.3:
        found["transaction_maximum"] = f"{minimum + number(random, 20):f}"
    return found


def _capacity(random: Random) -> Json:
    """Each size holds more than the one before, though not of every meter."""
    limits = dict.fromkeys(METERS[: random.randint(1, 2)], Decimal(0))
    sizes: list[Json] = []
    for _ in range(random.randint(0, 3)):
        more = {meter: number(random, 60) if random.random() < 0.8 else Decimal(0) for meter in limits}
        if not any(more.values()):
            continue
        limits = {meter: limits[meter] + more[meter] for meter in limits}
        told = [{"meter": meter, "up_to": f"{most:f}"} for meter, most in limits.items()]
        sizes.append({"limits": told, "amount": _text(random, 500)})
    return {"model": "CAPACITY", "tiers": [*sizes, {"limits": [], "amount": _text(random, 500)}]}


def _conversion(random: Random) -> Json:
    """Only a quotient that is rounded may have no last decimal."""
    multiplied = {"multiply_by": _size(random)}
    if random.random() < 0.4:
        return random.choice([{"divide_by": random.choice(["1000", "1024", "0.8", "10"])}, multiplied])
    by: Json = random.choice([{}, {"divide_by": _size(random)}, {"divide_by": "3600"}, multiplied])
    return {
        **by,
        "rounding": random.choice(["UP", "DOWN", "HALF_UP"]),
        **_maybe(random, decimals=random.choice([-2, -1, 0, 1, 12])),
    }


def _unit_price(random: Random) -> str:
    return random.choice([_text(random, 50, places=18), "0.067", "0.005", "0.000000000000000001"])


def _size(random: Random) -> str:
    """Not so small that amounts get too large to be written."""
    return f"{number(random, 50) + Decimal('0.01'):f}"


def _text(random: Random, most: int, *, places: int = 12) -> str:
    return f"{number(random, most, places=places):f}"


def _maybe(random: Random, **told: object) -> Json:
    """Each of them, or not."""
    return {name: value for name, value in told.items() if random.random() < 0.5}


def price_of(model: Json, operators: Json, *, currency: str, meter: str, in_advance: bool) -> Price:
    """The same price for the engine."""
    return Price(
        id="price_1",
        currency=currency,
        model=_model(model),
        product="Product",
        unit_label="",
        meter=meter,
        is_metered=bool(meter),
        in_arrears=not in_advance,
        operators=_operators(operators),
    )


def _model(stored: Json) -> Model:
    match stored["model"]:
        case "FLAT":
            return Flat(amount=Decimal(stored["amount"]))
        case "PERCENTAGE":
            numbers: dict[str, Any] = {  # Any: a count among decimals
                name: Decimal(stored[name]) for name in stored if name not in ("model", "free_transactions")
            }
            return Percentage(**numbers, free_transactions=stored.get("free_transactions", 0))
        case "MATRIX":
            return Matrix(
                dimensions=tuple(stored["dimensions"]),
                cells={tuple(cell["values"]): _simple(cell["tariff"]) for cell in stored["cells"]},
                default=_simple(stored["default_tariff"]),
            )
        case "DYNAMIC":
            return Dynamic(**{name: Decimal(stored[name]) for name in stored if name != "model"})
        case "CAPACITY":
            return Capacity(
                sizes=tuple(
                    Size(
                        limits={limit["meter"]: Decimal(limit["up_to"]) for limit in tier["limits"]},
                        amount=Decimal(tier["amount"]),
                    )
                    for tier in stored["tiers"]
                )
            )
    return _simple(stored)


def _simple(stored: Json) -> Tariff:
    match stored["model"]:
        case "PER_UNIT":
            return PerUnit(unit_price=Decimal(stored["unit_price"]))
        case "PACKAGE":
            return Package(size=Decimal(stored["size"]), price=Decimal(stored["price"]))
    told = tuple(_read_tier(tier) for tier in stored["tiers"])
    kind = Graduated if stored["model"] == "GRADUATED" else Volume
    return kind(tiers=told, flat_without_usage=stored.get("flat_without_usage", False))


def _read_tier(stored: Json) -> Tier:
    numbers = {name: Decimal(number) for name, number in stored.items() if name != "up_to"}
    return Tier(up_to=Decimal(stored["up_to"]) if "up_to" in stored else None, **numbers)


def _operators(stored: Json) -> Operators:
    numbers = {name: Decimal(number) for name, number in stored.items() if name != "unit_conversion"}
    return Operators(unit_conversion=_read_conversion(stored.get("unit_conversion")), **numbers)


def _read_conversion(stored: Json | None) -> UnitConversion | None:
    if stored is None:
        return None
    return UnitConversion(
        divide_by=Decimal(stored["divide_by"]) if "divide_by" in stored else None,
        multiply_by=Decimal(stored["multiply_by"]) if "multiply_by" in stored else None,
        rounding=Rounding(stored["rounding"]) if "rounding" in stored else None,
        decimals=stored.get("decimals", 0),
    )
