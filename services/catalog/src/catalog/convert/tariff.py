"""Knows how the simple models look on the wire, where they stand alone and inside of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.convert.number import number_to_proto, optional_number, required_number
from catalog.domain.tariff import Graduated, Package, PerUnit, Tariff, Volume
from catalog.domain.tier import Tier
from saldo.catalog.v1 import price_pb2


def tariff_to_proto(tariff: Tariff, into: price_pb2.Price | price_pb2.Tariff) -> None:
    match tariff:
        case PerUnit(unit_price=unit_price):
            into.per_unit.CopyFrom(price_pb2.PerUnitModel(unit_price=number_to_proto(unit_price)))
        case Graduated(tiers=tiers, flat_without_usage=flat_without_usage):
            into.graduated.CopyFrom(
                price_pb2.GraduatedModel(tiers=_tiers_to_proto(tiers), flat_without_usage=flat_without_usage)
            )
        case Volume(tiers=tiers, flat_without_usage=flat_without_usage):
            into.volume.CopyFrom(
                price_pb2.VolumeModel(tiers=_tiers_to_proto(tiers), flat_without_usage=flat_without_usage)
            )
        case Package(size=size, price=price):
            into.package.CopyFrom(price_pb2.PackageModel(size=number_to_proto(size), price=number_to_proto(price)))


def tariff_from_proto(proto: price_pb2.Price | price_pb2.Tariff, *, field: str) -> Tariff | None:
    """What the oneof of a price or of a tariff says, if it is one of the simple models."""
    match proto.WhichOneof("model"):
        case "per_unit":
            return PerUnit(unit_price=required_number(proto.per_unit, "unit_price", field=f"{field}.per_unit"))
        case "graduated":
            return Graduated(
                tiers=_tiers(proto.graduated.tiers, field=f"{field}.graduated.tiers"),
                flat_without_usage=proto.graduated.flat_without_usage,
            )
        case "volume":
            return Volume(
                tiers=_tiers(proto.volume.tiers, field=f"{field}.volume.tiers"),
                flat_without_usage=proto.volume.flat_without_usage,
            )
        case "package":
            return Package(
                size=required_number(proto.package, "size", field=f"{field}.package"),
                price=required_number(proto.package, "price", field=f"{field}.package"),
            )
        case _:
            return None


def _tiers_to_proto(tiers: Sequence[Tier]) -> list[price_pb2.Tier]:
    return [
        price_pb2.Tier(
            up_to=number_to_proto(tier.up_to),
            unit_price=number_to_proto(tier.unit_price),
            flat_amount=number_to_proto(tier.flat_amount),
            percent=number_to_proto(tier.percent),
            package_size=number_to_proto(tier.package_size),
        )
        for tier in tiers
    ]


def _tiers(protos: Sequence[price_pb2.Tier], *, field: str) -> tuple[Tier, ...]:
    return tuple(_tier(proto, field=f"{field}[{n}]") for n, proto in enumerate(protos))


def _tier(proto: price_pb2.Tier, *, field: str) -> Tier:
    return Tier(
        up_to=optional_number(proto, "up_to", field=field),
        unit_price=optional_number(proto, "unit_price", field=field),
        flat_amount=optional_number(proto, "flat_amount", field=field),
        percent=optional_number(proto, "percent", field=field),
        package_size=optional_number(proto, "package_size", field=field),
    )
