"""The catalog's prices as they arrive: every model, every operator, and what is absent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from google.type import decimal_pb2

from common.errors import InvalidArgument
from invoicing.convert.price import price_from_proto
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
    Rounding,
    Size,
    Tier,
    UnitConversion,
    Volume,
)
from saldo.catalog.v1 import catalog_service_pb2, product_pb2
from saldo.catalog.v1 import price_pb2 as pb


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def arrived(**fields: Any) -> catalog_service_pb2.PricedProduct:  # Any: of the message
    return catalog_service_pb2.PricedProduct(
        price=pb.Price(id="price_1", code="calls", currency="EUR", **fields),
        product=product_pb2.Product(display_name="Calls", unit_label="call"),
    )


TIERS = [
    pb.Tier(up_to=decimal("10"), unit_price=decimal("0.000000000000000001"), package_size=decimal("5")),
    pb.Tier(flat_amount=decimal("2")),
]
READ = (
    Tier(up_to=Decimal(10), unit_price=Decimal("1e-18"), package_size=Decimal(5)),
    Tier(up_to=None, flat_amount=Decimal(2)),
)
PER_UNIT = pb.PerUnitModel(unit_price=decimal("3"))


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({"flat": pb.FlatModel(amount=decimal("24.90"))}, Flat(amount=Decimal("24.90"))),
        ({"per_unit": PER_UNIT}, PerUnit(unit_price=Decimal(3))),
        ({"graduated": pb.GraduatedModel(tiers=TIERS)}, Graduated(tiers=READ)),
        (
            {"graduated": pb.GraduatedModel(tiers=[pb.Tier(percent=decimal("0"))], flat_without_usage=True)},
            Graduated(tiers=(Tier(up_to=None, percent=Decimal(0)),), flat_without_usage=True),
        ),
        (
            {"volume": pb.VolumeModel(tiers=TIERS, flat_without_usage=True)},
            Volume(tiers=READ, flat_without_usage=True),
        ),
        (
            {"package": pb.PackageModel(size=decimal("100"), price=decimal("7"))},
            Package(size=Decimal(100), price=Decimal(7)),
        ),
        ({"percentage": pb.PercentageModel(percent=decimal("2.9"))}, Percentage(percent=Decimal("2.9"))),
        (
            {
                "percentage": pb.PercentageModel(
                    percent=decimal("1"),
                    fixed_fee=decimal("0.3"),
                    free_transactions=2,
                    free_amount=decimal("0"),
                    transaction_minimum=decimal("0.5"),
                    transaction_maximum=decimal("9"),
                )
            },
            Percentage(
                percent=Decimal(1),
                fixed_fee=Decimal("0.3"),
                free_transactions=2,
                free_amount=Decimal(0),
                transaction_minimum=Decimal("0.5"),
                transaction_maximum=Decimal(9),
            ),
        ),
        (
            {
                "matrix": pb.MatrixModel(
                    dimensions=["region", "model"],
                    cells=[
                        pb.MatrixCell(values=["eu", ""], tariff=pb.Tariff(per_unit=PER_UNIT)),
                        pb.MatrixCell(values=["us", "a"], tariff=pb.Tariff(graduated=pb.GraduatedModel(tiers=TIERS))),
                        pb.MatrixCell(values=["us", "b"], tariff=pb.Tariff(volume=pb.VolumeModel(tiers=TIERS))),
                    ],
                    default_tariff=pb.Tariff(package=pb.PackageModel(size=decimal("1"), price=decimal("2"))),
                )
            },
            Matrix(
                dimensions=("region", "model"),
                cells={
                    ("eu", ""): PerUnit(unit_price=Decimal(3)),
                    ("us", "a"): Graduated(tiers=READ),
                    ("us", "b"): Volume(tiers=READ),
                },
                default=Package(size=Decimal(1), price=Decimal(2)),
            ),
        ),
        ({"dynamic": pb.DynamicModel()}, Dynamic(multiplier=Decimal(1))),
        ({"dynamic": pb.DynamicModel(multiplier=decimal("0"))}, Dynamic(multiplier=Decimal(0))),
        (
            {
                "capacity": pb.CapacityModel(
                    tiers=[
                        pb.CapacityTier(limits=[pb.CapacityLimit(meter="gb", up_to=decimal("5"))], amount=decimal("9")),
                        pb.CapacityTier(amount=decimal("20")),
                    ]
                )
            },
            Capacity(sizes=(Size(limits={"gb": Decimal(5)}, amount=Decimal(9)), Size(limits={}, amount=Decimal(20)))),
        ),
    ],
)
def test_every_model_arrives(fields: dict[str, Any], model: Model) -> None:  # Any: as above
    """As it was told, down to the eighteenth decimal; what is absent is not confused with 0."""
    found = price_from_proto(arrived(**fields))
    assert found.model == model
    assert found.operators == Operators()
    assert hash(found) == hash(price_from_proto(arrived(**fields)))


def test_what_surrounds_the_model_arrives() -> None:
    """A price that came without its minimum would be billed wrong without anybody noticing."""
    found = price_from_proto(
        arrived(
            per_unit=PER_UNIT,
            meter="calls",
            billing_timing=pb.Price.IN_ARREARS,
            unit_conversion=pb.UnitConversion(
                divide_by=decimal("1000"), rounding=pb.UnitConversion.HALF_UP, decimals=-2
            ),
            free_units=decimal("5"),
            discount_percent=decimal("12.5"),
            minimum_amount=decimal("0"),
            maximum_amount=decimal("100"),
        )
    )
    assert (found.code, found.meter, found.is_metered, found.in_arrears) == ("calls", "calls", True, True)
    assert found.operators == Operators(
        unit_conversion=UnitConversion(divide_by=Decimal(1_000), rounding=Rounding.HALF_UP, decimals=-2),
        free_units=Decimal(5),
        discount_percent=Decimal("12.5"),
        minimum_amount=Decimal(0),
        maximum_amount=Decimal(100),
    )


def test_a_licensed_price_in_advance_is_neither_metered_nor_in_arrears() -> None:
    """Its quantity is refused below zero, and its flat amount is due at once."""
    found = price_from_proto(
        arrived(flat=pb.FlatModel(amount=decimal("1")), unit_conversion=None, billing_timing=pb.Price.IN_ADVANCE)
    )
    assert (found.meter, found.is_metered, found.in_arrears) == ("", False, False)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"matrix": pb.MatrixModel(dimensions=["region"])},
        {
            "per_unit": PER_UNIT,
            "unit_conversion": pb.UnitConversion(multiply_by=decimal("2"), rounding=9),  # type: ignore[arg-type] # newer
        },
    ],
    ids=["model", "tariff", "rounding"],
)
def test_what_only_a_newer_contract_knows_is_not_guessed_at(fields: dict[str, Any]) -> None:  # Any: as above
    """Better not billed yet than billed wrong."""
    with pytest.raises(InvalidArgument):
        price_from_proto(arrived(**fields))
