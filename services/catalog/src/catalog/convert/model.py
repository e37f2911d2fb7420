"""Knows how the models look on the wire."""

from __future__ import annotations

from typing import Final

from catalog.convert.number import number_to_proto, optional_number, required_number
from catalog.convert.tariff import tariff_from_proto, tariff_to_proto
from catalog.domain.capacity import Capacity, CapacityLimit, CapacityTier
from catalog.domain.matrix import Matrix, MatrixCell
from catalog.domain.model import Dynamic, Flat, Model, Percentage
from catalog.domain.tariff import Tariff
from common import wire
from common.errors import InvalidArgument
from saldo.catalog.v1 import price_pb2

VALUE_LENGTH_MAX: Final = 128


def model_to_proto(model: Model, into: price_pb2.Price) -> None:
    match model:
        case Flat(amount=amount):
            into.flat.CopyFrom(price_pb2.FlatModel(amount=number_to_proto(amount)))
        case Percentage():
            into.percentage.CopyFrom(
                price_pb2.PercentageModel(
                    percent=number_to_proto(model.percent),
                    fixed_fee=number_to_proto(model.fixed_fee),
                    free_transactions=model.free_transactions,
                    free_amount=number_to_proto(model.free_amount),
                    transaction_minimum=number_to_proto(model.transaction_minimum),
                    transaction_maximum=number_to_proto(model.transaction_maximum),
                )
            )
        case Matrix():
            into.matrix.CopyFrom(
                price_pb2.MatrixModel(
                    dimensions=model.dimensions,
                    cells=[
                        price_pb2.MatrixCell(values=cell.values, tariff=_tariff_to_proto(cell.tariff))
                        for cell in model.cells
                    ],
                    default_tariff=_tariff_to_proto(model.default_tariff),
                )
            )
        case Dynamic(multiplier=multiplier):
            into.dynamic.CopyFrom(price_pb2.DynamicModel(multiplier=number_to_proto(multiplier)))
        case Capacity(tiers=tiers):
            into.capacity.CopyFrom(price_pb2.CapacityModel(tiers=[_size_to_proto(tier) for tier in tiers]))
        case _:
            tariff_to_proto(model, into)


def model_from_proto(proto: price_pb2.Price, *, field: str) -> Model:
    match proto.WhichOneof("model"):
        case "flat":
            return Flat(amount=required_number(proto.flat, "amount", field=f"{field}.flat"))
        case "percentage":
            return _percentage(proto.percentage, field=f"{field}.percentage")
        case "matrix":
            return _matrix(proto.matrix, field=f"{field}.matrix")
        case "dynamic":
            return Dynamic(multiplier=optional_number(proto.dynamic, "multiplier", field=f"{field}.dynamic"))
        case "capacity":
            tiers = proto.capacity.tiers
            return Capacity(
                tiers=tuple(_size(tier, field=f"{field}.capacity.tiers[{n}]") for n, tier in enumerate(tiers))
            )
        case _:
            return _required(tariff_from_proto(proto, field=field), field=f"{field}.model")


def _tariff_to_proto(tariff: Tariff) -> price_pb2.Tariff:
    proto = price_pb2.Tariff()
    tariff_to_proto(tariff, proto)
    return proto


def _size_to_proto(tier: CapacityTier) -> price_pb2.CapacityTier:
    return price_pb2.CapacityTier(
        limits=[
            price_pb2.CapacityLimit(meter=limit.meter, up_to=number_to_proto(limit.up_to)) for limit in tier.limits
        ],
        amount=number_to_proto(tier.amount),
    )


def _required(tariff: Tariff | None, *, field: str) -> Tariff:
    if tariff is None:
        raise InvalidArgument("must say how a quantity becomes an amount", field=field)
    return tariff


def _percentage(proto: price_pb2.PercentageModel, *, field: str) -> Percentage:
    return Percentage(
        percent=required_number(proto, "percent", field=field),
        fixed_fee=optional_number(proto, "fixed_fee", field=field),
        free_transactions=proto.free_transactions,
        free_amount=optional_number(proto, "free_amount", field=field),
        transaction_minimum=optional_number(proto, "transaction_minimum", field=field),
        transaction_maximum=optional_number(proto, "transaction_maximum", field=field),
    )


def _matrix(proto: price_pb2.MatrixModel, *, field: str) -> Matrix:
    return Matrix(
        dimensions=tuple(proto.dimensions),
        cells=tuple(_cell(cell, field=f"{field}.cells[{n}]") for n, cell in enumerate(proto.cells)),
        default_tariff=_tariff(proto.default_tariff, field=f"{field}.default_tariff"),
    )


def _cell(proto: price_pb2.MatrixCell, *, field: str) -> MatrixCell:
    values = (
        wire.text(value, field=f"{field}.values[{n}]", max_length=VALUE_LENGTH_MAX, required=False)
        for n, value in enumerate(proto.values)
    )
    return MatrixCell(values=tuple(values), tariff=_tariff(proto.tariff, field=f"{field}.tariff"))


def _tariff(proto: price_pb2.Tariff, *, field: str) -> Tariff:
    return _required(tariff_from_proto(proto, field=field), field=field)


def _size(proto: price_pb2.CapacityTier, *, field: str) -> CapacityTier:
    limits = (
        CapacityLimit(meter=limit.meter, up_to=required_number(limit, "up_to", field=f"{field}.limits[{n}]"))
        for n, limit in enumerate(proto.limits)
    )
    return CapacityTier(limits=tuple(limits), amount=required_number(proto, "amount", field=field))
