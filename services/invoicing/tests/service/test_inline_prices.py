"""Prices that may not exist yet, checked by the real catalog: what is sound is rated, what is not refused by field."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type import decimal_pb2

from common.testing import Suite, refused
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub

from .price_list import decimal
from .to_rate import MODELS, cents, per_unit, reason_of, tiers, usage

Code = grpc.StatusCode
SEED: Final = 20260102
PRICES: Final = 1_500
NUMBERS: Final = (
    *("0", "1", "-1", "0.5", "100", "100.000000000001", "0.000000000000000001", "3600", "1e15", "1000000000000000.1"),
    *("", "x", "NaN", "1e-19", "9" * 60, "1e3", "7", "12"),
)
COUNTS: Final = (0, 1, 2, -1, 13, -13, 366, 2**31 - 1, -(2**31))
TEXTS: Final = ("", "EUR", "eur", "JPY", "calls", "region", "a\x00", "x" * 300, " ", "prod_01h455vb4pex5vsknk084sn02q")


@pytest_asyncio.fixture
async def rating(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    await suite.start("catalog", "invoicing")
    yield suite.stub(RatingServiceStub, "invoicing")


def sound(**fields: Any) -> price_pb2.Price:  # Any: fields of the message
    return price_pb2.Price(**{"currency": "EUR", "meter": "calls", **fields})


@pytest.mark.parametrize("model", MODELS)
async def test_a_sound_price_is_rated_without_being_stored(rating: Any, model: str) -> None:
    """By every model; what does not matter for an amount may be left out."""
    fields, told, due = MODELS[model]
    price = sound(**fields)
    if model == "capacity":
        price.meter = "rows"
    assert cents((await rating.Rate(pb.RateRequest(price=price, usage=told))).amount) == due


UNSOUND: Final[dict[str, tuple[price_pb2.Price, str]]] = {
    "no currency": (sound(currency="EUX", per_unit=per_unit("1")), "currency"),
    "a negative unit price": (sound(per_unit=per_unit("-1")), "per_unit.unit_price"),
    "tiers that descend": (
        sound(graduated=price_pb2.GraduatedModel(tiers=tiers(("10", "1"), ("5", "1"), ("", "1")))),
        "graduated.tiers[1].up_to",
    ),
    "a discount of more than all": (
        sound(per_unit=per_unit("1"), discount_percent=decimal("100.1")),
        "discount_percent",
    ),
    "a package of nothing": (
        sound(package=price_pb2.PackageModel(size=decimal("0"), price=decimal("1"))),
        "package.size",
    ),
}


@pytest.mark.parametrize("what", UNSOUND)
async def test_an_unsound_price_is_refused_with_its_field(rating: Any, what: str) -> None:
    """As the catalog would when it is created; the field is that of what was asked here."""
    price, field = UNSOUND[what]
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(pb.RateRequest(price=price, usage=usage("1")))
    assert refusal.field == f"price.{field}"


def leaves(message: Message) -> Iterator[tuple[Any, Any]]:  # Any: a message, and the descriptor of a field
    """Every single field of what is there, at any depth, with the message that it is of; and what could be there."""
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)  # Any: of the field's type
        if field.is_repeated:
            for each in value if field.message_type else ():
                yield from leaves(each)
        elif field.message_type is None or field.message_type.full_name == decimal_pb2.Decimal.DESCRIPTOR.full_name:
            yield message, field
        elif message.HasField(field.name):
            yield from leaves(value)


def spoil(price: price_pb2.Price, generator: random.Random) -> None:
    message, field = generator.choice(list(leaves(price)))
    if generator.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None:
        getattr(message, field.name).value = generator.choice(NUMBERS)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        setattr(message, field.name, generator.choice(TEXTS))
    elif field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM):
        setattr(message, field.name, generator.choice(COUNTS))
    else:
        setattr(message, field.name, generator.random() < 0.5)


async def test_whatever_a_price_says_it_is_rated_or_refused(rating: Any) -> None:
    """What the catalog takes to be sound can be rated: two services that disagree would be a mistake of ours."""
    generator = random.Random(SEED)  # figures, not secrets
    requests: list[pb.RateRequest] = []
    for _ in range(PRICES):
        fields, told, _ = generator.choice(list(MODELS.values()))
        price = sound(**fields)
        if generator.random() < 0.5:
            price.unit_conversion.divide_by.CopyFrom(decimal("8"))
            price.free_units.CopyFrom(decimal("1"))
        for _ in range(generator.choice((1, 1, 2, 4))):
            spoil(price, generator)
        requests.append(pb.RateRequest(price=price, usage=told if generator.random() < 0.7 else usage("7.5")))
    batch = await rating.BatchRate(pb.BatchRateRequest(requests=requests))
    refusals = [each for each in batch.results if each.reason]
    assert {each.reason for each in refusals} <= {
        "INVALID_ARGUMENT", "NEIGHBOUR_REFUSED", "NEGATIVE_QUANTITY", "AMOUNT_OUT_OF_RANGE",
    }, refusals  # fmt: skip
    assert all(each.field.startswith(("price", "usage")) for each in refusals if each.reason == "INVALID_ARGUMENT")
    assert PRICES // 10 < len(refusals) < PRICES - PRICES // 10
    alone = [await reason_of(rating, request) for request in requests[:200]]
    assert alone == [each.reason for each in batch.results[:200]]
