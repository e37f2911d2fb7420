"""The arithmetic of money through its door: what there is, rounded, shared, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.type import money_pb2

from common import wire
from common.caller import Role
from common.money import Money
from common.testing import Suite, refused
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import MoneyServiceStub

from .conftest import decimal


@pytest_asyncio.fixture
async def money(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    await suite.start("invoicing")
    yield suite.stub(MoneyServiceStub, "invoicing", role=Role.VIEWER)


def euros(minor: int) -> money_pb2.Money:
    return wire.money(Money(minor, "EUR"))


async def test_the_currencies_are_those_of_iso_4217(money: Any) -> None:
    """Whoever rounds on his own side must know to how many decimals."""
    told = (await money.ListCurrencies(pb.ListCurrenciesRequest())).currencies
    found = {each.code: each.minor_units for each in told}
    assert {"EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4}.items() <= found.items()
    assert [each.code for each in told] == sorted(found)


@pytest.mark.parametrize(
    ("amount", "currency", "rounded", "rounding"),
    [
        ("0.005", "EUR", "0.01", "0.005"),
        ("-0.005", "EUR", "-0.01", "-0.005"),
        ("3.685", "EUR", "3.69", "0.005"),
        ("0.5", "JPY", "1", "0.5"),
        ("12.0004999", "KWD", "12", "-0.0004999"),
        ("0.00499999999999999999999999999999", "EUR", "0", "-0.00499999999999999999999999999999"),
        ("999999999999999999", "JPY", "999999999999999999", "0"),
    ],
)
async def test_an_amount_is_rounded_half_up(
    money: Any, amount: str, currency: str, rounded: str, rounding: str
) -> None:
    """Away from zero, once, however many digits there are; and what that changed is told."""
    found = await money.RoundAmount(pb.RoundAmountRequest(amount=decimal(amount), currency=currency))
    assert wire.parse_money(found.amount, field="amount").amount == Decimal(rounded)
    assert found.rounding.value == rounding


async def test_what_cannot_be_rounded_is_refused(money: Any) -> None:
    """With the field that is wrong."""
    with refused("UNKNOWN_CURRENCY", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await money.RoundAmount(pb.RoundAmountRequest(amount=decimal("1"), currency="EUX"))
    assert refusal.field == "currency"
    for amount in ("", "x", "1e-33", "9" * 65):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await money.RoundAmount(pb.RoundAmountRequest(amount=decimal(amount), currency="EUR"))
        assert refusal.field == "amount"
    with refused("AMOUNT_OUT_OF_RANGE", grpc.StatusCode.FAILED_PRECONDITION):
        await money.RoundAmount(pb.RoundAmountRequest(amount=decimal("9" * 19), currency="EUR"))


@pytest.mark.parametrize(
    ("minor", "weights", "shares"),
    [
        (100, ["1", "1", "1"], [34, 33, 33]),
        (-100, ["1", "1", "1"], [-34, -33, -33]),
        (5, ["0", "0.000000000001"], [0, 5]),
        (101, ["0.5", "0.5"], [51, 50]),
        (0, ["1", "2"], [0, 0]),
    ],
)
async def test_shares_add_up_to_the_whole(money: Any, minor: int, weights: list[str], shares: list[int]) -> None:
    """What is left over goes to the largest remainder, the first of equals first; below zero it is mirrored."""
    request = pb.AllocateAmountRequest(amount=euros(minor), weights=[decimal(each) for each in weights])
    found = await money.AllocateAmount(request)
    assert list(found.amounts) == [euros(share) for share in shares]


async def test_what_cannot_be_shared_is_refused(money: Any) -> None:
    """With the reason, and the field."""

    async def allocate(amount: money_pb2.Money, *weights: str) -> None:
        request = pb.AllocateAmountRequest(amount=amount, weights=[decimal(each) for each in weights])
        await money.AllocateAmount(request)

    not_positive = {"weights[1]": ["1", "-1"], "weights": ["0", "0.0"]}
    for field, weights in not_positive.items():
        with refused("WEIGHT_NOT_POSITIVE", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await allocate(euros(100), *weights)
        assert refusal.field == field
    for count in (0, 10_001):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await allocate(euros(100), *["1"] * count)
        assert refusal.field == "weights"
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await allocate(euros(100), "1", "1e-13")
    assert refusal.field == "weights[1]"
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await allocate(money_pb2.Money(currency_code="EUR", nanos=1), "1")
    assert refusal.field == "amount.nanos"
    with refused("UNKNOWN_CURRENCY", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await allocate(money_pb2.Money(), "1")
    assert refusal.field == "amount.currency_code"


async def test_ten_thousand_shares_are_one_answer(money: Any) -> None:
    """The most there may be, of weights that have nothing in common."""
    weights = [decimal(f"{n}.{n:012d}") for n in range(1, 10_001)]
    found = await money.AllocateAmount(pb.AllocateAmountRequest(amount=euros(10**17), weights=weights))
    assert sum(wire.parse_money(each, field="amount").minor for each in found.amounts) == 10**17
