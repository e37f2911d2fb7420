"""Knows sound prices: of every model, with every operator, in the shapes that sellers use."""

from __future__ import annotations

from google.protobuf.json_format import ParseDict

from saldo.catalog.v1 import price_pb2

MONTHLY = {"unit": "MONTH", "count": 1}


def sound_prices() -> list[price_pb2.Price]:
    """All that a plan needs but the product, written as they are answered; metered ones are billed in arrears."""
    return [*(_price(meter="", **each) for each in _LICENSED), *(_price(meter="calls", **each) for each in _METERED)]


def sound_tariffs() -> list[price_pb2.Tariff]:
    """What may stand in a matrix."""
    return [
        tariff
        for price in sound_prices()
        for tariff in (price.matrix.default_tariff, *(cell.tariff for cell in price.matrix.cells))
        if tariff.WhichOneof("model")
    ]


def _price(*, meter: str, **definition: object) -> price_pb2.Price:
    written = {
        "code": "seat",
        "currency": "EUR",
        "billing_interval": MONTHLY,
        "billing_timing": "IN_ARREARS" if meter else "IN_ADVANCE",
        "meter": meter,
        **definition,
    }
    return ParseDict({name: with_numbers(each) for name, each in written.items()}, price_pb2.Price())


def with_numbers(written: object) -> object:
    """Decimals are messages; here they are written as texts that begin with `#`."""
    if isinstance(written, dict):
        return {name: with_numbers(each) for name, each in written.items()}
    if isinstance(written, list):
        return [with_numbers(each) for each in written]
    if isinstance(written, str) and written.startswith("#"):
        return {"value": written[1:]}
    return written


_TIERS = [
    {"up_to": "#10", "unit_price": "#1.5"},
    {"up_to": "#100.5", "unit_price": "#1", "flat_amount": "#10"},
    {"up_to": "#100000", "unit_price": "#3", "package_size": "#1000"},
    {"flat_amount": "#0"},
]
_SHARES = [
    {"up_to": "#1000", "percent": "#2.9"},
    {"up_to": "#20000", "percent": "#1", "flat_amount": "#5"},
    {"percent": "#0"},
]
_PER_UNIT = {"per_unit": {"unit_price": "#0.000000000000000001"}}
_GRADUATED = {"graduated": {"tiers": _TIERS, "flat_without_usage": True}}
_VOLUME = {"volume": {"tiers": _TIERS}}
_PACKAGE = {"package": {"size": "#1000", "price": "#2.5"}}

_LICENSED: list[dict[str, object]] = [
    {"flat": {"amount": "#99"}},
    {"flat": {"amount": "#1000"}, "discount_percent": "#12.5", "currency": "JPY"},
    {"per_unit": {"unit_price": "#12.5"}, "minimum_amount": "#50", "maximum_amount": "#500", "currency": "KWD"},
    {**_GRADUATED, "billing_interval": {"unit": "MONTH", "count": 6}},
    {**_VOLUME, "free_units": "#3", "billing_interval": {"unit": "YEAR", "count": 1}},
    {**_PACKAGE, "unit_conversion": {"multiply_by": "#12"}},
    {"flat": {"amount": "#250"}, "billing_interval": {"unit": "ONCE", "count": 1}},
]
_METERED: list[dict[str, object]] = [
    {
        **_PER_UNIT,
        "unit_conversion": {"divide_by": "#1024", "unit_label": "KiB"},
        "free_units": "#0.5",
        "currency": "USD",
    },
    {**_GRADUATED, "unit_conversion": {"divide_by": "#3600", "rounding": "UP", "decimals": 2}},
    {"graduated": {"tiers": _SHARES}, "minimum_amount": "#10", "billing_interval": {"unit": "WEEK", "count": 4}},
    {**_VOLUME, "unit_conversion": {"rounding": "HALF_UP", "decimals": -3}, "discount_percent": "#100"},
    {"volume": {"tiers": [{"unit_price": "#1"}], "flat_without_usage": True}},
    {**_PACKAGE, "maximum_amount": "#1000000000000000"},
    {"percentage": {"percent": "#1.4"}},
    {
        "percentage": {
            "percent": "#2.9",
            "fixed_fee": "#0.3",
            "free_transactions": 100,
            "free_amount": "#1000",
            "transaction_minimum": "#0.5",
            "transaction_maximum": "#25",
        },
        "discount_percent": "#10",
        "minimum_amount": "#1",
    },
    {
        "matrix": {
            "dimensions": ["region", "model"],
            "cells": [
                {"values": ["eu", "large"], "tariff": _PER_UNIT},
                {"values": ["eu", ""], "tariff": _GRADUATED},
                {"values": ["us", "large"], "tariff": _VOLUME},
                {"values": ["", ""], "tariff": _PACKAGE},
            ],
            "default_tariff": _PER_UNIT,
        },
        "unit_conversion": {"divide_by": "#1000000", "rounding": "DOWN", "decimals": 12},
    },
    {
        "matrix": {
            "dimensions": ["country"],
            "cells": [{"values": ["Côte d’Ivoire"], "tariff": {"graduated": {"tiers": _SHARES}}}],
            "default_tariff": _VOLUME,
        },
        "billing_interval": {"unit": "DAY", "count": 30},
    },
    {"dynamic": {}},
    {"dynamic": {"multiplier": "#1.2"}, "maximum_amount": "#0"},
    {
        "capacity": {
            "tiers": [
                {"limits": [{"meter": "calls", "up_to": "#100"}, {"meter": "storage", "up_to": "#5"}], "amount": "#10"},
                {"limits": [{"meter": "storage", "up_to": "#5"}, {"meter": "calls", "up_to": "#200"}], "amount": "#30"},
                {"amount": "#100"},
            ]
        },
        "discount_percent": "#0.000000000001",
    },
    {"capacity": {"tiers": [{"amount": "#1"}]}},
]
