"""What coupons would take off, through the door: told line by line, and what makes no sense refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.type import money_pb2

from common import wire
from common.caller import Role
from common.money import Money
from common.testing import Suite, refused
from saldo.catalog.v1 import coupon_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub

from .price_list import decimal

Code = grpc.StatusCode


@pytest_asyncio.fixture
async def rating(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    """Without any neighbour: what is told is all there is to know."""
    await suite.start("invoicing")
    yield suite.stub(RatingServiceStub, "invoicing", role=Role.VIEWER)


def money(minor: int, currency: str = "EUR") -> money_pb2.Money:
    return wire.money(Money(minor, currency))


def lines(*minors: int, currency: str = "EUR") -> list[pb.LineToDiscount]:
    return [pb.LineToDiscount(amount=money(minor, currency)) for minor in minors]


def percent(text: str, **fields: Any) -> pb.CouponToApply:  # Any: fields of the coupon
    off = coupon_pb2.PercentOff(percent=decimal(text))
    return pb.CouponToApply(coupon=coupon_pb2.Coupon(percent_off=off, **fields))


def amount(*minors: int, used: int | None = None, currency: str = "EUR", **fields: Any) -> pb.CouponToApply:
    # Any: fields of the coupon
    off = coupon_pb2.AmountOff(amounts=[money(minor, currency) for minor in minors])
    return pb.CouponToApply(
        coupon=coupon_pb2.Coupon(amount_off=off, **fields),
        used_amount=None if used is None else money(used, currency),
    )


async def test_coupons_are_taken_off_one_after_the_other(rating: Any) -> None:
    """Each from what is left, spread to the cent, only where it applies; and what is left is told."""
    told = [
        pb.LineToDiscount(amount=money(1_00), product="seats", plan="pro"),
        pb.LineToDiscount(amount=money(1_00), product="seats", plan="pro"),
        pb.LineToDiscount(amount=money(5_00), product="calls", plan="pro"),
    ]
    coupons = [percent("33.33", products=["seats"]), amount(5_00, used=1_00), percent("50", plans=["free"])]
    found = await rating.PreviewDiscounts(pb.PreviewDiscountsRequest(lines=told, coupons=coupons))
    assert [each.amount for each in found.discounts] == [money(67), money(4_00), money(0)]
    assert [list(each.line_amounts) for each in found.discounts] == [
        [money(34), money(33), money(0)],
        [money(42), money(42), money(3_16)],
        [money(0)] * 3,
    ]
    assert list(found.remaining_amounts) == [money(24), money(25), money(1_84)]


async def test_without_coupons_nothing_is_taken_off(rating: Any) -> None:
    """Not an error: most customers have none."""
    found = await rating.PreviewDiscounts(pb.PreviewDiscountsRequest(lines=lines(0, 5)))
    assert not found.discounts
    assert list(found.remaining_amounts) == [money(0), money(5)]


async def test_an_amount_is_offered_in_some_currencies(rating: Any) -> None:
    """A line in another one is not discounted."""
    off = coupon_pb2.AmountOff(amounts=[money(1_00), money(120, "JPY")])
    coupon = pb.CouponToApply(coupon=coupon_pb2.Coupon(amount_off=off), used_amount=money(1_00))
    for currency, taken in (("EUR", 0), ("JPY", 120), ("USD", 0)):
        request = pb.PreviewDiscountsRequest(lines=lines(500, currency=currency), coupons=[coupon])
        [discount] = (await rating.PreviewDiscounts(request)).discounts
        assert discount.amount == money(taken, currency)


def _preview(*coupons: pb.CouponToApply, of: list[pb.LineToDiscount] | None = None) -> pb.PreviewDiscountsRequest:
    return pb.PreviewDiscountsRequest(lines=lines(1_00) if of is None else of, coupons=coupons)


BAD: Final[dict[str, tuple[pb.PreviewDiscountsRequest, str, str]]] = {
    "no line": (_preview(of=[]), "INVALID_ARGUMENT", "lines"),
    "too many lines": (_preview(of=lines(*[1] * 1_001)), "INVALID_ARGUMENT", "lines"),
    "no amount": (_preview(of=[pb.LineToDiscount()]), "UNKNOWN_CURRENCY", "lines[0].amount.currency_code"),
    "negative": (_preview(of=lines(1, -1)), "INVALID_ARGUMENT", "lines[1].amount"),
    "a part of a cent": (
        _preview(of=[pb.LineToDiscount(amount=money_pb2.Money(currency_code="EUR", nanos=1))]),
        "INVALID_ARGUMENT",
        "lines[0].amount.nanos",
    ),
    "two currencies": (
        _preview(of=[*lines(1), *lines(1, currency="USD")]),
        "INVALID_ARGUMENT",
        "lines[1].amount.currency_code",
    ),
    "a long code": (
        _preview(of=[pb.LineToDiscount(amount=money(1), product="x" * 65)]),
        "INVALID_ARGUMENT",
        "lines[0].product",
    ),
    "a code of nothing printable": (
        _preview(of=[pb.LineToDiscount(amount=money(1), plan="\x00")]),
        "INVALID_ARGUMENT",
        "lines[0].plan",
    ),
    "too many coupons": (_preview(*[percent("1")] * 101), "INVALID_ARGUMENT", "coupons"),
    "no benefit": (_preview(pb.CouponToApply()), "INVALID_ARGUMENT", "coupons[0].coupon.benefit"),
    "free units": (
        _preview(pb.CouponToApply(coupon=coupon_pb2.Coupon(free_units=coupon_pb2.FreeUnits(product="calls")))),
        "INVALID_ARGUMENT",
        "coupons[0].coupon.free_units",
    ),
    "nothing off": (_preview(percent("0")), "INVALID_ARGUMENT", "coupons[0].coupon.percent_off.percent"),
    "more than all": (
        _preview(percent("1"), percent("100.000000000001")),
        "INVALID_ARGUMENT",
        "coupons[1].coupon.percent_off.percent",
    ),
    "no number": (_preview(percent("half")), "INVALID_ARGUMENT", "coupons[0].coupon.percent_off.percent"),
    "no amounts": (_preview(amount()), "INVALID_ARGUMENT", "coupons[0].coupon.amount_off.amounts"),
    "an amount of nothing": (_preview(amount(0)), "INVALID_ARGUMENT", "coupons[0].coupon.amount_off.amounts[0]"),
    "a currency twice": (
        _preview(amount(1, 2)),
        "INVALID_ARGUMENT",
        "coupons[0].coupon.amount_off.amounts[1].currency_code",
    ),
    "used less than nothing": (_preview(amount(1, used=-1)), "INVALID_ARGUMENT", "coupons[0].used_amount"),
    "used in a currency of its own": (
        _preview(pb.CouponToApply(coupon=amount(1).coupon, used_amount=money(1, "USD"))),
        "INVALID_ARGUMENT",
        "coupons[0].used_amount.currency_code",
    ),
    "a percentage that was used": (
        _preview(pb.CouponToApply(coupon=percent("1").coupon, used_amount=money(1))),
        "INVALID_ARGUMENT",
        "coupons[0].used_amount",
    ),
    "too many products": (
        _preview(percent("1", products=["x"] * 101)),
        "INVALID_ARGUMENT",
        "coupons[0].coupon.products",
    ),
    "an empty plan": (_preview(percent("1", plans=["pro", ""])), "INVALID_ARGUMENT", "coupons[0].coupon.plans[1]"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_makes_no_sense_is_refused(rating: Any, what: str) -> None:
    """With the field that is wrong."""
    request, reason, field = BAD[what]
    with refused(reason, Code.INVALID_ARGUMENT) as refusal:
        await rating.PreviewDiscounts(request)
    assert refusal.field == field


async def test_free_units_say_where_they_belong(rating: Any) -> None:
    """They are taken off a quantity before it is rated; a line is an amount already."""
    coupon = coupon_pb2.Coupon(free_units=coupon_pb2.FreeUnits(product="calls", quantity=decimal("10")))
    with refused("INVALID_ARGUMENT") as refusal:
        await rating.PreviewDiscounts(_preview(pb.CouponToApply(coupon=coupon)))
    assert "before it is rated" in refusal.message


async def test_lines_that_nobody_could_pay_together_are_refused(rating: Any) -> None:
    """The total has to be an amount, too."""
    most = lines(10**18 - 1, 10**18 - 1)
    with refused("AMOUNT_OUT_OF_RANGE", Code.FAILED_PRECONDITION):
        await rating.PreviewDiscounts(_preview(percent("1"), of=most))


async def test_the_most_there_may_be_is_one_answer(rating: Any) -> None:
    """A hundred coupons on a thousand lines: nothing is lost on the way."""
    found = await rating.PreviewDiscounts(_preview(*[percent("1.5"), amount(1_00)] * 50, of=lines(*range(1_000))))
    taken = sum(wire.parse_money(each.amount, field="amount").minor for each in found.discounts)
    left = sum(wire.parse_money(each, field="amount").minor for each in found.remaining_amounts)
    assert taken + left == sum(range(1_000))
    assert taken > 0
