"""What is to be rated in tests: a price and a usage for every model, and the few words to write another."""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from common import wire
from common.rpc import error_info
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb

from .price_list import decimal

Json = dict[str, Any]  # fields of a message


def usage(quantity: str = "", **fields: Any) -> rating_pb2.UsageToRate:  # Any: fields of the message
    return rating_pb2.UsageToRate(quantity=decimal(quantity) if quantity else None, **fields)


def per_unit(unit_price: str) -> price_pb2.PerUnitModel:
    return price_pb2.PerUnitModel(unit_price=decimal(unit_price))


def tiers(*found: tuple[str, str]) -> list[price_pb2.Tier]:
    """Each up to where, and for how much a unit."""
    return [
        price_pb2.Tier(up_to=decimal(up_to) if up_to else None, unit_price=decimal(unit_price))
        for up_to, unit_price in found
    ]


def cents(amount: Message) -> int:
    return wire.parse_money(amount, field="amount").minor  # type: ignore[arg-type] # a Money


def by(price: price_pb2.Price, told: rating_pb2.UsageToRate, **fields: Any) -> pb.RateRequest:  # Any: as above
    return pb.RateRequest(price_id=price.id, usage=told, **fields)


async def reason_of(rating: Any, request: pb.RateRequest) -> str:  # Any: grpc stubs are generated
    """Why it is refused, which is never a mistake of ours; empty when it is not."""
    try:
        await rating.Rate(request)
    except grpc.aio.AioRpcError as error:
        refusal = error
    else:
        return ""
    info = error_info(refusal)
    told = f"{refusal.code()} {refusal.details()} {request}"
    assert info is not None, told
    assert refusal.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION), told
    return info.reason


MODELS: Final[dict[str, tuple[Json, rating_pb2.UsageToRate, int]]] = {
    "flat": ({"flat": price_pb2.FlatModel(amount=decimal("9.99"))}, usage("3"), 9_99),
    "per unit": ({"per_unit": per_unit("0.067")}, usage("55"), 3_69),
    "graduated": (
        {"graduated": price_pb2.GraduatedModel(tiers=tiers(("10", "1"), ("", "0.5")))},
        usage("12"),
        11_00,
    ),
    "volume": ({"volume": price_pb2.VolumeModel(tiers=tiers(("15", "10"), ("", "5")))}, usage("16"), 80_00),
    "volume, by another quantity": (
        {"volume": price_pb2.VolumeModel(tiers=tiers(("15", "10"), ("", "5")))},
        usage("8", tier_quantity=decimal("16")),
        40_00,
    ),
    "package": ({"package": price_pb2.PackageModel(size=decimal("1000"), price=decimal("5"))}, usage("2001"), 15_00),
    "percentage": (
        {"percentage": price_pb2.PercentageModel(percent=decimal("1.5"), fixed_fee=decimal("0.25"))},
        usage(amounts=[decimal("100"), decimal("10")]),
        2_15,
    ),
    "matrix": (
        {
            "matrix": price_pb2.MatrixModel(
                dimensions=["region"],
                cells=[price_pb2.MatrixCell(values=["eu"], tariff=price_pb2.Tariff(per_unit=per_unit("2")))],
                default_tariff=price_pb2.Tariff(per_unit=per_unit("1")),
            )
        },
        usage(
            groups=[
                rating_pb2.UsageGroup(dimensions={"region": "eu"}, quantity=decimal("3")),
                rating_pb2.UsageGroup(dimensions={"region": "us"}, quantity=decimal("4")),
                rating_pb2.UsageGroup(dimensions={"region": ""}, quantity=decimal("0.5")),
            ]
        ),
        10_50,
    ),
    "dynamic": (
        {"dynamic": price_pb2.DynamicModel(multiplier=decimal("1.2"))},
        usage(amounts=[decimal("1"), decimal("2.5")]),
        4_20,
    ),
    "capacity": (
        {
            "capacity": price_pb2.CapacityModel(
                tiers=[
                    price_pb2.CapacityTier(
                        limits=[price_pb2.CapacityLimit(meter="rows", up_to=decimal("10"))], amount=decimal("5")
                    ),
                    price_pb2.CapacityTier(amount=decimal("50")),
                ]
            )
        },
        usage(meter_quantities=[rating_pb2.MeterQuantity(meter="rows", quantity=decimal("11"))]),
        50_00,
    ),
    "changes": (
        {"graduated": price_pb2.GraduatedModel(tiers=tiers(("5", "10"), ("", "5")))},
        usage(
            changes=[
                rating_pb2.QuantityChange(quantity=decimal("5"), prorated_quantity=decimal("3.5")),
                rating_pb2.QuantityChange(quantity=decimal("5"), prorated_quantity=decimal("2.66667")),
            ]
        ),
        48_33,
    ),
}
