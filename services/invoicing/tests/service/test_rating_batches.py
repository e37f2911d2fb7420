"""Rating by the thousand: the same figures as one by one, and each request for itself."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.type import money_pb2

from common.testing import refused
from invoicing import rating_api
from invoicing.convert.rating import to_rate_from_proto
from invoicing.usecases import rate
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb

from .past_bills import new
from .price_list import PriceList, decimal
from .to_rate import MODELS, by, cents, per_unit, tiers, usage

Code = grpc.StatusCode
SEED: Final = 20260101


async def test_one_that_cannot_be_rated_does_not_harm_the_others(price_list: PriceList, rating: Any) -> None:
    """Each gets a rating or a reason, in the order they were asked; with steps and without."""
    seats, calls = price_list.price(per_unit=per_unit("10")), price_list.price(meter="calls", per_unit=per_unit("0.5"))
    huge = price_list.price(per_unit=per_unit("999999999999999"))
    unknown = [pb.RateRequest(price_id=new("price"), usage=usage("1")) for _ in range(25)]
    requests = [
        by(seats, usage("1")),
        by(seats, usage("-1")),
        by(seats, usage("2")),
        by(huge, usage("9" * 26)),
        pb.RateRequest(usage=usage("7")),
        pb.RateRequest(price_id="x", usage=usage("7")),
        *unknown,
        by(calls, usage("-1")),
        by(calls, usage()),
        by(calls, usage("1"), already_billed=rating_pb2.AlreadyBilled(quantity=decimal("1"))),
    ]
    expected = [
        10_00, "NEGATIVE_QUANTITY", 20_00, "AMOUNT_OUT_OF_RANGE", 3_50, "INVALID_ARGUMENT",
        *["PRICE_NOT_FOUND"] * 25, 0, 0, 50,
    ]  # fmt: skip
    for without_steps in (False, True):
        batch = pb.BatchRateRequest(requests=requests, price_id=calls.id, without_steps=without_steps)
        results = (await rating.BatchRate(batch)).results
        assert [each.reason or cents(each.rating.amount) for each in results] == expected
        assert [bool(each.message) for each in results] == [isinstance(each, str) for each in expected]
        assert results[5].field == "price_id"
        assert cents(results[-1].rating.period_amount) == 1_00


async def test_what_leads_to_too_many_steps_is_not_told_step_by_step(
    price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix of a thousand cells with a hundred tiers each is more than an answer holds; only its amount is not."""
    steep = price_list.price(graduated=price_pb2.GraduatedModel(tiers=tiers(("1", "1"), ("2", "2"), ("", "3"))))
    asked = by(steep, usage("3"))
    monkeypatch.setattr(rating_api, "STEPS_MAX", 2)
    monkeypatch.setattr(rate, "STEPS_MAX", 5)
    for call, request, field in (
        (rating.Rate, asked, "usage.groups"),
        (rating.ExplainRating, pb.ExplainRatingRequest(rate=asked), "rate.usage.groups"),
        (rating.BatchRate, pb.BatchRateRequest(requests=[asked, asked]), "requests"),
    ):
        with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
            await call(request)
        assert refusal.field == field
    assert len((await rating.BatchRate(pb.BatchRateRequest(requests=[asked]))).results[0].rating.steps) == 3
    late = by(steep, usage("3"), already_billed=rating_pb2.AlreadyBilled(amount=money_pb2.Money(currency_code="EUR")))
    found = await rating.BatchRate(pb.BatchRateRequest(requests=[asked, late] * 9, without_steps=True))
    assert [cents(each.rating.amount) for each in found.results] == [6_00] * 18
    assert not any(each.rating.steps for each in found.results)


async def test_others_have_their_turn_by_how_much_was_done() -> None:
    """Ten thousand changes in one request are as much work as thousands of requests."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert [size async for size in rate.in_turns([400] * 10, size=int)] == [400] * 10
    task.cancel()
    assert turns == 3
    changes = [rating_pb2.QuantityChange()] * 7
    request = pb.RateRequest(usage=rating_pb2.UsageToRate(changes=changes, amounts=[decimal("1")] * 2))
    assert (rating_api._size(request), to_rate_from_proto(pb.RateRequest()).usage.size) == (10, 0)


async def test_without_a_price_for_the_batch_each_needs_one(price_list: PriceList, rating: Any) -> None:
    """What is missing is told for the request that misses it."""
    price = price_list.price(per_unit=per_unit("1"))
    batch = pb.BatchRateRequest(requests=[pb.RateRequest(usage=usage("1")), by(price, usage("1"))])
    first, second = (await rating.BatchRate(batch)).results
    assert (first.reason, first.field) == ("INVALID_ARGUMENT", "price_id")
    assert cents(second.rating.amount) == 1_00
    assert not (await rating.BatchRate(pb.BatchRateRequest())).results


async def test_without_steps_every_amount_is_the_same(price_list: PriceList, rating: Any) -> None:
    """The fast way and the way that explains are two ways to one figure; for every model there is."""
    generator = random.Random(SEED)  # figures, not secrets
    requests: list[pb.RateRequest] = []
    for fields, told, _ in MODELS.values():
        price = price_list.price(meter="calls", **fields)
        requests.append(by(price, told))
        requests += [by(price, usage(f"{generator.randrange(-5, 10**6)}.{n:03d}")) for n in range(200)]
    steps = await rating.BatchRate(pb.BatchRateRequest(requests=requests))
    plain = await rating.BatchRate(pb.BatchRateRequest(requests=requests, without_steps=True))
    assert [each.rating.amount for each in steps.results] == [each.rating.amount for each in plain.results]
    assert [each.rating.period_amount for each in steps.results] == [
        each.rating.period_amount for each in plain.results
    ]
    assert all(each.rating.steps for each in steps.results)
    assert not any(each.rating.steps for each in plain.results)
    single = await rating.Rate(requests[7])
    assert steps.results[7].rating == single


async def test_a_batch_has_an_end(price_list: PriceList, rating: Any) -> None:
    """In how much is asked, and in how much can be answered."""
    price = price_list.price(per_unit=per_unit("1"))
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.BatchRate(pb.BatchRateRequest(requests=[pb.RateRequest()] * 10_001))
    assert refusal.field == "requests"
    many = price_list.price(
        graduated=price_pb2.GraduatedModel(tiers=tiers(*((str(n), "0.123456789") for n in range(1, 100)), ("", "1")))
    )
    requests = [by(many, usage("1000"))] * 2_000
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.BatchRate(pb.BatchRateRequest(requests=requests))
    assert refusal.field == "requests"
    plain = await rating.BatchRate(pb.BatchRateRequest(requests=requests, without_steps=True))
    assert len(plain.results) == 2_000
    most = pb.BatchRateRequest(requests=[pb.RateRequest(usage=usage("1"))] * 10_000, price_id=price.id)
    assert {cents(each.rating.amount) for each in (await rating.BatchRate(most)).results} == {1_00}
