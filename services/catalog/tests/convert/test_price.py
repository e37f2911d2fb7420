"""Prices on the wire and in the database: nothing is lost on the way, in either direction."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from google.type import decimal_pb2
from hypothesis import given
from hypothesis import strategies as st

from catalog.convert.price import checked_price, price_from_proto, price_to_proto
from catalog.domain.capacity import Capacity, CapacityLimit, CapacityTier
from catalog.domain.matrix import Matrix, MatrixCell
from catalog.domain.model import Dynamic, Flat, Model, Percentage, has_one_quantity, has_quantity, is_of_usage
from catalog.domain.operators import Operators, Rounding, UnitConversion
from catalog.domain.plan import PlanId
from catalog.domain.price import BillingTiming, Price, PriceId
from catalog.domain.product import ProductId
from catalog.domain.tariff import Graduated, Package, PerUnit, Tariff, Volume
from catalog.domain.tier import Tier
from catalog.store.models import model_from_json, model_to_json, operators_from_json, operators_to_json
from common.period import Interval, Unit
from saldo.catalog.v1 import price_pb2
from tests.support.prices import sound_prices
from tests.support.soundness import complaints

PRODUCT = ProductId("prod_01h455vb4pex5vsknk084sn02q")
codes = st.text("abcxyz019_-", min_size=1, max_size=12)


def numbers(*, places: int = 12, least: int = 0, most: int = 10**15) -> st.SearchStrategy[Decimal]:
    return st.integers(0, places).flatmap(
        lambda some: st.integers(least, most * 10**some).map(lambda digits: Decimal(f"{digits}e-{some}"))
    )


def maybe(strategy: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Decimal | None]:
    return st.none() | strategy


unit_prices = numbers(places=18)
sizes = numbers(least=1)
percents = numbers(most=100)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    ends = sorted(draw(st.sets(sizes, max_size=5)))
    shares = draw(st.booleans())
    costs = (
        st.builds(Tier, percent=percents, flat_amount=maybe(numbers()))
        if shares
        else st.builds(Tier, unit_price=unit_prices, flat_amount=maybe(numbers()), package_size=maybe(sizes))
    )
    flat = st.builds(Tier, flat_amount=numbers())
    return tuple(
        Tier(
            up_to=end,
            unit_price=cost.unit_price,
            flat_amount=cost.flat_amount,
            percent=cost.percent,
            package_size=cost.package_size,
        )
        for end in [*ends, None]
        for cost in [draw(costs | flat)]
    )


tariffs: st.SearchStrategy[Tariff] = st.one_of(
    st.builds(PerUnit, unit_price=unit_prices),
    st.builds(Graduated, tiers=tiers(), flat_without_usage=st.booleans()),
    st.builds(Volume, tiers=tiers(), flat_without_usage=st.booleans()),
    st.builds(Package, size=sizes, price=unit_prices),
)


@st.composite
def percentages(draw: st.DrawFn) -> Percentage:
    low, high = sorted((draw(numbers()), draw(numbers())))
    return Percentage(
        percent=draw(percents),
        fixed_fee=draw(maybe(numbers())),
        free_transactions=draw(st.integers(0, 1_000_000)),
        free_amount=draw(maybe(numbers())),
        transaction_minimum=draw(st.sampled_from([None, low])),
        transaction_maximum=draw(st.sampled_from([None, high])),
    )


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    dimensions = draw(st.lists(codes, min_size=1, max_size=2, unique=True))
    values = st.tuples(*(st.just("") | codes | st.sampled_from(["Zürich", "東 京"]) for _ in dimensions))
    return Matrix(
        dimensions=tuple(dimensions),
        cells=tuple(
            MatrixCell(values=each, tariff=draw(tariffs)) for each in draw(st.sets(values, min_size=1, max_size=4))
        ),
        default_tariff=draw(tariffs),
    )


@st.composite
def capacities(draw: st.DrawFn) -> Capacity:
    meters = draw(st.lists(codes, min_size=1, max_size=3, unique=True))
    sizes_of_tiers = sorted(draw(st.sets(numbers(), max_size=4)))
    return Capacity(
        tiers=(
            *(
                CapacityTier(
                    limits=tuple(CapacityLimit(meter=meter, up_to=size) for meter in meters), amount=draw(numbers())
                )
                for size in sizes_of_tiers
            ),
            CapacityTier(limits=(), amount=draw(numbers())),
        )
    )


models: st.SearchStrategy[Model] = st.one_of(
    st.builds(Flat, amount=unit_prices),
    tariffs,
    percentages(),
    matrices(),
    st.builds(Dynamic, multiplier=maybe(unit_prices)),
    capacities(),
)
conversions = st.one_of(
    st.builds(UnitConversion, multiply_by=sizes),
    st.builds(UnitConversion, divide_by=st.sampled_from([Decimal(1024), Decimal("0.0005"), Decimal(10**15)])),
    st.builds(UnitConversion, divide_by=sizes, rounding=st.sampled_from(Rounding), decimals=st.integers(-12, 12)),
    st.builds(UnitConversion, rounding=st.sampled_from(Rounding), decimals=st.integers(-12, 12)),
)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    model = draw(models)
    low, high = sorted((draw(numbers()), draw(numbers())))
    meter = _meter(model) if is_of_usage(model) or draw(st.booleans()) else ""
    once = not meter and draw(st.booleans())
    return Price(
        id=PriceId("price_x"),
        code=draw(codes),
        product_id=PRODUCT,
        currency=draw(st.sampled_from(["EUR", "JPY", "KWD"])),
        interval=None if once else Interval(draw(st.sampled_from(Unit)), draw(st.integers(1, 10))),
        timing=BillingTiming.IN_ARREARS if meter else BillingTiming.IN_ADVANCE,
        meter=meter,
        model=model,
        operators=Operators(
            unit_conversion=draw(st.none() | conversions) if has_quantity(model) else None,
            free_units=draw(maybe(numbers())) if has_one_quantity(model) else None,
            discount_percent=draw(maybe(numbers(least=1, most=100))),
            minimum_amount=draw(st.sampled_from([None, low])),
            maximum_amount=draw(st.sampled_from([None, high])),
        ),
    )


def _meter(model: Model) -> str:
    bounded = model.tiers[0].limits if isinstance(model, Capacity) else ()
    return bounded[0].meter if bounded else "calls"


@given(prices())
def test_a_price_comes_back_from_the_wire_as_it_was(price: Price) -> None:
    """What is answered can be sent again, and means the same to the last digit."""
    proto = price_to_proto(price, PlanId("plan_x"))
    assert price_from_proto(proto, price_id=price.id, field="price") == price
    assert complaints(proto, in_plan=True) == set()


@given(prices())
def test_a_price_comes_back_from_the_database_as_it_was(price: Price) -> None:
    """Invoices are computed from what is stored."""
    stored = json.loads(json.dumps(model_to_json(price.model)), parse_float=_refuse)
    assert model_from_json(stored) == price.model
    around = json.loads(json.dumps(operators_to_json(price.operators)), parse_float=_refuse)
    assert operators_from_json(around) == price.operators


def _refuse(number: str) -> object:
    raise AssertionError(f"{number} would be read as a float")


def test_a_price_is_answered_in_the_shortest_way() -> None:
    """Ten ways of writing a number are one price: whoever compares definitions must not see differences."""
    written = price_pb2.Price(
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.QUARTER, count=2),
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="+1.50e1")),
        minimum_amount=decimal_pb2.Decimal(value="-0.00"),
    )
    answer = price_pb2.Price(
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=6),
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="15")),
        minimum_amount=decimal_pb2.Decimal(value="0"),
    )
    assert checked_price(written, field="price") == answer
    assert checked_price(answer, field="price") == answer


def test_what_the_catalog_says_itself_is_not_read() -> None:
    """A price that was read can be written again; nobody makes a price somebody's by naming a customer in it."""
    price = sound_prices()[0]
    price.MergeFrom(price_pb2.Price(product_id=PRODUCT, id="price_y", plan_id="plan_y", customer_id="cus_y"))
    price.list_price_id = "price_z"
    read = price_from_proto(price, price_id=PriceId("price_x"), field="price")
    assert (read.id, read.customer_id, read.list_price_id, read.create_time) == ("price_x", "", "", None)


@pytest.mark.parametrize(
    ("model", "stored"),
    [
        (Flat(amount=Decimal("1E+3")), {"model": "FLAT", "amount": "1000"}),
        (PerUnit(unit_price=Decimal("1E-18")), {"model": "PER_UNIT", "unit_price": "0.000000000000000001"}),
        (
            Graduated(tiers=(Tier(up_to=Decimal(5), percent=Decimal(1)), Tier(flat_amount=Decimal(2)))),
            {"model": "GRADUATED", "tiers": [{"up_to": "5", "percent": "1"}, {"flat_amount": "2"}]},
        ),
        (
            Volume(tiers=(Tier(unit_price=Decimal(1), package_size=Decimal(10)),), flat_without_usage=True),
            {"model": "VOLUME", "tiers": [{"unit_price": "1", "package_size": "10"}], "flat_without_usage": True},
        ),
        (Package(size=Decimal(10), price=Decimal(2)), {"model": "PACKAGE", "size": "10", "price": "2"}),
        (
            Percentage(percent=Decimal("2.9"), fixed_fee=Decimal("0.3"), free_transactions=7),
            {"model": "PERCENTAGE", "percent": "2.9", "fixed_fee": "0.3", "free_transactions": 7},
        ),
        (
            Matrix(
                dimensions=("region",),
                cells=(MatrixCell(values=("eu",), tariff=PerUnit(unit_price=Decimal(1))),),
                default_tariff=Package(size=Decimal(10), price=Decimal(2)),
            ),
            {
                "model": "MATRIX",
                "dimensions": ["region"],
                "cells": [{"values": ["eu"], "tariff": {"model": "PER_UNIT", "unit_price": "1"}}],
                "default_tariff": {"model": "PACKAGE", "size": "10", "price": "2"},
            },
        ),
        (Dynamic(), {"model": "DYNAMIC"}),
        (
            Capacity(
                tiers=(
                    CapacityTier(limits=(CapacityLimit(meter="calls", up_to=Decimal(9)),), amount=Decimal(1)),
                    CapacityTier(limits=(), amount=Decimal(2)),
                )
            ),
            {
                "model": "CAPACITY",
                "tiers": [{"limits": [{"meter": "calls", "up_to": "9"}], "amount": "1"}, {"limits": [], "amount": "2"}],
            },
        ),
    ],
    ids=lambda each: each.name if hasattr(each, "name") else "",
)
def test_models_are_stored_in_the_agreed_form(model: Model, stored: dict[str, object]) -> None:
    """The rows outlive the code, and the checker reads them with code of its own."""
    assert model_to_json(model) == stored
    assert model_from_json(stored) == model


def test_operators_are_stored_in_the_agreed_form() -> None:
    """As above; what is not there leaves no trace."""
    conversion = UnitConversion(divide_by=Decimal(3600), rounding=Rounding.HALF_UP, decimals=-2)
    stored = {"unit_conversion": {"divide_by": "3600", "rounding": "HALF_UP", "decimals": -2}, "free_units": "0.5"}
    assert operators_to_json(Operators(unit_conversion=conversion, free_units=Decimal("0.5"))) == stored
    assert operators_to_json(Operators()) == {}
    assert operators_from_json({}) == Operators()


def test_rows_of_the_first_version_are_read() -> None:
    """They said null for an end that there is not, and 0 for a flat amount that nobody named."""
    stored = {
        "model": "GRADUATED",
        "tiers": [
            {"up_to": "10", "unit_price": "1.5", "flat_amount": "0"},
            {"up_to": None, "unit_price": "1", "flat_amount": "0"},
        ],
    }
    assert model_from_json(stored) == Graduated(
        tiers=(
            Tier(up_to=Decimal(10), unit_price=Decimal("1.5"), flat_amount=Decimal(0)),
            Tier(unit_price=Decimal(1), flat_amount=Decimal(0)),
        )
    )
