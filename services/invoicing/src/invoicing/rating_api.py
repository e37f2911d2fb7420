"""Answers `saldo.invoicing.v1.RatingService`: parse, call, answer. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from common.rpc import MESSAGE_BYTES_MAX, Desk
from invoicing.convert.rating import (
    ToRate,
    discounts_to_apply,
    explanation_to_proto,
    lines_to_discount,
    priced_by,
    rating_to_proto,
    result_to_proto,
    simulation_to_proto,
    taken_off_to_proto,
    to_rate_from_proto,
)
from invoicing.domain.discount import discounting
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.rating import Rating
from invoicing.usecases import explain, rate, simulate
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceServicer

REQUESTS_MAX: Final = 10_000
MONTHS_MAX: Final = 36
CUSTOMERS_NAMED_MAX: Final = 100
STEPS_MAX: Final = 20_000
"""Of one rating, each told in a sentence: about what an answer can hold. Only a large matrix of tiers has more."""


class RatingApi(RatingServiceServicer):
    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def Rate(self, request: pb.RateRequest, context: object) -> rating_pb2.Rating:
        _, rating = await rate.rate_one(self._desk(), to_rate_from_proto(request))
        _check_size(rating, field="usage.groups")
        return rating_to_proto(rating)

    async def BatchRate(self, request: pb.BatchRateRequest, context: object) -> pb.BatchRateResponse:
        if len(request.requests) > REQUESTS_MAX:
            raise InvalidArgument(f"must be at most {REQUESTS_MAX}", field="requests")
        desk = self._desk()
        default = priced_by(request)
        price = None if default is None else await rate.price_of(desk, default)
        asked = [_to_rate(each) async for each in rate.in_turns(request.requests, size=_size)]
        with_steps = not request.without_steps
        response = pb.BatchRateResponse()
        size = 0
        found = await rate.rate_all(desk, asked, default=price, with_steps=with_steps)
        async for result in rate.in_turns(found, size=rate.size_of):
            proto = result_to_proto(result, with_steps=with_steps)
            size += proto.ByteSize()
            if size > MESSAGE_BYTES_MAX:
                raise rate.too_much()
            response.results.append(proto)
        return response

    async def ExplainRating(self, request: pb.ExplainRatingRequest, context: object) -> pb.Explanation:
        match request.WhichOneof("subject"):
            case "rate":
                asked = to_rate_from_proto(request.rate, field="rate.")
                price, rating = await rate.rate_one(self._desk(), asked)
                _check_size(rating, field="rate.usage.groups")
                return explanation_to_proto(price, rating)
            case "line":
                invoice_id = InvoiceId(ids.check(request.line.invoice_id, "inv", field="line.invoice_id"))
                line_id = ids.check(request.line.line_id, "line", field="line.line_id")
                price, rating, share = await explain.explain_line(self._desk(), invoice_id, line_id)
                _check_size(rating, field="line.line_id")
                return explanation_to_proto(price, rating, share)
            case _:
                raise InvalidArgument("is required, or a line", field="rate")

    async def SimulatePrices(self, request: pb.SimulatePricesRequest, context: object) -> pb.PriceSimulation:
        plan_id = ids.check(request.plan_id, "plan", field="plan_id")
        if not 1 <= request.months <= MONTHS_MAX:
            raise InvalidArgument(f"must be 1 to {MONTHS_MAX}", field="months")
        if not 0 <= request.customers_named_max <= CUSTOMERS_NAMED_MAX:
            raise InvalidArgument(f"must be 0 to {CUSTOMERS_NAMED_MAX}", field="customers_named_max")
        found = await simulate.simulate_prices(self._desk(), plan_id, months=request.months)
        return simulation_to_proto(found, customers_named_max=request.customers_named_max)

    async def PreviewDiscounts(
        self, request: pb.PreviewDiscountsRequest, context: object
    ) -> pb.PreviewDiscountsResponse:
        lines, discounts = lines_to_discount(request.lines), discounts_to_apply(request.coupons)
        response = pb.PreviewDiscountsResponse()
        for found in discounting(lines, discounts):
            # A hundred coupons off a thousand lines take a while: in between others have their turn.
            await asyncio.sleep(0)
            response.discounts.extend(taken_off_to_proto(each) for each in found.taken[-1:])
        response.remaining_amounts.extend(wire.money(left) for left in found.remaining)
        return response


def _check_size(rating: Rating, *, field: str) -> None:
    if len(rating.steps) > STEPS_MAX:
        raise InvalidArgument(f"must lead to at most {STEPS_MAX} steps: this is too much to answer", field=field)


def _size(request: pb.RateRequest) -> int:
    usage = request.usage
    return 1 + len(usage.amounts) + len(usage.changes) + len(usage.groups)


def _to_rate(request: pb.RateRequest) -> ToRate | rate.Refusal:
    try:
        return to_rate_from_proto(request)
    except InvalidArgument as error:
        return error
